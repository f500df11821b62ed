package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulation plays random joins, publishes, acknowledgements, drops, slow readers, returns with good and useless
// positions, kicks and pauses in synthetic time, several of them at once, and compares what each client heard, and who
// is told to be where, with a model. A failure names its seed; SEED=n plays one again, SEEDS=n plays so many.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), uint64(400)
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		last = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		first, last = n, n
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("again with SEED=%d", seed)
				}
			}()
			newSimulation(t, seed).play()
		})
	}
}

type simulation struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	h       *Hub
	mail    *testMail
	kept    int // messages of a room's history
	held    int // … that are held for a socket while it is read
	players []*player

	mu     sync.Mutex                   // guards what follows: some is said while others join
	said   map[string]map[uint64]string // by room, by Offset
	n      int                          // numbers what is said
	heard  []hearing                    // to be compared when all is said
	losses []loss                       // the same
}

// A hearing is what a player heard at an Offset.
type hearing struct {
	user, room, text string
	offset           uint64
}

// A loss is that a player was told that what followed since is gone.
type loss struct {
	user, room string
	since      uint64
}

// A farBroker takes its time to answer, so that much is said while somebody's history is read.
type farBroker struct {
	*MemoryBroker
	lag time.Duration
}

func (b farBroker) Read(ctx context.Context, room string, q Query) (Page, error) {
	time.Sleep(b.lag)
	return b.MemoryBroker.Read(ctx, room, q)
}

var simRooms = []string{"room:a", "room:b", "notice"}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), said: map[string]map[uint64]string{}, mail: newTestMail()}
	s.kept = []int{4, 8, 40}[s.rnd.IntN(3)]
	window := []time.Duration{0, 0, 50 * time.Millisecond}[s.rnd.IntN(3)]
	far := farBroker{newMemoryBroker(t).(*MemoryBroker), time.Duration(s.rnd.IntN(3)) * 10 * time.Millisecond}
	s.mail.onRead = func() { time.Sleep(far.lag) }
	limits := Limits{FramesPerSecond: 1e6, FramesBurst: 1e6, QueueFrames: []int{12, 40, 1000}[s.rnd.IntN(3)], SocketsPerUser: 2}
	s.held = limits.QueueFrames / 2
	s.h = newTestHub(t, Options{Broker: far, Mail: s.mail, Limits: limits, Rules: []Rule{
		{Pattern: "user:*", Join: Owner, Publish: Admin, Presence: PresenceIDs, Mail: true},
		{Pattern: "room:a", Join: Anyone, Publish: Member, Keep: Keep{s.kept, time.Hour}, Presence: PresenceIDs, Announce: true},
		{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{s.kept, time.Hour}, Presence: PresenceIDs, Window: window},
	}})
	for i := range 4 {
		s.players = append(s.players, &player{s: s, user: fmt.Sprintf("u%d", i%3), rooms: map[string]Position{}})
	}
	return s
}

func (s *simulation) fail(format string, a ...any) {
	s.t.Helper()
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, a...)...)
}

func (s *simulation) play() {
	for range 60 {
		p := s.players[s.rnd.IntN(len(s.players))]
		room := simRooms[s.rnd.IntN(len(simRooms))]
		switch s.rnd.IntN(18) {
		case 0, 1:
			p.connect()
		case 2: // while others speak
			s.storm(room)
			p.connect()
		case 3:
			p.drop()
		case 4:
			p.join(room)
		case 5:
			s.storm(room)
			p.join(room)
		case 6:
			p.leave(room)
		case 7:
			targets := []Target{{User: p.user}, {Room: room}, {User: p.user, Room: room}, {Session: "s" + p.user}}
			s.h.Disconnect(targets[s.rnd.IntN(len(targets))], DisconnectKicked)
		case 8:
			time.Sleep(time.Duration(s.rnd.IntN(40)) * time.Second)
		case 9:
			for range 1 + s.rnd.IntN(3) {
				s.write(p.user)
			}
		case 10:
			p.ack()
		case 11:
			p.forgetPlaces()
		case 12:
			p.stopReading()
		case 13:
			p.goOnReading()
		case 14:
			p.publish(room)
		case 15:
			s.storm(room)
		default:
			for range 1 + s.rnd.IntN(4) {
				s.say(room)
			}
		}
		if s.rnd.IntN(3) == 0 {
			s.settle()
		}
	}
	for _, p := range s.players {
		p.goOnReading()
	}
	s.settle()
	s.checkPresence()
	for _, p := range s.players {
		p.drop()
	}
	s.settle()
	s.checkPresence()
}

// say publishes for the server.
func (s *simulation) say(room string) {
	text := s.text()
	s.note(room, publish(s.t, s.h, room, say("n", text)).Offset, text)
}

// storm says much while other things happen.
func (s *simulation) storm(room string) {
	n, pause := 5+s.rnd.IntN(30), time.Duration(s.rnd.IntN(3))*time.Millisecond
	go func() {
		for range n {
			s.say(room)
			time.Sleep(pause)
		}
	}()
}

// write puts a letter into a mailbox.
func (s *simulation) write(user string) {
	box := "user:" + user
	s.mail.put(box, s.text())
	s.mail.set(func() { s.note(box, uint64(len(s.mail.boxes[box])), strconv.Itoa(len(s.mail.boxes[box]))) })
	s.h.Ring(box)
}

// note keeps in the model what was said.
func (s *simulation) note(room string, offset uint64, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said[room] == nil {
		s.said[room] = map[uint64]string{}
	}
	if _, twice := s.said[room][offset]; twice || offset == 0 {
		s.fail("%s: offset %d for two messages", room, offset)
	}
	s.said[room][offset] = text
}

// head is how much was said in a room.
func (s *simulation) head(room string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.said[room])
}

func (s *simulation) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return strconv.Itoa(s.n)
}

// settle lets everything arrive and checks that everybody who reads stands at the end.
func (s *simulation) settle() {
	time.Sleep(200 * time.Millisecond) // storms and windows end
	synctest.Wait()
	for _, p := range s.players {
		p.drain()
		for room, at := range p.rooms {
			if p.ws != nil && !p.slow && int(at.Offset) != s.head(room) {
				s.fail("%s is at %d of %d in %s", p.user, at.Offset, s.head(room), room)
			}
		}
	}
	for _, h := range s.heard {
		if s.said[h.room][h.offset] != h.text {
			s.fail("%s heard %q at %d in %s, said was %q", h.user, h.text, h.offset, h.room, s.said[h.room][h.offset])
		}
	}
	for _, l := range s.losses {
		if s.head(l.room)-int(l.since) <= min(s.kept, s.held) {
			s.fail("%s came back to %s at %d of %d and was told that it is lost", l.user, l.room, l.since, s.head(l.room))
		}
	}
	s.heard, s.losses = nil, nil
	if err := s.h.CheckConsistency(); err != nil {
		s.fail("%v", err)
	}
	if !slices.ContainsFunc(s.players, func(p *player) bool { return p.slow }) {
		s.checkPresence()
	}
}

func (s *simulation) checkPresence() {
	for _, room := range simRooms {
		want := map[string]int{}
		for _, p := range s.players {
			if _, in := p.rooms[room]; in && p.ws != nil {
				want[p.user]++
			}
		}
		got, err := s.h.Presence(s.t.Context(), room)
		if err != nil || got.Count != len(want) {
			s.fail("presence in %s: %+v, want %v", room, got, want)
		}
		for _, u := range got.Users {
			if want[u.ID] != u.Sockets {
				s.fail("presence in %s: %+v, want %v", room, got, want)
			}
		}
	}
}

// unsure reads from the stream what may have been said by a socket that broke before it was told.
func (s *simulation) unsure(room string) {
	time.Sleep(200 * time.Millisecond)
	page, err := s.h.History(s.t.Context(), room, Query{Newest: true, Limit: s.kept})
	if err != nil {
		s.fail("%v", err)
	}
	for _, m := range page.Messages {
		s.mu.Lock()
		_, known := s.said[room][m.Offset]
		s.mu.Unlock()
		if !known {
			s.note(room, m.Offset, string(m.Payload))
		}
	}
}
