package wechat

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testAPIv3Key = "0123456789abcdef0123456789ABCDEF"
	testKeyID    = "PUB_KEY_ID_0000000000000000000000000001"
	payNow       = 1768444496
)

func payOptions(t testing.TB) PayV3Options {
	return PayV3Options{
		AppID: testAppID, MchID: "1900000109", NotifyURL: "https://hub.example/wechat/pay/notify",
		APIv3Key: testAPIv3Key, CertSerial: "5157F09EFDC096DE15EBE81A47057A7232F1B8E1",
		PrivateKeyPEM: privatePEM(t, merchantKey()), PublicKeyID: testKeyID, PublicKeyPEM: publicPEM(t, &payKey().PublicKey),
		Now: at(payNow),
	}
}

func newTestPay(t testing.TB, h http.HandlerFunc) *PayV3 {
	t.Helper()
	s := httptest.NewServer(h)
	o := payOptions(t)
	o.APIURL = s.URL
	p, err := NewPayV3(o)
	if err != nil {
		t.Fatal(err)
	}
	p.pause = 2 * time.Millisecond
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		p.http.CloseIdleConnections()
	})
	return p
}

// signAs makes the headers with which WeChat Pay would send body.
func signAs(t testing.TB, k *rsa.PrivateKey, timestamp int64, body []byte) http.Header {
	ts, nonce := strconv.FormatInt(timestamp, 10), "EcZ9Cmy4Xyx1i6RlJQzLcCyEqDa26NBz"
	sum := sha256.Sum256([]byte(ts + "\n" + nonce + "\n" + string(body) + "\n"))
	b, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return header(map[string]string{"Wechatpay-Serial": testKeyID, "Wechatpay-Timestamp": ts, "Wechatpay-Nonce": nonce,
		"Wechatpay-Signature": base64.StdEncoding.EncodeToString(b), "Wechatpay-Signature-Type": v3Auth})
}

// answerSigned answers like WeChat Pay.
func answerSigned(t testing.TB, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for k, v := range signAs(t, payKey(), payNow, []byte(body)) {
			w.Header()[k] = v
		}
		w.Header().Set("Request-Id", "08F78BB5AF0610D302189F9F-268435456")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var testOrder = PayOrder{OutTradeNo: "20260115103456000001", Description: "形象店 <公仔> & 更多", OpenID: "canary-openid", TotalFen: 100,
	ClientIP: "10.0.0.1", Attach: "room=notice", ExpiresAt: time.Unix(payNow+900, 0)}

var authorization = regexp.MustCompile(`^WECHATPAY2-SHA256-RSA2048 mchid="1900000109",nonce_str="([0-9A-Za-z]{16,32})",timestamp="(\d+)",serial_no="5157F09EFDC096DE15EBE81A47057A7232F1B8E1",signature="([^"]+)"$`)

func TestPrepay_success(t *testing.T) {
	p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
		if m == nil || m[2] != strconv.Itoa(payNow) {
			t.Errorf("%s", r.Header.Get("Authorization"))
			return
		}
		b, _ := base64.StdEncoding.DecodeString(m[3])
		sum := sha256.Sum256([]byte("POST\n/v3/pay/transactions/jsapi\n" + m[2] + "\n" + m[1] + "\n" + string(body) + "\n"))
		if err := rsa.VerifyPKCS1v15(&merchantKey().PublicKey, crypto.SHA256, sum[:], b); err != nil {
			t.Error(err)
		}
		if r.Method != "POST" || r.URL.RequestURI() != "/v3/pay/transactions/jsapi" || r.Header.Get("Wechatpay-Serial") != testKeyID ||
			r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		want := `{"appid":"wx8888888888888888","mchid":"1900000109","description":"形象店 <公仔> & 更多","out_trade_no":"20260115103456000001",` +
			`"time_expire":"2026-01-15T10:49:56+08:00","attach":"room=notice","notify_url":"https://hub.example/wechat/pay/notify",` +
			`"amount":{"total":100,"currency":"CNY"},"payer":{"openid":"canary-openid"},"scene_info":{"payer_client_ip":"10.0.0.1"}}`
		if string(body) != want {
			t.Errorf("%s", body)
		}
		answerSigned(t, 200, `{"prepay_id":"wx26112221580621e9b071c00d9e093b0000"}`)(w, r)
	})
	id, err := p.Prepay(t.Context(), testOrder)
	if err != nil || id != "wx26112221580621e9b071c00d9e093b0000" {
		t.Fatal(id, err)
	}
	c, err := p.ClientParams(id)
	if err != nil {
		t.Fatal(err)
	}
	if c.SignType != "RSA" || c.Package != "prepay_id="+id || c.TimeStamp != strconv.Itoa(payNow) || len(c.NonceStr) < 16 || len(c.NonceStr) > 32 {
		t.Errorf("%+v", c)
	}
	sum := sha256.Sum256([]byte(testAppID + "\n" + c.TimeStamp + "\n" + c.NonceStr + "\n" + c.Package + "\n"))
	b, _ := base64.StdEncoding.DecodeString(c.PaySign)
	if err := rsa.VerifyPKCS1v15(&merchantKey().PublicKey, crypto.SHA256, sum[:], b); err != nil {
		t.Error(err)
	}
	if other, _ := p.ClientParams(id); other.NonceStr == c.NonceStr {
		t.Error("the same nonce twice")
	}
	if _, err := p.ClientParams(""); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestPrepay_refused(t *testing.T) {
	refusal := func(status int, word string) http.HandlerFunc {
		return answerSigned(t, status, fmt.Sprintf(`{"code":%q,"message":"不行"}`, word))
	}
	signedWith := func(status int, body string, h http.Header) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for k, v := range h {
				w.Header()[k] = v
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const good = `{"prepay_id":"wx1"}`
	without := func(name string) http.Header {
		h := signAs(t, payKey(), payNow, []byte(good))
		h.Del(name)
		return h
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   error
	}{
		{"PARAM_ERROR", refusal(400, "PARAM_ERROR"), ErrRequest},
		{"ORDER_PAID", refusal(400, "ORDER_PAID"), ErrRequest},
		{"ORDER_CLOSED", refusal(400, "ORDER_CLOSED"), ErrRequest},
		{"APPID_MCHID_NOT_MATCH", refusal(400, "APPID_MCHID_NOT_MATCH"), ErrConfig},
		{"SIGN_ERROR", refusal(401, "SIGN_ERROR"), ErrConfig},
		{"SIGN_ERROR unsigned", say(401, `{"code":"SIGN_ERROR","message":"wrong"}`), ErrConfig},
		{"NO_AUTH", refusal(403, "NO_AUTH"), ErrConfig},
		{"NOAUTH", refusal(403, "NOAUTH"), ErrConfig},
		{"OUT_TRADE_NO_USED", refusal(403, "OUT_TRADE_NO_USED"), ErrRequest},
		{"FREQUENCY_LIMITED", refusal(429, "FREQUENCY_LIMITED"), ErrTooOften},
		{"429 without words", say(429, ``), ErrTooOften},
		{"SYSTEM_ERROR", refusal(500, "SYSTEM_ERROR"), ErrBusy},
		{"SYSTEMERROR", refusal(500, "SYSTEMERROR"), ErrBusy},
		{"OPENID_MISMATCH", refusal(500, "OPENID_MISMATCH"), ErrOpenID},
		{"502 html", say(502, `<html>`), ErrBusy},
		{"404 html", say(404, `<html>`), ErrNonsense},
		{"refusal signed by another", signedWith(400, `{"code":"PARAM_ERROR"}`, signAs(t, merchantKey(), payNow, []byte(`{"code":"PARAM_ERROR"}`))), ErrSignature},
		{"unsigned success", say(200, good), ErrSignature},
		{"html", say(200, `<html>`), ErrSignature},
		{"signed by another", signedWith(200, good, signAs(t, merchantKey(), payNow, []byte(good))), ErrSignature},
		{"other body", signedWith(200, `{"prepay_id":"wx2"}`, signAs(t, payKey(), payNow, []byte(good))), ErrSignature},
		{"no serial", signedWith(200, good, without("Wechatpay-Serial")), ErrSignature},
		{"no nonce", signedWith(200, good, without("Wechatpay-Nonce")), ErrSignature},
		{"no timestamp", signedWith(200, good, without("Wechatpay-Timestamp")), ErrSignature},
		{"5 minutes old", signedWith(200, good, signAs(t, payKey(), payNow-301, []byte(good))), ErrStale},
		{"5 minutes ahead", signedWith(200, good, signAs(t, payKey(), payNow+301, []byte(good))), ErrStale},
		{"signed, no prepay_id", answerSigned(t, 200, `{}`), ErrNonsense},
		{"signed, no JSON", answerSigned(t, 200, `ok`), ErrNonsense},
		{"huge", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10)) }, ErrNonsense},
		{"slow", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, ErrBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestPay(t, c.answer)
			if c.name == "slow" {
				p.timeout = 50 * time.Millisecond
			}
			id, err := p.Prepay(t.Context(), testOrder)
			var e *Error
			if id != "" || !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Op != "pay/prepay" {
				t.Fatal(id, err)
			}
			if word, _, _ := strings.Cut(c.name, " "); strings.Contains(word, "_") && e.Word != word {
				t.Errorf("word %q", e.Word)
			}
			noSecrets(t, err, testAPIv3Key)
		})
	}
	p := newTestPay(t, refusal(403, "OUT_TRADE_NO_USED"))
	_, err := p.Prepay(t.Context(), testOrder)
	if want := "wechat: pay/prepay: request refused (code OUT_TRADE_NO_USED, HTTP 403, 不行, request 08F78BB5AF0610D302189F9F-268435456): this order number is used already"; err == nil || err.Error() != want {
		t.Error(err)
	}
}

// A probe in an answer is no failure of the order: it is made again, once.
func TestPrepay_probe(t *testing.T) {
	for _, probes := range []int32{1, 2} {
		var calls atomic.Int32
		p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
			const good = `{"prepay_id":"wx1"}`
			if calls.Add(1) > probes {
				answerSigned(t, 200, good)(w, r)
				return
			}
			for k, v := range signAs(t, payKey(), payNow, []byte(good)) {
				w.Header()[k] = v
			}
			w.Header().Set("Wechatpay-Signature", probePrefix+"abcdefg")
			_, _ = io.WriteString(w, good)
		})
		id, err := p.Prepay(t.Context(), testOrder)
		if probes == 1 && (err != nil || id != "wx1") {
			t.Error(err)
		}
		if probes == 2 && (!errors.Is(err, ErrProbe) || !errors.Is(err, ErrSignature) || id != "") {
			t.Error(id, err)
		}
		if calls.Load() != 2 {
			t.Errorf("%d calls", calls.Load())
		}
	}
}

func TestPrepay_badOrders(t *testing.T) {
	p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, spoil := range map[string]func(*PayOrder){
		"no number":         func(o *PayOrder) { o.OutTradeNo = "" },
		"number too short":  func(o *PayOrder) { o.OutTradeNo = "12345" },
		"number too long":   func(o *PayOrder) { o.OutTradeNo = strings.Repeat("1", 33) },
		"number with dot":   func(o *PayOrder) { o.OutTradeNo = "1234567.8" },
		"no description":    func(o *PayOrder) { o.Description = "" },
		"long description":  func(o *PayOrder) { o.Description = strings.Repeat("好", 128) },
		"no openid":         func(o *PayOrder) { o.OpenID = "" },
		"nothing to pay":    func(o *PayOrder) { o.TotalFen = 0 },
		"less than nothing": func(o *PayOrder) { o.TotalFen = -1 },
		"long attach":       func(o *PayOrder) { o.Attach = strings.Repeat("a", 129) },
		"expires at once":   func(o *PayOrder) { o.ExpiresAt = time.Unix(payNow+30, 0) },
	} {
		o := testOrder
		spoil(&o)
		if _, err := p.Prepay(t.Context(), o); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrepay_callerLeaves(t *testing.T) {
	p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := p.Prepay(ctx, testOrder); !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNewPayV3_namesEachBadOption(t *testing.T) {
	_, err := NewPayV3(PayV3Options{APIURL: "x", NotifyURL: "https://a.example/n?canary=1", APIv3Key: "canary", PrivateKeyPEM: "canary", PublicKeyPEM: "canary", CertSerial: "canary", MchID: "canary"})
	for _, name := range []string{"AppID", "MchID", "APIURL", "NotifyURL", "APIv3Key", "CertSerial", "PrivateKeyPEM", "PublicKeyID", "PublicKeyPEM"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s not named: %v", name, err)
		}
	}
	noSecrets(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(merchantKey())}))
	for _, c := range []struct {
		name   string
		change func(*PayV3Options)
		want   string
	}{
		{"good", func(o *PayV3Options) {}, ""},
		{"line ends written out", func(o *PayV3Options) {
			o.PrivateKeyPEM = strings.ReplaceAll(o.PrivateKeyPEM, "\n", `\n`)
			o.PublicKeyPEM = strings.ReplaceAll(o.PublicKeyPEM, "\n", `\n`)
		}, ""},
		{"PKCS#1", func(o *PayV3Options) { o.PrivateKeyPEM = pkcs1 }, ""},
		{"keys swapped", func(o *PayV3Options) { o.PrivateKeyPEM, o.PublicKeyPEM = o.PublicKeyPEM, o.PrivateKeyPEM }, "not a private key"},
		{"certificate for public key", func(o *PayV3Options) { o.PublicKeyPEM = cert }, "pub_key.pem"},
		{"small private key", func(o *PayV3Options) { o.PrivateKeyPEM = privatePEM(t, small) }, "2048"},
		{"small public key", func(o *PayV3Options) { o.PublicKeyPEM = publicPEM(t, &small.PublicKey) }, "2048"},
		{"certificates alone", func(o *PayV3Options) { o.PublicKeyID, o.PublicKeyPEM = "", "" }, ""},
		{"public key without its id", func(o *PayV3Options) { o.PublicKeyID = "" }, "PUB_KEY_ID_"},
		{"id without its public key", func(o *PayV3Options) { o.PublicKeyPEM = "" }, "PublicKeyPEM"},
		{"31 bytes", func(o *PayV3Options) { o.APIv3Key = testAPIv3Key[1:] }, "32 bytes"},
		{"certificate serial as id", func(o *PayV3Options) { o.PublicKeyID = o.CertSerial }, "PUB_KEY_ID_"},
	} {
		o := payOptions(t)
		c.change(&o)
		_, err := NewPayV3(o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			noSecrets(t, err, testAPIv3Key, testKeyLine(t))
		}
	}
}
