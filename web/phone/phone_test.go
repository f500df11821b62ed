package phone_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"wxhub/web/phone"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHandler_paths(t *testing.T) {
	h := phone.Handler(phone.Config{SimURL: "http://127.0.0.1:8081"})
	for _, c := range []struct {
		method, path string
		status       int
		kind         string
	}{
		{"GET", "/phone/", 200, "text/html; charset=utf-8"},
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/phone/", 200, "text/html; charset=utf-8"},
		{"GET", "/phone", 301, ""},
		{"GET", "/phone/main.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/main.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/phone/sdk.mjs", 200, "text/javascript; charset=utf-8"},
		{"GET", "/phone/page.css", 200, "text/css; charset=utf-8"},
		{"GET", "/phone/mark.svg", 200, "image/svg+xml"},
		{"GET", "/phone/nothing.js", 404, ""},
		{"GET", "/phone/../phone.go", 404, ""},
		{"POST", "/phone/", 405, ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			r := get(t, h, c.method, c.path)
			if r.StatusCode != c.status {
				t.Fatalf("status %d, want %d", r.StatusCode, c.status)
			}
			if kind := r.Header.Get("Content-Type"); c.kind != "" && kind != c.kind {
				t.Errorf("type %q, want %q", kind, c.kind)
			}
		})
	}
}

func TestHandler_cached(t *testing.T) {
	h := phone.Handler(phone.Config{})
	tag := get(t, h, "GET", "/phone/main.js").Header.Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	if r := get(t, h, "GET", "/phone/main.js", "If-None-Match", tag); r.StatusCode != http.StatusNotModified {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestHandler_policy(t *testing.T) {
	for _, c := range []struct {
		name         string
		config       phone.Config
		images, asks string
	}{
		{"demo", phone.Config{SimURL: "http://127.0.0.1:8081"}, "img-src 'self' data: http://127.0.0.1:8081;", "connect-src 'self' http://127.0.0.1:8081;"},
		{"other hub", phone.Config{SimURL: "http://127.0.0.1:8081/x", HubURL: "https://hub.example/"},
			"img-src 'self' data: http://127.0.0.1:8081 https://hub.example;", "connect-src 'self' http://127.0.0.1:8081 https://hub.example wss://hub.example;"},
		{"odd", phone.Config{SimURL: "http://a;script-src *", HubURL: "javascript:alert(1)"}, "img-src 'self' data:;", "connect-src 'self';"},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := get(t, phone.Handler(c.config), "GET", "/phone/").Header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none';", "script-src 'self';", "style-src 'self';", c.images, c.asks} {
				if !strings.Contains(policy, want) {
					t.Errorf("policy %q lacks %q", policy, want)
				}
			}
		})
	}
}

func TestHandler_addresses(t *testing.T) {
	page := text(t, get(t, phone.Handler(phone.Config{SimURL: `http://127.0.0.1:8081/"><script>`}), "GET", "/phone/"))
	if strings.Contains(page, `"><script>`) {
		t.Error("an address broke out of its attribute")
	}
}

// A real phone in the same Wi-Fi calls the hub by its address there, and finds the simulator at the same one.
func TestHandler_seenFromElsewhere(t *testing.T) {
	h := phone.Handler(phone.Config{SimURL: "http://127.0.0.1:8081"})
	for host, want := range map[string]string{
		"192.168.1.5:8080": "http://192.168.1.5:8081", "[fd00::5]:8080": "http://[fd00::5]:8081", "10.0.0.7": "http://10.0.0.7:8081",
		"127.0.0.1:8080": "http://127.0.0.1:8081", "localhost:8080": "http://127.0.0.1:8081", "[::1]:8080": "http://127.0.0.1:8081",
		"hub.example": "http://127.0.0.1:8081", "192.168.1.5'; x:8080": "http://127.0.0.1:8081", "[fe80::1%25en0]:8080": "http://127.0.0.1:8081",
	} {
		r := httptest.NewRequest("GET", "/phone/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if body := w.Body.String(); !strings.Contains(body, `name="wxhub-sim" content="`+want+`"`) {
			t.Errorf("%s: the page does not name %s", host, want)
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "connect-src 'self' "+want+";") {
			t.Errorf("%s: %s", host, policy)
		}
	}
}

// Every file that a file of the page asks for is there, and nothing comes from elsewhere.
func TestHandler_complete(t *testing.T) {
	h := phone.Handler(phone.Config{})
	asked := regexp.MustCompile(`(?m)^import .*'([^']+)'$|(?:src|href)="([^"]+)"`)
	seen := map[string]bool{"/": true, "/docs/": true} // other parts of the hub
	queue := []string{"index.html"}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		r := get(t, h, "GET", "/phone/"+name)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s is asked for and answers %d", name, r.StatusCode)
			continue
		}
		if strings.HasSuffix(name, ".mjs") {
			continue // a build of its own
		}
		for _, m := range asked.FindAllStringSubmatch(text(t, r), -1) {
			next := strings.TrimPrefix(m[1]+m[2], "./")
			if strings.Contains(next, "//") {
				t.Errorf("%s asks for %s", name, next)
			} else if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	if len(seen) < 12 {
		t.Errorf("only %d files were found: %v", len(seen), seen)
	}
}
