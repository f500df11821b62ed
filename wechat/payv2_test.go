package wechat

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const testV2Key = "192006250b4c09247ec02edce69f6a2d"

func payV2Options() PayV2Options {
	return PayV2Options{
		AppID: testAppID, MchID: "1900000109", NotifyURL: "https://hub.example/wechat/pay/notify",
		Key: testV2Key, Now: at(payNow),
	}
}

func newTestPayV2(t testing.TB, h http.HandlerFunc, change ...func(*PayV2Options)) *PayV2 {
	t.Helper()
	s := httptest.NewServer(h)
	o := payV2Options()
	o.APIURL = s.URL
	for _, f := range change {
		f(&o)
	}
	p, err := NewPayV2(o)
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

func hmacMode(o *PayV2Options) { o.SignType = signHMAC }

// v2Answer writes fields as WeChat Pay does, signed with s.
func v2Answer(s v2Signer, f v2Fields) string {
	own := maps.Clone(f)
	own["sign"] = s.sign(own)
	return rawV2(own)
}

// rawV2 writes fields as they are, empty ones too, and numbers without CDATA.
func rawV2(f v2Fields) string {
	var b strings.Builder
	b.WriteString("<xml>")
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if digits.MatchString(f[name]) {
			b.WriteString("<" + name + ">" + f[name] + "</" + name + ">\n")
		} else {
			b.WriteString("<" + name + ">" + cdata(f[name]) + "</" + name + ">\n")
		}
	}
	return b.String() + "</xml>"
}

// with is f with more fields, or other values; "-" takes one away.
func (f v2Fields) with(pairs ...string) v2Fields {
	own := maps.Clone(f)
	for i := 0; i < len(pairs); i += 2 {
		if own[pairs[i]] = pairs[i+1]; pairs[i+1] == "-" {
			delete(own, pairs[i])
		}
	}
	return own
}

var (
	v2Good     = v2Fields{"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS", "appid": testAppID, "mch_id": "1900000109", "nonce_str": "n1", "device_info": ""}
	v2Prepaid  = v2Good.with("prepay_id", "wx26112221580621e9b071c00d9e093b0000", "trade_type", "JSAPI")
	v2Paid     = v2Good.with("out_trade_no", testNo, "transaction_id", "4200002026202601151234567890", "openid", "o1", "trade_state", "SUCCESS", "total_fee", "100", "cash_fee", "90", "time_end", "20260115103455", "new_field", "new")
	v2Unpaid   = v2Good.with("out_trade_no", testNo, "trade_state", "NOTPAY", "trade_state_desc", "订单未支付")
	v2Refund   = v2Good.with("out_trade_no", testNo, "transaction_id", "4200002026202601151234567890", "out_refund_no", testRefundNo, "refund_id", "50000000382026011500000000001", "refund_fee", "30", "total_fee", "100", "cash_fee", "90")
	v2Refunded = v2Good.with("out_trade_no", testNo, "transaction_id", "4200002026202601151234567890", "total_fee", "100", "refund_count", "2",
		"out_refund_no_0", "R1", "refund_id_0", "1", "refund_fee_0", "1", "refund_status_0", "CHANGE",
		"out_refund_no_1", testRefundNo, "refund_id_1", "50000000382026011500000000001", "refund_fee_1", "30", "refund_status_1", "SUCCESS", "refund_success_time_1", "2026-01-15 11:00:00")
)

func TestPayV2_calls(t *testing.T) {
	for _, c := range []struct {
		name, op, path string
		sent           v2Fields // beside what every request has
		answer         v2Fields
		want           string
	}{
		{"prepay", opPrepay, "/pay/unifiedorder", v2Fields{
			"body": "形象店 <公仔> & 更多", "out_trade_no": testNo, "total_fee": "100", "spbill_create_ip": "10.0.0.1", "openid": "canary-openid",
			"notify_url": "https://hub.example/wechat/pay/notify", "trade_type": "JSAPI", "attach": "room=notice", "time_expire": "20260115104956",
		}, v2Prepaid, "wx26112221580621e9b071c00d9e093b0000"},
		{"paid", opQuery, "/pay/orderquery", v2Fields{"out_trade_no": testNo}, v2Paid, saidPaid},
		{"not paid", opQuery, "/pay/orderquery", v2Fields{"out_trade_no": testNo}, v2Unpaid,
			"wx8888888888888888 1900000109 20260115103456000001   NOTPAY 0 0 CNY 0"},
		{"close", opClose, "/pay/closeorder", v2Fields{"out_trade_no": testNo}, v2Good, ""},
		{"refund", opRefund, "/secapi/pay/refund", v2Fields{
			"out_trade_no": testNo, "out_refund_no": testRefundNo, "refund_desc": "缺货 <1>", "total_fee": "100", "refund_fee": "30",
			"notify_url": "https://hub.example/wechat/pay/refund",
		}, v2Refund, saidRefund},
		{"refund asked for", opQueryRefund, "/pay/refundquery", v2Fields{"out_refund_no": testRefundNo}, v2Refunded, saidRefunded},
		{"refund closed", opQueryRefund, "/pay/refundquery", v2Fields{"out_refund_no": testRefundNo},
			v2Refunded.with("refund_status_1", "REFUNDCLOSE", "refund_success_time_1", ""),
			"20260115103456000001 4200002026202601151234567890 R20260115103456000001 50000000382026011500000000001 CLOSED 30 of 100 CNY 0"},
	} {
		for _, signType := range []string{signMD5, signHMAC} {
			t.Run(c.name+" "+signType, func(t *testing.T) {
				s := v2Signer{testV2Key, signType}
				p := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					got, err := parseV2(body, "xml")
					if err != nil || r.Method != "POST" || r.URL.RequestURI() != c.path {
						t.Errorf("%s %s %v", r.Method, r.URL, err)
						return
					}
					if err := s.verify(got); err != nil || len(got["nonce_str"]) < 16 || len(got["nonce_str"]) > 32 || got["sign_type"] != signType {
						t.Errorf("%v %s", err, body)
					}
					want := c.sent.with("appid", testAppID, "mch_id", "1900000109", "nonce_str", got["nonce_str"], "sign_type", signType, "sign", got["sign"])
					if !maps.Equal(got, want) {
						t.Errorf("%v\nwant %v", got, want)
					}
					_, _ = io.WriteString(w, v2Answer(s, c.answer))
				}, func(o *PayV2Options) { o.SignType = signType })
				for _, call := range payCalls {
					if call.op != c.op {
						continue
					}
					if got, err := call.call(t.Context(), p); err != nil || got != c.want {
						t.Errorf("%q %v", got, err)
					}
				}
			})
		}
	}
}

func TestPayV2_refused(t *testing.T) {
	s := v2Signer{testV2Key, signMD5}
	fails := func(code string) http.HandlerFunc {
		return say(200, v2Answer(s, v2Good.with("result_code", "FAIL", "err_code", code, "err_code_des", "不行")))
	}
	unsigned := func(msg string, more ...string) http.HandlerFunc {
		return say(200, rawV2(v2Fields{"return_code": "FAIL", "return_msg": msg}.with(more...)))
	}
	type bad struct {
		name   string
		answer http.HandlerFunc
		kind   error
		fact   error
	}
	const doctype = `<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]>`
	everywhere := []bad{
		{"SYSTEMERROR", fails("SYSTEMERROR"), ErrBusy, nil},
		{"BIZERR_NEED_RETRY", fails("BIZERR_NEED_RETRY"), ErrBusy, nil},
		{"SIGNERROR", fails("SIGNERROR"), ErrConfig, nil},
		{"XML_FORMAT_ERROR", fails("XML_FORMAT_ERROR"), ErrRequest, nil},
		{"LACK_PARAMS", fails("LACK_PARAMS"), ErrRequest, nil},
		{"PARAM_ERROR", fails("PARAM_ERROR"), ErrRequest, nil},
		{"NOT_UTF8", fails("NOT_UTF8"), ErrRequest, nil},
		{"POST_DATA_EMPTY", fails("POST_DATA_EMPTY"), ErrRequest, nil},
		{"REQUIRE_POST_METHOD", fails("REQUIRE_POST_METHOD"), ErrRequest, nil},
		{"APPID_NOT_EXIST", fails("APPID_NOT_EXIST"), ErrConfig, nil},
		{"MCHID_NOT_EXIST", fails("MCHID_NOT_EXIST"), ErrConfig, nil},
		{"APPID_MCHID_NOT_MATCH", fails("APPID_MCHID_NOT_MATCH"), ErrConfig, nil},
		{"NOAUTH", fails("NOAUTH"), ErrConfig, nil},
		{"INVALID_REQ_TOO_MUCH", fails("INVALID_REQ_TOO_MUCH"), ErrTooOften, nil},
		{"FREQUENCY_LIMITED", fails("FREQUENCY_LIMITED"), ErrTooOften, nil},
		{"unsigned FAIL: sign", unsigned("签名错误"), ErrConfig, nil},
		{"unsigned FAIL: appid", unsigned("appid不存在"), ErrConfig, nil},
		{"unsigned FAIL: merchant", unsigned("商户号mch_id与appid不匹配"), ErrConfig, nil},
		{"unsigned FAIL: busy", unsigned("系统繁忙,请稍后再试"), ErrBusy, nil},
		{"unsigned FAIL: other", unsigned("参数格式校验错误"), ErrRequest, nil},
		{"unsigned FAIL that speaks of the order", unsigned("x", "result_code", "FAIL", "err_code", "ORDERPAID"), ErrRequest, nil},
		{"unsigned FAIL that looks like success", unsigned("x", "result_code", "SUCCESS", "prepay_id", "wx1", "trade_state", "SUCCESS"), ErrRequest, nil},
		{"unsigned success", say(200, rawV2(v2Paid.with("prepay_id", "wx1"))), ErrSignature, nil},
		{"unsigned refusal", say(200, rawV2(v2Good.with("result_code", "FAIL", "err_code", "ORDERPAID"))), ErrSignature, nil},
		{"signed with another key", say(200, v2Answer(v2Signer{strings.Repeat("k", 32), signMD5}, v2Paid.with("prepay_id", "wx1"))), ErrSignature, nil},
		{"signed the other way", say(200, v2Answer(v2Signer{testV2Key, signHMAC}, v2Paid.with("prepay_id", "wx1"))), ErrSignature, nil},
		{"said to be signed the other way", say(200, v2Answer(s, v2Paid.with("sign_type", signHMAC))), ErrSignature, nil},
		{"changed behind the signature", say(200, strings.Replace(v2Answer(s, v2Paid), "<nonce_str><![CDATA[n1", "<nonce_str><![CDATA[n2", 1)), ErrSignature, nil},
		{"one more field than was signed", say(200, strings.Replace(v2Answer(s, v2Paid), "<xml>", "<xml><prepay_id>wx1</prepay_id>", 1)), ErrSignature, nil},
		{"another app", say(200, v2Answer(s, v2Paid.with("appid", "wx1", "prepay_id", "wx1"))), ErrNonsense, nil},
		{"another merchant", say(200, v2Answer(s, v2Paid.with("mch_id", "1", "prepay_id", "wx1"))), ErrNonsense, nil},
		{"no return_code", say(200, v2Answer(s, v2Paid.with("return_code", "-"))), ErrNonsense, nil},
		{"no result_code", say(200, v2Answer(s, v2Paid.with("result_code", "-"))), ErrNonsense, nil},
		{"document type", say(200, doctype+v2Answer(s, v2Paid)), ErrNonsense, nil},
		{"entity", say(200, strings.Replace(v2Answer(s, v2Paid), "<![CDATA[n1]]>", "&a;", 1)), ErrNonsense, nil},
		{"field twice", say(200, strings.Replace(v2Answer(s, v2Paid), "<xml>", "<xml><result_code>SUCCESS</result_code>", 1)), ErrNonsense, nil},
		{"field with fields", say(200, strings.Replace(v2Answer(s, v2Paid), "<xml>", "<xml><a><b>1</b></a>", 1)), ErrNonsense, nil},
		{"another root", say(200, strings.ReplaceAll(v2Answer(s, v2Paid), "xml>", "root>")), ErrNonsense, nil},
		{"html", say(200, `<html><body>login</body></html>`), ErrNonsense, nil},
		{"JSON", say(200, `{"return_code":"SUCCESS"}`), ErrNonsense, nil},
		{"empty", say(200, ``), ErrNonsense, nil},
		{"cut", say(200, v2Answer(s, v2Paid)[:40]), ErrNonsense, nil},
		{"500", say(500, `<html>`), ErrBusy, nil},
		{"429", say(429, ``), ErrTooOften, nil},
		{"404", say(404, v2Answer(s, v2Paid)), ErrNonsense, nil},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, ErrNonsense, nil},
		{"huge", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10)) }, ErrNonsense, nil},
		{"slow", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, ErrBusy, nil},
		{"repeats what it got", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, rawV2(v2Fields{"return_code": "FAIL", "return_msg": "bad key=" + testV2Key + " in " + string(body)}))
		}, ErrConfig, nil},
	}
	of := map[string][]bad{
		opPrepay: {
			{"ORDERPAID", fails("ORDERPAID"), ErrRequest, ErrOrderPaid},
			{"ORDERCLOSED", fails("ORDERCLOSED"), ErrRequest, nil},
			{"OUT_TRADE_NO_USED", fails("OUT_TRADE_NO_USED"), ErrRequest, nil},
			{"no prepay_id", say(200, v2Answer(s, v2Good)), ErrNonsense, nil},
		},
		opQuery: {
			{"ORDERNOTEXIST", fails("ORDERNOTEXIST"), ErrRequest, ErrNoOrder},
			{"another order", say(200, v2Answer(s, v2Paid.with("out_trade_no", "20260115103456000002"))), ErrNonsense, nil},
			{"unknown state", say(200, v2Answer(s, v2Paid.with("trade_state", "PAID"))), ErrNonsense, nil},
			{"no state", say(200, v2Answer(s, v2Paid.with("trade_state", "-"))), ErrNonsense, nil},
			{"paid without amount", say(200, v2Answer(s, v2Paid.with("total_fee", "-"))), ErrNonsense, nil},
			{"paid without transaction", say(200, v2Answer(s, v2Paid.with("transaction_id", "-"))), ErrNonsense, nil},
			{"paid without time", say(200, v2Answer(s, v2Paid.with("time_end", "-"))), ErrNonsense, nil},
			{"amount in yuan", say(200, v2Answer(s, v2Paid.with("total_fee", "1.00"))), ErrNonsense, nil},
			{"amount negative", say(200, v2Answer(s, v2Paid.with("total_fee", "-100"))), ErrNonsense, nil},
			{"amount with sign", say(200, v2Answer(s, v2Paid.with("total_fee", "+100"))), ErrNonsense, nil},
			{"amount beyond", say(200, v2Answer(s, v2Paid.with("total_fee", "9223372036854775808"))), ErrNonsense, nil},
			{"time a word", say(200, v2Answer(s, v2Paid.with("time_end", "today"))), ErrNonsense, nil},
		},
		opClose: {
			{"ORDERPAID", fails("ORDERPAID"), ErrRequest, ErrOrderPaid},
			{"ORDERNOTEXIST", fails("ORDERNOTEXIST"), ErrRequest, ErrNoOrder},
		},
		opRefund: {
			{"NOTENOUGH", fails("NOTENOUGH"), ErrRequest, nil},
			{"TRADE_OVERDUE", fails("TRADE_OVERDUE"), ErrRequest, nil},
			{"USER_ACCOUNT_ABNORMAL", fails("USER_ACCOUNT_ABNORMAL"), ErrRequest, nil},
			{"ORDERNOTEXIST", fails("ORDERNOTEXIST"), ErrRequest, ErrNoOrder},
			{"another refund", say(200, v2Answer(s, v2Refund.with("out_refund_no", "R2"))), ErrNonsense, nil},
			{"another amount", say(200, v2Answer(s, v2Refund.with("refund_fee", "31"))), ErrNonsense, nil},
			{"no amount", say(200, v2Answer(s, v2Refund.with("refund_fee", "-"))), ErrNonsense, nil},
			{"no id", say(200, v2Answer(s, v2Refund.with("refund_id", "-"))), ErrNonsense, nil},
		},
		opQueryRefund: {
			{"REFUNDNOTEXIST", fails("REFUNDNOTEXIST"), ErrRequest, ErrNoRefund},
			{"other refunds only", say(200, v2Answer(s, v2Refunded.with("out_refund_no_1", "R2"))), ErrNonsense, nil},
			{"unknown state", say(200, v2Answer(s, v2Refunded.with("refund_status_1", "DONE"))), ErrNonsense, nil},
			{"time a word", say(200, v2Answer(s, v2Refunded.with("refund_success_time_1", "then"))), ErrNonsense, nil},
		},
	}
	for _, c := range payCalls {
		for _, b := range append(everywhere, of[c.op]...) {
			t.Run(c.op+"/"+b.name, func(t *testing.T) {
				p := newTestPayV2(t, b.answer)
				if b.name == "slow" {
					p.timeout = 30 * time.Millisecond
				}
				got, err := c.call(t.Context(), p)
				checkPayError(t, c.op, got, err, b.kind, b.fact)
				var e *Error
				if errors.As(err, &e) && b.name == "INVALID_REQ_TOO_MUCH" && e.RetryAfter != time.Minute {
					t.Error(e.RetryAfter)
				}
				if e.Word != "" && !strings.Contains(b.name, " ") && e.Word != b.name {
					t.Errorf("word %q", e.Word)
				}
			})
		}
	}
	if err := newTestPayV2(t, fails("ORDERCLOSED")).Close(t.Context(), testNo); err != nil {
		t.Error(err)
	}
	if err := newTestPayV2(t, say(200, rawV2(v2Good.with("result_code", "FAIL", "err_code", "ORDERCLOSED")))).Close(t.Context(), testNo); !errors.Is(err, ErrSignature) {
		t.Errorf("an unsigned word closed the order: %v", err)
	}
}

func TestPayV2_orders(t *testing.T) {
	for name, spoil := range map[string]func(*PayOrder){
		"number too short": func(o *PayOrder) { o.OutTradeNo = "12345" },
		"no description":   func(o *PayOrder) { o.Description = "" },
		"control sign":     func(o *PayOrder) { o.Description = "a\x01b" },
		"carriage return":  func(o *PayOrder) { o.Description = "a\r\nb" },
		"not UTF-8":        func(o *PayOrder) { o.Attach = "\xff" },
		"long attach":      func(o *PayOrder) { o.Attach = strings.Repeat("a", 128) },
		"nothing to pay":   func(o *PayOrder) { o.TotalFen = 0 },
		"no openid":        func(o *PayOrder) { o.OpenID = "" },
		"expires at once":  func(o *PayOrder) { o.ExpiresAt = time.Unix(payNow+30, 0) },
	} {
		p := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
		o := testOrder
		spoil(&o)
		if _, err := p.Prepay(t.Context(), o); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for in, want := range map[string]string{"": "127.0.0.1", "x": "127.0.0.1", "1.2.3.4": "1.2.3.4", "::ffff:1.2.3.4": "1.2.3.4", "2001:db8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1"} {
		if got := payerIP(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	// A text that would end its CDATA arrives as it was.
	var sent v2Fields
	p := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent, _ = parseV2(body, "xml")
		_, _ = io.WriteString(w, v2Answer(v2Signer{testV2Key, signMD5}, v2Prepaid))
	})
	o := testOrder
	o.Description = "a]]><total_fee>1</total_fee>"
	if _, err := p.Prepay(t.Context(), o); err != nil || sent["body"] != o.Description || sent["total_fee"] != "100" {
		t.Errorf("%v %v", sent, err)
	}
}

func TestClientParams_v2(t *testing.T) {
	for _, signType := range []string{signMD5, signHMAC} {
		p := newTestPayV2(t, nil, func(o *PayV2Options) { o.SignType = signType })
		c, err := p.ClientParams("wx1")
		if err != nil || c.SignType != signType || c.Package != "prepay_id=wx1" || c.TimeStamp != "1768444496" || len(c.NonceStr) > 32 {
			t.Fatalf("%+v %v", c, err)
		}
		if want := p.signer.sign(clientFields(testAppID, c)); c.PaySign != want {
			t.Errorf("%s", c.PaySign)
		}
		if other, _ := p.ClientParams("wx1"); other.NonceStr == c.NonceStr {
			t.Error("the same nonce twice")
		}
		if _, err := p.ClientParams(""); !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
	}
}

// merchantCertificate is a self-made apiclient_cert.pem for merchantKey.
func merchantCertificate(t testing.TB) string {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "1900000109"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	b, err := x509.CreateCertificate(rand.Reader, c, c, &merchantKey().PublicKey, merchantKey())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b}))
}

// Refunds show the merchant's certificate, nothing else does, and without one no refund is even tried.
func TestRefund_certificate(t *testing.T) {
	s := v2Signer{testV2Key, signMD5}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := len(r.TLS.PeerCertificates) == 1 && merchantKey().PublicKey.Equal(r.TLS.PeerCertificates[0].PublicKey)
		if refund := r.URL.Path == "/secapi/pay/refund"; shown != refund {
			t.Errorf("%s: shown %t", r.URL.Path, shown)
		}
		answer := v2Refund
		if r.URL.Path == "/pay/refundquery" {
			answer = v2Refunded
		}
		_, _ = io.WriteString(w, v2Answer(s, answer))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	for _, with := range []bool{true, false} {
		o := payV2Options()
		o.APIURL, o.HTTP = server.URL, server.Client()
		if with {
			o.CertPEM, o.KeyPEM = strings.ReplaceAll(merchantCertificate(t), "\n", `\n`), privatePEM(t, merchantKey())
		}
		p, err := NewPayV2(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.QueryRefund(t.Context(), testRefundNo); err != nil {
			t.Error(err)
		}
		_, err = p.Refund(t.Context(), testRefund)
		if with && err != nil {
			t.Error(err)
		}
		if !with && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "CertPEM")) {
			t.Error(err)
		}
		if with {
			p.refunds.CloseIdleConnections()
		}
	}
}

func TestNewPayV2_namesEachBadOption(t *testing.T) {
	_, err := NewPayV2(PayV2Options{APIURL: "x", NotifyURL: "https://a.example/n?canary=1", Key: "canary", MchID: "canary", SignType: "RSA", CertPEM: "canary"})
	for _, name := range []string{"AppID", "MchID", "APIURL", "NotifyURL", "Key", "SignType", "CertPEM"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s not named: %v", name, err)
		}
	}
	noSecrets(t, err)
	for _, c := range []struct {
		name   string
		change func(*PayV2Options)
		want   string
	}{
		{"good", func(o *PayV2Options) {}, ""},
		{"HMAC", hmacMode, ""},
		{"certificate", func(o *PayV2Options) { o.CertPEM, o.KeyPEM = merchantCertificate(t), privatePEM(t, merchantKey()) }, ""},
		{"key alone", func(o *PayV2Options) { o.KeyPEM = privatePEM(t, merchantKey()) }, "belong together"},
		{"key of another", func(o *PayV2Options) { o.CertPEM, o.KeyPEM = merchantCertificate(t), privatePEM(t, payKey()) }, "fit each other"},
		{"own transport", func(o *PayV2Options) {
			o.CertPEM, o.KeyPEM = merchantCertificate(t), privatePEM(t, merchantKey())
			o.HTTP = &http.Client{Transport: transport(nil)}
		}, "Transport"},
		{"31 characters", func(o *PayV2Options) { o.Key = testV2Key[1:] }, "32"},
		{"small letters", func(o *PayV2Options) { o.SignType = "md5" }, "SignType"},
		{"refund URL", func(o *PayV2Options) { o.RefundURL = "/refund" }, "RefundURL"},
	} {
		o := payV2Options()
		c.change(&o)
		_, err := NewPayV2(o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			noSecrets(t, err, testV2Key, testKeyLine(t))
		}
	}
}
