package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// raceBuild: these tests run under the race detector, so the binary that they start does too.
var raceBuild bool

// patience bounds every wait of these tests; nothing waits so long unless something is broken.
const patience = 30 * time.Second

var binary struct {
	sync.Once
	dir, path string
	err       error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.dir != "" {
		_ = os.RemoveAll(binary.dir)
	}
	os.Exit(code)
}

// builtBinary builds wxhub once, with the crash points in it.
func builtBinary(t *testing.T) string {
	t.Helper()
	binary.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "wxhub-test-"); binary.err != nil {
			return
		}
		binary.path = filepath.Join(binary.dir, "wxhub")
		if runtime.GOOS == "windows" {
			binary.path += ".exe"
		}
		args := []string{"build", "-tags", "crashpoint", "-o", binary.path}
		if raceBuild {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// A process is a running wxhub, as a user started it.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	hub    string // URL
	sim    string
	apiKey string
	admin  string // password

	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{} // closed when it has ended
	err  error         // how, after done
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// cleanEnv is this environment without settings of wxhub.
func cleanEnv(more ...string) (env []string) {
	for _, line := range os.Environ() {
		if !strings.HasPrefix(line, "WXHUB_") {
			env = append(env, line)
		}
	}
	return append(env, more...)
}

func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}), cmd: exec.Command(builtBinary(t), args...)}
	p.cmd.Env = cleanEnv(env...)
	p.cmd.Stderr = p
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			fmt.Fprintln(p, s.Text())
			select {
			case lines <- s.Text():
			default:
			}
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		if p.running() {
			_ = p.cmd.Process.Kill()
		}
		<-p.done
		if t.Failed() {
			t.Logf("output of %v:\n%s", p.cmd.Args[1:], p.output())
		}
		if strings.Contains(p.output(), "WARNING: DATA RACE") {
			t.Error("the race detector spoke")
		}
	})
	return p
}

var greeting = map[string]*regexp.Regexp{
	"hub":   regexp.MustCompile(`door\s+(http://\S+)/`),
	"sim":   regexp.MustCompile(`模拟器 WeChat\s+(http://\S+)/`),
	"admin": regexp.MustCompile(`admin / (\S+)`),
	"key":   regexp.MustCompile(`API key\s+(\S+)`),
}

// startDemo runs `wxhub demo` on spare ports and waits until it answers.
func startDemo(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := startProcess(t, env, append([]string{"demo", "--addr", "127.0.0.1:0"}, args...)...)
	p.wait("the greeting", func() bool {
		found := map[string]string{}
		for name, re := range greeting {
			if m := re.FindStringSubmatch(p.output()); m != nil {
				found[name] = m[1]
			}
		}
		p.hub, p.sim, p.admin, p.apiKey = found["hub"], found["sim"], found["admin"], found["key"]
		return len(found) == len(greeting)
	})
	p.wait("readiness", func() bool {
		r, err := http.Get(p.hub + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// wait polls: the other side is a process of its own, which nobody can wake us for.
func (p *process) wait(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-p.done:
			p.t.Fatalf("waiting for %s: the process ended: %v\n%s", what, p.err, p.output())
		case <-end:
			p.t.Fatalf("waited %s for %s\n%s", patience, what, p.output())
		}
	}
}

// ended waits for the process's end and returns its exit status; -1: by a signal.
func (p *process) ended() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("the process does not end\n%s", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	return p.ended()
}

// An answer is an HTTP answer in the usual envelope.
type answer struct {
	Status  int
	Code    int
	Data    json.RawMessage
	Error   string
	Message string
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Data, v); err != nil {
		t.Fatalf("data %s: %v", a.Data, err)
	}
}

// ask calls the hub; auth is a bearer token, "key:KEY" for an API key, or empty.
func (p *process) ask(method, path, auth string, body any) answer {
	p.t.Helper()
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		text = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.hub+path, text)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key, ok := strings.CutPrefix(auth, "key:"); ok {
		r.Header.Set("X-API-Key", key)
	} else if auth != "" {
		r.Header.Set("Authorization", "Bearer "+auth)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// simulate calls the simulator's control side.
func (p *process) simulate(path string, body, out any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := call(ctx, p.sim+path, "", body, out); err != nil {
		p.t.Fatalf("simulator %s: %v", path, err)
	}
}

// A phone is a logged-in person with a socket.
type phone struct {
	p       *process
	name    string
	token   string
	id      string
	ws      *websocket.Conn
	Welcome frame
}

type frame struct {
	Meta struct {
		Room, Epoch, ID string
		Offset          uint64
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}
	Reply    int
	OK       bool
	Error    string
	Ping     int64
	Messages []frame
	Count    int
}

// newPhone logs a person in as a mini-program would.
func (p *process) newPhone(name string) *phone {
	p.t.Helper()
	var wx struct{ Code, RawData, Signature, EncryptedData, IV string }
	p.simulate("/sim/login", map[string]any{"user": name}, &wx)
	a := p.ask("POST", "/api/login", "", map[string]any{
		"code": wx.Code, "rawData": wx.RawData, "signature": wx.Signature, "encryptedData": wx.EncryptedData, "iv": wx.IV,
	})
	if a.Status != 200 {
		p.t.Fatalf("login of %s: %+v", name, a)
	}
	var data struct {
		Token string
		User  struct{ ID, Nickname string }
	}
	a.into(p.t, &data)
	if data.Token == "" || data.User.ID == "" || data.User.Nickname == "" {
		p.t.Fatalf("login of %s: %s", name, a.Data)
	}
	return &phone{p: p, name: name, token: data.Token, id: data.User.ID}
}

// connect opens the phone's socket and reads the welcome; query is like "room=notice".
func (ph *phone) connect(query string) *phone {
	ph.p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, resp, err := websocket.DefaultDialer.DialContext(ctx,
		"ws"+strings.TrimPrefix(ph.p.hub, "http")+"/ws?"+query, http.Header{"Authorization": {"Bearer " + ph.token}})
	if err != nil {
		ph.p.t.Fatalf("socket of %s: %v %v", ph.name, err, resp)
	}
	ph.ws = ws
	ph.p.t.Cleanup(func() { _ = ws.Close() })
	if ph.Welcome = ph.read(); ph.Welcome.Data.Action != "welcome" {
		ph.p.t.Fatalf("%s: first frame %+v", ph.name, ph.Welcome)
	}
	return ph
}

// read gives the next frame that is no heartbeat.
func (ph *phone) read() frame {
	ph.p.t.Helper()
	f, err := ph.next()
	if err != nil {
		ph.p.t.Fatalf("%s: %v", ph.name, err)
	}
	return f
}

func (ph *phone) next() (f frame, err error) {
	for {
		_ = ph.ws.SetReadDeadline(time.Now().Add(patience))
		_, text, err := ph.ws.ReadMessage()
		if err != nil {
			return f, err
		}
		f = frame{}
		if err := json.Unmarshal(text, &f); err != nil {
			return f, fmt.Errorf("frame %s: %w", text, err)
		}
		if f.Ping == 0 {
			return f, nil
		}
	}
}

// ask sends a frame and returns its reply with the pushes that came before it.
func (ph *phone) ask(text string) (reply frame, before []frame) {
	ph.p.t.Helper()
	if err := ph.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		ph.p.t.Fatal(err)
	}
	for {
		f := ph.read()
		if f.Reply != 0 {
			return f, before
		}
		before = append(before, f)
	}
}

// until reads pushes up to and without the one with this action.
func (ph *phone) until(action string) (got []frame) {
	ph.p.t.Helper()
	for {
		f := ph.read()
		if f.Data.Action == action {
			return got
		}
		got = append(got, f)
	}
}

// order puts one product on the phone's pay sheet.
func (ph *phone) order(product string) (outTradeNo string, sheet map[string]any) {
	ph.p.t.Helper()
	a := ph.p.ask("POST", "/api/pay", ph.token, map[string]any{"productId": product, "quantity": 1})
	if a.Status != 200 {
		ph.p.t.Fatalf("order: %+v", a)
	}
	a.into(ph.p.t, &sheet)
	outTradeNo, _ = sheet["outTradeNo"].(string)
	delete(sheet, "outTradeNo") // the WeChat app is given the five fields alone
	sheet["user"] = ph.name
	return outTradeNo, sheet
}

// pay confirms a pay sheet, as the person would.
func (ph *phone) pay(sheet map[string]any) {
	ph.p.t.Helper()
	sheet["confirm"] = true
	var got struct {
		OK     bool
		ErrMsg string
	}
	ph.p.simulate("/sim/pay", sheet, &got)
	if !got.OK || got.ErrMsg != "requestPayment:ok" {
		ph.p.t.Fatalf("pay: %+v", got)
	}
}

func (ph *phone) orderState(outTradeNo string) string {
	ph.p.t.Helper()
	var o struct{ State string }
	ph.p.ask("GET", "/api/orders/"+outTradeNo, ph.token, nil).into(ph.p.t, &o)
	return o.State
}

// relayed waits until nothing is left in the outbox.
func (p *process) relayed() {
	p.t.Helper()
	p.wait("an empty outbox", func() bool {
		var stats struct{ Outbox struct{ Waiting *int } }
		a := p.ask("GET", "/api/admin/stats", "key:"+p.apiKey, nil)
		a.into(p.t, &stats)
		if stats.Outbox.Waiting == nil {
			p.t.Fatalf("stats without outbox.waiting: %s", a.Data)
		}
		return *stats.Outbox.Waiting == 0
	})
}

// broadcast says a mark in a room, behind everything that was said before.
func (p *process) broadcast(room, action string) {
	p.t.Helper()
	a := p.ask("POST", "/api/admin/broadcast", "key:"+p.apiKey,
		map[string]any{"rooms": []string{room}, "action": action, "payload": map[string]any{}})
	if a.Status != 200 {
		p.t.Fatalf("broadcast: %+v", a)
	}
}

func closeCode(err error) int {
	var c *websocket.CloseError
	if errors.As(err, &c) {
		return c.Code
	}
	return 0
}

// postIgnoring posts without minding whether anybody answers.
func postIgnoring(url string, body any) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = call(ctx, url, "", body, &struct{}{})
}
