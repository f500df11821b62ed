package store

import (
	"context"
	"fmt"
	"time"
)

// A MediaCheck is a picture that WeChat judges: the verdict comes later, by push.
type MediaCheck struct {
	TraceID string // WeChat's name for the check
	UserID  string // whose picture it is
	URL     string
	Verdict string // pass, review or risky; empty: not yet
	At      time.Time
}

const mediaChecksKept = 30 * 24 * time.Hour

// BeginMediaCheck remembers a check; a verdict that came before it counts at once. One of an erased person: ErrErased.
func (db *DB) BeginMediaCheck(ctx context.Context, m MediaCheck) error {
	var in inputs
	in.text("TraceID", m.TraceID, 1, maxName)
	in.matches("UserID", m.UserID, userIDs)
	in.text("URL", m.URL, 1, maxText)
	if in.err != nil {
		return fmt.Errorf("begin media check: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		if err := t.alive(m.UserID); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO media_checks (trace_id, user_id, url, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (trace_id) DO UPDATE SET user_id = excluded.user_id, url = excluded.url`,
			m.TraceID, m.UserID, m.URL, stamp(t.now)); err != nil {
			return err
		}
		kept, err := t.mediaCheck(m.TraceID)
		if err != nil {
			return err
		}
		return t.takeAvatar(kept)
	})
	if err != nil {
		return fmt.Errorf("user %s: begin media check: %w", m.UserID, err)
	}
	return nil
}

// MediaCheck finds a check. Absent: ErrNotFound.
func (db *DB) MediaCheck(ctx context.Context, traceID string) (m MediaCheck, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		m, err = t.mediaCheck(traceID)
		return err
	})
	if err != nil {
		return MediaCheck{}, fmt.Errorf("media check: %w", err)
	}
	return m, nil
}

func (t *tx) mediaCheck(traceID string) (m MediaCheck, err error) {
	var at int64
	err = t.row([]any{&m.TraceID, &m.UserID, &m.URL, &m.Verdict, &at},
		"SELECT trace_id, user_id, url, verdict, at FROM media_checks WHERE trace_id = ?", traceID)
	m.At = moment(at)
	return m, err
}

// A MediaVerdict is what WeChat says of a picture.
type MediaVerdict struct {
	TraceID string
	Verdict string // pass, review or risky
}

// judge keeps a verdict, also one that comes before we know what was asked.
func (t *tx) judge(v MediaVerdict) error {
	v.TraceID = cut(v.TraceID, maxName)
	if v.TraceID == "" {
		return nil
	}
	if _, err := t.exec(`INSERT INTO media_checks (trace_id, user_id, url, verdict, at) VALUES (?, '', '', ?, ?)
		ON CONFLICT (trace_id) DO UPDATE SET verdict = excluded.verdict`, v.TraceID, cut(v.Verdict, maxName), stamp(t.now)); err != nil {
		return err
	}
	m, err := t.mediaCheck(v.TraceID)
	if err != nil {
		return err
	}
	return t.takeAvatar(m)
}

// takeAvatar takes a picture that did not pass from whom it stands for.
func (t *tx) takeAvatar(m MediaCheck) error {
	if m.Verdict == "" || m.Verdict == "pass" || m.UserID == "" {
		return nil
	}
	_, err := t.exec("UPDATE users SET avatar = '' WHERE id = ? AND avatar = ?", m.UserID, m.URL)
	return err
}
