package store

import (
	"context"
	"fmt"
	"regexp"
	"time"
)

// States of a Reconciliation.
const (
	ReconcileEven    = "even"    // bill and books say the same
	ReconcileUneven  = "uneven"  // see its differences
	ReconcileNoBill  = "no_bill" // WeChat has none: nothing was sold that day
	ReconcileFailing = "failing" // not compared yet, see Reason; it is tried again
)

// A Reconciliation is what came of comparing one day's bill of WeChat Pay with our books.
type Reconciliation struct {
	Day         string // 2026-11-20, in Beijing
	State       string
	Reason      string // of failing
	Payments    int    // in the bill
	PaidFen     int64
	Refunds     int
	RefundFen   int64
	FeeFen      int64 // what WeChat took
	Differences []BillDifference
	N           int // how many there are: lists leave Differences out
	At          time.Time
}

// A BillDifference is one line in which bill and books disagree.
type BillDifference struct {
	What          string // missing_here, missing_there, amount, transaction, twice
	OutTradeNo    string
	OutRefundNo   string // empty: a payment
	TransactionID string
	TheirFen      int64
	OurFen        int64
}

var days = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// PutReconciliation keeps what came of a day, in place of what was known of it.
func (db *DB) PutReconciliation(ctx context.Context, r Reconciliation) error {
	var in inputs
	in.matches("Day", r.Day, days)
	in.text("State", r.State, 1, maxName)
	if in.err != nil {
		return fmt.Errorf("put reconciliation: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO reconciliations (day, state, reason, payments, paid_fen, refunds, refund_fen, fee_fen, differences, at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day) DO UPDATE SET state = excluded.state, reason = excluded.reason,
			payments = excluded.payments, paid_fen = excluded.paid_fen, refunds = excluded.refunds, refund_fen = excluded.refund_fen,
			fee_fen = excluded.fee_fen, differences = excluded.differences, at = excluded.at`,
			r.Day, r.State, cut(r.Reason, maxReason), r.Payments, r.PaidFen, r.Refunds, r.RefundFen, r.FeeFen, len(r.Differences), stamp(t.now)); err != nil {
			return err
		}
		if _, err := t.exec("DELETE FROM differences WHERE day = ?", r.Day); err != nil {
			return err
		}
		for n, d := range r.Differences {
			if _, err := t.exec(`INSERT INTO differences (day, n, what, out_trade_no, out_refund_no, transaction_id, their_fen, our_fen)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, r.Day, n, cut(d.What, maxName), cut(d.OutTradeNo, maxName), cut(d.OutRefundNo, maxName),
				cut(d.TransactionID, maxName), d.TheirFen, d.OurFen); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reconciliation %s: %w", r.Day, err)
	}
	return nil
}

// Reconciliation finds what came of a day, with every difference. Absent: ErrNotFound.
func (db *DB) Reconciliation(ctx context.Context, day string) (r Reconciliation, err error) {
	err = db.engine.read(ctx, true, func(t *tx) error {
		found, err := t.reconciliations("day = ?", day)
		if err == nil && len(found) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		r = found[0]
		return t.rows(func(scan func(...any) error) error {
			var d BillDifference
			err := scan(&d.What, &d.OutTradeNo, &d.OutRefundNo, &d.TransactionID, &d.TheirFen, &d.OurFen)
			r.Differences = append(r.Differences, d)
			return err
		}, "SELECT what, out_trade_no, out_refund_no, transaction_id, their_fen, our_fen FROM differences WHERE day = ? ORDER BY n", day)
	})
	if err != nil {
		return Reconciliation{}, fmt.Errorf("reconciliation %.16q: %w", day, err)
	}
	return r, nil
}

// Reconciliations returns the newest days first, without their differences. limit is 1 to 400, 0: 31.
func (db *DB) Reconciliations(ctx context.Context, limit int) (all []Reconciliation, err error) {
	var in inputs
	limit = in.limited(limit, 31, 400)
	if in.err != nil {
		return nil, fmt.Errorf("reconciliations: %w", in.err)
	}
	err = db.engine.read(ctx, false, func(t *tx) error {
		all, err = t.reconciliations("1 = 1 ORDER BY day DESC LIMIT ?", limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reconciliations: %w", err)
	}
	return all, nil
}

func (t *tx) reconciliations(where string, args ...any) (all []Reconciliation, err error) {
	err = t.rows(func(scan func(...any) error) error {
		var r Reconciliation
		var at int64
		err := scan(&r.Day, &r.State, &r.Reason, &r.Payments, &r.PaidFen, &r.Refunds, &r.RefundFen, &r.FeeFen, &r.N, &at)
		r.At = moment(at)
		all = append(all, r)
		return err
	}, "SELECT day, state, reason, payments, paid_fen, refunds, refund_fen, fee_fen, differences, at FROM reconciliations WHERE "+where, args...)
	return all, err
}

// PaymentsBetween returns what was paid in [from, to), oldest first, without Raw.
func (db *DB) PaymentsBetween(ctx context.Context, from, to time.Time) (all []Payment, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var p Payment
			var paid int64
			err := scan(&p.AppID, &p.MchID, &p.OutTradeNo, &p.TransactionID, &p.TotalFen, &p.PayerFen, &p.Currency, &paid)
			p.PaidAt = moment(paid)
			all = append(all, p)
			return err
		}, `SELECT app_id, mch_id, out_trade_no, transaction_id, total_fen, payer_fen, currency, paid_at FROM payments
			WHERE paid_at >= ? AND paid_at < ? ORDER BY paid_at, transaction_id`, stamp(from), stamp(to))
	})
	if err != nil {
		return nil, fmt.Errorf("payments of a day: %w", err)
	}
	return all, nil
}

// RefundsBetween returns the refunds that were begun in [from, to), oldest first.
func (db *DB) RefundsBetween(ctx context.Context, from, to time.Time) ([]Refund, error) {
	all, err := db.refunds(ctx, "created_at >= ? AND created_at < ? ORDER BY created_at, out_refund_no", stamp(from), stamp(to))
	if err != nil {
		return nil, fmt.Errorf("refunds of a day: %w", err)
	}
	return all, nil
}
