package store

import (
	"context"
	"fmt"
	"time"
)

// A Payment is what WeChat has proven to us.
type Payment struct {
	AppID, MchID, OutTradeNo, TransactionID, OpenID string
	TotalFen, PayerFen                              int64
	Currency                                        string
	PaidAt                                          time.Time
	Raw                                             []byte // the verified, decrypted text, kept as evidence until its person is erased
}

// MarkPaid records p once, in one transaction with what tell wants said. It reports whether this call changed
// the order. A repeat of the same payment returns false, nil. One that does not fit (no such order, amount, appid,
// mchid, currency, a second transaction) is kept in Conflicts, changes nothing else, and returns ErrPaymentConflict
// wrapped with the reason. tell is called inside the transaction: it must not block nor use db; it may be nil, and
// may be called again when the transaction is tried again. Its User has only the order's ids if no login made one, and
// none if the person was erased: then nothing of p is kept that names them.
func (db *DB) MarkPaid(ctx context.Context, p Payment, tell func(Order, User) []Telling) (first bool, err error) {
	// Money that WeChat has proven is never refused for its form: what cannot be stored as it is, is cut.
	p.AppID, p.MchID, p.OpenID = cut(p.AppID, maxName), cut(p.MchID, maxName), cut(p.OpenID, maxName)
	p.OutTradeNo, p.TransactionID = cut(p.OutTradeNo, maxName), cut(p.TransactionID, maxName)
	p.Currency = cut(p.Currency, 16)
	p.Raw = p.Raw[:min(len(p.Raw), maxRaw)]

	var reason string
	err = db.engine.write(ctx, func(t *tx) (err error) {
		var o Order
		if o, reason, first, err = t.fit(p); err != nil {
			return err
		}
		p := p
		if o.nameless() {
			p.OpenID, p.Raw = "", nil
		}
		switch {
		case reason != "":
			if o.OpenID != "" && p.OpenID != "" && p.OpenID != o.OpenID {
				reason += "; payer: another openid than the order's"
			}
			return t.keepConflict(p, reason)
		case first:
			return t.pay(o, p, tell)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("order %.32q: mark paid: %w", p.OutTradeNo, err)
	}
	if reason != "" {
		return false, fmt.Errorf("order %.32q: %w: %s", p.OutTradeNo, ErrPaymentConflict, reason)
	}
	return first, nil
}

// fit compares p with its order. first: it is to be recorded; reason: why it does not fit; neither: a repeat.
func (t *tx) fit(p Payment) (o Order, reason string, first bool, err error) {
	o, err = t.order(p.OutTradeNo)
	if err == ErrNotFound {
		return o, "order: there is none of this number", false, nil
	}
	if err != nil {
		return o, "", false, err
	}
	switch {
	case p.TransactionID == "":
		return o, "transaction: it has no id", false, nil
	case p.AppID != o.AppID:
		return o, fmt.Sprintf("appid: %q instead of %q", p.AppID, o.AppID), false, nil
	case p.MchID != o.MchID:
		return o, fmt.Sprintf("mchid: %q instead of %q", p.MchID, o.MchID), false, nil
	case p.Currency != o.Currency:
		return o, fmt.Sprintf("currency: %q instead of %q", p.Currency, o.Currency), false, nil
	case p.TotalFen != o.TotalFen:
		return o, fmt.Sprintf("amount: %d fen instead of %d", p.TotalFen, o.TotalFen), false, nil
	case o.TransactionID == p.TransactionID:
		return o, "", false, nil
	case o.TransactionID != "":
		return o, "transaction: the order was paid by another one", false, nil
	}
	var other string
	switch err := t.row([]any{&other}, "SELECT out_trade_no FROM payments WHERE transaction_id = ?", p.TransactionID); err {
	case ErrNotFound:
		return o, "", true, nil
	case nil:
		return o, "transaction: it paid order " + other + " already", false, nil
	default:
		return o, "", false, err
	}
}

// pay moves o to paid and stores what is to be said about it.
func (t *tx) pay(o Order, p Payment, tell func(Order, User) []Telling) error {
	o.Late = o.State == OrderClosed
	o.State, o.TransactionID, o.PaidAt = OrderPaid, p.TransactionID, moment(stamp(p.PaidAt))
	if o.PaidAt.IsZero() {
		o.PaidAt = moment(stamp(t.now))
	}
	if _, err := t.exec("UPDATE orders SET state = ?, transaction_id = ?, late = ?, paid_at = ? WHERE out_trade_no = ?",
		o.State, o.TransactionID, o.Late, stamp(o.PaidAt), o.OutTradeNo); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO payments (transaction_id, out_trade_no, app_id, mch_id, open_id, total_fen, payer_fen,
		currency, paid_at, raw, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, p.TransactionID, p.OutTradeNo,
		p.AppID, p.MchID, p.OpenID, p.TotalFen, p.PayerFen, p.Currency, stamp(o.PaidAt), p.Raw, stamp(t.now)); err != nil {
		return err
	}
	if tell == nil {
		return nil
	}
	u, err := t.someUser(o.UserID, o.AppID, first(o.OpenID, p.OpenID))
	if err != nil {
		return err
	}
	return t.tell(tell(o, u))
}

// keepConflict keeps money that fits no order, and raises its alarm.
func (t *tx) keepConflict(p Payment, reason string) error {
	if err := t.raise(AlarmConflict, p.OutTradeNo, fmt.Sprintf("verified payment %s of %d fen does not fit its order and was kept as a conflict: %s",
		p.TransactionID, p.TotalFen, reason)); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO conflicts (transaction_id, out_trade_no, reason, app_id, mch_id, open_id, total_fen,
		payer_fen, currency, paid_at, raw, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (transaction_id, out_trade_no, reason) DO UPDATE SET at = excluded.at, times = conflicts.times + 1`,
		p.TransactionID, p.OutTradeNo, reason, p.AppID, p.MchID, p.OpenID, p.TotalFen,
		p.PayerFen, p.Currency, stamp(p.PaidAt), p.Raw, stamp(t.now))
	return err
}

// PaidBy returns a paid order with the openid that paid it; the openid is empty once its person was erased. ErrNotFound,
// ErrOrderUnpaid.
func (db *DB) PaidBy(ctx context.Context, outTradeNo string) (o Order, openID string, err error) {
	err = db.engine.read(ctx, true, func(t *tx) error {
		if o, err = t.order(outTradeNo); err != nil {
			return err
		}
		if o.TransactionID == "" {
			return ErrOrderUnpaid
		}
		err := t.row([]any{&openID}, "SELECT open_id FROM payments WHERE transaction_id = ?", o.TransactionID)
		if err == ErrNotFound {
			return nil
		}
		return err
	})
	if err != nil {
		return Order{}, "", fmt.Errorf("order %.32q: payer: %w", outTradeNo, err)
	}
	return o, first(openID, o.OpenID), nil
}

// A Conflict is verified money that fits no order: somebody has to look at it.
type Conflict struct {
	Payment
	Reason string    // begins with a word and a colon: order, transaction, appid, mchid, currency, amount
	At     time.Time // when it came last
	Times  int       // how often it came
}

// Conflicts returns the newest ones first. limit is 1 to 1000, 0: 100.
func (db *DB) Conflicts(ctx context.Context, limit int) ([]Conflict, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("conflicts: %w", in.err)
	}
	var all []Conflict
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var c Conflict
			var paid, at int64
			err := scan(&c.TransactionID, &c.OutTradeNo, &c.Reason, &c.AppID, &c.MchID, &c.OpenID, &c.TotalFen, &c.PayerFen,
				&c.Currency, &paid, &c.Raw, &at, &c.Times)
			c.PaidAt, c.At = moment(paid), moment(at)
			all = append(all, c)
			return err
		}, `SELECT transaction_id, out_trade_no, reason, app_id, mch_id, open_id, total_fen, payer_fen, currency, paid_at,
			raw, at, times FROM conflicts ORDER BY at DESC, transaction_id, reason LIMIT ?`, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("conflicts: %w", err)
	}
	return all, nil
}
