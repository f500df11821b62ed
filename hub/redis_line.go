package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	lineChannels = 512 // channels in one SUBSCRIBE
	lineRetry    = 10 * time.Millisecond
	lineRetryTo  = 2 * time.Second
)

// A line is one subscription connection, which is replaced whenever it fails or carries no round trip.
//
// The client's PubSub would connect and subscribe again by itself and say nothing; and it takes a connection
// whose other end is gone for a sound one. So a line owns the connection: the first error ends it, a probe that
// does not come round ends it, and every new one puts all its rooms in doubt.
type line struct {
	broker *RedisBroker
	probe  string // the channel of its round trips

	seen  atomic.Int64 // Unix ns of the last round trip
	wake  chan struct{}
	first chan struct{} // closed at the first round trip
	once  sync.Once

	mu       sync.Mutex // guards what follows
	channels map[string]*channel
	changed  map[string]struct{} // channels to subscribe to or to leave
	err      error               // what went wrong last
	ps       *redis.PubSub       // to hang up
}

// A channel is what a line is, or wants to be, subscribed to.
type channel struct {
	wanted   int           // Subscribes minus Unsubscribes
	sent     bool          // the last command was to subscribe
	joining  int           // … and so many are not acknowledged
	leaving  int           // commands to leave that are not acknowledged
	done     chan struct{} // closed while it is subscribed
	finished bool          // done is closed
}

// line returns the line that serves a room, which exists from the first room on.
func (b *RedisBroker) line(room string) *line {
	i := 0
	probe := redisPrefix + "probe:" + b.node
	if b.sharded {
		i = partitionOf(room)
		probe = b.parts[i].prefix + "probe:" + b.node
	}
	b.linesMu.Lock()
	defer b.linesMu.Unlock()
	if b.lines[i] == nil {
		l := &line{broker: b, probe: probe, wake: make(chan struct{}, 1), first: make(chan struct{}),
			channels: make(map[string]*channel), changed: make(map[string]struct{})}
		l.channels[probe] = &channel{wanted: 1, done: make(chan struct{})}
		l.seen.Store(time.Now().UnixNano()) // the first round trip has its time too
		b.lines[i] = l
		b.start(l.run)
	}
	return b.lines[i]
}

// Subscribe implements Broker. It waits at most a second.
func (b *RedisBroker) Subscribe(ctx context.Context, room string) error {
	l := b.line(room)
	name := b.channel(room)
	l.mu.Lock()
	c := l.channels[name]
	if c == nil {
		c = &channel{done: make(chan struct{})}
		l.channels[name] = c
	}
	c.wanted++
	done := c.done
	if c.wanted == 1 {
		l.changed[name] = struct{}{}
	}
	l.mu.Unlock()
	l.nudge()
	if l.healthy() != nil { // it has been away for long: nobody has to wait to be told so
		select {
		case <-done:
			return nil
		default:
			return ErrAway
		}
	}
	t := time.NewTimer(b.clock.patience)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-b.ctx.Done():
		return ErrClosed
	case <-t.C:
		return ErrAway
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
	}
}

// Unsubscribe implements Broker.
func (b *RedisBroker) Unsubscribe(room string) {
	l := b.line(room)
	name := b.channel(room)
	l.mu.Lock()
	if c := l.channels[name]; c != nil {
		if c.wanted--; c.wanted == 0 {
			l.changed[name] = struct{}{}
		}
	}
	l.mu.Unlock()
	l.nudge()
}

func (l *line) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// healthy is nil while round trips come back.
func (l *line) healthy() error {
	silent := time.Since(time.Unix(0, l.seen.Load()))
	l.mu.Lock()
	err := l.err
	l.mu.Unlock()
	if silent < l.broker.clock.lost {
		return nil
	}
	if err == nil {
		err = errSilent
	}
	return fmt.Errorf("%w: no round trip over a subscription for %s: %w", ErrAway, silent.Round(time.Second), err)
}

var errSilent = errors.New("hub: redis: a subscription has gone silent")

// firstTrip waits for the first round trip.
func (l *line) firstTrip(ctx context.Context) {
	select {
	case <-l.first:
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.broker.outage.lost(l, cmp.Or(l.err, context.Cause(ctx)))
	}
}

func (l *line) hangUp() {
	l.mu.Lock()
	ps := l.ps
	l.mu.Unlock()
	if ps != nil {
		_ = ps.Close()
	}
}

// run keeps a connection until the broker ends.
func (l *line) run() {
	pause := lineRetry
	for l.broker.ctx.Err() == nil {
		began := time.Now()
		before := l.seen.Load()
		err := l.session()
		if l.broker.ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		if l.seen.Load() != before {
			l.broker.outage.broken(err)
		} else {
			l.broker.outage.lost(l, err)
		}
		l.broker.doubt() // what depends on announcements alone has to be looked for
		if time.Since(began) > l.broker.clock.lost {
			pause = lineRetry
		}
		if !l.broker.sleep(pause) {
			return
		}
		pause = min(2*pause, lineRetryTo)
	}
}

// session serves one connection until it fails.
func (l *line) session() error {
	b := l.broker
	var ps *redis.PubSub
	if b.sharded {
		ps = b.client.SSubscribe(b.ctx)
	} else {
		ps = b.client.Subscribe(b.ctx)
	}
	l.mu.Lock()
	l.ps = ps
	for name, c := range l.channels {
		if c.wanted == 0 {
			delete(l.channels, name)
			continue
		}
		if c.sent, c.joining, c.leaving = false, 0, 0; c.finished {
			c.done, c.finished = make(chan struct{}), false
		}
		l.changed[name] = struct{}{}
	}
	l.mu.Unlock()
	defer ps.Close()
	// What the probe's channel is subscribed by decides where a Cluster's line goes: to its partition's master.
	if err := l.subscribe(ps, []string{l.probe}); err != nil {
		return fmt.Errorf("hub: redis: subscribe: %w", err)
	}
	l.mu.Lock()
	c := l.channels[l.probe]
	c.sent = true
	c.joining++
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(b.ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		err := l.write(ctx, ps)
		cancel(err)
		_ = ps.Close() // wakes the reader
	})
	err := l.read(ps)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(err)
	writer.Wait()
	return err
}

func (l *line) subscribe(ps *redis.PubSub, names []string) error {
	ctx, cancel := l.broker.within(l.broker.ctx)
	defer cancel()
	if l.broker.sharded {
		return ps.SSubscribe(ctx, names...)
	}
	return ps.Subscribe(ctx, names...)
}

func (l *line) unsubscribe(ps *redis.PubSub, names []string) error {
	ctx, cancel := l.broker.within(l.broker.ctx)
	defer cancel()
	if l.broker.sharded {
		return ps.SUnsubscribe(ctx, names...)
	}
	return ps.Unsubscribe(ctx, names...)
}

// write subscribes and leaves in batches and sends probes, until ctx ends or something fails.
func (l *line) write(ctx context.Context, ps *redis.PubSub) error {
	tick := time.NewTicker(l.broker.clock.probe)
	defer tick.Stop()
	trips := make(chan struct{}, 1) // one probe at a time, beside the subscribing
	defer func() { trips <- struct{}{} }()
	trip := func() {
		select {
		case trips <- struct{}{}:
		default:
			return
		}
		go func() {
			defer func() { <-trips }()
			l.sendProbe(ctx)
		}()
	}
	if err := l.catchUp(ps); err != nil {
		return err
	}
	if err := ps.Ping(ctx, pingAll); err != nil { // its answer comes behind all that was subscribed to
		return fmt.Errorf("hub: redis: subscribe: %w", err)
	}
	opened := time.Now()
	trip()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
			if err := l.catchUp(ps); err != nil {
				return err
			}
		case <-tick.C:
			last := time.Unix(0, l.seen.Load())
			if last.Before(opened) {
				last = opened
			}
			if time.Since(last) > l.broker.clock.lost {
				return errSilent
			}
			trip()
		}
	}
}

const pingAll = "all"

func (l *line) sendProbe(ctx context.Context) {
	ctx, cancel := l.broker.within(ctx)
	defer cancel()
	nonce := strconv.FormatInt(time.Now().UnixNano(), 10)
	var err error
	if l.broker.sharded {
		err = l.broker.client.SPublish(ctx, l.probe, nonce).Err()
	} else {
		err = l.broker.client.Publish(ctx, l.probe, nonce).Err()
	}
	if err != nil && l.broker.ctx.Err() == nil {
		l.mu.Lock()
		l.err = fmt.Errorf("hub: redis: probe: %w", err)
		l.mu.Unlock()
		l.broker.doubt()
	}
}

// catchUp brings the subscriptions to what is wanted.
func (l *line) catchUp(ps *redis.PubSub) error {
	for {
		var join, leave []string
		l.mu.Lock()
		for name := range l.changed {
			if len(join) == lineChannels || len(leave) == lineChannels {
				break
			}
			delete(l.changed, name)
			c := l.channels[name]
			switch {
			case c == nil:
			case c.wanted > 0 && !c.sent:
				c.sent = true
				c.joining++
				join = append(join, name)
			case c.wanted == 0 && c.sent:
				c.sent = false
				c.leaving++
				if c.finished {
					c.done, c.finished = make(chan struct{}), false
				}
				leave = append(leave, name)
			default:
				l.forgetLocked(name, c)
			}
		}
		l.mu.Unlock()
		if len(join)+len(leave) == 0 {
			return nil
		}
		if len(leave) > 0 {
			if err := l.unsubscribe(ps, leave); err != nil {
				return fmt.Errorf("hub: redis: unsubscribe: %w", err)
			}
		}
		if len(join) > 0 {
			if err := l.subscribe(ps, join); err != nil {
				return fmt.Errorf("hub: redis: subscribe: %w", err)
			}
		}
	}
}

func (l *line) forgetLocked(name string, c *channel) {
	if c.wanted == 0 && !c.sent && c.joining == 0 && c.leaving == 0 {
		delete(l.channels, name)
	}
}

// read takes in what comes over the connection until it fails. There is no deadline: the writer hangs up.
func (l *line) read(ps *redis.PubSub) error {
	for {
		got, err := ps.Receive(l.broker.ctx)
		if err != nil {
			return fmt.Errorf("hub: redis: subscription: %w", err)
		}
		switch got := got.(type) {
		case *redis.Message:
			l.hear(got)
		case *redis.Subscription:
			if err := l.acknowledged(got); err != nil {
				return err
			}
		case *redis.Pong:
			if got.Payload == pingAll {
				l.mu.Lock()
				l.err = nil
				l.mu.Unlock()
				l.broker.doubt()
				l.broker.recount()
			}
		}
	}
}

func (l *line) hear(got *redis.Message) {
	b := l.broker
	if got.Channel == l.probe {
		l.seen.Store(time.Now().UnixNano())
		l.once.Do(func() { close(l.first) })
		b.outage.found(l)
		return
	}
	room, epoch, m, err := parseAnnouncement(got.Payload)
	if err != nil {
		b.log.Warn("an announcement cannot be read", "channel", got.Channel, "bytes", len(got.Payload))
		b.doubt()
		return
	}
	if room == ordersRoom {
		b.orders.nudge()
		return
	}
	if deliver := b.deliver.Load(); deliver != nil {
		(*deliver)(room, epoch, m)
	}
}

var errTakenAway = errors.New("hub: redis: a subscription was taken away: its partition has moved")

func (l *line) acknowledged(got *redis.Subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.channels[got.Channel]
	if strings.HasSuffix(got.Kind, "unsubscribe") {
		if c == nil || c.leaving == 0 {
			return errTakenAway
		}
		c.leaving--
		l.forgetLocked(got.Channel, c)
		return nil
	}
	if c == nil || c.joining == 0 {
		return errSubscribedAgain
	}
	if c.joining--; c.joining == 0 && c.sent && !c.finished {
		close(c.done)
		c.finished = true
	}
	l.forgetLocked(got.Channel, c)
	return nil
}

var errSubscribedAgain = errors.New("hub: redis: the client connected anew by itself")

// doubt has looked for what may have been announced in vain.
func (b *RedisBroker) doubt() {
	b.orders.nudge()
	if tell := b.tell.Load(); tell != nil {
		tell.Doubt(nil)
	}
}

// recount has recorded anew who is on this node.
func (b *RedisBroker) recount() {
	if tell := b.tell.Load(); tell != nil {
		tell.Recount()
	}
}
