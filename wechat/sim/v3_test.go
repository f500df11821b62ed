package sim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func (w *world) v3(method, target string, body object) (*httptest.ResponseRecorder, object) {
	w.t.Helper()
	text := ""
	if body != nil {
		text = string(toJSON(body))
	}
	rec := w.do(w.signed(method, target, text))
	if err := verifyPlatform(w.t, rec.Header(), rec.Body.Bytes()); err != nil && rec.Code != 401 {
		w.t.Errorf("%s %s: %v", method, target, err)
	}
	if rec.Code == http.StatusNoContent {
		return rec, nil
	}
	return rec, parse(w.t, rec.Body.Bytes())
}

func (w *world) queried(no string) object {
	w.t.Helper()
	rec, got := w.v3("GET", "/v3/pay/transactions/out-trade-no/"+no+"?mchid="+credentials().MchID, nil)
	if rec.Code != 200 {
		w.t.Fatalf("query: %d %v", rec.Code, got)
	}
	return got
}

func TestV3_queryAndClose(t *testing.T) {
	w := newWorld(t, nil)
	c := credentials()
	w.prepaid("T0000001", "alice")
	if got := w.queried("T0000001"); got.text("trade_state") != "NOTPAY" || got.text("transaction_id") != "" {
		t.Errorf("unpaid: %v", got)
	}
	closing := func(no string) int {
		rec, _ := w.v3("POST", "/v3/pay/transactions/out-trade-no/"+no+"/close", object{"mchid": c.MchID})
		return rec.Code
	}
	for range 2 {
		if code := closing("T0000001"); code != 204 {
			t.Errorf("close: %d", code)
		}
	}
	if got := w.queried("T0000001"); got.text("trade_state") != "CLOSED" {
		t.Errorf("closed: %v", got)
	}
	if rec := w.prepay(w.order("T0000001", w.openid("alice"))); parse(t, rec.Body.Bytes()).text("code") != "ORDER_CLOSED" {
		t.Errorf("again: %s", rec.Body)
	}
	if rec := w.request("POST", "/sim/trigger", `{"event":"pay","outTradeNo":"T0000001"}`); rec.Code != 409 {
		t.Errorf("paid a closed order: %s", rec.Body)
	}
	w.prepaid("T0000002", "alice")
	paid := w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "T0000002"})
	if code := closing("T0000002"); code != 400 {
		t.Errorf("close a paid order: %d", code)
	}
	if got := w.queried("T0000002"); got.text("trade_state") != "SUCCESS" || object(got["amount"].(map[string]any)).number("total") != 990 {
		t.Errorf("paid: %v", got)
	}
	if rec, got := w.v3("GET", "/v3/pay/transactions/id/"+paid.text("transactionId")+"?mchid="+c.MchID, nil); rec.Code != 200 || got.text("out_trade_no") != "T0000002" {
		t.Errorf("by id: %d %v", rec.Code, got)
	}
	for target, want := range map[string]string{
		"/v3/pay/transactions/out-trade-no/T9999999?mchid=" + c.MchID: "ORDER_NOT_EXIST",
		"/v3/pay/transactions/out-trade-no/T0000002":                  "PARAM_ERROR",
		"/v3/pay/transactions/id/1?mchid=" + c.MchID:                  "ORDER_NOT_EXIST",
		"/v3/refund/domestic/refunds/R1":                              "RESOURCE_NOT_EXISTS",
	} {
		if rec, got := w.v3("GET", target, nil); rec.Code < 400 || got.text("code") != want {
			t.Errorf("%s: %d %v", target, rec.Code, got)
		}
	}
	if code := closing("T9999999"); code != 404 {
		t.Errorf("close unknown: %d", code)
	}
	if rec := w.request("GET", "/v3/pay/transactions/out-trade-no/T0000002?mchid="+c.MchID, ""); rec.Code != 401 {
		t.Errorf("unsigned: %d", rec.Code)
	}
	short := with(w.order("T0000003", w.openid("alice")), "time_expire", "2026-01-15T11:00:00Z")
	w.prepay(short)
	w.clock.move(time.Hour)
	if got := w.queried("T0000003"); got.text("trade_state") != "CLOSED" {
		t.Errorf("expired: %v", got)
	}
}

func refundOf(no, refundNo string, fee, total int) object {
	return object{"out_trade_no": no, "out_refund_no": refundNo, "reason": "杯子碎了", "notify_url": "http://127.0.0.1:8080/wechat/pay/refund",
		"amount": object{"refund": fee, "total": total, "currency": "CNY"}}
}

// paidV3 makes an order and pays it; nothing is notified by a ladder.
func (w *world) paidV3(no string) {
	w.t.Helper()
	w.prepaid(no, "alice")
	w.control("/sim/trigger", object{"event": "pay", "outTradeNo": no})
}

func TestV3_refund(t *testing.T) {
	w := newWorld(t, fast)
	w.paidV3("T0000001")
	rec, first := w.v3("POST", refundPath, refundOf("T0000001", "R1", 300, 990))
	if rec.Code != 200 || first.text("status") != "PROCESSING" || first.text("refund_id") == "" || object(first["amount"].(map[string]any)).number("refund") != 300 {
		t.Fatalf("%d %v", rec.Code, first)
	}
	w.idle()
	r, body := w.hub.last()
	outer := parse(t, []byte(body))
	if err := verifyPlatform(t, r.Header, []byte(body)); err != nil || r.URL.Path != "/wechat/pay/refund" || outer.text("event_type") != "REFUND.SUCCESS" {
		t.Fatalf("%v %s %v", err, r.URL, outer)
	}
	res := object(outer["resource"].(map[string]any))
	in := parse(t, openResource(t, credentials().APIv3Key, res.text("nonce"), res.text("associated_data"), res.text("ciphertext")))
	if res.text("original_type") != "refund" || in.text("out_refund_no") != "R1" || in.text("refund_status") != "SUCCESS" || in.text("success_time") == "" ||
		object(in["amount"].(map[string]any)).number("refund") != 300 || in.text("mchid") != credentials().MchID {
		t.Errorf("%v", in)
	}
	if _, again := w.v3("POST", refundPath, refundOf("T0000001", "R1", 300, 990)); again.text("refund_id") != first.text("refund_id") || again.text("status") != "SUCCESS" {
		t.Errorf("same number: %v", again)
	}
	if _, got := w.v3("GET", refundPath+"/R1", nil); got.text("status") != "SUCCESS" || got.text("refund_id") != first.text("refund_id") {
		t.Errorf("query: %v", got)
	}
	if got := w.queried("T0000001"); got.text("trade_state") != "REFUND" {
		t.Errorf("order: %v", got)
	}
	w.prepaid("T0000002", "alice")
	for name, c := range map[string]struct {
		body   object
		status int
		code   string
	}{
		"other amount":     {refundOf("T0000001", "R1", 301, 990), 400, "INVALID_REQUEST"},
		"other total":      {refundOf("T0000001", "R2", 1, 991), 400, "INVALID_REQUEST"},
		"too much":         {refundOf("T0000001", "R2", 691, 990), 400, "INVALID_REQUEST"},
		"unpaid":           {refundOf("T0000002", "R2", 1, 990), 400, "INVALID_REQUEST"},
		"number elsewhere": {refundOf("T0000002", "R1", 300, 990), 400, "INVALID_REQUEST"},
		"unknown order":    {refundOf("T9999999", "R2", 1, 990), 404, "RESOURCE_NOT_EXISTS"},
		"more than all":    {refundOf("T0000001", "R2", 991, 990), 400, "PARAM_ERROR"},
		"zero":             {refundOf("T0000001", "R2", 0, 990), 400, "PARAM_ERROR"},
		"no order":         {with(refundOf("", "R2", 1, 990), "out_trade_no", nil), 400, "PARAM_ERROR"},
		"number":           {refundOf("T0000001", "退1", 1, 990), 400, "PARAM_ERROR"},
		"notify":           {with(refundOf("T0000001", "R2", 1, 990), "notify_url", "https://example.com/?a"), 400, "PARAM_ERROR"},
		"no currency":      {with(refundOf("T0000001", "R2", 1, 990), "amount", object{"refund": 1, "total": 990}), 400, "PARAM_ERROR"},
	} {
		if rec, got := w.v3("POST", refundPath, c.body); rec.Code != c.status || got.text("code") != c.code {
			t.Errorf("%s: %d %v", name, rec.Code, got)
		}
	}
	if rec, got := w.v3("POST", refundPath, refundOf("T0000001", "R3", 690, 990)); rec.Code != 200 {
		t.Errorf("the rest: %v", got)
	}
	if rec, got := w.v3("POST", refundPath, refundOf("T0000001", "R4", 1, 990)); rec.Code != 400 {
		t.Errorf("one more: %v", got)
	}
	w.idle()
	for _, r := range w.state()["refunds"].([]any) {
		if r := object(r.(map[string]any)); r.text("state") != "SUCCESS" || r.text("notified") != "taken" {
			t.Errorf("state %v", r)
		}
	}
}

func TestV3_refundLimits(t *testing.T) {
	w := newWorld(t, fast)
	w.paidV3("T0000001")
	for i := range maxRefunds + 1 {
		rec, got := w.v3("POST", refundPath, refundOf("T0000001", fmt.Sprintf("R%d", i), 1, 990))
		if (rec.Code == 200) != (i < maxRefunds) {
			t.Fatalf("part %d: %d %v", i+1, rec.Code, got)
		}
	}
	w.idle()
	// A refund that failed gives its money and its place back.
	w.control("/sim/trigger", object{"event": "refund", "outRefundNo": "R1", "status": "CLOSED"})
	if _, got := w.v3("GET", refundPath+"/R1", nil); got.text("status") != "CLOSED" {
		t.Errorf("%v", got)
	}
	if rec, got := w.v3("POST", refundPath, refundOf("T0000001", "R99", 1, 990)); rec.Code != 200 {
		t.Errorf("after a failed one: %v", got)
	}
	w.idle()
	w.clock.move(refundLife + time.Hour)
	if rec, _ := w.v3("POST", refundPath, refundOf("T0000001", "R100", 1, 990)); rec.Code != 400 {
		t.Errorf("after a year: %d", rec.Code)
	}
}
