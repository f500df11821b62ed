package hub

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulation plays random joins, publishes, drops, returns, kicks and pauses in synthetic time and
// compares what each client heard with what was said. A failure names its seed; SEED=n plays one again,
// SEEDS=n plays so many.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), uint64(100)
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		last = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		first, last = n, n
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			newSimulation(t, seed).play()
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

type simulation struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	h       *Hub
	mail    *testMail
	said    map[string][]string // by room, by Offset-1: what was said
	kept    int
	players []*player
	n       int // numbers what is said
}

// A player is a phone: it may be connected, and remembers where it stands in each room.
type player struct {
	s     *simulation
	user  string
	ws    *client
	rooms map[string]Position // where it stands; of rooms that it wants to be in
	lines chan frame
	ended chan struct{}
}

var simRooms = []string{"room:a", "room:b", "notice"}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), said: map[string][]string{}, kept: 8, mail: newTestMail()}
	s.h = newTestHub(t, Options{Mail: s.mail, Limits: Limits{FramesPerSecond: 1e6, FramesBurst: 1e6}, Rules: []Rule{
		{Pattern: "user:*", Join: Owner, Publish: Admin, Presence: PresenceIDs, Mail: true},
		{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{s.kept, time.Hour}, Presence: PresenceIDs},
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
		switch s.rnd.IntN(12) {
		case 0, 1:
			p.connect()
		case 2:
			p.drop()
		case 3:
			p.join(room)
		case 4:
			p.leave(room)
		case 5:
			s.h.Disconnect(Target{User: p.user}, DisconnectBlocked)
		case 6:
			time.Sleep(time.Duration(s.rnd.IntN(40)) * time.Second)
		case 7:
			box := "user:" + p.user
			s.mail.put(box, s.text())
			s.said[box] = append(s.said[box], strconv.Itoa(len(s.said[box])+1))
			s.h.Ring(box)
		default:
			for range 1 + s.rnd.IntN(4) {
				text := s.text()
				at := publish(s.t, s.h, room, say("n", text))
				s.said[room] = append(s.said[room], text)
				if int(at.Offset) != len(s.said[room]) {
					s.fail("%s: offset %d of message %d", room, at.Offset, len(s.said[room]))
				}
			}
		}
		if s.rnd.IntN(3) == 0 {
			s.settle()
		}
	}
	s.settle()
	s.checkPresence()
	for _, p := range s.players {
		p.drop()
	}
	synctest.Wait()
	if err := s.h.CheckConsistency(); err != nil {
		s.fail("%v", err)
	}
}

func (s *simulation) text() string {
	s.n++
	return strconv.Itoa(s.n)
}

// settle lets everything arrive and checks that everybody stands at the end.
func (s *simulation) settle() {
	synctest.Wait()
	for _, p := range s.players {
		p.drain()
		for room, at := range p.rooms {
			if p.ws != nil && int(at.Offset) != len(s.said[room]) {
				s.fail("%s is at %d of %d in %s", p.user, at.Offset, len(s.said[room]), room)
			}
		}
	}
	if err := s.h.CheckConsistency(); err != nil {
		s.fail("%v", err)
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

func (p *player) connect() {
	if p.ws != nil {
		return
	}
	query := "user=" + p.user
	for _, room := range append([]string{"user:" + p.user}, simRooms...) {
		if at, ok := p.rooms[room]; ok {
			query += "&room=" + escape(fmt.Sprintf("%s@%s:%d", room, at.Epoch, at.Offset))
		}
	}
	p.ws = dialPipe(p.s.t, p.s.h, query)
	p.lines, p.ended = make(chan frame, 1000), make(chan struct{})
	go func(ws *client, lines chan frame, ended chan struct{}) {
		defer close(ended)
		for {
			f, err := ws.read()
			if err != nil {
				return
			}
			lines <- f
		}
	}(p.ws, p.lines, p.ended)
	for _, r := range p.ws.greeting().Rooms {
		if r.Room == "all" {
			continue
		}
		since, brought := p.rooms[r.Room]
		if !brought { // only the mailbox, for the first time: all of it follows
			p.rooms[r.Room] = Position{r.Epoch, 0}
			continue
		}
		p.returned(r.Room, since, Position{r.Epoch, r.Offset}, r.Recovered, r.Missed)
	}
}

// returned checks what the hub says of a return, and starts afresh if it says so.
func (p *player) returned(room string, since, at Position, recovered *bool, missed int) {
	p.s.t.Helper()
	isMail := room == "user:"+p.user
	lack := len(p.s.said[room]) - int(since.Offset)
	if isMail { // the last of it may be read a moment later, and then comes live
		lack = int(at.Offset) - int(since.Offset)
	}
	want := since.Epoch == at.Epoch && (lack <= p.s.kept || isMail)
	if recovered == nil || *recovered != want || want && missed != lack {
		got := "absent"
		if recovered != nil {
			got = strconv.FormatBool(*recovered)
		}
		p.s.fail("%s returned to %s at %d of %d: recovered %s, missed %d", p.user, room, since.Offset, len(p.s.said[room]), got, missed)
	}
	if recovered != nil && !*recovered {
		p.rooms[room] = at
	}
}

func (p *player) drop() {
	if p.ws == nil {
		return
	}
	_ = p.ws.ws.Close()
	<-p.ended
	p.drain()
	p.ws = nil
}

func (p *player) join(room string) {
	if p.ws == nil {
		return
	}
	synctest.Wait()
	if p.drain(); p.ws == nil { // what was said to the old membership
		return
	}
	since, again := p.rooms[room]
	fields := `"id":1,"action":"join","room":"` + room + `"`
	if again {
		fields += fmt.Sprintf(`,"since":{"epoch":"%s","offset":%d}`, since.Epoch, since.Offset)
	}
	if !p.request(fields) {
		return
	}
	p.until(func(f frame) {
		at := Position{f.Epoch, f.Offset}
		if again {
			p.returned(room, since, at, f.Recovered, f.Missed)
			return
		}
		p.rooms[room] = at
	})
}

func (p *player) leave(room string) {
	if _, in := p.rooms[room]; !in || p.ws == nil || !p.request(`"id":1,"action":"leave","room":"`+room+`"`) {
		return
	}
	p.until(func(frame) {})
	delete(p.rooms, room)
}

// request writes a frame; false when the line is gone.
func (p *player) request(fields string) bool {
	if p.ws.ws.WriteMessage(1, []byte(`{`+fields+`}`)) != nil {
		<-p.ended
		p.drain()
		p.ws = nil
		return false
	}
	return true
}

// until hears what comes up to the reply.
func (p *player) until(reply func(frame)) {
	for {
		select {
		case f := <-p.lines:
			if f.Reply != nil {
				reply(f)
				return
			}
			p.hear(f)
		case <-p.ended:
			p.drain()
			p.ws = nil
			return
		}
	}
}

// drain hears what has come.
func (p *player) drain() {
	for p.ws != nil {
		select {
		case f := <-p.lines:
			if f.Reply == nil {
				p.hear(f)
			}
			continue
		default:
		}
		select {
		case <-p.ended:
			if len(p.lines) == 0 {
				p.ws = nil
			}
			continue
		default:
		}
		return
	}
}

// hear checks one push against the model: the next of its room, with the right text.
func (p *player) hear(f frame) {
	if f.Ping != 0 {
		return
	}
	room := f.Meta.Room
	at, in := p.rooms[room]
	said := p.s.said[room]
	switch {
	case !in:
		p.s.fail("%s is not in the room of %s", p.user, f.raw)
	case f.Meta.Offset != at.Offset+1 || f.Meta.Epoch != at.Epoch:
		p.s.fail("%s is at %d: %s", p.user, at.Offset, f.raw)
	case int(f.Meta.Offset) > len(said) || string(f.Data.Payload) != said[f.Meta.Offset-1]:
		p.s.fail("%s was not said: %s", slices.Clone(said), f.raw)
	}
	p.rooms[room] = Position{f.Meta.Epoch, f.Meta.Offset}
}
