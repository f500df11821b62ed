package sim

import (
	"strings"
	"time"
	"unicode/utf8"
)

const (
	checksAMinute = 4000
	maxContent    = 2500          // characters
	seenFor       = 2 * time.Hour // since the person was in the mini-program
)

// checkText is POST /wxa/msg_sec_check, version 2. 违规 and risky are refused, 广告 is left to people.
func (s *Sim) checkText(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil || needlessEscape(c.body) != "" {
		return nil, errFormat
	}
	openid := f.text("openid", true, 128)
	version, scene := f.integer("version", 0), f.integer("scene", 0)
	content := f.text("content", true, maxContent)
	others := f.text("nickname", false, maxContent) + "\n" + f.text("title", false, maxContent) + "\n" + f.text("signature", false, maxContent)
	if bad := f.fault(); bad != nil {
		if bad.path == "/content" && utf8.RuneCountInString(content) > maxContent {
			return nil, apiErr(45002, "content size out of limit")
		}
		return nil, apiErr(47001, "data format error: "+bad.path)
	}
	if version != 2 || scene < 1 || scene > 4 {
		return nil, apiErr(40129, "invalid scene or version")
	}
	if _, e := s.recentlySeen(openid, &s.checked, checksAMinute); e != nil {
		return nil, e
	}
	got := judge(content + "\n" + others)
	return struct {
		apiError
		Result  verdict `json:"result"`
		Detail  []any   `json:"detail"`
		TraceID string  `json:"trace_id"`
	}{apiError{0, "ok"}, got, []any{}, traceID()}, nil
}

// verdict is what moderation thinks.
type verdict struct {
	Suggest string `json:"suggest"` // pass, review or risky
	Label   int    `json:"label"`
}

// judge finds 违规 and risky risky, and leaves 广告 to people.
func judge(text string) verdict {
	text = strings.ToLower(text)
	switch {
	case strings.Contains(text, "违规") || strings.Contains(text, "risky"):
		return verdict{"risky", 20006}
	case strings.Contains(text, "广告"):
		return verdict{"review", 10001}
	}
	return verdict{"pass", 100}
}

// recentlySeen finds the person whose content is to be judged, who must have used the mini-program
// lately, and counts the call.
func (s *Sim) recentlySeen(openid string, minute *window, limit int) (*user, *apiError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byOpenid(openid)
	switch {
	case u == nil:
		return nil, apiErr(40003, "invalid openid")
	case u.seenAt.IsZero() || now.Sub(u.seenAt) > seenFor:
		return nil, apiErr(61010, "code is expired")
	case !minute.allow(now, time.Minute, limit):
		return nil, apiErr(45009, "reach max api minute quota limit")
	}
	return u, nil
}
