package web_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wxhub/web"
)

func TestLimits_address(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Limits.Address = web.Rate{PerSecond: 0.01, Burst: 5} })
	for i := range 8 {
		a := s.ask("GET", "/api/products", "", nil)
		a.wellFormed(t, "products")
		if want := map[bool]int{true: 200, false: 429}[i < 5]; a.Status != want {
			t.Errorf("call %d: %d %s", i, a.Status, a.Text)
		}
		if a.Status == 429 && (a.word() != "too_many" || a.Header.Get("Retry-After") == "") {
			t.Errorf("%s %v", a.Text, a.Header)
		}
	}
	// A bad token is none; a spoofed address is the same one; users, keys and WeChat are not of this limit.
	if a := s.ask("GET", "/api/me", "x.y.z", nil, "X-Forwarded-For", "10.9.8.7", "X-Real-IP", "10.9.8.7"); a.Status != 429 {
		t.Errorf("bad token: %d", a.Status)
	}
	if a := s.ask("GET", "/api/products", "", nil, "X-API-Key", "wrong"); a.Status != 429 {
		t.Errorf("wrong key: %d", a.Status)
	}
	if c, resp := s.tryDial("/ws?token=x", nil); c != nil || resp.StatusCode != 429 {
		t.Errorf("socket: %v", resp.StatusCode)
	}
	for range 10 {
		if a := s.ask("GET", "/api/me", s.token("alice", "user"), nil); a.Status != 200 {
			t.Fatalf("a user: %s", a.Text)
		}
		if a := s.ask("GET", "/api/admin/stats", "key", nil); a.Status != 200 {
			t.Fatalf("a key: %s", a.Text)
		}
		if a := s.ask("POST", "/wechat/push", "", "{}"); a.Status == 429 {
			t.Fatal("WeChat is limited")
		}
		if a := s.ask("GET", "/healthz", "", nil); a.Status != 200 {
			t.Fatalf("health: %d", a.Status)
		}
	}
}

func TestLimits_user(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Limits.User = web.Rate{PerSecond: 0.01, Burst: 3} })
	for i := range 5 { // each time another token: the user counts
		a := s.ask("GET", "/api/me", s.token("alice", "user"), nil)
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.Status != want {
			t.Errorf("call %d: %d", i, a.Status)
		}
	}
	if a := s.ask("GET", "/api/me", s.token("bob", "user"), nil); a.Status != 200 {
		t.Errorf("bob: %s", a.Text)
	}
}

func TestLimits_adminLogin(t *testing.T) {
	s := newShop(t, func(o *web.Options) {
		o.Limits.AdminLogin = web.Rate{}
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	guess := func(from string) answer {
		return s.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": "guess"}, "X-Forwarded-For", from)
	}
	for i := range 7 { // what the client itself writes before the proxy's word changes nothing
		a := guess(fmt.Sprintf("10.0.0.%d, 192.0.2.1", i))
		if want := map[bool]int{true: 401, false: 429}[i < 5]; a.Status != want {
			t.Errorf("guess %d: %d %s", i, a.Status, a.Text)
		}
	}
	if a := s.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": adminPassword}, "X-Forwarded-For", "192.0.2.1"); a.Status != 429 {
		t.Errorf("the right one after five: %d", a.Status)
	}
	if a := guess("192.0.2.2"); a.Status != 401 {
		t.Errorf("another address: %d", a.Status)
	}
	for i := range 6 { // one IPv6 subscriber has many addresses
		if a := guess(fmt.Sprintf("2001:db8::%x", i+1)); i == 5 && a.Status != 429 {
			t.Errorf("the sixth guess of a /64: %d", a.Status)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	for name, test := range map[string]struct {
		trusted, header string
		other           string // a header that must share the first one's allowance
		shared          bool
	}{
		"nobody is trusted":         {"", "192.0.2.1", "192.0.2.2", true},
		"the peer is not trusted":   {"10.0.0.0/8", "192.0.2.1", "192.0.2.2", true},
		"the proxy's word":          {"127.0.0.0/8", "192.0.2.1", "192.0.2.2", false},
		"right to left":             {"127.0.0.0/8", "1.1.1.1, 192.0.2.1", "2.2.2.2, 192.0.2.1", true},
		"over two proxies":          {"127.0.0.0/8,10.0.0.0/8", "192.0.2.1, 10.0.0.5", "192.0.2.2, 10.0.0.5", false},
		"a lie before a proxy":      {"127.0.0.0/8,10.0.0.0/8", "1.1.1.1, 192.0.2.1, 10.0.0.5", "2.2.2.2, 192.0.2.1, 10.0.0.6", true},
		"nonsense is nobody's word": {"127.0.0.0/8", "192.0.2.1, nonsense", "192.0.2.2, more", true},
		"IPv4 in IPv6":              {"127.0.0.0/8", "::ffff:192.0.2.1", "192.0.2.1", true},
	} {
		s := newShop(t, func(o *web.Options) {
			o.Limits.Address = web.Rate{PerSecond: 0.001, Burst: 1}
			for _, p := range strings.FieldsFunc(test.trusted, func(r rune) bool { return r == ',' }) {
				o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(p))
			}
		})
		if a := s.ask("GET", "/api/products", "", nil, "X-Forwarded-For", test.header); a.Status != 200 {
			t.Errorf("%s: first %d", name, a.Status)
		}
		if a := s.ask("GET", "/api/products", "", nil, "X-Forwarded-For", test.other); (a.Status == 429) != test.shared {
			t.Errorf("%s: second %d", name, a.Status)
		}
	}
}

func TestServer_languages(t *testing.T) {
	s := newShop(t)
	for accept, zh := range map[string]bool{
		"": true, "zh-CN": true, "en": false, "en-US,en;q=0.9": false, "zh-CN,zh;q=0.9,en;q=0.8": true, "en;q=0.8, zh;q=0.9": true,
		"fr": true, "fr, en;q=0.5": false, "*": true, ";;;q=": true, "EN": false,
	} {
		a := s.ask("GET", "/api/me", "", nil, "Accept-Language", accept)
		if (a.Message == "请先登录") != zh || a.word() != "unauthorized" {
			t.Errorf("%q: %s", accept, a.Message)
		}
	}
	if a := s.ask("POST", "/api/login", "", "{}", "Accept-Language", "en"); !strings.Contains(a.Message, "code") || strings.ContainsRune(a.Message, '请') {
		t.Errorf("%s", a.Message)
	}
}

func TestServer_always200(t *testing.T) {
	s := newShop(t, func(o *web.Options) {
		o.Always200 = true
		o.Pay = panics{}
	})
	for _, a := range []answer{
		s.ask("GET", "/api/me", "", nil), s.ask("POST", "/api/login", "", "{"), s.ask("POST", "/api/login", "", strings.Repeat("x", 1<<20)),
		s.ask("GET", "/api/nothing", "", nil), s.ask("GET", "/api/login", "", nil), s.ask("GET", "/api/admin/stats", s.token("a", "user"), nil),
		s.ask("POST", "/api/pay", s.login("alice").Token, map[string]any{"productId": "tea", "quantity": 1}),
		s.ask("POST", "/api/login", "", "x", "Content-Type", "text/plain"),
	} {
		a.wellFormed(t, "always 200")
		if a.Status != 200 || a.Code == nil || *a.Code != 0 || a.word() == "" {
			t.Errorf("%d %s", a.Status, a.Text)
		}
	}
	// Not for what is no /api: health, sockets and WeChat's servers go by the status.
	if _, resp := s.tryDial("/ws", nil); resp.StatusCode != 401 {
		t.Errorf("socket: %d", resp.StatusCode)
	}
	if a := s.ask("GET", "/nothing", "", nil); a.Status != 404 {
		t.Errorf("/nothing: %d", a.Status)
	}
	if a := s.ask("POST", "/wechat/push", "", "{}"); a.Status/100 != 4 {
		t.Errorf("push: %d", a.Status)
	}
	if m := s.ask("GET", "/metrics", "", nil).Text; !strings.Contains(m, `route="/api/me",status="401"`) {
		t.Error("the figures do not keep the real status")
	}
}

func TestServer_headers(t *testing.T) {
	s := newShop(t)
	for _, path := range []string{"/api/me", "/api/products", "/", "/docs/zh/", "/healthz", "/nothing", "/metrics"} {
		h := s.ask("GET", path, "", nil).Header
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if page := path == "/" || strings.HasPrefix(path, "/docs"); h.Get(name) != want && !(page && h.Get(name) == "same-origin") {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if len(h.Get("X-Request-Id")) < 16 {
			t.Errorf("%s: request id %q", path, h.Get("X-Request-Id"))
		}
		if h.Get("Server") != "" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
		if strings.HasPrefix(path, "/api") && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: cache %q", path, h.Get("Cache-Control"))
		}
	}
}

func TestServer_health(t *testing.T) {
	s := newShop(t)
	for _, method := range []string{"GET", "HEAD"} {
		for _, path := range []string{"/healthz", "/readyz"} {
			if a := s.ask(method, path, "", nil); a.Status != 200 {
				t.Errorf("%s %s: %d", method, path, a.Status)
			}
		}
	}
	s.server.NotReady()
	if a := s.ask("GET", "/readyz", "", nil); a.Status != 503 {
		t.Errorf("stopping: %d", a.Status)
	}
	if a := s.ask("GET", "/healthz", "", nil); a.Status != 200 {
		t.Errorf("stopping, alive: %d", a.Status)
	}
}

func TestServer_metrics(t *testing.T) {
	s := newShop(t)
	token := s.token("alice", "user")
	s.dial("/ws?token=" + token).welcome()
	s.ask("GET", "/api/orders/20260101000000canary", token, nil)
	s.ask("GET", "/canary/../x?token=canary", "", nil)
	s.ask("CANARY", "/api/me", "", nil)
	s.ask("POST", "/api/admin/broadcast", "key", `{"all":true,"action":"x"}`)
	m := s.ask("GET", "/metrics", "", nil).Text
	for _, line := range []string{
		"wxhub_sockets 1", "wxhub_users 1", "wxhub_published_total 1", "wxhub_outbox_waiting 0", "go_goroutines ",
		`wxhub_wechat_callbacks_total{door="pay",result="conflict"} 0`,
		`wxhub_http_request_seconds_count{method="POST",route="/api/admin/broadcast",status="200"} 1`,
	} {
		if !strings.Contains(m, "\n"+line) {
			t.Errorf("no line %q", line)
		}
	}
	if strings.Contains(strings.ToLower(m), "canary") || strings.Contains(m, "alice") {
		t.Error("what clients write is in the figures")
	}
}

func TestServer_pprof(t *testing.T) {
	s := newShop(t)
	for who, want := range map[string]int{"": 401, s.token("a", "user"): 403, s.token("a", "staff"): 403, s.token("a", "admin"): 200, "key": 200, "x": 401} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?gc=1"} {
			if a := s.ask("GET", path, who, nil); a.Status != want {
				t.Errorf("%s: %d, want %d", path, a.Status, want)
			}
		}
	}
	if a := s.ask("GET", "/debug/pprof/cmdline", "key", nil); a.Status != 404 {
		t.Errorf("the command line: %d", a.Status)
	}
}

func TestServer_openAPI(t *testing.T) {
	s := newShop(t)
	a := s.ask("GET", "/api/openapi.json", "", nil)
	var doc struct {
		OpenAPI string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]struct {
			Summary   string
			Security  []map[string]any
			Responses map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct {
			SecuritySchemes map[string]struct{ Type, Scheme, In, Name string }
			Schemas         map[string]any
		}
	}
	if err := json.Unmarshal([]byte(a.Text), &doc); err != nil || a.Status != 200 {
		t.Fatalf("%d %v", a.Status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.") || doc.Info.Title != "wxhub" || doc.Info.Version != "test" {
		t.Errorf("%s %+v", doc.OpenAPI, doc.Info)
	}
	schemes := doc.Components.SecuritySchemes
	if schemes["bearer"].Scheme != "bearer" || schemes["apiKey"].In != "header" || schemes["apiKey"].Name != "X-API-Key" {
		t.Errorf("%+v", schemes)
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			if _, never := op.Responses["422"]; op.Summary == "" || len(op.Responses) < 3 || never {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			if strings.HasPrefix(path, "/api/admin/") && path != "/api/admin/login" && len(op.Security) != 2 {
				t.Errorf("%s %s: security %v", method, path, op.Security)
			}
			for status, r := range op.Responses {
				content, ok := r.Content["application/json"]
				if !ok {
					t.Errorf("%s %s %s: %+v", method, path, status, r)
					continue
				}
				text, _ := json.Marshal(content.Schema)
				schema := text
				if name, ok := strings.CutPrefix(string(text), `{"$ref":"#/components/schemas/`); ok {
					schema, _ = json.Marshal(doc.Components.Schemas[strings.TrimSuffix(name, `"}`)])
				}
				for _, field := range []string{`"code"`, `"data"`, `"message"`} {
					if !strings.Contains(string(schema), field) {
						t.Errorf("%s %s %s: no %s in %.300s", method, path, status, field, schema)
					}
				}
				if status[0] != '2' && !strings.Contains(string(schema), `"error"`) {
					t.Errorf("%s %s %s: no error in %.300s", method, path, status, schema)
				}
			}
		}
	}
	if strings.Contains(a.Text, "$schema") {
		t.Error("schema links")
	}
}

func TestServer_pages(t *testing.T) {
	s := newShop(t)
	for path, want := range map[string]int{"/": 200, "/docs/zh/": 200, "/docs/en/errors": 200, "/phone/": 404, "/docs/..%2f..%2fgo.mod": 404, "/nothing": 404} {
		if a := s.ask("GET", path, "", nil); a.Status != want {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	demo := newShop(t, func(o *web.Options) { o.Demo = &web.Demo{SimURL: "http://127.0.0.1:1", AdminPassword: "canary-demo"} })
	for _, path := range []string{"/phone/", "/"} {
		if a := demo.ask("GET", path, "", nil); a.Status != 200 || strings.Contains(a.Text, "canary-demo") {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
}

// A day's work leaves no secret, token or openid in the log, in an answer or in the figures.
func TestServer_secretsStayInside(t *testing.T) {
	s := newShop(t)
	c, p := credentials(), s.phone("alice")
	var l login
	var said []string
	note := func(a answer) answer { said = append(said, a.Text); return a }
	note(s.ask("POST", "/api/login", "", map[string]any{
		"code": p.Code, "rawData": p.RawData, "signature": p.Signature, "encryptedData": p.EncryptedData, "iv": p.IV,
	})).into(t, &l)
	for _, fault := range []map[string]any{{"status": 500}, {"html": true}, {"errcode": 40125}, {"lost": true}, {"errcode": 41002}} {
		fault["times"] = 2
		s.simulate("/sim/fault", fault, nil)
		note(s.ask("POST", "/api/login", "", map[string]any{"code": s.phone("bob").Code}))
		note(s.ask("POST", "/api/pay", l.Token, map[string]any{"productId": "tea", "quantity": 1}))
	}
	note(s.ask("POST", "/api/pay", l.Token, map[string]any{"productId": "tea", "quantity": 1}))
	s.simulate("/sim/message", map[string]any{"user": "alice", "type": "text", "content": "canary of a chat"}, nil)
	s.simulate("/sim/trigger", map[string]any{"event": "pay"}, nil)
	s.simulate("/sim/trigger", map[string]any{"event": "pay", "forge": "signature"}, nil)
	s.dial("/ws?token=" + l.Token).welcome()
	note(s.ask("GET", "/ws?token="+l.Token+"x", "", nil))
	note(s.ask("GET", "/api/nothing?token="+l.Token, "", nil))
	note(s.ask("POST", "/api/admin/login", "", map[string]any{"username": adminPassword, "password": adminPassword}))
	note(s.ask("POST", "/api/admin/login", "", `{"password":"`+adminPassword+`"`))
	note(s.ask("GET", "/api/me", apiKey, nil))
	for _, path := range []string{"/api/me", "/api/orders", "/api/admin/orders", "/api/admin/stats", "/metrics", "/api/openapi.json", "/debug/pprof/goroutine?debug=2"} {
		note(s.ask("GET", path, map[bool]string{true: "key", false: l.Token}[strings.Contains(path, "admin") || strings.Contains(path, "pprof")], nil))
	}
	log := s.log.String()
	if !strings.Contains(log, "admin login refused") || !strings.Contains(log, "push refused") && !strings.Contains(log, "pay notify refused") {
		t.Fatalf("this test does not see the log: %.500s", log)
	}
	answers := strings.Join(said, "\n")
	for name, secret := range map[string]string{
		"AppSecret": c.Secret, "APIv3 key": c.APIv3Key, "push token": c.PushToken, "push key": c.PushAESKey, "merchant key": c.MerchantKeyPEM[40:80],
		"JWT key": jwtSecret, "API key": apiKey, "admin password": adminPassword, "openid": p.OpenID, "code": p.Code, "chat": "canary of a chat",
	} {
		if strings.Contains(log, secret) {
			t.Errorf("%s is in the log", name)
		}
		if strings.Contains(answers, secret) {
			t.Errorf("%s is in an answer", name)
		}
	}
	if strings.Contains(log, l.Token) || strings.Contains(strings.ReplaceAll(answers, said[0], ""), l.Token) {
		t.Error("a token is in the log or in another answer than its own")
	}
}
