package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

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
