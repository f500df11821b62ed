package sim

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// vector reads one published test vector as text fields; one that is a text alone has the field "text".
func vector(t *testing.T, group, name string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	var of map[string]json.RawMessage
	if err := json.Unmarshal(all[group], &of); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(string(of[name]), `"`) {
		of[name] = []byte(`{"text":` + string(of[name]) + "}")
	}
	dec := json.NewDecoder(strings.NewReader(string(of[name])))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s.%s: %v", group, name, err)
	}
	return v
}

func at(v map[string]any, path ...string) string {
	for _, p := range path[:len(path)-1] {
		v = v[p].(map[string]any)
	}
	switch x := v[path[len(path)-1]].(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	}
	return ""
}

func TestVectors_login(t *testing.T) {
	v := vector(t, "login", "raw_data_signature")
	if got := loginSignature(at(v, "raw_data"), at(v, "session_key")); got != at(v, "signature") {
		t.Errorf("rawData signature %s", got)
	}
	v = vector(t, "login", "encrypted_data")
	if got := openUserData(t, at(v, "session_key"), at(v, "iv"), at(v, "encrypted_data")); string(got) != at(v, "plaintext") {
		t.Errorf("opened %s", got)
	}
	if got, err := sealUserData(at(v, "session_key"), at(v, "iv"), []byte(at(v, "plaintext"))); err != nil || got != at(v, "encrypted_data") {
		t.Errorf("sealed %s, %v", got, err)
	}
}

func TestVectors_pushSignature(t *testing.T) {
	for _, name := range []string{"url_verify", "plain_mode"} {
		v := vector(t, "message_push", name)
		if got := pushSignature(at(v, "token"), at(v, "timestamp"), at(v, "nonce")); got != at(v, "signature") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestVectors_pushSealed(t *testing.T) {
	for name, appID := range map[string]string{
		"safe_mode_json": "appid", "safe_mode_xml_third_party": "appid_at_tail",
		"derived_text_json": "appid", "derived_enter_session_xml": "appid",
	} {
		t.Run(name, func(t *testing.T) {
			v := vector(t, "message_push", name)
			sealed := at(v, "encrypt")
			if sealed == "" {
				f, err := flatten([]byte(at(v, "body")), formatJSON)
				if err != nil {
					t.Fatal(err)
				}
				sealed = f["Encrypt"]
			}
			ts, nonce := at(v, "query", "timestamp"), at(v, "query", "nonce")
			if got := pushSignature(at(v, "token"), ts, nonce); got != at(v, "query", "signature") {
				t.Errorf("signature %s", got)
			}
			if got := pushSignature(at(v, "token"), ts, nonce, sealed); got != at(v, "query", "msg_signature") {
				t.Errorf("msg_signature %s", got)
			}
			sealAgain(t, at(v, "encoding_aes_key"), at(v, appID), at(v, "random16"), sealed, at(v, "plaintext"))
		})
	}
}

func TestVectors_pushReply(t *testing.T) {
	v := vector(t, "message_push", "safe_mode_reply_json")
	if got := pushSignature(at(v, "token"), at(v, "timestamp"), at(v, "nonce"), at(v, "encrypt")); got != at(v, "msg_signature") {
		t.Errorf("MsgSignature %s", got)
	}
	sealAgain(t, at(v, "encoding_aes_key"), at(v, "appid"), at(v, "random16"), at(v, "encrypt"), at(v, "plaintext"))

	v = vector(t, "message_push", "encrypt_fixed_random")
	sealAgain(t, at(v, "encoding_aes_key"), at(v, "appid"), at(v, "random16"), at(v, "encrypt"), at(v, "plaintext"))

	v = vector(t, "message_push", "decrypt_xml_text")
	box, err := newPushBox(at(v, "encoding_aes_key"), at(v, "appid"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := box.open(at(v, "encrypt"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := flattenXML(plain)
	if err != nil {
		t.Fatal(err)
	}
	for name := range v["expect"].(map[string]any) {
		if f[name] != at(v, "expect", name) {
			t.Errorf("%s = %q", name, f[name])
		}
	}
}

// sealAgain opens a published seal, and seals its content to the same text. An empty plain is not compared.
func sealAgain(t *testing.T, key, appID, random16, sealed, plain string) {
	t.Helper()
	box, err := newPushBox(key, appID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := box.open(sealed)
	if err != nil || (plain != "" && string(got) != plain) {
		t.Fatalf("opened %q, %v", got, err)
	}
	if again := box.seal(random16, got); again != sealed {
		t.Errorf("sealed %s", again)
	}
	other, err := newPushBox(key, "wx0000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.open(sealed); err == nil {
		t.Error("opened for another appid")
	}
}

func TestVectors_payV3(t *testing.T) {
	keys := vector(t, "pay_v3", "keys")
	for _, half := range []string{"public_key_spki_pem", "certificate_pem"} {
		key, err := publicKey(at(keys, half))
		if err != nil {
			t.Fatal(err)
		}
		v := vector(t, "pay_v3", "rsa_sign_source")
		if err := verifyRSA(key, at(v, "message"), at(v, "signature")); err != nil {
			t.Errorf("source: %v", err)
		}
		if err := verifyRSA(key, at(v, "message")+"x", at(v, "signature")); err == nil {
			t.Error("another message verifies")
		}
		v = vector(t, "pay_v3", "derived_client_pay_sign")
		message := lines(at(v, "app_id"), at(v, "time_stamp"), at(v, "nonce_str"), at(v, "package"))
		if message != at(v, "message") || verifyRSA(key, message, at(v, "pay_sign")) != nil {
			t.Errorf("paySign over %q", message)
		}
		for name, path := range map[string]string{"derived_request_post": "url_path", "derived_request_get": "url_path_and_query"} {
			v := vector(t, "pay_v3", name)
			message := lines(at(v, "method"), at(v, path), at(v, "timestamp"), at(v, "nonce_str"), at(v, "body"))
			if message != at(v, "message") || verifyRSA(key, message, at(v, "signature")) != nil {
				t.Errorf("%s over %q", name, message)
			}
		}
		for _, name := range []string{"notify_payscore", "derived_notify_paid", "derived_notify_refund"} {
			v := vector(t, "pay_v3", name)
			if err := verifyRSA(key, lines(at(v, "headers", "Wechatpay-Timestamp"), at(v, "headers", "Wechatpay-Nonce"), at(v, "body")), at(v, "headers", "Wechatpay-Signature")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestVectors_resource(t *testing.T) {
	v := vector(t, "pay_v3", "aead")
	if got, err := sealResource(at(v, "key"), at(v, "nonce"), at(v, "associated_data"), []byte(at(v, "plaintext"))); err != nil || got != at(v, "ciphertext") {
		t.Errorf("%s, %v", got, err)
	}
	for _, name := range []string{"notify_payscore", "derived_notify_paid", "derived_notify_refund"} {
		v := vector(t, "pay_v3", name)
		var body struct {
			Resource struct {
				Ciphertext     string `json:"ciphertext"`
				Nonce          string `json:"nonce"`
				AssociatedData string `json:"associated_data"`
			} `json:"resource"`
		}
		if err := json.Unmarshal([]byte(at(v, "body")), &body); err != nil {
			t.Fatal(err)
		}
		r := body.Resource
		if got, err := sealResource(at(v, "api_v3_key"), r.Nonce, r.AssociatedData, []byte(at(v, "plaintext"))); err != nil || got != r.Ciphertext {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	// The plaintext of our own notifies has the fields of the published one.
	var theirs, ours map[string]any
	if err := json.Unmarshal([]byte(at(vector(t, "pay_v3", "derived_notify_paid"), "plaintext")), &theirs); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	w.sim.mu.Lock()
	tx := w.sim.transactionOf(&order{})
	w.sim.mu.Unlock()
	if err := json.Unmarshal(toJSON(tx), &ours); err != nil {
		t.Fatal(err)
	}
	for name := range theirs {
		if _, ok := ours[name]; !ok {
			t.Errorf("notify lacks %s", name)
		}
	}
}

func texts(v map[string]any, path ...string) map[string]string {
	for _, p := range path {
		v = v[p].(map[string]any)
	}
	m := map[string]string{}
	for name := range v {
		m[name] = at(v, name)
	}
	return m
}

func TestVectors_payV2(t *testing.T) {
	v := vector(t, "pay_v2", "sign")
	for signType, name := range map[string]string{signMD5: "md5", signHMAC: "hmac_sha256"} {
		if got := signV2(signType, at(v, "key"), texts(v, "params")); got != at(v, name) {
			t.Errorf("%s %s", signType, got)
		}
	}
	for _, name := range []string{"jsapi_pay_sign", "derived_jsapi_pay_sign_hmac"} {
		v := vector(t, "pay_v2", name)
		if got := signV2(at(v, "params", "signType"), at(v, "key"), texts(v, "params")); got != at(v, "pay_sign") {
			t.Errorf("%s %s", name, got)
		}
	}
	for signType, name := range map[string]string{signMD5: "derived_notify_md5", signHMAC: "derived_notify_hmac"} {
		v := vector(t, "pay_v2", name)
		f, err := parseV2([]byte(at(v, "xml")))
		if err != nil {
			t.Fatal(err)
		}
		if got := signV2(signType, at(v, "key"), f); got != at(v, "sign") || f["sign"] != got {
			t.Errorf("%s %s", name, got)
		}
		// Our own notifies have the fields of the published one, coupons and the invented field aside.
		w := newWorld(t, nil)
		w.sim.mu.Lock()
		tx := w.sim.transactionOf(&order{prepayParams: prepayParams{signType: signType}})
		w.sim.mu.Unlock()
		ours, err := parseV2(w.sim.notifyV2(tx, notifyForm{}))
		if err != nil {
			t.Fatal(err)
		}
		for field := range f {
			if _, ok := ours[field]; !ok && !strings.HasPrefix(field, "coupon_") && field != "x_future_field" {
				t.Errorf("%s lacks %s", name, field)
			}
		}
	}
}

func TestVectors_replyV2(t *testing.T) {
	body := []byte(at(vector(t, "pay_v2", "success_reply_xml"), "text"))
	if !(notice{v2: true}).taken(Answer{Status: 200}, body) {
		t.Errorf("%s is not taken", body)
	}
}

func TestVectors_refundV2(t *testing.T) {
	v := vector(t, "pay_v2", "derived_refund_notify")
	f, err := parseV2([]byte(at(v, "xml")))
	if err != nil {
		t.Fatal(err)
	}
	if got := sealRefundV2(at(v, "key"), []byte(at(v, "req_info_plaintext"))); got != f["req_info"] {
		t.Errorf("sealed %s", got)
	}
	plain := openRefundV2(t, at(v, "key"), f["req_info"])
	if string(plain) != at(v, "req_info_plaintext") {
		t.Errorf("opened %s", plain)
	}
	w := newWorld(t, nil)
	ours, err := parseV2(w.sim.refundNotifyV2(refundView{Status: refundSuccess}, notifyForm{}))
	if err != nil {
		t.Fatal(err)
	}
	for field := range f {
		if _, ok := ours[field]; !ok {
			t.Errorf("notify lacks %s", field)
		}
	}
	for field := range rootFields(t, plain) {
		if _, ok := rootFields(t, openRefundV2(t, credentials().V2Key, ours["req_info"]))[field]; !ok {
			t.Errorf("req_info lacks %s", field)
		}
	}
}

// openRefundV2 is the merchant's side of sealRefundV2.
func openRefundV2(t *testing.T, key, sealed string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(raw) == 0 || len(raw)%16 != 0 {
		t.Fatalf("req_info %q", sealed)
	}
	block := refundCipher(key)
	for i := 0; i < len(raw); i += 16 {
		block.Decrypt(raw[i:], raw[i:])
	}
	n := int(raw[len(raw)-1])
	if n < 1 || n > 16 {
		return nil // another key
	}
	return raw[:len(raw)-n]
}

func rootFields(t *testing.T, plain []byte) map[string]string {
	t.Helper()
	text := strings.TrimSuffix(strings.TrimPrefix(string(plain), "<root>"), "</root>")
	f, err := parseV2([]byte("<xml>" + text + "</xml>"))
	if err != nil {
		t.Fatalf("req_info %q: %v", plain, err)
	}
	return f
}
