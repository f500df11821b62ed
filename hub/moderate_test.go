package hub

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// What nobody may see is refused before the room hears it; what nobody can judge is refused for now.
func TestPublish_moderated(t *testing.T) {
	judge := func(_ context.Context, s Session, room string, m Message) error {
		switch text := string(m.Payload); {
		case s.User == "" || room != "room:1":
			return errors.New("judged the wrong thing")
		case strings.Contains(text, "risky"):
			return ErrRisky
		case strings.Contains(text, "away"):
			return errors.New("the judge is away")
		}
		return nil
	}
	h, err := New(Options{Moderate: judge})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	for payload, want := range map[string]string{`"fine"`: "", `"risky"`: "risky_content", `"away"`: "unavailable"} {
		c := &Conn{hub: h, id: "c"}
		c.session.Store(&Session{User: "u", Role: "user"})
		c.rooms = append(c.rooms, &member{room: &Room{name: "room:1"}})
		q, no := parseRequest([]byte(`{"id":1,"action":"publish","room":"room:1","data":{"action":"say","payload":` + payload + `}}`))
		if no == nil {
			c.dead = true // replies go nowhere
			no = c.do(&q)
		}
		if got := ""; no != nil {
			got = no.Word
			if got != want {
				t.Errorf("%s: %q, want %q", payload, got, want)
			}
		} else if want != "" {
			t.Errorf("%s passed", payload)
		}
	}
	page, err := h.History(context.Background(), "room:1", Query{Newest: true, Limit: 10})
	if err != nil || len(page.Messages) != 1 {
		t.Errorf("the room heard %+v %v", page.Messages, err)
	}
}
