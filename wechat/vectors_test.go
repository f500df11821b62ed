package wechat

import (
	"crypto"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

func TestVectors_login(t *testing.T) {
	t.Run("raw_data_signature", func(t *testing.T) {
		v := vector[struct {
			SessionKey string `json:"session_key"`
			RawData    string `json:"raw_data"`
			Signature  string
		}](t, "login", "raw_data_signature")
		if err := CheckRawData(v.RawData, v.Signature, v.SessionKey); err != nil {
			t.Error(err)
		}
		for name, args := range map[string][3]string{
			"other data": {v.RawData + " ", v.Signature, v.SessionKey},
			"other key":  {v.RawData, v.Signature, "AyVFkGl5F5OQWJZZaNzBBg=="},
			"cut":        {v.RawData, v.Signature[1:], v.SessionKey},
			"none":       {v.RawData, "", v.SessionKey},
			"no key":     {v.RawData, v.Signature, ""},
		} {
			if err := CheckRawData(args[0], args[1], args[2]); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("encrypted_data", func(t *testing.T) {
		v := encryptedVector(t)
		plain, err := openUserData(v.SessionKey, v.Encrypted, v.IV)
		if err != nil || string(plain) != v.Plaintext {
			t.Fatalf("%v\n%s", err, plain)
		}
		c := clientAt(v.AppID, v.Watermark+60)
		got, err := c.DecryptUserData(v.SessionKey, v.Encrypted, v.IV)
		if err != nil {
			t.Fatal(err)
		}
		want := UserData{
			OpenID: "oGZUI0egBJY1zhBYw2KhdUfwVJJE", UnionID: "ocMvos6NjeKLIBqg5Mr9QjxrP1FA", Nickname: "Band",
			Avatar: got.Avatar, At: time.Unix(v.Watermark, 0),
		}
		if got != want || got.Avatar == "" {
			t.Errorf("%#v", map[string]any{"openid": got.OpenID, "at": got.At})
		}
	})
}

type encrypted struct {
	AppID      string
	SessionKey string `json:"session_key"`
	IV         string
	Encrypted  string `json:"encrypted_data"`
	Plaintext  string
	Watermark  int64 `json:"watermark_timestamp"`
}

func encryptedVector(t testing.TB) encrypted {
	return vector[encrypted](t, "login", "encrypted_data")
}

type pushVector struct {
	Token, AppID    string
	AppIDAtTail     string `json:"appid_at_tail"`
	AESKey          string `json:"encoding_aes_key"`
	Timestamp       json.RawMessage
	Nonce, Echostr  string
	Signature       string
	MsgSignature    string `json:"msg_signature"`
	Query           map[string]string
	ToUserName      string `json:"to_user_name"`
	Encrypt         string
	Plaintext, Body string
	BodyJSON        json.RawMessage `json:"body_json"`
	Random          string          `json:"random16"`
	Concat          string          `json:"sorted_concat"`
	Expect          map[string]string
}

// receiver is one whose clock stands at the vector's timestamp.
func (v pushVector) receiver(t testing.TB, timestamp string) *Receiver {
	t.Helper()
	n, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReceiver(PushOptions{AppID: v.AppID, Token: v.Token, AESKey: v.AESKey, Now: at(n + 2)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unquote(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

func TestVectors_push(t *testing.T) {
	t.Run("url_verify", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "url_verify")
		ts := unquote(v.Timestamp)
		q := query(map[string]string{"signature": v.Signature, "timestamp": ts, "nonce": v.Nonce, "echostr": v.Echostr})
		got, err := v.receiver(t, ts).CheckURL(q)
		if err != nil || got != v.Echostr {
			t.Errorf("%q %v", got, err)
		}
	})
	t.Run("plain_mode", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "plain_mode")
		ts := unquote(v.Timestamp)
		q := query(map[string]string{"signature": v.Signature, "timestamp": ts, "nonce": v.Nonce})
		m, err := v.receiver(t, ts).Open(q, v.BodyJSON)
		if err != nil {
			t.Fatal(err)
		}
		if m.MsgType != "event" || m.Event != "debug_demo" || m.Fields["debug_str"] != "hello world" || m.CreateTime.Unix() != 1714037059 {
			t.Errorf("%+v", m)
		}
	})
	t.Run("safe_mode_json", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "safe_mode_json")
		body, _ := json.Marshal(map[string]string{"ToUserName": v.ToUserName, "Encrypt": v.Encrypt})
		m, err := v.receiver(t, v.Query["timestamp"]).Open(query(v.Query), body)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Plain) != v.Plaintext || m.Event != "debug_demo" || m.FromUserName != v.Query["openid"] {
			t.Errorf("%s", m.Plain)
		}
		s, err := newSealer(v.AESKey, v.AppID)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sealWith([16]byte([]byte(v.Random)), []byte(v.Plaintext)); got != v.Encrypt {
			t.Errorf("sealed %s", got)
		}
	})
	t.Run("safe_mode_reply_json", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "safe_mode_reply_json")
		ts := unquote(v.Timestamp)
		r := v.receiver(t, ts)
		n, _ := strconv.ParseInt(ts, 10, 64)
		encrypt := r.seal.sealWith([16]byte([]byte(v.Random)), []byte(v.Plaintext))
		if encrypt != v.Encrypt {
			t.Fatalf("sealed %s", encrypt)
		}
		body, err := r.sealedAnswer(&PushMessage{format: formatJSON, sealed: true, nonce: v.Nonce}, encrypt, n)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"Encrypt":"` + v.Encrypt + `","MsgSignature":"` + v.MsgSignature + `","TimeStamp":` + ts + `,"Nonce":"` + v.Nonce + `"}`
		if string(body) != want {
			t.Errorf("%s\nwant %s", body, want)
		}
	})
	t.Run("safe_mode_xml_third_party", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "safe_mode_xml_third_party")
		v.Query["encrypt_type"] = "aes"
		body := []byte("<xml><ToUserName><![CDATA[gh]]></ToUserName><Encrypt><![CDATA[" + v.Encrypt + "]]></Encrypt></xml>")
		v.AppID = "wxba5fad812f8e6fb9"
		if _, err := v.receiver(t, v.Query["timestamp"]).Open(query(v.Query), body); !errors.Is(err, ErrDecrypt) {
			t.Errorf("another app's push: %v", err)
		}
		v.AppID = v.AppIDAtTail
		r := v.receiver(t, v.Query["timestamp"])
		if _, err := r.seal.open(v.Encrypt); err != nil {
			t.Error(err)
		}
		// Opened it is a notice of the third-party platform, which names no sender.
		if _, err := r.Open(query(v.Query), body); err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
	})
	t.Run("encrypt_fixed_random", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "encrypt_fixed_random")
		s, err := newSealer(v.AESKey, v.AppID)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sealWith([16]byte([]byte(v.Random)), []byte(v.Plaintext)); got != v.Encrypt {
			t.Errorf("sealed %s", got)
		}
		if got, err := s.open(v.Encrypt); err != nil || string(got) != v.Plaintext {
			t.Errorf("%s %v", got, err)
		}
	})
	t.Run("decrypt_xml_text", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "decrypt_xml_text")
		ts := unquote(v.Timestamp)
		q := query(map[string]string{"timestamp": ts, "nonce": v.Nonce, "msg_signature": v.MsgSignature, "encrypt_type": "aes"})
		body := []byte("<xml><ToUserName><![CDATA[asdasdasd]]></ToUserName><Encrypt><![CDATA[" + v.Encrypt + "]]></Encrypt></xml>")
		m, err := v.receiver(t, ts).Open(q, body)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range v.Expect {
			if got := scalar(m.Fields[name]); got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
		if m.Content != "hello" || m.MsgID != "12345" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("derived_text_json", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "derived_text_json")
		m, err := v.receiver(t, v.Query["timestamp"]).Open(query(v.Query), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Plain) != v.Plaintext || m.MsgID != "7594567890123456789" || m.Content != "你好,<b>在吗</b>?" {
			t.Errorf("%+v", m)
		}
		if want := "msg:gh_0123456789ab:7594567890123456789"; m.Key() != want {
			t.Errorf("key %s", m.Key())
		}
	})
	t.Run("derived_enter_session_xml", func(t *testing.T) {
		v := vector[pushVector](t, "message_push", "derived_enter_session_xml")
		m, err := v.receiver(t, v.Query["timestamp"]).Open(query(v.Query), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Plain) != v.Plaintext || m.Event != "user_enter_tempsession" || m.SessionFrom != "goods=42" {
			t.Errorf("%+v", m)
		}
	})
}

type v3Vector struct {
	Message, Signature, Key, Nonce string
	AssociatedData                 string `json:"associated_data"`
	Ciphertext, Plaintext          string
	APIv3Key                       string `json:"api_v3_key"`
	Clock                          int64  `json:"clock_must_be_near"`
	Headers                        map[string]string
	Body                           string
	AppID                          string `json:"app_id"`
	TimeStamp                      string `json:"time_stamp"`
	NonceStr                       string `json:"nonce_str"`
	Package                        string
	PaySign                        string `json:"pay_sign"`
	Method, Timestamp              string
	URLPath                        string `json:"url_path"`
	URLPathQuery                   string `json:"url_path_and_query"`
	Prefix                         string `json:"signature_prefix"`
}

func vectorPublicKey(t testing.TB) *rsa.PublicKey {
	keys := vector[struct {
		PEM string `json:"public_key_spki_pem"`
	}](t, "pay_v3", "keys")
	k, err := rsaPublicKey(keys.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func checkSigned(t *testing.T, message, signature string) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(message))
	if err := rsa.VerifyPKCS1v15(vectorPublicKey(t), crypto.SHA256, sum[:], b); err != nil {
		t.Error(err)
	}
}

func header(m map[string]string) http.Header {
	h := http.Header{}
	for k, v := range m {
		h.Set(k, v)
	}
	return h
}

// vectorPay verifies what the vectors' key has signed.
func vectorPay(t testing.TB, v v3Vector) *PayV3 {
	seconds, err := strconv.ParseInt(v.Headers["Wechatpay-Timestamp"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	p := &PayV3{line: newLine("pay", nil, nil, nil, at(seconds+3)), key: []byte(v.APIv3Key), publicID: v.Headers["Wechatpay-Serial"]}
	p.ring.add(p.now(), ringKey{PayKey: PayKey{Serial: p.publicID}, public: vectorPublicKey(t)})
	return p
}

func TestVectors_payV3(t *testing.T) {
	t.Run("rsa_sign_source", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "rsa_sign_source")
		checkSigned(t, v.Message, v.Signature)
	})
	t.Run("derived_client_pay_sign", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_client_pay_sign")
		got := clientMessage(v.AppID, ClientParams{TimeStamp: v.TimeStamp, NonceStr: v.NonceStr, Package: v.Package})
		if got != v.Message {
			t.Errorf("%q", got)
		}
		checkSigned(t, got, v.PaySign)
	})
	t.Run("derived_request_post", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_request_post")
		got := requestMessage(v.Method, v.URLPath, v.Timestamp, v.NonceStr, []byte(v.Body))
		if got != v.Message {
			t.Errorf("%q", got)
		}
		checkSigned(t, got, v.Signature)
		// and the body is what we write for that order, byte for byte
		body, err := encode(v3Prepay{
			AppID: "wx8888888888888888", MchID: "1900000109", Description: "Image形象店-QQ公仔",
			OutTradeNo: "20260115103456000001", NotifyURL: "https://example.com/wx/pay/notify",
			Amount: v3Amount{100, "CNY"}, Payer: v3Payer{"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		})
		if err != nil || string(body) != v.Body {
			t.Errorf("%s %v", body, err)
		}
	})
	t.Run("derived_request_get", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_request_get")
		u, err := url.Parse("https://api.mch.weixin.qq.com" + v.URLPathQuery)
		if err != nil {
			t.Fatal(err)
		}
		got := requestMessage(v.Method, u.RequestURI(), v.Timestamp, v.NonceStr, nil)
		if got != v.Message {
			t.Errorf("%q", got)
		}
		checkSigned(t, got, v.Signature)
	})
	t.Run("aead", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "aead")
		got, err := openResource([]byte(v.Key), map[string]any{
			"algorithm": v3Algorithm, "nonce": v.Nonce, "associated_data": v.AssociatedData, "ciphertext": v.Ciphertext})
		if err != nil || string(got) != v.Plaintext {
			t.Errorf("%s %v", got, err)
		}
	})
	t.Run("notify_payscore", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "notify_payscore")
		n, err := vectorPay(t, v).OpenNotify(header(v.Headers), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if n.EventType != "PAYSCORE.USER_OPEN_SERVICE" || string(n.Plain) != v.Plaintext || n.Payment != (Payment{}) {
			t.Errorf("%+v", n)
		}
	})
	t.Run("derived_notify_paid", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_notify_paid")
		n, err := vectorPay(t, v).OpenNotify(header(v.Headers), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		paidAt := n.Payment.PaidAt
		want := Payment{
			AppID: "wx8888888888888888", MchID: "1900000109", OutTradeNo: "20260115103456000001",
			TransactionID: "4200002026202601151234567890", OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", State: "SUCCESS",
			TotalFen: 100, PayerFen: 90, Currency: "CNY", Attach: "room=notice", PaidAt: paidAt,
		}
		if n.Payment != want || string(n.Plain) != v.Plaintext || n.ID != "EV-2026011510345600001" {
			t.Errorf("%+v", n)
		}
		if got := paidAt.UTC().Format(time.RFC3339); got != "2026-01-15T02:34:55Z" {
			t.Errorf("paid at %s", got)
		}
	})
	t.Run("derived_notify_refund", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_notify_refund")
		n, err := vectorPay(t, v).OpenNotify(header(v.Headers), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if n.EventType != "REFUND.SUCCESS" || string(n.Plain) != v.Plaintext || n.Payment != (Payment{}) {
			t.Errorf("%+v", n)
		}
		p := vectorPay(t, v)
		p.mchID = "1900000109"
		r, err := p.OpenRefund(header(v.Headers), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if sayRefund(r.Refund) != saidRefunded || r.NeedsQuery || r.ID != "EV-2026011511000000001" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("sign_probe", func(t *testing.T) {
		v := vector[v3Vector](t, "pay_v3", "derived_notify_paid")
		probe := vector[v3Vector](t, "pay_v3", "sign_probe")
		h := header(v.Headers)
		h.Set("Wechatpay-Signature", probe.Prefix+"abc")
		_, err := vectorPay(t, v).OpenNotify(h, []byte(v.Body))
		if !errors.Is(err, ErrSignature) || !errors.Is(err, ErrProbe) {
			t.Error(err)
		}
	})
}

type v2Vector struct {
	Key       string
	Params    v2Fields
	StringA   string `json:"string_a"`
	MD5       string
	HMAC      string `json:"hmac_sha256"`
	PaySign   string `json:"pay_sign"`
	XML, Sign string
	ToSign    string `json:"string_to_sign"`
	KeyMD5    string `json:"md5_key_lower_hex"`
	Plaintext string `json:"req_info_plaintext"`
}

func TestVectors_payV2(t *testing.T) {
	t.Run("sign", func(t *testing.T) {
		v := vector[v2Vector](t, "pay_v2", "sign")
		if got := v.Params.signed(); got != v.StringA {
			t.Error(got)
		}
		for signType, want := range map[string]string{signMD5: v.MD5, signHMAC: v.HMAC} {
			s := v2Signer{v.Key, signType}
			if got := s.sign(v.Params); got != want {
				t.Errorf("%s: %s", signType, got)
			}
			if err := s.verify(v.Params.with("sign", want)); err != nil {
				t.Error(err)
			}
			if err := s.verify(v.Params.with("sign", want, "body", "tesu")); !errors.Is(err, ErrSignature) {
				t.Error(err)
			}
		}
	})
	for name, signType := range map[string]string{"jsapi_pay_sign": signMD5, "derived_jsapi_pay_sign_hmac": signHMAC} {
		t.Run(name, func(t *testing.T) {
			v := vector[v2Vector](t, "pay_v2", name)
			f := clientFields(v.Params["appId"], ClientParams{TimeStamp: v.Params["timeStamp"], NonceStr: v.Params["nonceStr"],
				Package: v.Params["package"], SignType: v.Params["signType"]})
			if got := (v2Signer{v.Key, signType}).sign(f); got != v.PaySign {
				t.Error(got)
			}
		})
	}
	for name, signType := range map[string]string{"derived_notify_md5": signMD5, "derived_notify_hmac": signHMAC} {
		t.Run(name, func(t *testing.T) {
			v := vector[v2Vector](t, "pay_v2", name)
			f, err := parseV2([]byte(v.XML), "xml")
			if err != nil {
				t.Fatal(err)
			}
			if got := f.signed() + "&key=" + v.Key; v.ToSign != "" && got != v.ToSign {
				t.Errorf("%s\nwant %s", got, v.ToSign)
			}
			p := &PayV2{signer: v2Signer{v.Key, signType}}
			n, err := p.OpenNotify(nil, []byte(v.XML))
			if err != nil {
				t.Fatal(err)
			}
			want := Payment{
				AppID: "wx8888888888888888", MchID: "1900000109", OutTradeNo: "20260115103456000001",
				TransactionID: "4200002026202601151234567890", OpenID: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", State: "SUCCESS",
				TotalFen: 100, PayerFen: 90, Currency: "CNY", Attach: "房间=notice&用户=张三", PaidAt: n.Payment.PaidAt,
			}
			if n.Payment != want || n.Payment.PaidAt.UTC().Format(time.RFC3339) != "2026-01-15T02:34:55Z" {
				t.Errorf("%+v", n.Payment)
			}
			other := &PayV2{signer: v2Signer{v.Key, map[string]string{signMD5: signHMAC, signHMAC: signMD5}[signType]}}
			if _, err := other.OpenNotify(nil, []byte(v.XML)); !errors.Is(err, ErrSignature) {
				t.Error(err)
			}
		})
	}
	t.Run("derived_refund_notify", func(t *testing.T) {
		v := vector[v2Vector](t, "pay_v2", "derived_refund_notify")
		p := &PayV2{appID: "wx8888888888888888", mchID: "1900000109", signer: v2Signer{v.Key, signMD5}}
		n, err := p.OpenRefund(nil, []byte(v.XML))
		if err != nil {
			t.Fatal(err)
		}
		if string(n.Plain) != v.Plaintext || !n.NeedsQuery || n.EventType != "REFUND.SUCCESS" {
			t.Errorf("%+v", n)
		}
		want := Refund{OutTradeNo: "20260115103456000001", TransactionID: "4200002026202601151234567890", OutRefundNo: "R20260115103456000001",
			RefundID: "50000000382026011500000000001", Status: "SUCCESS", RefundFen: 30, TotalFen: 100, Currency: "CNY", At: n.Refund.At}
		if n.Refund != want || n.Refund.At.UTC().Format(time.RFC3339) != "2026-01-15T03:00:00Z" {
			t.Errorf("%+v", n.Refund)
		}
		sum := md5.Sum([]byte(v.Key))
		if hex.EncodeToString(sum[:]) != v.KeyMD5 {
			t.Error("another key")
		}
	})
}
