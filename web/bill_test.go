package web

import (
	"context"
	"slices"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// A day's bill says what our books say; and what it says otherwise is listed, line by line, and raises one alarm.
func TestReconcile(t *testing.T) {
	s := newShop(t)
	told := &billed{Pay: s.server.o.Pay, err: &wechat.Error{Op: "pay/bill", Kind: wechat.ErrNoBill}}
	s.server.till.pay = told
	alice, _ := s.login("alice")
	day := startOfDay(time.Now())
	if r, err := s.server.till.Reconcile(t.Context(), day); err != nil || r.State != store.ReconcileNoBill {
		t.Errorf("a day without trade: %+v, %v", r, err)
	}
	apple, pear := s.bought(alice, "alice", "apple", 2), s.bought(alice, "alice", "pear", 1)
	into[refundView](s, s.ask("POST", "/api/admin/orders/"+apple+"/refund", map[string]any{"amount": 100, "outRefundNo": "RF-1"}))
	s.eventually("the money back", func() bool { return s.stored(apple).RefundedFen == 100 })
	row := func(no string, total int64) wechat.BillRow {
		o := s.stored(no)
		return wechat.BillRow{At: o.PaidAt, AppID: o.AppID, MchID: o.MchID, OutTradeNo: no, TransactionID: o.TransactionID, State: "SUCCESS", TotalFen: total, FeeFen: 1, Currency: "CNY"}
	}
	refund := row(apple, 0)
	refund.State, refund.OutRefundNo, refund.RefundState, refund.RefundFen, refund.FeeFen = "REFUND", "RF-1", "SUCCESS", 100, -1
	told.err, told.rows = nil, []wechat.BillRow{row(apple, 3998), row(pear, 1), refund}
	r, err := s.server.till.Reconcile(t.Context(), day)
	if err != nil || r.State != store.ReconcileEven || r.Payments != 2 || r.PaidFen != 3999 || r.Refunds != 1 || r.RefundFen != 100 || r.FeeFen != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	view := into[billView](s, s.ask("GET", "/api/admin/reconciliations/"+r.Day, nil))
	if view.State != "even" || view.Paid != 3999 || view.Refunded != 100 || view.Different != 0 || len(s.alarms("kind="+alarmBill)) != 0 {
		t.Errorf("%+v", view)
	}

	// Their bill tells otherwise: another amount, no refund, and money of which we know nothing. Another app is none of ours.
	stranger, foreign := row(pear, 1), row(pear, 1)
	stranger.OutTradeNo, stranger.TransactionID = "STRANGER1", "4200000000000000000000000077"
	foreign.AppID, foreign.OutTradeNo = "wxanother", "STRANGER2"
	told.rows = []wechat.BillRow{row(apple, 3998), row(pear, 7), stranger, foreign}
	if r, err = s.server.till.Reconcile(t.Context(), day); err != nil || r.State != store.ReconcileUneven {
		t.Fatalf("%+v, %v", r, err)
	}
	view = into[billView](s, s.ask("GET", "/api/admin/reconciliations/"+r.Day, nil))
	var found []string
	for _, d := range view.Differences {
		found = append(found, d.What+" "+d.OutTradeNo+" "+d.OutRefundNo)
	}
	want := []string{"missing_here STRANGER1 ", "missing_there " + apple + " RF-1", "amount " + pear + " "}
	if nearMidnight() { // it may stand in the other day's bill
		want = slices.Delete(want, 1, 2)
	}
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) || view.Different != len(want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if a := s.alarm(alarmBill); a.Subject != r.Day {
		t.Errorf("%+v", a)
	}
	if all := into[[]billView](s, s.ask("GET", "/api/admin/reconciliations", nil)); len(all) != 1 || all[0].Different != len(want) || all[0].Differences != nil {
		t.Errorf("%+v", all)
	}
}

// What was paid a moment before midnight may stand in the next day's bill.
func TestReconcile_midnight(t *testing.T) {
	s := newShop(t)
	day := startOfDay(time.Now())
	pay := func(no string, at time.Time) wechat.BillRow {
		t.Helper()
		o, err := s.db.CreateOrder(t.Context(), store.Order{OutTradeNo: no, AppID: s.keys.AppID, MchID: s.keys.MchID, OpenID: "o1", TotalFen: 5})
		if err == nil {
			_, err = s.db.MarkPaid(t.Context(), store.Payment{AppID: o.AppID, MchID: o.MchID, OutTradeNo: no, TransactionID: "T" + no, TotalFen: 5, Currency: "CNY", PaidAt: at}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return wechat.BillRow{At: at, AppID: o.AppID, OutTradeNo: no, TransactionID: "T" + no, State: "SUCCESS", TotalFen: 5}
	}
	early, late := pay("ORDER-EARLY", day.Add(-time.Second)), pay("ORDER-LATE", day.AddDate(0, 0, 1).Add(-time.Second))
	noon := pay("ORDER-NOON", day.Add(12*time.Hour))
	told := &billed{Pay: s.server.o.Pay}
	s.server.till.pay = told
	for name, rows := range map[string][]wechat.BillRow{"by our clock": {late, noon}, "early comes late": {early, late, noon}, "late comes later": {noon}} {
		told.rows = rows
		if r, err := s.server.till.Reconcile(t.Context(), day); err != nil || r.State != store.ReconcileEven {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	early.TotalFen = 6
	told.rows = []wechat.BillRow{early, late}
	if r, err := s.server.till.Reconcile(t.Context(), day); err != nil || len(r.Differences) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func nearMidnight() bool {
	now := time.Now().In(beijing)
	return now.Sub(startOfDay(now)) < 2*billSlack || startOfDay(now).AddDate(0, 0, 1).Sub(now) < 2*billSlack
}

// billed is a WeChat Pay whose bills say something else.
type billed struct {
	wechat.Pay
	rows []wechat.BillRow
	err  error
}

func (b *billed) TradeBill(context.Context, time.Time) ([]wechat.BillRow, error) {
	return b.rows, b.err
}

func TestReconcile_byHand(t *testing.T) {
	s := newShop(t)
	yesterday := startOfDay(time.Now()).AddDate(0, 0, -1).Format(time.DateOnly)
	path := "/api/admin/reconciliations/"
	for _, day := range []string{time.Now().In(beijing).Format(time.DateOnly), "2020-01-01", "2026-13-40"} {
		s.refused(s.ask("POST", path+day, nil), 400, "bad_request")
	}
	s.refused(s.ask("GET", path+yesterday, nil), 404, "not_found")
	told := &billed{Pay: s.server.o.Pay, err: &wechat.Error{Op: "pay/bill", Kind: wechat.ErrNotYet}}
	s.server.till.pay = told
	s.refused(s.ask("POST", path+yesterday, nil), 409, "conflict")
	told.err = &wechat.Error{Op: "pay/bill", Kind: wechat.ErrConfig, Word: "NO_AUTH"}
	s.refused(s.ask("POST", path+yesterday, nil), 500, "wechat_config")
	if v := into[billView](s, s.ask("GET", path+yesterday, nil)); v.State != "failing" || v.Reason == "" {
		t.Errorf("%+v", v)
	}
	if a := s.alarm(alarmBillFailing); a.Subject != yesterday {
		t.Errorf("%+v", a)
	}
	told.err = wechat.ErrNoBill
	if v := into[billView](s, s.ask("POST", path+yesterday, nil)); v.State != "no_bill" || v.Reason != "" {
		t.Errorf("%+v", v)
	}
	s.server.o.Pay = nil
	s.refused(s.ask("POST", path+yesterday, nil), 503, "not_configured")
}
