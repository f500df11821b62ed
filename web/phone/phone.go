// Package phone serves a page that draws two phones, each a real client of the hub: its own person,
// a wx object that talks to the WeChat simulator, and the SDK on top. It is for the demo only.
//
// The page is plain HTML, CSS and ES modules, embedded as they are; it loads nothing from elsewhere.
//
// Dependencies: web/sdk for the client's code; never hub, store or wechat.
package phone

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"wxhub/web/sdk"
)

//go:embed page
var page embed.FS

// Config says where the page finds its servers, as a browser on this machine reaches them.
type Config struct {
	SimURL string // the simulator: "http://127.0.0.1:8081"
	HubURL string // the hub; empty: the page's own origin
}

// Handler serves the page and what it loads. It may be mounted at /phone or /phone/, with the prefix stripped or not.
func Handler(c Config) http.Handler {
	files := load(c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the phone page is only read", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Path == "/phone" { // relative addresses need the slash
			http.Redirect(w, r, "/phone/", http.StatusMovedPermanently)
			return
		}
		name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/phone/"), "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := files[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		seen := c
		if seen.SimURL = Seen(r, c.SimURL); seen != c && name == "index.html" {
			f = indexFor(seen)
		}
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy(seen))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.body))
	})
}

// Seen is address, which is one of this machine, as the sender of r reaches it: a browser that called us by another
// address of this machine, such as 192.168.1.5, takes that one.
func Seen(r *http.Request, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	called, err := netip.ParseAddr(host)
	own, e := netip.ParseAddr(u.Hostname())
	if err != nil || e != nil || called.Zone() != "" || called.IsLoopback() || !own.IsLoopback() {
		return address
	}
	u.Host = net.JoinHostPort(called.String(), u.Port())
	return u.String()
}

// A file is what one address answers with.
type file struct {
	body      []byte
	kind, tag string
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".mjs":  "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// load reads everything once. What is embedded cannot be broken at run time: a test loads it.
func load(c Config) map[string]file {
	files := map[string]file{}
	add := func(name string, body []byte) { files[name] = newFile(name, body) }
	must(fs.WalkDir(page, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := page.ReadFile(name)
		add(strings.TrimPrefix(name, "page/"), body)
		return err
	}))
	files["index.html"] = indexFor(c)
	client, err := fs.ReadFile(sdk.Dist(), "index.mjs")
	must(err)
	add("sdk.mjs", client)
	return files
}

func newFile(name string, body []byte) file {
	sum := sha256.Sum256(body)
	return file{body: body, kind: kinds[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:8]) + `"`}
}

var indexPage = template.Must(template.ParseFS(page, "page/index.html"))

func indexFor(c Config) file {
	var index bytes.Buffer
	must(indexPage.Execute(&index, c))
	return newFile("index.html", index.Bytes())
}

// contentPolicy lets the page reach its own origin, the simulator and the hub, and nothing else.
func contentPolicy(c Config) string {
	sim, hub := origin(c.SimURL), origin(c.HubURL)
	socket := strings.Replace(hub, "http", "ws", 1)
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		join("img-src 'self' data:", sim, hub),
		join("connect-src 'self'", sim, hub, socket),
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'self'",
	}, "; ")
}

// origin is scheme and host of a URL; empty when it has none, so that nothing odd gets into the policy.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.ContainsAny(u.Host, " ;,'\"") {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func join(words ...string) string {
	return strings.TrimSpace(strings.Join(strings.Fields(strings.Join(words, " ")), " "))
}

func must(err error) {
	if err != nil {
		panic("phone: embedded files: " + err.Error())
	}
}
