// Package docs serves what people read: the door page, the guides in Chinese and English, the error pages
// and a viewer for the OpenAPI document. Everything is embedded, so it works without a network.
//
// The guides are Markdown under guides/{zh,en} and are rendered once, when a Handler is made. Links between them
// are written as links between files ("pay.md#notify"), so that they work in a source browser too.
//
// Pages load nothing from elsewhere and run no inline script; the Content-Security-Policy says so to the browser.
//
// Dependencies: goldmark and x/text; nothing of hub, wechat, store or web.
package docs

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed guides/zh/*.md guides/en/*.md
var guideFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets viewer/dist
var assetFiles embed.FS

//go:embed asyncapi.json
var asyncAPI []byte

// pagePolicy is what every page is served with, the viewer too.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// A site is everything in its rendered form. It never changes once made.
type site struct {
	guides    map[string]*guide // by "zh/pay"
	templates *template.Template
	stamp     string // of the assets; part of their address, so that a new build is seen at once
}

var loadSite = sync.OnceValue(func() *site {
	s, err := newSite()
	if err != nil {
		panic("docs: embedded files: " + err.Error()) // a test renders everything, so no build that passed gets here
	}
	return s
})

func newSite() (*site, error) {
	s := &site{guides: map[string]*guide{}}
	var err error
	if s.templates, err = template.ParseFS(templateFiles, "templates/*.html"); err != nil {
		return nil, err
	}
	for _, lang := range languages {
		for _, slug := range slugs {
			name := "guides/" + lang + "/" + slug + ".md"
			src, err := guideFiles.ReadFile(name)
			if err != nil {
				return nil, err
			}
			g, err := renderGuide(lang, slug, src)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			s.guides[lang+"/"+slug] = g
		}
		for i, slug := range slugs[1:] {
			next := s.guides[lang+"/"+slug]
			s.guides[lang+"/"+slugs[i]].Next = &guideLink{slug, next.Title}
		}
	}
	sum := sha256.New()
	err = fs.WalkDir(assetFiles, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assetFiles.ReadFile(p)
		sum.Write(b)
		return err
	})
	s.stamp = hex.EncodeToString(sum.Sum(nil))[:12]
	return s, err
}

// Handler serves every path at and below /docs/, and the AsyncAPI document. It expects whole paths (no StripPrefix)
// and GET or HEAD.
//
//	/api/asyncapi.json     what goes over the socket, for programs; /docs/asyncapi.json is the same
//	/docs/                 the list of guides, in the reader's language
//	/docs/{zh,en}/         the same in one language
//	/docs/{zh,en}/{guide}  a guide; with .md its Markdown
//	/docs/{guide}          the guide in the reader's language
//	/docs/errors/{word}    what an error word means
//	/docs/api/             the API reference, from /api/openapi.json
//	/docs/assets/…         what the pages load
func Handler() http.Handler {
	s := loadSite()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /docs", s.toOwnLanguage(""))
	mux.HandleFunc("GET /docs/{$}", s.toOwnLanguage(""))
	mux.HandleFunc("GET /docs/errors/{word}", s.errorWord)
	mux.HandleFunc("GET /docs/api", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/docs/api/", http.StatusMovedPermanently)
	})
	mux.HandleFunc("GET /docs/api/{$}", s.viewer)
	for _, path := range []string{"/docs/asyncapi.json", "/api/asyncapi.json"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			serve(w, r, "application/json", asyncAPI)
		})
	}
	for _, slug := range slugs {
		mux.HandleFunc("GET /docs/"+slug, s.toOwnLanguage(slug))
	}
	for _, lang := range languages {
		mux.HandleFunc("GET /docs/"+lang, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/docs/"+lang+"/", http.StatusMovedPermanently)
		})
		mux.HandleFunc("GET /docs/"+lang+"/{guide...}", func(w http.ResponseWriter, r *http.Request) {
			s.guide(w, r, lang, r.PathValue("guide"))
		})
	}
	mux.HandleFunc("GET /docs/assets/{file...}", s.asset)
	mux.HandleFunc("GET /docs/", func(w http.ResponseWriter, r *http.Request) { s.notFound(w, r, languageOf(r)) })
	return mux
}

// toOwnLanguage sends the reader to a guide in the language that the browser asks for.
func (s *site) toOwnLanguage(slug string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Language, Cookie")
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, "/docs/"+languageOf(r)+"/"+slug, http.StatusFound)
	}
}

// errorWord leads from the short address of an error word to its section.
func (s *site) errorWord(w http.ResponseWriter, r *http.Request) {
	lang, word := languageOf(r), r.PathValue("word")
	w.Header().Set("Vary", "Accept-Language, Cookie")
	if !s.guides[lang+"/errors"].anchors[word] {
		s.notFound(w, r, lang)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/docs/"+lang+"/errors#"+word, http.StatusFound)
}

// view is what every template gets.
type view struct {
	Lang   string
	T      words  // the interface's words in Lang
	Title  string // of the browser's tab
	Other  string // the same page in the other language
	Stamp  string
	Active string // slug of the guide shown
	Guides []*guide
	Guide  *guide
	Door   *doorView
}

func (s *site) view(lang, slug string) view {
	v := view{Lang: lang, T: interfaceWords[lang], Active: slug, Stamp: s.stamp,
		Other: "/docs/" + otherLanguage(lang) + "/" + slug}
	for _, g := range slugs {
		v.Guides = append(v.Guides, s.guides[lang+"/"+g])
	}
	return v
}

func (s *site) guide(w http.ResponseWriter, r *http.Request, lang, slug string) {
	rememberLanguage(w, r, lang)
	if slug == "" {
		v := s.view(lang, "")
		v.Title = v.T["docs"]
		s.render(w, r, http.StatusOK, "index.html", v)
		return
	}
	if name, ok := strings.CutSuffix(slug, ".md"); ok {
		if g := s.guides[lang+"/"+name]; g != nil {
			serve(w, r, "text/markdown; charset=utf-8", g.Source)
			return
		}
	}
	g := s.guides[lang+"/"+slug]
	if g == nil {
		s.notFound(w, r, lang)
		return
	}
	v := s.view(lang, slug)
	v.Title, v.Guide = g.Title, g
	s.render(w, r, http.StatusOK, "guide.html", v)
}

func (s *site) viewer(w http.ResponseWriter, r *http.Request) {
	lang := languageOf(r)
	if chosen := r.URL.Query().Get("lang"); chosen != "" {
		rememberLanguage(w, r, lang)
	}
	w.Header().Set("Vary", "Accept-Language, Cookie")
	v := s.view(lang, "api")
	v.Title, v.Other = v.T["api"], "/docs/api/?lang="+otherLanguage(lang)
	s.render(w, r, http.StatusOK, "viewer.html", v)
}

func (s *site) notFound(w http.ResponseWriter, r *http.Request, lang string) {
	v := s.view(lang, "")
	v.Title = v.T["notFound"]
	s.render(w, r, http.StatusNotFound, "notfound.html", v)
}

func (s *site) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	var b bytes.Buffer
	if err := s.templates.ExecuteTemplate(&b, name, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Language", v.Lang)
	if status != http.StatusOK {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(b.Bytes()) // the reader has gone away: nobody to tell
		}
		return
	}
	serve(w, r, "text/html; charset=utf-8", b.Bytes())
}

// serve answers with b and a validator made of it, so that a reload costs a 304.
func serve(w http.ResponseWriter, r *http.Request, contentType string, b []byte) {
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// contentTypes are those of our assets; the machine's own table is not asked, it differs from place to place.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	".txt": "text/plain; charset=utf-8",
	"":     "text/plain; charset=utf-8", // LICENSE, NOTICE
}

func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	file := "assets/" + name
	if rest, ok := strings.CutPrefix(name, "viewer/"); ok {
		file = "viewer/dist/" + rest
	}
	contentType, known := contentTypes[path.Ext(name)]
	b, err := assetFiles.ReadFile(file)
	if err != nil || !known {
		s.notFound(w, r, languageOf(r))
		return
	}
	if r.URL.Query().Get("v") == s.stamp {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // a year: the address names the content
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	serve(w, r, contentType, b)
}
