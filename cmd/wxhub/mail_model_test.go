package main

import (
	"encoding/json"
	stdflag "flag"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

	"wxhub/web"
)

// A mailWorld is running nodes that share mail, of which any may be killed and comes back.
type mailWorld struct {
	t      *testing.T
	nodes  []*process
	env    [][]string
	tokens *web.Tokens
	runs   int
}

const modelKey = "model-api-key-0123456789"

// startMailWorld runs nodes with these settings each, besides those that all have.
func startMailWorld(t *testing.T, own ...[]string) *mailWorld {
	t.Helper()
	secret := "0123456789abcdef0123456789abcdef"
	tokens, err := web.NewTokens([]web.Key{{ID: "k", Secret: []byte(secret)}}, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &mailWorld{t: t, tokens: tokens}
	for i, env := range own {
		w.env = append(w.env, append([]string{
			"WXHUB_ADDR=" + spareAddress(t), "WXHUB_DATA=" + t.TempDir(), "WXHUB_API_KEYS=test:" + modelKey, "WXHUB_JWT_KEYS=k:" + secret,
			"WXHUB_LIMIT_ADDRESS=off", "WXHUB_LIMIT_USER=off", "WXHUB_LIMIT_HANDSHAKES=off",
		}, env...))
		w.nodes = append(w.nodes, nil)
		w.start(i)
	}
	return w
}

func (w *mailWorld) start(i int) {
	w.t.Helper()
	p := startProcess(w.t, w.env[i], "serve", "--config", writeProducts(w.t))
	p.hub, p.apiKey = "http://"+strings.TrimPrefix(w.env[i][0], "WXHUB_ADDR="), modelKey
	p.wait("readiness", func() bool {
		r, err := http.Get(p.hub + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
	w.nodes[i] = p
}

// kill ends a node as a power cut would, and starts it again.
func (w *mailWorld) kill(i int) {
	w.t.Helper()
	if err := w.nodes[i].cmd.Process.Signal(syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.nodes[i].ended()
	w.start(i)
}

// A mailReader is one device: it notes what arrives, and whether the order holds.
type mailReader struct {
	room string

	mu    sync.Mutex // guards what follows
	ws    *websocket.Conn
	node  int
	epoch string
	last  uint64   // the newest Offset of the present line; on a new one, what it begins after
	has   []string // ids by Offset-1; the first time each came
	wrong string
	ended chan struct{}
}

// connect opens a line that continues after since, or, at 0, at what is not acknowledged.
func (r *mailReader) connect(w *mailWorld, node int, user string, since uint64) error {
	token, err := w.tokens.Issue(user, "user", nil, time.Hour)
	if err != nil {
		return err
	}
	query := ""
	r.mu.Lock()
	if since > 0 {
		query = fmt.Sprintf("&room=%s@%s:%d", r.room, r.epoch, since)
	}
	r.mu.Unlock()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(w.nodes[node].hub, "http")+"/ws?token="+token+query, nil)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	r.mu.Lock()
	r.ws, r.node, r.ended, r.last = ws, node, ended, since
	r.mu.Unlock()
	go r.read(ws, ended, since > 0)
	return nil
}

func (r *mailReader) read(ws *websocket.Conn, ended chan struct{}, positioned bool) {
	defer close(ended)
	first := !positioned
	for {
		var f frame
		if err := ws.ReadJSON(&f); err != nil {
			return
		}
		r.mu.Lock()
		if f.Data.Action == "welcome" {
			var v struct {
				Rooms []struct{ Room, Epoch string }
			}
			_ = json.Unmarshal(f.Data.Payload, &v)
			for _, room := range v.Rooms {
				if room.Room == r.room && r.epoch != "" && r.epoch != room.Epoch {
					r.wrong = "the mail's epoch changed"
				} else if room.Room == r.room {
					r.epoch = room.Epoch
				}
			}
		}
		if f.Meta.Room == r.room && f.Meta.Offset > 0 {
			if !first && f.Meta.Offset != r.last+1 {
				r.wrong = fmt.Sprintf("after %d came %d", r.last, f.Meta.Offset)
			}
			first, r.last = false, f.Meta.Offset
			switch n := int(f.Meta.Offset); {
			case n > len(r.has)+1: // acknowledged by another device before this one came
				r.has = append(r.has, make([]string, n-len(r.has)-1)...)
				fallthrough
			case n == len(r.has)+1:
				r.has = append(r.has, f.Meta.ID)
			case r.has[n-1] != "" && r.has[n-1] != f.Meta.ID:
				r.wrong = fmt.Sprintf("offset %d was %s and is %s", n, r.has[n-1], f.Meta.ID)
			default:
				r.has[n-1] = f.Meta.ID
			}
		}
		r.mu.Unlock()
	}
}

func (r *mailReader) hangUp() {
	r.mu.Lock()
	ws, ended := r.ws, r.ended
	r.ws = nil
	r.mu.Unlock()
	if ws != nil {
		_ = ws.Close()
		<-ended
	}
}

// A model of mail in one world: whatever people, nodes and lines do, every letter that was accepted reaches every device
// in order, at least once until it is acknowledged, and nothing else does.
func testMailModel(t *testing.T, w *mailWorld) {
	checks, steps := "3", "80"
	if long {
		checks, steps = "15", "150"
	}
	for name, value := range map[string]string{"rapid.checks": checks, "rapid.steps": steps, "rapid.shrinktime": "1s", "rapid.nofailfile": "true"} {
		if err := stdflag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w.runs++
		const people = 3
		type one struct {
			user    string
			letters []string // accepted, in order
			acked   uint64
			devices []*mailReader
		}
		world := make([]*one, people)
		for i := range world {
			user := fmt.Sprintf("run%d-%d", w.runs, i)
			world[i] = &one{user: user, devices: []*mailReader{{room: "user:" + user}, {room: "user:" + user}}}
		}
		defer func() {
			for _, o := range world {
				for _, d := range o.devices {
					d.hangUp()
				}
			}
		}()
		kills, sent := 0, 0
		pick := func(rt *rapid.T) (*one, *mailReader) {
			o := world[rapid.IntRange(0, people-1).Draw(rt, "user")]
			return o, o.devices[rapid.IntRange(0, 1).Draw(rt, "device")]
		}
		alive := func(d *mailReader) bool {
			d.mu.Lock()
			ws, ended := d.ws, d.ended
			d.mu.Unlock()
			if ws == nil {
				return false
			}
			select {
			case <-ended:
				return false
			default:
				return true
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				node := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node")]
				sent++
				id := fmt.Sprintf("r%d-%d", w.runs, sent)
				var users []string
				for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, people-1), 1, people, rapid.ID[int]).Draw(rt, "to") {
					users = append(users, world[i].user)
					world[i].letters = append(world[i].letters, id)
				}
				for range rapid.IntRange(1, 2).Draw(rt, "times") { // the same key again changes nothing
					a := node.ask("POST", "/api/admin/broadcast", "key:"+modelKey, map[string]any{"users": users, "action": "news", "payload": map[string]any{"id": id}, "id": id})
					if a.Status != 200 {
						rt.Fatalf("broadcast: %+v", a)
					}
				}
			},
			"connect": func(rt *rapid.T) {
				o, d := pick(rt)
				d.hangUp()
				since := uint64(0)
				d.mu.Lock()
				known := d.epoch != "" && d.last > 0
				if known && rapid.Bool().Draw(rt, "positioned") {
					since = d.last
				}
				d.mu.Unlock()
				if err := d.connect(w, rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node"), o.user, since); err != nil {
					rt.Fatalf("connect: %v", err)
				}
			},
			"drop": func(rt *rapid.T) {
				_, d := pick(rt)
				d.hangUp()
			},
			"ack": func(rt *rapid.T) {
				o, d := pick(rt)
				if !alive(d) {
					return
				}
				d.mu.Lock()
				last, ws := d.last, d.ws
				d.mu.Unlock()
				if last == 0 {
					return
				}
				if err := ws.WriteJSON(map[string]any{"id": 1, "action": "ack", "room": d.room, "offset": last}); err == nil {
					o.acked = max(o.acked, last) // at most: the line may break before it is heard
				}
			},
			"kill": func(rt *rapid.T) {
				if kills >= 2 || rapid.IntRange(0, 3).Draw(rt, "luck") > 0 {
					return
				}
				kills++
				w.kill(rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node"))
			},
			"": func(rt *rapid.T) {
				for _, o := range world {
					for _, d := range o.devices {
						d.mu.Lock()
						wrong, has := d.wrong, slices.Clone(d.has)
						d.mu.Unlock()
						if wrong != "" {
							rt.Fatalf("%s: %s", o.user, wrong)
						}
						for i, id := range has {
							if i >= len(o.letters) || id != "" && id != o.letters[i] {
								rt.Fatalf("%s: letter %d is %q of %v", o.user, i+1, id, o.letters)
							}
						}
					}
				}
			},
		})
		// In the end everybody comes back, each device where it was, and lacks nothing that was not acknowledged.
		for _, o := range world {
			for _, d := range o.devices {
				d.hangUp()
				d.mu.Lock()
				since := d.last
				d.mu.Unlock()
				if err := d.connect(w, 0, o.user, since); err != nil {
					rt.Fatalf("connect: %v", err)
				}
				for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
					d.mu.Lock()
					last, wrong := d.last, d.wrong
					d.mu.Unlock()
					if wrong != "" {
						rt.Fatalf("%s: %s", o.user, wrong)
					}
					if last == uint64(len(o.letters)) || since == 0 && o.acked == uint64(len(o.letters)) {
						break
					}
					if time.Now().After(end) {
						rt.Fatalf("%s: stands at %d of %d, came from %d, acknowledged %d", o.user, last, len(o.letters), since, o.acked)
					}
				}
				d.mu.Lock()
				for i := range o.letters { // what this device never had was acknowledged by another one before
					if (i >= len(d.has) || d.has[i] == "") && uint64(i) >= o.acked {
						rt.Errorf("%s: letter %d never came", o.user, i+1)
					}
				}
				d.mu.Unlock()
			}
		}
	})
}

func TestMailModel_sqlite(t *testing.T) {
	testMailModel(t, startMailWorld(t, []string{"WXHUB_DATABASE_URL=" + filepath.Join(t.TempDir(), "mail.db")}))
}

func TestMailModel_cluster(t *testing.T) {
	redis, postgres := startRedis(t), startPostgres(t)
	env := []string{"WXHUB_REDIS_URL=" + redis, "WXHUB_DATABASE_URL=" + postgres}
	testMailModel(t, startMailWorld(t, env, env))
}
