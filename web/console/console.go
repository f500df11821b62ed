// Package console serves the admin console: overview, rooms, broadcast, orders, inbox and users on a web page.
//
// The sources are in src (React, TDesign, uPlot); "npm run build" makes dist, which is committed: Go needs no Node to
// build. The page asks the admin calls and the socket of its own origin with the token of a login, and nothing else.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed dist
var dist embed.FS

// policy lets the page reach its own origin, which includes the socket, and nothing else. Neither script nor style
// stands in the page itself; what the page's script sets on an element is no inline style to a browser.
var policy = strings.Join([]string{
	"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'", "font-src 'self'",
	"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}, "; ")

const (
	always = "public, max-age=31536000, immutable" // what carries its hash in its name
	asking = "no-cache"                            // kept, but asked for each time: the page names the newest of the others
)

// Handler serves the console. It may be mounted at /console or /console/, with the prefix stripped or not.
func Handler() http.Handler {
	files := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the console is only read", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Path == "/console" {
			http.Redirect(w, r, "/console/", http.StatusMovedPermanently)
			return
		}
		name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/console"), "/")
		if name == "" {
			name = "index.html"
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		f, ok := files[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", f.cache)
		h.Set("Vary", "Accept-Encoding")
		body, tag := f.body, f.tag
		if packed := f.packed(); packed != nil && acceptsGzip(r) {
			body, tag = packed, f.tag+"-gz"
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("ETag", `"`+tag+`"`)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
	})
}

// A file is what one address answers with.
type file struct {
	body             []byte
	kind, tag, cache string
	packed           func() []byte // by gzip, made when first asked for; nil where it would not pay
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".md":   "text/markdown; charset=utf-8",
}

// load reads everything once. What is embedded cannot be broken at run time: a test loads it.
func load() map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		name = strings.TrimPrefix(name, "dist/")
		f := file{body: body, kind: kinds[path.Ext(name)], tag: hex.EncodeToString(sum[:8]), cache: asking}
		if strings.HasPrefix(name, "assets/") {
			f.cache = always
		}
		f.packed = sync.OnceValue(func() []byte { return pack(body) })
		files[name] = f
		return nil
	})
	if err != nil {
		panic("console: embedded files: " + err.Error())
	}
	return files
}

// pack is body by gzip, nil when that saves less than a network packet.
func pack(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(body)
	if err == nil {
		err = w.Close()
	}
	if err != nil || b.Len() > len(body)-1400 {
		return nil
	}
	return b.Bytes()
}

// acceptsGzip reads Accept-Encoding as browsers write it; "gzip;q=0" is a no.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			weight = strings.ReplaceAll(weight, " ", "")
			return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
		}
	}
	return false
}
