package sim

import (
	"net/http"
	"regexp"
	"time"
)

// tokens are the access tokens that stable_token gave out. Guarded by Sim.mu.
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
	if e := s.checkApp(appID, secret); e != nil {
		return s.answerAPI(w, e, nil)
	}
	text, left, e := s.fetchToken(force)
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	return s.answerAPI(w, nil, map[string]any{"access_token": text, "expires_in": int64(left / time.Second)})
}

func (s *Sim) fetchToken(force bool) (text string, left time.Duration, e *apiError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.token
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

// checkToken judges the access_token of a request.
func (s *Sim) checkToken(text string) *apiError {
	if text == "" {
		return apiErr(41001, "access_token missing")
	}
	if !tokenShape.MatchString(text) {
		return apiErr(40014, "invalid access_token")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.token.given[text]
	switch {
	case t == nil || t.revoked:
		return apiErr(40001, "invalid credential, access_token is invalid or not latest")
	case !t.until.After(now):
		return apiErr(42001, "access_token expired")
	}
	return nil
}
