package hub

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fillPage  = 200                    // messages that a fill reads at once
	retryFrom = 100 * time.Millisecond // first pause after a read that failed
	retryTo   = 5 * time.Second        // longest: mail reaches connected users within it once its store is back
)

// ringAction is the empty action: what the Broker carries to tell that mail came. It is said to nobody.
const ringAction = ""

// deliver takes in what the Broker announces. It does not block.
// hear takes what the Broker announces. From a Cluster it comes with no lock held and one at a time, so that what goes to
// few is said on the spot.
func (h *Hub) hear(room, epoch string, m Message) {
	if h.cluster == nil {
		h.deliver(room, epoch, m)
	} else if r := h.room(room); r != nil && r.take(epoch, m, true) {
		r.fanOut()
	}
}

func (h *Hub) deliver(room, epoch string, m Message) {
	if r := h.room(room); r != nil {
		r.take(epoch, m, false)
	}
}

// take takes in one announcement. With spot it may leave the fan-out to the caller: then it is true.
func (r *Room) take(epoch string, m Message, spot bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state == roomStarting:
		if m.Offset > 0 {
			r.noted = Position{epoch, m.Offset}
		}
	case r.state == roomDead:
	case m.Offset == 0 && m.Action == ringAction:
		r.lagLocked()
	case m.Offset == 0:
		if !r.fan.full() { // what is not kept may be missed
			return r.sayLocked(epoch, m, spot)
		}
	case r.filling || r.fan.full():
		r.lagLocked() // the fill will come across it
	case epoch == r.at.Epoch && m.Offset <= r.at.Offset:
		if r.hub.roll != nil && m.Offset > r.filled { // heard once more, not read before it was heard: has the stream run backwards?
			r.hub.roll.doubt([]string{r.name})
		}
	case epoch == r.at.Epoch && m.Offset == r.at.Offset+1:
		r.at.Offset = m.Offset
		return r.sayLocked(epoch, m, spot)
	default:
		r.lagLocked()
	}
	return false
}

// lagLocked has the members' lack read from the stream: one reader a room, however often it is called.
func (r *Room) lagLocked() {
	if r.filling {
		r.again = true
		return
	}
	r.filling = r.hub.start(r.fill)
}

// fill reads what the members lack until nothing is lacking.
func (r *Room) fill() {
	pause := retryFrom
	for {
		r.mu.Lock()
		if r.state == roomDead {
			r.filling = false
			r.mu.Unlock()
			return
		}
		if r.fan.full() {
			if r.fan.space == nil {
				r.fan.space = make(chan struct{})
			}
			space := r.fan.space
			r.mu.Unlock()
			<-space // the fan-out never waits for a socket
			continue
		}
		at := r.at
		r.again = false
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(r.hub.ctx, r.hub.patience)
		var page Page
		err := protect(func() (err error) {
			page, err = r.stream().Read(ctx, r.name, Query{After: at.Offset, Limit: fillPage})
			return err
		})
		if err == nil && r.hub.cluster != nil && !r.hub.isMail(r.rule) && page.Epoch == at.Epoch && page.Head < at.Offset {
			if err = r.renew(ctx, at); err == nil {
				cancel()
				continue
			}
		}
		cancel()
		if err != nil {
			r.hub.log.Warn("room cannot read its stream", "room", r.name, "error", err)
			if !r.hub.sleep(pause) {
				r.mu.Lock()
				r.filling = false
				r.mu.Unlock()
				return
			}
			pause = min(2*pause, retryTo)
			continue
		}
		pause = retryFrom
		if r.takePage(page) {
			return
		}
	}
}

// takePage takes in what a fill has read; true when the members lack nothing more.
func (r *Room) takePage(p Page) (done bool) {
	r.mu.Lock()
	hole := false
	switch {
	case p.Epoch != r.at.Epoch:
		// Another life of the stream: its pushes carry the new Epoch, so nobody takes them for the old one's.
		r.at = Position{Epoch: p.Epoch}
		r.again, r.fresh = true, true
	case p.Head < r.at.Offset:
		// The stream forgot its end without a new Epoch. Nothing can be promised to the members.
		r.at.Offset, hole = p.Head, true
	case p.First > r.at.Offset+1 && p.Head > r.at.Offset:
		hole = !r.fresh
		r.at.Offset = p.First - 1
		r.again = true
	default:
		r.fresh = false
		for _, m := range p.Messages {
			if m.Offset == r.at.Offset+1 {
				r.at.Offset = m.Offset
				r.sayLocked(p.Epoch, m, false)
			}
		}
		r.again = r.again || len(p.Messages) > 0 && r.at.Offset < p.Head
	}
	r.filled = r.at.Offset
	done = !r.again
	r.filling = !done
	r.mu.Unlock()
	if hole { // a hole is always announced: they come back with their Positions and are told
		r.hub.log.Warn("room lost a part of its stream", "room", r.name)
		r.each(func(m *member) { m.conn.close(DisconnectSlow.after(100*time.Millisecond, 2*time.Second)) })
	}
	return done
}

// A batcher joins the questions of many callers: a lone one is asked at once, those that come while it
// is asked go together in the next. In a wave (waveRooms within waveSpan, say all phones of a node that come back) it
// waits for company, up to waveSpan, and no longer than the wave pauses for wavePause.
type batcher[T any] struct {
	hub *Hub
	ask func(ctx context.Context, rooms []string) ([]T, error)

	mu      sync.Mutex
	waiting []*questions[T]
	running bool
	crowd   [2]int    // rooms asked for in the waveSpan that began at since, and in the one before
	since   time.Time // zero: nobody has asked yet

	rooms, batches atomic.Uint64 // asked for so far, in so many batches
}

// questions are asked together. answers and err are written before done is closed.
type questions[T any] struct {
	rooms   []string
	answers []T
	err     error
	done    chan struct{}
}

const (
	batchRooms = 1000 // rooms asked for at once
	waveRooms  = 32
	waveSpan   = 100 * time.Millisecond
	wavePause  = 5 * time.Millisecond
)

func (b *batcher[T]) get(ctx context.Context, room string) (answer T, err error) {
	b.mu.Lock()
	last := len(b.waiting) - 1
	if last < 0 || len(b.waiting[last].rooms) >= batchRooms {
		b.waiting = append(b.waiting, &questions[T]{done: make(chan struct{})})
		last++
	}
	q := b.waiting[last]
	at := len(q.rooms)
	q.rooms = append(q.rooms, room)
	b.count(time.Now())
	if !b.running {
		b.running = b.hub.start(b.run)
	}
	running := b.running
	b.mu.Unlock()
	if !running {
		return answer, ErrClosed
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return answer, context.Cause(ctx)
	}
	if q.err == nil {
		answer = q.answers[at]
	}
	return answer, q.err
}

// count notes that a room is asked for now. The caller holds mu.
func (b *batcher[T]) count(now time.Time) {
	switch past := now.Sub(b.since); {
	case past >= 2*waveSpan:
		b.crowd, b.since = [2]int{}, now
	case past >= waveSpan:
		b.crowd, b.since = [2]int{0, b.crowd[0]}, b.since.Add(waveSpan)
	}
	b.crowd[0]++
}

// gather lets those come along who are about to ask: it steps back as long as the batch grows by that, which costs
// nothing with nobody else on the processors. In a wave it does so for wavePause at a time.
func (b *batcher[T]) gather() {
	began := time.Now()
	for before := -1; ; {
		b.mu.Lock()
		n := 0
		for _, q := range b.waiting {
			n += len(q.rooms)
		}
		wave := max(b.crowd[0], b.crowd[1]) >= waveRooms
		b.mu.Unlock()
		if n == before || n == 0 || n >= batchRooms {
			return
		}
		before = n
		if !wave {
			runtime.Gosched()
			continue
		}
		if time.Since(began) >= waveSpan {
			return
		}
		select {
		case <-time.After(wavePause):
		case <-b.hub.ctx.Done():
			return
		}
	}
}

func (b *batcher[T]) run() {
	for {
		b.gather()
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.waiting = nil
			b.running = false
			b.mu.Unlock()
			return
		}
		q := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.mu.Unlock()
		b.rooms.Add(uint64(len(q.rooms)))
		b.batches.Add(1)
		ctx, cancel := context.WithTimeout(b.hub.ctx, b.hub.patience)
		q.err = protect(func() (err error) {
			q.answers, err = b.ask(ctx, q.rooms)
			return err
		})
		cancel()
		if q.err == nil && len(q.answers) != len(q.rooms) {
			q.err = errAnswers
		}
		close(q.done)
	}
}

// protect turns a panic of somebody else's code into an error that names where, not with which data.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %s\n%s", panicKind(p), debug.Stack())
		}
	}()
	return f()
}
