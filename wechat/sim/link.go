package sim

import (
	"slices"
	"time"
)

const (
	linksASecond = 100
	linksADay    = 500_000
	linkLongest  = 30 * 24 * time.Hour
	maxQuery     = 1024 // bytes
)

// urlLink is POST /wxa/generate_urllink.
func (s *Sim) urlLink(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	if e := s.makeLink(f, f); e != nil {
		return nil, e
	}
	return struct {
		apiError
		Link string `json:"url_link"`
	}{apiError{0, "ok"}, "https://wxaurl.cn/" + random(letters, 11)}, nil
}

// urlScheme is POST /wxa/generatescheme; where to go is in jump_wxa.
func (s *Sim) urlScheme(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	f.truth("is_expire")
	if e := s.makeLink(f, f.object("jump_wxa", false)); e != nil {
		return nil, e
	}
	return struct {
		apiError
		Link string `json:"openlink"`
	}{apiError{0, "ok"}, "weixin://dl/business/?t=" + random(letters, 12)}, nil
}

// makeLink checks both kinds of link: path and query are in to, the end of its life in f.
func (s *Sim) makeLink(f, to *fields) *apiError {
	path, query, version := to.text("path", false, 1024), to.text("query", false, maxBody), to.text("env_version", false, 32)
	optional := func(name string) int64 {
		if !f.has(name) {
			return 0
		}
		return f.integer(name, 0)
	}
	kind, at, days := optional("expire_type"), optional("expire_time"), optional("expire_interval")
	now := s.opts.Now()
	ends := time.Unix(at, 0)
	switch {
	case f.fault() != nil:
		return errFormat
	case path != "" && !s.hasPath(path):
		return apiErr(40165, "invalid weapp pagepath")
	case len(query) > maxQuery:
		return apiErr(40212, "invalid query")
	case version != "" && !slices.Contains(envVersions, version):
		return apiErr(40097, "invalid args: env_version")
	case kind > 1:
		return apiErr(40097, "invalid args: expire_type")
	case kind == 1 && (days < 1 || days > 30),
		kind == 0 && f.has("expire_time") && (ends.Before(now.Add(time.Minute)) || ends.After(now.Add(linkLongest))):
		return apiErr(85401, "time limit between 1min and 30days")
	case s.opts.Unreleased:
		return apiErr(85079, "miniprogram has no online release")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.linkSecond.allow(now, time.Second, linksASecond):
		return apiErr(44990, "reach max api second frequence limit")
	case !s.linkDay.allow(now, 24*time.Hour, linksADay):
		return apiErr(45009, "reach max api daily quota limit")
	}
	return nil
}
