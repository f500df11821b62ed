package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"wxhub/store"
	"wxhub/wechat"
)

// Links into the mini-program, codes for a path, and what a code's scene stands for.

const (
	sceneRunes = 1024 // of a kept scene
	linkDays   = 30   // a link lives no longer
)

type linkRequest struct {
	Kind       string `json:"kind,omitempty" enum:"link,scheme" doc:"link (absent): https, opens from any browser. scheme: weixin://, opens from other apps"`
	Path       string `json:"path,omitempty" maxLength:"1024" doc:"Like pages/index/index; absent: the home page"`
	Query      string `json:"query,omitempty" maxLength:"1024" doc:"Without a question mark"`
	EnvVersion string `json:"envVersion,omitempty" enum:"release,trial,develop"`
	Days       int    `json:"days,omitempty" minimum:"1" maximum:"30" doc:"How long it lives; absent: 30"`
}

type linkView struct {
	URL       string `json:"url"`
	ExpiresAt int64  `json:"expiresAt" doc:"milliseconds"`
}

type pathCodeRequest struct {
	Path        string `json:"path" minLength:"1" maxLength:"1024" doc:"With its query, like pages/index/index?a=1; at most 128 bytes for a square code"`
	Square      bool   `json:"square,omitempty" doc:"A square code in place of the round one"`
	Width       int    `json:"width,omitempty" minimum:"280" maximum:"1280" doc:"pixels; absent: 430"`
	EnvVersion  string `json:"envVersion,omitempty" enum:"release,trial,develop" doc:"Not of square codes"`
	Transparent bool   `json:"transparent,omitempty" doc:"Without a ground; not of square codes"`
}

type sceneView struct {
	Scene string `json:"scene"`
}

func (s *Server) routeLinks() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/links", access: admins, tag: "admin", summary: "A link that opens the mini-program from a message, a mail or a web page",
		description: "WeChat makes 500,000 a day for a shop, for released mini-programs that are not a private person's.",
		errors:      []int{http.StatusBadRequest, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[linkRequest]) (linkView, error) { return s.link(ctx, in.Body) })
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/qrcodes", access: admins, tag: "admin", summary: "A code for a path with its query",
		description: "WeChat draws 100,000 of them for a shop, for ever: `GET /api/qrcode` is for everything else. The same parameters give the same picture.",
		errors:      []int{http.StatusBadRequest, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[pathCodeRequest]) (codeView, error) {
		return s.pathCode(ctx, in.Body)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/scene/{id}", tag: "shop", summary: "What the scene of a mini-program code stands for",
		description: "For scenes that were too long for a code: the page gets `~` and 26 letters and digits in their place.",
		errors:      []int{http.StatusBadRequest, http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"40"`
	}) (sceneView, error) {
		scene, err := s.o.Store.Scene(ctx, store.SceneMark+strings.TrimPrefix(in.ID, store.SceneMark))
		if errors.Is(err, store.ErrNotFound) {
			return sceneView{}, &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
		}
		if err != nil {
			return sceneView{}, err
		}
		return sceneView{scene}, nil
	})
}

func (s *Server) link(ctx context.Context, in linkRequest) (linkView, error) {
	if s.o.WeChat == nil {
		return linkView{}, errNotConfigured
	}
	if in.Days == 0 {
		in.Days = linkDays
	}
	now := time.Now()
	ends := now.Add(time.Duration(in.Days)*24*time.Hour - time.Minute) // WeChat's clock may be behind
	l := wechat.Link{Path: in.Path, Query: in.Query, EnvVersion: in.EnvVersion, ExpiresAt: ends}
	if err := l.Check(now); err != nil {
		return linkView{}, complaint(err)
	}
	ask := s.o.WeChat.URLLink
	if in.Kind == "scheme" {
		ask = s.o.WeChat.URLScheme
	}
	url, err := ask(ctx, l)
	if err != nil {
		return linkView{}, codeError(err)
	}
	return linkView{url, ends.UnixMilli()}, nil
}

// complaint is what is wrong with parameters, before WeChat was asked.
func complaint(err error) error {
	var e *wechat.Error
	if errors.As(err, &e) {
		return badRequest(e.Msg)
	}
	return err
}

func (s *Server) pathCode(ctx context.Context, in pathCodeRequest) (codeView, error) {
	if in.Width == 0 {
		in.Width = codeWidth
	}
	p := wechat.PathCode{Path: in.Path, Square: in.Square, Width: in.Width, EnvVersion: in.EnvVersion, Transparent: in.Transparent}
	if err := p.Check(); err != nil {
		return codeView{}, complaint(err)
	}
	key := s.pictureKey("path", p.Path, strconv.FormatBool(p.Square), strconv.Itoa(p.Width), p.EnvVersion, strconv.FormatBool(p.Transparent))
	return s.picture(ctx, key, func() (store.Picture, error) {
		if s.o.WeChat == nil {
			return store.Picture{}, errNotConfigured
		}
		return s.keepCode(ctx, key, "", func() ([]byte, string, error) { return s.o.WeChat.PathCode(ctx, p) })
	})
}

// sceneFor is the scene that a code carries for what was asked: itself, or the id of a kept one when it is too long.
func (s *Server) sceneFor(ctx context.Context, user, scene string) (string, error) {
	if len([]rune(scene)) <= 32 {
		return scene, nil
	}
	if len([]rune(scene)) > sceneRunes || strings.ContainsFunc(scene, unicode.IsControl) {
		return "", badRequest("scene must have at most " + strconv.Itoa(sceneRunes) + " characters, none of them a control character")
	}
	put, err := s.o.Store.CountScenes(ctx, user, time.Now().Add(-codeDay))
	if err != nil {
		return "", fmt.Errorf("qrcode: %w", err)
	}
	if put >= 2*codesADay { // pictures are counted anyway; this bounds what a refused picture leaves behind
		return "", tooMany(time.Hour)
	}
	id, err := s.o.Store.PutScene(ctx, user, scene)
	if err != nil {
		return "", fmt.Errorf("qrcode: %w", err)
	}
	return id, nil
}
