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

const (
	opFollowers     = "user/get"
	opFollowerInfos = "user/info/batchget"
	maxFollowerPage = 10_000 // of openids
	maxFollowers    = 100    // asked about at once
	opClearQuota    = "clear_quota"
)

// Followers lists the openids of everybody who follows the account, a page of up to 10,000 behind the openid
// after ("": from the beginning): for those who followed before this hub listened. The last page is followed by
// an empty one. Errors: Follower's.
func (c *Client) Followers(ctx context.Context, after string) (openIDs []string, err error) {
	if len(after) > maxID {
		return nil, &Error{Op: opFollowers, Kind: ErrOpenID, Msg: "an openid far too long"}
	}
	q := url.Values{}
	if after != "" {
		q.Set("next_openid", after)
	}
	var got struct {
		Count int `json:"count"`
		Data  struct {
			OpenIDs []string `json:"openid"`
		} `json:"data"`
	}
	if err := c.get(ctx, opFollowers, "/cgi-bin/user/get", q, &got, hideID(after)...); err != nil {
		return nil, err
	}
	if got.Count != len(got.Data.OpenIDs) || got.Count > maxFollowerPage {
		return nil, &Error{Op: opFollowers, Status: http.StatusOK, Kind: ErrNonsense, Msg: "another number of openids than promised"}
	}
	for _, id := range got.Data.OpenIDs {
		if id == "" || len(id) > maxID {
			return nil, &Error{Op: opFollowers, Status: http.StatusOK, Kind: ErrNonsense, Msg: "an openid that is none"}
		}
	}
	return got.Data.OpenIDs, nil
}

// FollowerInfos is Follower for up to 100 openids at once (user/info/batchget), in their order.
func (c *Client) FollowerInfos(ctx context.Context, openIDs []string) ([]Follower, error) {
	if len(openIDs) == 0 || len(openIDs) > maxFollowers {
		return nil, complain(opFollowerInfos, "1 to 100 openids")
	}
	type person struct {
		OpenID string `json:"openid"`
		Lang   string `json:"lang"`
	}
	in := struct {
		List []person `json:"user_list"`
	}{}
	for _, id := range openIDs {
		in.List = append(in.List, person{id, "zh_CN"})
	}
	var got struct {
		List []json.RawMessage `json:"user_info_list"`
	}
	if err := c.post(ctx, opFollowerInfos, "/cgi-bin/user/info/batchget", in, &got, openIDs...); err != nil {
		return nil, err
	}
	var all []Follower
	for i, raw := range got.List {
		f, ok := readFollower(raw)
		if !ok || i >= len(openIDs) || f.OpenID != openIDs[i] {
			break
		}
		all = append(all, f)
	}
	if len(all) != len(openIDs) {
		return nil, &Error{Op: opFollowerInfos, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without those people"}
	}
	return all, nil
}

func hideID(openID string) []string {
	if openID == "" {
		return nil
	}
	return []string{openID, url.QueryEscape(openID)}
}

// ClearQuota makes all of the app's daily counts begin anew (cgi-bin/clear_quota), after 45009 and by an admin's
// hand: WeChat allows it ten times a month. Errors: *Error, which Is ErrTooOften, ErrBusy, ErrToken, ErrConfig,
// ErrNonsense or ErrRequest (48006: the ten are used up).
func (c *Client) ClearQuota(ctx context.Context) error {
	return c.post(ctx, opClearQuota, "/cgi-bin/clear_quota", struct {
		AppID string `json:"appid"`
	}{c.appID}, nil)
}
