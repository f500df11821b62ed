package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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

func TestPay_badInput(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	s.order(alice, "pear", 1)
	before := s.orderCount(aliceID)
	for name, c := range map[string]struct {
		token  string
		body   any
		status int
	}{
		"no token":             {body: map[string]any{"productId": "apple", "quantity": 1}, status: 401},
		"dead token":           {token: alice[:len(alice)-3] + "AAA", body: map[string]any{"productId": "apple", "quantity": 1}, status: 401},
		"not JSON":             {token: alice, body: "{", status: 400},
		"an array":             {token: alice, body: "[]", status: 400},
		"nothing":              {token: alice, body: "{}", status: 400},
		"no body":              {token: alice, status: 400},
		"wrong type":           {token: alice, body: `{"productId":1,"quantity":"1"}`, status: 400},
		"no quantity":          {token: alice, body: `{"productId":"apple"}`, status: 400},
		"quantity 0":           {token: alice, body: `{"productId":"apple","quantity":0}`, status: 400},
		"negative":             {token: alice, body: `{"productId":"apple","quantity":-1}`, status: 400},
		"too many":             {token: alice, body: `{"productId":"apple","quantity":100}`, status: 400},
		"overflow":             {token: alice, body: `{"productId":"apple","quantity":9223372036854775807}`, status: 400},
		"beyond int64":         {token: alice, body: `{"productId":"apple","quantity":1e400}`, status: 400},
		"a fraction":           {token: alice, body: `{"productId":"apple","quantity":1.5}`, status: 400},
		"no such product":      {token: alice, body: `{"productId":"gold","quantity":1}`, status: 404},
		"oversized field":      {token: alice, body: `{"productId":"` + strings.Repeat("a", 5000) + `","quantity":1}`, status: 400},
		"both ways at once":    {token: alice, body: `{"productId":"apple","quantity":1,"outTradeNo":"20260101000000"}`, status: 400},
		"no such order":        {token: alice, body: `{"outTradeNo":"20260101000000"}`, status: 404},
		"a number of nobody":   {token: alice, body: `{"outTradeNo":"'; DROP TABLE orders"}`, status: 400},
		"a megabyte":           {token: alice, body: `{"productId":"` + strings.Repeat("a", 1<<20) + `"}`, status: 413},
		"a price of one's own": {token: alice, body: `{"productId":"gold","quantity":1,"total":1,"price":1}`, status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.call("POST", "/api/pay", c.token, c.body)
			if a.Status != c.status || a.Code != 0 || a.Error == "" || a.Message == "" || string(a.Data) != "null" {
				t.Errorf("answered %d %+v %s", a.Status, a, a.Data)
			}
		})
	}
	for path, status := range map[string]int{
		"/api/orders?limit=0":            400,
		"/api/orders?limit=x":            400,
		"/api/orders?before=x":           400,
		"/api/orders/20260101000000nono": 404,
		"/api/orders/%00":                404,
	} {
		if a := s.call("GET", path, alice, nil); a.Status != status && !(status == 404 && a.Status == 400) || a.Code != 0 || a.Error == "" {
			t.Errorf("%s answered %d %+v", path, a.Status, a)
		}
		if a := s.call("GET", path, "", nil); a.Status != 401 {
			t.Errorf("%s without a token answered %d", path, a.Status)
		}
	}
	if after := s.orderCount(aliceID); after != before {
		t.Errorf("bad input made %d orders", after-before)
	}
	// The price is the server's, whatever else stands in the body.
	a := s.call("POST", "/api/pay", alice, `{"productId":"apple","quantity":2,"total":1,"price":1}`)
	no := s.params(a)["outTradeNo"].(string)
	if o, err := s.db.Order(t.Context(), no); err != nil || o.TotalFen != 2*1999 {
		t.Errorf("the order is of %d fen, %v", o.TotalFen, err)
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

func TestPay_weChatAway(t *testing.T) {
	for name, c := range map[string]struct {
		fault  map[string]any
		status int
		word   string
		retry  bool
	}{
		"5xx":                {fault: map[string]any{"status": 500}, status: 503, word: "wechat_busy", retry: true},
		"cut":                {fault: map[string]any{"lost": true}, status: 503, word: "wechat_busy", retry: true},
		"an unsigned answer": {fault: map[string]any{"sign": "none"}, status: 502, word: "wechat_nonsense"},
		"a forged answer":    {fault: map[string]any{"sign": "wrong"}, status: 502, word: "wechat_nonsense"},
		"HTML":               {fault: map[string]any{"html": true}, status: 502, word: "wechat_nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			alice, _ := s.login("alice")
			c.fault["path"], c.fault["times"] = "/v3/pay/transactions/jsapi", 10 // a single failure is tried again by itself
			s.play("POST", "/sim/fault", c.fault, nil)
			a := s.call("POST", "/api/pay", alice, map[string]any{"productId": "apple", "quantity": 1})
			if a.Status != c.status || a.Code != 0 || a.Error != c.word || (a.Header.Get("Retry-After") != "") != c.retry {
				t.Errorf("answered %d %+v, Retry-After %q", a.Status, a, a.Header.Get("Retry-After"))
			}
			s.play("DELETE", "/sim/fault", nil, nil)
			s.order(alice, "apple", 1)
		})
	}
}

// What WeChat Pay refuses is said in words that a front end can act on, and our own state is not touched.
func TestPay_refusedByWeChat(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	made := func(no, openID string) {
		t.Helper()
		if _, err := s.db.CreateOrder(t.Context(), store.Order{
			OutTradeNo: no, AppID: s.keys.AppID, MchID: s.keys.MchID, UserID: aliceID, OpenID: openID, Description: "x", TotalFen: 1,
		}); err != nil {
			t.Fatal(err)
		}
	}
	made("order-of-a-stranger", "oNobodyAtAll")
	if a := s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": "order-of-a-stranger"}); a.Status != 502 || a.Error != "pay_refused" {
		t.Errorf("an openid that WeChat does not know: %d %+v", a.Status, a)
	}
	if state, _ := s.orderState(alice, "order-of-a-stranger"); state != "created" {
		t.Errorf("the order is %s", state)
	}

	// An order of the shop's own system that names the user alone is paid with the user's openid.
	made("order-by-user-id", "")
	if a := s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": "order-by-user-id"}); a.Status != 200 {
		t.Errorf("an order without openid: %d %+v", a.Status, a)
	}

	// Paid already, but the notify has not come yet.
	params := s.order(alice, "pear", 1)
	no := params["outTradeNo"].(string)
	nowhere := httptest.NewServer(http.NotFoundHandler())
	defer nowhere.Close()
	s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "url": nowhere.URL})
	if err := s.db.SetPrepay(t.Context(), no, "wx-ran-out", time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if a := s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": no}); a.Status != 409 || a.Error != "order_paid" {
		t.Errorf("an order that WeChat knows as paid: %d %+v", a.Status, a)
	}
	if state, _ := s.orderState(alice, no); state != "paid" {
		t.Errorf("the order is %s, though WeChat knows it as paid", state)
	}
}

func TestPay_withoutOpenID(t *testing.T) {
	s := newShop(t)
	token, err := s.server.o.Tokens.Issue("made-by-the-shop", "user", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.call("POST", "/api/pay", token, map[string]any{"productId": "pear", "quantity": 1}); a.Status != 409 || a.Error != "conflict" {
		t.Errorf("a user whom WeChat never named: %d %+v", a.Status, a)
	}
	if a := s.call("GET", "/api/orders", token, nil); a.Status != 200 || string(a.Data) != "[]" {
		t.Errorf("orders of such a user: %d %s", a.Status, a.Data)
	}
}

func TestNotify_badInput(t *testing.T) {
	s := newShop(t)
	for name, c := range map[string]struct {
		method, body string
		status       int
	}{
		"nothing":    {"POST", "", 401},
		"not JSON":   {"POST", "{", 401},
		"XML":        {"POST", `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml>&e;</xml>`, 401},
		"v2 success": {"POST", `<xml><return_code>SUCCESS</return_code><result_code>SUCCESS</result_code></xml>`, 401},
		"a megabyte": {"POST", strings.Repeat("a", 1<<20), 413},
		"GET":        {"GET", "", 405},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, body := s.send(c.method, s.url+"/wechat/pay/notify", "", c.body)
			if status != c.status {
				t.Errorf("answered %d %s", status, body)
			}
			if c.method == "POST" && !strings.Contains(string(body), `"FAIL"`) {
				t.Errorf("body %s is not v3's FAIL", body)
			}
		})
	}
}

// The store is stuck: WeChat hears 5xx within a second, tries again, and the payment counts once.
func TestNotify_storeAway(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	p := s.phone(alice, "notice")
	no := s.order(alice, "apple", 1)["outTradeNo"].(string)
	release := s.holdStore()
	answers := s.trigger(map[string]any{"event": "pay", "outTradeNo": no})
	if a := answers[0]; a.Status < 500 || a.Ms > 1500 {
		t.Errorf("answered %d in %v ms", a.Status, a.Ms)
	}
	release()
	if a := s.trigger(map[string]any{"event": "pay", "outTradeNo": no}); a[0].Status > 299 {
		t.Errorf("the second try: %+v", a)
	}
	s.eventually("the notice", func() bool { return len(p.of("purchase")) == 1 })
	s.quiet()
	if n := len(p.of("purchase")); n != 1 {
		t.Errorf("%d notices", n)
	}
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
