package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/argon2"
)

// adminLogin checks the configured admin. Only a hash of the password stays in memory.
type adminLogin struct {
	user string
	hash []byte
	salt []byte
	work chan struct{} // bounds the memory that guesses can take
}

const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB; with the two below the least that OWASP recommends
	argonLanes  = 1
	argonAtOnce = 2
)

// newAdminLogin: an empty password means that no admin can log in.
func newAdminLogin(user, password string) (*adminLogin, error) {
	a := &adminLogin{user: user, salt: make([]byte, 16), work: make(chan struct{}, argonAtOnce)}
	if _, err := rand.Read(a.salt); err != nil {
		return nil, fmt.Errorf("admin login: %w", err)
	}
	if password != "" {
		a.hash = a.derive(password)
	}
	return a, nil
}

func (a *adminLogin) derive(password string) []byte {
	return argon2.IDKey([]byte(password), a.salt, argonTime, argonMemory, argonLanes, 32)
}

// check takes the same time for a wrong name as for a wrong password.
func (a *adminLogin) check(ctx context.Context, user, password string) (bool, error) {
	select {
	case a.work <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-a.work }()
	sameHash := subtle.ConstantTimeCompare(a.derive(password), a.hash)
	sameUser := subtle.ConstantTimeCompare([]byte(user), []byte(a.user))
	return sameHash&sameUser == 1 && len(a.hash) > 0, nil
}

type adminLoginRequest struct {
	Username string `json:"username" minLength:"1" maxLength:"64"`
	Password string `json:"password" minLength:"1" maxLength:"256"`
}

func (s *Server) routeAdmin() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/login", tag: "admin", summary: "Log in as the admin", maxBody: loginBytes,
		errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[adminLoginRequest]) (tokenView, error) {
		q := requestOf(ctx)
		if wait, ok := s.adminTries.take(addressKey(q.address)); !ok {
			return tokenView{}, tooMany(wait)
		}
		if s.admin.hash == nil {
			return tokenView{}, errNotConfigured
		}
		ok, err := s.admin.check(ctx, in.Body.Username, in.Body.Password)
		if err != nil {
			return tokenView{}, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Err: err}
		}
		if !ok {
			s.log.Warn("admin login refused", "request", q.id, "address", q.address)
			return tokenView{}, &Error{Status: http.StatusUnauthorized, Code: "bad_login"}
		}
		s.log.Info("admin logged in", "request", q.id, "address", q.address)
		return s.issue("admin", "admin", nil, "")
	})
	s.routeBroadcast()
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/stats", access: admins, tag: "admin", summary: "Live figures of this node",
	}, func(ctx context.Context, _ *empty) (statsView, error) { return s.stats(ctx) })
}

type statsView struct {
	Version      string         `json:"version"`
	Uptime       int64          `json:"uptime" doc:"seconds"`
	Sockets      int            `json:"sockets"`
	Users        int            `json:"users" doc:"with at least one socket"`
	Rooms        int            `json:"rooms"`
	Published    uint64         `json:"published" doc:"messages, since start"`
	Delivered    uint64         `json:"delivered" doc:"message and socket pairs"`
	Dropped      uint64         `json:"dropped" doc:"sockets closed because they read too slowly"`
	Closed       map[int]uint64 `json:"closed" doc:"sockets by close code"`
	Recovered    uint64         `json:"recovered"`
	NotRecovered uint64         `json:"notRecovered"`
	Outbox       outboxView     `json:"outbox"`
}

type outboxView struct {
	Waiting int   `json:"waiting" doc:"what committed and was not yet relayed"`
	Dead    int   `json:"dead" doc:"given up, with a reason"`
	Oldest  int64 `json:"oldest,omitempty" doc:"milliseconds: when the oldest waiting one was written"`
}

func (s *Server) stats(ctx context.Context) (statsView, error) {
	outbox, err := s.o.Store.OutboxStats(ctx)
	if err != nil {
		return statsView{}, fmt.Errorf("stats: %w", err)
	}
	h := s.o.Hub.Stats()
	v := statsView{
		Version: s.o.Version, Uptime: int64(time.Since(s.started) / time.Second),
		Sockets: h.Sockets, Users: h.Users, Rooms: h.Rooms, Published: h.Published, Delivered: h.Delivered,
		Dropped: h.Dropped, Closed: h.Closed, Recovered: h.Recovered, NotRecovered: h.NotRecovered,
		Outbox: outboxView{Waiting: outbox.Waiting, Dead: outbox.Dead},
	}
	if !outbox.Oldest.IsZero() {
		v.Outbox.Oldest = outbox.Oldest.UnixMilli()
	}
	return v, nil
}
