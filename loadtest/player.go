package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	framesKept  = 4096     // decoded frames in memory, for each player
	longestWait = 60 * 1e6 // microseconds that a histogram can hold
	notesKept   = 5        // of the first errors met, each once
	secondsKept = 24 * 3600
)

// A player is a loop with the clients on it and what they found. Everything in it belongs to the loop.
type player struct {
	*loop
	crowd  *crowd
	random *rand.Rand
	phones []*phone
	frames map[string]*frame // decoded ones: everybody gets the same bytes
	found  findings
	beat   *timer
}

// findings are what a crowd found, added up. They travel as JSON.
type findings struct {
	Tally    tally            `json:"tally"`
	Closed   map[int]int      `json:"closed"` // sockets that the hub closed, by code
	Notes    []string         `json:"notes"`  // the first errors met
	Delay    *histogram       `json:"delay"`  // from when a message was due to when a client had it
	Connect  *histogram       `json:"connect"`
	Seconds  []second         `json:"seconds"`
	Places   []uint64         `json:"places"`            // by message: the Offset that its first reader saw
	Letters  map[string][]int `json:"letters,omitempty"` // by outTradeNo: how many ids each client that was told got
	Who      map[string][]int `json:"who,omitempty"`     // … and which clients they are
	Presence []int            `json:"presence,omitempty"`
}

// A second is what arrived in one second of a run.
type second struct {
	At       int        `json:"at"` // since the schedule began
	Received int        `json:"received"`
	Delay    *histogram `json:"delay"`
}

// A histogram of microseconds that travels as JSON.
type histogram struct{ *hdrhistogram.Histogram }

func newHistogram(digits int) *histogram {
	return &histogram{hdrhistogram.New(1, longestWait, digits)}
}

func (h *histogram) record(d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longestWait)) // within its bounds
}

// ms is a quantile (0 to 100) in milliseconds.
func (h *histogram) ms(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }

func (h *histogram) MarshalText() ([]byte, error) {
	return h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}

func (h *histogram) UnmarshalText(b []byte) (err error) {
	h.Histogram, err = hdrhistogram.Decode(b)
	return err
}

func newFindings(messages int) findings {
	return findings{
		Closed: map[int]int{}, Delay: newHistogram(3), Connect: newHistogram(3), Places: make([]uint64, messages),
		Letters: map[string][]int{}, Who: map[string][]int{},
	}
}

// add takes over what others found. A message that they saw at another place than these counts as altered.
func (f *findings) add(g findings) {
	f.Tally.add(g.Tally)
	for code, n := range g.Closed {
		f.Closed[code] += n
	}
	for _, n := range g.Notes {
		f.note(n)
	}
	f.Delay.Merge(g.Delay.Histogram)
	f.Connect.Merge(g.Connect.Histogram)
	for _, s := range g.Seconds {
		mine := f.second(s.At)
		mine.Received += s.Received
		mine.Delay.Merge(s.Delay.Histogram)
	}
	for n, at := range g.Places {
		switch {
		case f.Places[n] == 0:
			f.Places[n] = at
		case at != 0 && at != f.Places[n]:
			f.Tally.Altered++
		}
	}
	for number, ids := range g.Letters {
		f.Letters[number] = append(f.Letters[number], ids...)
		f.Who[number] = append(f.Who[number], g.Who[number]...)
	}
	f.Presence = append(f.Presence, g.Presence...)
}

func (f *findings) note(text string) {
	if len(f.Notes) < notesKept && !slices.Contains(f.Notes, text) {
		f.Notes = append(f.Notes, text)
	}
}

func (f *findings) second(at int) *second {
	for len(f.Seconds) <= min(at, secondsKept) {
		f.Seconds = append(f.Seconds, second{At: len(f.Seconds), Delay: newHistogram(2)})
	}
	return &f.Seconds[min(at, secondsKept)]
}

func newPlayer(c *crowd, number uint64) (*player, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	p := &player{
		loop: l, crowd: c, frames: map[string]*frame{}, found: newFindings(c.Messages),
		random: rand.New(rand.NewPCG(c.Seed, number)), //nolint:gosec // repeatable on purpose
	}
	l.ask(p.listen)
	return p, nil
}

// listen looks after silent lines, once a second.
func (p *player) listen() {
	now := time.Now()
	for _, f := range p.phones {
		if f.line != nil && f.patience > 0 && now.Sub(f.heardAt) > f.patience {
			f.line.finish(&ending{err: errSilence})
		}
	}
	p.beat = p.later(time.Second, p.listen)
}

// decode reads a frame with read. Frames that everybody gets are read once.
func (p *player) decode(text []byte, read func([]byte) (*frame, error)) (*frame, error) {
	if f := p.frames[string(text)]; f != nil {
		return f, nil
	}
	f, err := read(text)
	if err != nil || f.Offset == 0 {
		return f, err
	}
	f.n, f.intact = p.crowd.recognise(f.Action, f.Payload)
	if len(p.frames) >= framesKept {
		clear(p.frames)
	}
	p.frames[string(text)] = f
	return f, nil
}

// note keeps the first few errors.
func (p *player) note(err error) { p.found.note(err.Error()) }

// arrived notes that a client had message n d after it was due.
func (p *player) arrived(n int, d time.Duration) {
	p.found.Delay.record(d)
	s := p.found.second(int((p.crowd.due(n).Sub(p.crowd.begin()) + d) / time.Second))
	s.Received++
	s.Delay.record(d)
}

// agree tells whether everybody on this loop who saw message n saw it at the same place.
func (p *player) agree(n int, offset uint64) bool {
	if p.found.Places[n] == 0 {
		p.found.Places[n] = offset
	}
	return p.found.Places[n] == offset
}
