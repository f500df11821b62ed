package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnknownPaths(t *testing.T) {
	w := newWorld(t, nil)
	if rec := w.request("GET", "/cgi-bin/dance", ""); rec.Code != 404 || parse(t, rec.Body.Bytes()).number("errcode") != 40066 {
		t.Errorf("api: %d %s", rec.Code, rec.Body)
	}
	rec := w.request("GET", "/v3/dance", "")
	if rec.Code != 404 || parse(t, rec.Body.Bytes()).text("code") == "" || verifyPlatform(t, rec.Header(), rec.Body.Bytes()) != nil {
		t.Errorf("v3: %d %s", rec.Code, rec.Body)
	}
	if rec := w.request("GET", "/sim/nothing", ""); rec.Code != 404 || parse(t, rec.Body.Bytes()).text("error") != "not_found" {
		t.Errorf("control: %d %s", rec.Code, rec.Body)
	}
}

func TestFault(t *testing.T) {
	w := newWorld(t, nil)
	const path = "/sns/jscode2session"
	ask := func() *httptest.ResponseRecorder { return w.request("GET", path, "") }
	w.control("/sim/fault", object{"path": "/elsewhere", "status": 500, "times": 9})
	w.control("/sim/fault", object{"path": path, "status": 500, "times": 2})
	w.control("/sim/fault", object{"path": path, "html": true})
	w.control("/sim/fault", object{"path": path, "html": true, "status": 502})
	w.control("/sim/fault", object{"errcode": -1})
	for i, want := range []string{"500 ", "500 ", "200 <html>", "502 <html>", `200 {"errcode":-1`, `200 {"errcode":41002`} {
		rec := ask()
		if got := rec.Result().Status[:4] + rec.Body.String(); !strings.HasPrefix(got, want) {
			t.Errorf("call %d: %q, want %q", i, got, want)
		}
	}
	if rec := w.request("DELETE", "/sim/fault", ""); rec.Code != 200 || len(w.state()["faults"].([]any)) != 0 {
		t.Errorf("clear: %s", rec.Body)
	}
	for _, body := range []string{`{}`, `{"path":"/x"}`, `{"slow":60001}`, `{"status":99}`, `{"times":-1,"slow":1}`, `{"sign":"x"}`, `{"statuz":500}`} {
		if rec := w.request("POST", "/sim/fault", body); rec.Code != 400 {
			t.Errorf("%s: %d", body, rec.Code)
		}
	}
}

func TestFault_slow(t *testing.T) {
	credentials()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.control("/sim/fault", object{"slow": 3000})
		began := time.Now()
		if got := w.token(false); got.text("access_token") == "" || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s", got, time.Since(began))
		}
	})
}

// A lost answer has happened all the same.
func TestFault_lost(t *testing.T) {
	w := newWorld(t, nil)
	body := w.order("T0000001", w.openid("alice"))
	w.control("/sim/fault", object{"lost": true, "path": prepayPath})
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("recovered %v", v)
			}
		}()
		w.prepay(body)
	}()
	if orders := w.state()["orders"].([]any); len(orders) != 1 {
		t.Errorf("orders %v", orders)
	}
	if rec := w.prepay(body); rec.Code != 200 {
		t.Errorf("again: %s", rec.Body)
	}
}

func TestFault_answerSignature(t *testing.T) {
	w := newWorld(t, nil)
	body := w.order("T0000001", w.openid("alice"))
	for _, sign := range []string{"probe", "wrong", "stale", "none"} {
		w.control("/sim/fault", object{"sign": sign})
		rec := w.prepay(body)
		err := verifyPlatform(t, rec.Header(), rec.Body.Bytes())
		if rec.Code != 200 || (err == nil) != (sign == "stale") {
			t.Errorf("%s: %d, %v", sign, rec.Code, err)
		}
	}
}

// Nothing that people or programs can see holds a secret.
func TestState_noSecrets(t *testing.T) {
	w := newWorld(t, nil)
	id := w.prepaid("T0000001", "alice")
	w.control("/sim/pay", with(w.payFields("alice", id), "confirm", true))
	w.settled(1)
	key := w.session(loginQuery(w.control("/sim/login", object{"user": "alice"}).text("code"))).text("session_key")
	token := w.token(false).text("access_token")
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	w.send(token, textTo(w.openid("alice"), "在"))
	w.request("POST", "/v3/pay/transactions/jsapi", "{}")
	w.callV2("/pay/orderquery", signMD5, fieldsV2{"out_trade_no": "T0000001", "sign": "wrong"})
	state := w.request("GET", "/sim/state", "").Body.String()
	for id := range 100 {
		state += w.request("GET", fmt.Sprint("/sim/exchange?id=", id), "").Body.String()
	}
	c := credentials()
	for _, secret := range []string{c.Secret, c.PushToken, c.PushAESKey, c.APIv3Key, c.V2Key, c.MPSecret, c.MPToken, c.MPAESKey, key, token, "PRIVATE"} {
		if strings.Contains(state, secret) {
			t.Errorf("state shows %q", secret)
		}
	}
	for _, list := range []string{"users", "orders", "messages", "pushes", "notifies", "calls"} {
		if n := len(w.state()[list].([]any)); n == 0 {
			t.Errorf("%s is empty", list)
		}
	}
	for _, file := range []string{"/", "/page/app.js", "/page/act.js", "/page/view.js", "/page/words.js", "/page/style.css", "/page/icon.svg"} {
		rec := w.request("GET", file, "")
		if rec.Code != 200 || rec.Body.Len() < 100 || strings.Contains(rec.Header().Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: %d %v", file, rec.Code, rec.Header())
		}
	}
	if rec := w.request("GET", "/page/nothing.js", ""); rec.Code != 404 {
		t.Errorf("no such file: %d", rec.Code)
	}
}

func TestRecent(t *testing.T) {
	var l recent[int]
	for i := range 5*keep + 1 {
		l.add(i)
	}
	got := l.list(keep)
	if len(got) != keep || got[keep-1] != 5*keep || len(l.items) > 2*keep {
		t.Errorf("%d entries, last %d, %d held", len(got), got[len(got)-1], len(l.items))
	}
}

// The oldest orders are forgotten, with their prepay_ids.
func TestOrders_bounded(t *testing.T) {
	w := newWorld(t, nil)
	w.sim.mu.Lock()
	defer w.sim.mu.Unlock()
	for i := range maxOrders + 1 {
		no := "T" + random(digits, 20)
		id := "wx" + no
		o := &order{prepayParams: prepayParams{outTradeNo: no, total: int64(i)}, prepayIDs: []string{id}}
		s := w.sim
		s.addOrder(o)
		s.prepays[id] = o
	}
	if want := maxOrders - maxOrders/10 + 1; len(w.sim.orders) != want || len(w.sim.prepays) != want || w.sim.line[0].total != maxOrders/10 {
		t.Errorf("%d orders, %d prepays", len(w.sim.orders), len(w.sim.prepays))
	}
}

func TestReason_hidesAddress(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })}
	})
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	if state := string(toJSON(w.state())); !strings.Contains(state, "connection refused") || strings.Contains(state, "signature=") {
		t.Errorf("%s", state)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A real server, a real client: cut connections and keep-alive behave as in the demo.
func TestServe_overHTTP(t *testing.T) {
	hubServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
	defer hubServer.Close()
	s, err := New(Options{Credentials: credentials(), PushURL: hubServer.URL, NotifyURL: hubServer.URL + "/notify"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	post := func(path, body string) map[string]any {
		resp, err := server.Client().Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if got := post("/sim/trigger", `{"event":"pay","outTradeNo":"T0000001","amount":1,"user":"alice"}`); got["answers"].([]any)[0].(map[string]any)["status"] != 204.0 {
		t.Errorf("notify: %v", got)
	}
	if got := post("/sim/message", `{"user":"alice","content":"x"}`); got["ok"] != false || got["status"] != 204.0 {
		t.Errorf("204 to a push: %v", got)
	}
	post("/sim/fault", `{"lost":true}`)
	if _, err := server.Client().Post(server.URL+"/cgi-bin/stable_token", "application/json", strings.NewReader("{}")); err == nil {
		t.Error("a lost answer arrived")
	}
}

// Codes and nonces are forgotten when they can do no harm any more, and not before.
func TestCodesAndNonces_bounded(t *testing.T) {
	w := newWorld(t, nil)
	first := w.control("/sim/login", object{"user": "alice"}).text("code")
	w.session(loginQuery(first))
	w.clock.move(2 * codeLife)
	second := w.control("/sim/login", object{"user": "alice"}).text("code")
	if got := w.session(loginQuery(first)); got.number("errcode") != 40163 {
		t.Errorf("used code after ten minutes: %v", got)
	}
	w.clock.move(time.Second)
	w.control("/sim/login", object{"user": "bob"})
	if got := w.session(loginQuery(first)); got.number("errcode") != 40029 {
		t.Errorf("used code after that: %v", got)
	}
	w.sim.mu.Lock()
	if len(w.sim.codes) != 2 || len(w.sim.codeLine) != 2 || w.sim.codes[second] == nil {
		t.Errorf("%d codes", len(w.sim.codes))
	}
	now := w.clock.Now()
	for i := range maxNonces {
		w.sim.nonces[strconv.Itoa(i)] = now.Add(-3 * clockSlack)
	}
	w.sim.nonces["fresh"] = now
	w.sim.mu.Unlock()
	if !w.sim.firstUse("new", now) || w.sim.firstUse("new", now) || w.sim.firstUse("fresh", now) || len(w.sim.nonces) != 2 {
		t.Errorf("%d nonces", len(w.sim.nonces))
	}
}

func BenchmarkPrepay(b *testing.B) {
	s, err := New(Options{Credentials: credentials()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n atomic.Int64
	key, err := privateKey(credentials().MerchantKeyPEM)
	if err != nil {
		b.Fatal(err)
	}
	w := &world{sim: s, clock: &clock{at: time.Now()}}
	openid := s.openidOf("alice")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := string(toJSON(w.order("T"+strconv.FormatInt(1e9+n.Add(1), 10), openid)))
			if rec := w.do(sign(key, w.clock.Now(), "POST", prepayPath, body)); rec.Code != 200 {
				b.Errorf("%d %s", rec.Code, rec.Body)
			}
		}
	})
}

func TestChat_bounded(t *testing.T) {
	w := newWorld(t, nil)
	w.sim.mu.Lock()
	defer w.sim.mu.Unlock()
	talks := make([]*talk, 5000)
	for i := range talks {
		talks[i] = newTalk()
	}
	for i := range 5 * maxLines {
		w.sim.say(talks[i%len(talks)], ChatMessage{Content: "x"})
	}
	kept := 0
	for _, of := range talks {
		kept += len(of.lines)
		if last := of.lines[len(of.lines)-1]; last.Seq != of.seq {
			t.Fatalf("the newest line is gone: %d of %d", last.Seq, of.seq)
		}
	}
	if kept > 2*maxLines || len(w.sim.said) > 2*maxLines {
		t.Errorf("%d lines, %d counted", kept, len(w.sim.said))
	}
}
