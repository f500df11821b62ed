package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wxhub/store"
)

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
