package wechat

import (
	"context"
)

// A CustomMessage is a customer-service message. Exactly one of the parts is set.
type CustomMessage struct {
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

// SendCustom sends a customer-service message to an openid (cgi-bin/message/custom/send). WeChat takes
// five within 48 hours of the user's last message, two within a minute of entering the session.
// Errors: *Error, which Is ErrWindow, ErrOpenID, ErrToken, ErrTooOften, ErrBusy, ErrConfig, ErrNonsense
// or ErrRequest. After ErrBusy the message may have arrived.
func (c *Client) SendCustom(ctx context.Context, openID string, m CustomMessage) error {
	const op = "custom/send"
	kind := m.msgType()
	switch {
	case openID == "":
		return &Error{Op: op, Kind: ErrOpenID, Msg: "no openid"}
	case kind == "":
		return &Error{Op: op, Kind: ErrRequest, Msg: "a message has exactly one part, which is not empty"}
	}
	return c.post(ctx, op, "/cgi-bin/message/custom/send", struct {
		ToUser  string `json:"touser"`
		MsgType string `json:"msgtype"`
		CustomMessage
	}{openID, kind, m}, nil, openID)
}
