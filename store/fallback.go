package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Where a fallback stands. A letter that is acknowledged has none any more, unless one was sent before.
const (
	FallbackWaiting = "waiting" // until it is due
	FallbackHeld    = "held"    // nothing may be sent: the letter waits for its user, or for a quota or grant
	FallbackSending = "sending"
	FallbackSent    = "sent"
	FallbackUnknown = "unknown" // it was being sent when the process or the answer was lost: it may have arrived, and is sent again only if an admin says so
	FallbackExpired = "expired" // too old to be worth a message
)

// The ways in which the platform tells somebody who is away.
const (
	ChannelCustom    = "custom"    // customer-service message
	ChannelSubscribe = "subscribe" // subscribe message
)

// A Fallback is a letter that nobody acknowledged in time.
type Fallback struct {
	User      string
	Letter    Letter
	StoredAt  time.Time
	WrittenAt time.Time // zero: no socket took it
	SeenAt    time.Time // when its user was last found with an open socket by DeferFallback
	Reason    string    // why it was deferred last
	Tries     int       // sendings of which the platform never heard
	// Repeat: the letter was being sent when the process or the answer was lost, and it took the last that the platform
	// grants. The platform refuses a second message if the first one arrived, so it may be sent again, by BeginRepeat.
	Repeat   bool
	Channel  string // of the sending to be repeated
	Template string // likewise, of a subscribe message
}

// FallbackState tells where the fallback of a letter stands.
type FallbackState struct {
	State   string
	Channel string // of the last sending
	Reason  string // why it waits, is held or ended
	DueAt   time.Time
	At      time.Time // of the last change
}

// An Attempt is one call of the platform for a letter.
type Attempt struct {
	Channel string // ChannelCustom, ChannelSubscribe, or decision: what an admin said
	Outcome string // sent, refused, unsent, unknown; empty: under way. Of a decision: again or left
	Code    int    // the platform's, of a refusal
	Reason  string
	Node    string
	At      time.Time
	Report  *SendReport // what the platform said afterwards; nil: nothing
}

// ClaimFallbacks leases up to n (1 to 512) of the fallbacks that are due for longest to owner, by user and Seq. What was acknowledged meanwhile
// is ended by it. What a lost process was sending counts as sent if the platform has reported it, is returned as a Repeat if
// that is harmless, and becomes unknown otherwise.
func (db *DB) ClaimFallbacks(ctx context.Context, owner string, n int, lease time.Duration) ([]Fallback, error) {
	var in inputs
	in.text("owner", owner, 1, maxName)
	in.number("n", int64(n), 1, maxList)
	in.number("lease", int64(lease), int64(time.Millisecond), int64(24*time.Hour))
	if in.err != nil {
		return nil, fmt.Errorf("claim fallbacks: %w", in.err)
	}
	// The usual case, that nothing is due, costs no transaction.
	var due int
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&due}, `SELECT COUNT(*) FROM (SELECT 1 FROM fallbacks
			WHERE state IN ('waiting', 'sending') AND due_at <= ? LIMIT 1) d`, stamp(t.now))
	})
	var all []Fallback
	if err == nil && due > 0 {
		err = db.engine.write(ctx, func(t *tx) (err error) {
			lost, err := t.endLost(owner, n, lease)
			if err == nil {
				all, err = t.claimFallbacks(owner, n, lease)
			}
			all = append(lost, all...)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim fallbacks: %w", err)
	}
	return all, nil
}

// skip ends a SELECT whose rows several nodes want: each takes what no other is at.
func (t *tx) skip() string {
	if t.pg {
		return " FOR UPDATE SKIP LOCKED"
	}
	return ""
}

type letterKey struct {
	user string
	seq  int64
}

func (t *tx) claimFallbacks(owner string, n int, lease time.Duration) ([]Fallback, error) {
	var keys []letterKey
	var all []Fallback
	now := stamp(t.now)
	err := t.rows(func(scan func(...any) error) error {
		var k letterKey
		var f Fallback
		var seen int64
		err := scan(&k.user, &k.seq, &seen, &f.Reason, &f.Tries)
		f.User, f.SeenAt = k.user, moment(seen)
		keys, all = append(keys, k), append(all, f)
		return err
	}, `UPDATE fallbacks SET owner = ?, due_at = ? WHERE (user_id, seq) IN (
		SELECT user_id, seq FROM fallbacks WHERE state = 'waiting' AND due_at <= ? ORDER BY due_at, user_id, seq LIMIT ?`+t.skip()+`)
		RETURNING user_id, seq, seen_at, reason, tries`, owner, stamp(t.now.Add(lease)), now, n)
	if err != nil {
		return nil, err
	}
	kept := all[:0]
	for i, f := range all {
		acked, err := t.readLetter(&f, keys[i].seq)
		if err == ErrNotFound || err == nil && acked {
			if _, err = t.exec("DELETE FROM fallbacks WHERE user_id = ? AND seq = ?", keys[i].user, keys[i].seq); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, f)
	}
	slices.SortFunc(kept, func(a, b Fallback) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Letter.Seq, b.Letter.Seq))
	})
	return kept, nil
}

// readLetter fills in f's letter. ErrNotFound: it is kept no longer.
func (t *tx) readLetter(f *Fallback, seq int64) (acked bool, err error) {
	var at, stored, written, upTo int64
	l := &f.Letter
	err = t.row([]any{&l.ID, &l.Action, (*[]byte)(&l.Payload), &at, &stored, &written, &upTo},
		`SELECT l.id, l.action, l.payload, l.at, l.stored_at, l.written_at, m.acked FROM letters l
		JOIN mailboxes m ON m.user_id = l.user_id WHERE l.user_id = ? AND l.seq = ?`, f.User, seq)
	l.Seq, l.At, f.StoredAt, f.WrittenAt = uint64(seq), moment(at), moment(stored), moment(written)
	return upTo >= seq, err
}

// DeferFallback gives a claimed fallback back, due at a later time; seen: its user has an open socket.
// One whose lease went to somebody else is left to them. f.Tries is kept if it has grown.
func (db *DB) DeferFallback(ctx context.Context, owner string, f Fallback, due time.Time, reason string, seen bool) error {
	return db.endClaim(ctx, owner, f, FallbackWaiting, due, reason, seen)
}

// HoldFallback lets a claimed letter wait for its user, until a quota or grant for them comes.
func (db *DB) HoldFallback(ctx context.Context, owner string, f Fallback, reason string) error {
	return db.endClaim(ctx, owner, f, FallbackHeld, time.Time{}, reason, false)
}

// ExpireFallback gives a claimed fallback up: it is too old, or nobody wants it any more.
func (db *DB) ExpireFallback(ctx context.Context, owner string, f Fallback, reason string) error {
	return db.endClaim(ctx, owner, f, FallbackExpired, time.Time{}, reason, false)
}

// WakeHeld has all held letters looked at again: the rules changed.
func (db *DB) WakeHeld(ctx context.Context) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE fallbacks SET state = ?, due_at = ?, at = ? WHERE state = ?", FallbackWaiting, stamp(t.now), stamp(t.now), FallbackHeld)
		return err
	})
	if err != nil {
		return fmt.Errorf("wake held fallbacks: %w", err)
	}
	return nil
}

func (db *DB) endClaim(ctx context.Context, owner string, f Fallback, state string, due time.Time, reason string, seen bool) error {
	err := db.engine.write(ctx, func(t *tx) error {
		seenAt := stamp(f.SeenAt)
		if seen {
			seenAt = stamp(t.now)
		}
		n, err := t.exec(`UPDATE fallbacks SET state = ?, owner = '', due_at = ?, reason = ?, seen_at = ?, at = ?,
			tries = CASE WHEN tries < ? THEN ? ELSE tries END WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'waiting'`,
			state, stamp(due), cut(reason, maxReason), seenAt, stamp(t.now), f.Tries, f.Tries, f.User, clamp(f.Letter.Seq), owner)
		if state == FallbackHeld {
			t.counts.Held += uint64(n)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("fallback of %s %s: %w", f.User, f.Letter.ID, err)
	}
	return nil
}

// Begun tells whether a sending may begin, and if not, why.
type Begun string

const (
	BegunYes          Begun = ""
	BegunAcknowledged Begun = "acknowledged" // meanwhile: there is nothing to do any more
	BegunNoQuota      Begun = "no_quota"     // no window is open, or its messages are used up
	BegunNoGrant      Begun = "no_grant"
	BegunBusy         Begun = "busy" // another message to this user is under way
	BegunLost         Begun = "lost" // the lease went to somebody else
)

// BeginFallback writes down, before it is done, that a claimed letter is sent over a channel, and takes its price: one
// message of an open window, or one grant of templateID. Whoever finds it so when the lease has run out sends
// again only as a Repeat. The answer must be told by EndFallback within lease.
func (db *DB) BeginFallback(ctx context.Context, owner string, f Fallback, channel, templateID string, lease time.Duration) (began Begun, err error) {
	err = db.engine.write(ctx, func(t *tx) error {
		began, err = t.beginFallback(owner, f, channel, templateID, lease)
		return err
	})
	if err != nil {
		return BegunLost, fmt.Errorf("fallback of %s %s: begin: %w", f.User, f.Letter.ID, err)
	}
	return began, nil
}

func (t *tx) beginFallback(owner string, f Fallback, channel, templateID string, lease time.Duration) (Begun, error) {
	seq := clamp(f.Letter.Seq)
	var acked, n int64
	if err := t.row([]any{&acked}, "SELECT acked FROM mailboxes WHERE user_id = ?"+t.lock, f.User); err == ErrNotFound {
		return BegunLost, nil
	} else if err != nil {
		return "", err
	}
	if acked >= seq {
		_, err := t.exec("DELETE FROM fallbacks WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'waiting'", f.User, seq, owner)
		return BegunAcknowledged, err
	}
	if err := t.row([]any{&n}, "SELECT COUNT(*) FROM fallbacks WHERE user_id = ? AND seq = ? AND owner = ? AND state = 'waiting' AND due_at > ?",
		f.User, seq, owner, stamp(t.now)); err != nil || n == 0 {
		return BegunLost, err
	}
	if err := t.row([]any{&n}, "SELECT COUNT(*) FROM fallbacks WHERE user_id = ? AND state = 'sending' AND owner <> '' AND due_at > ?", f.User, stamp(t.now)); err != nil || n > 0 {
		return BegunBusy, err
	}
	taken := templateID
	if channel == ChannelSubscribe {
		if ok, err := t.takeGrant(f.User, templateID); err != nil || !ok {
			return BegunNoGrant, err
		}
	} else {
		var err error
		if taken, err = t.takeReply(f.User); err != nil || taken == "" {
			return BegunNoQuota, err
		}
	}
	reason := ""
	if last, err := t.tookLast(f.User, seq, channel, taken); err != nil {
		return "", err
	} else if last {
		reason = reasonLast
	}
	if _, err := t.exec("UPDATE fallbacks SET state = 'sending', due_at = ?, channel = ?, taken = ?, reason = ?, at = ? WHERE user_id = ? AND seq = ?",
		stamp(t.now.Add(lease)), channel, taken, reason, stamp(t.now), f.User, seq); err != nil {
		return "", err
	}
	return BegunYes, t.addAttempt(f.User, seq, channel, "", owner)
}

func (t *tx) addAttempt(user string, seq int64, channel, outcome, node string) error {
	_, err := t.exec(`INSERT INTO attempts (user_id, seq, n, channel, outcome, node, at)
		SELECT ?, ?, COALESCE(MAX(n), 0) + 1, ?, ?, ?, ? FROM attempts WHERE user_id = ? AND seq = ?`,
		user, seq, channel, outcome, node, stamp(t.now), user, seq)
	return err
}

// A SendOutcome is how a sending ended.
type SendOutcome struct {
	Result string // sent, refused (the platform did not take it), unsent (it never heard of it) or unknown
	Code   int
	Reason string // at most 500 bytes are kept
	MsgID  string // as the platform calls it, for a SendReport; may be empty
	Empty  bool   // of a refusal: what was taken is used up, whatever our count says
}

const (
	OutcomeSent    = "sent"
	OutcomeRefused = "refused"
	OutcomeUnsent  = "unsent"
	OutcomeUnknown = "unknown"
)

// EndFallback tells how a sending ended. After sent and unknown the fallback is done; after refused and unsent it is
// owner's still, as claimed, for as long as lease, and what it took is given back unless it was used up.
// A sending that became unknown meanwhile stays so, unless this tells more. One with an unknown end is left to be
// repeated after lease if that is harmless; a Repeat that was not sent tells nothing of the first sending.
func (db *DB) EndFallback(ctx context.Context, owner string, f Fallback, o SendOutcome, lease time.Duration) error {
	var in inputs
	in.text("MsgID", o.MsgID, 0, maxName)
	switch o.Result {
	case OutcomeSent, OutcomeRefused, OutcomeUnsent, OutcomeUnknown:
	default:
		in.fault("Result", "must be sent, refused, unsent or unknown")
	}
	if in.err != nil {
		return fmt.Errorf("end fallback: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error { return t.endFallback(owner, f, o, lease) })
	if err != nil {
		return fmt.Errorf("fallback of %s %s: end: %w", f.User, f.Letter.ID, err)
	}
	return nil
}

func (t *tx) endFallback(owner string, f Fallback, o SendOutcome, lease time.Duration) error {
	seq := clamp(f.Letter.Seq)
	var state, by, channel, taken, kept string
	err := t.row([]any{&state, &by, &channel, &taken, &kept}, "SELECT state, owner, channel, taken, reason FROM fallbacks WHERE user_id = ? AND seq = ?"+t.lock, f.User, seq)
	if err == ErrNotFound || err == nil && state != FallbackUnknown && (state != FallbackSending || by != owner) {
		return nil // erased, or told already
	}
	if err != nil {
		return err
	}
	reason := cut(o.Reason, maxReason)
	if _, err := t.exec(`UPDATE attempts SET outcome = ?, code = ?, reason = ?, msg_id = ? WHERE user_id = ? AND seq = ? AND n = (
		SELECT MAX(n) FROM attempts WHERE user_id = ? AND seq = ? AND channel <> 'decision')`, o.Result, o.Code, reason, o.MsgID, f.User, seq, f.User, seq); err != nil {
		return err
	}
	if o.Result == OutcomeUnsent { // an outage may bring many: the last one tells as much
		if _, err := t.exec(`DELETE FROM attempts WHERE user_id = ? AND seq = ? AND outcome = 'unsent' AND n < (
			SELECT MAX(n) FROM attempts WHERE user_id = ? AND seq = ?)`, f.User, seq, f.User, seq); err != nil {
			return err
		}
	}
	next, due := FallbackWaiting, stamp(t.now.Add(lease))
	hopeless := f.Repeat && o.Result == OutcomeRefused
	if f.Repeat && o.Result != OutcomeSent { // it says nothing of the first sending
		o.Result = OutcomeUnknown
	}
	switch o.Result {
	case OutcomeSent:
		next, due, owner = FallbackSent, 0, ""
		if channel == ChannelSubscribe {
			t.counts.SubscribeSent++
		} else {
			t.counts.CustomSent++
		}
	case OutcomeUnknown:
		again := false
		if state == FallbackSending && kept == reasonLast && !hopeless {
			if again, err = t.repeatable(f.User, seq, channel, taken); err != nil {
				return err
			}
		}
		if again {
			next, owner, reason = FallbackSending, "", reasonLast
			break
		}
		next, due, owner = FallbackUnknown, 0, ""
		if state != FallbackUnknown {
			t.counts.Unknown++
		}
	case OutcomeRefused:
		t.counts.Refused++
		fallthrough
	default:
		if o.Empty {
			err = t.empty(f.User, channel, taken)
		} else {
			err = t.giveBack(f.User, channel, taken)
		}
		if err != nil {
			return err
		}
		if state == FallbackUnknown { // the lease is gone: somebody looks at it again
			due, owner = stamp(t.now), ""
		}
	}
	if next != FallbackUnknown && next != FallbackSending {
		taken = ""
	}
	unsent := 0
	if o.Result == OutcomeUnsent {
		unsent = 1
	}
	_, err = t.exec(`UPDATE fallbacks SET state = ?, owner = ?, due_at = ?, taken = ?, reason = ?, tries = tries + ?, at = ?
		WHERE user_id = ? AND seq = ?`, next, owner, due, taken, reason, unsent, stamp(t.now), f.User, seq)
	return err
}

// addFallback reads where the fallback of a letter stands.
func (t *tx) addFallback(r *Receipt) error {
	var s FallbackState
	var due, at int64
	err := t.row([]any{&s.State, &s.Channel, &s.Reason, &due, &at},
		"SELECT state, channel, reason, due_at, at FROM fallbacks WHERE user_id = ? AND seq = ?", r.User, clamp(r.Seq))
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	s.DueAt, s.At = moment(due), moment(at)
	r.Fallback = &s
	return t.rows(func(scan func(...any) error) error {
		var a Attempt
		var at, reportedAt int64
		var msgID, reason string
		var code int
		err := scan(&a.Channel, &a.Outcome, &a.Code, &a.Reason, &a.Node, &at, &msgID, &code, &reason, &reportedAt)
		a.At = moment(at)
		if reportedAt > 0 {
			a.Report = &SendReport{MsgID: msgID, Code: code, Reason: reason}
		}
		r.Attempts = append(r.Attempts, a)
		return err
	}, `SELECT a.channel, a.outcome, a.code, a.reason, a.node, a.at, a.msg_id, COALESCE(s.code, 0), COALESCE(s.reason, ''), COALESCE(s.at, 0)
		FROM attempts a LEFT JOIN send_reports s ON s.msg_id = a.msg_id AND a.msg_id <> ''
		WHERE a.user_id = ? AND a.seq = ? ORDER BY a.n`, r.User, clamp(r.Seq))
}

// FallbackStats are the figures of fallbacks that have not ended.
type FallbackStats struct {
	Waiting, Sending, Held int
	Oldest                 time.Time // the longest overdue; zero: none is
}

func (db *DB) FallbackStats(ctx context.Context) (s FallbackStats, err error) {
	var oldest int64
	err = db.engine.read(ctx, true, func(t *tx) error {
		if err := t.row([]any{&s.Waiting, &s.Sending, &oldest}, `SELECT COALESCE(SUM(CASE WHEN state = 'waiting' THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN state = 'sending' THEN 1 ELSE 0 END), 0), COALESCE(MIN(CASE WHEN due_at <= ? THEN due_at END), 0)
			FROM fallbacks WHERE state IN ('waiting', 'sending')`, stamp(t.now)); err != nil {
			return err
		}
		return t.row([]any{&s.Held}, "SELECT COUNT(*) FROM fallbacks WHERE state = 'held'")
	})
	if err != nil {
		return FallbackStats{}, fmt.Errorf("fallback stats: %w", err)
	}
	s.Oldest = moment(oldest)
	return s, nil
}

// A Document is a setting that admins change while the program runs.
type Document struct {
	Value     json.RawMessage
	Version   int64 // grows with each change; 0: there is none
	ChangedBy string
	ChangedAt time.Time
}

// Document reads one. Absent: the zero Document.
func (db *DB) Document(ctx context.Context, name string) (d Document, err error) {
	var at int64
	err = db.engine.read(ctx, false, func(t *tx) error {
		err := t.row([]any{(*[]byte)(&d.Value), &d.Version, &d.ChangedBy, &at},
			"SELECT value, version, changed_by, changed_at FROM documents WHERE name = ?", name)
		if err == ErrNotFound {
			return nil
		}
		return err
	})
	if err != nil {
		return Document{}, fmt.Errorf("document %.64q: %w", name, err)
	}
	d.ChangedAt = moment(at)
	return d, nil
}

// SetDocument replaces one that stands at version (0: there is none; -1: whichever). Another version: ErrOtherBody.
func (db *DB) SetDocument(ctx context.Context, name string, value json.RawMessage, version int64, by string) (d Document, err error) {
	var in inputs
	in.text("name", name, 1, maxName)
	in.json("value", value)
	if len(value) == 0 {
		in.fault("value", "is missing")
	}
	if in.err != nil {
		return Document{}, fmt.Errorf("set document: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		var known int64
		err := t.row([]any{&known}, "SELECT version FROM documents WHERE name = ?"+t.lock, name)
		if err != nil && err != ErrNotFound {
			return err
		}
		if version >= 0 && version != known {
			return ErrOtherBody
		}
		d = Document{Value: value, Version: known + 1, ChangedBy: cut(by, maxName), ChangedAt: moment(stamp(t.now))}
		n, err := t.exec(`INSERT INTO documents (name, value, version, changed_by, changed_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = excluded.version, changed_by = excluded.changed_by,
			changed_at = excluded.changed_at WHERE documents.version = ?`,
			name, []byte(value), d.Version, d.ChangedBy, stamp(t.now), known)
		if err == nil && n == 0 { // somebody else made the first one at the same time
			err = ErrOtherBody
		}
		return err
	})
	if err != nil {
		return Document{}, fmt.Errorf("document %.64q: set: %w", name, err)
	}
	return d, nil
}
