package hub

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A reader joins the reads of many callers: a lone one goes out at once, those that come while it is on its way go
// together in the next round trip, and of those that ask for the same only one is sent. So a thousand phones that come
// back to where they all stood cost one read, and none is answered with what was read before it asked.
type reader struct {
	broker *RedisBroker

	mu      sync.Mutex
	waiting []*lookup
	running bool
}

type lookup struct {
	from readFrom
	q    Query
	page Page
	err  error
	done chan struct{}
	gone bool // who asked waits no longer; guarded by reader.mu
}

// A readFrom is what reads must have in common to be one.
type readFrom struct {
	room   string
	after  uint64
	newest int // limit of a read from the newest, whose result no longer one contains; 0: from after on
}

const batchReads = 64 // different ones that share a round trip: each may answer with a page

// Read implements Stream.
func (b *RedisBroker) Read(ctx context.Context, room string, q Query) (Page, error) {
	r := &lookup{from: readFrom{room: room, after: q.After}, q: q, done: make(chan struct{})}
	if q.After >= math.MaxInt64 {
		r.q.Limit = 0
	}
	if q.Newest {
		r.from.newest = 1 + max(0, r.q.Limit)
	}
	rd := &b.reads[0]
	if b.sharded {
		rd = &b.reads[partitionOf(room)]
	}
	rd.mu.Lock()
	rd.waiting = append(rd.waiting, r)
	if !rd.running {
		rd.running = b.start(rd.run)
	}
	running := rd.running
	rd.mu.Unlock()
	if !running {
		return Page{}, ErrClosed
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	select {
	case <-r.done:
		return r.page, r.err
	case <-ctx.Done():
		rd.mu.Lock()
		r.gone = true
		rd.mu.Unlock()
		return Page{}, fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
	}
}

func (rd *reader) run() {
	for {
		rd.mu.Lock()
		batch := make(map[readFrom][]*lookup)
		n := 0
		for ; n < len(rd.waiting) && len(batch) < batchReads; n++ {
			if r := rd.waiting[n]; !r.gone {
				batch[r.from] = append(batch[r.from], r)
			}
		}
		rd.waiting = rd.waiting[n:]
		if n == 0 {
			rd.waiting, rd.running = nil, false
			rd.mu.Unlock()
			return
		}
		rd.mu.Unlock()
		if len(batch) > 0 {
			rd.broker.readAll(batch)
		}
	}
}

// readAll answers each group of lookups with one read.
func (b *RedisBroker) readAll(batch map[readFrom][]*lookup) {
	ctx, cancel := b.within(b.ctx)
	defer cancel()
	calls := make([]call, 0, len(batch))
	groups := make([][]*lookup, 0, len(batch))
	for from, group := range batch {
		limit, newest := 0, 0
		for _, r := range group {
			limit = max(limit, r.q.Limit)
		}
		if from.newest > 0 {
			newest = 1
		}
		part := b.part(from.room)
		calls = append(calls, call{readScript, []string{part.stream(from.room), part.meta(from.room)},
			[]any{newEpoch(), emptyAge.Milliseconds(), strconv.FormatUint(min(from.after, math.MaxInt64)+1, 10), limit, newest}})
		groups = append(groups, group)
	}
	cmds, _ := b.run(ctx, calls) // each has its own error
	for i, group := range groups {
		page, err := b.page(cmds[i], group[0].from)
		for _, r := range group {
			r.page, r.err = page, err
			if n := max(0, r.q.Limit); len(page.Messages) > n {
				r.page.Messages = page.Messages[:n:n]
			}
			close(r.done)
		}
	}
}

func (b *RedisBroker) page(cmd *redis.Cmd, from readFrom) (Page, error) {
	if err := cmd.Err(); err != nil {
		return Page{}, b.fault(err)
	}
	p, err := parsePage(cmd, from.newest > 0)
	if err != nil {
		return Page{}, fmt.Errorf("hub: redis: read %s: %w", from.room, err)
	}
	return p, nil
}
