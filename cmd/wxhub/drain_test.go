package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// startServe runs `wxhub serve` alone and hands out a token for it.
func startServe(t *testing.T, env ...string) (p *process, token string) {
	t.Helper()
	addr := spareAddress(t)
	p = startProcess(t, append([]string{"WXHUB_ADDR=" + addr, "WXHUB_DATA=" + t.TempDir(), goodKeys, "WXHUB_API_KEYS=" + clusterKey}, env...), "serve")
	p.hub, p.apiKey = "http://"+addr, clusterKey
	p.wait("readiness", func() bool { return p.readiness() == 200 })
	_, out, _ := runMain(t, []string{goodKeys}, "token", "ada")
	return p, strings.TrimSpace(out)
}

// readiness is what a balancer hears; 0: nothing.
func (p *process) readiness() int {
	r, err := http.Get(p.hub + "/readyz")
	if err != nil {
		return 0
	}
	_ = r.Body.Close()
	return r.StatusCode
}

func (p *process) socket(token, query string) (*websocket.Conn, *http.Response, error) {
	return websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(p.hub, "http")+"/ws?token="+token+"&"+query, nil)
}

// A stop turns readiness red, refuses new sockets, and closes the open ones one after the other, each with a hint of
// its own when to come back.
func TestServe_drain(t *testing.T) {
	p, token := startServe(t, "WXHUB_DRAIN=5s", "WXHUB_LIMIT_USER_SOCKETS=off")
	const sockets = 12
	type farewell struct {
		code   int
		reason string
		after  time.Duration
	}
	farewells := make(chan farewell, sockets)
	begun := make(chan time.Time, 1)
	for range sockets {
		ws, _, err := p.socket(token, "room=notice")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.Close() })
		go func() {
			for {
				if _, _, err := ws.ReadMessage(); err != nil {
					start := <-begun
					begun <- start
					e, _ := err.(*websocket.CloseError)
					if e == nil {
						e = &websocket.CloseError{}
					}
					farewells <- farewell{e.Code, e.Text, time.Since(start)}
					return
				}
			}
		}()
	}
	begun <- time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait("readiness to turn red", func() bool { return p.readiness() == 503 })
	reasons := map[string]bool{}
	var first, last time.Duration
	for i := range sockets {
		select {
		case f := <-farewells:
			if f.code != 1012 || !strings.HasPrefix(f.reason, "restart;retry=") {
				t.Errorf("closed with %d %q", f.code, f.reason)
			}
			reasons[f.reason] = true
			if last = f.after; i == 0 {
				first = f.after
				if ws, resp, err := p.socket(token, ""); err == nil {
					_ = ws.Close()
					t.Error("a new socket while the others are closed")
				} else if resp != nil && (resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "") {
					t.Errorf("a new socket is answered %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
				}
			}
		case <-time.After(patience):
			t.Fatal("a socket is not closed")
		}
	}
	if len(reasons) < sockets/2 {
		t.Errorf("hints: %v", reasons)
	}
	if spread := last - first; spread < time.Second {
		t.Errorf("all were closed within %s", spread)
	}
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// Who is told to stop twice, stops at once.
func TestServe_secondSignal(t *testing.T) {
	p, token := startServe(t, "WXHUB_DRAIN=5m")
	ws, _, err := p.socket(token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait("readiness to turn red", func() bool { return p.readiness() == 503 })
	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(); code == 0 {
		t.Error("exit status 0")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
}

// A connection that does not say who it is, is not kept.
func TestServe_unauthenticated(t *testing.T) {
	p, _ := startServe(t, "WXHUB_LIMIT_UNAUTHENTICATED=500ms")
	nc, err := net.Dial("tcp", strings.TrimPrefix(p.hub, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	start := time.Now()
	if _, err := fmt.Fprint(nc, "GET /ws?token=half HTTP/1.1\r\nHost: hub\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(bufio.NewReader(nc)); err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it was kept %s", d)
	}
}

// The hub's own maps agree at the end of a run, and tell it to whoever may look.
func TestServe_consistency(t *testing.T) {
	p, token := startServe(t)
	ws, _, err := p.socket(token, "room=notice&room=room:a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	get := func(key string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.hub+"/debug/consistency", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Key", key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	p.wait("a consistent hub", func() bool {
		code, text := get(clusterKey)
		return code == 200 && text == "consistent\n"
	})
	if code, _ := get("nobody's"); code != 401 {
		t.Errorf("without a key: %d", code)
	}
}
