package jobs

import (
	"context"
	"sync"
	"time"

	"wxhub/store"
)

// A chain is rows of one kind to one receiver, in the order of their commits, and until when they are ours.
type chain struct {
	rows  []store.OutboxRow
	until time.Time
}

// lasts tells whether the lease outlives a call that takes d. What does not is left alone: somebody else may
// claim it at any moment.
func (c chain) lasts(d time.Duration) bool {
	return time.Until(c.until) > d
}

// chains sorts claimed rows by receiver. Rows come in Seq order and keep it.
func chains(rows []store.OutboxRow, until time.Time) []chain {
	var out []chain
	place := make(map[string]int, len(rows))
	for _, row := range rows {
		at, ok := place[row.To]
		if !ok {
			at = len(out)
			place[row.To] = at
			out = append(out, chain{until: until})
		}
		out[at].rows = append(out[at].rows, row)
	}
	return out
}

// A lane works on the chains of one kind with a few workers of its own. It holds a bounded number of chains;
// those beyond are turned away.
type lane struct {
	workers int
	work    func(ctx context.Context, c chain)
	waiting chan chain // never closed
}

func newLane(workers, depth int, work func(context.Context, chain)) *lane {
	return &lane{workers: workers, work: work, waiting: make(chan chain, depth)}
}

// space is how many chains it surely takes; 0 also while more than half of it is full, so that claims stay worth their
// transaction.
func (l *lane) space() int {
	if free := cap(l.waiting) - len(l.waiting); 2*free >= cap(l.waiting) {
		return free
	}
	return 0
}

// offer hands a chain to the workers, or reports that the lane is full.
func (l *lane) offer(c chain) bool {
	select {
	case l.waiting <- c:
		return true
	default:
		return false
	}
}

// run works until ctx ends and the workers have finished what they had in hand.
func (l *lane) run(ctx context.Context) {
	var all sync.WaitGroup
	for range l.workers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case c := <-l.waiting:
					l.work(ctx, c)
				}
			}
		})
	}
	all.Wait()
}
