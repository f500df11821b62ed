package web

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wxhub/wechat/sim"
)

// A tap is how everybody in a shop makes calls: somebody may listen.
type tap struct {
	*http.Transport
	heard atomic.Pointer[sniffer] // nil: nobody listens
}

func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(r)
	if n := t.heard.Load(); n != nil && err == nil {
		err = n.hear(r, resp)
	}
	return resp, err
}

// A sniffer stands between the hub and WeChat, and between everybody and the hub: it learns the secrets that WeChat hands
// out, and writes down what the hub answers.
type sniffer struct {
	hub, wechat string

	mu      sync.Mutex
	secrets map[string]string // by what they are
	answers []string
}

var handedOut = regexp.MustCompile(`"(access_token|session_key)":"([^"]{8,})"`)

func (n *sniffer) hear(r *http.Request, resp *http.Response) error {
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	n.mu.Lock()
	defer n.mu.Unlock()
	switch at := r.URL.String(); {
	case strings.HasPrefix(at, n.wechat+"/sim/"):
	case strings.HasPrefix(at, n.wechat):
		for _, found := range handedOut.FindAllStringSubmatch(string(text), -1) {
			n.secrets[found[1]+" "+found[2][:4]] = strings.ReplaceAll(found[2], `\/`, "/")
		}
	case strings.HasPrefix(at, n.hub):
		header, _ := json.Marshal(resp.Header)
		n.answers = append(n.answers, r.Method+" "+r.URL.Path+" "+string(header)+" "+string(text))
	}
	return nil
}

// A day at the shop, with WeChat in all its moods: no secret of the settings, and none that WeChat handed out, is in a log
// line, an error, an answer, a figure, an alarm, an event, a hook's call or a push to a phone.
func TestSecrets_canary(t *testing.T) {
	for name, options := range map[string][]shopOption{"v3": nil, "v2": {withPayV2("HMAC-SHA256")}} {
		t.Run(name, func(t *testing.T) {
			erp := newSystem(t)
			s := newShop(t, append(options, func(o *Options, _ *sim.Options) {
				o.AdminUser, o.AdminPassword = "boss", "canary-admin-password"
				o.Hooks = []Hook{
					{Name: "erp", URL: erp.URL + "?key=canary-hook-query", Secret: hookSecret, AllowPrivate: true, Events: []string{"order.paid", "order.refunded", "alarm", "push.*"}},
					{Name: "gone", URL: "http://127.0.0.1:1/?key=canary-hook-query", Secret: "canary-hook-secret", AllowPrivate: true},
				}
			})...)
			n := &sniffer{hub: s.url, wechat: s.wechat, secrets: map[string]string{
				"AppSecret": s.keys.Secret, "push token": s.keys.PushToken, "push AES key": s.keys.PushAESKey, "APIv3 key": s.keys.APIv3Key, "v2 key": s.keys.V2Key,
				"merchant key": s.keys.MerchantKeyPEM[100:160], "MP secret": s.keys.MPSecret, "MP token": s.keys.MPToken, "MP AES key": s.keys.MPAESKey,
				"JWT key": "0123456789abcdef0123456789abcdef", "API key": systemKey, "admin password": "canary-admin-password",
				"hook secret": hookSecret, "other hook's secret": "canary-hook-secret", "hook's query": "canary-hook-query",
			}}
			s.client.Transport.(*tap).heard.Store(n)
			day(t, s)
			s.eventually("the hooks", func() bool { return strings.Contains(erp.events(), "order.refunded") && s.log.having("hook gone") > 0 })
			status, _, figures := s.send("GET", s.url+"/metrics", "", nil)
			if status != 200 {
				t.Fatalf("figures: %d", status)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			s.log.mu.Lock()
			defer s.log.mu.Unlock()
			erp.mu.Lock()
			defer erp.mu.Unlock()
			places := map[string]string{
				"log": strings.Join(s.log.lines, "\n"), "answers": strings.Join(n.answers, "\n"), "figures": string(figures), "hooks": strings.Join(erp.raw, "\n"),
			}
			if len(n.secrets) < 18 || !strings.Contains(places["log"], "refused") || len(erp.raw) < 3 || len(n.answers) < 40 {
				t.Fatalf("this test sees too little: %d secrets, %d calls of hooks, %d answers", len(n.secrets), len(erp.raw), len(n.answers))
			}
			for what, secret := range n.secrets {
				for place, text := range places {
					if i := strings.Index(text, secret); i >= 0 {
						t.Errorf("%s is in the %s: …%.200s", what, place, text[max(0, i-100):])
					}
				}
			}
		})
	}
}

// day does a bit of everything, in fair weather and in foul.
func day(t *testing.T, s *shop) {
	t.Helper()
	alice, aliceID := s.login("alice")
	s.phone(alice, "notice", "room:tea")
	clerk := s.clerk()
	admin := into[tokenView](s, s.call("POST", "/api/admin/login", "", map[string]any{"username": "boss", "password": "canary-admin-password"})).Token
	s.call("POST", "/api/admin/login", "", map[string]any{"username": "boss", "password": "wrong"})
	no := s.bought(alice, "alice", "apple", 1)
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "发货"}, nil)
	s.eventually("the conversation", func() bool { return len(s.inbox()) == 1 })
	conversation := "/api/admin/conversations/" + s.inbox()[0].ID
	_, picture := somePicture(t, 9)
	everything := func() {
		s.call("POST", "/api/login", "", map[string]any{"code": s.wxLogin("bob")})
		s.call("POST", "/api/phone", alice, map[string]any{"code": s.button("alice").Code})
		s.call("PATCH", "/api/me", alice, map[string]any{"nickname": "小雨", "avatar": "https://a.example/1.png"})
		s.call("GET", "/api/me", alice, nil)
		s.call("GET", "/api/follow", alice, nil)
		s.call("POST", "/api/pay", alice, map[string]any{"productId": "pear", "quantity": 1})
		s.call("GET", "/api/orders", alice, nil)
		s.code(alice, "scene="+strings.Repeat("canary", 9))
		s.call("POST", conversation+"/reply", clerk, map[string]any{"text": "马上"})
		s.call("POST", conversation+"/reply", clerk, map[string]any{"image": picture})
		s.call("POST", conversation+"/typing", clerk, map[string]any{"typing": true})
		s.call("GET", conversation, clerk, nil)
		s.call("POST", "/api/admin/links", admin, map[string]any{"kind": "scheme"})
		s.call("POST", "/api/admin/qrcodes", admin, map[string]any{"path": "pages/a"})
		s.call("POST", "/api/admin/orders/"+no+"/shipping", admin, map[string]any{"logistics": "city"})
		s.call("POST", "/api/admin/orders/"+no+"/refund", admin, map[string]any{"amount": 1})
		s.trigger(map[string]any{"event": "follow", "user": "alice"})
		s.trigger(map[string]any{"event": "mptext", "user": "alice", "content": "@ hello"})
		s.trigger(map[string]any{"event": "trade_manage_remind_access_api", "user": "alice"})
		for _, path := range []string{"orders", "alarms?state=all", "events", "reconciliations", "stats", "nodes", "rooms", "conversations", "orders/" + no + "/refunds", "orders/" + no + "/shipping"} {
			s.call("GET", "/api/admin/"+path, admin, nil)
		}
	}
	everything()
	for _, fault := range []map[string]any{{"status": 500}, {"html": true}, {"errcode": 40001}, {"errcode": 40125}, {"lost": true}, {"errcode": 48001}, {"sign": "wrong"}} {
		fault["times"] = 60
		s.play("POST", "/sim/fault", fault, nil)
		everything()
		s.play("DELETE", "/sim/fault", nil, nil)
	}
	for _, forge := range []map[string]any{{"forge": "signature"}, {"forge": "body"}, {"forge": "serial"}, {"skew": "-20m"}, {"amount": 7}, {"appid": "wxanother"}} {
		forge["event"], forge["outTradeNo"] = "pay", no
		s.send("POST", s.wechat+"/sim/trigger", "", forge) // version 2 has no serial and no clock
	}
	s.trigger(map[string]any{"event": "message", "user": "alice", "content": "x", "forge": "signature"})
	for name := range strings.SplitSeq("/api/nothing /wechat/push /wechat/mp /ws /api/openapi.json /debug/pprof/", " ") {
		s.send("GET", s.url+name+"?token="+alice, "", nil)
	}
	if err := s.db.EraseUser(t.Context(), aliceID); err != nil {
		t.Error(err)
	}
}
