package hub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// An outage is a time in which Redis cannot be subscribed to. The log hears of it twice: when it begins and when it
// is over.
type outage struct {
	log *slog.Logger

	mu       sync.Mutex // guards what follows
	lines    map[*line]struct{}
	since    time.Time
	replaced uint64 // subscriptions that had carried round trips
	toldAt   time.Time
}

// lost notes that l cannot be had for now.
func (o *outage) lost(l *line, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == 0 {
		o.lines, o.since = make(map[*line]struct{}), time.Now()
		o.log.Warn("redis does not answer: rooms wait, mail goes by the database", "error", err)
	}
	o.lines[l] = struct{}{}
}

// found notes that l carries round trips.
func (o *outage) found(l *line) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, was := o.lines[l]; !was {
		return
	}
	if delete(o.lines, l); len(o.lines) == 0 {
		o.log.Info("redis answers again", "after", time.Since(o.since).Round(time.Millisecond))
	}
}

// broken notes that a subscription has ended that was sound before. Those of a second are told together.
func (o *outage) broken(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replaced++
	if time.Since(o.toldAt) > time.Second {
		o.toldAt = time.Now()
		o.log.Warn("a subscription to redis is replaced", "replaced", o.replaced, "error", err)
	}
}

// A BrokerState is how well a Cluster is heard.
type BrokerState struct {
	Silent   time.Duration // since the last round trip over the subscription that is worst off
	Replaced uint64        // subscriptions that broke
}

// State implements Cluster.
func (b *RedisBroker) State() BrokerState {
	b.linesMu.Lock()
	lines := b.lines
	b.linesMu.Unlock()
	var s BrokerState
	for _, l := range lines {
		if l != nil {
			s.Silent = max(s.Silent, time.Since(time.Unix(0, l.seen.Load())))
		}
	}
	b.outage.mu.Lock()
	s.Replaced = b.outage.replaced
	b.outage.mu.Unlock()
	return s
}

// consequences is a log for what follows from an absence that has been told already: records that carry ErrAway are for
// who looks closely (debug).
func consequences(log *slog.Logger) *slog.Logger { return slog.New(demoting{log.Handler()}) }

type demoting struct{ slog.Handler }

func (d demoting) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		if ok && errors.Is(err, ErrAway) {
			r.Level = slog.LevelDebug
		}
		return r.Level != slog.LevelDebug
	})
	if !d.Enabled(ctx, r.Level) {
		return nil
	}
	return d.Handler.Handle(ctx, r)
}

func (d demoting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoting{d.Handler.WithAttrs(attrs)}
}
func (d demoting) WithGroup(name string) slog.Handler { return demoting{d.Handler.WithGroup(name)} }
