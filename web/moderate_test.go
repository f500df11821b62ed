package web

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"wxhub/wechat/sim"
)

// say publishes in a room by a socket of its own and returns the refusal's word, "" for none.
func (s *shop) say(token, room, action string, payload any) string {
	s.Helper()
	q := url.Values{"token": {token}, "room": {room}}
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/ws?"+q.Encode(), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteJSON(map[string]any{"id": 7, "action": "publish", "room": room, "data": map[string]any{"action": action, "payload": payload}}); err != nil {
		s.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		var reply struct {
			Reply int
			OK    bool
			Error string
		}
		_, text, err := ws.ReadMessage()
		if err != nil {
			s.Fatal(err)
		}
		CheckFrame(s, text)
		if err := json.Unmarshal(text, &reply); err != nil {
			s.Fatal(err)
		}
		if reply.Reply == 7 {
			if reply.OK != (reply.Error == "") {
				s.Errorf("replied %+v", reply)
			}
			return reply.Error
		}
	}
}

func TestModerate(t *testing.T) {
	s := newShop(t)
	token, _ := s.login("alice")
	other, _ := s.login("bob")
	bob := s.phone(other, "room:1")
	for _, said := range []struct {
		action  string
		payload any
		word    string
	}{
		{"say", map[string]any{"text": "今天天气不错"}, ""},
		{"say", map[string]any{"text": "违规的话"}, "risky_content"},
		{"say", []any{map[string]any{"deep": []any{"x", "加我广告"}}}, "risky_content"}, // a person should look at it
		{"say", map[string]any{"risky": 1}, "risky_content"},
		{"risky", nil, "risky_content"},
		{"say", json.RawMessage(`"\u8fdd\u89c4"`), "risky_content"},
		{"say", strings.Repeat("长", moderatedLength-2) + "违规", "risky_content"}, // at a cut
		{"say", strings.Repeat("长", 2*moderatedLength), ""},
		{"move", 42, ""},
	} {
		if word := s.say(token, "room:1", said.action, said.payload); word != said.word {
			t.Errorf("%s %.60v: %q, want %q", said.action, said.payload, word, said.word)
		}
	}
	s.quiet()
	if len(bob.of("say")) != 2 || len(bob.of("move")) != 1 || len(bob.of("risky")) != 0 {
		t.Errorf("bob heard %+v", bob.heard)
	}
	// Staff speaks for the shop. Nobody can judge somebody whose token another program signed.
	for user, role := range map[string]string{"clerk": "staff", "boss": "admin", "guest": "user"} {
		own, err := s.server.o.Tokens.Issue(user, role, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if word := s.say(own, "room:1", "say", "违规"); word != map[string]string{"user": "unavailable"}[role] {
			t.Errorf("%s: %q", role, word)
		}
	}
	open := newShop(t, func(o *Options, _ *sim.Options) { o.Moderator = &Moderator{FailOpen: true} })
	guest, err := open.server.o.Tokens.Issue("guest", "user", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if word := open.say(guest, "room:1", "say", "你好"); word != "" {
		t.Errorf("a guest where text passes that nobody can judge: %q", word)
	}
}

// The judge is away: text waits outside, unless the setting says otherwise.
func TestModerate_judgeAway(t *testing.T) {
	for open, want := range map[bool]string{false: "unavailable", true: ""} {
		s := newShop(t, func(o *Options, _ *sim.Options) { o.Moderator = &Moderator{FailOpen: open} })
		token, _ := s.login("alice")
		other, _ := s.login("bob")
		bob := s.phone(other, "room:1")
		s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/msg_sec_check", "errcode": -1, "times": 5}, nil)
		if word := s.say(token, "room:1", "say", "你好"); word != want {
			t.Errorf("open %v: %q, want %q", open, word, want)
		}
		s.quiet()
		if heard := len(bob.of("say")); heard != map[bool]int{false: 0, true: 1}[open] {
			t.Errorf("open %v: bob heard %d", open, heard)
		}
		if s.log.having("你好") > 0 {
			t.Error("what people say is in the log")
		}
	}
}

func FuzzTexts(f *testing.F) {
	for _, seed := range []string{`{"a":["b",{"c":"d"}]}`, `"x"`, `[`, ``, `{"\ud83d":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text := texts(payload)
		var whole any
		if err := json.Unmarshal(payload, &whole); err == nil {
			if s, ok := whole.(string); ok && !strings.Contains(text, s) {
				t.Errorf("%q of %q", text, payload)
			}
		}
		var all []rune
		for part := range pieces(text, 100) {
			r := []rune(part)
			if len(r) == 0 || len(r) > 100 || !utf8.ValidString(part) {
				t.Fatalf("a piece of %d", len(r))
			}
			if len(all) > 0 {
				r = r[50:]
			}
			all = append(all, r...)
		}
		if want := strings.TrimSpace(text); string(all) != want {
			t.Errorf("pieces make %q of %q", string(all), want)
		}
	})
}
