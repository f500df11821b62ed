package store

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"time"
)

// broadcastsKept is how long an idempotency key is remembered.
const broadcastsKept = 24 * time.Hour

// A Broadcast remembers what an idempotency key was used for.
type Broadcast struct {
	ID       string
	BodyHash []byte
	Answer   json.RawMessage // nil until it is complete
	At       time.Time
}

// BeginBroadcast reserves the key for 24 h. The same key and hash returns what is known; another hash ErrOtherBody.
func (db *DB) BeginBroadcast(ctx context.Context, id string, bodyHash []byte) (Broadcast, error) {
	var in inputs
	in.text("ID", id, 1, maxName)
	in.bytes("BodyHash", bodyHash, 64)
	if len(bodyHash) == 0 {
		in.fault("BodyHash", "is missing")
	}
	if in.err != nil {
		return Broadcast{}, fmt.Errorf("begin broadcast: %w", in.err)
	}
	var b Broadcast
	err := db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM broadcasts WHERE id = ? AND at <= ?", id, stamp(t.now.Add(-broadcastsKept))); err != nil {
			return err
		}
		if _, err := t.exec("INSERT INTO broadcasts (id, body_hash, at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
			id, bodyHash, stamp(t.now)); err != nil {
			return err
		}
		b = Broadcast{ID: id}
		var at int64
		if err := t.row([]any{&b.BodyHash, (*[]byte)(&b.Answer), &at},
			"SELECT body_hash, answer, at FROM broadcasts WHERE id = ?", id); err != nil {
			return err
		}
		b.At = moment(at)
		if subtle.ConstantTimeCompare(b.BodyHash, bodyHash) != 1 {
			return ErrOtherBody
		}
		return nil
	})
	if err != nil {
		return Broadcast{}, fmt.Errorf("broadcast %s: begin: %w", id, err)
	}
	return b, nil
}

// FinishBroadcast keeps the answer for the repeats. A key that was not begun: ErrNotFound.
func (db *DB) FinishBroadcast(ctx context.Context, id string, answer json.RawMessage) error {
	var in inputs
	in.json("Answer", answer)
	if in.err != nil {
		return fmt.Errorf("finish broadcast: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE broadcasts SET answer = ? WHERE id = ?", []byte(answer), id)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("broadcast %.128q: finish: %w", id, err)
	}
	return nil
}

// Broadcast tells what is known of an idempotency key; within 24 hours of its first use. Later: ErrNotFound.
func (db *DB) Broadcast(ctx context.Context, id string) (b Broadcast, err error) {
	var at int64
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&b.ID, &b.BodyHash, (*[]byte)(&b.Answer), &at}, "SELECT id, body_hash, answer, at FROM broadcasts WHERE id = ?", id)
	})
	if err != nil {
		return Broadcast{}, fmt.Errorf("broadcast %.128q: %w", id, err)
	}
	b.At = moment(at)
	return b, nil
}
