package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A tally is what clients found.
type tally struct {
	Received  int `json:"received"`  // of our messages, each once
	Repeated  int `json:"repeated"`  // came again
	Reordered int `json:"reordered"` // came after one with a greater Offset
	Altered   int `json:"altered"`   // another payload than was sent, or another place than others were told
	Gaps      int `json:"gaps"`      // Offsets that were passed over without a word
	Missing   int `json:"missing"`   // accepted, but did not come, and nobody said so
	Announced int `json:"announced"` // did not come, and the hub had said that it could not give them back
	Recovered int `json:"recovered"` // came by coming back: said while the client was away
	Reloads   int `json:"reloads"`   // the hub said recovered:false, or a new epoch
	Drops     int `json:"drops"`     // cut by us
	Failed    int `json:"failed"`    // clients that never got in, or were told to stay away
	Retries   int `json:"retries"`   // handshakes that were put off (429, 503)
	Announces int `json:"announces"` // joins and leaves of others that were told
}

func (t *tally) add(u tally) {
	t.Received += u.Received
	t.Repeated += u.Repeated
	t.Reordered += u.Reordered
	t.Altered += u.Altered
	t.Gaps += u.Gaps
	t.Missing += u.Missing
	t.Announced += u.Announced
	t.Recovered += u.Recovered
	t.Reloads += u.Reloads
	t.Drops += u.Drops
	t.Failed += u.Failed
	t.Retries += u.Retries
	t.Announces += u.Announces
}

// A hole is a part of a stream, (from, to], that the hub said it cannot give back.
type hole struct{ from, to uint64 }

// A phone is one client. It lives on its player's loop.
type phone struct {
	person
	player *player
	index  int // among all clients of the run
	group  int

	line     *line
	at       position
	have     []uint64 // bits, by message of its group
	holes    []hole
	tally    tally
	letters  map[string]map[string]bool // by outTradeNo: the ids of its order.paid
	asked    int                        // number of our last frame
	due      time.Time                  // when this connection had to begin
	since    time.Time                  // the room's messages come live since then
	heardAt  time.Time
	patience time.Duration // silence longer than that is a dead line
	failing  time.Time     // nobody answers since then
	cutFor   time.Duration // above 0: cut by us; how long to stay away
	ready    bool          // has been in the room, or never will be
	arrived  bool          // has been in the room
	away     bool          // is on its way back
	over     bool
	left     bool // for good, by plan
	slow     bool // freezes for a while
	frozen   bool
	out      bool // left the room by a frame
	turn     int  // connections that failed: the next hub's turn
	joining  int  // number of the frame that joins again; 0: none
	counting int  // … that asks for the presence
	counted  func(count int)
}

const (
	handshakePatience = 15 * time.Second
	mostPatience      = time.Minute // that the hub may refuse, or not answer, before a client gives up
)

var errSilence = errors.New("silent for longer than the hub promised")

// room is the room whose stream this phone checks.
func (p *phone) room() string { return p.player.crowd.room(p.group, p.User) }

// connect begins a connection that was due at that time.
func (p *phone) connect(due time.Time) {
	if p.over {
		return
	}
	p.due = due
	d := p.player.crowd.dialing(p)
	path, header := p.player.crowd.language.request(p)
	d.request = handshake(d.host, path, header...)
	p.patience = 0
	p.line = p.player.dial(d.dialing, p)
}

func (p *phone) opened() {
	p.heardAt = time.Now()
	if p.frozen {
		p.line.pause(true)
	}
	p.patience = 2 * time.Minute // until the welcome names the heartbeat
	p.player.crowd.language.opened(p)
}

func (p *phone) heard(text []byte, at time.Time) {
	p.heardAt = at
	if err := p.player.crowd.language.heard(p, text, at); err != nil {
		p.fail(fmt.Errorf("client %d: %w", p.index, err))
		p.line.hangUp()
	}
}

// say sends a frame; its first verb is the frame's number.
func (p *phone) say(format string, args ...any) {
	p.asked++
	p.line.say(fmt.Sprintf(format, append([]any{p.asked}, args...)...))
}

// ended is told that the line is no more, and decides when to come back.
func (p *phone) ended(why ending) {
	p.line = nil
	if p.over {
		p.player.crowd.gone.Add(1)
		return
	}
	p.setAway(p.arrived)
	if p.cutFor > 0 {
		wait := p.cutFor
		p.cutFor = 0
		p.tally.Drops++
		p.again(wait)
		return
	}
	now := time.Now()
	if p.failing.IsZero() {
		p.failing = now
	}
	p.turn++
	jitter := time.Duration(p.player.random.Int64N(int64(time.Second)))
	switch {
	case why.status == 429 || why.status == 503:
		p.tally.Retries++
		p.retry(max(why.retry, 200*time.Millisecond)+jitter, fmt.Errorf("%d %s", why.status, why.reason))
	case why.status != 0:
		p.fail(fmt.Errorf("client %d: handshake: %d %s", p.index, why.status, why.reason))
	case why.code != 0:
		p.player.found.Closed[why.code]++
		err := fmt.Errorf("client %d: closed by the hub: %d %s", p.index, why.code, why.reason)
		p.player.note(err)
		if why.code >= 4500 {
			p.fail(nil)
			return
		}
		wait := jitter
		if hint, ok := retryHint(why.reason); ok {
			wait = hint
		}
		p.retry(wait, err)
	default:
		if p.arrived && p.patience > 0 {
			p.player.found.Closed[1006]++
		}
		p.retry(jitter, why.err)
	}
}

// retry comes back after wait, or gives up when that took too long.
func (p *phone) retry(wait time.Duration, why error) {
	if time.Since(p.failing) > mostPatience {
		p.fail(fmt.Errorf("client %d: nobody let it in for %v: %w", p.index, mostPatience, why))
		return
	}
	if why != nil {
		p.player.note(fmt.Errorf("client %d: %w", p.index, why))
	}
	p.again(wait)
}

func (p *phone) again(wait time.Duration) {
	due := time.Now().Add(wait)
	p.player.later(wait, func() { p.connect(due) })
}

// retryHint reads the time out of a close reason "word;retry=MS".
func retryHint(reason string) (time.Duration, bool) {
	_, text, ok := strings.Cut(reason, ";retry=")
	ms, err := strconv.ParseUint(text, 10, 31)
	return time.Duration(ms) * time.Millisecond, ok && err == nil //nolint:gosec // 31 bits
}

// setAway tells whether this phone has been in the room and is on its way back.
func (p *phone) setAway(away bool) {
	if away == p.away {
		return
	}
	p.away = away
	if away {
		p.player.crowd.away.Add(1)
	} else {
		p.player.crowd.away.Add(-1)
	}
}

// fail gives up for good.
func (p *phone) fail(err error) {
	if err != nil {
		p.player.note(err)
	}
	if !p.over {
		p.tally.Failed = 1
		p.leave()
	}
}

// leave keeps the phone from coming back.
func (p *phone) leave() {
	p.over = true
	p.setAway(false)
	p.isReady()
	if p.line == nil {
		p.player.crowd.gone.Add(1)
	}
}

func (p *phone) isReady() {
	if !p.ready {
		p.ready = true
		p.player.crowd.ready.Add(1)
	}
}

// cut breaks the line without a word, as a phone in a tunnel does. It comes back after away.
func (p *phone) cut(away time.Duration) {
	if p.line != nil && p.arrived {
		p.cutFor = max(away, time.Millisecond)
		p.line.cut()
	}
}

// arrive is called with the room's standing in the welcome.
func (p *phone) arrive(at position, recovered bool, now time.Time) {
	p.since, p.failing = now, time.Time{}
	p.setAway(false)
	p.player.found.Connect.record(now.Sub(p.due))
	switch {
	case !p.arrived:
		p.arrived, p.at = true, at
		p.player.crowd.opened(p.group)
		p.isReady()
	case at.Epoch != p.at.Epoch:
		p.tally.Reloads++
		p.holes = append(p.holes, hole{0, ^uint64(0)})
		p.at = at
	case !recovered:
		p.tally.Reloads++
		p.holes = append(p.holes, hole{p.at.Offset, at.Offset})
		p.at = at
	}
}

// push takes one message of a stream.
func (p *phone) push(f *frame, now time.Time) {
	switch {
	case f.Room == p.room():
		p.take(f, now)
		if p.player.crowd.Mail {
			p.acknowledge(f)
		}
	case f.Action == "order.paid":
		p.letter(f)
	}
}

// take checks one message of the room against everything known.
func (p *phone) take(f *frame, now time.Time) {
	if f.Epoch != p.at.Epoch { // said without a new handshake: the stream was lost on the way
		p.tally.Reloads++
		p.at = position{f.Epoch, f.Offset - 1}
	}
	late := f.Offset <= p.at.Offset
	if !late {
		p.tally.Gaps += int(min(f.Offset-p.at.Offset-1, 1<<30)) //nolint:gosec // bounded
		p.at.Offset = f.Offset
	}
	c := p.player.crowd
	if f.n < 0 || f.n%c.Groups != p.group { // somebody else's: only its place matters
		if f.n >= 0 {
			p.tally.Altered++
		} else if late {
			p.tally.Repeated++
		}
		return
	}
	k := f.n / c.Groups
	if p.has(k) {
		p.tally.Repeated++
		return
	}
	p.have[k/64] |= 1 << (k % 64)
	p.tally.Received++
	c.received.Add(1)
	if late {
		p.tally.Reordered++
		p.tally.Gaps-- // it had been passed over, and came after all
	}
	if !f.intact || !p.player.agree(f.n, f.Offset) {
		p.tally.Altered++
	}
	switch due := c.due(f.n); {
	case due.Before(p.since):
		p.tally.Recovered++
	case !p.slow: // what a frozen page waits for is its own fault
		p.player.arrived(f.n, now.Sub(due))
	}
}

func (p *phone) has(k int) bool { return p.have[k/64]&(1<<(k%64)) != 0 }

// letter notes an order.paid and acknowledges it.
func (p *phone) letter(f *frame) {
	number := jsonText(f.Payload, "outTradeNo")
	if p.letters == nil {
		p.letters = map[string]map[string]bool{}
	}
	if p.letters[number] == nil {
		p.letters[number] = map[string]bool{}
	}
	p.letters[number][f.ID] = true
	p.acknowledge(f)
}

// acknowledge is for the native language; clients of Socket.IO need none.
func (p *phone) acknowledge(f *frame) {
	if p.player.crowd.language != (native{}) {
		return
	}
	p.say(`{"id":%d,"action":"ack","room":%s,"offset":%d}`, strconv.Quote(f.Room), f.Offset)
}

// judge counts what did not come. accepted and places are by message.
func (p *phone) judge(accepted []bool, places []uint64) {
	if p.left || p.tally.Failed > 0 && !p.arrived {
		return // not in the room to the end, by plan; or never: counted as failed
	}
	groups := p.player.crowd.Groups
	for n := p.group; n < len(accepted); n += groups {
		switch {
		case !accepted[n] || p.has(n/groups):
		case p.isHole(places[n]):
			p.tally.Announced++
		default:
			p.tally.Missing++
		}
	}
}

func (p *phone) isHole(at uint64) bool {
	for _, h := range p.holes {
		if at > h.from && at <= h.to {
			return true
		}
	}
	return false
}

// stepOut leaves the room by a frame and comes back by another, on the same socket.
func (p *phone) stepOut(away time.Duration) {
	if p.line == nil || !p.arrived || p.over {
		return
	}
	p.out = true
	p.tally.Drops++
	p.setAway(true)
	p.say(`{"id":%d,"action":"leave","room":%s}`, strconv.Quote(p.room()))
	p.player.later(away, p.stepIn)
}

func (p *phone) stepIn() {
	if p.line == nil { // lost meanwhile: the next welcome brings it in
		p.out = false
		return
	}
	p.say(`{"id":%d,"action":"join","room":%s,"since":{"epoch":%s,"offset":%d}}`,
		strconv.Quote(p.room()), strconv.Quote(p.at.Epoch), p.at.Offset)
	p.joining = p.asked
}

// goAway closes politely and does not come back.
func (p *phone) goAway() {
	if p.line == nil || p.over {
		return
	}
	p.left = true
	p.leave()
	p.line.hangUp()
}

// freeze stops reading, as a page that hangs does.
func (p *phone) freeze(quiet bool) {
	p.frozen = quiet
	if p.line != nil {
		p.line.pause(quiet)
	}
}

// askPresence tells how many people the hub sees in the room; -1: it did not say.
func (p *phone) askPresence(tell func(count int)) {
	if p.line == nil {
		tell(-1)
		return
	}
	p.say(`{"id":%d,"action":"presence","room":%s}`, strconv.Quote(p.room()))
	p.counting, p.counted = p.asked, tell
	p.player.later(10*time.Second, func() { tell(-1) })
}

// replied takes the answer to a frame of ours.
func (p *phone) replied(n *nativeFrame) {
	switch id, _ := n.Reply.Int64(); {
	case p.counting != 0 && id == int64(p.counting):
		p.counting = 0
		if !n.OK {
			n.Count = -1
		}
		p.counted(n.Count)
	case p.joining != 0 && id == int64(p.joining):
		p.joining, p.out = 0, false
		if !n.OK {
			p.fail(fmt.Errorf("client %d: joining again: %s", p.index, n.Error))
			return
		}
		p.due = time.Now()
		p.arrive(n.position, n.Recovered == nil || *n.Recovered, p.due)
	case !n.OK:
		p.player.note(fmt.Errorf("client %d: refused: %s", p.index, n.Error))
	}
}

// announced takes a join or leave of somebody.
func (p *phone) announced(string) { p.tally.Announces++ }
