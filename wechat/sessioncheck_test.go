package wechat

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A key that cannot decrypt anything is found at the login, not hours later.
func TestCode2Session_keyThatIsNone(t *testing.T) {
	for _, key := range []string{"k", "AAAA", strings.Repeat("A", 64), "HyVFkGl5F5OQWJZZaNzBBg", "HyVFkGl5F5OQWJZZaNzBBg== ", "not base64 at all!!!!!!="} {
		c := newTestClient(t, say(200, fmt.Sprintf(`{"openid":"o1","session_key":%q}`, key)))
		s, err := c.Code2Session(t.Context(), "code")
		if !errors.Is(err, ErrNonsense) || s != (Session{}) {
			t.Errorf("%q: %v", key, err)
		}
		if strings.Contains(fmt.Sprint(err), key) && len(key) > 4 {
			t.Errorf("the key in the error: %v", err)
		}
	}
}

func TestCheckSession_checkedBefore(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	if err := c.CheckSession(t.Context(), "", testSessionKey); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
	if err := c.CheckSession(t.Context(), "o1", "k"); !errors.Is(err, ErrSessionKey) || AdviceOf(err) != LoginAgain {
		t.Error(err)
	}
	if _, err := c.ResetSession(t.Context(), strings.Repeat("o", 129), testSessionKey); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
	if _, err := c.PaidUnionID(t.Context(), "o1", "not a number"); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	if _, err := c.PaidUnionID(t.Context(), "", "42"); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
}

func TestResetSession_answers(t *testing.T) {
	for answer, good := range map[string]bool{
		`{"openid":"o1","session_key":"HyVFkGl5F5OQWJZZaNzBBg=="}`: true,
		`{"openid":"o2","session_key":"HyVFkGl5F5OQWJZZaNzBBg=="}`: false,
		`{"openid":"o1","session_key":"short"}`:                    false,
		`{"openid":"o1"}`:                                          false,
	} {
		c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, answer) }))
		key, err := c.ResetSession(t.Context(), "o1", testSessionKey)
		if (err == nil) != good || err != nil && (key != "" || !errors.Is(err, ErrNonsense)) {
			t.Errorf("%s: %q %v", answer, key, err)
		}
	}
}

// An app that is bound to no Open Platform account has no unionids, which is no fault.
func TestPaidUnionID_notBound(t *testing.T) {
	c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		_, _ = io.WriteString(w, `{"errcode":89002,"errmsg":"open not exists"}`)
	}))
	if id, err := c.PaidUnionID(t.Context(), "o1", "42"); id != "" || err != nil {
		t.Error(id, err)
	}
}

func TestDecryptRunData(t *testing.T) {
	c := clientAt(testAppID, callsNow)
	const mark = `"watermark":{"timestamp":1768444496,"appid":"wx8888888888888888"}`
	for name, v := range map[string]struct {
		plain string
		want  error
	}{
		"two days":      {`{"stepInfoList":[{"timestamp":1768406400,"step":100},{"timestamp":"1768320000","step":0,"new":1}],` + mark + `}`, nil},
		"none":          {`{"stepInfoList":[],` + mark + `}`, nil},
		"no list":       {`{` + mark + `}`, ErrRequest},
		"not a list":    {`{"stepInfoList":{},` + mark + `}`, ErrRequest},
		"below zero":    {`{"stepInfoList":[{"timestamp":1768406400,"step":-1}],` + mark + `}`, ErrRequest},
		"no step":       {`{"stepInfoList":[{"timestamp":1768406400}],` + mark + `}`, ErrRequest},
		"another app":   {`{"stepInfoList":[],"watermark":{"timestamp":1768444496,"appid":"wx1"}}`, ErrWatermark},
		"too old":       {`{"stepInfoList":[],"watermark":{"timestamp":1768444000,"appid":"wx8888888888888888"}}`, ErrWatermark},
		"not even JSON": {`steps`, ErrDecrypt},
	} {
		key, data, iv := sealUserData(t, testKey, testIV, v.plain)
		r, err := c.DecryptRunData(key, data, iv)
		if !errors.Is(err, v.want) || v.want != nil && (r.Days != nil || !r.At.IsZero()) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "two days" && (len(r.Days) != 2 || r.Days[0].Steps != 100 || r.Days[0].At.Format(time.DateTime) != "2026-01-15 00:00:00" || r.At.Unix() != callsNow) {
			t.Errorf("%+v", r.Days)
		}
		noCanary(t, fmt.Sprintf("%v %+v %#v", r, r, r), "100")
	}
	if _, err := c.DecryptRunData("", "", ""); !errors.Is(err, ErrSessionKey) || AdviceOf(err) != LoginAgain {
		t.Error(err)
	}
}

func TestDecryptGroupID(t *testing.T) {
	c := clientAt(testAppID, callsNow)
	const mark = `"watermark":{"timestamp":1768444496,"appid":"wx8888888888888888"}`
	for plain, want := range map[string]string{
		`{"openGId":"tGdRUl5m0g1u",` + mark + `}`:                     "tGdRUl5m0g1u",
		`{"openGId":"",` + mark + `}`:                                 "",
		`{` + mark + `}`:                                              "",
		`{"openGId":"` + strings.Repeat("x", 129) + `",` + mark + `}`: "",
	} {
		key, data, iv := sealUserData(t, testKey, testIV, plain)
		got, err := c.DecryptGroupID(key, data, iv)
		if got != want || (err == nil) != (want != "") || err != nil && (!errors.Is(err, ErrRequest) || AdviceOf(err) != GiveUp) {
			t.Errorf("%s: %q %v", plain, got, err)
		}
	}
	if _, err := c.DecryptGroupID(testSessionKey, "AAAA", "AAAA"); !errors.Is(err, ErrSessionKey) {
		t.Error(err)
	}
}
