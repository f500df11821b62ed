package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/hub"
	"wxhub/web"
)

func TestSocket_tokenWays(t *testing.T) {
	s := newShop(t)
	token := s.token("alice", "user")
	for name, open := range map[string]func() (*socket, *http.Response){
		"query": func() (*socket, *http.Response) { return s.tryDial("/ws?room=notice&token="+token, nil) },
		"header": func() (*socket, *http.Response) {
			return s.tryDial("/ws", http.Header{"Authorization": {"Bearer " + token}})
		},
		"subprotocol": func() (*socket, *http.Response) { return s.tryDial("/ws", nil, "wxhub.v1", "bearer."+token) },
		"lower case": func() (*socket, *http.Response) {
			return s.tryDial("/ws", http.Header{"Authorization": {"bearer " + token}})
		},
	} {
		c, resp := open()
		if c == nil {
			t.Errorf("%s: %d", name, resp.StatusCode)
			continue
		}
		if !strings.Contains(c.welcome(), `"user":"alice"`) {
			t.Errorf("%s: somebody else is welcome", name)
		}
		if name == "subprotocol" && c.ws.Subprotocol() != "wxhub.v1" {
			t.Errorf("subprotocol %q", c.ws.Subprotocol())
		}
	}
	for _, role := range []string{"staff", "admin"} {
		s.dial("/ws?room=kf&token=" + s.token("eve", role)).welcome()
	}
	if strings.Contains(s.log.String(), token) {
		t.Error("a token is in the log")
	}
}

func TestSocket_refusedBeforeTheUpgrade(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.AllowedOrigins = []string{"https://shop.example"} })
	good, dead := s.token("alice", "user"), s.token("alice", "user")
	s.ask("POST", "/api/logout", dead, nil)
	expired := seal(goodHeader, claimsWith(map[string]any{"exp": 1700000000}), jwtSecret)
	for name, test := range map[string]struct {
		path   string
		header http.Header
		status int
		word   string
	}{
		"no token":             {"/ws", nil, 401, "unauthorized"},
		"empty token":          {"/ws?token=", nil, 401, "unauthorized"},
		"nonsense":             {"/ws?token=canary", nil, 401, "bad_token"},
		"revoked":              {"/ws?token=" + dead, nil, 401, "bad_token"},
		"expired":              {"/ws?token=" + expired, nil, 401, "token_expired"},
		"bad header":           {"/ws?token=" + good, http.Header{"Authorization": {"Bearer x"}}, 401, "bad_token"},
		"API key":              {"/ws", http.Header{"X-Api-Key": {apiKey}}, 401, "unauthorized"},
		"foreign origin":       {"/ws?token=" + good, http.Header{"Origin": {"https://evil.example"}}, 403, "forbidden_origin"},
		"null origin":          {"/ws?token=" + good, http.Header{"Origin": {"null"}}, 403, "forbidden_origin"},
		"origin that begins":   {"/ws?token=" + good, http.Header{"Origin": {"https://shop.example.evil.example"}}, 403, "forbidden_origin"},
		"origin by http":       {"/ws?token=" + good, http.Header{"Origin": {"http://shop.example"}}, 403, "forbidden_origin"},
		"foreign, no token":    {"/ws", http.Header{"Origin": {"https://evil.example"}}, 403, "forbidden_origin"},
		"two origins":          {"/ws?token=" + good, http.Header{"Origin": {"https://shop.example", "https://evil.example"}}, 403, "forbidden_origin"},
		"a token for somebody": {"/ws?token=" + good + "x", nil, 401, "bad_token"},
	} {
		c, resp := s.tryDial(test.path, test.header)
		if c != nil {
			t.Errorf("%s: a socket", name)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		a := answer{Status: resp.StatusCode, Header: resp.Header, Text: string(text)}
		_ = json.Unmarshal(text, &a)
		a.wellFormed(t, name)
		if a.Status != test.status || a.word() != test.word {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
	if c, resp := s.tryDial("/ws?token="+good, http.Header{"Origin": {"https://shop.example"}}); c == nil {
		t.Errorf("the listed origin: %d", resp.StatusCode)
	}
	if a := s.ask("GET", "/ws?token="+good, "", nil); a.Status != 400 || a.word() != "bad_handshake" {
		t.Errorf("no upgrade: %d %s", a.Status, a.Text)
	}
	if n := s.hub.Stats().Sockets; n != 1 {
		t.Errorf("%d sockets", n)
	}
	if strings.Contains(s.log.String(), "canary") {
		t.Error("a token is in the log")
	}
}

func TestSocket_origins(t *testing.T) {
	for name, test := range map[string]struct {
		allowed []string
		origin  func(*shop) string
		ok      bool
	}{
		"same host":         {nil, func(s *shop) string { return s.url }, true},
		"other port":        {nil, func(*shop) string { return "http://127.0.0.1:1" }, false},
		"any":               {[]string{"*"}, func(*shop) string { return "https://evil.example" }, true},
		"listed in capital": {[]string{"https://Shop.example/"}, func(*shop) string { return "https://shop.example" }, true},
	} {
		s := newShop(t, func(o *web.Options) { o.AllowedOrigins = test.allowed })
		c, _ := s.tryDial("/ws?token="+s.token("alice", "user"), http.Header{"Origin": {test.origin(s)}})
		if (c != nil) != test.ok {
			t.Errorf("%s: %v", name, c != nil)
		}
	}
}

func TestSocket_logoutCloses(t *testing.T) {
	s := newShop(t)
	phone, tablet := s.token("alice", "user"), s.token("alice", "user")
	a, b := s.dial("/ws?token="+phone), s.dial("/ws?token="+tablet)
	a.welcome()
	b.welcome()
	if got := s.ask("POST", "/api/logout", phone, nil); got.Status != 200 {
		t.Fatal(got.Text)
	}
	if code := a.closed(); code != hub.DisconnectToken.Code {
		t.Errorf("closed with %d", code)
	}
	if f := b.ask(`{"id":1,"action":"ping"}`); !strings.Contains(f, `"ok":true`) {
		t.Errorf("the other session: %s", f)
	}
	// A refresh frame takes a fresh token, not a dead or foreign one.
	for token, ok := range map[string]bool{s.token("alice", "user"): true, phone: false, s.token("bob", "user"): false, "x": false} {
		if f := b.ask(`{"id":2,"action":"refresh","token":"` + token + `"}`); strings.Contains(f, `"ok":true`) != ok {
			t.Errorf("refresh, want %v: %s", ok, f)
		}
	}
}

// Another node revokes: the sockets here end within a second.
func TestSocket_revokedElsewhere(t *testing.T) {
	s := newShop(t)
	s.run()
	token := s.token("alice", "user")
	a := s.dial("/ws?token=" + token)
	a.welcome()
	other := newShop(t, func(o *web.Options) {
		tokens, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, s.db)
		if err != nil {
			t.Fatal(err)
		}
		o.Store, o.Tokens = s.db, tokens
	})
	start := time.Now()
	if got := other.ask("POST", "/api/logout", token, nil); got.Status != 200 {
		t.Fatal(got.Text)
	}
	if code := a.closed(); code != hub.DisconnectToken.Code {
		t.Errorf("closed with %d", code)
	}
	if took := time.Since(start); took > time.Second+busy {
		t.Errorf("after %v", took)
	}
}

// A logout at the moment of the handshake leaves no socket behind.
func TestSocket_logoutMeetsHandshake(t *testing.T) {
	s := newShop(t)
	for range 20 {
		token := s.token("alice", "user")
		var c *socket
		var wg sync.WaitGroup
		wg.Go(func() { s.ask("POST", "/api/logout", token, nil) })
		wg.Go(func() { c, _ = s.tryDial("/ws?token="+token, nil) })
		wg.Wait()
		if c != nil {
			c.closed()
		}
	}
}

func TestSocket_adminWritesMail(t *testing.T) {
	s := newShop(t)
	alice := s.dial("/ws?token=" + s.token("alice", "user"))
	alice.welcome()
	admin := s.dial("/ws?token=" + s.token("admin", "admin"))
	admin.welcome()
	if f := admin.ask(`{"id":1,"action":"publish","room":"user:alice","data":{"action":"note","payload":{"n": 1}}}`); !strings.Contains(f, `"ok":true`) || !strings.Contains(f, `"offset":1`) {
		t.Fatalf("%s", f)
	}
	if f := alice.read(); !strings.Contains(f, `"data":{"action":"note","payload":{"n": 1}}`) || !strings.Contains(f, `"offset":1`) {
		t.Errorf("alice got %s", f)
	}
	if h := s.history("user:alice"); len(h) != 1 {
		t.Errorf("mailbox: %+v", h)
	}
	if f := alice.ask(`{"id":2,"action":"publish","room":"user:bob","data":{"action":"note","payload":1}}`); !strings.Contains(f, `"forbidden"`) {
		t.Errorf("alice writes to bob: %s", f)
	}
}

func TestSocket_handshakeLimit(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Limits.Handshakes = web.Rate{PerSecond: 0.01, Burst: 2} })
	token := s.token("alice", "user")
	s.dial("/ws?token=" + token)
	s.dial("/ws?token=" + token)
	c, resp := s.tryDial("/ws?token="+token, nil)
	if c != nil {
		t.Fatal("a third handshake")
	}
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// The answer to a handshake is right on the wire, and what a client sends along with it is not lost.
func TestSocket_eagerClient(t *testing.T) {
	s := newShop(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ping := "\x81\x98\x00\x00\x00\x00" + `{"id":1,"action":"ping"}`
	_, err = io.WriteString(c, "GET /ws?token="+s.token("alice", "user")+" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+ping)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v %v", resp, err)
	}
	buf := make([]byte, 0, 4096)
	for !strings.Contains(string(buf), `{"reply":1,"ok":true`) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%v after %s", err, buf)
		}
		buf = append(buf, b)
	}
}
