package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	billWait  = 2 * time.Minute  // for a day's bill, which may be long
	billSlack = 10 * time.Minute // about midnight: what we booked on one day may stand in the other day's bill
	billBack  = 90               // days that WeChat keeps bills
)

// Reconcile compares the bill of a day in Beijing with our books and keeps what came of it; every difference is listed, and
// raises an alarm. A bill that is not made yet is wechat.ErrNotYet, and nothing is kept. Other errors of WeChat are kept
// as the day's reason, and returned.
func (t *Till) Reconcile(ctx context.Context, day time.Time) (store.Reconciliation, error) {
	day = startOfDay(day)
	r := store.Reconciliation{Day: day.Format(time.DateOnly)}
	asking, cancel := context.WithTimeout(ctx, billWait)
	defer cancel()
	bill, err := t.pay.TradeBill(asking, day)
	switch {
	case errors.Is(err, wechat.ErrNotYet):
		return r, err
	case errors.Is(err, wechat.ErrNoBill):
		r.State = store.ReconcileNoBill
	case err != nil:
		r.State, r.Reason = store.ReconcileFailing, err.Error()
		keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
		defer cancel()
		if failed := t.db.PutReconciliation(keeping, r); failed != nil {
			return r, failed
		}
		if wechat.AdviceOf(err) == wechat.Alarm {
			raise(ctx, t.db, t.log, alarmBillFailing, r.Day, "the bill of %s cannot be had: %v", r.Day, err)
		}
		return r, fmt.Errorf("bill of %s: %w", r.Day, err)
	}
	bill = slices.DeleteFunc(bill, func(row wechat.BillRow) bool { // another app of the same merchant
		return row.AppID != "" && t.appID != "" && row.AppID != t.appID
	})
	sum(&r, bill)
	if r.Differences, err = t.differences(ctx, day, bill); err != nil {
		return r, err
	}
	if r.State == "" {
		r.State = store.ReconcileEven
	}
	if len(r.Differences) > 0 {
		r.State = store.ReconcileUneven
	}
	if err := t.db.PutReconciliation(ctx, r); err != nil {
		return r, err
	}
	if r.N = len(r.Differences); r.N > 0 {
		raise(ctx, t.db, t.log, alarmBill, r.Day, "the bill of %s and our books differ in %d lines", r.Day, r.N)
	}
	return r, nil
}

func startOfDay(at time.Time) time.Time {
	at = at.In(beijing)
	return time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, beijing)
}

// sum adds up a bill.
func sum(r *store.Reconciliation, bill []wechat.BillRow) {
	for _, row := range bill {
		r.FeeFen += row.FeeFen
		if isRefund(row) {
			r.Refunds++
			r.RefundFen += row.RefundFen
		} else {
			r.Payments++
			r.PaidFen += row.TotalFen
		}
	}
}

func isRefund(row wechat.BillRow) bool { return row.State == "REFUND" }

// differences are what bill and books disagree in. About midnight the books of the neighbouring days count, too.
func (t *Till) differences(ctx context.Context, day time.Time, bill []wechat.BillRow) ([]store.BillDifference, error) {
	from, to := day, day.AddDate(0, 0, 1)
	ours, err := t.books(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var all []store.BillDifference
	for _, d := range wechat.CompareBill(bill, ours) {
		same, err := t.otherDay(ctx, d, from, to)
		if err != nil {
			return nil, err
		}
		if !same {
			all = append(all, store.BillDifference{
				What: string(d.What), OutTradeNo: d.OutTradeNo, OutRefundNo: d.OutRefundNo, TransactionID: first(d.TheirTransactionID, d.OurTransactionID), TheirFen: d.TheirFen, OurFen: d.OurFen,
			})
		}
	}
	return all, nil
}

// books are our payments and refunds of a time, as a bill would list them.
func (t *Till) books(ctx context.Context, from, to time.Time) (rows []wechat.BillRow, err error) {
	payments, err := t.db.PaymentsBetween(ctx, from, to)
	if err != nil {
		return nil, err
	}
	for _, p := range payments {
		rows = append(rows, wechat.BillRow{At: p.PaidAt, OutTradeNo: p.OutTradeNo, TransactionID: p.TransactionID, State: "SUCCESS", TotalFen: p.TotalFen})
	}
	refunds, err := t.db.RefundsBetween(ctx, from, to)
	if err != nil {
		return nil, err
	}
	for _, r := range refunds {
		if r.State == store.RefundClosed || r.RefundID == "" { // nothing was given back, or WeChat never took it
			continue
		}
		rows = append(rows, wechat.BillRow{At: r.CreatedAt, OutTradeNo: r.OutTradeNo, OutRefundNo: r.OutRefundNo, RefundID: r.RefundID, State: "REFUND", RefundFen: r.Fen})
	}
	return rows, nil
}

// otherDay tells whether a difference is none, because bill and books have the same thing on two sides of a midnight.
func (t *Till) otherDay(ctx context.Context, d wechat.Difference, from, to time.Time) (bool, error) {
	near := func(at time.Time) bool {
		return at.Sub(from).Abs() < billSlack || at.Sub(to).Abs() < billSlack
	}
	switch {
	case d.What != wechat.DiffMissingHere && d.What != wechat.DiffMissingThere:
		return false, nil
	case d.OutRefundNo != "":
		refunds, err := t.db.Refunds(ctx, d.OutTradeNo)
		if err != nil {
			return false, err
		}
		for _, r := range refunds {
			if r.OutRefundNo == d.OutRefundNo {
				return near(r.CreatedAt) && (d.What == wechat.DiffMissingThere || r.Fen == d.TheirFen), nil
			}
		}
		return false, nil
	}
	o, err := t.db.Order(ctx, d.OutTradeNo)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return o.TransactionID != "" && near(o.PaidAt) && (d.What == wechat.DiffMissingThere || o.TotalFen == d.TheirFen && o.TransactionID == d.TheirTransactionID), nil
}

// RefreshKeys has WeChat Pay's certificates renewed, where they are used at all.
func (t *Till) RefreshKeys(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, payWait)
	defer cancel()
	if err := t.pay.Refresh(asking); err != nil {
		if wechat.AdviceOf(err) == wechat.Alarm {
			raise(ctx, t.db, t.log, alarmCertificates, "", "platform certificates could not be renewed: %v", err)
		}
		return fmt.Errorf("platform certificates: %w", err)
	}
	return nil
}

type billView struct {
	Day         string           `json:"day" doc:"2026-11-20, in Beijing"`
	State       string           `json:"state" enum:"even,uneven,no_bill,failing" doc:"no_bill: nothing was sold. failing: not compared yet, see reason; it is tried again"`
	Reason      string           `json:"reason,omitempty"`
	Payments    int              `json:"payments" doc:"in WeChat's bill"`
	Paid        int64            `json:"paid" doc:"fen"`
	Refunds     int              `json:"refunds"`
	Refunded    int64            `json:"refunded" doc:"fen"`
	Fee         int64            `json:"fee" doc:"fen; what WeChat took"`
	Different   int              `json:"different" doc:"how many differences there are"`
	At          int64            `json:"at" doc:"milliseconds: when it was compared"`
	Differences []differenceView `json:"differences,omitempty" doc:"of one day only"`
}

type differenceView struct {
	What          string `json:"what" enum:"missing_here,missing_there,amount,transaction,twice" doc:"missing_here: the bill has it, our books have not. twice: one side has it twice"`
	OutTradeNo    string `json:"outTradeNo,omitempty"`
	OutRefundNo   string `json:"outRefundNo,omitempty" doc:"absent: a payment"`
	TransactionID string `json:"transactionId,omitempty"`
	Theirs        int64  `json:"theirs" doc:"fen, in the bill"`
	Ours          int64  `json:"ours" doc:"fen, in our books"`
}

func viewBill(r store.Reconciliation) billView {
	v := billView{
		Day: r.Day, State: r.State, Reason: r.Reason, Payments: r.Payments, Paid: r.PaidFen, Refunds: r.Refunds, Refunded: r.RefundFen,
		Fee: r.FeeFen, Different: r.N, At: r.At.UnixMilli(),
	}
	for _, d := range r.Differences {
		v.Differences = append(v.Differences, differenceView{d.What, d.OutTradeNo, d.OutRefundNo, d.TransactionID, d.TheirFen, d.OurFen})
	}
	return v
}

func (s *Server) routeBills() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/reconciliations", access: admins, tag: "admin", summary: "Days whose bill was compared with our books, the newest first",
		description: "Every day after ten in Beijing the bill of the day before is compared by itself.", errors: []int{http.StatusBadRequest},
	}, func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"400" default:"31"`
	}) ([]billView, error) {
		all, err := s.o.Store.Reconciliations(ctx, in.Limit)
		if err != nil {
			return nil, err
		}
		views := make([]billView, len(all))
		for i, r := range all {
			views[i] = viewBill(r)
		}
		return views, nil
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/reconciliations/{day}", access: admins, tag: "admin", summary: "One day, with every difference",
		errors: []int{http.StatusBadRequest, http.StatusNotFound},
	}, func(ctx context.Context, in *dayPath) (billView, error) { return s.bill(ctx, in.Day) })
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/reconciliations/{day}", access: admins, tag: "admin", summary: "Compare a day's bill now",
		description: "A day of the last 90, before today. The bill of yesterday is there from ten in the morning.",
		errors:      []int{http.StatusBadRequest, http.StatusConflict, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *dayPath) (billView, error) { return s.compare(ctx, in.Day) })
}

type dayPath struct {
	Day string `path:"day" maxLength:"10" pattern:"^[0-9]{4}-[0-9]{2}-[0-9]{2}$" patternDescription:"a day like 2026-11-20"`
}

func (s *Server) bill(ctx context.Context, day string) (billView, error) {
	r, err := s.o.Store.Reconciliation(ctx, day)
	if errors.Is(err, store.ErrNotFound) {
		return billView{}, &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
	}
	if err != nil {
		return billView{}, err
	}
	return viewBill(r), nil
}

func (s *Server) compare(ctx context.Context, day string) (billView, error) {
	if s.o.Pay == nil {
		return billView{}, errNotConfigured
	}
	today := startOfDay(time.Now())
	at, err := time.ParseInLocation(time.DateOnly, day, beijing)
	if err != nil || !at.Before(today) || at.Before(today.AddDate(0, 0, -billBack)) {
		return billView{}, badRequest("day must be one of the last 90, before today")
	}
	_, err = s.till.Reconcile(ctx, at)
	switch {
	case errors.Is(err, wechat.ErrNotYet):
		return billView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "the bill is there from ten in the morning of the next day, Beijing time", Err: err}
	case err != nil:
		return billView{}, payError(err)
	}
	s.audit(ctx, "compare", "bill of "+day)
	return s.bill(ctx, day)
}
