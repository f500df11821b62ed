package main

import (
	"bytes"
	cryptorand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A position is a place in a room's stream.
type position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// A frame is what a text frame of the hub says.
type frame struct {
	Ping  int64
	Reply json.Number
	OK    bool
	Meta  struct {
		position
		Room, ID string
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}

	n      int  // which of our messages it is; -1: none
	intact bool // the payload is byte for byte what was sent
}

// A ledger knows what was sent and when, and how to recognise it. Safe for concurrent use.
type ledger struct {
	messages int
	interval time.Duration
	// recognise tells which of our messages a push is (-1: none), and whether nothing in it was changed.
	recognise func(action string, payload json.RawMessage) (n int, intact bool)

	start    atomic.Int64    // of the schedule, nanoseconds; 0: not yet
	place    []atomic.Uint64 // by message: the Offset that its sender or its first reader was told; 0: neither yet
	accepted []atomic.Bool   // by message: its publisher was told that it is stored
	received atomic.Int64    // (client, message) pairs, each once
	away     atomic.Int64    // clients that are on their way back

	mu     sync.RWMutex
	frames map[string]*frame // decoded ones: everybody gets the same bytes

	delay [16]delays // sharded, so that readers do not wait for each other
}

type delays struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram
}

const (
	framesKept  = 4096     // decoded frames in memory
	longestWait = 60 * 1e6 // microseconds that the histogram can hold
)

func newLedger(messages int, rate float64) *ledger {
	l := &ledger{
		messages: messages, interval: time.Duration(float64(time.Second) / rate),
		place: make([]atomic.Uint64, messages), accepted: make([]atomic.Bool, messages), frames: map[string]*frame{},
	}
	for i := range l.delay {
		l.delay[i].histogram = hdrhistogram.New(1, longestWait, 3)
	}
	return l
}

// due is when message n had to be sent, whether or not it was.
func (l *ledger) due(n int) time.Time {
	return time.Unix(0, l.start.Load()).Add(time.Duration(n) * l.interval)
}

// decode reads a frame. Frames that everybody gets are read once.
func (l *ledger) decode(text []byte) (*frame, error) {
	l.mu.RLock()
	f := l.frames[string(text)]
	l.mu.RUnlock()
	if f != nil {
		return f, nil
	}
	f = &frame{n: -1}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	if f.Data.Action == "" || f.Meta.Offset == 0 {
		return f, nil
	}
	f.n, f.intact = l.recognise(f.Data.Action, f.Data.Payload)
	l.mu.Lock()
	if len(l.frames) >= framesKept {
		clear(l.frames)
	}
	l.frames[string(text)] = f
	l.mu.Unlock()
	return f, nil
}

// agree tells whether everybody who saw message n saw it at the same place.
func (l *ledger) agree(n int, offset uint64) bool {
	return l.place[n].CompareAndSwap(0, offset) || l.place[n].Load() == offset
}

func (l *ledger) record(client int, d time.Duration) {
	s := &l.delay[client%len(l.delay)]
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.histogram.RecordValue(min(max(d.Microseconds(), 1), longestWait)) // within its bounds
}

func (l *ledger) delays() *hdrhistogram.Histogram {
	all := hdrhistogram.New(1, longestWait, 3)
	for i := range l.delay {
		l.delay[i].mu.Lock()
		all.Merge(l.delay[i].histogram)
		l.delay[i].mu.Unlock()
	}
	return all
}

func (l *ledger) acceptedCount() (count int) {
	for i := range l.accepted {
		if l.accepted[i].Load() {
			count++
		}
	}
	return count
}

// broadcasts are the messages of fanout and recover: their payload names run and number, and is compared whole.
type broadcasts struct {
	run string
	pad string
}

const broadcastAction = "loadtest"

func newBroadcasts(pad int) broadcasts {
	return broadcasts{run: newID(), pad: strings.Repeat("~", pad)}
}

func (b broadcasts) payload(n int) json.RawMessage {
	return json.RawMessage(`{"run":"` + b.run + `","n":` + strconv.Itoa(n) + `,"pad":"` + b.pad + `"}`)
}

func (b broadcasts) recogniser(messages int) func(string, json.RawMessage) (int, bool) {
	return func(action string, payload json.RawMessage) (int, bool) {
		var p struct {
			Run string
			N   int
		}
		if action != broadcastAction || json.Unmarshal(payload, &p) != nil || p.Run != b.run || p.N < 0 || p.N >= messages {
			return -1, false
		}
		return p.N, bytes.Equal(payload, b.payload(p.N))
	}
}

func newID() string {
	var b [8]byte
	_, _ = cryptorand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
