package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// platform plays stable_token and custom/send. Its token changes when somebody says so.
type platform struct {
	mu       sync.Mutex
	fetches  int
	valid    string // what custom/send takes
	next     func(n int) string
	life     int
	fail     http.HandlerFunc // instead of a token
	sends    int
	bodies   []string
	delay    time.Duration
	sendFail http.HandlerFunc // instead of accepting a good token
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	time.Sleep(p.delay)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.URL.Path {
	case "/cgi-bin/stable_token":
		p.fetches++
		var in map[string]any
		if json.Unmarshal(body, &in) != nil || r.Method != "POST" || r.URL.RawQuery != "" ||
			in["grant_type"] != "client_credential" || in["appid"] != testAppID || in["secret"] != testSecret || in["force_refresh"] != false {
			w.WriteHeader(400)
			return
		}
		if p.fail != nil {
			p.fail(w, r)
			return
		}
		if p.next != nil {
			p.valid = p.next(p.fetches)
		} else if p.valid == "" {
			p.valid = fmt.Sprintf("canary-token-%d", p.fetches)
		}
		life := p.life
		if life == 0 {
			life = 7200
		}
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d}`, p.valid, life)
	case "/cgi-bin/message/custom/send":
		p.sends++
		p.bodies = append(p.bodies, string(body))
		if r.URL.Query().Get("access_token") != p.valid {
			fmt.Fprintf(w, `{"errcode":40001,"errmsg":"invalid credential %s"}`, r.URL.Query().Get("access_token"))
			return
		}
		if p.sendFail != nil {
			p.sendFail(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok"}`)
	default:
		w.WriteHeader(404)
	}
}

// invalidate is what happens when somebody else forces a refresh.
func (p *platform) invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.valid = ""
}

func (p *platform) count() (fetches, sends int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches, p.sends
}

var hello = CustomMessage{Text: &CustomText{Content: "你好 <b>&</b>"}}

func parallel(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

func TestAccessToken_manyAskOneFetches(t *testing.T) {
	p := &platform{delay: 20 * time.Millisecond}
	c := newTestClient(t, p.ServeHTTP)
	parallel(50, func() {
		if tok, err := c.AccessToken(t.Context()); err != nil || tok != "canary-token-1" {
			t.Error(err)
		}
	})
	if fetches, _ := p.count(); fetches != 1 {
		t.Errorf("%d fetches", fetches)
	}
}

func TestAccessToken_renewedEarly(t *testing.T) {
	var now atomic.Int64
	now.Store(1_768_444_496)
	p := &platform{next: func(n int) string { return fmt.Sprint("token", n) }}
	c := newTestClient(t, p.ServeHTTP, func(o *Options) { o.Now = func() time.Time { return time.Unix(now.Load(), 0) } })
	for _, step := range []struct {
		after int64
		want  string
	}{
		{0, "token1"},
		{7200 - 240 - 1, "token1"},
		{7200 - 240, "token2"}, // WeChat gives a new one in the last five minutes
		{7200 - 240 + 10, "token2"},
	} {
		now.Store(1_768_444_496 + step.after)
		parallel(20, func() {
			if got, err := c.AccessToken(t.Context()); err != nil || got != step.want {
				t.Errorf("after %d s: %s %v", step.after, got, err)
			}
		})
	}
	if fetches, _ := p.count(); fetches != 2 {
		t.Errorf("%d fetches", fetches)
	}
}

func TestAccessToken_oldOneWhileWeChatIsAway(t *testing.T) {
	var now atomic.Int64
	p := &platform{}
	c := newTestClient(t, p.ServeHTTP, func(o *Options) { o.Now = func() time.Time { return time.Unix(1_768_444_496+now.Load(), 0) } })
	if _, err := c.AccessToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.fail = say(502, "")
	now.Store(7200 - 100)
	for range 5 {
		if tok, err := c.AccessToken(t.Context()); err != nil || tok != "canary-token-1" {
			t.Error(err)
		}
	}
	if fetches, _ := p.count(); fetches != 3 {
		t.Errorf("%d fetches, want one, and a vain one with its repeat", fetches)
	}
	now.Store(7200)
	if _, err := c.AccessToken(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("a dead token was given: %v", err)
	}
}

func TestAccessToken_refused(t *testing.T) {
	for name, v := range map[string]struct {
		answer http.HandlerFunc
		kind   error
	}{
		"secret":       {say(200, `{"errcode":40125,"errmsg":"invalid appsecret `+testSecret+`"}`), ErrConfig},
		"40001":        {say(200, `{"errcode":40001,"errmsg":"invalid credential"}`), ErrConfig},
		"address":      {say(200, `{"errcode":40164,"errmsg":"invalid ip 1.2.3.4"}`), ErrConfig},
		"day's quota":  {say(200, `{"errcode":45009}`), ErrTooOften},
		"busy":         {say(200, `{"errcode":-1}`), ErrBusy},
		"500":          {say(500, ``), ErrBusy},
		"html":         {say(200, `<html>`), ErrNonsense},
		"no token":     {say(200, `{"expires_in":7200}`), ErrNonsense},
		"no lifetime":  {say(200, `{"access_token":"canary-token"}`), ErrNonsense},
		"dead already": {say(200, `{"access_token":"canary-token","expires_in":0}`), ErrNonsense},
	} {
		p := &platform{fail: v.answer}
		c := newTestClient(t, p.ServeHTTP)
		_, err := c.AccessToken(t.Context())
		if !errors.Is(err, v.kind) {
			t.Errorf("%s: %v", name, err)
		}
		noSecrets(t, err)
	}
}

func TestAccessToken_callerLeaves(t *testing.T) {
	p, gate, arrived := &platform{}, make(chan struct{}), make(chan struct{}, 1)
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-gate
		p.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := c.AccessToken(ctx); left <- err }()
	<-arrived
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(gate)
	if _, err := c.AccessToken(t.Context()); err != nil { // the fetch went on
		t.Error(err)
	}
	if fetches, _ := p.count(); fetches != 1 {
		t.Errorf("%d fetches", fetches)
	}
}

func TestSendCustom_tokenRefusedDuringManyCalls(t *testing.T) {
	for _, code := range []string{"40001", "40014", "42001"} {
		t.Run(code, func(t *testing.T) {
			p := &platform{}
			c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
				p.mu.Lock()
				stale := r.URL.Query().Has("access_token") && r.URL.Query().Get("access_token") != p.valid
				p.mu.Unlock()
				if stale {
					fmt.Fprintf(w, `{"errcode":%s,"errmsg":"access_token expired"}`, code)
					return
				}
				p.ServeHTTP(w, r)
			})
			if _, err := c.AccessToken(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.invalidate()
			p.delay = 5 * time.Millisecond
			parallel(50, func() {
				if err := c.SendCustom(t.Context(), "o1", hello); err != nil {
					t.Error(err)
				}
			})
			if fetches, sends := p.count(); fetches != 2 || sends != 50 {
				t.Errorf("%d fetches, %d accepted sends", fetches, sends)
			}
		})
	}
}

// WeChat gives the same token again and refuses it again: one retry, and no storm of fetches.
func TestSendCustom_tokenRefusedForGood(t *testing.T) {
	var fetches, sends atomic.Int32
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/stable_token" {
			fetches.Add(1)
			_, _ = io.WriteString(w, `{"access_token":"canary-token","expires_in":7200}`)
			return
		}
		sends.Add(1)
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest: canary-token"}`)
	})
	err := c.SendCustom(t.Context(), "o1", hello)
	var e *Error
	if !errors.Is(err, ErrToken) || !errors.As(err, &e) || e.Code != 40001 {
		t.Error(err)
	}
	noSecrets(t, err)
	if fetches.Load() != 2 || sends.Load() != 2 {
		t.Errorf("%d fetches, %d sends", fetches.Load(), sends.Load())
	}
	parallel(20, func() {
		if err := c.SendCustom(t.Context(), "o1", hello); !errors.Is(err, ErrToken) {
			t.Error(err)
		}
	})
	if fetches.Load() != 2 || sends.Load() != 42 {
		t.Errorf("%d fetches, %d sends", fetches.Load(), sends.Load())
	}
}

// sharedStore is a TokenStore as two processes see it.
type sharedStore struct {
	mu       sync.Mutex
	token    string
	until    time.Time
	locked   bool
	broken   error
	lockFail error
	saves    int
}

func (s *sharedStore) Load(context.Context, string) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token, s.until, s.broken
}

func (s *sharedStore) Save(_ context.Context, _, token string, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.until = token, until
	s.saves++
	return s.broken
}

func (s *sharedStore) Lock(context.Context, string, time.Duration) (bool, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lockFail != nil || s.locked {
		return false, nil, s.lockFail
	}
	s.locked = true
	return true, func() { s.mu.Lock(); defer s.mu.Unlock(); s.locked = false }, nil
}

func TestAccessToken_sharedByProcesses(t *testing.T) {
	p, shared := &platform{delay: 30 * time.Millisecond}, &sharedStore{}
	var nodes []*Client
	for range 4 {
		nodes = append(nodes, newTestClient(t, p.ServeHTTP, func(o *Options) { o.Tokens = shared }))
	}
	all := func() {
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
	}
	all()
	if fetches, _ := p.count(); fetches != 1 {
		t.Errorf("%d fetches", fetches)
	}
	p.invalidate()
	all()
	if fetches, _ := p.count(); fetches != 2 {
		t.Errorf("%d fetches after a refusal on four nodes", fetches)
	}
	if shared.locked || shared.saves != 2 {
		t.Errorf("locked %t, %d saves", shared.locked, shared.saves)
	}
}

func TestAccessToken_storeInTrouble(t *testing.T) {
	away := errors.New("database away")
	for name, shared := range map[string]*sharedStore{
		"away":                  {broken: away, lockFail: away},
		"cannot be read":        {broken: away},
		"the other one is dead": {locked: true},
		"holds an old token":    {token: "old", until: time.Now().Add(-time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &platform{}
			c := newTestClient(t, p.ServeHTTP, func(o *Options) { o.Tokens = shared })
			c.timeout = time.Second
			if tok, err := c.AccessToken(t.Context()); err != nil || tok != "canary-token-1" {
				t.Error(err)
			}
		})
	}
}

func TestSendCustom_bodies(t *testing.T) {
	p := &platform{}
	c := newTestClient(t, p.ServeHTTP)
	for _, v := range []struct {
		m    CustomMessage
		want string
	}{
		{hello, `{"touser":"o1","msgtype":"text","text":{"content":"你好 <b>&</b>"}}`},
		{CustomMessage{Image: &CustomImage{"m1"}}, `{"touser":"o1","msgtype":"image","image":{"media_id":"m1"}}`},
		{CustomMessage{Link: &CustomLink{"t", "d", "https://a.example/?x=1&y=2", "https://a.example/i.png"}},
			`{"touser":"o1","msgtype":"link","link":{"title":"t","description":"d","url":"https://a.example/?x=1&y=2","thumb_url":"https://a.example/i.png"}}`},
		{CustomMessage{Card: &CustomCard{Title: "t", PagePath: "pages/index?a=1", ThumbMediaID: "m2"}},
			`{"touser":"o1","msgtype":"miniprogrampage","miniprogrampage":{"title":"t","pagepath":"pages/index?a=1","thumb_media_id":"m2"}}`},
	} {
		if err := c.SendCustom(t.Context(), "o1", v.m); err != nil {
			t.Error(err)
		}
		if got := p.bodies[len(p.bodies)-1]; got != v.want {
			t.Errorf("%s\nwant %s", got, v.want)
		}
	}
}

func TestSendCustom_refused(t *testing.T) {
	for name, v := range map[string]struct {
		answer http.HandlerFunc
		kind   error
	}{
		"window":      {say(200, `{"errcode":45015,"errmsg":"response out of time limit"}`), ErrWindow},
		"used up":     {say(200, `{"errcode":45047}`), ErrWindow},
		"openid":      {say(200, `{"errcode":40003,"errmsg":"invalid openid canary-openid"}`), ErrOpenID},
		"not allowed": {say(200, `{"errcode":48001}`), ErrConfig},
		"too long":    {say(200, `{"errcode":45002}`), ErrRequest},
		"day's quota": {say(200, `{"errcode":45009}`), ErrTooOften},
		"busy":        {say(200, `{"errcode":-1}`), ErrBusy},
		"503":         {say(503, `{}`), ErrBusy},
		"html":        {say(200, `<html>`), ErrNonsense},
	} {
		p := &platform{sendFail: v.answer}
		c := newTestClient(t, p.ServeHTTP)
		err := c.SendCustom(t.Context(), "canary-openid", hello)
		if !errors.Is(err, v.kind) {
			t.Errorf("%s: %v", name, err)
		}
		if _, sends := p.count(); sends != 1 {
			t.Errorf("%s: %d sends, a message must not be said twice", name, sends)
		}
		noSecrets(t, err, "canary-openid")
	}
}

func TestSendCustom_badMessages(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, m := range map[string]CustomMessage{
		"nothing":        {},
		"empty text":     {Text: &CustomText{}},
		"two parts":      {Text: &CustomText{"a"}, Image: &CustomImage{"b"}},
		"one part empty": {Text: &CustomText{"a"}, Image: &CustomImage{}},
		"no url":         {Link: &CustomLink{Title: "a"}},
		"no media":       {Image: &CustomImage{}},
		"no page":        {Card: &CustomCard{Title: "a"}},
	} {
		if err := c.SendCustom(t.Context(), "o1", m); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.SendCustom(t.Context(), "", hello); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
}
