package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	connectTimeout = 2 * time.Second // for the TCP connection, and again for TLS
	callTimeout    = 4 * time.Second // a whole call: WeChat and phones give up on us after 5 s
	maxAnswer      = 1 << 20         // bytes; the longest honest answer here has a few KiB
)

// newHTTP returns the client that is used when none is handed in. A redirect is not followed: it would
// carry the secret in our query to another place.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   connectTimeout,
			ResponseHeaderTimeout: callTimeout,
			MaxIdleConns:          64,
			MaxIdleConnsPerHost:   32, // everything goes to one host
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: noRedirect,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// httpFor returns o with redirects off, or the default.
func httpFor(o *http.Client) *http.Client {
	if o == nil {
		return newHTTP()
	}
	own := *o
	own.CheckRedirect = noRedirect
	return &own
}

// baseURL checks the address of an API; it may have a path, never a query or a login.
func baseURL(name, s, standard string) (string, error) {
	if s == "" {
		s = standard
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("wechat: %s must be an http or https URL without query or login", name)
	}
	return strings.TrimRight(s, "/"), nil
}

// An answer is what came back, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// roundTrip sends req and reads the answer within timeout. Its errors are *Error of kind ErrBusy (no
// answer) or ErrNonsense (an endless one), and hold nothing of the URL.
func roundTrip(h *http.Client, req *http.Request, op string, timeout time.Duration, hide []string) (answer, error) {
	return roundTripUpTo(h, req, op, timeout, maxAnswer, hide)
}

// roundTripUpTo is roundTrip for an answer of up to limit bytes.
func roundTripUpTo(h *http.Client, req *http.Request, op string, timeout time.Duration, limit int, hide []string) (answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	res, err := h.Do(req.WithContext(ctx))
	if err != nil {
		return answer{}, &Error{Op: op, Kind: ErrBusy, Err: bare(err, hide)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(limit)+1))
	if err != nil {
		return answer{}, &Error{Op: op, Kind: ErrBusy, Status: res.StatusCode, Err: bare(err, hide)}
	}
	if len(body) > limit {
		return answer{}, &Error{Op: op, Kind: ErrNonsense, Status: res.StatusCode, Msg: fmt.Sprintf("the answer is longer than %d MiB", limit>>20)}
	}
	return answer{status: res.StatusCode, header: res.Header, body: body}, nil
}

// bare takes the URL off an error of net/http, and every text that could repeat a secret.
func bare(err error, hide []string) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	switch text := err.Error(); {
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case strings.Contains(text, "?") || scrub(text, hide) != text || strings.Contains(text, "malformed"):
		return errors.New("the connection broke")
	}
	return err
}

// retryAfter reads the header in seconds; 0: absent or a date.
func (a answer) retryAfter() time.Duration {
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 0 || n > 24*60*60 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// open decides whether a is success, by errcode (absent or 0) and not by the status alone, and decodes
// it into out.
func (a answer) open(op string, out any, tokenUsed bool, hide []string) error {
	fail := &Error{Op: op, Status: a.status, RetryAfter: a.retryAfter()}
	var fields map[string]json.RawMessage
	broken := json.Unmarshal(a.body, &fields) != nil || fields == nil
	if !broken {
		code, ok := errcode(fields["errcode"])
		var msg string
		_ = json.Unmarshal(fields["errmsg"], &msg) // absent or strange: no words
		fail.Msg, fail.RequestID = words(msg, hide)
		if !ok {
			broken = true
		} else if code != 0 {
			fail.Code = code
			wait, kind := kindOf(code, tokenUsed)
			fail.Kind = kind
			fail.RetryAfter = max(fail.RetryAfter, wait)
			return fail
		}
	}
	switch {
	case a.status == http.StatusTooManyRequests:
		fail.Kind = ErrTooOften
		fail.RetryAfter = max(fail.RetryAfter, time.Second)
		return fail
	case a.status >= 500:
		fail.Kind = ErrBusy
		fail.RetryAfter = max(fail.RetryAfter, time.Second)
		return fail
	case a.status != http.StatusOK:
		fail.Kind = ErrNonsense
		return fail
	case broken:
		fail.Kind, fail.Msg = ErrNonsense, "not the JSON that was promised"
		return fail
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		fail.Kind, fail.Msg = ErrNonsense, "a field of another type than promised"
		return fail
	}
	return nil
}

// errcode reads a number, a number in quotes, null or nothing.
func errcode(raw json.RawMessage) (code int, ok bool) {
	s := string(raw)
	if s == "" || s == "null" {
		return 0, true
	}
	if len(s) > 2 && s[0] == '"' {
		s = s[1 : len(s)-1]
	}
	code, err := strconv.Atoi(s)
	return code, err == nil
}

// encode marshals v as WeChat wants it: raw UTF-8, and < > & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
