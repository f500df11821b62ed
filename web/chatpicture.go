package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"

	"wxhub/store"
	"wxhub/wechat"
)

// Pictures that staff sends to customers, and "the other side is typing".

const (
	chatPictures     = "/pictures/"
	chatPictureBytes = 1 << 20                       // that the store keeps
	chatBody         = chatPictureBytes*4/3 + 64<<10 // as base64, with the rest of a reply
	chatWait         = 20 * time.Second              // for WeChat to take a picture
)

var chatPictureTypes = regexp.MustCompile(`^image/(png|jpeg|gif)$`)

// pictureOf opens the picture of a reply.
func pictureOf(text string) (content []byte, contentType string, err error) {
	content, err = base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", badRequest("image is no base64")
	}
	contentType = http.DetectContentType(content)
	switch {
	case !chatPictureTypes.MatchString(contentType):
		return nil, "", badRequest("image must be a PNG, JPEG or GIF")
	case len(content) > chatPictureBytes:
		return nil, "", &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: "an image has at most 1 MiB"}
	}
	return content, contentType, nil
}

// sendPicture makes a picture known to WeChat and keeps it for the inbox: a line, and the message that shows it.
func (s *Server) sendPicture(ctx context.Context, to *wechat.Client, text string) (line store.Talk, m wechat.CustomMessage, err error) {
	content, contentType, err := pictureOf(text)
	if err != nil {
		return line, m, err
	}
	sum := sha256.Sum256(content)
	kept, err := s.o.Store.PutPicture(ctx, "chat:"+hex.EncodeToString(sum[:]), "", store.Picture{ContentType: contentType, Data: content})
	if err != nil {
		return line, m, fmt.Errorf("picture: %w", err)
	}
	sending, cancel := context.WithTimeout(ctx, chatWait)
	defer cancel()
	id, err := to.UploadMedia(sending, wechat.Medium{Kind: "image", Content: content})
	if err != nil {
		return line, m, codeError(err)
	}
	line = store.Talk{
		ID: "staff:" + uuid.NewString(), From: "staff", Type: "image", MediaID: clipTo(id, 4<<10), At: time.Now(),
		PicURL: s.o.PublicURL + chatPictures + kept.ID + extension(kept.ContentType),
	}
	m.Image = &wechat.CustomImage{MediaID: id}
	return line, m, nil
}

type typingRequest struct {
	Typing bool `json:"typing" doc:"false: not any more"`
}

// typing shows a customer that somebody is writing. That WeChat shows it no longer, because the customer was silent for
// half a minute, is no error.
func (s *Server) typing(ctx context.Context, conversation string, typing bool) (empty, error) {
	_, u, err := s.customer(ctx, conversation)
	if err != nil {
		return empty{}, err
	}
	to, _ := s.accountOf(u)
	if to == nil {
		return empty{}, errNotConfigured
	}
	if u.OpenID == "" {
		return empty{}, nil
	}
	if err := to.Typing(ctx, u.OpenID, typing); err != nil && !errors.Is(err, wechat.ErrWindow) {
		return empty{}, wechatError(err)
	}
	return empty{}, nil
}

// customer finds a conversation and whose it is.
func (s *Server) customer(ctx context.Context, conversation string) (store.Conversation, store.User, error) {
	c, _, err := s.o.Store.Talks(ctx, conversation, 1)
	if err != nil {
		return c, store.User{}, conversationError(err)
	}
	u, err := s.o.Store.User(ctx, c.UserID)
	if err != nil {
		return c, u, conversationError(err)
	}
	return c, u, nil
}

// accountOf is the account through which a customer speaks, and how messages of it are told; nil: not configured.
func (s *Server) accountOf(u store.User) (*wechat.Client, store.TellingKind) {
	if u.AppID == s.o.MPAppID && u.AppID != s.o.AppID {
		return s.o.MPClient, store.TellMPSend
	}
	return s.o.WeChat, store.TellCustomSend
}
