package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Letter is one piece of mail. Seq is dense per user, from 1.
type Letter struct {
	Seq     uint64
	ID      string // at most 128 bytes; once per user
	Action  string
	Payload json.RawMessage // kept byte for byte
	At      time.Time       // zero: the time of storing
}

// MailHead is where a mailbox stands.
type MailHead struct {
	Epoch string // belongs to the database; new after a restore
	Head  uint64
	Acked uint64
}

// MailPage is a piece of a mailbox, in Seq order.
type MailPage struct {
	Epoch   string
	First   uint64 // Seq of the oldest letter kept; Head+1 when none is
	Head    uint64
	Letters []Letter
}

// AddMail stores one letter for each user in one transaction (with its ring in the outbox) and tells each Seq.
// A user who has a letter of this ID already keeps that one. Users need not be known to SignIn; for an erased one
// nothing is stored, and Seq is 0.
func (db *DB) AddMail(ctx context.Context, users []string, l Letter) ([]uint64, error) {
	var in inputs
	for _, u := range users {
		in.matches("user", u, userIDs)
	}
	in.text("ID", l.ID, 1, maxName)
	in.text("Action", l.Action, 1, maxName)
	in.json("Payload", l.Payload)
	if in.err != nil {
		return nil, fmt.Errorf("add mail: %w", in.err)
	}
	sorted := slices.Clone(users)
	slices.Sort(sorted) // mailboxes are locked in one order by everybody
	sorted = slices.Compact(sorted)
	seqs := make(map[string]uint64, len(sorted))
	err := db.engine.write(ctx, func(t *tx) error {
		for _, u := range sorted {
			seq, err := t.addMail(u, l)
			if err != nil {
				return err
			}
			seqs[u] = seq
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add mail %s: %w", l.ID, err)
	}
	out := make([]uint64, len(users))
	for i, u := range users {
		out[i] = seqs[u]
	}
	return out, nil
}

// addMail stores l and its ring; a letter of the same ID keeps its Seq and does not ring again.
func (t *tx) addMail(user string, l Letter) (uint64, error) {
	if _, err := t.exec("INSERT INTO mailboxes (user_id) VALUES (?) ON CONFLICT (user_id) DO NOTHING", user); err != nil {
		return 0, err
	}
	var head, newest, seq int64
	var erased bool
	if err := t.row([]any{&head, &newest, &erased},
		"SELECT head, newest_at, erased FROM mailboxes WHERE user_id = ?"+t.lock, user); err != nil || erased {
		return 0, err
	}
	err := t.row([]any{&seq}, "SELECT seq FROM letters WHERE user_id = ? AND id = ?", user, l.ID)
	if err != ErrNotFound {
		return uint64(seq), err
	}
	seq, newest = head+1, max(newest, stamp(t.now))
	if l.At.IsZero() {
		l.At = t.now
	}
	if _, err := t.exec("INSERT INTO letters (user_id, seq, id, action, payload, at, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		user, seq, l.ID, l.Action, []byte(l.Payload), stamp(l.At), newest); err != nil {
		return 0, err
	}
	if _, err := t.exec("UPDATE mailboxes SET head = ?, newest_at = ? WHERE user_id = ?", seq, newest, user); err != nil {
		return 0, err
	}
	if old := seq - int64(t.mailCount); old > 0 {
		if _, err := t.dropLetters("user_id = ? AND seq <= ?", user, old); err != nil {
			return 0, err
		}
	}
	t.counts.Stored++
	return uint64(seq), t.addOutbox(Telling{Kind: TellMail, To: user, ID: l.ID, Action: l.Action})
}

// MailHeads reads many mailboxes with one query (for each 512 of them). Unknown users have an empty mailbox.
func (db *DB) MailHeads(ctx context.Context, users []string) ([]MailHead, error) {
	known := make(map[string]MailHead, len(users))
	err := db.engine.read(ctx, false, func(t *tx) error {
		for piece := range slices.Chunk(users, maxList) {
			marks, args := list(piece)
			err := t.rows(func(scan func(...any) error) error {
				var user string
				var head, acked int64
				err := scan(&user, &head, &acked)
				known[user] = MailHead{db.epoch, uint64(head), uint64(acked)}
				return err
			}, "SELECT user_id, head, acked FROM mailboxes WHERE user_id IN "+marks, args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("mail heads of %d users: %w", len(users), err)
	}
	heads := make([]MailHead, len(users))
	for i, u := range users {
		heads[i] = known[u]
		heads[i].Epoch = db.epoch
	}
	return heads, nil
}

// ReadMail returns letters with a greater Seq than after, at most limit (1 to 1000, 0: 100); newest: the last limit
// of them. It sees the mailbox as it was at one moment.
func (db *DB) ReadMail(ctx context.Context, user string, after uint64, limit int, newest bool) (MailPage, error) {
	var in inputs
	in.matches("user", user, userIDs)
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return MailPage{}, fmt.Errorf("read mail: %w", in.err)
	}
	p := MailPage{Epoch: db.epoch, First: 1}
	order := " ORDER BY seq LIMIT ?"
	if newest {
		order = " ORDER BY seq DESC LIMIT ?"
	}
	err := db.engine.read(ctx, true, func(t *tx) error {
		var head, oldest int64
		err := t.row([]any{&head, &oldest}, `SELECT head, COALESCE((SELECT MIN(seq) FROM letters WHERE user_id = m.user_id), head + 1)
			FROM mailboxes m WHERE user_id = ?`, user)
		if err == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		p.Head, p.First = uint64(head), uint64(oldest)
		return t.rows(func(scan func(...any) error) error {
			var l Letter
			var seq, at int64
			err := scan(&seq, &l.ID, &l.Action, (*[]byte)(&l.Payload), &at)
			l.Seq, l.At = uint64(seq), moment(at)
			p.Letters = append(p.Letters, l)
			return err
		}, "SELECT seq, id, action, payload, at FROM letters WHERE user_id = ? AND seq > ?"+order, user, clamp(after), limit)
	})
	if err != nil {
		return MailPage{}, fmt.Errorf("user %s: read mail: %w", user, err)
	}
	if newest {
		slices.Reverse(p.Letters)
	}
	return p, nil
}

// AckMail records that user received everything up to seq; it never goes back nor beyond the head.
func (db *DB) AckMail(ctx context.Context, user string, seq uint64) error {
	var in inputs
	in.matches("user", user, userIDs)
	if in.err != nil {
		return fmt.Errorf("ack mail: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE mailboxes SET acked = CASE WHEN head < ? THEN head ELSE ? END
			WHERE user_id = ? AND acked < ? AND acked < head`, clamp(seq), clamp(seq), user, clamp(seq))
		if err != nil || n == 0 {
			return err
		}
		if n, err = t.exec("UPDATE letters SET acked_at = ? WHERE user_id = ? AND seq <= ? AND acked_at = 0", stamp(t.now), user, clamp(seq)); err != nil {
			return err
		}
		t.counts.Acked += uint64(n)
		_, err = t.exec("DELETE FROM fallbacks WHERE user_id = ? AND seq <= ? AND state IN ('waiting', 'held')", user, clamp(seq))
		return err
	})
	if err != nil {
		return fmt.Errorf("user %s: ack mail: %w", user, err)
	}
	return nil
}

// clamp fits a client's number into SQL's.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
