package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tooMany dials and wants to be refused before the upgrade.
func tooMany(t *testing.T, addr, query string) {
	t.Helper()
	_, resp := dialRaw(t, addr, query)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s: %s, Retry-After %q", query, resp.Status, resp.Header.Get("Retry-After"))
	}
}

func TestLimit_userIsFull(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{SocketsPerUser: 2, UserFull: RefuseNew}})
	addr := listen(t, h)
	one, two := dial(t, addr, "user=ada"), dial(t, addr, "user=ada")
	tooMany(t, addr, "user=ada")
	dial(t, addr, "user=bob")
	two.must(`"action":"ping"`)
	_ = one.ws.Close()
	eventually(t, "the first is gone", func() bool { return len(h.connsOf("ada")) == 1 })
	dial(t, addr, "user=ada").must(`"action":"ping"`)
	if n := h.Stats().Sockets; n != 3 {
		t.Errorf("%d sockets", n)
	}
}

// Many sockets of one user at once: no more than allowed stay, whichever rule.
func TestLimit_manyAtOnce(t *testing.T) {
	for _, full := range []Full{RefuseNew, CloseOldest} {
		t.Run(string(full), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHub(t, Options{Limits: Limits{SocketsPerUser: 3, UserFull: full, SocketsPerAddress: 5, AddressFull: full}})
				for i := range 24 {
					go func() {
						c, err := tryDial(t, pipeDialer(h), "ws://hub", fmt.Sprintf("user=u%d&addr=192.0.2.1", i%3))
						for err == nil {
							_, err = c.read()
						}
					}()
				}
				synctest.Wait()
				for i := range 3 {
					if n := countOpen(h.connsOf(fmt.Sprintf("u%d", i))); n > 3 {
						t.Errorf("%d sockets of one user", n)
					}
				}
				if n := h.Stats().Sockets; n > 5 || n < 1 { // those that one rule closes count for the other until they are gone
					t.Errorf("%d sockets of one address", n)
				}
				if err := h.CheckConsistency(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestLimit_addressIsFull(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{SocketsPerAddress: 2}, Authenticate: func(context.Context, string) (Session, error) {
		return Session{User: "u0"}, nil
	}})
	addr := listen(t, h)
	var all []*client
	for i := range 2 {
		all = append(all, dial(t, addr, fmt.Sprintf("user=u%d&addr=192.0.2.1", i)))
	}
	tooMany(t, addr, "user=u2&addr=192.0.2.1")
	dial(t, addr, "user=u2&addr=192.0.2.2")
	dial(t, addr, "user=u3") // an address that nobody believes is not counted
	all[0].must(`"action":"refresh","token":"new"`)
	tooMany(t, addr, "user=u2&addr=192.0.2.1") // a refresh changes nothing
	_ = all[0].ws.Close()
	eventually(t, "one is gone", func() bool { return h.Stats().Sockets == 3 })
	dial(t, addr, "user=u2&addr=192.0.2.1").must(`"action":"ping"`)
}

func TestLimit_addressClosesTheOldest(t *testing.T) {
	inTime(t, Options{Limits: Limits{SocketsPerAddress: 2, AddressFull: CloseOldest}}, func(t *testing.T, h *Hub) {
		var all []*client
		for i := range 4 {
			all = append(all, dialPipe(t, h, fmt.Sprintf("user=u%d&addr=2001:db8::1", i)))
			synctest.Wait()
		}
		all[0].wantClosed(4509, "replaced")
		all[1].wantClosed(4509, "replaced")
		all[2].must(`"action":"ping"`)
		all[3].must(`"action":"ping"`)
	})
}

// What the server says waits when a room has its fill; members who talk all the time do not keep it from speaking.
func TestPublishPaced_roomHasItsFill(t *testing.T) {
	inTime(t, Options{Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{100, time.Hour}, Rate: 4}}}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada&room=room:a")
		chat := `"action":"publish","room":"room:a","data":{"action":"chat","payload":1}`
		for range 4 {
			c.must(chat)
		}
		c.refused("too_many", chat)
		said := 0
		for {
			_, err := h.PublishPaced(t.Context(), "room:a", say("notice", "1"))
			if errors.Is(err, ErrTooMany) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			said++
		}
		if said != 4 {
			t.Errorf("the server said %d", said)
		}
		c.refused("too_many", chat)
		time.Sleep(time.Second)
		c.refused("too_many", chat) // the debt is paid first
		time.Sleep(time.Second)
		c.must(chat)
		publish(t, h, "room:a", say("urgent", "1")) // who must be heard is
		if _, err := h.PublishPaced(t.Context(), "a b", say("x", "1")); !errors.Is(err, ErrRoomName) {
			t.Error(err)
		}
	})
}

// A room with a window says a lone message at once, and what follows together.
func TestRule_window(t *testing.T) {
	inTime(t, Options{Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{100, time.Hour}, Window: 200 * time.Millisecond}}}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada&room=room:a")
		start := time.Now()
		publish(t, h, "room:a", say("n", "1"))
		c.push()
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("a lone message took %s", d)
		}
		time.Sleep(50 * time.Millisecond)
		for range 5 {
			publish(t, h, "room:a", say("n", "1"))
		}
		for range 5 {
			c.push()
		}
		if d := time.Since(start); d < 190*time.Millisecond || d > 250*time.Millisecond {
			t.Errorf("what followed took %s", d)
		}
	})
}

func TestNew_rulesThatCannotBeMeant(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{Pattern: "a b", Join: Anyone, Publish: Admin}, "pattern"},
		{Rule{Pattern: "a*b", Join: Anyone, Publish: Admin}, "pattern"},
		{Rule{Pattern: "", Join: Anyone, Publish: Admin}, "pattern"},
		{Rule{Pattern: "a", Publish: Admin}, "join"},
		{Rule{Pattern: "a", Join: Anyone, Publish: "all"}, "publish"},
		{Rule{Pattern: "a", Join: Anyone, Publish: Admin, Presence: "names"}, "presence"},
		{Rule{Pattern: "a", Join: Owner, Publish: Admin}, "owner"},
		{Rule{Pattern: "a", Join: Anyone, Publish: Admin, Keep: Keep{Size: -1}}, "negative"},
		{Rule{Pattern: "a", Join: Anyone, Publish: Admin, Rate: -1}, "negative"},
		{Rule{Pattern: "a", Join: Anyone, Publish: Admin, Window: 2 * time.Second}, "window"},
	} {
		_, err := New(Options{Rules: []Rule{c.rule}})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.rule.Pattern)) {
			t.Errorf("%+v: %v", c.rule, err)
		}
	}
}
