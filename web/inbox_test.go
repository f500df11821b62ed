package web

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/store"
)

// inbox is the conversations as the staff sees them.
func (s *shop) inbox() (rows []conversationRow) {
	s.Helper()
	s.data(s.call("GET", "/api/admin/conversations", s.clerk(), nil), &rows)
	return rows
}

func (s *shop) clerk() string {
	s.Helper()
	token, err := s.server.o.Tokens.Issue("clerk", "staff", nil, 0)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

// A customer writes, a clerk reads and answers: the customer's phone shows it, and every clerk's screen too.
func TestInbox(t *testing.T) {
	s := newShop(t)
	_, alice := s.login("alice")
	staff := s.staff()
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "什么时候发货?"}, nil) // a rule answers this
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "image"}, nil)
	s.quiet()

	rows := s.inbox()
	if len(rows) != 1 || rows[0].User != alice || rows[0].Nickname != "alice" || rows[0].Unread != 2 || rows[0].LastText != "[image]" {
		t.Fatalf("the inbox is %+v", rows)
	}
	if left := time.Until(time.UnixMilli(rows[0].ReplyUntil)); left > serviceWindow || left < serviceWindow-time.Minute {
		t.Errorf("replies are taken for %v", left)
	}
	var c conversationView
	path := "/api/admin/conversations/" + rows[0].ID
	s.data(s.call("GET", path, s.clerk(), nil), &c)
	var said []string
	for _, m := range c.Messages {
		said = append(said, m.From+" "+m.Type+" "+m.Content)
	}
	if !slices.Equal(said, []string{"user text 什么时候发货?", "rule text 四十八小时内发货", "user image "}) || c.Messages[2].PicURL == "" || c.ReplyUntil == 0 {
		t.Errorf("said: %q %+v", said, c)
	}
	if s.inbox()[0].Unread != 0 {
		t.Error("read, but unread")
	}

	var got saidView
	s.data(s.call("POST", path+"/reply", s.clerk(), map[string]any{"text": "今天 <b> 发 🍎"}), &got)
	s.data(s.call("POST", path+"/reply", s.admin(), map[string]any{"link": map[string]any{
		"title": "物流", "description": "到哪了", "url": "https://example.com/1?a=b&c=d", "thumbUrl": "https://example.com/t.png"}}), nil)
	s.quiet()
	if shown := s.chat("alice"); !slices.Equal(shown, []string{"四十八小时内发货", "今天 <b> 发 🍎", "到哪了"}) {
		t.Errorf("alice reads %q", shown)
	}
	pushes := staff.of("kf.message")
	if len(pushes) != 4 {
		t.Fatalf("kf heard %d messages", len(pushes))
	}
	var m staffMessage
	if err := json.Unmarshal(pushes[2].Data.Payload, &m); err != nil {
		t.Fatal(err)
	}
	if m.From != "staff" || m.Content != "今天 <b> 发 🍎" || m.Conversation != c.ID || m.User != alice || pushes[2].Meta.ID != got.ID {
		t.Errorf("kf heard %+v", m)
	}
	s.data(s.call("GET", path, s.clerk(), nil), &c)
	if last := c.Messages[len(c.Messages)-1]; last.From != "staff" || last.Type != "link" || last.Title != "物流" || last.Content != "https://example.com/1?a=b&c=d" {
		t.Errorf("the last line is %+v", last)
	}
	for _, h := range pushes {
		if u, _ := s.db.User(t.Context(), alice); strings.Contains(string(h.Data.Payload), u.OpenID) {
			t.Errorf("an openid is told: %s", h.Data.Payload)
		}
	}
}

func TestInbox_refused(t *testing.T) {
	s := newShop(t)
	token, _ := s.login("alice")
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "hi"}, nil)
	s.quiet()
	path := "/api/admin/conversations/" + s.inbox()[0].ID
	for _, body := range []map[string]any{
		{}, {"text": ""}, {"text": " \n"}, {"text": strings.Repeat("🍎", 600)}, {"text": "x", "link": map[string]any{"title": "x", "description": "", "url": "https://x", "thumbUrl": ""}},
		{"link": map[string]any{"title": "x", "description": "", "url": "javascript:alert(1)", "thumbUrl": ""}},
		{"link": map[string]any{"title": "", "description": "", "url": "https://x.example", "thumbUrl": ""}},
		{"link": map[string]any{"title": "x", "description": "", "url": "https://x.example", "thumbUrl": "data:x"}},
	} {
		s.refused(s.call("POST", path+"/reply", s.clerk(), body), 400, "bad_request")
	}
	s.refused(s.call("POST", "/api/admin/conversations/none/reply", s.clerk(), map[string]any{"text": "x"}), 404, "not_found")
	s.refused(s.call("GET", "/api/admin/conversations/none", s.clerk(), nil), 404, "not_found")
	s.refused(s.call("POST", path+"/reply", token, map[string]any{"text": "x"}), 403, "forbidden")
	s.refused(s.call("GET", "/api/admin/conversations", token, nil), 403, "forbidden")
	s.quiet()
	if shown := s.chat("alice"); len(shown) > 0 {
		t.Errorf("alice reads %q", shown)
	}
}

// Entering the chat is no word: WeChat's window for answers does not open, and there is nothing to read.
func TestInbox_window(t *testing.T) {
	s := newShop(t)
	_, alice := s.login("alice")
	u, err := s.db.User(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	line := func(key, kind string, at time.Time) {
		t.Helper()
		if _, _, err := s.db.RecordPush(t.Context(), store.Push{
			Key: key, AppID: s.keys.AppID, OpenID: u.OpenID, Answer: success, Talk: &store.Talk{From: "user", Type: kind, Content: "x", At: at},
		}); err != nil {
			t.Fatal(err)
		}
	}
	line("1", "text", time.Now().Add(-serviceWindow-time.Minute))
	line("2", "event", time.Now())
	row := s.inbox()[0]
	if row.ReplyUntil != 0 || row.Unread != 1 {
		t.Errorf("%+v", row)
	}
	s.refused(s.call("POST", "/api/admin/conversations/"+row.ID+"/reply", s.clerk(), map[string]any{"text": "x"}), 409, "conflict")
	line("3", "text", time.Now())
	s.data(s.call("POST", "/api/admin/conversations/"+row.ID+"/reply", s.clerk(), map[string]any{"text": "x"}), nil)
}
