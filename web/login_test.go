package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web"
	"wxhub/wechat"
)

func TestLogin_profile(t *testing.T) {
	s := newShop(t)
	p := s.phone("alice")
	var l login
	a := s.ask("POST", "/api/login", "", map[string]any{
		"code": p.Code, "rawData": p.RawData, "signature": p.Signature, "encryptedData": p.EncryptedData, "iv": p.IV,
	})
	a.into(t, &l)
	if l.ExpiresIn != 3600 || l.User.Nickname != "小雨" || !strings.HasPrefix(l.User.Avatar, "http") || l.User.ID == "" {
		t.Errorf("%s", a.Text)
	}
	for _, secret := range []string{p.OpenID, "openid", "unionid", "session_key", "sessionKey"} {
		if strings.Contains(strings.ToLower(a.Text), strings.ToLower(secret)) {
			t.Errorf("%s is in %s", secret, a.Text)
		}
	}
	session, err := s.tokens.Check(t.Context(), l.Token)
	if err != nil || session.User != l.User.ID || session.Role != "user" || len(session.Rooms) != 0 {
		t.Errorf("%+v %v", session, err)
	}
	var me struct{ ID, Nickname string }
	s.ask("GET", "/api/me", l.Token, nil).into(t, &me)
	if me.ID != l.User.ID || me.Nickname != "小雨" {
		t.Errorf("me: %+v", me)
	}
	if again := s.login("alice"); again.User.ID != l.User.ID || again.Token == l.Token {
		t.Errorf("the same person again: %+v", again.User)
	}
	if bob := s.login("bob"); bob.User.ID == l.User.ID {
		t.Error("bob is alice")
	}
	// A token of the shop's own back end, for somebody whom the store does not know.
	s.ask("GET", "/api/me", s.token("erp-7", "user"), nil).into(t, &me)
	if me.ID != "erp-7" {
		t.Errorf("unknown to the store: %+v", me)
	}
}

func TestLogin_refusals(t *testing.T) {
	s := newShop(t)
	used := s.phone("alice")
	s.ask("POST", "/api/login", "", map[string]any{"code": used.Code})
	bob := s.phone("bob")
	fresh := func() phone { return s.phone("carol") }
	for name, test := range map[string]struct {
		in     map[string]any
		status int
		word   string
	}{
		"unknown code":                {map[string]any{"code": "nonsense"}, 401, "invalid_code"},
		"used code":                   {map[string]any{"code": used.Code}, 401, "invalid_code"},
		"signature alone":             {map[string]any{"code": "x", "signature": "s"}, 400, "bad_request"},
		"rawData alone":               {map[string]any{"code": "x", "rawData": "{}"}, 400, "bad_request"},
		"iv alone":                    {map[string]any{"code": "x", "iv": "i"}, 400, "bad_request"},
		"wrong signature":             {map[string]any{"code": fresh().Code, "rawData": `{"nickName":"Mallory"}`, "signature": strings.Repeat("0", 40)}, 400, "bad_signature"},
		"another person's profile":    {map[string]any{"code": fresh().Code, "rawData": bob.RawData, "signature": bob.Signature}, 400, "bad_signature"},
		"another person's data":       {map[string]any{"code": fresh().Code, "encryptedData": bob.EncryptedData, "iv": bob.IV}, 400, "bad_data"},
		"encryptedData is no base64":  {map[string]any{"code": fresh().Code, "encryptedData": "%%%", "iv": bob.IV}, 400, "bad_data"},
		"encryptedData is not padded": {map[string]any{"code": fresh().Code, "encryptedData": "AAAA", "iv": "AAAA"}, 400, "bad_data"},
	} {
		a := s.ask("POST", "/api/login", "", test.in)
		a.wellFormed(t, name)
		if a.Status != test.status || a.word() != test.word {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
	if _, err := s.db.UserByOpenID(t.Context(), credentials().AppID, s.phone("carol").OpenID); err == nil {
		t.Error("a refused login made a user")
	}
}

func TestLogin_weChatAway(t *testing.T) {
	s := newShop(t)
	for name, test := range map[string]struct {
		fault  map[string]any
		status int
		word   string
		retry  bool
	}{
		"busy":      {map[string]any{"errcode": -1, "times": 10}, 503, "wechat_busy", true},
		"502":       {map[string]any{"status": 502, "times": 10}, 503, "wechat_busy", true},
		"hung up":   {map[string]any{"lost": true, "times": 10}, 503, "wechat_busy", true},
		"HTML":      {map[string]any{"html": true, "times": 10}, 502, "wechat_nonsense", false},
		"too often": {map[string]any{"errcode": 45011, "times": 10}, 429, "too_many", true},
		"risky":     {map[string]any{"errcode": 40226, "times": 10}, 403, "blocked", false},
		"secret":    {map[string]any{"errcode": 40125, "times": 10}, 500, "wechat_config", false},
	} {
		p := s.phone("alice")
		test.fault["path"] = "/sns/jscode2session"
		s.simulate("/sim/fault", test.fault, nil)
		a := s.ask("POST", "/api/login", "", map[string]any{"code": p.Code})
		a.wellFormed(t, name)
		if a.Status != test.status || a.word() != test.word || (a.Header.Get("Retry-After") != "") != test.retry {
			t.Errorf("%s: %d %s, Retry-After %q", name, a.Status, a.Text, a.Header.Get("Retry-After"))
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.sim+"/sim/fault", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	log := s.log.String()
	for _, secret := range []string{credentials().Secret, "js_code="} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	none := newShop(t, func(o *web.Options) { o.WeChat = nil })
	if a := none.ask("POST", "/api/login", "", map[string]any{"code": "x"}); a.Status != 503 || a.word() != "not_configured" {
		t.Errorf("without an app: %d %s", a.Status, a.Text)
	}
}

func TestLogin_nicknames(t *testing.T) {
	s := newShop(t)
	for given, want := range map[string]string{
		"\u202egnp.exe":             "gnp.exe",
		"line\nbreak\ttab":          "line break tab",
		"<script>alert(1)</script>": "<script>alert(1)</script>",
		"👨‍👩‍👧":                     "👨‍👩‍👧",
	} {
		var p phone
		s.simulate("/sim/login", map[string]any{"user": "nick" + fmt.Sprint(len(given)), "nickname": given}, &p)
		var l login
		s.ask("POST", "/api/login", "", map[string]any{"code": p.Code, "rawData": p.RawData, "signature": p.Signature}).into(t, &l)
		if l.User.Nickname != want {
			t.Errorf("%q became %q, want %q", given, l.User.Nickname, want)
		}
	}
}

func TestLogin_refresh(t *testing.T) {
	s := newShop(t)
	token := s.token("erp", "staff", "vip:*")
	var fresh struct {
		Token     string
		ExpiresIn int64
	}
	s.ask("POST", "/api/login/refresh", token, nil).into(t, &fresh)
	if a := s.ask("GET", "/api/me", token, nil); a.Status != 401 {
		t.Errorf("the old token lives: %s", a.Text)
	}
	if a := s.ask("POST", "/api/login/refresh", token, nil); a.Status != 401 {
		t.Errorf("the old token is good for another one: %s", a.Text)
	}
	session, err := s.tokens.Check(t.Context(), fresh.Token)
	if err != nil || session.User != "erp" || session.Role != "staff" || len(session.Rooms) != 1 || fresh.ExpiresIn != 3600 {
		t.Errorf("%+v %v", session, err)
	}
}

// A refresh never mends what the store could not write.
func TestLogin_storeAway(t *testing.T) {
	s := newShop(t)
	token := s.token("alice", "user")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/login/refresh", "/api/logout"} {
		a := s.ask("POST", path, token, nil)
		a.wellFormed(t, path)
		if a.Status != 500 || a.word() != "internal" || strings.Contains(a.Text, "store") {
			t.Errorf("%s: %d %s", path, a.Status, a.Text)
		}
	}
	if a := s.ask("GET", "/readyz", "", nil); a.Status != 503 {
		t.Errorf("ready: %d", a.Status)
	}
	if a := s.ask("GET", "/healthz", "", nil); a.Status != 200 {
		t.Errorf("alive: %d", a.Status)
	}
	if a := s.ask("GET", "/metrics", "", nil); a.Status != 200 {
		t.Errorf("metrics: %d", a.Status)
	}
}

func TestAdminLogin(t *testing.T) {
	s := newShop(t)
	var l struct{ Token string }
	s.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": adminPassword}).into(t, &l)
	if session, err := s.tokens.Check(t.Context(), l.Token); err != nil || session.Role != "admin" {
		t.Errorf("%+v %v", session, err)
	}
	if a := s.ask("GET", "/api/admin/stats", l.Token, nil); a.Status != 200 {
		t.Errorf("stats: %s", a.Text)
	}
	var first string
	for name, in := range map[string]map[string]any{
		"wrong password": {"username": "admin", "password": "x"}, "wrong name": {"username": "root", "password": adminPassword},
		"both":        {"username": "root", "password": "x"},
		"with a tail": {"username": "admin", "password": adminPassword + "\x00"}, "capitals": {"username": "ADMIN", "password": adminPassword},
	} {
		a := s.ask("POST", "/api/admin/login", "", in)
		if first == "" {
			first = a.Text
		}
		if a.Status != 401 || a.word() != "bad_login" || a.Text != first {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
	if log := s.log.String(); strings.Contains(log, adminPassword) || strings.Contains(log, l.Token) {
		t.Error("a password or token is in the log")
	}
	none := newShop(t, func(o *web.Options) { o.AdminPassword = "" })
	if a := none.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": "x"}); a.Status != 503 || a.word() != "not_configured" {
		t.Errorf("without a password: %d %s", a.Status, a.Text)
	}
}

func TestAdmin_ordersAndStats(t *testing.T) {
	s := newShop(t)
	alice := s.login("alice")
	var paid struct{ OutTradeNo string }
	s.ask("POST", "/api/pay", alice.Token, map[string]any{"productId": "tea", "quantity": 2}).into(t, &paid)
	var orders []struct {
		OutTradeNo, State, UserID string
		Total                     int64
	}
	a := s.ask("GET", "/api/admin/orders?state=paying&userId="+alice.User.ID, "key", nil)
	a.into(t, &orders)
	if len(orders) != 1 || orders[0].OutTradeNo != paid.OutTradeNo || orders[0].Total != 2560 || orders[0].UserID != alice.User.ID {
		t.Errorf("%s", a.Text)
	}
	if strings.Contains(a.Text, s.phone("alice").OpenID) {
		t.Errorf("an openid is in %s", a.Text)
	}
	for _, none := range []string{"state=paid", "userId=nobody", "before=1000"} {
		if a := s.ask("GET", "/api/admin/orders?"+none, "key", nil); string(a.Data) != "[]" {
			t.Errorf("%s: %s", none, a.Text)
		}
	}
	s.dial("/ws?room=notice&token=" + alice.Token).welcome()
	var stats struct {
		Version               string
		Sockets, Users, Rooms int
		Outbox                struct{ Waiting int }
	}
	s.ask("GET", "/api/admin/stats", "key", nil).into(t, &stats)
	if stats.Version != "test" || stats.Sockets != 1 || stats.Users != 1 || stats.Rooms != 3 {
		t.Errorf("%+v", stats)
	}
}

func TestMailbox(t *testing.T) {
	s := newShop(t)
	m := web.Mailbox(s.db, "test")
	for i := range 5 {
		if _, err := s.db.AddMail(t.Context(), []string{"alice"}, store.Letter{ID: fmt.Sprint(i), Action: "a", Payload: json.RawMessage(`{"n": 1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	heads, err := m.Heads(t.Context(), []string{"user:alice", "user:bob"})
	if err != nil || len(heads) != 2 || heads[0].Offset != 5 || heads[1].Offset != 0 || heads[0].Epoch == "" {
		t.Errorf("%+v %v", heads, err)
	}
	p, err := m.Read(t.Context(), "user:alice", hub.Query{After: 3, Limit: 10})
	if err != nil || len(p.Messages) != 2 || p.Messages[0].Offset != 4 || p.Head != 5 || p.First != 1 || string(p.Messages[0].Payload) != `{"n": 1}` || p.Messages[1].ID != "4" {
		t.Errorf("%+v %v", p, err)
	}
	if p, err := m.Read(t.Context(), "user:alice", hub.Query{Newest: true, Limit: 1}); err != nil || len(p.Messages) != 1 || p.Messages[0].Offset != 5 {
		t.Errorf("%+v %v", p, err)
	}
	if err := m.Ack(t.Context(), "user:alice", 2); err != nil {
		t.Error(err)
	}
	if acked, err := m.Acked(t.Context(), []string{"user:alice"}); err != nil || acked[0] != 2 {
		t.Errorf("%v %v", acked, err)
	}
	for _, room := range []string{"notice", "user:", "", "user"} {
		if _, err := m.Heads(t.Context(), []string{room}); err == nil {
			t.Errorf("room %q has a mailbox", room)
		}
	}
}

var errBoom = "canary-of-a-panic"

// panics is a WeChat Pay whose every call is a programming error.
type panics struct{ wechat.Pay }

func (panics) Prepay(context.Context, wechat.PayOrder) (string, error) { panic(errBoom) }

func TestServer_panic(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Pay = panics{} })
	a := s.ask("POST", "/api/pay", s.login("alice").Token, map[string]any{"productId": "tea", "quantity": 1})
	a.wellFormed(t, "panic")
	id := a.Header.Get("X-Request-Id")
	if a.Status != 500 || a.word() != "internal" || id == "" || strings.Contains(a.Text, errBoom) {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	if log := s.log.String(); !strings.Contains(log, "panic in a handler") || !strings.Contains(log, id) || strings.Contains(log, errBoom) {
		t.Errorf("log: %s", log)
	}
	if a := s.ask("GET", "/api/products", "", nil); a.Status != 200 {
		t.Errorf("afterwards: %s", a.Text)
	}
}
