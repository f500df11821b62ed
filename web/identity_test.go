package web_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/web"
	"wxhub/wechat"
)

const (
	fixedSessionKey = "Y2FuYXJ5LW9mLWEta2V5IQ==" // 16 bytes
	fixedOpenID     = "oCanaryOpenId_0123456789abcd"
	fixedUnionID    = "uCanaryUnionId_123456789abcd"
)

// fixedWeChat answers jscode2session over HTTP as it is told to; the simulator's own answers are random.
func fixedWeChat(t *testing.T, answer http.HandlerFunc) func(*web.Options) {
	back := httptest.NewServer(answer)
	t.Cleanup(back.Close)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 500 * time.Millisecond}
	t.Cleanup(client.CloseIdleConnections)
	c, err := wechat.New(wechat.Options{AppID: credentials().AppID, Secret: "canary-app-secret-of-a-shop", APIURL: back.URL, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *web.Options) { o.WeChat = c }
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, body)
	}
}

var fixedSession = says(`{"openid":"` + fixedOpenID + `","unionid":"` + fixedUnionID + `","session_key":"` + fixedSessionKey + `"}`)

func sign(rawData string) string {
	sum := sha1.Sum([]byte(rawData + fixedSessionKey))
	return hex.EncodeToString(sum[:])
}

// sealed is the phone's side of encryptedData: AES-128-CBC with PKCS#7.
func sealed(t *testing.T, plain string) (data, iv string) {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(fixedSessionKey)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := []byte(plain + strings.Repeat(string(rune(pad)), pad))
	v := make([]byte, aes.BlockSize)
	if _, err := rand.Read(v); err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, v).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text), base64.StdEncoding.EncodeToString(v)
}

// The signature is over the bytes of rawData as the phone had them, however JSON carried them here.
func TestLogin_signedBytes(t *testing.T) {
	s := newShop(t, fixedWeChat(t, fixedSession))
	const raw = `{"nickName":"张三 <\"小雨\"> & 🍎","gender":1, "city":"广州","avatarUrl":"https://wx.qlogo.cn/a/0"}`
	literal, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	var escaped strings.Builder
	for _, r := range string(literal) {
		if r > 127 && r < 0x10000 {
			fmt.Fprintf(&escaped, `\u%04x`, r)
		} else {
			escaped.WriteRune(r)
		}
	}
	for name, rawData := range map[string]string{"as it is": string(literal), "escaped": escaped.String()} {
		var l login
		s.ask("POST", "/api/login", "", `{"code":"c","rawData":`+rawData+`,"signature":"`+sign(raw)+`"}`).into(t, &l)
		if l.User.Nickname != `张三 <"小雨"> & 🍎` || l.User.Avatar != "https://wx.qlogo.cn/a/0" {
			t.Errorf("%s: %+v", name, l.User)
		}
	}
	for name, in := range map[string][2]string{
		"one space less":       {strings.Replace(raw, ", ", ",", 1), sign(raw)},
		"a space behind":       {raw + " ", sign(raw)},
		"other normal form":    {strings.Replace(raw, "广", "⼴", 1), sign(raw)},
		"signed without a key": {raw, hex.EncodeToString(func() []byte { h := sha1.Sum([]byte(raw)); return h[:] }())},
		"no hex":               {raw, strings.Repeat("张", 20)},
		"half":                 {raw, sign(raw)[:20]},
	} {
		a := s.ask("POST", "/api/login", "", map[string]any{"code": "c", "rawData": in[0], "signature": in[1]})
		if a.Status != 400 || a.word() != "bad_signature" {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
	const list = `["no","object"]`
	if a := s.ask("POST", "/api/login", "", map[string]any{"code": "c", "rawData": list, "signature": sign(list)}); a.Status != 400 {
		t.Errorf("signed, but no object: %d %s", a.Status, a.Text)
	}
}

func TestLogin_sealedData(t *testing.T) {
	s := newShop(t, fixedWeChat(t, fixedSession))
	data := func(openid, appid string, age time.Duration) string {
		return fmt.Sprintf(`{"openId":%q,"unionId":%q,"nickName":"张三","avatarUrl":"javascript:alert(1)","watermark":{"timestamp":%d,"appid":%q}}`,
			openid, fixedUnionID, time.Now().Add(-age).Unix(), appid)
	}
	own := credentials().AppID
	try := func(plain string) answer {
		d, iv := sealed(t, plain)
		return s.ask("POST", "/api/login", "", map[string]any{"code": "c", "encryptedData": d, "iv": iv})
	}
	var l login
	try(data(fixedOpenID, own, 0)).into(t, &l)
	if l.User.Nickname != "张三" || l.User.Avatar != "" {
		t.Errorf("%+v", l.User)
	}
	for name, plain := range map[string]string{
		"another app's":    data(fixedOpenID, "wx0000000000000000", 0),
		"another person's": data("oSomebodyElse", own, 0),
		"old":              data(fixedOpenID, own, time.Hour),
		"of the future":    data(fixedOpenID, own, -time.Hour),
		"no watermark":     `{"openId":"` + fixedOpenID + `"}`,
		"no JSON":          "nickName=张三",
		"empty":            "",
	} {
		if a := try(plain); a.Status != 400 || a.word() != "bad_data" {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
}

// What only WeChat and we may know is in no answer and in no log.
func TestLogin_secretsStay(t *testing.T) {
	s := newShop(t, fixedWeChat(t, fixedSession))
	var said strings.Builder
	a := s.ask("POST", "/api/login", "", map[string]any{"code": "canary-code"})
	said.WriteString(a.Text)
	var l login
	a.into(t, &l)
	d, iv := sealed(t, "nonsense")
	for _, a := range []answer{
		s.ask("POST", "/api/login", "", map[string]any{"code": "canary-code", "rawData": "{}", "signature": "canary-signature"}),
		s.ask("POST", "/api/login", "", map[string]any{"code": "canary-code", "encryptedData": d, "iv": iv}),
		s.ask("GET", "/api/me", l.Token, nil), s.ask("GET", "/api/orders", l.Token, nil),
		s.ask("POST", "/api/pay", l.Token, map[string]any{"productId": "tea", "quantity": 1}),
		s.ask("GET", "/api/admin/orders", "key", nil), s.ask("GET", "/api/admin/stats", "key", nil),
		s.ask("POST", "/api/login/refresh", l.Token, nil), s.ask("GET", "/metrics", "", nil), s.ask("GET", "/debug/pprof/goroutine?debug=2", "key", nil),
	} {
		said.WriteString(a.Text)
	}
	for _, secret := range []string{fixedSessionKey, fixedOpenID, fixedUnionID, "canary-app-secret", "canary-code", "canary-signature"} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("%s is in an answer", secret)
		}
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	if strings.Contains(s.log.String(), l.Token) {
		t.Error("a token is in the log")
	}
	if key, err := s.db.SessionKey(t.Context(), l.User.ID); err != nil || key != fixedSessionKey {
		t.Errorf("the session key that was kept: %q %v", key, err)
	}
}

// An answer that makes no sense makes no user, and one that does not come is told in time.
func TestLogin_weChatNonsense(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"empty": says(""), "empty object": says("{}"), "no openid": says(`{"session_key":"` + fixedSessionKey + `"}`), "no key": says(`{"openid":"o"}`),
		"a list": says("[]"), "HTML": says("<html>"), "half": says(`{"openid":"` + fixedOpenID), "wrong types": says(`{"openid":7,"session_key":[]}`),
		"huge": says(`{"openid":"` + strings.Repeat("o", 4<<20) + `"}`),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
	} {
		s := newShop(t, fixedWeChat(t, answer))
		a := s.ask("POST", "/api/login", "", map[string]any{"code": "c"})
		a.wellFormed(t, name)
		if a.Status != 502 || a.word() != "wechat_nonsense" {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
	s := newShop(t, fixedWeChat(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	start := time.Now()
	a := s.ask("POST", "/api/login", "", map[string]any{"code": "c"})
	if a.Status != 503 || a.word() != "wechat_busy" || a.Header.Get("Retry-After") == "" || time.Since(start) > 5*time.Second {
		t.Errorf("a WeChat that is silent: %d %s after %v", a.Status, a.Text, time.Since(start))
	}
}

// A double tap is one person, whether the second one is answered or refused.
func TestLogin_sameCodeAtOnce(t *testing.T) {
	s := newShop(t)
	code := s.phone("alice").Code
	var mu sync.Mutex
	users, good := map[string]bool{}, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a := s.ask("POST", "/api/login", "", map[string]any{"code": code})
			mu.Lock()
			defer mu.Unlock()
			if a.Status == 200 {
				var l login
				a.into(t, &l)
				users[l.User.ID] = true
				good++
			} else if a.Status != 401 || a.word() != "invalid_code" {
				t.Errorf("%d %s", a.Status, a.Text)
			}
		})
	}
	wg.Wait()
	if len(users) != 1 || good == 0 {
		t.Errorf("%d logins of %d persons", good, len(users))
	}
	if a := s.ask("POST", "/api/login", "", map[string]any{"code": code}); a.Status != 401 {
		t.Errorf("later: %d %s", a.Status, a.Text)
	}
}

// A refresh kills the token and keeps the sockets, here and on another node; a logout ends them everywhere.
func TestLogin_refreshKeepsSockets(t *testing.T) {
	s := newShop(t)
	s.run()
	other := newShop(t, func(o *web.Options) {
		tokens, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, s.db)
		if err != nil {
			t.Fatal(err)
		}
		o.Store, o.Tokens = s.db, tokens
	})
	other.run()
	token := s.token("alice", "user")
	here, there := s.dial("/ws?token="+token), other.dial("/ws?token="+token)
	here.welcome()
	there.welcome()
	var fresh struct{ Token string }
	s.ask("POST", "/api/login/refresh", token, nil).into(t, &fresh)
	for start := time.Now(); other.ask("GET", "/api/me", token, nil).Status != 401; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Second {
			t.Fatal("the old token is good on the other node after a second")
		}
	}
	for name, c := range map[string]*socket{"here": here, "there": there} {
		if f := c.ask(`{"id":1,"action":"ping"}`); !strings.Contains(f, `"ok":true`) {
			t.Errorf("%s: %s", name, f)
		}
	}
	if f := here.ask(`{"id":2,"action":"refresh","token":"` + fresh.Token + `"}`); !strings.Contains(f, `"ok":true`) {
		t.Fatalf("refresh: %s", f)
	}
	if a := other.ask("POST", "/api/logout", fresh.Token, nil); a.Status != 200 {
		t.Fatal(a.Text)
	}
	for name, c := range map[string]*socket{"refreshed": here, "never refreshed": there} {
		if code := c.closed(); code != 4501 {
			t.Errorf("%s: closed with %d", name, code)
		}
	}
	var again struct{ Token string }
	if a := s.ask("POST", "/api/login/refresh", fresh.Token, nil); a.Status != 401 {
		a.into(t, &again)
		t.Errorf("a token of an ended session was exchanged: %d", a.Status)
	}
}
