package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// A Room is what this node knows of a room that has members here: who they are, and up to where its
// stream was handed to them. It lives while something pins it: a member, or somebody who enters.
//
// Lock order: roomShard.mu, Room.mu, chunk.mu, Conn.mu, wheel.mu. Nothing blocks under any of them.
type Room struct {
	hub  *Hub
	name string
	rule *Rule
	pins int // guarded by the shard's mu

	mu      sync.Mutex // guards what follows
	state   roomState
	decided bool          // it has started, or failed to
	ready   chan struct{} // closed when decided is set; made for the first who waits
	err     error         // why it did not start
	at      Position      // the newest message taken in
	seq     uint64        // numbers every message taken in here, also those without Offset
	noted   Position      // while starting: the newest message announced
	told    Position      // up to here every member has been handed everything
	fresh   bool          // the Epoch changed: what came before its First was never promised
	fan     fan
	filled  uint64 // Offset up to which a fill has read in this Epoch
	filling bool   // a fill runs
	again   bool   // … and must look once more
	chunks  []*chunk
	open    int              // a chunk that may have a free seat
	size    int              // members
	speak   [encodings]int32 // … by encoding
	people  people
	timer   entry
}

type roomState uint8

const (
	roomStarting roomState = iota
	roomLive
	roomDead // nobody is in it; a new Room takes its place
)

// A member is one socket in one room.
type member struct {
	conn  *Conn
	room  *Room
	chunk *chunk // guarded by room.mu
	seat  int    // guarded by chunk.mu

	// Guarded by conn.mu.
	from uint64 // hears what is numbered above it
	held *held  // not nil while its history is read
	gone bool
}

// Members sit in chunks, so that a fan-out never holds a lock over the whole room and a large room is
// spread over the cores without copying its list.
const chunkSeats = 256

type chunk struct {
	mu      sync.Mutex
	at      int // its index in the room
	members []*member
}

// held are messages that came while a member's history was read. They are bounded.
type held struct {
	pieces []piece
	bytes  int
	frames int
	over   bool

	from, to uint64   // Offsets of the mail among them; 0: none
	at       Position // of the last of them that has an Offset
}

type roomShard struct {
	mu    sync.RWMutex
	rooms map[string]*Room
}

// pin returns the room, which may still be starting, and keeps it alive until exit.
func (h *Hub) pin(name string) (*Room, error) {
	r, first := h.hold(name)
	if first && !h.start(r.start) {
		r.begun(Position{}, ErrClosed)
		r.exit() // of start
		r.exit()
		return nil, ErrClosed
	}
	return r, nil
}

// hold is pin for a caller that starts the room itself if it is the first.
func (h *Hub) hold(name string) (r *Room, first bool) {
	sh := h.roomShard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r = sh.rooms[name]
	if first = r == nil; first {
		r = &Room{hub: h, name: name, rule: h.rule(name)}
		r.timer.owner = r
		r.pins++ // of start
		sh.rooms[name] = r
	}
	r.pins++
	return r, first
}

// started waits until the room has started. The caller holds a pin.
func (r *Room) started(ctx context.Context) error {
	r.mu.Lock()
	if r.decided {
		defer r.mu.Unlock()
		return r.err
	}
	if r.ready == nil {
		r.ready = make(chan struct{})
	}
	ready := r.ready
	r.mu.Unlock()
	select {
	case <-ready:
		return r.err // written before ready was closed
	case <-ctx.Done():
		return fmt.Errorf("hub: room %s: %w", r.name, context.Cause(ctx))
	}
}

// exit gives a pin back; the last one ends the room.
func (r *Room) exit() {
	sh := r.hub.roomShard(r.name)
	sh.mu.Lock()
	r.pins--
	last := r.pins == 0
	if last {
		if sh.rooms[r.name] == r {
			delete(sh.rooms, r.name)
		}
		r.hub.broker.Unsubscribe(r.name)
	}
	sh.mu.Unlock()
	if last {
		r.mu.Lock()
		r.state = roomDead
		r.fan.wake()
		told := slices.Collect(maps.Keys(r.people.told))
		r.mu.Unlock()
		r.hub.wheel.drop(&r.timer)
		if r.hub.roll != nil && len(told) > 0 {
			r.hub.roll.settleLater(r.name, told)
		}
	}
}

// start subscribes and finds out where the stream stands. It is called once, by whoever was first.
func (r *Room) start() {
	defer r.exit()
	var at Position
	err := protect(func() (err error) {
		at, err = r.subscribe(r.hub.soon())
		return err
	})
	r.begun(at, err)
}

func (r *Room) subscribe(ctx context.Context) (at Position, err error) {
	h := r.hub
	if mail := h.isMail(r.rule); !mail || !h.everywhere { // mail has its stream elsewhere: the broker only rings
		if err = h.broker.Subscribe(ctx, r.name); err != nil && h.cluster != nil && mail {
			h.log.Warn("room is not rung by other nodes yet", "room", r.name, "error", err)
			err = nil // the roll looks after mail while the cluster is away
		}
	}
	if err != nil {
		return at, fmt.Errorf("hub: room %s: subscribe: %w", r.name, err)
	}
	if at, err = h.heads(r.rule).get(ctx, r.name); err != nil {
		return at, fmt.Errorf("hub: room %s: head: %w", r.name, err)
	}
	return at, nil
}

// begun lets those in who wait for the room: at is where its stream stands. With an error the room has failed,
// and the next to enter tries anew.
func (r *Room) begun(at Position, err error) {
	if err != nil {
		sh := r.hub.roomShard(r.name)
		sh.mu.Lock()
		if sh.rooms[r.name] == r {
			delete(sh.rooms, r.name)
		}
		sh.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decided, r.err = true, err
	if r.ready != nil {
		close(r.ready)
		r.ready = nil
	}
	if err != nil {
		return
	}
	r.at = at
	r.state = roomLive
	defer func() { r.told = r.at }()
	switch {
	case r.noted == Position{} || r.noted.Epoch == at.Epoch && r.noted.Offset <= at.Offset:
	case r.noted.Epoch == at.Epoch:
		r.at = r.noted // nobody was here to hear what lies between
	default:
		r.lagLocked()
	}
}

// attach makes c a member that holds what is said after the Position returned, until it is settled. The
// caller's pin becomes the member's, and hold the room's until then. It fails when the socket is being closed or is in the room.
func (r *Room) attach(c *Conn, hold *held) (*member, Position, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &member{conn: c, room: r, from: r.seq, held: hold}
	c.mu.Lock()
	twice := slices.ContainsFunc(c.rooms, func(m *member) bool { return m.room == r }) // somebody else was faster
	if c.departed || c.closing || twice {
		c.mu.Unlock()
		return nil, Position{}, false
	}
	c.rooms = append(c.rooms, m)
	c.mu.Unlock()
	r.sit(m)
	r.arrive(c.user)
	return m, r.at, true
}

// detach ends the membership. It is called once for each member, by whoever set gone.
func (r *Room) detach(m *member) {
	r.mu.Lock()
	r.rise(m)
	r.leave(m.conn.user)
	r.mu.Unlock()
	r.exit()
}

func (r *Room) sit(m *member) {
	var ch *chunk
	if r.open < len(r.chunks) {
		ch = r.chunks[r.open]
	}
	if ch == nil || len(ch.members) >= chunkSeats {
		ch = nil
		for i := len(r.chunks) - 1; i >= 0 && r.size < len(r.chunks)*chunkSeats; i-- {
			if len(r.chunks[i].members) < chunkSeats {
				ch = r.chunks[i]
				break
			}
		}
		if ch == nil {
			ch = &chunk{at: len(r.chunks)}
			r.chunks = append(r.chunks, ch)
		}
		r.open = ch.at
	}
	ch.mu.Lock()
	m.chunk, m.seat = ch, len(ch.members)
	ch.members = append(ch.members, m)
	ch.mu.Unlock()
	r.size++
	r.speak[m.conn.speaks]++
}

func (r *Room) rise(m *member) {
	ch := m.chunk
	ch.mu.Lock()
	last := len(ch.members) - 1
	moved := ch.members[last]
	ch.members[m.seat] = moved
	moved.seat = m.seat
	ch.members[last] = nil
	ch.members = ch.members[:last]
	ch.mu.Unlock()
	m.chunk = nil
	r.open = ch.at
	r.size--
	r.speak[m.conn.speaks]--
}

// each calls f for every member, without holding the room.
func (r *Room) each(f func(*member)) {
	r.mu.Lock()
	chunks := r.chunks
	r.mu.Unlock()
	s := seats.Get().(*[]*member)
	defer seats.Put(s)
	for _, ch := range chunks {
		for _, m := range ch.snapshot(s) {
			f(m)
		}
	}
}

var seats = sync.Pool{New: func() any {
	s := make([]*member, 0, chunkSeats)
	return &s
}}

func (ch *chunk) snapshot(into *[]*member) []*member {
	clear(*into)
	ch.mu.Lock()
	*into = append((*into)[:0], ch.members...)
	ch.mu.Unlock()
	return *into
}

// stream is where the room's messages are read.
func (r *Room) stream() Stream { return r.hub.stream(r.rule) }

// repin adds a pin for a caller that knows of another one.
func (r *Room) repin() {
	sh := r.hub.roomShard(r.name)
	sh.mu.Lock()
	r.pins++
	sh.mu.Unlock()
}
