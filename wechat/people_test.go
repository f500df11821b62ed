package wechat

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

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

func TestFollowers_answers(t *testing.T) {
	for answer, good := range map[string]bool{
		`{"total":0,"count":0,"next_openid":""}`:             true,
		`{"count":1,"data":{"openid":["o1"]}}`:               true,
		`{"count":2,"data":{"openid":["o1"]}}`:               false,
		`{"count":1,"data":{"openid":[""]}}`:                 false,
		`{"count":1,"data":{"openid":[7]}}`:                  false,
		`{"user_info_list":[{"subscribe":1,"openid":"o9"}]}`: true, // no page at all
	} {
		client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, answer) }))
		if _, err := client.Followers(t.Context(), ""); (err == nil) != good {
			t.Errorf("%s: %v", answer, err)
		}
		if _, err := client.FollowerInfos(t.Context(), []string{"o1"}); !errors.Is(err, ErrNonsense) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	if _, err := client.FollowerInfos(t.Context(), make([]string, 101)); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	if _, err := client.Followers(t.Context(), strings.Repeat("o", 129)); !errors.Is(err, ErrOpenID) {
		t.Error(err)
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
