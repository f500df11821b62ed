package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A tally is what one client found.
type tally struct {
	received  int // of our messages, each once
	repeated  int // came again
	reordered int // came after one with a greater Offset
	altered   int // another payload than was sent, or another place than others were told
	gaps      int // Offsets that were passed over without a word
	recovered int // came by coming back: said while the client was away
	reloads   int // the hub said recovered:false, or a new epoch
	drops     int // cut by us
	failed    bool
	closed    map[int]int // by close code, unasked
}

// A phone is one client: a goroutine that keeps a socket and checks what comes.
type phone struct {
	person
	index  int
	target *target
	ledger *ledger
	note   func(error)

	ready chan struct{} // closed when it is in the room, or never will be

	// owned by live until it has returned
	at     position
	have   []uint64 // bits, by message
	tally  tally
	mail   map[string]map[string]bool // by outTradeNo: the ids of its order.paid
	asked  int                        // number of our last frame
	since  time.Time                  // the room's messages come live since then
	opened bool
	isAway bool

	mu   sync.Mutex // guards what follows
	ws   *websocket.Conn
	away time.Duration // above 0: cut by us; how long to stay away
}

func newPhone(index int, who person, r *round) *phone {
	return &phone{
		person: who, index: index, target: r.target, ledger: r.ledger, note: r.note, ready: make(chan struct{}),
		have: make([]uint64, (r.ledger.messages+63)/64), mail: map[string]map[string]bool{},
		tally: tally{closed: map[int]int{}},
	}
}

const handshakeTries = 5

// live keeps the phone connected until ctx ends or the hub tells it to stay away.
func (p *phone) live(ctx context.Context) {
	defer func() {
		if !p.opened {
			close(p.ready)
		}
		p.setAway(false)
	}()
	for tries := 0; ctx.Err() == nil; {
		ws, err := p.target.dial(ctx, p.token, p.at)
		if err != nil {
			tries++
			var no *refusal
			final := errors.As(err, &no) && no.Status/100 == 4 && no.Status != http.StatusTooManyRequests
			if (final || tries >= handshakeTries) && ctx.Err() == nil {
				p.fail(fmt.Errorf("client %d: %w", p.index, err))
				return
			}
			_ = sleep(ctx, time.Duration(rand.Int64N(int64(100*time.Millisecond)<<tries))) //nolint:gosec // jitter
			continue
		}
		tries = 0
		err = p.listen(ctx, ws)
		if ctx.Err() != nil {
			return
		}
		p.setAway(p.opened)
		if away := p.takeAway(); away > 0 {
			p.tally.drops++
			_ = sleep(ctx, away) // the loop looks at ctx
			continue
		}
		wait := time.Duration(rand.Int64N(int64(time.Second))) //nolint:gosec // jitter
		var no *refusal
		if errors.As(err, &no) {
			p.fail(fmt.Errorf("client %d: %w", p.index, err))
			return
		}
		var code *websocket.CloseError
		if errors.As(err, &code) {
			p.tally.closed[code.Code]++
			p.note(fmt.Errorf("client %d: closed by the hub: %d %s", p.index, code.Code, code.Text))
			if code.Code >= 4500 {
				p.fail(nil)
				return
			}
			if ms, hinted := retryHint(code.Text); hinted {
				wait = ms
			}
		} else {
			p.tally.closed[websocket.CloseAbnormalClosure]++
			p.note(fmt.Errorf("client %d: %w", p.index, err))
		}
		_ = sleep(ctx, wait) // the loop looks at ctx
	}
}

// retryHint reads the time out of a close reason "word;retry=MS".
func retryHint(reason string) (time.Duration, bool) {
	_, text, ok := strings.Cut(reason, ";retry=")
	ms, err := strconv.ParseUint(text, 10, 31)
	return time.Duration(ms) * time.Millisecond, ok && err == nil //nolint:gosec // 31 bits
}

// setAway tells whether this phone has been in the room and is on its way back.
func (p *phone) setAway(away bool) {
	if away == p.isAway {
		return
	}
	p.isAway = away
	if away {
		p.ledger.away.Add(1)
	} else {
		p.ledger.away.Add(-1)
	}
}

func (p *phone) fail(err error) {
	p.tally.failed = true
	if err != nil {
		p.note(err)
	}
}

// cut breaks the line without a word, as a phone in a tunnel does. It comes back after away.
func (p *phone) cut(away time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ws != nil {
		p.away = max(away, time.Millisecond)
		_ = p.ws.NetConn().Close() // the reader sees it
	}
}

func (p *phone) takeAway() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.away
	p.away, p.ws = 0, nil
	return d
}

// listen reads one socket to its end.
func (p *phone) listen(ctx context.Context, ws *websocket.Conn) error {
	defer ws.Close()
	stop := context.AfterFunc(ctx, func() {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second)) // a courtesy
		_ = ws.NetConn().Close()
	})
	defer stop()
	p.mu.Lock()
	p.ws = ws
	p.mu.Unlock()
	ws.SetReadLimit(1 << 20)
	patience := 2 * time.Minute // until the welcome names the heartbeat
	for {
		if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, text, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		now := time.Now()
		f, err := p.ledger.decode(text)
		switch {
		case err != nil:
			p.tally.altered++
			p.note(fmt.Errorf("client %d: %w", p.index, err))
		case f.Ping > 0:
			err = p.send(ws, `{"id":%d,"action":"ping"}`)
		case f.Data.Action == "welcome" && f.Meta.Room == "":
			var w welcome
			if w, err = readWelcome(f.Data.Payload, p.target.room); err == nil {
				patience = w.patience
				p.arrive(w.at, w.recovered, now)
			}
		case f.Meta.Room == p.target.room && f.Meta.Offset > 0:
			p.take(f, now)
		case f.Data.Action == "order.paid":
			err = p.letter(ws, f)
		}
		if err != nil {
			return err
		}
	}
}

func (p *phone) send(ws *websocket.Conn, format string, args ...any) error {
	p.asked++
	if err := ws.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	return ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, append([]any{p.asked}, args...)...))
}

// arrive is called with the room's standing in the welcome.
func (p *phone) arrive(at position, recovered bool, now time.Time) {
	p.since = now
	p.setAway(false)
	switch {
	case !p.opened:
		p.at = at
		p.opened = true
		close(p.ready)
	case at.Epoch != p.at.Epoch:
		p.at = at
		p.tally.reloads++
	case !recovered:
		p.tally.reloads++
	}
}

// take checks one message of the room against everything known.
func (p *phone) take(f *frame, now time.Time) {
	offset := f.Meta.Offset
	if f.Meta.Epoch != p.at.Epoch { // said without a new handshake: the stream was lost on the way
		p.tally.reloads++
		p.at = position{f.Meta.Epoch, offset - 1}
	}
	late := offset <= p.at.Offset
	if !late {
		p.tally.gaps += int(min(offset-p.at.Offset-1, 1<<30)) //nolint:gosec // bounded
		p.at.Offset = offset
	}
	if f.n < 0 { // somebody else's: only its place matters
		if late {
			p.tally.repeated++
		}
		return
	}
	word, bit := f.n/64, uint64(1)<<(f.n%64)
	if p.have[word]&bit != 0 {
		p.tally.repeated++
		return
	}
	p.have[word] |= bit
	p.tally.received++
	p.ledger.received.Add(1)
	if late {
		p.tally.reordered++
		p.tally.gaps-- // it had been passed over, and came after all
	}
	if !f.intact || !p.ledger.agree(f.n, offset) {
		p.tally.altered++
	}
	if due := p.ledger.due(f.n); due.Before(p.since) {
		p.tally.recovered++
	} else {
		p.ledger.record(p.index, now.Sub(due))
	}
}

// letter notes an order.paid and acknowledges it.
func (p *phone) letter(ws *websocket.Conn, f *frame) error {
	number := jsonText(f.Data.Payload, "outTradeNo")
	if p.mail[number] == nil {
		p.mail[number] = map[string]bool{}
	}
	p.mail[number][f.Meta.ID] = true
	if f.Meta.Offset == 0 {
		return nil
	}
	return p.send(ws, `{"id":%d,"action":"ack","room":%s,"offset":%d}`, strconv.Quote(f.Meta.Room), f.Meta.Offset)
}

func (p *phone) has(n int) bool { return p.have[n/64]&(1<<(n%64)) != 0 }
