// Package wechat speaks with the WeChat platform for one app: login, phone numbers, access tokens, message
// push and passive replies, customer-service and subscribe messages, codes and links, moderation, followers,
// shipping, and WeChat Pay in both versions. Every check is always on.
//
// Secrets: no error, log line or String of this package holds an AppSecret, token, session_key, login
// code, openid or a URL with a query.
// Concurrency: every type is safe for concurrent use. A goroutine lives no longer than the timeout of the call it makes.
// Dependencies: the standard library (and x/sync); never hub, store or web.
package wechat

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options of a Client. APIURL defaults to https://api.weixin.qq.com.
type Options struct {
	AppID, Secret string
	APIURL        string
	HTTP          *http.Client // nil: one with sane timeouts and connection reuse
	Tokens        TokenStore   // nil: in memory
	// ClassicToken takes access tokens from cgi-bin/token in place of stable_token: for a shop whose other
	// programs share that one. Every fetch there kills the token before it, so that all must share Tokens.
	ClassicToken bool
	// Observe hears of every HTTP call when it has ended, before its caller does; it must be quick and safe for
	// concurrent use. nil: nobody listens.
	Observe func(Call)
	Logger  *slog.Logger
	Now     func() time.Time
}

// String hides the secret.
func (o Options) String() string { return fmt.Sprintf("wechat.Options{%s %s}", o.AppID, o.APIURL) }

// GoString hides the secret.
func (o Options) GoString() string { return o.String() }

// LogValue hides the secret.
func (o Options) LogValue() slog.Value {
	return slog.GroupValue(slog.String("appid", o.AppID), slog.String("apiURL", o.APIURL))
}

// Client is safe for concurrent use.
type Client struct {
	*line
	appID, secret string
	base          string     // of the API, without a slash at the end
	store         TokenStore // for tokens; nil: this process alone
	shelf         TokenStore // for all else that is kept for a while; never nil
	classic       bool

	logins    singleflight.Group // by login code
	phones    singleflight.Group // by phone number code
	fetches   singleflight.Group // of the access token
	uploads   singleflight.Group // by content
	questions singleflight.Group // whether the app's trade is managed
	sending   turns              // of subscribe messages, by openid

	refreshing sync.Mutex // held by ForceRefresh

	mu  sync.Mutex // guards what follows
	tok token      // the newest known
	gen uint64     // of tok; counts every token adopted
	// insistedAt is when WeChat gave us again the very token that it had refused.
	insistedAt time.Time
}

// New checks every option and names each that is bad.
func New(o Options) (*Client, error) {
	var bad []error
	if o.AppID == "" {
		bad = append(bad, errors.New("wechat: AppID is missing"))
	}
	if o.Secret == "" {
		bad = append(bad, errors.New("wechat: Secret is missing"))
	}
	base, err := baseURL("APIURL", o.APIURL, "https://api.weixin.qq.com")
	if err != nil {
		bad = append(bad, err)
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	c := &Client{
		line:  newLine("wechat", o.HTTP, o.Observe, o.Logger, o.Now),
		appID: o.AppID, secret: o.Secret, base: base,
		store: o.Tokens, shelf: o.Tokens, classic: o.ClassicToken,
	}
	if c.shelf == nil {
		c.shelf = &memoryTokens{now: c.now}
	}
	return c, nil
}

// String hides the secret and the token.
func (c *Client) String() string { return "wechat.Client{" + c.appID + "}" }

// GoString hides the secret and the token.
func (c *Client) GoString() string { return c.String() }

// LogValue hides the secret and the token.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

func loggerFor(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func clockFor(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
