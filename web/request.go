package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"wxhub/hub"
)

// A request is what is known of an HTTP request before its handler: who asks, from where, in which language.
type request struct {
	server   *Server // nil outside of a Server
	context  context.Context
	id       string
	language string     // "zh" or "en"
	address  netip.Addr // the client's; a proxy's word counts only from TrustedProxies
	session  hub.Session
	tokenID  string // jti of the token that came; the session may have had others
	apiKey   string // name of the API key; empty: none
	denied   *Error // why the token or key that came is not good
}

// who names an admin or a system in the audit: its role and user, or its key.
func (q *request) who() string {
	if q.apiKey != "" {
		return "key " + q.apiKey
	}
	return q.session.Role + " " + q.session.User
}

type requestKey struct{}

// requestOf returns what is known of the request of ctx; never nil.
func requestOf(ctx context.Context) *request {
	if q, ok := ctx.Value(requestKey{}).(*request); ok {
		return q
	}
	return &request{context: ctx, language: "zh"}
}

// route is the pattern that served the request: a path with ids in it is not for metrics and logs.
func (q *request) route() string {
	if c := chi.RouteContext(q.context); c != nil {
		return c.RoutePattern()
	}
	return ""
}

// user is who asks, by token.
func (q *request) user() (hub.Session, bool) { return q.session, q.session.User != "" }

// What every answer says; the lists are shared and never changed.
var (
	everyAnswer = http.Header{"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"}, "X-Frame-Options": {"DENY"}}
	noStore     = []string{"no-store"}
)

// observe gives every request its knowledge, an id, headers that every answer has, and a log line without query;
// and it turns a panic into an answer.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		q := &request{server: s, id: rand.Text()[:16], language: languageOf(r), address: clientAddress(r)}
		ctx := context.WithValue(r.Context(), requestKey{}, q)
		q.context = ctx
		r = r.WithContext(ctx)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		h := ww.Header()
		h["X-Request-Id"] = []string{q.id}
		maps.Copy(h, everyAnswer)
		if ofAPI(r) { // tokens, orders and figures are not for caches
			h["Cache-Control"] = noStore
		}
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.log.Error("panic in a handler", "request", q.id, "route", q.route(), "cause", panicCause(p), "stack", string(debug.Stack()))
				if ww.Status() == 0 {
					s.fail(ww, r, errors.New("panic"))
				}
			}
			route, took := q.route(), time.Since(start)
			s.metrics.served(r.Method, route, ww.Status(), took)
			if s.log.Enabled(ctx, slog.LevelDebug) {
				s.log.Debug("request", "id", q.id, "method", r.Method, "route", route, "status", ww.Status(), "took", took)
			}
		}()
		next.ServeHTTP(ww, r)
	})
}

// panicCause says what a panic was about. Only the runtime's own texts are sure to hold nothing of the request.
func panicCause(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", p)
}

// clientAddress is the client's address as chi's middleware found it.
func clientAddress(r *http.Request) netip.Addr {
	a := middleware.GetClientIPAddr(r.Context())
	if !a.IsValid() {
		if p, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			a = p.Addr()
		}
	}
	return a.Unmap().WithZone("")
}

// languageOf is Chinese unless the reader asks for English first.
func languageOf(r *http.Request) string {
	best, quality := "zh", 0.0 // q=0 says: not this one
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(weight), "q="); ok {
			switch {
			case strings.HasPrefix(text, "0"):
				q = 0
				for i, c := range strings.TrimPrefix(text[1:], ".") {
					if c < '0' || c > '9' || i > 2 {
						break
					}
					q += float64(c-'0') / []float64{10, 100, 1000}[i]
				}
			}
		}
		lang := strings.ToLower(tag)
		if (strings.HasPrefix(lang, "zh") || strings.HasPrefix(lang, "en")) && q > quality {
			best, quality = lang[:2], q
		}
	}
	return best
}

// identify reads token and API key, and counts the request against its address or its user. It refuses nobody for a
// bad token: a route that wants one does, and the catalogue is for everyone.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := requestOf(r.Context())
		if key := r.Header.Get("X-API-Key"); key != "" {
			if q.apiKey = s.apiKeyName(key); q.apiKey == "" {
				q.denied = errUnauthorized
			}
		}
		if q.apiKey == "" {
			if token, ok := bearer(r.Header.Get("Authorization")); ok {
				s.admitToken(q, token)
			}
		}
		if e := s.countRequest(q); e != nil {
			s.fail(w, r, e)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) admitToken(q *request, token string) {
	session, id, err := s.o.Tokens.check(token)
	if err != nil {
		if !errors.As(err, &q.denied) {
			q.denied = &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Err: err}
		}
		return
	}
	q.session, q.tokenID, q.denied = session, id, nil
}

// countRequest takes one event from the allowance of who asks; API keys are not limited.
func (s *Server) countRequest(q *request) *Error {
	var wait time.Duration
	var ok bool
	switch user, known := q.user(); {
	case q.apiKey != "":
		return nil
	case known:
		wait, ok = s.users.take(user.User)
	default:
		wait, ok = s.addresses.take(addressKey(q.address))
	}
	if !ok {
		return tooMany(wait)
	}
	return nil
}

// addressKey joins the addresses that one subscriber commonly has: an IPv6 /64.
func addressKey(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

func bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(header, " ")
	return strings.TrimSpace(token), found && strings.EqualFold(scheme, "Bearer")
}

// apiKeyName finds the key in constant time, whichever it is.
func (s *Server) apiKeyName(key string) (name string) {
	sum := sha256.Sum256([]byte(key))
	for n, want := range s.apiKeys {
		if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 {
			name = n
		}
	}
	return name
}

// access says who may call a route.
type access int

const (
	everyone access = iota
	users           // any good token
	staff           // an API key, or a token of role staff or admin
	admins          // an API key, or a token of role admin
)

// admit tells why q may not, or nil.
func (a access) admit(q *request) *Error {
	_, known := q.user()
	switch {
	case a == everyone, a >= staff && q.apiKey != "":
		return nil
	case q.denied != nil:
		return q.denied
	case a == users && q.apiKey != "": // a system is nobody's phone
		return errForbidden
	case !known:
		return errUnauthorized
	case a == admins && q.session.Role != "admin", a == staff && q.session.Role == "user":
		return errForbidden
	}
	return nil
}
