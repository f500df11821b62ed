package sim

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPrepay(t *testing.T) {
	w := newWorld(t, nil)
	body := w.order("20260115103456000001", w.openid("alice"))
	rec := w.prepay(body)
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	id := parse(t, rec.Body.Bytes()).text("prepay_id")
	if !strings.HasPrefix(id, "wx20260115183456") || len(id) > 64 {
		t.Errorf("prepay_id %q", id)
	}
	if err := verifyPlatform(t, rec.Header(), rec.Body.Bytes()); err != nil {
		t.Errorf("answer: %v", err)
	}
	if rec.Header().Get("Wechatpay-Serial") != credentials().PublicKeyID || rec.Header().Get("Request-Id") == "" {
		t.Errorf("headers %v", rec.Header())
	}
	if again := parse(t, w.prepay(body).Body.Bytes()).text("prepay_id"); again != id {
		t.Errorf("same parameters gave %q, then %q", id, again)
	}
	w.clock.move(prepayLife)
	if again := parse(t, w.prepay(body).Body.Bytes()).text("prepay_id"); again == id || again == "" {
		t.Errorf("prepay_id after two hours: %q", again)
	}
}

func TestPrepay_fields(t *testing.T) {
	w := newWorld(t, nil)
	good := w.order("T0000001", w.openid("alice"))
	amount := func(v any) object { return object{"total": v, "currency": "CNY"} }
	type row struct {
		change []any
		status int
		code   string
	}
	bad := func(change ...any) row { return row{change, 400, "PARAM_ERROR"} }
	for name, c := range map[string]row{
		"no appid":          bad("appid", nil),
		"other appid":       {[]any{"appid", "wx0"}, 400, "APPID_MCHID_NOT_MATCH"},
		"no mchid":          bad("mchid", nil),
		"other mchid":       bad("mchid", "1900000000"),
		"no description":    bad("description", nil),
		"long description":  bad("description", strings.Repeat("长", 128)),
		"number as text":    bad("description", 1),
		"short number":      bad("out_trade_no", "T1234"),
		"long number":       bad("out_trade_no", strings.Repeat("1", 33)),
		"charset of number": bad("out_trade_no", "T000 0001"),
		"notify missing":    bad("notify_url", nil),
		"notify http":       bad("notify_url", "http://example.com/notify"),
		"notify query":      bad("notify_url", "https://example.com/notify?a=1"),
		"notify bare query": bad("notify_url", "https://example.com/notify?"),
		"notify fragment":   bad("notify_url", "https://example.com/notify#a"),
		"notify relative":   bad("notify_url", "/notify"),
		"notify long":       bad("notify_url", "https://example.com/"+strings.Repeat("n", 255)),
		"no amount":         bad("amount", nil),
		"amount zero":       bad("amount", amount(0)),
		"amount negative":   bad("amount", amount(-1)),
		"amount text":       bad("amount", amount("100")),
		"amount fraction":   bad("amount", amount(1.5)),
		"amount number":     bad("amount", 100),
		"currency":          bad("amount", object{"total": 1, "currency": "USD"}),
		"no payer":          bad("payer", nil),
		"no openid":         bad("payer", object{}),
		"unknown openid":    bad("payer", object{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}),
		"long attach":       bad("attach", strings.Repeat("a", 129)),
		"expire format":     bad("time_expire", "2026-01-15 12:00:00"),
		"expire too soon":   bad("time_expire", "2026-01-15T10:35:30Z"),
		"client ip":         bad("scene_info", object{"payer_client_ip": "alice"}),
		"case of a name":    bad("appid", nil, "APPID", credentials().AppID),
	} {
		t.Run(name, func(t *testing.T) {
			rec := w.prepay(with(good, c.change...))
			got := parse(t, rec.Body.Bytes())
			if rec.Code != c.status || got.text("code") != c.code || got.text("message") == "" {
				t.Errorf("%d %v", rec.Code, got)
			}
			if err := verifyPlatform(t, rec.Header(), rec.Body.Bytes()); err != nil {
				t.Errorf("refusal: %v", err)
			}
		})
	}
	for _, body := range []string{"", "[]", "null", "{", "\xff", `{"appid":1} {}`, `"x"`} {
		if rec := w.do(w.signed("POST", prepayPath, body)); rec.Code != 400 {
			t.Errorf("%q: %d %s", body, rec.Code, rec.Body)
		}
	}
	fine := with(good, "time_expire", "2026-01-15T18:40:00+08:00", "attach", "room=notice", "amount", object{"total": 1},
		"scene_info", object{"payer_client_ip": "::1"}, "notify_url", "https://example.com/notify", "a_later_field", 1)
	if rec := w.prepay(fine); rec.Code != 200 {
		t.Errorf("fine: %s", rec.Body)
	}
}

func TestPrepay_authorization(t *testing.T) {
	w := newWorld(t, nil)
	body := string(toJSON(w.order("T0000001", w.openid("alice"))))
	replace := func(old, with string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
		}
	}
	for name, spoil := range map[string]func(*http.Request){
		"none":            func(r *http.Request) { r.Header.Del("Authorization") },
		"other scheme":    replace(authScheme, "WECHATPAY2-SM2-WITH-SM3"),
		"no quotes":       replace(`"`, ""),
		"missing part":    replace("nonce_str", "nonce"),
		"twice":           replace(`mchid=`, `mchid="1",mchid=`),
		"other mchid":     replace(`mchid="`, `mchid="9`),
		"other serial":    replace(`serial_no="`, `serial_no="9`),
		"other nonce":     replace(`nonce_str="`, `nonce_str="9`),
		"signature":       replace(`signature="`, `signature="AAAA`),
		"signed another":  func(r *http.Request) { r.Header = w.signed("POST", prepayPath, body+" ").Header },
		"signed GET":      func(r *http.Request) { r.Header = w.signed("GET", prepayPath, body).Header },
		"signed path":     func(r *http.Request) { r.Header = w.signed("POST", "/v3/pay/transactions/app", body).Header },
		"query unsigned":  func(r *http.Request) { r.URL.RawQuery = "a=1" },
		"clock behind":    func(r *http.Request) { w.late(r, body, -301*time.Second) },
		"clock ahead":     func(r *http.Request) { w.late(r, body, 301*time.Second) },
		"timestamp words": replace(`timestamp="`, `timestamp="x`),
	} {
		t.Run(name, func(t *testing.T) {
			r := w.signed("POST", prepayPath, body)
			spoil(r)
			rec := w.do(r)
			if got := parse(t, rec.Body.Bytes()); rec.Code != 401 || got.text("code") != "SIGN_ERROR" {
				t.Errorf("%d %v", rec.Code, got)
			}
			if rec.Header().Get("Wechatpay-Signature") != "" {
				t.Error("a 401 is signed")
			}
		})
	}
	t.Run("replayed", func(t *testing.T) {
		r := w.signed("POST", prepayPath, body)
		again := httptest.NewRequest("POST", prepayPath, strings.NewReader(body))
		again.Header = r.Header.Clone()
		if rec := w.do(r); rec.Code != 200 {
			t.Fatalf("first: %s", rec.Body)
		}
		if rec := w.do(again); rec.Code != 401 {
			t.Errorf("second: %d %s", rec.Code, rec.Body)
		}
	})
	for header, value := range map[string]string{"Content-Type": "text/plain", "Accept": "text/html", "Wechatpay-Serial": "PUB_KEY_ID_0"} {
		r := w.signed("POST", prepayPath, body)
		r.Header.Set(header, value)
		if rec := w.do(r); rec.Code != 400 {
			t.Errorf("%s %s: %d", header, value, rec.Code)
		}
	}
	if rec := w.do(w.signed("PUT", prepayPath, body)); rec.Code != 405 {
		t.Errorf("PUT: %d", rec.Code)
	}
}

// late signs with a clock that is off by d.
func (w *world) late(r *http.Request, body string, d time.Duration) {
	w.clock.move(d)
	r.Header = w.signed("POST", prepayPath, body).Header
	w.clock.move(-d)
}

func TestPrepay_sameNumber(t *testing.T) {
	w := newWorld(t, nil)
	body := w.order("T0000001", w.openid("alice"))
	id := parse(t, w.prepay(body).Body.Bytes()).text("prepay_id")
	if rec := w.prepay(with(body, "amount", object{"total": 991, "currency": "CNY"})); rec.Code != 403 || parse(t, rec.Body.Bytes()).text("code") != "OUT_TRADE_NO_USED" {
		t.Errorf("other amount: %d %s", rec.Code, rec.Body)
	}
	w.control("/sim/pay", with(w.payFields("alice", id), "confirm", true))
	if rec := w.prepay(body); rec.Code != 400 || parse(t, rec.Body.Bytes()).text("code") != "ORDERPAID" {
		t.Errorf("paid: %d %s", rec.Code, rec.Body)
	}
	short := with(w.order("T0000002", w.openid("alice")), "time_expire", "2026-01-15T11:00:00Z")
	w.prepay(short)
	w.clock.move(time.Hour)
	if rec := w.prepay(short); rec.Code != 400 {
		t.Errorf("expired: %d %s", rec.Code, rec.Body)
	}
}

func TestPay(t *testing.T) {
	w := newWorld(t, nil)
	id := w.prepaid("T0000001", "alice")
	sheet := w.control("/sim/pay", w.payFields("alice", id))
	if sheet["ok"] != true || sheet.text("description") != "小猫杯" || sheet.number("total") != 990 || sheet.text("merchant") == "" || sheet.text("outTradeNo") != "T0000001" {
		t.Errorf("sheet %v", sheet)
	}
	if got := w.control("/sim/pay", with(w.payFields("alice", id), "cancel", true)); got.text("errMsg") != "requestPayment:fail cancel" {
		t.Errorf("cancel %v", got)
	}
	paid := w.control("/sim/pay", with(w.payFields("alice", id), "confirm", true))
	if paid.text("errMsg") != "requestPayment:ok" || len(paid.text("transactionId")) != 28 {
		t.Errorf("paid %v", paid)
	}
	if got := w.control("/sim/pay", with(w.payFields("alice", id), "confirm", true)); got["ok"] != false {
		t.Errorf("paid twice: %v", got)
	}
}

func TestPay_refusals(t *testing.T) {
	w := newWorld(t, nil)
	id := w.prepaid("T0000001", "alice")
	good := w.payFields("alice", id)
	for name, body := range map[string]object{
		"number timeStamp": with(good, "timeStamp", 1768444496),
		"words timeStamp":  with(good, "timeStamp", "now"),
		"other nonce":      with(good, "nonceStr", "abc"),
		"no nonce":         with(good, "nonceStr", ""),
		"other package":    with(good, "package", "prepay_id=wx1"),
		"bare package":     with(good, "package", id),
		"sign type":        with(good, "signType", "MD5"),
		"no sign":          with(good, "paySign", ""),
		"other person":     w.payFields("bob", id),
		"unknown order":    w.payFields("alice", "wx2026"),
	} {
		t.Run(name, func(t *testing.T) {
			got := w.control("/sim/pay", with(body, "confirm", true))
			if got["ok"] != false || !strings.HasPrefix(got.text("errMsg"), "requestPayment:fail ") {
				t.Errorf("%v", got)
			}
		})
	}
	w.clock.move(prepayLife)
	if got := w.control("/sim/pay", with(good, "confirm", true)); got["ok"] != false {
		t.Errorf("expired prepay_id: %v", got)
	}
	if w.hub.count() != 0 {
		t.Error("notified without a payment")
	}
}
