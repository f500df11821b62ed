package sim

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// user is one person. Guarded by Sim.mu.
type user struct {
	name       string // as the control side calls this person; empty until the first login after a restart
	openid     string
	nickname   string
	avatar     string // empty: drawn
	sessionKey string // base64 of 16 bytes
	keyAt      time.Time
	calls      window // jscode2session of this minute

	sessionCalls window // checksession and resetusersessionkey of this minute

	seenAt time.Time // in the mini-program

	phone   string         // empty: derived
	granted map[string]int // subscribe messages that the shop may send, by template

	unionid     string    // empty without an official account
	mpOpenid    string    // of the official account
	followedAt  time.Time // zero: does not follow
	followScene string    // of the QR code that was scanned, if any

	mini, mp *talk
}

func (u *user) openidIn(of *account) string {
	if of.mini {
		return u.openid
	}
	return u.mpOpenid
}

func (u *user) talk(mini bool) *talk {
	if mini {
		return u.mini
	}
	return u.mp
}

// loginCode is one js_code, bound to the session_key of its wx.login, or the code of a phone-number button.
type loginCode struct {
	code       string
	phone      bool
	openid     string
	sessionKey string
	madeAt     time.Time
	used       bool
}

const (
	codeLife      = 5 * time.Minute
	sessionKeyAge = 5 * time.Minute // a younger session_key is not changed by wx.login
	loginsAMinute = 100             // jscode2session of one user

	sessionCallSpan     = time.Minute
	sessionCallsAMinute = 100
	paidUnionidLife     = 5 * time.Minute // after the payment
)

var nicknames = []string{
	"小雨", "阿杰", "韩梅梅", "李雷", "山茶花", "南风知我意", "橘子汽水", "老周", "月亮邮递员", "豆豆",
	"青柠", "北街的猫", "小满", "木子", "云朵便利店", "阿宁", "海盐", "糖炒栗子", "路过的风", "星野",
}

// openidOf is the openid that the mini-program has for a person.
func (s *Sim) openidOf(name string) string { return s.mini.openidOf(name) }

// byOpenid returns the person behind an openid of the mini-program, nil if there is none. Needs s.mu.
func (s *Sim) byOpenid(openid string) *user {
	if u := s.users[openid]; u != nil {
		return u
	}
	if !s.mini.gave(openid) {
		return nil
	}
	u, err := s.addUser(openid)
	if err != nil {
		return nil
	}
	return u
}

// receiver returns the person behind an openid of an app, nil for none. Needs s.mu.
func (s *Sim) receiver(of *account, openid string) *user {
	if of.mini {
		return s.byOpenid(openid)
	}
	return s.fans[openid]
}

// byName returns the person of that name, made when new, who uses the phone right now. Needs s.mu.
func (s *Sim) byName(name string) (*user, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > 64 || !utf8.ValidString(name) {
		return nil, &controlError{400, "bad_user", "user is a name of 1 to 64 characters"}
	}
	openid := s.openidOf(name)
	u := s.users[openid]
	if u == nil {
		var err error
		if u, err = s.addUser(openid); err != nil {
			return nil, err
		}
	}
	u.name, u.seenAt = name, s.opts.Now()
	return u, nil
}

func (s *Sim) addUser(openid string) (*user, error) {
	if len(s.users) >= maxUsers {
		return nil, &controlError{429, "too_many_users", fmt.Sprintf("the simulator holds %d people; restart it", maxUsers)}
	}
	u := &user{openid: openid, nickname: nicknames[number(openid)%uint32(len(nicknames))], mini: newTalk(), mp: newTalk()}
	if s.mp != nil {
		u.unionid, u.mpOpenid = "o"+s.mini.stamp("unionid\n" + openid)[:27], s.mp.openidOf(openid)
		s.fans[u.mpOpenid] = u
	}
	s.users[openid] = u
	s.names = append(s.names, u)
	return u, nil
}

func number(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// loginRequest is what a phone asks for.
type loginRequest struct {
	User     string `json:"user"`
	Nickname string `json:"nickname"`
	Avatar   string `json:"avatar"`
	Rotate   bool   `json:"rotate"` // change the session_key now, whatever its age
}

// loginAnswer is what wx.login and wx.getUserProfile give to the phone.
type loginAnswer struct {
	Code          string `json:"code"`
	Openid        string `json:"openid"`             // for tests; a real phone never learns it
	Unionid       string `json:"unionid,omitempty"`  // the same
	MPOpenid      string `json:"mpOpenid,omitempty"` // the same, of the official account
	RawData       string `json:"rawData"`
	Signature     string `json:"signature"`
	EncryptedData string `json:"encryptedData"`
	IV            string `json:"iv"`
}

// login plays wx.login and wx.getUserProfile on a person's phone.
func (s *Sim) login(r *http.Request) (any, error) {
	var req loginRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(req.Nickname) > 32 {
		return nil, badRequest("nickname has at most 32 characters")
	}
	if u, err := url.Parse(req.Avatar); len(req.Avatar) > 1024 || err != nil || (req.Avatar != "" && u.Scheme != "http" && u.Scheme != "https") {
		return nil, badRequest("avatar is an http or https address of at most 1024 bytes")
	}
	now := s.opts.Now()

	s.mu.Lock()
	u, err := s.byName(req.User)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if req.Nickname != "" {
		u.nickname = req.Nickname
	}
	if req.Avatar != "" {
		u.avatar = req.Avatar
	}
	if u.sessionKey == "" || req.Rotate || now.Sub(u.keyAt) > sessionKeyAge {
		u.sessionKey, u.keyAt = base64Random(16), now
	}
	code := &loginCode{code: "0" + random(letters, 31), openid: u.openid, sessionKey: u.sessionKey, madeAt: now}
	s.addCode(code)
	nickname, picture := u.nickname, u.avatar
	unionid, mpOpenid := u.unionid, u.mpOpenid
	s.mu.Unlock()

	if picture == "" {
		first, _ := utf8.DecodeRuneInString(nickname)
		picture = fmt.Sprintf("http://%s/sim/avatar/%d/%s.svg", r.Host, number(code.openid)%360, url.PathEscape(string(first)))
	}
	raw := rawData{Nickname: nickname, Language: "zh_CN", City: "Guangzhou", Province: "Guangdong", Country: "CN", AvatarURL: picture}
	rawText := toJSON(raw)
	full := userInfo{Openid: code.openid, Unionid: unionid, rawData: raw, Watermark: watermark{Timestamp: now.Unix(), AppID: s.opts.AppID}}
	iv := base64Random(16)
	sealed, err := sealUserData(code.sessionKey, iv, toJSON(full))
	if err != nil {
		return nil, fmt.Errorf("login of %s: %w", req.User, err)
	}
	return loginAnswer{
		Code: code.code, Openid: code.openid, Unionid: unionid, MPOpenid: mpOpenid,
		RawData: string(rawText), Signature: loginSignature(string(rawText), code.sessionKey),
		EncryptedData: sealed, IV: iv,
	}, nil
}

type rawData struct {
	Nickname  string `json:"nickName"`
	Gender    int    `json:"gender"`
	Language  string `json:"language"`
	City      string `json:"city"`
	Province  string `json:"province"`
	Country   string `json:"country"`
	AvatarURL string `json:"avatarUrl"`
}

type userInfo struct {
	Openid string `json:"openId"`
	rawData
	Unionid   string    `json:"unionId,omitempty"`
	Watermark watermark `json:"watermark"`
}

type watermark struct {
	Timestamp int64  `json:"timestamp"`
	AppID     string `json:"appid"`
}

func base64Random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// addCode keeps a code, used or not, until nobody can mistake it for an unknown one. Needs s.mu.
func (s *Sim) addCode(c *loginCode) {
	drop := 0
	for drop < len(s.codeLine) && (len(s.codeLine)-drop >= maxCodes || c.madeAt.Sub(s.codeLine[drop].madeAt) > 2*codeLife) {
		delete(s.codes, s.codeLine[drop].code)
		drop++
	}
	if drop > 0 {
		s.codeLine = append(s.codeLine[:0:0], s.codeLine[drop:]...)
	}
	s.codes[c.code] = c
	s.codeLine = append(s.codeLine, c)
}

// jscode2session answers as the platform: on success without errcode, and as text.
func (s *Sim) jscode2session(w http.ResponseWriter, r *http.Request) outcome {
	w.Header().Set("Content-Type", "text/plain")
	if r.Method != http.MethodGet {
		return s.answerAPI(w, apiErr(43001, "require GET method"), nil)
	}
	q := r.URL.Query()
	from, e := s.checkApp(q.Get("appid"), q.Get("secret"))
	if e == nil && !from.mini {
		e = apiErr(48001, "api unauthorized")
	}
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	if q.Get("grant_type") != "authorization_code" {
		return s.answerAPI(w, apiErr(40002, "invalid grant_type"), nil)
	}
	if q.Get("js_code") == "" {
		return s.answerAPI(w, apiErr(41008, "missing code"), nil)
	}
	session, e := s.useCode(q.Get("js_code"))
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	return s.answerAPI(w, nil, session)
}

// checkApp compares appid and AppSecret and tells whose they are.
func (s *Sim) checkApp(appID, secret string) (*account, *apiError) {
	of := s.app(appID)
	switch {
	case appID == "":
		return nil, apiErr(41002, "appid missing")
	case of == nil:
		return nil, apiErr(40013, "invalid appid")
	case secret == "":
		return nil, apiErr(41004, "appsecret missing")
	case !same(secret, of.secret):
		return nil, apiErr(40125, "invalid appsecret")
	}
	return of, nil
}

// session is what a code is worth.
type session struct {
	SessionKey string `json:"session_key"`
	Openid     string `json:"openid"`
	Unionid    string `json:"unionid,omitempty"`
}

// useCode spends a code of wx.login.
func (s *Sim) useCode(code string) (session, *apiError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c, e := s.freshCode(code, false, now)
	if e != nil {
		return session{}, e
	}
	u := s.byOpenid(c.openid)
	if u != nil && !u.calls.allow(now, time.Minute, loginsAMinute) {
		return session{}, apiErr(45011, "api minute-quota reach limit  mustslower  retry next minute")
	}
	c.used = true
	got := session{SessionKey: c.sessionKey, Openid: c.openid}
	if u != nil {
		u.seenAt = now
		got.Unionid = u.unionid
	}
	return got, nil
}

// freshCode finds a code of the asked kind that can still be spent. Needs s.mu.
func (s *Sim) freshCode(code string, phone bool, now time.Time) (*loginCode, *apiError) {
	c := s.codes[code]
	switch {
	case c == nil || c.phone != phone:
		return nil, apiErr(40029, "invalid code")
	case c.used:
		return nil, apiErr(40163, "code been used")
	case now.Sub(c.madeAt) > codeLife:
		return nil, apiErr(40029, "invalid code")
	}
	return c, nil
}

// window counts calls of a fixed span of time. The zero value is ready. Guarded by Sim.mu.
type window struct {
	from  time.Time
	count int
}

func (w *window) allow(now time.Time, span time.Duration, limit int) bool {
	if now.Sub(w.from) >= span {
		w.from, w.count = now, 0
	}
	if w.count >= limit {
		return false
	}
	w.count++
	return true
}

// avatar draws one character on a coloured ground.
func avatar(w http.ResponseWriter, r *http.Request) {
	hue, err := strconv.Atoi(r.PathValue("hue"))
	name, isSVG := strings.CutSuffix(r.PathValue("name"), ".svg")
	if err != nil || hue < 0 || hue >= 360 || !isSVG || utf8.RuneCountInString(name) != 1 || !utf8.ValidString(name) {
		http.NotFound(w, r)
		return
	}
	if strings.ContainsAny(name, `<>&"'`) || name < " " {
		name = "?"
	}
	allowAnyOrigin(w)
	w.Header().Set("Content-Type", "image/svg+xml; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="132" height="132" viewBox="0 0 132 132">`+
		`<rect width="132" height="132" fill="hsl(%d 55%% 55%%)"/>`+
		`<text x="66" y="88" font-size="64" text-anchor="middle" fill="#fff" font-family="PingFang SC,Noto Sans SC,sans-serif">%s</text></svg>`, hue, name)
}
