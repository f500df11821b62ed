package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Telling is something a transaction wants said or done after its commit: a room message (Kind room),
// mail to a user (Kind mail: stored in the same transaction, with its sequence), or a call of WeChat.
type Telling struct {
	Kind    TellingKind
	To      string // the room, the user id, or the openid
	ID      string // once per ID and To; required
	Action  string
	Payload json.RawMessage
}

type TellingKind string

const (
	TellRoom       TellingKind = "room"
	TellMail       TellingKind = "mail"        // To is a user id; the outbox row only rings
	TellCustomSend TellingKind = "custom_send" // customer-service message; To is an openid, Payload the message
	TellMPSend     TellingKind = "mp_send"     // likewise of the official account
	TellFollower   TellingKind = "follower"    // ask who follows the official account; To is an openid
	TellHook       TellingKind = "hook"        // a webhook of the shop's own system; To is the hook's name
)

// openIDKinds are those whose To is an openid; an erasure takes them back.
var openIDKinds = []TellingKind{TellCustomSend, TellMPSend, TellFollower}

// OutboxRow is a Telling that waits for the relay. The Payload of a mail's ring is empty: it is in the mailbox.
type OutboxRow struct {
	Seq int64
	Telling
	Attempts  int // this claim included
	CreatedAt time.Time
	FreshAt   time.Time // from when on its age counts: CreatedAt, or when an admin revived it
}

// tell stores what is to be said. What was told before (same Kind, To and ID) is not told again.
func (t *tx) tell(tellings []Telling) error {
	for _, one := range tellings {
		var in inputs
		in.matches("Telling.Kind", string(one.Kind), kinds)
		in.text("Telling.ID", one.ID, 1, maxName)
		in.text("Telling.Action", one.Action, 0, maxName)
		in.json("Telling.Payload", one.Payload)
		switch one.Kind {
		case TellMail:
			in.matches("Telling.To", one.To, userIDs)
		case TellRoom:
			in.matches("Telling.To", one.To, roomNames)
		default:
			in.text("Telling.To", one.To, 1, maxName)
		}
		if in.err != nil {
			return in.err
		}
		var err error
		switch one.Kind {
		case TellMail:
			_, err = t.addMail(one.To, Letter{ID: one.ID, Action: one.Action, Payload: one.Payload})
		case TellAlarm:
			var text string
			if err = json.Unmarshal(one.Payload, &text); err == nil {
				err = t.raise(one.To, one.ID, text)
			}
		case TellShipping:
			err = t.deliver(one.To, one.Payload)
		default:
			err = t.addOutbox(one)
		}
		if err != nil {
			return fmt.Errorf("tell %s %s: %w", one.Kind, one.ID, err)
		}
	}
	return nil
}

// addOutbox leaves due_at at 0, so that a clock that jumps back delays nothing.
func (t *tx) addOutbox(one Telling) error {
	n, err := t.exec(`INSERT INTO outbox (kind, recipient, id, action, payload, created_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, recipient, id) DO NOTHING`,
		one.Kind, one.To, one.ID, one.Action, []byte(one.Payload), stamp(t.now))
	t.rang = t.rang || n > 0
	return err
}

// A lane is what keeps its order in the outbox.
type lane struct {
	kind TellingKind
	to   string
}

// ClaimOutbox leases up to n (1 to 512) due rows of some kinds to owner, in Seq order of each kind. Rows of one (Kind, To) are never claimed past
// an earlier one that still waits, so that their order holds. A lease that ran out is claimable by anybody; on SQLite,
// leases end with their process.
func (db *DB) ClaimOutbox(ctx context.Context, owner string, kinds []TellingKind, n int, lease time.Duration) ([]OutboxRow, error) {
	var in inputs
	in.text("owner", owner, 1, maxName)
	in.number("n", int64(n), 1, maxList)
	in.number("lease", int64(lease), int64(time.Millisecond), int64(24*time.Hour))
	if in.err != nil {
		return nil, fmt.Errorf("claim outbox: %w", in.err)
	}
	// The usual case, that nothing is due, costs no transaction.
	idle := true
	err := db.engine.read(ctx, false, func(t *tx) (err error) {
		for _, kind := range kinds {
			if idle && err == nil {
				var page []candidate
				page, err = t.due(kind, 0, 1, nil)
				idle = len(page) == 0
			}
		}
		return err
	})
	var rows []OutboxRow
	if err == nil && !idle {
		err = db.engine.write(ctx, func(t *tx) (err error) {
			rows, err = t.claim(owner, kinds, n, lease)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim outbox: %w", err)
	}
	return rows, nil
}

func (t *tx) claim(owner string, kinds []TellingKind, n int, lease time.Duration) ([]OutboxRow, error) {
	found, err := t.claimable(kinds, n)
	if err == nil && t.pg {
		found, err = t.lockClaimable(found)
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	seqs := make([]int64, len(found))
	for i, f := range found {
		seqs[i] = f.seq
	}
	var rows []OutboxRow
	marks, args := list(seqs)
	err = t.rows(func(scan func(...any) error) error {
		var r OutboxRow
		var created, fresh int64
		err := scan(&r.Seq, &r.Kind, &r.To, &r.ID, &r.Action, (*[]byte)(&r.Payload), &r.Attempts, &created, &fresh)
		r.CreatedAt, r.FreshAt = moment(created), moment(max(created, fresh))
		rows = append(rows, r)
		return err
	}, `UPDATE outbox SET owner = ?, due_at = ?, attempts = attempts + 1 WHERE seq IN `+marks+`
		RETURNING seq, kind, recipient, id, action, payload, attempts, created_at, fresh_at`,
		append([]any{owner, stamp(t.now.Add(lease))}, args...)...)
	slices.SortFunc(rows, func(a, b OutboxRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return rows, err
}

// A candidate is a row that could be claimed.
type candidate struct {
	seq int64
	lane
}

// claimable finds due rows that begin their lane, or follow such rows: before them nothing waits in it that is deferred or
// leased, or was so a moment ago.
func (t *tx) claimable(kinds []TellingKind, n int) (found []candidate, err error) {
	for _, kind := range kinds {
		blocked := make(map[string]int64) // by recipient: the first row that is not a candidate
		seen := make(map[int64]bool)      // candidates
		for after, full := int64(0), true; full && err == nil && len(found) < n; {
			var page []candidate
			if page, err = t.due(kind, after, n, blocked); err != nil || len(page) == 0 {
				break
			}
			full, after = len(page) == n, page[len(page)-1].seq
			for _, c := range page {
				seen[c.seq] = true
			}
			if err = t.block(kind, page, seen, blocked); err != nil {
				break
			}
			for _, c := range page {
				if first, is := blocked[c.to]; len(found) < n && (!is || c.seq < first) {
					found = append(found, c)
				}
			}
		}
	}
	return found, err
}

// due reads the next n due rows of a kind, without the lanes that are known to be blocked.
func (t *tx) due(kind TellingKind, after int64, n int, blocked map[string]int64) (page []candidate, err error) {
	query, args := "SELECT seq, recipient FROM outbox WHERE state = 0 AND kind = ? AND due_at <= ? AND seq > ?", []any{kind, stamp(t.now), after}
	if len(blocked) > 0 && len(blocked) <= maxList {
		marks, names := list(slices.Collect(maps.Keys(blocked)))
		query, args = query+" AND recipient NOT IN "+marks, append(args, names...)
	}
	err = t.rows(func(scan func(...any) error) error {
		c := candidate{lane: lane{kind: kind}}
		err := scan(&c.seq, &c.to)
		page = append(page, c)
		return err
	}, query+" ORDER BY seq LIMIT ?", append(args, n)...)
	return page, err
}

// block finds the first row in each lane of a page that is no candidate. On PostgreSQL it sees a later moment than due did:
// what was given back in between was not seen there, and blocks here.
func (t *tx) block(kind TellingKind, page []candidate, seen map[int64]bool, blocked map[string]int64) error {
	lanes := make(map[string]bool, len(page))
	for _, c := range page {
		lanes[c.to] = true
	}
	marks, names := list(slices.Collect(maps.Keys(lanes)))
	return t.rows(func(scan func(...any) error) error {
		var to string
		var seq int64
		err := scan(&to, &seq)
		if first, is := blocked[to]; !seen[seq] && (!is || seq < first) {
			blocked[to] = seq
		}
		return err
	}, "SELECT recipient, seq FROM outbox WHERE state = 0 AND kind = ? AND seq <= ? AND recipient IN "+marks,
		append([]any{kind, page[len(page)-1].seq}, names...)...)
}

// lockClaimable keeps those that this node may have: it locks them without waiting, and where a row of a lane is missed
// (another node is at it), the lane ends before it. So two nodes never work in one lane.
func (t *tx) lockClaimable(found []candidate) (kept []candidate, err error) {
	if len(found) == 0 {
		return nil, nil
	}
	seqs := make([]int64, len(found))
	for i, c := range found {
		seqs[i] = c.seq
	}
	marks, args := list(seqs)
	locked := make(map[int64]bool)
	if err := t.rows(func(scan func(...any) error) error {
		var seq int64
		err := scan(&seq)
		locked[seq] = true
		return err
	}, "SELECT seq FROM outbox WHERE seq IN "+marks+" AND state = 0 AND due_at <= ? ORDER BY seq FOR UPDATE SKIP LOCKED",
		append(args, stamp(t.now))...); err != nil {
		return nil, err
	}
	ended := make(map[lane]bool)
	for _, c := range found {
		if !locked[c.seq] {
			ended[c.lane] = true
		} else if !ended[c.lane] {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// SettleOutbox marks rows as done. A row whose lease went to somebody else is left to them.
func (db *DB) SettleOutbox(ctx context.Context, owner string, seqs []int64) error {
	if len(seqs) == 0 {
		return nil
	}
	err := db.engine.write(ctx, func(t *tx) error {
		for piece := range slices.Chunk(seqs, maxList) {
			marks, args := list(piece)
			if _, err := t.exec(`UPDATE outbox SET state = 1, owner = '', ended_at = ?, reason = ''
				WHERE state = 0 AND owner = ? AND seq IN `+marks, append([]any{stamp(t.now), owner}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle %d outbox rows from %d on: %w", len(seqs), seqs[0], err)
	}
	return nil
}

// DeferOutbox gives a row back, due at a later time, with the reason why it failed (at most 500 bytes are kept).
// A row whose lease went to somebody else is left to them.
func (db *DB) DeferOutbox(ctx context.Context, owner string, seq int64, due time.Time, reason string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE outbox SET owner = '', due_at = ?, reason = ? WHERE seq = ? AND state = 0 AND owner = ?",
			stamp(due), cut(reason, maxReason), seq, owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("defer outbox row %d: %w", seq, err)
	}
	return nil
}

// BuryOutbox gives a row up: it stays, with its reason, for an admin to see. The rows behind it go on.
func (db *DB) BuryOutbox(ctx context.Context, owner string, seq int64, reason string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE outbox SET state = 2, owner = '', ended_at = ?, reason = ?
			WHERE seq = ? AND state = 0 AND owner = ?`, stamp(t.now), cut(reason, maxReason), seq, owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("bury outbox row %d: %w", seq, err)
	}
	return nil
}

// OutboxStats are the relay's figures.
type OutboxStats struct {
	Waiting, Dead int
	Oldest        time.Time // of those waiting; zero: none
	Kinds         map[TellingKind]KindStats
}

// KindStats are those of the waiting rows of one kind.
type KindStats struct {
	Waiting int
	Due     time.Time // of the oldest that could be relayed now; zero: none
}

func (db *DB) OutboxStats(ctx context.Context) (OutboxStats, error) {
	var s OutboxStats
	var first int64
	err := db.engine.read(ctx, true, func(t *tx) error {
		s = OutboxStats{Kinds: make(map[TellingKind]KindStats)}
		if err := t.rows(func(scan func(...any) error) error {
			var kind TellingKind
			var n int
			var oldest, due int64
			err := scan(&kind, &n, &oldest, &due)
			s.Kinds[kind] = KindStats{n, moment(due)}
			if s.Waiting += n; first == 0 || oldest < first {
				first = oldest
			}
			return err
		}, `SELECT kind, COUNT(*), MIN(created_at), COALESCE(MIN(CASE WHEN due_at <= ? THEN CASE WHEN due_at > created_at THEN due_at ELSE created_at END END), 0)
			FROM outbox WHERE state = 0 GROUP BY kind`, stamp(t.now)); err != nil {
			return err
		}
		return t.row([]any{&s.Dead}, "SELECT COUNT(*) FROM outbox WHERE state = 2")
	})
	if err != nil {
		return OutboxStats{}, fmt.Errorf("outbox stats: %w", err)
	}
	s.Oldest = moment(first)
	return s, nil
}

// A DeadRow is an outbox row that was given up.
type DeadRow struct {
	OutboxRow
	Reason string
	DiedAt time.Time
}

// DeadRows returns what BuryOutbox gave up, newest first. limit is 1 to 1000, 0: 100.
func (db *DB) DeadRows(ctx context.Context, limit int) ([]DeadRow, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("dead outbox rows: %w", in.err)
	}
	var all []DeadRow
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var r DeadRow
			var created, died int64
			err := scan(&r.Seq, &r.Kind, &r.To, &r.ID, &r.Action, (*[]byte)(&r.Payload), &r.Attempts, &created, &r.Reason, &died)
			r.CreatedAt, r.DiedAt = moment(created), moment(died)
			all = append(all, r)
			return err
		}, `SELECT seq, kind, recipient, id, action, payload, attempts, created_at, reason, ended_at FROM outbox
			WHERE state = 2 ORDER BY ended_at DESC, seq DESC LIMIT ?`, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("dead outbox rows: %w", err)
	}
	return all, nil
}

// ReviveOutbox lets the relay try a dead row again, at once and as if it were new. A row that is not dead: ErrNotFound.
func (db *DB) ReviveOutbox(ctx context.Context, seq int64) error {
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE outbox SET state = 0, owner = '', due_at = 0, attempts = 0, ended_at = 0, reason = '', fresh_at = ?
			WHERE seq = ? AND state = 2`, stamp(t.now), seq)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		t.rang = err == nil
		return err
	})
	if err != nil {
		return fmt.Errorf("revive outbox row %d: %w", seq, err)
	}
	return nil
}
