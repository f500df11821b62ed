package hub

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// listenNarrow serves h with small send buffers, so that a reader that stops is noticed soon.
func listenNarrow(t *testing.T, h *Hub) string {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.Accept(w, r, session(r))
	}))
	srv.Listener = narrow{srv.Listener}
	srv.Start()
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	return c, err
}

func narrowDialer() *websocket.Dialer {
	return &websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
		return c, err
	}}
}

// Alice and bob share a room; bob stops reading; alice still gets all of it, in time. Bob is closed with
// the code that lets him recover.
func TestPublish_slowReader(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{QueueBytes: 64 << 10, WriteWait: 500 * time.Millisecond}})
	addr := listenNarrow(t, h)
	bob, err := tryDial(t, narrowDialer(), addr, "user=bob&room=notice")
	if err != nil {
		t.Fatal(err)
	}
	alice := dial(t, addr, "user=alice&room=notice")
	payload := `"` + strings.Repeat("x", 1000) + `"`
	const total = 500
	start := time.Now()
	window := make(chan bool, 20) // alice is never further behind than this
	go func() {
		for range total {
			window <- true
			publish(t, h, "notice", say("n", payload))
		}
	}()
	for n := range total {
		if f := alice.push(); f.Meta.Offset != uint64(n+1) {
			t.Fatalf("alice got %d, want %d", f.Meta.Offset, n+1)
		}
		<-window
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("alice waited %s", d)
	}
	eventually(t, "bob is dropped", func() bool { return h.Stats().Dropped == 1 })
	last, closed := uint64(0), 0
	for closed == 0 {
		f, err := bob.read()
		if e, ok := err.(*websocket.CloseError); ok {
			closed = e.Code
		} else if err != nil {
			t.Logf("bob's line was cut: %v", err)
			break
		} else if last++; f.Meta.Offset != last {
			t.Fatalf("bob got %d, want %d", f.Meta.Offset, last)
		}
	}
	if closed != 0 && closed != 4413 {
		t.Errorf("bob was closed with %d", closed)
	}
	eventually(t, "bob is gone", func() bool { return h.Stats().Closed[4413] == 1 })
	back := dial(t, addr, fmt.Sprintf("user=bob&room=notice@%s:%d", alice.greeting().Rooms[2].Epoch, last))
	if r := back.greeting().Rooms[2]; r.Recovered == nil || !*r.Recovered || uint64(r.Missed) != total-last {
		t.Errorf("bob came back at %d: %s", last, back.welcome.raw)
	}
	for last < total {
		if f := back.push(); f.Meta.Offset != last+1 {
			t.Fatalf("bob got %d, want %d", f.Meta.Offset, last+1)
		}
		last++
	}
}

// A reader that pauses within its queue gets everything, in order.
func TestPublish_readerThatPauses(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listenNarrow(t, h)
	c, err := tryDial(t, narrowDialer(), addr, "user=bob&room=notice")
	if err != nil {
		t.Fatal(err)
	}
	payload := `"` + strings.Repeat("x", 1000) + `"`
	const total = 600
	for range total {
		publish(t, h, "notice", say("n", payload))
	}
	time.Sleep(50 * time.Millisecond)
	for n := range total {
		if f := c.push(); f.Meta.Offset != uint64(n+1) {
			t.Fatalf("got %d, want %d", f.Meta.Offset, n+1)
		}
	}
	c.must(`"action":"ping"`)
	if n := h.Stats().Dropped; n != 0 {
		t.Errorf("%d dropped", n)
	}
}

// A close frame reaches a reader that is behind: what waits is dropped at a frame's border.
func TestDisconnect_readerThatIsBehind(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listenNarrow(t, h)
	c, err := tryDial(t, narrowDialer(), addr, "user=bob&room=notice")
	if err != nil {
		t.Fatal(err)
	}
	payload := `"` + strings.Repeat("x", 3000) + `"`
	for range 200 {
		publish(t, h, "notice", say("n", payload))
	}
	eventually(t, "frames wait", func() bool {
		conn := h.connsOf("bob")[0]
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.queue.frames > 50
	})
	h.Disconnect(Target{User: "bob"}, DisconnectBlocked)
	c.wantClosed(4503, "blocked")
}
