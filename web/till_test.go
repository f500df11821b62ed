package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

const systemKey = "test-api-key"

// ask calls as the shop's own system.
func (s *shop) ask(method, path string, body any) answer {
	s.Helper()
	return s.callWith(method, path, map[string]string{"X-API-Key": systemKey}, body)
}

func (s *shop) callWith(method, path string, header map[string]string, body any) answer {
	s.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			s.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(string(text)))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{}
	answered, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(answered, &a)
	}
	if err != nil {
		s.Fatalf("%s %s: %d: %v", method, path, res.StatusCode, err)
	}
	CheckAnswer(s, s.server.Handler(), method, path, res.StatusCode, answered)
	a.Status, a.Header = res.StatusCode, res.Header
	return a
}

// into opens the data of a success.
func into[T any](s *shop, a answer) (v T) {
	s.Helper()
	if a.Status != http.StatusOK || a.Code != 1 {
		s.Fatalf("answered %d %s %s", a.Status, a.Error, a.Message)
	}
	if err := json.Unmarshal(a.Data, &v); err != nil {
		s.Fatalf("%s: %v", a.Data, err)
	}
	return v
}

func withPayV2(signType string) shopOption {
	return func(o *Options, s *sim.Options) {
		o.Pay = (*wechat.PayV2)(nil)
		s.V2SignType = signType
	}
}

// bothVersions runs a test with version 3 and with version 2 in both its signatures.
func bothVersions(t *testing.T, test func(t *testing.T, s *shop)) {
	t.Run("v3", func(t *testing.T) { test(t, newShop(t)) })
	t.Run("v2 MD5", func(t *testing.T) { test(t, newShop(t, withPayV2("MD5"))) })
	t.Run("v2 HMAC-SHA256", func(t *testing.T) { test(t, newShop(t, withPayV2("HMAC-SHA256"))) })
}

// A chaser is a node that chases by a clock of its own.
type chaser struct {
	*jobs.Jobs
	*shop
	ahead time.Duration
}

func (s *shop) chaser(node string) *chaser {
	c := &chaser{shop: s}
	c.Jobs = jobs.New(jobs.Options{
		Hub: s.hub, Store: s.db, Till: s.server.Till(), Node: node,
		Now: func() time.Time { return time.Now().Add(c.ahead) },
	})
	return c
}

func (c *chaser) at(ahead time.Duration) {
	c.Helper()
	c.ahead = ahead
	if err := c.Chase(c.Context()); err != nil {
		c.Fatalf("chase after %v: %v", ahead, err)
	}
}

func (s *shop) stored(no string) store.Order {
	s.Helper()
	o, err := s.db.Order(s.Context(), no)
	if err != nil {
		s.Fatal(err)
	}
	return o
}

func (s *shop) mute(no string) {
	s.Helper()
	s.trigger(map[string]any{"event": "muteNotify", "outTradeNo": no})
}

// bought is an order that was paid, of which the hub knows.
func (s *shop) bought(token, name, product string, quantity int) (no string) {
	s.Helper()
	params := s.order(token, product, quantity)
	no = params["outTradeNo"].(string)
	if got := s.confirm(name, params); got["ok"] != true {
		s.Fatalf("the pay sheet says %v", got)
	}
	s.eventually("paid", func() bool { return s.stored(no).State == store.OrderPaid })
	return no
}

func TestChase_notifyThatNeverComes(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		alice, _ := s.login("alice")
		p := s.phone(alice, "notice")
		params := s.order(alice, "apple", 2)
		no := params["outTradeNo"].(string)
		s.mute(no)
		if got := s.confirm("alice", params); got["ok"] != true {
			t.Fatalf("the pay sheet says %v", got)
		}
		node, other := s.chaser("one"), s.chaser("two")
		node.at(25 * time.Second)
		if state := s.stored(no).State; state != store.OrderPaying {
			t.Fatalf("asked too early: %s", state)
		}
		other.at(31 * time.Second)
		if state := s.stored(no).State; state != store.OrderPaying {
			t.Fatalf("two nodes chase at once: %s", state)
		}
		node.at(31 * time.Second)
		if o := s.stored(no); o.State != store.OrderPaid || o.TransactionID == "" || o.Late {
			t.Fatalf("after half a minute: %+v", o)
		}
		s.eventually("the notice and the letter", func() bool { return len(p.of("purchase")) == 1 && len(p.of("order.paid")) == 1 })
		for _, a := range s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "times": 3}) { // it comes after all
			if a.Status > 299 {
				t.Errorf("the late notify is answered %d %s", a.Status, a.Body)
			}
		}
		node.at(time.Hour)
		s.quiet()
		if n, m := len(p.of("purchase")), len(p.of("order.paid")); n != 1 || m != 1 {
			t.Errorf("%d notices and %d letters for one payment", n, m)
		}
	})
}

func TestChase_growingSchedule(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	no := s.order(alice, "pear", 1)["outTradeNo"].(string)
	node := s.chaser("one")
	asked := func(ahead time.Duration) bool {
		t.Helper()
		before := s.stored(no).QueriedAt
		node.at(ahead)
		return s.stored(no).QueriedAt.After(before)
	}
	for _, step := range []struct {
		at    time.Duration
		asked bool
	}{
		{20 * time.Second, false}, {31 * time.Second, true}, {45 * time.Second, false}, {61 * time.Second, true}, {2 * time.Minute, false},
		{181 * time.Second, true}, {9 * time.Minute, false}, {11 * time.Minute, true}, {29 * time.Minute, false}, {31 * time.Minute, true},
		{59 * time.Minute, false}, {61 * time.Minute, true}, {91 * time.Minute, true}, {110 * time.Minute, false},
	} {
		if got := asked(step.at); got != step.asked {
			t.Errorf("after %v: asked %v, want %v", step.at, got, step.asked)
		}
	}
}

func TestChase_closesWhatOutlivedItsTime(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		alice, _ := s.login("alice")
		p := s.phone(alice, "notice")
		no := s.order(alice, "apple", 1)["outTradeNo"].(string)
		node := s.chaser("one")
		node.at(119 * time.Minute)
		if state := s.stored(no).State; state != store.OrderPaying {
			t.Fatalf("closed too early: %s", state)
		}
		node.at(121 * time.Minute)
		if state := s.stored(no).State; state != store.OrderClosed {
			t.Fatalf("after two hours the order is %s", state)
		}
		s.eventually("the letter", func() bool { return len(p.of("order.closed")) == 1 })
		if a := s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": no}); a.Status != 409 || a.Error != "order_closed" {
			t.Errorf("paying it: %+v", a)
		}
		// Money that was under way all the same makes it paid, late.
		if a := s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "amount": 1999}); a[0].Status > 299 {
			t.Errorf("a payment after the close: %+v", a)
		}
		if o := s.stored(no); o.State != store.OrderPaid || !o.Late {
			t.Errorf("after the late payment: %s, late %v", o.State, o.Late)
		}
	})
}

// WeChat away: nothing changes, nothing is forgotten, and what failed is tried again before its next regular time.
func TestChase_weChatAway(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	params := s.order(alice, "pear", 1)
	no := params["outTradeNo"].(string)
	s.mute(no)
	s.confirm("alice", params)
	node := s.chaser("one")
	s.play("POST", "/sim/fault", map[string]any{"path": "/v3/pay/transactions/out-trade-no/" + no, "status": 500, "times": 20}, nil)
	node.ahead = 31 * time.Second
	if err := node.Chase(t.Context()); err == nil {
		t.Error("no word of it")
	}
	s.play("DELETE", "/sim/fault", nil, nil)
	node.at(35 * time.Second)
	if state := s.stored(no).State; state != store.OrderPaying {
		t.Errorf("asked again at once: %s", state)
	}
	node.at(52 * time.Second)
	if state := s.stored(no).State; state != store.OrderPaid {
		t.Errorf("after WeChat is back: %s", state)
	}
}

// Money that does not fit its order is an alarm, but not one every ten seconds.
func TestChase_conflict(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	params := s.order(alice, "pear", 1)
	no := params["outTradeNo"].(string)
	s.mute(no)
	s.confirm("alice", params)
	other, err := s.db.CreateOrder(t.Context(), store.Order{OutTradeNo: "another-order-1", AppID: s.keys.AppID, MchID: s.keys.MchID, UserID: aliceID, TotalFen: 1})
	if err != nil {
		t.Fatal(err)
	}
	told, err := s.server.o.Pay.Query(t.Context(), no) // its transaction pays another order first
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.MarkPaid(t.Context(), store.Payment{AppID: told.AppID, MchID: told.MchID, OutTradeNo: other.OutTradeNo,
		TransactionID: told.TransactionID, TotalFen: 1, Currency: "CNY", PaidAt: told.PaidAt}, nil); err != nil {
		t.Fatal(err)
	}
	node := s.chaser("one")
	for _, ahead := range []time.Duration{31 * time.Second, 2 * time.Minute, time.Hour, 3 * time.Hour} {
		node.ahead = ahead
		if err := node.Chase(t.Context()); (err != nil) != (ahead == 31*time.Second) {
			t.Errorf("after %v: %v", ahead, err)
		}
	}
	if o := s.stored(no); o.State != store.OrderPaying || s.conflicts() != 1 || s.log.having("ERROR ALARM") != 1 {
		t.Errorf("order %s, %d conflicts, %d alarms", o.State, s.conflicts(), s.log.having("ERROR ALARM"))
	}
}

// The lease goes back at the end, so that another node begins at once.
func TestChase_stop(t *testing.T) {
	s := newShop(t)
	first := s.chaser("one")
	first.at(0)
	if free, err := s.db.Lease(t.Context(), "chase", "two", time.Minute); err != nil || free {
		t.Fatalf("a second node chases too: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Run(ctx); err != nil {
		t.Error(err)
	}
	if free, err := s.db.Lease(t.Context(), "chase", "two", time.Minute); err != nil || !free {
		t.Errorf("the lease was not given back: %v", err)
	}
}

func TestOrder_whoLooksAsks(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		alice, _ := s.login("alice")
		p := s.phone(alice, "notice")
		params := s.order(alice, "apple", 1)
		no := params["outTradeNo"].(string)
		s.mute(no)
		s.confirm("alice", params)
		if state, paidAt := s.orderState(alice, no); state != "paid" || paidAt == 0 {
			t.Errorf("who looks sees %s, paid at %d", state, paidAt)
		}
		s.eventually("the notice", func() bool { return len(p.of("purchase")) == 1 })
	})
	t.Run("at most every five seconds", func(t *testing.T) {
		s := newShop(t)
		alice, _ := s.login("alice")
		params := s.order(alice, "apple", 1)
		no := params["outTradeNo"].(string)
		s.orderState(alice, no)
		asked := s.stored(no).QueriedAt
		s.mute(no)
		s.confirm("alice", params)
		for range 5 {
			if state, _ := s.orderState(alice, no); state != "paying" {
				t.Fatalf("asked again within five seconds: %s", state)
			}
		}
		if again := s.stored(no).QueriedAt; asked.IsZero() || !again.Equal(asked) {
			t.Errorf("asked at %v and %v", asked, again)
		}
	})
	t.Run("WeChat away", func(t *testing.T) {
		s := newShop(t)
		alice, _ := s.login("alice")
		no := s.order(alice, "apple", 1)["outTradeNo"].(string)
		s.play("POST", "/sim/fault", map[string]any{"path": "/v3/pay/transactions/out-trade-no/" + no, "status": 500, "times": 20}, nil)
		if state, _ := s.orderState(alice, no); state != "paying" {
			t.Errorf("the order is %s", state)
		}
	})
}

func TestClose(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		alice, _ := s.login("alice")
		bob, _ := s.login("bob")
		p := s.phone(alice, "notice")
		params := s.order(alice, "apple", 1)
		no := params["outTradeNo"].(string)
		shut := func(token, no string) answer { return s.call("POST", "/api/orders/"+no+"/close", token, nil) }
		if a := shut(bob, no); a.Status != 404 || a.Error != "not_found" {
			t.Errorf("bob closes alice's order: %+v", a)
		}
		for range 2 { // again is the same
			if v := into[orderView](s, shut(alice, no)); v.State != store.OrderClosed || v.OutTradeNo != no {
				t.Errorf("closed: %+v", v)
			}
		}
		s.eventually("the letter", func() bool { return len(p.of("order.closed")) == 1 })
		if a := s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "amount": 1}); a[0].Status < 400 {
			t.Errorf("a payment that does not fit the closed order: %+v", a)
		}

		params = s.order(alice, "apple", 1) // paid, but nobody told us
		no = params["outTradeNo"].(string)
		s.mute(no)
		s.confirm("alice", params)
		if a := shut(alice, no); a.Status != 409 || a.Error != "order_paid" {
			t.Errorf("closing a paid order: %+v", a)
		}
		if o := s.stored(no); o.State != store.OrderPaid {
			t.Errorf("the order is %s", o.State)
		}
		s.eventually("the notice", func() bool { return len(p.of("purchase")) == 1 })
		if a := shut(alice, no); a.Status != 409 || a.Error != "order_paid" {
			t.Errorf("closing it again: %+v", a)
		}
		s.quiet()
		if n := len(p.of("order.closed")); n != 1 {
			t.Errorf("%d letters of closing", n)
		}
	})
	t.Run("WeChat away", func(t *testing.T) {
		s := newShop(t)
		alice, _ := s.login("alice")
		no := s.order(alice, "apple", 1)["outTradeNo"].(string)
		s.play("POST", "/sim/fault", map[string]any{"path": "/v3/pay/transactions/out-trade-no/" + no + "/close", "status": 500, "times": 20}, nil)
		if a := s.call("POST", "/api/orders/"+no+"/close", alice, nil); a.Status != 503 || a.Error != "wechat_busy" {
			t.Errorf("%+v", a)
		}
		if o := s.stored(no); o.State != store.OrderPaying {
			t.Errorf("closed here alone: %s", o.State)
		}
	})
}

func TestShopOrder(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	bob, bobID := s.login("bob")
	p := s.phone(alice, "notice", "room:live")
	made := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", map[string]any{"description": "定制礼盒", "total": 5200, "userId": aliceID}))
	if made.State != store.OrderCreated || made.Total != 5200 || made.Quantity != 1 || made.UserID != aliceID || made.Room != "" {
		t.Errorf("made %+v", made)
	}
	if a := s.call("POST", "/api/pay", bob, map[string]any{"outTradeNo": made.OutTradeNo}); a.Status != 404 {
		t.Errorf("bob pays alice's order: %+v", a)
	}
	if got := s.confirm("alice", s.params(s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": made.OutTradeNo}))); got["ok"] != true {
		t.Errorf("the pay sheet says %v", got)
	}
	s.eventually("the letter", func() bool { return len(p.of("order.paid")) == 1 })

	// The shop's own number, an openid, a room.
	bobOpenID := s.openID(bobID)
	order := map[string]any{"description": "茶", "total": 100, "openid": bobOpenID, "room": "room:live", "outTradeNo": "ERP-2026-0001", "quantity": 3}
	first := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", order))
	again := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", order))
	if first.OutTradeNo != "ERP-2026-0001" || first != again {
		t.Errorf("made %+v, then %+v", first, again)
	}
	for field, other := range map[string]any{"total": 101, "description": "咖啡", "openid": "oSomebodyElse", "room": "notice", "quantity": 4} {
		changed := map[string]any{}
		for k, v := range order {
			changed[k] = v
		}
		changed[field] = other
		if a := s.ask("POST", "/api/admin/orders", changed); a.Status != 409 || a.Error != "conflict" {
			t.Errorf("another %s under the same number: %+v", field, a)
		}
	}
	b := s.phone(bob)
	if got := s.confirm("bob", s.params(s.call("POST", "/api/pay", bob, map[string]any{"outTradeNo": first.OutTradeNo}))); got["ok"] != true {
		t.Errorf("the pay sheet says %v", got)
	}
	s.eventually("bob's letter, though the order names only his openid", func() bool { return len(b.of("order.paid")) == 1 })
	s.eventually("the notice in the order's room", func() bool { return len(p.of("purchase")) == 1 })
	s.quiet()
	if heard := p.of("purchase"); len(heard) != 1 || heard[0].Meta.Room != "room:live" || strings.Contains(heard[0].Meta.ID, first.OutTradeNo) {
		t.Errorf("heard %+v", heard)
	}
	mine := into[[]orderView](s, s.call("GET", "/api/orders", bob, nil))
	if len(mine) != 1 || mine[0].OutTradeNo != first.OutTradeNo {
		t.Errorf("bob's orders: %+v", mine)
	}
	found := into[[]adminOrderView](s, s.ask("GET", "/api/admin/orders?outTradeNo=ERP-2026-0001", nil))
	if len(found) != 1 || found[0].OutTradeNo != first.OutTradeNo || found[0].State != store.OrderPaid || found[0].TransactionID == "" {
		t.Errorf("found %+v", found)
	}
	if none := into[[]adminOrderView](s, s.ask("GET", "/api/admin/orders?outTradeNo=ERP-2026-000", nil)); len(none) != 0 {
		t.Errorf("half a number finds %+v", none)
	}
	entries, err := s.db.Audits(t.Context(), 10)
	if err != nil || !slices.ContainsFunc(entries, func(e store.AuditEntry) bool { return e.About == "order ERP-2026-0001" && e.Who == "key test" }) {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

func (s *shop) openID(user string) string {
	s.Helper()
	u, err := s.db.User(s.Context(), user)
	if err != nil || u.OpenID == "" {
		s.Fatalf("user %s: %v", user, err)
	}
	return u.OpenID
}

func (s *shop) refunds(no string) []refundView {
	s.Helper()
	return into[[]refundView](s, s.ask("GET", "/api/admin/orders/"+no+"/refunds", nil))
}

func TestRefund(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		alice, _ := s.login("alice")
		p := s.phone(alice, "notice")
		path := "/api/admin/orders/" + s.order(alice, "apple", 1)["outTradeNo"].(string) + "/refund"
		if a := s.ask("POST", path, map[string]any{}); a.Status != 409 || a.Error != "order_unpaid" {
			t.Errorf("an unpaid order: %+v", a)
		}
		if a := s.ask("POST", "/api/admin/orders/20260101000000nono/refund", map[string]any{}); a.Status != 404 {
			t.Errorf("no such order: %+v", a)
		}

		no := s.bought(alice, "alice", "apple", 1)
		path = "/api/admin/orders/" + no + "/refund"
		part := into[refundView](s, s.ask("POST", path, map[string]any{"amount": 999, "reason": "破损", "outRefundNo": "RF-1"}))
		if part.Amount != 999 || part.OutTradeNo != no || part.OutRefundNo != "RF-1" || part.Reason != "破损" {
			t.Errorf("refund %+v", part)
		}
		if again := into[refundView](s, s.ask("POST", path, map[string]any{"amount": 999, "outRefundNo": "RF-1"})); again.OutRefundNo != "RF-1" {
			t.Errorf("again %+v", again)
		}
		if a := s.ask("POST", path, map[string]any{"amount": 1, "outRefundNo": "RF-1"}); a.Status != 409 || a.Error != "conflict" {
			t.Errorf("another amount under the same number: %+v", a)
		}
		if a := s.ask("POST", path, map[string]any{"amount": 1001}); a.Status != 409 || a.Error != "refund_too_much" {
			t.Errorf("more than is left: %+v", a)
		}
		s.eventually("the first letter", func() bool { return len(p.of("order.refunded")) == 1 })
		if o := s.stored(no); o.State != store.OrderPaid || o.RefundedFen != 999 {
			t.Errorf("after a part: %s %d", o.State, o.RefundedFen)
		}
		into[refundView](s, s.ask("POST", path, map[string]any{}))
		s.eventually("the second letter", func() bool { return len(p.of("order.refunded")) == 2 })
		if o := s.stored(no); o.State != store.OrderRefunded || o.RefundedFen != 1999 {
			t.Errorf("after all: %s %d", o.State, o.RefundedFen)
		}
		for _, a := range s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "times": 5, "parallel": true}) {
			if a.Status > 299 {
				t.Errorf("a repeated notify: %+v", a)
			}
		}
		s.quiet()
		letters := p.of("order.refunded")
		var told orderTold
		if err := json.Unmarshal(letters[len(letters)-1].Data.Payload, &told); err != nil || len(letters) != 2 || told.Refunded != 1999 || told.Total != 1999 || told.OutTradeNo != no {
			t.Errorf("%d letters, the last says %+v, %v", len(letters), told, err)
		}
		if all := s.refunds(no); len(all) != 2 || all[0].State != "success" || all[0].DoneAt == 0 || all[0].Amount+all[1].Amount != 1999 {
			t.Errorf("refunds %+v", all)
		}
		if a := s.ask("POST", path, map[string]any{}); a.Status != 409 || a.Error != "refund_too_much" {
			t.Errorf("nothing is left: %+v", a)
		}
		// A payment's notify that comes last does not bring the order back.
		s.trigger(map[string]any{"event": "pay", "outTradeNo": no})
		if o := s.stored(no); o.State != store.OrderRefunded {
			t.Errorf("the order went back to %s", o.State)
		}
	})
}

func TestRefund_neverMoreThanPaid(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	no := s.bought(alice, "alice", "apple", 1)
	var mu sync.Mutex
	words := map[string]int{}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			a := s.ask("POST", "/api/admin/orders/"+no+"/refund", map[string]any{"amount": 600, "outRefundNo": fmt.Sprint("RF-", i)})
			mu.Lock()
			defer mu.Unlock()
			words[a.Error]++
		})
	}
	all.Wait()
	if words[""] != 3 || words["refund_too_much"] != 9 {
		t.Errorf("answers %v", words)
	}
	s.eventually("the money", func() bool { return s.stored(no).RefundedFen == 1800 })
}

// The call of WeChat did not come back clearly: the refund is under way here until WeChat says what it is.
func TestRefund_unclearAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fault map[string]any
		made  bool
	}{
		"made, the answer lost": {map[string]any{"lost": true, "times": 2}, true}, // a single one is asked again by itself
		"never made":            {map[string]any{"status": 500, "times": 20}, false},
		"a forged answer":       {map[string]any{"sign": "wrong", "times": 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			alice, _ := s.login("alice")
			no := s.bought(alice, "alice", "apple", 1)
			c.fault["path"] = "/v3/refund/domestic/refunds"
			s.play("POST", "/sim/fault", map[string]any{"muteNotify": true, "times": 100}, nil)
			s.play("POST", "/sim/fault", c.fault, nil)
			r := into[refundView](s, s.ask("POST", "/api/admin/orders/"+no+"/refund", map[string]any{"outRefundNo": "RF-9"}))
			if o := s.stored(no); r.State != "processing" || o.State != store.OrderRefunding {
				t.Errorf("refund %+v, order %s", r, o.State)
			}
			if a := s.ask("POST", "/api/admin/orders/"+no+"/refund", map[string]any{"amount": 1}); a.Error != "refund_too_much" {
				t.Errorf("another one meanwhile: %+v", a)
			}
			s.play("DELETE", "/sim/fault", nil, nil)
			s.play("POST", "/sim/fault", map[string]any{"muteNotify": true, "times": 100}, nil)
			node := s.chaser("one")
			for at := 31 * time.Second; s.stored(no).State != store.OrderRefunded && at < 5*time.Minute; at += 31 * time.Second {
				time.Sleep(60 * time.Millisecond) // the simulator's money takes a moment
				node.at(at)
			}
			if all := s.refunds(no); len(all) != 1 || all[0].State != "success" || all[0].OutRefundNo != "RF-9" {
				t.Errorf("refunds %+v", all)
			}
			if o := s.stored(no); o.State != store.OrderRefunded || o.RefundedFen != 1999 {
				t.Errorf("order %s %d", o.State, o.RefundedFen)
			}
		})
	}
}

// What WeChat does not take is given up here, and can be asked for anew.
func TestRefund_refusedByWeChat(t *testing.T) {
	s := newShop(t)
	_, aliceID := s.login("alice")
	made := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", map[string]any{"description": "x", "total": 10, "userId": aliceID}))
	if _, err := s.db.MarkPaid(t.Context(), store.Payment{AppID: s.keys.AppID, MchID: s.keys.MchID, OutTradeNo: made.OutTradeNo,
		TransactionID: "4200000000000000000000000001", TotalFen: 10, Currency: "CNY", PaidAt: time.Now()}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := s.ask("POST", "/api/admin/orders/"+made.OutTradeNo+"/refund", map[string]any{}); a.Status != 502 || a.Error != "refund_refused" {
			t.Errorf("answered %+v", a)
		}
	}
	if all := s.refunds(made.OutTradeNo); len(all) != 2 || all[0].State != "closed" {
		t.Errorf("refunds %+v", all)
	}
	if o := s.stored(made.OutTradeNo); o.State != store.OrderPaid || o.RefundedFen != 0 {
		t.Errorf("order %s %d", o.State, o.RefundedFen)
	}
	if s.log.having("ERROR ALARM") != 2 {
		t.Error("no alarm")
	}
}

// Forged refund notifies change nothing; verified ones that do not fit are an alarm; ends without money are kept.
func TestRefundNotify(t *testing.T) {
	bothVersions(t, func(t *testing.T, s *shop) {
		_, v2 := s.server.o.Pay.(*wechat.PayV2)
		alice, _ := s.login("alice")
		p := s.phone(alice)
		no := s.bought(alice, "alice", "apple", 2)
		s.play("POST", "/sim/fault", map[string]any{"muteNotify": true, "times": 1}, nil)
		into[refundView](s, s.ask("POST", "/api/admin/orders/"+no+"/refund", map[string]any{"amount": 1000, "outRefundNo": "RF-1"}))
		state := func() string { t.Helper(); return s.refunds(no)[0].State }

		for _, forge := range []string{"signature", "body", "no-sign", "serial"} {
			if v2 && forge != "body" && forge != "signature" {
				continue
			}
			for _, a := range s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "status": "CLOSED", "forge": forge}) {
				if a.Status < 400 || a.Status > 499 || !strings.Contains(a.Body, "FAIL") {
					t.Errorf("forged %s is answered %d %s", forge, a.Status, a.Body)
				}
			}
			if got := state(); got != "processing" {
				t.Errorf("a forged notify made it %s", got)
			}
		}
		altered := s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "amount": 2000, "status": "SUCCESS"})
		if o := s.stored(no); o.RefundedFen == 2000 {
			t.Errorf("an altered amount was believed: %d", o.RefundedFen)
		}
		if !v2 { // in version 2 WeChat was asked, and said what is true
			if altered[0].Status != 409 || s.log.having("ERROR ALARM") == 0 {
				t.Errorf("an amount that does not fit: %+v", altered)
			}
			if got := state(); got != "processing" {
				t.Errorf("it is %s", got)
			}
		}
		alarms := s.log.having("ERROR ALARM")
		s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "status": "ABNORMAL"})
		if got := state(); got != "abnormal" && !v2 {
			t.Errorf("it is %s", got)
		}
		if !v2 && s.log.having("ERROR ALARM") == alarms {
			t.Error("no alarm of a refund that did not arrive")
		}
		if !v2 && len(p.of("order.refunded")) != 0 { // in version 2 the question found that the money had arrived
			t.Error("told without money")
		}
		s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "status": "SUCCESS"})
		s.eventually("the letter", func() bool { return len(p.of("order.refunded")) == 1 })
		s.trigger(map[string]any{"event": "refund", "outRefundNo": "RF-1", "status": "ABNORMAL"}) // overtaken
		if got := state(); got != "success" {
			t.Errorf("it went back to %s", got)
		}
	})
	t.Run("bad input", func(t *testing.T) {
		s := newShop(t)
		for name, c := range map[string]struct {
			body   string
			status int
		}{
			"nothing": {"", 401}, "JSON": {"{}", 401}, "XML": {"<xml><req_info>x</req_info></xml>", 401}, "a megabyte": {strings.Repeat("a", 1<<20), 413},
		} {
			if status, _, body := s.send("POST", s.url+"/wechat/pay/refund", "", c.body); status != c.status || !strings.Contains(string(body), `"FAIL"`) {
				t.Errorf("%s: %d %s", name, status, body)
			}
		}
	})
}

// A refund that somebody made in WeChat's merchant platform is taken up, also when its payment was never told.
func TestRefundNotify_madeElsewhere(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	p := s.phone(alice, "notice")
	params := s.order(alice, "apple", 1)
	no := params["outTradeNo"].(string)
	s.play("POST", "/sim/fault", map[string]any{"muteNotify": true, "times": 1}, nil)
	if got := s.confirm("alice", params); got["ok"] != true {
		t.Fatalf("the pay sheet says %v", got)
	}
	if _, err := s.server.o.Pay.Refund(t.Context(), wechat.RefundOrder{OutTradeNo: no, OutRefundNo: "platform-1", RefundFen: 500, TotalFen: 1999}); err != nil {
		t.Fatal(err)
	}
	s.eventually("the letters", func() bool { return len(p.of("order.refunded")) == 1 && len(p.of("order.paid")) == 1 })
	if o := s.stored(no); o.State != store.OrderPaid || o.RefundedFen != 500 {
		t.Errorf("order %s %d", o.State, o.RefundedFen)
	}
	if all := s.refunds(no); len(all) != 1 || all[0].OutRefundNo != "platform-1" || all[0].State != "success" {
		t.Errorf("refunds %+v", all)
	}
}
