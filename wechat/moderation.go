package wechat

import (
	"context"
	"net/http"
	"net/url"
	"unicode/utf8"
)

const (
	opCheckText  = "msg_sec_check"
	maxCheckText = 2500 // characters
)

// A Verdict is what WeChat thinks of a text.
type Verdict string

const (
	VerdictPass   Verdict = "pass"
	VerdictReview Verdict = "review" // a person should look at it
	VerdictRisky  Verdict = "risky"
)

// Where the text is to be shown, for CheckText.
const (
	SceneProfile = 1 // nicknames, signatures
	SceneComment = 2
	SceneForum   = 3
	SceneSocial  = 4
)

// A TextCheck is a text of a user that others are to see. Where it comes from helps WeChat to judge it.
type TextCheck struct {
	OpenID    string
	Scene     int    // SceneProfile …
	Content   string // 1 to 2500 characters
	Nickname  string // the rest is optional; of whoever wrote it
	Title     string // of what it stands in
	Signature string // the line beside their name, in SceneProfile
}

// CheckText is CheckTextOf for a text alone.
func (c *Client) CheckText(ctx context.Context, openID string, scene int, content string) (Verdict, error) {
	return c.CheckTextOf(ctx, TextCheck{OpenID: openID, Scene: scene, Content: content})
}

// CheckTextOf asks WeChat whether a text of a user may be shown to others (wxa/msg_sec_check, version 2).
// The user must have been in the mini-program within two hours, else the error Is ErrOpenID. Anything but a clear
// verdict is an error, never a pass: whether to hold the text back then is the caller's to decide.
// Errors: *Error, which Is ErrOpenID, ErrTooOften, ErrBusy, ErrToken, ErrConfig, ErrNonsense or ErrRequest.
func (c *Client) CheckTextOf(ctx context.Context, t TextCheck) (Verdict, error) {
	complaint := ""
	switch n := utf8.RuneCountInString(t.Content); {
	case t.OpenID == "":
		return "", &Error{Op: opCheckText, Kind: ErrOpenID, Msg: "no openid"}
	case t.Scene < SceneProfile || t.Scene > SceneSocial:
		complaint = "scene must be 1 to 4"
	case n < 1 || n > maxCheckText || !utf8.ValidString(t.Content):
		complaint = "content must have 1 to 2500 characters"
	}
	if complaint != "" {
		return "", &Error{Op: opCheckText, Kind: ErrRequest, Msg: complaint}
	}
	var got struct {
		Result struct {
			Suggest Verdict `json:"suggest"`
		} `json:"result"`
	}
	err := c.post(ctx, opCheckText, "/wxa/msg_sec_check", struct {
		OpenID    string `json:"openid"`
		Scene     int    `json:"scene"`
		Version   int    `json:"version"`
		Content   string `json:"content"`
		Nickname  string `json:"nickname,omitempty"`
		Title     string `json:"title,omitempty"`
		Signature string `json:"signature,omitempty"`
	}{t.OpenID, t.Scene, 2, t.Content, t.Nickname, t.Title, t.Signature}, &got, t.OpenID, t.Content, t.Nickname)
	if hasCode(err, 87014) {
		return VerdictRisky, nil // how the first version says it
	}
	if err != nil {
		return "", err
	}
	if v := got.Result.Suggest; v.known() {
		return v, nil
	}
	return "", &Error{Op: opCheckText, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a verdict"}
}

func (v Verdict) known() bool {
	return v == VerdictPass || v == VerdictReview || v == VerdictRisky
}

// A MediaCheck is a picture or recording of a user that others are to see.
type MediaCheck struct {
	OpenID string
	Scene  int    // SceneProfile …
	URL    string // where WeChat can fetch it, within the next minutes; at most 2048 bytes
	Audio  bool   // a recording; false: a picture
}

const opCheckMedia = "media_check_async"

// CheckMedia asks WeChat to look at a picture or recording (wxa/media_check_async, version 2). The verdict comes
// later, mostly within half an hour, as the push MediaChecked with the same traceID. The user must have been in
// the mini-program within two hours. Errors: those of CheckTextOf.
func (c *Client) CheckMedia(ctx context.Context, m MediaCheck) (traceID string, err error) {
	complaint := ""
	switch u, parseErr := url.Parse(m.URL); {
	case m.OpenID == "":
		return "", &Error{Op: opCheckMedia, Kind: ErrOpenID, Msg: "no openid"}
	case m.Scene < SceneProfile || m.Scene > SceneSocial:
		complaint = "scene must be 1 to 4"
	case parseErr != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(m.URL) > 2048:
		complaint = "the URL must be one that WeChat can fetch"
	}
	if complaint != "" {
		return "", &Error{Op: opCheckMedia, Kind: ErrRequest, Msg: complaint}
	}
	kind := 2
	if m.Audio {
		kind = 1
	}
	var got struct {
		TraceID string `json:"trace_id"`
	}
	err = c.post(ctx, opCheckMedia, "/wxa/media_check_async", struct {
		URL     string `json:"media_url"`
		Kind    int    `json:"media_type"`
		Version int    `json:"version"`
		Scene   int    `json:"scene"`
		OpenID  string `json:"openid"`
	}{m.URL, kind, 2, m.Scene, m.OpenID}, &got, m.OpenID, m.URL)
	if err != nil {
		return "", err
	}
	if got.TraceID == "" || len(got.TraceID) > maxID {
		return "", &Error{Op: opCheckMedia, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without trace_id"}
	}
	return got.TraceID, nil
}
