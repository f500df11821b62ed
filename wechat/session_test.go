package wechat

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestCode2Session_success(t *testing.T) {
	for name, body := range map[string]string{
		"no errcode":         `{"openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA==","unionid":"u1"}`,
		"errcode 0":          `{"errcode":0,"errmsg":"ok","openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA==","unionid":"u1"}`,
		"errcode as text":    `{"errcode":"0","openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA==","unionid":"u1"}`,
		"unknown new fields": `{"openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA==","unionid":"u1","expires_in":7200,"x":{"y":[1]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				if r.Method != "GET" || r.URL.Path != "/sns/jscode2session" || q.Get("appid") != testAppID ||
					q.Get("secret") != testSecret || q.Get("js_code") != "code+/=1" || q.Get("grant_type") != "authorization_code" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				_, _ = io.WriteString(w, body)
			})
			s, err := c.Code2Session(t.Context(), "code+/=1")
			if err != nil || s != (Session{OpenID: "o1", UnionID: "u1", SessionKey: "AAAAAAAAAAAAAAAAAAAAAA=="}) {
				t.Error(s.OpenID, err)
			}
		})
	}
}

func TestCode2Session_refused(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   error
		calls  int32
	}{
		{"bad code", say(200, `{"errcode":40029,"errmsg":"invalid code, rid: 65f0-1a2b"}`), ErrCodeInvalid, 1},
		{"used code", say(200, `{"errcode":40163,"errmsg":"code been used"}`), ErrCodeInvalid, 1},
		{"risky user", say(200, `{"errcode":40226,"errmsg":"code blocked"}`), ErrUserBlocked, 1},
		{"minute limit", say(200, `{"errcode":45011,"errmsg":"api minute-quota"}`), ErrTooOften, 1},
		{"429", say(429, `slow down`), ErrTooOften, 1},
		{"busy twice", say(200, `{"errcode":-1,"errmsg":"system error"}`), ErrBusy, 2},
		{"appid", say(200, `{"errcode":40013,"errmsg":"invalid appid"}`), ErrConfig, 1},
		{"secret", say(200, `{"errcode":40125,"errmsg":"invalid appsecret"}`), ErrConfig, 1},
		{"secret missing", say(200, `{"errcode":41004}`), ErrConfig, 1},
		{"appid missing", say(200, `{"errcode":41002}`), ErrConfig, 1},
		{"secret frozen", say(200, `{"errcode":40243}`), ErrConfig, 1},
		{"secret wrong by its other number", say(200, `{"errcode":40001}`), ErrConfig, 1},
		{"address not on the list", say(200, `{"errcode":40164,"errmsg":"invalid ip"}`), ErrConfig, 1},
		{"admin must confirm", say(200, `{"errcode":89503}`), ErrConfig, 1},
		{"unknown code", say(200, `{"errcode":99999,"errmsg":"?"}`), ErrRequest, 1},
		{"errcode in a 500", say(500, `{"errcode":40029}`), ErrCodeInvalid, 1},
		{"500", say(500, `<html>oops</html>`), ErrBusy, 1},
		{"502", say(502, ``), ErrBusy, 1},
		{"html", say(200, `<!DOCTYPE html><html><body>Login to Wi-Fi</body></html>`), ErrNonsense, 1},
		{"empty", say(200, ``), ErrNonsense, 1},
		{"null", say(200, `null`), ErrNonsense, 1},
		{"list", say(200, `[1,2]`), ErrNonsense, 1},
		{"broken", say(200, `{"openid":"o1"`), ErrNonsense, 1},
		{"no openid", say(200, `{"session_key":"k"}`), ErrNonsense, 1},
		{"openid empty", say(200, `{"openid":"","session_key":"k"}`), ErrNonsense, 1},
		{"no session key", say(200, `{"openid":"o1"}`), ErrNonsense, 1},
		{"openid a number", say(200, `{"openid":1,"session_key":"k"}`), ErrNonsense, 1},
		{"errcode an object", say(200, `{"errcode":{},"openid":"o1","session_key":"k"}`), ErrNonsense, 1},
		{"404", say(404, `not here`), ErrNonsense, 1},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere?"+r.URL.RawQuery, http.StatusFound)
		}, ErrNonsense, 1},
		{"huge", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10))
		}, ErrNonsense, 1},
		{"cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"openid":`)
		}, ErrBusy, 1},
		{"hung up", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, ErrBusy, 1},
		{"slow to begin", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrBusy, 1},
		{"slow to end", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"openid":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, ErrBusy, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls atomic.Int32
			client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); c.answer(w, r) })
			if strings.HasPrefix(c.name, "slow") {
				client.timeout = 60 * time.Millisecond
			}
			s, err := client.Code2Session(t.Context(), "canary-login-code")
			var e *Error
			if !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Op != "code2session" || s != (Session{}) {
				t.Errorf("%v", err)
			}
			// net/http may repeat a GET whose connection died, and a short timeout may come before the call.
			if got := calls.Load(); got != c.calls && c.name != "hung up" && !strings.HasPrefix(c.name, "slow") {
				t.Errorf("%d calls", got)
			}
			noSecrets(t, err, "canary-login-code")
		})
	}
}

func TestCode2Session_details(t *testing.T) {
	c := newTestClient(t, say(200, `{"errcode":45011,"errmsg":"api minute-quota reach limit, rid: 65f0e1-2b"}`))
	_, err := c.Code2Session(t.Context(), "code")
	var e *Error
	if !errors.As(err, &e) || e.Code != 45011 || e.RequestID != "65f0e1-2b" || e.RetryAfter != time.Minute || e.Msg != "api minute-quota reach limit" {
		t.Errorf("%#v", e)
	}
	if want := "wechat: code2session: too often (errcode 45011, api minute-quota reach limit, request 65f0e1-2b)"; err.Error() != want {
		t.Errorf("%s", err)
	}
}

func TestCode2Session_nobodyListens(t *testing.T) {
	c, err := New(Options{AppID: testAppID, Secret: testSecret, APIURL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Code2Session(t.Context(), "canary-login-code")
	if !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	noSecrets(t, err, "canary-login-code")
}

func TestCode2Session_badCodes(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for _, code := range []string{"", strings.Repeat("x", maxCode+1)} {
		if _, err := c.Code2Session(t.Context(), code); !errors.Is(err, ErrCodeInvalid) {
			t.Error(err)
		}
	}
}

func TestCode2Session_busyOnce(t *testing.T) {
	var calls atomic.Int32
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			_, _ = io.WriteString(w, `{"errcode":-1}`)
			return
		}
		_, _ = io.WriteString(w, `{"openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA=="}`)
	})
	if s, err := c.Code2Session(t.Context(), "code"); err != nil || s.OpenID != "o1" {
		t.Error(err)
	}
}

// transport answers without a network, so that a test knows when everybody waits.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answered(body string) *http.Response {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// A code is good once: a double tap must not make the second tap fail, nor may the first phone's hanging
// up spoil it for the second.
func TestCode2Session_doubleTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		gate := make(chan struct{})
		c, err := New(Options{AppID: testAppID, Secret: testSecret, HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			if calls.Add(1) > 1 {
				return answered(`{"errcode":40163}`), nil
			}
			<-gate
			return answered(`{"openid":"o1","session_key":"AAAAAAAAAAAAAAAAAAAAAA=="}`), r.Context().Err()
		})}})
		if err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Code2Session(gone, "code"); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 20 {
			wg.Go(func() {
				if s, err := c.Code2Session(t.Context(), "code"); err != nil || s.OpenID != "o1" {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

// sealUserData is the phone's side of encryptedData.
func sealUserData(t testing.TB, key, iv []byte, plain string) (sessionKey, data, ivText string) {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	b := pad([]byte(plain), aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
	enc := base64.StdEncoding.EncodeToString
	return enc(key), enc(b), enc(iv)
}

var testKey, testIV = []byte("0123456789abcdef"), []byte("fedcba9876543210")

func TestDecryptUserData(t *testing.T) {
	const now = 1768444496
	c := clientAt(testAppID, now)
	mark := func(at int64, appID string) string {
		return fmt.Sprintf(`"watermark":{"timestamp":%d,"appid":%q}`, at, appID)
	}
	for _, v := range []struct {
		name, plain string
		want        error
	}{
		{"phone", `{"phoneNumber":"+8613800000000","purePhoneNumber":"13800000000","countryCode":"86","newField":[{"a":1}],` + mark(now, testAppID) + `}`, nil},
		{"timestamp as text", `{"watermark":{"timestamp":"1768444496","appid":"wx8888888888888888"}}`, nil},
		{"5 minutes old", `{` + mark(now-300, testAppID) + `}`, nil},
		{"older", `{` + mark(now-301, testAppID) + `}`, ErrWatermark},
		{"a minute ahead", `{` + mark(now+60, testAppID) + `}`, nil},
		{"further ahead", `{` + mark(now+61, testAppID) + `}`, ErrWatermark},
		{"another app", `{` + mark(now, "wx1") + `}`, ErrWatermark},
		{"no watermark", `{"openId":"o1"}`, ErrWatermark},
		{"watermark a text", `{"watermark":"wx"}`, ErrWatermark},
		{"two watermarks", `{` + mark(now, "wx1") + `,` + mark(now, testAppID) + `}`, ErrDecrypt},
		{"not JSON", `hello`, ErrDecrypt},
		{"a list", `[]`, ErrDecrypt},
		{"empty", ``, ErrDecrypt},
	} {
		t.Run(v.name, func(t *testing.T) {
			key, data, iv := sealUserData(t, testKey, testIV, v.plain)
			u, err := c.DecryptUserData(key, data, iv)
			if !errors.Is(err, v.want) || v.want != nil && u != (UserData{}) {
				t.Error(err)
			}
			if v.name == "phone" && (u.PhoneNumber != "+8613800000000" || u.PurePhoneNumber != "13800000000" || u.CountryCode != "86" || u.At.Unix() != now) {
				t.Error("phone not read")
			}
		})
	}
	v := encryptedVector(t)
	c = clientAt(v.AppID, v.Watermark)
	for name, in := range map[string][3]string{
		"key of another session": {"AAAAAAAAAAAAAAAAAAAAAA==", v.Encrypted, v.IV},
		"key too short":          {"AAAA", v.Encrypted, v.IV},
		"key not base64":         {"!", v.Encrypted, v.IV},
		"no key":                 {"", v.Encrypted, v.IV},
		"data cut":               {v.SessionKey, v.Encrypted[:len(v.Encrypted)-24], v.IV},
		"plus became space":      {v.SessionKey, strings.ReplaceAll(v.Encrypted, "+", " "), v.IV},
		"line ends":              {v.SessionKey, v.Encrypted[:40] + "\n" + v.Encrypted[40:], v.IV},
		"no data":                {v.SessionKey, "", v.IV},
		"huge":                   {v.SessionKey, strings.Repeat("A", maxEncrypted+4), v.IV},
		"iv too short":           {v.SessionKey, v.Encrypted, "AAAA"},
		"no iv":                  {v.SessionKey, v.Encrypted, ""},
		"iv with loose bits":     {v.SessionKey, v.Encrypted, "r7BXXKkLb8qrSNn05n0qiB=="},
	} {
		if _, err := c.DecryptUserData(in[0], in[1], in[2]); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNew_namesEachBadOption(t *testing.T) {
	_, err := New(Options{APIURL: "ftp://x?secret=1"})
	for _, name := range []string{"AppID", "Secret", "APIURL"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s not named: %v", name, err)
		}
	}
	c, err := New(Options{AppID: "a", Secret: "b"})
	if err != nil || c.base != "https://api.weixin.qq.com" {
		t.Error(err)
	}
}
