package store

import (
	"context"
	"fmt"
	"time"
)

// A User is one person of one app. The openid never leaves the server.
type User struct {
	ID        string // random, [A-Za-z0-9_.-]{1,64}
	AppID     string
	OpenID    string
	UnionID   string
	Nickname  string
	Avatar    string
	Blocked   bool
	CreatedAt time.Time
	SeenAt    time.Time // of the last SignIn
}

// A SignIn is what a successful login teaches. Empty UnionID, Nickname and Avatar leave what is known.
type SignIn struct {
	AppID, OpenID, UnionID, SessionKey, Nickname, Avatar string
}

// SignIn finds or makes the user of (AppID, OpenID) and keeps the newest session_key, sealed. An empty SessionKey
// leaves the known one. A blocked user is returned like any other: the caller refuses.
func (db *DB) SignIn(ctx context.Context, s SignIn) (User, error) {
	var in inputs
	in.text("AppID", s.AppID, 1, maxName)
	in.text("OpenID", s.OpenID, 1, maxName)
	in.text("UnionID", s.UnionID, 0, maxName)
	in.text("SessionKey", s.SessionKey, 0, maxText)
	in.text("Nickname", s.Nickname, 0, maxText)
	in.text("Avatar", s.Avatar, 0, maxText)
	if in.err != nil {
		return User{}, fmt.Errorf("sign in: %w", in.err)
	}
	var u User
	err := db.engine.write(ctx, func(t *tx) (err error) {
		if u, err = t.ensureUser(s.AppID, s.OpenID); err != nil {
			return err
		}
		u.UnionID = first(s.UnionID, u.UnionID)
		u.Nickname = first(s.Nickname, u.Nickname)
		u.Avatar = first(s.Avatar, u.Avatar)
		u.SeenAt = moment(stamp(t.now))
		if _, err = t.exec("UPDATE users SET union_id = ?, nickname = ?, avatar = ?, seen_at = ? WHERE id = ?",
			u.UnionID, u.Nickname, u.Avatar, stamp(u.SeenAt), u.ID); err != nil || s.SessionKey == "" {
			return err
		}
		sealed, kid := db.keys.seal(sessionKeyRow(u.ID), s.SessionKey)
		_, err = t.exec("UPDATE users SET session_key = ?, session_key_kid = ? WHERE id = ?", sealed, kid, u.ID)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("sign in: %w", err)
	}
	return u, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// sessionKeyRow names the place that a sealed session_key belongs to.
func sessionKeyRow(userID string) string { return "users/" + userID + "/session_key" }

// User finds a user by id.
func (db *DB) User(ctx context.Context, id string) (u User, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		u, err = t.user("id = ?", id)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("user %.64q: %w", id, err)
	}
	return u, nil
}

// UserByOpenID finds the user whom an app knows as openID.
func (db *DB) UserByOpenID(ctx context.Context, appID, openID string) (u User, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		u, err = t.user("app_id = ? AND open_id = ?", appID, openID)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("user of app %.64q: %w", appID, err)
	}
	return u, nil
}

// SessionKey opens the newest session_key of a user. A user without one: ErrNotFound.
func (db *DB) SessionKey(ctx context.Context, userID string) (string, error) {
	var sealed []byte
	var kid string
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&sealed, &kid}, "SELECT session_key, session_key_kid FROM users WHERE id = ?", userID)
	})
	if err == nil && sealed == nil {
		err = ErrNotFound
	}
	var secret string
	if err == nil {
		secret, err = db.keys.open(sessionKeyRow(userID), sealed, kid)
	}
	if err != nil {
		return "", fmt.Errorf("user %.64q: session key: %w", userID, err)
	}
	return secret, nil
}

func (t *tx) user(where string, args ...any) (User, error) {
	var u User
	var created, seen int64
	err := t.row([]any{&u.ID, &u.AppID, &u.OpenID, &u.UnionID, &u.Nickname, &u.Avatar, &u.Blocked, &created, &seen},
		`SELECT id, app_id, open_id, union_id, nickname, avatar, blocked, created_at, seen_at FROM users WHERE `+where, args...)
	u.CreatedAt, u.SeenAt = moment(created), moment(seen)
	return u, err
}

// ensureUser finds or makes the user of (appID, openID); on PostgreSQL their row is locked.
func (t *tx) ensureUser(appID, openID string) (User, error) {
	const where = "app_id = ? AND open_id = ?"
	u, err := t.user(where+t.lock, appID, openID)
	if err != ErrNotFound {
		return u, err
	}
	if _, err := t.exec(`INSERT INTO users (id, app_id, open_id, created_at, seen_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (app_id, open_id) DO NOTHING`, newID(), appID, openID, stamp(t.now), stamp(t.now)); err != nil {
		return User{}, err
	}
	return t.user(where+t.lock, appID, openID)
}

// someUser finds a user by id, or by openid when id is empty; one whom the table does not know has only these.
func (t *tx) someUser(id, appID, openID string) (User, error) {
	u, err := User{}, ErrNotFound
	switch {
	case id != "":
		u, err = t.user("id = ?", id)
	case openID != "":
		u, err = t.user("app_id = ? AND open_id = ?", appID, openID)
	}
	if err == ErrNotFound {
		return User{ID: id, AppID: appID, OpenID: openID}, nil
	}
	return u, err
}

// A Revocation makes one token (jti) dead until it would have expired anyway.
type Revocation struct {
	TokenID   string
	ExpiresAt time.Time
	At        time.Time
}

// RevokeToken makes a token dead. A repeat keeps the first At and the later ExpiresAt.
func (db *DB) RevokeToken(ctx context.Context, tokenID string, expiresAt time.Time) error {
	var in inputs
	in.text("TokenID", tokenID, 1, maxText) // anybody with a signing key chooses a jti, in a token of at most 4 KiB
	if in.err != nil {
		return fmt.Errorf("revoke token: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO revocations (token_id, expires_at, at) VALUES (?, ?, ?)
			ON CONFLICT (token_id) DO UPDATE SET expires_at = excluded.expires_at
			WHERE revocations.expires_at < excluded.expires_at`, tokenID, stamp(expiresAt), stamp(t.now))
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// Revocations made at or after since and not yet expired, oldest first. A caller who asks again and again goes back
// some seconds each time: At is the moment before the commit, by the clock of the node that made it.
func (db *DB) Revocations(ctx context.Context, since time.Time) ([]Revocation, error) {
	var all []Revocation
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var r Revocation
			var expires, at int64
			err := scan(&r.TokenID, &expires, &at)
			r.ExpiresAt, r.At = moment(expires), moment(at)
			all = append(all, r)
			return err
		}, "SELECT token_id, expires_at, at FROM revocations WHERE at >= ? AND expires_at > ? ORDER BY at, token_id",
			stamp(since), stamp(t.now))
	})
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	return all, nil
}
