package hub

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"hash/maphash"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	brokerShards = 64
	seenMost     = 100_000        // Message.IDs remembered
	seenAge      = 24 * time.Hour // … and for how long
	sweepEvery   = time.Minute
	idleAge      = time.Hour // a stream without history and without members is forgotten after it
	streamsMost  = 100_000   // streams without members: above it the longest silent ones are forgotten
	bytesMost    = 256 << 20 // of all histories: above it the same
	streamMost   = 4 << 20   // bytes of one room's history: as much as one replay holds
	messageCost  = 256       // bytes that a kept message takes besides its payload, about
)

// A MemoryBroker holds the streams of one node in memory. Streams outlive a clean stop: Save writes
// them, NewMemoryBroker reads them back. After a crash every Epoch is new.
type MemoryBroker struct {
	shards  [brokerShards]streamShard
	seed    maphash.Seed
	deliver func(room, epoch string, m Message) // set once, before the first message
	seen    seenIDs
	swept   atomic.Int64 // Unix ns of the last sweep
	bytes   atomic.Int64 // of all histories
}

type streamShard struct {
	mu         sync.Mutex
	streams    map[string]*stream
	subscribed map[string]string // to the Epoch that a room without a stream was said to have
	epoch      string            // of streams that begin now; another one whenever a stream was forgotten
	closed     bool
}

// A stream is what was said in one room: the newest messages, in Offset order without holes.
type stream struct {
	mu    sync.Mutex // held over append and announcement, so that both have one order; nobody waits for it under a shard's
	epoch string
	head  uint64
	keep  Keep
	kept  []kept       // the last ones up to head
	bytes int          // of kept
	last  atomic.Int64 // Unix ns: when something was said, or when the last member left
	gone  bool         // forgotten: look again
}

type kept struct {
	m  Message
	at time.Time // when it was appended: what it was said at is the publisher's word
}

// NewMemoryBroker returns a broker with the streams that Save wrote, or an empty one for nil. Whoever
// restores makes sure that a saved form is used once: after a crash, old positions must not come back.
func NewMemoryBroker(saved io.Reader) (*MemoryBroker, error) {
	b := &MemoryBroker{seed: maphash.MakeSeed(), deliver: func(string, string, Message) {}}
	b.swept.Store(time.Now().UnixNano())
	epoch := newEpoch()
	for i := range b.shards {
		b.shards[i].streams = make(map[string]*stream)
		b.shards[i].subscribed = make(map[string]string)
		b.shards[i].epoch = epoch
	}
	b.seen.at = make(map[seenKey]seenID)
	if saved != nil {
		if err := b.restore(saved); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (b *MemoryBroker) shard(room string) *streamShard {
	return &b.shards[maphash.String(b.seed, room)%brokerShards]
}

// lock returns the stream of a room, locked; if there is none, nil and the Epoch that it will have, or a
// new stream with make.
func (b *MemoryBroker) lock(room string, make bool) (s *stream, epoch string, err error) {
	sh := b.shard(room)
	for {
		sh.mu.Lock()
		if sh.closed {
			sh.mu.Unlock()
			return nil, "", ErrClosed
		}
		s := sh.streams[room]
		if s == nil {
			epoch := sh.subscribed[room]
			if epoch == "" {
				epoch = sh.epoch
			}
			if !make {
				sh.mu.Unlock()
				return nil, epoch, nil
			}
			s = &stream{epoch: epoch}
			sh.streams[room] = s
		}
		sh.mu.Unlock()
		s.mu.Lock()
		if !s.gone {
			return s, s.epoch, nil
		}
		s.mu.Unlock()
	}
}

// Publish implements Broker. The payload must not change afterwards.
func (b *MemoryBroker) Publish(_ context.Context, room string, m Message, keep Keep) (Position, error) {
	s, epoch, err := b.lock(room, true)
	if err != nil {
		return Position{}, err
	}
	now := time.Now()
	at, repeated := b.append(s, room, epoch, m, keep, now)
	s.mu.Unlock()
	if !repeated {
		b.maybeSweep(now)
	}
	return at, nil
}

func (b *MemoryBroker) append(s *stream, room, epoch string, m Message, keep Keep, now time.Time) (at Position, repeated bool) {
	if m.ID == "" {
		m.ID = newMessageID()
	} else if !m.Fresh {
		key := seenKey{room, m.ID}
		if at, known := b.seen.position(key, now); known && at.Epoch == epoch {
			return at, true
		}
		defer func() { b.seen.add(key, at, now) }()
	}
	s.head++
	m.Offset, m.Fresh = s.head, false
	s.keep = keep
	s.last.Store(now.UnixNano())
	before := s.bytes
	if keep.Size > 0 {
		s.kept = append(s.kept, kept{m, now})
		s.bytes += m.cost()
	}
	s.trim(now)
	b.bytes.Add(int64(s.bytes - before))
	b.deliver(room, epoch, m)
	return Position{epoch, s.head}, false
}

func newMessageID() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// cost is about how many bytes it takes to keep m.
func (m *Message) cost() int { return messageCost + len(m.Payload) + len(m.Action) }

// trim drops what is over the keep.
func (s *stream) trim(now time.Time) {
	drop := 0
	oldest := now.Add(-s.keep.Age)
	for drop < len(s.kept) {
		k := &s.kept[drop]
		if len(s.kept)-drop <= s.keep.Size && s.bytes <= streamMost && (s.keep.Age <= 0 || !k.at.Before(oldest)) {
			break
		}
		s.bytes -= k.m.cost()
		drop++
	}
	clear(s.kept[:drop])
	if s.kept = s.kept[drop:]; len(s.kept) == 0 {
		s.kept = nil
	}
}

// Say implements Broker.
func (b *MemoryBroker) Say(_ context.Context, room string, m Message) error {
	sh := b.shard(room)
	sh.mu.Lock()
	s, closed := sh.streams[room], sh.closed
	sh.mu.Unlock()
	if closed {
		return ErrClosed
	}
	m.Offset = 0
	if s == nil {
		b.deliver(room, "", m)
		return nil
	}
	s.mu.Lock()
	b.deliver(room, s.epoch, m)
	s.mu.Unlock()
	return nil
}

// Heads implements Stream.
func (b *MemoryBroker) Heads(_ context.Context, rooms []string) ([]Position, error) {
	list := make([]Position, len(rooms))
	for i, room := range rooms {
		s, epoch, err := b.lock(room, false)
		if err != nil {
			return nil, err
		}
		list[i].Epoch = epoch
		if s == nil {
			continue
		}
		list[i].Offset = s.head
		s.mu.Unlock()
	}
	return list, nil
}

// Read implements Stream.
func (b *MemoryBroker) Read(_ context.Context, room string, q Query) (Page, error) {
	s, epoch, err := b.lock(room, false)
	if err != nil {
		return Page{}, err
	}
	if s == nil {
		return Page{Epoch: epoch, First: 1}, nil
	}
	defer s.mu.Unlock()
	before := s.bytes
	s.trim(time.Now())
	b.bytes.Add(int64(s.bytes - before))
	p := Page{Epoch: epoch, First: s.head - uint64(len(s.kept)) + 1, Head: s.head}
	from := 0
	if q.After >= p.First {
		from = int(min(q.After-p.First+1, uint64(len(s.kept))))
	}
	list := s.kept[from:]
	if n := max(0, q.Limit); len(list) > n {
		if q.Newest {
			list = list[len(list)-n:]
		} else {
			list = list[:n]
		}
	}
	p.Messages = make([]Message, len(list))
	for i := range list {
		p.Messages[i] = list[i].m
	}
	return p, nil
}

// Listen implements Broker.
func (b *MemoryBroker) Listen(deliver func(room, epoch string, m Message)) { b.deliver = deliver }

// Subscribe implements Broker: here everything is delivered, and who has no members passes it over. It keeps
// the stream from being forgotten.
func (b *MemoryBroker) Subscribe(_ context.Context, room string) error {
	sh := b.shard(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return ErrClosed
	}
	sh.subscribed[room] = sh.epoch
	return nil
}

// Unsubscribe implements Broker.
func (b *MemoryBroker) Unsubscribe(room string) {
	sh := b.shard(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.subscribed, room)
	if s := sh.streams[room]; s != nil {
		s.last.Store(time.Now().UnixNano())
	}
}

// Close implements Broker. Save still works.
func (b *MemoryBroker) Close() error {
	for i := range b.shards {
		b.shards[i].mu.Lock()
		b.shards[i].closed = true
		b.shards[i].mu.Unlock()
	}
	return nil
}
