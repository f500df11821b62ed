package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that tests wind.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(callsNow+c.seconds.Load(), 0) }
func (c *clock) wind(d time.Duration) { c.seconds.Add(int64(d / time.Second)) }

// An ear keeps what an Observer hears.
type ear struct {
	mu    sync.Mutex
	calls []Call
}

func (e *ear) hear(c Call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.Took = 0
	e.calls = append(e.calls, c)
}

func (e *ear) take() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.calls
	e.calls = nil
	return all
}

func TestBreaker_restsAndComesBack(t *testing.T) {
	var asked atomic.Int32
	var answer atomic.Value
	answer.Store(say(503, ""))
	var now clock
	var heard ear
	c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		asked.Add(1)
		answer.Load().(http.HandlerFunc)(w, r)
	}), func(o *Options) { o.Now, o.Observe = now.now, heard.hear })
	send := func() error {
		return c.SendCustom(t.Context(), "o1", CustomMessage{Text: &CustomText{"hi"}})
	}
	for n := range breakerFailures {
		if err := send(); !errors.Is(err, ErrBusy) || errors.Is(err, ErrBreaker) {
			t.Fatal(n, err)
		}
	}
	resting := func(rest time.Duration) {
		t.Helper()
		before := asked.Load()
		err := send()
		if !errors.Is(err, ErrBreaker) || !errors.Is(err, ErrBusy) || AdviceOf(err) != Retry || RetryAfter(err) != rest || asked.Load() != before {
			t.Errorf("%v, again in %v", err, RetryAfter(err))
		}
	}
	resting(breakerRest)
	// another endpoint of the same host is asked as ever
	answer.Store(say(200, `{"result":{"suggest":"pass"}}`))
	if _, err := c.CheckText(t.Context(), "o1", 1, "x"); err != nil {
		t.Error(err)
	}
	answer.Store(say(503, ""))
	// one call after the rest, and a longer rest when it fails
	now.wind(breakerRest)
	if err := send(); errors.Is(err, ErrBreaker) || !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	resting(2 * breakerRest)
	for range 10 { // never longer than the longest
		now.wind(breakerLongest)
		if err := send(); errors.Is(err, ErrBreaker) {
			t.Error(err)
		}
	}
	resting(breakerLongest)
	// any answer at all, a refusal too, is health
	answer.Store(say(200, `{"errcode":45015,"errmsg":"no"}`))
	now.wind(breakerLongest)
	heard.take()
	for range 2 {
		if err := send(); !errors.Is(err, ErrWindow) {
			t.Error(err)
		}
	}
	if got, want := fmt.Sprint(heard.take()), "[{wechat custom/send 45015 0s give_up} {wechat custom/send 45015 0s give_up}]"; got != want {
		t.Error(got)
	}
}

// While one call tries whether the endpoint works again, the others are not let through; and a caller who gives
// up meanwhile proves nothing.
func TestBreaker_oneTries(t *testing.T) {
	var now clock
	l := newLine("wechat", nil, nil, nil, now.now)
	busy := func(context.Context) error { return &Error{Op: "x", Kind: ErrBusy, Status: 503} }
	for range breakerFailures {
		_ = l.call(t.Context(), "x", busy)
	}
	now.wind(breakerRest)
	synctest.Test(t, func(t *testing.T) {
		gate, done := make(chan struct{}), make(chan error)
		go func() {
			done <- l.call(t.Context(), "x", func(context.Context) error { <-gate; return nil })
		}()
		synctest.Wait()
		if err := l.call(t.Context(), "x", busy); !errors.Is(err, ErrBreaker) {
			t.Error(err)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := l.call(t.Context(), "x", func(context.Context) error { return nil }); err != nil {
		t.Error("it did not come back:", err)
	}
	for range breakerFailures {
		_ = l.call(t.Context(), "x", busy)
	}
	now.wind(breakerRest)
	ctx, cancel := context.WithCancel(t.Context())
	_ = l.call(ctx, "x", func(context.Context) error { cancel(); return &Error{Op: "x", Kind: ErrBusy, Err: context.Canceled} })
	if err := l.call(t.Context(), "x", busy); errors.Is(err, ErrBreaker) {
		t.Error("a caller who gave up kept the next from trying")
	}
	func() {
		defer func() { _ = recover() }()
		now.wind(breakerLongest)
		_ = l.call(t.Context(), "x", func(context.Context) error { panic("ours") })
	}()
	if err := l.call(t.Context(), "x", busy); errors.Is(err, ErrBreaker) {
		t.Error("a panic kept the next from trying")
	}
}

// What only asks is asked once more; what tells or spends is not.
func TestCalls_repeatedOnlyWhereSafe(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			var asked atomic.Int32
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				if asked.Add(1) == 1 {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				c.answerGood(w)
			}), func(o *Options) { o.Now = at(callsNow) })
			got, err := c.call(t.Context(), client)
			want := map[bool]int32{true: 2, false: 1}[repeatable[c.op]]
			if asked.Load() != want || (err == nil) != repeatable[c.op] || err == nil && got != c.want {
				t.Errorf("asked %d times: %q %v", asked.Load(), got, err)
			}
		})
	}
	for _, op := range []string{opLogin, opPhone, opSendCustom, opTyping, opSubscribe, opResetSession, opCheckMedia, opURLLink, opPathCode, opClassicToken} {
		if repeatable[op] {
			t.Errorf("%s must not be made twice", op)
		}
	}
}

func TestCall_codes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{&Error{Kind: ErrWindow, Code: 45015, Status: 200}, "45015"},
		{&Error{Kind: ErrBusy, Code: -1}, "-1"},
		{&Error{Kind: ErrRequest, Word: "ORDER_PAID", Err: ErrOrderPaid}, "ORDER_PAID"},
		{&Error{Kind: ErrRequest, Word: "<script>", Status: 400}, "http_400"},
		{&Error{Kind: ErrBusy, Status: 503}, "http_503"},
		{&Error{Kind: ErrTooOften, Status: 429}, "http_429"},
		{&Error{Kind: ErrBusy, Err: context.DeadlineExceeded}, "timeout"},
		{&Error{Kind: ErrBusy, Err: context.Canceled}, "canceled"},
		{&Error{Kind: ErrBusy, Err: io.ErrUnexpectedEOF}, "broken"},
		{&Error{Kind: ErrBusy, Err: ErrBreaker}, "breaker"},
		{&Error{Kind: ErrNonsense, Status: 200}, "nonsense"},
		{&Error{Kind: ErrSignature, Status: 200}, "signature"},
		{&Error{Kind: ErrStale, Status: 200}, "signature"},
		{&Error{Kind: ErrConfig}, "refused"},
		{errors.New("x"), "refused"},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// An Observer hears of every call, the token's and the repeats too, and of no person.
func TestObserve_everyCall(t *testing.T) {
	var heard ear
	for _, c := range calls {
		client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { c.answerGood(w) }),
			func(o *Options) { o.Now, o.Observe = at(callsNow), heard.hear })
		if _, err := c.call(t.Context(), client); err != nil {
			t.Error(err)
		}
		got := fmt.Sprintf("%+v", heard.take())
		if want := fmt.Sprintf("%+v", []Call{{API: "wechat", Op: "stable_token", Code: "ok"}, {API: "wechat", Op: c.op, Code: "ok"}}); got != want {
			t.Error(got)
		}
		noCanary(t, got)
	}
}

// Every call goes over the same few connections.
func TestConnections_reused(t *testing.T) {
	s := httptest.NewServer(withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		_, _ = io.WriteString(w, `{"result":{"suggest":"pass"}}`)
	}))
	defer s.Close()
	c, err := New(Options{AppID: testAppID, Secret: testSecret, APIURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	var fresh atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			fresh.Add(1)
		}
	}})
	for range 20 {
		if _, err := c.CheckText(ctx, "o1", 1, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if fresh.Load() > 2 {
		t.Errorf("%d connections for 20 calls in a row", fresh.Load())
	}
}

// A repeat of an order or a refund is the same one, field by field: WeChat Pay takes a number again only so.
func TestPay_repeatsAreTheSame(t *testing.T) {
	var bodies []string
	broken := func(good http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			text := string(body)
			if f, err := parseV2(body, "xml"); err == nil {
				text = f.with("nonce_str", "", "sign", "").signed()
			}
			if bodies = append(bodies, text); len(bodies) == 1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			good(w, r)
		}
	}
	s := v2Signer{testV2Key, signMD5}
	for name, c := range map[string]struct {
		pay  Pay
		call func(p Pay) error
	}{
		"v3 prepay": {newTestPay(t, broken(answerSigned(t, 200, `{"prepay_id":"wx1"}`))), func(p Pay) error { _, err := p.Prepay(t.Context(), testOrder); return err }},
		"v3 refund": {newTestPay(t, broken(answerSigned(t, 200, v3Refund))), func(p Pay) error { _, err := p.Refund(t.Context(), testRefund); return err }},
		"v2 prepay": {newTestPayV2(t, broken(say(200, v2Answer(s, v2Prepaid)))), func(p Pay) error { _, err := p.Prepay(t.Context(), testOrder); return err }},
		"v2 refund": {newTestPayV2(t, broken(say(200, v2Answer(s, v2Refund)))), func(p Pay) error { _, err := p.Refund(t.Context(), testRefund); return err }},
	} {
		bodies = nil
		if err := c.call(c.pay); err != nil || len(bodies) != 2 || bodies[0] != bodies[1] || bodies[0] == "" {
			t.Errorf("%s: %v\n%q", name, err, bodies)
		}
	}
}
