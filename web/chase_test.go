package web

import (
	"context"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
)

// A chaser is a node that chases by a clock of its own.
type chaser struct {
	*jobs.Jobs
	*shop
	ahead time.Duration
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
