package jobs

import (
	"context"
	"maps"
	"slices"
	"time"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

// A Question asks what would become of mail that its user does not acknowledge.
type Question struct {
	User   string
	Letter store.Letter  // Action and Payload count
	Rule   *FallbackRule // a draft; nil: the rule in force
	Now    time.Time
}

// A Foresight is the answer. Nothing was sent and nothing was taken.
type Foresight struct {
	Result  string    // online, custom, subscribe, wait or no_rule
	At      time.Time // when it would be sent
	Quiet   bool      // later than it could be, because of quiet hours
	No      []string  // why a way is left out: no_quota, no_grant, no_openid, blocked, not_configured, presence_unknown, expired
	Online  bool
	Replies store.ReplyQuota
	Grants  int // of the rule's template

	Custom    *wechat.CustomMessage // as it would be sent
	Subscribe *wechat.SubscribeMessage
	Faults    []string // why WeChat would refuse the subscribe message's values
}

// Foresee says what would happen if the letter were stored now and not acknowledged, and its user stayed as they are.
// h tells who is online; appID is the app that messages can be sent for, "" for none. ErrFallbackRule: a draft that
// cannot be followed.
func (b *Fallbacks) Foresee(ctx context.Context, h *hub.Hub, appID string, q Question) (f Foresight, err error) {
	r := b.rule(q.Letter.Action)
	if q.Rule != nil {
		read, err := readFallback(*q.Rule)
		if err != nil {
			return f, &faultyRule{err}
		}
		r = read
	}
	if r == nil {
		f.Result = whyNoRule
		return f, nil
	}
	o, err := look(ctx, h, b.db, appID, q.User)
	if err != nil {
		return f, err
	}
	f.Online, f.Replies = o.online, o.quota
	if r.Subscribe != nil {
		for _, g := range o.grants {
			if g.TemplateID == r.Subscribe.Template {
				f.Grants = g.Remaining
			}
		}
	}
	q.Letter.At = q.Now
	r.preview(&f, q.Letter)
	v := r.judgeAt(o, q.Now.Add(r.after))
	if v.why == whyQuiet {
		f.Quiet = true
		v = r.judgeAt(o, v.at)
	}
	f.No = v.no
	switch {
	case v.why == whyOnline:
		f.Result = whyOnline
	case len(v.send) == 0:
		f.Result = "wait"
		if len(f.No) == 0 {
			f.No = []string{v.why}
		}
	default:
		f.Result, f.At = v.send[0], v.at
	}
	return f, nil
}

// judgeAt judges as if the letter became due at a time.
func (r *fallbackRule) judgeAt(o outlook, at time.Time) verdict {
	o.now, o.storedAt = at, at.Add(-r.after)
	o.writtenAt, o.seenAt = time.Time{}, time.Time{}
	if !o.quota.Until.After(at) {
		o.quota.Left = 0
	}
	v := r.judge(o)
	if len(v.send) > 0 {
		v.at = at
	}
	return v
}

func (r *fallbackRule) preview(f *Foresight, l store.Letter) {
	if r.Custom != nil {
		m := r.custom(l)
		f.Custom = &m
	}
	if r.Subscribe == nil {
		return
	}
	m := r.subscribe(l)
	f.Subscribe = &m
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		fitted, err := wechat.FitField(key, m.Data[key])
		if err != nil {
			f.Faults = append(f.Faults, key)
			continue
		}
		m.Data[key] = fitted
	}
}

type faultyRule struct{ err error }

func (e *faultyRule) Error() string        { return e.err.Error() }
func (e *faultyRule) Is(target error) bool { return target == ErrFallbackRule }
