package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// EraseUser erases what is known of a person, in every app whose openid has the same unionid: ids, names, phone, session,
// mail, talks, what pushes were answered, the follower, and what waits for them in the outbox; what waits for rooms is
// said. Their orders, payments and refunds stay, with numbers, amounts and times, and without anything that leads to a
// person; a payment that is still to come pays its order as always. The ids stay dead: no order, no mail, blocked for good
// (see BlockedUsers). Whoever signs in with the openid later is a new user; a push of before that comes again makes none.
// Tokens are the caller's to revoke. An id that nobody has is made dead all the same.
func (db *DB) EraseUser(ctx context.Context, userID string) error {
	var in inputs
	in.matches("UserID", userID, userIDs)
	if in.err != nil {
		return fmt.Errorf("erase user: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		people, err := t.sameAs(userID)
		if err != nil {
			return err
		}
		for _, u := range people {
			if err := t.erase(u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("user %s: erase: %w", userID, err)
	}
	return nil
}

// sameAs finds all users who are the person of userID; on PostgreSQL their rows are locked.
func (t *tx) sameAs(userID string) (people []User, err error) {
	u, err := t.user("id = ?", userID)
	if err == ErrNotFound {
		return []User{{ID: userID}}, nil
	}
	if err != nil {
		return nil, err
	}
	err = t.rows(func(scan func(...any) error) error {
		u, err := t.scanUser(scan)
		people = append(people, u)
		return err
	}, selectUser+"id = ? OR (union_id = ? AND union_id <> '') ORDER BY id"+t.lock, userID, u.UnionID)
	if !slices.ContainsFunc(people, func(p User) bool { return p.ID == userID }) {
		people = append(people, u) // erased meanwhile
	}
	return people, err
}

// erase erases one user. Rows are locked in the order in which everybody locks them: user, conversation, orders, mailbox.
func (t *tx) erase(u User) error {
	for _, step := range []func(User) error{t.eraseTalks, t.eraseOrders, t.eraseMail, t.eraseTraces} {
		if err := step(u); err != nil {
			return err
		}
	}
	if _, err := t.exec(`INSERT INTO blocks (user_id, blocked, erased, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET blocked = excluded.blocked, erased = excluded.erased, at = excluded.at
		WHERE NOT blocks.erased`, u.ID, true, true, stamp(t.now)); err != nil {
		return err
	}
	_, err := t.exec("DELETE FROM users WHERE id = ?", u.ID)
	return err
}

func (t *tx) eraseTalks(u User) error {
	c, err := t.conversation("user_id = ?"+t.lock, u.ID)
	if err == ErrNotFound {
		return nil
	}
	if err == nil {
		_, err = t.exec("DELETE FROM talks WHERE conversation_id = ?", c.ID)
	}
	if err == nil {
		_, err = t.exec("DELETE FROM conversations WHERE id = ?", c.ID)
	}
	return err
}

func (t *tx) eraseOrders(u User) error {
	var orders []string
	err := t.rows(func(scan func(...any) error) error {
		var no string
		err := scan(&no)
		orders = append(orders, no)
		return err
	}, `UPDATE orders SET user_id = '', open_id = '' WHERE user_id = ? OR (open_id = ? AND app_id = ? AND open_id <> '')
		RETURNING out_trade_no`, u.ID, u.OpenID, u.AppID)
	if err != nil {
		return err
	}
	if err := t.forgetContacts(orders); err != nil {
		return err
	}
	for _, table := range []string{"payments", "conflicts"} {
		forget := "UPDATE " + table + " SET open_id = '', raw = NULL WHERE "
		for piece := range slices.Chunk(orders, maxList) {
			marks, args := list(piece)
			if _, err := t.exec(forget+"out_trade_no IN "+marks, args...); err != nil {
				return err
			}
		}
		if _, err := t.exec(forget+"open_id = ? AND app_id = ? AND open_id <> ''", u.OpenID, u.AppID); err != nil { // paid for others
			return err
		}
	}
	return nil
}

// eraseMail leaves the mailbox, so that a sequence number is never given twice, and closes it.
func (t *tx) eraseMail(u User) error {
	if _, err := t.exec(`INSERT INTO mailboxes (user_id, erased) VALUES (?, ?)
		ON CONFLICT (user_id) DO UPDATE SET erased = excluded.erased, acked = mailboxes.head`, u.ID, true); err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM letters WHERE user_id = ?", u.ID); err != nil {
		return err
	}
	if err := t.eraseQuota(u.ID); err != nil {
		return err
	}
	_, err := t.exec("DELETE FROM outbox WHERE kind = ? AND recipient = ?", TellMail, u.ID)
	for _, kind := range openIDKinds {
		if err == nil {
			_, err = t.exec("DELETE FROM outbox WHERE kind = ? AND recipient = ?", kind, u.OpenID)
		}
	}
	return err
}

func (t *tx) eraseTraces(u User) error {
	if _, err := t.exec("UPDATE pictures SET user_id = '' WHERE user_id = ?", u.ID); err != nil {
		return err
	}
	for _, forget := range []string{
		"UPDATE scenes SET user_id = '' WHERE user_id = ?", "DELETE FROM events WHERE user_id = ?", "DELETE FROM media_checks WHERE user_id = ?",
	} {
		if _, err := t.exec(forget, u.ID); err != nil {
			return err
		}
	}
	if u.UnionID != "" {
		if _, err := t.exec("DELETE FROM followers WHERE union_id = ? AND union_id <> ''", u.UnionID); err != nil {
			return err
		}
	}
	if u.OpenID == "" {
		return nil
	}
	if _, err := t.exec("DELETE FROM followers WHERE app_id = ? AND open_id = ?", u.AppID, u.OpenID); err != nil {
		return err
	}
	// The keys stay, so that a push which comes again does not bring back whom it tells of.
	_, err := t.exec("UPDATE pushes SET open_id = '', answer = NULL WHERE app_id = ? AND open_id = ? AND open_id <> ''", u.AppID, u.OpenID)
	return err
}

// alive fails with ErrErased for the id of an erased person. On PostgreSQL it holds the erasure of a user off until this
// transaction has ended.
func (t *tx) alive(userID string) error {
	var one int
	err := t.row([]any{&one}, "SELECT 1 FROM users WHERE id = ?"+t.lock, userID)
	if err != ErrNotFound {
		return err
	}
	switch err := t.row([]any{&one}, "SELECT 1 FROM blocks WHERE user_id = ? AND erased", userID); err {
	case nil:
		return ErrErased
	case ErrNotFound:
		return nil
	default:
		return err
	}
}

// A BlockChange is the newest decision about a user.
type BlockChange struct {
	UserID  string
	Blocked bool
	Erased  bool // the person's data is gone; Blocked for good
	At      time.Time
}

// Block blocks a user or takes it back. It closes no socket and kills no token: the nodes see it in BlockedUsers, SignIn
// in User.Blocked. An id that no login made can be blocked too. A repeat changes nothing. Who was erased stays
// blocked: ErrErased.
func (db *DB) Block(ctx context.Context, userID string, blocked bool) error {
	var in inputs
	in.matches("UserID", userID, userIDs)
	if in.err != nil {
		return fmt.Errorf("block: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec("UPDATE users SET blocked = ? WHERE id = ?", blocked, userID); err != nil {
			return err
		}
		if !blocked {
			if err := t.alive(userID); err != nil {
				return err
			}
		}
		_, err := t.exec(`INSERT INTO blocks (user_id, blocked, at) VALUES (?, ?, ?)
			ON CONFLICT (user_id) DO UPDATE SET blocked = excluded.blocked, at = excluded.at
			WHERE blocks.blocked <> excluded.blocked AND NOT blocks.erased`, userID, blocked, stamp(t.now))
		return err
	})
	if err != nil {
		return fmt.Errorf("user %s: block: %w", userID, err)
	}
	return nil
}

// BlockedUsers returns the decisions made at or after since, oldest first; one that was taken back a day ago may be
// missing. A caller who asks again and again goes back some seconds each time, as for Revocations.
func (db *DB) BlockedUsers(ctx context.Context, since time.Time) ([]BlockChange, error) {
	var all []BlockChange
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var b BlockChange
			var at int64
			err := scan(&b.UserID, &b.Blocked, &b.Erased, &at)
			b.At = moment(at)
			all = append(all, b)
			return err
		}, "SELECT user_id, blocked, erased, at FROM blocks WHERE at >= ? ORDER BY at, user_id", stamp(since))
	})
	if err != nil {
		return nil, fmt.Errorf("blocked users: %w", err)
	}
	return all, nil
}
