package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Rung is one outbox row of kind mail whose ring was heard by the hub.
type Rung struct {
	Seq      int64  // of the outbox row
	User, ID string // whose mail, and the letter's id
	// Fallback, when set, has the letter told another way when it is not acknowledged so long after it was stored.
	Fallback *time.Duration
}

// SettleMail settles rings, notes that and by whom the letters were announced, and plans their fallbacks, in one
// transaction. A row whose lease went to somebody else is settled by them; the notes are made all the same.
func (db *DB) SettleMail(ctx context.Context, owner string, rung []Rung) error {
	if len(rung) == 0 {
		return nil
	}
	err := db.engine.write(ctx, func(t *tx) error {
		for piece := range slices.Chunk(rung, maxList) {
			if err := t.settleMail(owner, piece); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle %d rings from %d on: %w", len(rung), rung[0].Seq, err)
	}
	return nil
}

func (t *tx) settleMail(owner string, rung []Rung) error {
	seqs := make([]int64, len(rung))
	for i, r := range rung {
		seqs[i] = r.Seq
	}
	marks, args := list(seqs)
	announced := `relayed_at = 0 AND (user_id, id) IN (SELECT recipient, id FROM outbox WHERE kind = 'mail' AND seq IN ` + marks + `)`
	if t.pg { // several nodes note several users' letters: locked in one order by everybody
		announced = "(user_id, seq) IN (SELECT user_id, seq FROM letters WHERE " + announced + " ORDER BY user_id, seq FOR UPDATE)"
	}
	n, err := t.exec("UPDATE letters SET relayed_at = ?, relayed_by = ? WHERE "+announced, append([]any{stamp(t.now), owner}, args...)...)
	if err != nil {
		return err
	}
	t.counts.Relayed += uint64(n)
	for _, r := range rung {
		if r.Fallback == nil {
			continue
		}
		if _, err := t.exec(`INSERT INTO fallbacks (user_id, seq, state, due_at, at)
			SELECT user_id, seq, ?, stored_at + ?, ? FROM letters WHERE user_id = ? AND id = ? AND acked_at = 0
			ON CONFLICT (user_id, seq) DO NOTHING`,
			FallbackWaiting, r.Fallback.Milliseconds(), stamp(t.now), r.User, r.ID); err != nil {
			return err
		}
	}
	_, err = t.exec(`UPDATE outbox SET state = 1, owner = '', ended_at = ?, reason = '' WHERE state = 0 AND owner = ? AND seq IN `+marks,
		append([]any{stamp(t.now), owner}, args...)...)
	return err
}

// A Writing is a run of one user's letters that a socket of theirs took, or was too slow to take.
type Writing struct {
	User     string
	From, To uint64 // Seqs, both included
	Slow     bool   // the socket was closed because it read too slowly
	At       time.Time
}

// NoteWritten notes what became of letters at the sockets of node. What was noted first stays.
func (db *DB) NoteWritten(ctx context.Context, node string, all []Writing) error {
	if len(all) == 0 {
		return nil
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Writing) int { // locked in one order by everybody
		if a.User < b.User {
			return -1
		}
		if a.User > b.User {
			return 1
		}
		return int(min(max(int64(a.From)-int64(b.From), -1), 1))
	})
	for piece := range slices.Chunk(all, maxList) {
		err := db.engine.write(ctx, func(t *tx) error {
			for _, w := range piece {
				var n int64
				var err error
				if w.Slow {
					_, err = t.exec("UPDATE letters SET slow_at = ? WHERE user_id = ? AND seq BETWEEN ? AND ? AND slow_at = 0",
						stamp(w.At), w.User, clamp(w.From), clamp(w.To))
				} else {
					n, err = t.exec("UPDATE letters SET written_at = ?, written_by = ? WHERE user_id = ? AND seq BETWEEN ? AND ? AND written_at = 0",
						stamp(w.At), node, w.User, clamp(w.From), clamp(w.To))
				}
				if err != nil {
					return err
				}
				t.counts.Written += uint64(n)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("note %d writings: %w", len(piece), err)
		}
	}
	return nil
}

// A Receipt tells what became of one letter. Zero times: it did not happen, or nobody knows.
type Receipt struct {
	User, ID, Action string
	Seq              uint64
	StoredAt         time.Time
	RelayedAt        time.Time
	RelayedBy        string // a node
	WrittenAt        time.Time
	WrittenBy        string
	SlowAt           time.Time // a socket read too slowly to take it, last
	AckedAt          time.Time
	GoneAt           time.Time // it is kept no longer; without AckedAt it expired
	Fallback         *FallbackState
	Attempts         []Attempt // calls of the platform, in order
}

// Receipts tells of the letters with one id, by user, after a user ("": from the first on). limit is 1 to 1000, 0: 100.
// A letter's receipt outlives it by 30 days; those of erased people are erased.
func (db *DB) Receipts(ctx context.Context, id, after string, limit int) ([]Receipt, error) {
	var in inputs
	in.text("ID", id, 1, maxName)
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("receipts: %w", in.err)
	}
	all, err := db.receipts(ctx, "id = ? AND user_id > ?", id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("receipts of %.128q: %w", id, err)
	}
	return all, nil
}

// Receipt tells of one user's letter. Unknown: ErrNotFound.
func (db *DB) Receipt(ctx context.Context, id, user string) (Receipt, error) {
	all, err := db.receipts(ctx, "id = ? AND user_id = ?", id, user, 1)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt of %.128q: %w", id, err)
	}
	return all[0], nil
}

func (db *DB) receipts(ctx context.Context, where, id, user string, limit int) (all []Receipt, err error) {
	err = db.engine.read(ctx, true, func(t *tx) error {
		err := t.rows(func(scan func(...any) error) error {
			r, err := scanReceipt(scan)
			all = append(all, r)
			return err
		}, `SELECT user_id, seq, id, action, stored_at, relayed_at, relayed_by, written_at, written_by, slow_at, acked_at, 0
				FROM letters WHERE `+where+`
			UNION ALL SELECT user_id, seq, id, action, stored_at, relayed_at, relayed_by, written_at, written_by, slow_at, acked_at, gone_at
				FROM receipts WHERE `+where+`
			ORDER BY 1, 2 LIMIT ?`, id, user, id, user, limit)
		for i := range all {
			if err == nil {
				err = t.addFallback(&all[i])
			}
		}
		return err
	})
	return all, err
}

func scanReceipt(scan func(...any) error) (Receipt, error) {
	var r Receipt
	var seq, stored, relayed, written, slow, acked, gone int64
	err := scan(&r.User, &seq, &r.ID, &r.Action, &stored, &relayed, &r.RelayedBy, &written, &r.WrittenBy, &slow, &acked, &gone)
	r.Seq, r.StoredAt, r.RelayedAt, r.WrittenAt = uint64(seq), moment(stored), moment(relayed), moment(written)
	r.SlowAt, r.AckedAt, r.GoneAt = moment(slow), moment(acked), moment(gone)
	return r, err
}

// ReceiptCounts sum up what became of the letters with one id.
type ReceiptCounts struct {
	Stored, Relayed, Written, Acked, Expired int
	Sent, Unknown, Waiting, Held             int // of those with a fallback
}

// CountReceipts sums up over all users of an id.
func (db *DB) CountReceipts(ctx context.Context, id string) (c ReceiptCounts, err error) {
	var in inputs
	in.text("ID", id, 1, maxName)
	if err = in.err; err == nil {
		err = db.engine.read(ctx, true, func(t *tx) error {
			for _, table := range []struct{ name, expired string }{
				{"letters", "0"}, {"receipts", "CASE WHEN r.acked_at = 0 THEN 1 ELSE 0 END"},
			} {
				var n [9]int
				dest := make([]any, len(n))
				for i := range n {
					dest[i] = &n[i]
				}
				if err := t.row(dest, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN r.relayed_at > 0 THEN 1 ELSE 0 END), 0),
					COALESCE(SUM(CASE WHEN r.written_at > 0 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN r.acked_at > 0 THEN 1 ELSE 0 END), 0),
					COALESCE(SUM(`+table.expired+`), 0),
					COALESCE(SUM(CASE WHEN f.state = 'sent' THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN f.state = 'unknown' THEN 1 ELSE 0 END), 0),
					COALESCE(SUM(CASE WHEN f.state IN ('waiting', 'sending') THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN f.state = 'held' THEN 1 ELSE 0 END), 0)
					FROM `+table.name+` r LEFT JOIN fallbacks f ON f.user_id = r.user_id AND f.seq = r.seq WHERE r.id = ?`, id); err != nil {
					return err
				}
				for i, sum := range []*int{&c.Stored, &c.Relayed, &c.Written, &c.Acked, &c.Expired, &c.Sent, &c.Unknown, &c.Waiting, &c.Held} {
					*sum += n[i]
				}
			}
			return nil
		})
	}
	if err != nil {
		return ReceiptCounts{}, fmt.Errorf("count receipts of %.128q: %w", id, err)
	}
	return c, nil
}

// MailCounts count what this process did with mail since it started.
type MailCounts struct {
	Stored, Relayed, Written, Acked, Expired uint64
	CustomSent, SubscribeSent                uint64 // fallbacks that the platform took
	Refused, Unknown, Held                   uint64 // sendings refused, with an unknown end; fallbacks that wait for quota or grant
}

func (c *MailCounts) add(d MailCounts) {
	c.Stored += d.Stored
	c.Relayed += d.Relayed
	c.Written += d.Written
	c.Acked += d.Acked
	c.Expired += d.Expired
	c.CustomSent += d.CustomSent
	c.SubscribeSent += d.SubscribeSent
	c.Refused += d.Refused
	c.Unknown += d.Unknown
	c.Held += d.Held
}

// MailCounts returns the figures of committed changes.
func (db *DB) MailCounts() MailCounts {
	db.counts.mu.Lock()
	defer db.counts.mu.Unlock()
	return db.counts.sum
}

// mailTotals are the MailCounts of a process.
type mailTotals struct {
	mu  sync.Mutex
	sum MailCounts
}

// counting adds up what transactions count, once they have committed.
type counting struct {
	engine
	db *DB
}

func (c counting) write(ctx context.Context, fn func(*tx) error) error {
	var n MailCounts
	var raised []Alarm
	watch := c.db.alarmWatch.Load()
	err := c.engine.write(ctx, func(t *tx) error {
		t.mailCount, t.watch = c.db.mailCount, watch
		err := fn(t)
		n, raised = t.counts, t.raised
		return err
	})
	if err == nil && watch != nil && watch.Raised != nil {
		for _, a := range raised {
			watch.Raised(a)
		}
	}
	if err == nil && n != (MailCounts{}) {
		c.db.counts.mu.Lock()
		c.db.counts.sum.add(n)
		c.db.counts.mu.Unlock()
	}
	return err
}

// addReceipt keeps what is known of a letter that this transaction deletes.
func (t *tx) addReceipt(r Receipt) error {
	if r.AckedAt.IsZero() {
		t.counts.Expired++
	}
	_, err := t.exec(`INSERT INTO receipts (user_id, seq, id, action, stored_at, relayed_at, relayed_by, written_at, written_by, slow_at, acked_at, gone_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, seq) DO NOTHING`, r.User, clamp(r.Seq), r.ID, r.Action,
		stamp(r.StoredAt), stamp(r.RelayedAt), r.RelayedBy, stamp(r.WrittenAt), r.WrittenBy, stamp(r.SlowAt), stamp(r.AckedAt), stamp(t.now))
	return err
}

// dropLetters deletes the letters that where selects and keeps their receipts.
func (t *tx) dropLetters(where string, args ...any) (n int, err error) {
	var gone []Receipt
	err = t.rows(func(scan func(...any) error) error {
		r, err := scanReceipt(scan)
		gone = append(gone, r)
		return err
	}, "DELETE FROM letters WHERE "+where+` RETURNING user_id, seq, id, action, stored_at, relayed_at, relayed_by,
		written_at, written_by, slow_at, acked_at, 0`, args...)
	for _, r := range gone {
		if err == nil {
			err = t.addReceipt(r)
		}
	}
	return len(gone), err
}
