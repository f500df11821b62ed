package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
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
	scenario scenario
	name     string // of the scenario, or of its part
	progress *progress
	sampler  *sampler
	shared   bool                                               // with other rounds at the same time
	gather   func(ctx context.Context, c cast) (troupes, error) // who plays; nil: as many processes as the file limit asks for

	cast     cast
	orders   []order
	told     []bool   // by message: its publisher was told that it is stored; written by its publisher
	places   []uint64 // … and where
	refused  atomic.Int64
	tasks    sync.WaitGroup
	mu       sync.Mutex // guards what follows
	problems []string   // the first few errors of publishers
}

func seeded(seed, number uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, number)) //nolint:gosec // repeatable on purpose
}

func (r *round) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) < notesKept {
		r.problems = append(r.problems, err.Error())
	}
}

// play brings everybody in, says everything on time, waits for it to arrive, and counts.
func (r *round) play(ctx context.Context) (result, error) {
	people, err := r.enter(ctx)
	if err != nil {
		return result{}, err
	}
	r.setCast(people)
	r.told, r.places = make([]bool, r.cast.Messages), make([]uint64, r.cast.Messages)
	if r.scenario.pays {
		if err := r.prepareOrders(ctx, people); err != nil {
			return result{}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends crowds in other processes
	if r.gather == nil {
		r.gather = gather
	}
	all, err := r.gather(ctx, r.cast)
	if err != nil {
		return result{}, err
	}
	before := r.sampler.now(ctx)
	connecting := time.Now()
	watching := r.watch(ctx, func() { r.progress.say("%s: %d of %d clients are in", r.name, all.status().Ready, len(people)) })
	err = all.connect(ctx, connecting.Add(20*time.Millisecond))
	watching()
	if err != nil {
		_, _ = all.finish(r.told, r.places) // interrupted: nothing is judged
		return result{}, err
	}
	connected, joined := time.Since(connecting), r.sampler.now(ctx)
	if r.scenario.holds {
		_ = sleep(ctx, r.hold) // ctx is looked at below
	}
	settled := r.sampler.now(ctx)
	began := time.Now().Add(10 * time.Millisecond)
	all.start(began)
	watching = r.watch(ctx, func() { r.showProgress(all.status(), began) })
	r.killOne(ctx)
	r.sayAll(ctx, began)
	r.tasks.Wait()
	r.await(ctx, all)
	took := time.Since(began)
	_ = sleep(ctx, grace) // the next line looks at ctx
	watching()
	r.settleChurn(ctx)
	found, err := all.finish(r.told, r.places)
	if ctx.Err() != nil {
		return result{}, errors.New("interrupted")
	}
	got := r.count(found, took, err)
	got.Connected = connected.Seconds()
	if !r.shared {
		got.cost(before, joined, settled, r.sampler.now(ctx), len(people))
	}
	return got, nil
}

// settleChurn waits until the hub has had the time to see who left.
func (r *round) settleChurn(ctx context.Context) {
	if r.scenario.churns {
		_ = sleep(ctx, r.settle) // the caller looks at ctx
	}
}

// watch calls show four times a second until the returned function is called.
func (r *round) watch(ctx context.Context, show func()) (stop func()) {
	if r.progress.w == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, 250*time.Millisecond) == nil {
			show()
		}
	}()
	return func() { cancel(); <-done }
}

func (r *round) showProgress(s status, began time.Time) {
	since := time.Since(began)
	lasts := time.Duration(r.cast.Messages) * r.cast.Interval
	said := min(int(max(since, 0)/r.cast.Interval)+1, r.cast.Messages)
	missing := max(r.expected(s.Members, said)-s.Received, 0)
	r.progress.say("%s: said %d of %d · %.0f deliveries/s · p99 %s · under way or missing %d · %d away · %v left", r.name, said, r.cast.Messages,
		float64(s.Received)/max(since.Seconds(), 0.001), shortMS(s.P99), missing, s.Away, max(lasts-since, 0).Round(time.Second))
}

// expected is how many (client, message) pairs the first n messages make.
func (r *round) expected(members []int64, n int) (pairs int64) {
	for g, m := range members {
		pairs += m * int64((n-g+r.cast.Groups-1)/r.cast.Groups)
	}
	return pairs
}

// enter gives everybody a token.
func (r *round) enter(ctx context.Context) ([]person, error) {
	people := make([]person, r.clients)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(entrants)
	var done atomic.Int64
	for i := range people {
		g.Go(func() (err error) {
			name := fmt.Sprintf("load-%d-%d", r.seed, r.first+i)
			if people[i], err = r.target.enter(ctx, name, r.first+i, r.scenario.role); err != nil {
				return fmt.Errorf("log in %s: %w", name, err)
			}
			r.progress.say("logging in %d/%d", done.Add(1), r.clients)
			return nil
		})
	}
	return people, g.Wait()
}

// sayAll says every message at its time, publishers of them at once at most.
func (r *round) sayAll(ctx context.Context, began time.Time) {
	var g errgroup.Group
	g.SetLimit(publishers)
	for n := range r.cast.Messages {
		if sleep(ctx, time.Until(began.Add(time.Duration(n)*r.cast.Interval))) != nil {
			break
		}
		g.Go(func() error {
			at, err := r.scenario.say(ctx, r, n)
			if err != nil {
				r.refused.Add(1)
				r.note(err)
			} else {
				r.told[n], r.places[n] = true, at.Offset
			}
			return nil
		})
	}
	_ = g.Wait() // errors were counted
}

// await returns when everything arrived, or when nothing came for the settling time.
func (r *round) await(ctx context.Context, all troupe) {
	last, quietSince := int64(-1), time.Now()
	for {
		s := all.status()
		want := int64(0)
		for n, yes := range r.told {
			if yes && n%r.cast.Groups < len(s.Members) {
				want += s.Members[n%r.cast.Groups]
			}
		}
		if s.Received >= want {
			return
		}
		if s.Received != last || s.Away > 0 {
			last, quietSince = s.Received, time.Now()
		}
		if time.Since(quietSince) > r.settle || sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// count makes the result of what was found.
func (r *round) count(f findings, took time.Duration, lost error) result {
	got := result{
		Scenario: r.name, Seed: r.seed, Clients: r.clients, Sent: r.cast.Messages, Rate: r.rate, Rooms: r.cast.Groups,
		Refused: int(r.refused.Load()), Seconds: took.Seconds(), Closed: f.Closed, tally: f.Tally, Series: series(f.Seconds),
		Percentiles: percentiles(f.Delay), ConnectP50: f.Connect.ms(50), ConnectP99: f.Connect.ms(99), ConnectMax: float64(f.Connect.Max()) / 1000,
	}
	r.countLetters(f, &got)
	for _, d := range f.Presence {
		got.Ghosts += d
	}
	d := f.Delay
	got.P50, got.P90, got.P99, got.P999, got.Max = d.ms(50), d.ms(90), d.ms(99), d.ms(99.9), float64(d.Max())/1000
	r.mu.Lock()
	defer r.mu.Unlock()
	got.Notes = append(r.problems, f.Notes...)
	if lost != nil {
		got.Notes = append(got.Notes, lost.Error())
		got.Failed = max(got.Failed, 1)
	}
	return got
}

// broadcast says message n in its room, or to its user.
func (r *round) broadcast(ctx context.Context, n int) (position, error) {
	group := n % r.cast.Groups
	payload := broadcasts{r.cast.Run, padding(r.cast.Pad)}.payload(n)
	room := (&crowd{cast: r.cast}).room(group, "")
	if r.target.publish != nil {
		return position{}, r.target.publish(ctx, r.target, room, payload)
	}
	body := map[string]any{"action": broadcastAction, "payload": json.RawMessage(payload), "id": fmt.Sprintf("%s-%d", r.cast.Run, n)}
	if r.cast.Mail {
		body["users"] = []string{r.cast.People[group].User}
	} else {
		body["rooms"] = []string{room}
	}
	return r.target.broadcast(ctx, body)
}

// ask has a user write to the customer service.
func (r *round) ask(ctx context.Context, n int) (position, error) {
	body := map[string]any{"user": fmt.Sprintf("load-%d-asks-%d", r.seed, n%50), "type": "text", "content": fmt.Sprintf("%s %d", r.cast.Run, n)}
	return position{}, r.target.call(ctx, http.MethodPost, r.sim+"/sim/message", nil, body, nil)
}
