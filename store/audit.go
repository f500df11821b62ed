package store

import (
	"context"
	"fmt"
	"time"
)

// An AuditEntry tells what an admin or the shop's own system did.
type AuditEntry struct {
	Seq   int64
	Who   string // the admin's or the API key's name
	What  string // refund, block, disconnect …
	About string // an order, a user id, a room
	At    time.Time
}

// Audit writes an entry; each field is cut at 4 KiB. It must hold no secret and no openid: nothing erases it.
func (db *DB) Audit(ctx context.Context, who, what, about string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("INSERT INTO audits (who, what, about, at) VALUES (?, ?, ?, ?)",
			cut(who, maxText), cut(what, maxText), cut(about, maxText), stamp(t.now))
		return err
	})
	if err != nil {
		return fmt.Errorf("audit %.64q: %w", what, err)
	}
	return nil
}

// Audits returns the newest entries first. limit is 1 to 1000, 0: 100.
func (db *DB) Audits(ctx context.Context, limit int) ([]AuditEntry, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("audits: %w", in.err)
	}
	var all []AuditEntry
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var e AuditEntry
			var at int64
			err := scan(&e.Seq, &e.Who, &e.What, &e.About, &at)
			e.At = moment(at)
			all = append(all, e)
			return err
		}, "SELECT seq, who, what, about, at FROM audits ORDER BY seq DESC LIMIT ?", limit)
	})
	if err != nil {
		return nil, fmt.Errorf("audits: %w", err)
	}
	return all, nil
}
