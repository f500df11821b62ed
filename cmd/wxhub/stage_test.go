package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"wxhub/web"
)

// A stage is where faults are played: nodes of `wxhub serve` with their servers, a balancer before them and a
// proxy on each node's way to Redis.
type stage struct {
	t        *testing.T
	env      []string
	postgres *server
	db       *sql.DB
	door     *balancer
	nodes    []*stageNode
	rounds   int
}

type stageNode struct {
	*process
	addr string
	env  []string
	link *faultProxy // to Redis; nil: none stands between
}

const stageKey = "k:0123456789abcdef0123456789abcdef"

// newStage has a database and a balancer, and no node yet.
func newStage(t *testing.T, env ...string) *stage {
	t.Helper()
	s := &stage{t: t, postgres: startPostgresServer(t), door: newBalancer()}
	t.Cleanup(s.door.close)
	s.env = append([]string{
		"WXHUB_DATABASE_URL=" + postgresURL(s.postgres), "WXHUB_API_KEYS=test:" + clusterKey, "WXHUB_JWT_KEYS=" + stageKey,
		"WXHUB_ADMIN_PASSWORD=cluster-password", "WXHUB_DRAIN=4s", "WXHUB_HEARTBEAT=3s", "WXHUB_LIMIT_ADDRESS=off", "WXHUB_LIMIT_USER=off",
	}, env...)
	var err error
	if s.db, err = sql.Open("pgx", postgresURL(s.postgres)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	return s
}

// withSimulator starts WeChat, which calls the node that addNode makes next.
func (s *stage) withSimulator() (sim, first string) {
	s.t.Helper()
	addr, first := spareAddress(s.t), spareAddress(s.t)
	p := startProcess(s.t, nil, "sim", "--addr", addr, "--hub", "http://"+first, "--keys", s.t.TempDir()+"/sim.json")
	p.wait("the simulator's settings", func() bool { return strings.Contains(p.output(), "WXHUB_WECHAT_SECRET=") })
	for line := range strings.SplitSeq(p.output(), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "WXHUB_") {
			s.env = append(s.env, name+"="+strings.Trim(value, "'"))
		}
	}
	return "http://" + addr, first
}

// addNode starts a node; redis is the address that its proxy leads to, or a whole URL that it is given as it is.
func (s *stage) addNode(addr, redis string, more ...string) *stageNode {
	s.t.Helper()
	n := &stageNode{addr: addr}
	if !strings.Contains(redis, "://") {
		n.link = startFaultProxy(s.t, redis)
		redis = "redis://" + n.link.addr()
	}
	n.env = append(append([]string{"WXHUB_ADDR=" + addr, "WXHUB_DATA=" + s.t.TempDir(), "WXHUB_REDIS_URL=" + redis}, s.env...), more...)
	s.launch(n)
	s.nodes = append(s.nodes, n)
	s.door.add(addr)
	return n
}

func (s *stage) addNodes(count int, redis string) {
	s.t.Helper()
	for range count {
		s.addNode(spareAddress(s.t), redis)
	}
	s.allReady()
}

// launch starts a node's process, anew if it has ended.
func (s *stage) launch(n *stageNode) {
	s.t.Helper()
	n.process = startProcess(s.t, n.env, "serve", "--config", writeProducts(s.t))
	n.hub, n.apiKey = "http://"+n.addr, clusterKey
}

func (s *stage) allReady() {
	s.t.Helper()
	for _, n := range s.nodes {
		n.wait("readiness of "+n.addr, func() bool { return s.door.isReady(n.addr) })
	}
	s.door.look()
}

// kill ends a node without a word.
func (s *stage) kill(n *stageNode) {
	s.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	n.ended()
}

func (b *balancer) add(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.outer && !slices.Contains(b.nodes, addr) {
		b.nodes = append(b.nodes, addr)
	}
}

// leadTo has everybody go to a real balancer, which knows the nodes itself.
func (b *balancer) leadTo(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outer, b.nodes = true, []string{addr}
}

// redisCLI runs one command on a Redis and returns what it answers.
func redisCLI(t *testing.T, s *server, args ...string) string {
	t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-p", s.port()}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %v: %v %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually polls for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// A round is one fault with the load under which it happens: watchers in two rooms each, and publishers that say
// something in them and write mail, and keep a log of what was accepted.
type round struct {
	s          *stage
	name       string
	room       string // of its own
	watchers   []*watcher
	publishers []*publisher
	started    time.Time
}

const mailUsers = 20 // watchers of a round that get mail

// begin opens the sockets and starts to publish every so often in notice, in a room of its own, and to each tenth watcher.
func (s *stage) begin(name string, watchers int, every time.Duration) *round {
	s.t.Helper()
	s.rounds++
	s.door.look()
	s.door.takeRefusals()
	s.door.forgetStanding()
	r := &round{s: s, name: name, room: fmt.Sprintf("room:%d", s.rounds), started: time.Now()}
	id, secret, _ := strings.Cut(stageKey, ":")
	tokens, err := web.NewTokens([]web.Key{{ID: id, Secret: []byte(secret)}}, time.Hour, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	var users []string
	for i := range watchers {
		user := fmt.Sprintf("w%d.%d", s.rounds, i)
		token, err := tokens.Issue(user, "user", nil, time.Hour)
		if err != nil {
			s.t.Fatal(err)
		}
		r.watchers = append(r.watchers, newWatcher(s.door, user, token, "notice", r.room))
		if i%10 == 0 && len(users) < mailUsers {
			users = append(users, "user:"+user)
		}
	}
	s.t.Cleanup(r.close)
	r.wait("every watcher in its rooms", (*watcher).ready)
	r.publish(every, "notice")
	r.publish(every*2, r.room)
	r.publish(every*2, users...)
	time.Sleep(5 * every)
	return r
}

// late reports what came too late, or was lost because something came too late; of a machine that stood still meanwhile
// nothing can be said.
func (r *round) late(format string, args ...any) {
	r.s.t.Helper()
	if stood := r.s.door.stood(); stood > time.Second {
		r.s.t.Logf("%s: not judged, because this machine stood still for %s: %s", r.name, stood.Round(time.Millisecond), fmt.Sprintf(format, args...))
		return
	}
	r.s.t.Errorf("%s: %s", r.name, fmt.Sprintf(format, args...))
}

func (r *round) close() {
	for _, p := range r.publishers {
		p.finish()
	}
	for _, w := range r.watchers {
		w.close()
	}
	for _, w := range r.watchers {
		<-w.done
	}
}

// wait waits until all watchers say yes.
func (r *round) wait(what string, ok func(*watcher) bool) {
	r.s.t.Helper()
	waiting := slices.Clone(r.watchers)
	for end := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		waiting = slices.DeleteFunc(waiting, ok)
		if len(waiting) == 0 {
			return
		}
		if time.Now().After(end) {
			w := waiting[0]
			w.mu.Lock()
			state := fmt.Sprintf("up %t, %d handshakes, %d failed, closed %v", w.up, w.opened, w.failed, w.closes)
			for _, p := range w.rooms {
				state += fmt.Sprintf("; %s in %t at %s:%d, %d heard", p.name, p.in, p.epoch, p.offset, len(p.heard))
			}
			w.mu.Unlock()
			r.s.t.Fatalf("%s: %d of %d watchers wait for %s; %s: %s", r.name, len(waiting), len(r.watchers), what, w.user, state)
		}
	}
}

// A publisher says one message after the other in its rooms, in turn, through any node, and the same again until it
// is accepted.
type publisher struct {
	s     *stage
	name  string
	rooms []string
	every time.Duration
	http  http.Client
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	said    []saying
	refused int           // tries that were answered 503
	slowest time.Duration // of those
	gaveUp  string
}

func (r *round) publish(every time.Duration, rooms ...string) *publisher {
	p := &publisher{s: r.s, name: fmt.Sprintf("c%d.%d", r.s.rounds, len(r.publishers)), rooms: rooms, every: every,
		http: http.Client{Timeout: 10 * time.Second}, stop: make(chan struct{}), done: make(chan struct{})}
	r.publishers = append(r.publishers, p)
	go p.run()
	return p
}

func (p *publisher) run() {
	defer close(p.done)
	defer p.http.CloseIdleConnections()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.say(p.rooms[n%len(p.rooms)], fmt.Sprintf("%s.%d", p.name, n))
	}
}

func (p *publisher) say(room, id string) {
	target := map[string]any{"id": id, "action": "chaos", "payload": map[string]any{"id": id}}
	if user, mail := strings.CutPrefix(room, "user:"); mail {
		target["users"] = []string{user}
	} else {
		target["rooms"] = []string{room}
	}
	body, err := json.Marshal(target)
	if err != nil {
		p.s.t.Error(err)
	}
	for end := time.Now().Add(3 * patience); ; {
		_, code, took, err := p.s.door.broadcast(&p.http, body)
		p.mu.Lock()
		if err == nil {
			p.said = append(p.said, saying{room, id})
			p.mu.Unlock()
			return
		}
		if code == http.StatusServiceUnavailable {
			p.refused++
			p.slowest = max(p.slowest, took)
		}
		if time.Now().After(end) {
			p.gaveUp = fmt.Sprintf("%s in %s: %v", id, room, err)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *publisher) finish() {
	p.once.Do(func() { close(p.stop) })
	<-p.done
}

// A saying is a message that was accepted.
type saying struct{ room, id string }

// next waits for a message that was begun and accepted after now.
func (p *publisher) next() saying {
	p.s.t.Helper()
	p.mu.Lock()
	target := len(p.said) + 2
	p.mu.Unlock()
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		n := len(p.said)
		if n >= target {
			defer p.mu.Unlock()
			return p.said[n-1]
		}
		p.mu.Unlock()
	}
	p.s.t.Fatalf("%s: nothing is accepted any more", p.name)
	return saying{}
}

// log returns what was accepted, by room, in order.
func (p *publisher) log() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	rooms := make(map[string][]string)
	for _, one := range p.said {
		rooms[one.room] = append(rooms[one.room], one.id)
	}
	return rooms
}
