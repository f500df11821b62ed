package store

import (
	"context"
	"fmt"
	"time"
)

// A ReplyWindow is what a customer's word or deed lets the shop send: some customer-service messages, for a time.
// A new one replaces the last one of its kind.
type ReplyWindow struct {
	Brief    bool // opened by a deed (entering the chat, following), used before that of a word
	Messages int  // 1 to 1000
	For      time.Duration
	At       time.Time // of the word or deed; zero: now
}

// A ReplyQuota is what is left of the windows of one user.
type ReplyQuota struct {
	Left  int
	Until time.Time // of the window that lasts longest; zero: none is open
}

// GrantKind is what a person decided about a subscribe message.
type GrantKind string

const (
	GrantAccepted GrantKind = "accept" // one message more may be sent
	GrantRefused  GrantKind = "reject" // not this time: what was granted before stays
	GrantRevoked  GrantKind = "revoke" // switched off: nothing may be sent
)

// A GrantChange is one decision about one template.
type GrantChange struct {
	TemplateID string
	Kind       GrantKind
}

// A Grant is how many subscribe messages of a template one user still lets the shop send.
type Grant struct {
	TemplateID string
	Remaining  int
	At         time.Time // of the last change
}

// A SendReport is what the platform reports afterwards about a message that it took.
type SendReport struct {
	MsgID      string // as the sending was answered
	Code       int    // 0: it arrived
	Reason     string // the platform's word; at most 500 bytes are kept
	TemplateID string // with it, the report settles a sending whose answer was lost; it is not kept
}

func (w *ReplyWindow) check(in *inputs) {
	in.number("ReplyWindow.Messages", int64(w.Messages), 1, 1000)
	in.number("ReplyWindow.For", int64(w.For), int64(time.Second), int64(30*24*time.Hour))
}

func (g *GrantChange) check(in *inputs) {
	in.text("Grant.TemplateID", g.TemplateID, 1, maxName)
	if g.Kind != GrantAccepted && g.Kind != GrantRefused && g.Kind != GrantRevoked {
		in.fault("Grant.Kind", "must be accept, reject or revoke")
	}
}

// openReplies opens a window and wakes what waited for one. An older word does not shorten a newer window.
func (t *tx) openReplies(userID string, w ReplyWindow) error {
	at := w.At
	if at.IsZero() {
		at = t.now
	}
	kind := "spoken"
	if w.Brief {
		kind = "brief"
	}
	until := stamp(at.Add(w.For))
	n, err := t.exec(`INSERT INTO reply_windows (user_id, `+kind+`_left, `+kind+`_until) VALUES (?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET `+kind+`_left = excluded.`+kind+`_left, `+kind+`_until = excluded.`+kind+`_until
		WHERE reply_windows.`+kind+`_until < excluded.`+kind+`_until`, userID, w.Messages, until)
	if err != nil || n == 0 {
		return err
	}
	return t.wakeHeld(userID)
}

// changeGrants writes decisions down and wakes what waited for a grant.
func (t *tx) changeGrants(userID string, changes []GrantChange) error {
	for _, g := range changes {
		add, keep := 0, 1
		switch g.Kind {
		case GrantAccepted:
			add = 1
		case GrantRevoked:
			keep = 0
		}
		if _, err := t.exec(`INSERT INTO grants (user_id, template_id, remaining, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (user_id, template_id) DO UPDATE SET
				remaining = grants.remaining * ? + excluded.remaining, at = excluded.at`,
			userID, g.TemplateID, add, stamp(t.now), keep); err != nil {
			return err
		}
	}
	return t.wakeHeld(userID)
}

func (t *tx) addReport(userID string, r SendReport) error {
	if err := t.claimReport(userID, r); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO send_reports (msg_id, code, reason, at) VALUES (?, ?, ?, ?) ON CONFLICT (msg_id) DO NOTHING`,
		r.MsgID, r.Code, cut(r.Reason, maxReason), stamp(t.now))
	return err
}

// ReplyQuota tells how many customer-service messages the platform still takes for a user.
func (db *DB) ReplyQuota(ctx context.Context, userID string) (q ReplyQuota, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		q, err = t.replyQuota(userID)
		return err
	})
	if err != nil {
		return ReplyQuota{}, fmt.Errorf("user %.64q: reply quota: %w", userID, err)
	}
	return q, nil
}

func (t *tx) replyQuota(userID string) (q ReplyQuota, err error) {
	var spoken, spokenUntil, brief, briefUntil int64
	err = t.row([]any{&spoken, &spokenUntil, &brief, &briefUntil},
		"SELECT spoken_left, spoken_until, brief_left, brief_until FROM reply_windows WHERE user_id = ?", userID)
	if err == ErrNotFound {
		return q, nil
	}
	for _, w := range []struct{ left, until int64 }{{spoken, spokenUntil}, {brief, briefUntil}} {
		if w.until > stamp(t.now) {
			q.Left += int(w.left)
			if u := moment(w.until); u.After(q.Until) {
				q.Until = u
			}
		}
	}
	return q, err
}

// Grants returns what a user lets the shop send, by template.
func (db *DB) Grants(ctx context.Context, userID string) ([]Grant, error) {
	var all []Grant
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var g Grant
			var at int64
			err := scan(&g.TemplateID, &g.Remaining, &at)
			g.At = moment(at)
			all = append(all, g)
			return err
		}, "SELECT template_id, remaining, at FROM grants WHERE user_id = ? ORDER BY template_id", userID)
	})
	if err != nil {
		return nil, fmt.Errorf("user %.64q: grants: %w", userID, err)
	}
	return all, nil
}

// SpendReply counts a customer-service message that the platform took for an openid of an app; none: it takes no more.
// Nobody of this openid: no effect.
func (db *DB) SpendReply(ctx context.Context, appID, openID string, none bool) error {
	err := db.engine.write(ctx, func(t *tx) error {
		u, err := t.user("app_id = ? AND open_id = ?", appID, openID)
		switch {
		case err == ErrNotFound:
			return nil
		case err != nil:
			return err
		case none:
			return t.closeReplies(u.ID)
		}
		_, err = t.takeReply(u.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("spend reply: %w", err)
	}
	return nil
}

// takeReply takes one message from a window and tells which one; "": there is none left.
func (t *tx) takeReply(userID string) (window string, err error) {
	for _, kind := range []string{"brief", "spoken"} {
		n, err := t.exec("UPDATE reply_windows SET "+kind+"_left = "+kind+"_left - 1 WHERE user_id = ? AND "+kind+"_left > 0 AND "+kind+"_until > ?",
			userID, stamp(t.now))
		if err != nil {
			return "", err
		}
		if n > 0 {
			return kind, nil
		}
	}
	return "", nil
}

func (t *tx) closeReplies(userID string) error {
	_, err := t.exec("UPDATE reply_windows SET spoken_left = 0, brief_left = 0 WHERE user_id = ?", userID)
	return err
}

// takeGrant takes one message of a template; false: there is none left.
func (t *tx) takeGrant(userID, templateID string) (bool, error) {
	n, err := t.exec("UPDATE grants SET remaining = remaining - 1, at = ? WHERE user_id = ? AND template_id = ? AND remaining > 0",
		stamp(t.now), userID, templateID)
	return n > 0, err
}

// giveBack undoes what took window or template.
func (t *tx) giveBack(userID, channel, taken string) error {
	var err error
	switch {
	case taken == "":
	case channel == ChannelSubscribe:
		_, err = t.exec("UPDATE grants SET remaining = remaining + 1 WHERE user_id = ? AND template_id = ?", userID, taken)
	case taken == "brief", taken == "spoken":
		_, err = t.exec("UPDATE reply_windows SET "+taken+"_left = "+taken+"_left + 1 WHERE user_id = ?", userID)
	}
	return err
}

// empty records that the platform takes no more of what was taken.
func (t *tx) empty(userID, channel, taken string) error {
	if channel == ChannelSubscribe {
		_, err := t.exec("UPDATE grants SET remaining = 0, at = ? WHERE user_id = ? AND template_id = ?", stamp(t.now), userID, taken)
		return err
	}
	return t.closeReplies(userID)
}

// wakeHeld lets mail that waited for a window or a grant be looked at again.
func (t *tx) wakeHeld(userID string) error {
	_, err := t.exec("UPDATE fallbacks SET state = ?, due_at = ?, at = ? WHERE user_id = ? AND state = ?",
		FallbackWaiting, stamp(t.now), stamp(t.now), userID, FallbackHeld)
	return err
}

// eraseQuota forgets what a user let the shop send.
func (t *tx) eraseQuota(userID string) error {
	for _, table := range []string{"reply_windows", "grants", "attempts", "fallbacks", "receipts"} {
		if _, err := t.exec("DELETE FROM "+table+" WHERE user_id = ?", userID); err != nil {
			return err
		}
	}
	return nil
}
