package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"wxhub/store"
	"wxhub/wechat"
)

// serviceWindow is how long after a customer's last word WeChat takes our messages (facts: customer-service sending).
const serviceWindow = 48 * time.Hour

type conversationRow struct {
	ID         string `json:"id"`
	User       string `json:"user"`
	Nickname   string `json:"nickname"`
	LastAt     int64  `json:"lastAt"`
	LastText   string `json:"lastText"`
	Unread     int    `json:"unread"`
	ReplyUntil int64  `json:"replyUntil,omitempty" doc:"milliseconds: WeChat takes replies until then; absent: not any more"`
}

type conversationView struct {
	ID         string     `json:"id"`
	User       string     `json:"user"`
	Nickname   string     `json:"nickname"`
	ReplyUntil int64      `json:"replyUntil,omitempty"`
	Messages   []talkView `json:"messages" doc:"oldest first"`
}

type talkView struct {
	ID       string `json:"id"`
	From     string `json:"from" enum:"user,staff,rule"`
	Type     string `json:"type"`
	Content  string `json:"content"`
	PicURL   string `json:"picUrl,omitempty"`
	Title    string `json:"title,omitempty"`
	PagePath string `json:"pagePath,omitempty"`
	At       int64  `json:"at"`
}

type replyRequest struct {
	Text  string `json:"text,omitempty" maxLength:"600"`
	Image string `json:"image,omitempty" maxLength:"1400000" doc:"base64 of a PNG, JPEG or GIF of at most 1 MiB"`
	Link  *struct {
		Title       string `json:"title" minLength:"1" maxLength:"64"`
		Description string `json:"description" maxLength:"128"`
		URL         string `json:"url" maxLength:"1024" format:"uri"`
		ThumbURL    string `json:"thumbUrl" maxLength:"1024"`
	} `json:"link,omitempty"`
}

type conversationPath struct {
	ID string `path:"id" maxLength:"64"`
}

// routeInbox serves the customer-service inbox to staff and admins.
func (s *Server) routeInbox() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/conversations", access: staff, tag: "admin", summary: "Conversations, the newest first",
	}, func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"200" default:"100"`
	}) ([]conversationRow, error) {
		list, err := s.o.Store.Conversations(ctx, in.Limit)
		if err != nil {
			return nil, fmt.Errorf("conversations: %w", err)
		}
		rows := make([]conversationRow, len(list))
		for i, c := range list {
			rows[i] = conversationRow{c.ID, c.UserID, c.Nickname, c.LastAt.UnixMilli(), c.LastText, c.UnreadN, replyUntil(c)}
		}
		return rows, nil
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/conversations/{id}", access: staff, tag: "admin", summary: "One conversation; it counts as read",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *conversationPath) (conversationView, error) {
		c, talks, err := s.o.Store.Talks(ctx, in.ID, 200)
		if err != nil {
			return conversationView{}, conversationError(err)
		}
		v := conversationView{ID: c.ID, User: c.UserID, Nickname: c.Nickname, ReplyUntil: replyUntil(c), Messages: make([]talkView, len(talks))}
		for i, t := range talks {
			v.Messages[i] = talkView{t.ID, t.From, t.Type, t.Content, t.PicURL, t.Title, t.PagePath, t.At.UnixMilli()}
		}
		if err := s.o.Store.MarkRead(ctx, in.ID); err != nil {
			s.log.Warn("conversation not marked as read", "conversation", in.ID, "err", err)
		}
		return v, nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/conversations/{id}/reply", access: staff, tag: "admin", summary: "Answer the customer", maxBody: chatBody,
		description: "The answer is stored and sent by WeChat's customer-service message as soon as WeChat takes it.",
		errors:      []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body replyRequest
	}) (saidView, error) {
		return s.reply(ctx, in.ID, in.Body)
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/conversations/{id}/typing", access: staff, tag: "admin", summary: "Show the customer that somebody is writing",
		description: "WeChat shows it within half a minute of the customer's last message; later it is no error and nobody sees it.",
		errors:      []int{http.StatusBadRequest, http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body typingRequest
	}) (empty, error) {
		return s.typing(ctx, in.ID, in.Body.Typing)
	})
}

type saidView struct {
	ID string `json:"id"`
}

func conversationError(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
	}
	return fmt.Errorf("conversation: %w", err)
}

// replyUntil is when WeChat stops taking replies; 0: it has.
func replyUntil(c store.Conversation) int64 {
	end := c.LastUserAt.Add(serviceWindow)
	if c.LastUserAt.IsZero() || time.Now().After(end) {
		return 0
	}
	return end.UnixMilli()
}

// reply writes the line, the sending and the push to the staff's screens in one transaction.
func (s *Server) reply(ctx context.Context, conversation string, in replyRequest) (saidView, error) {
	picture := in.Image != "" && in.Text == "" && in.Link == nil
	var line store.Talk
	var m wechat.CustomMessage
	var err error
	if picture {
		_, _, err = pictureOf(in.Image)
	} else {
		line, m, err = in.words()
	}
	if err != nil {
		return saidView{}, err
	}
	c, u, err := s.customer(ctx, conversation)
	if err != nil {
		return saidView{}, err
	}
	if replyUntil(c) == 0 {
		return saidView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "WeChat takes replies only within 48 hours of the customer's last word"}
	}
	to, kind := s.accountOf(u)
	if to == nil {
		return saidView{}, errNotConfigured
	}
	if picture {
		if line, m, err = s.sendPicture(ctx, to, in.Image); err != nil {
			return saidView{}, err
		}
	}
	if m.Link != nil && kind == store.TellMPSend { // an official account has no links; a URL in a text opens as well
		m = wechat.CustomMessage{Text: &wechat.CustomText{Content: m.Link.Title + "\n" + m.Link.URL}}
	}
	err = s.o.Store.AddTalk(ctx, conversation, line, func(c store.Conversation, u store.User) []store.Telling {
		told := []store.Telling{{Kind: store.TellRoom, To: customerRoom, ID: line.ID, Action: "kf.message", Payload: payload(staffMessage{
			customerMessage{Conversation: c.ID, User: u.ID, Type: line.Type, Content: line.Content, PicURL: line.PicURL, Title: line.Title, At: line.At.UnixMilli()}, "staff",
		})}}
		if u.OpenID != "" { // not erased meanwhile
			told = append(told, store.Telling{Kind: kind, To: u.OpenID, ID: line.ID, Action: line.Type, Payload: payload(m)})
		}
		return told
	})
	if err != nil {
		return saidView{}, conversationError(err)
	}
	return saidView{line.ID}, nil
}

// words are a reply as a line and as WeChat takes it.
func (in *replyRequest) words() (line store.Talk, m wechat.CustomMessage, err error) {
	line = store.Talk{ID: "staff:" + uuid.NewString(), From: "staff", Type: "text", Content: in.Text, At: time.Now()}
	switch {
	case (in.Text == "") == (in.Link == nil), in.Image != "":
		err = badRequest("send text, link or image")
	case in.Link != nil && (!webAddress(in.Link.URL) || in.Link.ThumbURL != "" && !webAddress(in.Link.ThumbURL)):
		err = badRequest("link needs a url that begins with http:// or https://")
	case in.Link != nil:
		line.Type, line.Title, line.Content = "link", in.Link.Title, in.Link.URL
		m.Link = &wechat.CustomLink{Title: in.Link.Title, Description: in.Link.Description, URL: in.Link.URL, ThumbURL: in.Link.ThumbURL}
	case strings.TrimSpace(in.Text) == "":
		err = badRequest("the text is empty")
	case len(in.Text) > maxReplyText:
		err = badRequest("the text has more than 2048 bytes, WeChat takes no more")
	default:
		m.Text = &wechat.CustomText{Content: in.Text}
	}
	return line, m, err
}

// staffMessage is kf.message for what the shop itself said.
type staffMessage struct {
	customerMessage
	From string `json:"from"`
}
