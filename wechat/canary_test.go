package wechat

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// safeBuffer is a log that many write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// hostile answers repeat everything that they were sent, in each way in which an answer can go wrong.
var hostile = map[string]func(w http.ResponseWriter, all string){
	"refusal": func(w http.ResponseWriter, all string) {
		b, _ := json.Marshal(map[string]any{"errcode": 40013, "errmsg": all, "code": "PARAM_ERROR", "message": all})
		_, _ = w.Write(b)
	},
	"refusal of the token": func(w http.ResponseWriter, all string) {
		b, _ := json.Marshal(map[string]any{"errcode": 42001, "errmsg": all})
		_, _ = w.Write(b)
	},
	"busy": func(w http.ResponseWriter, all string) { w.WriteHeader(503); _, _ = io.WriteString(w, all) },
	"page": func(w http.ResponseWriter, all string) { _, _ = io.WriteString(w, "<html>"+all) },
	"code": func(w http.ResponseWriter, all string) {
		w.WriteHeader(400)
		b, _ := json.Marshal(map[string]any{"code": all, "message": all})
		_, _ = w.Write(b)
	},
	"headers": func(w http.ResponseWriter, all string) {
		w.Header().Set("Request-Id", url.QueryEscape(all))
		w.Header().Set("Location", "/x?"+url.QueryEscape(all))
		w.WriteHeader(302)
	},
	"XML": func(w http.ResponseWriter, all string) {
		_, _ = w.Write([]byte("<xml><return_code>FAIL</return_code><return_msg>" + cdata(xmlText(all)) + "</return_msg><err_code>" + cdata(xmlText(all)) + "</err_code></xml>"))
	},
	"cut off": func(w http.ResponseWriter, all string) {
		w.Header().Set("Content-Length", "99999")
		_, _ = io.WriteString(w, all)
	},
	"bad line": func(w http.ResponseWriter, all string) { hijack(w, "HTTP/1.1 "+url.QueryEscape(all)+"\r\n\r\n") },
	"no HTTP":  func(w http.ResponseWriter, all string) { hijack(w, all) },
}

func hijack(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// Every secret is a string of its own; whatever WeChat, or a proxy on the way, answers, none of them comes up in an
// error, a log or a count.
func TestCanary_noSecretAnywhere(t *testing.T) {
	var log safeBuffer
	var heard ear
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	secrets := []string{testSecret, "canary-token", "canary-openid", "canary-code", testSessionKey, testAPIv3Key, testV2Key, testAESKey, testKeyLine(t),
		base64.StdEncoding.EncodeToString([]byte(testSecret))}
	check := func(where string, err error) {
		t.Helper()
		if err != nil {
			noSecrets(t, err, secrets...)
		}
		if text := log.String() + fmt.Sprintf("%+v", heard.take()); text != "" {
			noCanary(t, text, secrets...)
		}
		if t.Failed() {
			t.Fatal(where)
		}
	}
	for name, answer := range hostile {
		t.Run(name, func(t *testing.T) {
			h := func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				answer(w, fmt.Sprint(r.Method, " ", r.URL.String(), " ", r.Header, " ", string(body)))
			}
			server := httptest.NewServer(http.HandlerFunc(h))
			defer func() { server.CloseClientConnections(); server.Close() }()
			for _, c := range calls {
				client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, _ string) { h(w, r) }),
					func(o *Options) { o.Now, o.Logger, o.Observe = at(callsNow), logger, heard.hear })
				_, err := c.call(t.Context(), client)
				if err == nil && !c.void {
					t.Errorf("%s: success out of nothing", c.op)
				}
				check(c.op, err)
			}
			for _, classic := range []bool{false, true} {
				c, err := New(Options{AppID: testAppID, Secret: testSecret, APIURL: server.URL, ClassicToken: classic, Logger: logger, Observe: heard.hear})
				if err != nil {
					t.Fatal(err)
				}
				c.pause = time.Millisecond
				_, err = c.AccessToken(t.Context())
				check("token", err)
				check("forced", c.ForceRefresh(t.Context()))
				_, err = c.Code2Session(t.Context(), "canary-code")
				check("login", err)
				c.http.CloseIdleConnections()
			}
			o3, o2 := payOptions(t), payV2Options()
			o3.APIURL, o3.Logger, o3.Observe = server.URL, logger, heard.hear
			o2.APIURL, o2.Logger, o2.Observe = server.URL, logger, heard.hear
			p3, err3 := NewPayV3(o3)
			p2, err2 := NewPayV2(o2)
			if err3 != nil || err2 != nil {
				t.Fatal(err3, err2)
			}
			p3.pause, p2.pause = time.Millisecond, time.Millisecond
			for _, p := range []Pay{p3, p2} {
				for _, c := range append(payCalls,
					payCall{opTradeBill, func(ctx context.Context, p Pay) (string, error) {
						_, err := p.TradeBill(ctx, time.Unix(payNow, 0).Add(-48*time.Hour))
						return "", err
					}},
					payCall{opCertificates, func(ctx context.Context, p Pay) (string, error) { return "", p.Refresh(ctx) }}) {
					_, err := c.call(t.Context(), p)
					check(c.op, err)
				}
			}
			p3.http.CloseIdleConnections()
			p2.http.CloseIdleConnections()
		})
	}
}

// WeChat Pay's calls are told of too, by both versions.
func TestObserve_pay(t *testing.T) {
	var heard ear
	p := newTestPay(t, answerSigned(t, 404, `{"code":"ORDER_NOT_EXIST","message":"x"}`))
	p.observe = heard.hear
	_, _ = p.Query(t.Context(), testNo)
	v2 := newTestPayV2(t, say(200, v2Answer(v2Signer{testV2Key, signMD5}, v2Good.with("result_code", "FAIL", "err_code", "SYSTEMERROR"))))
	v2.observe = heard.hear
	_, _ = v2.Query(t.Context(), testNo)
	if got := fmt.Sprint(heard.take()); got != "[{pay pay/query ORDER_NOT_EXIST 0s give_up} {pay pay/query SYSTEMERROR 0s retry} {pay pay/query SYSTEMERROR 0s retry}]" {
		t.Error(got)
	}
}
