package hub

import (
	"context"
	"sync"
	"time"
)

// A Writing is a run of messages of one mailbox that a socket of its owner took, or was too slow to take.
type Writing struct {
	Room     string
	From, To uint64    // Offsets, both included
	Slow     bool      // the socket was closed with DisconnectSlow before it took them
	At       time.Time // of the first of what was joined in this run
}

// A witness is a Mail that wants to know what became of its messages at the sockets of this node: taken means that the
// kernel took the bytes, not that anybody read them. It is told in batches, some hundred milliseconds late, and again
// after an error; what a process that dies had not told is not known.
type witness interface {
	Written(ctx context.Context, all []Writing) error
}

const (
	tellEvery  = 200 * time.Millisecond // writings are told together
	tellRetry  = 2 * time.Second        // after an error
	mostTold   = 1000                   // writings told at once
	mostUntold = 64 << 10               // kept while nobody takes them; what is beyond is not known afterwards
)

// writings wait to be told.
type writings struct {
	witness witness // nil: nobody wants to know

	mu      sync.Mutex // guards what follows; nothing is locked under it
	waiting []Writing
	running bool
}

// note keeps a writing to be told. It does not block.
func (h *Hub) note(w Writing) {
	n := &h.writings
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.waiting) - 1; last >= 0 {
		if l := &n.waiting[last]; l.Room == w.Room && l.Slow == w.Slow && l.From <= w.From && w.From <= l.To+1 {
			l.To = max(l.To, w.To)
			return
		}
	}
	if len(n.waiting) >= mostUntold {
		return
	}
	n.waiting = append(n.waiting, w)
	if !n.running {
		n.running = h.start(h.tellWritten)
	}
}

// tellWritten tells what waits until nothing waits, and what is left when the hub ends.
func (h *Hub) tellWritten() {
	n := &h.writings
	pause := tellEvery
	for h.sleep(pause) {
		if pause = tellEvery; !h.tellSome() {
			pause = tellRetry
		}
		n.mu.Lock()
		if len(n.waiting) == 0 {
			n.waiting, n.running = nil, false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
	}
}

// lastWords tells what waits when every socket is gone.
func (h *Hub) lastWords() {
	if h.writings.witness == nil {
		return
	}
	for {
		h.writings.mu.Lock()
		left := len(h.writings.waiting)
		h.writings.mu.Unlock()
		if left == 0 || !h.tellSome() {
			return
		}
	}
}

// tellSome tells the oldest ones; false: nobody took them, and they wait again.
func (h *Hub) tellSome() bool {
	n := &h.writings
	n.mu.Lock()
	some := n.waiting[:min(len(n.waiting), mostTold)]
	some = some[:len(some):len(some)]
	n.waiting = n.waiting[len(some):]
	n.mu.Unlock()
	if len(some) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), h.patience)
	defer cancel()
	err := protect(func() error { return n.witness.Written(ctx, some) })
	if err == nil {
		return true
	}
	h.log.Warn("what became of mail is told later", "writings", len(some), "error", err)
	n.mu.Lock()
	n.waiting = append(some, n.waiting...)
	n.mu.Unlock()
	return false
}

// letters tells whether what is said in the room is mail whose writing somebody wants to know.
func (r *Room) letters() bool { return r.hub.writings.witness != nil && r.hub.isMail(r.rule) }

// owed is mail that was handed to a socket, until the kernel has taken all that was handed to it.
type owed struct {
	room     string
	from, to uint64
}

// owe notes that the messages from…to of the member's mailbox were handed to its socket. Only its owner's sockets count:
// staff who looks into a mailbox is not its owner. The caller holds c.mu.
func (m *member) owe(from, to uint64) {
	c := m.conn
	if from == 0 || to < from || c.dead || !c.session.Load().owns(m.room.rule, m.room.name) {
		return
	}
	if c.closing {
		if c.reason.Code == DisconnectSlow.Code {
			c.hub.note(Writing{Room: m.room.name, From: from, To: to, Slow: true, At: time.Now()})
		}
		return
	}
	if c.owed == nil {
		c.owed = &owed{m.room.name, from, to}
	} else {
		c.owed.from, c.owed.to = min(c.owed.from, from), max(c.owed.to, to)
	}
	c.paidLocked()
}

// paidLocked tells of the mail that was handed over once nothing waits for the socket any more.
func (c *Conn) paidLocked() {
	if c.owed != nil && len(c.queue.pieces) == 0 && !c.flushing && !c.corked && !c.dead {
		c.tellOwedLocked(false)
	}
}

func (c *Conn) tellOwedLocked(slow bool) {
	o := c.owed
	c.owed = nil
	c.hub.note(Writing{Room: o.room, From: o.from, To: o.to, Slow: slow, At: time.Now()})
}

// span finds the Offsets of the last n messages of a batch; 0, 0: none of them is kept.
func (b *batch) span(n int) (from, to uint64) {
	for _, s := range b.said[len(b.said)-n:] {
		if s.m.Offset == 0 {
			continue
		}
		if from == 0 {
			from = s.m.Offset
		}
		to = s.m.Offset
	}
	return from, to
}
