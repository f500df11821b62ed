package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Redis that comes back empty has forgotten every stream: all is told under a new epoch.
func TestCluster_redisComesBackEmpty(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	o := Options{Rules: openRules, Limits: openLimits}
	a, b := s.node(t, o), s.node(t, o)
	ada, bob := dial(t, a.addr, "user=ada&room=room:tea"), dial(t, b.addr, "user=bob&room=room:tea")
	first := publish(t, a.Hub, "room:tea", say("n", "1"))
	for _, c := range []*client{ada, bob} {
		if r, err := c.listenTo(1); err != nil || r.epochs[0] != first.Epoch {
			t.Fatal(r, err)
		}
	}
	s.stop()
	if _, err := a.Publish(t.Context(), "room:tea", say("n", "1")); !errors.Is(err, ErrAway) {
		t.Errorf("published without redis: %v", err)
	}
	s.start()
	var next Position
	eventually(t, "publishing works again", func() (ok bool) {
		var err error
		next, err = a.Publish(context.Background(), "room:tea", say("n", "2"))
		return err == nil
	})
	if next.Epoch == first.Epoch || next.Offset != 1 {
		t.Errorf("published at %+v, before at %+v", next, first)
	}
	for _, c := range []*client{ada, bob} {
		if r, err := c.listenTo(1); err != nil || r.epochs[0] != next.Epoch || r.offsets[0] != 1 {
			t.Error(r, err)
		}
	}
	back := dial(t, b.addr, fmt.Sprintf("user=eve&room=room:tea@%s:%d", first.Epoch, first.Offset))
	if r := back.greeting().Rooms[2]; r.Recovered == nil || *r.Recovered {
		t.Errorf("recovered what is lost: %s", back.welcome.raw)
	}
	// Presence is there again without anybody doing anything.
	var got string
	eventuallyOr(t, func() bool {
		p, err := a.Presence(t.Context(), "room:tea")
		got = fmt.Sprint(p, err)
		return got == "{3 [{ada 1} {bob 1} {eve 1}]} <nil>"
	}, func() { t.Errorf("presence %s", got) })
}

// A Redis that hangs lets publishers go within a second, takes no goroutine hostage and loses nothing that it
// had accepted.
func TestCluster_redisHangs(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	o := Options{Rules: openRules, Limits: openLimits}
	a, b := s.node(t, o), s.node(t, o)
	bob := dial(t, b.addr, "user=bob&room=notice")
	publish(t, a.Hub, "notice", say("n", "1"))
	before := runtime.NumGoroutine()
	s.signal(syscall.SIGSTOP)
	const callers = 200
	var most int
	until := time.Now().Add(3 * time.Second)
	for time.Now().Before(until) {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				start := time.Now()
				if _, err := a.Publish(context.Background(), "notice", say("n", "1")); !errors.Is(err, ErrAway) {
					t.Errorf("published into a hanging redis: %v", err)
				}
				if d := time.Since(start); d > 1300*time.Millisecond {
					t.Errorf("waited %s", d)
				}
			})
		}
		wg.Wait()
		most = max(most, runtime.NumGoroutine())
	}
	if most > before+100 { // tests in parallel have some too
		t.Errorf("%d goroutines before, %d while redis hung", before, most)
	}
	s.signal(syscall.SIGCONT)
	m := say("last", "2")
	m.ID = "last"
	eventually(t, "publishing works again", func() bool {
		_, err := a.Publish(context.Background(), "notice", m)
		return err == nil
	})
	// What was on its way when Redis hung may have been said; what was said is dense.
	var r reading
	for len(r.ids) == 0 || r.ids[len(r.ids)-1] != "last" {
		one, err := bob.listenTo(1)
		if err != nil {
			t.Fatal(err)
		}
		r.offsets, r.ids = append(r.offsets, one.offsets...), append(r.ids, one.ids...)
	}
	if err := r.dense(1); err != nil {
		t.Error(err)
	}
	eventually(t, "healthy", func() bool { return a.Healthy() == nil && b.Healthy() == nil })
}

// Subscriptions are killed again and again while messages flow: nothing is missing, nothing comes twice.
func TestCluster_subscriptionsKilled(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	o := Options{Rules: openRules, Limits: openLimits}
	a, b := s.node(t, o), s.node(t, o)
	const rooms, total = 5, 400
	type job struct {
		c    *client
		room string
	}
	var readers []job
	for i := range rooms {
		room := fmt.Sprintf("live%d", i)
		readers = append(readers, job{dial(t, a.addr, "user=ada&room="+room), room}, job{dial(t, b.addr, "user=bob&room="+room), room})
	}
	stop := make(chan struct{})
	var killer sync.WaitGroup
	kills := 0
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(150 * time.Millisecond):
				if err := s.do("CLIENT", "KILL", "TYPE", "pubsub"); err != nil {
					t.Error(err)
				}
				kills++
			}
		}
	})
	var wg sync.WaitGroup
	for i := range rooms {
		wg.Go(func() {
			for range total {
				n := a
				if i%2 == 1 {
					n = b
				}
				publish(t, n.Hub, fmt.Sprintf("live%d", i), say("n", "1"))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for _, j := range readers {
		wg.Go(func() {
			r, err := j.c.listenTo(total)
			if err == nil {
				err = r.dense(1)
			}
			if err != nil {
				t.Errorf("%s: %v", j.room, err)
			}
		})
	}
	wg.Wait()
	close(stop)
	killer.Wait()
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	for _, j := range readers {
		j.c.must(`"action":"ping"`) // and nothing else came
	}
}

// A subscription whose other end is gone without a word is found out by its own round trips.
func TestCluster_subscriptionGoesSilent(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	p := startProxy(t, s.addr())
	broker, err := newRedisBroker(t.Context(), RedisOptions{URL: "redis://" + p.addr(), Logger: testLog(t)}, quickRedis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	o := Options{Rules: openRules, Limits: openLimits}
	b := s.node(t, o)
	o.Broker = broker
	a := newTestHub(t, o)
	ada := dial(t, listen(t, a), "user=ada&room=notice")
	publish(t, b.Hub, "notice", say("n", "1"))
	if _, err := ada.listenTo(1); err != nil {
		t.Fatal(err)
	}
	p.freeze() // what is connected hears nothing any more; new connections work
	start := time.Now()
	for range 20 {
		publish(t, b.Hub, "notice", say("n", "1"))
	}
	r, err := ada.listenTo(20)
	if err == nil {
		err = r.dense(2)
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("found out after %s", d)
	}
	eventually(t, "healthy", func() bool { return a.Healthy() == nil })
}

// A master that has lost the end of a stream goes on with offsets that were given before: that is another life.
func TestCluster_streamRunsBackwards(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	o := Options{Rules: openRules, Limits: openLimits}
	a, b := s.node(t, o), s.node(t, o)
	ada := dial(t, a.addr, "user=ada&room=notice")
	var old Position
	for range 10 {
		old = publish(t, b.Hub, "notice", say("n", "1"))
	}
	if _, err := ada.listenTo(10); err != nil {
		t.Fatal(err)
	}
	part := b.broker.part("notice")
	for _, do := range [][]any{{"HSET", part.meta("notice"), "s", 7}, {"DEL", part.stream("notice")}} {
		if err := s.do(do...); err != nil {
			t.Fatal(err)
		}
	}
	lost := publish(t, b.Hub, "notice", say("after", "1"))
	if lost.Offset != 8 {
		t.Fatalf("published at %+v", lost)
	}
	r, err := ada.listenTo(1)
	if err != nil || r.epochs[0] == old.Epoch || r.offsets[0] != 8 {
		t.Errorf("heard %+v, %v", r, err)
	}
	back := dial(t, b.addr, fmt.Sprintf("user=ada&room=notice@%s:%d", old.Epoch, old.Offset))
	if g := back.greeting().Rooms[2]; g.Recovered == nil || *g.Recovered {
		t.Errorf("recovered what is lost: %s", back.welcome.raw)
	}
}

// A node that dies takes its people with it: the others sweep them, and tell it.
func TestCluster_nodeDies(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := s.node(t, Options{})
	eve := dial(t, a.addr, "user=eve&room=room:tea")
	dying := s.node(t, Options{})
	for i := range 20 {
		dial(t, dying.addr, fmt.Sprintf("user=u%d&room=room:tea", i))
	}
	dial(t, dying.addr, "user=eve&room=room:tea")
	told := map[string]int{}
	for told["join"] < 21 {
		told[eve.push().Data.Action]++
	}
	if p, err := a.Presence(t.Context(), "room:tea"); err != nil || p.Count != 21 {
		t.Errorf("presence %+v, %v", p, err)
	}
	if err := dying.broker.end(); err != nil { // as a kill: nothing is taken back
		t.Fatal(err)
	}
	var got string
	eventuallyOr(t, func() bool {
		p, err := a.Presence(t.Context(), "room:tea")
		got = fmt.Sprint(p, err)
		return got == "{1 [{eve 1}]} <nil>"
	}, func() { t.Errorf("presence %s", got) })
	for told["leave"] < 20 {
		told[eve.push().Data.Action]++
	}
	eve.must(`"action":"ping"`)
	if told["join"] != 21 || told["leave"] != 20 {
		t.Errorf("told %v", told)
	}
	eventually(t, "the dead node's rooms are gone", func() bool {
		rooms, err := a.Rooms(t.Context())
		return err == nil && len(rooms) == 3
	})
	for _, p := range a.broker.parts {
		if n, err := a.broker.client.Exists(t.Context(), p.roomsOf(dying.broker.node)).Result(); err != nil || n != 0 {
			t.Errorf("%d traces of the dead node, %v", n, err)
		}
	}
}

// A proxy stands between a node and Redis.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []*proxied
}

type proxied struct {
	mu     sync.Mutex
	frozen bool
	ends   [2]net.Conn
}

func startProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			c := &proxied{ends: [2]net.Conn{in, out}}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			p.wg.Go(func() { c.copy(in, out) })
			p.wg.Go(func() { c.copy(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_, _ = c.ends[0].Close(), c.ends[1].Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// freeze swallows what comes over the connections that there are.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.mu.Lock()
		c.frozen = true
		c.mu.Unlock()
	}
}

func (c *proxied) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_ = to.Close()
			return
		}
		c.mu.Lock()
		frozen := c.frozen
		c.mu.Unlock()
		if frozen {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
