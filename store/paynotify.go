package store

import (
	"context"
	"fmt"
	"time"
)

const notifiesKept = 24 * time.Hour // a signature is good for some minutes; the platform repeats for a day

// TookNotify remembers that a verified notify of WeChat Pay was taken. key is what makes it the same again.
func (db *DB) TookNotify(ctx context.Context, key string) error {
	var in inputs
	in.text("key", key, 1, 4*maxName)
	if in.err != nil {
		return fmt.Errorf("took notify: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("INSERT INTO notifies (notify, at) VALUES (?, ?) ON CONFLICT (notify) DO NOTHING", key, stamp(t.now))
		return err
	})
	if err != nil {
		return fmt.Errorf("took notify: %w", err)
	}
	return nil
}

// KnowsNotify tells whether a notify was taken before.
func (db *DB) KnowsNotify(ctx context.Context, key string) (known bool, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		var n int
		err := t.row([]any{&n}, "SELECT COUNT(*) FROM notifies WHERE notify = ?", key)
		known = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("knows notify: %w", err)
	}
	return known, nil
}
