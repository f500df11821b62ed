package sim

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestLogin(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.control("/sim/login", object{"user": "alice", "nickname": "小雨"})
	got := w.session(loginQuery(phone.text("code")))
	if _, there := got["errcode"]; there {
		t.Errorf("success carries errcode: %v", got)
	}
	key := got.text("session_key")
	if got.text("openid") != phone.text("openid") || len(phone.text("openid")) != 28 || key == "" {
		t.Fatalf("session %v, phone %v", got, phone)
	}
	if loginSignature(phone.text("rawData"), key) != phone.text("signature") {
		t.Error("rawData is signed with another key")
	}
	info := parse(t, openUserData(t, key, phone.text("iv"), phone.text("encryptedData")))
	mark := object(info["watermark"].(map[string]any))
	if info.text("openId") != got.text("openid") || info.text("nickName") != "小雨" || mark.text("appid") != credentials().AppID ||
		mark.number("timestamp") != int(w.clock.Now().Unix()) {
		t.Errorf("user data %v", info)
	}
	picture, err := url.Parse(info.text("avatarUrl"))
	if err != nil {
		t.Fatal(err)
	}
	if rec := w.request("GET", picture.RequestURI(), ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), "小") {
		t.Errorf("avatar %s: %d %s", picture, rec.Code, rec.Body)
	}
}

func TestJscode2session_refusals(t *testing.T) {
	w := newWorld(t, nil)
	code := func() string { return w.control("/sim/login", object{"user": "alice"}).text("code") }
	used := code()
	w.session(loginQuery(used))
	old := code()
	w.clock.move(codeLife + time.Second)
	change := func(name, value string) url.Values {
		q := loginQuery(code())
		q.Set(name, value)
		return q
	}
	for name, c := range map[string]struct {
		query url.Values
		want  int
	}{
		"used":        {loginQuery(used), 40163},
		"unknown":     {loginQuery("0abc"), 40029},
		"expired":     {loginQuery(old), 40029},
		"no code":     {change("js_code", ""), 41008},
		"no appid":    {change("appid", ""), 41002},
		"other appid": {change("appid", "wx0"), 40013},
		"no secret":   {change("secret", ""), 41004},
		"bad secret":  {change("secret", "0"), 40125},
		"grant":       {change("grant_type", "client_credential"), 40002},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.session(c.query)
			if got.number("errcode") != c.want || got.text("errmsg") == "" {
				t.Errorf("got %v, want %d", got, c.want)
			}
		})
	}
	if rec := w.request("POST", "/sns/jscode2session?"+loginQuery(code()).Encode(), ""); parse(t, rec.Body.Bytes()).number("errcode") != 43001 {
		t.Errorf("POST: %s", rec.Body)
	}
}

func TestLogin_sessionKeyRotation(t *testing.T) {
	w := newWorld(t, nil)
	key := func(body object) string {
		return w.session(loginQuery(w.control("/sim/login", body).text("code"))).text("session_key")
	}
	first := key(object{"user": "alice"})
	if key(object{"user": "alice"}) != first {
		t.Error("rotated within the minimum period")
	}
	if key(object{"user": "alice", "rotate": true}) == first {
		t.Error("not rotated on demand")
	}
	before := key(object{"user": "alice"})
	w.clock.move(sessionKeyAge + time.Second)
	if key(object{"user": "alice"}) == before {
		t.Error("not rotated after the minimum period")
	}
}

func TestLogin_tooOften(t *testing.T) {
	w := newWorld(t, nil)
	for i := range loginsAMinute + 1 {
		got := w.session(loginQuery(w.control("/sim/login", object{"user": "alice"}).text("code")))
		if want := map[bool]int{true: 45011}[i == loginsAMinute]; got.number("errcode") != want {
			t.Fatalf("login %d: %v", i, got)
		}
	}
}

// A restarted simulator knows its people again by their openid.
func TestOpenid_survivesRestart(t *testing.T) {
	before := newWorld(t, nil).openid("alice")
	w := newWorld(t, nil)
	if rec := w.prepay(w.order("T0000001", before)); rec.Code != 200 {
		t.Errorf("prepay: %s", rec.Body)
	}
	if w.openid("alice") != before {
		t.Error("another openid")
	}
	for _, forged := range []string{"", "o", strings.Repeat("o", 28), before[:27] + "_", "p" + before[1:]} {
		w.sim.mu.Lock()
		u := w.sim.byOpenid(forged)
		w.sim.mu.Unlock()
		if u != nil && forged != before {
			t.Errorf("%q is known", forged)
		}
	}
}

func TestLogin_refusals(t *testing.T) {
	w := newWorld(t, nil)
	for _, body := range []string{``, `[]`, `{"user":""}`, `{"user":"  "}`, `{"user":1}`, `{"usr":"alice"}`, `{"user":"a","avatar":"javascript:1"}`,
		fmt.Sprintf(`{"user":%q}`, strings.Repeat("长", 65)), `{"user":"a","nickname":"` + strings.Repeat("名", 33) + `"}`, strings.Repeat("x", maxBody+1)} {
		rec := w.request("POST", "/sim/login", body)
		got := parse(t, rec.Body.Bytes())
		if rec.Code != 400 || got["ok"] != false || got.text("error") == "" || got.text("message") == "" {
			t.Errorf("%.40q: %d %v", body, rec.Code, got)
		}
	}
	if rec := w.request("GET", "/sim/login", ""); rec.Code != 404 {
		t.Errorf("GET: %d", rec.Code)
	}
	if rec := w.request("OPTIONS", "/sim/login", ""); rec.Code != 204 || rec.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("OPTIONS: %d %v", rec.Code, rec.Header())
	}
}
