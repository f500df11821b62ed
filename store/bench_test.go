package store

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func benchBoth(b *testing.B, bench func(b *testing.B, db *DB)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, openTestSQLite(b, newClock())) })
	b.Run("postgres", func(b *testing.B) { bench(b, openTestPostgres(b, newClock())) }) // with fsync off: not comparable
}

// One payment is one durable transaction of about ten statements. More callers share one fsync.
func BenchmarkMarkPaid(b *testing.B) {
	benchBoth(b, func(b *testing.B, db *DB) {
		var made atomic.Int64
		for _, callers := range []int{1, 8, 64, 256} {
			b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
				first := made.Add(int64(b.N)) - int64(b.N)
				for _, err := range each(64, func(w int) error {
					for i := w; i < b.N; i += 64 {
						if _, err := db.CreateOrder(b.Context(), testOrder(fmt.Sprintf("bench-%d", first+int64(i)))); err != nil {
							return err
						}
					}
					return nil
				}) {
					check(b, err)
				}
				b.ResetTimer()
				for _, err := range each(callers, func(w int) error {
					for i := w; i < b.N; i += callers {
						no := fmt.Sprintf("bench-%d", first+int64(i))
						if ok, err := db.MarkPaid(b.Context(), testPayment(no, "t-"+no), purchase); !ok {
							return fmt.Errorf("not the first: %w", err)
						}
					}
					return nil
				}) {
					check(b, err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
			})
		}
	})
}

func BenchmarkSessionKey(b *testing.B) {
	benchBoth(b, func(b *testing.B, db *DB) {
		u := must(db.SignIn(b.Context(), SignIn{AppID: "wx1", OpenID: "o1", SessionKey: "secret"}))(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := db.SessionKey(b.Context(), u.ID); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// The relay takes and settles a hundred rows at a time out of a backlog, in one room or in as many as there are rows.
func BenchmarkOutbox(b *testing.B) {
	for _, lanes := range []int{1, 1 << 30} {
		name := "one room"
		if lanes > 1 {
			name = "many rooms"
		}
		b.Run(name, func(b *testing.B) {
			benchBoth(b, func(b *testing.B, db *DB) {
				const backlog = 10_000
				fill := func(round int) {
					for i := 0; i < backlog; i += 1000 {
						var what []string
						for k := i; k < i+1000; k++ {
							what = append(what, fmt.Sprintf("room%d:%d-%d", k%lanes, round, k))
						}
						say(b, db, b.Context(), what...)
					}
				}
				for i := 0; b.Loop(); i++ {
					b.StopTimer()
					fill(i)
					b.StartTimer()
					for done := 0; done < backlog; {
						rows := must(db.ClaimOutbox(b.Context(), "node", everyKind, 100, time.Minute))(b)
						var seqs []int64
						for _, r := range rows {
							seqs = append(seqs, r.Seq)
						}
						check(b, db.SettleOutbox(b.Context(), "node", seqs))
						done += len(rows)
					}
				}
				b.ReportMetric(float64(b.N*backlog)/b.Elapsed().Seconds(), "rows/s")
			})
		})
	}
}

func BenchmarkMailHeads(b *testing.B) {
	benchBoth(b, func(b *testing.B, db *DB) {
		var users []string
		for i := range 500 {
			users = append(users, fmt.Sprint("user", i))
		}
		must(db.AddMail(b.Context(), users, Letter{ID: "1", Action: "x"}))(b)
		for b.Loop() {
			must(db.MailHeads(b.Context(), users))(b)
		}
	})
}
