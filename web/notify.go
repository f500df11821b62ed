package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// receivePayment takes WeChat Pay's word that an order was paid (POST /wechat/pay/notify). Nothing in it is believed
// before its signature; then one transaction marks the order and writes down what is to be said.
func (c *callbacks) receivePayment(w http.ResponseWriter, r *http.Request) {
	if c.pay == nil {
		c.refuse(w, "pay", "not_configured", http.StatusServiceUnavailable)
		return
	}
	body, status := readCallback(w, r)
	if status != 0 {
		c.failPayment(w, "body", status, "body unreadable or larger than 64 KiB")
		return
	}
	n, err := c.pay.OpenNotify(r.Header, body)
	switch {
	case errors.Is(err, wechat.ErrProbe):
		c.log.Info("pay notify: a probe of WeChat Pay was refused, as it wants")
		c.failPayment(w, "probe", http.StatusUnauthorized, "signature does not fit")
		return
	case err != nil:
		word, status := refusal(err)
		c.log.Warn("pay notify refused", "reason", word, "err", err)
		c.failPayment(w, word, status, "refused: "+word)
		return
	}
	result, err := c.settlePayment(r.Context(), n)
	switch {
	case errors.Is(err, store.ErrPaymentConflict):
		c.log.Error("ALARM: verified money fits no order and was kept as a conflict",
			"outTradeNo", n.Payment.OutTradeNo, "transactionId", n.Payment.TransactionID, "total", n.Payment.TotalFen, "err", err)
		c.failPayment(w, "conflict", http.StatusConflict, "the payment does not fit its order")
	case err != nil:
		c.log.Error("pay notify not stored, WeChat will send it again", "outTradeNo", n.Payment.OutTradeNo, "err", err)
		c.failPayment(w, "fault", http.StatusInternalServerError, "try again")
	default:
		c.log.Info("pay notify", "result", result, "event", n.EventType, "outTradeNo", n.Payment.OutTradeNo)
		c.counts.WithLabelValues("pay", result).Inc()
		status, contentType, answer := c.pay.Success()
		answerCallback(w, status, contentType, answer)
	}
}

// settlePayment does what a verified notify asks for, and tells what that was: paid, repeat or ignored.
func (c *callbacks) settlePayment(ctx context.Context, n *wechat.PaymentNotify) (result string, err error) {
	p := n.Payment
	if n.EventType != "TRANSACTION.SUCCESS" || p.State != "SUCCESS" {
		return "ignored", nil
	}
	// A caller that hangs up does not undo what it proved.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait)
	defer cancel()
	paidAt := p.PaidAt
	if paidAt.IsZero() {
		paidAt = time.Now()
	}
	first, err := c.db.MarkPaid(ctx, store.Payment{
		AppID: p.AppID, MchID: p.MchID, OutTradeNo: p.OutTradeNo, TransactionID: p.TransactionID, OpenID: p.OpenID,
		TotalFen: p.TotalFen, PayerFen: p.PayerFen, Currency: p.Currency, PaidAt: paidAt, Raw: n.Plain,
	}, tellPaid(paidAt))
	switch {
	case err != nil:
		return "", err
	case first:
		return "paid", nil
	}
	return "repeat", nil
}

// failPayment answers that a notify was not taken, in the words of its version.
func (c *callbacks) failPayment(w http.ResponseWriter, result string, status int, message string) {
	c.counts.WithLabelValues("pay", result).Inc()
	contentType, body := c.pay.Failure(status, message)
	answerCallback(w, status, contentType, body)
}
