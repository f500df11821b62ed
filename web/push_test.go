package web

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat/sim"
)

// staff opens a socket in room kf.
func (s *shop) staff() *handset {
	s.Helper()
	token, err := s.server.o.Tokens.Issue("clerk", "staff", nil, time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	return s.phone(token, "kf")
}

// chat is what a person reads in the chat with the shop.
func (s *shop) chat(name string) (shop []string) {
	s.Helper()
	var got struct {
		Messages []struct{ From, Content string }
	}
	s.play("GET", "/sim/chat?user="+url.QueryEscape(name)+"&after=0", nil, &got)
	for _, m := range got.Messages {
		if m.From == "shop" {
			shop = append(shop, m.Content)
		}
	}
	return shop
}

func TestPush_everyModeAndFormat(t *testing.T) {
	for _, mode := range []string{"plain", "compatible", "safe"} {
		for _, format := range []string{"json", "xml"} {
			t.Run(mode+" "+format, func(t *testing.T) {
				s := newShop(t, func(_ *Options, o *sim.Options) { o.PushMode, o.PushFormat = mode, format })
				_, alice := s.login("alice")
				staff := s.staff()
				said := `什么时候发货? <b>&"]]> 🍎`

				answers := s.trigger(map[string]any{"event": "message", "user": "alice", "content": said, "times": 3, "parallel": true})
				if len(answers) != 3 {
					t.Fatalf("%d answers", len(answers))
				}
				for _, a := range answers {
					if a.Status != 200 || a.Body != "success" || a.Ms > 1000 {
						t.Errorf("answered %d %q in %v ms", a.Status, a.Body, a.Ms)
					}
				}
				s.eventually("the message in kf", func() bool { return len(staff.of("kf.message")) > 0 })
				s.eventually("the auto-reply", func() bool { return len(s.chat("alice")) > 0 })
				s.quiet()
				messages := staff.of("kf.message")
				if len(messages) != 1 {
					t.Fatalf("kf heard it %d times", len(messages))
				}
				var m customerMessage
				if err := json.Unmarshal(messages[0].Data.Payload, &m); err != nil {
					t.Fatal(err)
				}
				if m.Content != said || m.Type != "text" || m.User != alice || m.Conversation == "" || m.MsgID == "" || time.Since(time.UnixMilli(m.At)).Abs() > time.Minute {
					t.Errorf("kf heard %+v", m)
				}
				if got := s.chat("alice"); !slices.Equal(got, []string{"四十八小时内发货"}) {
					t.Errorf("alice reads %v", got)
				}
				_, talks, err := s.db.Talks(t.Context(), m.Conversation, 10)
				if err != nil || len(talks) != 2 || talks[0].Content != said || talks[1].From != "rule" || talks[1].Content != "四十八小时内发货" {
					t.Errorf("kept %+v, %v", talks, err)
				}
			})
		}
	}
}

// A person types into the chat; nothing fits a rule; the answer is success alone.
func TestPush_withoutRule(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	staff := s.staff()
	var got struct {
		OK    bool
		Shown string
	}
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "text", "content": "你好"}, &got)
	if !got.OK || got.Shown != "" {
		t.Errorf("alice sees %+v", got)
	}
	s.eventually("the message in kf", func() bool { return len(staff.of("kf.message")) == 1 })
	s.quiet()
	if got := s.chat("alice"); len(got) != 0 {
		t.Errorf("alice reads %v", got)
	}
}

func TestPush_forged(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	staff := s.staff()
	for name, with := range map[string]map[string]any{
		"signature":      {"forge": "signature"},
		"body":           {"forge": "body"},
		"stale":          {"skew": "-20m"},
		"unsealed":       {"mode": "plain"},
		"signature, XML": {"forge": "signature", "format": "xml"},
	} {
		t.Run(name, func(t *testing.T) {
			body := map[string]any{"event": "message", "user": "alice", "content": "发货 forged"}
			for k, v := range with {
				body[k] = v
			}
			for _, a := range s.trigger(body) {
				if a.Status < 400 || a.Status > 499 {
					t.Errorf("answered %d %s", a.Status, a.Body)
				}
			}
		})
	}
	s.quiet()
	if n := len(staff.of("kf.message")); n != 0 {
		t.Errorf("kf heard %d forged messages", n)
	}
	if got := s.chat("alice"); len(got) != 0 {
		t.Errorf("alice reads %v", got)
	}
	if all, err := s.db.Conversations(t.Context(), 10); err != nil || slices.ContainsFunc(all, func(c store.Conversation) bool { return c.LastText != "" }) {
		t.Errorf("kept %+v, %v", all, err)
	}
}

// signed is a plain push's address.
func (s *shop) signed(more ...string) string {
	timestamp, nonce := fmt.Sprint(time.Now().Unix()), "n0nce"
	parts := []string{s.keys.PushToken, timestamp, nonce}
	slices.Sort(parts)
	digest := sha1.Sum([]byte(strings.Join(parts, "")))
	q := url.Values{"signature": {hex.EncodeToString(digest[:])}, "timestamp": {timestamp}, "nonce": {nonce}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return s.url + "/wechat/push?" + q.Encode()
}

func TestPush_checkURL(t *testing.T) {
	s := newShop(t)
	for _, path := range []string{"/wechat/push", "/message/check"} {
		address := strings.Replace(s.signed("echostr", "5838479218127813673"), "/wechat/push", path, 1)
		status, header, body := s.send("GET", address, "", nil)
		if status != 200 || string(body) != "5838479218127813673" || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s answered %d %s %v", path, status, body, header)
		}
		if status, _, body := s.send("GET", strings.Replace(address, "signature=", "signature=0", 1), "", nil); status < 400 || status > 499 || strings.Contains(string(body), "58384") {
			t.Errorf("%s answered a forger %d %s", path, status, body)
		}
		if status, _, _ := s.send("GET", s.url+path, "", nil); status < 400 || status > 499 {
			t.Errorf("%s answered %d without a query", path, status)
		}
	}
}

func plainMode(_ *Options, o *sim.Options) { o.PushMode = "plain" }

func TestPush_events(t *testing.T) {
	s := newShop(t, plainMode)
	_, alice := s.login("alice")
	u, err := s.db.User(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	staff := s.staff()
	now := time.Now().Unix()
	event := func(name, more string) string {
		return fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":"%s","CreateTime":%d,"MsgType":"event","Event":"%s"%s}`, u.OpenID, now, name, more)
	}
	for _, body := range []string{
		event("user_enter_tempsession", `,"SessionFrom":"detail:42"`),
		event("user_enter_tempsession", `,"SessionFrom":"detail:42"`), // a repeat
		event("wxa_media_check", `,"trace_id":"t"`),                   // the platform's own
		event("something_new_in_2027", `,"List":{"a":[1,{"b":null}]}`),
		event("debug_demo", ""),
	} {
		if status, _, answer := s.send("POST", s.signed(), "", body); status != 200 || string(answer) != "success" {
			t.Errorf("%s answered %d %s", body, status, answer)
		}
	}
	s.eventually("both events in kf", func() bool { return len(staff.of("kf.event")) == 2 })
	s.quiet()
	events := staff.of("kf.event")
	if len(events) != 2 {
		t.Fatalf("kf heard %d events", len(events))
	}
	var e customerEvent
	if err := json.Unmarshal(events[0].Data.Payload, &e); err != nil {
		t.Fatal(err)
	}
	if e.User != alice || e.Conversation == "" || e.Event != "user_enter_tempsession" || e.SessionFrom != "detail:42" || e.At != now*1000 {
		t.Errorf("kf heard %+v", e)
	}
	for _, h := range events {
		if text, _ := json.Marshal(h); strings.Contains(string(text), u.OpenID) {
			t.Errorf("an openid is told: %s", text)
		}
	}
}

func TestPush_badInput(t *testing.T) {
	s := newShop(t, plainMode)
	staff := s.staff()
	deep := strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100)
	for name, c := range map[string]struct {
		body   string
		status int // 0: any 4xx
	}{
		"nothing":        {"", 400},
		"not JSON":       {`{"MsgType":`, 400},
		"an array":       {`[]`, 400},
		"no sender":      {`{"MsgType":"text","MsgId":1,"Content":"x"}`, 400},
		"no type":        {`{"FromUserName":"o1","MsgId":1}`, 400},
		"DOCTYPE":        {`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><Content>&e;</Content></xml>`, 400},
		"laughs":         {`<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><xml><Content>&b;</Content></xml>`, 400},
		"unknown entity": {`<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><Content>&e;</Content></xml>`, 400},
		"deep":           {`<xml>` + deep + `</xml>`, 400},
		"a megabyte":     {`{"FromUserName":"o1","MsgType":"text","Content":"` + strings.Repeat("a", 1<<20) + `"}`, 413},
		"milliseconds":   {`{"FromUserName":"o1","MsgType":"text","MsgId":1,"CreateTime":1700000000000}`, 400},
		"control":        {`{"FromUserName":"o1\u0000","MsgType":"text","MsgId":1}`, 400},
		"long sender":    {`{"FromUserName":"` + strings.Repeat("o", 500) + `","MsgType":"text","MsgId":1}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, answer := s.send("POST", s.signed(), "", c.body)
			if status != c.status {
				t.Errorf("answered %d %s", status, answer)
			}
		})
	}
	if status, _, _ := s.send("PUT", s.signed(), "", "{}"); status != 405 {
		t.Errorf("PUT answered %d", status)
	}
	if status, _, _ := s.send("POST", s.url+"/wechat/push", "", `{"FromUserName":"o1","MsgType":"text","MsgId":1}`); status < 400 || status > 499 {
		t.Errorf("an unsigned push answered %d", status)
	}
	s.quiet()
	if n := len(staff.of("kf.message")); n != 0 {
		t.Errorf("kf heard %d", n)
	}
	// What is long or strange but true is taken, not sent back to WeChat for another two tries.
	odd := `{"FromUserName":"o1","MsgType":"text","MsgId":7,"Content":"\u0000` + strings.Repeat("字", 3000) + `"}`
	if status, _, answer := s.send("POST", s.signed(), "", odd); status != 200 || string(answer) != "success" {
		t.Errorf("a long text answered %d %s", status, answer)
	}
	s.eventually("the long text", func() bool { return len(staff.of("kf.message")) == 1 })
}

// The store is stuck: WeChat hears 5xx within a second, and the message counts once when it comes again.
func TestPush_storeAway(t *testing.T) {
	s := newShop(t, plainMode)
	staff := s.staff()
	body := fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":%d,"MsgType":"text","MsgId":42,"Content":"x"}`, time.Now().Unix())
	release := s.holdStore()
	began := time.Now()
	status, _, _ := s.send("POST", s.signed(), "", body)
	if took := time.Since(began); status < 500 || took > 1500*time.Millisecond {
		t.Errorf("answered %d in %v", status, took)
	}
	release()
	for range 2 {
		if status, _, answer := s.send("POST", s.signed(), "", body); status != 200 || string(answer) != "success" {
			t.Errorf("answered %d %s", status, answer)
		}
	}
	s.eventually("the message", func() bool { return len(staff.of("kf.message")) == 1 })
	s.quiet()
	if n := len(staff.of("kf.message")); n != 1 {
		t.Errorf("kf heard it %d times", n)
	}
}

// WeChat forgets our access token: it is fetched again once, and the reply arrives once.
func TestPush_tokenDied(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "text", "content": "发货 1"}, nil)
	s.eventually("the first reply", func() bool { return len(s.chat("alice")) == 1 })
	s.play("POST", "/sim/fault", map[string]any{"tokenInvalid": true}, nil)
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "text", "content": "发货 2"}, nil)
	s.eventually("the second reply", func() bool { return len(s.chat("alice")) == 2 })
	s.quiet()
	if got := s.chat("alice"); len(got) != 2 {
		t.Errorf("alice reads %v", got)
	}
}

// WeChat's own API is slow: pushes are answered at once all the same.
func TestPush_slowWeChat(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	staff := s.staff()
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/message/custom/send", "slow": 2000}, nil)
	for i := range 3 {
		for _, a := range s.trigger(map[string]any{"event": "message", "user": "alice", "content": fmt.Sprint("发货 ", i)}) {
			if a.Status != 200 || a.Ms > 1000 {
				t.Errorf("answered %d in %v ms", a.Status, a.Ms)
			}
		}
	}
	s.eventually("all in kf", func() bool { return len(staff.of("kf.message")) == 3 })
	s.quiet()
}
