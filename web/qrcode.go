package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	codesADay  = 100 // new ones of one user; WeChat allows 5,000 a minute to the whole shop
	codeDay    = 24 * time.Hour
	codeWidth  = 430     // pixels; WeChat's own choice
	codePixels = 2000    // of either side; WeChat draws at most 1,280
	codeBytes  = 1 << 20 // that the store keeps
	pictures   = "/qrcode/"
)

// codes counts the pictures that are being drawn for each user, so that many requests at once are no way around the limit.
type codes struct {
	mu      sync.Mutex
	drawing map[string]int
}

func (c *codes) begin(user string) (drawing int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drawing[user]++
	return c.drawing[user]
}

func (c *codes) end(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drawing[user]--; c.drawing[user] == 0 {
		delete(c.drawing, user)
	}
}

type codeView struct {
	Img   string `json:"img" doc:"URL of a PNG, without a token; begins with WXHUB_PUBLIC_URL, or is relative to the hub"`
	Scene string `json:"scene,omitempty" doc:"What the page gets. A scene that was too long is kept, and given back by /api/scene/{id}"`
}

// routeCode serves mini-program codes.
func (s *Server) routeCode() {
	handle(s, route{
		method: http.MethodGet, path: "/api/qrcode", access: users, tag: "shop", summary: "A mini-program code that never expires",
		description: "The same parameters give the same picture. At most 100 new ones a user and day. " +
			"A scene of more than 32 characters, which may be any text, is kept here behind a short id.",
		errors: []int{http.StatusBadRequest, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Scene      string `query:"scene" required:"true" maxLength:"1024" doc:"1 to 32 of 0-9 A-Z a-z !#$&'()*+,/:;=?@-._~ ; the page gets it as decodeURIComponent(query.scene). Longer: any text of at most 1,024 characters"`
		Page       string `query:"page" maxLength:"256" doc:"Like pages/index/index; absent: the home page"`
		Width      int    `query:"width" doc:"280 to 1280 pixels; absent: 430"`
		EnvVersion string `query:"envVersion" doc:"release (when absent), trial or develop"`
	}) (codeView, error) {
		q := wechat.QRCode{Scene: in.Scene, Page: in.Page, Width: in.Width, EnvVersion: in.EnvVersion}
		long := len([]rune(q.Scene)) > 32
		if long {
			q.Scene = store.SceneMark // of the form that it will have
		}
		if q.Width == 0 {
			q.Width = codeWidth
		}
		if q.EnvVersion == "" {
			q.EnvVersion = "release"
		}
		q.CheckPath = q.EnvVersion == "release"
		if err := q.Check(); err != nil {
			return codeView{}, complaint(err)
		}
		session, _ := requestOf(ctx).user()
		if long {
			var err error
			if q.Scene, err = s.sceneFor(ctx, session.User, in.Scene); err != nil {
				return codeView{}, err
			}
		}
		v, err := s.code(ctx, session.User, q)
		v.Scene = q.Scene
		return v, err
	})
}

// code finds a picture, or has WeChat draw it.
func (s *Server) code(ctx context.Context, user string, q wechat.QRCode) (codeView, error) {
	key := s.pictureKey(q.Scene, q.Page, strconv.Itoa(q.Width), q.EnvVersion)
	return s.picture(ctx, key, func() (store.Picture, error) { return s.drawCode(ctx, user, key, q) })
}

// pictureKey is what makes a picture the same: everything that was asked for.
func (s *Server) pictureKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{s.o.AppID}, parts...), "\n")))
	return "code:" + hex.EncodeToString(sum[:])
}

// picture finds the picture of a key, or has it drawn.
func (s *Server) picture(ctx context.Context, key string, draw func() (store.Picture, error)) (codeView, error) {
	p, err := s.o.Store.PictureByKey(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		p, err = draw()
	}
	if err != nil {
		return codeView{}, err
	}
	return codeView{Img: s.o.PublicURL + pictures + p.ID + extension(p.ContentType)}, nil
}

func (s *Server) drawCode(ctx context.Context, user, key string, q wechat.QRCode) (store.Picture, error) {
	if s.o.WeChat == nil {
		return store.Picture{}, errNotConfigured
	}
	drawing := s.codes.begin(user)
	defer s.codes.end(user)
	drawn, err := s.o.Store.CountPictures(ctx, user, time.Now().Add(-codeDay))
	if err != nil {
		return store.Picture{}, fmt.Errorf("qrcode: %w", err)
	}
	if drawn+drawing > codesADay {
		return store.Picture{}, tooMany(time.Hour)
	}
	return s.keepCode(ctx, key, user, func() ([]byte, string, error) { return s.o.WeChat.QRCode(ctx, q) })
}

// keepCode has a code drawn and keeps it for user.
func (s *Server) keepCode(ctx context.Context, key, user string, draw func() ([]byte, string, error)) (store.Picture, error) {
	picture, contentType, err := draw()
	if err != nil {
		return store.Picture{}, codeError(err)
	}
	picture, contentType = asPNG(picture, contentType)
	p, err := s.o.Store.PutPicture(ctx, key, user, store.Picture{ContentType: contentType, Data: picture})
	if err != nil {
		return store.Picture{}, fmt.Errorf("qrcode: %w", err)
	}
	return p, nil
}

// codeError says what WeChat did not like.
func codeError(err error) error {
	var e *wechat.Error
	if errors.As(err, &e) && errors.Is(err, wechat.ErrRequest) {
		message := "WeChat does not take these parameters: scene, page, path, query, width or envVersion"
		if e.Code == 41030 {
			message = "page: WeChat knows no such page in this version of the mini-program"
		}
		return &Error{Status: http.StatusBadRequest, Code: "bad_request", Message: message, Err: err}
	}
	return wechatError(err)
}

// asPNG turns WeChat's JPEG into the PNG that was promised. What cannot be turned stays as it is.
func asPNG(picture []byte, contentType string) ([]byte, string) {
	if contentType != "image/jpeg" {
		return picture, contentType
	}
	size, err := jpeg.DecodeConfig(bytes.NewReader(picture))
	if err != nil || size.Width > codePixels || size.Height > codePixels {
		return picture, contentType
	}
	var drawn image.Image
	var out bytes.Buffer
	if drawn, err = jpeg.Decode(bytes.NewReader(picture)); err == nil {
		err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, drawn)
	}
	if err != nil || out.Len() > codeBytes {
		return picture, contentType
	}
	return out.Bytes(), "image/png"
}

func extension(contentType string) string {
	switch contentType {
	case "image/png":
		return ".png"
	case "image/gif":
		return ".gif"
	}
	return ".jpg"
}

// servePicture serves a kept picture to everybody (GET /qrcode/{id}.png). It never changes.
func (s *Server) servePicture(w http.ResponseWriter, r *http.Request) {
	id, _, _ := strings.Cut(chi.URLParam(r, "picture"), ".")
	p, err := s.o.Store.Picture(r.Context(), id)
	h := w.Header()
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && chi.URLParam(r, "picture") != id+extension(p.ContentType):
		plain(w, http.StatusNotFound, "no such picture\n")
		return
	case err != nil:
		s.log.Error("picture not read", "err", err)
		plain(w, http.StatusServiceUnavailable, "try again\n")
		return
	}
	h.Set("Content-Type", p.ContentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", `"`+p.ID+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // web views and consoles elsewhere show it, too
	http.ServeContent(w, r, "", p.CreatedAt, bytes.NewReader(p.Data))
}
