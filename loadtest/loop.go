package main

import (
	"container/heap"
	"sync"
	"time"
)

// A loop is one goroutine that owns many lines: everything about a line, its timers and its client happens on it,
// one thing at a time, so none of them needs a lock.
type loop struct {
	poller  *poller
	lines   map[*line]struct{} // owned by the loop
	timers  timers             // owned by the loop
	buffer  []byte             // owned by the loop: what was read last
	done    chan struct{}      // closed when the goroutine has ended
	streams sync.WaitGroup     // goroutines of lines without a descriptor

	mu     sync.Mutex // guards what follows
	mail   []func()
	ending bool
	over   bool // the poller is closed
}

func newLoop() (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{poller: p, lines: map[*line]struct{}{}, buffer: make([]byte, 256<<10), done: make(chan struct{})}
	go l.run()
	return l, nil
}

// post has f called on the loop, soon; after close it does nothing. Safe for concurrent use.
func (l *loop) post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.mail = append(l.mail, f)
	if len(l.mail) == 1 {
		l.poller.wake()
	}
}

// ask calls f on the loop and waits for it.
func (l *loop) ask(f func()) {
	done := make(chan struct{})
	l.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-l.done:
	}
}

// later has f called on the loop when d is over. Called on the loop.
func (l *loop) later(d time.Duration, f func()) *timer {
	t := &timer{at: time.Now().Add(d), f: f}
	heap.Push(&l.timers, t)
	return t
}

// stop keeps t from ringing. Called on the loop.
func (l *loop) stop(t *timer) {
	if t != nil && t.index >= 0 && t.index < len(l.timers) && l.timers[t.index] == t {
		heap.Remove(&l.timers, t.index)
	}
}

func (l *loop) run() {
	defer close(l.done)
	for {
		l.mu.Lock()
		mail, ending := l.mail, l.ending
		l.mail = nil
		l.mu.Unlock()
		if ending {
			break
		}
		for _, f := range mail {
			f()
		}
		now := time.Now()
		for len(l.timers) > 0 && !l.timers[0].at.After(now) {
			heap.Pop(&l.timers).(*timer).f()
		}
		wait := time.Minute
		if len(l.timers) > 0 {
			wait = max(time.Until(l.timers[0].at), 0)
		}
		l.poller.wait(l, wait)
	}
	for c := range l.lines {
		c.finish(nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.poller.close()
}

// close breaks the loop's lines off without telling their clients, and waits for everything it started.
func (l *loop) close() {
	l.mu.Lock()
	if !l.over {
		l.ending = true
		l.poller.wake()
	}
	l.mu.Unlock()
	<-l.done
	l.streams.Wait()
}

type timer struct {
	at    time.Time
	f     func()
	index int
}

type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i]; t[i].index, t[j].index = i, j }
func (t *timers) Push(x any)        { x.(*timer).index = len(*t); *t = append(*t, x.(*timer)) }

func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last], *t, x.index = nil, (*t)[:last], -1
	return x
}
