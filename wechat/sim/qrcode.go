package sim

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	qrcode "github.com/skip2/go-qrcode"
)

const (
	codesAMinute = 5000
	codeWidth    = 430 // px, when not asked for
)

var (
	sceneShape = regexp.MustCompile(`^[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]+$`)
	pageShape  = regexp.MustCompile(`^[0-9A-Za-z_\-]+(/[0-9A-Za-z_\-]+)*$`)
)

// drawCode is POST /wxa/getwxacodeunlimit: a picture, or an error in JSON with the same status 200.
func (s *Sim) drawCode(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	scene, page, version := f.text("scene", false, 1024), f.text("page", false, 1024), f.text("env_version", false, 32)
	width, check := int64(codeWidth), true
	if f.has("width") {
		width = f.integer("width", 0)
	}
	if f.has("check_path") {
		check = f.truth("check_path")
	}
	f.truth("auto_color")
	f.truth("is_hyaline")
	f.object("line_color", false)
	switch {
	case f.fault() != nil:
		return nil, errFormat
	case scene == "" || len(scene) > 32:
		return nil, apiErr(40169, "invalid length for scene, or the data is not json string")
	case !sceneShape.MatchString(scene):
		return nil, apiErr(40129, "invalid scene")
	case page != "" && (!pageShape.MatchString(page) || check && len(s.opts.Pages) > 0 && !slices.Contains(s.opts.Pages, page)):
		return nil, apiErr(41030, "invalid page hint")
	case version != "" && !slices.Contains([]string{"release", "trial", "develop"}, version):
		return nil, apiErr(40097, "invalid args: env_version")
	case width < 280 || width > 1280:
		return nil, apiErr(40097, "invalid args: width")
	}
	now := s.opts.Now()
	s.mu.Lock()
	allowed := s.drawn.allow(now, time.Minute, codesAMinute)
	s.mu.Unlock()
	if !allowed {
		return nil, apiErr(45009, "reach max api minute quota limit")
	}
	if page == "" {
		page = "pages/index/index"
	}
	picture, err := qrcode.Encode("weixin://dl/business/?"+strings.Join([]string{"appid=" + c.from.appID, "path=" + page,
		"query=" + url.QueryEscape("scene="+url.QueryEscape(scene))}, "&"), qrcode.Medium, int(width))
	if err != nil {
		s.opts.Logger.Error("code not drawn", "error", err)
		return nil, apiErr(-1, "system error")
	}
	return picture, nil
}
