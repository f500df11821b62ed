package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

// opened is an answer to a push of the official account, as WeChat opens it.
type opened struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
	Opened string `json:"opened"`
	Error  string `json:"error"`
	Reply  struct {
		Type    string `json:"type"`
		Content string `json:"content"`
	} `json:"reply"`
}

// act plays what somebody does in the official account.
func (s *shop) act(what map[string]any) []opened {
	s.Helper()
	var got struct{ Answers []opened }
	s.play("POST", "/sim/trigger", what, &got)
	for _, a := range got.Answers {
		if a.Status != 200 || a.Error != "" {
			s.Errorf("%v is answered %+v", what, a)
		}
	}
	return got.Answers
}

// shown is what a person reads in the official account.
func (s *shop) shown(name string) (list []string) {
	s.Helper()
	var got struct {
		Messages []struct{ From, Content string }
	}
	s.play("GET", "/sim/chat?account=mp&after=0&user="+name, nil, &got)
	for _, m := range got.Messages {
		if m.From == "shop" {
			list = append(list, m.Content)
		}
	}
	return list
}

// From following to leaving, as the fifth article tells it.
func TestMP_followToUnfollow(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	staff := s.staff()
	follows := func() bool {
		t.Helper()
		var v followView
		s.data(s.call("GET", "/api/follow", token, nil), &v)
		return v.Followed
	}
	if follows() {
		t.Error("follows before following")
	}
	began := time.Now().Add(-time.Second)
	s.act(map[string]any{"event": "follow", "user": "alice", "scene": "shop-42", "times": 3, "parallel": true})
	s.eventually("follows, by unionid", follows)
	s.quiet()
	heard := staff.of("follow")
	var told followTold
	if len(heard) != 1 || json.Unmarshal(heard[0].Data.Payload, &told) != nil || told.User == "" || time.UnixMilli(told.At).Before(began.Add(-time.Second)) {
		t.Fatalf("kf heard %+v", heard)
	}
	fan, err := s.db.User(t.Context(), told.User)
	if err != nil || fan.AppID != s.keys.MPAppID || fan.UnionID == "" || fan.ID == alice {
		t.Fatalf("the follower is %+v, %v", fan, err)
	}
	s.act(map[string]any{"event": "mptext", "user": "alice", "content": "@ 多开几家店"})
	s.quiet()

	s.act(map[string]any{"event": "unfollow", "user": "alice", "times": 2})
	s.eventually("left", func() bool { return !follows() })
	s.quiet()
	if n := len(staff.of("unfollow")); n != 1 {
		t.Errorf("kf heard unfollow %d times", n)
	}
	if _, err := s.db.User(t.Context(), fan.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a person who left is kept: %v", err)
	}
	for _, row := range s.inbox() {
		if row.User == fan.ID {
			t.Errorf("what they said is kept: %+v", row)
		}
	}
	if _, err := s.db.User(t.Context(), alice); err != nil {
		t.Errorf("the mini-program's user is another matter: %v", err)
	}
	for _, h := range append(staff.of("follow"), staff.of("unfollow")...) {
		if text, _ := json.Marshal(h); strings.Contains(string(text), fan.OpenID) || strings.Contains(string(text), fan.UnionID) {
			t.Errorf("an openid or unionid is told: %s", text)
		}
	}
	if s.log.having(fan.OpenID) > 0 || s.log.having(fan.UnionID) > 0 {
		t.Error("an openid or unionid is in the log")
	}
	// They come back as somebody new.
	s.act(map[string]any{"event": "follow", "user": "alice", "createTime": time.Now().Unix() + 1})
	s.quiet()
	if json.Unmarshal(staff.of("follow")[1].Data.Payload, &told) != nil || told.User == fan.ID {
		t.Errorf("came back as %+v", told)
	}
}

// Passive replies come in the mode and format of the push, once, and a repeat gets the first one's.
func TestMP_everyModeAndFormat(t *testing.T) {
	for _, mode := range []string{"plain", "compatible", "safe"} {
		for _, format := range []string{"xml", "json"} {
			t.Run(mode+" "+format, func(t *testing.T) {
				s := newShop(t, func(_ *Options, o *sim.Options) { o.MPMode, o.MPFormat = mode, format })
				s.login("alice")
				staff := s.staff()
				s.act(map[string]any{"event": "follow", "user": "alice"})
				for said, want := range map[string]string{
					`@ <b>&"]]> 🍎`: "已经收到您的建议，会及时处理！", "你好": "编辑@+您想说的话，我们可以收到",
				} {
					for _, a := range s.act(map[string]any{"event": "mptext", "user": "alice", "content": said, "times": 3}) {
						if a.Reply.Type != "text" || a.Reply.Content != want {
							t.Errorf("%q is answered %+v", said, a)
						}
						if sealed := strings.Contains(a.Body, "MsgSignature"); sealed != (mode != "plain") || strings.HasPrefix(a.Body, "{") != (format == "json") {
							t.Errorf("%q is answered in another form: %s", said, a.Body)
						}
					}
				}
				s.quiet()
				if n := len(staff.of("kf.message")); n != 2 {
					t.Errorf("kf heard %d", n)
				}
			})
		}
	}
}

func TestMP_events(t *testing.T) {
	s := newShop(t, func(o *Options, _ *sim.Options) {
		o.Replies = []Reply{
			{Event: "subscribe", Account: "mp", Link: &ReplyLink{Title: "欢迎", Description: "看看", URL: "https://example.com"}},
			{Event: "CLICK", Keyword: "HOURS", Text: "九点到九点"}, {Account: "mp", Keyword: "人工", Transfer: true},
		}
	})
	s.login("alice")
	staff := s.staff()
	one := func(what map[string]any) opened {
		t.Helper()
		what["user"] = "alice"
		return s.act(what)[0]
	}
	if a := one(map[string]any{"event": "follow"}); a.Reply.Type != "news" || !strings.Contains(a.Opened, "<Url><![CDATA[https://example.com]]></Url>") {
		t.Errorf("following is answered %+v", a)
	}
	if a := one(map[string]any{"event": "click", "key": "HOURS"}); a.Reply.Content != "九点到九点" {
		t.Errorf("a menu is answered %+v", a)
	}
	if a := one(map[string]any{"event": "mptext", "content": "人工"}); a.Reply.Type != "transfer_customer_service" {
		t.Errorf("handed over: %+v", a)
	}
	for _, what := range []map[string]any{
		{"event": "mptext", "content": "@ 没有规则"}, // the shop's rules stand in place of ours
		{"event": "click", "key": "OTHER"}, {"event": "view", "key": "https://example.com/menu"}, {"event": "scan", "key": "table-7"},
		{"event": "location", "latitude": 31.2, "longitude": 121.5},
	} {
		if a := one(what); a.Body != "success" {
			t.Errorf("%v is answered %s", what, a.Body)
		}
	}
	s.quiet()
	var events []string
	for _, h := range staff.of("kf.event") {
		var e customerEvent
		if err := json.Unmarshal(h.Data.Payload, &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e.Event+" "+e.Key)
	}
	slices.Sort(events)
	if want := []string{"CLICK HOURS", "CLICK OTHER", "SCAN table-7", "VIEW https://example.com/menu"}; !slices.Equal(events, want) {
		t.Errorf("kf heard %q", events)
	}
	if rows := s.inbox(); len(rows) != 1 || rows[0].Unread != 2 {
		t.Errorf("the inbox is %+v", rows)
	}
}

// What the platform reports under somebody's openid makes nobody known, who may have left.
func TestMP_platformReports(t *testing.T) {
	d := desk{mpAppID: "wx-mp", rules: ruleSet{{Event: "LOCATION", Text: "x"}}}
	for _, event := range []string{"TEMPLATESENDJOBFINISH", "MASSSENDJOBFINISH", "LOCATION"} {
		p := d.mpPush(&wechat.PushMessage{FromUserName: "o1", MsgType: "event", Event: event})
		if p.OpenID != "" || p.Talk != nil || p.Reply != nil || p.Tell != nil || string(p.Answer) != "success" {
			t.Errorf("%s: %+v", event, p)
		}
	}
	if p := d.mpPush(&wechat.PushMessage{FromUserName: "o1", MsgType: "event", Event: "view_miniprogram"}); p.OpenID != "o1" || p.Tell == nil || p.Talk != nil {
		t.Errorf("an event that nobody knows: %+v", p)
	}
}

// A clerk answers a follower in the official account, not in the mini-program.
func TestMP_staffReplies(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	s.act(map[string]any{"event": "follow", "user": "alice"})
	s.act(map[string]any{"event": "mptext", "user": "alice", "content": "@ 怎么退款"})
	s.quiet()
	path := "/api/admin/conversations/" + s.inbox()[0].ID + "/reply"
	s.data(s.call("POST", path, s.clerk(), map[string]any{"text": "马上"}), nil)
	s.data(s.call("POST", path, s.clerk(), map[string]any{"link": map[string]any{"title": "说明", "description": "", "url": "https://example.com/r", "thumbUrl": ""}}), nil)
	s.quiet()
	if got := s.shown("alice"); !slices.Equal(got, []string{"已经收到您的建议，会及时处理！", "马上", "说明\nhttps://example.com/r"}) {
		t.Errorf("alice reads %q", got)
	}
	if got := s.chat("alice"); len(got) > 0 {
		t.Errorf("in the mini-program alice reads %q", got)
	}
}

// user/info is asked after the answer; while WeChat is away the follower waits, and is learned of later.
func TestMP_userInfoAway(t *testing.T) {
	s := newShop(t)
	token, _ := s.login("alice")
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/user/info", "errcode": -1, "times": 1}, nil)
	began := time.Now()
	s.act(map[string]any{"event": "follow", "user": "alice"})
	if took := time.Since(began); took > time.Second {
		t.Errorf("answered in %v", took)
	}
	s.eventually("learned of", func() bool {
		var v followView
		s.data(s.call("GET", "/api/follow", token, nil), &v)
		return v.Followed
	})
}

func TestMP_refused(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	staff := s.staff()
	s.act(map[string]any{"event": "follow", "user": "alice"})
	s.quiet()
	for name, with := range map[string]map[string]any{
		"signature": {"forge": "signature"}, "body": {"forge": "body"}, "stale": {"skew": "-20m"}, "unsealed": {"mode": "plain"},
		"the other account's door": {"url": s.url + "/wechat/push"},
	} {
		for _, event := range []string{"mptext", "unfollow"} {
			s.act(map[string]any{"event": "follow", "user": "alice"}) // for WeChat they left; the shop does not know
			body := map[string]any{"event": event, "user": "alice", "content": "forged"}
			for k, v := range with {
				body[k] = v
			}
			for _, a := range s.trigger(body) {
				if a.Status < 400 || a.Status > 499 {
					t.Errorf("%s, %s: answered %d %s", event, name, a.Status, a.Body)
				}
			}
		}
	}
	s.quiet()
	if n := len(staff.of("kf.message")) + len(staff.of("unfollow")); n != 0 {
		t.Errorf("kf heard %d forged pushes", n)
	}
	if status, _, _ := s.send("GET", s.url+"/wechat/mp", "", nil); status < 400 || status > 499 {
		t.Errorf("an unsigned check is answered %d", status)
	}
	for _, a := range s.trigger(map[string]any{"event": "check", "account": "mp"}) {
		if a.Status != 200 {
			t.Errorf("the check is answered %d %s", a.Status, a.Body)
		}
	}
}

// The store is stuck: WeChat hears 5xx within a second.
func TestMP_storeAway(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	release := s.holdStore()
	began := time.Now()
	answers := s.trigger(map[string]any{"event": "follow", "user": "alice"})
	if took := time.Since(began); answers[0].Status < 500 || took > 2*time.Second {
		t.Errorf("answered %d in %v", answers[0].Status, took)
	}
	release()
	s.act(map[string]any{"event": "follow", "user": "alice"})
	s.quiet()
}

func TestMP_notConfigured(t *testing.T) {
	d := &door{callbacks: newCallbacks(Options{}, nil), name: "mp"}
	for method, serve := range map[string]http.HandlerFunc{"GET": d.check, "POST": d.take} {
		w := httptest.NewRecorder()
		serve(w, httptest.NewRequest(method, "/wechat/mp", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d", method, w.Code)
		}
	}
}
