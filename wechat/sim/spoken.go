package sim

import (
	"net/http"
	"net/url"
	"strings"
)

// spoken is what a person sends to customer service, in the words of the control side.
type spoken struct {
	Type     string `json:"type"` // text, image or miniprogrampage
	Content  string `json:"content"`
	PicURL   string `json:"picUrl"`   // image; empty: a drawn one
	Title    string `json:"title"`    // miniprogrampage
	PagePath string `json:"pagePath"` // miniprogrampage
}

// line is how the phone shows it.
func (m spoken) line() ChatMessage {
	switch m.Type {
	case "image":
		return ChatMessage{Type: m.Type, Content: "[image]", URL: m.PicURL}
	case "miniprogrampage":
		return ChatMessage{Type: m.Type, Title: m.Title, Content: m.PagePath}
	}
	return ChatMessage{Type: "text", Content: m.Content}
}

// fields are those of the push; mediaID is that of the picture, if there is one.
func (m spoken) fields(appID, mediaID string) []pushField {
	switch m.Type {
	case "image":
		return []pushField{{"PicUrl", m.PicURL}, {"MediaId", mediaID}}
	case "miniprogrampage":
		return []pushField{{"Title", m.Title}, {"AppId", appID}, {"PagePath", m.PagePath}, {"ThumbUrl", m.PicURL}, {"ThumbMediaId", mediaID}}
	}
	return []pushField{{"Content", m.Content}}
}

// check fills in what may be left out and refuses what no phone sends; host is this simulator's, for drawn pictures.
func (m *spoken) check(host string) error {
	if m.PicURL == "" && (m.Type == "image" || m.Type == "miniprogrampage") {
		m.PicURL = "http://" + host + "/sim/avatar/200/" + url.PathEscape("图") + ".svg"
	}
	u, err := url.Parse(m.PicURL)
	switch {
	case m.Type != "" && m.Type != "text" && m.Type != "image" && m.Type != "miniprogrampage":
		return &controlError{400, "bad_type", "type is text, image or miniprogrampage"}
	case (m.Type == "" || m.Type == "text") && (strings.TrimSpace(m.Content) == "" || len(m.Content) > maxTextBytes):
		return badRequest("content has 1 to 2048 bytes")
	case m.PicURL != "" && (err != nil || len(m.PicURL) > 1024 || (u.Scheme != "http" && u.Scheme != "https")):
		return badRequest("picUrl is an http or https address of at most 1024 bytes")
	case m.Type == "miniprogrampage" && (m.Title == "" || m.PagePath == "" || len(m.Title) > 256 || len(m.PagePath) > 1024):
		return badRequest("a card has title and pagePath")
	}
	if m.Type == "" {
		m.Type = "text"
	}
	return nil
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
	if err := req.check(r.Host); err != nil {
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
	mediaID := ""
	if m.Type != "text" {
		mediaID = s.addMedium(to, "image", nil).id
	}
	return u, pushed{to: to, openid: u.openidIn(to), kind: m.Type, fields: m.fields(to.appID, mediaID), msgID: s.lastID, at: now}, nil
}
