package sim

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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

	repliesLeft int       // custom messages that the shop may still send
	replyUntil  time.Time // and until when
	spokeAt     time.Time

	chat []ChatMessage
	seq  int64
	more chan struct{} // closed and replaced with every new message
}

// loginCode is one js_code, bound to the session_key of its wx.login.
type loginCode struct {
	code       string
	openid     string
	sessionKey string
	madeAt     time.Time
	used       bool
}

const (
	codeLife      = 5 * time.Minute
	sessionKeyAge = 5 * time.Minute // a younger session_key is not changed by wx.login
	loginsAMinute = 100             // jscode2session of one user
)

var nicknames = []string{
	"小雨", "阿杰", "韩梅梅", "李雷", "山茶花", "南风知我意", "橘子汽水", "老周", "月亮邮递员", "豆豆",
	"青柠", "北街的猫", "小满", "木子", "云朵便利店", "阿宁", "海盐", "糖炒栗子", "路过的风", "星野",
}

// openidOf derives the openid of a person from the name, so that it survives a restart. Its last
// six characters vouch for the rest: known openids need no list.
func (s *Sim) openidOf(name string) string {
	app := sha256.Sum256([]byte(s.opts.AppID))
	id := base64.RawURLEncoding.EncodeToString(app[:])[:5] + s.stamp("name\n" + name)[:16]
	return "o" + id + s.stamp("openid\n" + id)[:6]
}

func (s *Sim) stamp(text string) string {
	mac := hmac.New(sha256.New, []byte(s.opts.AppID+s.opts.Secret))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// byOpenid returns the person behind an openid of this app, nil if there is none. Needs s.mu.
func (s *Sim) byOpenid(openid string) *user {
	if u := s.users[openid]; u != nil {
		return u
	}
	if len(openid) != 28 || openid[0] != 'o' || !same(s.stamp("openid\n" + openid[1:22])[:6], openid[22:]) {
		return nil
	}
	u, err := s.addUser(openid)
	if err != nil {
		return nil
	}
	return u
}

// byName returns the person of that name, made when new. Needs s.mu.
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
	u.name = name
	return u, nil
}

func (s *Sim) addUser(openid string) (*user, error) {
	if len(s.users) >= maxUsers {
		return nil, &controlError{429, "too_many_users", fmt.Sprintf("the simulator holds %d people; restart it", maxUsers)}
	}
	u := &user{openid: openid, nickname: nicknames[number(openid)%uint32(len(nicknames))], more: make(chan struct{})}
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
	Openid        string `json:"openid"` // for tests; a real phone never learns it
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
	s.mu.Unlock()

	if picture == "" {
		first, _ := utf8.DecodeRuneInString(nickname)
		picture = fmt.Sprintf("http://%s/sim/avatar/%d/%s.svg", r.Host, number(code.openid)%360, url.PathEscape(string(first)))
	}
	raw := rawData{Nickname: nickname, Language: "zh_CN", City: "Guangzhou", Province: "Guangdong", Country: "CN", AvatarURL: picture}
	rawText := toJSON(raw)
	full := userInfo{Openid: code.openid, rawData: raw, Watermark: watermark{Timestamp: now.Unix(), AppID: s.opts.AppID}}
	iv := base64Random(16)
	sealed, err := sealUserData(code.sessionKey, iv, toJSON(full))
	if err != nil {
		return nil, fmt.Errorf("login of %s: %w", req.User, err)
	}
	return loginAnswer{
		Code: code.code, Openid: code.openid,
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
	if e := s.checkApp(q.Get("appid"), q.Get("secret")); e != nil {
		return s.answerAPI(w, e, nil)
	}
	if q.Get("grant_type") != "authorization_code" {
		return s.answerAPI(w, apiErr(40002, "invalid grant_type"), nil)
	}
	if q.Get("js_code") == "" {
		return s.answerAPI(w, apiErr(41008, "missing code"), nil)
	}
	openid, key, e := s.useCode(q.Get("js_code"))
	if e != nil {
		return s.answerAPI(w, e, nil)
	}
	return s.answerAPI(w, nil, map[string]string{"session_key": key, "openid": openid})
}

// checkApp compares appid and AppSecret.
func (s *Sim) checkApp(appID, secret string) *apiError {
	switch {
	case appID == "":
		return apiErr(41002, "appid missing")
	case appID != s.opts.AppID:
		return apiErr(40013, "invalid appid")
	case secret == "":
		return apiErr(41004, "appsecret missing")
	case !same(secret, s.opts.Secret):
		return apiErr(40125, "invalid appsecret")
	}
	return nil
}

// useCode spends a code.
func (s *Sim) useCode(code string) (openid, sessionKey string, e *apiError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.codes[code]
	switch {
	case c == nil:
		return "", "", apiErr(40029, "invalid code")
	case c.used:
		return "", "", apiErr(40163, "code been used")
	case now.Sub(c.madeAt) > codeLife:
		return "", "", apiErr(40029, "invalid code")
	}
	if u := s.users[c.openid]; u != nil && !u.calls.allow(now, time.Minute, loginsAMinute) {
		return "", "", apiErr(45011, "api minute-quota reach limit  mustslower  retry next minute")
	}
	c.used = true
	return c.openid, c.sessionKey, nil
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
