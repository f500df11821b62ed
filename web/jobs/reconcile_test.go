package jobs

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// ledger keeps what a Till would.
type ledger struct {
	db      *store.DB
	days    []string
	answers map[string]error // by day
}

func (l *ledger) RefreshKeys(context.Context) error { return nil }

func (l *ledger) Reconcile(ctx context.Context, day time.Time) (store.Reconciliation, error) {
	r := store.Reconciliation{Day: day.Format(time.DateOnly), State: store.ReconcileEven}
	l.days = append(l.days, r.Day)
	err := l.answers[r.Day]
	if errors.Is(err, wechat.ErrNotYet) {
		return r, err
	}
	if err != nil {
		r.State = store.ReconcileFailing
	}
	return r, errors.Join(err, l.db.PutReconciliation(ctx, r))
}

// Each day's bill is compared once, from the first order's day on, after ten in the morning of the next day; what failed is
// tried again an hour later, and a week is caught up with.
func TestReconcile_days(t *testing.T) {
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, beijing)
	now := func() time.Time { return at }
	db, err := store.Open(t.Context(), store.Options{URL: filepath.Join(t.TempDir(), "wxhub.db"), Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	l := &ledger{db: db, answers: map[string]error{}}
	j := New(Options{Hub: newHub(t), Store: db, Now: now, Node: "one"})
	expect := func(what string, fails bool, days ...string) {
		t.Helper()
		l.days = nil
		if err := j.Reconcile(t.Context(), l); (err != nil) != fails {
			t.Errorf("%s: %v", what, err)
		}
		if !slices.Equal(l.days, days) {
			t.Errorf("%s: compared %v, want %v", what, l.days, days)
		}
	}
	expect("without orders", false)
	if _, err := db.CreateOrder(t.Context(), store.Order{OutTradeNo: "ORDER1", AppID: "wx1", MchID: "m", UserID: "u", TotalFen: 1}); err != nil {
		t.Fatal(err)
	}
	expect("the first day", false)
	at = time.Date(2026, 11, 21, 9, 59, 0, 0, beijing)
	expect("before ten", false)
	at = time.Date(2026, 11, 21, 10, 1, 0, 0, beijing)
	l.answers["2026-11-20"] = wechat.ErrNotYet
	expect("not made yet", false, "2026-11-20")
	l.answers["2026-11-20"] = wechat.ErrBusy
	expect("away", true, "2026-11-20")
	delete(l.answers, "2026-11-20")
	at = at.Add(30 * time.Minute)
	expect("half an hour later", false)
	at = at.Add(31 * time.Minute)
	expect("an hour later", false, "2026-11-20")
	expect("once", false)
	at = time.Date(2026, 11, 24, 12, 0, 0, 0, beijing)
	expect("after a long stop", false, "2026-11-21", "2026-11-22", "2026-11-23")
	other := New(Options{Hub: newHub(t), Store: db, Now: now, Node: "two"})
	at = time.Date(2026, 11, 25, 12, 0, 0, 0, beijing)
	expect("the next day", false, "2026-11-24")
	at = at.Add(24 * time.Hour)
	if err := j.Reconcile(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	at = at.Add(time.Minute)
	l.days = nil
	if err := other.Reconcile(t.Context(), l); err != nil || len(l.days) != 0 {
		t.Errorf("a second node compared %v, %v", l.days, err)
	}
}
