package sim

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// received is a notify as the hub sees it, checked for what every one must have.
func received(t *testing.T, r *http.Request, body string) object {
	t.Helper()
	if err := verifyPlatform(t, r.Header, []byte(body)); err != nil {
		t.Errorf("notify: %v", err)
	}
	if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Wechatpay-Serial") != credentials().PublicKeyID {
		t.Errorf("notify %s %v", r.Method, r.Header)
	}
	outer := parse(t, []byte(body))
	if outer.text("event_type") != "TRANSACTION.SUCCESS" || outer.text("resource_type") != "encrypt-resource" || outer.text("id") == "" {
		t.Errorf("notify %v", outer)
	}
	res := object(outer["resource"].(map[string]any))
	return parse(t, openResource(t, credentials().APIv3Key, res.text("nonce"), res.text("associated_data"), res.text("ciphertext")))
}

func TestNotify_content(t *testing.T) {
	w := newWorld(t, nil)
	w.hub.reply(204, "")
	paid := w.control("/sim/pay", with(w.payFields("alice", w.prepaid("T0000001", "alice")), "confirm", true))
	w.settled(1)
	r, body := w.hub.last()
	tx := received(t, r, body)
	amount := object(tx["amount"].(map[string]any))
	if tx.text("out_trade_no") != "T0000001" || tx.text("transaction_id") != paid.text("transactionId") || tx.text("trade_state") != "SUCCESS" ||
		amount.number("total") != 990 || amount.text("currency") != "CNY" || tx.text("success_time") != "2026-01-15T18:34:56+08:00" ||
		tx.text("appid") != credentials().AppID || tx.text("mchid") != credentials().MchID || object(tx["payer"].(map[string]any)).text("openid") != w.openid("alice") {
		t.Errorf("transaction %v", tx)
	}
	if r.URL.String() != "http://127.0.0.1:8080/wechat/pay/notify" {
		t.Errorf("sent to %s", r.URL)
	}
}

// settled waits until the hub got n requests and the ladder has written down the last answer.
func (w *world) settled(n int) {
	w.t.Helper()
	for range 60_000 {
		w.sim.mu.Lock()
		tries := len(w.sim.notifies.items)
		w.sim.mu.Unlock()
		if w.hub.count() >= n && tries >= n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("hub got %d requests, want %d", w.hub.count(), n)
}

// timeline plays a payment against a hub under a fake clock and returns when each try arrived.
func timeline(t *testing.T, scale float64, answer func(try int) (int, string)) (tries []time.Duration, notified string) {
	credentials()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		w := newWorld(t, func(o *Options) { o.Now, o.TimeScale = nil, scale })
		w.clock.at = time.Now()
		w.hub.answer = func(r *http.Request, body string) (int, string) {
			received(t, r, body)
			ts, _ := strconv.ParseInt(r.Header.Get("Wechatpay-Timestamp"), 10, 64)
			if ts != time.Now().Unix() {
				t.Errorf("try is signed for %d at %d", ts, time.Now().Unix())
			}
			mu.Lock()
			tries = append(tries, time.Since(began))
			n := len(tries)
			mu.Unlock()
			return answer(n)
		}
		w.control("/sim/pay", with(w.payFields("alice", w.prepaid("T0000001", "alice")), "confirm", true))
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		notified = object(w.state()["orders"].([]any)[0].(map[string]any)).text("notified")
		w.sim.Close()
	})
	return tries, notified
}

func TestNotify_ladder(t *testing.T) {
	tries, notified := timeline(t, 1, func(int) (int, string) { return 500, `{"code":"FAIL","message":"no"}` })
	if len(tries) != 16 || notified != "given up" {
		t.Fatalf("%d tries, %s", len(tries), notified)
	}
	for i, want := range []string{"0s", "15s", "30s", "1m0s", "4m0s", "14m0s", "34m0s", "1h4m0s", "1h34m0s", "2h4m0s", "3h4m0s", "6h4m0s", "9h4m0s", "12h4m0s", "18h4m0s", "24h4m0s"} {
		if tries[i].String() != want {
			t.Errorf("try %d at %s, want %s", i+1, tries[i], want)
		}
	}
}

func TestNotify_takenAtLast(t *testing.T) {
	for name, c := range map[string]struct {
		answers []int // 0: no answer within 5 s
		scale   float64
		want    []string
	}{
		"200 at once":       {[]int{200}, 1, []string{"0s"}},
		"204 at once":       {[]int{204}, 1, []string{"0s"}},
		"201 is not enough": {[]int{201, 200}, 1, []string{"0s", "15s"}},
		"redirect":          {[]int{302, 200}, 1, []string{"0s", "15s"}},
		"refused":           {[]int{401, 403, 200}, 1, []string{"0s", "15s", "30s"}},
		"hangs":             {[]int{0, 200}, 1, []string{"0s", "20s"}},
		"scaled":            {[]int{500, 500, 500, 500, 200}, 60, []string{"0s", "250ms", "500ms", "1s", "4s"}},
	} {
		t.Run(name, func(t *testing.T) {
			tries, notified := timeline(t, c.scale, func(n int) (int, string) { return c.answers[n-1], "" })
			got := []string{}
			for _, at := range tries {
				got = append(got, at.String())
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") || notified != "taken" {
				t.Errorf("tries at %v, want %v; %s", got, c.want, notified)
			}
		})
	}
}

func TestTriggerPay(t *testing.T) {
	w := newWorld(t, nil)
	w.prepaid("T0000000", "bob")
	w.prepaid("T0000001", "alice")
	first := w.control("/sim/trigger", object{"event": "pay"})
	if first.text("outTradeNo") != "T0000001" || len(first["answers"].([]any)) != 1 {
		t.Fatalf("newest unpaid: %v", first)
	}
	_, body := w.hub.last()
	again := w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "T0000001", "times": 50, "parallel": true})
	if again.text("transactionId") != first.text("transactionId") || len(again["answers"].([]any)) != 50 || w.hub.count() != 51 {
		t.Errorf("repeat: %s, %d requests", again.text("transactionId"), w.hub.count())
	}
	r, repeated := w.hub.last()
	if tx := received(t, r, repeated); tx.text("transaction_id") != first.text("transactionId") || body == "" {
		t.Errorf("repeat tells %v", tx)
	}
	other := w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "T0000001", "transactionId": "4200000000202601150000000001"})
	r, body = w.hub.last()
	if tx := received(t, r, body); other.text("transactionId") != "4200000000202601150000000001" || tx.text("transaction_id") != other.text("transactionId") {
		t.Errorf("second transaction: %v", tx)
	}
	if next := w.control("/sim/trigger", object{"event": "pay"}); next.text("outTradeNo") != "T0000000" {
		t.Errorf("then the other order: %v", next)
	}
}

func TestTriggerPay_dishonest(t *testing.T) {
	w := newWorld(t, nil)
	w.prepaid("T0000001", "alice")
	w.hub.reply(401, `{"code":"FAIL","message":"signature"}`)
	verified := func(r *http.Request, body string) bool {
		return r.Header.Get("Wechatpay-Serial") == credentials().PublicKeyID && verifyPlatform(t, r.Header, []byte(body)) == nil
	}
	for name, c := range map[string]struct {
		trigger  object
		verifies bool
		check    func(t *testing.T, r *http.Request, body string)
	}{
		"signature": {object{"forge": "signature"}, false, nil},
		"serial":    {object{"forge": "serial"}, false, nil},
		"body":      {object{"forge": "body"}, false, func(t *testing.T, _ *http.Request, body string) { parse(t, []byte(body)) }},
		"no-sign": {object{"forge": "no-sign"}, false, func(t *testing.T, r *http.Request, _ string) {
			if r.Header.Get("Wechatpay-Signature") != "" || r.Header.Get("Wechatpay-Timestamp") == "" {
				t.Errorf("headers %v", r.Header)
			}
		}},
		"probe": {object{"probe": true}, false, func(t *testing.T, r *http.Request, _ string) {
			if !strings.HasPrefix(r.Header.Get("Wechatpay-Signature"), "WECHATPAY/SIGNTEST/") {
				t.Errorf("probe %v", r.Header)
			}
		}},
		"stale": {object{"skew": "-10m"}, true, func(t *testing.T, r *http.Request, _ string) {
			if got, want := r.Header.Get("Wechatpay-Timestamp"), strconv.FormatInt(w.clock.Now().Add(-10*time.Minute).Unix(), 10); got != want {
				t.Errorf("timestamp %s, want %s", got, want)
			}
		}},
		"amount": {object{"amount": 1}, true, func(t *testing.T, r *http.Request, body string) {
			if got := object(received(t, r, body)["amount"].(map[string]any)).number("total"); got != 1 {
				t.Errorf("total %d", got)
			}
		}},
		"appid": {object{"appid": "wx0", "mchid": "1", "currency": "USD"}, true, func(t *testing.T, r *http.Request, body string) {
			tx := received(t, r, body)
			if tx.text("appid") != "wx0" || tx.text("mchid") != "1" || object(tx["amount"].(map[string]any)).text("currency") != "USD" {
				t.Errorf("%v", tx)
			}
		}},
		"unknown order": {object{"outTradeNo": "NOBODY01", "amount": 5, "user": "alice"}, true, func(t *testing.T, r *http.Request, body string) {
			if tx := received(t, r, body); tx.text("out_trade_no") != "NOBODY01" {
				t.Errorf("%v", tx)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.control("/sim/trigger", with(c.trigger, "event", "pay"))
			answer := object(got["answers"].([]any)[0].(map[string]any))
			if answer.number("status") != 401 || !strings.Contains(answer.text("body"), "FAIL") {
				t.Errorf("answer %v", answer)
			}
			r, body := w.hub.last()
			if verified(r, body) != c.verifies {
				t.Errorf("verifies: %v", !c.verifies)
			}
			if c.check != nil {
				c.check(t, r, body)
			}
		})
	}
	if o := object(w.state()["orders"].([]any)[0].(map[string]any)); o.text("state") != "prepaid" {
		t.Errorf("a dishonest trigger paid the order: %v", o)
	}
	w.hub.reply(200, "")
	w.control("/sim/trigger", object{"event": "pay", "probe": true, "ladder": true})
	before := w.hub.count()
	w.settled(before)
	if o := object(w.state()["orders"].([]any)[0].(map[string]any)); o.text("state") != "paid" {
		t.Errorf("after the real one: %v", o)
	}
}

func TestTrigger_refusals(t *testing.T) {
	w := newWorld(t, nil)
	for body, word := range map[string]string{
		`{"event":"pay"}`:                             "no_order",
		`{"event":"pay","outTradeNo":"T0000001"}`:     "no_order",
		`{"event":"pay","forge":"everything"}`:        "bad_request",
		`{"event":"pay","amount":-1}`:                 "bad_request",
		`{"event":"pay","times":1001}`:                "bad_request",
		`{"event":"pay","skew":"ten minutes"}`:        "bad_request",
		`{"event":"pay","url":"file:///etc/passwd"}`:  "bad_request",
		`{"event":"dance"}`:                           "unknown_event",
		`{"event":"message","user":"a"}`:              "bad_request",
		`{"event":"message","content":"a"}`:           "bad_user",
		`{"event":"message","mode":"x"}`:              "bad_request",
		`{"event":"message","format":"x"}`:            "bad_request",
		`{"event":"message","forge":"serial"}`:        "bad_request",
		`{"event":"message","msgId":"0"}`:             "bad_request",
		`{"event":"pay","outTradeNumber":"T0000001"}`: "bad_request",
	} {
		rec := w.request("POST", "/sim/trigger", body)
		if got := parse(t, rec.Body.Bytes()); got.text("error") != word || rec.Code < 400 || rec.Code > 499 {
			t.Errorf("%s: %d %v", body, rec.Code, got)
		}
	}
	silent := newWorld(t, func(o *Options) { o.PushURL = "" })
	for _, c := range [][2]string{{"/sim/message", `{"user":"a","content":"b"}`}, {"/sim/trigger", `{"event":"message","user":"a","content":"b"}`}, {"/sim/trigger", `{"event":"check"}`}} {
		if rec := silent.request("POST", c[0], c[1]); rec.Code != 409 {
			t.Errorf("%s without a push address: %d", c[0], rec.Code)
		}
	}
}
