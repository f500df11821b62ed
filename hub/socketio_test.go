package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// A phone is the other end of a socket that speaks Socket.IO, as far as a test needs it.
type phone struct {
	t    testing.TB
	ws   *websocket.Conn
	eio  int
	sid  string // of the socket
	pid  string
	tail string // last text argument heard
	acks int
}

// A saying is one event.
type saying struct {
	name string
	args []json.RawMessage
	raw  string
}

func (h saying) push(t testing.TB) (f frame) {
	t.Helper()
	if err := json.Unmarshal(h.args[0], &f); err != nil {
		t.Fatalf("%s: %v", h.raw, err)
	}
	f.raw = h.raw
	return f
}

// doorOf lets in who names a user: in the query, or as auth.token.
func doorOf(r *http.Request) Door {
	return Door{Admit: func(_ context.Context, auth json.RawMessage) (Session, error) {
		s := session(r)
		var a struct{ Token string }
		if _ = json.Unmarshal(auth, &a); a.Token != "" {
			s.User = a.Token
		}
		switch s.User {
		case "":
			return Session{}, &ConnectError{"bad_token", "who are you?"}
		case "broken":
			return Session{}, errBroken
		}
		return s, nil
	}}
}

// both serves h on loopback: /ws and /socket.io/.
func both(t testing.TB, h *Hub) (addr string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { _ = h.Accept(w, r, session(r)) })
	mux.HandleFunc("/socket.io/", func(w http.ResponseWriter, r *http.Request) { _ = h.AcceptSocketIO(w, r, doorOf(r)) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

// dialPhone opens a connection and reads the open packet; of V3 it has asked to come in by that.
func dialPhone(t testing.TB, d *websocket.Dialer, addr string, eio int, query string) *phone {
	t.Helper()
	ws, resp, err := d.Dial(fmt.Sprintf("%s/socket.io/?EIO=%d&transport=websocket&%s", addr, eio, query), nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	l := &phone{t: t, ws: ws, eio: eio}
	text := l.text()
	var open struct {
		SID                       string
		Upgrades                  []string
		PingInterval, PingTimeout int
		MaxPayload                int64
	}
	if err := json.Unmarshal([]byte(text[1:]), &open); text[0] != '0' || err != nil || open.SID == "" || open.Upgrades == nil || open.MaxPayload == 0 {
		t.Fatalf("open: %s", text)
	}
	if eio == 3 {
		l.sid = open.SID
	}
	return l
}

// join4 is a client of V4 that has come in, join3 one of V3. The welcome has been read.
func join4(t testing.TB, addr, query, auth string) (l *phone, recovered bool) {
	t.Helper()
	l = dialPhone(t, websocket.DefaultDialer, addr, 4, query)
	return l, l.enter(auth)
}

// enter asks to come in and reads the answer and the welcome.
func (l *phone) enter(auth string) (recovered bool) {
	l.t.Helper()
	l.write("40" + auth)
	var in struct{ SID, PID string }
	text := l.text()
	if !strings.HasPrefix(text, "40{") || json.Unmarshal([]byte(text[2:]), &in) != nil {
		l.t.Fatalf("connect: %s", text)
	}
	l.sid, l.pid = in.SID, in.PID
	l.want("welcome")
	return in.PID != "" && strings.Contains(auth, in.PID)
}

func join3(t testing.TB, addr, query string) *phone {
	t.Helper()
	l := dialPhone(t, websocket.DefaultDialer, addr, 3, query)
	if text := l.text(); text != "40" {
		t.Fatalf("connect: %s", text)
	}
	l.want("welcome")
	return l
}

func (l *phone) write(text string) {
	l.t.Helper()
	if err := l.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		l.t.Fatal(err)
	}
}

// text reads the next text that is no heartbeat; heartbeats are answered.
func (l *phone) text() string {
	l.t.Helper()
	for {
		kind, data, err := l.ws.ReadMessage()
		if err != nil {
			l.t.Fatalf("read: %v", err)
		}
		switch {
		case kind != websocket.TextMessage:
			l.t.Fatalf("binary: %x", data)
		case string(data) == "2":
			l.write("3")
		default:
			return string(data)
		}
	}
}

// event reads the next event, and remembers its last argument as clients do.
func (l *phone) event() (h saying) {
	l.t.Helper()
	h.raw = l.text()
	return l.parse(h.raw)
}

func (l *phone) parse(raw string) (h saying) {
	l.t.Helper()
	h.raw = raw
	at := strings.IndexByte(h.raw, '[')
	if at < 0 || h.raw[:2] != "42" && h.raw[:2] != "45" || json.Unmarshal([]byte(h.raw[at:]), &h.args) != nil {
		l.t.Fatalf("no event: %s", h.raw)
	}
	_ = json.Unmarshal(h.args[0], &h.name)
	h.args = h.args[1:]
	if last := h.args[len(h.args)-1]; last[0] == '"' && l.pid != "" {
		_ = json.Unmarshal(last, &l.tail)
	}
	return h
}

// want reads events until one of this name.
func (l *phone) want(name string) saying {
	l.t.Helper()
	h := l.event()
	for h.name == positionAction && name != positionAction {
		h = l.event()
	}
	if h.name != name {
		l.t.Fatalf("heard %s, want %s", h.raw, name)
	}
	return h
}

// ask emits an event and returns the acknowledgement; what is heard before it is returned too.
func (l *phone) ask(name, args string) (answer map[string]any, before []saying) {
	l.t.Helper()
	l.acks++
	l.write(fmt.Sprintf(`42%d[%q,%s]`, l.acks, name, args))
	for {
		raw := l.text()
		rest, ok := strings.CutPrefix(raw, fmt.Sprintf("43%d", l.acks))
		if !ok {
			before = append(before, l.parse(raw))
			continue
		}
		var list []map[string]any
		if json.Unmarshal([]byte(rest), &list) != nil || len(list) != 1 {
			l.t.Fatalf("answer: %s", raw)
		}
		return list[0], before
	}
}

// must asks and wants it granted.
func (l *phone) must(name, args string) map[string]any {
	l.t.Helper()
	answer, _ := l.ask(name, args)
	if answer["ok"] != true {
		l.t.Fatalf("%s %s: %v", name, args, answer)
	}
	return answer
}

func (l *phone) refused(word, name, args string) {
	l.t.Helper()
	answer, _ := l.ask(name, args)
	if answer["ok"] != false || answer["error"] != word || answer["message"] == "" || answer["event"] != name {
		l.t.Errorf("%s %s: got %v, want %s", name, args, answer, word)
	}
}

// closed reads until the connection is closed.
func (l *phone) closed() (code int, reason string, last []string) {
	l.t.Helper()
	for {
		_, data, err := l.ws.ReadMessage()
		var e *websocket.CloseError
		if errors.As(err, &e) {
			return e.Code, e.Text, last
		}
		if err != nil {
			l.t.Fatalf("closed without a close frame: %v", err)
		}
		last = append(last, string(data))
	}
}

func (l *phone) auth() string { return fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, l.tail) }
