package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

const moderatedLength = 2500 // characters in one check; WeChat takes no more

// A Moderator asks WeChat (msg_sec_check) before anybody sees what a user wrote. Without a mini-program nobody is asked.
type Moderator struct {
	Store  *store.DB
	WeChat *wechat.Client // nil: nothing is judged
	// FailOpen lets text pass that nobody could judge: WeChat away, an author whom WeChat has not seen in two hours, or one
	// whom it does not know at all, whose token another program signed. Without it such text is refused and the author
	// told to try again.
	FailOpen bool
	Logger   *slog.Logger
}

// Moderate is for hub.Options.Moderate: it judges every text in a message of a user. Staff and admins speak for the shop.
func (m *Moderator) Moderate(ctx context.Context, s hub.Session, _ string, said hub.Message) error {
	if s.Role != "user" || m.WeChat == nil {
		return nil
	}
	u, err := m.Store.User(ctx, s.User)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && u.OpenID == "":
		if m.FailOpen {
			return nil
		}
		return errNobodyJudges
	case err != nil:
		return fmt.Errorf("moderate: %w", err)
	}
	return m.check(ctx, u, wechat.SceneSocial, said.Action+"\n"+said.Target+"\n"+texts(said.Payload))
}

// errNobodyJudges: WeChat judges the words of people whom it knows.
var errNobodyJudges = errors.New("moderate: this user never logged in with WeChat, so nobody can judge what they write")

// check returns nil for text that may be shown, hub.ErrRisky for text that may not.
func (m *Moderator) check(ctx context.Context, u store.User, scene int, text string) error {
	for part := range pieces(text, moderatedLength) {
		verdict, err := m.WeChat.CheckText(ctx, u.OpenID, scene, part)
		switch {
		case err != nil && m.FailOpen:
			m.Logger.Warn("text shown without a verdict", "user", u.ID, "err", err)
		case err != nil:
			return fmt.Errorf("moderate: %w", err)
		case verdict != wechat.VerdictPass:
			return fmt.Errorf("%w: %s", hub.ErrRisky, verdict)
		}
	}
	return nil
}

// texts are all strings of a JSON value, names of fields too: whatever a page might show.
func texts(payload json.RawMessage) string {
	var b strings.Builder
	d := json.NewDecoder(strings.NewReader(string(payload)))
	for {
		t, err := d.Token()
		if err != nil {
			return b.String()
		}
		if s, ok := t.(string); ok {
			b.WriteString(s)
			b.WriteByte('\n')
		}
	}
}

// pieces cuts text into parts of at most n characters. A part repeats the end of the one before, so that nothing hides
// at a cut.
func pieces(text string, n int) func(func(string) bool) {
	const overlap = 50
	return func(yield func(string) bool) {
		r := []rune(strings.TrimSpace(text))
		for len(r) > 0 {
			end := min(n, len(r))
			if !yield(string(r[:end])) || end == len(r) {
				return
			}
			r = r[end-overlap:]
		}
	}
}

// checkPicture has WeChat look at a picture of u; the verdict comes by push, under the trace that is returned ("": nobody
// looks). m may be nil. A picture that cannot be looked at is refused, unless FailOpen.
func (m *Moderator) checkPicture(ctx context.Context, u store.User, address string) (trace string, err error) {
	if m == nil || m.WeChat == nil {
		return "", nil
	}
	trace, err = m.WeChat.CheckMedia(ctx, wechat.MediaCheck{OpenID: u.OpenID, Scene: wechat.SceneProfile, URL: address})
	switch {
	case err != nil && m.FailOpen:
		m.Logger.Warn("picture taken without a verdict", "user", u.ID, "err", err)
		return "", nil
	case errors.Is(err, wechat.ErrContent):
		return "", errRisky
	case err != nil:
		return "", unavailable("avatar", err)
	}
	return trace, nil
}
