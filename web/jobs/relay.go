package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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

	roomRetryMax = 5 * time.Second  // a Broker that is back is noticed soon
	sendRetryMax = 5 * time.Minute  // of a WeChat that is away
	quotaRetry   = time.Minute      // WeChat counts calls by the minute and by the day
	sendAge      = 48 * time.Hour   // WeChat delivers a customer-service message no later than that
	unconfigured = 60 * time.Second // nobody configures an app within a running process
)

// everyKind is what the relay carries.
var everyKind = []store.TellingKind{store.TellMail, store.TellRoom, store.TellCustomSend, store.TellMPSend, store.TellFollower, store.TellHook}

// relay claims what is due, until ctx ends.
func (j *Jobs) relay(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	failing := false
	for ctx.Err() == nil {
		n, err := j.claim(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			j.log.Error("the outbox cannot be read, what was committed waits", "err", err)
		}
		if err == nil && failing {
			j.log.Info("the outbox can be read again")
		}
		failing = err != nil
		if n == batch {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-j.db.Wake():
		case <-j.again:
		}
	}
}

// claim leases what is due, rings for mail at once, and hands the rest to its lane. A chain that finds its lane full
// is left to its lease: it comes back by itself, and costs nothing until then.
func (j *Jobs) claim(ctx context.Context) (int, error) {
	claiming, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	until := time.Now().Add(lease)
	rows, err := j.db.ClaimOutbox(claiming, j.owner, everyKind, batch, lease)
	if err != nil {
		return 0, fmt.Errorf("claim: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	j.beforeRelay()

	kinds := make(map[store.TellingKind][]store.OutboxRow)
	for _, row := range rows {
		kinds[row.Kind] = append(kinds[row.Kind], row)
	}
	for kind, rows := range kinds {
		switch kind {
		case store.TellMail:
			j.ring(ctx, rows)
		case store.TellRoom:
			j.offer(j.rooms, kind, chains(rows, until))
		case store.TellCustomSend, store.TellMPSend, store.TellFollower:
			j.offer(j.sends, kind, chains(rows, until))
		case store.TellHook:
			j.callHooks(ctx, rows, until)
		default:
			for _, row := range rows {
				j.bury(ctx, row, fmt.Errorf("unknown kind %q", kind))
			}
		}
	}
	return len(rows), nil
}

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
	seqs := make([]int64, len(rows))
	rung := make(map[string]bool, len(rows))
	for i, row := range rows {
		seqs[i] = row.Seq
		if !rung[row.To] {
			rung[row.To] = true
			j.hub.Ring("user:" + row.To)
		}
	}
	j.settle(ctx, seqs)
}

// publishChain says a chain's messages in their room, in order, up to the first that fails.
func (j *Jobs) publishChain(ctx context.Context, c chain) {
	var done []int64
	for _, row := range c.rows {
		if !c.lasts(publishWait) {
			break
		}
		err := j.publish(ctx, row)
		switch {
		case err == nil:
			done = append(done, row.Seq)
			continue
		case errors.Is(err, hub.ErrRoomName):
			j.bury(ctx, row, err)
			continue
		case errors.Is(err, hub.ErrClosed): // this node stops; another one, or the next start, takes the row
		default:
			j.postpone(ctx, row, err, grow(row.Attempts-1, roomRetryMax))
		}
		break
	}
	j.settle(ctx, done)
}

// publish outlives ctx: a stop lets it end, and settles it.
func (j *Jobs) publish(ctx context.Context, row store.OutboxRow) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWait)
	defer cancel()
	_, err := j.hub.Publish(ctx, row.To, hub.Message{
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
			j.settle(ctx, []int64{row.Seq})
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
	errPayload  = errors.New("not a customer-service message")
)

// send outlives ctx as publish does: a call cut off may have been heard, and would be made again.
func (j *Jobs) send(ctx context.Context, row store.OutboxRow) error {
	if time.Since(row.CreatedAt) > sendAge {
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
	return to.SendCustom(ctx, row.To, m)
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
func (j *Jobs) settle(ctx context.Context, seqs []int64) {
	if len(seqs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, j.db.SettleOutbox(ctx, j.owner, seqs)
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}))
	if err != nil {
		j.log.Error("relayed rows could not be settled and will be relayed again", "rows", len(seqs), "first", seqs[0], "err", err)
	}
	j.nudge()
}

// nudge makes the relay claim again: what stood behind a row is free now.
func (j *Jobs) nudge() {
	select {
	case j.again <- struct{}{}:
	default:
	}
}

// postpone gives a row back, due after delay.
func (j *Jobs) postpone(ctx context.Context, row store.OutboxRow, cause error, delay time.Duration) {
	level := j.log.Info
	if errors.Is(cause, wechat.ErrConfig) {
		level = j.log.Error // somebody has to do something
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
	j.log.Warn("relay gave up", "kind", row.Kind, "id", row.ID, "attempts", row.Attempts, "err", cause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	if err := j.db.BuryOutbox(ctx, j.owner, row.Seq, cause.Error()); err != nil {
		j.log.Warn("row could not be given up and comes back when its lease ends", "id", row.ID, "err", err)
	}
	j.nudge()
}
