package docs

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/net/html"
)

// get asks the documents, or the door at "/".
func get(t *testing.T, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if r.URL.Path == "/" {
		Door(DoorInfo{Demo: true, PhoneURL: "/phone/", SimURL: "http://127.0.0.1:8081", AdminUser: "admin", Version: "v1"}).ServeHTTP(w, r)
	} else {
		Handler().ServeHTTP(w, r)
	}
	return w.Result()
}

// pages are all there is to read, in both languages.
func pages() []string {
	list := []string{"/?lang=zh", "/?lang=en", "/docs/api/?lang=zh", "/docs/api/?lang=en", "/docs/no-such-page"}
	for _, lang := range languages {
		list = append(list, "/docs/"+lang+"/")
		for _, slug := range slugs {
			list = append(list, "/docs/"+lang+"/"+slug)
		}
	}
	return list
}

func parsePage(t *testing.T, page string) *html.Node {
	t.Helper()
	a := get(t, page)
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK && page != "/docs/no-such-page" {
		t.Fatalf("%s: status %d", page, a.StatusCode)
	}
	n, err := html.Parse(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func elements(n *html.Node, yield func(*html.Node)) {
	if n.Type == html.ElementNode {
		yield(n)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		elements(c, yield)
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func TestGuides_bothLanguages(t *testing.T) {
	s := loadSite()
	for _, lang := range languages {
		files, err := filepath.Glob("guides/" + lang + "/*.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if slug := strings.TrimSuffix(filepath.Base(f), ".md"); !slices.Contains(slugs, slug) {
				t.Errorf("%s is in no list of guides", f)
			}
		}
	}
	for _, slug := range slugs {
		zh, en := s.guides["zh/"+slug], s.guides["en/"+slug]
		for a := range zh.anchors {
			if !en.anchors[a] {
				t.Errorf("%s: section #%s is missing in English", slug, a)
			}
		}
		for a := range en.anchors {
			if !zh.anchors[a] {
				t.Errorf("%s: section #%s is missing in Chinese", slug, a)
			}
		}
		if zh.Summary == "" || en.Summary == "" || zh.Title == en.Title {
			t.Errorf("%s: every guide has a title and a first paragraph in its own language", slug)
		}
	}
	for name := range interfaceWords["zh"] {
		if interfaceWords["en"][name] == "" {
			t.Errorf("interface word %s is missing in English", name)
		}
	}
	if len(interfaceWords["zh"]) != len(interfaceWords["en"]) {
		t.Error("the languages have different interface words")
	}
}

// elsewhere are the addresses that other parts of the server answer.
var elsewhere = []string{"/api/openapi.json", "/readyz", "/metrics", "/phone/", "/console/"}

func TestLinks_leadSomewhere(t *testing.T) {
	anchors := map[string]map[string]bool{} // by path
	for _, page := range pages() {
		u, _ := url.Parse(page)
		anchors[u.Path] = map[string]bool{}
		elements(parsePage(t, page), func(n *html.Node) {
			if id := attribute(n, "id"); id != "" {
				if anchors[u.Path][id] && u.RawQuery == "" {
					t.Errorf("%s: the id %s stands twice", page, id)
				}
				anchors[u.Path][id] = true
			}
		})
	}
	for _, page := range pages() {
		base, _ := url.Parse(page)
		elements(parsePage(t, page), func(n *html.Node) {
			to := attribute(n, "href") + attribute(n, "src")
			if to == "" {
				return
			}
			ref, err := base.Parse(to)
			switch {
			case err != nil:
				t.Errorf("%s: link %q: %v", page, to, err)
			case ref.Host != "": // links to the world are allowed, loading from it is another test's matter
			case slices.Contains(elsewhere, ref.Path):
			default:
				a := get(t, ref.RequestURI())
				_ = a.Body.Close()
				if a.StatusCode != http.StatusOK && ref.Path != base.Path {
					t.Errorf("%s: link %q: status %d", page, to, a.StatusCode)
				}
				if ref.Fragment != "" && !anchors[ref.Path][ref.Fragment] {
					t.Errorf("%s: link %q: no such section", page, to)
				}
			}
		})
	}
}

func TestPages_loadNothingFromElsewhere(t *testing.T) {
	for _, page := range pages() {
		elements(parsePage(t, page), func(n *html.Node) {
			for _, a := range n.Attr {
				loads := a.Key == "src" || a.Key == "srcset" || a.Key == "poster" || (a.Key == "href" && n.Data == "link")
				if loads && !strings.HasPrefix(a.Val, "/docs/assets/") {
					t.Errorf("%s: <%s %s=%q> loads from elsewhere", page, n.Data, a.Key, a.Val)
				}
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: <%s %s> is inline, which the policy refuses", page, n.Data, a.Key)
				}
			}
			if n.Data == "style" || (n.Data == "script" && n.FirstChild != nil) || n.Data == "iframe" {
				t.Errorf("%s: <%s> is inline", page, n.Data)
			}
		})
		a := get(t, page)
		_ = a.Body.Close()
		policy := a.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", page, policy)
		}
		if a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: nosniff is missing", page)
		}
	}
	fetches := regexp.MustCompile(`(?i)@import|url\(\s*["']?(https?:)?//|sourceMappingURL`)
	for _, file := range []string{"assets/site.css", "assets/viewer.css", "assets/site.js", "assets/viewer.js", "viewer/dist/swagger-ui.css"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := fetches.Find(text); found != nil {
			t.Errorf("%s has %q", file, found)
		}
	}
}

func TestGuides_examplesAreJSON(t *testing.T) {
	block := regexp.MustCompile("(?s)```json\n(.*?)```")
	for name, g := range loadSite().guides {
		for _, m := range block.FindAllStringSubmatch(string(g.Source), -1) {
			d := json.NewDecoder(strings.NewReader(m[1]))
			for d.More() {
				var v any
				if err := d.Decode(&v); err != nil {
					t.Errorf("%s: %v in\n%s", name, err, m[1])
					break
				}
			}
		}
	}
}

// frameSchema is the schema of the AsyncAPI document that a frame of a guide's example must fit.
func frameSchema(frame map[string]any) string {
	data, _ := frame["data"].(map[string]any)
	switch {
	case frame["reply"] != nil && frame["ok"] == false:
		return "refused"
	case frame["reply"] != nil:
		for name, field := range map[string]string{"joinReply": "room", "publishReply": "offset", "presenceReply": "count", "historyReply": "messages", "refreshReply": "expiresAt"} {
			if frame[field] != nil && (name != "joinReply" || frame["count"] == nil && frame["messages"] == nil) &&
				(name != "publishReply" || frame["room"] == nil) {
				return name
			}
		}
		return "done"
	case frame["ping"] != nil:
		return "serverPing"
	case frame["meta"] != nil:
		if name, known := map[any]string{"welcome": "welcome", "purchase": "purchase", "order.paid": "orderPaid", "order.closed": "orderClosed",
			"order.refunded": "orderRefunded", "kf.message": "kfMessage", "kf.event": "kfEvent", "follow": "follow", "unfollow": "unfollow"}[data["action"]]; known {
			return name
		}
		return "push"
	default:
		return "clientFrame"
	}
}

func TestAsyncAPI_examplesFit(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asyncAPI))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("asyncapi.json", document); err != nil {
		t.Fatal(err)
	}
	schema := func(name string) *jsonschema.Schema {
		s, err := compiler.Compile("asyncapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name := range document.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		schema(name)
	}
	block, fitted := regexp.MustCompile("(?s)```json\n(.*?)```"), map[string]bool{}
	for _, guide := range []string{"zh/socket", "en/socket"} {
		for _, m := range block.FindAllStringSubmatch(string(loadSite().guides[guide].Source), -1) {
			d := json.NewDecoder(strings.NewReader(m[1]))
			for d.More() {
				var frame map[string]any
				if err := d.Decode(&frame); err != nil {
					t.Fatal(err)
				}
				if text, ok := frame["error"].(string); ok && text == "…" {
					frame["error"] = "forbidden"
				}
				name := frameSchema(frame)
				fitted[name] = true
				if messages, ok := frame["messages"].([]any); ok { // shortened in the guide
					for _, push := range messages {
						push.(map[string]any)["meta"].(map[string]any)["timestamp"] = 1.0
					}
				}
				if err := schema(name).Validate(frame); err != nil {
					t.Errorf("%s: %v does not fit %s: %v", guide, frame, name, err)
				}
			}
		}
	}
	if len(fitted) < 9 {
		t.Errorf("only %v were tried", fitted)
	}
	for _, bad := range []string{`{"action":"jion","room":"a"}`, `{"id":1,"action":"join"}`, `{"id":1,"action":"join","room":"a b"}`, `{"id":1,"action":"ack","room":"a","offset":-1}`} {
		var frame any
		if err := json.Unmarshal([]byte(bad), &frame); err != nil {
			t.Fatal(err)
		}
		if schema("clientFrame").Validate(frame) == nil {
			t.Errorf("%s fits", bad)
		}
	}
}

func TestHandler_language(t *testing.T) {
	tests := []struct{ accept, cookie, target, want string }{
		{"", "", "/docs/", "/docs/zh/"},
		{"zh-CN,zh;q=0.9,en;q=0.8", "", "/docs/", "/docs/zh/"},
		{"zh-TW", "", "/docs/pay", "/docs/zh/pay"},
		{"en-GB,en;q=0.9", "", "/docs/", "/docs/en/"},
		{"fr-FR,fr;q=0.9", "", "/docs/pay", "/docs/en/pay"},
		{"en", "zh", "/docs/pay", "/docs/zh/pay"},
		{"zh", "", "/docs/pay?lang=en", "/docs/en/pay"},
		{"zh", "xx", "/docs/errors/forbidden", "/docs/zh/errors#forbidden"},
		{"en;q=;;,,", "", "/docs", "/docs/en/"},
	}
	for _, tt := range tests {
		header := []string{"Accept-Language", tt.accept}
		if tt.cookie != "" {
			header = append(header, "Cookie", languageCookie+"="+tt.cookie)
		}
		a := get(t, tt.target, header...)
		_ = a.Body.Close()
		if got := a.Header.Get("Location"); a.StatusCode != http.StatusFound || got != tt.want {
			t.Errorf("%+v: %d to %q", tt, a.StatusCode, got)
		}
		if !strings.Contains(a.Header.Get("Vary"), "Accept-Language") {
			t.Errorf("%+v: no Vary", tt)
		}
	}
}

func TestHandler_unknownPages(t *testing.T) {
	for _, target := range []string{"/docs/xx/", "/docs/zh/nothing", "/docs/zh/../../docs.go", "/docs/assets/", "/docs/assets/../docs.go",
		"/docs/assets/viewer/../../docs.go", "/docs/errors/no_such_word", "/docs/en/pay/more"} {
		a := get(t, target)
		_ = a.Body.Close()
		if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMovedPermanently && a.StatusCode != http.StatusTemporaryRedirect {
			t.Errorf("%s: status %d", target, a.StatusCode)
		}
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/docs/zh/pay", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", w.Code)
	}
}

func TestHandler_unchangedPageIs304(t *testing.T) {
	for _, target := range []string{"/docs/zh/pay", "/docs/assets/site.css", "/docs/en/pay.md"} {
		first := get(t, target)
		_ = first.Body.Close()
		again := get(t, target, "If-None-Match", first.Header.Get("ETag"))
		_ = again.Body.Close()
		if first.StatusCode != http.StatusOK || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d, then %d", target, first.StatusCode, again.StatusCode)
		}
	}
}

func TestDoor_hostInCommands(t *testing.T) {
	door := func(info DoorInfo, host string) string {
		r := httptest.NewRequest(http.MethodGet, "/?lang=en", nil)
		r.Host = host
		w := httptest.NewRecorder()
		Door(info).ServeHTTP(w, r)
		return w.Body.String()
	}
	page := door(DoorInfo{Demo: true, PhoneURL: "/phone/", SimURL: "http://127.0.0.1:9091"}, "127.0.0.1:9090")
	for _, want := range []string{"http://127.0.0.1:9090</span>/api/admin/broadcast", "trigger pay --hub http://127.0.0.1:9090 --sim http://127.0.0.1:9091", `href="/phone/"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the demo's door lacks %q", want)
		}
	}
	page = door(DoorInfo{}, `evil"; rm -rf ~ #`)
	for _, bad := range []string{"evil", "rm -rf", "/phone/", "trigger pay"} {
		if strings.Contains(page, bad) {
			t.Errorf("the plain door has %q", bad)
		}
	}
	w := httptest.NewRecorder()
	Door(DoorInfo{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/elsewhere", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("/elsewhere: status %d", w.Code)
	}
}

func FuzzLanguageOf(f *testing.F) {
	for _, s := range []string{"zh-CN,zh;q=0.9", "en", "*", ";q=9", "zh-Hant-TW-x-a;q=0.0001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept-Language"] = []string{accept}
		if lang := languageOf(r); lang != "zh" && lang != "en" {
			t.Errorf("%q gave %q", accept, lang)
		}
	})
}
