package sim

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// triggerRefund sends the notify of the newest refund once more, of an order or of all. A refund that
// is under way comes to its end by an honest one.
func (s *Sim) triggerRefund(ctx context.Context, t Trigger, skew time.Duration) (TriggerResult, error) {
	form, err := t.notifyForm(skew)
	if err != nil {
		return TriggerResult{}, err
	}
	if !slices.Contains([]string{"", refundSuccess, refundClosed, refundAbnormal}, t.Status) {
		return TriggerResult{}, badRequest("status is SUCCESS, CLOSED or ABNORMAL")
	}
	v, note, err := s.playRefund(t, form)
	if err != nil {
		return TriggerResult{}, err
	}
	n, err := s.refundNotice(v, form)
	if err != nil {
		return TriggerResult{}, err
	}
	answers, _, err := s.sendAll(ctx, t, n, form)
	if err != nil {
		return TriggerResult{}, err
	}
	return TriggerResult{Event: "refund", OutTradeNo: v.OutTradeNo, OutRefundNo: v.OutRefundNo, TransactionID: v.TransactionID, Answers: answers, Note: note}, nil
}

func (s *Sim) playRefund(t Trigger, form notifyForm) (refundView, string, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newestRefund(t)
	if r == nil {
		var err error
		if r, err = s.strangeRefund(t); err != nil {
			return refundView{}, "", err
		}
	}
	changed := *r
	note := "a repeat of the same refund"
	if status := t.Status; status != "" || changed.status == refundProcessing {
		if status == "" {
			status = refundSuccess
		}
		changed.status, changed.doneAt = status, now
		note = "the refund is " + status + " now"
	}
	if form == (notifyForm{}) && !t.altered() && t.TransactionID == "" {
		*r = changed
	} else {
		note = "the refund stays as it is on WeChat's side"
	}
	v := s.viewRefund(&changed)
	override(&v.appID, t.AppID)
	override(&v.mchID, t.MchID)
	override(&v.TransactionID, t.TransactionID)
	override(&v.notifyURL, t.URL)
	if t.Amount != 0 {
		v.Amount.Refund, v.Amount.PayerRefund, v.Amount.SettlementRefund = t.Amount, t.Amount, t.Amount
	}
	if label := form.label(); label != "" {
		note += "; spoiled: " + label
	}
	return v, note, nil
}

// strangeRefund is one of an order that was not made here, when number and amount are named. Needs s.mu.
func (s *Sim) strangeRefund(t Trigger) (*refund, error) {
	if t.OutTradeNo == "" || t.Amount <= 0 || s.orders[t.OutTradeNo] != nil {
		return nil, &controlError{404, "no_refund", "no such refund; ask for one by the shop first, or name outTradeNo and amount of one that was not made here"}
	}
	o, err := s.strangeOrder(s.openidOf(cmp.Or(t.User, "nobody")), t)
	if err != nil {
		return nil, err
	}
	now := s.opts.Now()
	s.take(o, now)
	override(&o.transactionID, t.TransactionID)
	return &refund{refundParams: refundParams{outRefundNo: cmp.Or(t.OutRefundNo, "R"+t.OutTradeNo), fee: t.Amount, total: o.total, v2: o.v2(), notifyURL: t.URL},
		order: o, id: "5030" + random(digits, 24), status: refundProcessing, madeAt: now}, nil
}

// newestRefund finds the refund of a trigger, nil for none. Needs s.mu.
func (s *Sim) newestRefund(t Trigger) *refund {
	if t.OutRefundNo != "" {
		return s.refunds[t.OutRefundNo]
	}
	var newest *refund
	for _, r := range s.refunds {
		if (t.OutTradeNo == "" || r.order.outTradeNo == t.OutTradeNo) && (newest == nil || r.serial > newest.serial) {
			newest = r
		}
	}
	return newest
}

// triggerMute keeps every notify of an order back for good, as when the shop's address cannot be reached.
func (s *Sim) triggerMute(t Trigger) (TriggerResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[t.OutTradeNo]
	if t.OutTradeNo == "" && len(s.line) > 0 {
		o = s.line[len(s.line)-1]
	}
	if o == nil {
		return TriggerResult{}, &controlError{404, "no_order", "no order of that number; buy something first, or POST /sim/fault with muteNotify for the next notify"}
	}
	o.muted = true
	return TriggerResult{Event: "muteNotify", OutTradeNo: o.outTradeNo, Answers: []Answer{}, Note: "no notify of this order will come; triggers still send"}, nil
}
