package sim

import (
	"slices"
	"strings"
	"time"
)

// customMessage is a body of custom/send that keeps the rules of its form.
type customMessage struct {
	to    string // openid
	line  ChatMessage
	media []string // media ids that it needs
	appID string   // of a card; empty: the own one
}

const (
	typingLasts   = 15 * time.Second
	typingWithin  = 30 * time.Second // after the user did something
	maxCardTitle  = 64               // characters
	aiNote        = "内容由第三方AI生成"
	errcodeWindow = 45015
	errcodeCount  = 45047
)

// customSend is POST /cgi-bin/message/custom/send of either app.
func (s *Sim) customSend(c apiCall) (any, *apiError) {
	m, e := parseCustomMessage(c.body, c.from.mini)
	if e == nil {
		e = s.deliver(c.from, m)
	}
	if e != nil {
		return nil, e
	}
	return apiError{0, "ok"}, nil
}

// parseCustomMessage checks the body rules of custom/send, of the mini-program or the official account.
func parseCustomMessage(body []byte, mini bool) (m customMessage, e *apiError) {
	f, err := parseFields(body)
	if err != nil {
		return m, errFormat
	}
	if escape := needlessEscape(body); escape != "" {
		return m, apiErr(47001, "data format error: send raw UTF-8, not "+escape)
	}
	l := &m.line
	m.to, l.Type, l.From = f.text("touser", false, 128), f.text("msgtype", false, 64), "shop"
	f.object("customservice", false).text("kf_account", false, 128)
	if ai := f.object("aimsgcontext", false); ai.has("is_ai_msg") && ai.integer("is_ai_msg", 0) == 1 {
		l.Note = aiNote
	}
	if f.fault() != nil {
		return m, errFormat
	}
	part := f.object(l.Type, false)
	switch e = m.read(part, mini); {
	case e != nil:
	case f.fault() != nil && (f.fault().missing || strings.Contains(f.fault().issue, "必填")):
		e = apiErr(40097, "invalid args: "+f.fault().path)
	case f.fault() != nil:
		e = apiErr(47001, "data format error: "+f.fault().path)
	case m.to == "":
		e = apiErr(40003, "invalid openid")
	}
	return m, e
}

// customTypes are the msgtypes of each app.
var customTypes = map[bool][]string{
	true:  {"text", "image", "link", "miniprogrampage"},
	false: {"text", "image", "voice", "video", "music", "news", "miniprogrampage"},
}

// read checks the part that carries the name of the msgtype.
func (m *customMessage) read(part *fields, mini bool) *apiError {
	l := &m.line
	if !slices.Contains(customTypes[mini], l.Type) {
		return apiErr(40008, "invalid message type")
	}
	switch l.Type {
	case "text":
		l.Content = part.text("content", false, maxBody)
		switch {
		case part.fault() != nil:
		case l.Content == "":
			return apiErr(44004, "empty content")
		case len(l.Content) > maxTextBytes:
			return apiErr(45002, "content size out of limit")
		}
	case "image", "voice":
		l.MediaID, l.Content = part.text("media_id", true, 1024), "["+l.Type+"]"
		m.media = []string{l.MediaID}
	case "video":
		l.MediaID, l.Title, l.Content = part.text("media_id", true, 1024), part.text("title", false, 128), "[video]"
		m.media = []string{l.MediaID, part.text("thumb_media_id", true, 1024)}
	case "music":
		l.Title, l.URL, l.Content = part.text("title", false, 128), part.text("musicurl", true, 1024), "[music]"
		part.text("hqmusicurl", true, 1024)
		m.media = []string{part.text("thumb_media_id", true, 1024)}
	case "news":
		list := part.list("articles", 1)
		if part.fault() == nil && len(list) != 1 {
			return apiErr(45008, "article size out of limit")
		}
		for _, a := range list {
			l.Title, l.Content, l.URL = a.text("title", true, 128), a.text("description", false, 512), a.text("url", true, 1024)
			a.text("picurl", false, 1024)
		}
	case "link":
		l.Title, l.Content = part.text("title", true, 128), part.text("description", true, 512)
		l.URL = part.text("url", true, 1024)
		part.text("thumb_url", true, 1024)
		if l.URL != "" && !strings.HasPrefix(l.URL, "http") {
			return apiErr(40097, "invalid args: url")
		}
	case "miniprogrampage":
		l.Title, l.Content = part.text("title", mini, maxCardTitle), part.text("pagepath", true, 1024)
		m.appID = part.text("appid", !mini, 32)
		m.media = []string{part.text("thumb_media_id", true, 1024)}
	}
	return nil
}

// deliver puts a custom message into the chat of its receiver, within the quota.
func (s *Sim) deliver(from *account, m customMessage) *apiError {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range m.media {
		if s.medium(from, id, now) == nil {
			return apiErr(40007, "invalid media_id")
		}
	}
	u := s.receiver(from, m.to)
	if u == nil {
		return apiErr(40003, "invalid openid")
	}
	if m.appID != "" && m.appID != s.mini.appID {
		return apiErr(40013, "invalid appid: the mini-program is not bound to this account")
	}
	t := u.talk(from.mini)
	switch {
	case !from.mini && u.followedAt.IsZero():
		return apiErr(43004, "require subscribe")
	case !t.spoken.open(now) && !t.brief.open(now):
		return apiErr(errcodeWindow, "response out of time limit or subscription is canceled")
	case t.brief.open(now) && t.brief.left > 0:
		t.brief.left--
	case t.spoken.open(now) && t.spoken.left > 0:
		t.spoken.left--
	default:
		return apiErr(errcodeCount, "out of response count limit")
	}
	t.typing = time.Time{}
	s.say(t, m.line)
	s.keepSent(from, "custom", u, m.line.Type, m.line.Content+m.line.URL)
	return nil
}

// keepSent writes down a delivered message. Needs s.mu.
func (s *Sim) keepSent(from *account, kind string, u *user, of, content string) {
	s.sent.add(SentMessage{ID: s.nextEntry(), At: s.opts.Now().UnixMilli(), From: from.label(), Kind: kind, User: u.name,
		Openid: u.openidIn(from), Type: of, Content: clip(content, 2048)})
}

// customTyping is POST /cgi-bin/message/custom/typing of either app.
func (s *Sim) customTyping(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	to, command := f.text("touser", false, 128), f.text("command", false, 32)
	if f.fault() != nil {
		return nil, errFormat
	}
	if command != "Typing" && command != "CancelTyping" {
		return nil, apiErr(45072, "invalid command")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.receiver(c.from, to)
	if u == nil {
		return nil, apiErr(40003, "invalid openid")
	}
	t := u.talk(c.from.mini)
	switch {
	case command == "CancelTyping":
		t.typing = time.Time{}
	case now.Sub(t.actedAt) > typingWithin:
		return nil, apiErr(45080, "client has not talked in the last 30 seconds")
	case t.typing.After(now):
		return nil, apiErr(45081, "typing already")
	default:
		t.typing = now.Add(typingLasts)
	}
	return apiError{0, "ok"}, nil
}
