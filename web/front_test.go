package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const plainHandshake = "GET /ws?token=t HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// startFront serves a small handler behind a Front: /ws echoes one frame, /refuse refuses, /panic panics, the rest tells who
// served it.
func startFront(t *testing.T, patience time.Duration) (addr string) {
	upgrader := websocket.Upgrader{ReadBufferSize: 512, WriteBufferSize: 512} // of its own: those of Hijack are lent
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") == "" || r.RemoteAddr == "" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		ws, err := upgrader.Upgrade(w, r, http.Header{"X-Served": {servedBy(w)}})
		if err != nil {
			return
		}
		go func() {
			defer ws.Close()
			if kind, p, err := ws.ReadMessage(); err == nil {
				_ = ws.WriteMessage(kind, p)
			}
		}()
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %d", servedBy(w), r.Method, len(body))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(l, mux, nil, patience, slog.New(slog.DiscardHandler))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(f) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		f.Wait()
	})
	return l.Addr().String()
}

func servedBy(w http.ResponseWriter) string {
	if _, ok := w.(*meeting); ok {
		return "front"
	}
	return "http"
}

// exchange sends the pieces one after the other and reads the answer's head and body.
func exchange(t *testing.T, addr string, pieces ...string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(20 * time.Millisecond) // a segment of its own
		}
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil { // closed without an answer
		return 0, nil, ""
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
	}
	return r.StatusCode, r.Header, body
}

func TestFront_whoServesWhat(t *testing.T) {
	addr := startFront(t, 10*time.Second)
	with := func(old, new string) string { return strings.Replace(plainHandshake, old, new, 1) }
	tests := []struct {
		name   string
		pieces []string
		status int
		by     string // of X-Served or the body
	}{
		{"a plain handshake", []string{plainHandshake}, 101, "front"},
		{"one whose path is another", []string{with("/ws?token=t", "/other")}, 200, "front GET 0"},
		{"a refused one", []string{with("token=t", "token=")}, 401, "no token"},
		{"one in two segments", []string{plainHandshake[:40], plainHandshake[40:]}, 101, "http"},
		{"a large one", []string{with("Host: hub", "Host: hub\r\nX: "+strings.Repeat("x", headBytes))}, 101, "http"},
		{"HTTP/1.0", []string{with("HTTP/1.1", "HTTP/1.0")}, 101, "http"},
		{"two hosts", []string{with("Host: hub", "Host: hub\r\nHost: other")}, 400, ""},
		{"no host", []string{with("Host: hub\r\n", "")}, 400, ""},
		{"an odd host", []string{with("Host: hub", "Host: hub/..")}, 400, ""},
		{"a host of no other characters than usual", []string{with("Host: hub", "Host: [::1]:8080")}, 101, "front"},
		{"a body", []string{with("/ws?token=t HTTP/1.1\r\nHost: hub", "/ HTTP/1.1\r\nHost: hub\r\nContent-Length: 2") + "ok"}, 200, "http GET 2"},
		{"a body that looks like the end of a head", []string{with("/ws?token=t HTTP/1.1\r\nHost: hub", "/ HTTP/1.1\r\nHost: hub\r\nContent-Length: 4") + "\r\n\r\n"}, 200, "http GET 4"},
		{"chunks", []string{with("/ws?token=t HTTP/1.1\r\nHost: hub", "/ HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked") + "0\r\n\r\n"}, 200, "http GET 0"},
		{"two requests", []string{plainHandshake + with("/ws?token=t", "/other")}, 0, ""},
		{"a control character", []string{with("Host: hub", "Host: hub\r\nX: a\x01b")}, 400, ""},
		{"a folded line", []string{with("Host: hub", "Host: hub\r\nX: a\r\n b")}, 101, "http"},
		{"bare line feeds", []string{strings.ReplaceAll(plainHandshake, "\r\n", "\n")}, 101, "http"},
		{"a space before the colon", []string{with("Host: hub", "Host: hub\r\nX : a")}, 400, ""},
		{"a GET", []string{"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"}, 200, "http GET 0"},
		{"a POST", []string{"POST / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", "abc"}, 200, "http POST 3"},
		{"nonsense", []string{"\x16\x03\x01\r\n\r\n"}, 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, header, body := exchange(t, addr, tt.pieces...)
			by := strings.TrimSpace(body)
			if status == 101 {
				by = header.Get("X-Served")
			}
			if status != tt.status || tt.by != "" && by != tt.by || tt.by == "" && strings.HasPrefix(by, "front") {
				t.Errorf("%d %q, want %d %q", status, by, tt.status, tt.by)
			}
		})
	}
}

func TestFront_socketEchoes(t *testing.T) {
	addr := startFront(t, 10*time.Second)
	for range 3 { // a worker meets more than one
		ws, r, err := websocket.DefaultDialer.Dial("ws://"+addr+"/ws?token=t", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Header.Get("X-Served") != "front" {
			t.Errorf("served by %v", r.Header)
		}
		if err := ws.WriteMessage(websocket.TextMessage, []byte("tea")); err != nil {
			t.Fatal(err)
		}
		if _, p, err := ws.ReadMessage(); string(p) != "tea" {
			t.Errorf("%q %v", p, err)
		}
		_ = ws.Close()
	}
}

func TestFront_keepAlive(t *testing.T) {
	addr := startFront(t, 10*time.Second)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewReader(c)
	for range 3 {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
		r, err := http.ReadResponse(lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != "http GET 0" {
			t.Errorf("%q", body)
		}
	}
}

func TestFront_silentConnection(t *testing.T) {
	addr := startFront(t, 50*time.Millisecond)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that says nothing: %v", err)
	}
}

func TestFront_panic(t *testing.T) {
	addr := startFront(t, 10*time.Second)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, strings.Replace(plainHandshake, "/ws", "/panic", 1))
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("after a panic: %d bytes, %v", n, err)
	}
	if status, _, _ := exchange(t, addr, plainHandshake); status != 101 {
		t.Errorf("the next: %d", status)
	}
}

// Whatever is taken for a handshake must mean the same to net/http.
func FuzzFront_handshake(f *testing.F) {
	f.Add([]byte(plainHandshake))
	f.Add([]byte(strings.Replace(plainHandshake, "Host: hub", "Host: hub\r\nhost: hub", 1)))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nContent-Length: 5\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h := heads.Get().(*head)
		defer heads.Put(h)
		r := h.handshake(copy(h.bytes[:], text))
		if r == nil {
			return
		}
		lines := bufio.NewReader(bytes.NewReader(text[:min(len(text), headBytes)]))
		again, err := http.ReadRequest(lines)
		if err != nil || again.RequestURI != r.RequestURI || again.Host != r.Host || lines.Buffered() > 0 || r.Method != http.MethodGet || r.URL == nil {
			t.Errorf("%q: %v %v", text, r, err)
		}
		if body, _ := io.ReadAll(again.Body); len(body) > 0 {
			t.Errorf("%q has a body", text)
		}
	})
}
