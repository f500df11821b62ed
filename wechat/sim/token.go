package sim

import (
	"net/http"
	"regexp"
	"time"
)

// tokens are the access tokens that one app got by stable_token or by token. Guarded by Sim.mu.
type tokens struct {
	current  *accessToken
	given    map[string]*accessToken
	line     []*accessToken // the same, oldest first
	forcedAt time.Time
	minute   window // all calls
	day      window
	forced   window // successful forced refreshes of the day
	Fetches  int64  // calls that were answered with a token
	Minted   int64  // tokens made
}

type accessToken struct {
	text    string
	until   time.Time
	revoked bool
}

const (
	tokenLife        = 7200 * time.Second
	tokenOverlap     = 5 * time.Minute
	tokensAMinute    = 10_000
	tokensADay       = 500_000
	classicADay      = 2000
	forcedADay       = 20
	forcedApart      = 30 * time.Second
	tokensRemembered = 100
)

var tokenShape = regexp.MustCompile(`^[0-9A-Za-z_-]{64,512}$`)

// stableToken is POST /cgi-bin/stable_token: the same token until five minutes before its end,
// then a new one while the old one stays good for five minutes more.
func (s *Sim) stableToken(w http.ResponseWriter, r *http.Request) outcome {
	if r.Method != http.MethodPost {
		return s.answerAPI(w, apiErr(43002, "require POST method"), nil)
	}
	body, err := readBody(r.Body, maxBody)
	if err != nil {
		return s.answerAPI(w, apiErr(47001, "data format error"), nil)
	}
	f, err := parseFields(body)
	if err != nil {
		return s.answerAPI(w, apiErr(47001, "data format error"), nil)
	}
	grant, appID, secret := f.text("grant_type", false, 64), f.text("appid", false, 64), f.text("secret", false, 128)
	force := f.truth("force_refresh")
	if f.fault() != nil {
		return s.answerAPI(w, apiErr(47001, "data format error"), nil)
	}
	if grant != "client_credential" {
		return s.answerAPI(w, apiErr(40002, "invalid grant_type"), nil)
	}
	from, e := s.checkApp(appID, secret)
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	text, left, e := s.fetchToken(from, force)
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	return s.answerAPI(w, nil, map[string]any{"access_token": text, "expires_in": int64(left / time.Second)})
}

// classicToken is GET /cgi-bin/token: every call makes a new token, which soon ends the one before.
// Its tokens and those of stable_token live side by side.
func (s *Sim) classicToken(w http.ResponseWriter, r *http.Request) outcome {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return s.answerAPI(w, apiErr(43001, "require GET method"), nil)
	}
	q := r.URL.Query()
	if q.Get("grant_type") != "client_credential" {
		return s.answerAPI(w, apiErr(40002, "invalid grant_type"), nil)
	}
	from, e := s.checkApp(q.Get("appid"), q.Get("secret"))
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &from.classic
	if !t.day.allow(now, 24*time.Hour, classicADay) {
		return s.answerAPI(w, apiErr(45009, "reach max api daily quota limit"), nil)
	}
	if old := t.current; old != nil && old.until.After(now.Add(tokenOverlap)) {
		old.until = now.Add(tokenOverlap)
	}
	t.mint(now)
	t.Fetches++
	return s.answerAPI(w, nil, map[string]any{"access_token": t.current.text, "expires_in": int64(tokenLife / time.Second)})
}

func (s *Sim) fetchToken(from *account, force bool) (text string, left time.Duration, e *apiError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &from.stable
	if !t.day.allow(now, 24*time.Hour, tokensADay) {
		return "", 0, apiErr(45009, "reach max api daily quota limit")
	}
	if !t.minute.allow(now, time.Minute, tokensAMinute) {
		return "", 0, apiErr(45011, "api minute-quota reach limit  mustslower  retry next minute")
	}
	if force && now.Sub(t.forcedAt) >= forcedApart { // closer calls do not refresh
		if !t.forced.allow(now, 24*time.Hour, forcedADay) {
			return "", 0, apiErr(45009, "reach max api daily quota limit")
		}
		t.forcedAt = now
		t.revoke()
	}
	if t.current == nil || t.current.until.Sub(now) <= tokenOverlap {
		if old := t.current; old != nil && old.until.After(now) {
			old.until = now.Add(tokenOverlap)
		}
		t.mint(now)
	}
	t.Fetches++
	return t.current.text, t.current.until.Sub(now), nil
}

func (t *tokens) mint(now time.Time) {
	t.current = &accessToken{text: "96_" + random(letters+"_-", 210), until: now.Add(tokenLife)}
	if t.given == nil {
		t.given = map[string]*accessToken{}
	}
	if len(t.line) >= tokensRemembered {
		delete(t.given, t.line[0].text)
		t.line = append(t.line[:0:0], t.line[1:]...)
	}
	t.given[t.current.text] = t.current
	t.line = append(t.line, t.current)
	t.Minted++
}

// revoke kills the current token and the one before it at once.
func (t *tokens) revoke() {
	for _, old := range t.line {
		old.revoked = true
	}
	t.current = nil
}

// expire ends the current token as if its time had come.
func (t *tokens) expire(now time.Time) {
	for _, old := range t.line {
		old.until = now.Add(-time.Second)
	}
	t.current = nil
}

// checkToken judges the access_token of a request and tells whose it is.
func (s *Sim) checkToken(text string) (*account, *apiError) {
	if text == "" {
		return nil, apiErr(41001, "access_token missing")
	}
	if !tokenShape.MatchString(text) {
		return nil, apiErr(40014, "invalid access_token")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, from := range s.accountsOf() {
		for _, of := range []*tokens{&from.stable, &from.classic} {
			t := of.given[text]
			switch {
			case t == nil || t.revoked:
			case !t.until.After(now):
				return nil, apiErr(42001, "access_token expired")
			default:
				return from, nil
			}
		}
	}
	return nil, apiErr(40001, "invalid credential, access_token is invalid or not latest")
}

// apiCall is a call whose token is good.
type apiCall struct {
	from *account
	r    *http.Request
	body []byte
}

// withToken wraps a call that needs an access_token; of an app that may do it, when only is not nil.
// An answer of bytes is a picture.
func (s *Sim) withToken(method string, only *account, h func(apiCall) (any, *apiError)) http.Handler {
	return s.withTokenAndFile(method, only, maxBody, h)
}

// withTokenAndFile is withToken for bodies of at most limit bytes.
func (s *Sim) withTokenAndFile(method string, only *account, limit int64, h func(apiCall) (any, *apiError)) http.Handler {
	return s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		c := apiCall{r: r}
		v, e := func() (any, *apiError) {
			if r.Method != method {
				return nil, map[string]*apiError{"GET": apiErr(43001, "require GET method"), "POST": apiErr(43002, "require POST method")}[method]
			}
			var e *apiError
			if c.from, e = s.checkToken(r.URL.Query().Get("access_token")); e != nil {
				return nil, e
			}
			if only != nil && c.from != only {
				return nil, apiErr(48001, "api unauthorized")
			}
			var err error
			if c.body, err = readBody(r.Body, limit); err != nil {
				return nil, errFormat
			}
			return h(c)
		}()
		if picture, ok := v.([]byte); ok && e == nil {
			w.Header().Set("Content-Type", http.DetectContentType(picture))
			_, _ = w.Write(picture)
			return outcome{}
		}
		return s.answerAPI(w, e, v)
	})
}

var errFormat = apiErr(47001, "data format error")
