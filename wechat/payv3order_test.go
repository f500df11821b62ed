package wechat

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testNo       = "20260115103456000001"
	testRefundNo = "R20260115103456000001"

	v3Paid     = paidPlain
	v3Unpaid   = `{"mchid":"1900000109","appid":"wx8888888888888888","out_trade_no":"20260115103456000001","trade_state":"NOTPAY","trade_state_desc":"订单未支付","amount":{"total":100,"payer_currency":"CNY"}}`
	v3Refunded = `{"refund_id":"50000000382026011500000000001","out_refund_no":"R20260115103456000001","transaction_id":"4200002026202601151234567890","out_trade_no":"20260115103456000001","channel":"ORIGINAL","user_received_account":"支付用户零钱","success_time":"2026-01-15T11:00:00+08:00","create_time":"2026-01-15T10:59:00+08:00","status":"SUCCESS","amount":{"total":100,"refund":30,"payer_total":90,"payer_refund":27,"currency":"CNY"}}`
	v3Refund   = `{"refund_id":"50000000382026011500000000001","out_refund_no":"R20260115103456000001","transaction_id":"4200002026202601151234567890","out_trade_no":"20260115103456000001","create_time":"2026-01-15T10:59:00+08:00","status":"PROCESSING","amount":{"total":100,"refund":30,"currency":"CNY"}}`
)

var testRefund = RefundOrder{OutTradeNo: testNo, OutRefundNo: testRefundNo, Reason: "缺货 <1>", RefundFen: 30, TotalFen: 100}

// A payCall is one call about an order, of either version.
type payCall struct {
	op   string
	call func(ctx context.Context, p Pay) (string, error)
}

var payCalls = []payCall{
	{opPrepay, func(ctx context.Context, p Pay) (string, error) { return p.Prepay(ctx, testOrder) }},
	{opQuery, func(ctx context.Context, p Pay) (string, error) {
		pay, err := p.Query(ctx, testNo)
		if pay == (Payment{}) {
			return "", err
		}
		return fmt.Sprint(pay.AppID, " ", pay.MchID, " ", pay.OutTradeNo, " ", pay.TransactionID, " ", pay.OpenID, " ", pay.State, " ",
			pay.TotalFen, " ", pay.PayerFen, " ", pay.Currency, " ", seconds(pay.PaidAt)), err
	}},
	{opClose, func(ctx context.Context, p Pay) (string, error) { return "", p.Close(ctx, testNo) }},
	{opRefund, func(ctx context.Context, p Pay) (string, error) {
		r, err := p.Refund(ctx, testRefund)
		return sayRefund(r), err
	}},
	{opQueryRefund, func(ctx context.Context, p Pay) (string, error) {
		r, err := p.QueryRefund(ctx, testRefundNo)
		return sayRefund(r), err
	}},
}

func sayRefund(r Refund) string {
	if r == (Refund{}) {
		return ""
	}
	return fmt.Sprint(r.OutTradeNo, " ", r.TransactionID, " ", r.OutRefundNo, " ", r.RefundID, " ", r.Status, " ", r.RefundFen, " of ", r.TotalFen, " ", r.Currency, " ", seconds(r.At))
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// What each call makes of a good answer, in both versions.
const (
	saidPaid     = "wx8888888888888888 1900000109 20260115103456000001 4200002026202601151234567890 o1 SUCCESS 100 90 CNY 1768444495"
	saidRefund   = "20260115103456000001 4200002026202601151234567890 R20260115103456000001 50000000382026011500000000001 PROCESSING 30 of 100 CNY 0"
	saidRefunded = "20260115103456000001 4200002026202601151234567890 R20260115103456000001 50000000382026011500000000001 SUCCESS 30 of 100 CNY 1768446000"
)

func TestPayV3_calls(t *testing.T) {
	for _, c := range []struct {
		name, op, request, body string
		status                  int
		answer, want            string
	}{
		{"paid", opQuery, "GET /v3/pay/transactions/out-trade-no/20260115103456000001?mchid=1900000109", "", 200, v3Paid, saidPaid},
		{"not paid", opQuery, "GET /v3/pay/transactions/out-trade-no/20260115103456000001?mchid=1900000109", "", 200, v3Unpaid,
			"wx8888888888888888 1900000109 20260115103456000001   NOTPAY 100 0  0"},
		{"closed, few fields", opQuery, "GET /v3/pay/transactions/out-trade-no/20260115103456000001?mchid=1900000109", "", 200,
			`{"mchid":"1900000109","appid":"wx8888888888888888","out_trade_no":"20260115103456000001","trade_state":"CLOSED","transaction_id":"","payer":{}}`,
			"wx8888888888888888 1900000109 20260115103456000001   CLOSED 0 0  0"},
		{"close", opClose, "POST /v3/pay/transactions/out-trade-no/20260115103456000001/close", `{"mchid":"1900000109"}`, 204, "", ""},
		{"refund", opRefund, "POST /v3/refund/domestic/refunds",
			`{"out_trade_no":"20260115103456000001","out_refund_no":"R20260115103456000001","reason":"缺货 <1>","notify_url":"https://hub.example/wechat/pay/refund","amount":{"refund":30,"total":100,"currency":"CNY"}}`,
			200, v3Refund, saidRefund},
		{"refund again", opRefund, "POST /v3/refund/domestic/refunds",
			`{"out_trade_no":"20260115103456000001","out_refund_no":"R20260115103456000001","reason":"缺货 <1>","notify_url":"https://hub.example/wechat/pay/refund","amount":{"refund":30,"total":100,"currency":"CNY"}}`,
			200, v3Refunded, saidRefunded},
		{"refund asked for", opQueryRefund, "GET /v3/refund/domestic/refunds/R20260115103456000001", "", 200, v3Refunded, saidRefunded},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if got := r.Method + " " + r.URL.RequestURI(); got != c.request || string(body) != c.body {
					t.Errorf("%s\n%s", got, body)
				}
				m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
				if m == nil {
					t.Errorf("%s", r.Header.Get("Authorization"))
					return
				}
				b, _ := base64.StdEncoding.DecodeString(m[3])
				sum := sha256.Sum256([]byte(r.Method + "\n" + r.URL.RequestURI() + "\n" + m[2] + "\n" + m[1] + "\n" + string(body) + "\n"))
				if err := rsa.VerifyPKCS1v15(&merchantKey().PublicKey, crypto.SHA256, sum[:], b); err != nil {
					t.Error(err)
				}
				answerSigned(t, c.status, c.answer)(w, r)
			})
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

// A number with WeChat's own odd characters arrives as it was, and is signed as it is sent.
func TestPayV3_oddNumbers(t *testing.T) {
	const no = "a|b*c-d_e"
	p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v3/pay/transactions/out-trade-no/"+no {
			t.Errorf("%q", r.URL.Path)
		}
		answerSigned(t, 200, strings.Replace(v3Paid, testNo, no, 1))(w, r)
	})
	if pay, err := p.Query(t.Context(), no); err != nil || pay.OutTradeNo != no {
		t.Error(err)
	}
}

func TestPayV3_refused(t *testing.T) {
	word := func(status int, w string) http.HandlerFunc {
		return answerSigned(t, status, fmt.Sprintf(`{"code":%q,"message":"不行"}`, w))
	}
	wrongly := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for k, v := range signAs(t, merchantKey(), payNow, []byte(body)) {
				w.Header()[k] = v
			}
			_, _ = io.WriteString(w, body)
		}
	}
	type bad struct {
		name   string
		answer http.HandlerFunc
		kind   error
		fact   error
	}
	everywhere := []bad{
		{"PARAM_ERROR", word(400, "PARAM_ERROR"), ErrRequest, nil},
		{"INVALID_REQUEST", word(400, "INVALID_REQUEST"), ErrRequest, nil},
		{"SIGN_ERROR", word(401, "SIGN_ERROR"), ErrConfig, nil},
		{"NO_AUTH", word(403, "NO_AUTH"), ErrConfig, nil},
		{"MCH_NOT_EXISTS", word(404, "MCH_NOT_EXISTS"), ErrConfig, nil},
		{"FREQUENCY_LIMITED", word(429, "FREQUENCY_LIMITED"), ErrTooOften, nil},
		{"SYSTEM_ERROR", word(500, "SYSTEM_ERROR"), ErrBusy, nil},
		{"502", say(502, `<html>`), ErrBusy, nil},
		{"404 html", say(404, `<html>`), ErrNonsense, nil},
		{"slow", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, ErrBusy, nil},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, ErrNonsense, nil},
	}
	of := map[string][]bad{
		opQuery: {
			{"ORDER_NOT_EXIST", word(404, "ORDER_NOT_EXIST"), ErrRequest, ErrNoOrder},
			{"ORDERNOTEXIST", word(404, "ORDERNOTEXIST"), ErrRequest, ErrNoOrder},
			{"RESOURCE_NOT_EXISTS", word(404, "RESOURCE_NOT_EXISTS"), ErrRequest, ErrNoOrder},
			{"unsigned", say(200, v3Paid), ErrSignature, nil},
			{"signed by another", wrongly(v3Paid), ErrSignature, nil},
			{"another order", answerSigned(t, 200, strings.Replace(v3Paid, testNo, "20260115103456000002", 1)), ErrNonsense, nil},
			{"another merchant", answerSigned(t, 200, strings.Replace(v3Paid, "1900000109", "1900000110", 1)), ErrNonsense, nil},
			{"not JSON", answerSigned(t, 200, `x`), ErrNonsense, nil},
			{"empty", answerSigned(t, 200, ``), ErrNonsense, nil},
			{"list", answerSigned(t, 200, `[]`), ErrNonsense, nil},
			{"nothing in it", answerSigned(t, 200, `{}`), ErrNonsense, nil},
			{"unknown state", answerSigned(t, 200, strings.Replace(v3Paid, `"SUCCESS"`, `"PAID"`, 1)), ErrNonsense, nil},
			{"paid without amount", answerSigned(t, 200, strings.Replace(v3Paid, `"total":100,`, ``, 1)), ErrNonsense, nil},
			{"paid without transaction", answerSigned(t, 200, strings.Replace(v3Paid, `"transaction_id":"4200002026202601151234567890",`, ``, 1)), ErrNonsense, nil},
			{"amount as text", answerSigned(t, 200, strings.Replace(v3Unpaid, `"total":100`, `"total":"100"`, 1)), ErrNonsense, nil},
			{"state twice", answerSigned(t, 200, strings.Replace(v3Unpaid, `{`, `{"trade_state":"SUCCESS",`, 1)), ErrNonsense, nil},
		},
		opClose: {
			{"ORDER_PAID", word(400, "ORDER_PAID"), ErrRequest, ErrOrderPaid},
			{"ORDERPAID", word(400, "ORDERPAID"), ErrRequest, ErrOrderPaid},
			{"ORDER_NOT_EXIST", word(404, "ORDER_NOT_EXIST"), ErrRequest, ErrNoOrder},
			{"unsigned", say(204, ``), ErrSignature, nil},
		},
		opRefund: {
			{"RESOURCE_NOT_EXISTS", word(404, "RESOURCE_NOT_EXISTS"), ErrRequest, ErrNoOrder},
			{"NOT_ENOUGH", word(403, "NOT_ENOUGH"), ErrRequest, nil},
			{"USER_ACCOUNT_ABNORMAL", word(403, "USER_ACCOUNT_ABNORMAL"), ErrRequest, nil},
			{"unsigned", say(200, v3Refund), ErrSignature, nil},
			{"signed by another", wrongly(v3Refund), ErrSignature, nil},
			{"another refund", answerSigned(t, 200, strings.Replace(v3Refund, testRefundNo, "R2", 1)), ErrNonsense, nil},
			{"of another order", answerSigned(t, 200, strings.Replace(v3Refund, `"`+testNo+`"`, `"20260115103456000002"`, 1)), ErrNonsense, nil},
			{"another amount", answerSigned(t, 200, strings.Replace(v3Refund, `"refund":30`, `"refund":31`, 1)), ErrNonsense, nil},
			{"amount a fraction", answerSigned(t, 200, strings.Replace(v3Refund, `"refund":30`, `"refund":30.0`, 1)), ErrNonsense, nil},
			{"unknown state", answerSigned(t, 200, strings.Replace(v3Refund, `PROCESSING`, `DONE`, 1)), ErrNonsense, nil},
			{"no id", answerSigned(t, 200, strings.Replace(v3Refund, `"refund_id":"50000000382026011500000000001",`, ``, 1)), ErrNonsense, nil},
			{"nothing in it", answerSigned(t, 200, `{}`), ErrNonsense, nil},
		},
		opQueryRefund: {
			{"RESOURCE_NOT_EXISTS", word(404, "RESOURCE_NOT_EXISTS"), ErrRequest, ErrNoRefund},
			{"REFUNDNOTEXIST", word(404, "REFUNDNOTEXIST"), ErrRequest, ErrNoRefund},
			{"unsigned", say(200, v3Refunded), ErrSignature, nil},
			{"another refund", answerSigned(t, 200, strings.Replace(v3Refunded, testRefundNo, "R2", 1)), ErrNonsense, nil},
			{"success without time", answerSigned(t, 200, strings.Replace(v3Refunded, `"success_time":"2026-01-15T11:00:00+08:00",`, ``, 1)), ErrNonsense, nil},
			{"time a word", answerSigned(t, 200, strings.Replace(v3Refunded, `2026-01-15T11:00:00+08:00`, `then`, 1)), ErrNonsense, nil},
		},
	}
	for _, c := range payCalls {
		for _, b := range append(everywhere, of[c.op]...) {
			t.Run(c.op+"/"+b.name, func(t *testing.T) {
				p := newTestPay(t, b.answer)
				if b.name == "slow" {
					p.timeout = 30 * time.Millisecond
				}
				got, err := c.call(t.Context(), p)
				checkPayError(t, c.op, got, err, b.kind, b.fact)
			})
		}
	}
	for _, code := range []string{"ORDER_CLOSED", "ORDERCLOSED"} {
		if err := newTestPay(t, word(400, code)).Close(t.Context(), testNo); err != nil {
			t.Error(err)
		}
	}
}

// checkPayError holds an error against its kind, and demands that it says no more of the order than fact.
func checkPayError(t *testing.T, op, got string, err, kind, fact error) {
	t.Helper()
	var e *Error
	if got != "" || !errors.Is(err, kind) || !errors.As(err, &e) || e.Op != op {
		t.Fatalf("%q %v", got, err)
	}
	for _, f := range []error{ErrNoOrder, ErrOrderPaid, ErrNoRefund} {
		if errors.Is(err, f) != (f == fact) {
			t.Errorf("%v, but %v", f, err)
		}
	}
	noSecrets(t, err, testAPIv3Key, testV2Key)
}

// Every call is asked again after a probe, once.
func TestPayV3_probes(t *testing.T) {
	good := map[string]string{opPrepay: `{"prepay_id":"wx1"}`, opQuery: v3Paid, opClose: "", opRefund: v3Refund, opQueryRefund: v3Refunded}
	for _, c := range payCalls {
		var asked atomic.Int32
		p := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) > 1 {
				answerSigned(t, 200, good[c.op])(w, r)
				return
			}
			for k, v := range signAs(t, payKey(), payNow, []byte(good[c.op])) {
				w.Header()[k] = v
			}
			w.Header().Set("Wechatpay-Signature", probePrefix+"abcdefg")
			_, _ = io.WriteString(w, good[c.op])
		})
		if _, err := c.call(t.Context(), p); err != nil || asked.Load() != 2 {
			t.Errorf("%s: %v after %d calls", c.op, err, asked.Load())
		}
	}
}

// bothPays are a v3 and a v2 that nobody may reach.
func bothPays(t *testing.T) map[string]Pay {
	never := func(w http.ResponseWriter, r *http.Request) { t.Error("called") }
	return map[string]Pay{"v3": newTestPay(t, never), "v2": newTestPayV2(t, never)}
}

func TestPay_badNumbers(t *testing.T) {
	for name, p := range bothPays(t) {
		for _, no := range []string{"", "12345", strings.Repeat("1", 33), "123456/../x", "123456?", "订单订单订单"} {
			if _, err := p.Query(t.Context(), no); !errors.Is(err, ErrRequest) || errors.Is(err, ErrNoOrder) {
				t.Errorf("%s query %q: %v", name, no, err)
			}
			if err := p.Close(t.Context(), no); !errors.Is(err, ErrRequest) {
				t.Errorf("%s close %q: %v", name, no, err)
			}
		}
		for _, no := range []string{"", strings.Repeat("1", 65), "a/b", "a b", "a.b"} {
			if _, err := p.QueryRefund(t.Context(), no); !errors.Is(err, ErrRequest) {
				t.Errorf("%s query refund %q: %v", name, no, err)
			}
		}
		for what, spoil := range map[string]func(*RefundOrder){
			"order":        func(r *RefundOrder) { r.OutTradeNo = "1" },
			"number":       func(r *RefundOrder) { r.OutRefundNo = "" },
			"nothing":      func(r *RefundOrder) { r.RefundFen = 0 },
			"negative":     func(r *RefundOrder) { r.RefundFen = -1 },
			"too much":     func(r *RefundOrder) { r.RefundFen = 101 },
			"long reason":  func(r *RefundOrder) { r.Reason = strings.Repeat("缺", 81) },
			"reason":       func(r *RefundOrder) { r.Reason = "a\x00b" },
			"url":          func(r *RefundOrder) { r.NotifyURL = "hub.example/refund" },
			"url as query": func(r *RefundOrder) { r.NotifyURL = "https://hub.example/refund?canary=1" },
		} {
			r := testRefund
			spoil(&r)
			_, err := p.Refund(t.Context(), r)
			if !errors.Is(err, ErrRequest) {
				t.Errorf("%s refund, %s: %v", name, what, err)
			}
			noSecrets(t, err)
		}
	}
}

func TestNotifyURLs(t *testing.T) {
	for notify, want := range map[string]string{
		"https://hub.example/wechat/pay/notify": "https://hub.example/wechat/pay/refund",
		"https://hub.example/notify":            "https://hub.example/refund",
		"https://hub.example":                   "https://hub.example/refund",
		"http://127.0.0.1:8080/a/":              "http://127.0.0.1:8080/a/refund",
	} {
		if got, err := notifyURLs(notify, ""); err != nil || got != want {
			t.Errorf("%s: %s %v", notify, got, err)
		}
	}
	if got, err := notifyURLs("https://a.example/n", "https://b.example/r"); err != nil || got != "https://b.example/r" {
		t.Error(got, err)
	}
	for _, bad := range [][2]string{{"", ""}, {"https://a.example/n?x=1", ""}, {"https://a.example/n", "x"}, {"https://a.example/n", "https://a.example/" + strings.Repeat("r", 255)}} {
		if _, err := notifyURLs(bad[0], bad[1]); err == nil {
			t.Errorf("%v passed", bad)
		}
	}
}

const refundPlain = `{"mchid":"1900000109","transaction_id":"4200002026202601151234567890","out_trade_no":"20260115103456000001","refund_id":"50000000382026011500000000001","out_refund_no":"R20260115103456000001","refund_status":"SUCCESS","success_time":"2026-01-15T11:00:00+08:00","user_received_account":"支付用户零钱","amount":{"total":100,"refund":30,"payer_total":90,"payer_refund":27}}`

func TestOpenRefund_v3(t *testing.T) {
	p := newTestPay(t, nil)
	about := func(kind string) func(e, r map[string]any) {
		return func(e, r map[string]any) { r["original_type"] = kind }
	}
	replace := func(old, new string) string { return strings.Replace(refundPlain, old, new, 1) }
	for _, c := range []struct {
		name, event, plain string
		change             func(e, r map[string]any)
		want               error
		status             string
	}{
		{"success", "REFUND.SUCCESS", refundPlain, about("refund"), nil, "SUCCESS"},
		{"no original type", "REFUND.SUCCESS", refundPlain, about(""), nil, "SUCCESS"},
		{"abnormal", "REFUND.ABNORMAL", replace(`SUCCESS`, `ABNORMAL`), about("refund"), nil, "ABNORMAL"},
		{"closed", "REFUND.CLOSED", replace(`"SUCCESS","success_time":"2026-01-15T11:00:00+08:00"`, `"CLOSED"`), about("refund"), nil, "CLOSED"},
		{"a payment", eventPaid, paidPlain, about("transaction"), nil, ""},
		{"unknown refund event", "REFUND.NEW", `{"a":1}`, about("refund"), nil, ""},
		{"about a payment", "REFUND.SUCCESS", refundPlain, about("transaction"), ErrMalformed, ""},
		{"event and status disagree", "REFUND.CLOSED", refundPlain, about("refund"), ErrMalformed, ""},
		{"another merchant", "REFUND.SUCCESS", replace(`1900000109`, `1900000110`), about("refund"), ErrMalformed, ""},
		{"no merchant", "REFUND.SUCCESS", replace(`"mchid":"1900000109",`, ``), about("refund"), ErrMalformed, ""},
		{"no refund number", "REFUND.SUCCESS", replace(`"out_refund_no":"R20260115103456000001",`, ``), about("refund"), ErrMalformed, ""},
		{"no amount", "REFUND.SUCCESS", replace(`"refund":30,`, ``), about("refund"), ErrMalformed, ""},
		{"amount as text", "REFUND.SUCCESS", replace(`"refund":30`, `"refund":"30"`), about("refund"), ErrMalformed, ""},
		{"amount twice", "REFUND.SUCCESS", replace(`"refund":30`, `"refund":30,"refund":100`), about("refund"), ErrMalformed, ""},
		{"not JSON", "REFUND.SUCCESS", `x`, about("refund"), ErrMalformed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := notifyBody(t, c.event, c.plain, c.change)
			n, err := p.OpenRefund(signAs(t, payKey(), payNow, body), body)
			if !errors.Is(err, c.want) || (err == nil) != (n != nil) {
				t.Fatal(err)
			}
			if err != nil {
				noSecrets(t, err, testAPIv3Key)
				return
			}
			if n.EventType != c.event || n.Refund.Status != c.status || n.NeedsQuery || string(n.Plain) != c.plain {
				t.Errorf("%+v", n)
			}
			if c.status == "SUCCESS" && sayRefund(n.Refund) != saidRefunded {
				t.Error(sayRefund(n.Refund))
			}
			if c.status == "" && n.Refund != (Refund{}) {
				t.Errorf("%+v", n.Refund)
			}
		})
	}
	body := notifyBody(t, "REFUND.SUCCESS", refundPlain, about("refund"))
	for name, h := range map[string]http.Header{
		"unsigned": {}, "signed by another": signAs(t, merchantKey(), payNow, body), "for another body": signAs(t, payKey(), payNow, []byte("{}")),
	} {
		if n, err := p.OpenRefund(h, body); n != nil || !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.OpenRefund(signAs(t, payKey(), payNow-301, body), body); !errors.Is(err, ErrStale) {
		t.Error(err)
	}
	probe := signAs(t, payKey(), payNow, body)
	probe.Set("Wechatpay-Signature", probePrefix+"x")
	if _, err := p.OpenRefund(probe, body); !errors.Is(err, ErrProbe) {
		t.Error(err)
	}
}

// A refund of version 3, in a notify and in an answer.
func FuzzRefund(f *testing.F) {
	f.Add([]byte(refundPlain))
	f.Add([]byte(v3Refund))
	f.Add([]byte(`{"amount":{"refund":1e2}}`))
	p := &PayV3{mchID: "1900000109"}
	f.Fuzz(func(t *testing.T, plain []byte) {
		r, err := p.parseRefund(plain)
		oneOf(t, err, ErrMalformed)
		checkRefund(t, r, err)
		r, err = openRefundAnswer(opRefund, plain, testRefundNo)
		oneOf(t, err, ErrNonsense)
		checkRefund(t, r, err)
	})
}

func checkRefund(t *testing.T, r Refund, err error) {
	t.Helper()
	if err != nil && r != (Refund{}) {
		t.Error("a refund beside an error")
	}
	if err == nil && (r.RefundFen < 0 || r.TotalFen < 0 || r.OutRefundNo == "" || r.RefundID == "" || r.Status == "" || r.Currency == "") {
		t.Errorf("%+v", r)
	}
}

// An order that a query is answered with; only an unpaid one may lack its payment.
func FuzzQueryAnswer(f *testing.F) {
	f.Add([]byte(v3Paid))
	f.Add([]byte(v3Unpaid))
	f.Add([]byte(`{"trade_state":"SUCCESS"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fields, err := parseJSON(raw)
		if err != nil {
			return
		}
		p, err := readPayment(fields, false)
		oneOf(t, err, ErrMalformed)
		if err != nil && p != (Payment{}) {
			t.Error("a payment beside an error")
		}
		if err == nil && (p.OutTradeNo == "" || p.State == "" || p.TotalFen < 0 || p.settled() && p.TransactionID == "") {
			t.Errorf("%+v", p)
		}
	})
}
