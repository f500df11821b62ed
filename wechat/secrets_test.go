package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// noSecrets looks for every canary and for a URL's query in an error and in all that it wraps.
func noSecrets(t testing.TB, err error, more ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	texts := []string{err.Error(), fmt.Sprintf("%+v", err)}
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		texts = append(texts, err.Error())
		switch u := err.(type) {
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		}
	}
	walk(err)
	var e *Error
	if errors.As(err, &e) {
		texts = append(texts, e.Msg, e.Word, e.RequestID)
	}
	noCanary(t, strings.Join(texts, "\n"), more...)
}

func noCanary(t testing.TB, text string, more ...string) {
	t.Helper()
	for _, bad := range append([]string{"canary", testSecret, "secret=", "access_token=", "js_code=", "PRIVATE KEY"}, more...) {
		if strings.Contains(text, bad) {
			t.Errorf("%q in %s", bad, text)
		}
	}
}

// Whatever prints one of our values prints no secret.
func TestValues_hideTheirSecrets(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	c := newTestClient(t, (&platform{}).ServeHTTP, func(o *Options) { o.Logger = logger })
	if _, err := c.AccessToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := NewReceiver(PushOptions{AppID: testAppID, Token: "canaryToken", AESKey: testAESKey})
	if err != nil {
		t.Fatal(err)
	}
	pay := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {})
	v2Options := payV2Options()
	v2Options.CertPEM, v2Options.KeyPEM = merchantCertificate(t), privatePEM(t, merchantKey())
	payV2, err := NewPayV2(v2Options)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		c, Options{AppID: testAppID, Secret: testSecret},
		r, PushOptions{AppID: testAppID, Token: "canaryToken", AESKey: testAESKey},
		pay, payOptions(t),
		payV2, v2Options,
		Follower{OpenID: "canary-openid", Nickname: "canary-name"},
		Session{OpenID: "canary-openid", SessionKey: "canary-key"},
		UserData{PhoneNumber: "canary-phone"},
	} {
		logger.Info("value", "v", v)
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			noCanary(t, fmt.Sprintf(format, v), testAESKey, testAPIv3Key, testV2Key, testKeyLine(t))
		}
	}
	logger.Info("push", "m", &PushMessage{FromUserName: "canary-openid", Content: "canary words", MsgType: "text"})
	noCanary(t, log.String(), testAESKey, testAPIv3Key, testV2Key, testKeyLine(t))
	b, err := json.Marshal(Session{SessionKey: "canary-key"})
	if err != nil {
		t.Fatal(err)
	}
	noCanary(t, string(b))
}

// testKeyLine is a line out of the middle of the merchant's private key.
func testKeyLine(t testing.TB) string { return strings.Split(privatePEM(t, merchantKey()), "\n")[3] }

// A server that repeats everything it was sent must not get it into our errors.
func TestErrors_whenWeChatRepeatsOurSecrets(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		b, _ := json.Marshal(map[string]any{"errcode": 40013, "errmsg": "bad request: " + r.URL.String() + " rid: " + r.URL.Query().Get("secret")})
		_, _ = w.Write(b)
	}
	c := newTestClient(t, echo)
	_, err := c.Code2Session(t.Context(), "canary-code")
	var e *Error
	if !errors.As(err, &e) || e.Code != 40013 {
		t.Fatal(err)
	}
	noSecrets(t, err)
	// A status line with the URL in it, as some proxies write.
	c = newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "no such page %s\r\n\r\n", r.URL)
	})
	_, err = c.Code2Session(t.Context(), "canary-code")
	noSecrets(t, err)
}
