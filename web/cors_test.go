package web_test

import (
	"net/http"
	"strings"
	"testing"

	"wxhub/web"
)

func TestCORS(t *testing.T) {
	const shopOrigin = "https://shop.example"
	for name, test := range map[string]struct {
		allowed []string
		origin  string
		want    string // Access-Control-Allow-Origin
		flight  int    // status of the preflight
	}{
		"listed":             {[]string{"https://other.example", shopOrigin}, shopOrigin, shopOrigin, 204},
		"listed with slash":  {[]string{shopOrigin + "/"}, shopOrigin, shopOrigin, 204},
		"any":                {[]string{"*"}, shopOrigin, "*", 204},
		"foreign":            {[]string{shopOrigin}, "https://evil.example", "", 403},
		"begins like it":     {[]string{shopOrigin}, shopOrigin + ".evil.example", "", 403},
		"null":               {[]string{shopOrigin}, "null", "", 403},
		"nothing is allowed": {nil, shopOrigin, "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, func(o *web.Options) { o.AllowedOrigins = test.allowed })
			flight := s.ask("OPTIONS", "/api/pay", "", nil, "Origin", test.origin,
				"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
			if flight.Status != test.flight {
				t.Errorf("preflight: %d %s", flight.Status, flight.Text)
			}
			checkCORS(t, "preflight", flight.Header, test.want)
			if test.want != "" {
				h := flight.Header
				allowed := strings.ToLower(h.Get("Access-Control-Allow-Headers"))
				for _, header := range []string{"authorization", "content-type", "x-api-key"} {
					if !strings.Contains(allowed, header) {
						t.Errorf("preflight does not allow %s: %q", header, allowed)
					}
				}
				for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
					if !strings.Contains(h.Get("Access-Control-Allow-Methods"), method) {
						t.Errorf("preflight does not allow %s", method)
					}
				}
				if h.Get("Access-Control-Max-Age") == "" {
					t.Error("the preflight is asked before every request")
				}
			}
			// Refusals too, so that the page can read what was refused; and what is unknown.
			for _, path := range []string{"/api/products", "/api/me", "/api/nothing"} {
				checkCORS(t, path, s.ask("GET", path, "", nil, "Origin", test.origin).Header, test.want)
			}
			checkCORS(t, "bad token", s.ask("GET", "/api/me", "x.y.z", nil, "Origin", test.origin).Header, test.want)
			checkCORS(t, "no origin", s.ask("GET", "/api/products", "", nil).Header, map[bool]string{true: "*"}[test.want == "*"])
			for _, path := range []string{"/healthz", "/metrics", "/console/", "/wechat/push"} {
				checkCORS(t, path, s.ask("GET", path, "", nil, "Origin", test.origin).Header, "")
			}
		})
	}
}

func checkCORS(t *testing.T, what string, h http.Header, want string) {
	t.Helper()
	if got := h.Get("Access-Control-Allow-Origin"); got != want {
		t.Errorf("%s: allows %q, want %q", what, got, want)
	}
	if h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%s: allows credentials", what)
	}
	if want != "" && want != "*" && !strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
		t.Errorf("%s: a cache would give it to other origins: Vary %q", what, h.Values("Vary"))
	}
}

// A preflight carries no token, and many of them cost the address nothing.
func TestCORS_preflightIsNotCounted(t *testing.T) {
	s := newShop(t, func(o *web.Options) {
		o.AllowedOrigins = []string{"*"}
		o.Limits.Address = web.Rate{PerSecond: 0.001, Burst: 1}
	})
	for range 5 {
		if a := s.ask("OPTIONS", "/api/me", "", nil, "Origin", "https://a.example", "Access-Control-Request-Method", "GET"); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Text)
		}
	}
}
