package hub

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Many who read the same at once share round trips, and nobody gets what was read before it asked.
func TestRedisBroker_readsAreShared(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	b := s.broker(t)
	ctx, keep := t.Context(), Keep{Size: 1000, Age: time.Hour}
	for range 50 {
		if _, err := b.Publish(ctx, "r", m2(), keep); err != nil {
			t.Fatal(err)
		}
	}
	calls := func() (n int) {
		c := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2})
		defer c.Close()
		text, err := c.Info(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "cmdstat_evalsha:calls=")
		_, _ = fmt.Sscan(strings.SplitN(rest, ",", 2)[0], &n)
		return n
	}
	before := calls()
	var readers sync.WaitGroup
	for i := range 2000 {
		readers.Go(func() {
			after, limit := uint64(40), 1+i%20
			p, err := b.Read(ctx, "r", Query{After: after, Limit: limit})
			if err != nil || p.Head != 50 || len(p.Messages) != min(limit, 10) || p.Messages[0].Offset != 41 {
				t.Errorf("limit %d: %+v, %v", limit, p, err)
			}
		})
	}
	readers.Wait()
	if n := calls() - before; n > 1000 {
		t.Errorf("2000 reads were %d calls", n)
	} else {
		t.Logf("2000 reads were %d calls", n)
	}
	for i := range 20 {
		readers.Go(func() {
			for range 50 {
				at, err := b.Publish(ctx, fmt.Sprint("r", i%3), m2(), keep)
				if err != nil {
					t.Error(err)
					return
				}
				p, err := b.Read(ctx, fmt.Sprint("r", i%3), Query{After: at.Offset - 1, Limit: 1})
				if err != nil || p.Head < at.Offset || len(p.Messages) != 1 || p.Messages[0].Offset != at.Offset {
					t.Errorf("published at %d, then read %+v, %v", at.Offset, p, err)
				}
			}
		})
	}
	readers.Wait()
	for _, q := range []Query{{Limit: 3, Newest: true}, {Limit: 5, Newest: true}, {After: math.MaxUint64, Limit: 9}, {Limit: -1}} {
		readers.Go(func() {
			p, err := b.Read(ctx, "r", q)
			want := max(0, q.Limit)
			if q.After > 0 {
				want = 0
			}
			if err != nil || len(p.Messages) != want || want > 0 && p.Messages[want-1].Offset != 50 {
				t.Errorf("%+v: %+v, %v", q, p, err)
			}
		})
	}
	readers.Wait()
}
