package store

import (
	"context"
	"fmt"
	"time"
)

// A Follower follows an official account.
type Follower struct {
	AppID, OpenID string // of the official account
	UnionID       string // the person, across the shop's apps; empty: not known yet
	Nickname      string
	Scene         string    // how they came, in WeChat's word
	At            time.Time // since when
}

func (f *Follower) check(in *inputs) {
	in.text("Follower.AppID", f.AppID, 1, maxName)
	in.text("Follower.OpenID", f.OpenID, 1, maxName)
	in.text("Follower.UnionID", f.UnionID, 0, maxName)
	in.text("Follower.Nickname", f.Nickname, 0, maxText)
	in.text("Follower.Scene", f.Scene, 0, maxName)
}

// PutFollower keeps a follower, or what became known of one: empty fields and a zero At leave what is known.
// UnionID and Nickname go to the user of this openid too, if a push made one.
func (db *DB) PutFollower(ctx context.Context, f Follower) error {
	var in inputs
	f.check(&in)
	if in.err != nil {
		return fmt.Errorf("put follower: %w", in.err)
	}
	if err := db.engine.write(ctx, func(t *tx) error { return t.putFollower(f) }); err != nil {
		return fmt.Errorf("follower of app %s: put: %w", f.AppID, err)
	}
	return nil
}

func (t *tx) putFollower(f Follower) error {
	u, err := t.user("app_id = ? AND open_id = ?"+t.lock, f.AppID, f.OpenID)
	if err == nil {
		_, err = t.exec("UPDATE users SET union_id = ?, nickname = ? WHERE id = ?",
			first(f.UnionID, u.UnionID), first(f.Nickname, u.Nickname), u.ID)
	}
	if err != nil && err != ErrNotFound {
		return err
	}
	at := "excluded.at"
	if f.At.IsZero() {
		f.At, at = t.now, "followers.at"
	}
	known := func(column string) string {
		return fmt.Sprintf("%s = CASE WHEN excluded.%[1]s = '' THEN followers.%[1]s ELSE excluded.%[1]s END, ", column)
	}
	_, err = t.exec(`INSERT INTO followers (app_id, open_id, union_id, nickname, scene, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (app_id, open_id) DO UPDATE SET `+known("union_id")+known("nickname")+known("scene")+"at = "+at,
		f.AppID, f.OpenID, f.UnionID, f.Nickname, f.Scene, stamp(f.At))
	return err
}

// LearnFollower keeps what became known of somebody who follows; one who does not (any more) is left alone: ErrNotFound.
func (db *DB) LearnFollower(ctx context.Context, f Follower) error {
	var in inputs
	f.check(&in)
	if in.err != nil {
		return fmt.Errorf("learn follower: %w", in.err)
	}
	if err := db.engine.write(ctx, func(t *tx) error {
		// The user's row first, as in every other transaction: it holds the erasure off.
		if _, err := t.user("app_id = ? AND open_id = ?"+t.lock, f.AppID, f.OpenID); err != nil {
			return err
		}
		var one int
		if err := t.row([]any{&one}, "SELECT 1 FROM followers WHERE app_id = ? AND open_id = ?", f.AppID, f.OpenID); err != nil {
			return err
		}
		return t.putFollower(f)
	}); err != nil {
		return fmt.Errorf("follower of app %s: learn: %w", f.AppID, err)
	}
	return nil
}

// RemoveFollower erases a follower and the user of this openid, as EraseUser does, but in this app alone. One who does
// not follow is nothing to remove.
func (db *DB) RemoveFollower(ctx context.Context, appID, openID string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		u, err := t.user("app_id = ? AND open_id = ?"+t.lock, appID, openID)
		if err == nil {
			return t.erase(u)
		}
		if err != ErrNotFound {
			return err
		}
		_, err = t.exec("DELETE FROM followers WHERE app_id = ? AND open_id = ?", appID, openID)
		return err
	})
	if err != nil {
		return fmt.Errorf("follower of app %.64q: remove: %w", appID, err)
	}
	return nil
}

// Follows tells whether the person of a unionid follows an official account. Nobody has an empty unionid.
func (db *DB) Follows(ctx context.Context, unionID string) (follows bool, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&follows}, "SELECT COUNT(*) > 0 FROM followers WHERE union_id = ? AND union_id <> ''", unionID)
	})
	if err != nil {
		return false, fmt.Errorf("follows: %w", err) // a unionid is a person's
	}
	return follows, nil
}
