package wechat

import (
	"context"
	"errors"
	"time"
)

const (
	opSendCustom = "custom/send"
	opTyping     = "custom/typing"
)

// How many customer-service messages WeChat takes after what a person did, and for how long: counted by whoever
// keeps a person's state, before WeChat refuses (ErrWindow). See PushMessage.ReplyQuota.
const (
	MessageQuota  = 5 // after a message of theirs
	MessageWindow = 48 * time.Hour
	EnterQuota    = 2 // after they entered the chat of a mini-program
	EnterWindow   = time.Minute
	DeedQuota     = 3 // after they followed an official account, scanned its code or used its menu
	DeedWindow    = time.Minute
)

// A CustomMessage is a customer-service message. Exactly one of the parts is set.
type CustomMessage struct {
	Account string `json:"-"` // of the member of staff who is shown as its writer (kf_account); "": the shop
	FromAI  bool   `json:"-"` // WeChat then adds that an AI made it

	Text  *CustomText  `json:"text,omitempty"`
	Image *CustomImage `json:"image,omitempty"`
	Link  *CustomLink  `json:"link,omitempty"`
	Card  *CustomCard  `json:"miniprogrampage,omitempty"`
}

// CustomText is a line of text.
type CustomText struct {
	Content string `json:"content"`
}

// CustomImage is a picture that was uploaded before.
type CustomImage struct {
	MediaID string `json:"media_id"`
}

// CustomLink is a card that opens a web page.
type CustomLink struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	URL         string `json:"url"`
	ThumbURL    string `json:"thumb_url"`
}

// CustomCard is a card that opens a page of the mini-program.
type CustomCard struct {
	Title        string `json:"title"`
	PagePath     string `json:"pagepath"`
	ThumbMediaID string `json:"thumb_media_id"`
	AppID        string `json:"appid,omitempty"` // of the mini-program; "": this one. An official account must name one
}

// msgType is the platform's word for the one part that is set; "": none, several, or an empty one.
func (m CustomMessage) msgType() string {
	var types []string
	if m.Text != nil && m.Text.Content != "" {
		types = append(types, "text")
	}
	if m.Image != nil && m.Image.MediaID != "" {
		types = append(types, "image")
	}
	if m.Link != nil && m.Link.Title != "" && m.Link.URL != "" {
		types = append(types, "link")
	}
	if m.Card != nil && m.Card.PagePath != "" {
		types = append(types, "miniprogrampage")
	}
	set := 0
	for _, is := range []bool{m.Text != nil, m.Image != nil, m.Link != nil, m.Card != nil} {
		if is {
			set++
		}
	}
	if set != 1 || len(types) != 1 {
		return ""
	}
	return types[0]
}

// mediaID is the uploaded file that m stands on, "" for none.
func (m CustomMessage) mediaID() string {
	switch {
	case m.Image != nil:
		return m.Image.MediaID
	case m.Card != nil:
		return m.Card.ThumbMediaID
	}
	return ""
}

// SendCustom sends a customer-service message to an openid (cgi-bin/message/custom/send). WeChat takes
// five within 48 hours of the user's last message, two within a minute of entering the session.
// Errors: *Error, which Is ErrWindow (45015: no window is open; 45047: it is used up), ErrOpenID, ErrRecipient,
// ErrMediaID (upload it again), ErrToken, ErrTooOften, ErrBusy, ErrConfig, ErrNonsense or ErrRequest. After
// ErrBusy the message may have arrived.
func (c *Client) SendCustom(ctx context.Context, openID string, m CustomMessage) error {
	const op = opSendCustom
	kind := m.msgType()
	switch {
	case openID == "":
		return &Error{Op: op, Kind: ErrOpenID, Msg: "no openid"}
	case kind == "":
		return &Error{Op: op, Kind: ErrRequest, Msg: "a message has exactly one part, which is not empty"}
	}
	type account struct {
		Name string `json:"kf_account"`
	}
	type ai struct {
		Is int `json:"is_ai_msg"`
	}
	in := struct {
		ToUser  string `json:"touser"`
		MsgType string `json:"msgtype"`
		CustomMessage
		Account *account `json:"customservice,omitempty"`
		AI      *ai      `json:"aimsgcontext,omitempty"`
	}{ToUser: openID, MsgType: kind, CustomMessage: m}
	if m.Account != "" {
		in.Account = &account{m.Account}
	}
	if m.FromAI {
		in.AI = &ai{1}
	}
	err := c.post(ctx, op, "/cgi-bin/message/custom/send", in, nil, openID)
	if errors.Is(err, ErrMediaID) {
		c.forgetMedia(ctx, m.mediaID())
	}
	return err
}

// Typing shows or takes away "the other side is typing" (cgi-bin/message/custom/typing). WeChat takes it within
// 30 seconds of the person's last message, else the error Is ErrWindow; that they see it already is no error.
// Errors: those of SendCustom.
func (c *Client) Typing(ctx context.Context, openID string, typing bool) error {
	if openID == "" {
		return &Error{Op: opTyping, Kind: ErrOpenID, Msg: "no openid"}
	}
	command := "CancelTyping"
	if typing {
		command = "Typing"
	}
	err := c.post(ctx, opTyping, "/cgi-bin/message/custom/typing", struct {
		ToUser  string `json:"touser"`
		Command string `json:"command"`
	}{openID, command}, nil, openID)
	if hasCode(err, 45081) {
		return nil
	}
	return err
}
