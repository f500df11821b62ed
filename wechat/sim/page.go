package sim

import (
	"embed"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

// page serves what people look at: GET / and the files below /page/. They need nothing from elsewhere.
func page(w http.ResponseWriter, r *http.Request) {
	name := "page/index.html"
	if r.URL.Path != "/" {
		name = r.URL.Path[1:]
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'")
	http.ServeFileFS(w, r, pageFiles, name)
}
