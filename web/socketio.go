package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"wxhub/hub"
)

// openSocketIO is the door of clients that speak Socket.IO (GET /socket.io/). Pace and origin are checked before the
// upgrade; who somebody is, when it asks to come in: a refusal that comes sooner would look to it like a broken line.
func (s *Server) openSocketIO(w http.ResponseWriter, r *http.Request) {
	q := requestOf(r.Context())
	if wait, ok := s.handshakes.take(""); !ok {
		s.fail(w, r, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: wait})
		return
	}
	if !s.allowedOrigin(r) {
		s.fail(w, r, &Error{Status: http.StatusForbidden, Code: "forbidden_origin"})
		return
	}
	token, given := socketToken(r)
	if given {
		s.admitToken(q, token)
	}
	if e := s.countRequest(q); e != nil {
		s.fail(w, r, e)
		return
	}
	v := &visitor{server: s, request: q, token: token, userID: r.URL.Query().Get("userId")}
	err := s.o.Hub.AcceptSocketIO(w, r, hub.Door{Admit: v.admit, Entered: func(session hub.Session) {
		if why, ended := s.o.Tokens.ended(session); ended { // between the check and the hub's knowing of the socket
			s.o.Hub.Disconnect(hub.Target{User: session.User, Session: session.ID}, why)
		}
	}})
	if err != nil {
		s.log.Debug("socket not opened", "request", q.id, "err", err)
	}
}

// A visitor asks to come in over Socket.IO.
type visitor struct {
	server  *Server
	request *request
	token   string // of the header or the query
	userID  string // of the query
}

// admit tells who a visitor is. A token that it brings along (auth.token) goes before the one of its address, which is as
// old as the page.
func (v *visitor) admit(_ context.Context, auth json.RawMessage) (hub.Session, error) {
	s, token := v.server, v.token
	var brought struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(auth, &brought) == nil && brought.Token != "" {
		token = brought.Token
	}
	session := hub.Session{User: v.userID, Role: "user"}
	switch {
	case token != "":
		var err error
		if session, _, err = s.o.Tokens.check(token); err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				e = &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Err: err}
				s.log.Warn("token not checked", "request", v.request.id, "err", err)
			}
			return hub.Session{}, v.refusal(e)
		}
	case s.o.Demo != nil && userID.MatchString(v.userID):
		if _, ended := s.o.Tokens.ended(session); ended {
			return hub.Session{}, v.refusal(errForbidden)
		}
		s.log.Warn("demo: a Socket.IO client is taken for the user that it names, without a token; in production nobody comes in like that", "user", v.userID)
	case s.o.Demo != nil && v.userID != "":
		return hub.Session{}, v.refusal(badRequest("userId must be 1 to 64 letters, digits, dots, dashes or underscores"))
	default:
		return hub.Session{}, v.refusal(errUnauthorized)
	}
	session.Address = subscriber(v.request.address)
	return session, nil
}

// refusal is e in the words of a connect error.
func (v *visitor) refusal(e *Error) *hub.ConnectError {
	return &hub.ConnectError{Word: e.Code, Text: e.say(v.request.language)}
}
