package console_test

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wxhub/web/console"
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

func text(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var asset = regexp.MustCompile(`/console/(assets/[A-Za-z0-9_.-]+)`)

// script is the address of the built script, which carries its hash.
func script(t *testing.T, h http.Handler) string {
	t.Helper()
	for _, m := range asset.FindAllStringSubmatch(text(t, get(t, h, "GET", "/console/").Body), -1) {
		if strings.HasSuffix(m[1], ".js") {
			return "/console/" + m[1]
		}
	}
	t.Fatal("the page names no script")
	return ""
}

func TestHandler_paths(t *testing.T) {
	h := console.Handler()
	for _, c := range []struct {
		method, path string
		status       int
		kind         string
	}{
		{"GET", "/console/", 200, "text/html; charset=utf-8"},
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/console/", 200, "text/html; charset=utf-8"},
		{"GET", "/console", 301, ""},
		{"GET", script(t, h), 200, "text/javascript; charset=utf-8"},
		{"GET", "/console/mark.svg", 200, "image/svg+xml"},
		{"GET", "/console/licenses.md", 200, "text/markdown; charset=utf-8"},
		{"GET", "/console/assets/", 404, ""},
		{"GET", "/console/assets/nothing.js", 404, ""},
		{"GET", "/console/orders", 404, ""}, // pages stand behind #
		{"GET", "/console/../console.go", 404, ""},
		{"GET", "/consoles", 404, ""},
		{"POST", "/console/", 405, ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			r := get(t, h, c.method, c.path)
			if r.StatusCode != c.status {
				t.Fatalf("status %d, want %d", r.StatusCode, c.status)
			}
			if kind := r.Header.Get("Content-Type"); c.kind != "" && kind != c.kind {
				t.Errorf("type %q, want %q", kind, c.kind)
			}
			if c.status == 404 && strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
				t.Error("what is not there would be kept for a year")
			}
		})
	}
}

func TestHandler_policy(t *testing.T) {
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	for _, path := range []string{"/console/", "/console/nothing"} {
		if got := get(t, console.Handler(), "GET", path).Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

func TestHandler_cached(t *testing.T) {
	h := console.Handler()
	for path, want := range map[string]string{"/console/": "no-cache", script(t, h): "public, max-age=31536000, immutable"} {
		r := get(t, h, "GET", path)
		if got := r.Header.Get("Cache-Control"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if r := get(t, h, "GET", path, "If-None-Match", r.Header.Get("ETag")); r.StatusCode != http.StatusNotModified {
			t.Errorf("%s asked again: status %d", path, r.StatusCode)
		}
	}
}

func TestHandler_compressed(t *testing.T) {
	h := console.Handler()
	path := script(t, h)
	plain := get(t, h, "GET", path)
	body := text(t, plain.Body)
	for accept, packed := range map[string]bool{"gzip, deflate, br": true, "br;q=1, gzip;q=0.8": true, "gzip;q=0": false, "br": false, "": false} {
		r := get(t, h, "GET", path, "Accept-Encoding", accept)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != packed {
			t.Fatalf("%q: packed %t", accept, got)
		}
		if !packed {
			continue
		}
		if r.Header.Get("ETag") == plain.Header.Get("ETag") {
			t.Error("two bodies under one ETag")
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if text(t, z) != body {
			t.Error("unpacked it is something else")
		}
	}
}

// What the page loads is there, nothing comes from elsewhere, and nothing stands inline.
func TestHandler_complete(t *testing.T) {
	h := console.Handler()
	page := text(t, get(t, h, "GET", "/console/").Body)
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if r := get(t, h, "GET", m[1]); !strings.HasPrefix(m[1], "/console/") || r.StatusCode != http.StatusOK {
			t.Errorf("the page loads %s: %d", m[1], r.StatusCode)
		}
	}
	for _, inline := range []string{"<style", " style=", " onclick=", "<script>"} {
		if strings.Contains(page, inline) {
			t.Errorf("the page has %s", inline)
		}
	}
	outside := regexp.MustCompile(`https?://[^\s"'` + "`" + `)\\]+`)
	known := regexp.MustCompile(`^http://www\.w3\.org/|^https://react\.dev/errors/$`) // names of formats; a sentence in an error
	for _, m := range asset.FindAllStringSubmatch(page, -1) {
		for _, address := range outside.FindAllString(text(t, get(t, h, "GET", "/console/"+m[1]).Body), -1) {
			if !known.MatchString(address) {
				t.Errorf("%s names %s", m[1], address)
			}
		}
	}
}

const mostBytes = 1500 << 10

func TestDist_small(t *testing.T) {
	var size int64
	err := fs.WalkDir(os.DirFS("dist"), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > mostBytes {
		t.Errorf("dist has %d bytes, at most %d: %v", size, mostBytes, err)
	}
}

// The committed files are those of the sources.
func TestDist_matchesSources(t *testing.T) {
	node(t)
	out := t.TempDir()
	run(t, "npm", "run", "--silent", "build", "--", "--outDir", out, "--emptyOutDir", "--logLevel", "warn")
	built, committed := tree(t, out), tree(t, "dist")
	if len(built) == 0 {
		t.Error("the build made nothing")
	}
	for name, want := range built {
		if got, ok := committed[name]; !ok || got != want {
			t.Errorf("dist/%s is not what the sources make (run npm run build)", name)
		}
	}
	for name := range committed {
		if _, ok := built[name]; !ok {
			t.Errorf("dist/%s is made by nothing", name)
		}
	}
}

// The page's own tests and type checks, so that go test knows of them.
func TestPage(t *testing.T) {
	node(t)
	t.Run("types", func(t *testing.T) { run(t, "npm", "run", "--silent", "check") })
	t.Run("behaviour", func(t *testing.T) { run(t, "npm", "run", "--silent", "test") })
}

// The lock file names packages and their sums, and no place to get them from.
func TestLock_namesNoHost(t *testing.T) {
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(lock), `"resolved"`) {
		t.Error("package-lock.json holds download addresses (.npmrc: omit-lockfile-registry-resolved=true)")
	}
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		body, err := os.ReadFile(path)
		files[filepath.ToSlash(name)] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func node(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("skipped: no Node on this machine; install Node 20 or newer")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		t.Skip("skipped: no node_modules in web/console; run npm ci there")
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
