// Package jobs does the work that no request waits for: it relays the outbox, calls hooks, asks WeChat about what no
// notify told, and cleans.
//
// Relay: a row is claimed with a lease, relayed, and settled, in that order. A process that dies in between
// loses nothing: the lease runs out and somebody relays the row again, with the same Message.ID, which a room takes
// once. Only a hook, which is told the id, and a customer-service message, of which WeChat knows no id, can arrive
// twice that way.
// Chase: one node of all asks; when it dies, another one begins within a minute.
// Order: rows of one kind to one receiver (of a hook: about one order) are relayed in the order of their commits.
// Lifecycle: Run returns when everything that it started has ended.
// Dependencies: hub, store, wechat; never web or SQL. HTTP only to hooks.
package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

const (
	sweepFirst = time.Minute // a start is busy enough
	sweepEvery = time.Hour   // what it deletes outlived its use by hours anyway
	sweepWait  = 5 * time.Minute
	renewEvery = 30 * time.Second // a copy of the database that is two of them older than a kill does not pass for it
)

// Options say between whom Jobs carries. Hub and Store are required.
type Options struct {
	Hub    *hub.Hub
	Store  *store.DB
	WeChat *wechat.Client // nil: calls of WeChat wait in the outbox
	MP     *wechat.Client // of the official account; likewise
	AppID  string         // of WeChat
	// MPAppID is that of MP.
	MPAppID string
	// Fallbacks are the rules by which mail is told another way; nil: it only waits.
	Fallbacks *Fallbacks
	Node      string // names this process in leases, no other process may bear it; empty: a random name
	Till      Till   // nil: nobody asks WeChat Pay about orders
	// OrderLife is how long an order may stay unpaid before it is closed. 0: two hours, as long as a prepay_id.
	OrderLife time.Duration
	Hooks     []Hook           // CheckHooks found them good
	Now       func() time.Time // nil: time.Now; what decides whom to ask when
	Logger    *slog.Logger     // nil: nothing is logged
	// BeforeRelay, BeforeSend and AfterSend, when set, are called where a process may die: after rows were claimed and
	// before they are relayed; after it was written down that a letter is told another way and before WeChat is called;
	// and when WeChat has answered.
	BeforeRelay, BeforeSend, AfterSend func()
}

// Jobs relays until its context ends.
type Jobs struct {
	hub         *hub.Hub
	db          *store.DB
	wechat      *wechat.Client
	mp          *wechat.Client
	owner       string
	log         *slog.Logger
	beforeRelay func()
	beforeSend  func()
	afterSend   func()
	appID       string
	mpAppID     string
	book        *Fallbacks

	till      Till
	orderLife time.Duration
	now       func() time.Time
	chased    chased

	flows []*flow
	stats tallies
	done  *done
	rooms *lane // own workers, so that a slow WeChat delays no notice
	sends *lane
	ships *lane
	hooks map[string]*caller // by name
}

// New prepares a relay; Run starts it.
func New(o Options) *Jobs {
	j := &Jobs{
		hub: o.Hub, db: o.Store, wechat: o.WeChat, mp: o.MP,
		owner: o.Node, log: o.Logger, beforeRelay: o.BeforeRelay,
		till: o.Till, orderLife: o.OrderLife, now: o.Now, hooks: make(map[string]*caller),
		chased:     chased{asked: make(map[string]time.Time), again: make(map[string]retry)},
		beforeSend: o.BeforeSend, afterSend: o.AfterSend, appID: o.AppID, mpAppID: o.MPAppID, book: o.Fallbacks,
	}
	if j.orderLife <= 0 {
		j.orderLife = orderLife
	}
	if j.now == nil {
		j.now = time.Now
	}
	for _, h := range o.Hooks {
		j.hooks[h.Name] = j.newCaller(h)
	}
	if j.owner == "" {
		j.owner = uuid.NewString()
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	for _, f := range []*func(){&j.beforeRelay, &j.beforeSend, &j.afterSend} {
		if *f == nil {
			*f = func() {}
		}
	}
	j.rooms = newLane(roomWorkers, batch, j.publishChain)
	j.sends = newLane(sendWorkers, batch, j.sendChain)
	j.ships = newLane(shipWorkers, batch, j.shipChain)
	j.flows = j.newFlows()
	j.done = newDone()
	return j
}

// Run relays and sweeps until ctx ends, and returns nil when everything that it started has ended too: rows that
// are being relayed then are finished and settled (seconds), the others are left to their leases. Call it once.
func (j *Jobs) Run(ctx context.Context) error {
	var all, settling sync.WaitGroup
	settle, settled := context.WithCancel(context.WithoutCancel(ctx))
	settling.Go(func() { j.settleDone(settle) })
	defer settling.Wait()
	defer settled()
	all.Go(func() { j.rooms.run(ctx) })
	all.Go(func() { j.sends.run(ctx) })
	all.Go(func() { j.ships.run(ctx) })
	all.Go(func() { j.sweep(ctx) })
	all.Go(func() { j.renew(ctx) })
	if j.book != nil {
		all.Go(func() { j.fallBack(ctx) })
	}
	if j.till != nil {
		all.Go(func() { j.chase(ctx) })
	}
	if books, ok := j.till.(Books); ok {
		all.Go(func() { j.keepBooks(ctx, books) })
	}
	for _, c := range j.hooks {
		all.Go(func() {
			c.lane.run(ctx)
			c.http.CloseIdleConnections()
		})
	}
	j.relay(ctx)
	all.Wait()
	return nil
}

// renew makes the database tell copies of itself, twice a minute.
func (j *Jobs) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		renewing, cancel := context.WithTimeout(ctx, settleWait)
		err := j.db.Renew(renewing)
		cancel()
		if err != nil && !failing && ctx.Err() == nil {
			j.log.Warn("a copy of the database that is put back may pass for it", "err", err)
		}
		failing = err != nil
	}
}

// sweep deletes what has outlived its use, every hour or so: several nodes should not do it at once.
func (j *Jobs) sweep(ctx context.Context) {
	timer := time.NewTimer(sweepFirst + rand.N(sweepFirst))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		sweeping, cancel := context.WithTimeout(ctx, sweepWait)
		if err := j.db.Sweep(sweeping); err != nil && ctx.Err() == nil {
			j.log.Warn("sweep failed, the next one is in an hour", "err", err)
		}
		cancel()
		timer.Reset(sweepEvery + rand.N(sweepEvery/10))
	}
}
