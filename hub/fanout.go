package hub

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxBatchFrames = 512
	maxBatchBytes  = 128 << 10
	maxFanFrames   = 8192             // waiting for the fan-out; above it a room reads its stream instead
	maxFanBytes    = 8 << 20          // of payload
	spreadFrom     = 4                // chunks from which a fan-out is spread over the cores
	spotMembers    = 4                // so few are told by whoever brings the message,
	spotPause      = time.Millisecond // unless it comes that soon after another
)

// fan is what waits to be said in a room. It is guarded by Room.mu.
type fan struct {
	waiting []said
	bytes   int
	running bool
	spoke   int64         // Unix ns of the last message that went to few
	space   chan struct{} // closed when nothing waits any more; made on demand
}

type said struct {
	epoch string
	m     Message
}

func (f *fan) full() bool { return len(f.waiting) >= maxFanFrames || f.bytes >= maxFanBytes }

func (f *fan) wake() {
	if f.space != nil {
		close(f.space)
		f.space = nil
	}
}

// sayLocked numbers m and lets it go out: at once if nothing goes out now, else with what waits. True, which it is only
// with spot: the caller calls fanOut as soon as it holds no lock. That spares a small room's message a goroutine of its
// own; in a burst one is worth it, for it joins what follows.
func (r *Room) sayLocked(epoch string, m Message, spot bool) bool {
	r.seq++
	r.fan.waiting = append(r.fan.waiting, said{epoch, m})
	r.fan.bytes += len(m.Payload)
	if r.fan.running {
		return false
	}
	if spot && r.size <= spotMembers && r.rule.Window == 0 {
		now := time.Now().UnixNano()
		lone := now-r.fan.spoke > int64(spotPause)
		r.fan.spoke = now
		if lone {
			r.fan.running = true
			return true
		}
	}
	r.fan.running = r.hub.start(r.fanOut)
	return false
}

// fanOut says what waits, batch by batch, and ends when nothing waits.
func (r *Room) fanOut() {
	defer func() {
		if p := recover(); p != nil {
			r.hub.log.Error("panic in a fan-out", "room", r.name, "panic", panicKind(p), "stack", string(debug.Stack()))
			r.mu.Lock()
			r.fan.running = false
			r.mu.Unlock()
		}
	}()
	for {
		r.mu.Lock()
		if len(r.fan.waiting) == 0 || r.state == roomDead {
			r.fan.running = false
			r.fan.waiting, r.fan.bytes = nil, 0
			r.fan.wake()
			r.mu.Unlock()
			return
		}
		batch := r.cutLocked()
		chunks := r.chunks // only ever appended to
		speak := r.speak
		r.mu.Unlock()
		batch.encode(r.name, speak)
		batch.spread(r.hub, chunks)
		r.mu.Lock()
		for i := range batch.said {
			if s := &batch.said[i]; s.m.Offset > 0 {
				r.told = Position{s.epoch, s.m.Offset}
			}
		}
		r.mu.Unlock()
		if r.rule.Window > 0 { // the first went out at once; what comes now goes together
			r.hub.sleep(r.rule.Window)
		}
	}
}

// A batch is a run of messages that goes to every member in one write each. It is encoded once for each
// encoding that members need.
type batch struct {
	last  uint64 // number of its last message
	said  []said
	at    Position // of its last message that has an Offset
	mail  bool     // letters, of whose writing somebody wants to know
	forms [encodings]form
	worn  wardrobe
}

// A form is a batch in one encoding. It is empty where no member needs it.
type form struct {
	buf  []byte // frames laid end to end
	ends []int  // where each message ends in buf
}

func (r *Room) cutLocked() *batch {
	n, size := 0, 0
	for n < len(r.fan.waiting) && n < maxBatchFrames && (n == 0 || size < maxBatchBytes) {
		size += len(r.fan.waiting[n].m.Payload)
		n++
	}
	b := &batch{said: r.fan.waiting[:n:n], last: r.seq - uint64(len(r.fan.waiting)-n), mail: r.letters()}
	r.fan.waiting = r.fan.waiting[n:]
	r.fan.bytes -= size
	for i := n - 1; i >= 0; i-- {
		if s := &b.said[i]; s.m.Offset > 0 {
			b.at = Position{s.epoch, s.m.Offset}
			break
		}
	}
	return b
}

// encode encodes the batch for the members that speak counts: whoever joins later is not meant.
func (b *batch) encode(room string, speak [encodings]int32) {
	size := 0
	for i := range b.said {
		size += pushMost(room, &b.said[i].m)
	}
	for e, n := range speak {
		if n == 0 {
			continue
		}
		f := form{buf: make([]byte, 0, size), ends: make([]int, len(b.said))}
		for i := range b.said {
			f.buf = encoding(e).appendPush(f.buf, room, b.said[i].epoch, &b.said[i].m)
			f.ends[i] = len(f.buf)
		}
		b.forms[e] = f
	}
}

// after returns the frames numbered above from, as a member that speaks e hears them.
func (b *batch) after(e encoding, from uint64) piece {
	if from >= b.last {
		return piece{}
	}
	f := &b.forms[e]
	first := b.last - uint64(len(f.ends)) + 1
	if from < first {
		return piece{buf: f.buf, frames: len(f.ends)}
	}
	skip := int(from - first + 1)
	return piece{buf: f.buf[f.ends[skip-1]:], frames: len(f.ends) - skip}
}

// spread hands the batch to the members of all chunks and returns when each has it, in its socket or in
// its queue.
func (b *batch) spread(h *Hub, chunks []*chunk) {
	if len(chunks) < spreadFrom {
		b.hand(h, chunks, new(atomic.Int64))
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(chunks)) - 1 {
		wg.Go(func() { b.hand(h, chunks, &next) })
	}
	b.hand(h, chunks, &next)
	wg.Wait()
}

func (b *batch) hand(h *Hub, chunks []*chunk, next *atomic.Int64) {
	s := seats.Get().(*[]*member)
	defer seats.Put(s)
	frames := 0
	for {
		i := int(next.Add(1)) - 1
		if i >= len(chunks) {
			break
		}
		for _, m := range chunks[i].snapshot(s) {
			frames += m.hear(b)
		}
	}
	h.delivered.Add(uint64(frames))
}

// hear hands a batch to one member; it tells how many frames it took.
func (m *member) hear(b *batch) int {
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.gone || c.closing {
		return 0
	}
	p := b.after(c.speaks, m.from)
	if p.frames == 0 {
		return 0
	}
	var from, to uint64
	if b.mail {
		from, to = b.span(int(min(b.last-m.from, uint64(len(b.said)))))
	}
	m.from = b.last
	if m.held != nil {
		m.held.add(p, &c.hub.limits)
		if b.at.Offset > 0 {
			m.held.at = b.at
		}
		if m.held.to = max(m.held.to, to); m.held.from == 0 {
			m.held.from = from
		}
		return p.frames
	}
	c.handLocked(m, p, b.at, &b.worn)
	if b.mail {
		m.owe(from, to)
	}
	return p.frames
}

// handLocked hands frames of a room to the member's socket: what was said in it up to at. w is that of the batch that
// they are of; nil: they are for this socket alone. The caller holds c.mu.
func (c *Conn) handLocked(m *member, p piece, at Position, w *wardrobe) {
	if l, ok := c.proto.(*socketIO); ok {
		l.hand(c, m, p, at, w)
		return
	}
	c.sendLocked(p)
}

// add holds p back. What exceeds half of a socket's queue is forgotten, and over says so.
func (h *held) add(p piece, l *Limits) {
	h.bytes += len(p.buf)
	h.frames += p.frames
	if h.over = h.over || h.bytes > l.QueueBytes/2 || h.frames > l.QueueFrames/2; h.over {
		h.pieces = nil
		return
	}
	h.pieces = append(h.pieces, p)
}
