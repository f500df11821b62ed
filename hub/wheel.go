package hub

import (
	"sync"
	"sync/atomic"
	"time"
)

const wheelSlots = 256

// A wheel is the one clock for heartbeats, expiry and settled announcements: a ring of slots, each a
// list of what is due when the hand comes by. It costs nothing per socket but two pointers.
type wheel struct {
	tick time.Duration
	now  atomic.Int64 // Unix nanoseconds at the last tick: the cheap clock of the write path

	mu    sync.Mutex
	slots [wheelSlots]entry // sentinels of ring lists
	hand  int64             // ticks since the start
	count int

	stop chan struct{}
	done chan struct{}
}

// An entry is one thing that waits in the wheel; it lives inside its owner.
type entry struct {
	prev, next *entry
	due        int64 // Unix nanoseconds
	dropped    bool
	owner      alarm // fixed
}

// An alarm is told when its entry is due. It returns when it wants to be told again, 0 for never.
// It must not block.
type alarm interface {
	ring(now int64) (next int64)
}

func newWheel(tick time.Duration) *wheel {
	w := &wheel{tick: tick, stop: make(chan struct{}), done: make(chan struct{})}
	for i := range w.slots {
		w.slots[i].prev, w.slots[i].next = &w.slots[i], &w.slots[i]
	}
	w.now.Store(time.Now().UnixNano())
	return w
}

// run turns the wheel until close.
func (w *wheel) run() {
	defer close(w.done)
	t := time.NewTicker(w.tick)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
			w.turn(time.Now().UnixNano())
		}
	}
}

func (w *wheel) close() {
	close(w.stop)
	<-w.done
}

// turn rings everything that is due by now.
func (w *wheel) turn(now int64) {
	last := w.now.Load()
	w.now.Store(now)
	steps := max(1, min((now-last)/int64(w.tick), wheelSlots))
	for ; steps > 0; steps-- {
		for _, e := range w.advance(now) {
			if next := e.owner.ring(now); next > 0 {
				w.set(e, next)
			}
		}
	}
}

// advance moves the hand one slot on and takes out what is due there.
func (w *wheel) advance(now int64) (due []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hand++
	slot := &w.slots[w.hand%wheelSlots]
	for e := slot.next; e != slot; {
		next := e.next
		w.unlink(e)
		if e.due <= now {
			due = append(due, e)
		} else {
			w.link(e) // the hand came a little early
		}
		e = next
	}
	return due
}

// set makes e ring at the time due, or at the next tick if that has passed; an earlier appointment of
// e is forgotten. After drop it does nothing.
func (w *wheel) set(e *entry, due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.dropped {
		return
	}
	w.unlink(e)
	e.due = due
	w.link(e)
}

// link puts e into the slot of its time, or one revolution less a slot away, where it is looked at again.
func (w *wheel) link(e *entry) {
	ticks := max(1, min((e.due-w.now.Load())/int64(w.tick)+1, wheelSlots-1))
	slot := &w.slots[(w.hand+ticks)%wheelSlots]
	e.prev, e.next = slot.prev, slot
	e.prev.next, slot.prev = e, e
	w.count++
}

// drop takes e out for good: it cannot be set again. A ring under way may still be seen.
func (w *wheel) drop(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(e)
	e.dropped = true
}

func (w *wheel) unlink(e *entry) {
	if e.prev == nil {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	w.count--
}
