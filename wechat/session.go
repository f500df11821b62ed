package wechat

import (
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	busyPause = 150 * time.Millisecond // before the one repeat after errcode -1
	maxCode   = 512                    // bytes of a login code; WeChat's have 32
)

// Session is the answer of code2session. SessionKey never leaves the server.
type Session struct {
	OpenID, UnionID string
	SessionKey      string `json:"-"`
}

// String hides all of it: an openid is a name, a session key a secret.
func (s Session) String() string { return "wechat.Session{" + hidden + "}" }

// GoString hides all of it.
func (s Session) GoString() string { return s.String() }

// LogValue hides all of it.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Code2Session redeems a wx.login code (single use). The same code twice at once makes one call, which
// goes on when one of the callers has gone. The answer comes within 4 s.
// Errors: *Error, which Is ErrCodeInvalid, ErrUserBlocked, ErrTooOften, ErrBusy, ErrConfig, ErrNonsense
// or ErrRequest.
func (c *Client) Code2Session(ctx context.Context, code string) (Session, error) {
	if code == "" || len(code) > maxCode {
		return Session{}, &Error{Op: opLogin, Kind: ErrCodeInvalid, Msg: "no code, or one far too long"}
	}
	ch := c.logins.DoChan(code, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
		defer cancel()
		return c.redeem(ctx, code)
	})
	select {
	case r := <-ch:
		s, _ := r.Val.(Session)
		return s, r.Err
	case <-ctx.Done():
		return Session{}, &Error{Op: opLogin, Kind: ErrBusy, Err: ctx.Err()}
	}
}

const opLogin = "code2session"

// redeem asks once, and once more after errcode -1, which does not use the code up. Nothing else is
// repeated: after a timeout the code may be spent.
func (c *Client) redeem(ctx context.Context, code string) (Session, error) {
	s, err := c.redeemOnce(ctx, code)
	var e *Error
	if !errors.As(err, &e) || e.Code != -1 {
		return s, err
	}
	select {
	case <-time.After(busyPause):
	case <-ctx.Done():
		return s, err
	}
	return c.redeemOnce(ctx, code)
}

func (c *Client) redeemOnce(ctx context.Context, code string) (s Session, err error) {
	err = c.call(ctx, opLogin, func(ctx context.Context) error {
		s, err = c.askSession(ctx, code)
		return err
	})
	return s, err
}

func (c *Client) askSession(ctx context.Context, code string) (Session, error) {
	hide := []string{c.secret, url.QueryEscape(c.secret), code, url.QueryEscape(code)}
	q := url.Values{"appid": {c.appID}, "secret": {c.secret}, "js_code": {code}, "grant_type": {"authorization_code"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/sns/jscode2session?"+q.Encode(), nil)
	if err != nil {
		return Session{}, &Error{Op: opLogin, Kind: ErrConfig, Err: bare(err, hide)}
	}
	a, err := roundTrip(c.http, req, opLogin, c.timeout, hide)
	if err != nil {
		return Session{}, err
	}
	var got struct {
		OpenID     string `json:"openid"`
		UnionID    string `json:"unionid"`
		SessionKey string `json:"session_key"`
	}
	if err := a.open(opLogin, &got, false, hide); err != nil {
		return Session{}, err
	}
	switch {
	case got.OpenID == "" || got.SessionKey == "":
		return Session{}, &Error{Op: opLogin, Status: a.status, Kind: ErrNonsense, Msg: "success without openid or session_key"}
	case !isSessionKey(got.SessionKey):
		return Session{}, &Error{Op: opLogin, Status: a.status, Kind: ErrNonsense, Msg: "a session_key that is not base64 of 16 bytes"}
	}
	return Session{OpenID: got.OpenID, UnionID: got.UnionID, SessionKey: got.SessionKey}, nil
}

// isSessionKey tells whether s can be what it is used for: the key of AES-128, in base64.
func isSessionKey(s string) bool {
	key, err := strictBase64(s)
	return err == nil && len(key) == 16
}

// CheckRawData compares signature with sha1(rawData + sessionKey), in constant time. rawData must be
// the bytes that the phone sent, not a JSON made anew of them. Error: ErrSignature.
func CheckRawData(rawData, signature, sessionKey string) error {
	if sessionKey == "" {
		return refuse(ErrSignature, "no session key to check with")
	}
	sum := sha1.Sum([]byte(rawData + sessionKey))
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(signature))) != 1 {
		return ErrSignature
	}
	return nil
}
