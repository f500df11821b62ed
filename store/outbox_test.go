package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var everyKind = []TellingKind{TellRoom, TellMail, TellCustomSend, TellMPSend, TellFollower, TellHook}

// say puts tellings into the outbox, "room:id" each.
func say(t interface{ Fatal(...any) }, db *DB, ctx context.Context, what ...string) {
	err := db.engine.write(ctx, func(t *tx) error {
		var all []Telling
		for _, w := range what {
			room, id, _ := strings.Cut(w, ":")
			all = append(all, Telling{Kind: TellRoom, To: room, ID: id, Action: "x"})
		}
		return t.tell(all)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testOutbox(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	if rows := must(db.ClaimOutbox(ctx, "one", everyKind, 10, time.Minute))(t); len(rows) != 0 {
		t.Errorf("an empty outbox has %v", rows)
	}
	say(t, db, ctx, "a:1", "a:2", "b:1", "a:3", "b:2", "a:1")
	seqs := make(map[string]int64)
	claim := func(owner string, n int, want string) {
		t.Helper()
		var got []string
		for _, r := range must(db.ClaimOutbox(ctx, owner, everyKind, n, time.Minute))(t) {
			got = append(got, r.To+":"+r.ID)
			seqs[r.To+":"+r.ID] = r.Seq
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s claimed %q, want %q", owner, s, want)
		}
	}
	stats := func(waiting, dead int) {
		t.Helper()
		if s := must(db.OutboxStats(ctx))(t); s.Waiting != waiting || s.Dead != dead || s.Oldest.IsZero() != (waiting == 0) {
			t.Errorf("stats %+v, want %d waiting, %d dead", s, waiting, dead)
		}
	}
	stats(5, 0)
	claim("one", 2, "a:1 a:2")
	claim("two", 10, "b:1 b:2") // a:3 stands behind what is leased
	claim("three", 10, "")
	check(t, db.SettleOutbox(ctx, "two", []int64{seqs["a:1"], seqs["b:1"]})) // a:1 is not its own
	stats(4, 0)
	check(t, db.SettleOutbox(ctx, "one", []int64{seqs["a:1"]}))
	check(t, db.DeferOutbox(ctx, "two", seqs["a:2"], c.now(), "not mine"))
	check(t, db.DeferOutbox(ctx, "one", seqs["a:2"], c.now().Add(10*time.Second), "WeChat is away"))
	claim("three", 10, "") // a:3 must not overtake a:2
	c.move(9 * time.Second)
	claim("three", 10, "")
	c.move(time.Second)
	claim("three", 10, "a:2 a:3")
	check(t, db.BuryOutbox(ctx, "one", seqs["a:2"], "not mine"))
	check(t, db.BuryOutbox(ctx, "three", seqs["a:2"], strings.Repeat("长", 400)+"\x00"))
	stats(2, 1)
	check(t, db.SettleOutbox(ctx, "three", []int64{seqs["a:3"]}))
	c.move(50 * time.Second) // the lease of b:2 ends
	rows := must(db.ClaimOutbox(ctx, "three", everyKind, 10, time.Minute))(t)
	if len(rows) != 1 || rows[0].ID != "2" || rows[0].Attempts != 2 {
		t.Errorf("after the lease: %+v", rows)
	}
	check(t, db.SettleOutbox(ctx, "two", []int64{rows[0].Seq})) // too late
	stats(1, 1)
	check(t, db.SettleOutbox(ctx, "three", []int64{rows[0].Seq}))
	stats(0, 1)
	check(t, db.SettleOutbox(ctx, "three", nil))
	say(t, db, ctx, "b:2") // told before: not again
	claim("three", 10, "")
}

// testOutbox_model lets two owners claim, settle, defer, bury and die, and compares with a list.
func testOutbox_model(t *testing.T, open opener) {
	type row struct {
		room  string
		state string // waiting, settled, dead
		owner string
		due   time.Time // also the end of a lease
	}
	c := newClock()
	db, ctx := open(t, c), t.Context()
	ids := 0
	rapid.Check(t, func(rt *rapid.T) {
		must(0, db.engine.write(ctx, func(t *tx) error { _, err := t.exec("DELETE FROM outbox"); return err }))(t)
		rows := make(map[int64]*row)
		var order []int64
		owner := func() string { return rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "owner") }
		owned := func(by string) (seqs []int64) {
			for _, seq := range order {
				if r := rows[seq]; r.state == "waiting" && r.owner == by {
					seqs = append(seqs, seq)
				}
			}
			return seqs
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0, 1:
				room := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "room")
				ids++
				say(rt, db, ctx, fmt.Sprintf("%s:%d", room, ids))
				var seq int64
				if err := db.engine.read(ctx, false, func(t *tx) error { return t.row([]any{&seq}, "SELECT MAX(seq) FROM outbox") }); err != nil {
					rt.Fatal(err)
				}
				rows[seq] = &row{room: room, state: "waiting"}
				order = append(order, seq)
			case 2, 3:
				by, n := owner(), rapid.IntRange(1, 5).Draw(rt, "n")
				lease := time.Duration(rapid.IntRange(1, 20).Draw(rt, "lease")) * time.Second
				var want []int64
				blocked := make(map[string]bool)
				for _, seq := range order {
					r := rows[seq]
					if r.state != "waiting" || blocked[r.room] {
						continue
					}
					if r.due.After(c.now()) {
						blocked[r.room] = true
					} else if len(want) < n {
						want = append(want, seq)
					}
				}
				var got []int64
				claimed, err := db.ClaimOutbox(ctx, by, everyKind, n, lease)
				for _, r := range claimed {
					got = append(got, r.Seq)
				}
				if err != nil || !slices.Equal(got, want) {
					rt.Fatalf("claimed %v, want %v (%v)", got, want, err)
				}
				for _, seq := range want {
					rows[seq].owner, rows[seq].due = by, c.now().Add(lease)
				}
			case 4:
				by := owner()
				if seqs := owned(by); len(seqs) > 0 {
					seqs = rapid.SliceOfDistinct(rapid.SampledFrom(seqs), rapid.ID[int64]).Draw(rt, "seqs")
					if err := db.SettleOutbox(ctx, by, append(seqs, order[0]-1)); err != nil {
						rt.Fatal(err)
					}
					for _, seq := range seqs {
						rows[seq].state = "settled"
					}
				}
			case 5:
				by := owner()
				if seqs := owned(by); len(seqs) > 0 {
					seq := rapid.SampledFrom(seqs).Draw(rt, "seq")
					if rapid.Bool().Draw(rt, "bury") {
						rows[seq].state = "dead"
						if err := db.BuryOutbox(ctx, by, seq, "no"); err != nil {
							rt.Fatal(err)
						}
					} else {
						rows[seq].owner, rows[seq].due = "", c.now().Add(time.Duration(rapid.IntRange(0, 9).Draw(rt, "wait"))*time.Second)
						if err := db.DeferOutbox(ctx, by, seq, rows[seq].due, "later"); err != nil {
							rt.Fatal(err)
						}
					}
				}
			case 6:
				c.move(time.Duration(rapid.IntRange(1, 12).Draw(rt, "seconds")) * time.Second)
			}
		}
		waiting, dead := 0, 0
		for _, r := range rows {
			switch r.state {
			case "waiting":
				waiting++
			case "dead":
				dead++
			}
		}
		if s, err := db.OutboxStats(ctx); err != nil || s.Waiting != waiting || s.Dead != dead {
			rt.Fatalf("stats %+v, want %d waiting, %d dead (%v)", s, waiting, dead, err)
		}
	})
}

// Several relays at once, with failures: every row once at a time, each room in order.
func testOutbox_concurrentClaims(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	const rooms, each1 = 7, 30
	for i := range each1 {
		var what []string
		for r := range rooms {
			what = append(what, fmt.Sprintf("room%d:%d", r, i))
		}
		say(t, db, ctx, what...)
	}
	var mu sync.Mutex
	got := make(map[string][]int64)
	failed := make(map[int64]bool)
	errs := each(6, func(me int) error {
		owner := fmt.Sprint("relay", me)
		for {
			rows, err := db.ClaimOutbox(ctx, owner, everyKind, 5, time.Minute)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				if s, err := db.OutboxStats(ctx); err != nil || s.Waiting == 0 {
					return err
				}
				continue
			}
			lost := make(map[string]bool)
			for _, r := range rows {
				mu.Lock()
				fail := lost[r.To] || (r.Seq%11 == 0 && !failed[r.Seq])
				if fail {
					lost[r.To], failed[r.Seq] = true, true
				} else {
					got[r.To] = append(got[r.To], r.Seq)
				}
				mu.Unlock()
				if fail {
					continue
				}
				if err := db.SettleOutbox(ctx, owner, []int64{r.Seq}); err != nil {
					return err
				}
			}
			// The newest first: while an older one is leased, nobody gets past it. Settled ones are no longer owned.
			slices.SortFunc(rows, func(a, b OutboxRow) int { return cmp.Compare(b.Seq, a.Seq) })
			for _, r := range rows {
				if err := db.DeferOutbox(ctx, owner, r.Seq, time.Time{}, "again"); err != nil {
					return err
				}
			}
		}
	})
	for _, err := range errs {
		check(t, err)
	}
	for r := range rooms {
		seqs := got[fmt.Sprint("room", r)]
		if len(seqs) != each1 || !slices.IsSorted(seqs) {
			t.Errorf("room%d: %v", r, seqs)
		}
	}
}

func testDeadRows(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	for i := range 3 {
		say(t, db, ctx, fmt.Sprintf("room:%d", i))
	}
	rows := must(db.ClaimOutbox(ctx, "node", everyKind, 10, time.Minute))(t)
	check(t, db.BuryOutbox(ctx, "node", rows[0].Seq, "the first"))
	c.move(time.Second)
	check(t, db.BuryOutbox(ctx, "node", rows[1].Seq, "the second"))
	dead := must(db.DeadRows(ctx, 0))(t)
	if len(dead) != 2 || dead[0].Seq != rows[1].Seq || dead[0].Reason != "the second" || !dead[0].DiedAt.Equal(c.now()) ||
		dead[1].ID != rows[0].ID || dead[1].To != rows[0].To || dead[1].Attempts != 1 || !dead[1].CreatedAt.Equal(rows[0].CreatedAt) {
		t.Errorf("dead %+v", dead)
	}
	for len(db.Wake()) > 0 {
		<-db.Wake()
	}
	check(t, db.ReviveOutbox(ctx, rows[0].Seq))
	if len(db.Wake()) != 1 {
		t.Error("not woken")
	}
	wantErr(t, db.ReviveOutbox(ctx, rows[0].Seq), ErrNotFound)
	wantErr(t, db.ReviveOutbox(ctx, rows[2].Seq), ErrNotFound) // leased, not dead
	again := must(db.ClaimOutbox(ctx, "node", everyKind, 10, time.Minute))(t)
	if len(again) != 1 || again[0].Seq != rows[0].Seq || again[0].Attempts != 1 {
		t.Errorf("claimed %+v", again)
	}
	if dead := must(db.DeadRows(ctx, 0))(t); len(dead) != 1 {
		t.Errorf("dead %+v", dead)
	}
}
