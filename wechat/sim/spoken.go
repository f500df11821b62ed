package sim

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// spoken is what a person sends to customer service or the official account, in the words of the control side.
type spoken struct {
	Type      string  `json:"type"` // text, image or miniprogrampage; to the official account text, image, voice, video, shortvideo, location or link
	Content   string  `json:"content"`
	PicURL    string  `json:"picUrl"`   // image; empty: a drawn one
	Title     string  `json:"title"`    // miniprogrampage, link; the label of a location
	PagePath  string  `json:"pagePath"` // miniprogrampage
	URL       string  `json:"url"`      // link
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// spokenTypes are what people can send to each account.
var spokenTypes = map[bool][]string{
	true:  {"text", "image", "miniprogrampage"},
	false: {"text", "image", "voice", "video", "shortvideo", "location", "link"},
}

// line is how the phone shows it.
func (m spoken) line() ChatMessage {
	switch m.Type {
	case "image":
		return ChatMessage{Type: m.Type, Content: "[image]", URL: m.PicURL}
	case "miniprogrampage":
		return ChatMessage{Type: m.Type, Title: m.Title, Content: m.PagePath}
	case "link":
		return ChatMessage{Type: m.Type, Title: m.Title, Content: m.Content, URL: m.URL}
	case "text":
		return ChatMessage{Type: m.Type, Content: m.Content}
	}
	return ChatMessage{Type: m.Type, Content: "[" + m.Type + "]", Title: m.Title}
}

// fields are those of the push; media makes the id of a file that the message brings.
func (m spoken) fields(appID string, media func(kind string) string) []pushField {
	switch m.Type {
	case "image":
		return []pushField{{"PicUrl", m.PicURL}, {"MediaId", media("image")}}
	case "miniprogrampage":
		return []pushField{{"Title", m.Title}, {"AppId", appID}, {"PagePath", m.PagePath}, {"ThumbUrl", m.PicURL}, {"ThumbMediaId", media("image")}}
	case "voice":
		return []pushField{{"MediaId", media("voice")}, {"Format", "amr"}}
	case "video", "shortvideo":
		return []pushField{{"MediaId", media("video")}, {"ThumbMediaId", media("image")}}
	case "location":
		return []pushField{{"Location_X", degrees(m.Latitude)}, {"Location_Y", degrees(m.Longitude)}, {"Scale", 16}, {"Label", m.Title}}
	case "link":
		return []pushField{{"Title", m.Title}, {"Description", m.Content}, {"Url", m.URL}}
	}
	return []pushField{{"Content", m.Content}}
}

// check fills in what may be left out and refuses what no phone sends to the mini-program or the
// official account; host is this simulator's, for drawn pictures.
func (m *spoken) check(host string, mini bool) error {
	m.Type = cmp.Or(m.Type, "text")
	if m.PicURL == "" && (m.Type == "image" || m.Type == "miniprogrampage") {
		m.PicURL = "http://" + cmp.Or(host, "127.0.0.1") + "/sim/avatar/200/" + url.PathEscape("图") + ".svg"
	}
	switch {
	case !slices.Contains(spokenTypes[mini], m.Type):
		return &controlError{400, "bad_type", "type is " + strings.Join(spokenTypes[mini], ", ")}
	case m.Type == "text" && (strings.TrimSpace(m.Content) == "" || len(m.Content) > maxTextBytes):
		return badRequest("content has 1 to 2048 bytes")
	case m.PicURL != "" && !isWebAddress(m.PicURL):
		return badRequest("picUrl is an http or https address of at most 1024 bytes")
	case m.Type == "miniprogrampage" && (m.Title == "" || m.PagePath == "" || len(m.Title) > 256 || len(m.PagePath) > 1024):
		return badRequest("a card has title and pagePath")
	case m.Type == "link" && (m.Title == "" || !isWebAddress(m.URL)):
		return badRequest("a link has title and url (of a trigger: key)")
	case m.Latitude < -90 || m.Latitude > 90 || m.Longitude < -180 || m.Longitude > 180:
		return badRequest("latitude is -90 to 90, longitude -180 to 180")
	}
	return nil
}

func isWebAddress(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && len(raw) <= 1024 && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// message is POST /sim/message: a person writes to customer service.
func (s *Sim) message(r *http.Request) (any, error) {
	var req struct {
		User string `json:"user"`
		spoken
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if err := req.check(r.Host, true); err != nil {
		return nil, err
	}
	if s.mini.url == "" {
		return nil, errNoPushURL
	}
	u, p, err := s.write(s.mini, req.User, req.spoken, true)
	if err != nil {
		return nil, err
	}
	ctx, done := s.during(r)
	defer done()
	got, shown := s.push(ctx, u, p, s.mini.form())
	return map[string]any{"ok": shown == "", "status": got.Status, "answer": got.Body, "shown": shown}, nil
}

var errNoPushURL = &controlError{409, "no_push_url", "name the url, or start the simulator with a push address"}

// form is how this account pushes.
func (a *account) form() pushForm { return pushForm{url: a.url, mode: a.mode, format: a.format} }

// write makes a message of a person; a said one appears in the chat and opens the reply window.
func (s *Sim) write(to *account, name string, m spoken, said bool) (*user, pushed, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(name)
	if err != nil {
		return nil, pushed{}, err
	}
	if said {
		s.speak(u.talk(to.mini), m.line())
	}
	s.lastID = max(s.lastID+1, now.UnixNano())
	fields := m.fields(to.appID, func(kind string) string { return s.addMedium(to, kind, nil).id })
	return u, pushed{to: to, openid: u.openidIn(to), kind: m.Type, fields: fields, msgID: s.lastID, at: now}, nil
}
