package wechat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// A TokenStore shares between processes what WeChat gives for a while: access tokens, and beside them media
// ids, platform certificates and the like, under names that begin with their kind ("access_token:",
// "media:" …). Names have at most 128 bytes, values at most 4 KiB; what has expired may be deleted. cmd joins it to
// the database.
type TokenStore interface {
	// Load returns what is kept under name and until when it is to be used; expiresAt zero: nothing.
	Load(ctx context.Context, name string) (token string, expiresAt time.Time, err error)
	Save(ctx context.Context, name, token string, expiresAt time.Time) error
	// Lock asks for the right to fetch; false: somebody else is fetching, Load again soon.
	Lock(ctx context.Context, name string, ttl time.Duration) (ok bool, unlock func(), err error)
}

const (
	// tokenSlack is how long before its end a token is renewed. WeChat gives a new one in the last five
	// minutes and lets the old one live on for five: a little less than that never gets the old one again.
	tokenSlack = 4 * time.Minute
	// lockFor bounds how long a process that died while fetching keeps the others waiting.
	lockFor = 2 * callTimeout
	// lockPoll is how often we look for what another process fetches. After three quarters of a call's
	// timeout we fetch too, which harms nobody: stable_token gives both of us the same token.
	lockPoll = 60 * time.Millisecond
	// insistPause keeps calls from fetching again and again while WeChat both gives and refuses one token.
	insistPause = 10 * time.Second
	// renewPause is how long an old but living token is used after its renewal failed.
	renewPause = 5 * time.Second
)

const (
	opToken        = "stable_token"
	opClassicToken = "token"
)

// A token as it was adopted. gen tells two adoptions of the same text apart.
type token struct {
	value    string
	useUntil time.Time // then it is renewed
	diesAt   time.Time // as WeChat said, or useUntil when another process fetched it
	gen      uint64    // 0: no token
}

// AccessToken gives a valid token: stable_token, one fetch per expiry however many ask, in this process
// and in every one that shares the TokenStore.
func (c *Client) AccessToken(ctx context.Context) (string, error) {
	t, err := c.token(ctx, token{})
	return t.value, err
}

// token returns a token that is good and not refused (the zero token: any will do).
func (c *Client) token(ctx context.Context, refused token) (token, error) {
	if t, ok := c.known(refused); ok {
		return t, nil
	}
	for range 2 { // the second round, if somebody else's round brought only what we were refused
		ch := c.fetches.DoChan("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.timeout)
			defer cancel()
			return c.renew(ctx, refused)
		})
		select {
		case r := <-ch:
			if r.Err != nil {
				return c.lastResort(refused, r.Err)
			}
			if t := r.Val.(token); t.gen != refused.gen {
				return t, nil
			}
		case <-ctx.Done():
			return token{}, &Error{Op: opToken, Kind: ErrBusy, Err: ctx.Err()}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tok, nil
}

// known returns the token in memory if it may be used.
func (c *Client) known(refused token) (token, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tok, c.tok.gen != 0 && c.tok.gen != refused.gen && c.now().Before(c.tok.useUntil)
}

// lastResort is the old token while it lives, if WeChat is away at the moment of renewal.
func (c *Client) lastResort(refused token, err error) (token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if !errors.Is(err, ErrBusy) || c.tok.gen == 0 || c.tok.gen == refused.gen || !now.Before(c.tok.diesAt) {
		return token{}, err
	}
	c.tok.useUntil = now.Add(renewPause)
	if c.tok.diesAt.Before(c.tok.useUntil) {
		c.tok.useUntil = c.tok.diesAt
	}
	c.log.Warn("access token not renewed, the old one still lives", "op", opToken, "err", err)
	return c.tok, nil
}

func (c *Client) adopt(value string, useUntil, diesAt time.Time) token {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.tok = token{value: value, useUntil: useUntil, diesAt: diesAt, gen: c.gen}
	return c.tok
}

// renew finds a token in the store or fetches one. Only one renew runs at a time in this process.
func (c *Client) renew(ctx context.Context, refused token) (token, error) {
	if t, ok := c.known(refused); ok {
		return t, nil // another renew ended between our look and our turn
	}
	c.mu.Lock()
	insisted := refused.gen != 0 && c.tok.value == refused.value && c.now().Sub(c.insistedAt) < insistPause
	last := c.tok
	c.mu.Unlock()
	if insisted {
		return last, nil
	}
	if c.store == nil {
		return c.fetch(ctx, refused, false)
	}
	name := c.tokenName()
	giveUp := time.Now().Add(c.timeout * 3 / 4)
	for {
		if t, ok := c.load(ctx, name, refused); ok {
			return t, nil
		}
		ok, unlock, err := c.store.Lock(ctx, name, lockFor)
		if err != nil {
			if c.classic { // two that fetch would each kill the other's token
				return token{}, &Error{Op: opClassicToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "no lock for fetching"}
			}
			c.log.Warn("access token: no lock, fetching without", "err", err)
			break
		}
		if ok {
			defer unlock()
			if t, ok := c.load(ctx, name, refused); ok {
				return t, nil
			}
			break
		}
		if time.Now().After(giveUp) {
			if c.classic {
				return token{}, &Error{Op: opClassicToken, Kind: ErrBusy, RetryAfter: time.Second, Msg: "another process is fetching"}
			}
			c.log.Warn("access token: another process is fetching for too long, fetching too")
			break
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return token{}, &Error{Op: opToken, Kind: ErrBusy, Err: ctx.Err()}
		}
	}
	t, err := c.fetch(ctx, refused, false)
	if err != nil {
		return token{}, err
	}
	if err := c.store.Save(ctx, name, t.value, t.useUntil); err != nil {
		c.log.Warn("access token not shared", "err", err)
	}
	return t, nil
}

// load adopts the shared token if it is good and not the refused one.
func (c *Client) load(ctx context.Context, name string, refused token) (token, bool) {
	value, useUntil, err := c.store.Load(ctx, name)
	if err != nil {
		c.log.Warn("access token: the shared one cannot be read", "err", err)
		return token{}, false
	}
	if value == "" || !c.now().Before(useUntil) || refused.gen != 0 && value == refused.value {
		return token{}, false
	}
	return c.adopt(value, useUntil, useUntil), true
}

// tokenName is where the store keeps our token. The two kinds of token live side by side, and have nothing to
// do with each other.
func (c *Client) tokenName() string {
	if c.classic {
		return "access_token:classic:" + c.appID
	}
	return "access_token:" + c.appID
}

func (c *Client) fetch(ctx context.Context, refused token, force bool) (token, error) {
	op := opToken
	if c.classic {
		op = opClassicToken
	}
	var got struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	err := c.call(ctx, op, func(ctx context.Context) error {
		hide := []string{c.secret, url.QueryEscape(c.secret)}
		a, err := c.askForToken(ctx, op, force, hide)
		if err != nil {
			return err
		}
		if err := a.open(op, &got, false, hide); err != nil {
			return err
		}
		if got.AccessToken == "" || got.ExpiresIn <= 0 || got.ExpiresIn > 24*60*60 {
			return &Error{Op: op, Status: a.status, Kind: ErrNonsense, Msg: "success without a token or its lifetime"}
		}
		return nil
	})
	if err != nil {
		return token{}, err
	}
	now, life := c.now(), time.Duration(got.ExpiresIn)*time.Second
	slack := min(tokenSlack, life/5)
	c.mu.Lock()
	if refused.gen != 0 && got.AccessToken == refused.value {
		c.insistedAt = now
	}
	c.mu.Unlock()
	t := c.adopt(got.AccessToken, now.Add(life-slack), now.Add(life))
	c.log.Info("access token fetched", "appid", c.appID, "useUntil", t.useUntil)
	return t, nil
}

func (c *Client) askForToken(ctx context.Context, op string, force bool, hide []string) (answer, error) {
	if c.classic {
		q := url.Values{"grant_type": {"client_credential"}, "appid": {c.appID}, "secret": {c.secret}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/cgi-bin/token?"+q.Encode(), nil)
		if err != nil {
			return answer{}, &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
		}
		return roundTrip(c.http, req, op, c.timeout, hide)
	}
	body, err := encode(struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}{"client_credential", c.appID, c.secret, force})
	if err != nil {
		return answer{}, &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
	}
	return c.postJSON(ctx, op, "/cgi-bin/stable_token", body, hide)
}

// post calls an API that wants an access token. A token that WeChat refuses is dropped, if it is still
// the one in use, and the call is made once more with the next.
func (c *Client) post(ctx context.Context, op, path string, in, out any, hide ...string) error {
	body, err := encode(in)
	if err != nil {
		return &Error{Op: op, Kind: ErrRequest, Msg: "the request cannot be written as JSON"}
	}
	return c.withToken(ctx, op, hide, func(ctx context.Context, t token, hide []string) error {
		a, err := c.postJSON(ctx, op, withQuery(path, t, nil), body, hide)
		if err != nil {
			return err
		}
		return a.open(op, out, true, hide)
	})
}

// get is post for an API that is asked by its query.
func (c *Client) get(ctx context.Context, op, path string, q url.Values, out any, hide ...string) error {
	return c.withToken(ctx, op, hide, func(ctx context.Context, t token, hide []string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+withQuery(path, t, q), nil)
		if err != nil {
			return &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
		}
		a, err := roundTrip(c.http, req, op, c.timeout, hide)
		if err != nil {
			return err
		}
		return a.open(op, out, true, hide)
	})
}

// withToken calls once, and once more if the token is refused. What call is to hide holds the token too.
func (c *Client) withToken(ctx context.Context, op string, hide []string, call func(ctx context.Context, t token, hide []string) error) error {
	once := func(t token) error {
		return c.call(ctx, op, func(ctx context.Context) error {
			return call(ctx, t, append([]string{c.secret, t.value, url.QueryEscape(t.value)}, hide...))
		})
	}
	t, err := c.token(ctx, token{})
	if err != nil {
		return err
	}
	err = once(t)
	if !errors.Is(err, ErrToken) {
		return err
	}
	c.log.Info("access token refused, renewing it", "op", op, "err", err)
	if t, err = c.token(ctx, t); err != nil {
		return err
	}
	return once(t)
}

// withQuery is the path with the token and q behind it.
func withQuery(path string, t token, q url.Values) string {
	path += "?access_token=" + url.QueryEscape(t.value)
	if len(q) > 0 {
		path += "&" + q.Encode()
	}
	return path
}

func (c *Client) postJSON(ctx context.Context, op, path string, body []byte, hide []string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
	}
	req.Header.Set("Content-Type", "application/json")
	return roundTrip(c.http, req, op, c.timeout, hide)
}
