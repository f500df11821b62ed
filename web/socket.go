package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"wxhub/hub"
)

const tokenProtocol = "bearer." // + JWT, beside the subprotocol wxhub.v1

// openSocket is the socket's door (GET /ws): pace, origin and token are checked before the upgrade, in this order,
// because the cheapest refusal comes first. The hub owns the socket afterwards.
func (s *Server) openSocket(w http.ResponseWriter, r *http.Request) {
	q := requestOf(r.Context())
	if wait, ok := s.handshakes.take(""); !ok {
		s.fail(w, r, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: wait})
		return
	}
	if !s.allowedOrigin(r) {
		s.fail(w, r, &Error{Status: http.StatusForbidden, Code: "forbidden_origin"})
		return
	}
	if token, ok := socketToken(r); ok {
		s.admitToken(q, token)
	}
	if e := s.countRequest(q); e != nil {
		s.fail(w, r, e)
		return
	}
	if e := users.admit(q); e != nil {
		s.fail(w, r, e)
		return
	}
	q.session.Address = subscriber(q.address)
	if err := s.o.Hub.Accept(w, r, q.session); err != nil {
		s.log.Debug("socket not opened", "request", q.id, "err", err)
		return
	}
	if why, ended := s.o.Tokens.ended(q.session); ended { // between the check and the hub's knowing of the socket
		s.o.Hub.Disconnect(hub.Target{User: q.session.User, Session: q.session.ID}, why)
	}
}

// subscriber is the address by which a client's sockets are counted: an IPv6 /64 is one subscriber. Loopback is nobody:
// it is a proxy that we were not told of, or a test.
func subscriber(a netip.Addr) netip.Addr {
	if a.IsLoopback() {
		return netip.Addr{}
	}
	if a = a.Unmap(); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// socketToken finds the token: in the header, else in the subprotocols, else in the query.
func socketToken(r *http.Request) (token string, ok bool) {
	if token, ok := bearer(r.Header.Get("Authorization")); ok {
		return token, true
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if t, ok := strings.CutPrefix(strings.TrimSpace(p), tokenProtocol); ok {
				return t, true
			}
		}
	}
	token = r.URL.Query().Get("token")
	return token, token != ""
}

// allowedOrigin: mini-programs send no Origin; a browser's must be listed or the same host.
func (s *Server) allowedOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	if slices.Contains(s.o.AllowedOrigins, "*") {
		return true
	}
	if len(s.o.AllowedOrigins) > 0 {
		return slices.ContainsFunc(s.o.AllowedOrigins, func(o string) bool {
			return strings.EqualFold(strings.TrimSuffix(o, "/"), origins[0])
		})
	}
	u, err := url.Parse(origins[0])
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
