package store

import (
	"context"
	"fmt"
	"time"
)

// A Push is one verified message or event of WeChat's message push.
type Push struct {
	Key      string // what makes it the same push again, digested: it outlives the erasure of its sender; once per AppID
	AppID    string
	OpenID   string
	Talk     *Talk                                  // set: a line of the conversation with this user
	Reply    *Talk                                  // set: what a rule answers, the line after Talk
	Follow   *Follower                              // set: this person follows from now on, under the push's AppID and OpenID
	Opens    *ReplyWindow                           // set: this person may be answered from now on, for a while
	Grants   []GrantChange                          // what this person decided about subscribe messages
	Reports  []SendReport                           // what became of messages that the platform took; they need no OpenID
	Event    *Event                                 // set: kept for people to look at, under the user of OpenID if there is one
	Verdict  *MediaVerdict                          // set: what became of a picture that WeChat judges
	Settled  *Settlement                            // set: what became of an order's delivery
	Unfollow bool                                   // this person follows no longer: after Tell, all that is known of them in this app is erased
	Answer   []byte                                 // what we answer; a repeat gets the first one's
	Tell     func(c Conversation, u User) []Telling // called inside the transaction; may be nil; may be called again
}

// RecordPush stores p with its effects in one transaction, once per Key. It returns the answer that the
// first one got (nil once its sender was erased), and whether this was the first. The user and the conversation are made when they are new;
// without an OpenID there is neither, and Tell gets empty ones.
func (db *DB) RecordPush(ctx context.Context, p Push) (answer []byte, first bool, err error) {
	var in inputs
	in.text("Key", p.Key, 1, 4*maxName)
	in.text("AppID", p.AppID, 1, maxName)
	in.text("OpenID", p.OpenID, 0, maxName)
	in.bytes("Answer", p.Answer, maxRaw)
	if p.Talk != nil {
		p.Talk.check(&in)
	}
	if p.Reply != nil {
		p.Reply.check(&in)
	}
	if p.Opens != nil {
		p.Opens.check(&in)
	}
	if p.Event != nil {
		p.Event.check(&in)
	}
	for i := range p.Grants {
		p.Grants[i].check(&in)
	}
	for _, r := range p.Reports {
		in.text("Report.MsgID", r.MsgID, 1, maxName)
	}
	if p.OpenID == "" && (p.Talk != nil || p.Reply != nil || p.Follow != nil || p.Unfollow || p.Opens != nil || len(p.Grants) > 0) {
		in.fault("OpenID", "is missing")
	} else if p.Follow != nil {
		f := *p.Follow
		f.AppID, f.OpenID = p.AppID, p.OpenID
		f.check(&in)
		p.Follow = &f
	}
	openID := p.OpenID // by it the erasure finds what was answered
	if p.Unfollow {
		openID = ""
	}
	if in.err != nil {
		return nil, false, fmt.Errorf("record push: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO pushes (app_id, push, open_id, answer, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (app_id, push) DO NOTHING`, p.AppID, p.Key, openID, p.Answer, stamp(t.now))
		if err != nil {
			return err
		}
		if first = n > 0; !first {
			answer = nil
			return t.row([]any{&answer}, "SELECT answer FROM pushes WHERE app_id = ? AND push = ?", p.AppID, p.Key)
		}
		answer = p.Answer
		return t.effects(p)
	})
	if err != nil {
		return nil, false, fmt.Errorf("record push: %w", err) // its key may hold an openid
	}
	return answer, first, nil
}

// effects are what the first push of a key does.
func (t *tx) effects(p Push) error {
	var u User
	var c Conversation
	if p.OpenID != "" {
		var err error
		if u, err = t.ensureUser(p.AppID, p.OpenID); err != nil {
			return err
		}
		if c, err = t.ensureConversation(u.ID); err != nil {
			return err
		}
	}
	for _, line := range []*Talk{p.Talk, p.Reply} {
		if line == nil {
			continue
		}
		if _, err := t.addTalk(&c, *line); err != nil {
			return err
		}
	}
	if p.Opens != nil {
		if err := t.openReplies(u.ID, *p.Opens); err != nil {
			return err
		}
	}
	if len(p.Grants) > 0 {
		if err := t.changeGrants(u.ID, p.Grants); err != nil {
			return err
		}
	}
	for _, r := range p.Reports {
		if err := t.addReport(u.ID, r); err != nil {
			return err
		}
	}
	if p.Event != nil {
		of := u.ID
		if p.Unfollow { // of whom nothing is kept
			of = ""
		}
		if err := t.addEvent(of, *p.Event); err != nil {
			return err
		}
	}
	if p.Verdict != nil {
		if err := t.judge(*p.Verdict); err != nil {
			return err
		}
	}
	if p.Settled != nil {
		if err := t.settle(*p.Settled); err != nil {
			return err
		}
	}
	if p.Follow != nil {
		if err := t.putFollower(*p.Follow); err != nil {
			return err
		}
	}
	if p.Tell != nil {
		if err := t.tell(p.Tell(c, u)); err != nil {
			return err
		}
	}
	if p.Unfollow {
		return t.erase(u)
	}
	return nil
}

// pushesKept is how long a push's key is remembered. WeChat repeats a message three times within about a minute.
const pushesKept = 7 * 24 * time.Hour
