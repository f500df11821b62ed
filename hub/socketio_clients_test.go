package hub

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The clients that shops have, as npm has them.
var shopClients = []struct {
	name, pkg string
	recovers  bool // by its own connection state recovery
	auth      bool // brings an auth object
}{
	{"socket.io-client 4.8.4", "socket.io-client", true, true},
	{"socket.io-client 3.1.3", "socket.io-client-3", false, true},
	{"socket.io-client 2.5.0", "socket.io-client-2", false, false},
	{"weapp.socket.io 3.0.0", "weapp.socket.io", false, true},
	{"weapp.socket.io 2.1.0", "weapp.socket.io-2", false, false},
}

// A shopClient is a process of Node that runs one of them.
type shopClient struct {
	t     testing.TB
	in    io.WriteCloser
	lines chan clientLine
	acks  int
}

// clientLine is what it tells.
type clientLine struct {
	Event     string
	ID        string
	Recovered bool
	Ack       int
	Args      []json.RawMessage
}

// startClient runs a client; options are those of io().
func startClient(t testing.TB, pkg, url, options string, events ...string) *shopClient {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: no node on this machine; install Node 20 or newer")
	}
	dir := filepath.Join("socketio", "clients")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", pkg)); err != nil {
		t.Skip("skipped: no node_modules in hub/socketio/clients; run npm ci there (or make deps)")
	}
	config := fmt.Sprintf(`{"package":%q,"url":%q,"options":%s,"events":["%s"]}`, pkg, strings.Replace(url, "ws://", "http://", 1), options, strings.Join(events, `","`))
	cmd := exec.Command(node, "remote.cjs", config)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	c := &shopClient{t: t, lines: make(chan clientLine, 10_000)}
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			var l clientLine
			if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
				t.Errorf("%s: %v", scan.Text(), err)
				return
			}
			c.lines <- l
		}
	}()
	t.Cleanup(func() {
		_ = c.in.Close() // it ends by that
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		for range c.lines {
		}
		_ = cmd.Wait()
		timer.Stop()
	})
	return c
}

// next returns the next line; it waits long, because other tests may be compiling.
func (c *shopClient) next() clientLine {
	c.t.Helper()
	select {
	case l, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the client ended")
		}
		return l
	case <-time.After(60 * time.Second):
		c.t.Fatal("the client hears nothing")
	}
	panic("unreachable")
}

// want reads lines until one of this event, and wants no other than those named in between.
func (c *shopClient) want(event string, between ...string) clientLine {
	c.t.Helper()
	for {
		l := c.next()
		if l.Event == event {
			return l
		}
		if !slices.Contains(between, l.Event) {
			c.t.Fatalf("heard %+v, want %s", l, event)
		}
	}
}

func (c *shopClient) do(command string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, command+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// ask emits an event and returns the acknowledgement; what is heard before it is returned too.
func (c *shopClient) ask(event, args string) (answer string, before []clientLine) {
	c.t.Helper()
	c.acks++
	c.do(fmt.Sprintf(`{"emit":%q,"args":%s,"ack":%d}`, event, args, c.acks))
	for {
		l := c.next()
		if l.Ack == c.acks {
			return string(l.Args[0]), before
		}
		before = append(before, l)
	}
}

func (l clientLine) push(t testing.TB) (f frame) {
	t.Helper()
	if err := json.Unmarshal(l.Args[0], &f); err != nil {
		t.Fatal(err)
	}
	f.raw = string(l.Args[0])
	return f
}

const socketOnly = `{"transports":["websocket"],"reconnectionDelay":50,"reconnectionDelayMax":200}`

// The article's client, in every version: it connects with its room in the address, says something every so often, and
// hears it as it was meant; in its room, and nowhere else.
func TestClients_article(t *testing.T) {
	rules := append([]Rule{{Pattern: "notice", Join: Anyone, Publish: Member, Keep: Keep{1000, time.Hour}}}, DefaultRules()...)
	h := newTestHub(t, Options{Rules: rules})
	addr := both(t, h)
	away, _ := join4(t, addr, "user=away&role=staff&room=kf", "")
	for _, v := range shopClients {
		t.Run(v.name, func(t *testing.T) {
			native := dial(t, addr, "user=native&room=notice")
			c := startClient(t, v.pkg, addr+"?room=notice&user=1", socketOnly, "res", "welcome", "refused")
			id := c.want("connect").ID
			c.want("welcome")
			c.do(`{"emit":"exchange","args":[{"payload":{"title":"this is a news"},"target":"res"}],"timer":100}`)
			for range 3 {
				var a article
				l := c.want("res")
				if err := json.Unmarshal(l.Args[0], &a); err != nil {
					t.Fatal(err)
				}
				if a.Meta.Client != id || a.Meta.Target != "res" || a.Meta.Room != "notice" || a.Meta.Timestamp < time.Now().Add(-time.Minute).UnixMilli() ||
					a.Data.Action != "exchange" || string(a.Data.Payload) != `{"title":"this is a news"}` {
					t.Fatalf("heard %s", l.Args[0])
				}
				if f := native.push(); f.Meta.Target != "res" || f.Meta.Offset != a.Meta.Offset {
					t.Fatalf("the native client heard %s", f.raw)
				}
			}
			c.do(`{"close":true}`)
			if l := c.want("disconnect", "res"); string(l.Args[0]) != `"io client disconnect"` {
				t.Errorf("%s", l.Args[0])
			}
			eventually(t, "gone", func() bool { return len(h.connsOf("1")) == 0 })
		})
	}
	publish(t, h, "all", say("sale", "1"))
	away.want("sale") // and nothing before
}

// Acknowledgements, binary values and refusals, as each version knows them.
func TestClients_asksAndIsRefused(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	for _, v := range shopClients {
		t.Run(v.name, func(t *testing.T) {
			c := startClient(t, v.pkg, addr+"?user=1", socketOnly, "res", "refused", "chat")
			c.want("connect")
			if answer, _ := c.ask("join", `["room:tea"]`); !strings.Contains(answer, `"ok":true,"room":"room:tea"`) {
				t.Errorf("join: %s", answer)
			}
			answer, before := c.ask("exchange", `[{"target":"res","payload":{"bytes":{"$binary":"AQID"},"n":1}}]`)
			if !strings.Contains(answer, `"ok":true`) {
				t.Errorf("exchange: %s", answer)
			}
			if len(before) == 0 {
				before = append(before, c.want("res"))
			}
			if f := before[0].push(t); string(f.Data.Payload) != `{"bytes":{"$binary":"AQID"},"n":1}` { // as the process writes a Buffer
				t.Errorf("heard %s", f.raw)
			}
			if answer, _ := c.ask("exchange", `[{"target":"purchase","payload":1}]`); !strings.Contains(answer, `"ok":false,"event":"exchange","error":"forbidden_action"`) {
				t.Errorf("exchange: %s", answer)
			}
			c.do(`{"emit":"exchange","args":[{"target":"order.paid"}]}`)
			if l := c.want("refused"); !strings.Contains(string(l.Args[0]), `"error":"forbidden_action"`) {
				t.Errorf("refused: %s", l.Args[0])
			}
			if answer, _ := c.ask("join", `["kf"]`); !strings.Contains(answer, `"error":"forbidden"`) {
				t.Errorf("join: %s", answer)
			}
			at := publish(t, h, "room:tea", say("chat", `{"$binary":"CQ=="}`))
			if f := c.want("chat").push(t); f.Meta.Offset != at.Offset || string(f.Data.Payload) != `{"$binary":"CQ=="}` {
				t.Errorf("heard %s", f.raw)
			}
			// Who is blocked is told so, and does not come back.
			h.Disconnect(Target{User: "1"}, DisconnectBlocked)
			if l := c.want("refused"); !strings.Contains(string(l.Args[0]), `"blocked"`) {
				t.Errorf("refused: %s", l.Args[0])
			}
			if l := c.want("disconnect"); string(l.Args[0]) != `"io server disconnect"` {
				t.Errorf("disconnect: %s", l.Args[0])
			}
		})
		t.Run(v.name+" with a bad token", func(t *testing.T) {
			c := startClient(t, v.pkg, addr, socketOnly)
			event, want := "connect_error", `"bad_token"`
			if !v.auth {
				event = "error"
			}
			if l := c.want(event); string(l.Args[0]) != want {
				t.Errorf("%s: %s", event, l.Args[0])
			}
			if !v.auth {
				return
			}
			c.do(`{"auth":{"token":"2"},"open":true}`)
			c.want("connect")
		})
	}
}

// Connections break and come back by themselves: those of 4.6 and later are recovered, the others resume.
func TestClients_comeBack(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	for _, v := range shopClients {
		t.Run(v.name, func(t *testing.T) {
			c := startClient(t, v.pkg, addr+"?user=1&room=notice", socketOnly, "sale", "chat")
			c.want("connect")
			if answer, _ := c.ask("join", `["room:tea"]`); !strings.Contains(answer, `"ok":true`) {
				t.Fatal(answer)
			}
			notice := publish(t, h, "notice", say("sale", `0`))
			c.want("sale")
			tea := publish(t, h, "room:tea", say("chat", `0`))
			c.want("chat")
			for round := range 3 {
				if h.Disconnect(Target{User: "1"}, DisconnectRestart) != 1 {
					t.Fatal("not connected")
				}
				for n := range 5 {
					publish(t, h, "notice", say("sale", fmt.Sprint(round, n)[:1]))
					publish(t, h, "room:tea", say("chat", fmt.Sprint(n)))
				}
				if l := c.want("disconnect", "sale", "chat"); string(l.Args[0]) != `"transport close"` {
					t.Errorf("disconnect: %s", l.Args[0])
				}
				back := c.want("connect")
				if back.Recovered != v.recovers {
					t.Fatalf("recovered %t", back.Recovered)
				}
				var early []clientLine
				if !v.recovers {
					var answer string
					answer, early = c.ask("resume", fmt.Sprintf(`[["notice@%s:%d",{"room":"room:tea","epoch":%q,"offset":%d}]]`, notice.Epoch, notice.Offset, tea.Epoch, tea.Offset))
					if strings.Count(answer, `"recovered":true,"missed":5`) != 2 {
						t.Fatalf("resume: %s", answer)
					}
				}
				missed := map[string]uint64{"notice": notice.Offset, "room:tea": tea.Offset}
				for n := 0; n < 10; n++ {
					var l clientLine
					if len(early) > 0 {
						l, early = early[0], early[1:]
					} else {
						l = c.next()
					}
					f := l.push(t)
					if f.Meta.Offset != missed[f.Meta.Room]+1 {
						t.Fatalf("round %d: %s after offset %d", round, f.raw, missed[f.Meta.Room])
					}
					missed[f.Meta.Room] = f.Meta.Offset
				}
				notice.Offset, tea.Offset = missed["notice"], missed["room:tea"]
			}
			at := publish(t, h, "notice", say("sale", `"live"`))
			if f := c.want("sale").push(t); f.Meta.Offset != at.Offset || at.Offset != notice.Offset+1 {
				t.Errorf("heard %s", f.raw)
			}
		})
	}
}

// A room of all of them, spread over two nodes: one order for all; and a client goes on at the other node.
func TestClients_anyNode(t *testing.T) {
	redis := startRedis(t)
	a, b := redis.node(t, Options{Rules: openRules}), redis.node(t, Options{Rules: openRules})
	addrs := []string{both(t, a.Hub), both(t, b.Hub)}
	native := dial(t, addrs[1], "user=native&room=room:tea")
	var clients []*shopClient
	for i, v := range shopClients {
		c := startClient(t, v.pkg, fmt.Sprintf("%s?user=u%d&room=room:tea", addrs[i%2], i), socketOnly, "chat")
		c.want("connect")
		clients = append(clients, c)
	}
	for i, c := range clients {
		for n := range 20 {
			c.do(fmt.Sprintf(`{"emit":"exchange","args":[{"target":"chat","payload":[%d,%d]}]}`, i, n))
		}
	}
	for n := range 20 * len(clients) {
		want := native.push()
		for want.Data.Action != "exchange" { // join and leave
			want = native.push()
		}
		if want.Meta.Offset != uint64(n+1) {
			t.Fatalf("%s is not number %d", want.raw, n+1)
		}
		for i, c := range clients {
			if f := c.want("chat").push(t); f.Meta.Offset != want.Meta.Offset || string(f.Data.Payload) != string(want.Data.Payload) {
				t.Fatalf("%s heard %s, others %s", shopClients[i].name, f.raw, want.raw)
			}
		}
	}
}
