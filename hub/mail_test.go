package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testMail keeps mail as a database would.
type testMail struct {
	mu     sync.Mutex
	epoch  string
	boxes  map[string][]Message
	first  map[string]int // messages dropped from the front
	acks   map[string]uint64
	asked  int // calls of Heads
	broken bool
	panics bool
	onRead func() // called before each Read, without a lock
}

func newTestMail() *testMail {
	return &testMail{epoch: "mail1", boxes: map[string][]Message{}, first: map[string]int{}, acks: map[string]uint64{}}
}

var errBroken = errors.New("database away")

func (m *testMail) put(room, action string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.boxes[room]) + 1
	m.boxes[room] = append(m.boxes[room], Message{ID: fmt.Sprintf("%s/%d", room, n), Action: action, Payload: []byte(fmt.Sprint(n)), At: time.Now(), Offset: uint64(n)})
}

func (m *testMail) Heads(_ context.Context, rooms []string) ([]Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.panics {
		panic("a secret")
	}
	if m.broken {
		return nil, errBroken
	}
	list := make([]Position, len(rooms))
	for i, r := range rooms {
		list[i] = Position{m.epoch, uint64(len(m.boxes[r]))}
	}
	return list, nil
}

func (m *testMail) Read(_ context.Context, room string, q Query) (Page, error) {
	m.mu.Lock()
	onRead := m.onRead
	m.mu.Unlock()
	if onRead != nil {
		onRead()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return Page{}, errBroken
	}
	box := m.boxes[room]
	p := Page{Epoch: m.epoch, First: uint64(m.first[room]) + 1, Head: uint64(len(box))}
	for _, msg := range box[m.first[room]:] {
		if msg.Offset > q.After && len(p.Messages) < q.Limit {
			p.Messages = append(p.Messages, msg)
		}
	}
	return p, nil
}

func (m *testMail) Acked(_ context.Context, rooms []string) ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return nil, errBroken
	}
	list := make([]uint64, len(rooms))
	for i, r := range rooms {
		list[i] = m.acks[r]
	}
	return list, nil
}

func (m *testMail) Ack(_ context.Context, room string, offset uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errBroken
	}
	m.acks[room] = max(m.acks[room], offset)
	return nil
}

func (m *testMail) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// wantMail reads pushes with the offsets from..to in user:ada.
func (c *client) wantMail(from, to int) {
	c.t.Helper()
	for n := from; n <= to; n++ {
		if f := c.push(); f.Meta.Room != "user:ada" || f.Meta.Offset != uint64(n) || string(f.Data.Payload) != fmt.Sprint(n) {
			c.t.Fatalf("want mail %d, got %s", n, f.raw)
		}
	}
}

func TestMail_unacknowledgedFollowsWelcome(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	for range 3 {
		mail.put("user:ada", "order.paid")
	}
	phone := dial(t, addr, "user=ada")
	if w := phone.greeting(); w.Rooms[1].Offset != 3 || w.Rooms[1].Epoch != "mail1" || w.Rooms[1].Recovered != nil {
		t.Errorf("welcome: %s", phone.welcome.raw)
	}
	phone.wantMail(1, 3)
	tablet := dial(t, addr, "user=ada")
	tablet.wantMail(1, 3)

	mail.put("user:ada", "order.closed")
	mail.put("user:ada", "order.closed")
	for range 5 {
		h.Ring("user:ada") // as often as one likes
	}
	phone.wantMail(4, 5)
	tablet.wantMail(4, 5)
	phone.must(`"action":"ack","room":"user:ada","offset":4`)
	phone.refused("bad_frame", `"action":"ack","room":"user:ada","offset":6`)

	late := dial(t, addr, "user=ada")
	late.wantMail(5, 5)
	brings := dial(t, addr, "user=ada&room=user:ada@mail1:2")
	if w := brings.greeting(); w.Rooms[1].Recovered == nil || !*w.Rooms[1].Recovered || w.Rooms[1].Missed != 3 {
		t.Errorf("welcome: %s", brings.welcome.raw)
	}
	brings.wantMail(3, 5)
	other := dial(t, addr, "user=ada&room=user:ada@mail0:2")
	if w := other.greeting(); w.Rooms[1].Recovered == nil || *w.Rooms[1].Recovered {
		t.Errorf("welcome: %s", other.welcome.raw)
	}
	staff := dial(t, addr, "user=sue&role=staff&room=user:ada")
	staff.refused("forbidden", `"action":"ack","room":"user:ada","offset":5`)
	if err := h.Say(t.Context(), "user:ada", say("live", "1")); err != nil {
		t.Fatal(err)
	}
	if f := staff.push(); f.Data.Action != "live" {
		t.Errorf("staff got %s", f.raw)
	}
	if _, err := h.Publish(t.Context(), "user:ada", say("x", "1")); !errors.Is(err, ErrMail) {
		t.Errorf("publish in a mailbox: %v", err)
	}
	if f := staff.must(`"action":"history","room":"user:ada"`); len(f.Messages) != 5 {
		t.Errorf("history: %s", f.raw)
	}
}

// A position that is of no use loses no letter: what is not acknowledged follows, as without one.
func TestMail_positionOfNoUse(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	for range 5 {
		mail.put("user:ada", "order.paid")
	}
	mail.set(func() { mail.acks["user:ada"] = 2 })
	for _, since := range []string{"mail0:4", "mail1:99", "mail0:0", ":4"} {
		byQuery := dial(t, addr, "user=ada&room="+escape("user:ada@"+since))
		if r := byQuery.greeting().Rooms[1]; r.Recovered == nil || *r.Recovered || r.Missed != 3 || r.Offset != 5 {
			t.Errorf("%s: welcome: %s", since, byQuery.welcome.raw)
		}
		byQuery.wantMail(3, 5)
		epoch, offset, _ := strings.Cut(since, ":")
		byJoin := dial(t, addr, "user=ada")
		byJoin.wantMail(3, 5)
		f := byJoin.must(fmt.Sprintf(`"action":"join","room":"user:ada","since":{"epoch":"%s","offset":%s}`, epoch, offset))
		if f.Recovered == nil || *f.Recovered || f.Missed != 3 || f.Offset != 5 {
			t.Errorf("%s: join: %s", since, f.raw)
		}
		byJoin.wantMail(3, 5)
		for _, c := range []*client{byQuery, byJoin} {
			c.must(`"action":"ping"`)
			_ = c.ws.Close()
		}
	}
}

// More letters arrive while the first are read than are held: all of them come, in order.
func TestMail_arrivesWhileItIsRead(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail, Limits: Limits{QueueFrames: 6}})
	addr := listen(t, h)
	mail.put("user:ada", "order.paid")
	dial(t, addr, "user=ada").wantMail(1, 1) // the room lives
	var begun atomic.Bool
	mail.set(func() {
		mail.onRead = func() {
			if begun.Swap(true) {
				return
			}
			for range 5 {
				mail.put("user:ada", "order.paid")
			}
			h.Ring("user:ada")
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				r := h.room("user:ada")
				r.mu.Lock()
				held := r.told.Offset == 6
				r.mu.Unlock()
				if held {
					return
				}
			}
			t.Error("the letters are not held")
		}
	})
	late := dial(t, addr, "user=ada")
	if r := late.greeting().Rooms[1]; r.Offset != 6 {
		t.Errorf("welcome: %s", late.welcome.raw)
	}
	late.wantMail(1, 6)
	late.must(`"action":"ping"`)
}

func TestMail_trimmedBeforeAcknowledged(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	for range 5 {
		mail.put("user:ada", "x")
	}
	mail.set(func() { mail.first["user:ada"] = 3 })
	dial(t, listen(t, h), "user=ada").wantMail(4, 5)
}

func TestMail_moreThanOneReplay(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail, Limits: Limits{ReplayFrames: 10}})
	addr := listen(t, h)
	for range 25 {
		mail.put("user:ada", "x")
	}
	for _, want := range [][2]int{{1, 10}, {11, 20}} {
		c := dial(t, addr, "user=ada")
		c.wantMail(want[0], want[1])
		mail.set(func() { mail.acks["user:ada"] = uint64(want[1]) })
		c.wantClosed(4413, "slow")
	}
	c := dial(t, addr, "user=ada")
	c.wantMail(21, 25)
	c.must(`"action":"ping"`)
}

func TestMail_storeAway(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	c := dial(t, addr, "user=ada")
	mail.put("user:ada", "x")
	mail.set(func() { mail.broken = true })
	h.Ring("user:ada")
	c.must(`"action":"ping"`) // the socket stays
	away := dial(t, addr, "user=bob")
	if w := away.greeting(); len(w.Refused) != 1 || w.Refused[0].Error != "unavailable" || len(w.Rooms) != 1 {
		t.Errorf("welcome: %s", away.welcome.raw)
	}
	mail.set(func() { mail.broken = false })
	c.wantMail(1, 1)
	away.must(`"action":"join","room":"user:bob"`)
}

func TestMail_panics(t *testing.T) {
	mail := newTestMail()
	var log bytes.Buffer
	h := newTestHub(t, Options{Mail: mail, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	addr := listen(t, h)
	mail.set(func() { mail.panics = true })
	c := dial(t, addr, "user=ada")
	if w := c.greeting(); len(w.Refused) != 1 || w.Refused[0].Error != "unavailable" {
		t.Errorf("welcome: %s", c.welcome.raw)
	}
	mail.set(func() { mail.panics = false })
	c.must(`"action":"join","room":"user:ada"`)
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log quotes a panic's value: %s", log.String())
	}
}

func TestMail_newEpoch(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	mail.put("user:ada", "x")
	c := dial(t, listen(t, h), "user=ada")
	c.wantMail(1, 1)
	mail.set(func() { mail.epoch, mail.boxes = "mail2", map[string][]Message{} })
	mail.put("user:ada", "y")
	h.Ring("user:ada")
	if f := c.push(); f.Meta.Epoch != "mail2" || f.Meta.Offset != 1 || f.Data.Action != "y" {
		t.Errorf("after a restore: %s", f.raw)
	}
}

func TestMail_headsInBatches(t *testing.T) {
	mail := newTestMail()
	h := newTestHub(t, Options{Mail: mail})
	// The first question is held up; all others wait for the next one together.
	ask, asked, block := h.mailHeads.ask, make(chan struct{}, 10), make(chan struct{})
	h.mailHeads.ask = func(ctx context.Context, rooms []string) ([]Position, error) {
		asked <- struct{}{}
		<-block
		return ask(ctx, rooms)
	}
	var wg sync.WaitGroup
	get := func(room string) {
		wg.Go(func() {
			if _, err := h.mailHeads.get(t.Context(), room); err != nil {
				t.Error(err)
			}
		})
	}
	get("user:first")
	<-asked
	for i := range 200 {
		get(fmt.Sprintf("user:u%d", i))
	}
	eventually(t, "all wait", func() bool {
		h.mailHeads.mu.Lock()
		defer h.mailHeads.mu.Unlock()
		return len(h.mailHeads.waiting) == 1 && len(h.mailHeads.waiting[0].rooms) == 200
	})
	close(block)
	wg.Wait()
	if mail.asked != 2 {
		t.Errorf("%d questions for 201 rooms", mail.asked)
	}
}
