package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

const (
	batch     = 256             // rows claimed at once
	pollEvery = time.Second     // the safety net under Wake: rows of other nodes, leases and delays that ran out
	lease     = 4 * time.Second // with pollEvery: what a crash held in hand is relayed within five seconds
	claimWait = 3 * time.Second // shorter than the lease, or what comes back would be nobody's already

	publishWait = 2 * time.Second // one message into a room
	sendWait    = 3 * time.Second // one call of WeChat, which commonly takes a tenth of that
	settleWait  = 5 * time.Second // worth waiting for: an unsettled call of WeChat is made twice

	roomWorkers = 8
	sendWorkers = 8

	paceRetry    = 500 * time.Millisecond // a room that has its fill
	roomRetryMax = 5 * time.Second        // a Broker that is back is noticed soon
	sendRetryMax = 5 * time.Minute        // of a WeChat that is away
	quotaRetry   = time.Minute            // WeChat counts calls by the minute and by the day
	roomAge      = 24 * time.Hour         // a notice is news no longer than that
	sendAge      = 48 * time.Hour         // WeChat delivers a customer-service message no later than that
	unconfigured = 60 * time.Second       // nobody configures an app within a running process
)

// A flow is a part of the outbox with a pace of its own, so that what is slow delays nothing else.
type flow struct {
	kinds []store.TellingKind
	space func() int                                                         // rows that can be taken in hand now
	take  func(ctx context.Context, rows []store.OutboxRow, until time.Time) // rows are ours until then
	again chan struct{}                                                      // 1 deep: look once more
}

// flows divide the outbox by what it costs to relay: a ring nothing, a notice a round trip to the Broker, a message to
// WeChat a tenth of a second, a hook whatever the shop's own system takes.
func (j *Jobs) newFlows() []*flow {
	lanes := func(l *lane) (func() int, func(context.Context, []store.OutboxRow, time.Time)) {
		return l.space, func(_ context.Context, rows []store.OutboxRow, until time.Time) {
			j.offer(l, rows[0].Kind, chains(rows, until))
		}
	}
	roomSpace, rooms := lanes(j.rooms)
	sendSpace, sends := lanes(j.sends)
	shipSpace, ships := lanes(j.ships)
	flows := []*flow{
		{kinds: []store.TellingKind{store.TellMail}, space: func() int { return batch }, take: func(ctx context.Context, rows []store.OutboxRow, _ time.Time) { j.ring(ctx, rows) }},
		{kinds: []store.TellingKind{store.TellRoom}, space: roomSpace, take: rooms},
		{kinds: []store.TellingKind{store.TellCustomSend, store.TellMPSend, store.TellFollower}, space: sendSpace, take: sends},
		{kinds: []store.TellingKind{store.TellShipping}, space: shipSpace, take: ships},
		{kinds: []store.TellingKind{store.TellHook}, space: func() int { return batch }, take: j.callHooks},
	}
	for _, f := range flows {
		f.again = make(chan struct{}, 1)
	}
	return flows
}

// relay claims what is due, until ctx ends: at once when this process committed something, or another one says that it
// did; and every second, whoever died meanwhile.
func (j *Jobs) relay(ctx context.Context) {
	var all sync.WaitGroup
	for _, f := range j.flows {
		all.Go(func() { j.follow(ctx, f) })
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-poll.C:
			j.nudge("")
		case <-j.db.Wake():
			j.nudge("")
		}
	}
	all.Wait()
}

// follow relays one flow.
func (j *Jobs) follow(ctx context.Context, f *flow) {
	failing := false
	for ctx.Err() == nil {
		n := min(f.space(), batch)
		if n > 0 {
			claimed, err := j.claim(ctx, f, n)
			if err != nil && ctx.Err() == nil && !failing {
				j.log.Error("the outbox cannot be read, what was committed waits", "kinds", f.kinds, "err", err)
			}
			if err == nil && failing {
				j.log.Info("the outbox can be read again", "kinds", f.kinds)
			}
			failing = err != nil
			if claimed == n {
				continue // there may be more
			}
		}
		select {
		case <-ctx.Done():
		case <-f.again:
		}
	}
}

// claim leases what is due of a flow and takes it in hand.
func (j *Jobs) claim(ctx context.Context, f *flow, n int) (int, error) {
	claiming, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	until := time.Now().Add(lease)
	rows, err := j.db.ClaimOutbox(claiming, j.owner, f.kinds, n, lease)
	if err != nil {
		return 0, fmt.Errorf("claim: %w", err)
	}
	if len(rows) > 0 {
		j.beforeRelay()
		byKind := make(map[store.TellingKind][]store.OutboxRow) // one receiver's rows of two kinds are two chains
		for _, row := range rows {
			byKind[row.Kind] = append(byKind[row.Kind], row)
		}
		for _, kind := range f.kinds {
			if len(byKind[kind]) > 0 {
				f.take(ctx, byKind[kind], until)
			}
		}
	}
	return len(rows), nil
}

// offer hands chains to a lane. One that finds it full is left to its lease: it comes back by itself.
func (j *Jobs) offer(l *lane, kind store.TellingKind, waiting []chain) {
	for i, c := range waiting {
		if !l.offer(c) {
			j.log.Debug("lane is full, rows wait for their lease to end", "kind", kind, "receivers", len(waiting)-i)
			return
		}
	}
}

// ring tells the hub whose mail grew. It is the letters' own sequence that carries them, so one ring is enough.
func (j *Jobs) ring(ctx context.Context, rows []store.OutboxRow) {
	settled := make([]store.Rung, len(rows))
	rung := make(map[string]bool, len(rows))
	for i, row := range rows {
		settled[i] = store.Rung{Seq: row.Seq, User: row.To, ID: row.ID}
		if j.book != nil {
			if r := j.book.rule(row.Action); r != nil {
				settled[i].Fallback = &r.after
			}
		}
		if !rung[row.To] {
			rung[row.To] = true
			j.hub.Ring("user:" + row.To)
		}
	}
	j.finish(ctx, rows, func(ctx context.Context) error { return j.db.SettleMail(ctx, j.owner, settled) })
}

// publishChain says a chain's messages in their room, in order, up to the first that fails.
func (j *Jobs) publishChain(ctx context.Context, c chain) {
	var done []store.OutboxRow
	for _, row := range c.rows {
		if !c.lasts(publishWait) {
			break
		}
		if time.Since(row.FreshAt) > roomAge {
			j.bury(ctx, row, errStale)
			continue
		}
		err := j.publish(ctx, row)
		switch {
		case err == nil:
			done = append(done, row)
			continue
		case errors.Is(err, hub.ErrRoomName):
			j.bury(ctx, row, err)
			continue
		case errors.Is(err, hub.ErrTooMany): // the room's rule: the rest of the chain waits behind it
			j.postpone(ctx, row, err, paceRetry)
		case errors.Is(err, hub.ErrClosed): // this node stops; another one, or the next start, takes the row
		default:
			j.postpone(ctx, row, err, grow(row.Attempts-1, roomRetryMax))
		}
		break
	}
	j.done.add(done)
}

// publish outlives ctx: a stop lets it end, and settles it.
func (j *Jobs) publish(ctx context.Context, row store.OutboxRow) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWait)
	defer cancel()
	_, err := j.hub.PublishPaced(ctx, row.To, hub.Message{
		ID: row.ID, Action: row.Action, Payload: row.Payload, At: row.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("publish %s in %s: %w", row.ID, row.To, err)
	}
	return nil
}

// sendChain sends a chain's customer-service messages to their receiver, in order, up to the first that has to wait.
func (j *Jobs) sendChain(ctx context.Context, c chain) {
	for _, row := range c.rows {
		if ctx.Err() != nil || !c.lasts(sendWait) {
			return
		}
		switch err := j.send(ctx, row); {
		case err == nil:
			j.settle(ctx, row)
		case permanent(err):
			j.bury(ctx, row, err)
		default:
			j.postpone(ctx, row, err, sendDelay(row.Attempts-1, err))
			return
		}
	}
}

// Reasons of our own why a message is not sent.
var (
	errNoWeChat = errors.New("no WeChat app is configured")
	errTooOld   = errors.New("waited longer than WeChat's 48 hours")
	errStale    = errors.New("waited longer than a day: no news any more")
	errPayload  = errors.New("not a customer-service message")
)

// send outlives ctx as publish does: a call cut off may have been heard, and would be made again.
func (j *Jobs) send(ctx context.Context, row store.OutboxRow) error {
	if time.Since(row.FreshAt) > sendAge {
		return errTooOld
	}
	to := j.platform(row.Kind)
	if to == nil {
		return errNoWeChat
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendWait)
	defer cancel()
	if row.Kind == store.TellFollower {
		return j.askFollower(ctx, row)
	}
	var m wechat.CustomMessage
	if err := json.Unmarshal(row.Payload, &m); err != nil {
		return errPayload
	}
	err := to.SendCustom(ctx, row.To, m)
	if used := errors.Is(err, wechat.ErrWindow); used || err == nil { // counted for those who ask how many are left
		counting, cancel := context.WithTimeout(ctx, settleWait)
		defer cancel()
		if err := j.db.SpendReply(counting, j.appOf(row.Kind), row.To, used); err != nil {
			j.log.Warn("a customer-service message was not counted", "id", row.ID, "err", err)
		}
	}
	return err
}

// permanent tells whether trying again would be answered alike.
func permanent(err error) bool {
	for _, fatal := range []error{wechat.ErrWindow, wechat.ErrOpenID, wechat.ErrRequest, errTooOld, errPayload} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// sendDelay is how long a message that failed before waits after err: as WeChat asks, and longer where
// calls are counted.
func sendDelay(failed int, err error) time.Duration {
	delay := grow(failed, sendRetryMax)
	var answer *wechat.Error
	if errors.As(err, &answer) {
		delay = max(delay, answer.RetryAfter)
	}
	switch {
	case errors.Is(err, errNoWeChat):
		delay = unconfigured
	case errors.Is(err, wechat.ErrTooOften), errors.Is(err, wechat.ErrConfig):
		delay = max(delay, quotaRetry)
	}
	return delay
}

// grow doubles a second with each failure before, up to limit, and takes away up to a half at random.
func grow(failed int, limit time.Duration) time.Duration {
	d := limit
	if failed < 16 {
		d = min(limit, time.Second<<max(failed, 0))
	}
	return d - rand.N(d/2)
}

// settle marks rows as done. It tries for some seconds also when ctx has ended; what it cannot settle is relayed again.
func (j *Jobs) settle(ctx context.Context, rows ...store.OutboxRow) {
	if len(rows) == 0 {
		return
	}
	seqs := make([]int64, len(rows))
	for i, row := range rows {
		seqs[i] = row.Seq
	}
	j.finish(ctx, rows, func(ctx context.Context) error { return j.db.SettleOutbox(ctx, j.owner, seqs) })
}

// finish settles rows of one kind.
func (j *Jobs) finish(ctx context.Context, rows []store.OutboxRow, settle func(context.Context) error) {
	kind := rows[0].Kind
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, settle(ctx)
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}))
	if err != nil {
		j.log.Error("relayed rows could not be settled and will be relayed again", "rows", len(rows), "err", err)
	} else {
		done := KindStats{Relayed: uint64(len(rows))}
		for _, row := range rows {
			done.Took += max(0, time.Since(row.FreshAt))
		}
		j.stats.add(kind, done)
	}
	j.nudge(kind)
}

// nudge makes the flow of a kind look again: what stood behind a row is free now. "": every flow, something was committed.
func (j *Jobs) nudge(kind store.TellingKind) {
	for _, f := range j.flows {
		if kind != "" && !slices.Contains(f.kinds, kind) {
			continue
		}
		select {
		case f.again <- struct{}{}:
		default:
		}
	}
}

// postpone gives a row back, due after delay.
func (j *Jobs) postpone(ctx context.Context, row store.OutboxRow, cause error, delay time.Duration) {
	j.stats.add(row.Kind, KindStats{Retries: 1})
	level := j.log.Info
	switch {
	case errors.Is(cause, wechat.ErrConfig):
		level = j.log.Error // somebody has to do something
	case errors.Is(cause, hub.ErrTooMany):
		level = j.log.Debug // as the settings want it
	}
	level("relay will try again", "kind", row.Kind, "id", row.ID, "attempts", row.Attempts, "in", delay, "err", cause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	if err := j.db.DeferOutbox(ctx, j.owner, row.Seq, time.Now().Add(delay), cause.Error()); err != nil {
		j.log.Warn("row could not be postponed and comes back when its lease ends", "id", row.ID, "err", err)
	}
}

// bury gives a row up, for an admin to see.
func (j *Jobs) bury(ctx context.Context, row store.OutboxRow, cause error) {
	j.stats.add(row.Kind, KindStats{GivenUp: 1})
	j.log.Warn("relay gave up", "kind", row.Kind, "id", row.ID, "attempts", row.Attempts, "err", cause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	if err := j.db.BuryOutbox(ctx, j.owner, row.Seq, cause.Error()); err != nil {
		j.log.Warn("row could not be given up and comes back when its lease ends", "id", row.ID, "err", err)
	}
	j.nudge(row.Kind)
}
