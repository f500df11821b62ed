package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A peer is another server that can do a part of the hub's work: tokens checked at the handshake, one room for each
// client, publishing over HTTP. Peers keep no history here and number nothing; wxhub does both.
type peer struct {
	language language
	// start builds what is to be run, if need be, and gives the command of a server on port.
	start func(ctx context.Context, o compareOptions, dir string, port int) (*exec.Cmd, error)
	// publish says payload in room.
	publish func(ctx context.Context, t *target, room string, payload json.RawMessage) error
}

var errNotHere = errors.New("is not on this machine")

var peers = map[string]peer{
	"wxhub":      {native{}, startHub, nil},
	"gorilla":    {plain{}, startGorilla, publishPlain},
	"socketio":   {socketioPeer{}, startSocketIO, publishPlain},
	"centrifugo": {centrifugo{}, startCentrifugo, publishCentrifugo},
}

var peerOrder = []string{"wxhub", "gorilla", "socketio", "centrifugo"}

func init() {
	languages["peer-gorilla"] = plain{}
	languages["peer-socketio"] = socketioPeer{}
	languages["peer-centrifugo"] = centrifugo{}
}

const (
	compareSecret = "a-secret-that-only-this-comparison-knows"
	compareKey    = "an-api-key-of-this-comparison"
)

// A peer's messages have no place of their own. Counting them as they come lets clients check that all saw one order.
func (p *phone) unnumbered(room, action string, payload json.RawMessage, at time.Time) {
	f := &frame{position: position{Epoch: p.at.Epoch, Offset: p.at.Offset + 1}, Room: room, Action: action, Payload: payload}
	f.n, f.intact = p.player.crowd.recognise(action, payload)
	p.push(f, at)
}

// plain is the language of the gorilla peer: "welcome", then payloads.
type plain struct{}

func (plain) request(p *phone) (string, []string) {
	return "/ws?room=" + url.QueryEscape(p.room()), []string{"Authorization: Bearer " + p.Token}
}

func (plain) opened(*phone) {}

func (plain) heard(p *phone, text []byte, at time.Time) error {
	if string(text) == "welcome" {
		p.arrive(position{Epoch: "-"}, true, at)
		return nil
	}
	p.unnumbered(p.room(), broadcastAction, text, at)
	return nil
}

// socketioPeer is Socket.IO 5 on Engine.IO 4, as its own server speaks it.
type socketioPeer struct{}

func (socketioPeer) request(*phone) (string, []string) {
	return "/socket.io/?EIO=4&transport=websocket", nil
}

func (socketioPeer) opened(*phone) {}

func (socketioPeer) heard(p *phone, text []byte, at time.Time) error {
	switch kind, rest := cutByte(text), text[min(1, len(text)):]; {
	case kind == '0':
		p.line.say(fmt.Sprintf(`40{"token":%q,"room":%q}`, p.Token, p.room()))
	case kind == '2':
		p.line.say("3")
	case kind == '4' && cutByte(rest) == '2':
		var event []json.RawMessage
		var name string
		if err := json.Unmarshal(rest[1:], &event); err != nil || len(event) == 0 || json.Unmarshal(event[0], &name) != nil {
			return fmt.Errorf("socket.io event: %.100q", text)
		}
		if name == "welcome" {
			p.arrive(position{Epoch: "-"}, true, at)
		} else if len(event) > 1 {
			p.unnumbered(p.room(), name, event[1], at)
		}
	case kind == '4' && cutByte(rest) == '4':
		return &refusal{Status: 403, Word: "connect_error", Message: string(rest[1:])}
	}
	return nil
}

func cutByte(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// centrifugo speaks its JSON protocol: several replies may come in one message, a line each.
type centrifugo struct{}

func (centrifugo) request(*phone) (string, []string) { return "/connection/websocket", nil }

func (centrifugo) opened(p *phone) {
	p.line.say(fmt.Sprintf("{\"id\":1,\"connect\":{\"token\":%q}}\n{\"id\":2,\"subscribe\":{\"channel\":%q}}", p.Token, p.room()))
}

func (centrifugo) heard(p *phone, text []byte, at time.Time) error {
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		var m struct {
			Error     *struct{ Message string }
			Subscribe json.RawMessage
			Push      *struct {
				Channel string
				Pub     *struct{ Data json.RawMessage }
			}
		}
		switch err := json.Unmarshal(line, &m); {
		case err != nil:
			return fmt.Errorf("centrifugo: %w", err)
		case m.Error != nil:
			return &refusal{Status: 403, Word: "centrifugo", Message: m.Error.Message}
		case m.Subscribe != nil:
			p.arrive(position{Epoch: "-"}, true, at)
		case m.Push != nil && m.Push.Pub != nil:
			p.unnumbered(m.Push.Channel, broadcastAction, m.Push.Pub.Data, at)
		case string(line) == "{}":
			p.line.say("{}")
		}
	}
	return nil
}

func publishPlain(ctx context.Context, t *target, room string, payload json.RawMessage) error {
	return t.post(ctx, t.hub()+"/publish?room="+url.QueryEscape(room), nil, payload)
}

func publishCentrifugo(ctx context.Context, t *target, room string, payload json.RawMessage) error {
	body, err := json.Marshal(map[string]any{"channel": room, "data": payload})
	if err != nil {
		return err
	}
	return t.post(ctx, t.hub()+"/api/publish", http.Header{"X-Api-Key": {compareKey}}, body)
}

// post sends body and wants any success.
func (t *target) post(ctx context.Context, address string, header http.Header, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := t.http.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		return &refusal{Status: a.StatusCode, Word: "publish"}
	}
	return nil
}

// goBuild builds a command of this module, which must be the one that is stood in.
func goBuild(ctx context.Context, dir, name, path string) (string, error) {
	out := filepath.Join(dir, name)
	build := exec.CommandContext(ctx, "go", "build", "-o", out, path) //nolint:gosec // our own packages
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", path, err, bytes.TrimSpace(text))
	}
	return out, nil
}

func startHub(ctx context.Context, o compareOptions, dir string, port int) (*exec.Cmd, error) {
	bin := o.wxhub
	if bin == "" {
		var err error
		if bin, err = goBuild(ctx, dir, "wxhub", "./cmd/wxhub"); err != nil {
			return nil, err
		}
	}
	data, err := os.MkdirTemp(dir, "data")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "serve") //nolint:gosec // chosen by who runs this
	cmd.Env = append(os.Environ(), fmt.Sprintf("WXHUB_ADDR=127.0.0.1:%d", port), "WXHUB_DATA="+data,
		"WXHUB_JWT_KEYS=k1:"+compareSecret, "WXHUB_API_KEYS="+compareKey)
	return cmd, nil
}

func startGorilla(ctx context.Context, _ compareOptions, dir string, port int) (*exec.Cmd, error) {
	bin, err := goBuild(ctx, dir, "gorilla", "./loadtest/peer/gorilla")
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, bin, "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-secret", compareSecret), nil //nolint:gosec // just built
}

func startSocketIO(ctx context.Context, _ compareOptions, dir string, port int) (*exec.Cmd, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("node %w", errNotHere)
	}
	at := filepath.Join(dir, "socketio")
	if _, err := os.Stat(filepath.Join(at, "node_modules")); err != nil {
		if err := os.CopyFS(at, os.DirFS("loadtest/peer/socketio")); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
		install.Dir = at
		if text, err := install.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm ci: %w: %s", err, bytes.TrimSpace(text))
		}
	}
	cmd := exec.CommandContext(ctx, node, "server.mjs") //nolint:gosec // our own script
	cmd.Dir = at
	cmd.Env = append(os.Environ(), "NODE_ENV=production", "SECRET="+compareSecret, fmt.Sprintf("PORT=%d", port))
	return cmd, nil
}

func startCentrifugo(ctx context.Context, o compareOptions, dir string, port int) (*exec.Cmd, error) {
	bin, err := exec.LookPath(o.centrifugo)
	if err != nil {
		return nil, fmt.Errorf("centrifugo %w: go install github.com/centrifugal/centrifugo/v6@latest, or -centrifugo PATH", errNotHere)
	}
	settings, err := json.Marshal(map[string]any{
		"http_server": map[string]any{"address": "127.0.0.1", "port": port},
		"client":      map[string]any{"token": map[string]any{"hmac_secret_key": compareSecret}, "allowed_origins": []string{"*"}},
		"channel":     map[string]any{"without_namespace": map[string]any{"allow_subscribe_for_client": true}},
		"http_api":    map[string]any{"key": compareKey},
		"usage_stats": map[string]any{"disabled": true},
		"log":         map[string]any{"level": "error"},
	})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "centrifugo.json")
	if err := os.WriteFile(path, settings, 0o600); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, bin, "-c", path), nil //nolint:gosec // chosen by who runs this
}

// A server is a peer that runs.
type server struct {
	cmd *exec.Cmd
	url string
}

// launch starts a peer on a free port and waits until it listens.
func launch(ctx context.Context, p peer, o compareOptions, dir string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	cmd, err := p.start(ctx, o, dir, port)
	if err != nil {
		return nil, err
	}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd, fmt.Sprintf("http://127.0.0.1:%d", port)}
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			_ = c.Close()
			return s, nil
		}
		if time.Now().After(end) || sleep(ctx, 50*time.Millisecond) != nil {
			s.stop()
			return nil, fmt.Errorf("does not listen: %s", strings.TrimSpace(log.String()))
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	gone := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		<-gone
	}
}
