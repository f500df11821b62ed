package web_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"wxhub/web"
)

// described is what the OpenAPI document says of statuses.
type described struct {
	Paths map[string]map[string]struct{ Responses map[string]any }
}

// pathOf is the path of the document that serves a request's.
func (d *described) pathOf(asked string) string {
	for path := range d.Paths {
		if strings.Count(path, "/") == strings.Count(asked, "/") && regexp.MustCompile("^"+regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "[^/]+")+"$").MatchString(asked) &&
			(strings.Contains(path, "{") || path == asked) {
			return path
		}
	}
	return asked
}

// Every operation answers every caller as the OpenAPI document says, in status and in body.
func TestOpenAPI_answersFit(t *testing.T) {
	s := newShop(t)
	limited := newShop(t, func(o *web.Options) {
		one := web.Rate{PerSecond: 0.001, Burst: 1}
		o.Limits = web.Limits{Address: one, User: one, AdminLogin: one}
	})
	text := s.ask("GET", "/api/openapi.json", "", nil).Text
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	var described described
	if err := json.Unmarshal([]byte(text), &described); err != nil {
		t.Fatal(err)
	}
	pointer := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	fits := func(what string, c call, a answer) {
		t.Helper()
		path := described.pathOf(c.path)
		method := strings.ToLower(c.method)
		if described.Paths[path][method].Responses[fmt.Sprint(a.Status)] == nil {
			t.Errorf("%s: %s %s answers %d, which is not in the document: %.200s", what, c.method, path, a.Status, a.Text)
			return
		}
		schema, err := compiler.Compile(fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%d/content/application~1json/schema", pointer.Replace(path), method, a.Status))
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(a.Text))
		if err != nil {
			t.Errorf("%s: %s %s: %v", what, c.method, path, err)
			return
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %s %s: %.300s: %v", what, c.method, path, a.Text, err)
		}
	}
	for _, c := range calls {
		for _, role := range everybody {
			who := map[string]string{"key": "key"}[role]
			if role == "user" || role == "staff" || role == "admin" {
				who = s.token("alice", role)
			}
			fits(role, c, s.ask(c.method, c.path, who, bodyOf(c.good)))
			if c.good != nil {
				fits(role+", no JSON", c, s.ask(c.method, c.path, who, "{"))
				fits(role+", too large", c, s.ask(c.method, c.path, who, strings.Repeat("x", 1<<20)))
				fits(role+", a form", c, s.ask(c.method, c.path, who, "a=b", "Content-Type", "application/x-www-form-urlencoded"))
			}
		}
		fits("bad token", c, s.ask(c.method, c.path, "x.y.z", bodyOf(c.good)))
		for _, role := range []string{"", limited.token("bob", "user")} {
			for range 2 {
				fits("too often", c, limited.ask(c.method, c.path, role, bodyOf(c.good)))
			}
		}
	}
	// The successes that need something to be there.
	alice := s.phone("alice")
	login := s.ask("POST", "/api/login", "", map[string]any{"code": alice.Code})
	fits("login", call{method: "POST", path: "/api/login"}, login)
	var l struct{ Token string }
	login.into(t, &l)
	paid := s.ask("POST", "/api/pay", l.Token, map[string]any{"productId": "tea", "quantity": 1})
	fits("pay", call{method: "POST", path: "/api/pay"}, paid)
	var order struct{ OutTradeNo string }
	paid.into(t, &order)
	fits("order", call{method: "GET", path: "/api/orders/x"}, s.ask("GET", "/api/orders/"+order.OutTradeNo, l.Token, nil))
	fits("orders", call{method: "GET", path: "/api/orders"}, s.ask("GET", "/api/orders", l.Token, nil))
	fits("all orders", call{method: "GET", path: "/api/admin/orders"}, s.ask("GET", "/api/admin/orders", "key", nil))
	fits("admin", call{method: "POST", path: "/api/admin/login"}, s.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": adminPassword}))
	s.simulate("/sim/fault", map[string]any{"errcode": -1, "times": 10}, nil)
	fits("WeChat is busy", call{method: "POST", path: "/api/login"}, s.ask("POST", "/api/login", "", map[string]any{"code": s.phone("alice").Code}))
	fits("WeChat is busy", call{method: "POST", path: "/api/pay"}, s.ask("POST", "/api/pay", l.Token, map[string]any{"productId": "tea", "quantity": 1}))
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if c.path != "/api/admin/broadcast" { // whose rooms need no store
			fits("the store is away", c, s.ask(c.method, c.path, s.rightfulToken(c), bodyOf(c.good)))
		}
	}
}

// rightfulToken gives a credential that is let in at c, without the store.
func (s *shop) rightfulToken(c call) string {
	if slices.Contains(c.who, "key") {
		return "key"
	}
	return s.token("alice", "user")
}

// The document names its schemes and holds none of their secrets.
func TestOpenAPI_noSecrets(t *testing.T) {
	s := newShop(t)
	text := s.ask("GET", "/api/openapi.json", "", nil).Text
	creds := credentials()
	for _, secret := range []string{apiKey, adminPassword, jwtSecret, creds.Secret, creds.APIv3Key, creds.PushToken, creds.PushAESKey, creds.MchID, creds.AppID, "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("%.12s… is in the document", secret)
		}
	}
	if !strings.HasPrefix(text, "{") || !strings.Contains(text, `"openapi":"3.1`) {
		t.Errorf("%.100s", text)
	}
}
