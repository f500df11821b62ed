package web

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wxhub/store"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

func TestRuleSet_fitting(t *testing.T) {
	rules, err := newRuleSet([]Reply{
		{Text: "收到", Default: true},
		{Keyword: "refund", Text: "a"}, {Keyword: "发货", Text: "b"},
		{Account: "mini", Prefix: "#", Text: "c"},
		{Event: "user_enter_tempsession", Keyword: "detail:42", Text: "d"}, {Event: "user_enter_tempsession", Text: "e"},
		{Event: "CLICK", Keyword: "HELP", Text: "f"}, {Event: "subscribe", Keyword: "shop", Text: "g"},
		{Account: "mini", Card: &ReplyCard{PagePath: "pages/a"}, Keyword: "page"}, {Card: &ReplyCard{PagePath: "pages/a"}, Keyword: "card"},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) *wechat.PushMessage { return &wechat.PushMessage{MsgType: "text", Content: s} }
	event := func(name, key, from string) *wechat.PushMessage {
		return &wechat.PushMessage{MsgType: "event", Event: name, EventKey: key, SessionFrom: from}
	}
	for _, c := range []struct {
		account string
		m       *wechat.PushMessage
		want    string
	}{
		{"mini", text("REFUND please, 发货"), "a"}, {"mini", text("发货"), "b"}, {"mini", text("你好"), "收到"}, {"mini", text(""), "收到"},
		{"mini", &wechat.PushMessage{MsgType: "image"}, "收到"}, {"mini", text(" #1"), "c"}, {"mini", text("@a"), "收到"},
		{"mini", event("user_enter_tempsession", "", "detail:42"), "d"}, {"mini", event("user_enter_tempsession", "", ""), "e"},
		{"mini", event("something", "", ""), ""}, {"mini", text("page"), "card"}, {"mini", text("card"), "card"},
		{"mp", text("@a"), "已经收到您的建议，会及时处理！"}, {"mp", text("发货"), "b"}, {"mp", text("#1"), "编辑@+您想说的话，我们可以收到"},
		{"mp", event("CLICK", "help", ""), "f"}, {"mp", event("CLICK", "other", ""), ""}, {"mp", event("subscribe", "qrscene_shop", ""), "g"},
		{"mp", event("subscribe", "", ""), ""}, {"mp", text("card"), "编辑@+您想说的话，我们可以收到"},
	} {
		got, ok := rules.fitting(c.account, c.m)
		word := got.Text
		if got.Card != nil {
			word = "card"
		}
		if word != c.want || ok != (c.want != "") {
			t.Errorf("%s %s %q %q is answered %q, want %q", c.account, c.m.Event, c.m.Content, c.m.EventKey, word, c.want)
		}
	}
	own, err := newRuleSet([]Reply{{Account: "mp", Keyword: "x", Text: "x"}})
	if err != nil || len(own) != 1 {
		t.Errorf("a shop with rules of its own has %+v, %v", own, err)
	}
}

func TestRuleSet_refused(t *testing.T) {
	link := func(u string) *ReplyLink { return &ReplyLink{Title: "x", URL: u} }
	for name, r := range map[string]Reply{
		"no answer": {Keyword: "x"}, "two answers": {Text: "x", Transfer: true}, "account": {Account: "web", Text: "x"},
		"other type": {Type: "link", Text: "x"}, "long": {Text: strings.Repeat("字", 683)}, "event and prefix": {Event: "CLICK", Prefix: "@", Text: "x"},
		"event transferred": {Event: "CLICK", Transfer: true}, "script": {Link: link("javascript:alert(1)")}, "no title": {Link: &ReplyLink{URL: "https://x"}},
		"no page": {Card: &ReplyCard{Title: "x"}}, "card there": {Account: "mp", Card: &ReplyCard{PagePath: "x"}},
	} {
		if _, err := newRuleSet([]Reply{{Text: "fine"}, r}); err == nil || !strings.Contains(err.Error(), "reply 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newRuleSet([]Reply{{Type: "link", Link: link("https://x.example")}, {Type: "transfer", Transfer: true}, {Type: "image", MediaID: "m"}}); err != nil {
		t.Error(err)
	}
}

// What a rule answers reaches the phone once, however often the push comes.
func TestReplies_everyKind(t *testing.T) {
	s := newShop(t, func(o *Options, _ *sim.Options) {
		o.Replies = []Reply{
			{Event: "user_enter_tempsession", Text: "欢迎"},
			{Keyword: "链接", Link: &ReplyLink{Title: "链接标题", Description: "链接描述", URL: "https://example.com/?a=1&b=2", ThumbURL: "https://example.com/t.png"}},
			{Keyword: "人工", Transfer: true},
			{Default: true, Text: "收到"},
		}
	})
	_, alice := s.login("alice")
	staff := s.staff()
	s.trigger(map[string]any{"event": "user_enter_tempsession", "user": "alice", "sessionFrom": "detail:42", "times": 3, "parallel": true})
	s.quiet()
	for _, said := range []string{"链接", "你好", "人工"} {
		answers := s.trigger(map[string]any{"event": "message", "user": "alice", "content": said, "times": 3})
		for _, a := range answers[1:] {
			if said != "人工" && a.Body != "success" {
				t.Errorf("%s: answered %s", said, a.Body)
			}
		}
		s.quiet()
	}
	if shown := s.chat("alice"); !slices.Equal(shown, []string{"欢迎", "链接描述", "收到"}) {
		t.Errorf("alice reads %q", shown)
	}
	if len(staff.of("kf.event")) != 1 || len(staff.of("kf.message")) != 3 {
		t.Errorf("kf heard %+v", staff.heard)
	}
	c := s.conversation(alice)
	var lines []string
	for _, m := range c.Messages {
		lines = append(lines, m.From+" "+m.Type+" "+m.Title+" "+m.Content)
	}
	want := []string{
		"user event detail:42 user_enter_tempsession", "rule text  欢迎", "user text  链接", "rule link 链接标题 https://example.com/?a=1&b=2",
		"user text  你好", "rule text  收到", "user text  人工", "rule transfer_customer_service  ",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %q\nwant %q", lines, want)
	}
}

// A customer is handed over to WeChat's own console by the answer itself, in the mode and format of the push.
func TestReplies_transfer(t *testing.T) {
	for _, mode := range []string{"plain", "compatible", "safe"} {
		for _, format := range []string{"json", "xml"} {
			t.Run(mode+" "+format, func(t *testing.T) {
				s := newShop(t, func(o *Options, p *sim.Options) {
					o.Replies = []Reply{{Keyword: "人工", Transfer: true}}
					p.PushMode, p.PushFormat = mode, format
				})
				s.login("alice")
				var got struct {
					Answers []struct {
						Status              int
						Body, Opened, Error string
						Reply               struct{ Type, Content string }
					}
				}
				s.play("POST", "/sim/trigger", map[string]any{"event": "message", "user": "alice", "content": "转人工", "times": 2}, &got)
				for _, a := range got.Answers {
					text := a.Body
					if mode == "safe" || a.Opened != "" {
						text = a.Opened
					}
					if a.Status != 200 || a.Error != "" || !strings.Contains(text, "transfer_customer_service") || strings.HasPrefix(text, "{") != (format == "json") {
						t.Errorf("answered %+v", a)
					}
				}
				s.quiet()
			})
		}
	}
}

// conversation is what was said with a user.
func (s *shop) conversation(user string) (c conversationView) {
	s.Helper()
	for _, row := range s.inbox() {
		if row.User == user {
			s.data(s.call("GET", "/api/admin/conversations/"+row.ID, s.clerk(), nil), &c)
			return c
		}
	}
	return c
}

func FuzzRuleSet(f *testing.F) {
	f.Add("mini", "text", "发货", "发", "", "")
	f.Add("mp", "event", "", "", "CLICK", "HELP")
	f.Fuzz(func(t *testing.T, account, kind, content, keyword, event, key string) {
		r := Reply{Keyword: keyword, Event: event, Text: "x"}
		rules, err := newRuleSet([]Reply{r})
		if err != nil {
			return
		}
		m := &wechat.PushMessage{MsgType: kind, Content: content, Event: event, EventKey: key, FromUserName: "o"}
		got, ok := rules.fitting(account, m)
		if ok && !json.Valid(payload(got.custom())) {
			t.Errorf("%+v", got)
		}
		if line := got.line(store.Talk{ID: "x"}); ok && (line.From != "rule" || line.Type == "") {
			t.Errorf("%+v", line)
		}
	})
}
