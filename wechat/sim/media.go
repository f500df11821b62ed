package sim

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"

	qrcode "github.com/skip2/go-qrcode"
)

// medium is a temporary file at the platform. Guarded by Sim.mu.
type medium struct {
	id     string
	of     *account
	kind   string // image, voice, video or thumb
	file   []byte // nil: a picture that a person sent, drawn when it is asked for
	madeAt time.Time
}

const (
	mediumLife   = 3 * 24 * time.Hour
	maxMedia     = 10_000   // files
	maxMediaSize = 64 << 20 // bytes of all files
	maxUpload    = 11 << 20 // bytes of one request
)

// mediaRules are size (bytes) and kinds of content of each type that an account may upload.
var mediaRules = map[string]struct {
	limit int
	kinds []string
}{
	"image": {10 << 20, []string{"image/png", "image/jpeg", "image/gif", "image/bmp"}},
	"thumb": {64 << 10, []string{"image/jpeg"}},
	"voice": {2 << 20, nil},
	"video": {10 << 20, []string{"video/mp4"}},
}

// uploadMedia is POST /cgi-bin/media/upload?type=…: the mini-program uploads pictures only.
func (s *Sim) uploadMedia(c apiCall) (any, *apiError) {
	kind := c.r.URL.Query().Get("type")
	rule, known := mediaRules[kind]
	if !known || c.from.mini && kind != "image" {
		return nil, apiErr(40004, "invalid media type")
	}
	file, err := parseUpload(c.r.Header.Get("Content-Type"), c.body)
	switch {
	case err != nil || len(file) == 0:
		return nil, apiErr(41005, "media data missing")
	case len(file) > rule.limit:
		return nil, apiErr(40006, "invalid meida size") // the platform's own spelling
	case rule.kinds != nil && !slices.Contains(rule.kinds, http.DetectContentType(file)):
		return nil, apiErr(40005, "invalid file type")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.addMedium(c.from, kind, file)
	return map[string]any{"type": kind, "media_id": m.id, "created_at": m.madeAt.Unix()}, nil
}

var errNoUpload = errors.New("no form-data with a file in the field media")

// parseUpload returns the file in the multipart field media.
func parseUpload(contentType string, body []byte) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, errNoUpload
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err != nil {
			return nil, errNoUpload
		}
		if part.FormName() == "media" && part.FileName() != "" {
			return io.ReadAll(part) // body is bounded
		}
	}
}

// addMedium keeps a file; the oldest are forgotten when there are too many. Needs s.mu.
func (s *Sim) addMedium(of *account, kind string, file []byte) *medium {
	m := &medium{id: random(letters+"_-", 64), of: of, kind: kind, file: file, madeAt: s.opts.Now()}
	s.media[m.id] = m
	s.mediaLine = append(s.mediaLine, m)
	s.mediaSize += len(file)
	drop := 0
	for len(s.mediaLine)-drop > maxMedia || s.mediaSize > maxMediaSize {
		s.mediaSize -= len(s.mediaLine[drop].file)
		delete(s.media, s.mediaLine[drop].id)
		drop++
	}
	if drop > 0 {
		s.mediaLine = append(s.mediaLine[:0:0], s.mediaLine[drop:]...)
	}
	return m
}

// medium returns a file that is still kept for this account, nil for none. Needs s.mu.
func (s *Sim) medium(of *account, id string, now time.Time) *medium {
	m := s.media[id]
	if m == nil || m.of != of || now.Sub(m.madeAt) > mediumLife {
		return nil
	}
	return m
}

// getMedia is GET /cgi-bin/media/get?media_id=…: the file, or an error in JSON.
func (s *Sim) getMedia(c apiCall) (any, *apiError) {
	s.mu.Lock()
	m := s.medium(c.from, c.r.URL.Query().Get("media_id"), s.opts.Now())
	s.mu.Unlock()
	if m == nil {
		return nil, apiErr(40007, "invalid media_id")
	}
	if m.file != nil {
		return m.file, nil
	}
	picture, err := qrcode.Encode(strings.Repeat("图", 8)+m.id, qrcode.Medium, 300)
	if err != nil {
		s.opts.Logger.Error("picture not drawn", "error", err)
		return nil, apiErr(-1, "system error")
	}
	return picture, nil
}
