package socketio

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server on loopback that is closed, and has nothing left, at the end of the test.
func serve(t testing.TB, o Options) (s *Server, addr string) {
	t.Helper()
	s = New(o)
	srv := httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		srv.Close()
	})
	return s, "ws" + strings.TrimPrefix(srv.URL, "http")
}

// A client is the other end.
type client struct {
	t  testing.TB
	ws *websocket.Conn
}

// dial opens a connection and reads the open packet.
func dial(t testing.TB, addr string, version int, query string) *client {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(fmt.Sprintf("%s/socket.io/?EIO=%d&transport=websocket%s", addr, version, query), nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	c := &client{t, ws}
	if open := c.read(); !strings.HasPrefix(open, `0{"sid":"`) {
		t.Fatalf("opened with %s", open)
	}
	return c
}

// enter is dial of a client of V4 that has entered a namespace.
func enter(t testing.TB, addr, namespace, auth string) *client {
	t.Helper()
	c := dial(t, addr, 4, "")
	if namespace != "/" {
		c.write("40" + namespace + "," + auth)
		c.wantPrefix("40" + namespace + `,{"sid":"`)
		return c
	}
	c.write("40" + auth)
	c.wantPrefix(`40{"sid":"`)
	return c
}

func (c *client) write(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) writeBinary(data ...byte) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		c.t.Fatal(err)
	}
}

// read reads one message that is no heartbeat; a binary one is its bytes in hex.
func (c *client) read() string {
	c.t.Helper()
	for {
		kind, data, err := c.ws.ReadMessage()
		switch {
		case err != nil:
			c.t.Fatalf("read: %v", err)
		case kind == websocket.BinaryMessage:
			return fmt.Sprintf("% x", data)
		case string(data) != "2":
			return string(data)
		}
	}
}

func (c *client) want(texts ...string) {
	c.t.Helper()
	for _, want := range texts {
		if got := c.read(); got != want {
			c.t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func (c *client) wantPrefix(prefix string) string {
	c.t.Helper()
	got := c.read()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %s, want %s…", got, prefix)
	}
	return got
}

// closed reads until the connection is closed.
func (c *client) closed() (code int, reason string) {
	c.t.Helper()
	for {
		_, _, err := c.ws.ReadMessage()
		var e *websocket.CloseError
		if errors.As(err, &e) {
			return e.Code, e.Text
		}
		if err != nil {
			c.t.Fatalf("closed without a close frame: %v", err)
		}
	}
}

func (c *client) wantClosed(code int, reason string) {
	c.t.Helper()
	if gotCode, gotReason := c.closed(); gotCode != code || gotReason != reason {
		c.t.Errorf("closed with %d %q, want %d %q", gotCode, gotReason, code, reason)
	}
}
