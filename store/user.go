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
	Phone     string // with country code as WeChat says it; sealed at rest; empty also when no key opens it any more
	Blocked   bool
	CreatedAt time.Time
	SeenAt    time.Time // of the last SignIn
}

// A SignIn is what a successful login teaches. Empty UnionID, Nickname, Avatar and Phone leave what is known.
type SignIn struct {
	AppID, OpenID, UnionID, SessionKey, Nickname, Avatar, Phone string
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
	in.text("Phone", s.Phone, 0, maxName)
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
			u.UnionID, u.Nickname, u.Avatar, stamp(u.SeenAt), u.ID); err != nil {
			return err
		}
		if s.Phone != "" {
			u.Phone = s.Phone
			if err := t.setPhone(u.ID, s.Phone); err != nil {
				return err
			}
		}
		if s.SessionKey == "" {
			return nil
		}
		sealed, kid := t.keys.seal(sessionKeyRow(u.ID), s.SessionKey)
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

// sessionKeyRow names the place that a sealed session_key belongs to; phoneRow that of a phone number.
func sessionKeyRow(userID string) string { return "users/" + userID + "/session_key" }
func phoneRow(userID string) string      { return "users/" + userID + "/phone" }

// UpdateProfile sets what a person says about themselves; nil leaves it, "" clears it. An unknown user: ErrNotFound.
func (db *DB) UpdateProfile(ctx context.Context, userID string, nickname, avatar *string) (u User, err error) {
	var in inputs
	for field, value := range map[string]*string{"Nickname": nickname, "Avatar": avatar} {
		if value != nil {
			in.text(field, *value, 0, maxText)
		}
	}
	if in.err != nil {
		return User{}, fmt.Errorf("update profile: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		if u, err = t.user("id = ?"+t.lock, userID); err != nil {
			return err
		}
		if nickname != nil {
			u.Nickname = *nickname
		}
		if avatar != nil {
			u.Avatar = *avatar
		}
		_, err := t.exec("UPDATE users SET nickname = ?, avatar = ? WHERE id = ?", u.Nickname, u.Avatar, u.ID)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("user %.64q: update profile: %w", userID, err)
	}
	return u, nil
}

// SetPhone keeps a user's phone number, sealed; "" forgets it. An unknown user: ErrNotFound.
func (db *DB) SetPhone(ctx context.Context, userID, phone string) error {
	var in inputs
	in.text("Phone", phone, 0, maxName)
	if in.err != nil {
		return fmt.Errorf("set phone: %w", in.err)
	}
	if err := db.engine.write(ctx, func(t *tx) error { return t.setPhone(userID, phone) }); err != nil {
		return fmt.Errorf("user %.64q: set phone: %w", userID, err)
	}
	return nil
}

func (t *tx) setPhone(userID, phone string) error {
	var sealed []byte
	var kid string
	if phone != "" {
		sealed, kid = t.keys.seal(phoneRow(userID), phone)
	}
	n, err := t.exec("UPDATE users SET phone = ?, phone_kid = ? WHERE id = ?", sealed, kid, userID)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

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

const selectUser = `SELECT id, app_id, open_id, union_id, nickname, avatar, blocked, created_at, seen_at, phone, phone_kid
	FROM users WHERE `

func (t *tx) scanUser(scan func(...any) error) (User, error) {
	var u User
	var created, seen int64
	var phone []byte
	var kid string
	err := scan(&u.ID, &u.AppID, &u.OpenID, &u.UnionID, &u.Nickname, &u.Avatar, &u.Blocked, &created, &seen, &phone, &kid)
	u.CreatedAt, u.SeenAt = moment(created), moment(seen)
	if len(phone) > 0 {
		u.Phone, _ = t.keys.open(phoneRow(u.ID), phone, kid) // a lost key locks nobody out
	}
	return u, err
}

func (t *tx) user(where string, args ...any) (u User, err error) {
	err = ErrNotFound
	queryErr := t.rows(func(scan func(...any) error) error {
		u, err = t.scanUser(scan)
		return err
	}, selectUser+where, args...)
	if queryErr != nil {
		err = queryErr
	}
	return u, err
}

// ensureUser finds or makes the user of (appID, openID); on PostgreSQL their row is locked.
func (t *tx) ensureUser(appID, openID string) (User, error) {
	for try := 1; ; try++ {
		u, err := t.user("app_id = ? AND open_id = ?"+t.lock, appID, openID)
		if err != ErrNotFound || try == ensureTries {
			return u, err
		}
		if _, err := t.exec(`INSERT INTO users (id, app_id, open_id, created_at, seen_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (app_id, open_id) DO NOTHING`, newID(), appID, openID, stamp(t.now), stamp(t.now)); err != nil {
			return User{}, err
		}
	}
}

// ensureTries is how often a user is made whom other transactions make and erase at the same time.
const ensureTries = 20

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
	Keep      bool // its sockets stay: the token was exchanged for a new one
	ExpiresAt time.Time
	At        time.Time
}

// RevokeToken makes a token dead; keep: its sockets stay. A repeat keeps the first At and the later ExpiresAt; one that
// takes Keep away counts from now, one that brings it changes nothing.
func (db *DB) RevokeToken(ctx context.Context, tokenID string, expiresAt time.Time, keep bool) error {
	var in inputs
	in.text("TokenID", tokenID, 1, maxText) // anybody with a signing key chooses a jti, in a token of at most 4 KiB
	if in.err != nil {
		return fmt.Errorf("revoke token: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO revocations (token_id, expires_at, keep, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (token_id) DO UPDATE SET keep = revocations.keep AND excluded.keep,
				expires_at = CASE WHEN revocations.expires_at < excluded.expires_at THEN excluded.expires_at ELSE revocations.expires_at END,
				at = CASE WHEN revocations.keep AND NOT excluded.keep THEN excluded.at ELSE revocations.at END
			WHERE revocations.expires_at < excluded.expires_at OR revocations.keep AND NOT excluded.keep`,
			tokenID, stamp(expiresAt), keep, stamp(t.now))
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
			err := scan(&r.TokenID, &r.Keep, &expires, &at)
			r.ExpiresAt, r.At = moment(expires), moment(at)
			all = append(all, r)
			return err
		}, "SELECT token_id, keep, expires_at, at FROM revocations WHERE at >= ? AND expires_at > ? ORDER BY at, token_id",
			stamp(since), stamp(t.now))
	})
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	return all, nil
}
