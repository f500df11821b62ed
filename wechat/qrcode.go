package wechat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
)

const (
	opQRCode   = "getwxacodeunlimit"
	minQRWidth = 280 // pixels
	maxQRWidth = 1280
	maxPage    = 128 // characters; the longest page of a mini-program is far shorter
)

// A QRCode is a mini-program code that never expires, of which there may be any number.
type QRCode struct {
	Scene      string // 1 to 32 of 0-9 A-Z a-z !#$&'()*+,/:;=?@-._~ ; the page gets it, URL-encoded, as query.scene
	Page       string // "": the home page; without a leading slash and without a query
	Width      int    // pixels, 280 to 1280; 0: WeChat's own 430
	EnvVersion string // "" or release, trial, develop
	CheckPath  bool   // the page must be in the released version
}

var (
	sceneChars = regexp.MustCompile(`^[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]{1,32}$`)
	pageChars  = regexp.MustCompile(`^[0-9A-Za-z_\-./]*$`)
)

// Check says in a sentence what WeChat would refuse, before any call. Error: *Error, which Is ErrRequest.
func (q QRCode) Check() error {
	complaint := ""
	switch {
	case !sceneChars.MatchString(q.Scene):
		complaint = "scene must have 1 to 32 letters, digits or !#$&'()*+,/:;=?@-._~"
	case strings.HasPrefix(q.Page, "/"):
		complaint = "page must not begin with a slash"
	case strings.Contains(q.Page, "?"):
		complaint = "page must have no query; what belongs to the code is its scene"
	case len(q.Page) > maxPage || !pageChars.MatchString(q.Page):
		complaint = "page must be a page's path, like pages/index/index"
	case q.Width != 0 && (q.Width < minQRWidth || q.Width > maxQRWidth):
		complaint = "width must be 280 to 1280 pixels"
	case q.EnvVersion != "" && q.EnvVersion != "release" && q.EnvVersion != "trial" && q.EnvVersion != "develop":
		complaint = "envVersion must be release, trial or develop"
	}
	if complaint == "" {
		return nil
	}
	return &Error{Op: opQRCode, Kind: ErrRequest, Msg: complaint}
}

// QRCode draws q (wxa/getwxacodeunlimit). contentType is that of the bytes, image/png or image/jpeg; the
// picture has at most 1 MiB. WeChat answers errors as JSON in the picture's place: those are errors here.
// Errors: *Error, which Is ErrRequest (41030: no such page in that version), ErrTooOften, ErrBusy,
// ErrToken, ErrConfig or ErrNonsense.
func (c *Client) QRCode(ctx context.Context, q QRCode) (picture []byte, contentType string, err error) {
	if err := q.Check(); err != nil {
		return nil, "", err
	}
	body, err := encode(struct {
		Scene      string `json:"scene"`
		Page       string `json:"page,omitempty"`
		CheckPath  bool   `json:"check_path"`
		EnvVersion string `json:"env_version,omitempty"`
		Width      int    `json:"width,omitempty"`
	}{q.Scene, q.Page, q.CheckPath, q.EnvVersion, q.Width})
	if err != nil {
		return nil, "", &Error{Op: opQRCode, Kind: ErrRequest, Msg: "the request cannot be written as JSON"}
	}
	err = c.withToken(ctx, opQRCode, nil, func(t token, hide []string) error {
		a, err := c.postJSON(ctx, opQRCode, withQuery("/wxa/getwxacodeunlimit", t, nil), body, hide)
		if err != nil {
			return err
		}
		picture, contentType, err = a.picture(opQRCode, hide)
		return err
	})
	var e *Error
	if errors.As(err, &e) && e.Code == 45009 {
		e.RetryAfter = perMinute // codes are counted by the minute, not by the day
	}
	if err != nil {
		return nil, "", err
	}
	return picture, contentType, nil
}

// picture takes a for a picture only if its status, its Content-Type and its first bytes all say so.
func (a answer) picture(op string, hide []string) (picture []byte, contentType string, err error) {
	contentType = pictureType(a.body)
	said := strings.HasPrefix(strings.ToLower(a.header.Get("Content-Type")), "image/")
	if a.status == http.StatusOK && said && contentType != "" {
		return a.body, contentType, nil
	}
	if err := a.open(op, nil, true, hide); err != nil {
		return nil, "", err
	}
	return nil, "", &Error{Op: op, Status: a.status, Kind: ErrNonsense, Msg: "success without a picture"}
}

// pictureType tells a picture by its first bytes; "": none of those that WeChat draws.
func pictureType(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	}
	return ""
}
