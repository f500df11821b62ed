package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

// What a person tells about themselves, and takes back.

type profileRequest struct {
	Nickname *string `json:"nickname,omitempty" maxLength:"128" doc:"Shown to others, masked in notices; at most 32 characters are kept"`
	Avatar   *string `json:"avatar,omitempty" maxLength:"1024" doc:"An http or https URL, or empty"`
}

type phoneRequest struct {
	Code          string `json:"code,omitempty" maxLength:"512" doc:"Of the getPhoneNumber button; not the code of wx.login"`
	EncryptedData string `json:"encryptedData,omitempty" maxLength:"8192" doc:"The old way: together with iv"`
	IV            string `json:"iv,omitempty" maxLength:"64"`
}

type phoneView struct {
	PhoneNumber     string `json:"phoneNumber" example:"+8613800000000"`
	PurePhoneNumber string `json:"purePhoneNumber"`
	CountryCode     string `json:"countryCode"`
}

type followView struct {
	Followed bool `json:"followed" doc:"Whether this person (by unionid) follows the official account"`
}

var errRisky = &Error{Status: http.StatusBadRequest, Code: "risky_content"}

func (s *Server) routePeople() {
	handle(s, route{
		method: http.MethodPatch, path: "/api/me", access: users, tag: "login", summary: "Change my nickname and avatar",
		description: "A nickname is taken only after WeChat's content check. A picture is checked afterwards, and taken away if it does not pass; " +
			"until then, and else, no other user sees it.", maxBody: loginBytes,
		errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[profileRequest]) (userView, error) {
		return s.changeProfile(ctx, in.Body)
	})
	handle(s, route{
		method: http.MethodDelete, path: "/api/me", access: users, tag: "login", summary: "Erase my data",
		description: "Names, ids of WeChat, phone number, mail and conversations are gone; orders stay, as the law wants them, without a name. " +
			"Every token is dead.",
		errors: []int{http.StatusForbidden},
	}, func(ctx context.Context, _ *empty) (empty, error) {
		session, _ := requestOf(ctx).user()
		if session.Role != "user" { // ids of staff are names of the shop's own; erased ones would be dead for good
			return empty{}, errForbidden
		}
		if err := s.o.Store.EraseUser(ctx, session.User); err != nil {
			return empty{}, fmt.Errorf("erase %s: %w", session.User, err)
		}
		s.o.Tokens.Erase(session.User)
		s.o.Hub.Disconnect(hub.Target{User: session.User}, hub.DisconnectToken)
		s.log.Info("a user's data was erased at their wish", "user", session.User)
		return empty{}, nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/phone", access: users, tag: "login", summary: "Learn my phone number from WeChat", maxBody: loginBytes,
		errors: []int{http.StatusBadRequest, http.StatusConflict, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[phoneRequest]) (phoneView, error) {
		return s.learnPhone(ctx, in.Body)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/follow", access: users, tag: "login", summary: "Do I follow the official account",
	}, func(ctx context.Context, _ *empty) (followView, error) {
		u, err := s.caller(ctx)
		if err != nil || u.UnionID == "" {
			return followView{}, err
		}
		followed, err := s.o.Store.Follows(ctx, u.UnionID)
		if err != nil {
			return followView{}, fmt.Errorf("follow: %w", err)
		}
		return followView{followed}, nil
	})
}

func (s *Server) changeProfile(ctx context.Context, in profileRequest) (userView, error) {
	if in.Nickname == nil && in.Avatar == nil {
		return userView{}, badRequest("name nickname or avatar")
	}
	u, err := s.caller(ctx)
	if err != nil {
		return userView{}, err
	}
	if u.OpenID == "" {
		return userView{}, &Error{Status: http.StatusNotFound, Code: "not_found", Message: "this user never logged in here"}
	}
	if in.Nickname != nil {
		name := cleanName(*in.Nickname)
		if name == "" && *in.Nickname != "" {
			return userView{}, badRequest("the nickname has no visible character")
		}
		if name != "" && s.o.Moderator != nil && s.o.Moderator.WeChat != nil {
			switch err := s.o.Moderator.check(ctx, u, wechat.SceneProfile, name); {
			case errors.Is(err, hub.ErrRisky):
				return userView{}, errRisky
			case err != nil:
				return userView{}, unavailable("profile", err)
			}
		}
		in.Nickname = &name
	}
	if in.Avatar != nil && *in.Avatar != "" && cleanPicture(*in.Avatar) == "" {
		return userView{}, badRequest("avatar must be an http or https URL")
	}
	trace := ""
	if in.Avatar != nil && *in.Avatar != "" && *in.Avatar != u.Avatar {
		if trace, err = s.o.Moderator.checkPicture(ctx, u, *in.Avatar); err != nil {
			return userView{}, err
		}
	}
	u, err = s.o.Store.UpdateProfile(ctx, u.ID, in.Nickname, in.Avatar)
	if err == nil && trace != "" {
		err = s.o.Store.BeginMediaCheck(ctx, store.MediaCheck{TraceID: trace, UserID: u.ID, URL: u.Avatar})
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrErased): // erased meanwhile
		return userView{}, errBadToken
	case err != nil:
		return userView{}, fmt.Errorf("profile: %w", err)
	}
	return viewUser(u), nil
}

// learnPhone asks WeChat for the number behind a code, or opens the data of the old way with the newest session_key.
func (s *Server) learnPhone(ctx context.Context, in phoneRequest) (v phoneView, err error) {
	switch {
	case s.o.WeChat == nil:
		return v, errNotConfigured
	case (in.EncryptedData == "") != (in.IV == ""), (in.Code == "") == (in.EncryptedData == ""):
		return v, badRequest("send code, or encryptedData and iv")
	}
	u, err := s.caller(ctx)
	if err != nil {
		return v, err
	}
	if u.OpenID == "" {
		return v, &Error{Status: http.StatusConflict, Code: "conflict", Message: "this user has no openid here: log in with wx.login first"}
	}
	var d wechat.UserData
	if in.Code != "" {
		if d, err = s.o.WeChat.PhoneNumber(ctx, in.Code); err != nil {
			e := wechatError(err)
			if refused := (*Error)(nil); errors.As(e, &refused) && refused.Code == "invalid_code" {
				refused.Status = http.StatusBadRequest // the person's token is as good as before
			}
			return v, fmt.Errorf("phone: %w", e)
		}
	} else {
		key, err := s.o.Store.SessionKey(ctx, u.ID)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrSealed):
			return v, &Error{Status: http.StatusBadRequest, Code: "bad_data", Err: err}
		case err != nil:
			return v, fmt.Errorf("phone: %w", err)
		}
		if d, err = s.o.WeChat.DecryptUserData(key, in.EncryptedData, in.IV); err != nil || d.PhoneNumber == "" {
			return v, &Error{Status: http.StatusBadRequest, Code: "bad_data", Err: err}
		}
	}
	switch err := s.o.Store.SetPhone(ctx, u.ID, d.PhoneNumber); {
	case errors.Is(err, store.ErrNotFound): // erased meanwhile
		return v, errBadToken
	case err != nil:
		return v, fmt.Errorf("phone: %w", err)
	}
	return phoneView{d.PhoneNumber, d.PurePhoneNumber, d.CountryCode}, nil
}
