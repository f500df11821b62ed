package web

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"wxhub/store"
	"wxhub/wechat"
)

// The accounts that rules speak of.
const (
	miniAccount = "mini" // the mini-program
	mpAccount   = "mp"   // the official account
)

// Reply is an auto-reply rule: what it fits, and its one answer (Text, MediaID, Link, Card or Transfer). Without a
// condition it fits every message.
type Reply struct {
	Account string `koanf:"account"` // mini or mp; empty: both
	Keyword string `koanf:"keyword"` // the text contains it; with Event: the event's key (menu, scene, session-from) is it
	Prefix  string `koanf:"prefix"`  // the text begins with it
	Event   string `koanf:"event"`   // fits events of this name (user_enter_tempsession, subscribe, CLICK …) in place of messages
	Default bool   `koanf:"default"` // only where no other rule fits

	Type     string     `koanf:"type"`     // text, image, link, card or transfer; empty: as the answer says
	Text     string     `koanf:"text"`     // at most 2048 bytes
	MediaID  string     `koanf:"media_id"` // of a picture that was uploaded
	Link     *ReplyLink `koanf:"link"`
	Card     *ReplyCard `koanf:"card"`     // mini-program only
	Transfer bool       `koanf:"transfer"` // to the people at WeChat's own customer-service console; messages only
}

// ReplyLink is a card that opens a web page.
type ReplyLink struct {
	Title       string `koanf:"title"`
	Description string `koanf:"description"`
	URL         string `koanf:"url"`
	ThumbURL    string `koanf:"thumb_url"`
}

// ReplyCard is a card that opens a page of the mini-program.
type ReplyCard struct {
	Title        string `koanf:"title"`
	PagePath     string `koanf:"page_path"`
	ThumbMediaID string `koanf:"thumb_media_id"`
}

const maxReplyText = 2048 // bytes; WeChat takes no more

// officialReplies answer in the official account where no rule is for it.
func officialReplies() []Reply {
	return []Reply{
		{Account: mpAccount, Prefix: "@", Text: "已经收到您的建议，会及时处理！"},
		{Account: mpAccount, Default: true, Text: "编辑@+您想说的话，我们可以收到"},
	}
}

// A ruleSet is checked rules; the first that fits counts.
type ruleSet []Reply

// newRuleSet checks the rules and names each that cannot be meant.
func newRuleSet(rules []Reply) (ruleSet, error) {
	var errs []error
	own := false
	for i, r := range rules {
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("web: reply %d: %w", i+1, err))
		}
		own = own || r.Account == mpAccount
	}
	if !own {
		rules = append(officialReplies(), rules...)
	}
	return rules, errors.Join(errs...)
}

// kind is what the rule answers with; "": not exactly one thing.
func (r *Reply) kind() string {
	var set []string
	for kind, there := range map[string]bool{
		"text": r.Text != "", "image": r.MediaID != "", "link": r.Link != nil, "card": r.Card != nil, "transfer": r.Transfer,
	} {
		if there {
			set = append(set, kind)
		}
	}
	if len(set) != 1 {
		return ""
	}
	return set[0]
}

func (r *Reply) check() error {
	kind := r.kind()
	switch {
	case r.Account != "" && r.Account != miniAccount && r.Account != mpAccount:
		return fmt.Errorf("account %q is neither mini nor mp", r.Account)
	case kind == "":
		return errors.New("needs exactly one of text, media_id, link, card and transfer")
	case r.Type != "" && r.Type != kind:
		return fmt.Errorf("type %q, but its answer is a %s", r.Type, kind)
	case len(r.Text) > maxReplyText:
		return fmt.Errorf("text has %d bytes, WeChat takes %d", len(r.Text), maxReplyText)
	case r.Event != "" && r.Prefix != "":
		return errors.New("an event has no text that begins with a prefix")
	case r.Event != "" && r.Transfer:
		return errors.New("only messages can be transferred, no events")
	case r.Link != nil && (r.Link.Title == "" || !webAddress(r.Link.URL) || r.Link.ThumbURL != "" && !webAddress(r.Link.ThumbURL)):
		return errors.New("link needs a title and a url that begins with http:// or https://")
	case r.Card != nil && r.Card.PagePath == "":
		return errors.New("card needs page_path")
	case r.Card != nil && r.Account == mpAccount:
		return errors.New("an official account cannot answer with a card; use link")
	}
	return nil
}

func webAddress(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// fitting finds the rule for a message or event of an account.
func (rules ruleSet) fitting(account string, m *wechat.PushMessage) (Reply, bool) {
	for _, last := range []bool{false, true} {
		for _, r := range rules {
			if r.Default == last && r.fits(account, m) {
				return r, true
			}
		}
	}
	return Reply{}, false
}

func (r *Reply) fits(account string, m *wechat.PushMessage) bool {
	switch {
	case r.Account != "" && r.Account != account, r.Card != nil && account == mpAccount:
		return false
	case m.MsgType == "event":
		return r.Event != "" && r.Event == m.Event && (r.Keyword == "" || strings.EqualFold(r.Keyword, eventKey(m)))
	}
	return r.Event == "" && strings.HasPrefix(strings.TrimSpace(m.Content), r.Prefix) &&
		strings.Contains(strings.ToLower(m.Content), strings.ToLower(r.Keyword))
}

// eventKey is what an event is about: the menu's key, the scene of a QR code, the session-from of the button.
func eventKey(m *wechat.PushMessage) string { return first(m.SceneKey(), m.SessionFrom) }

// custom is the answer as a customer-service message.
func (r *Reply) custom() (m wechat.CustomMessage) {
	switch r.kind() {
	case "text":
		m.Text = &wechat.CustomText{Content: r.Text}
	case "image":
		m.Image = &wechat.CustomImage{MediaID: r.MediaID}
	case "link":
		m.Link = &wechat.CustomLink{Title: r.Link.Title, Description: r.Link.Description, URL: r.Link.URL, ThumbURL: r.Link.ThumbURL}
	case "card":
		m.Card = &wechat.CustomCard{Title: r.Card.Title, PagePath: r.Card.PagePath, ThumbMediaID: r.Card.ThumbMediaID}
	}
	return m
}

// passive is the answer to m within the answer to its push.
func (r *Reply) passive(m *wechat.PushMessage) []byte {
	switch r.kind() {
	case "text":
		return m.TextReply(r.Text)
	case "image":
		return m.ImageReply(r.MediaID)
	case "link":
		return m.NewsReply([]wechat.Article{{Title: r.Link.Title, Description: r.Link.Description, PicURL: r.Link.ThumbURL, URL: r.Link.URL}})
	case "transfer":
		return m.TransferReply("")
	}
	return success
}

// line is the answer as a line of the conversation, behind the line that it answers.
func (r *Reply) line(to store.Talk) *store.Talk {
	t := store.Talk{ID: "rule:" + to.ID, From: "rule", Type: r.kind(), Content: r.Text, MediaID: r.MediaID, At: to.At}
	switch t.Type {
	case "link":
		t.Title, t.Content, t.PicURL = r.Link.Title, r.Link.URL, r.Link.ThumbURL
	case "card":
		t.Type, t.Title, t.PagePath = "miniprogrampage", r.Card.Title, r.Card.PagePath
	case "transfer":
		t.Type = "transfer_customer_service"
	}
	return &t
}
