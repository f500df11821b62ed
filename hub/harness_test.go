package hub

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The Redis client looks once a second whether it may end a goroutine that waited for a server.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// newTestHub builds a hub that is shut down, and found consistent, at the end of the test.
func newTestHub(t testing.TB, o Options) *Hub {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopHub(t, h) })
	return h
}

func stopHub(t testing.TB, h *Hub) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // no deadline: all at once
	defer cancel()
	defer time.AfterFunc(10*time.Second, cancel).Stop()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := h.CheckConsistency(); err != nil {
		t.Error(err)
	}
	if s := h.Stats(); s.Sockets != 0 || s.Users != 0 || s.Rooms != 0 {
		t.Errorf("after shutdown: %+v", s)
	}
}

// session reads who dials from the query: user, role, jti, rooms, addr, and exp as a duration from now.
func session(r *http.Request) Session {
	q := r.URL.Query()
	s := Session{User: q.Get("user"), Role: q.Get("role"), ID: q.Get("jti"), Rooms: q["may"]}
	s.Address, _ = netip.ParseAddr(q.Get("addr"))
	if exp := q.Get("exp"); exp != "" {
		d, _ := time.ParseDuration(exp)
		s.ExpiresAt = time.Now().Add(d)
	}
	return s
}

// listen serves h on loopback and returns the address for dial.
func listen(t testing.TB, h *Hub) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.Accept(w, r, session(r))
	}))
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

// A client is the other end of a socket in a test.
type client struct {
	t       testing.TB
	ws      *websocket.Conn
	id      string
	welcome frame
	replies int
}

// A frame is anything that the hub says.
type frame struct {
	Meta struct {
		Room      string
		Epoch     string
		Offset    uint64
		ID        string
		Timestamp int64
		Client    string
		Target    string
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}
	Reply     json.RawMessage
	OK        bool
	Error     string
	Message   string
	Room      string
	Epoch     string
	Offset    uint64
	Recovered *bool
	Missed    int
	Count     int
	Users     []PresentUser
	Messages  []frame
	First     uint64
	Complete  *bool
	ExpiresAt int64
	Ping      int64
	raw       string
}

type welcomePayload struct {
	Client    string
	User      string
	Heartbeat float64
	Rooms     []struct {
		Room      string
		Epoch     string
		Offset    uint64
		Recovered *bool
		Missed    int
	}
	Refused []struct{ Room, Error string }
}

// dial opens a socket and reads the welcome. query is "user=ada&room=room:tea".
func dial(t testing.TB, addr, query string) *client {
	t.Helper()
	c, err := tryDial(t, websocket.DefaultDialer, addr, query)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t testing.TB, d *websocket.Dialer, addr, query string) (*client, error) {
	ws, resp, err := d.Dial(addr+"/ws?"+query, nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = ws.Close() })
	c := &client{t: t, ws: ws}
	c.welcome, err = c.read()
	if err != nil {
		return nil, fmt.Errorf("welcome: %w", err)
	}
	if c.welcome.Data.Action != "welcome" {
		return nil, fmt.Errorf("first frame is %s", c.welcome.raw)
	}
	c.id = c.greeting().Client
	return c, nil
}

// dialPipe opens a socket over a pipe: no descriptor, and time may be synthetic.
func dialPipe(t testing.TB, h *Hub, query string) *client {
	t.Helper()
	c, err := tryDial(t, pipeDialer(h), "ws://hub", query)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pipeDialer(h *Hub) *websocket.Dialer {
	return pipeDialerTo(func(w http.ResponseWriter, r *http.Request) error { return h.Accept(w, r, session(r)) })
}

func pipeDialerTo(accept func(http.ResponseWriter, *http.Request) error) *websocket.Dialer {
	return &websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			brw := bufio.NewReadWriter(bufio.NewReader(far), bufio.NewWriter(far))
			r, err := http.ReadRequest(brw.Reader)
			if err != nil {
				_ = far.Close()
				return
			}
			if accept(&pipeResponse{conn: far, brw: brw, header: http.Header{}}, r) != nil {
				_ = far.Close()
			}
		}()
		return near, nil
	}}
}

// pipeResponse answers an HTTP request on a pipe.
type pipeResponse struct {
	conn   net.Conn
	brw    *bufio.ReadWriter
	header http.Header
}

func (p *pipeResponse) Header() http.Header { return p.header }
func (p *pipeResponse) WriteHeader(code int) {
	_, _ = fmt.Fprintf(p.conn, "HTTP/1.1 %d %s\r\n\r\n", code, http.StatusText(code))
}
func (p *pipeResponse) Write(b []byte) (int, error)                  { return p.conn.Write(b) }
func (p *pipeResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) { return p.conn, p.brw, nil }

func (c *client) greeting() (w welcomePayload) {
	c.t.Helper()
	if err := json.Unmarshal(c.welcome.Data.Payload, &w); err != nil {
		c.t.Fatal(err)
	}
	return w
}

// read reads one frame.
func (c *client) read() (f frame, err error) {
	_, text, err := c.ws.ReadMessage()
	if err != nil {
		return f, err
	}
	f.raw = string(text)
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%s: %w", text, err)
	}
	return f, nil
}

// next reads the next frame that is no heartbeat.
func (c *client) next() frame {
	c.t.Helper()
	for {
		f, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		if f.Ping == 0 {
			return f
		}
	}
}

// push reads the next frame and wants it to be a push.
func (c *client) push() frame {
	c.t.Helper()
	f := c.next()
	if f.Data.Action == "" {
		c.t.Fatalf("no push: %s", f.raw)
	}
	return f
}

func (c *client) write(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// ask sends a request without its id and returns the reply; pushes that come before it are returned too.
func (c *client) ask(fields string) (reply frame, pushes []frame) {
	c.t.Helper()
	c.replies++
	id := fmt.Sprint(c.replies)
	c.write(`{"id":` + id + `,` + fields + `}`)
	for {
		f := c.next()
		if f.Reply == nil {
			pushes = append(pushes, f)
			continue
		}
		if string(f.Reply) != id {
			c.t.Fatalf("reply to %s, want %s: %s", f.Reply, id, f.raw)
		}
		return f, pushes
	}
}

// must asks and wants it granted.
func (c *client) must(fields string) frame {
	c.t.Helper()
	f, _ := c.ask(fields)
	if !f.OK {
		c.t.Fatalf("%s: %s", fields, f.raw)
	}
	return f
}

// refused asks and wants it refused with the word.
func (c *client) refused(word, fields string) {
	c.t.Helper()
	f, _ := c.ask(fields)
	if f.OK || f.Error != word || f.Message == "" {
		c.t.Errorf("%s: got %s, want %s", fields, f.raw, word)
	}
}

// closed reads until the socket is closed and returns code and reason.
func (c *client) closed() (code int, reason string) {
	c.t.Helper()
	for {
		_, err := c.read()
		var e *websocket.CloseError
		if errors.As(err, &e) {
			return e.Code, e.Text
		}
		if err != nil {
			c.t.Fatalf("closed without a close frame: %v", err)
		}
	}
}

func (c *client) wantClosed(code int, word string) {
	c.t.Helper()
	got, reason := c.closed()
	if w, _, _ := strings.Cut(reason, ";"); got != code || w != word {
		c.t.Errorf("closed with %d %q, want %d %q", got, reason, code, word)
	}
}

func say(action, payload string) Message {
	return Message{Action: action, Payload: json.RawMessage(payload)}
}

func publish(t testing.TB, h *Hub, room string, m Message) Position {
	t.Helper()
	at, err := h.Publish(context.Background(), room, m)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func escape(s string) string { return url.QueryEscape(s) }

// eventually waits for something that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
