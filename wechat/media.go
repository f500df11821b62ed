package wechat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

const (
	opUploadMedia = "media/upload"
	// mediaLife is how long an uploaded file is used: WeChat keeps it for three days.
	mediaLife = 3*24*time.Hour - time.Hour
	// uploadTimeout is longer than a call's: a picture of 10 MiB takes a while on a small line.
	uploadTimeout = 30 * time.Second
)

// A Medium is a file for a customer-service message or a passive reply.
type Medium struct {
	Kind    string // image; official accounts also thumb, voice, video
	Name    string // of the file; "": one that fits its kind
	Content []byte
}

// mediaLimits are WeChat's, in bytes.
var mediaLimits = map[string]int{"image": 10 << 20, "thumb": 64 << 10, "voice": 2 << 20, "video": 10 << 20}

var mediaNames = map[string]string{"image/png": "picture.png", "image/jpeg": "picture.jpg", "image/gif": "picture.gif", "video/mp4": "video.mp4"}

// check says what WeChat would refuse in m, before any call. Error: *Error, which Is ErrRequest.
func (m Medium) check() error {
	limit, known := mediaLimits[m.Kind]
	complaint := ""
	switch kind := http.DetectContentType(m.Content); {
	case !known:
		complaint = "a medium's kind is image, thumb, voice or video"
	case len(m.Content) == 0 || len(m.Content) > limit:
		complaint = fmt.Sprintf("a medium of this kind has 1 to %d bytes", limit)
	case m.Kind == "image" && !strings.HasPrefix(kind, "image/"), m.Kind == "thumb" && kind != "image/jpeg":
		complaint = "the content is not the picture that its kind wants"
	case len(m.Name) > 200 || strings.ContainsAny(m.Name, "\r\n\"\\/"):
		complaint = "the name must be that of a file, without its folder"
	}
	return complain(opUploadMedia, complaint)
}

// UploadMedia makes a file known to WeChat and returns the media_id that stands for it in messages
// (cgi-bin/media/upload). WeChat keeps it for three days; until then the same content gives the same id without
// a call, in every process that shares Options.Tokens. An id that a message was refused with (ErrMediaID) is
// forgotten: upload again.
// Errors: *Error, which Is ErrRequest, ErrTooOften, ErrBusy, ErrToken, ErrConfig or ErrNonsense.
func (c *Client) UploadMedia(ctx context.Context, m Medium) (mediaID string, err error) {
	if err := m.check(); err != nil {
		return "", err
	}
	sum := sha256.Sum256(m.Content)
	name := "media:" + c.appID + ":" + m.Kind + ":" + hex.EncodeToString(sum[:16])
	if id := recall(ctx, c.line, c.shelf, name); id != "" {
		return id, nil
	}
	ch := c.uploads.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*uploadTimeout)
		defer cancel()
		id, err := c.upload(ctx, m)
		if err != nil {
			return "", err
		}
		until := c.now().Add(mediaLife)
		keep(ctx, c.line, c.shelf, name, id, until)
		keep(ctx, c.line, c.shelf, c.mediaName(id), name, until)
		return id, nil
	})
	select {
	case r := <-ch:
		return r.Val.(string), r.Err
	case <-ctx.Done():
		return "", &Error{Op: opUploadMedia, Kind: ErrBusy, Err: ctx.Err()}
	}
}

// mediaName is where the store keeps which content an id stands for.
func (c *Client) mediaName(mediaID string) string {
	sum := sha256.Sum256([]byte(mediaID))
	return "media:" + c.appID + ":id:" + hex.EncodeToString(sum[:16])
}

// forgetMedia takes an id that WeChat does not know (any more) off the shelf.
func (c *Client) forgetMedia(ctx context.Context, mediaID string) {
	if name := recall(ctx, c.line, c.shelf, c.mediaName(mediaID)); name != "" {
		keep(ctx, c.line, c.shelf, name, mediaID, c.now())
	}
}

func (c *Client) upload(ctx context.Context, m Medium) (string, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	kind := http.DetectContentType(m.Content)
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="media"; filename="%s"`, orElse(m.Name, orElse(mediaNames[kind], "file")))},
		"Content-Type":        {kind},
	})
	if err == nil {
		if _, err = part.Write(m.Content); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return "", &Error{Op: opUploadMedia, Kind: ErrRequest, Msg: "the file cannot be written as a form"}
	}
	var got struct {
		MediaID      string `json:"media_id"`
		ThumbMediaID string `json:"thumb_media_id"`
	}
	err = c.withToken(ctx, opUploadMedia, nil, func(ctx context.Context, t token, hide []string) error {
		path := c.base + withQuery("/cgi-bin/media/upload", t, url.Values{"type": {m.Kind}})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(form.Bytes()))
		if err != nil {
			return &Error{Op: opUploadMedia, Kind: ErrConfig, Err: bare(err, hide)}
		}
		req.Header.Set("Content-Type", w.FormDataContentType())
		a, err := roundTrip(c.http, req, opUploadMedia, max(c.timeout, min(uploadTimeout, 8*c.timeout)), hide)
		if err != nil {
			return err
		}
		return a.open(opUploadMedia, &got, true, hide)
	})
	if err != nil {
		return "", err
	}
	id := orElse(got.MediaID, got.ThumbMediaID)
	if id == "" || len(id) > 512 {
		return "", &Error{Op: opUploadMedia, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a media_id"}
	}
	return id, nil
}
