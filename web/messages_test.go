package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
)

const newsTemplate = "TEMPLATE_NEWS_0001"

var newsRule = FallbackRule{
	Action: "news.*", After: 1,
	Custom:    &jobs.CustomFallback{Text: "新消息：{title}"},
	Subscribe: &jobs.SubscribeFallback{Template: newsTemplate, Page: "pages/news?id={@id}", Data: map[string]string{"thing1": "{title}"}},
}

func (s *shop) message(id string) (v messageView) {
	s.Helper()
	s.data(s.call("GET", "/api/admin/messages/"+id, s.admin(), nil), &v)
	return v
}

// until asks again until ok.
func (s *shop) until(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("never: %s", what)
		}
	}
}

// news broadcasts mail.
func (s *shop) news(id string, users ...string) {
	s.Helper()
	s.data(s.call("POST", "/api/admin/broadcast", s.admin(), map[string]any{
		"users": users, "rooms": []string{"notice"}, "action": "news.tea", "payload": map[string]any{"title": "新茶到了"}, "id": id,
	}), nil)
}

func (v messageView) of(user string) (r receiptView) {
	for _, one := range v.Receipts {
		if one.User == user {
			return one
		}
	}
	return r
}

// steps are the names of a timeline, with their outcomes.
func (r receiptView) steps() string {
	var names []string
	for _, s := range r.Timeline {
		name := s.Step
		if s.Outcome != "" {
			name += "=" + s.Outcome
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// Four people get the same mail: one is there, one wrote to us, one granted a subscribe message, one did nothing. What
// became of it is known for each, and WeChat gave one message to each of two.
func TestMessages_timeline(t *testing.T) {
	s := newShop(t)
	s.data(s.call("PUT", "/api/admin/fallbacks", s.admin(), map[string]any{"rules": []FallbackRule{newsRule}, "version": 0}), nil)
	online, here := s.login("here")
	_, wrote := s.login("wrote")
	_, granted := s.login("granted")
	_, silent := s.login("silent")
	s.play("POST", "/sim/message", map[string]any{"user": "wrote", "type": "text", "content": "在吗"}, nil)
	s.play("POST", "/sim/subscribe", map[string]any{"user": "granted", "templates": map[string]string{newsTemplate: "accept"}}, nil)
	s.until("the popup's event", func() bool {
		g, err := s.db.Grants(t.Context(), granted)
		return err == nil && len(g) == 1 && g[0].Remaining == 1
	})
	line := s.dial(online)
	s.news("n1", here, wrote, granted, silent)
	s.until("written to the socket", func() bool { return s.message("n1").Counts.Written == 1 })
	if err := line.ws.WriteJSON(map[string]any{"id": 1, "action": "ack", "room": "user:" + here, "offset": 1}); err != nil {
		t.Fatal(err)
	}
	s.until("all accounted for", func() bool {
		c := s.message("n1").Counts
		return c.Acknowledged == 1 && c.FallenBack == 2 && c.Held == 1
	})
	v := s.message("n1")
	if v.Counts.Stored != 4 || v.Counts.Relayed != 4 || len(v.Rooms) != 1 || v.Rooms[0].Room != "notice" || v.Next != "" {
		t.Errorf("%+v", v)
	}
	for user, want := range map[string][3]string{
		here:    {"acknowledged", "", "stored relayed written acknowledged"},
		wrote:   {"fallen_back", "", "stored relayed custom=sent"},
		granted: {"fallen_back", "", "stored relayed subscribe=sent"},
		silent:  {"relayed", "no_quota", "stored relayed fallback=held"},
	} {
		r := v.of(user)
		if got := [3]string{r.State, r.Reason, r.steps()}; got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	var state struct {
		Messages []struct{ Kind, User, Content string }
	}
	s.play("GET", "/sim/state", nil, &state)
	if got := fmt.Sprint(state.Messages); len(state.Messages) != 2 || !strings.Contains(got, "{custom wrote 新消息：新茶到了}") || !strings.Contains(got, "pages/news?id=n1") {
		t.Errorf("WeChat gave %s", got)
	}
	// What WeChat reports afterwards stands beside the sending; whoever asks for one user gets one.
	s.until("WeChat's report", func() bool { return strings.Contains(fmt.Sprint(s.message("n1").of(granted).Timeline), "arrived") })
	s.data(s.call("GET", "/api/admin/messages/n1?user="+wrote, s.admin(), nil), &v)
	if len(v.Receipts) != 1 || v.Receipts[0].User != wrote || v.Counts.Stored != 4 {
		t.Errorf("of one user: %+v", v)
	}
	seen := map[string]bool{}
	for after := ""; ; {
		s.data(s.call("GET", "/api/admin/messages/n1?limit=3&after="+after, s.admin(), nil), &v)
		for _, r := range v.Receipts {
			seen[r.User] = true
		}
		if after = v.Next; after == "" {
			break
		}
		v = messageView{}
	}
	if len(seen) != 4 {
		t.Errorf("page by page: %v", seen)
	}
	s.refused(s.call("GET", "/api/admin/messages/nothing", s.admin(), nil), http.StatusNotFound, "not_found")
	s.refused(s.call("GET", "/api/admin/messages/n1", s.clerk(), nil), http.StatusForbidden, "forbidden")
	for _, figure := range []string{
		`wxhub_mail_total{event="stored"} 4`, `wxhub_mail_total{event="acknowledged"} 1`, `wxhub_fallbacks_total{result="custom"} 1`,
		`wxhub_fallbacks_total{result="subscribe"} 1`, `wxhub_fallbacks{state="held"} 1`,
	} {
		if _, _, text := s.send("GET", s.url+"/metrics", "", nil); !strings.Contains(string(text), figure) {
			t.Errorf("no %s in the metrics", figure)
		}
	}
	// The silent one writes at last: then the mail may be told.
	s.play("POST", "/sim/message", map[string]any{"user": "silent", "type": "text", "content": "有新茶吗"}, nil)
	s.until("told after the window opened", func() bool { return s.message("n1").of(silent).State == "fallen_back" })
}

func TestFallbacks_saveAndDryRun(t *testing.T) {
	s := newShop(t)
	admin := s.admin()
	var v fallbacksView
	s.data(s.call("GET", "/api/admin/fallbacks", admin, nil), &v)
	if v.Saved || v.Version != 0 || len(v.Rules) != 0 {
		t.Errorf("at first %+v", v)
	}
	_, alice := s.login("alice")
	dry := func(body map[string]any) (d dryRunView) {
		t.Helper()
		body["user"], body["payload"] = alice, map[string]any{"title": "新茶到了，比去年更香，欢迎各位老朋友来店里尝一尝"}
		if body["action"] == nil {
			body["action"] = "news.tea"
		}
		s.data(s.call("POST", "/api/admin/fallbacks/dry-run", admin, body), &d)
		return d
	}
	if d := dry(map[string]any{}); d.Result != "no_rule" {
		t.Errorf("without a rule %+v", d)
	}
	if d := dry(map[string]any{"rule": newsRule}); d.Result != "wait" || fmt.Sprint(d.Reasons) != "[no_quota no_grant]" {
		t.Errorf("a draft, nothing allowed: %+v", d)
	}
	s.data(s.call("PUT", "/api/admin/fallbacks", admin, map[string]any{"rules": []FallbackRule{newsRule}, "version": 0}), &v)
	if !v.Saved || v.Version != 1 || len(v.Rules) != 1 || v.Rules[0].Subscribe.Data["thing1"] != "{title}" || v.ChangedBy != "admin boss" && !strings.HasPrefix(v.ChangedBy, "admin ") {
		t.Errorf("saved %+v", v)
	}
	s.refused(s.call("PUT", "/api/admin/fallbacks", admin, map[string]any{"rules": []FallbackRule{}, "version": 0}), http.StatusConflict, "conflict")
	bad := newsRule
	bad.Quiet = "late"
	s.refused(s.call("PUT", "/api/admin/fallbacks", admin, map[string]any{"rules": []FallbackRule{bad}, "version": 1}), http.StatusBadRequest, "bad_request")
	s.refused(s.call("GET", "/api/admin/fallbacks", s.clerk(), nil), http.StatusForbidden, "forbidden")

	s.play("POST", "/sim/subscribe", map[string]any{"user": "alice", "templates": map[string]string{newsTemplate: "accept"}}, nil)
	s.until("the popup's event", func() bool { return dry(map[string]any{}).Grants == 1 })
	d := dry(map[string]any{})
	if d.Result != "subscribe" || fmt.Sprint(d.Reasons) != "[no_quota]" || d.Subscribe.Data["thing1"] != "新茶到了，比去年更香，欢迎各位老朋友来" && len([]rune(d.Subscribe.Data["thing1"])) > 20 || d.At == 0 {
		t.Errorf("with a grant: %+v %+v", d, d.Subscribe)
	}
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "text", "content": "在吗"}, nil)
	if d = dry(map[string]any{}); d.Result != "custom" || d.Replies != 5 || !strings.Contains(string(d.Custom), "新消息：新茶到了") {
		t.Errorf("with a window: %+v", d)
	}
	quiet := newsRule
	zone := time.FixedZone("", 8*60*60)
	from := time.Now().In(zone).Add(-time.Hour)
	quiet.Quiet = from.Format("15:04") + "-" + from.Add(3*time.Hour).Format("15:04")
	if d = dry(map[string]any{"rule": quiet}); d.Result != "custom" || !d.Quiet || time.Until(time.UnixMilli(d.At)) < time.Hour {
		t.Errorf("in quiet hours: %+v", d)
	}
	token, err := s.server.o.Tokens.Issue(alice, "user", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.dial(token)
	if d = dry(map[string]any{}); d.Result != "online" || !d.Online {
		t.Errorf("online: %+v", d)
	}
	if q, err := s.db.ReplyQuota(t.Context(), alice); err != nil || q.Left != 5 {
		t.Errorf("trying cost something: %+v %v", q, err)
	}
	s.data(s.call("DELETE", "/api/admin/fallbacks", admin, nil), &v)
	if v.Saved || len(v.Rules) != 0 || v.Version != 2 {
		t.Errorf("deleted %+v", v)
	}
	audits, err := s.db.Audits(t.Context(), 10)
	if err != nil || len(audits) < 2 || audits[0].What != "fallbacks" {
		t.Errorf("audits %+v %v", audits, err)
	}
}

// WeChat's answer about two letters was lost: an admin sees it, has one sent again and leaves the other, and both
// timelines say so.
func TestMessages_decision(t *testing.T) {
	s := newShop(t)
	s.data(s.call("PUT", "/api/admin/fallbacks", s.admin(), map[string]any{"rules": []FallbackRule{newsRule}, "version": 0}), nil)
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/message/custom/send", "lost": true, "times": 2}, nil)
	var users []string
	for _, name := range []string{"ann", "ben"} {
		_, id := s.login(name)
		users = append(users, id)
		s.play("POST", "/sim/message", map[string]any{"user": name, "type": "text", "content": "在吗"}, nil)
	}
	s.until("two windows", func() bool {
		for _, id := range users {
			if q, err := s.db.ReplyQuota(t.Context(), id); err != nil || q.Left != 5 {
				return false
			}
		}
		return true
	})
	s.news("lost1", users...)
	unknown := func() (rows []doubtView) {
		s.data(s.call("GET", "/api/admin/fallbacks/unknown", s.admin(), nil), &rows)
		return rows
	}
	s.until("both unknown", func() bool { return len(unknown()) == 2 })
	if d := unknown()[0]; d.ID != "lost1" || d.Action != "news.tea" || d.Channel != "custom" || d.Gone || d.At == 0 {
		t.Errorf("%+v", d)
	}
	const path = "/api/admin/messages/lost1/decision"
	s.data(s.call("POST", path, s.admin(), map[string]any{"user": users[0], "do": "again"}), nil)
	s.data(s.call("POST", path, s.admin(), map[string]any{"user": users[1], "do": "leave"}), nil)
	s.until("sent again", func() bool { return s.message("lost1").of(users[0]).State == "fallen_back" })
	if r := s.message("lost1").of(users[0]); r.steps() != "stored relayed custom=unknown decision=again custom=sent" || !strings.HasPrefix(r.Timeline[3].Node, "admin") {
		t.Errorf("again: %s %+v", r.steps(), r.Timeline)
	}
	if r := s.message("lost1").of(users[1]); r.steps() != "stored relayed custom=unknown decision=left" || r.State != "unknown" || r.Reason != "left" {
		t.Errorf("left: %s %+v", r.steps(), r)
	}
	if len(unknown()) != 0 {
		t.Errorf("still %+v", unknown())
	}
	s.refused(s.call("POST", path, s.admin(), map[string]any{"user": users[1], "do": "again"}), http.StatusNotFound, "not_found")
	s.refused(s.call("POST", path, s.admin(), map[string]any{"user": users[1], "do": "what"}), http.StatusBadRequest, "bad_request")
	s.refused(s.call("POST", path, s.clerk(), map[string]any{"user": users[1], "do": "again"}), http.StatusForbidden, "forbidden")
	s.refused(s.call("GET", "/api/admin/fallbacks/unknown", s.clerk(), nil), http.StatusForbidden, "forbidden")
}

// What the relay gave up is listed without openids, and tried again when an admin says so.
func TestOutbox_deadAndRetried(t *testing.T) {
	s := newShop(t)
	_, alice := s.login("alice")
	u, err := s.db.User(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	// WeChat takes nothing from us: alice never wrote.
	if _, _, err := s.db.RecordPush(t.Context(), store.Push{Key: "k", AppID: s.keys.AppID, Tell: func(store.Conversation, store.User) []store.Telling {
		return []store.Telling{{Kind: store.TellCustomSend, To: u.OpenID, ID: "r1", Action: "text", Payload: payload(map[string]any{"text": map[string]string{"content": "到货了"}})}}
	}}); err != nil {
		t.Fatal(err)
	}
	var rows []deadRow
	list := func() []deadRow {
		rows = nil
		s.data(s.call("GET", "/api/admin/outbox/dead", s.admin(), nil), &rows)
		return rows
	}
	s.until("given up", func() bool { return len(list()) == 1 })
	r := rows[0]
	if r.Kind != "custom_send" || r.To != alice || r.ID != "r1" || r.Attempts != 1 || !strings.Contains(r.Reason, "45015") || r.DiedAt == 0 {
		t.Errorf("dead %+v", r)
	}
	if text := fmt.Sprintf("%+v", rows); strings.Contains(text, u.OpenID) {
		t.Error("an openid in the answer")
	}
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "type": "text", "content": "在吗"}, nil)
	path := fmt.Sprintf("/api/admin/outbox/dead/%d/retry", r.Seq)
	s.data(s.call("POST", path, s.admin(), nil), nil)
	s.until("sent after all", func() bool { return len(list()) == 0 && strings.Contains(fmt.Sprint(s.chat("alice")), "到货了") })
	s.refused(s.call("POST", path, s.admin(), nil), http.StatusNotFound, "not_found")
	s.refused(s.call("GET", "/api/admin/outbox/dead", s.clerk(), nil), http.StatusForbidden, "forbidden")
	if q, err := s.db.ReplyQuota(t.Context(), alice); err != nil || q.Left != 4 {
		t.Errorf("left %+v, %v: what was sent otherwise counts too", q, err)
	}
}
