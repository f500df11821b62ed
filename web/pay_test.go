package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/store"
)

func TestCatalogue(t *testing.T) {
	if _, err := newCatalogue([]Product{{ID: "a", Name: "A", PriceFen: 1}, {ID: "b", Name: "B", PriceFen: maxTotalFen / maxQuantity}}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]Product{
		"no id":     {{Name: "A", PriceFen: 1}},
		"no name":   {{ID: "a", PriceFen: 1}},
		"twice":     {{ID: "a", Name: "A", PriceFen: 1}, {ID: "a", Name: "B", PriceFen: 1}},
		"for free":  {{ID: "a", Name: "A"}},
		"negative":  {{ID: "a", Name: "A", PriceFen: -1}},
		"overflows": {{ID: "a", Name: "A", PriceFen: maxTotalFen/maxQuantity + 1}},
	} {
		if _, err := newCatalogue(bad); err == nil {
			t.Errorf("%s: a catalogue of it was made", name)
		}
	}
}

func TestOutTradeNo(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		no := newOutTradeNo(time.Date(2026, 11, 20, 18, 5, 7, 0, time.UTC))
		if len(no) != 32 || !strings.HasPrefix(no, "20261121020507") || strings.Trim(no, "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
			t.Fatalf("number %q", no)
		}
		if seen[no] {
			t.Fatalf("number %s came twice", no)
		}
		seen[no] = true
	}
}

func TestPay_onePurchaseForEverybody(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("张三")
	bob, _ := s.login("bob")
	carol, _ := s.login("carol")
	phones := []*handset{s.phone(alice, "notice"), s.phone(bob, "notice"), s.phone(carol, "notice")}

	params := s.order(alice, "apple", 3)
	no := params["outTradeNo"].(string)
	if state, _ := s.orderState(alice, no); state != "paying" {
		t.Errorf("before the payment the order is %s", state)
	}
	if got := s.confirm("张三", params); got["ok"] != true {
		t.Fatalf("the pay sheet says %v", got)
	}
	s.eventually("a notice on each phone", func() bool {
		return !slices.ContainsFunc(phones, func(p *handset) bool { return len(p.of("purchase")) == 0 })
	})
	s.eventually("the payer's mail", func() bool { return len(phones[0].of("order.paid")) == 1 })
	s.quiet()

	state, paidAt := s.orderState(alice, no)
	if state != "paid" || time.Since(time.UnixMilli(paidAt)).Abs() > time.Minute {
		t.Errorf("order is %s, paid at %d", state, paidAt)
	}
	for i, p := range phones {
		notices := p.of("purchase")
		if len(notices) != 1 {
			t.Fatalf("phone %d heard %d purchases", i, len(notices))
		}
		var told purchase
		if err := json.Unmarshal(notices[0].Data.Payload, &told); err != nil {
			t.Fatal(err)
		}
		if notices[0].Meta.Room != "notice" || told != (purchase{Buyer: "张**", Product: "红富士苹果", Quantity: 3, At: told.At}) || told.At == 0 {
			t.Errorf("phone %d heard %+v in %s", i, told, notices[0].Meta.Room)
		}
		if mail := p.of("order.paid"); len(mail) != map[int]int{0: 1}[i] {
			t.Errorf("phone %d got %d letters", i, len(mail))
		}
	}
	letter := phones[0].of("order.paid")[0]
	var told orderTold
	if err := json.Unmarshal(letter.Data.Payload, &told); err != nil {
		t.Fatal(err)
	}
	if letter.Meta.Room != "user:"+aliceID || told.OutTradeNo != no || told.Total != 3*1999 || told.Description != "红富士苹果" || told.At == 0 || told.Refunded != 0 {
		t.Errorf("the letter says %+v in %s", told, letter.Meta.Room)
	}
}

// Fifty copies of one notify at once, in either version: one change, fifty successes, each within a second.
func TestPay_concurrentRepeats(t *testing.T) {
	bothVersions(t, testConcurrentRepeats)
}

func testConcurrentRepeats(t *testing.T, s *shop) {
	alice, _ := s.login("alice")
	p := s.phone(alice, "notice")
	no := s.order(alice, "apple", 1)["outTradeNo"].(string)

	answers := s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "times": 50, "parallel": true})
	answers = append(answers, s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "times": 3})...)
	if len(answers) != 53 {
		t.Fatalf("%d answers", len(answers))
	}
	for _, a := range answers {
		if a.Status < 200 || a.Status > 299 || a.Ms > 1000 {
			t.Errorf("answered %d %s in %v ms", a.Status, a.Body, a.Ms)
		}
	}
	s.eventually("the mail", func() bool { return len(p.of("order.paid")) > 0 })
	s.quiet()
	if notices, mail := len(p.of("purchase")), len(p.of("order.paid")); notices != 1 || mail != 1 {
		t.Errorf("%d notices and %d letters for one payment", notices, mail)
	}
}

// What is forged, or does not fit, changes no order and is heard by nobody.
func TestPay_refusals(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	p := s.phone(alice, "notice")
	params := s.order(alice, "apple", 1)
	no := params["outTradeNo"].(string)

	for _, c := range []struct {
		name     string
		with     map[string]any
		status   int // 0: any 4xx
		conflict bool
		alarm    bool
	}{
		{name: "signature", with: map[string]any{"forge": "signature"}, status: 401},
		{name: "serial", with: map[string]any{"forge": "serial"}, status: 401},
		{name: "body", with: map[string]any{"forge": "body"}, status: 401},
		{name: "no signature", with: map[string]any{"forge": "no-sign"}, status: 401},
		{name: "stale", with: map[string]any{"skew": "-10m"}, status: 401},
		{name: "from the future", with: map[string]any{"skew": "10m"}, status: 401},
		{name: "probe", with: map[string]any{"probe": true}},
		{name: "wrong amount", with: map[string]any{"amount": 1}, conflict: true, alarm: true},
		{name: "wrong appid", with: map[string]any{"appid": "wx0000000000000000"}, conflict: true, alarm: true},
		{name: "wrong mchid", with: map[string]any{"mchid": "1900000109"}, conflict: true, alarm: true},
		{name: "wrong currency", with: map[string]any{"currency": "USD"}, conflict: true, alarm: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conflicts, alarms := s.conflicts(), s.log.having("ERROR ALARM")
			body := map[string]any{"event": "pay", "outTradeNo": no}
			for k, v := range c.with {
				body[k] = v
			}
			answers := s.trigger(body)
			if len(answers) == 0 {
				t.Fatal("nothing was sent")
			}
			// A probe is followed by the real notify; the first answer is the probe's.
			a := answers[0]
			if a.Status < 400 || a.Status > 499 || c.status != 0 && a.Status != c.status {
				t.Errorf("answered %d %s", a.Status, a.Body)
			}
			var fail struct{ Code, Message string }
			if err := json.Unmarshal([]byte(a.Body), &fail); err != nil || fail.Code != "FAIL" || fail.Message == "" {
				t.Errorf("body %s is not v3's FAIL", a.Body)
			}
			if !c.conflict && fail.Message != "refused" {
				t.Errorf("body %s teaches a forger", a.Body)
			}
			if state, _ := s.orderState(alice, no); state != "paying" {
				t.Errorf("the order is %s", state)
			}
			if got := s.conflicts() > conflicts; got != c.conflict {
				t.Errorf("kept as a conflict: %v", got)
			}
			if got := s.log.having("ERROR ALARM") > alarms; got != c.alarm {
				t.Errorf("alarm: %v", got)
			}
		})
	}
	s.quiet()
	if got := len(p.of("purchase")) + len(p.of("order.paid")); got != 0 {
		t.Errorf("%d pushes for refused payments", got)
	}

	// The real one still counts, and a second transaction for the same order is a conflict.
	if a := s.trigger(map[string]any{"event": "pay", "outTradeNo": no}); a[0].Status > 299 {
		t.Errorf("the real notify: %+v", a)
	}
	conflicts := s.conflicts()
	if a := s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "transactionId": "4200009999202601010000000001"}); a[0].Status < 400 || a[0].Status > 499 {
		t.Errorf("a second transaction: %+v", a)
	}
	if s.conflicts() != conflicts+1 {
		t.Error("the second transaction was not kept")
	}
	s.eventually("the real purchase", func() bool { return len(p.of("purchase")) == 1 })
	s.quiet()
	if n := len(p.of("purchase")); n != 1 {
		t.Errorf("%d purchases", n)
	}

	// Each is counted by its reason.
	_, _, figures := s.send("GET", s.url+"/metrics", "", nil)
	for result, n := range map[string]int{"signature": 4, "stale": 2, "probe": 1, "conflict": 5, "paid": 1} {
		if want := fmt.Sprintf("wxhub_wechat_callbacks_total{door=\"pay\",result=\"%s\"} %d\n", result, n); !strings.Contains(string(figures), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func (s *shop) conflicts() (times int) {
	s.Helper()
	all, err := s.db.Conflicts(s.Context(), 0)
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range all {
		times += c.Times
	}
	return times
}

func TestPay_resume(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	bob, _ := s.login("bob")
	params := s.order(alice, "apple", 2)
	no := params["outTradeNo"].(string)

	again := s.params(s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": no}))
	if again["outTradeNo"] != no || again["package"] != params["package"] {
		t.Errorf("resumed as %v, was %v", again, params)
	}
	if again["nonceStr"] == params["nonceStr"] {
		t.Error("the same nonce twice")
	}
	if a := s.call("POST", "/api/pay", bob, map[string]any{"outTradeNo": no}); a.Status != 404 {
		t.Errorf("bob resumes alice's order: %+v", a)
	}
	if a := s.call("GET", "/api/orders/"+no, bob, nil); a.Status != 404 {
		t.Errorf("bob reads alice's order: %+v", a)
	}
	if a, b := s.call("GET", "/api/orders/"+no, bob, nil), s.call("GET", "/api/orders/20260101000000nosuchorder00000", bob, nil); a.Error != b.Error || a.Message != b.Message {
		t.Errorf("somebody else's order differs from none: %+v, %+v", a, b)
	}

	// A prepay_id that ran out is replaced, the number stays.
	if err := s.db.SetPrepay(t.Context(), no, "wx-ran-out", time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	fresh := s.params(s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": no}))
	if fresh["outTradeNo"] != no || fresh["package"] == "prepay_id=wx-ran-out" {
		t.Errorf("resumed with a dead prepay_id: %v", fresh)
	}
	if got := s.confirm("alice", fresh); got["ok"] != true {
		t.Fatalf("the pay sheet says %v", got)
	}
	s.eventually("paid", func() bool { state, _ := s.orderState(alice, no); return state == "paid" })
	if a := s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": no}); a.Status != 409 || a.Error != "order_paid" {
		t.Errorf("paying a paid order: %+v", a)
	}
}

func TestPay_orders(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	bob, _ := s.login("bob")
	var numbers []string
	for range 3 {
		numbers = append(numbers, s.order(alice, "pear", 1)["outTradeNo"].(string))
		time.Sleep(2 * time.Millisecond) // newest first, by the millisecond
	}
	s.order(bob, "pear", 1)
	slices.Reverse(numbers)

	list := func(query string) (got []string) {
		a := s.call("GET", "/api/orders"+query, alice, nil)
		var orders []struct {
			OutTradeNo, State, Description string
			Total                          int64
			Quantity                       int
			CreatedAt                      int64
		}
		if err := json.Unmarshal(a.Data, &orders); err != nil {
			t.Fatalf("orders: %+v: %v", a, err)
		}
		for _, o := range orders {
			if o.State != "paying" || o.Total != 1 || o.Description != "雪梨" || o.Quantity != 1 || o.CreatedAt == 0 {
				t.Errorf("order %+v", o)
			}
			got = append(got, o.OutTradeNo)
		}
		if strings.Contains(string(a.Data), "openid") || strings.Contains(string(a.Data), "prepay") {
			t.Errorf("too much is told: %s", a.Data)
		}
		return got
	}
	if got := list(""); !slices.Equal(got, numbers) {
		t.Errorf("orders %v, want %v", got, numbers)
	}
	if got := list("?limit=1"); !slices.Equal(got, numbers[:1]) {
		t.Errorf("the newest order is %v, want %v", got, numbers[:1])
	}
	oldest, err := s.db.Order(t.Context(), numbers[2])
	if err != nil {
		t.Fatal(err)
	}
	if got := list(fmt.Sprint("?before=", oldest.CreatedAt.UnixMilli()+1)); !slices.Equal(got, numbers[2:]) {
		t.Errorf("the oldest order is %v, want %v", got, numbers[2:])
	}
}

func TestPay_inOneStep(t *testing.T) {
	s := newShop(t)
	params := s.params(s.call("POST", "/api/pay", "", map[string]any{"productId": "pear", "quantity": 1, "code": s.wxLogin("dave")}))
	if got := s.confirm("dave", params); got["ok"] != true {
		t.Fatalf("the pay sheet says %v", got)
	}
	if a := s.call("POST", "/api/pay", "", map[string]any{"productId": "pear", "quantity": 1, "code": "no-such-code"}); a.Status != 401 || a.Error != "invalid_code" {
		t.Errorf("a bad code: %+v", a)
	}
	if a := s.call("POST", "/api/pay", "", map[string]any{"productId": "pear", "quantity": 1}); a.Status != 401 {
		t.Errorf("neither token nor code: %+v", a)
	}
}

func TestProducts(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	a := s.call("GET", "/api/products", alice, nil)
	var products []Product
	if err := json.Unmarshal(a.Data, &products); err != nil || len(products) != 2 || products[0].ID != "apple" || products[0].PriceFen != 1999 {
		t.Errorf("products: %+v, %v", a, err)
	}
}

func (s *shop) orderCount(user string) int {
	s.Helper()
	all, err := s.db.Orders(s.Context(), store.OrderQuery{UserID: user, Limit: 200})
	if err != nil {
		s.Fatal(err)
	}
	return len(all)
}

// holdStore keeps the store's only writer busy until release is called.
func (s *shop) holdStore() (release func()) {
	s.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		_, _, err := s.db.RecordPush(s.Context(), store.Push{Key: "hold", AppID: "hold", OpenID: "hold",
			Tell: func(store.Conversation, store.User) []store.Telling { close(held); <-free; return nil }})
		if err != nil {
			s.Errorf("hold: %v", err)
		}
	})
	<-held
	return func() { close(free); holding.Wait() }
}
