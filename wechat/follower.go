package wechat

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

const opFollower = "user/info"

// A Follower is a person as an official account knows them. Of somebody who does not follow, WeChat tells
// no more than the ids.
type Follower struct {
	OpenID, UnionID            string // UnionID: only with an Open Platform account
	Nickname, Language, Remark string
	Subscribed                 bool
	SubscribedAt               time.Time // of the last time
	Scene                      string    // ADD_SCENE_QR_CODE …
}

// String hides all of it: these are a person's data.
func (f Follower) String() string { return "wechat.Follower{" + hidden + "}" }

// GoString hides all of it.
func (f Follower) GoString() string { return f.String() }

// LogValue hides all of it.
func (f Follower) LogValue() slog.Value { return slog.StringValue(f.String()) }

// Follower asks about an openid of the official account whose Client c is (cgi-bin/user/info).
// Errors: *Error, which Is ErrOpenID, ErrTooOften, ErrBusy, ErrToken, ErrConfig, ErrNonsense or ErrRequest.
func (c *Client) Follower(ctx context.Context, openID string) (Follower, error) {
	if openID == "" || len(openID) > maxID {
		return Follower{}, &Error{Op: opFollower, Kind: ErrOpenID, Msg: "no openid, or one far too long"}
	}
	var raw json.RawMessage
	q := url.Values{"openid": {openID}, "lang": {"zh_CN"}}
	if err := c.get(ctx, opFollower, "/cgi-bin/user/info", q, &raw, openID, url.QueryEscape(openID)); err != nil {
		return Follower{}, err
	}
	f, ok := readFollower(raw)
	if !ok || f.OpenID != openID {
		return Follower{}, &Error{Op: opFollower, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without that person"}
	}
	return f, nil
}

func readFollower(raw []byte) (Follower, bool) {
	fields, err := parseJSON(raw)
	if err != nil {
		return Follower{}, false
	}
	subscribed, ok := whole(fields["subscribe"])
	if !ok || subscribed != 0 && subscribed != 1 {
		return Follower{}, false
	}
	f := Follower{
		OpenID: scalar(fields["openid"]), UnionID: scalar(fields["unionid"]),
		Nickname: scalar(fields["nickname"]), Language: scalar(fields["language"]), Remark: scalar(fields["remark"]),
		Subscribed: subscribed == 1, Scene: scalar(fields["subscribe_scene"]),
	}
	if seconds, ok := whole(fields["subscribe_time"]); ok && seconds > 0 {
		f.SubscribedAt = time.Unix(seconds, 0)
	}
	return f, true
}
