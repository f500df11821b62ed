package hub

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A RedisServer is what one server of the Redis that joins the nodes tells of itself.
type RedisServer struct {
	Version  string        // "7.0.15"
	Eviction string        // its maxmemory-policy; only noeviction loses nothing; empty: it does not tell
	Keeps    bool          // it writes to disk, by AOF or snapshots
	Trip     time.Duration // of one question
	Skew     time.Duration // its clock minus ours, as exact as half of Trip
}

// Servers asks the Redis, or every master of a Redis Cluster, what it is, after a message has come round. ErrAway: none
// does, and rooms do not work. Any other error: it may not be asked, say by an ACL, and rooms work all the same.
func (b *RedisBroker) Servers(ctx context.Context) ([]RedisServer, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	l := b.line(ordersRoom)
	select {
	case <-l.first:
	case <-ctx.Done():
		return nil, fmt.Errorf("redis: no message comes round: %w", cmp.Or(l.healthy(), ErrAway))
	}
	var mu sync.Mutex
	var list []RedisServer
	ask := func(ctx context.Context, c *redis.Client) error {
		began := time.Now()
		clock, err := c.Time(ctx).Result()
		if err != nil {
			return err
		}
		s := RedisServer{Trip: time.Since(began)}
		s.Skew = clock.Sub(began.Add(s.Trip / 2))
		text, err := c.Info(ctx).Result() // all sections: one question for every version
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "redis_version":
				s.Version = value
			case "maxmemory_policy":
				s.Eviction = value
			case "aof_enabled":
				s.Keeps = s.Keeps || value == "1"
			}
		}
		if save, err := c.ConfigGet(ctx, "save").Result(); err == nil && save["save"] != "" {
			s.Keeps = true
		}
		mu.Lock()
		defer mu.Unlock()
		list = append(list, s)
		return nil
	}
	var err error
	switch c := b.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ask)
	case *redis.Client:
		err = ask(ctx, c)
	default:
		err = fmt.Errorf("%T cannot be asked", c)
	}
	if err != nil {
		return nil, fmt.Errorf("redis servers: %w", b.fault(err))
	}
	return list, nil
}
