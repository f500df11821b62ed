package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	chaseEvery   = 10 * time.Second
	chaseLease   = time.Minute      // one node chases; when it dies, another one begins so much later
	chaseWait    = 45 * time.Second // of one round, shorter than the lease
	chaseWorkers = 4                // calls of WeChat at once
	chaseBatch   = 1000             // orders, and refunds, looked at in one round
	chaseRest    = 5 * time.Minute  // before a failed one is tried again, at most
	// chaseConflict is how often money that does not fit its order raises its alarm anew.
	chaseConflict = 6 * time.Hour
	orderLife     = 2 * time.Hour // as long as a prepay_id
)

// chaseAges are when WeChat is asked about something that waits for its word: so long after it was made, and every half
// an hour from then on.
var chaseAges = []time.Duration{30 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute, 30 * time.Minute}

// A Till asks WeChat Pay and writes down what it says, told exactly as by a notify.
type Till interface {
	// Ask asks about an order that waits for money. ErrPaymentConflict: verified money that does not fit it.
	Ask(ctx context.Context, o store.Order) (store.Order, error)
	// Close closes an order at WeChat, then here. store.ErrOrderPaid: it was paid meanwhile, and is marked so.
	Close(ctx context.Context, o store.Order) (store.Order, error)
	// AskRefund asks about a refund under way, and asks for it again if WeChat never heard of it.
	AskRefund(ctx context.Context, r store.Refund) error
}

// chased is what this process remembers of what it asks about.
type chased struct {
	mu    sync.Mutex
	asked map[string]time.Time // refunds; of orders the store knows it
	again map[string]retry     // what failed
}

type retry struct {
	at     time.Time
	failed int
}

// chase looks for what a notify should have told, until ctx ends.
func (j *Jobs) chase(ctx context.Context) {
	timer := time.NewTimer(rand.N(chaseEvery))
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = j.db.Unlease(leaving, chaseName, j.owner) // it runs out by itself
			cancel()
			return
		case <-timer.C:
		}
		err := j.Chase(ctx)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				j.log.Warn("unpaid orders and refunds: not all could be asked about", "err", err)
			} else {
				j.log.Info("unpaid orders and refunds are asked about again")
			}
		}
		timer.Reset(chaseEvery + rand.N(chaseEvery/10))
	}
}

const chaseName = "chase"

// Chase does one round, on one node of all: it asks WeChat about the unpaid orders and the refunds whose time has come,
// and closes orders that outlived OrderLife. Run does it every ten seconds. Its error is the first one of the round,
// which ends early when WeChat is away.
func (j *Jobs) Chase(ctx context.Context) error {
	if j.till == nil {
		return nil
	}
	mine, err := j.db.Lease(ctx, chaseName, j.owner, chaseLease)
	if err != nil || !mine {
		return err
	}
	now := j.now()
	orders, err := j.db.UnpaidOrders(ctx, now.Add(-chaseAges[0]), chaseBatch)
	if err != nil {
		return err
	}
	refunds, err := j.db.ProcessingRefunds(ctx, now.Add(-chaseAges[0]), chaseBatch)
	if err != nil {
		return err
	}
	j.chased.forget(orders, refunds)

	ctx, cancel := context.WithTimeout(ctx, chaseWait)
	defer cancel()
	round, ctx := errgroup.WithContext(ctx)
	round.SetLimit(chaseWorkers)
	var first errOnce
	ask := func(name string, call func(context.Context) error) {
		round.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := call(ctx)
			j.chased.note(name, now, err)
			first.set(err)
			if errors.Is(err, wechat.ErrBusy) || errors.Is(err, wechat.ErrTooOften) {
				return err // and so would the others be answered
			}
			return nil
		})
	}
	full := len(orders) == chaseBatch // then what is asked about moves to the end, and lets the others through
	for _, o := range orders {
		old := now.Sub(o.CreatedAt) >= j.orderLife
		if j.chased.due("order "+o.OutTradeNo, now, o.CreatedAt, o.QueriedAt, old, full) {
			ask("order "+o.OutTradeNo, func(ctx context.Context) error { return j.chaseOrder(ctx, o, old, now) })
		}
	}
	for _, r := range refunds {
		if j.chased.due("refund "+r.OutRefundNo, now, r.CreatedAt, j.chased.when(r), false, false) {
			ask("refund "+r.OutRefundNo, func(ctx context.Context) error {
				j.chased.remember(r, now)
				return j.till.AskRefund(ctx, r)
			})
		}
	}
	if err := round.Wait(); err != nil {
		return err
	}
	return first.err
}

func (j *Jobs) chaseOrder(ctx context.Context, o store.Order, old bool, now time.Time) error {
	if old {
		_, err := j.till.Close(ctx, o)
		if err != nil && !errors.Is(err, store.ErrOrderPaid) {
			return fmt.Errorf("close: %w", err)
		}
		return nil
	}
	prev, err := j.db.CheckedOrder(ctx, o.OutTradeNo, now)
	if err != nil {
		return err
	}
	if prev.After(o.QueriedAt) || o.PrepayID == "" { // somebody asked just now; or nobody can have paid it
		return nil
	}
	_, err = j.till.Ask(ctx, o)
	return err
}

// dueAt tells whether a time of chaseAges has passed since it was asked.
func dueAt(now, made, asked time.Time) bool {
	last := chaseAges[len(chaseAges)-1]
	age := now.Sub(made)
	at := made.Add(age.Truncate(last)) // the half hours
	for _, a := range chaseAges {
		if a <= age && made.Add(a).After(at) {
			at = made.Add(a)
		}
	}
	return age >= chaseAges[0] && asked.Before(at)
}

// due tells whether it is time to ask.
func (c *chased) due(name string, now, made, asked time.Time, old, full bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, failed := c.again[name]; failed {
		return !now.Before(r.at)
	}
	return old || dueAt(now, made, asked) || full && now.Sub(asked) > time.Minute
}

// note remembers a failure, to try again before the next regular time.
func (c *chased) note(name string, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.again, name)
		return
	}
	failed := c.again[name].failed + 1
	rest := min(chaseRest, chaseEvery<<min(failed, 8))
	if errors.Is(err, store.ErrPaymentConflict) { // kept, and an alarm already: only a person can mend it
		rest = chaseConflict
	}
	c.again[name] = retry{now.Add(rest), failed}
}

func (c *chased) when(r store.Refund) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[r.OutRefundNo]
}

func (c *chased) remember(r store.Refund, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[r.OutRefundNo] = now
}

// forget keeps only what still waits, so that nothing grows.
func (c *chased) forget(orders []store.Order, refunds []store.Refund) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked, again := make(map[string]time.Time), make(map[string]retry)
	keep := func(name string) {
		if r, ok := c.again[name]; ok {
			again[name] = r
		}
	}
	for _, o := range orders {
		keep("order " + o.OutTradeNo)
	}
	for _, r := range refunds {
		keep("refund " + r.OutRefundNo)
		if at, ok := c.asked[r.OutRefundNo]; ok {
			asked[r.OutRefundNo] = at
		}
	}
	c.asked, c.again = asked, again
}

// errOnce keeps the first error of several goroutines.
type errOnce struct {
	once sync.Once
	err  error
}

func (e *errOnce) set(err error) {
	if err != nil {
		e.once.Do(func() { e.err = err })
	}
}
