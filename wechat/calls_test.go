package wechat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// withToken gives tokens and leaves the rest to h, with the request's body read.
func withToken(h func(w http.ResponseWriter, r *http.Request, body string)) http.HandlerFunc {
	var tokens atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/stable_token" {
			fmt.Fprintf(w, `{"access_token":"canary-token-%d","expires_in":7200}`, tokens.Add(1))
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body)) // to be read again
		h(w, r, string(body))
	}
}

const callsNow = 1768444496

// A call is one API that wants a token.
type call struct {
	op, method, path string
	query            string // beside the token
	body             string // that we send
	good             string // an answer of success
	call             func(ctx context.Context, c *Client) (string, error)
	want             string // that the call makes of good
	own              map[int]error
}

var calls = []call{
	{
		op: "getuserphonenumber", method: "POST", path: "/wxa/business/getuserphonenumber",
		body: `{"code":"canary-code"}`,
		good: `{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"+8613800000000","purePhoneNumber":"13800000000","countryCode":86,"watermark":{"timestamp":1768444480,"appid":"wx8888888888888888"}}}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			u, err := c.PhoneNumber(ctx, "canary-code")
			return strings.Trim(u.PhoneNumber+" "+u.PurePhoneNumber+" "+u.CountryCode, " "), err
		},
		want: "+8613800000000 13800000000 86",
		own:  map[int]error{40029: ErrCodeInvalid, 40013: ErrCodeInvalid},
	},
	{
		op: "msg_sec_check", method: "POST", path: "/wxa/msg_sec_check",
		body: `{"openid":"canary-openid","scene":2,"version":2,"content":"canary <b>你好"}`,
		good: `{"errcode":0,"errmsg":"ok","result":{"suggest":"review","label":20001},"detail":[{"strategy":"content_model","errcode":0}],"trace_id":"1"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			v, err := c.CheckText(ctx, "canary-openid", SceneComment, "canary <b>你好")
			return string(v), err
		},
		want: "review",
		own:  map[int]error{61010: ErrOpenID, 43104: ErrOpenID, 44991: ErrTooOften, 40129: ErrRequest},
	},
	{
		op: "user/info", method: "GET", path: "/cgi-bin/user/info", query: "&lang=zh_CN&openid=canary-openid",
		good: `{"subscribe":1,"openid":"canary-openid","nickname":"","language":"zh_CN","subscribe_time":1382694957,"unionid":"canary-union","remark":"老顾客","subscribe_scene":"ADD_SCENE_QR_CODE","qr_scene":98765}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			f, err := c.Follower(ctx, "canary-openid")
			if f == (Follower{}) {
				return "", err
			}
			return fmt.Sprintln(f.OpenID, f.UnionID, f.Nickname, f.Language, f.Remark, f.Subscribed, f.SubscribedAt.Unix(), f.Scene), err
		},
		want: "canary-openid canary-union  zh_CN 老顾客 true 1382694957 ADD_SCENE_QR_CODE\n",
	},
	{
		op: "getwxacodeunlimit", method: "POST", path: "/wxa/getwxacodeunlimit",
		body: `{"scene":"a=1&b=2","page":"pages/shop/index","check_path":false,"env_version":"trial","width":280}`,
		good: testPicture,
		call: func(ctx context.Context, c *Client) (string, error) {
			b, kind, err := c.QRCode(ctx, QRCode{Scene: "a=1&b=2", Page: "pages/shop/index", Width: 280, EnvVersion: "trial"})
			return kind + string(b), err
		},
		want: "image/png" + testPicture,
		own:  map[int]error{40129: ErrRequest, 40169: ErrRequest, 41030: ErrRequest, 40097: ErrRequest, 45029: ErrRequest},
	},
}

var testPicture = func() string {
	m := image.NewGray(image.Rect(0, 0, 4, 4))
	m.SetGray(1, 1, color.Gray{255})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}()

// answerGood says c's success with the Content-Type that fits.
func (c call) answerGood(w http.ResponseWriter) {
	if strings.HasPrefix(c.good, "\x89") {
		w.Header().Set("Content-Type", "image/png")
	}
	_, _ = io.WriteString(w, c.good)
}

func TestCalls_success(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				if r.Method != c.method || r.URL.Path != c.path || r.URL.RawQuery != "access_token=canary-token-1"+c.query || body != c.body {
					t.Errorf("%s %s %s", r.Method, r.URL, body)
				}
				c.answerGood(w)
			}), func(o *Options) { o.Now = at(callsNow) })
			got, err := c.call(t.Context(), client)
			if err != nil || got != c.want {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

// A token that WeChat refuses is renewed once, whatever the call.
func TestCalls_tokenRefused(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				if r.URL.Query().Get("access_token") == "canary-token-1" {
					_, _ = io.WriteString(w, `{"errcode":42001,"errmsg":"access_token expired"}`)
					return
				}
				c.answerGood(w)
			}), func(o *Options) { o.Now = at(callsNow) })
			if got, err := c.call(t.Context(), client); err != nil || got != c.want {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

func TestCalls_refused(t *testing.T) {
	type bad struct {
		name   string
		answer http.HandlerFunc
		kind   error
	}
	code := func(n int, kind error) bad {
		return bad{fmt.Sprint(n), say(200, fmt.Sprintf(`{"errcode":%d,"errmsg":"no, rid: 1-2"}`, n)), kind}
	}
	all := []bad{
		code(-1, ErrBusy), code(45009, ErrTooOften), code(45011, ErrTooOften), code(40001, ErrToken), code(40014, ErrToken),
		code(48001, ErrConfig), code(40164, ErrConfig), code(40013, ErrConfig), code(40003, ErrOpenID), code(99999, ErrRequest),
		{"500", say(500, `<html>`), ErrBusy},
		{"429", say(429, ``), ErrTooOften},
		{"404", say(404, `not here`), ErrNonsense},
		{"html", say(200, `<!DOCTYPE html><html>`), ErrNonsense},
		{"empty", say(200, ``), ErrNonsense},
		{"null", say(200, `null`), ErrNonsense},
		{"list", say(200, `[]`), ErrNonsense},
		{"broken", say(200, `{"errcode":0`), ErrNonsense},
		{"nothing in it", say(200, `{"errcode":0,"errmsg":"ok"}`), ErrNonsense},
		{"other types", say(200, `{"phone_info":[],"result":"x","openid":1,"subscribe":"y"}`), ErrNonsense},
		{"huge", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10)) }, ErrNonsense},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, ErrNonsense},
		{"cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{`)
		}, ErrBusy},
		{"slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrBusy},
		{"repeats what it got", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			b, _ := encode(map[string]any{"errcode": 47001, "errmsg": "bad " + string(body) + " in " + r.URL.String()})
			_, _ = w.Write(b)
		}, ErrRequest},
	}
	for _, c := range calls {
		cases := all
		for n, kind := range c.own {
			cases = append(cases, code(n, kind))
		}
		for _, b := range cases {
			t.Run(c.op+"/"+b.name, func(t *testing.T) {
				client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { b.answer(w, r) }),
					func(o *Options) { o.Now = at(callsNow) })
				if b.name == "slow" {
					if _, err := client.AccessToken(t.Context()); err != nil {
						t.Fatal(err)
					}
					client.timeout = 30 * time.Millisecond
				}
				want := b.kind
				if kind, ok := c.own[40013]; ok && b.name == "40013" {
					want = kind
				}
				got, err := c.call(t.Context(), client)
				var e *Error
				if !errors.Is(err, want) || !errors.As(err, &e) || e.Op != c.op || got != "" {
					t.Errorf("%q %v", got, err)
				}
				noSecrets(t, err)
			})
		}
	}
}

func TestPhoneNumber_watermark(t *testing.T) {
	for name, c := range map[string]struct {
		info string
		want error
	}{
		"good":          {`{"phoneNumber":"1","watermark":{"timestamp":1768444480,"appid":"wx8888888888888888"}}`, nil},
		"as text":       {`{"phoneNumber":"1","watermark":{"timestamp":"1768444480","appid":"wx8888888888888888"}}`, nil},
		"another app":   {`{"phoneNumber":"1","watermark":{"timestamp":1768444480,"appid":"wx1"}}`, ErrWatermark},
		"old":           {`{"phoneNumber":"1","watermark":{"timestamp":1768444000,"appid":"wx8888888888888888"}}`, ErrWatermark},
		"no watermark":  {`{"phoneNumber":"1"}`, ErrWatermark},
		"no number":     {`{"watermark":{"timestamp":1768444480,"appid":"wx8888888888888888"}}`, ErrNonsense},
		"number a list": {`{"phoneNumber":["1"],"watermark":{"timestamp":1768444480,"appid":"wx8888888888888888"}}`, ErrNonsense},
		"null":          {`null`, ErrNonsense},
	} {
		client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
			fmt.Fprintf(w, `{"phone_info":%s}`, c.info)
		}), func(o *Options) { o.Now = at(callsNow) })
		u, err := client.PhoneNumber(t.Context(), "canary-code")
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err != nil && u != (UserData{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for _, code := range []string{"", strings.Repeat("x", maxCode+1)} {
		if _, err := client.PhoneNumber(t.Context(), code); !errors.Is(err, ErrCodeInvalid) {
			t.Error(err)
		}
	}
}

// A number costs money and its code is good once: a double tap makes one call.
func TestPhoneNumber_doubleTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		gate := make(chan struct{})
		c, err := New(Options{AppID: testAppID, Secret: testSecret, Now: at(callsNow), HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/cgi-bin/stable_token" {
				return answered(`{"access_token":"t","expires_in":7200}`), nil
			}
			asked.Add(1)
			<-gate
			return answered(calls[0].good), nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for range 5 {
			go func() {
				u, err := c.PhoneNumber(t.Context(), "code")
				if u.PurePhoneNumber != "13800000000" {
					err = errors.Join(err, errors.New("no number"))
				}
				done <- err
			}()
		}
		synctest.Wait()
		close(gate)
		for range 5 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if asked.Load() != 1 {
			t.Errorf("%d calls", asked.Load())
		}
	})
}

func TestCheckText_verdicts(t *testing.T) {
	for suggest, want := range map[string]Verdict{
		`{"result":{"suggest":"pass"}}`:                      VerdictPass,
		`{"errcode":0,"result":{"suggest":"review"}}`:        VerdictReview,
		`{"result":{"suggest":"risky","label":20001}}`:       VerdictRisky,
		`{"errcode":87014,"errmsg":"risky content"}`:         VerdictRisky,
		`{"result":{"suggest":"PASS"}}`:                      "",
		`{"result":{"suggest":""}}`:                          "",
		`{"result":{}}`:                                      "",
		`{"errcode":0,"errmsg":"ok","detail":[],"result":1}`: "",
	} {
		client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, suggest) }))
		got, err := client.CheckText(t.Context(), "o1", SceneProfile, "你好")
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrNonsense) {
			t.Errorf("%s: %q %v", suggest, got, err)
		}
	}
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, c := range map[string]struct {
		openID  string
		scene   int
		content string
		want    error
	}{
		"no openid": {"", 1, "x", ErrOpenID}, "scene 0": {"o", 0, "x", ErrRequest}, "scene 5": {"o", 5, "x", ErrRequest},
		"empty": {"o", 1, "", ErrRequest}, "long": {"o", 1, strings.Repeat("好", 2501), ErrRequest}, "not UTF-8": {"o", 1, "\xff", ErrRequest},
	} {
		if v, err := client.CheckText(t.Context(), c.openID, c.scene, c.content); v != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %q %v", name, v, err)
		}
	}
}

func TestFollower_answers(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"gone":            {`{"subscribe":0,"openid":"o1","unionid":"u1"}`, true},
		"numbers as text": {`{"subscribe":"1","openid":"o1","subscribe_time":"1382694957"}`, true},
		"another person":  {`{"subscribe":1,"openid":"o2"}`, false},
		"no subscribe":    {`{"openid":"o1"}`, false},
		"subscribe 2":     {`{"subscribe":2,"openid":"o1"}`, false},
		"openid twice":    {`{"subscribe":1,"openid":"o2","openid":"o1"}`, false},
	} {
		client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, c.body) }))
		f, err := client.Follower(t.Context(), "o1")
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrNonsense) || f != (Follower{})) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" && (f.Subscribed || f.UnionID != "u1" || !f.SubscribedAt.IsZero()) {
			t.Error(name)
		}
	}
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for _, id := range []string{"", strings.Repeat("x", maxID+1)} {
		if _, err := client.Follower(t.Context(), id); !errors.Is(err, ErrOpenID) {
			t.Error(err)
		}
	}
}

func FuzzFollower(f *testing.F) {
	f.Add([]byte(`{"subscribe":1,"openid":"o1","subscribe_time":1382694957}`))
	f.Add([]byte(`{"subscribe":"0","openid":"o1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := readFollower(raw)
		if !ok && got != (Follower{}) {
			t.Error("a follower who is none")
		}
		if s := fmt.Sprint(got); !strings.Contains(s, hidden) {
			t.Error(s)
		}
	})
}
