package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	publishers = 32                     // requests in flight at most; their latency counts from when they were due
	entrants   = 16                     // logins at a time
	grace      = 300 * time.Millisecond // after everything came: for what comes once too often
)

// A round is one scenario being played.
type round struct {
	options
	target   *target
	scenario string
	random   *rand.Rand // used by play alone
	progress *progress

	ledger  *ledger
	phones  []*phone
	refused atomic.Int64 // publishes that the hub did not accept

	mu    sync.Mutex
	notes []string // the first few errors, each once
}

const notesKept = 5

func (r *round) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := err.Error(); len(r.notes) < notesKept && !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// play brings everybody into the room, says everything on time, waits for it to arrive, and counts.
func (r *round) play(ctx context.Context) (result, error) {
	r.ledger = newLedger(r.messages, r.rate)
	people, err := r.enter(ctx)
	if err != nil {
		return result{}, err
	}
	var say func(context.Context, int) error
	var orders []order
	if r.scenario == scenarioPay {
		if orders, err = r.prepareOrders(ctx, people); err != nil {
			return result{}, err
		}
		r.ledger.recognise = recognisePurchase(orders)
		say = func(ctx context.Context, n int) error { return r.target.confirm(ctx, orders[n]) }
	} else {
		messages := newBroadcasts(r.pad)
		r.ledger.recognise = messages.recogniser(r.messages)
		say = func(ctx context.Context, n int) error {
			at, err := r.target.broadcast(ctx, broadcastAction, messages.payload(n))
			if err == nil && !r.ledger.agree(n, at.Offset) {
				err = fmt.Errorf("message %d: its publisher was told offset %d, its readers another", n, at.Offset)
			}
			return err
		}
	}

	living, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var alive sync.WaitGroup
	if err := r.connect(living, people, &alive); err != nil {
		hangUp()
		alive.Wait()
		return result{}, err
	}
	began := time.Now()
	r.ledger.start.Store(began.Add(10 * time.Millisecond).UnixNano())
	stopDrops := r.scheduleDrops(living)
	r.sayAll(ctx, say)
	r.await(ctx)
	took := time.Since(began)
	_ = sleep(ctx, grace) // the next line looks at ctx
	stopDrops()
	hangUp()
	alive.Wait()
	if err := ctx.Err(); err != nil {
		return result{}, errors.New("interrupted")
	}
	return r.count(orders, took), nil
}

// enter gives everybody a token.
func (r *round) enter(ctx context.Context) ([]person, error) {
	people := make([]person, r.clients)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(entrants)
	var done atomic.Int64
	for i := range people {
		g.Go(func() (err error) {
			name := fmt.Sprintf("load-%d-%d", r.seed, i)
			if people[i], err = r.target.enter(ctx, name); err != nil {
				return fmt.Errorf("log in %s: %w", name, err)
			}
			r.progress.say("logging in %d/%d", done.Add(1), r.clients)
			return nil
		})
	}
	return people, g.Wait()
}

// connect opens every socket, r.ramp a second, and returns when all have arrived or given up.
func (r *round) connect(ctx context.Context, people []person, alive *sync.WaitGroup) error {
	limiter := rate.NewLimiter(rate.Limit(r.ramp), 1)
	for i, who := range people {
		if err := limiter.Wait(ctx); err != nil {
			return err
		}
		p := newPhone(i, who, r)
		r.phones = append(r.phones, p)
		alive.Go(func() { p.live(ctx) })
		r.progress.say("connecting %d/%d", i+1, r.clients)
	}
	for _, p := range r.phones {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sayAll calls say for every message at its time, publishers of them at once at most.
func (r *round) sayAll(ctx context.Context, say func(context.Context, int) error) {
	var g errgroup.Group
	g.SetLimit(publishers)
	for n := range r.messages {
		if sleep(ctx, time.Until(r.ledger.due(n))) != nil {
			break
		}
		g.Go(func() error {
			if err := say(ctx, n); err != nil {
				r.refused.Add(1)
				r.note(err)
			} else {
				r.ledger.accepted[n].Store(true)
			}
			return nil
		})
		r.showProgress(n + 1)
	}
	_ = g.Wait() // errors were counted
}

func (r *round) showProgress(said int) {
	r.progress.say("%s: said %d/%d, received %d", r.scenario, said, r.messages, r.ledger.received.Load())
}

// scheduleDrops cuts the chosen share of the clients, each once, while messages flow.
func (r *round) scheduleDrops(ctx context.Context) (stop func()) {
	lasts := time.Duration(r.messages) * r.ledger.interval
	type drop struct {
		phone    *phone
		at, away time.Duration
	}
	share := r.drop
	if r.scenario == scenarioFanout {
		share = 0 // everybody stays: what recover is compared with
	}
	var drops []drop
	for _, i := range r.random.Perm(len(r.phones))[:int(share*float64(len(r.phones))+0.5)] {
		drops = append(drops, drop{
			r.phones[i],
			time.Duration((0.1 + 0.6*r.random.Float64()) * float64(lasts)),
			time.Duration((0.1 + 0.9*r.random.Float64()) * float64(r.away)),
		})
	}
	slices.SortFunc(drops, func(a, b drop) int { return cmp.Compare(a.at, b.at) })
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		start := r.ledger.due(0)
		for _, d := range drops {
			if sleep(ctx, time.Until(start.Add(d.at))) != nil {
				return
			}
			d.phone.cut(d.away)
		}
	}()
	return func() { cancel(); <-done }
}

// await returns when everything arrived, or when nothing came for the settling time.
func (r *round) await(ctx context.Context) {
	reachable := 0
	for _, p := range r.phones {
		select {
		case <-p.ready:
			reachable++
		default:
		}
	}
	want := int64(r.ledger.acceptedCount() * reachable)
	last, quietSince := int64(-1), time.Now()
	for {
		got := r.ledger.received.Load()
		if got >= want {
			return
		}
		if got != last || r.ledger.away.Load() > 0 {
			last, quietSince = got, time.Now()
		}
		if time.Since(quietSince) > r.settle || sleep(ctx, 10*time.Millisecond) != nil {
			return
		}
		r.showProgress(r.messages)
	}
}

// count adds up what every client found. The phones have hung up.
func (r *round) count(orders []order, took time.Duration) result {
	got := result{
		Scenario: r.scenario, Seed: r.seed, Clients: r.clients, Sent: r.messages, Rate: r.rate,
		Refused: int(r.refused.Load()), Seconds: took.Seconds(), Closed: map[int]int{},
	}
	for _, p := range r.phones {
		t := p.tally
		got.Received += t.received
		got.Repeated += t.repeated
		got.Reordered += t.reordered
		got.Altered += t.altered
		got.Gaps += max(t.gaps, 0)
		got.Recovered += t.recovered
		got.Reloads += t.reloads
		got.Drops += t.drops
		for code, n := range t.closed {
			got.Closed[code] += n
		}
		if t.failed {
			got.Failed++
		}
		if t.failed && !p.opened {
			continue // never in the room: what it lacks is counted as failed
		}
		for n := range r.messages {
			if r.ledger.accepted[n].Load() && !p.has(n) {
				got.Missing++
			}
		}
	}
	r.countLetters(orders, &got)
	h := r.ledger.delays()
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	got.P50, got.P90, got.P99, got.P999, got.Max = ms(50), ms(90), ms(99), ms(99.9), float64(h.Max())/1000
	r.mu.Lock()
	defer r.mu.Unlock()
	got.Notes = r.notes
	return got
}

// A welcome is what the first frame says of our room.
type welcome struct {
	at        position
	recovered bool
	patience  time.Duration // twice the heartbeat: then the line is dead
}

func readWelcome(payload json.RawMessage, room string) (welcome, error) {
	var w struct {
		Heartbeat float64
		Rooms     []struct {
			position
			Room      string
			Recovered *bool
		}
		Refused []struct{ Room, Error string }
	}
	if err := json.Unmarshal(payload, &w); err != nil {
		return welcome{}, fmt.Errorf("welcome: %w", err)
	}
	for _, at := range w.Rooms {
		if at.Room == room {
			heartbeat := time.Duration(max(w.Heartbeat, 1) * float64(time.Second))
			return welcome{at.position, at.Recovered == nil || *at.Recovered, 2*heartbeat + 5*time.Second}, nil
		}
	}
	for _, no := range w.Refused {
		if no.Room == room {
			return welcome{}, &refusal{Status: http.StatusForbidden, Word: no.Error, Message: "joining " + room}
		}
	}
	return welcome{}, &refusal{Word: "welcome", Message: "does not name room " + room}
}
