package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func testOrder(no string) Order {
	return Order{OutTradeNo: no, AppID: "wx1", MchID: "1900", UserID: "alice", OpenID: "openid-alice", ProductID: "tea",
		Description: "龙井 100 g", Quantity: 2, TotalFen: 4200, Currency: "CNY", Room: "notice"}
}

func testPayment(no, transaction string) Payment {
	return Payment{AppID: "wx1", MchID: "1900", OutTradeNo: no, TransactionID: transaction, OpenID: "openid-alice",
		TotalFen: 4200, PayerFen: 4100, Currency: "CNY", PaidAt: time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC), Raw: []byte(`{"a":1}`)}
}

// purchase is what a shop says about an order.
func purchase(o Order, u User) []Telling {
	return []Telling{
		{Kind: TellRoom, To: o.Room, ID: "purchase-" + o.OutTradeNo, Action: "purchase", Payload: json.RawMessage(`{"quantity": 2}`)},
		{Kind: TellMail, To: u.ID, ID: "paid-" + o.OutTradeNo, Action: "order.paid", Payload: json.RawMessage(`{"total":4200}`)},
	}
}

func testOrders(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	o := must(db.CreateOrder(ctx, testOrder("order-1")))(t)
	want := testOrder("order-1")
	want.State, want.CreatedAt = OrderCreated, c.now()
	if o != want {
		t.Fatalf("created %+v, want %+v", o, want)
	}
	c.move(time.Hour)
	expires := c.now().Add(2 * time.Hour)
	check(t, db.SetPrepay(ctx, "order-1", "prepay-1", expires))
	want.State, want.PrepayID, want.PrepayExpiresAt = OrderPaying, "prepay-1", expires
	if o = must(db.CreateOrder(ctx, testOrder("order-1")))(t); o != want {
		t.Errorf("repeat %+v, want %+v", o, want)
	}
	if o = must(db.Order(ctx, "order-1"))(t); o != want {
		t.Errorf("read %+v, want %+v", o, want)
	}
	other := testOrder("order-1")
	other.TotalFen++
	_, err := db.CreateOrder(ctx, other)
	wantErr(t, err, ErrOrderExists)
	_, err = db.Order(ctx, "order-2")
	wantErr(t, err, ErrNotFound)
	wantErr(t, db.SetPrepay(ctx, "order-2", "p", expires), ErrNotFound)

	must(db.MarkPaid(ctx, testPayment("order-1", "t1"), nil))(t)
	check(t, db.SetPrepay(ctx, "order-1", "prepay-2", expires))
	if o = must(db.Order(ctx, "order-1"))(t); o.State != OrderPaid {
		t.Errorf("a prepay made a paid order %s", o.State)
	}
	minimal := must(db.CreateOrder(ctx, Order{OutTradeNo: "order-3", AppID: "wx1", MchID: "1900", UserID: "bob"}))(t)
	if minimal.Quantity != 1 || minimal.Currency != "CNY" {
		t.Errorf("minimal %+v", minimal)
	}
}

func testOrders_list(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	for i := range 6 {
		o := testOrder(fmt.Sprintf("list-%02d", i))
		if i%2 == 1 {
			o.UserID = "bob"
		}
		must(db.CreateOrder(ctx, o))(t)
		if i >= 4 {
			must(db.MarkPaid(ctx, testPayment(o.OutTradeNo, fmt.Sprint("t", i)), nil))(t)
		}
		c.move(time.Minute)
	}
	for _, one := range []struct {
		q    OrderQuery
		want string
	}{
		{OrderQuery{}, "5 4 3 2 1 0"},
		{OrderQuery{Limit: 2}, "5 4"},
		{OrderQuery{UserID: "bob"}, "5 3 1"},
		{OrderQuery{State: OrderCreated}, "3 2 1 0"},
		{OrderQuery{UserID: "bob", State: OrderPaid}, "5"},
		{OrderQuery{Before: newClock().now().Add(3 * time.Minute)}, "2 1 0"},
		{OrderQuery{UserID: "nobody"}, ""},
		{OrderQuery{OutTradeNo: "list-03"}, "3"},
		{OrderQuery{OutTradeNo: "list-0"}, ""},
		{OrderQuery{OutTradeNo: "list-03", UserID: "alice"}, ""},
		{OrderQuery{OpenID: "openid-alice", Limit: 3}, "5 4 3"},
		{OrderQuery{OpenID: "openid-nobody"}, ""},
	} {
		var got []string
		for _, o := range must(db.Orders(ctx, one.q))(t) {
			got = append(got, strings.TrimPrefix(o.OutTradeNo, "list-0"))
		}
		if s := strings.Join(got, " "); s != one.want {
			t.Errorf("%+v: %s, want %s", one.q, s, one.want)
		}
	}
}

func testMarkPaid(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	alice := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "openid-alice", Nickname: "爱丽丝"}))(t)
	o := testOrder("paid-1")
	o.UserID = alice.ID
	must(db.CreateOrder(ctx, o))(t)
	var told User
	first := must(db.MarkPaid(ctx, testPayment("paid-1", "t1"), func(o Order, u User) []Telling {
		told = u
		if o.State != OrderPaid || o.TransactionID != "t1" {
			t.Errorf("told %+v", o)
		}
		return purchase(o, u)
	}))(t)
	if !first || told != alice {
		t.Errorf("first %v, told %+v, want %+v", first, told, alice)
	}
	o = must(db.Order(ctx, "paid-1"))(t)
	if o.State != OrderPaid || o.TransactionID != "t1" || o.Late || !o.PaidAt.Equal(testPayment("", "").PaidAt) {
		t.Errorf("order %+v", o)
	}
	rows := must(db.ClaimOutbox(ctx, "node", everyKind, 10, time.Minute))(t)
	if len(rows) != 2 || rows[0].Kind != TellRoom || string(rows[0].Payload) != `{"quantity": 2}` || rows[1].Kind != TellMail ||
		rows[1].To != alice.ID || len(rows[1].Payload) != 0 || rows[0].Attempts != 1 || !rows[0].CreatedAt.Equal(c.now()) {
		t.Errorf("outbox %+v", rows)
	}
	page := must(db.ReadMail(ctx, alice.ID, 0, 10, false))(t)
	if len(page.Letters) != 1 || page.Letters[0].Seq != 1 || page.Letters[0].Action != "order.paid" || string(page.Letters[0].Payload) != `{"total":4200}` {
		t.Errorf("mail %+v", page)
	}
	// A user whom only the shop's own system knows, and one known only by openid.
	o = testOrder("paid-2")
	o.UserID = "shop-42"
	must(db.CreateOrder(ctx, o))(t)
	must(db.MarkPaid(ctx, testPayment("paid-2", "t2"), func(_ Order, u User) []Telling { told = u; return nil }))(t)
	if told.ID != "shop-42" || !told.CreatedAt.IsZero() {
		t.Errorf("told %+v", told)
	}
	o = testOrder("paid-3")
	o.UserID = ""
	must(db.CreateOrder(ctx, o))(t)
	must(db.MarkPaid(ctx, testPayment("paid-3", "t3"), func(_ Order, u User) []Telling { told = u; return nil }))(t)
	if told != alice {
		t.Errorf("told %+v", told)
	}
}

func testMarkPaid_concurrentRepeat(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	must(db.CreateOrder(ctx, testOrder("repeat-1")))(t)
	firsts := make([]bool, 50)
	errs := each(50, func(i int) (err error) {
		firsts[i], err = db.MarkPaid(ctx, testPayment("repeat-1", "t1"), purchase)
		return err
	})
	changes := 0
	for i := range 50 {
		check(t, errs[i])
		if firsts[i] {
			changes++
		}
	}
	for range 3 {
		if must(db.MarkPaid(ctx, testPayment("repeat-1", "t1"), purchase))(t) {
			changes++
		}
	}
	if changes != 1 {
		t.Errorf("%d changes", changes)
	}
	for query, want := range map[string]int{
		"SELECT COUNT(*) FROM payments": 1, "SELECT COUNT(*) FROM outbox": 2,
		"SELECT COUNT(*) FROM letters": 1, "SELECT COUNT(*) FROM conflicts": 0,
	} {
		if n := count(t, db, query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
}

func testMarkPaid_conflict(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	must(db.CreateOrder(ctx, testOrder("conflict-1")))(t)
	must(db.CreateOrder(ctx, testOrder("conflict-2")))(t)
	must(db.MarkPaid(ctx, testPayment("conflict-2", "t-used"), nil))(t)
	for name, one := range map[string]struct {
		change func(*Payment)
		reason string
	}{
		"no order":           {func(p *Payment) { p.OutTradeNo = "nothing-there" }, "order: "},
		"odd number":         {func(p *Payment) { p.OutTradeNo = "\x00\xff" + strings.Repeat("x", 500) }, "order: "},
		"amount":             {func(p *Payment) { p.TotalFen = 1 }, "amount: 1 fen instead of 4200"},
		"appid":              {func(p *Payment) { p.AppID = "wx2" }, "appid: "},
		"mchid":              {func(p *Payment) { p.MchID = "1901" }, "mchid: "},
		"currency":           {func(p *Payment) { p.Currency = "USD" }, "currency: "},
		"no transaction":     {func(p *Payment) { p.TransactionID = "" }, "transaction: it has no id"},
		"used transaction":   {func(p *Payment) { p.TransactionID = "t-used" }, "transaction: it paid order conflict-2 already"},
		"second transaction": {func(p *Payment) { p.OutTradeNo = "conflict-2" }, "transaction: the order was paid by another one"},
		"amount of a repeat": {func(p *Payment) { p.OutTradeNo, p.TransactionID, p.TotalFen = "conflict-2", "t-used", 2 }, "amount: "},
	} {
		t.Run(name, func(t *testing.T) {
			c.move(time.Second)
			p := testPayment("conflict-1", "t-new")
			one.change(&p)
			for range 3 {
				first, err := db.MarkPaid(ctx, p, func(Order, User) []Telling {
					t.Error("told")
					return nil
				})
				wantErr(t, err, ErrPaymentConflict)
				if first || !strings.Contains(err.Error(), one.reason) || strings.Contains(err.Error(), "openid") {
					t.Errorf("%v, %v", first, err)
				}
			}
			kept := must(db.Conflicts(ctx, 1))(t)[0]
			if !strings.HasPrefix(kept.Reason, one.reason) || kept.Times != 3 || !kept.At.Equal(c.now()) ||
				kept.TotalFen != p.TotalFen || string(kept.Raw) != string(p.Raw) || !kept.PaidAt.Equal(p.PaidAt) {
				t.Errorf("kept %+v", kept)
			}
		})
	}
	if o := must(db.Order(ctx, "conflict-1"))(t); o.State != OrderCreated || o.TransactionID != "" {
		t.Errorf("a conflict changed the order: %+v", o)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM payments"); n != 1 {
		t.Errorf("%d payments", n)
	}
	if !must(db.MarkPaid(ctx, testPayment("conflict-1", "t-new"), nil))(t) {
		t.Error("the right payment after conflicts changed nothing")
	}
}

func testMarkPaid_states(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	for _, one := range []struct {
		state       OrderState
		transaction string // already on the order
		first, late bool
		err         error
		after       OrderState
	}{
		{OrderCreated, "", true, false, nil, OrderPaid},
		{OrderPaying, "", true, false, nil, OrderPaid},
		{OrderClosed, "", true, true, nil, OrderPaid},
		{OrderPaid, "t", false, false, nil, OrderPaid},
		{OrderRefunding, "t", false, false, nil, OrderRefunding},
		{OrderRefunded, "t", false, false, nil, OrderRefunded},
		{OrderPaid, "other", false, false, ErrPaymentConflict, OrderPaid},
		{OrderRefunded, "other", false, false, ErrPaymentConflict, OrderRefunded},
	} {
		t.Run(string(one.state)+one.transaction, func(t *testing.T) {
			no := "state-" + string(one.state) + one.transaction
			p := testPayment(no, "t-"+no)
			must(db.CreateOrder(ctx, testOrder(no)))(t)
			transaction := map[string]string{"": "", "t": p.TransactionID, "other": "other-" + no}[one.transaction]
			check(t, db.engine.write(ctx, func(t *tx) error {
				_, err := t.exec("UPDATE orders SET state = ?, transaction_id = ? WHERE out_trade_no = ?", one.state, transaction, no)
				return err
			}))
			first, err := db.MarkPaid(ctx, p, nil)
			if !errors.Is(err, one.err) || first != one.first {
				t.Errorf("%v, %v", first, err)
			}
			if o := must(db.Order(ctx, no))(t); o.State != one.after || o.Late != one.late {
				t.Errorf("order %+v", o)
			}
		})
	}
}

func testMarkPaid_tellFails(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	must(db.CreateOrder(ctx, testOrder("tell-1")))(t)
	bad := func(Order, User) []Telling {
		return []Telling{{Kind: TellRoom, To: "notice", ID: "1"}, {Kind: TellMail, To: "alice", ID: ""}}
	}
	_, err := db.MarkPaid(ctx, testPayment("tell-1", "t1"), bad)
	wantErr(t, err, ErrInvalid)
	if o := must(db.Order(ctx, "tell-1"))(t); o.State != OrderCreated {
		t.Errorf("state %s", o.State)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM outbox"); n != 0 {
		t.Errorf("%d outbox rows", n)
	}
}

func testCloseOrder(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	must(db.CreateOrder(ctx, testOrder("close-1")))(t)
	told := 0
	tell := func(o Order, u User) []Telling {
		told++
		if o.State != OrderClosed || u.ID != "alice" {
			t.Errorf("told %+v, %+v", o, u)
		}
		return []Telling{{Kind: TellMail, To: u.ID, ID: "closed-" + o.OutTradeNo, Action: "order.closed"}}
	}
	check(t, db.SetPrepay(ctx, "close-1", "prepay-1", time.Time{}))
	for range 2 {
		if o := must(db.CloseOrder(ctx, "close-1", tell))(t); o.State != OrderClosed {
			t.Errorf("closed %+v", o)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	check(t, db.SetPrepay(ctx, "close-1", "prepay-2", time.Time{}))
	if o := must(db.Order(ctx, "close-1"))(t); o.State != OrderClosed {
		t.Errorf("a prepay opened it: %+v", o)
	}
	must(db.MarkPaid(ctx, testPayment("close-1", "t1"), nil))(t)
	_, err := db.CloseOrder(ctx, "close-1", tell)
	wantErr(t, err, ErrOrderPaid)
	if o := must(db.Order(ctx, "close-1"))(t); o.State != OrderPaid || !o.Late {
		t.Errorf("a late payment: %+v", o)
	}
	_, err = db.CloseOrder(ctx, "close-2", nil)
	wantErr(t, err, ErrNotFound)
	// Paid and closed at once: it is paid in the end, and late if it was closed before.
	for i := range 10 {
		no := fmt.Sprint("close-race-", i)
		must(db.CreateOrder(ctx, testOrder(no)))(t)
		errs := each(2, func(k int) (err error) {
			if k == 0 {
				_, err = db.CloseOrder(ctx, no, nil)
			} else {
				_, err = db.MarkPaid(ctx, testPayment(no, "t-"+no), nil)
			}
			return err
		})
		o := must(db.Order(ctx, no))(t)
		if errs[1] != nil || o.State != OrderPaid || o.Late != (errs[0] == nil) || errs[0] != nil && !errors.Is(errs[0], ErrOrderPaid) {
			t.Errorf("%v, %+v", errs, o)
		}
	}
}

func testUnpaidOrders(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	start := c.now()
	for i := range 6 {
		must(db.CreateOrder(ctx, testOrder(fmt.Sprint("unpaid-", i))))(t)
		c.move(time.Minute)
	}
	check(t, db.SetPrepay(ctx, "unpaid-1", "prepay", c.now()))
	must(db.MarkPaid(ctx, testPayment("unpaid-2", "t2"), nil))(t)
	must(db.CloseOrder(ctx, "unpaid-3", nil))(t)
	names := func(before time.Time, limit int) (s string) {
		t.Helper()
		for _, o := range must(db.UnpaidOrders(ctx, before, limit))(t) {
			s += strings.TrimPrefix(o.OutTradeNo, "unpaid-")
		}
		return s
	}
	if s := names(start.Add(5*time.Minute), 0); s != "014" {
		t.Errorf("unpaid %s", s)
	}
	for _, at := range []time.Time{c.now(), start} { // never back
		prev := must(db.CheckedOrder(ctx, "unpaid-0", at))(t)
		if want := (map[time.Time]time.Time{start: c.now()})[at]; !prev.Equal(want) {
			t.Errorf("before %v it was %v, want %v", at, prev, want)
		}
	}
	if o := must(db.Order(ctx, "unpaid-0"))(t); !o.QueriedAt.Equal(c.now()) {
		t.Errorf("queried at %v", o.QueriedAt)
	}
	if s := names(c.now(), 3); s != "145" { // the one just asked about comes last
		t.Errorf("unpaid %s", s)
	}
	_, err := db.CheckedOrder(ctx, "unpaid-9", start)
	wantErr(t, err, ErrNotFound)
	// Several who want to ask: one does.
	old := c.now()
	c.move(5 * time.Second)
	asks := make([]bool, 20)
	for _, err := range each(20, func(i int) error {
		prev, err := db.CheckedOrder(ctx, "unpaid-0", c.now())
		asks[i] = prev.Equal(old)
		return err
	}) {
		check(t, err)
	}
	n := 0
	for _, ask := range asks {
		if ask {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d ask", n)
	}
}
