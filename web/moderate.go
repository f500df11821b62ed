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

const (
	sceneSocial     = 4    // msg_sec_check: what users say to each other
	sceneProfile    = 1    // … and what they call themselves
	moderatedLength = 2500 // characters in one check; WeChat takes no more
)

// A Moderator asks WeChat (msg_sec_check) before anybody sees what a user wrote.
type Moderator struct {
	Store  *store.DB
	WeChat *wechat.Client
	// FailOpen lets text pass that nobody could judge: WeChat away, or an author whom WeChat has not seen in two hours.
	// Without it such text is refused and the author told to try again.
	FailOpen bool
	Logger   *slog.Logger
}

// Moderate is for hub.Options.Moderate: it judges every text in a message of a user. Staff and admins speak for the shop.
func (m *Moderator) Moderate(ctx context.Context, s hub.Session, _ string, said hub.Message) error {
	if s.Role != "user" {
		return nil
	}
	u, err := m.Store.User(ctx, s.User)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("moderate: %w", err)
	}
	return m.check(ctx, u, sceneSocial, said.Action+"\n"+texts(said.Payload))
}

// check returns nil for text that may be shown, hub.ErrRisky for text that may not.
func (m *Moderator) check(ctx context.Context, u store.User, scene int, text string) error {
	for part := range pieces(text, moderatedLength) {
		verdict, err := m.verdict(ctx, u, scene, part)
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

func (m *Moderator) verdict(ctx context.Context, u store.User, scene int, text string) (wechat.Verdict, error) {
	if m.WeChat == nil {
		return "", errors.New("no WeChat app is configured")
	}
	if u.OpenID == "" {
		return "", errors.New("the author has never logged in with WeChat")
	}
	return m.WeChat.CheckText(ctx, u.OpenID, scene, text)
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
