package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// paidOrder makes an order of 4200 fen that alice has paid.
func paidOrder(t testing.TB, db *DB, no string) {
	t.Helper()
	must(db.CreateOrder(t.Context(), testOrder(no)))(t)
	must(db.MarkPaid(t.Context(), testPayment(no, "t-"+no), nil))(t)
}

// givenBack is what a shop says about a refund.
func givenBack(o Order, r Refund, u User) []Telling {
	return []Telling{{Kind: TellMail, To: u.ID, ID: "refund-" + r.OutRefundNo + "-" + r.State, Action: "order.refunded",
		Payload: json.RawMessage(fmt.Sprintf(`{"refunded":%d}`, o.RefundedFen))}}
}

func testRefunds(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	begin := func(no string, fen int64, wantErr error) (Refund, Order) {
		t.Helper()
		r, o, err := db.BeginRefund(ctx, Refund{OutRefundNo: no, OutTradeNo: "refund-1", Reason: "少了一件", Fen: fen, By: "shop"})
		if !errors.Is(err, wantErr) {
			t.Errorf("%s: error %v, want %v", no, err, wantErr)
		}
		return r, o
	}
	finish := func(no, state, id string, first bool, after OrderState, refunded int64) {
		t.Helper()
		if got := must(db.FinishRefund(ctx, no, state, id, c.now(), givenBack))(t); got != first {
			t.Errorf("%s %s: first %v", no, state, got)
		}
		if o := must(db.Order(ctx, "refund-1"))(t); o.State != after || o.RefundedFen != refunded {
			t.Errorf("%s %s: %s, %d fen refunded, want %s, %d", no, state, o.State, o.RefundedFen, after, refunded)
		}
	}
	begin("r1", 100, ErrNotFound)
	must(db.CreateOrder(ctx, testOrder("refund-1")))(t)
	begin("r1", 100, ErrOrderUnpaid)
	must(db.CloseOrder(ctx, "refund-1", nil))(t)
	begin("r1", 100, ErrOrderUnpaid)
	must(db.MarkPaid(ctx, testPayment("refund-1", "t1"), nil))(t)
	begin("r1", 4201, ErrRefundTooMuch)
	begin("r1", -1, ErrInvalid)
	r, o := begin("r1", 1000, nil)
	want := Refund{OutRefundNo: "r1", OutTradeNo: "refund-1", Reason: "少了一件", State: RefundProcessing, Fen: 1000, CreatedAt: c.now(), By: "shop"}
	if r != want || o.State != OrderRefunding || o.RefundedFen != 0 {
		t.Errorf("%+v, want %+v; order %+v", r, want, o)
	}
	c.move(time.Minute)
	if r, _ := begin("r1", 1000, nil); r != want {
		t.Errorf("repeat %+v", r)
	}
	if r, _ := begin("r1", 0, nil); r != want {
		t.Errorf("repeat without amount %+v", r)
	}
	begin("r1", 999, ErrRefundExists)
	paidOrder(t, db, "refund-2")
	_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: "r1", OutTradeNo: "refund-2", Fen: 1000})
	wantErr(t, err, ErrRefundExists)

	begin("r2", 3201, ErrRefundTooMuch)
	begin("r2", 200, nil)
	finish("r1", RefundSuccess, "wx-1", true, OrderRefunding, 1000) // the notify, before our own answer
	finish("r1", RefundProcessing, "wx-1", false, OrderRefunding, 1000)
	finish("r1", RefundSuccess, "wx-1", false, OrderRefunding, 1000)
	finish("r1", RefundClosed, "", false, OrderRefunding, 1000)
	finish("r2", RefundProcessing, "wx-2", false, OrderRefunding, 1000) // our own answer: only its RefundID is new
	finish("r2", RefundAbnormal, "", true, OrderRefunding, 1000)
	begin("r3", 3001, ErrRefundTooMuch) // an abnormal one has left the shop
	finish("r2", RefundClosed, "", true, OrderPaid, 1000)
	if r, o := begin("r3", 0, nil); r.Fen != 3200 || o.State != OrderRefunding {
		t.Errorf("all that is left: %+v of %+v", r, o)
	}
	begin("r4", 0, ErrRefundTooMuch)
	finish("r3", RefundSuccess, "wx-3", true, OrderRefunded, 4200)
	begin("r4", 1, ErrRefundTooMuch)
	// WeChat tells whole seconds: a refund is not done before it was begun.
	paidOrder(t, db, "refund-3")
	_, _, err = db.BeginRefund(ctx, Refund{OutRefundNo: "early", OutTradeNo: "refund-3", Fen: 1})
	check(t, err)
	must(db.FinishRefund(ctx, "early", RefundSuccess, "", c.now().Add(-999*time.Millisecond), nil))(t)
	if r := must(db.Refunds(ctx, "refund-3"))(t)[0]; !r.DoneAt.Equal(r.CreatedAt) {
		t.Errorf("done at %v, begun at %v", r.DoneAt, r.CreatedAt)
	}
	if r, o := begin("r3", 3200, nil); r.State != RefundSuccess || o.State != OrderRefunded {
		t.Errorf("repeat of a finished one: %+v of %+v", r, o)
	}
	all := must(db.Refunds(ctx, "refund-1"))(t)
	if len(all) != 3 || all[0].RefundID != "wx-1" || !all[0].DoneAt.Equal(c.now()) || all[1].RefundID != "wx-2" || all[1].State != RefundClosed {
		t.Errorf("refunds %+v", all)
	}
	if all := must(db.Refunds(ctx, "refund-2"))(t); len(all) != 0 {
		t.Errorf("refunds %+v", all)
	}
	var told string
	for _, l := range must(db.ReadMail(ctx, "alice", 0, 10, false))(t).Letters {
		told += l.ID + string(l.Payload) + " "
	}
	if told != `refund-r1-success{"refunded":1000} refund-r2-abnormal{"refunded":1000} refund-r2-closed{"refunded":1000} refund-r3-success{"refunded":4200} ` {
		t.Errorf("told %s", told)
	}
	_, err = db.FinishRefund(ctx, "r9", RefundSuccess, "", c.now(), nil)
	wantErr(t, err, ErrNotFound)
	_, err = db.FinishRefund(ctx, "r3", "done", "", c.now(), nil)
	wantErr(t, err, ErrInvalid)
	// Once refunded, the payment is still a repeat, and another one a conflict.
	if must(db.MarkPaid(ctx, testPayment("refund-1", "t1"), nil))(t) {
		t.Error("the payment again changed a refunded order")
	}
	_, err = db.MarkPaid(ctx, testPayment("refund-1", "t9"), nil)
	wantErr(t, err, ErrPaymentConflict)
	_, err = db.CloseOrder(ctx, "refund-1", nil)
	wantErr(t, err, ErrOrderPaid)
}

// A refund that was taken for closed, and that WeChat made after all, counts.
func testRefunds_closedThenSuccess(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	paidOrder(t, db, "closed-1")
	for _, no := range []string{"r1", "r2"} {
		_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: no, OutTradeNo: "closed-1"})
		check(t, err)
		must(db.FinishRefund(ctx, no, RefundClosed, "", c.now(), nil))(t)
	}
	_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: "r3", OutTradeNo: "closed-1"})
	check(t, err)
	if !must(db.FinishRefund(ctx, "r1", RefundSuccess, "wx-1", time.Time{}, nil))(t) {
		t.Error("a proven refund was passed over")
	}
	if o := must(db.Order(ctx, "closed-1"))(t); o.State != OrderRefunded || o.RefundedFen != 4200 {
		t.Errorf("order %+v", o)
	}
	if !must(db.FinishRefund(ctx, "r3", RefundClosed, "", c.now(), nil))(t) {
		t.Error("the last one was not closed")
	}
	if o := must(db.Order(ctx, "closed-1"))(t); o.State != OrderRefunded {
		t.Errorf("order %+v", o)
	}
}

func testRefunds_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	paidOrder(t, db, "race-1")
	errs := each(40, func(i int) error {
		_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: fmt.Sprint("r", i/2), OutTradeNo: "race-1", Fen: 1000})
		return err
	})
	begun := 0
	for i := 0; i < 40; i += 2 {
		switch {
		case errs[i] == nil && errs[i+1] == nil:
			begun++
		case !errors.Is(errs[i], ErrRefundTooMuch) || !errors.Is(errs[i+1], ErrRefundTooMuch):
			t.Errorf("r%d: %v, %v", i/2, errs[i], errs[i+1])
		}
	}
	all := must(db.Refunds(ctx, "race-1"))(t)
	if begun != 4 || len(all) != 4 {
		t.Fatalf("%d begun, %d kept, want 4 of 1000 fen within 4200", begun, len(all))
	}
	firsts := make([]bool, 40)
	for _, err := range each(40, func(i int) (err error) {
		state := RefundSuccess
		if i >= 20 {
			state = RefundProcessing // our own answer, late
		}
		firsts[i], err = db.FinishRefund(ctx, all[i%4].OutRefundNo, state, fmt.Sprint("wx-", i%4), time.Time{}, givenBack)
		return err
	}) {
		check(t, err)
	}
	n := 0
	for _, first := range firsts {
		if first {
			n++
		}
	}
	o := must(db.Order(ctx, "race-1"))(t)
	if letters := count(t, db, "SELECT COUNT(*) FROM letters"); n != 4 || letters != 4 || o.State != OrderPaid || o.RefundedFen != 4000 {
		t.Errorf("%d changes, %d letters, order %+v", n, letters, o)
	}
	// One number on two orders at once belongs to one of them.
	paidOrder(t, db, "race-2")
	paidOrder(t, db, "race-3")
	errs = each(2, func(i int) error {
		_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: "both", OutTradeNo: fmt.Sprint("race-", i+2)})
		return err
	})
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), ErrRefundExists) {
		t.Errorf("one number twice: %v", errs)
	}
}

// Whatever is begun and said in whatever order: never more than was paid, never backwards.
func testRefunds_model(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		no := fmt.Sprintf("model-%06d", run)
		paidOrder(t, db, no)
		type refund struct {
			state string
			fen   int64
		}
		model := make(map[string]*refund)
		sums := func() (done, open int64) {
			for _, r := range model {
				switch r.state {
				case RefundSuccess:
					done += r.fen
				case RefundProcessing, RefundAbnormal:
					open += r.fen
				}
			}
			return done, open
		}
		late := false // a closed refund was made after all: WeChat, not we, holds the sum then
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			id := fmt.Sprintf("%s-%d", no, rapid.IntRange(0, 4).Draw(rt, "refund"))
			r := model[id]
			if rapid.Bool().Draw(rt, "begin") {
				fen := rapid.SampledFrom([]int64{0, 1, 700, 2100, 4199, 4200, 4201}).Draw(rt, "fen")
				done, open := sums()
				left := 4200 - done - open
				_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: id, OutTradeNo: no, Fen: fen})
				var want error
				switch {
				case r != nil && fen != 0 && fen != r.fen:
					want = ErrRefundExists
				case r != nil:
				case left <= 0 || fen > left:
					want = ErrRefundTooMuch
				default:
					if fen == 0 {
						fen = left
					}
					model[id] = &refund{RefundProcessing, fen}
				}
				if !errors.Is(err, want) {
					rt.Fatalf("begin %s of %d fen with %d left: %v, want %v", id, fen, left, err, want)
				}
			} else {
				state := rapid.SampledFrom([]string{RefundProcessing, RefundAbnormal, RefundClosed, RefundSuccess}).Draw(rt, "state")
				first, err := db.FinishRefund(ctx, id, state, "", time.Time{}, nil)
				if r == nil {
					if !errors.Is(err, ErrNotFound) {
						rt.Fatalf("finish of nothing: %v", err)
					}
					continue
				}
				if want := refundRanks[state] > refundRanks[r.state]; err != nil || first != want {
					rt.Fatalf("finish %s: %s → %s: %v, %v", id, r.state, state, first, err)
				}
				if first {
					late = late || r.state == RefundClosed
					r.state = state
				}
			}
			done, open := sums()
			o, err := db.Order(ctx, no)
			want := OrderPaid
			if done >= 4200 {
				want = OrderRefunded
			} else if open > 0 {
				want = OrderRefunding
			}
			if err != nil || o.State != want || o.RefundedFen != done || !late && done+open > 4200 {
				rt.Fatalf("order %+v, want %s with %d (%v)", o, want, done, err)
			}
		}
	})
}

func testProcessingRefunds(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	paidOrder(t, db, "chase-1")
	for i := range 4 {
		_, _, err := db.BeginRefund(ctx, Refund{OutRefundNo: fmt.Sprint("r", i), OutTradeNo: "chase-1", Fen: 10})
		check(t, err)
		c.move(time.Minute)
	}
	must(db.FinishRefund(ctx, "r1", RefundSuccess, "", c.now(), nil))(t)
	names := func(before time.Time, limit int) (s string) {
		for _, r := range must(db.ProcessingRefunds(ctx, before, limit))(t) {
			s += r.OutRefundNo + " "
		}
		return s
	}
	if s := names(c.now(), 0); s != "r0 r2 r3 " {
		t.Errorf("all: %s", s)
	}
	if s := names(c.now().Add(-time.Minute), 0); s != "r0 r2 " {
		t.Errorf("older: %s", s)
	}
	if s := names(c.now(), 1); s != "r0 " {
		t.Errorf("one: %s", s)
	}
}
