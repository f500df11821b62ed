package sim

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxGranted    = 64 // templates that one person answered for
	maxPopup      = 5  // templates of one popup
	tellAfter     = time.Second
	sensitiveWord = "违规" // what the platform's moderation refuses here
)

var templateShape = regexp.MustCompile(`^[0-9A-Za-z_-]{8,64}$`)

// knowsTemplate tells whether a template exists. Without configured ones every well-formed id does.
func (s *Sim) knowsTemplate(id string) bool {
	_, known := s.opts.Templates[id]
	return templateShape.MatchString(id) && (known || len(s.opts.Templates) == 0)
}

// subscribe is POST /sim/subscribe: a popup of wx.requestSubscribeMessage, answered for each template.
// One accepted popup is worth one message.
func (s *Sim) subscribe(r *http.Request) (any, error) {
	var req struct {
		User      string            `json:"user"`
		Templates map[string]string `json:"templates"` // id: accept or reject
		Scene     int               `json:"scene"`     // 0 the popup, 1 the settings of a notice, 2 the settings of the popup
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if len(req.Templates) < 1 || len(req.Templates) > maxPopup {
		return nil, badRequest("templates names 1 to 5 templates, each with accept or reject")
	}
	answer := map[string]any{"ok": true, "errMsg": "requestSubscribeMessage:ok"}
	var items [][]pushField
	ids := slices.Sorted(maps.Keys(req.Templates))
	for _, id := range ids {
		status := req.Templates[id]
		if status != statusAccept && status != statusReject {
			return nil, badRequest("a template is answered with accept or reject")
		}
		if !s.knowsTemplate(id) {
			return map[string]any{"ok": false, "errMsg": "requestSubscribeMessage:fail No template data return, verify the template id exist", "errCode": 20001}, nil
		}
		answer[id] = status
		items = append(items, []pushField{{"TemplateId", id}, {"SubscribeStatusString", status}, {"PopupScene", strconv.Itoa(req.Scene)}})
	}
	s.mu.Lock()
	u, err := s.byName(req.User)
	if err == nil {
		for _, id := range ids {
			err = s.grantTemplate(u, id, req.Templates[id])
		}
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.tell(s.mini, u, 0, subscribeEvent("subscribe_msg_popup_event", items))
	return answer, nil
}

const (
	statusAccept = "accept"
	statusReject = "reject"
)

// grantTemplate counts one answer of a person. Needs s.mu.
func (s *Sim) grantTemplate(u *user, id, status string) error {
	if u.granted == nil {
		u.granted = map[string]int{}
	}
	if _, known := u.granted[id]; !known && len(u.granted) >= maxGranted {
		return &controlError{429, "too_many_templates", "one person answers for at most 64 templates"}
	}
	switch status {
	case statusAccept:
		u.granted[id]++
	case statusReject:
		u.granted[id] += 0 // known, and worth nothing more
	}
	return nil
}

// subscribeEvent is one of the three events of subscribe messages.
func subscribeEvent(name string, items [][]pushField) event {
	below := map[string]string{
		"subscribe_msg_popup_event":  "SubscribeMsgPopupEvent",
		"subscribe_msg_change_event": "SubscribeMsgChangeEvent",
		"subscribe_msg_sent_event":   "SubscribeMsgSentEvent",
	}[name]
	return event{fields: []pushField{{"Event", name}, {"List", pushList{below, items}}}, textTime: true}
}

// sendSubscribe is POST /cgi-bin/message/subscribe/send.
func (s *Sim) sendSubscribe(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil || needlessEscape(c.body) != "" {
		return nil, errFormat
	}
	m := readSubscribe(f)
	if f.fault() != nil {
		return nil, errFormat
	}
	u, id, e := s.spendGrant(c.from, m)
	if e != nil {
		return nil, e
	}
	s.tell(s.mini, u, tellAfter, subscribeEvent("subscribe_msg_sent_event",
		[][]pushField{{{"TemplateId", m.template}, {"MsgID", strconv.FormatInt(id, 10)}, {"ErrorCode", "0"}, {"ErrorStatus", "success"}}}))
	return struct {
		apiError
		MsgID int64 `json:"msgid"`
	}{apiError{0, "ok"}, id}, nil
}

// spendGrant sends the message if it keeps the rules and its receiver granted one.
func (s *Sim) spendGrant(from *account, m subscribeMessage) (u *user, id int64, e *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u = s.byOpenid(m.to)
	switch {
	case m.to == "" || u == nil:
		return nil, 0, apiErr(40003, "invalid openid")
	case !s.knowsTemplate(m.template):
		return nil, 0, apiErr(40037, "invalid template_id")
	case m.page != "" && !s.hasPath(m.page):
		return nil, 0, apiErr(41030, "invalid page hint")
	case m.state != "" && !slices.Contains([]string{"developer", "trial", "formal"}, m.state):
		return nil, 0, apiErr(40097, "invalid args: miniprogram_state")
	case m.lang != "" && !slices.Contains([]string{"zh_CN", "en_US", "zh_HK", "zh_TW"}, m.lang):
		return nil, 0, apiErr(40097, "invalid args: lang")
	}
	if e := m.badData(s.opts.Templates[m.template]); e != nil {
		return nil, 0, e
	}
	if u.granted[m.template] < 1 {
		return nil, 0, apiErr(43101, "user refuse to accept the msg")
	}
	u.granted[m.template]--
	s.lastID = max(s.lastID+1, s.opts.Now().UnixNano())
	s.keepSent(from, "subscribe", u, m.template, m.summary())
	return u, s.lastID, nil
}

// subscribeMessage is a read body of message/subscribe/send.
type subscribeMessage struct {
	to, template, page, state, lang string
	names                           []string // of the fields, sorted
	values                          map[string]string
}

func readSubscribe(f *fields) subscribeMessage {
	m := subscribeMessage{to: f.text("touser", false, 128), template: f.text("template_id", false, 128), page: f.text("page", false, 1024),
		state: f.text("miniprogram_state", false, 32), lang: f.text("lang", false, 16), values: map[string]string{}}
	data := f.object("data", false)
	m.names = slices.Sorted(maps.Keys(data.raw))
	for _, name := range m.names {
		m.values[name] = data.object(name, true).text("value", false, maxBody)
	}
	return m
}

func (m subscribeMessage) summary() string {
	parts := []string{}
	for _, name := range m.names {
		parts = append(parts, name+": "+m.values[name])
	}
	return strings.Join(append(parts, m.page), " · ")
}

// badData returns the refusal of the first field that breaks its rule; wanted are the fields of the
// template, nil when every field is allowed.
func (m subscribeMessage) badData(wanted []string) *apiError {
	refuse := func(name, why string) *apiError {
		return apiErr(47003, fmt.Sprintf("argument invalid! data.%s.value %s", name, why))
	}
	if len(m.names) == 0 && len(wanted) == 0 {
		return apiErr(47003, "argument invalid! data is empty")
	}
	for _, name := range wanted {
		if m.values[name] == "" {
			return refuse(name, "is emtpy") // the platform's own spelling
		}
	}
	for _, name := range m.names {
		if wanted != nil && !slices.Contains(wanted, name) {
			continue // what the template does not have is left out
		}
		value := m.values[name]
		switch {
		case value == "":
			return refuse(name, "is emtpy")
		case !goodSubscribeValue(name, value):
			return refuse(name, "invalid")
		case strings.Contains(value, sensitiveWord):
			return apiErr(45168, "hit sensitive word")
		}
	}
	return nil
}

var subscribeField = regexp.MustCompile(`^([a-z_]+?)([0-9]+)$`)

// subscribeShapes are the rules of those field types that a pattern can tell.
var subscribeShapes = map[string]*regexp.Regexp{
	"number":       regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`),
	"letter":       regexp.MustCompile(`^[A-Za-z]+$`),
	"time":         regexp.MustCompile(`^[0-9年月日时分秒:/~\- ]*[0-9年月日][0-9年月日时分秒:/~\- ]*$`),
	"date":         regexp.MustCompile(`^[0-9]{4}[年/-][0-9]{1,2}[月/-][0-9]{1,2}日?([ 0-9:~年月日/-]*)$`),
	"amount":       regexp.MustCompile(`^[^0-9.\s]?[0-9]{1,10}(\.[0-9]{1,2})?元?$`),
	"phone_number": regexp.MustCompile(`^[0-9+\-() ]{1,17}$`),
	"car_number":   regexp.MustCompile(`^.[A-Za-z0-9]{5,6}[A-Za-z0-9挂学警港澳]?$`),
}

var subscribeLimits = map[string]int{"thing": 20, "number": 32, "letter": 32, "symbol": 5, "character_string": 32, "time": 64, "date": 64,
	"amount": 14, "phone_number": 17, "car_number": 8, "name": 20, "phrase": 5, "enum": 20, "const": 20}

// goodSubscribeValue holds a value to the rule of its field's type, which the name tells. Lengths are in characters.
func goodSubscribeValue(name, value string) bool {
	parts := subscribeField.FindStringSubmatch(name)
	if parts == nil {
		return false
	}
	kind := parts[1]
	limit, known := subscribeLimits[kind]
	if !known || utf8.RuneCountInString(value) > limit || !utf8.ValidString(value) {
		return false
	}
	if shape := subscribeShapes[kind]; shape != nil && !shape.MatchString(value) {
		return false
	}
	han := strings.ContainsFunc(value, func(r rune) bool { return unicode.Is(unicode.Han, r) })
	switch kind {
	case "symbol":
		return !strings.ContainsFunc(value, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
	case "character_string":
		return !strings.ContainsFunc(value, func(r rune) bool { return r > unicode.MaxASCII })
	case "name":
		return !han || utf8.RuneCountInString(value) <= 10
	case "phrase":
		return !strings.ContainsFunc(value, func(r rune) bool { return !unicode.Is(unicode.Han, r) })
	}
	return true
}
