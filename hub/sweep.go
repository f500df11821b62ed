package hub

import (
	"sort"
	"sync"
	"time"
)

// seenIDs remember which Message.ID got which Position, bounded by count and by age.
type seenIDs struct {
	mu    sync.Mutex
	at    map[seenKey]seenID
	queue []seenKey // oldest first
}

type seenKey struct{ room, id string }

type seenID struct {
	Position
	said time.Time
}

func (s *seenIDs) position(k seenKey, now time.Time) (Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.at[k]
	return seen.Position, ok && now.Sub(seen.said) < seenAge
}

func (s *seenIDs) add(k seenKey, at Position, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.at[k]; again { // its first was too old to count: its place in the queue will do
		s.at[k] = seenID{at, now}
		return
	}
	for len(s.queue) > 0 {
		oldest := s.queue[0]
		if len(s.queue) < seenMost && now.Sub(s.at[oldest].said) < seenAge {
			break
		}
		delete(s.at, oldest)
		s.queue[0] = seenKey{}
		s.queue = s.queue[1:]
	}
	s.at[k] = seenID{at, now}
	s.queue = append(s.queue, k)
}

// maybeSweep forgets, once in a while, streams that nobody can miss.
func (b *MemoryBroker) maybeSweep(now time.Time) {
	last := b.swept.Load()
	every := sweepEvery
	if b.bytes.Load() > bytesMost {
		every = time.Second
	}
	if now.UnixNano()-last < int64(every) || !b.swept.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	b.sweep(now)
}

func (b *MemoryBroker) sweep(now time.Time) {
	type silent struct {
		room string
		last int64
	}
	var rest []silent
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		for room, s := range sh.streams {
			_, subscribed := sh.subscribed[room]
			if subscribed || !s.mu.TryLock() { // one that is in use is not silent
				continue
			}
			before := s.bytes
			s.trim(now)
			b.bytes.Add(int64(s.bytes - before))
			if last := s.last.Load(); len(s.kept) == 0 && now.UnixNano()-last >= int64(idleAge) {
				sh.forget(room, s)
			} else {
				rest = append(rest, silent{room, last})
			}
			s.mu.Unlock()
		}
		sh.mu.Unlock()
	}
	sort.Slice(rest, func(i, j int) bool { return rest[i].last < rest[j].last })
	for i, r := range rest {
		if len(rest)-i <= streamsMost && b.bytes.Load() <= bytesMost*3/4 {
			return
		}
		sh := b.shard(r.room)
		sh.mu.Lock()
		if s := sh.streams[r.room]; s != nil && sh.subscribed[r.room] == "" && s.mu.TryLock() {
			b.bytes.Add(-int64(s.bytes))
			sh.forget(r.room, s)
			s.mu.Unlock()
		}
		sh.mu.Unlock()
	}
}

// forget drops a stream. What begins here from now on has another Epoch, so that nobody takes its Offsets
// for the old ones. The caller holds both locks.
func (sh *streamShard) forget(room string, s *stream) {
	s.gone = true
	delete(sh.streams, room)
	sh.epoch = newEpoch()
}
