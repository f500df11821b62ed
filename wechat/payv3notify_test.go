package wechat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

const paidPlain = `{"mchid":"1900000109","appid":"wx8888888888888888","out_trade_no":"20260115103456000001","transaction_id":"4200002026202601151234567890","trade_type":"JSAPI","trade_state":"SUCCESS","success_time":"2026-01-15T10:34:55+08:00","payer":{"openid":"o1"},"amount":{"total":100,"payer_total":90,"currency":"CNY"}}`

// notifyBody wraps plain as WeChat Pay does.
func notifyBody(t testing.TB, event, plain string, change ...func(envelope, resource map[string]any)) []byte {
	block, err := aes.NewCipher([]byte(testAPIv3Key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := gcm.Seal(nil, []byte("61f9c719728a"), []byte(plain), []byte("transaction"))
	resource := map[string]any{"original_type": "transaction", "algorithm": v3Algorithm, "associated_data": "transaction",
		"nonce": "61f9c719728a", "ciphertext": base64.StdEncoding.EncodeToString(sealed)}
	body := map[string]any{"id": "EV-1", "create_time": "2026-01-15T10:34:56+08:00", "resource_type": "encrypt-resource",
		"event_type": event, "summary": "支付成功", "resource": resource}
	for _, f := range change {
		f(body, resource)
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenNotify_signature(t *testing.T) {
	p := newTestPay(t, nil)
	body := notifyBody(t, eventPaid, paidPlain)
	for _, c := range []struct {
		name  string
		spoil func(h http.Header, body []byte) []byte
		want  error
	}{
		{"as it came", nil, nil},
		{"no type header", func(h http.Header, b []byte) []byte { h.Del("Wechatpay-Signature-Type"); return b }, nil},
		{"no headers", func(h http.Header, b []byte) []byte { clear(h); return b }, ErrSignature},
		{"no signature", func(h http.Header, b []byte) []byte { h.Del("Wechatpay-Signature"); return b }, ErrSignature},
		{"empty signature", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Signature", ""); return b }, ErrSignature},
		{"signature twice", func(h http.Header, b []byte) []byte {
			h.Add("Wechatpay-Signature", h.Get("Wechatpay-Signature"))
			return b
		}, ErrSignature},
		{"serial twice", func(h http.Header, b []byte) []byte { h.Add("Wechatpay-Serial", "x"); return b }, ErrSignature},
		{"no timestamp", func(h http.Header, b []byte) []byte { h.Del("Wechatpay-Timestamp"); return b }, ErrSignature},
		{"timestamp 0", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Timestamp", "0"); return b }, ErrSignature},
		{"timestamp a word", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Timestamp", "now"); return b }, ErrSignature},
		{"other timestamp", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Timestamp", strconv.Itoa(payNow+1))
			return b
		}, ErrSignature},
		{"other nonce", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Nonce", "x"); return b }, ErrSignature},
		{"other serial", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Serial", "PUB_KEY_ID_2"); return b }, ErrSignature},
		{"certificate serial", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Serial", "5157F09EFDC096DE15EBE81A47057A7232F1B8E1")
			return b
		}, ErrSignature},
		{"other type", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3")
			return b
		}, ErrSignature},
		{"body with a space", func(h http.Header, b []byte) []byte { return append(b, ' ') }, ErrSignature},
		{"other body", func(h http.Header, b []byte) []byte { return bytes.Replace(b, []byte("EV-1"), []byte("EV-2"), 1) }, ErrSignature},
		{"no body", func(h http.Header, b []byte) []byte { return nil }, ErrSignature},
		{"signature not base64", func(h http.Header, b []byte) []byte { h.Set("Wechatpay-Signature", "!"); return b }, ErrSignature},
		{"signature cut", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Signature", h.Get("Wechatpay-Signature")[4:])
			return b
		}, ErrSignature},
		{"signed by the merchant", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Signature", signAs(t, merchantKey(), payNow, b).Get("Wechatpay-Signature"))
			return b
		}, ErrSignature},
		{"probe", func(h http.Header, b []byte) []byte {
			h.Set("Wechatpay-Signature", probePrefix+h.Get("Wechatpay-Signature"))
			return b
		}, ErrProbe},
		{"too long", func(h http.Header, b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxBody)...) }, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, b := signAs(t, payKey(), payNow, body), bytes.Clone(body)
			if c.spoil != nil {
				b = c.spoil(h, b)
			}
			n, err := p.OpenNotify(h, b)
			if !errors.Is(err, c.want) || (err == nil) != (n != nil) || (err == nil) != (c.want == nil) {
				t.Error(err)
			}
			if errors.Is(err, ErrProbe) != (c.want == ErrProbe) || c.want == ErrProbe && !errors.Is(err, ErrSignature) {
				t.Errorf("probe or not: %v", err)
			}
			if err != nil {
				noSecrets(t, err, testAPIv3Key)
			}
		})
	}
	for offset, want := range map[int64]error{-300: nil, 300: nil, -301: ErrStale, 301: ErrStale, -86400: ErrStale} {
		if _, err := p.OpenNotify(signAs(t, payKey(), payNow+offset, body), body); !errors.Is(err, want) {
			t.Errorf("%d s: %v", offset, err)
		}
	}
}

func TestOpenNotify_content(t *testing.T) {
	p := newTestPay(t, nil)
	replace := func(old, new string) string {
		if !strings.Contains(paidPlain, old) {
			t.Fatal(old)
		}
		return strings.Replace(paidPlain, old, new, 1)
	}
	for _, c := range []struct {
		name, event, plain string
		change             func(envelope, resource map[string]any)
		want               error
	}{
		{"as it came", eventPaid, paidPlain, nil, nil},
		{"new fields", eventPaid, replace(`{`, `{"new":{"a":[1]},`), nil, nil},
		{"no associated data", eventPaid, paidPlain, func(e, r map[string]any) { r["associated_data"] = "" }, ErrDecrypt},
		{"other algorithm", eventPaid, paidPlain, func(e, r map[string]any) { r["algorithm"] = "AEAD_SM4_GCM" }, ErrDecrypt},
		{"no algorithm", eventPaid, paidPlain, func(e, r map[string]any) { delete(r, "algorithm") }, ErrDecrypt},
		{"nonce too short", eventPaid, paidPlain, func(e, r map[string]any) { r["nonce"] = "61f9" }, ErrDecrypt},
		{"other nonce", eventPaid, paidPlain, func(e, r map[string]any) { r["nonce"] = "61f9c719728b" }, ErrDecrypt},
		{"ciphertext not base64", eventPaid, paidPlain, func(e, r map[string]any) { r["ciphertext"] = "!" }, ErrDecrypt},
		{"ciphertext empty", eventPaid, paidPlain, func(e, r map[string]any) { r["ciphertext"] = "" }, ErrDecrypt},
		{"ciphertext short", eventPaid, paidPlain, func(e, r map[string]any) { r["ciphertext"] = "AAAA" }, ErrDecrypt},
		{"ciphertext a number", eventPaid, paidPlain, func(e, r map[string]any) { r["ciphertext"] = 1 }, ErrDecrypt},
		{"no resource", eventPaid, paidPlain, func(e, r map[string]any) { delete(e, "resource") }, ErrMalformed},
		{"resource a text", eventPaid, paidPlain, func(e, r map[string]any) { e["resource"] = "x" }, ErrMalformed},
		{"no id", eventPaid, paidPlain, func(e, r map[string]any) { delete(e, "id") }, ErrMalformed},
		{"no event", eventPaid, paidPlain, func(e, r map[string]any) { delete(e, "event_type") }, ErrMalformed},
		{"about a refund", eventPaid, paidPlain, func(e, r map[string]any) { r["original_type"] = "refund" }, ErrMalformed},
		{"not JSON", eventPaid, `x`, nil, ErrMalformed},
		{"list", eventPaid, `[]`, nil, ErrMalformed},
		{"no amount", eventPaid, replace(`"total":100,`, ``), nil, ErrMalformed},
		{"amount as text", eventPaid, replace(`"total":100`, `"total":"100"`), nil, ErrMalformed},
		{"amount a fraction", eventPaid, replace(`"total":100`, `"total":100.5`), nil, ErrMalformed},
		{"amount whole as fraction", eventPaid, replace(`"total":100`, `"total":100.0`), nil, ErrMalformed},
		{"amount with exponent", eventPaid, replace(`"total":100`, `"total":1e2`), nil, ErrMalformed},
		{"amount negative", eventPaid, replace(`"total":100`, `"total":-100`), nil, ErrMalformed},
		{"amount beyond", eventPaid, replace(`"total":100`, `"total":9223372036854775808`), nil, ErrMalformed},
		{"amount null", eventPaid, replace(`"total":100`, `"total":null`), nil, ErrMalformed},
		{"amount twice", eventPaid, replace(`"total":100`, `"total":1,"total":100`), nil, ErrMalformed},
		{"amount in other letters", eventPaid, replace(`"total":100`, `"Total":100`), nil, ErrMalformed},
		{"payer's amount as text", eventPaid, replace(`"payer_total":90`, `"payer_total":"90"`), nil, ErrMalformed},
		{"no state", eventPaid, replace(`"trade_state":"SUCCESS",`, ``), nil, ErrMalformed},
		{"unknown state", eventPaid, replace(`"trade_state":"SUCCESS"`, `"trade_state":"OK"`), nil, ErrMalformed},
		{"no order number", eventPaid, replace(`"out_trade_no":"20260115103456000001",`, ``), nil, ErrMalformed},
		{"order number a number", eventPaid, replace(`"20260115103456000001"`, `20260115103456000001`), nil, ErrMalformed},
		{"no transaction", eventPaid, replace(`"transaction_id":"4200002026202601151234567890",`, ``), nil, ErrMalformed},
		{"no appid", eventPaid, replace(`"appid":"wx8888888888888888",`, ``), nil, ErrMalformed},
		{"no mchid", eventPaid, replace(`"mchid":"1900000109",`, ``), nil, ErrMalformed},
		{"no time", eventPaid, replace(`"success_time":"2026-01-15T10:34:55+08:00",`, ``), nil, ErrMalformed},
		{"time a word", eventPaid, replace(`2026-01-15T10:34:55+08:00`, `today`), nil, ErrMalformed},
		{"other appid is for the caller", eventPaid, replace(`wx8888888888888888`, `wx1`), nil, nil},
		{"unknown event", "COUPON.USE", `{"anything":1}`, nil, nil},
		{"refund", "REFUND.SUCCESS", `{"refund_id":"1"}`, func(e, r map[string]any) { r["original_type"] = "refund" }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var change []func(envelope, resource map[string]any)
			if c.change != nil {
				change = append(change, c.change)
			}
			body := notifyBody(t, c.event, c.plain, change...)
			n, err := p.OpenNotify(signAs(t, payKey(), payNow, body), body)
			if !errors.Is(err, c.want) || (err == nil) != (n != nil) {
				t.Fatal(err)
			}
			if err != nil {
				noSecrets(t, err, testAPIv3Key)
				return
			}
			if n.EventType != c.event || string(n.Plain) != c.plain || n.ID != "EV-1" {
				t.Errorf("%+v", n)
			}
			if c.event != eventPaid && n.Payment != (Payment{}) {
				t.Errorf("%+v", n.Payment)
			}
		})
	}
	twice := []byte(strings.Replace(string(notifyBody(t, eventPaid, paidPlain)), `{`, `{"id":"EV-0",`, 1))
	if _, err := p.OpenNotify(signAs(t, payKey(), payNow, twice), twice); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestAnswersToNotify(t *testing.T) {
	p := newTestPay(t, nil)
	if status, kind, body := p.Success(); status != 200 || !strings.HasPrefix(kind, "application/json") || string(body) != `{"code":"SUCCESS","message":"成功"}` {
		t.Error(status, kind, string(body))
	}
	if kind, body := p.Failure(401, `签名 "错"`); !strings.HasPrefix(kind, "application/json") || string(body) != `{"code":"FAIL","message":"签名 \"错\""}` {
		t.Error(kind, string(body))
	}
	if _, body := p.Failure(500, ""); string(body) != `{"code":"FAIL","message":"Internal Server Error"}` {
		t.Error(string(body))
	}
}
