package web_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wxhub/web"
)

// A call is one operation of /api with a request that would be taken, who may make it, and its fields.
type call struct {
	method, path string
	who          []string          // of: nobody, user, staff, admin, key
	good         map[string]any    // body; nil: none
	wrong        map[string][]any  // field → values that are refused
	queries      map[string]string // query that is refused → the field
	limit        int               // bytes of body
	blank        bool              // every field may be absent
	bodiless     bool              // the body, too
}

var everybody = []string{"nobody", "user", "staff", "admin", "key"}

var calls = []call{
	{method: "POST", path: "/api/login", who: everybody, limit: 16 << 10, good: map[string]any{"code": "x"}, wrong: map[string][]any{
		"code": {nil, 7, "", []string{"x"}, strings.Repeat("x", 513)}, "rawData": {7, map[string]any{"nickName": "x"}, strings.Repeat("x", 8193)},
		"signature": {7, strings.Repeat("x", 65)}, "encryptedData": {7, strings.Repeat("x", 8193)}, "iv": {false, strings.Repeat("x", 65)},
	}},
	{method: "POST", path: "/api/login/refresh", who: []string{"user", "staff", "admin"}},
	{method: "POST", path: "/api/logout", who: []string{"user", "staff", "admin"}},
	{method: "GET", path: "/api/me", who: []string{"user", "staff", "admin"}},
	{method: "GET", path: "/api/products", who: everybody},
	{method: "POST", path: "/api/pay", who: []string{"user", "staff", "admin"}, limit: 64 << 10, good: map[string]any{"productId": "tea", "quantity": 1}, wrong: map[string][]any{
		"productId": {7, strings.Repeat("x", 65)}, "quantity": {nil, "1", 0, -1, 100, 1.5, 1e30}, "outTradeNo": {7, "x", "no spaces here"}, "code": {7, strings.Repeat("x", 513)},
	}},
	{method: "GET", path: "/api/orders", who: []string{"user", "staff", "admin"}, queries: map[string]string{"limit=0": "limit", "limit=x": "limit", "limit=1e9": "limit", "limit=201": "limit"}},
	{method: "GET", path: "/api/orders/20260101000000abc", who: []string{"user", "staff", "admin"}},
	{method: "POST", path: "/api/orders/20260101000000abc/close", who: []string{"user", "staff", "admin"}},
	{method: "GET", path: "/api/qrcode", who: []string{"user", "staff", "admin"}, queries: map[string]string{
		"page=a": "scene", "scene=": "scene", "scene=100%25": "scene", "scene=%E8%8C%B6": "scene", "scene=a%20b": "scene", "scene=" + strings.Repeat("s", 1025): "scene",
		"scene=a&page=/pages/a": "page", "scene=a&page=a%3Fb=c": "page", "scene=a&page=" + strings.Repeat("p", 257): "page", "scene=a&width=279": "width", "scene=a&width=1281": "width",
		"scene=a&width=x": "width", "scene=a&width=-1": "width", "scene=a&envVersion=beta": "envVersion",
	}},
	{method: "POST", path: "/api/admin/orders", who: []string{"admin", "key"}, limit: 64 << 10, good: map[string]any{"description": "x", "total": 1, "userId": "alice"}, wrong: map[string][]any{
		"description": {nil, 7, "", strings.Repeat("x", 128)}, "total": {nil, "1", 0, -1, 1.5, 1 << 31, 1e30}, "quantity": {"1", 0, -1, 10000, 0.5}, "userId": {nil, 7, "", "a/b", strings.Repeat("u", 65)},
		"openid": {7, "a b", "oAlice", strings.Repeat("o", 129)}, "room": {7, "no such room!", "user:alice", strings.Repeat("r", 129)}, "outTradeNo": {7, "short", "no spaces here", strings.Repeat("n", 33)},
	}},
	{method: "GET", path: "/api/admin/orders/20260101000000abc/refunds", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/orders/20260101000000abc/refund", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, good: map[string]any{"amount": 1}, wrong: map[string][]any{
		"amount": {"1", 0, -1, 1.5, 1 << 31, 1e30}, "reason": {7, strings.Repeat("x", 81)}, "outRefundNo": {7, "no spaces here", strings.Repeat("n", 65)},
	}},
	{method: "POST", path: "/api/admin/login", who: everybody, limit: 16 << 10, good: map[string]any{"username": "admin", "password": "x"}, wrong: map[string][]any{
		"username": {nil, 7, "", strings.Repeat("x", 65)}, "password": {nil, 7, "", strings.Repeat("x", 257), []string{"x"}},
	}},
	{method: "POST", path: "/api/admin/broadcast", who: []string{"admin", "key"}, limit: 192 << 10, good: map[string]any{"rooms": []string{"notice"}, "users": []string{"alice"}, "action": "x", "payload": 1}, wrong: map[string][]any{
		"rooms": {"notice", []any{7}, []string{""}, []string{"no such room!"}, []string{strings.Repeat("r", 129)}, []string{"a\x00b"}, slices.Repeat([]string{"r"}, 101), map[string]any{}},
		"users": {"alice", []any{nil}, []string{""}, []string{"a/b"}, []string{strings.Repeat("u", 65)}}, "live": {"yes", 1}, "all": {"yes", 0},
		"action": {nil, 7, "", "a\nb", "a\u0085b", strings.Repeat("a", 129), strings.Repeat("题", 43), "welcome", "join", "leave", "refused", "exchange", "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}, "id": {7, strings.Repeat("i", 129), "a b", "pay:20260101000000abc", "push:x"},
	}},
	{method: "GET", path: "/api/admin/orders", who: []string{"admin", "key"}, queries: map[string]string{
		"limit=0": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=201": "limit", "state=eaten": "state", "before=x": "before", "before=-1": "before", "userId=" + strings.Repeat("u", 65): "userId",
	}},
	{method: "GET", path: "/api/admin/stats", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/messages/nothing", who: []string{"admin", "key"}, queries: map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "user=" + strings.Repeat("u", 65): "user", "after=" + strings.Repeat("u", 65): "after",
	}},
	{method: "GET", path: "/api/admin/fallbacks/unknown", who: []string{"admin", "key"}, queries: map[string]string{"limit=0": "limit", "limit=1001": "limit"}},
	{method: "POST", path: "/api/admin/messages/nothing/decision", who: []string{"admin", "key"}, limit: 64 << 10, good: map[string]any{"user": "alice", "do": "leave"}, wrong: map[string][]any{
		"user": {nil, 7, "", strings.Repeat("u", 65)}, "do": {nil, 7, "", "send", []string{"again"}},
	}},
	{method: "GET", path: "/api/admin/outbox/dead", who: []string{"admin", "key"}, queries: map[string]string{"limit=0": "limit", "limit=1001": "limit"}},
	{method: "POST", path: "/api/admin/outbox/dead/1/retry", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/fallbacks", who: []string{"admin", "key"}},
	{method: "PUT", path: "/api/admin/fallbacks", who: []string{"admin", "key"}, limit: 192 << 10, good: map[string]any{"rules": []any{}, "version": 0}, wrong: map[string][]any{
		"rules": {7, []any{7}, []any{map[string]any{"action": "x"}}, []any{map[string]any{"action": "x", "after": 0}}, slices.Repeat([]any{map[string]any{}}, 201)}, "version": {nil, "1", -1, 1.5},
	}},
	{method: "DELETE", path: "/api/admin/fallbacks", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/fallbacks/dry-run", who: []string{"admin", "key"}, limit: 64 << 10, good: map[string]any{"user": "alice", "action": "x"}, wrong: map[string][]any{
		"user": {nil, 7, "", "a/b", strings.Repeat("u", 65)}, "action": {nil, 7, "", strings.Repeat("a", 129)}, "rule": {7, map[string]any{"action": "x", "after": 60}},
	}},
	{method: "GET", path: "/api/admin/nodes", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/rooms", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/rooms/notice", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/users/nobody-here/disconnect", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/users/nobody-here/block", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/users/nobody-here/unblock", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/conversations", who: []string{"staff", "admin", "key"}, queries: map[string]string{"limit=0": "limit", "limit=201": "limit"}},
	{method: "GET", path: "/api/admin/conversations/nothing", who: []string{"staff", "admin", "key"}},
	{method: "POST", path: "/api/admin/conversations/nothing/reply", who: []string{"staff", "admin", "key"}, limit: (1<<20)*4/3 + 64<<10, good: map[string]any{"text": "x"}, wrong: map[string][]any{
		"text": {7, strings.Repeat("x", 601)}, "link": {"x", map[string]any{"url": "x"}}, "image": {7, strings.Repeat("x", 1400001)},
	}},
	{method: "POST", path: "/api/admin/conversations/nothing/typing", who: []string{"staff", "admin", "key"}, limit: 64 << 10, good: map[string]any{"typing": true}, wrong: map[string][]any{
		"typing": {nil, "yes", 1},
	}},
	{method: "GET", path: "/api/follow", who: []string{"user", "staff", "admin"}},
	{method: "POST", path: "/api/phone", who: []string{"user", "staff", "admin"}, limit: 16 << 10, good: map[string]any{"code": "x"}, wrong: map[string][]any{
		"code": {7, strings.Repeat("x", 513)}, "encryptedData": {7, strings.Repeat("x", 8193)}, "iv": {7},
	}},
	{method: "PATCH", path: "/api/me", who: []string{"user", "staff", "admin"}, limit: 16 << 10, good: map[string]any{"avatar": ""}, wrong: map[string][]any{
		"nickname": {7, strings.Repeat("x", 129)}, "avatar": {7, "javascript:x", strings.Repeat("x", 1025)},
	}},
	{method: "DELETE", path: "/api/me", who: []string{"user"}},
	{method: "GET", path: "/api/scene/~nothing", who: everybody},
	{method: "GET", path: "/api/admin/alarms", who: []string{"admin", "key"}, queries: map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "state=closed": "state", "before=x": "before", "kind=" + strings.Repeat("k", 129): "kind",
	}},
	{method: "POST", path: "/api/admin/alarms/nothing/ack", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, bodiless: true, good: map[string]any{"note": "x"}, wrong: map[string][]any{
		"note": {7, strings.Repeat("n", 501)},
	}},
	{method: "GET", path: "/api/admin/events", who: []string{"staff", "admin", "key"}, queries: map[string]string{
		"limit=0": "limit", "limit=501": "limit", "account=shop": "account", "before=x": "before", "user=" + strings.Repeat("u", 65): "user",
	}},
	{method: "GET", path: "/api/admin/reconciliations", who: []string{"admin", "key"}, queries: map[string]string{"limit=0": "limit", "limit=401": "limit"}},
	{method: "GET", path: "/api/admin/reconciliations/2026-01-01", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/reconciliations/2020-01-01", who: []string{"admin", "key"}},
	{method: "GET", path: "/api/admin/orders/20260101000000abc/shipping", who: []string{"admin", "key"}},
	{method: "POST", path: "/api/admin/orders/20260101000000abc/shipping", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, good: map[string]any{"logistics": "virtual"}, wrong: map[string][]any{
		"logistics": {7, "by hand"}, "parcels": {"x", []any{7}, slices.Repeat([]any{map[string]any{"item": "x"}}, 16), []any{map[string]any{"item": strings.Repeat("i", 121)}}}, "more": {"yes", 1},
	}},
	{method: "POST", path: "/api/admin/links", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, good: map[string]any{"path": "pages/index/index"}, wrong: map[string][]any{
		"kind": {7, "short"}, "path": {7, "pages/index?a=1", strings.Repeat("p", 1025)}, "query": {7, "?a=1", strings.Repeat("q", 1025)}, "envVersion": {7, "beta"}, "days": {"1", 0, -1, 31, 1.5},
	}},
	{method: "POST", path: "/api/admin/wechat/refresh", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, good: map[string]any{"account": "mini"}, wrong: map[string][]any{
		"account": {7, "shop"},
	}},
	{method: "POST", path: "/api/admin/wechat/refresh", who: []string{"admin", "key"}, limit: 64 << 10, blank: true, good: map[string]any{"account": "mini"}, wrong: map[string][]any{
		"account": {7, "shop"},
	}},
	{method: "POST", path: "/api/admin/qrcodes", who: []string{"admin", "key"}, limit: 64 << 10, good: map[string]any{"path": "pages/index/index?a=1"}, wrong: map[string][]any{
		"path": {nil, 7, "", strings.Repeat("p", 1025)}, "square": {"yes", 1}, "width": {"430", 279, 1281}, "envVersion": {7, "beta"}, "transparent": {1},
	}},
}

// The table above has a row for every operation that the server describes.
func TestBadInput_everyOperationHasARow(t *testing.T) {
	s := newShop(t)
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(s.ask("GET", "/api/openapi.json", "", nil).Text), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) < 10 {
		t.Fatalf("%d paths", len(doc.Paths))
	}
	for path, item := range doc.Paths {
		for method := range item {
			if !slices.ContainsFunc(calls, func(c call) bool { return strings.EqualFold(c.method, method) && ofTemplate(c.path, path) }) {
				t.Errorf("%s %s has no row", method, path)
			}
		}
	}
}

// ofTemplate tells whether a path is one of /api/orders/{outTradeNo} and the like.
func ofTemplate(path, template string) bool {
	path, _, _ = strings.Cut(path, "?")
	parts, want := strings.Split(path, "/"), strings.Split(template, "/")
	return len(parts) == len(want) && !slices.ContainsFunc(want, func(w string) bool {
		p := parts[0]
		parts = parts[1:]
		return w != p && !(strings.HasPrefix(w, "{") && p != "")
	})
}

// Who may do what: every role at every operation.
func TestBadInput_roles(t *testing.T) {
	s := newShop(t)
	for _, c := range calls {
		for _, role := range everybody {
			who := ""
			switch role {
			case "key":
				who = "key"
			case "user", "staff", "admin":
				who = s.token("alice", role)
				if c.method == "DELETE" { // who is erased is nobody for the rows that follow
					who = s.token("erased-"+role, role)
				}
			}
			a := s.ask(c.method, c.path, who, bodyOf(c.good))
			a.wellFormed(t, role+" "+c.method+" "+c.path)
			allowed := slices.Contains(c.who, role)
			want := 403
			if role == "nobody" {
				want = 401
			}
			if !allowed && a.Status != want {
				t.Errorf("%s may %s %s: %d %s", role, c.method, c.path, a.Status, a.Text)
			}
			if allowed && (a.Status == 403 || a.word() == "unauthorized" || a.word() == "bad_token") {
				t.Errorf("%s may not %s %s: %d %s", role, c.method, c.path, a.Status, a.Text)
			}
		}
	}
}

func bodyOf(good map[string]any) any {
	if good == nil {
		return nil
	}
	return good
}

// rightful gives a credential that is let in at c.
func (s *shop) rightful(c call) string {
	switch {
	case len(c.who) == len(everybody):
		return ""
	case slices.Contains(c.who, "key"):
		return "key"
	}
	return s.login("alice").Token
}

// Dead and wrong credentials get the same 401 everywhere, before anything else is looked at.
func TestBadInput_deadTokens(t *testing.T) {
	s := newShop(t)
	expired := seal(goodHeader, claimsWith(map[string]any{"exp": 1700000000}), jwtSecret)
	logged := s.token("alice", "user")
	s.ask("POST", "/api/logout", logged, nil)
	before := s.state("alice")
	for _, c := range calls {
		if len(c.who) == len(everybody) {
			continue
		}
		var first string
		for name, token := range map[string]string{
			"nonsense": "x", "dots": "a.b.c", "other signature": s.token("alice", "admin") + "x", "logged out": logged,
			"none": seal(`{"alg":"none","kid":"new"}`, claimsWith(nil), ""), "canary": "eyJcanary.canary.canary",
		} {
			var body any = "{not even JSON"
			if c.path == "/api/pay" { // whose code may stand in for a token
				body = c.good
			}
			a := s.ask(c.method, c.path, token, body)
			a.wellFormed(t, name)
			if a.Status != 401 || a.word() != "bad_token" || a.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s at %s %s: %d %s", name, c.method, c.path, a.Status, a.Text)
			}
			if first == "" {
				first = a.Text
			}
			if a.Text != first {
				t.Errorf("%s differs: %s and %s", name, a.Text, first)
			}
		}
		if a := s.ask(c.method, c.path, expired, bodyOf(c.good)); a.Status != 401 || a.word() != "token_expired" {
			t.Errorf("expired at %s: %d %s", c.path, a.Status, a.Text)
		}
		if a := s.ask(c.method, c.path, "", bodyOf(c.good), "X-API-Key", "canary-wrong"); a.Status != 401 || a.word() != "unauthorized" {
			t.Errorf("wrong key at %s: %d %s", c.path, a.Status, a.Text)
		}
	}
	if after := s.state("alice"); after != before {
		t.Errorf("changed: %s\nto %s", before, after)
	}
	if strings.Contains(s.log.String(), "canary") {
		t.Error("a token or key is in the log")
	}
}

func TestBadInput_bodies(t *testing.T) {
	s := newShop(t)
	before := s.state("alice")
	for _, c := range calls {
		if c.good == nil {
			continue
		}
		who := s.rightful(c)
		good, err := json.Marshal(c.good)
		if err != nil {
			t.Fatal(err)
		}
		field := slices.Sorted(func(yield func(string) bool) {
			for k := range c.good {
				if !yield(k) {
					return
				}
			}
		})[0]
		text, _ := json.Marshal(c.good[field])
		value := string(text)
		with := func(tail string) string { return strings.TrimSuffix(string(good), "}") + "," + tail + "}" }
		pad := func(n int) string { return with(`"more":"` + strings.Repeat("x", n) + `"`) }
		for name, bad := range map[string]struct {
			body   string
			status int
			word   string
		}{
			"empty":                {"", 400, "bad_request"},
			"blank":                {"  \n", 400, "bad_request"},
			"no JSON":              {"canary=1&b=2", 400, "bad_request"},
			"cut off":              {string(good[:len(good)-1]), 400, "bad_request"},
			"two objects":          {string(good) + string(good), 400, "bad_request"},
			"an array":             {"[" + string(good) + "]", 400, "bad_request"},
			"null":                 {"null", 400, "bad_request"},
			"a text":               {`"canary"`, 400, "bad_request"},
			"a number":             {"1e999", 400, "bad_request"},
			"NaN":                  {with(`"more":NaN`), 400, "bad_request"},
			"empty object":         {"{}", 400, "bad_request"},
			"not UTF-8":            {with("\"more\":\"\xff\""), 400, "bad_request"},
			"too deep":             {with(`"more":` + strings.Repeat("[", 33) + strings.Repeat("]", 33)), 400, "bad_request"},
			"very deep":            {with(`"more":` + strings.Repeat("[", c.limit/2-100) + strings.Repeat("]", c.limit/2-100)), 400, "bad_request"},
			"a field twice":        {with(`"` + field + `":` + value), 400, "bad_request"},
			"a field twice, big":   {with(`"` + strings.ToUpper(field) + `":` + value), 400, "bad_request"},
			"spelled otherwise":    {strings.Replace(string(good), `"`+field+`"`, `"`+strings.ToUpper(field)+`"`, 1), 400, "bad_request"},
			"one byte too large":   {pad(c.limit - len(pad(0)) + 1), 413, "too_large"},
			"a megabyte":           {pad(max(1<<20, c.limit)), 413, "too_large"},
			"a megabyte of no use": {strings.Repeat("x", max(1<<20, c.limit+1)), 413, "too_large"},
		} {
			if c.blank && name == "empty object" || c.bodiless && name == "empty" {
				continue
			}
			what := name + " at " + c.path
			a := s.ask(c.method, c.path, who, bad.body)
			a.wellFormed(t, what)
			if a.Status != bad.status || a.word() != bad.word {
				t.Errorf("%s: %d %.200s", what, a.Status, a.Text)
			}
			if strings.Contains(a.Text, "canary") {
				t.Errorf("%s is echoed: %s", what, a.Text)
			}
		}
		for field, values := range c.wrong {
			for _, value := range values {
				in := map[string]any{}
				for k, v := range c.good {
					in[k] = v
				}
				if in[field] = value; value == nil {
					delete(in, field)
				}
				what := fmt.Sprintf("%s = %.60v at %s", field, value, c.path)
				a := s.ask(c.method, c.path, who, in)
				a.wellFormed(t, what)
				if a.Status != 400 || a.word() != "bad_request" {
					t.Errorf("%s: %d %.300s", what, a.Status, a.Text)
				} else if !strings.Contains(strings.ToLower(a.Message), strings.TrimSuffix(strings.ToLower(field), "s")) {
					t.Errorf("%s: the field is not named: %s", what, a.Message)
				}
			}
		}
		if a := s.ask(c.method, c.path, who, string(good), "Content-Type", "text/xml"); a.Status != 415 || a.word() == "" {
			t.Errorf("XML at %s: %d %s", c.path, a.Status, a.Text)
		}
		a := s.ask(c.method, c.path, who, string(good), "Content-Type", "application/x-www-form-urlencoded")
		a.wellFormed(t, "a form")
		if a.Status != 415 {
			t.Errorf("a form at %s: %d %s", c.path, a.Status, a.Text)
		}
	}
	if after := s.state("alice"); after != before {
		t.Errorf("changed: %s\nto %s", before, after)
	}
}

func TestBadInput_queries(t *testing.T) {
	s := newShop(t)
	for _, c := range calls {
		for query, field := range c.queries {
			a := s.ask(c.method, c.path+"?"+query, s.rightful(c), nil)
			a.wellFormed(t, query)
			if a.Status != 400 || a.word() != "bad_request" || !strings.Contains(a.Message, field) {
				t.Errorf("%s?%s: %d %s", c.path, query, a.Status, a.Text)
			}
		}
	}
}

// What is unknown is welcome: a newer client sends more.
func TestBadInput_unknownFields(t *testing.T) {
	s := newShop(t)
	a := s.ask("POST", "/api/admin/broadcast?more=1", "key", `{"action":"x","all":true,"payload":null,"more":{"a":[1]}}`)
	if a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	for _, kind := range []string{"application/json; charset=UTF-8", "Application/JSON", "APPLICATION/JSON;Charset=utf-8"} {
		if a := s.ask("POST", "/api/admin/broadcast", "key", `{"action":"x","all":true}`, "Content-Type", kind); a.Status != 200 {
			t.Errorf("%s: %d %s", kind, a.Status, a.Text)
		}
	}
}

func TestBadInput_pathsAndMethods(t *testing.T) {
	for _, always200 := range []bool{false, true} {
		s := newShop(t, func(o *web.Options) { o.Always200 = always200 })
		for _, test := range []struct {
			method, path string
			status       int
			word         string
		}{
			{"GET", "/api", 404, "not_found"}, {"GET", "/api/", 404, "not_found"}, {"GET", "/api/nothing", 404, "not_found"},
			{"GET", "/api/me/", 404, "not_found"}, {"GET", "/api//me", 404, "not_found"}, {"POST", "/api/admin", 404, "not_found"},
			{"GET", "/api/orders/..%2f..%2fme", 401, "unauthorized"}, {"GET", "/api/%00", 404, "not_found"},
			{"GET", "/api/login", 405, "method_not_allowed"}, {"PUT", "/api/login", 405, "method_not_allowed"},
			{"DELETE", "/api/products", 405, "method_not_allowed"}, {"BREW", "/api/products", 405, "method_not_allowed"},
			{"GET", "/api/me", 401, "unauthorized"},
		} {
			a := s.ask(test.method, test.path, "", nil)
			a.wellFormed(t, test.method+" "+test.path)
			want := test.status
			if always200 {
				want = 200
			}
			if a.Status != want || a.word() != test.word {
				t.Errorf("always200 %v, %s %s: %d %s", always200, test.method, test.path, a.Status, a.Text)
			}
			if test.status == 405 && test.method != "BREW" && a.Header.Get("Allow") == "" {
				t.Errorf("%s %s: no Allow", test.method, test.path)
			}
		}
	}
}
