package wechat

import (
	"context"
	"errors"
	"net/http"
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

// CheckText asks WeChat whether a text of a user may be shown to others (wxa/msg_sec_check, version 2).
// content has 1 to 2500 characters; the user must have been in the mini-program within two hours, else
// the error Is ErrOpenID. Anything but a clear verdict is an error, never a pass: whether to hold the text
// back then is the caller's to decide.
// Errors: *Error, which Is ErrOpenID, ErrTooOften, ErrBusy, ErrToken, ErrConfig, ErrNonsense or ErrRequest.
func (c *Client) CheckText(ctx context.Context, openID string, scene int, content string) (Verdict, error) {
	complaint := ""
	switch n := utf8.RuneCountInString(content); {
	case openID == "":
		return "", &Error{Op: opCheckText, Kind: ErrOpenID, Msg: "no openid"}
	case scene < SceneProfile || scene > SceneSocial:
		complaint = "scene must be 1 to 4"
	case n < 1 || n > maxCheckText || !utf8.ValidString(content):
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
		OpenID  string `json:"openid"`
		Scene   int    `json:"scene"`
		Version int    `json:"version"`
		Content string `json:"content"`
	}{openID, scene, 2, content}, &got, openID, content)
	var e *Error
	if errors.As(err, &e) && e.Code == 87014 {
		return VerdictRisky, nil // how the first version says it
	}
	if err != nil {
		return "", err
	}
	switch got.Result.Suggest {
	case VerdictPass, VerdictReview, VerdictRisky:
		return got.Result.Suggest, nil
	}
	return "", &Error{Op: opCheckText, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a verdict"}
}
