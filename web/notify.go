package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
		c.failPayment(w, "pay", "body", status, "body unreadable or larger than 64 KiB")
		return
	}
	n, err := c.pay.OpenNotify(r.Header, body)
	if err != nil {
		c.refusePayment(w, "pay", err)
		return
	}
	result, err := c.once(r.Context(), n.Key(), n.Plain, func() (string, error) { return c.settlePayment(r.Context(), n) })
	switch {
	case errors.Is(err, store.ErrPaymentConflict): // the till has raised the alarm
		c.failPayment(w, "pay", "conflict", http.StatusConflict, "the payment does not fit its order")
	case err != nil:
		c.log.Error("pay notify not stored, WeChat will send it again", "outTradeNo", n.Payment.OutTradeNo, "err", err)
		c.failPayment(w, "pay", "fault", http.StatusInternalServerError, "try again")
	default:
		c.log.Info("pay notify", "result", result, "event", n.EventType, "outTradeNo", n.Payment.OutTradeNo)
		c.takePayment(w, "pay", result)
	}
}

// once settles a notify that was not taken before. The replay store only spares the work: what is settled twice changes
// nothing, so a store of it that is away stops nobody.
func (c *callbacks) once(ctx context.Context, key string, plain []byte, settle func() (string, error)) (result string, err error) {
	sum := sha256.Sum256(plain)
	key = clipTo(key, 256) + ":" + hex.EncodeToString(sum[:12])
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait/3)
	defer cancel()
	if known, err := c.db.KnowsNotify(looking, key); err == nil && known {
		return "replay", nil
	}
	if result, err = settle(); err != nil || result == "processing" {
		return result, err
	}
	noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait/3)
	defer cancel()
	if err := c.db.TookNotify(noting, key); err != nil {
		c.log.Warn("a notify that was taken is not remembered", "err", err)
	}
	return result, nil
}

// settlePayment does what a verified notify asks for, and tells what that was: paid, repeat or ignored.
func (c *callbacks) settlePayment(ctx context.Context, n *wechat.PaymentNotify) (result string, err error) {
	if n.EventType != "TRANSACTION.SUCCESS" || n.Payment.State != "SUCCESS" {
		return "ignored", nil
	}
	// A caller that hangs up does not undo what it proved.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait)
	defer cancel()
	return c.till.settle(ctx, n.Payment, n.Plain)
}

// receiveRefund takes WeChat Pay's word on a refund (POST /wechat/pay/refund). Version 3 signs it; what version 2 sends
// is only encrypted, so that WeChat is asked before it is believed.
func (c *callbacks) receiveRefund(w http.ResponseWriter, r *http.Request) {
	if c.pay == nil {
		c.refuse(w, "refund", "not_configured", http.StatusServiceUnavailable)
		return
	}
	body, status := readCallback(w, r)
	if status != 0 {
		c.failPayment(w, "refund", "body", status, "body unreadable or larger than 64 KiB")
		return
	}
	n, err := c.pay.OpenRefund(r.Header, body)
	if err != nil {
		c.refusePayment(w, "refund", err)
		return
	}
	settle := func() (string, error) { return c.settleRefund(r.Context(), n) }
	result, err := "", error(nil)
	if n.NeedsQuery { // it proves nothing, now or again
		result, err = settle()
	} else {
		result, err = c.once(r.Context(), n.Key(), n.Plain, settle)
	}
	switch {
	case errors.Is(err, errRefundConflict), errors.Is(err, store.ErrPaymentConflict): // the till has raised the alarm
		c.failPayment(w, "refund", "conflict", http.StatusConflict, "the refund does not fit its order")
	case errors.Is(err, wechat.ErrNoRefund):
		c.log.Warn("refund notify refused", "reason", "unconfirmed", "outRefundNo", n.Refund.OutRefundNo, "err", err)
		c.failPayment(w, "refund", "unconfirmed", http.StatusBadRequest, "refused")
	case err != nil:
		c.log.Error("refund notify not stored, WeChat will send it again", "outRefundNo", n.Refund.OutRefundNo, "err", err)
		c.failPayment(w, "refund", "fault", http.StatusInternalServerError, "try again")
	default:
		c.log.Info("refund notify", "result", result, "event", n.EventType, "outRefundNo", n.Refund.OutRefundNo)
		c.takePayment(w, "refund", result)
	}
}

const confirmWait = 3 * time.Second // for WeChat's answer to our question; its notify waits five

func (c *callbacks) settleRefund(ctx context.Context, n *wechat.RefundNotify) (result string, err error) {
	refund := n.Refund
	if refund.OutRefundNo == "" {
		return "ignored", nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmWait)
	defer cancel()
	if n.NeedsQuery {
		if refund, err = c.pay.QueryRefund(ctx, refund.OutRefundNo); err != nil {
			return "", err
		}
	}
	return c.till.settleRefund(ctx, refund)
}

// refusePayment answers a notify that is not believed, with nothing that teaches a forger: the log has the reason.
func (c *callbacks) refusePayment(w http.ResponseWriter, door string, err error) {
	if errors.Is(err, wechat.ErrProbe) {
		c.log.Info(door + " notify: a probe of WeChat Pay was refused, as it wants")
		c.failPayment(w, door, "probe", http.StatusUnauthorized, "refused")
		return
	}
	word, status := refusal(err)
	c.log.Warn(door+" notify refused", "reason", word, "err", err)
	c.failPayment(w, door, word, status, "refused")
}

// takePayment answers that a notify was taken, in the words of its version.
func (c *callbacks) takePayment(w http.ResponseWriter, door, result string) {
	c.counts.WithLabelValues(door, result).Inc()
	status, contentType, answer := c.pay.Success()
	answerCallback(w, status, contentType, answer)
}

// failPayment answers that a notify was not taken, in the words of its version.
func (c *callbacks) failPayment(w http.ResponseWriter, door, result string, status int, message string) {
	c.counts.WithLabelValues(door, result).Inc()
	contentType, body := c.pay.Failure(status, message)
	answerCallback(w, status, contentType, body)
}
