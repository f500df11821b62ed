package web

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wxhub/wechat/sim"
)

// matrix is what can be said in each account.
var matrix = map[string][]string{
	miniAccount: {"text", "image", "miniprogrampage"},
	mpAccount:   {"text", "image", "voice", "video", "shortvideo", "location", "link"},
}

// Every mode × format × account × type of message: taken within a second, told once, kept once, and a copy gets the
// first one's answer in the form of its own push.
func TestPush_matrix(t *testing.T) {
	for account, types := range matrix {
		for _, mode := range []string{"plain", "compatible", "safe"} {
			for _, format := range []string{"json", "xml"} {
				t.Run(account+" "+mode+" "+format, func(t *testing.T) {
					s := newShop(t, func(o *Options, w *sim.Options) {
						if account == miniAccount {
							w.PushMode, w.PushFormat = mode, format
						} else {
							w.MPMode, w.MPFormat = mode, format
						}
						o.Replies = []Reply{{Account: mpAccount, Default: true, Text: "收到 <b>&\"]]> 🍎"}}
					})
					s.login("alice")
					if account == mpAccount {
						s.act(map[string]any{"event": "follow", "user": "alice"})
					}
					staff := s.staff()
					for _, kind := range types {
						play(t, s, account, kind, mode, format)
					}
					s.eventually("all in kf", func() bool { return len(staff.of("kf.message")) == len(types) })
					s.quiet()
					var told []string
					for _, h := range staff.of("kf.message") {
						var m customerMessage
						if err := json.Unmarshal(h.Data.Payload, &m); err != nil {
							t.Fatal(err)
						}
						told = append(told, m.Type)
					}
					slices.Sort(told)
					if want := slices.Sorted(slices.Values(types)); !slices.Equal(told, want) {
						t.Errorf("kf heard %v, want %v once each", told, want)
					}
				})
			}
		}
	}
}

// play has alice say something of a kind, in three copies at once and one after them.
func play(t *testing.T, s *shop, account, kind, mode, format string) {
	t.Helper()
	said := map[string]any{"event": "message", "user": "alice", "type": kind, "content": "说 <b>&\"]]> 🍎", "title": "页", "pagePath": "pages/a", "times": 3, "parallel": true}
	if account == mpAccount {
		said["account"] = "mp"
	}
	if kind == "link" {
		said["key"] = "https://shop.example/a"
	}
	var answers []notified
	for _, times := range []int{3, 1} {
		said["times"] = times
		answers = append(answers, s.tried(said)...)
	}
	if len(answers) != 4 {
		t.Errorf("%s: %d answers", kind, len(answers))
	}
	for _, a := range answers {
		sealed := account == mpAccount && mode != "plain"
		switch {
		case a.Status != 200 || a.Ms > 1000+loaded:
			t.Errorf("%s: answered %d in %v ms", kind, a.Status, a.Ms)
		case account == miniAccount && a.Body != "success":
			t.Errorf("%s: answered %s", kind, a.Body)
		case account == mpAccount && (strings.Contains(a.Body, "MsgSignature") != sealed || strings.HasPrefix(a.Body, "{") != (format == "json")):
			t.Errorf("%s: answered in another form: %s", kind, a.Body)
		case account == mpAccount && !sealed && !strings.Contains(a.Body, "收到"):
			t.Errorf("%s: answered %s", kind, a.Body)
		}
	}
	if sealed := account == mpAccount && mode != "plain"; sealed && answers[0].Body == answers[3].Body { // anew each time
		t.Errorf("%s: two answers are sealed alike", kind)
	}
}

// loaded is what a machine with other work may add to a second, in milliseconds.
const loaded = 2000

// tried triggers a push as WeChat does: what our store could not take in time comes again, under the same id.
func (s *shop) tried(said map[string]any) (answers []notified) {
	s.Helper()
	for range 3 {
		var result struct {
			MsgID   string
			Answers []notified
		}
		s.play("POST", "/sim/trigger", said, &result)
		if answers, said["msgId"] = result.Answers, result.MsgID; !slices.ContainsFunc(answers, func(a notified) bool { return a.Status >= 500 }) {
			return answers
		}
	}
	return answers
}
