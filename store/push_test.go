package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func testPush(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	push := func(key, openID, text, answer string) (Conversation, string, bool) {
		t.Helper()
		var conversation Conversation
		p := Push{Key: key, AppID: "wx1", OpenID: openID, Answer: []byte(answer),
			Tell: func(c Conversation, u User) []Telling {
				conversation = c
				if openID != "" && (u.OpenID != openID || c.UserID != u.ID) {
					t.Errorf("told %+v, %+v", c, u)
				}
				return []Telling{{Kind: TellRoom, To: "kf", ID: key, Action: "kf.message"}}
			}}
		if text != "" {
			p.Talk = &Talk{From: "user", MsgID: key, Type: "text", Content: text, At: c.now()}
		}
		got, first, err := db.RecordPush(ctx, p)
		check(t, err)
		return conversation, string(got), first
	}
	one, answer, first := push("m1", "o1", "在吗", "success")
	if !first || answer != "success" || one.UnreadN != 1 || one.LastText != "在吗" || !one.LastAt.Equal(c.now()) {
		t.Errorf("%+v, %q, %v", one, answer, first)
	}
	if _, answer, first := push("m1", "o1", "在吗", "another answer"); first || answer != "success" {
		t.Errorf("repeat: %q, %v", answer, first)
	}
	c.move(time.Second)
	two, _, _ := push("m2", "o1", "hello", "")
	if two.ID != one.ID || two.UnreadN != 2 {
		t.Errorf("second %+v", two)
	}
	if _, answer, first := push("m2", "o1", "hello", "late"); first || answer != "" {
		t.Errorf("repeat of an empty answer: %q, %v", answer, first)
	}
	event, _, first := push("e1", "o2", "", "success") // an event makes user and conversation, but no line
	if !first || event.ID == "" || event.ID == one.ID || !event.LastAt.IsZero() {
		t.Errorf("event %+v", event)
	}
	if nobody, _, first := push("e2", "", "", "success"); !first || nobody.ID != "" {
		t.Errorf("event of nobody %+v", nobody)
	}
	if _, _, first := push("e2", "", "", "success"); first {
		t.Error("event of nobody twice")
	}
	if all := must(db.Conversations(ctx, 0))(t); len(all) != 1 || all[0] != two {
		t.Errorf("conversations %+v, want %+v", all, two)
	}
	if _, first, err := db.RecordPush(ctx, Push{Key: "m1", AppID: "wx2", OpenID: "o1"}); err != nil || !first {
		t.Errorf("the same key of another app: %v, %v", first, err)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM outbox"); n != 4 {
		t.Errorf("%d tellings", n)
	}
}

func testPush_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	answers, firsts := make([]string, 60), make([]bool, 60)
	for _, err := range each(60, func(i int) error {
		answer, first, err := db.RecordPush(ctx, Push{Key: fmt.Sprint("m", i%3), AppID: "wx1", OpenID: "o1", Answer: fmt.Append(nil, i),
			Talk: &Talk{From: "user", Type: "text", Content: "x"},
			Tell: func(c Conversation, u User) []Telling {
				return []Telling{{Kind: TellMail, To: u.ID, ID: fmt.Sprint("m", i%3), Action: "x"}}
			}})
		answers[i], firsts[i] = string(answer), first
		return err
	}) {
		check(t, err)
	}
	n := 0
	for i := range answers {
		if answers[i] != answers[i%3] {
			t.Errorf("push %d got %s, another %s", i, answers[i], answers[i%3])
		}
		if firsts[i] {
			n++
			if answers[i] != fmt.Sprint(i) {
				t.Errorf("the first got %s instead of %d", answers[i], i)
			}
		}
	}
	all := must(db.Conversations(ctx, 0))(t)
	if n != 3 || len(all) != 1 || all[0].UnreadN != 3 {
		t.Errorf("%d firsts, conversations %+v", n, all)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM letters"); n != 3 {
		t.Errorf("%d letters", n)
	}
}

func testTalks(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	wantErr(t, db.AddTalk(ctx, "nowhere", Talk{From: "staff", Type: "text"}, nil), ErrNotFound)
	_, _, err := db.Talks(ctx, "nowhere", 0)
	wantErr(t, err, ErrNotFound)
	full := Talk{ID: "k1", From: "user", MsgID: "6054768590064713728", Type: "image", Content: "c", PicURL: "https://p/1",
		MediaID: "media", Title: "title", PagePath: "pages/a", At: c.now()}
	_, _, err = db.RecordPush(ctx, Push{Key: "m1", AppID: "wx1", OpenID: "o1", Talk: &full})
	check(t, err)
	conversation := must(db.Conversations(ctx, 0))(t)[0]
	if conversation.LastText != "[image]" || conversation.UnreadN != 1 {
		t.Errorf("conversation %+v", conversation)
	}
	c.move(time.Minute)
	tell := func(c Conversation, u User) []Telling {
		return []Telling{{Kind: TellCustomSend, To: u.OpenID, ID: fmt.Sprint("send-", len(c.LastText)), Action: "text", Payload: []byte(`{}`)}}
	}
	check(t, db.AddTalk(ctx, conversation.ID, Talk{From: "rule", Type: "text", Content: "收到"}, tell))
	if got := must(db.Conversations(ctx, 0))(t)[0]; got.UnreadN != 1 || got.LastText != "收到" {
		t.Errorf("after the rule %+v", got)
	}
	staff := Talk{ID: "k3", From: "staff", Type: "text", Content: strings.Repeat("好", 100)}
	for range 2 {
		check(t, db.AddTalk(ctx, conversation.ID, staff, tell))
	}
	got, lines, err := db.Talks(ctx, conversation.ID, 0)
	check(t, err)
	if got.UnreadN != 0 || len(got.LastText) != 198 || !got.LastAt.Equal(c.now()) || len(lines) != 3 {
		t.Fatalf("%+v, %d lines", got, len(lines))
	}
	if lines[0] != full || lines[1].Content != "收到" || lines[1].ID == "" || lines[2].ID != "k3" {
		t.Errorf("lines %+v", lines)
	}
	if !got.LastUserAt.Equal(full.At) { // what others say opens no window
		t.Errorf("the user spoke last at %v", got.LastUserAt)
	}
	u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1", Nickname: "小明"}))(t)
	_, _, err = db.RecordPush(ctx, Push{Key: "m2", AppID: "wx1", OpenID: "o1", Talk: &Talk{From: "user", Type: "text", Content: "?", At: full.At.Add(-time.Hour)}})
	check(t, err)
	got = must(db.Conversations(ctx, 0))(t)[0]
	if got.UnreadN != 1 || got.Nickname != u.Nickname || !got.LastUserAt.Equal(full.At) {
		t.Errorf("after an old line %+v", got)
	}
	// An event is nothing to read and opens no window, a rule's answer is the line after what it answers.
	for i, k := range []string{"event", "text"} {
		c.move(time.Hour)
		_, _, err = db.RecordPush(ctx, Push{Key: fmt.Sprint("e", i), AppID: "wx1", OpenID: "o1", Talk: &Talk{From: "user", Type: k, Content: "!"},
			Reply: &Talk{From: "rule", Type: "text", Content: "re: " + k}})
		check(t, err)
		got, lines, err = db.Talks(ctx, conversation.ID, 2)
		check(t, err)
		if got.UnreadN != 1+i || got.LastUserAt.Equal(c.now()) != (k == "text") || lines[0].Type != k || lines[1].Content != "re: "+k {
			t.Errorf("after %s: %+v, %+v", k, got, lines)
		}
	}
	for range 2 {
		check(t, db.MarkRead(ctx, conversation.ID))
	}
	if got, _, err := db.Talks(ctx, conversation.ID, 1); err != nil || got.UnreadN != 0 || got.LastText != "re: text" {
		t.Errorf("read %+v, %v", got, err)
	}
	wantErr(t, db.MarkRead(ctx, "nowhere"), ErrNotFound)
	if _, lines, _ := db.Talks(ctx, conversation.ID, 6); len(lines) != 6 || lines[0].ID != "k3" {
		t.Errorf("newest %+v", lines)
	}
	rows := must(db.ClaimOutbox(ctx, "node", everyKind, 10, time.Minute))(t)
	if len(rows) != 2 || rows[0].To != "o1" || rows[0].Kind != TellCustomSend {
		t.Errorf("outbox %+v", rows)
	}
}
