package web

import (
	"net/http"
	"slices"
	"strings"
)

// What a page of another origin may send and read, and for how long (seconds) a browser remembers it. No credentials:
// nothing here lives in cookies.
const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, X-API-Key, Accept-Language"
	corsExposed = "Retry-After, WWW-Authenticate, X-Request-Id"
	corsMaxAge  = "600"
)

// cors lets pages of AllowedOrigins call /api. It stands before tokens and limits: a preflight has none of them, and a
// page shall be able to read why it was refused.
func (s *Server) cors(next http.Handler) http.Handler {
	any := slices.Contains(s.o.AllowedOrigins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ofAPI(r) {
			next.ServeHTTP(w, r)
			return
		}
		h, origin := w.Header(), r.Header.Get("Origin")
		allowed := ""
		switch {
		case any:
			allowed = "*"
		case len(s.o.AllowedOrigins) > 0:
			h.Add("Vary", "Origin")
			if origin != "" && s.allowedOrigin(r) {
				allowed = origin
			}
		}
		if allowed != "" {
			h.Set("Access-Control-Allow-Origin", allowed)
			h.Set("Access-Control-Expose-Headers", corsExposed)
		}
		if r.Method != http.MethodOptions || origin == "" || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if allowed == "" {
			s.fail(w, r, &Error{Status: http.StatusForbidden, Code: "forbidden_origin"})
			return
		}
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", corsMaxAge)
		w.WriteHeader(http.StatusNoContent)
	})
}

// anyCase makes the media type of a body lower-case, as huma wants it: in HTTP its case means nothing.
func anyCase(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kind, rest, more := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != strings.ToLower(kind) {
			kind = strings.ToLower(kind)
			if more {
				kind += ";" + rest
			}
			r.Header.Set("Content-Type", kind)
		}
		next.ServeHTTP(w, r)
	})
}
