package wechat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	opQRCode     = "getwxacodeunlimit"
	opPathCode   = "getwxacode"
	opSquareCode = "createwxaqrcode"
	minQRWidth   = 280 // pixels
	maxQRWidth   = 1280
	maxPage      = 128  // characters; the longest page of a mini-program is far shorter
	maxPath      = 1024 // bytes of a page with its query
)

// RGB is a colour.
type RGB struct {
	R uint8 `json:"r"`
	G uint8 `json:"g"`
	B uint8 `json:"b"`
}

// A QRCode is a mini-program code that never expires, of which there may be any number.
type QRCode struct {
	Scene      string // 1 to 32 of 0-9 A-Z a-z !#$&'()*+,/:;=?@-._~ ; the page gets it, URL-encoded, as query.scene
	Page       string // "": the home page; without a leading slash and without a query
	Width      int    // pixels, 280 to 1280; 0: WeChat's own 430
	EnvVersion string // "" or release, trial, develop
	CheckPath  bool   // the page must be in the released version

	AutoColor   bool // of the lines, after the shop's picture
	Color       *RGB // of the lines; nil: black
	Transparent bool // without a ground
}

// A PathCode is a code for a page with its query. WeChat draws 100,000 of them for an app, of both kinds together
// and for ever: QRCode is for everything else.
type PathCode struct {
	Path       string // with its query; at most 1024 bytes, or 128 when Square
	Width      int    // pixels, 280 to 1280; 0: WeChat's own 430
	EnvVersion string // "" or release, trial, develop; not when Square
	Square     bool   // a square code (createwxaqrcode) in place of the round one (getwxacode)

	AutoColor   bool // of the lines, after the shop's picture; not when Square
	Color       *RGB // of the lines; nil: black
	Transparent bool // without a ground
}

var (
	sceneChars = regexp.MustCompile(`^[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]{1,32}$`)
	pageChars  = regexp.MustCompile(`^[0-9A-Za-z_\-./]*$`)
)

// IsScene tells whether s fits into a code as it is. What does not is to be kept on the server under a short id.
func IsScene(s string) bool { return sceneChars.MatchString(s) }

func lookComplaint(width int, envVersion string) string {
	switch {
	case width != 0 && (width < minQRWidth || width > maxQRWidth):
		return "width must be 280 to 1280 pixels"
	case envVersion != "" && envVersion != "release" && envVersion != "trial" && envVersion != "develop":
		return "envVersion must be release, trial or develop"
	}
	return ""
}

// Check says in a sentence what WeChat would refuse, before any call. Error: *Error, which Is ErrRequest.
func (q QRCode) Check() error {
	complaint := lookComplaint(q.Width, q.EnvVersion)
	switch {
	case !sceneChars.MatchString(q.Scene):
		complaint = "scene must have 1 to 32 letters, digits or !#$&'()*+,/:;=?@-._~"
	case strings.HasPrefix(q.Page, "/"):
		complaint = "page must not begin with a slash"
	case strings.Contains(q.Page, "?"):
		complaint = "page must have no query; what belongs to the code is its scene"
	case len(q.Page) > maxPage || !pageChars.MatchString(q.Page):
		complaint = "page must be a page's path, like pages/index/index"
	}
	return complain(opQRCode, complaint)
}

// Check is QRCode's.
func (p PathCode) Check() error {
	op, most := opPathCode, maxPath
	if p.Square {
		op, most = opSquareCode, 128
	}
	complaint := lookComplaint(p.Width, p.EnvVersion)
	switch page, _, _ := strings.Cut(p.Path, "?"); {
	case p.Path == "" || len(p.Path) > most:
		complaint = "path must have 1 to 1024 bytes, or 128 for a square code"
	case strings.Trim(page, "/") == "" || !pageChars.MatchString(page) || strings.ContainsFunc(p.Path, unicode.IsControl) || !utf8.ValidString(p.Path):
		complaint = "path must be a page's path with or without a query, like pages/index/index?id=1"
	case p.Square && (p.EnvVersion != "" || p.AutoColor || p.Color != nil || p.Transparent):
		complaint = "a square code has a path and a width alone"
	}
	return complain(op, complaint)
}

// QRCode draws q (wxa/getwxacodeunlimit). contentType is that of the bytes, image/png or image/jpeg; the
// picture has at most 1 MiB. WeChat answers errors as JSON in the picture's place: those are errors here.
// Errors: *Error, which Is ErrRequest (41030: no such page in that version), ErrTooOften, ErrBusy,
// ErrToken, ErrConfig or ErrNonsense.
func (c *Client) QRCode(ctx context.Context, q QRCode) (picture []byte, contentType string, err error) {
	if err := q.Check(); err != nil {
		return nil, "", err
	}
	picture, contentType, err = c.draw(ctx, opQRCode, "/wxa/getwxacodeunlimit", struct {
		Scene       string `json:"scene"`
		Page        string `json:"page,omitempty"`
		CheckPath   bool   `json:"check_path"`
		EnvVersion  string `json:"env_version,omitempty"`
		Width       int    `json:"width,omitempty"`
		AutoColor   bool   `json:"auto_color,omitempty"`
		Color       *RGB   `json:"line_color,omitempty"`
		Transparent bool   `json:"is_hyaline,omitempty"`
	}{q.Scene, q.Page, q.CheckPath, q.EnvVersion, q.Width, q.AutoColor, q.Color, q.Transparent})
	var e *Error
	if errors.As(err, &e) && e.Code == 45009 {
		e.RetryAfter = perMinute // codes are counted by the minute, not by the day
	}
	return picture, contentType, err
}

// PathCode draws p (wxa/getwxacode, or cgi-bin/wxaapp/createwxaqrcode when Square); see QRCode. An ErrRequest
// with code 45029 says that the 100,000 are used up.
func (c *Client) PathCode(ctx context.Context, p PathCode) (picture []byte, contentType string, err error) {
	if err := p.Check(); err != nil {
		return nil, "", err
	}
	op, path := opPathCode, "/wxa/getwxacode"
	if p.Square {
		op, path = opSquareCode, "/cgi-bin/wxaapp/createwxaqrcode"
	}
	return c.draw(ctx, op, path, struct {
		Path        string `json:"path"`
		EnvVersion  string `json:"env_version,omitempty"`
		Width       int    `json:"width,omitempty"`
		AutoColor   bool   `json:"auto_color,omitempty"`
		Color       *RGB   `json:"line_color,omitempty"`
		Transparent bool   `json:"is_hyaline,omitempty"`
	}{p.Path, p.EnvVersion, p.Width, p.AutoColor, p.Color, p.Transparent})
}

func (c *Client) draw(ctx context.Context, op, path string, in any) (picture []byte, contentType string, err error) {
	body, err := encode(in)
	if err != nil {
		return nil, "", &Error{Op: op, Kind: ErrRequest, Msg: "the request cannot be written as JSON"}
	}
	err = c.withToken(ctx, op, nil, func(ctx context.Context, t token, hide []string) error {
		a, err := c.postJSON(ctx, op, withQuery(path, t, nil), body, hide)
		if err != nil {
			return err
		}
		picture, contentType, err = a.picture(op, hide)
		return err
	})
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
