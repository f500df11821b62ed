package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Conversation is everything said between the shop and one user.
type Conversation struct {
	ID       string
	UserID   string
	LastAt   time.Time // zero: nothing was said yet
	LastText string    // the newest line, at most 200 bytes; "[image]" and the like for what is not text
	UnreadN  int       // lines of the user since the last one of the staff or MarkRead

	Nickname   string    // of the user, as it is now; may be empty
	LastUserAt time.Time // when the user spoke last: WeChat's window of 48 h begins there; zero: never
}

// A Talk is one line of a conversation.
type Talk struct {
	ID       string // empty: the store makes one
	From     string // "user", "staff" or "rule"
	MsgID    string // WeChat's, as text
	Type     string // text, image, miniprogrampage, link, event …
	Content  string
	PicURL   string
	MediaID  string
	Title    string
	PagePath string
	At       time.Time // zero: the time of storing
}

func (k *Talk) check(in *inputs) {
	in.text("Talk.ID", k.ID, 0, maxName)
	if k.From != "user" && k.From != "staff" && k.From != "rule" {
		in.fault("Talk.From", "must be user, staff or rule")
	}
	in.text("Talk.MsgID", k.MsgID, 0, maxName)
	in.text("Talk.Type", k.Type, 1, maxName)
	in.text("Talk.Content", k.Content, 0, maxPayload)
	in.text("Talk.PicURL", k.PicURL, 0, maxText)
	in.text("Talk.MediaID", k.MediaID, 0, maxText)
	in.text("Talk.Title", k.Title, 0, maxText)
	in.text("Talk.PagePath", k.PagePath, 0, maxText)
}

// Conversations in which something was said, newest first. limit is 1 to 1000, 0: 100.
func (db *DB) Conversations(ctx context.Context, limit int) ([]Conversation, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("conversations: %w", in.err)
	}
	var all []Conversation
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			c, err := scanConversation(scan)
			all = append(all, c)
			return err
		}, selectConversation+"last_at > 0 ORDER BY last_at DESC, id LIMIT ?", limit)
	})
	if err != nil {
		return nil, fmt.Errorf("conversations: %w", err)
	}
	return all, nil
}

// Talks returns the newest lines of a conversation, oldest of them first. limit is 1 to 1000, 0: 100.
func (db *DB) Talks(ctx context.Context, conversation string, limit int) (c Conversation, lines []Talk, err error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if err = in.err; err == nil {
		err = db.engine.read(ctx, true, func(t *tx) error {
			if c, err = t.conversation("id = ?", conversation); err != nil {
				return err
			}
			return t.rows(func(scan func(...any) error) error {
				var k Talk
				var at int64
				err := scan(&k.ID, &k.From, &k.MsgID, &k.Type, &k.Content, &k.PicURL, &k.MediaID, &k.Title, &k.PagePath, &at)
				k.At = moment(at)
				lines = append(lines, k)
				return err
			}, `SELECT id, speaker, msg_id, type, content, pic_url, media_id, title, page_path, at FROM talks
				WHERE conversation_id = ? ORDER BY seq DESC LIMIT ?`, conversation, limit)
		})
	}
	if err != nil {
		return Conversation{}, nil, fmt.Errorf("conversation %.64q: talks: %w", conversation, err)
	}
	slices.Reverse(lines)
	return c, lines, nil
}

// AddTalk stores a line that staff or a rule said, with its sending in the outbox. A line whose ID is stored already
// is neither stored nor told again. tell may be nil, and may be called again when the transaction is tried again.
func (db *DB) AddTalk(ctx context.Context, conversation string, k Talk, tell func(Conversation, User) []Telling) error {
	var in inputs
	k.check(&in)
	if in.err != nil {
		return fmt.Errorf("add talk: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		c, err := t.conversation("id = ?"+t.lock, conversation)
		if err != nil {
			return err
		}
		isNew, err := t.addTalk(&c, k)
		if err != nil || !isNew || tell == nil {
			return err
		}
		u, err := t.someUser(c.UserID, "", "")
		if err != nil {
			return err
		}
		return t.tell(tell(c, u))
	})
	if err != nil {
		return fmt.Errorf("conversation %.64q: add talk: %w", conversation, err)
	}
	return nil
}

// MarkRead tells that staff has seen a conversation: nothing in it is unread.
func (db *DB) MarkRead(ctx context.Context, conversation string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE conversations SET unread = 0 WHERE id = ?", conversation)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("conversation %.64q: mark read: %w", conversation, err)
	}
	return nil
}

const selectConversation = `SELECT id, user_id, last_at, last_text, unread, last_user_at,
	COALESCE((SELECT nickname FROM users WHERE users.id = user_id), '') FROM conversations WHERE `

func scanConversation(scan func(...any) error) (Conversation, error) {
	var c Conversation
	var last, lastUser int64
	err := scan(&c.ID, &c.UserID, &last, &c.LastText, &c.UnreadN, &lastUser, &c.Nickname)
	c.LastAt, c.LastUserAt = moment(last), moment(lastUser)
	return c, err
}

func (t *tx) conversation(where string, args ...any) (c Conversation, err error) {
	err = ErrNotFound
	queryErr := t.rows(func(scan func(...any) error) error {
		c, err = scanConversation(scan)
		return err
	}, selectConversation+where, args...)
	if queryErr != nil {
		err = queryErr
	}
	return c, err
}

func (t *tx) ensureConversation(userID string) (Conversation, error) {
	if _, err := t.exec("INSERT INTO conversations (id, user_id) VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING",
		newID(), userID); err != nil {
		return Conversation{}, err
	}
	return t.conversation("user_id = ?"+t.lock, userID)
}

// addTalk stores k at the end of c and brings c up to date. isNew is false when its ID is stored already.
func (t *tx) addTalk(c *Conversation, k Talk) (isNew bool, err error) {
	if k.ID == "" {
		k.ID = newID()
	}
	if k.At.IsZero() {
		k.At = t.now
	}
	n, err := t.exec(`INSERT INTO talks (conversation_id, id, speaker, msg_id, type, content, pic_url, media_id, title, page_path, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		c.ID, k.ID, k.From, k.MsgID, k.Type, k.Content, k.PicURL, k.MediaID, k.Title, k.PagePath, stamp(k.At))
	if err != nil || n == 0 {
		return false, err
	}
	c.LastAt, c.LastText = moment(stamp(k.At)), cut(k.Content, 200)
	if k.Type != "text" {
		c.LastText = "[" + k.Type + "]"
	}
	switch {
	case k.Type == "event": // nothing to read, and WeChat's window for answers stays as it is
	case k.From == "user":
		c.UnreadN++
		if c.LastAt.After(c.LastUserAt) { // pushes may come in another order
			c.LastUserAt = c.LastAt
		}
	case k.From == "staff":
		c.UnreadN = 0
	}
	_, err = t.exec("UPDATE conversations SET last_at = ?, last_text = ?, unread = ?, last_user_at = ? WHERE id = ?",
		stamp(c.LastAt), c.LastText, c.UnreadN, stamp(c.LastUserAt), c.ID)
	return true, err
}
