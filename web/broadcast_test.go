package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/hub"
	"wxhub/web"
)

type broadcastAnswer struct {
	ID      string `json:"id"`
	Results []struct {
		Room, Epoch, Error string
		Offset             uint64
	} `json:"results"`
}

func (s *shop) history(room string) []hub.Message {
	s.t.Helper()
	p, err := s.hub.History(context.Background(), room, hub.Query{Limit: 100})
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Messages
}

func TestBroadcast_roomsUsersAndAll(t *testing.T) {
	s := newShop(t)
	const payload = `{ "b":1.50,  "a":["<龙>",1e2,"\u00e9"], "big":12345678901234567890, "a":null }`
	var got broadcastAnswer
	s.ask("POST", "/api/admin/broadcast", s.token("admin", "admin"),
		`{"rooms":["notice","vip:7","notice"],"users":["alice","bob"],"all":true,"action":"sale.begins","payload":`+payload+`}`).into(t, &got)
	rooms := map[string]uint64{}
	for _, r := range got.Results {
		if r.Error != "" || r.Epoch == "" {
			t.Errorf("%+v", r)
		}
		rooms[r.Room] = r.Offset
	}
	if len(got.Results) != 5 || len(rooms) != 5 || got.ID == "" {
		t.Fatalf("%+v", got)
	}
	for room, offset := range rooms {
		h := s.history(room)
		if len(h) != 1 || h[0].Offset != offset || h[0].Action != "sale.begins" || string(h[0].Payload) != payload || h[0].ID != got.ID {
			t.Errorf("%s: %+v", room, h)
		}
	}
	// A mailbox may be named by its room; a payload may stay away.
	s.ask("POST", "/api/admin/broadcast", "key", `{"rooms":["user:alice"],"action":"x"}`).into(t, &got)
	if h := s.history("user:alice"); len(h) != 2 || string(h[1].Payload) != "null" || len(got.Results) != 1 || got.Results[0].Offset != 2 {
		t.Errorf("%+v %+v", got, h)
	}
}

func TestBroadcast_live(t *testing.T) {
	s := newShop(t)
	alice := s.dial("/ws?token=" + s.token("alice", "user"))
	alice.welcome()
	var got broadcastAnswer
	s.ask("POST", "/api/admin/broadcast", "key", `{"users":["alice","away"],"live":true,"action":"typing","payload":{"n": 1}}`).into(t, &got)
	if len(got.Results) != 2 || got.Results[0].Offset != 0 {
		t.Errorf("%+v", got)
	}
	if f := alice.read(); !strings.Contains(f, `"action":"typing","payload":{"n": 1}`) || strings.Contains(f, `"offset"`) {
		t.Errorf("alice got %s", f)
	}
	if h := s.history("user:alice"); len(h) != 0 {
		t.Errorf("kept: %+v", h)
	}
}

func TestBroadcast_idempotency(t *testing.T) {
	s := newShop(t)
	const body = `{"id":"coupon-1","rooms":["notice"],"users":["alice"],"action":"x","payload":{"a":1}}`
	first := s.ask("POST", "/api/admin/broadcast", "key", body)
	if first.Status != 200 {
		t.Fatal(first.Text)
	}
	for _, again := range []string{body, `{"action":"x", "payload":{"a":1},"users":["alice"],"rooms":["notice"],"id":"coupon-1"}`} {
		if a := s.ask("POST", "/api/admin/broadcast", s.token("admin", "admin"), again); a.Status != 200 || string(a.Data) != string(first.Data) {
			t.Errorf("again: %d %s, first %s", a.Status, a.Text, first.Text)
		}
	}
	for _, other := range []string{strings.Replace(body, `"a":1`, `"a":2`, 1), strings.Replace(body, "notice", "other", 1), strings.Replace(body, `"x"`, `"y"`, 1)} {
		if a := s.ask("POST", "/api/admin/broadcast", "key", other); a.Status != 409 || a.word() != "conflict" {
			t.Errorf("another body: %d %s", a.Status, a.Text)
		}
	}
	if n, m := len(s.history("notice")), len(s.history("user:alice")); n != 1 || m != 1 || len(s.history("other")) != 0 {
		t.Errorf("said %d and %d times", n, m)
	}
}

func TestBroadcast_concurrentRepeats(t *testing.T) {
	s := newShop(t)
	var same sync.Map
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			a := s.ask("POST", "/api/admin/broadcast", "key", `{"id":"once","rooms":["notice"],"users":["alice"],"action":"x"}`)
			same.Store(a.Text, a.Status)
		})
	}
	wg.Wait()
	n := 0
	same.Range(func(text, status any) bool {
		n++
		if status != 200 {
			t.Errorf("%v %v", status, text)
		}
		return true
	})
	if n != 1 || len(s.history("notice")) != 1 || len(s.history("user:alice")) != 1 {
		t.Errorf("%d different answers; said %d and %d times", n, len(s.history("notice")), len(s.history("user:alice")))
	}
}

// brokenRooms fails where it is told to.
type brokenRooms struct {
	*hub.MemoryBroker
	broken atomic.Pointer[string]
}

func (b *brokenRooms) Publish(ctx context.Context, room string, m hub.Message, keep hub.Keep) (hub.Position, error) {
	if name := b.broken.Load(); name != nil && (*name == room || *name == "*") {
		return hub.Position{}, errors.New("broken for the test")
	}
	return b.MemoryBroker.Publish(ctx, room, m, keep)
}

func TestBroadcast_completesWhatIsMissing(t *testing.T) {
	memory, err := hub.NewMemoryBroker(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	broker := &brokenRooms{MemoryBroker: memory}
	s := newShop(t, func(o *web.Options) {
		h, err := hub.New(hub.Options{Broker: broker, Mail: web.Mailbox(o.Store, "test")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
		o.Hub = h
	})
	name := "b"
	broker.broken.Store(&name)
	const body = `{"id":"two","rooms":["a","b"],"users":["alice"],"action":"x"}`
	var got broadcastAnswer
	s.ask("POST", "/api/admin/broadcast", "key", body).into(t, &got)
	if len(got.Results) != 3 || got.Results[0].Offset != 1 || got.Results[1].Error != "unavailable" || got.Results[2].Offset != 1 {
		t.Fatalf("%+v", got)
	}
	epoch := got.Results[0].Epoch
	broker.broken.Store(nil)
	got = broadcastAnswer{}
	s.ask("POST", "/api/admin/broadcast", "key", body).into(t, &got)
	if r := got.Results; len(r) != 3 || r[0].Offset != 1 || r[0].Epoch != epoch || r[1].Error != "" || r[1].Offset != 1 || r[2].Offset != 1 {
		t.Errorf("completed: %+v", got)
	}
	name = "*"
	broker.broken.Store(&name)
	if a := s.ask("POST", "/api/admin/broadcast", "key", `{"rooms":["a","b"],"action":"x"}`); a.Status != 503 || a.word() != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("nothing said: %d %s", a.Status, a.Text)
	}
	if a := s.ask("POST", "/api/admin/broadcast", "key", body); a.Status != 200 {
		t.Errorf("a kept answer needs no broker: %s", a.Text)
	}
}

// A phone is one socket.
type socket struct {
	t  testing.TB
	ws *websocket.Conn
}

func (s *shop) tryDial(path string, header http.Header, protocols ...string) (*socket, *http.Response) {
	s.t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: 5 * time.Second}
	ws, resp, err := d.Dial("ws"+strings.TrimPrefix(s.url, "http")+path, header)
	if err != nil {
		if resp == nil {
			s.t.Fatal(err)
		}
		return nil, resp
	}
	s.t.Cleanup(func() { _ = ws.Close() })
	return &socket{s.t, ws}, resp
}

func (s *shop) dial(path string) *socket {
	s.t.Helper()
	c, resp := s.tryDial(path, nil)
	if c == nil {
		s.t.Fatalf("%s: %d", path, resp.StatusCode)
	}
	return c
}

func (c *socket) read() string {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, text, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func (c *socket) welcome() string {
	c.t.Helper()
	f := c.read()
	if !strings.Contains(f, `"action":"welcome"`) {
		c.t.Fatalf("first frame %s", f)
	}
	return f
}

func (c *socket) ask(frame string) string {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
	for {
		if f := c.read(); strings.HasPrefix(f, `{"reply":`) {
			return f
		}
	}
}

// closed waits for the end and tells its code.
func (c *socket) closed() int {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		if _, _, err := c.ws.ReadMessage(); err != nil {
			var e *websocket.CloseError
			if !errors.As(err, &e) {
				c.t.Fatal(err)
			}
			return e.Code
		}
	}
}

// The longest request that makes sense is taken: a payload of 64 KiB for a thousand users with long names.
func TestBroadcast_thousandUsers(t *testing.T) {
	s := newShop(t)
	users := make([]string, 1000)
	for i := range users {
		users[i] = fmt.Sprintf("%064d", i)
	}
	in := map[string]any{"id": "wide", "users": users, "action": "x", "payload": strings.Repeat("龙", 21844)}
	var got, again broadcastAnswer
	s.ask("POST", "/api/admin/broadcast", "key", in).into(t, &got)
	if len(got.Results) != 1000 {
		t.Fatalf("%d results", len(got.Results))
	}
	for i, r := range got.Results {
		if r.Room != "user:"+users[i] || r.Offset != 1 || r.Epoch == "" || r.Error != "" {
			t.Fatalf("result %d: %+v", i, r)
		}
	}
	s.ask("POST", "/api/admin/broadcast", "key", in).into(t, &again)
	if !slices.Equal(got.Results, again.Results) {
		t.Error("the repeat is answered otherwise")
	}
	if h := s.history("user:" + users[999]); len(h) != 1 || len(h[0].Payload) != 3*21844+2 {
		t.Errorf("%d letters", len(h))
	}
	in["payload"], in["id"] = strings.Repeat("x", 64<<10), "wider"
	if a := s.ask("POST", "/api/admin/broadcast", "key", in); a.Status != 413 || a.word() != "too_large" {
		t.Errorf("a payload above 64 KiB: %d %s", a.Status, a.Text)
	}
	in["payload"], in["users"] = 1, append(users, "one-more")
	if a := s.ask("POST", "/api/admin/broadcast", "key", in); a.Status != 400 {
		t.Errorf("1001 users: %d %s", a.Status, a.Text)
	}
}

// A repeat says nothing twice, even what no room and no mailbox remembers.
func TestBroadcast_repeatIsNotHeardAgain(t *testing.T) {
	memory, err := hub.NewMemoryBroker(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	broker := &brokenRooms{MemoryBroker: memory}
	s := newShop(t)
	s = newShop(t, func(o *web.Options) {
		h, err := hub.New(hub.Options{Broker: broker, Mail: web.Mailbox(s.db, "test")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
		o.Hub, o.Store, o.Tokens = h, s.db, s.tokens
	})
	phone := s.dial("/ws?token=" + s.token("alice", "user"))
	phone.welcome()
	name := "a"
	broker.broken.Store(&name)
	const body = `{"id":"live","rooms":["a"],"users":["alice"],"live":true,"action":"hello"}`
	var got broadcastAnswer
	s.ask("POST", "/api/admin/broadcast", "key", body).into(t, &got)
	if r := got.Results; len(r) != 2 || r[0].Error == "" || r[1].Error != "" {
		t.Fatalf("%+v", got)
	}
	broker.broken.Store(nil)
	for range 2 {
		got = broadcastAnswer{}
		s.ask("POST", "/api/admin/broadcast", "key", body).into(t, &got)
		if r := got.Results; len(r) != 2 || r[0].Offset != 1 || r[0].Error+r[1].Error != "" {
			t.Fatalf("completed: %+v", got)
		}
	}
	if f := phone.read(); !strings.Contains(f, `"action":"hello"`) {
		t.Errorf("%s", f)
	}
	if err := phone.ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"action":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if f := phone.read(); !strings.HasPrefix(f, `{"reply":1`) {
		t.Errorf("heard again: %s", f)
	}
}
