package sim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// whyOf is the evidence of the newest refused call.
func (w *world) whyOf() object {
	w.t.Helper()
	for _, c := range slices.Backward(w.state()["calls"].([]any)) {
		if call := object(c.(map[string]any)); call["why"] == true {
			return w.evidence(call.number("id"))
		}
	}
	w.t.Fatal("no refused call")
	return nil
}

func (w *world) evidence(id int) object {
	w.t.Helper()
	e := parse(w.t, w.request("GET", fmt.Sprint("/sim/exchange?id=", id), "").Body.Bytes())
	v, ok := e["evidence"].(map[string]any)
	if !ok {
		w.t.Fatalf("no evidence: %v", e)
	}
	return v
}

func hintsOf(v object) string { return strings.Trim(fmt.Sprint(v["hints"]), "[]") }

// signText signs exactly this text with the merchant's key.
func signText(t *testing.T, text string) string {
	t.Helper()
	signature, err := signRSA(merchant(t), text)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// Every usual mistake in signing a v3 request is named, with the text that should have been signed.
func TestEvidence_v3(t *testing.T) {
	w := newWorld(t, nil)
	const target, body = "/v3/refund/domestic/refunds?a=%E4%BD%A0", `{"reason": "<b>&"}`
	at, nonce := fmt.Sprint(w.clock.Now().Unix()), func() string { return random(letters, 32) }
	whole := func(n string, parts ...string) string {
		return lines(slices.Concat(parts[:2], []string{at, n}, parts[2:])...)
	}
	escaped, _ := json.Marshal(json.RawMessage(body))
	for hint, sign := range map[string]func(n string) string{
		"no_final_newline": func(n string) string { return strings.TrimSuffix(whole(n, "POST", target, body), "\n") },
		"full_url":         func(n string) string { return whole(n, "POST", "https://example.com"+target, body) },
		"full_url_http":    func(n string) string { return whole(n, "POST", "http://example.com"+target, body) },
		"no_query":         func(n string) string { return whole(n, "POST", "/v3/refund/domestic/refunds", body) },
		"decoded_url":      func(n string) string { return whole(n, "POST", "/v3/refund/domestic/refunds?a=你", body) },
		"lower_method":     func(n string) string { return whole(n, "post", target, body) },
		"empty_body":       func(n string) string { return whole(n, "POST", target, "") },
		"body_newline":     func(n string) string { return whole(n, "POST", target, body+"\n") },
		"body_compact":     func(n string) string { return whole(n, "POST", target, `{"reason":"<b>&"}`) },
		"body_escaped":     func(n string) string { return whole(n, "POST", target, string(escaped)) },
		"body_indented":    func(n string) string { return whole(n, "POST", target, "{\n  \"reason\": \"<b>&\"\n}") },
		"swapped":          func(n string) string { return lines("POST", target, n, at, body) },
		"joined":           func(n string) string { return "POST" + target + at + n + body },
		hintOther:          func(n string) string { return "something else" },
	} {
		t.Run(hint, func(t *testing.T) {
			n := nonce()
			r := w.signed("POST", target, body)
			signature := signText(t, sign(n))
			r.Header.Set("Authorization", fmt.Sprintf(`%s mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"`,
				authScheme, credentials().MchID, n, at, credentials().CertSerial, signature))
			if rec := w.do(r); rec.Code != 401 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			v := w.whyOf()
			if !strings.Contains(hintsOf(v), hint) || v.text("signed") != whole(n, "POST", target, body) || v.text("got") != signature || v.text("refused") != "signature" ||
				v.text("bodySha256") != bodyHash([]byte(body)) || v.text("serial") != credentials().CertSerial || v.text("key") != "merchant certificate" {
				t.Errorf("%v", v)
			}
		})
	}
	for name, c := range map[string]struct{ header, refused, hint string }{
		"not base64": {`mchid="M",nonce_str="N",timestamp="T",serial_no="S",signature="###"`, "signature", hintBase64},
		"short":      {`mchid="M",nonce_str="N",timestamp="T",serial_no="S",signature="QUFB"`, "signature", hintLength},
		"no part":    {`mchid="M"`, "authorization", ""},
		"merchant":   {`mchid="1",nonce_str="N",timestamp="T",serial_no="S",signature="QUFB"`, "mchid", hintLength},
		"serial":     {`mchid="M",nonce_str="N",timestamp="T",serial_no="1",signature="QUFB"`, "serial_no", hintLength},
	} {
		r := w.signed("POST", target, body)
		r.Header.Set("Authorization", authScheme+" "+strings.NewReplacer(`"M"`, `"`+credentials().MchID+`"`, `"N"`, `"`+nonce()+`"`, `"T"`, `"`+at+`"`, `"S"`, `"`+credentials().CertSerial+`"`).Replace(c.header))
		w.do(r)
		if v := w.whyOf(); v.text("refused") != c.refused || hintsOf(v) != c.hint && c.hint != "" {
			t.Errorf("%s: %v", name, v)
		}
	}
	w.do(sign(merchant(t), w.clock.Now().Add(-6*time.Minute), "POST", target, body))
	if v := w.whyOf(); v.text("refused") != "timestamp" || v["clockMs"] != float64(-6*60*1000) {
		t.Errorf("stale: %v", v)
	}
}

func TestEvidence_v2(t *testing.T) {
	w := newWorld(t, nil)
	key := credentials().V2Key
	f := fieldsV2{"appid": credentials().AppID, "mch_id": credentials().MchID, "nonce_str": "n", "out_trade_no": "T0000001", "attach": "a b", "device_info": "", "sign_type": signMD5}
	bare := maps.Clone(f)
	delete(bare, "sign_type")
	for hint, sign := range map[string]string{
		"lower_case":            strings.ToLower(signV2(signMD5, key, f)),
		"signed_by_HMAC-SHA256": signV2(signHMAC, key, f),
		"without_sign_type":     signV2(signMD5, key, bare),
		"url_encoded":           signV2(signMD5, key, plus(f, "attach", "a+b")),
		"with_empty_fields":     digestV2(signMD5, key, strings.Replace(textV2(f, key), "mch_id=", "device_info=&mch_id=", 1)),
		"without_key":           digestV2(signMD5, key, strings.TrimSuffix(textV2(f, ""), "&key=")),
		"empty_key":             signV2(signMD5, "", f),
		hintOther:               "0123456789ABCDEF0123456789ABCDEF",
	} {
		got := w.askV2("/pay/orderquery", signMD5, plus(f, "sign", sign))
		if got["return_code"] != "FAIL" {
			t.Fatalf("%s: %v", hint, got)
		}
		v := w.whyOf()
		if !strings.Contains(hintsOf(v), hint) || v.text("signed") != textV2(f, hiddenKey) || v.text("want") != signV2(signMD5, key, f) || strings.Contains(fmt.Sprint(v), key) {
			t.Errorf("%s: %v", hint, v)
		}
	}
}

func TestEvidence_client(t *testing.T) {
	w := newWorld(t, nil)
	id := w.prepaid("T0000001", "alice")
	fields := w.payFields("alice", id)
	at, nonce := fields.text("timeStamp"), fields.text("nonceStr")
	for hint, message := range map[string]string{
		"no_final_newline": strings.TrimSuffix(lines(credentials().AppID, at, nonce, "prepay_id="+id), "\n"),
		"package_bare":     lines(credentials().AppID, at, nonce, id),
		"swapped":          lines(credentials().AppID, nonce, at, "prepay_id="+id),
	} {
		got := w.control("/sim/pay", with(fields, "paySign", signText(t, message)))
		if v := w.whyOf(); got["ok"] != false || hintsOf(v) != hint || v.text("scheme") != "client" {
			t.Errorf("%s: %v %v", hint, got, v)
		}
	}
}

// A notify and a push show what they were signed by; so does a reply that is signed wrongly.
func TestEvidence_callbacks(t *testing.T) {
	w := newWorld(t, nil)
	w.prepaid("T0000001", "alice")
	w.control("/sim/trigger", object{"event": "pay"})
	r, body := w.hub.last()
	v := w.evidence(w.newest("notifies"))
	if v.text("signed") != lines(r.Header.Get("Wechatpay-Timestamp"), r.Header.Get("Wechatpay-Nonce"), body) || v.text("got") != r.Header.Get("Wechatpay-Signature") ||
		v.text("serial") != credentials().PublicKeyID || v.text("key") != "WeChat Pay public key" {
		t.Errorf("notify: %v", v)
	}
	w.hub.answer = func(*http.Request, string) (int, string) {
		return 200, `{"Encrypt":"` + base64.StdEncoding.EncodeToString(make([]byte, 64)) + `","MsgSignature":"x","TimeStamp":1768444496,"Nonce":"n"}`
	}
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	v = w.evidence(w.newest("pushes"))
	if v.text("scheme") != "reply" || v.text("refused") != "MsgSignature" || v.text("got") != "x" || len(v.text("want")) != 40 || !strings.Contains(v.text("signed"), hiddenKey) {
		t.Errorf("reply: %v", v)
	}
}

// newest is the number of the newest entry of a list.
func (w *world) newest(list string) int {
	w.t.Helper()
	all := w.state()[list].([]any)
	return object(all[len(all)-1].(map[string]any)).number("id")
}

func TestReplay(t *testing.T) {
	w := newWorld(t, nil)
	w.prepaid("T0000001", "alice")
	w.control("/sim/trigger", object{"event": "pay"})
	first, body := w.hub.last()
	id := w.newest("notifies")
	w.control("/sim/replay", object{"id": id})
	if again, bytes := w.hub.last(); bytes != body || again.Header.Get("Wechatpay-Nonce") != first.Header.Get("Wechatpay-Nonce") || w.hub.count() != 2 {
		t.Errorf("the same bytes: %v %q", again.Header, bytes)
	}
	w.control("/sim/replay", object{"id": id, "fresh": true})
	if again, bytes := w.hub.last(); bytes != body || again.Header.Get("Wechatpay-Nonce") == first.Header.Get("Wechatpay-Nonce") || verifyPlatform(t, again.Header, []byte(bytes)) != nil {
		t.Errorf("signed afresh: %v", again.Header)
	}
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	first, body = w.hub.last()
	id = w.newest("pushes")
	w.control("/sim/replay", object{"id": id})
	if again, bytes := w.hub.last(); bytes != body || again.URL.String() != first.URL.String() {
		t.Errorf("the same push: %s", again.URL)
	}
	w.control("/sim/replay", object{"id": id, "fresh": true})
	if again, bytes := w.hub.last(); bytes == body || w.opened(again, bytes, "safe", "json")["MsgId"] != w.opened(first, body, "safe", "json")["MsgId"] {
		t.Errorf("the push signed afresh: %s", again.URL)
	}
	for _, path := range []string{`{"id":999999}`, `{"id":1}`} {
		if rec := w.request("POST", "/sim/replay", path); rec.Code != 404 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}

func TestExchanges_bounded(t *testing.T) {
	w := newWorld(t, nil)
	w.sim.mu.Lock()
	defer w.sim.mu.Unlock()
	for range 5000 {
		w.sim.keepExchange(&Exchange{ID: w.sim.nextEntry(), Body: strings.Repeat("x", maxExchangeBody), again: &replay{request: pushRequest{body: make([]byte, 16<<10)}}})
	}
	if len(w.sim.exchanges) > 2*keep || w.sim.exchangeSize > maxExchanges || w.sim.exchange(5000) == nil || w.sim.exchange(1) != nil {
		t.Errorf("%d exchanges, %d bytes", len(w.sim.exchanges), w.sim.exchangeSize)
	}
}
