package sim

import (
	"maps"
	"slices"
	"strings"
)

// sendTemplate is POST /cgi-bin/message/template/send of the official account. Its result is told by
// TEMPLATESENDJOBFINISH.
func (s *Sim) sendTemplate(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil || needlessEscape(c.body) != "" {
		return nil, errFormat
	}
	to, template, url := f.text("touser", false, 128), f.text("template_id", false, 128), f.text("url", false, 1024)
	card := f.object("miniprogram", false)
	if card.seen {
		card.text("appid", true, 32)
		card.text("pagepath", false, 1024)
	}
	f.text("client_msg_id", false, 32)
	data := f.object("data", true)
	parts := []string{}
	for _, name := range slices.Sorted(maps.Keys(data.raw)) {
		parts = append(parts, name+": "+data.object(name, true).text("value", false, 1024))
	}
	if f.fault() != nil {
		return nil, errFormat
	}
	s.mu.Lock()
	u := s.fans[to]
	switch {
	case u == nil:
		s.mu.Unlock()
		return nil, apiErr(40003, "invalid openid")
	case u.followedAt.IsZero():
		s.mu.Unlock()
		return nil, apiErr(43004, "require subscribe")
	case !s.knowsTemplate(template):
		s.mu.Unlock()
		return nil, apiErr(40037, "invalid template_id")
	}
	s.lastID = max(s.lastID+1, s.opts.Now().UnixNano())
	id := s.lastID
	s.keepSent(c.from, "template", u, template, strings.Join(append(parts, url), " · "))
	s.mu.Unlock()
	s.tell(s.mp, u, tellAfter, templateResult(id, "success"))
	return struct {
		apiError
		MsgID int64 `json:"msgid"`
	}{apiError{0, "ok"}, id}, nil
}

// templateResult is success, failed:user block or failed: system failed.
func templateResult(id int64, status string) event {
	return event{fields: []pushField{{"Event", "TEMPLATESENDJOBFINISH"}, {"MsgID", id}, {"Status", status}}}
}
