package store

import (
	"context"
	"fmt"
	"time"
)

// Between the commit that says that a letter is being sent and the commit that says how it ended lies a call of the
// platform, and a process may die in between. Three things narrow what is not known then: the platform's own report of
// what it took, a repeat where the platform itself refuses a second message, and an admin's word.

// reasonLast stands beside a sending that took the last message that the platform grants, as far as we count.
const reasonLast = "last"

// Reasons of what ended after a doubt.
const (
	ReasonAgain  = "again"  // an admin has it sent again, however old it is
	ReasonLeft   = "left"   // an admin leaves it
	ReasonRepeat = "repeat" // the platform refused a repeat, because the first message arrived
)

// ChannelDecision is that of an Attempt that is an admin's word about one before it.
const ChannelDecision = "decision"

const mostRepeats = 5 // calls of one letter whose end stayed unknown

// tookLast tells whether the platform grants nothing more after what was taken, and no other call leaves a doubt about
// that. Then a second message is refused exactly if the first one arrived.
func (t *tx) tookLast(user string, seq int64, channel, taken string) (bool, error) {
	var left, doubts int64
	var err error
	switch {
	case channel == ChannelSubscribe:
		if err = t.row([]any{&left}, "SELECT remaining FROM grants WHERE user_id = ? AND template_id = ?", user, taken); err == ErrNotFound {
			return false, nil
		}
	case taken == "spoken": // a brief window closes before anybody could repeat
		var q ReplyQuota
		q, err = t.replyQuota(user)
		if left = int64(q.Left); !q.Until.After(t.now) {
			return false, err // the refusal would be that of a closed window
		}
	default:
		return false, nil
	}
	if err != nil || left > 0 {
		return false, err
	}
	err = t.row([]any{&doubts}, "SELECT COUNT(*) FROM attempts WHERE user_id = ? AND channel = ? AND outcome = 'unknown' AND seq <> ?", user, channel, seq)
	return doubts == 0, err
}

// repeatable tells whether a sending that took the last may still be repeated.
func (t *tx) repeatable(user string, seq int64, channel, taken string) (bool, error) {
	last, err := t.tookLast(user, seq, channel, taken)
	if err != nil || !last {
		return false, err
	}
	var lost int
	err = t.row([]any{&lost}, "SELECT COUNT(*) FROM attempts WHERE user_id = ? AND seq = ? AND outcome = 'unknown'", user, seq)
	return lost < mostRepeats, err
}

// endLost looks at what was being sent when a lease ran out, and leases what may be repeated to owner.
func (t *tx) endLost(owner string, n int, lease time.Duration) (repeats []Fallback, err error) {
	type sending struct {
		Fallback
		seq           int64
		reason, taken string
	}
	var lost []sending
	err = t.rows(func(scan func(...any) error) error {
		var s sending
		var seen int64
		err := scan(&s.User, &s.seq, &s.Channel, &s.taken, &s.reason, &seen, &s.Tries)
		s.SeenAt = moment(seen)
		lost = append(lost, s)
		return err
	}, `SELECT user_id, seq, channel, taken, reason, seen_at, tries FROM fallbacks WHERE state = 'sending' AND due_at <= ?
		ORDER BY due_at LIMIT ?`+t.skip(), stamp(t.now), n)
	for _, s := range lost {
		if err != nil {
			return nil, err
		}
		var reported bool
		if reported, err = t.endReported(s.User, s.seq); err != nil || reported {
			continue
		}
		again, acked := s.reason == reasonLast, false
		if again {
			again, err = t.repeatable(s.User, s.seq, s.Channel, s.taken)
		}
		if again && err == nil {
			if acked, err = t.readLetter(&s.Fallback, s.seq); err == ErrNotFound {
				again, err = false, nil
			}
		}
		switch {
		case err != nil:
		case again && !acked:
			s.Repeat = true
			if s.Channel == ChannelSubscribe {
				s.Template = s.taken
			}
			repeats = append(repeats, s.Fallback)
			_, err = t.exec("UPDATE fallbacks SET owner = ?, due_at = ? WHERE user_id = ? AND seq = ?", owner, stamp(t.now.Add(lease)), s.User, s.seq)
		default:
			err = t.endUnknown(s.User, s.seq)
		}
	}
	return repeats, err
}

// loseAttempt notes that nobody knows how the call under way ended.
func (t *tx) loseAttempt(user string, seq int64) error {
	_, err := t.exec("UPDATE attempts SET outcome = 'unknown', reason = 'lost' WHERE user_id = ? AND seq = ? AND outcome = ''", user, seq)
	return err
}

func (t *tx) endUnknown(user string, seq int64) error {
	t.counts.Unknown++
	if err := t.loseAttempt(user, seq); err != nil {
		return err
	}
	_, err := t.exec("UPDATE fallbacks SET state = 'unknown', owner = '', due_at = 0, reason = 'lost', at = ? WHERE user_id = ? AND seq = ?", stamp(t.now), user, seq)
	return err
}

// endReported ends a sending without an answer as sent if the platform has reported it.
func (t *tx) endReported(user string, seq int64) (bool, error) {
	n, err := t.exec(`UPDATE attempts SET outcome = 'sent', reason = '' WHERE user_id = ? AND seq = ? AND msg_id <> '' AND outcome IN ('', 'unknown')`, user, seq)
	if err != nil || n == 0 {
		return false, err
	}
	t.counts.SubscribeSent++
	if err := t.loseAttempt(user, seq); err != nil { // of a repeat
		return false, err
	}
	_, err = t.exec(`UPDATE fallbacks SET state = 'sent', owner = '', due_at = 0, taken = '', reason = '', at = ? WHERE user_id = ? AND seq = ?`,
		stamp(t.now), user, seq)
	return true, err
}

// claimReport looks for the call without an answer that a report is about: the latest of its template to this user.
func (t *tx) claimReport(user string, r SendReport) error {
	if user == "" || r.TemplateID == "" {
		return nil
	}
	var seq, n int64
	var state string
	err := t.row([]any{&n}, "SELECT COUNT(*) FROM attempts WHERE user_id = ? AND msg_id = ?", user, r.MsgID)
	if err != nil || n > 0 {
		return err // it was answered, as usual
	}
	err = t.row([]any{&seq, &n, &state}, `SELECT f.seq, a.n, f.state FROM fallbacks f JOIN attempts a ON a.user_id = f.user_id AND a.seq = f.seq
		WHERE f.user_id = ? AND f.channel = 'subscribe' AND f.taken = ? AND f.state IN ('sending', 'unknown')
		AND a.channel = 'subscribe' AND a.outcome IN ('', 'unknown') AND a.msg_id = '' ORDER BY a.at DESC, a.n LIMIT 1`, user, r.TemplateID)
	if err == ErrNotFound {
		return nil
	}
	if err == nil {
		_, err = t.exec("UPDATE attempts SET msg_id = ? WHERE user_id = ? AND seq = ? AND n = ?", r.MsgID, user, seq, n)
	}
	if err == nil && state == FallbackUnknown {
		_, err = t.endReported(user, seq)
	}
	return err
}

// BeginRepeat writes down, before it is done, that a Repeat is sent. BegunYes: send it, and tell the answer by
// EndFallback within lease. Otherwise there is nothing to do: it was acknowledged, or a repeat is harmless no more.
func (db *DB) BeginRepeat(ctx context.Context, owner string, f Fallback, lease time.Duration) (began Begun, err error) {
	seq := clamp(f.Letter.Seq)
	err = db.engine.write(ctx, func(t *tx) error {
		began = BegunLost
		var acked int64
		if err := t.row([]any{&acked}, "SELECT acked FROM mailboxes WHERE user_id = ?"+t.lock, f.User); err != nil {
			if err == ErrNotFound {
				return nil
			}
			return err
		}
		var taken string
		err := t.row([]any{&taken}, "SELECT taken FROM fallbacks WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'sending' AND due_at > ?",
			f.User, seq, owner, stamp(t.now))
		if err == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if reported, err := t.endReported(f.User, seq); err != nil || reported {
			return err
		}
		if err := t.loseAttempt(f.User, seq); err != nil {
			return err
		}
		again, err := t.repeatable(f.User, seq, f.Channel, taken)
		if err != nil {
			return err
		}
		if acked >= seq || !again {
			if acked >= seq {
				began = BegunAcknowledged
			}
			return t.endUnknown(f.User, seq)
		}
		began = BegunYes
		if _, err := t.exec("UPDATE fallbacks SET due_at = ?, at = ? WHERE user_id = ? AND seq = ?", stamp(t.now.Add(lease)), stamp(t.now), f.User, seq); err != nil {
			return err
		}
		return t.addAttempt(f.User, seq, f.Channel, "", owner)
	})
	if err != nil {
		return BegunLost, fmt.Errorf("fallback of %s %s: begin again: %w", f.User, f.Letter.ID, err)
	}
	return began, nil
}

// LeaveRepeat gives a claimed Repeat back: to be looked at again at due, or, with due zero, never; then it is unknown.
func (db *DB) LeaveRepeat(ctx context.Context, owner string, f Fallback, due time.Time) error {
	seq := clamp(f.Letter.Seq)
	err := db.engine.write(ctx, func(t *tx) error {
		if !due.IsZero() {
			_, err := t.exec("UPDATE fallbacks SET owner = '', due_at = ? WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'sending'",
				stamp(due), f.User, seq, owner)
			return err
		}
		var n int
		err := t.row([]any{&n}, "SELECT COUNT(*) FROM fallbacks WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'sending'", f.User, seq, owner)
		if err != nil || n == 0 {
			return err
		}
		return t.endUnknown(f.User, seq)
	})
	if err != nil {
		return fmt.Errorf("fallback of %s %s: leave: %w", f.User, f.Letter.ID, err)
	}
	return nil
}

// A Doubt is a letter that was perhaps sent, that nobody acknowledged, and of which no admin has said anything yet.
type Doubt struct {
	User, ID, Action string
	Channel          string
	At               time.Time // since when nobody knows
	Gone             bool      // the letter is kept no longer: it cannot be sent again
}

// Doubts returns the latest. limit is 1 to 1000, 0: 100.
func (db *DB) Doubts(ctx context.Context, limit int) (all []Doubt, err error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if err = in.err; err == nil {
		err = db.engine.read(ctx, true, func(t *tx) error {
			return t.rows(func(scan func(...any) error) error {
				var d Doubt
				var at, gone int64
				err := scan(&d.User, &d.ID, &d.Action, &d.Channel, &at, &gone)
				d.At, d.Gone = moment(at), gone > 0
				all = append(all, d)
				return err
			}, `SELECT f.user_id, COALESCE(l.id, r.id), COALESCE(l.action, r.action), f.channel, f.at,
				CASE WHEN l.id IS NULL THEN 1 ELSE 0 END
				FROM fallbacks f LEFT JOIN letters l ON l.user_id = f.user_id AND l.seq = f.seq
				LEFT JOIN receipts r ON r.user_id = f.user_id AND r.seq = f.seq
				WHERE f.state = 'unknown' AND f.reason <> 'left' AND COALESCE(l.acked_at, r.acked_at) = 0
				ORDER BY f.at DESC, f.user_id, f.seq LIMIT ?`, limit)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("doubts: %w", err)
	}
	return all, nil
}

// DecideDoubt ends a doubt by an admin's word. again: the letter is told once more, at the cost of a message or grant,
// after the rules but for its age; what the first sending took is given back to our count, and the platform says whether
// it is still there. Otherwise it is left as it is. No letter of this id with a doubt, or, with again, one that is
// acknowledged or kept no longer: ErrNotFound.
func (db *DB) DecideDoubt(ctx context.Context, id, user string, again bool, by string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		var seq, gone int64
		var channel, taken string
		err := t.row([]any{&seq, &channel, &taken, &gone}, `SELECT f.seq, f.channel, f.taken, CASE WHEN l.id IS NULL OR l.acked_at > 0 THEN 1 ELSE 0 END
			FROM fallbacks f LEFT JOIN letters l ON l.user_id = f.user_id AND l.seq = f.seq
			LEFT JOIN receipts r ON r.user_id = f.user_id AND r.seq = f.seq
			WHERE f.user_id = ? AND f.state = 'unknown' AND f.reason <> 'left' AND COALESCE(l.id, r.id) = ?`, user, id)
		if err == nil && again && gone > 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		state, reason, outcome, due := FallbackUnknown, ReasonLeft, ReasonLeft, int64(0)
		if again {
			state, reason, outcome, due = FallbackWaiting, ReasonAgain, ReasonAgain, stamp(t.now)
		}
		n, err := t.exec("UPDATE fallbacks SET state = ?, reason = ?, due_at = ?, taken = '', owner = '', at = ? WHERE user_id = ? AND seq = ? AND state = 'unknown'",
			state, reason, due, stamp(t.now), user, seq)
		if err == nil && n == 0 { // another admin was quicker
			err = ErrNotFound
		}
		if err == nil && again {
			err = t.giveBack(user, channel, taken)
		}
		if err != nil {
			return err
		}
		return t.addAttempt(user, seq, ChannelDecision, outcome, cut(by, maxName))
	})
	if err != nil {
		return fmt.Errorf("doubt about %.128q of %.64q: %w", id, user, err)
	}
	return nil
}
