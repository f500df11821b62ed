package web

import (
	"context"
	"errors"
	"net/http"

	"wxhub/wechat"
)

type refreshTokenRequest struct {
	Account string `json:"account,omitempty" enum:"mini,mp" doc:"mini (absent): the mini-program; mp: the official account"`
}

// routeAccessToken serves the one thing that people do with access tokens: end one that leaked.
func (s *Server) routeAccessToken() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/wechat/refresh", access: admins, tag: "admin", summary: "End an access token of WeChat that leaked",
		description: "WeChat gives a new one at once, and the old one is dead for every program that has it. It allows 20 a day, half a minute apart.",
		errors:      []int{http.StatusBadRequest, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[refreshTokenRequest]) (empty, error) {
		account := s.o.WeChat
		if in.Body.Account == mpAccount {
			account = s.o.MPClient
		}
		if account == nil {
			return empty{}, errNotConfigured
		}
		err := account.ForceRefresh(ctx)
		switch {
		case errors.Is(err, wechat.ErrQuota):
			return empty{}, tooMany(max(wechat.RetryAfter(err), 1))
		case err != nil:
			return empty{}, wechatError(err)
		}
		s.audit(ctx, "refresh", "access token of "+first(in.Body.Account, miniAccount))
		return empty{}, nil
	})
}
