package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	shipWorkers  = 2
	shipAge      = 48 * time.Hour // after that WeChat itself reminds of it
	shipRetryMax = 10 * time.Minute
)

// alarmShipping is the Kind of the alarm that WeChat does not take how an order is delivered.
const alarmShipping = "shipping.failed"

// shipChain tells WeChat how an order is delivered, where it manages that.
func (j *Jobs) shipChain(ctx context.Context, c chain) {
	for _, row := range c.rows {
		if ctx.Err() != nil || !c.lasts(sendWait) {
			return
		}
		s, err := j.ship(ctx, row)
		advice := wechat.AdviceOf(err)
		switch {
		case errors.Is(err, store.ErrNotFound): // its order is gone
			j.settle(ctx, row)
		case err == nil:
			j.settle(ctx, row)
		case s.OutTradeNo != "" && (advice == wechat.GiveUp || advice == wechat.Alarm || time.Since(row.FreshAt) > shipAge):
			if !j.shipFailed(ctx, row, s, err) {
				return
			}
		default:
			delay := max(grow(row.Attempts-1, shipRetryMax), wechat.RetryAfter(err))
			if errors.Is(err, errNoWeChat) {
				delay = unconfigured
			}
			j.postpone(ctx, row, err, delay)
			return
		}
	}
}

// ship makes the call. It outlives ctx as send does. The Shipment is empty where the fault is not WeChat's.
func (j *Jobs) ship(ctx context.Context, row store.OutboxRow) (s store.Shipment, err error) {
	if j.wechat == nil {
		return s, errNoWeChat
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendWait)
	defer cancel()
	kept, err := j.db.Shipment(ctx, row.To)
	if err != nil {
		return s, err
	}
	if kept.State != store.ShipmentWaiting && kept.State != store.ShipmentFailed { // told, or WeChat knows better
		return kept, nil
	}
	o, payer, err := j.db.PaidBy(ctx, row.To)
	if err != nil {
		return s, err
	}
	managed, err := j.wechat.TradeManaged(ctx)
	if err != nil {
		return kept, err
	}
	if !managed {
		return kept, j.db.FinishShipment(ctx, kept.OutTradeNo, kept.Version, store.ShipmentNeedless, "")
	}
	told := wechat.Shipment{
		TransactionID: o.TransactionID, OpenID: payer, Logistics: wechat.Logistics(kept.Logistics), Complete: kept.Complete, At: kept.At,
		Split: kept.Logistics == int(wechat.ShipExpress) && (len(kept.Parcels) > 1 || !kept.Complete),
	}
	for _, p := range kept.Parcels {
		told.Parcels = append(told.Parcels, wechat.Parcel{Item: p.Item, TrackingNo: p.TrackingNo, Company: p.Company, ReceiverContact: p.Contact})
	}
	if err := j.wechat.UploadShipping(ctx, told); err != nil {
		return kept, err
	}
	return kept, j.db.FinishShipment(ctx, kept.OutTradeNo, kept.Version, store.ShipmentTold, "")
}

// shipFailed gives a delivery up for a person to see. It reports whether that was written down.
func (j *Jobs) shipFailed(ctx context.Context, row store.OutboxRow, s store.Shipment, cause error) bool {
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	err := j.db.FinishShipment(writing, s.OutTradeNo, s.Version, store.ShipmentFailed, cause.Error())
	if err == nil {
		err = j.db.RaiseAlarm(writing, alarmShipping, s.OutTradeNo, fmt.Sprintf("WeChat does not take how order %s is delivered: %v", s.OutTradeNo, cause))
	}
	if err != nil {
		j.postpone(ctx, row, err, grow(row.Attempts-1, shipRetryMax))
		return false
	}
	j.settle(ctx, row)
	return true
}
