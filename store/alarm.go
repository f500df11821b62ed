package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// An Alarm is something that a person has to look at. While nobody acknowledged it, the same thing again (Kind and
// Subject) counts in its Times.
type Alarm struct {
	ID      string
	Kind    string // a word: payment.conflict, refund.abnormal …
	Subject string // what it is about: an order, a refund, a day; may be empty
	Text    string // what happened, newest; no secret, no openid: nothing erases it
	FirstAt time.Time
	LastAt  time.Time
	Times   int
	AckedAt time.Time // zero: open
	AckedBy string
	Note    string // of who acknowledged it
}

// AlarmConflict is the Kind of the alarm that every kept Conflict raises.
const AlarmConflict = "payment.conflict"

// TellAlarm is the Kind of a Telling that raises an alarm in its transaction; make it with RaiseTelling.
const TellAlarm TellingKind = "alarm"

// RaiseTelling raises an alarm within the transaction that tells it.
func RaiseTelling(kind, subject, text string) Telling {
	said, _ := json.Marshal(text) // a text always marshals
	return Telling{Kind: TellAlarm, To: kind, ID: subject, Payload: said}
}

// An AlarmWatch hears of alarms.
type AlarmWatch struct {
	// Tell says what the first of a kind and subject wants said; called as Push.Tell is. May be nil.
	Tell func(Alarm) []Telling
	// Raised is called after the commit, for every time, also of an open alarm. It must not block. May be nil.
	Raised func(Alarm)
}

// WatchAlarms sets who hears of the alarms that this process raises, in place of the one before.
func (db *DB) WatchAlarms(w AlarmWatch) { db.alarmWatch.Store(&w) }

// RaiseAlarm raises an alarm, or counts it where it is open. What is too long is cut.
func (db *DB) RaiseAlarm(ctx context.Context, kind, subject, text string) error {
	err := db.engine.write(ctx, func(t *tx) error { return t.raise(kind, subject, text) })
	if err != nil {
		return fmt.Errorf("alarm %.64q: %w", kind, err)
	}
	return nil
}

func (t *tx) raise(kind, subject, text string) error {
	a := Alarm{ID: newID(), Kind: cut(kind, maxName), Subject: cut(subject, maxName), Text: cut(text, maxText),
		FirstAt: moment(stamp(t.now)), LastAt: moment(stamp(t.now)), Times: 1}
	var first int64
	if err := t.row([]any{&a.ID, &first, &a.Times}, `INSERT INTO alarms (id, kind, subject, text, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, subject) WHERE acked_at = 0 DO UPDATE SET text = excluded.text, last_at = excluded.last_at, times = alarms.times + 1
		RETURNING id, first_at, times`, a.ID, a.Kind, a.Subject, a.Text, stamp(t.now), stamp(t.now)); err != nil {
		return err
	}
	a.FirstAt = moment(first)
	t.raised = append(t.raised, a)
	if a.Times > 1 || t.watch == nil || t.watch.Tell == nil {
		return nil
	}
	return t.tell(t.watch.Tell(a))
}

// AckAlarm acknowledges an alarm: somebody has seen to it. One that was acknowledged before is returned as it is. An
// unknown one: ErrNotFound.
func (db *DB) AckAlarm(ctx context.Context, id, by, note string) (a Alarm, err error) {
	err = db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec("UPDATE alarms SET acked_at = ?, acked_by = ?, note = ? WHERE id = ? AND acked_at = 0",
			stamp(t.now), cut(by, maxName), cut(note, maxText), id); err != nil {
			return err
		}
		found, err := t.alarms("id = ?", id)
		if err == nil && len(found) == 0 {
			return ErrNotFound
		}
		if err == nil {
			a = found[0]
		}
		return err
	})
	if err != nil {
		return Alarm{}, fmt.Errorf("alarm %.64q: acknowledge: %w", id, err)
	}
	return a, nil
}

// AlarmQuery selects alarms, the newest LastAt first. Empty fields do not select.
type AlarmQuery struct {
	Open    bool // only those that nobody acknowledged
	Kind    string
	Subject string
	Before  time.Time // LastAt before
	Limit   int       // 1 to 1000, 0: 100
}

func (db *DB) Alarms(ctx context.Context, q AlarmQuery) (all []Alarm, err error) {
	var in inputs
	limit := in.limited(q.Limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("alarms: %w", in.err)
	}
	where, args := []string{"1 = 1"}, []any(nil)
	add := func(set bool, condition string, arg ...any) {
		if set {
			where, args = append(where, condition), append(args, arg...)
		}
	}
	add(q.Open, "acked_at = 0")
	add(q.Kind != "", "kind = ?", q.Kind)
	add(q.Subject != "", "subject = ?", q.Subject)
	add(!q.Before.IsZero(), "last_at < ?", stamp(q.Before))
	err = db.engine.read(ctx, false, func(t *tx) error {
		all, err = t.alarms(strings.Join(where, " AND ")+" ORDER BY last_at DESC, id DESC LIMIT ?", append(args, limit)...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	return all, nil
}

func (t *tx) alarms(where string, args ...any) (all []Alarm, err error) {
	err = t.rows(func(scan func(...any) error) error {
		var a Alarm
		var first, last, acked int64
		err := scan(&a.ID, &a.Kind, &a.Subject, &a.Text, &first, &last, &a.Times, &acked, &a.AckedBy, &a.Note)
		a.FirstAt, a.LastAt, a.AckedAt = moment(first), moment(last), moment(acked)
		all = append(all, a)
		return err
	}, "SELECT id, kind, subject, text, first_at, last_at, times, acked_at, acked_by, note FROM alarms WHERE "+where, args...)
	return all, err
}

// OpenAlarms counts the open alarms by kind.
func (db *DB) OpenAlarms(ctx context.Context) (map[string]int, error) {
	open := map[string]int{}
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var kind string
			var n int
			err := scan(&kind, &n)
			open[kind] = n
			return err
		}, "SELECT kind, COUNT(*) FROM alarms WHERE acked_at = 0 GROUP BY kind")
	})
	if err != nil {
		return nil, fmt.Errorf("open alarms: %w", err)
	}
	return open, nil
}
