package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

type loginRequest struct {
	Code          string `json:"code" minLength:"1" maxLength:"512" doc:"Of wx.login; good once, for five minutes"`
	RawData       string `json:"rawData,omitempty" maxLength:"8192" doc:"Of wx.getUserProfile, as it came; together with signature"`
	Signature     string `json:"signature,omitempty" maxLength:"64"`
	EncryptedData string `json:"encryptedData,omitempty" maxLength:"8192" doc:"Of wx.getUserProfile; together with iv"`
	IV            string `json:"iv,omitempty" maxLength:"64"`
}

type userView struct {
	ID       string `json:"id"`
	Nickname string `json:"nickname"`
	Avatar   string `json:"avatar"`
}

func viewUser(u store.User) userView { return userView{u.ID, u.Nickname, u.Avatar} }

type tokenView struct {
	Token     string `json:"token" doc:"For Authorization: Bearer, and for the socket"`
	ExpiresIn int64  `json:"expiresIn" doc:"seconds"`
}

// TokenView is tokenView by an exported name: huma looks into no other embedded struct.
type TokenView = tokenView

type loginView struct {
	TokenView
	User userView `json:"user"`
}

func (s *Server) routeLogin() {
	handle(s, route{
		method: http.MethodPost, path: "/api/login", tag: "login", summary: "Log in with the code of wx.login", maxBody: loginBytes,
		errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[loginRequest]) (loginView, error) {
		u, err := s.signIn(ctx, in.Body)
		if err != nil {
			return loginView{}, err
		}
		t, err := s.issue(u.ID, "user", nil, "")
		return loginView{t, viewUser(u)}, err
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/login/refresh", access: users, tag: "login",
		summary: "Exchange the token for a new one", description: "The old token is dead from then on. Sockets that it opened stay " +
			"until it would have expired; send them the new one in a `refresh` frame.",
	}, func(ctx context.Context, _ *empty) (tokenView, error) { return s.refresh(ctx) })
	handle(s, route{
		method: http.MethodPost, path: "/api/logout", access: users, tag: "login", summary: "End this session",
		description: "The token is dead at once and its sockets are closed with 4501.",
	}, func(ctx context.Context, _ *empty) (empty, error) {
		session, _ := requestOf(ctx).user()
		if err := s.o.Tokens.Revoke(ctx, session); err != nil {
			return empty{}, fmt.Errorf("logout: %w", err)
		}
		s.o.Hub.Disconnect(hub.Target{Session: session.ID}, hub.DisconnectToken)
		return empty{}, nil
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/me", access: users, tag: "login", summary: "Who am I",
	}, func(ctx context.Context, _ *empty) (userView, error) {
		u, err := s.caller(ctx)
		return viewUser(u), err
	})
}

// signIn redeems a login code and keeps what WeChat proved. It is the only way from an openid to a user.
func (s *Server) signIn(ctx context.Context, in loginRequest) (store.User, error) {
	switch {
	case s.o.WeChat == nil:
		return store.User{}, errNotConfigured
	case (in.RawData == "") != (in.Signature == ""):
		return store.User{}, badRequest("rawData and signature go together")
	case (in.EncryptedData == "") != (in.IV == ""):
		return store.User{}, badRequest("encryptedData and iv go together")
	}
	wx, err := s.o.WeChat.Code2Session(ctx, in.Code)
	if err != nil {
		return store.User{}, fmt.Errorf("login: %w", wechatError(err))
	}
	known := store.SignIn{AppID: s.o.AppID, OpenID: wx.OpenID, UnionID: wx.UnionID, SessionKey: wx.SessionKey}
	if in.RawData != "" {
		if err := wechat.CheckRawData(in.RawData, in.Signature, wx.SessionKey); err != nil {
			return store.User{}, &Error{Status: http.StatusBadRequest, Code: "bad_signature", Err: err}
		}
		var profile struct{ NickName, AvatarURL string }
		if err := json.Unmarshal([]byte(in.RawData), &profile); err != nil {
			return store.User{}, badRequest("rawData is no JSON object")
		}
		known.Nickname, known.Avatar = profile.NickName, profile.AvatarURL
	}
	if in.EncryptedData != "" {
		d, err := s.o.WeChat.DecryptUserData(wx.SessionKey, in.EncryptedData, in.IV)
		if err == nil && d.OpenID != "" && d.OpenID != wx.OpenID {
			err = errors.New("the data of another person")
		}
		if err != nil {
			return store.User{}, &Error{Status: http.StatusBadRequest, Code: "bad_data", Err: err}
		}
		known.UnionID = first(known.UnionID, d.UnionID)
		known.Nickname, known.Avatar = first(d.Nickname, known.Nickname), first(d.Avatar, known.Avatar)
	}
	known.Nickname, known.Avatar = cleanName(known.Nickname), cleanPicture(known.Avatar)
	u, err := s.o.Store.SignIn(ctx, known)
	if err != nil {
		return store.User{}, fmt.Errorf("login: %w", err)
	}
	if u.Blocked {
		return store.User{}, errBlocked
	}
	return u, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// cleanName makes a nickname fit for other people's screens: one line, no invisible characters, at most 32 runes.
func cleanName(name string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, name)), " ")
	if r := []rune(name); len(r) > 32 {
		name = string(r[:32])
	}
	return name
}

// cleanPicture keeps web addresses alone: an avatar is shown in an img.
func cleanPicture(address string) string {
	if len(address) <= 1024 && (strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://")) && !strings.ContainsAny(address, "\"'<> \r\n") {
		return address
	}
	return ""
}

// issue signs a token; session "": of a new session.
func (s *Server) issue(user, role string, rooms []string, session string) (tokenView, error) {
	token, err := s.o.Tokens.issue(user, role, rooms, 0, session)
	if err != nil {
		return tokenView{}, fmt.Errorf("issue a token: %w", err)
	}
	return tokenView{token, int64(s.o.Tokens.ttl / time.Second)}, nil
}

// refresh gives the same session a new token. The new one is made before the old one dies.
func (s *Server) refresh(ctx context.Context) (tokenView, error) {
	q := requestOf(ctx)
	session, _ := q.user()
	if u, err := s.caller(ctx); err != nil {
		return tokenView{}, err
	} else if u.Blocked {
		return tokenView{}, errBlocked
	}
	t, err := s.issue(session.User, session.Role, session.Rooms, session.ID)
	if err != nil {
		return tokenView{}, err
	}
	if err := s.o.Tokens.exchanged(ctx, q.tokenID, session.ExpiresAt); err != nil {
		return tokenView{}, fmt.Errorf("refresh: %w", err)
	}
	return t, nil
}

// caller is the user behind the request's token. A token of the shop's own back end may name one whom the store does
// not know: such a user has an id and nothing else.
func (s *Server) caller(ctx context.Context) (store.User, error) {
	session, ok := requestOf(ctx).user()
	if !ok {
		return store.User{}, errUnauthorized
	}
	u, err := s.o.Store.User(ctx, session.User)
	if errors.Is(err, store.ErrNotFound) {
		return store.User{ID: session.User}, nil
	}
	if err != nil {
		return store.User{}, fmt.Errorf("user: %w", err)
	}
	return u, nil
}
