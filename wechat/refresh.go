package wechat

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// WeChat's own rules for a forced refresh of stable_token.
const (
	refreshesPerDay = 20
	refreshApart    = 30 * time.Second // closer together nothing is refreshed
)

// ForceRefresh kills the access token at once, everywhere, and fetches another: for one that has leaked, by an
// admin's hand. WeChat allows it 20 times in a day and once in 30 seconds, which is counted in Options.Tokens
// before it is asked. With ClassicToken it is a fetch like any other.
// Errors: *Error, which Is ErrQuota (RetryAfter says when), ErrNotYet (WeChat gave the old token again: it was
// refreshed a moment ago), ErrTooOften, ErrBusy, ErrConfig or ErrNonsense.
func (c *Client) ForceRefresh(ctx context.Context) error {
	if !c.refreshing.TryLock() { // the store's lock is this process's, and so would let it in twice
		return &Error{Op: opToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "somebody else refreshes"}
	}
	defer c.refreshing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.timeout) // half done helps nobody
	defer cancel()
	ok, unlock, err := c.shelf.Lock(ctx, "forced_refresh:"+c.appID, lockFor)
	if err != nil || !ok {
		return &Error{Op: opToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "somebody else refreshes, or the store is away"}
	}
	defer unlock()
	if !c.classic {
		if err := c.countRefresh(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	before := c.tok
	c.mu.Unlock()
	t, err := c.fetch(ctx, token{}, !c.classic)
	if err != nil {
		return err
	}
	if c.store != nil {
		keep(ctx, c.line, c.store, c.tokenName(), t.value, t.useUntil)
	}
	if before.gen != 0 && before.value == t.value {
		return &Error{Op: opToken, Kind: ErrNotYet, RetryAfter: refreshApart, Msg: "the same token came back"}
	}
	return nil
}

// countRefresh takes one of the day's refreshes, whether or not it will work out. Needs the lock.
func (c *Client) countRefresh(ctx context.Context) error {
	name, now := "forced_refresh:"+c.appID, c.now()
	value, _, err := c.shelf.Load(ctx, name)
	if err != nil {
		return &Error{Op: opToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "the count of refreshes cannot be read"}
	}
	var times []string // of the last day, oldest first
	var first, last time.Time
	for s := range strings.SplitSeq(value, ",") {
		at, err := unixSeconds(s)
		if err != nil || now.Sub(at) >= 24*time.Hour {
			continue
		}
		if times = append(times, s); first.IsZero() {
			first = at
		}
		last = at
	}
	if wait := last.Add(refreshApart).Sub(now); wait > 0 {
		return &Error{Op: opToken, Kind: ErrQuota, RetryAfter: wait, Msg: "forced refreshes must be 30 seconds apart"}
	}
	if len(times) >= refreshesPerDay {
		return &Error{Op: opToken, Kind: ErrQuota, RetryAfter: first.Add(24 * time.Hour).Sub(now), Msg: "20 forced refreshes a day are all"}
	}
	times = append(times, strconv.FormatInt(now.Unix(), 10))
	if err := c.shelf.Save(ctx, name, strings.Join(times, ","), now.Add(24*time.Hour)); err != nil {
		return &Error{Op: opToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "the count of refreshes cannot be kept"}
	}
	return nil
}
