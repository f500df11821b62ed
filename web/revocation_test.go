package web

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/hub"
	"wxhub/store"
)

// A line is a socket of which only its end matters.
type line struct {
	ws   *websocket.Conn
	code chan int
}

// dial opens a socket here, or at another server's address.
func (s *shop) dial(token string, rooms ...string) *line { return s.dialAt(s.url, token, rooms...) }

func (s *shop) dialAt(address, token string, rooms ...string) *line {
	s.Helper()
	q := url.Values{"token": {token}, "room": rooms}
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(address, "http")+"/ws?"+q.Encode(), nil)
	if err != nil {
		s.Fatal(err)
	}
	l := &line{ws, make(chan int, 1)}
	if _, _, err := ws.ReadMessage(); err != nil {
		s.Fatal("no welcome: ", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				var closed *websocket.CloseError
				if errors.As(err, &closed) {
					l.code <- closed.Code
				} else {
					l.code <- 0
				}
				return
			}
		}
	})
	s.Cleanup(func() { ws.Close(); reading.Wait() })
	return l
}

// closed waits for the end of the line, at most the promised second and what a busy machine adds.
func (l *line) closed(t *testing.T) int {
	t.Helper()
	select {
	case code := <-l.code:
		return code
	case <-time.After(3 * time.Second):
		t.Error("open still")
		return -1
	}
}

// open tells whether the line is there still.
func (l *line) open() bool {
	select {
	case code := <-l.code:
		l.code <- code
		return false
	default:
		return true
	}
}

// neighbour is a second server on the same store, with a hub of its own.
func (s *shop) neighbour() (address string, server *Server) {
	s.Helper()
	o := s.server.o
	var err error
	if o.Tokens, err = NewTokens([]Key{{ID: "k", Secret: []byte("0123456789abcdef0123456789abcdef")}}, time.Hour, s.db); err != nil {
		s.Fatal(err)
	}
	if o.Hub, err = hub.New(hub.Options{Mail: Mailbox(s.db, "test")}); err != nil {
		s.Fatal(err)
	}
	o.Node, o.Addr = "neighbour", "127.0.0.1:1"
	if server, err = New(o); err != nil {
		s.Fatal(err)
	}
	outside := httptest.NewServer(server.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx) })
	s.Cleanup(func() {
		cancel()
		running.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		o.Hub.Shutdown(ctx)
		outside.Close()
	})
	return outside.URL, server
}

func (s *shop) admin() string {
	s.Helper()
	token, err := s.server.o.Tokens.Issue("admin", "admin", nil, 0)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

// What one node decides about a token or a user, the other knows within a second.
func TestRevocations_otherNode(t *testing.T) {
	s := newShop(t)
	there, _ := s.neighbour()
	at := func(token string) (int, string) {
		status, _, text := s.send("GET", there+"/api/me", token, nil)
		word := ""
		for _, w := range []string{"bad_token", "blocked"} {
			if strings.Contains(string(text), `"`+w+`"`) {
				word = w
			}
		}
		return status, word
	}
	soon := func(what, token string, status int, word string) {
		t.Helper()
		s.eventually(what, func() bool { got, w := at(token); return got == status && w == word })
	}

	out, _ := s.login("alice")
	socket := s.dialAt(there, out, "notice")
	s.data(s.call("POST", "/api/logout", out, nil), nil)
	if code := socket.closed(t); code != 4501 {
		t.Errorf("logged out: closed with %d", code)
	}
	soon("a dead token", out, 401, "bad_token")

	old, _ := s.login("alice")
	socket = s.dialAt(there, old, "notice")
	s.data(s.call("POST", "/api/login/refresh", old, nil), nil)
	soon("an exchanged token", old, 401, "bad_token")
	if !socket.open() {
		t.Error("an exchanged token took its socket along")
	}

	token, bob := s.login("bob")
	socket = s.dialAt(there, token, "notice")
	s.data(s.call("POST", "/api/admin/users/"+bob+"/block", s.admin(), nil), nil)
	if code := socket.closed(t); code != 4503 {
		t.Errorf("blocked: closed with %d", code)
	}
	soon("a blocked user", token, 403, "blocked")
	s.refused(s.call("POST", "/api/login", "", map[string]any{"code": s.wxLogin("bob")}), 403, "blocked")
	s.data(s.call("POST", "/api/admin/users/"+bob+"/unblock", s.admin(), nil), nil)
	soon("taken back", token, 200, "")

	token, carol := s.login("carol")
	socket = s.dialAt(there, token, "notice")
	s.data(s.call("DELETE", "/api/me", token, nil), nil)
	if code := socket.closed(t); code != 4501 {
		t.Errorf("erased: closed with %d", code)
	}
	soon("an erased user", token, 401, "bad_token")
	for _, what := range []string{"block", "unblock"} { // neither brings the id back to life, here or there
		a := s.call("POST", "/api/admin/users/"+carol+"/"+what, s.admin(), nil)
		if what == "unblock" {
			s.refused(a, 409, "conflict")
		}
		s.refused(s.call("GET", "/api/me", token, nil), 401, "bad_token")
	}
	time.Sleep(2 * learnEvery)
	soon("dead for good", token, 401, "bad_token")
}

// A server that starts knows what was decided before.
func TestRevocations_start(t *testing.T) {
	s := newShop(t)
	out, _ := s.login("alice")
	s.data(s.call("POST", "/api/logout", out, nil), nil)
	token, bob := s.login("bob")
	s.data(s.call("POST", "/api/admin/users/"+bob+"/block", s.admin(), nil), nil)
	there, _ := s.neighbour()
	for token, want := range map[string]int{out: 401, token: 403} {
		if status, _, _ := s.send("GET", there+"/api/me", token, nil); status != want {
			t.Errorf("%d, want %d", status, want)
		}
	}
}

// Decisions in quick succession, while others look: the last one stands.
func TestRevocations_lookMeanwhile(t *testing.T) {
	s := newShop(t)
	tokens := s.server.o.Tokens
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := tokens.learn(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	session := hub.Session{User: "bob", ID: "x"}
	for i := range 20 {
		blocked := i%2 == 0
		if err := tokens.Block(t.Context(), "bob", blocked); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if got := tokens.allow(session, session.ID) != nil; got != blocked {
				t.Fatalf("blocked %v after Block(%v)", got, blocked)
			}
		}
	}
	close(stop)
	looking.Wait()
	if err := s.db.EraseUser(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	tokens.Erase("bob")
	if err := tokens.Block(t.Context(), "bob", false); !errors.Is(err, store.ErrErased) {
		t.Errorf("unblocked: %v", err)
	}
	if err := tokens.allow(session, session.ID); err != errBadToken {
		t.Errorf("erased: %v", err)
	}
}

func TestRevocations_forget(t *testing.T) {
	v := newRevocations(nil)
	now := time.Now()
	for id, at := range map[string]time.Time{"gone": now.Add(-2 * tokenLeeway), "fresh": now.Add(time.Hour)} {
		if err := v.Revoke(t.Context(), hub.Session{ID: id, ExpiresAt: at}); err != nil {
			t.Fatal(err)
		}
	}
	v.forget()
	if _, there := v.tokens["gone"]; there {
		t.Error("an expired token is remembered")
	}
	if _, there := v.tokens["fresh"]; !there {
		t.Error("a revocation is forgotten before its token expires")
	}
	if err := v.Block(t.Context(), "x", true); err == nil {
		t.Error("blocked without a store")
	}
}
