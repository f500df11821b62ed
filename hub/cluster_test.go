package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A node is a hub of a cluster, and where it is reached.
type node struct {
	*Hub
	broker *RedisBroker
	addr   string
}

func (s *redisServer) node(t testing.TB, o Options) node {
	t.Helper()
	b := s.broker(t)
	o.Broker, o.Logger = b, testLog(t)
	h := newTestHub(t, o)
	return node{h, b, listen(t, h)}
}

// openRules let everybody in and keep much.
var openRules = []Rule{
	{Pattern: "room:*", Join: Anyone, Publish: Anyone, Keep: Keep{100_000, time.Hour}, Presence: PresenceIDs, Announce: true},
	{Pattern: "*", Join: Anyone, Publish: Anyone, Keep: Keep{100_000, time.Hour}, Presence: PresenceCount},
}

var openLimits = Limits{FramesPerSecond: 1e6, FramesBurst: 1e6, QueueFrames: 100_000, QueueBytes: 64 << 20}

// A reading is what one client has heard of a room.
type reading struct {
	offsets []uint64
	ids     []string
	epochs  []string
}

// listenTo reads until n messages with an Offset have come, or the socket fails.
func (c *client) listenTo(n int) (r reading, err error) {
	for len(r.ids) < n {
		f, err := c.read()
		if err != nil {
			return r, err
		}
		if f.Meta.Offset > 0 {
			r.offsets, r.ids = append(r.offsets, f.Meta.Offset), append(r.ids, f.Meta.ID)
			if !slices.Contains(r.epochs, f.Meta.Epoch) {
				r.epochs = append(r.epochs, f.Meta.Epoch)
			}
		}
	}
	return r, nil
}

// dense checks that nothing is missing, repeated or out of order from the offset from on.
func (r *reading) dense(from uint64) error {
	for i, offset := range r.offsets {
		if offset != from+uint64(i) {
			return fmt.Errorf("heard %d where %d was due, in epochs %v", offset, from+uint64(i), r.epochs)
		}
	}
	return nil
}

func TestCluster_bothNodesHearInOrderOnce(t *testing.T) {
	s := startRedis(t)
	o := Options{Rules: openRules, Limits: openLimits}
	a, b := s.node(t, o), s.node(t, o)
	ada, bob := dial(t, a.addr, "user=ada&room=notice"), dial(t, b.addr, "user=bob&room=notice")
	const each = 300
	var publishers sync.WaitGroup
	for _, n := range []node{a, b, a, b} {
		publishers.Go(func() {
			for range each {
				publish(t, n.Hub, "notice", say("n", "1"))
			}
		})
	}
	publishers.Wait()
	for _, c := range []*client{ada, bob} {
		r, err := c.listenTo(4 * each)
		if err == nil {
			err = r.dense(1)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.must(`"action":"ping"`) // and nothing else came
	}
	// Who saw the first half on one node gets the second on the other.
	heads, err := a.History(t.Context(), "notice", Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	again := dial(t, b.addr, fmt.Sprintf("user=ada&room=notice@%s:%d", heads.Epoch, 2*each))
	r, err := again.listenTo(2 * each)
	if err == nil {
		err = r.dense(2*each + 1)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestCluster_presence(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := s.node(t, Options{}), s.node(t, Options{})
	ada1, ada2 := dial(t, a.addr, "user=ada&room=room:tea"), dial(t, b.addr, "user=ada&room=room:tea")
	bob := dial(t, b.addr, "user=bob&room=room:tea")
	want := func(n node, room, want string) {
		t.Helper()
		var got string
		eventuallyOr(t, func() bool {
			p, err := n.Presence(t.Context(), room)
			got = fmt.Sprint(p, err)
			return got == want
		}, func() { t.Errorf("presence in %s: %s, want %s", room, got, want) })
	}
	for _, n := range []node{a, b} {
		want(n, "room:tea", "{2 [{ada 2} {bob 1}]} <nil>")
		want(n, "all", "{2 []} <nil>")
		want(n, "user:ada", "{1 [{ada 2}]} <nil>")
		want(n, "room:none", "{0 []} <nil>")
	}
	if f := ada1.must(`"action":"presence","room":"room:tea"`); f.Count != 2 || len(f.Users) != 2 || f.Users[0].Sockets != 2 {
		t.Errorf("a client learns %s", f.raw)
	}
	publish(t, a.Hub, "room:tea", say("n", "1"))
	rooms, err := b.Rooms(t.Context())
	if err != nil || len(rooms) != 4 || rooms[1].Room != "room:tea" || rooms[1].Users != 2 || rooms[1].Sockets != 3 || rooms[1].Head.Offset != 1 || rooms[0].Sockets != 3 {
		t.Errorf("rooms %+v, %v", rooms, err)
	}
	_ = ada2.ws.Close()
	_ = bob.ws.Close()
	want(a, "room:tea", "{1 [{ada 1}]} <nil>")
	want(b, "room:tea", "{1 [{ada 1}]} <nil>")
	_ = ada1.ws.Close()
	want(b, "room:tea", "{0 []} <nil>")
	eventually(t, "no room is listed", func() bool {
		rooms, err := a.Rooms(t.Context())
		return err == nil && len(rooms) == 0
	})
}

// eventuallyOr is eventually with the test's own words.
func eventuallyOr(t testing.TB, ok func() bool, never func()) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			never()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A person who comes on one node and then on another has come once, and goes once.
func TestCluster_joinAndLeaveAreToldOnce(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := s.node(t, Options{}), s.node(t, Options{})
	var heard sync.Map
	watch := dial(t, a.addr, "user=eve&room=room:tea")
	go func() {
		for n := 0; ; n++ {
			f, err := watch.read()
			if err != nil {
				return
			}
			if f.Ping == 0 {
				heard.Store(fmt.Sprintf("%s %s", f.Data.Action, f.Data.Payload), n)
				heard.Store(n, f.raw)
			}
		}
	}()
	count := func(text string) (n int) {
		heard.Range(func(k, v any) bool {
			if raw, ok := v.(string); ok {
				var f frame
				_ = json.Unmarshal([]byte(raw), &f)
				if fmt.Sprintf("%s %s", f.Data.Action, f.Data.Payload) == text {
					n++
				}
			}
			return true
		})
		return n
	}
	ada1, ada2 := dial(t, a.addr, "user=ada&room=room:tea"), dial(t, b.addr, "user=ada&room=room:tea")
	eventually(t, "ada's coming is told", func() bool { return count(`join {"user":"ada"}`) == 1 })
	_ = ada1.ws.Close() // she stays on b
	time.Sleep(settleTime + time.Second)
	if n := count(`leave {"user":"ada"}`); n != 0 {
		t.Errorf("told %d times that ada left, who is on another node", n)
	}
	_ = ada2.ws.Close() // the room ends on b; it is told on a
	eventually(t, "ada's going is told", func() bool { return count(`leave {"user":"ada"}`) == 1 })
	time.Sleep(time.Second)
	if j, l := count(`join {"user":"ada"}`), count(`leave {"user":"ada"}`); j != 1 || l != 1 {
		t.Errorf("told %d times that ada came, %d that she left", j, l)
	}
}

func TestCluster_disconnectReachesEveryNode(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := s.node(t, Options{}), s.node(t, Options{})
	ada1, ada2 := dial(t, a.addr, "user=ada"), dial(t, b.addr, "user=ada")
	bob := dial(t, b.addr, "user=bob&jti=s1")
	carl := dial(t, b.addr, "user=carl&room=room:tea")
	start := time.Now()
	if n := a.Disconnect(Target{User: "ada"}, DisconnectBlocked); n != 1 {
		t.Errorf("%d sockets closed here", n)
	}
	ada1.wantClosed(4503, "blocked")
	ada2.wantClosed(4503, "blocked")
	if d := time.Since(start); d > time.Second {
		t.Errorf("after %s", d)
	}
	a.Disconnect(Target{Session: "s1"}, DisconnectToken)
	bob.wantClosed(4501, "token_bad")
	a.Disconnect(Target{Room: "room:tea"}, DisconnectRestart.after(time.Second, 2*time.Second))
	code, reason := carl.closed()
	if code != 1012 || len(reason) < len("restart;retry=1000") {
		t.Errorf("closed with %d %q", code, reason)
	}
	a.Disconnect(Target{}, DisconnectBlocked)
}

// An order that reaches a node late leaves alone who has come since.
func TestCluster_oldOrder(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	ada := dial(t, addr, "user=ada&jti=s1")
	order := func(ago time.Duration, more string) {
		h.obey([]byte(fmt.Sprintf(`{%s,"code":4503,"word":"blocked","at":%d}`, more, time.Now().Add(-ago).UnixMilli())))
	}
	order(time.Minute, `"user":"ada"`)
	ada.must(`"action":"ping"`)
	order(time.Minute, `"session":"s1"`) // a token that is dead stays dead
	ada.wantClosed(4503, "blocked")
	ada = dial(t, addr, "user=ada")
	for _, bad := range []string{"", "null", "{}", `{"user":"ada"}`, `[]`, `{"code":"x"}`} {
		h.obey([]byte(bad))
	}
	ada.must(`"action":"ping"`)
	order(0, `"user":"ada"`)
	ada.wantClosed(4503, "blocked")
}

func TestCluster_ringReachesEveryNode(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	mail := newTestMail()
	a, b := s.node(t, Options{Mail: mail}), s.node(t, Options{Mail: mail})
	ada1, ada2 := dial(t, a.addr, "user=ada"), dial(t, b.addr, "user=ada")
	for n := 1; n <= 5; n++ {
		mail.put("user:ada", "letter")
		a.Ring("user:ada")
	}
	ada1.wantMail(1, 5)
	ada2.wantMail(1, 5)
}

// While Redis is away mail comes by database, also to who connects then; a ring is not missed for long.
func TestCluster_mailWithoutRedis(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	mail := newTestMail()
	a, b := s.node(t, Options{Mail: mail}), s.node(t, Options{Mail: mail})
	ada1, ada2 := dial(t, a.addr, "user=ada"), dial(t, b.addr, "user=ada")
	s.stop()
	eventually(t, "the node knows", func() bool { return a.Healthy() != nil && b.Healthy() != nil })
	mail.put("user:ada", "letter")
	start := time.Now()
	a.Ring("user:ada")
	ada1.wantMail(1, 1)
	ada2.wantMail(1, 1)
	ada3 := dial(t, b.addr, "user=ada")
	ada3.wantMail(1, 1)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("mail took %s", d)
	}
	s.start()
	eventually(t, "the node knows", func() bool { return a.Healthy() == nil && b.Healthy() == nil })
	mail.put("user:ada", "letter")
	a.Ring("user:ada")
	for _, c := range []*client{ada1, ada2, ada3} {
		c.wantMail(2, 2)
	}
}

// With the clock that users have: mail that is rung in vain comes within 5 s, whatever Redis does.
func TestCluster_mailWithinFiveSeconds(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(s *redisServer, p *proxy)
	}{
		{"redis hangs", func(s *redisServer, _ *proxy) { s.signal(syscall.SIGSTOP) }},
		{"redis stops", func(s *redisServer, _ *proxy) { s.stop() }},
		{"one node is cut off", func(_ *redisServer, p *proxy) { p.freeze() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			p := startProxy(t, s.addr())
			mail := newTestMail()
			var nodes []node
			for _, addr := range []string{s.addr(), p.addr()} {
				b, err := NewRedisBroker(t.Context(), RedisOptions{URL: "redis://" + addr, Logger: testLog(t)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = b.Close() })
				h := newTestHub(t, Options{Mail: mail, Broker: b, Logger: testLog(t)})
				nodes = append(nodes, node{h, b, listen(t, h)})
			}
			ada := dial(t, nodes[1].addr, "user=ada")
			c.fault(s, p)
			mail.put("user:ada", "letter")
			start := time.Now()
			nodes[0].Ring("user:ada")
			ada.wantMail(1, 1)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("mail took %s", d)
			} else {
				t.Logf("mail took %s", d)
			}
		})
	}
}

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
