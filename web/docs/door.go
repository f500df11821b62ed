package docs

import (
	"net/http"
	"regexp"
)

// DoorInfo is what the door page leads to. Empty addresses are left out.
type DoorInfo struct {
	Demo      bool   // the simulator plays WeChat: shows how to try it
	PhoneURL  string // the phone page, usually "/phone/"
	SimURL    string // the simulator, as the reader's browser reaches it
	AdminUser string // shown in the demo, with the hint where the password is; never the password
	Version   string
	Command   string // how the reader calls this program; empty: wxhub
}

type doorView struct {
	DoorInfo
	Origin string // of this server as the reader typed it, for commands to copy
	Flags  string // that a demo on other addresses needs
}

// The addresses that `wxhub trigger` assumes.
const (
	usualHub = "http://127.0.0.1:8080"
	usualSim = "http://127.0.0.1:8081"
)

func (d DoorInfo) view(r *http.Request) *doorView {
	v := &doorView{DoorInfo: d, Origin: originOf(r)}
	if v.Command == "" {
		v.Command = "wxhub"
	}
	if v.Origin != usualHub {
		v.Flags += " --hub " + v.Origin
	}
	if d.SimURL != "" && d.SimURL != usualSim {
		v.Flags += " --sim " + d.SimURL
	}
	return v
}

// Door serves the page at "/". Every other path is not found: mount it where only "/" arrives, or last.
func Door(info DoorInfo) http.Handler {
	s := loadSite()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lang := languageOf(r)
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		case r.URL.Path != "/":
			s.notFound(w, r, lang)
			return
		}
		if r.URL.Query().Get("lang") == lang {
			rememberLanguage(w, r, lang)
		}
		w.Header().Set("Vary", "Accept-Language, Cookie")
		v := s.view(lang, "door")
		v.Title, v.Other = v.T["tagline"], "/?lang="+otherLanguage(lang)
		v.Door = info.view(r)
		s.render(w, r, http.StatusOK, "door.html", v)
	})
}

// hostPattern is a host that may stand in a shell command as it is.
var hostPattern = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(:[0-9]{1,5})?$`)

// originOf is this server's address as the reader's browser named it. Behind a proxy that ends TLS it says http;
// the page's script puts that right.
func originOf(r *http.Request) string {
	host := r.Host
	if !hostPattern.MatchString(host) {
		host = "127.0.0.1:8080"
	}
	if r.TLS != nil {
		return "https://" + host
	}
	return "http://" + host
}
