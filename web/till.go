package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	askEvery = 5 * time.Second // a pending order that somebody looks at asks WeChat no more often
	askWait  = 3 * time.Second // for that: who looks gets what is known here otherwise
	noteWait = 5 * time.Second // for our own store, once WeChat has said something
)

// A Till is where WeChat Pay's word becomes a change: by notify, by query or by the answer to a call, once, in one
// transaction with what is to be said. It asks WeChat, but decides nothing: that is done by store, which compares every
// amount and number. Safe for concurrent use.
type Till struct {
	pay   wechat.Pay // nil: nothing is configured, and nobody calls
	db    *store.DB
	appID string // whose orders these are; the merchant may have other apps
	hooks []Hook
	log   *slog.Logger
}

// Till is for jobs, which ask about what no notify told. Only with Options.Pay.
func (s *Server) Till() *Till { return s.till }

// errRefundConflict is a verified refund that does not fit what we know.
var errRefundConflict = errors.New("the refund does not fit its order")

// settle records a payment that WeChat has proven, and tells whether it was new (paid) or known (repeat).
func (t *Till) settle(ctx context.Context, p wechat.Payment, raw []byte) (result string, err error) {
	paidAt := p.PaidAt
	if paidAt.IsZero() {
		paidAt = time.Now()
	}
	first, err := t.db.MarkPaid(ctx, store.Payment{
		AppID: p.AppID, MchID: p.MchID, OutTradeNo: p.OutTradeNo, TransactionID: p.TransactionID, OpenID: p.OpenID,
		TotalFen: p.TotalFen, PayerFen: p.PayerFen, Currency: p.Currency, PaidAt: paidAt, Raw: raw,
	}, func(o store.Order, u store.User) []store.Telling {
		told := append(tellPaid(paidAt)(o, u), tellHooks(t.hooks, "order.paid", payID(o.OutTradeNo), paidAt, o, ofOrder(o))...)
		return append(told, tellOddities(o, u, p)...)
	})
	switch {
	case errors.Is(err, store.ErrPaymentConflict): // kept, with its alarm
		return "conflict", err
	case err != nil:
		return "", err
	case first:
		return "paid", nil
	}
	return "repeat", nil
}

// tellOddities are the alarms of a payment that fits its order and yet wants looking at; and virtual goods are delivered.
func tellOddities(o store.Order, u store.User, p wechat.Payment) (told []store.Telling) {
	if by := first(o.OpenID, u.OpenID); by != "" && p.OpenID != "" && p.OpenID != by {
		told = append(told, store.RaiseTelling(alarmPayer, o.OutTradeNo, "order "+o.OutTradeNo+" was paid by another openid than the one that ordered"))
	}
	if o.Late {
		told = append(told, store.RaiseTelling(alarmLate, o.OutTradeNo,
			fmt.Sprintf("order %s was paid with %d fen after it was closed", o.OutTradeNo, o.TotalFen)))
	}
	if o.Virtual {
		told = append(told, store.VirtualTelling(o.OutTradeNo, o.Description))
	}
	return told
}

// Ask asks WeChat about an order that waits for money, and records what it says: a payment is told as by its notify, and
// what WeChat has closed is closed here too. The order comes back as it is then. Errors: wechat's, the store's,
// store.ErrPaymentConflict.
func (t *Till) Ask(ctx context.Context, o store.Order) (store.Order, error) {
	asking, cancel := context.WithTimeout(ctx, payWait)
	defer cancel()
	p, err := t.pay.Query(asking, o.OutTradeNo)
	if errors.Is(err, wechat.ErrNoOrder) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("order %s: %w", o.OutTradeNo, err)
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
	defer cancel()
	switch p.State {
	case "SUCCESS", "REFUND":
		result, err := t.settle(writing, p, payload(p))
		if err != nil {
			return o, err
		}
		if result == "paid" {
			t.log.Info("payment found by query, before its notify", "outTradeNo", o.OutTradeNo, "state", p.State)
		}
	case "CLOSED", "REVOKED":
		if _, err := t.db.CloseOrder(writing, o.OutTradeNo, tellClosed(time.Now())); err != nil && !errors.Is(err, store.ErrOrderPaid) {
			return o, err
		}
	default:
		return o, nil
	}
	return t.db.Order(writing, o.OutTradeNo)
}

// glance is Ask for somebody who looks at an order: not often, not long, and what WeChat does not say is no error.
func (t *Till) glance(ctx context.Context, o store.Order) store.Order {
	now := time.Now()
	if t.pay == nil || o.State != store.OrderPaying || now.Sub(o.QueriedAt) < askEvery {
		return o
	}
	prev, err := t.db.CheckedOrder(ctx, o.OutTradeNo, now)
	if err != nil || now.Sub(prev) < askEvery {
		return o
	}
	asking, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	fresh, err := t.Ask(asking, o)
	if err != nil {
		t.log.Warn("a pending order could not be asked about", "outTradeNo", o.OutTradeNo, "err", err)
		return o
	}
	return fresh
}

// Close closes an order that was not paid, at WeChat first, then here. A closed one is returned as it is. One that was
// paid, also in this moment, is returned as paid with store.ErrOrderPaid. Other errors: wechat's and the store's.
func (t *Till) Close(ctx context.Context, o store.Order) (store.Order, error) {
	switch o.State {
	case store.OrderCreated, store.OrderPaying:
	case store.OrderClosed:
		return o, nil
	default:
		return o, store.ErrOrderPaid
	}
	asking, cancel := context.WithTimeout(ctx, payWait)
	defer cancel()
	err := t.pay.Close(asking, o.OutTradeNo)
	if errors.Is(err, wechat.ErrOrderPaid) {
		fresh, err := t.Ask(ctx, o)
		if err == nil {
			err = store.ErrOrderPaid
		}
		return fresh, err
	}
	if err != nil && !errors.Is(err, wechat.ErrNoOrder) { // of which it never heard, or not yet
		return o, fmt.Errorf("order %s: %w", o.OutTradeNo, err)
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
	defer cancel()
	closed, err := t.db.CloseOrder(writing, o.OutTradeNo, tellClosed(time.Now()))
	if errors.Is(err, store.ErrOrderPaid) {
		if fresh, err := t.db.Order(writing, o.OutTradeNo); err == nil {
			return fresh, store.ErrOrderPaid
		}
	}
	if err != nil {
		return o, err
	}
	return closed, nil
}

// Refund gives back r.Fen of an order (0: all that is left). What is begun is known here before WeChat hears of it, so
// that no two of them together are more than was paid. The same OutRefundNo again is the same refund. A refund that
// WeChat did not clearly answer comes back as processing; AskRefund sees to it. Errors: those of store.BeginRefund, and
// errRefundRefused, when WeChat did not take it and it is closed.
func (t *Till) Refund(ctx context.Context, r store.Refund) (store.Refund, error) {
	kept, o, err := t.db.BeginRefund(ctx, r)
	if errors.Is(err, store.ErrOrderUnpaid) { // here; its notify may be under way
		if o, err := t.db.Order(ctx, r.OutTradeNo); err == nil && o.PrepayID != "" {
			if _, err := t.Ask(ctx, o); err != nil {
				return r, err
			}
		}
		kept, o, err = t.db.BeginRefund(ctx, r)
	}
	if err != nil || kept.State != store.RefundProcessing {
		return kept, err
	}
	return t.giveBack(context.WithoutCancel(ctx), kept, o) // begun is begun: a caller that hangs up stops nothing
}

var errRefundRefused = errors.New("WeChat Pay does not take this refund")

// giveBack asks WeChat for a refund that was begun.
func (t *Till) giveBack(ctx context.Context, r store.Refund, o store.Order) (store.Refund, error) {
	asking, cancel := context.WithTimeout(ctx, payWait)
	defer cancel()
	answer, err := t.pay.Refund(asking, wechat.RefundOrder{
		OutTradeNo: o.OutTradeNo, OutRefundNo: r.OutRefundNo, Reason: r.Reason, RefundFen: r.Fen, TotalFen: o.TotalFen,
	})
	if err == nil {
		_, err = t.settleRefund(ctx, answer)
		return t.refund(ctx, r), err
	}
	refused := errors.Is(err, wechat.ErrRequest) || errors.Is(err, wechat.ErrConfig)
	if refused { // its word is not enough: what it may have begun is not ours to forget
		_, known := t.pay.QueryRefund(asking, r.OutRefundNo)
		refused = errors.Is(known, wechat.ErrNoRefund)
	}
	if !refused {
		t.log.Warn("refund not clearly answered, it will be asked about", "outRefundNo", r.OutRefundNo, "outTradeNo", o.OutTradeNo, "err", err)
		return r, nil
	}
	if _, failed := t.db.FinishRefund(ctx, r.OutRefundNo, store.RefundClosed, "", time.Now(), func(store.Order, store.Refund, store.User) []store.Telling {
		return []store.Telling{store.RaiseTelling(alarmRefundRefused, r.OutRefundNo,
			fmt.Sprintf("WeChat Pay did not take refund %s of %d fen for order %s: %v", r.OutRefundNo, r.Fen, o.OutTradeNo, err))}
	}); failed != nil {
		return r, failed
	}
	return t.refund(ctx, r), fmt.Errorf("refund %s: %w: %w", r.OutRefundNo, errRefundRefused, err)
}

// refund reads a refund as it is now; r if that fails.
func (t *Till) refund(ctx context.Context, r store.Refund) store.Refund {
	all, err := t.db.Refunds(ctx, r.OutTradeNo)
	if err != nil {
		return r
	}
	for _, now := range all {
		if now.OutRefundNo == r.OutRefundNo {
			return now
		}
	}
	return r
}

// AskRefund asks WeChat about a refund under way. One of which WeChat never heard is asked for again, with the same
// number, so that it is the same refund.
func (t *Till) AskRefund(ctx context.Context, r store.Refund) error {
	asking, cancel := context.WithTimeout(ctx, payWait)
	defer cancel()
	answer, err := t.pay.QueryRefund(asking, r.OutRefundNo)
	switch {
	case errors.Is(err, wechat.ErrNoRefund):
		o, err := t.db.Order(ctx, r.OutTradeNo)
		if err != nil {
			return err
		}
		if _, err = t.giveBack(ctx, r, o); errors.Is(err, errRefundRefused) {
			err = nil // logged, closed, done
		}
		return err
	case err != nil:
		return fmt.Errorf("refund %s: %w", r.OutRefundNo, err)
	}
	_, err = t.settleRefund(ctx, answer)
	return err
}

// refundAlarms are the alarms of refunds that gave nothing back.
var refundAlarms = map[string]string{store.RefundAbnormal: alarmRefundAbnormal, store.RefundClosed: alarmRefundClosed}

var refundStates = map[string]string{
	"SUCCESS": store.RefundSuccess, "PROCESSING": store.RefundProcessing, "CLOSED": store.RefundClosed, "ABNORMAL": store.RefundAbnormal,
}

// settleRefund records what WeChat has proven of a refund: refunded, repeat, processing, closed or abnormal. One that was
// not begun here (in WeChat's merchant platform) is taken up, after the payment that it gives back. errRefundConflict:
// it does not fit, and changes nothing.
func (t *Till) settleRefund(ctx context.Context, w wechat.Refund) (result string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
	defer cancel()
	state := refundStates[w.Status]
	kept, err := t.knownRefund(ctx, w, state)
	if err == nil && (kept.OutTradeNo != w.OutTradeNo || kept.Fen != w.RefundFen || state == "") {
		err = fmt.Errorf("%w: refund %s of %d fen", errRefundConflict, w.OutRefundNo, w.RefundFen)
	}
	if errors.Is(err, errRefundConflict) {
		raise(ctx, t.db, t.log, alarmRefundConflict, w.OutRefundNo, "verified refund %s of %d fen (%s) does not fit order %s: %v",
			w.OutRefundNo, w.RefundFen, w.Status, w.OutTradeNo, err)
	}
	if err != nil {
		return "", err
	}
	first, err := t.db.FinishRefund(ctx, w.OutRefundNo, state, w.RefundID, w.At, func(o store.Order, r store.Refund, u store.User) []store.Telling {
		switch r.State {
		case store.RefundAbnormal, store.RefundClosed:
			return []store.Telling{store.RaiseTelling(refundAlarms[r.State], r.OutRefundNo,
				fmt.Sprintf("refund %s of %d fen for order %s did not reach the customer: %s", r.OutRefundNo, r.Fen, o.OutTradeNo, r.State))}
		case store.RefundProcessing:
			return nil
		}
		return append(tellRefunded(o, r, u), tellHooks(t.hooks, "order.refunded", refundID(r.OutRefundNo), r.DoneAt, o,
			hookRefund{ofOrder(o), r.OutRefundNo, r.Fen, r.Reason})...)
	})
	switch {
	case err != nil:
		return "", err
	case !first:
		return "repeat", nil
	case state == store.RefundSuccess:
		return "refunded", nil
	}
	return state, nil
}

// knownRefund finds the refund that WeChat speaks of, or takes it up.
func (t *Till) knownRefund(ctx context.Context, w wechat.Refund, state string) (store.Refund, error) {
	o, err := t.db.Order(ctx, w.OutTradeNo)
	if errors.Is(err, store.ErrNotFound) {
		return store.Refund{}, fmt.Errorf("%w: there is no order %.32q", errRefundConflict, w.OutTradeNo)
	}
	if err != nil {
		return store.Refund{}, err
	}
	all, err := t.db.Refunds(ctx, w.OutTradeNo)
	if err != nil {
		return store.Refund{}, err
	}
	for _, r := range all {
		if r.OutRefundNo == w.OutRefundNo {
			return r, nil
		}
	}
	if o.TransactionID == "" {
		if o, err = t.Ask(ctx, o); err != nil {
			return store.Refund{}, err
		}
	}
	if o.TransactionID != w.TransactionID || w.RefundFen <= 0 || state == "" {
		return store.Refund{}, fmt.Errorf("%w: it gives back another payment", errRefundConflict)
	}
	r, _, err := t.db.BeginRefund(ctx, store.Refund{OutRefundNo: w.OutRefundNo, OutTradeNo: w.OutTradeNo, Fen: w.RefundFen, By: "WeChat Pay"})
	if errors.Is(err, store.ErrRefundTooMuch) || errors.Is(err, store.ErrRefundExists) || errors.Is(err, store.ErrInvalid) {
		return store.Refund{}, fmt.Errorf("%w: %w", errRefundConflict, err)
	}
	return r, err
}
