package hub

import (
	"encoding/json"
	"fmt"
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
