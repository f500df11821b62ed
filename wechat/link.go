package wechat

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	opURLLink   = "generate_urllink"
	opURLScheme = "generatescheme"
	linkLife    = 30 * 24 * time.Hour // the longest
)

// A Link opens a page of the mini-program from outside WeChat: from a text message, a mail, a web page.
type Link struct {
	Path       string    // of a released page, with or without a leading slash; "": the home page
	Query      string    // at most 1024 bytes; without a question mark
	EnvVersion string    // "" or release, trial, develop
	ExpiresAt  time.Time // a minute to 30 days ahead; zero: 30 days
}

// Check says in a sentence what WeChat would refuse, before any call. Error: *Error, which Is ErrRequest.
func (l Link) Check(now time.Time) error { return l.check(opURLLink, now) }

func (l Link) check(op string, now time.Time) error {
	complaint := lookComplaint(0, l.EnvVersion)
	switch {
	case len(l.Path) > maxPath || !pageChars.MatchString(l.Path):
		complaint = "path must be a page's path without a query, like pages/index/index"
	case len(l.Query) > maxPath || strings.HasPrefix(l.Query, "?") || strings.ContainsFunc(l.Query, unicode.IsControl) || !utf8.ValidString(l.Query):
		complaint = "query must have at most 1024 bytes, without a question mark before it"
	case !l.ExpiresAt.IsZero() && (l.ExpiresAt.Before(now.Add(time.Minute)) || l.ExpiresAt.After(now.Add(linkLife))):
		complaint = "a link lives a minute to 30 days"
	}
	return complain(op, complaint)
}

type linkExpiry struct {
	Kind int   `json:"expire_type"`               // 0: at a time, 1: after some days
	At   int64 `json:"expire_time,omitempty"`     // seconds
	Days int   `json:"expire_interval,omitempty"` // 1 to 30
}

func (l Link) expiry() linkExpiry {
	if l.ExpiresAt.IsZero() {
		return linkExpiry{Kind: 1, Days: int(linkLife / (24 * time.Hour))}
	}
	return linkExpiry{At: l.ExpiresAt.Unix()}
}

// URLLink is an https link to l (wxa/generate_urllink). WeChat makes 100 a second and, with URL Schemes,
// 500,000 a day; the app must have a released version and must not be a private person's.
// Errors: *Error, which Is ErrRequest (85079: nothing is released; 40165: no such page; 40002: a private person's
// app), ErrTooOften, ErrBusy, ErrToken, ErrConfig or ErrNonsense.
func (c *Client) URLLink(ctx context.Context, l Link) (string, error) {
	if err := l.check(opURLLink, c.now()); err != nil {
		return "", err
	}
	var got struct {
		Link string `json:"url_link"`
	}
	err := c.post(ctx, opURLLink, "/wxa/generate_urllink", struct {
		Path       string `json:"path,omitempty"`
		Query      string `json:"query,omitempty"`
		EnvVersion string `json:"env_version,omitempty"`
		linkExpiry
	}{l.Path, l.Query, l.EnvVersion, l.expiry()}, &got)
	return linkOf(opURLLink, "https://", got.Link, err)
}

// URLScheme is a weixin:// link to l (wxa/generatescheme), which phones open without a browser; see URLLink.
func (c *Client) URLScheme(ctx context.Context, l Link) (string, error) {
	if err := l.check(opURLScheme, c.now()); err != nil {
		return "", err
	}
	type jump struct {
		Path       string `json:"path,omitempty"`
		Query      string `json:"query,omitempty"`
		EnvVersion string `json:"env_version,omitempty"`
	}
	var got struct {
		Link string `json:"openlink"`
	}
	err := c.post(ctx, opURLScheme, "/wxa/generatescheme", struct {
		Jump    jump `json:"jump_wxa"`
		Expires bool `json:"is_expire"`
		linkExpiry
	}{jump{l.Path, l.Query, l.EnvVersion}, true, l.expiry()}, &got)
	return linkOf(opURLScheme, "weixin://", got.Link, err)
}

func linkOf(op, scheme, link string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(link, scheme) || len(link) > 2048 {
		return "", &Error{Op: op, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a link"}
	}
	return link, nil
}
