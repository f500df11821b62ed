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
	codesAMinute  = 5000
	codeWidth     = 430     // px, when not asked for
	codesInAll    = 100_000 // of getwxacode and createwxaqrcode together, for ever
	maxCodePath   = 1024    // bytes with query, of getwxacode
	maxSquarePath = 128     // the same of createwxaqrcode
)

var (
	sceneShape  = regexp.MustCompile(`^[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]+$`)
	pageShape   = regexp.MustCompile(`^[0-9A-Za-z_\-]+(/[0-9A-Za-z_\-]+)*$`)
	envVersions = []string{"release", "trial", "develop"}
)

// hasPage tells whether the released mini-program has a page; without configured ones every well-formed one is there.
func (s *Sim) hasPage(page string) bool {
	return pageShape.MatchString(page) && (len(s.opts.Pages) == 0 || slices.Contains(s.opts.Pages, page))
}

// hasPath is hasPage of a path that may begin with a slash and carry a query.
func (s *Sim) hasPath(path string) bool {
	page, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "?")
	return s.hasPage(page)
}

// codeLook are the fields that say what a code looks like.
type codeLook struct {
	width   int64
	version string
}

func readLook(f *fields) codeLook {
	look := codeLook{width: codeWidth, version: f.text("env_version", false, 32)}
	if f.has("width") {
		look.width = f.integer("width", 0)
	}
	f.truth("auto_color")
	f.truth("is_hyaline")
	f.object("line_color", false)
	return look
}

func (l codeLook) bad() *apiError {
	switch {
	case l.version != "" && !slices.Contains(envVersions, l.version):
		return apiErr(40097, "invalid args: env_version")
	case l.width < 280 || l.width > 1280:
		return apiErr(40097, "invalid args: width")
	}
	return nil
}

// drawCode is POST /wxa/getwxacodeunlimit: a picture, or an error in JSON with the same status 200.
func (s *Sim) drawCode(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	scene, page, look := f.text("scene", false, 1024), f.text("page", false, 1024), readLook(f)
	check := true
	if f.has("check_path") {
		check = f.truth("check_path")
	}
	switch {
	case f.fault() != nil:
		return nil, errFormat
	case f.has("scancode_time"):
		return nil, apiErr(85096, "not allow include scancode_time field")
	case scene == "" || len(scene) > 32:
		return nil, apiErr(40169, "invalid length for scene, or the data is not json string")
	case !sceneShape.MatchString(scene):
		return nil, apiErr(40129, "invalid scene")
	case page != "" && (!pageShape.MatchString(page) || check && !s.hasPage(page)):
		return nil, apiErr(41030, "invalid page hint")
	}
	if e := look.bad(); e != nil {
		return nil, e
	}
	s.mu.Lock()
	allowed := s.drawn.allow(s.opts.Now(), time.Minute, codesAMinute)
	s.mu.Unlock()
	if !allowed {
		return nil, apiErr(45009, "reach max api minute quota limit")
	}
	if page == "" {
		page = "pages/index/index"
	}
	return s.draw(c.from, page, "scene="+url.QueryEscape(scene), look)
}

// drawLimited is POST /wxa/getwxacode and /cgi-bin/wxaapp/createwxaqrcode: a path with its query, of
// which 100,000 can be made in all.
func (s *Sim) drawLimited(longest int) func(apiCall) (any, *apiError) {
	return func(c apiCall) (any, *apiError) {
		f, err := parseFields(c.body)
		if err != nil {
			return nil, errFormat
		}
		path, look := f.text("path", false, maxBody), readLook(f)
		switch {
		case f.fault() != nil:
			return nil, errFormat
		case path == "" || len(path) > longest:
			return nil, apiErr(40159, "invalid length for path, or the data is not json string")
		case !s.hasPath(path):
			return nil, apiErr(41030, "invalid page hint")
		}
		if e := look.bad(); e != nil {
			return nil, e
		}
		s.mu.Lock()
		full := s.limited >= codesInAll
		if !full {
			s.limited++
		}
		s.mu.Unlock()
		if full {
			return nil, apiErr(45029, "qrcode count out of limit")
		}
		page, query, _ := strings.Cut(strings.TrimPrefix(path, "/"), "?")
		return s.draw(c.from, page, query, look)
	}
}

// draw makes the picture of a code.
func (s *Sim) draw(of *account, page, query string, look codeLook) (any, *apiError) {
	picture, err := qrcode.Encode("weixin://dl/business/?appid="+of.appID+"&path="+page+"&query="+url.QueryEscape(query), qrcode.Medium, int(look.width))
	if err != nil {
		s.opts.Logger.Error("code not drawn", "error", err)
		return nil, apiErr(-1, "system error")
	}
	return picture, nil
}
