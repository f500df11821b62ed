package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

const (
	fallbackEvery   = time.Second
	fallbackBatch   = 64
	fallbackWorkers = 8                // users at once; one user's mail goes one after the other
	fallbackLease   = time.Minute      // of a claim: what a lost node had claimed is looked at again so much later
	sendLease       = 15 * time.Second // of one call and of writing its answer down: what a lost node was sending is unknown then
	tokenWait       = 8 * time.Second  // for an access token, before anything is written down
	onlineRest      = 30 * time.Second // at most: somebody who is online and acknowledges nothing is looked at so often
	presenceRest    = 5 * time.Second  // while nobody knows who is online
)

// Words why a letter waits, is held or is told no other way.
const (
	whyOnline     = "online"
	whyNotYet     = "not_yet"
	whyQuiet      = "quiet_hours"
	whyPresence   = "presence_unknown"
	whyExpired    = "expired"
	whyNoRule     = "no_rule"
	whyNoOpenID   = "no_openid"
	whyNoWeChat   = "not_configured"
	whyNoQuota    = string(store.BegunNoQuota)
	whyNoGrant    = string(store.BegunNoGrant)
	whyBusy       = string(store.BegunBusy)
	whyRefused    = "refused"
	whyNotAllowed = "blocked"
)

// fallBack looks for mail that nobody acknowledged in time, until ctx ends.
func (j *Jobs) fallBack(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n, err := j.FallBack(ctx)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				j.log.Error("mail that nobody acknowledged cannot be told another way", "err", err)
			} else {
				j.log.Info("mail that nobody acknowledged is told another way again")
			}
		}
		rest := fallbackEvery + rand.N(fallbackEvery/10)
		if n == fallbackBatch && err == nil {
			rest = 0
		}
		timer.Reset(rest)
	}
}

// FallBack does one round: it looks at some letters that are due and tells how many there were. Run does it every second.
func (j *Jobs) FallBack(ctx context.Context) (int, error) {
	if j.book == nil {
		return 0, nil
	}
	learning, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	if err := j.book.Learn(learning); err != nil {
		return 0, err
	}
	due, err := j.db.ClaimFallbacks(learning, j.owner, fallbackBatch, fallbackLease)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	byUser := make(map[string][]store.Fallback)
	for _, f := range due {
		byUser[f.User] = append(byUser[f.User], f)
	}
	var round errgroup.Group
	round.SetLimit(fallbackWorkers)
	for _, mail := range byUser {
		slices.SortFunc(mail, func(a, b store.Fallback) int { return int(int64(a.Letter.Seq) - int64(b.Letter.Seq)) })
		round.Go(func() error {
			for i, f := range mail {
				err := ctx.Err()
				if err == nil {
					err = j.tellOtherwise(ctx, f)
				}
				if err == nil {
					continue
				}
				for _, f := range mail[i:] {
					j.giveBack(ctx, f)
				}
				if ctx.Err() != nil {
					return nil // this node stops
				}
				return err
			}
			return nil
		})
	}
	return len(due), round.Wait()
}

// giveBack lets somebody look at a letter soon, another node if this one stops.
func (j *Jobs) giveBack(ctx context.Context, f store.Fallback) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	soon := j.now().Add(time.Second)
	err := j.db.DeferFallback(ctx, j.owner, f, soon, f.Reason, false)
	if f.Repeat {
		err = j.db.LeaveRepeat(ctx, j.owner, f, soon)
	}
	if err != nil {
		j.log.Warn("mail to be told another way is looked at when its lease ends", "user", f.User, "id", f.Letter.ID, "err", err)
	}
}

// An outlook is what is known about a letter and its user at one moment.
type outlook struct {
	now                         time.Time
	storedAt, writtenAt, seenAt time.Time
	online                      bool
	presence                    error // set: nobody knows who is online
	user                        store.User
	quota                       store.ReplyQuota
	grants                      []store.Grant
	configured                  bool // there is a client of the user's app
	again                       bool // an admin wants it sent, however old it is
}

// A verdict is what is to be done about a letter.
type verdict struct {
	send []string  // channels to be tried, in order; none: the word says why
	why  string    // a word
	at   time.Time // when to look again; zero: when a quota or grant comes
	end  bool      // never again
	no   []string  // why channels are left out: words, in the order of the channels
}

// judge follows the rule. It decides for the dry run and for the real one, which then takes quota and grant atomically.
func (r *fallbackRule) judge(o outlook) verdict {
	rest := min(onlineRest, r.after)
	switch {
	case o.now.Sub(o.storedAt) > r.within && !o.again:
		return verdict{why: whyExpired, end: true}
	case o.presence != nil:
		return verdict{why: whyPresence, at: o.now.Add(presenceRest)}
	case o.online:
		return verdict{why: whyOnline, at: o.now.Add(rest)}
	}
	last := o.storedAt // the last sign of life: so long after it somebody counts as away
	for _, t := range []time.Time{o.writtenAt, o.seenAt} {
		if t.After(last) {
			last = t
		}
	}
	if due := last.Add(r.after); o.now.Before(due) {
		return verdict{why: whyNotYet, at: due}
	}
	if end := r.quiet.until(o.now, r.zone); !end.IsZero() {
		return verdict{why: whyQuiet, at: end}
	}
	switch {
	case o.user.Blocked:
		return verdict{why: whyNotAllowed}
	case o.user.OpenID == "":
		return verdict{why: whyNoOpenID}
	case !o.configured:
		return verdict{why: whyNoWeChat}
	}
	var v verdict
	if r.Custom != nil {
		if o.quota.Left > 0 {
			v.send = append(v.send, store.ChannelCustom)
		} else {
			v.no = append(v.no, whyNoQuota)
		}
	}
	if r.Subscribe != nil {
		if slices.ContainsFunc(o.grants, func(g store.Grant) bool { return g.TemplateID == r.Subscribe.Template && g.Remaining > 0 }) {
			v.send = append(v.send, store.ChannelSubscribe)
		} else {
			v.no = append(v.no, whyNoGrant)
		}
	}
	if len(v.send) == 0 {
		v.why = v.no[0]
	}
	return v
}

// look finds out what is known of a user. appID is the app that we can send for; "": none.
func look(ctx context.Context, h *hub.Hub, db *store.DB, appID, user string) (o outlook, err error) {
	p, err := h.Presence(ctx, "user:"+user)
	o.presence = err
	o.online = slices.ContainsFunc(p.Users, func(u hub.PresentUser) bool { return u.ID == user })
	if o.user, err = db.User(ctx, user); err != nil && !errors.Is(err, store.ErrNotFound) {
		return o, err
	}
	o.configured = appID != "" && o.user.AppID == appID
	if o.quota, err = db.ReplyQuota(ctx, user); err != nil {
		return o, err
	}
	o.grants, err = db.Grants(ctx, user)
	return o, err
}

// tellOtherwise decides about one claimed letter. Its errors are the store's.
func (j *Jobs) tellOtherwise(ctx context.Context, f store.Fallback) error {
	r := j.book.rule(f.Letter.Action)
	switch {
	case r == nil && f.Repeat:
		return j.db.LeaveRepeat(ctx, j.owner, f, time.Time{})
	case r == nil:
		return j.db.ExpireFallback(ctx, j.owner, f, whyNoRule)
	}
	o, err := j.lookAt(ctx, f)
	if err != nil {
		return fmt.Errorf("fallback of %s: %w", f.User, err)
	}
	v := r.judge(o)
	if f.Repeat {
		return j.repeat(ctx, f, r, o, v)
	}
	if o.again && !v.at.IsZero() {
		v.why = store.ReasonAgain
	}
	for _, channel := range v.send {
		done, why, err := j.sendOtherwise(ctx, f, r, o.user.OpenID, channel)
		if err != nil || done {
			return err
		}
		v.why = why
	}
	switch {
	case v.end:
		return j.db.ExpireFallback(ctx, j.owner, f, v.why)
	case !v.at.IsZero():
		return j.db.DeferFallback(ctx, j.owner, f, v.at, v.why, v.why == whyOnline)
	}
	return j.db.HoldFallback(ctx, j.owner, f, v.why)
}

func (j *Jobs) lookAt(ctx context.Context, f store.Fallback) (outlook, error) {
	appID := j.appID
	if j.wechat == nil {
		appID = ""
	}
	o, err := look(ctx, j.hub, j.db, appID, f.User)
	o.now = j.now()
	o.storedAt, o.writtenAt, o.seenAt = f.StoredAt, f.WrittenAt, f.SeenAt
	o.again = f.Reason == store.ReasonAgain
	return o, err
}

// ready makes a call of one channel for which nothing is missing but to be made: the text is filled in, and there is an
// access token. So what lies between the commit of BeginFallback and WeChat is that call alone.
func (j *Jobs) ready(ctx context.Context, f store.Fallback, r *fallbackRule, openID, channel string) (call func(context.Context) (msgID string, err error), err error) {
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	if _, err := j.wechat.AccessToken(ctx); err != nil {
		return nil, err
	}
	if channel == store.ChannelSubscribe {
		m := r.subscribe(f.Letter)
		return func(ctx context.Context) (string, error) { return j.wechat.SendSubscribe(ctx, openID, m) }, nil
	}
	m := r.custom(f.Letter)
	return func(ctx context.Context) (string, error) { return "", j.wechat.SendCustom(ctx, openID, m) }, nil
}

// sendOtherwise sends a letter over one channel, once. Not done: it was not sent, and why; another channel may be tried.
func (j *Jobs) sendOtherwise(ctx context.Context, f store.Fallback, r *fallbackRule, openID, channel string) (done bool, why string, err error) {
	call, err := j.ready(ctx, f, r, openID, channel)
	if err != nil {
		if ctx.Err() != nil {
			return true, "", err // this node stops
		}
		return true, "", j.later(ctx, f, channel, err)
	}
	template := ""
	if channel == store.ChannelSubscribe {
		template = r.Subscribe.Template
	}
	// From here on a stop is waited for: what was written down as being sent must be sent, and its answer written down.
	ctx = context.WithoutCancel(ctx)
	beginning, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	began, err := j.db.BeginFallback(beginning, j.owner, f, channel, template, sendLease)
	switch {
	case err != nil:
		return true, "", err
	case began == store.BegunNoQuota, began == store.BegunNoGrant:
		return false, string(began), nil
	case began == store.BegunBusy:
		return true, "", j.db.DeferFallback(beginning, j.owner, f, j.now().Add(time.Second), whyBusy, false)
	case began != store.BegunYes:
		return true, "", nil
	}
	out, err := j.carryOut(ctx, f, channel, call)
	switch out.Result {
	case store.OutcomeSent:
		j.log.Debug("mail told another way", "user", f.User, "id", f.Letter.ID, "channel", channel)
		return true, "", nil
	case store.OutcomeRefused:
		j.log.Info("mail not told another way: WeChat refused", "user", f.User, "id", f.Letter.ID, "channel", channel, "err", err)
		return false, whyRefused, nil
	case store.OutcomeUnsent:
		return true, "", j.later(ctx, f, channel, err)
	}
	j.log.Warn("mail may have been told another way, or not", "user", f.User, "id", f.Letter.ID, "channel", channel, "err", err)
	return true, "", nil
}

// carryOut makes the call that was written down, and writes its answer down.
func (j *Jobs) carryOut(ctx context.Context, f store.Fallback, channel string, call func(context.Context) (string, error)) (store.SendOutcome, error) {
	calling, cancel := context.WithTimeout(ctx, sendLease-settleWait-time.Second)
	defer cancel()
	j.beforeSend()
	msgID, err := call(calling)
	j.afterSend()
	out := outcomeOf(channel, msgID, err)
	if f.Repeat && arrivedBefore(channel, out.Code) {
		out = store.SendOutcome{Result: store.OutcomeSent, Code: out.Code, Reason: store.ReasonRepeat}
	}
	j.endOtherwise(ctx, f, out)
	return out, err
}

// arrivedBefore tells whether a refusal of a repeat means that the first message used up what both were to use: no
// grant is left, or the number of customer-service messages is reached. That a window has closed tells nothing.
func arrivedBefore(channel string, code int) bool {
	return channel == store.ChannelSubscribe && code == 43101 || channel == store.ChannelCustom && code == 45047
}

// later gives a letter back of which WeChat never heard.
func (j *Jobs) later(ctx context.Context, f store.Fallback, channel string, err error) error {
	level := j.log.Info
	if errors.Is(err, wechat.ErrConfig) {
		level = j.log.Error // somebody has to do something
	}
	delay := sendDelay(f.Tries, err)
	f.Tries++
	level("mail will be told another way later", "user", f.User, "id", f.Letter.ID, "channel", channel, "in", delay, "err", err)
	why := err.Error()
	if f.Reason == store.ReasonAgain {
		why = f.Reason
	}
	return j.db.DeferFallback(ctx, j.owner, f, j.now().Add(delay), why, false)
}

// repeat sends again what was lost on its way to an answer, where WeChat refuses a second message: if the first one
// arrived, that is its answer.
func (j *Jobs) repeat(ctx context.Context, f store.Fallback, r *fallbackRule, o outlook, v verdict) error {
	fits := f.Channel == store.ChannelSubscribe && r.Subscribe != nil && r.Subscribe.Template == f.Template || f.Channel == store.ChannelCustom && r.Custom != nil
	switch {
	case v.end || !fits || o.user.Blocked || o.user.OpenID == "" || !o.configured:
		return j.db.LeaveRepeat(ctx, j.owner, f, time.Time{})
	case !v.at.IsZero(): // not now: the user is there, or sleeps
		return j.db.LeaveRepeat(ctx, j.owner, f, v.at)
	}
	call, err := j.ready(ctx, f, r, o.user.OpenID, f.Channel)
	if err != nil {
		return j.db.LeaveRepeat(context.WithoutCancel(ctx), j.owner, f, j.now().Add(sendDelay(0, err)))
	}
	ctx = context.WithoutCancel(ctx)
	beginning, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	if began, err := j.db.BeginRepeat(beginning, j.owner, f, sendLease); err != nil || began != store.BegunYes {
		return err
	}
	out, err := j.carryOut(ctx, f, f.Channel, call)
	j.log.Info("mail told another way was repeated, since its answer was lost", "user", f.User, "id", f.Letter.ID, "channel", f.Channel,
		"result", out.Result, "code", out.Code, "err", err)
	return nil
}

// endOtherwise writes the answer down. It tries for some seconds; what it cannot write down is unknown to everybody.
func (j *Jobs) endOtherwise(ctx context.Context, f store.Fallback, out store.SendOutcome) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, j.db.EndFallback(ctx, j.owner, f, out, fallbackLease)
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}))
	if err != nil {
		j.log.Error("what became of a message could not be written down", "user", f.User, "id", f.Letter.ID, "err", err)
	}
}

// outcomeOf says what an answer means for the one message that a letter may cost.
func outcomeOf(channel, msgID string, err error) store.SendOutcome {
	if err == nil {
		return store.SendOutcome{Result: store.OutcomeSent, MsgID: msgID}
	}
	out := store.SendOutcome{Result: store.OutcomeRefused, Reason: err.Error()}
	var answer *wechat.Error
	if !errors.As(err, &answer) {
		out.Result = store.OutcomeUnsent // our own side
		return out
	}
	out.Code = answer.Code
	switch {
	case answer.Op != "custom/send" && answer.Op != "subscribe/send": // no access token: the message never left
		out.Result = store.OutcomeUnsent
	case errors.Is(err, wechat.ErrWindow), errors.Is(err, wechat.ErrNotSubscribed):
		out.Empty = true
	case errors.Is(err, wechat.ErrToken), errors.Is(err, wechat.ErrConfig), errors.Is(err, wechat.ErrTooOften), errors.Is(err, wechat.ErrBreaker):
		out.Result = store.OutcomeUnsent
	case errors.Is(err, wechat.ErrBusy) && answer.Code != 0, neverDialled(err): // WeChat says that it did not do it
		out.Result = store.OutcomeUnsent
	case errors.Is(err, wechat.ErrBusy), errors.Is(err, wechat.ErrNonsense):
		out.Result = store.OutcomeUnknown
	}
	return out
}

// neverDialled tells whether no connection was there: nothing can have arrived.
func neverDialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
