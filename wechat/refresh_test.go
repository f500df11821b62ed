package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// classicPlatform plays cgi-bin/token, where every fetch kills the token before it.
type classicPlatform struct {
	mu      sync.Mutex
	fetches int
	sends   int
	refused int
}

func (p *classicPlatform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	switch r.URL.Path {
	case "/cgi-bin/token":
		if r.Method != "GET" || q.Get("grant_type") != "client_credential" || q.Get("appid") != testAppID || q.Get("secret") != testSecret {
			w.WriteHeader(400)
			return
		}
		p.fetches++
		fmt.Fprintf(w, `{"access_token":"canary-token-%d","expires_in":7200}`, p.fetches)
	case "/cgi-bin/message/custom/send":
		if q.Get("access_token") != fmt.Sprintf("canary-token-%d", p.fetches) {
			p.refused++
			_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest"}`)
			return
		}
		p.sends++
		_, _ = io.WriteString(w, okAnswer)
	default:
		w.WriteHeader(404)
	}
}

func TestClassicToken_sharedByProcesses(t *testing.T) {
	p, shared := &classicPlatform{}, &sharedStore{}
	var nodes []*Client
	for range 4 {
		nodes = append(nodes, newTestClient(t, p.ServeHTTP, func(o *Options) { o.Tokens, o.ClassicToken = shared, true }))
	}
	var wg sync.WaitGroup
	for _, c := range nodes {
		for range 10 {
			wg.Go(func() {
				if err := c.SendCustom(t.Context(), "o1", hello); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if p.fetches != 1 || p.sends != 40 || p.refused != 0 {
		t.Errorf("%d fetches, %d sends, %d refused: the processes killed each other's token", p.fetches, p.sends, p.refused)
	}
	// A strange program fetches one of its own: ours is refused once, and fetched anew by one of us.
	p.mu.Lock()
	p.fetches++
	p.mu.Unlock()
	for _, c := range nodes {
		if err := c.SendCustom(t.Context(), "o1", hello); err != nil {
			t.Error(err)
		}
	}
	if p.fetches != 3 {
		t.Errorf("%d fetches", p.fetches)
	}
}

// Without the right to fetch a classic token is not fetched: it would kill the one that somebody else is fetching.
func TestClassicToken_neverWithoutTheLock(t *testing.T) {
	for name, shared := range map[string]*sharedStore{
		"another process holds it": {locked: true},
		"the store is away":        {lockFail: errors.New("away"), broken: errors.New("away")},
	} {
		p := &classicPlatform{}
		c := newTestClient(t, p.ServeHTTP, func(o *Options) { o.Tokens, o.ClassicToken = shared, true })
		c.timeout = 200 * time.Millisecond
		err := c.SendCustom(t.Context(), "o1", hello)
		if !errors.Is(err, ErrBusy) || AdviceOf(err) != Retry || RetryAfter(err) == 0 || p.fetches != 0 {
			t.Errorf("%s: %v, %d fetches", name, err, p.fetches)
		}
	}
}

func TestClassicToken_refused(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := json.Marshal(map[string]any{"errcode": 40001, "errmsg": "AppSecret error " + r.URL.String()})
		_, _ = w.Write(b)
	}, func(o *Options) { o.ClassicToken = true })
	_, err := c.AccessToken(t.Context())
	if !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	noSecrets(t, err)
}

// forcedPlatform plays stable_token with its forced refreshes: closer than 30 seconds nothing happens.
type forcedPlatform struct {
	now       *clock
	n, forced int
	last      time.Time
}

func (p *forcedPlatform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Force bool `json:"force_refresh"`
	}
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/cgi-bin/stable_token" {
		if r.URL.Query().Get("access_token") != fmt.Sprintf("canary-token-%d", p.n) {
			_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"dead"}`)
			return
		}
		_, _ = io.WriteString(w, okAnswer)
		return
	}
	_ = json.Unmarshal(body, &in)
	if in.Force {
		p.forced++
		if p.now.now().Sub(p.last) >= 30*time.Second {
			p.n++
			p.last = p.now.now()
		}
	}
	p.n = max(p.n, 1)
	fmt.Fprintf(w, `{"access_token":"canary-token-%d","expires_in":7200}`, p.n)
}

func TestForceRefresh(t *testing.T) {
	var now clock
	p := &forcedPlatform{now: &now}
	store := &memoryTokens{now: now.now}
	shared := func(o *Options) { o.Now, o.Tokens = now.now, store }
	one, other := newTestClient(t, p.ServeHTTP, shared), newTestClient(t, p.ServeHTTP, shared)
	for _, c := range []*Client{one, other} {
		if tok, err := c.AccessToken(t.Context()); err != nil || tok != "canary-token-1" {
			t.Fatal(tok, err)
		}
	}
	if err := one.ForceRefresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tok, err := one.AccessToken(t.Context()); err != nil || tok != "canary-token-2" {
		t.Error(tok, err)
	}
	// the other process learns of it with its next call, out of the store
	if err := other.SendCustom(t.Context(), "o1", hello); err != nil {
		t.Error(err)
	}
	if tok, _ := other.AccessToken(t.Context()); tok != "canary-token-2" {
		t.Error(tok)
	}
	// 30 seconds apart, by whichever process
	refused := func(wait time.Duration) {
		t.Helper()
		before := p.forced
		err := other.ForceRefresh(t.Context())
		if !errors.Is(err, ErrQuota) || AdviceOf(err) != Retry || RetryAfter(err) != wait || p.forced != before {
			t.Errorf("%v after %v", err, RetryAfter(err))
		}
		noSecrets(t, err)
	}
	now.wind(29 * time.Second)
	refused(time.Second)
	// 20 in a day
	for n := 1; n < refreshesPerDay; n++ {
		now.wind(31 * time.Second)
		if err := other.ForceRefresh(t.Context()); err != nil {
			t.Fatal(n, err)
		}
	}
	now.wind(time.Minute)
	if p.forced != refreshesPerDay {
		t.Errorf("%d forced refreshes", p.forced)
	}
	refused(24*time.Hour - 29*time.Second - 19*31*time.Second - time.Minute)
	now.wind(24 * time.Hour)
	if err := one.ForceRefresh(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestForceRefresh_inTrouble(t *testing.T) {
	var now clock
	// the quota cannot be counted: then it is not used
	p := &forcedPlatform{now: &now}
	c := newTestClient(t, p.ServeHTTP, func(o *Options) { o.Tokens = brokenStore{} })
	if err := c.ForceRefresh(t.Context()); !errors.Is(err, ErrBusy) || p.forced != 0 {
		t.Error(err)
	}
	// somebody else refreshed within the 30 seconds: the token did not change
	p.last = now.now()
	c = newTestClient(t, p.ServeHTTP, func(o *Options) { o.Now = now.now })
	if _, err := c.AccessToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.ForceRefresh(t.Context()); !errors.Is(err, ErrNotYet) || AdviceOf(err) != Retry {
		t.Error(err)
	}
	// two at once: one goes
	c.refreshing.Lock()
	if err := c.ForceRefresh(t.Context()); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	c.refreshing.Unlock()
	// WeChat away: an error, and the old token goes on
	c = newTestClient(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) })
	if err := c.ForceRefresh(t.Context()); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	classic := &classicPlatform{}
	c = newTestClient(t, classic.ServeHTTP, func(o *Options) { o.ClassicToken = true })
	for range 2 {
		if err := c.ForceRefresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := c.SendCustom(t.Context(), "o1", hello); err != nil || classic.fetches != 2 {
		t.Error(err, classic.fetches)
	}
}
