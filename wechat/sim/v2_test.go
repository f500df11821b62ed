package sim

import (
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

type fieldsV2 = map[string]string

func plus(f fieldsV2, pairs ...string) fieldsV2 {
	f = maps.Clone(f)
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = pairs[i+1]
	}
	return f
}

// callV2 signs a request as a shop does and returns the raw answer.
func (w *world) callV2(path, signType string, f fieldsV2) *httptest.ResponseRecorder {
	w.t.Helper()
	c := credentials()
	f = maps.Clone(f)
	for name, value := range map[string]string{"appid": c.AppID, "mch_id": c.MchID, "nonce_str": random(letters, 32)} {
		if _, set := f[name]; !set {
			f[name] = value
		}
	}
	if _, set := f["sign_type"]; !set && signType != signMD5 {
		f["sign_type"] = signType
	}
	if _, set := f["sign"]; !set {
		f["sign"] = signV2(signType, c.V2Key, f)
	}
	body := v2Fields{}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		body = body.with(name, f[name])
	}
	return w.request("POST", path, string(body.xml("xml")))
}

// askV2 is callV2 with the answer read; what is signed must be signed well.
func (w *world) askV2(path, signType string, f fieldsV2) fieldsV2 {
	w.t.Helper()
	rec := w.callV2(path, signType, f)
	got, err := parseV2(rec.Body.Bytes())
	if err != nil || rec.Code != 200 {
		w.t.Fatalf("%s: %d %q", path, rec.Code, rec.Body)
	}
	if got["return_code"] == "SUCCESS" && got["sign"] != signV2(signType, credentials().V2Key, got) {
		w.t.Errorf("%s: answer is signed wrongly: %v", path, got)
	}
	if got["return_code"] == "FAIL" && (got["sign"] != "" || got["return_msg"] == "" || got["result_code"] != "") {
		w.t.Errorf("%s: %v", path, got)
	}
	return got
}

func (w *world) orderV2(outTradeNo, openid string) fieldsV2 {
	return fieldsV2{"body": "小猫杯", "out_trade_no": outTradeNo, "total_fee": "990", "spbill_create_ip": "127.0.0.1",
		"notify_url": "http://127.0.0.1:8080/wechat/pay/notify", "trade_type": "JSAPI", "openid": openid, "attach": "room=notice&x"}
}

func (w *world) prepaidV2(signType, outTradeNo, user string) string {
	w.t.Helper()
	got := w.askV2("/pay/unifiedorder", signType, w.orderV2(outTradeNo, w.openid(user)))
	if got["result_code"] != "SUCCESS" || got["prepay_id"] == "" || got["trade_type"] != "JSAPI" {
		w.t.Fatalf("unifiedorder: %v", got)
	}
	return got["prepay_id"]
}

func (w *world) payFieldsV2(signType, user, prepayID string) object {
	f := fieldsV2{"appId": credentials().AppID, "timeStamp": strconv.FormatInt(w.clock.Now().Unix(), 10), "nonceStr": random(letters, 32),
		"package": "prepay_id=" + prepayID, "signType": signType}
	return object{"user": user, "timeStamp": f["timeStamp"], "nonceStr": f["nonceStr"], "package": f["package"], "signType": signType,
		"paySign": signV2(signType, credentials().V2Key, f)}
}

const takenV2 = `<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>`

// idle waits until no ladder runs any more.
func (w *world) idle() {
	w.t.Helper()
	for range 60_000 {
		w.sim.mu.Lock()
		n := w.sim.ladders
		w.sim.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatal("ladders do not end")
}

func fast(o *Options) { o.TimeScale = 10_000 }

func TestV2_payment(t *testing.T) {
	for _, signType := range []string{signMD5, signHMAC} {
		t.Run(signType, func(t *testing.T) {
			w := newWorld(t, fast)
			w.hub.reply(200, takenV2)
			id := w.prepaidV2(signType, "20260115103456000001", "alice")
			if got := w.askV2("/pay/orderquery", signType, fieldsV2{"out_trade_no": "20260115103456000001"}); got["trade_state"] != "NOTPAY" || got["transaction_id"] != "" {
				t.Errorf("unpaid: %v", got)
			}
			if sheet := w.control("/sim/pay", w.payFieldsV2(signType, "alice", id)); sheet["ok"] != true || sheet.number("total") != 990 {
				t.Fatalf("sheet %v", sheet)
			}
			paid := w.control("/sim/pay", with(w.payFieldsV2(signType, "alice", id), "confirm", true))
			w.idle()
			r, body := w.hub.last()
			f, err := parseV2([]byte(body))
			if err != nil || r.Header.Get("Content-Type") != "text/xml" || r.Header.Get("Wechatpay-Signature") != "" {
				t.Fatalf("%v %q %v", err, body, r.Header)
			}
			if f["sign"] != signV2(signType, credentials().V2Key, f) || f["total_fee"] != "990" || f["transaction_id"] != paid.text("transactionId") ||
				f["attach"] != "room=notice&x" || f["time_end"] != "20260115183456" || f["openid"] != w.openid("alice") || f["result_code"] != "SUCCESS" {
				t.Errorf("notify %v", f)
			}
			for _, by := range []fieldsV2{{"out_trade_no": "20260115103456000001"}, {"transaction_id": paid.text("transactionId")}} {
				if got := w.askV2("/pay/orderquery", signType, by); got["trade_state"] != "SUCCESS" || got["transaction_id"] != paid.text("transactionId") || got["total_fee"] != "990" {
					t.Errorf("paid: %v", got)
				}
			}
			if o := object(w.state()["orders"].([]any)[0].(map[string]any)); o.text("notified") != "taken" || o.text("version") != "v2" {
				t.Errorf("state %v", o)
			}
		})
	}
}

func TestV2_clientFields(t *testing.T) {
	w := newWorld(t, nil)
	id := w.prepaidV2(signHMAC, "T0000001", "alice")
	good := w.payFieldsV2(signHMAC, "alice", id)
	for name, body := range map[string]object{
		"other algorithm than the order": w.payFieldsV2(signMD5, "alice", id),
		"signature":                      with(good, "paySign", strings.Repeat("A", 64)),
		"lower case":                     with(good, "paySign", strings.ToLower(good.text("paySign"))),
		"other nonce":                    with(good, "nonceStr", "x"),
		"RSA":                            w.payFields("alice", id),
		"unknown algorithm":              with(good, "signType", "SHA1"),
	} {
		if got := w.control("/sim/pay", with(body, "confirm", true)); got["ok"] != false {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A v2 notify is taken by its XML alone.
func TestV2_notifyAnswers(t *testing.T) {
	for answer, taken := range map[string]bool{
		takenV2: true, "<xml><return_code>SUCCESS</return_code></xml>": true,
		"": false, "success": false, `{"code":"SUCCESS"}`: false, "<xml><return_code>FAIL</return_code></xml>": false, "<xml>": false,
	} {
		w := newWorld(t, fast)
		w.hub.reply(200, answer)
		w.control("/sim/pay", with(w.payFieldsV2(signMD5, "alice", w.prepaidV2(signMD5, "T0000001", "alice")), "confirm", true))
		w.settled(1)
		n := object(w.state()["notifies"].([]any)[0].(map[string]any))
		if n["done"] != taken || (n.text("why") == "") != taken {
			t.Errorf("%q: %v", answer, n)
		}
	}
}

func TestV2_refusedCalls(t *testing.T) {
	w := newWorld(t, nil)
	good := w.orderV2("T0000001", w.openid("alice"))
	for name, f := range map[string]fieldsV2{
		"other merchant": plus(good, "mch_id", "1900000000"),
		"no merchant":    plus(good, "mch_id", ""),
		"other app":      plus(good, "appid", "wx0"),
		"official app":   plus(good, "appid", credentials().MPAppID),
		"sign":           plus(good, "sign", strings.Repeat("A", 32)),
		"no sign":        plus(good, "sign", ""),
		"sign type":      plus(good, "sign_type", "RSA"),
		"long nonce":     plus(good, "nonce_str", strings.Repeat("n", 33)),
		"no body":        plus(good, "body", ""),
		"long body":      plus(good, "body", strings.Repeat("长", 128)),
		"short number":   plus(good, "out_trade_no", "T1"),
		"amount zero":    plus(good, "total_fee", "0"),
		"amount yuan":    plus(good, "total_fee", "9.90"),
		"amount sign":    plus(good, "total_fee", "+990"),
		"currency":       plus(good, "fee_type", "USD"),
		"ip":             plus(good, "spbill_create_ip", "localhost"),
		"notify query":   plus(good, "notify_url", "https://example.com/n?a=1"),
		"notify http":    plus(good, "notify_url", "http://example.com/n"),
		"trade type":     plus(good, "trade_type", "NATIVE"),
		"no openid":      plus(good, "openid", ""),
		"long attach":    plus(good, "attach", strings.Repeat("a", 128)),
		"expire format":  plus(good, "time_expire", "2026-01-15T18:40:00+08:00"),
		"expire soon":    plus(good, "time_expire", "20260115183500"),
		"limit":          plus(good, "limit_pay", "credit"),
	} {
		if got := w.askV2("/pay/unifiedorder", signMD5, f); got["return_code"] != "FAIL" {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, body := range []string{"", "x", "<xml>", "<xml><a><b>1</b></a></xml>", "<xml><a>1</a><a>2</a></xml>", "\xff", "<!DOCTYPE x><xml></xml>", `{"appid":1}`} {
		rec := w.request("POST", "/pay/orderquery", body)
		if f, err := parseV2(rec.Body.Bytes()); err != nil || rec.Code != 200 || f["return_code"] != "FAIL" {
			t.Errorf("%q: %d %s", body, rec.Code, rec.Body)
		}
	}
	if rec := w.request("GET", "/pay/orderquery", ""); !strings.Contains(rec.Body.String(), "post") {
		t.Errorf("GET: %s", rec.Body)
	}
	if got := w.askV2("/pay/unifiedorder", signMD5, plus(good, "openid", w.sim.mp.openidOf("alice"))); got["err_code"] != "PARAM_ERROR" {
		t.Errorf("openid of the other app: %v", got)
	}
	// A field that nobody knows is signed like any other.
	if got := w.askV2("/pay/unifiedorder", signMD5, plus(good, "zz_later", "一&=")); got["result_code"] != "SUCCESS" {
		t.Errorf("unknown field: %v", got)
	}
}

func TestV2_sameNumber(t *testing.T) {
	w := newWorld(t, nil)
	body := w.orderV2("T0000001", w.openid("alice"))
	first := w.askV2("/pay/unifiedorder", signMD5, body)
	if again := w.askV2("/pay/unifiedorder", signMD5, body); again["prepay_id"] != first["prepay_id"] {
		t.Errorf("same: %v", again)
	}
	for name, f := range map[string]fieldsV2{"amount": plus(body, "total_fee", "991"), "body": plus(body, "body", "x")} {
		if got := w.askV2("/pay/unifiedorder", signMD5, f); got["err_code"] != "OUT_TRADE_NO_USED" {
			t.Errorf("other %s: %v", name, got)
		}
	}
	if rec := w.prepay(w.order("T0000001", w.openid("alice"))); rec.Code != 403 {
		t.Errorf("by v3: %d %s", rec.Code, rec.Body)
	}
	if got := w.askV2("/pay/closeorder", signMD5, fieldsV2{"out_trade_no": "T0000001"}); got["result_code"] != "SUCCESS" {
		t.Errorf("close: %v", got)
	}
	for path, f := range map[string]fieldsV2{"/pay/unifiedorder": body, "/pay/closeorder": {"out_trade_no": "T0000001"}} {
		if got := w.askV2(path, signMD5, f); got["err_code"] != "ORDERCLOSED" {
			t.Errorf("%s closed: %v", path, got)
		}
	}
	if got := w.askV2("/pay/orderquery", signMD5, fieldsV2{"out_trade_no": "T0000001"}); got["trade_state"] != "CLOSED" {
		t.Errorf("query closed: %v", got)
	}
	if got := w.control("/sim/pay", with(w.payFieldsV2(signMD5, "alice", first["prepay_id"]), "confirm", true)); got["ok"] != false {
		t.Errorf("paid a closed order: %v", got)
	}
	w.control("/sim/trigger", object{"event": "pay", "outTradeNo": w.paidV2("T0000002")})
	for path, f := range map[string]fieldsV2{"/pay/unifiedorder": w.orderV2("T0000002", w.openid("alice")), "/pay/closeorder": {"out_trade_no": "T0000002"}} {
		if got := w.askV2(path, signMD5, f); got["err_code"] != "ORDERPAID" {
			t.Errorf("%s paid: %v", path, got)
		}
	}
	for _, path := range []string{"/pay/orderquery", "/pay/closeorder"} {
		if got := w.askV2(path, signMD5, fieldsV2{"out_trade_no": "T9999999"}); got["err_code"] != "ORDERNOTEXIST" {
			t.Errorf("%s unknown: %v", path, got)
		}
	}
}

// paidV2 makes an order and pays it; nothing is notified by a ladder.
func (w *world) paidV2(no string) string {
	w.t.Helper()
	w.prepaidV2(signMD5, no, "alice")
	w.control("/sim/trigger", object{"event": "pay", "outTradeNo": no})
	return no
}

func TestV2_refund(t *testing.T) {
	w := newWorld(t, fast)
	w.hub.reply(200, takenV2)
	no := w.paidV2("T0000001")
	ask := fieldsV2{"out_trade_no": no, "out_refund_no": "R1", "total_fee": "990", "refund_fee": "300", "notify_url": "http://127.0.0.1:8080/wechat/pay/refund"}
	first := w.askV2("/secapi/pay/refund", signHMAC, ask)
	if first["result_code"] != "SUCCESS" || first["refund_id"] == "" || first["refund_fee"] != "300" || first["transaction_id"] == "" {
		t.Fatalf("%v", first)
	}
	if again := w.askV2("/secapi/pay/refund", signHMAC, ask); again["refund_id"] != first["refund_id"] {
		t.Errorf("same number: %v", again)
	}
	w.idle()
	r, body := w.hub.last()
	f, err := parseV2([]byte(body))
	if err != nil || r.URL.Path != "/wechat/pay/refund" || f["sign"] != "" {
		t.Fatalf("%v %s %v", err, r.URL, f)
	}
	in := rootFields(t, openRefundV2(t, credentials().V2Key, f["req_info"]))
	if in["out_refund_no"] != "R1" || in["refund_fee"] != "300" || in["refund_status"] != "SUCCESS" || in["refund_id"] != first["refund_id"] || in["success_time"] != "2026-01-15 18:34:56" {
		t.Errorf("req_info %v", in)
	}
	for by, value := range map[string]string{"out_refund_no": "R1", "out_trade_no": no, "refund_id": first["refund_id"], "transaction_id": first["transaction_id"]} {
		if got := w.askV2("/pay/refundquery", signMD5, fieldsV2{by: value}); got["refund_status_0"] != "SUCCESS" || got["refund_fee_0"] != "300" || got["refund_count"] != "1" || got["refund_success_time_0"] == "" {
			t.Errorf("by %s: %v", by, got)
		}
	}
	for name, c := range map[string]struct {
		f    fieldsV2
		code string
	}{
		"other amount":  {plus(ask, "refund_fee", "301"), "REFUND_FEE_MISMATCH"},
		"other total":   {plus(ask, "out_refund_no", "R2", "total_fee", "991"), "REFUND_FEE_MISMATCH"},
		"too much":      {plus(ask, "out_refund_no", "R2", "refund_fee", "691"), "ERROR"},
		"unknown order": {plus(ask, "out_refund_no", "R2", "out_trade_no", "T9999999"), "ORDERNOTEXIST"},
		"more than all": {plus(ask, "out_refund_no", "R2", "refund_fee", "991"), ""},
		"zero":          {plus(ask, "out_refund_no", "R2", "refund_fee", "0"), ""},
		"bad number":    {plus(ask, "out_refund_no", "R 2"), ""},
		"no order":      {plus(ask, "out_trade_no", ""), ""},
	} {
		if got := w.askV2("/secapi/pay/refund", signMD5, c.f); got["err_code"] != c.code || got["result_code"] == "SUCCESS" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := w.askV2("/pay/refundquery", signMD5, fieldsV2{"out_refund_no": "R9"}); got["err_code"] != "REFUNDNOTEXIST" {
		t.Errorf("unknown refund: %v", got)
	}
	if got := w.askV2("/pay/orderquery", signMD5, fieldsV2{"out_trade_no": no}); got["trade_state"] != "REFUND" {
		t.Errorf("order: %v", got)
	}
}

func TestV2_forgedNotifies(t *testing.T) {
	w := newWorld(t, fast)
	key := credentials().V2Key
	w.prepaidV2(signHMAC, "T0000001", "alice")
	for _, forge := range []string{"signature", "body", "no-sign"} {
		w.control("/sim/trigger", object{"event": "pay", "forge": forge})
		_, body := w.hub.last()
		if f, err := parseV2([]byte(body)); err != nil || f["sign"] == signV2(signHMAC, key, f) || (f["sign"] == "") != (forge == "no-sign") {
			t.Errorf("%s: %v %v", forge, f, err)
		}
	}
	w.control("/sim/trigger", object{"event": "pay", "amount": 1})
	if _, body := w.hub.last(); !strings.Contains(body, "<total_fee>1</total_fee>") {
		t.Errorf("amount: %s", body)
	}
	for _, body := range []string{`{"event":"pay","forge":"serial"}`, `{"event":"pay","probe":true}`, `{"event":"pay","skew":"1m"}`} {
		if rec := w.request("POST", "/sim/trigger", body); rec.Code != 400 {
			t.Errorf("%s: %d", body, rec.Code)
		}
	}
	w.hub.reply(200, takenV2)
	w.paidV2("T0000002")
	w.askV2("/secapi/pay/refund", signMD5, fieldsV2{"out_trade_no": "T0000002", "out_refund_no": "R1", "total_fee": "990", "refund_fee": "990"})
	w.idle()
	for _, forge := range []string{"signature", "body", "no-sign", ""} {
		w.control("/sim/trigger", object{"event": "refund", "url": "http://127.0.0.1:8080/refund", "forge": forge})
		_, body := w.hub.last()
		f, err := parseV2([]byte(body))
		if err != nil || (f["req_info"] == "") != (forge == "no-sign") {
			t.Fatalf("%s: %v %v", forge, f, err)
		}
		if forge != "no-sign" {
			plain := openRefundV2(t, key, f["req_info"])
			if good := strings.HasPrefix(string(plain), "<root><out_refund_no>"); good != (forge == "") {
				t.Errorf("%s: %q", forge, plain)
			}
		}
	}
}

func TestV2_answerSpoiled(t *testing.T) {
	w := newWorld(t, nil)
	w.prepaidV2(signMD5, "T0000001", "alice")
	for _, sign := range []string{"wrong", "none"} {
		w.control("/sim/fault", object{"sign": sign})
		f, err := parseV2(w.callV2("/pay/orderquery", signMD5, fieldsV2{"out_trade_no": "T0000001"}).Body.Bytes())
		if err != nil || f["sign"] == signV2(signMD5, credentials().V2Key, f) || (f["sign"] == "") != (sign == "none") {
			t.Errorf("%s: %v", sign, f)
		}
	}
	silent := newWorld(t, func(o *Options) { o.V2Key = "" })
	if got := silent.askV2("/pay/orderquery", signMD5, fieldsV2{"out_trade_no": "T0000001"}); got["return_code"] != "FAIL" {
		t.Errorf("without a key: %v", got)
	}
}

const refundPath = "/v3/refund/domestic/refunds"
