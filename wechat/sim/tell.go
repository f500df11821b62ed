package sim

import (
	"context"
	"time"
)

// event is what the platform itself tells by a push.
type event struct {
	fields   []pushField
	textTime bool // see pushed
}

// tell pushes an event of the platform, after a while in the simulator's time; nobody waits for it.
// Without a push address, or after Close, nothing happens. u is whom it concerns.
func (s *Sim) tell(to *account, u *user, after time.Duration, e event) {
	if to == nil || to.url == "" || u == nil {
		return
	}
	s.start(func(ctx context.Context) {
		if !wait(ctx, s.scaled(after)) {
			return
		}
		s.push(ctx, u, s.eventOf(to, u, e), to.form())
	})
}

// eventOf is an event of the platform as a push.
func (s *Sim) eventOf(to *account, u *user, e event) pushed {
	return pushed{to: to, openid: u.openidIn(to), kind: "event", fields: e.fields, at: s.opts.Now(), textTime: e.textTime, system: true}
}
