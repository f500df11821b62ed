package jobs

import (
	"context"
	"slices"
	"sync"

	"wxhub/store"
)

// done are rows that were relayed and wait to be settled. What many workers finished at the same time is settled in one
// transaction.
type done struct {
	mu   sync.Mutex
	rows []store.OutboxRow
	more chan struct{} // 1 deep
}

func newDone() *done { return &done{more: make(chan struct{}, 1)} }

func (d *done) add(rows []store.OutboxRow) {
	if len(rows) == 0 {
		return
	}
	d.mu.Lock()
	d.rows = append(d.rows, rows...)
	d.mu.Unlock()
	select {
	case d.more <- struct{}{}:
	default:
	}
}

func (d *done) take() []store.OutboxRow {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := d.rows
	d.rows = nil
	return rows
}

// settleDone settles until ctx ends, and then what is left.
func (j *Jobs) settleDone(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-j.done.more:
		}
		for piece := range slices.Chunk(j.done.take(), 2*batch) {
			j.settle(ctx, piece...)
		}
	}
}
