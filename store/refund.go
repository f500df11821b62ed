package store

import (
	"context"
	"fmt"
	"time"
)

// States of a Refund. It goes on in this order only, and may pass states over: closed → success is a refund that
// WeChat made after all.
const (
	RefundProcessing = "processing"
	RefundAbnormal   = "abnormal" // the money left the shop and did not arrive: somebody has to help at WeChat's merchant platform
	RefundClosed     = "closed"   // nothing was given back
	RefundSuccess    = "success"
)

var refundRanks = map[string]int{RefundProcessing: 1, RefundAbnormal: 2, RefundClosed: 3, RefundSuccess: 4}

// A Refund gives back all or a part of what an order was paid with.
type Refund struct {
	OutRefundNo string // 1-64 of 0-9A-Za-z_-|*@
	OutTradeNo  string
	RefundID    string // WeChat's, once it is known
	Reason      string
	State       string
	Fen         int64
	CreatedAt   time.Time
	DoneAt      time.Time // when it got its State; zero while processing
	By          string    // who asked for it
}

// BeginRefund reserves r.Fen of what its order was paid with (0: all that is left) and moves the order to refunding.
// It comes before WeChat is asked. What is begun, abnormal or done counts, so that all refunds of an order together are
// never more than its TotalFen, else ErrRefundTooMuch. An order without a payment: ErrOrderUnpaid. The same OutRefundNo
// with the same order and Fen (or 0) is the same refund, returned as it is; with others ErrRefundExists.
func (db *DB) BeginRefund(ctx context.Context, r Refund) (Refund, Order, error) {
	var in inputs
	in.matches("OutRefundNo", r.OutRefundNo, outRefundNos)
	in.matches("OutTradeNo", r.OutTradeNo, outTradeNos)
	in.number("Fen", r.Fen, 0, maxFen)
	in.text("Reason", r.Reason, 0, maxText)
	in.text("By", r.By, 0, maxName)
	if in.err != nil {
		return Refund{}, Order{}, fmt.Errorf("begin refund: %w", in.err)
	}
	var kept Refund
	var o Order
	err := db.engine.write(ctx, func(t *tx) (err error) {
		if o, err = t.order(r.OutTradeNo); err != nil { // every change of a refund happens under its order's lock
			return err
		}
		switch kept, err = t.refund(r.OutRefundNo); {
		case err == nil && (kept.OutTradeNo != r.OutTradeNo || r.Fen != 0 && kept.Fen != r.Fen):
			return ErrRefundExists
		case err != ErrNotFound:
			return err
		}
		kept, err = t.beginRefund(&o, r)
		return err
	})
	if err != nil {
		return Refund{}, Order{}, fmt.Errorf("order %s: begin refund %s: %w", r.OutTradeNo, r.OutRefundNo, err)
	}
	return kept, o, nil
}

func (t *tx) beginRefund(o *Order, r Refund) (Refund, error) {
	if o.TransactionID == "" {
		return r, ErrOrderUnpaid
	}
	done, open, err := t.refundedFen(o.OutTradeNo)
	if err != nil {
		return r, err
	}
	left := o.TotalFen - done - open
	if r.Fen == 0 {
		r.Fen = left
	}
	if left <= 0 || r.Fen > left {
		return r, fmt.Errorf("%w: %d fen of %d", ErrRefundTooMuch, r.Fen, left)
	}
	r.RefundID, r.State, r.CreatedAt, r.DoneAt = "", RefundProcessing, moment(stamp(t.now)), time.Time{}
	n, err := t.exec(`INSERT INTO refunds (out_refund_no, out_trade_no, reason, state, fen, asked_by, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (out_refund_no) DO NOTHING`,
		r.OutRefundNo, r.OutTradeNo, r.Reason, r.State, r.Fen, r.By, stamp(r.CreatedAt))
	if err != nil {
		return r, err
	}
	if n == 0 { // another order's, at the same moment
		return r, ErrRefundExists
	}
	return r, t.settleRefunds(o)
}

// FinishRefund records what WeChat said of a refund, in one transaction with what tell wants said. It reports whether
// this call changed the refund's State; only then tell is called, with the order and the refund as they are now, as for
// MarkPaid. A repeat, or an answer that was overtaken by a later one, returns false, nil, though a RefundID that was not
// known yet is kept. The order becomes refunded once all of TotalFen is given back; else it is refunding while a refund
// is processing or abnormal, and then paid again, with its RefundedFen. A refund that was not begun: ErrNotFound.
// A zero at is now.
func (db *DB) FinishRefund(ctx context.Context, outRefundNo, state, refundID string, at time.Time,
	tell func(Order, Refund, User) []Telling) (first bool, err error) {
	rank, known := refundRanks[state]
	var in inputs
	if !known {
		in.fault("State", "must be processing, abnormal, closed or success")
	}
	in.text("RefundID", refundID, 0, maxName)
	if in.err != nil {
		return false, fmt.Errorf("finish refund: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		first = false
		var outTradeNo string
		if err := t.row([]any{&outTradeNo}, "SELECT out_trade_no FROM refunds WHERE out_refund_no = ?", outRefundNo); err != nil {
			return err
		}
		o, err := t.order(outTradeNo)
		if err != nil {
			return err
		}
		r, err := t.refund(outRefundNo)
		if err != nil {
			return err
		}
		newID := r.RefundID == "" && refundID != ""
		if newID {
			r.RefundID = refundID
		}
		if first = rank > refundRanks[r.State]; first {
			r.State, r.DoneAt = state, moment(stamp(at))
			if at.IsZero() {
				r.DoneAt = moment(stamp(t.now))
			}
			if r.DoneAt.Before(r.CreatedAt) { // the platform's times are whole seconds, of its own clock
				r.DoneAt = r.CreatedAt
			}
		}
		if first || newID {
			if _, err := t.exec("UPDATE refunds SET state = ?, refund_id = ?, done_at = ? WHERE out_refund_no = ?",
				r.State, r.RefundID, stamp(r.DoneAt), r.OutRefundNo); err != nil {
				return err
			}
		}
		if !first {
			return nil
		}
		if err := t.settleRefunds(&o); err != nil || tell == nil {
			return err
		}
		u, err := t.someUser(o.UserID, o.AppID, o.OpenID)
		if err != nil {
			return err
		}
		return t.tell(tell(o, r, u))
	})
	if err != nil {
		return false, fmt.Errorf("refund %.64q: finish: %w", outRefundNo, err)
	}
	return first, nil
}

// settleRefunds brings o up to date with its refunds.
func (t *tx) settleRefunds(o *Order) error {
	done, open, err := t.refundedFen(o.OutTradeNo)
	if err != nil {
		return err
	}
	o.RefundedFen = done
	switch {
	case done >= o.TotalFen:
		o.State = OrderRefunded
	case open > 0:
		o.State = OrderRefunding
	default:
		o.State = OrderPaid
	}
	_, err = t.exec("UPDATE orders SET state = ?, refunded_fen = ? WHERE out_trade_no = ?", o.State, o.RefundedFen, o.OutTradeNo)
	return err
}

// refundedFen sums what was given back of an order, and what is on its way.
func (t *tx) refundedFen(outTradeNo string) (done, open int64, err error) {
	err = t.row([]any{&done, &open}, `SELECT
		CAST(COALESCE(SUM(CASE WHEN state = 'success' THEN fen ELSE 0 END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN state IN ('processing', 'abnormal') THEN fen ELSE 0 END), 0) AS BIGINT)
		FROM refunds WHERE out_trade_no = ?`, outTradeNo)
	return done, open, err
}

// Refunds returns an order's refunds, oldest first.
func (db *DB) Refunds(ctx context.Context, outTradeNo string) ([]Refund, error) {
	all, err := db.refunds(ctx, "out_trade_no = ? ORDER BY created_at, out_refund_no", outTradeNo)
	if err != nil {
		return nil, fmt.Errorf("order %.32q: refunds: %w", outTradeNo, err)
	}
	return all, nil
}

// ProcessingRefunds returns refunds that were begun before a time and are processing still, oldest first: their notify
// may have got lost, so WeChat has to be asked. limit is 1 to 1000, 0: 100.
func (db *DB) ProcessingRefunds(ctx context.Context, begunBefore time.Time, limit int) ([]Refund, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	all, err := []Refund(nil), in.err
	if err == nil {
		all, err = db.refunds(ctx, "state = 'processing' AND created_at < ? ORDER BY created_at, out_refund_no LIMIT ?",
			stamp(begunBefore), limit)
	}
	if err != nil {
		return nil, fmt.Errorf("processing refunds: %w", err)
	}
	return all, nil
}

func (db *DB) refunds(ctx context.Context, where string, args ...any) (all []Refund, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		all, err = t.refunds(where, args...)
		return err
	})
	return all, err
}

func (t *tx) refunds(where string, args ...any) (all []Refund, err error) {
	err = t.rows(func(scan func(...any) error) error {
		var r Refund
		var created, done int64
		err := scan(&r.OutRefundNo, &r.OutTradeNo, &r.RefundID, &r.Reason, &r.State, &r.Fen, &r.By, &created, &done)
		r.CreatedAt, r.DoneAt = moment(created), moment(done)
		all = append(all, r)
		return err
	}, `SELECT out_refund_no, out_trade_no, refund_id, reason, state, fen, asked_by, created_at, done_at
		FROM refunds WHERE `+where, args...)
	return all, err
}

func (t *tx) refund(outRefundNo string) (Refund, error) {
	all, err := t.refunds("out_refund_no = ?", outRefundNo)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Refund{}, err
	}
	return all[0], nil
}
