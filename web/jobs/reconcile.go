package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	reconcileEvery = 10 * time.Minute
	reconcileLease = 8 * time.Minute // one node compares; when it dies, another one begins so much later
	reconcileBack  = 7               // days that are caught up with after a stop
	reconcileRest  = time.Hour       // before a bill that could not be had is asked for again
	billReady      = 10 * time.Hour  // after the end of its day, Beijing time
	reconcileName  = "reconcile"

	refreshEvery = 12 * time.Hour // of the platform's certificates, which live for years and change with notice
)

// Books are compared with WeChat Pay's bills. A Till that is one too has it done every day.
type Books interface {
	// Reconcile compares the bill of a day and keeps what came of it. wechat.ErrNotYet: there is none yet.
	Reconcile(ctx context.Context, day time.Time) (store.Reconciliation, error)
	// RefreshKeys has WeChat Pay's certificates renewed, where they are used.
	RefreshKeys(ctx context.Context) error
}

// keepBooks compares bills and renews certificates until ctx ends.
func (j *Jobs) keepBooks(ctx context.Context, b Books) {
	compare, refresh := time.NewTimer(rand.N(time.Minute)), time.NewTimer(0)
	defer compare.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = j.db.Unlease(leaving, reconcileName, j.owner) // it runs out by itself
			cancel()
			return
		case <-compare.C:
			if err := j.Reconcile(ctx, b); err != nil && ctx.Err() == nil {
				j.log.Warn("a bill of WeChat Pay could not be compared, it is tried again", "err", err)
			}
			compare.Reset(reconcileEvery + rand.N(reconcileEvery/10))
		case <-refresh.C:
			next := refreshEvery
			if err := b.RefreshKeys(ctx); err != nil && ctx.Err() == nil {
				j.log.Warn("WeChat Pay's certificates could not be renewed", "err", err)
				next = reconcileEvery
			}
			refresh.Reset(next + rand.N(next/10))
		}
	}
}

// Reconcile compares, on one node of all, the bills of the last days that were not compared yet, from the first day on
// which this store has an order. Run does it every ten minutes.
func (j *Jobs) Reconcile(ctx context.Context, b Books) error {
	mine, err := j.db.Lease(ctx, reconcileName, j.owner, reconcileLease)
	if err != nil || !mine {
		return err
	}
	first, err := j.db.FirstOrderAt(ctx)
	if err != nil || first.IsZero() {
		return err
	}
	now := j.now().In(beijing)
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, beijing)
	var errs []error
	for back := reconcileBack; back >= 1; back-- {
		day := today.AddDate(0, 0, -back)
		if end := day.AddDate(0, 0, 1); end.Before(first) || now.Before(end.Add(billReady)) {
			continue
		}
		known, err := j.db.Reconciliation(ctx, day.Format(time.DateOnly))
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		case known.State != store.ReconcileFailing, now.Sub(known.At) < reconcileRest:
			continue
		}
		_, err = b.Reconcile(ctx, day)
		if err != nil && !errors.Is(err, wechat.ErrNotYet) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
