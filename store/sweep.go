package store

import (
	"context"
	"fmt"
	"time"
)

const (
	settledKept   = 24 * time.Hour      // a telling of the same id stays one for this long
	ackedMailKept = 7 * 24 * time.Hour  // acknowledged letters stay for a user's other devices
	mailKept      = 30 * 24 * time.Hour // so long a phone may be off
	mailCount     = 1000                // letters of one mailbox: more than one replay carries is of no use to a phone
	receiptsKept  = 30 * 24 * time.Hour // after their letters
	unblockedKept = 24 * time.Hour      // by then every node has heard of it
	nodesKept     = 24 * time.Hour      // of a node that died without a word
	tokensKept    = 24 * time.Hour      // after they expired
	eventsKept    = 30 * 24 * time.Hour
	alarmsKept    = 365 * 24 * time.Hour // after they were acknowledged
	sweepBatch    = 500                  // rows of one transaction, so that nobody waits long behind it
)

// Sweep deletes what has outlived its use: dead revocations, settled outbox rows, old push keys, acknowledged
// or aged mail, broadcast keys older than a day, nodes and unblockings of yesterday. It works in small transactions; a repeat goes on where one ended.
func (db *DB) Sweep(ctx context.Context) error {
	now := db.now()
	before := func(d time.Duration) int64 { return stamp(now.Add(-d)) }
	sweeps := []struct {
		what, query string
		args        []any
	}{
		{"revocations", `DELETE FROM revocations WHERE token_id IN (
			SELECT token_id FROM revocations WHERE expires_at <= ? LIMIT ?)`, []any{before(0)}},
		{"outbox", `DELETE FROM outbox WHERE seq IN (
			SELECT seq FROM outbox WHERE state = 1 AND ended_at <= ? LIMIT ?)`, []any{before(settledKept)}},
		{"pushes", `DELETE FROM pushes WHERE (app_id, push) IN (
			SELECT app_id, push FROM pushes WHERE at <= ? LIMIT ?)`, []any{before(pushesKept)}},
		{"broadcasts", `DELETE FROM broadcasts WHERE id IN (
			SELECT id FROM broadcasts WHERE at <= ? LIMIT ?)`, []any{before(broadcastsKept)}},
		{"unblocked users", `DELETE FROM blocks WHERE user_id IN (
			SELECT user_id FROM blocks WHERE NOT blocked AND at <= ? LIMIT ?)`, []any{before(unblockedKept)}},
		{"nodes", `DELETE FROM nodes WHERE id IN (
			SELECT id FROM nodes WHERE seen_at <= ? LIMIT ?)`, []any{before(nodesKept)}},
		{"platform tokens", `DELETE FROM platform_tokens WHERE name IN (
			SELECT name FROM platform_tokens WHERE expires_at <= ? LIMIT ?)`, []any{before(tokensKept)}},
		{"alarms", `DELETE FROM alarms WHERE id IN (
			SELECT id FROM alarms WHERE acked_at > 0 AND acked_at <= ? LIMIT ?)`, []any{before(alarmsKept)}},
		{"notifies", `DELETE FROM notifies WHERE notify IN (
			SELECT notify FROM notifies WHERE at <= ? LIMIT ?)`, []any{before(notifiesKept)}},
		{"events", `DELETE FROM events WHERE seq IN (
			SELECT seq FROM events WHERE at <= ? LIMIT ?)`, []any{before(eventsKept)}},
		{"media checks", `DELETE FROM media_checks WHERE trace_id IN (
			SELECT trace_id FROM media_checks WHERE at <= ? LIMIT ?)`, []any{before(mediaChecksKept)}},
		{"receipts", `DELETE FROM receipts WHERE (user_id, seq) IN (
			SELECT user_id, seq FROM receipts WHERE gone_at <= ? LIMIT ?)`, []any{before(receiptsKept)}},
		{"send reports", `DELETE FROM send_reports WHERE msg_id IN (
			SELECT msg_id FROM send_reports WHERE at <= ? LIMIT ?)`, []any{before(db.mailAge + receiptsKept)}},
		{"fallbacks", `DELETE FROM fallbacks WHERE (user_id, seq) IN (SELECT user_id, seq FROM fallbacks f WHERE at <= ?
			AND NOT EXISTS (SELECT 1 FROM letters l WHERE l.user_id = f.user_id AND l.seq = f.seq)
			AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.user_id = f.user_id AND r.seq = f.seq) LIMIT ?)`, []any{before(settledKept)}},
		{"attempts", `DELETE FROM attempts WHERE (user_id, seq, n) IN (SELECT user_id, seq, n FROM attempts a WHERE at <= ?
			AND NOT EXISTS (SELECT 1 FROM fallbacks f WHERE f.user_id = a.user_id AND f.seq = a.seq) LIMIT ?)`, []any{before(settledKept)}},
		{"reply windows", `DELETE FROM reply_windows WHERE user_id IN (
			SELECT user_id FROM reply_windows WHERE spoken_until <= ? AND brief_until <= ? LIMIT ?)`, []any{before(0), before(0)}},
	}
	for _, s := range sweeps {
		for n := int64(sweepBatch); n == sweepBatch; {
			err := db.engine.write(ctx, func(t *tx) (err error) {
				n, err = t.exec(s.query, append(s.args, sweepBatch)...)
				return err
			})
			if err != nil {
				return fmt.Errorf("sweep %s: %w", s.what, err)
			}
		}
	}
	// stored_at and acked both grow with seq: what goes is the beginning of a mailbox, never a piece from within.
	if err := db.sweepLetters(ctx, `SELECT user_id, seq FROM letters WHERE stored_at <= ?
		ORDER BY stored_at, user_id, seq LIMIT ?`, before(db.mailAge)); err != nil {
		return fmt.Errorf("sweep aged mail: %w", err)
	}
	if err := db.sweepLetters(ctx, `SELECT l.user_id, l.seq FROM letters l JOIN mailboxes m ON m.user_id = l.user_id
		WHERE l.stored_at <= ? AND l.seq <= m.acked ORDER BY l.stored_at, l.user_id, l.seq LIMIT ?`, before(ackedMailKept)); err != nil {
		return fmt.Errorf("sweep acknowledged mail: %w", err)
	}
	return nil
}

// sweepLetters deletes the letters that a query selects and keeps their receipts.
func (db *DB) sweepLetters(ctx context.Context, which string, before int64) error {
	for n := sweepBatch; n == sweepBatch; {
		err := db.engine.write(ctx, func(t *tx) error {
			var err error
			n, err = t.dropLetters("(user_id, seq) IN ("+which+")", before, sweepBatch)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
