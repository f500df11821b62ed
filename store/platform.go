package store

import (
	"context"
	"fmt"
	"time"
)

// PlatformToken reads a token that WeChat gave us (kept sealed). Absent: ErrNotFound. An expired one is returned too.
func (db *DB) PlatformToken(ctx context.Context, name string) (token string, expiresAt time.Time, err error) {
	var sealed []byte
	var kid string
	var expires int64
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&sealed, &kid, &expires}, "SELECT token, kid, expires_at FROM platform_tokens WHERE name = ?", name)
	})
	if err == nil {
		token, err = db.keys.open(platformTokenRow(name), sealed, kid)
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("platform token %.128q: %w", name, err)
	}
	return token, moment(expires), nil
}

// SetPlatformToken keeps a token, or what else WeChat gave us for a while (at most 64 KiB), in place of the last one of
// this name. It may be swept a day after it expired.
func (db *DB) SetPlatformToken(ctx context.Context, name, token string, expiresAt time.Time) error {
	var in inputs
	in.text("name", name, 1, maxName)
	in.text("token", token, 1, maxToken)
	if in.err != nil {
		return fmt.Errorf("set platform token: %w", in.err)
	}
	sealed, kid := db.keys.seal(platformTokenRow(name), token)
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO platform_tokens (name, token, kid, expires_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET token = excluded.token, kid = excluded.kid, expires_at = excluded.expires_at`,
			name, sealed, kid, stamp(expiresAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("platform token %s: set: %w", name, err)
	}
	return nil
}

// platformTokenRow names the place that a sealed token belongs to.
func platformTokenRow(name string) string { return "platform_tokens/" + name }

// Lease takes or prolongs the lease called name for owner; false: somebody else holds it.
func (db *DB) Lease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	var in inputs
	in.text("name", name, 1, maxName)
	in.text("owner", owner, 1, maxName)
	in.number("ttl", int64(ttl), int64(time.Millisecond), int64(24*time.Hour))
	if in.err != nil {
		return false, fmt.Errorf("lease: %w", in.err)
	}
	var mine bool
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO leases (name, owner, until_at) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_at = excluded.until_at
			WHERE leases.owner = excluded.owner OR leases.until_at <= ?`,
			name, owner, stamp(t.now.Add(ttl)), stamp(t.now))
		mine = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", name, err)
	}
	return mine, nil
}

// Unlease gives a lease back. One that is somebody else's stays.
func (db *DB) Unlease(ctx context.Context, name, owner string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("DELETE FROM leases WHERE name = ? AND owner = ?", name, owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("lease %.128q: give back: %w", name, err)
	}
	return nil
}
