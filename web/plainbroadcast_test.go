package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// A program that says application/json and one that adds a charset get the same answers, whichever way they are read.
func TestBroadcast_bothWaysAnswerTheSame(t *testing.T) {
	own := regexp.MustCompile(`"(id|epoch)":"[^"]*"|"offset":\d+`)
	s := newShop(t)
	for _, body := range []string{
		`{"rooms":["notice"],"action":"sale","payload":{"a":1}}`, ` {"rooms": ["a", "b", "a"], "action": "sale"} `, `{"rooms":["user:alice"],"action":"sale"}`,
		`{"rooms":["not a room"],"action":"sale"}`, `{"rooms":["a"],"action":"sale","id":"pay:1"}`, `{"rooms":["a"],"action":"welcome"}`,
		`{"rooms":["a"],"action":"sale","payload":"` + strings.Repeat("x", 65<<10) + `"}`, `{"rooms":["a"],"action":"sale","payload":}`, `{"rooms":"a","action":7}`, `{`,
	} {
		plain := s.ask(http.MethodPost, "/api/admin/broadcast", "key", body)
		whole := s.ask(http.MethodPost, "/api/admin/broadcast", "key", body, "Content-Type", "application/json; charset=utf-8")
		if a, b := own.ReplaceAllString(plain.Text, ""), own.ReplaceAllString(whole.Text, ""); plain.Status != whole.Status || strings.TrimSpace(a) != strings.TrimSpace(b) {
			t.Errorf("%.80s: %d %s, not %d %s", body, plain.Status, a, whole.Status, b)
		}
		if a, b := plain.Header.Get("Content-Type"), whole.Header.Get("Content-Type"); a != b && plain.Status < 400 {
			t.Errorf("%.80s: %s, not %s", body, a, b)
		}
	}
	for range 2 { // the same id: once, by either way
		for _, kind := range []string{"application/json", "application/json; charset=utf-8"} {
			if a := s.ask(http.MethodPost, "/api/admin/broadcast", "key", `{"rooms":["once"],"action":"sale","id":"x-1"}`, "Content-Type", kind); a.Status != http.StatusOK {
				t.Errorf("%d %s", a.Status, a.Text)
			}
		}
	}
	if h := s.history("once"); len(h) != 1 {
		t.Errorf("said %d times", len(h))
	}
	if a := s.ask(http.MethodPost, "/api/admin/broadcast", s.token("bob", "user"), `{"rooms":["once"],"action":"sale"}`); a.Status != http.StatusForbidden {
		t.Errorf("a user broadcasts: %d", a.Status)
	}
}
