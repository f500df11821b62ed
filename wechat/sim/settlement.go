package sim

import (
	"context"
	"net/http"
	"time"
)

// settlementEvent is trade_manage_order_settlement: of the shipping when how is 0, else of the end, which
// came by itself (1) or by the buyer (2). Needs s.mu.
func (s *Sim) settlementEvent(o *order, how int) event {
	fields := append(s.tradeFields("trade_manage_order_settlement", o), pushField{"shipped_time", o.shippedAt().Unix()})
	if how == 0 {
		return event{fields: append(fields, pushField{"estimated_settlement_time", o.shippedAt().Add(expectedReceipt).Unix()})}
	}
	return event{fields: append(fields, pushField{"confirm_receive_method", how},
		pushField{"confirm_receive_time", o.shipping.receivedAt.Unix()}, pushField{"settlement_time", o.shipping.settledAt.Unix()})}
}

func (o *order) shippedAt() time.Time {
	if o.shipping == nil || o.shipping.shippedAt.IsZero() {
		return o.paidAt
	}
	return o.shipping.shippedAt
}

// tradeFields are those that every event of one order has.
func (s *Sim) tradeFields(name string, o *order) []pushField {
	return []pushField{{"Event", name}, {"transaction_id", o.transactionID}, {"merchant_id", s.opts.MchID}, {"sub_merchant_id", ""},
		{"merchant_trade_no", o.outTradeNo}, {"pay_time", o.paidAt.Unix()}}
}

func (s *Sim) remindEvent(o *order) event {
	return event{fields: append(s.tradeFields("trade_manage_remind_shipping", o), pushField{"msg", "你有一笔订单超过48小时未发货，请尽快发货"})}
}

func accessEvent() event {
	return event{fields: []pushField{{"Event", "trade_manage_remind_access_api"}, {"msg", "小程序需完成发货信息录入接入，请尽快完成"}}}
}

// receive is POST /sim/receive: the buyer confirms that the goods arrived; the settlement follows.
func (s *Sim) receive(r *http.Request) (any, error) {
	var req struct {
		User       string `json:"user"`
		OutTradeNo string `json:"outTradeNo"`
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(req.User)
	if err != nil {
		return nil, err
	}
	o := s.orders[req.OutTradeNo]
	if o == nil || o.openid != u.openid || o.delivery() != shipSent {
		return nil, &controlError{409, "not_shipped", "this person has no order of that number on its way; the shop uploads its shipping first"}
	}
	o.shipping.receivedAt = s.opts.Now()
	s.startLocked(func(ctx context.Context) {
		if wait(ctx, s.scaled(settlesAfter)) {
			s.settleOrder(ctx, o, 2)
		}
	})
	return map[string]any{"ok": true, "outTradeNo": o.outTradeNo, "orderState": o.delivery()}, nil
}

// settleOrder brings the money to the shop and tells it.
func (s *Sim) settleOrder(ctx context.Context, o *order, how int) {
	s.mu.Lock()
	if o.delivery() != shipReceived {
		s.mu.Unlock()
		return
	}
	o.shipping.settledAt = s.opts.Now()
	e, payer := s.settlementEvent(o, how), s.byOpenid(o.openid)
	s.mu.Unlock()
	if s.mini.url != "" && payer != nil {
		s.push(ctx, payer, s.eventOf(s.mini, payer, e), s.mini.form())
	}
}

const (
	remindEvery = time.Minute    // between two looks for late orders, in the simulator's time
	lookAtLeast = time.Second    // real time
	accessEvery = 24 * time.Hour // between two reminders that shipping is not used at all
)

// watchShipping reminds the shop of orders that are not shipped in time, until ctx ends.
func (s *Sim) watchShipping(ctx context.Context) {
	for wait(ctx, max(s.scaled(remindEvery), lookAtLeast)) {
		for _, late := range s.lateOrders() {
			s.push(ctx, late.payer, s.eventOf(s.mini, late.payer, late.event), s.mini.form())
		}
	}
}

type lateOrder struct {
	payer *user
	event event
}

// lateOrders finds what is to be reminded of now; each order once, the missing use of shipping daily.
func (s *Sim) lateOrders() (list []lateOrder) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.managed {
		return nil
	}
	used := false
	var oldest *order
	for _, o := range s.line {
		used = used || o.shipping != nil
		if o.paidAt.IsZero() || o.delivery() != shipWaiting {
			continue
		}
		if oldest == nil {
			oldest = o
		}
		if o.reminded || now.Sub(o.paidAt) < s.scaled(remindAfter) || len(list) >= 100 {
			continue
		}
		if payer := s.byOpenid(o.openid); payer != nil {
			o.reminded = true
			list = append(list, lateOrder{payer, s.remindEvent(o)})
		}
	}
	if !used && oldest != nil && now.Sub(oldest.paidAt) >= s.scaled(accessEvery) && now.Sub(s.accessTold) >= s.scaled(accessEvery) {
		if payer := s.byOpenid(oldest.openid); payer != nil {
			s.accessTold = now
			list = append(list, lateOrder{payer, accessEvent()})
		}
	}
	return list
}
