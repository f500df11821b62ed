package hub

import (
	"context"
	"errors"
	"slices"
	"time"
)

// joining is one room on a socket's way in. The room's live messages are held from before its history is
// read until both are handed over in order, so there is no window in between.
type joining struct {
	name   string
	since  *Position // where the client stands; nil: it wants what comes from now on
	room   *Room     // pinned
	m      *member
	held   held
	at     Position // live from here
	replay replay
	mail   bool  // the replay is what the user has not acknowledged, whatever position was brought
	err    error // a *refusal or our fault: not joined
}

// replay is what a socket has missed in a room.
type replay struct {
	buf      []byte // frames laid end to end
	n        int    // messages in it
	first    uint64 // Offset of the first
	complete bool   // it reaches up to where live begins
}

// end is where a client stands that was handed the replay; at is where live begins.
func (p *replay) end(at Position) Position {
	if !p.complete {
		at.Offset = p.first + uint64(p.n) - 1
	}
	return at
}

var (
	errBound = errors.New("hub: more was missed than one replay holds")
	errGone  = errors.New("hub: history does not reach back")
)

// begin joins a room as far as holding what is said there; finish lets the client hear it.
func (c *Conn) begin(ctx context.Context, j *joining) {
	if j.err = j.room.started(ctx); j.err != nil {
		j.room.exit()
		return
	}
	var ok bool
	if j.m, j.at, ok = j.room.attach(c, &j.held); !ok {
		j.room.exit()
		j.err = ErrClosed
		return
	}
	if j.since != nil {
		j.replay, j.err = j.room.since(ctx, c.speaks, *j.since, j.at)
	}
	if j.err == nil && !j.recovered() {
		c.mailFollows(ctx, j)
	}
	if j.err != nil {
		c.forget(j.m)
		j.m = nil
	}
}

// recovered tells whether everything after the position that the client brought follows.
func (j *joining) recovered() bool { return j.since != nil && !j.mail && j.replay.complete }

// mailFollows has the letters follow that the user has not acknowledged, if the room is the user's own mail: a
// position that is of no use must not lose them.
func (c *Conn) mailFollows(ctx context.Context, j *joining) {
	if c.hub.isMail(j.room.rule) && c.session.Load().owns(j.room.rule, j.name) {
		j.mail = true
		j.replay, j.err = j.room.unacknowledged(ctx, c.speaks, j.at)
	}
}

// finish sends first and, for each room joined, what was missed and what was said since: all in one write
// if it fits. first is called when nothing can change any more.
func (c *Conn) finish(joined []*joining, first func() []byte) {
	size := 0
	for _, j := range joined {
		size += len(j.replay.buf)
	}
	if size > 0 && !c.waitReplay(size) {
		return
	}
	c.cork()
	defer c.uncork()
	for !c.settle(joined, first) {
		for _, j := range joined {
			c.restart(j)
		}
	}
	for _, j := range joined {
		if j.m != nil && j.mail && j.replay.n > 0 && !j.replay.complete {
			// More mail than one replay holds: it comes back for the rest.
			c.hub.start(func() {
				if c.waitDrained() {
					c.close(DisconnectSlow.after(100*time.Millisecond, time.Second))
				}
			})
		}
	}
}

// settle hands everything over, or reports that a room had more to say meanwhile than is held.
func (c *Conn) settle(joined []*joining, first func() []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.departed {
		return true
	}
	for _, j := range joined {
		if j.m != nil && j.m.held != nil && j.m.held.over {
			return false
		}
	}
	line, _ := c.proto.(*socketIO)
	moved := line != nil && line.enter(joined)
	if b := first(); len(b) > 0 {
		c.sendLocked(piece{buf: b, frames: 1, replay: true})
	}
	if moved {
		if b := line.positionEvent(); b != nil {
			c.sendLocked(piece{buf: b, frames: 1, replay: true})
		}
	}
	for _, j := range joined {
		if j.m == nil || j.m.held == nil {
			continue
		}
		if j.replay.n > 0 {
			c.handLocked(j.m, piece{buf: j.replay.buf, frames: j.replay.n, replay: true}, j.replay.end(j.at), nil)
			if j.room.letters() {
				j.m.owe(j.replay.first, j.replay.first+uint64(j.replay.n)-1)
			}
		}
		for _, p := range j.m.held.pieces {
			c.handLocked(j.m, p, j.m.held.at, nil)
		}
		j.m.owe(j.m.held.from, j.m.held.to)
		j.m.held = nil
	}
	return true
}

// restart joins a room afresh whose live messages were too many to hold.
func (c *Conn) restart(j *joining) {
	c.mu.Lock()
	over := j.m != nil && j.m.held != nil && j.m.held.over
	c.mu.Unlock()
	if !over {
		return
	}
	j.room.repin()
	c.forget(j.m)
	j.replay = replay{}
	var ok bool
	j.held = held{} // what was held is forgotten: forget has cut the old member off from it
	if j.m, j.at, ok = j.room.attach(c, &j.held); !ok {
		j.room.exit()
		j.m, j.err = nil, ErrClosed
		return
	}
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.hub.patience)
	defer cancel()
	if c.mailFollows(ctx, j); j.err != nil { // too late to refuse: what is sent first names the room
		c.hub.log.Warn("mail not read again", "client", c.id, "error", j.err)
		c.close(DisconnectSlow.after(100*time.Millisecond, 2*time.Second))
	}
}

// member returns the membership of a room by name, nil if there is none.
func (c *Conn) member(room string) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.rooms {
		if m.room.name == room {
			return m
		}
	}
	return nil
}

// forget ends a membership; false if somebody else did.
func (c *Conn) forget(m *member) bool {
	c.mu.Lock()
	if m.gone {
		c.mu.Unlock()
		return false
	}
	m.gone, m.held = true, nil
	for i := range c.rooms {
		if c.rooms[i] == m {
			last := len(c.rooms) - 1
			c.rooms[i] = c.rooms[last]
			c.rooms[last] = nil
			c.rooms = c.rooms[:last]
			break
		}
	}
	c.mu.Unlock()
	m.room.detach(m)
	return true
}

// since reads what a client that stands at since has missed before at. Not complete: it has to start afresh.
func (r *Room) since(ctx context.Context, speaks encoding, since, at Position) (replay, error) {
	h := r.hub
	if since.Epoch != at.Epoch || since.Offset > at.Offset {
		h.notRecovered.Add(1)
		return replay{}, nil
	}
	p, err := r.read(ctx, speaks, since.Offset, at)
	switch {
	case errors.Is(err, errBound), errors.Is(err, errGone):
		h.notRecovered.Add(1)
		return replay{}, nil
	case err != nil:
		return replay{}, err
	}
	h.recovered.Add(1)
	return p, nil
}

// unacknowledged reads the mail of a device that brings no Position: what its user has not acknowledged
// and is still kept, or as much of it from the oldest as one replay holds.
func (r *Room) unacknowledged(ctx context.Context, speaks encoding, at Position) (replay, error) {
	if at.Offset == 0 {
		return replay{complete: true}, nil
	}
	acked, err := r.hub.acked.get(ctx, r.name)
	if err != nil {
		return replay{}, err
	}
	for {
		p, err := r.read(ctx, speaks, acked, at)
		if errors.Is(err, errGone) {
			page, err := r.stream().Read(ctx, r.name, Query{After: acked, Limit: 1})
			if err != nil {
				return replay{}, err
			}
			if page.Epoch != at.Epoch || page.First <= acked+1 {
				return replay{}, nil // another life since the room was entered: its fill will say it
			}
			acked = page.First - 1
			continue
		}
		if errors.Is(err, errBound) {
			err = nil
		}
		return p, err
	}
}

// read reads the messages above after up to at, all of them or errGone; with errBound those that one
// replay holds.
func (r *Room) read(ctx context.Context, speaks encoding, after uint64, at Position) (p replay, err error) {
	l := &r.hub.limits
	for next := after + 1; next <= at.Offset; {
		page, err := r.stream().Read(ctx, r.name, Query{After: next - 1, Limit: min(int(at.Offset-next)+1, fillPage)})
		if err != nil {
			return replay{}, err
		}
		if page.Epoch != at.Epoch || len(page.Messages) == 0 {
			return replay{}, errGone
		}
		size := 0
		for i := range page.Messages {
			size += pushMost(r.name, &page.Messages[i])
		}
		p.buf = slices.Grow(p.buf, min(size, l.ReplayBytes))
		for i := range page.Messages {
			m := &page.Messages[i]
			if next > at.Offset {
				break
			}
			if m.Offset != next { // also where all up to at has been trimmed meanwhile
				return replay{}, errGone
			}
			if p.n == 0 {
				p.first = m.Offset
			}
			if p.n >= l.ReplayFrames || len(p.buf)+len(m.Payload) > l.ReplayBytes && p.n > 0 {
				return p, errBound
			}
			p.buf = speaks.plain().appendPush(p.buf, r.name, page.Epoch, m) // for one socket only: not worth compressing
			p.n++
			next++
		}
	}
	p.complete = true
	return p, nil
}

// waitReplay waits until the socket has taken earlier replays, so that it never holds more than one
// allowance of them. False if it is being closed.
func (c *Conn) waitReplay(size int) bool {
	c.mu.Lock()
	fits := c.queue.replay == 0 || c.queue.replay+size <= c.hub.limits.ReplayBytes
	c.mu.Unlock()
	return fits || c.waitDrained()
}
