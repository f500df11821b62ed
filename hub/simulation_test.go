package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
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

// A player is a phone: it may be connected, and remembers where it stands in each room.
type player struct {
	s     *simulation
	user  string
	ws    *client
	rooms map[string]Position // where it stands; of rooms that it wants to be in
	lines chan frame
	ended chan struct{}
	gate  chan struct{} // closed while it reads
	slow  bool
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

func (p *player) connect() {
	if p.ws != nil {
		return
	}
	p.goOnReading()
	query := "user=" + p.user + "&jti=s" + p.user
	for _, room := range append([]string{"user:" + p.user}, simRooms...) {
		if at, ok := p.rooms[room]; ok {
			query += "&room=" + escape(fmt.Sprintf("%s@%s:%d", room, at.Epoch, at.Offset))
		}
	}
	ws, err := tryDial(p.s.t, pipeDialer(p.s.h), "ws://hub", query)
	if e, ok := errors.AsType[*websocket.CloseError](err); ok && e.Code == DisconnectSlow.Code { // more was said than waits
		return
	}
	if err != nil {
		p.s.fail("%s connects: %v", p.user, err)
		return
	}
	p.ws = ws
	p.lines, p.ended = make(chan frame, 10000), make(chan struct{})
	p.gate = make(chan struct{})
	close(p.gate)
	go func(ws *client, lines chan frame, ended chan struct{}) {
		defer close(ended)
		for {
			f, err := ws.read()
			if err != nil {
				return
			}
			lines <- f
			<-p.open()
		}
	}(p.ws, p.lines, p.ended)
	for _, r := range p.ws.greeting().Rooms {
		if r.Room == "all" {
			continue
		}
		since, brought := p.rooms[r.Room]
		if !brought { // only the mailbox: what is not acknowledged follows
			p.rooms[r.Room] = Position{r.Epoch, p.acked()}
			continue
		}
		p.returned(r.Room, since, Position{r.Epoch, r.Offset}, r.Recovered, r.Missed)
	}
}

// open is closed while the player reads.
func (p *player) open() chan struct{} {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.gate
}

// acked is up to where the player's user has acknowledged mail.
func (p *player) acked() (n uint64) {
	p.s.mail.set(func() { n = p.s.mail.acks["user:"+p.user] })
	return n
}

// returned checks what the hub says of a return, and starts afresh if it says so.
func (p *player) returned(room string, since, at Position, recovered *bool, missed int) {
	p.s.t.Helper()
	isMail := room == "user:"+p.user
	switch lack := int(at.Offset) - int(since.Offset); {
	case recovered == nil:
		p.s.fail("%s returned to %s and is not told whether it recovered", p.user, room)
	case *recovered:
		if since.Epoch != at.Epoch || missed != lack || !isMail && lack > p.s.kept {
			p.s.fail("%s returned to %s at %d of %d: recovered, missed %d", p.user, room, since.Offset, at.Offset, missed)
		}
	case isMail:
		from := p.acked()
		if since.Epoch == at.Epoch && lack >= 0 || missed != int(at.Offset-from) {
			p.s.fail("%s returned to %s at %d of %d, acknowledged %d: not recovered, missed %d", p.user, room, since.Offset, at.Offset, from, missed)
		}
		p.rooms[room] = Position{at.Epoch, from}
	default:
		if since.Epoch == at.Epoch && lack >= 0 {
			p.s.losses = append(p.s.losses, loss{p.user, room, since.Offset})
		}
		p.rooms[room] = at
	}
}

// stopReading leaves what comes in the socket.
func (p *player) stopReading() {
	if p.ws == nil || p.slow {
		return
	}
	p.s.mu.Lock()
	p.gate, p.slow = make(chan struct{}), true
	p.s.mu.Unlock()
}

func (p *player) goOnReading() {
	if p.slow {
		p.slow = false
		close(p.gate)
	}
}

// ack acknowledges the mail that the player heard.
func (p *player) ack() {
	box := "user:" + p.user
	at, in := p.rooms[box]
	if p.ws == nil || p.slow || !in || !p.request(fmt.Sprintf(`"id":1,"action":"ack","room":"%s","offset":%d`, box, at.Offset)) {
		return
	}
	p.until(func(f frame) {
		if !f.OK {
			p.s.fail("%s acknowledges %d: %s", p.user, at.Offset, f.raw)
		}
	})
}

// forgetPlaces is a reinstallation, or a device that comes from another hub.
func (p *player) forgetPlaces() {
	if p.ws != nil {
		return
	}
	for room := range p.rooms {
		switch p.s.rnd.IntN(3) {
		case 0:
			delete(p.rooms, room)
		case 1:
			p.rooms[room] = Position{"elsewhere", uint64(p.s.rnd.IntN(20))}
		}
	}
}

// publish says something over the player's own socket.
func (p *player) publish(room string) {
	_, in := p.rooms[room]
	if p.ws == nil || p.slow || !in {
		return
	}
	text := p.s.text()
	if !p.request(`"id":1,"action":"publish","room":"` + room + `","data":{"action":"n","payload":` + text + `}`) {
		p.s.unsure(room)
		return
	}
	answered := false
	p.until(func(f frame) {
		if answered = true; f.OK {
			p.s.note(room, f.Offset, text)
		} else {
			p.s.fail("%s publishes in %s: %s", p.user, room, f.raw)
		}
	})
	if !answered {
		p.s.unsure(room)
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

func (p *player) drop() {
	if p.ws == nil {
		return
	}
	p.goOnReading()
	_ = p.ws.ws.Close()
	<-p.ended
	p.drain()
	p.ws = nil
}

func (p *player) join(room string) {
	if p.ws == nil || p.slow {
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
	if _, in := p.rooms[room]; !in || p.ws == nil || p.slow || !p.request(`"id":1,"action":"leave","room":"`+room+`"`) {
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

// hear checks one push against the model: the next of its room. Its text is compared when all is said.
func (p *player) hear(f frame) {
	room := f.Meta.Room
	at, in := p.rooms[room]
	switch {
	case f.Ping != 0:
		return
	case !in:
		p.s.fail("%s is not in the room of %s", p.user, f.raw)
	case f.Meta.Offset == 0:
		if f.Data.Action != "join" && f.Data.Action != "leave" || room != "room:a" {
			p.s.fail("%s heard %s", p.user, f.raw)
		}
		return
	case f.Meta.Offset != at.Offset+1 || f.Meta.Epoch != at.Epoch:
		p.s.fail("%s is at %d: %s", p.user, at.Offset, f.raw)
	}
	p.s.heard = append(p.s.heard, hearing{p.user, room, string(f.Data.Payload), f.Meta.Offset})
	p.rooms[room] = Position{f.Meta.Epoch, f.Meta.Offset}
}
