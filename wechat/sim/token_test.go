package sim

import (
	"testing"
	"time"
)

func (w *world) judge(token string) int {
	if _, e := w.sim.checkToken(token); e != nil {
		return e.Code
	}
	return 0
}

func TestStableToken_overlap(t *testing.T) {
	w := newWorld(t, nil)
	first := w.token(false)
	if len(first.text("access_token")) < 200 || first.number("expires_in") != 7200 {
		t.Fatalf("%v", first)
	}
	if _, there := first["errcode"]; there {
		t.Error("success carries errcode")
	}
	w.clock.move(tokenLife - tokenOverlap - time.Second)
	again := w.token(false)
	if again.text("access_token") != first.text("access_token") || again.number("expires_in") != 301 {
		t.Fatalf("before the last five minutes: %v", again)
	}
	w.clock.move(time.Second)
	next := w.token(false)
	if next.text("access_token") == first.text("access_token") || next.number("expires_in") != 7200 {
		t.Fatalf("in the last five minutes: %v", next)
	}
	w.clock.move(tokenOverlap - time.Second)
	if a, b := w.judge(first.text("access_token")), w.judge(next.text("access_token")); a != 0 || b != 0 {
		t.Errorf("overlap: old %d, new %d", a, b)
	}
	w.clock.move(time.Second)
	if a, b := w.judge(first.text("access_token")), w.judge(next.text("access_token")); a != 42001 || b != 0 {
		t.Errorf("after the overlap: old %d, new %d", a, b)
	}
}

func TestStableToken_force(t *testing.T) {
	w := newWorld(t, nil)
	first := w.token(false).text("access_token")
	second := w.token(true).text("access_token")
	if first == second || w.judge(first) != 40001 {
		t.Errorf("old token: %d", w.judge(first))
	}
	if w.clock.move(29 * time.Second); w.token(true).text("access_token") != second {
		t.Error("refreshed within 30 s")
	}
	for i := 1; i < forcedADay; i++ {
		w.clock.move(forcedApart)
		if got := w.token(true); got.text("access_token") == "" {
			t.Fatalf("refresh %d: %v", i, got)
		}
	}
	w.clock.move(forcedApart)
	if got := w.token(true); got.number("errcode") != 45009 {
		t.Errorf("refresh 21: %v", got)
	}
	if got := w.token(false); got.text("access_token") == "" {
		t.Errorf("normal mode after that: %v", got)
	}
}

func TestStableToken_refusals(t *testing.T) {
	w := newWorld(t, nil)
	c := credentials()
	good := object{"grant_type": "client_credential", "appid": c.AppID, "secret": c.Secret}
	for name, r := range map[string]struct {
		method, body string
		want         int
	}{
		"GET":          {"GET", "", 43002},
		"form":         {"POST", "grant_type=client_credential&appid=" + c.AppID, 47001},
		"empty":        {"POST", "", 47001},
		"types":        {"POST", string(toJSON(with(good, "force_refresh", "true"))), 47001},
		"grant":        {"POST", string(toJSON(with(good, "grant_type", "x"))), 40002},
		"no appid":     {"POST", string(toJSON(with(good, "appid", nil))), 41002},
		"other appid":  {"POST", string(toJSON(with(good, "appid", "wx0"))), 40013},
		"no secret":    {"POST", string(toJSON(with(good, "secret", nil))), 41004},
		"wrong secret": {"POST", string(toJSON(with(good, "secret", "0"))), 40125},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse(t, w.request(r.method, "/cgi-bin/stable_token", r.body).Body.Bytes())
			if got.number("errcode") != r.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestStableToken_minuteQuota(t *testing.T) {
	w := newWorld(t, nil)
	for range tokensAMinute {
		if _, _, e := w.sim.fetchToken(w.sim.mini, false); e != nil {
			t.Fatal(e)
		}
	}
	if got := w.token(false); got.number("errcode") != 45011 {
		t.Errorf("%v", got)
	}
	w.clock.move(time.Minute)
	if got := w.token(false); got.text("access_token") == "" {
		t.Errorf("a minute later: %v", got)
	}
}

func TestToken_judged(t *testing.T) {
	w := newWorld(t, nil)
	good := w.token(false).text("access_token")
	for token, want := range map[string]int{good: 0, "": 41001, "abc": 40014, good[:len(good)-1] + "$": 40014, random(letters, 213): 40001} {
		if got := w.judge(token); got != want {
			t.Errorf("%.8q: %d, want %d", token, got, want)
		}
	}
	w.control("/sim/fault", object{"tokenExpired": true})
	if got := w.judge(good); got != 42001 {
		t.Errorf("expired by fault: %d", got)
	}
	next := w.token(false).text("access_token")
	w.control("/sim/fault", object{"tokenInvalid": true})
	if got := w.judge(next); got != 40001 || next == good {
		t.Errorf("invalid by fault: %d", got)
	}
	if third := w.token(false).text("access_token"); third == next || w.judge(third) != 0 {
		t.Error("no fresh token after the fault")
	}
}
