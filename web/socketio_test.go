package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"wxhub/web"
)

// enter says who it is, if it has something to say, and returns the answer: "40…" or "44…".
func (c *socket) enter(auth string) string {
	c.t.Helper()
	if open := c.read(); !strings.HasPrefix(open, `0{"sid":`) {
		c.t.Fatalf("opened with %s", open)
	}
	if auth != "-" {
		_ = c.ws.WriteMessage(websocket.TextMessage, []byte("40"+auth))
	}
	return c.read()
}

func TestSocketIO_tokenWays(t *testing.T) {
	s := newShop(t)
	token, other := s.token("alice", "user"), s.token("bob", "user")
	const v3, v4 = "/socket.io/?EIO=3&transport=websocket", "/socket.io/?EIO=4&transport=websocket"
	header := http.Header{"Authorization": {"Bearer " + token}}
	for name, test := range map[string]struct {
		path   string
		header http.Header
		auth   string
	}{
		"2.x query":           {v3 + "&token=" + token, nil, "-"},
		"2.x header":          {v3, header, "-"},
		"4.x query":           {v4 + "&token=" + token, nil, ""},
		"4.x header":          {v4, header, ""},
		"4.x auth":            {v4, nil, `{"token":"` + token + `"}`},
		"auth before address": {v4 + "&token=" + other, nil, `{"token":"` + token + `"}`},
		"without a slash":     {strings.Replace(v4, "/?", "?", 1), header, ""},
	} {
		c, resp := s.tryDial(test.path, test.header)
		if c == nil {
			t.Errorf("%s: %d", name, resp.StatusCode)
			continue
		}
		if answer := c.enter(test.auth); !strings.HasPrefix(answer, "40") {
			t.Errorf("%s: %s", name, answer)
		} else if welcome := c.read(); !strings.HasPrefix(welcome, `42["welcome",`) || !strings.Contains(welcome, `"user":"alice"`) {
			t.Errorf("%s: %s", name, welcome)
		}
		_ = c.ws.Close()
	}
	if strings.Contains(s.log.String(), token) {
		t.Error("a token is in the log")
	}
}

func TestSocketIO_refused(t *testing.T) {
	s := newShop(t)
	dead := s.token("alice", "user")
	s.ask("POST", "/api/logout", dead, nil)
	expired := seal(goodHeader, claimsWith(map[string]any{"exp": 1700000000}), jwtSecret)
	for name, test := range map[string]struct{ query, auth, word string }{
		"nobody":          {"", "", "unauthorized"},
		"userId alone":    {"&userId=1&room=notice", "", "unauthorized"},
		"nonsense":        {"&token=canary", "", "bad_token"},
		"revoked":         {"&token=" + dead, "", "bad_token"},
		"revoked in auth": {"", `{"token":"` + dead + `"}`, "bad_token"},
		"expired":         {"&token=" + expired, "", "token_expired"},
		"no text":         {"", `{"token":7}`, "unauthorized"},
	} {
		c, _ := s.tryDial("/socket.io/?EIO=4&transport=websocket"+test.query, nil)
		if answer := c.enter(test.auth); !strings.HasPrefix(answer, `44{"message":"`+test.word+`","data":{"error":"`+test.word+`","message":"`) {
			t.Errorf("%s: %s", name, answer)
		}
		_ = c.ws.Close()
		if test.auth != "" {
			continue
		}
		c, _ = s.tryDial("/socket.io/?EIO=3&transport=websocket"+test.query, nil)
		if answer := c.enter("-"); answer != `44"`+test.word+`"` {
			t.Errorf("2.x %s: %s", name, answer)
		}
		_ = c.ws.Close()
	}
	if c, resp := s.tryDial("/socket.io/?EIO=4&transport=websocket", http.Header{"Origin": {"https://evil.example"}}); c != nil || resp.StatusCode != http.StatusForbidden {
		t.Error("a foreign page came in")
	}
	for path, want := range map[string]string{
		"/socket.io/?EIO=4&transport=polling":   `{"code":0,"message":"Transport unknown"}`,
		"/socket.io/?EIO=2&transport=websocket": `{"code":5,"message":"Unsupported protocol version"}`,
	} {
		for _, method := range []string{"GET", "POST"} {
			if a := s.ask(method, path, "", nil); a.Status != 400 || strings.TrimSpace(a.Text) != want {
				t.Errorf("%s %s: %d %s", method, path, a.Status, a.Text)
			}
		}
	}
	if n := s.hub.Stats().Sockets; n != 0 {
		t.Errorf("%d sockets", n)
	}
	if strings.Contains(s.log.String(), "canary") {
		t.Error("a token is in the log")
	}
}

// Only the demo takes somebody's word for who it is, and says so; a token counts there, too.
func TestSocketIO_demoUserID(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Demo = &web.Demo{SimURL: "http://127.0.0.1:1"} })
	const path = "/socket.io/?EIO=3&transport=websocket&room=notice&userId="
	c := s.dial(path + "1")
	if answer := c.enter("-"); answer != "40" {
		t.Fatal(answer)
	}
	if welcome := c.read(); !strings.Contains(welcome, `"user":"1"`) {
		t.Error(welcome)
	}
	if !strings.Contains(s.log.String(), `"level":"WARN","msg":"demo: a Socket.IO client is taken for the user that it names, without a token`) {
		t.Error("nothing in the log")
	}
	for query, word := range map[string]string{"": "unauthorized", "a%20b": "bad_request", "1&token=x": "bad_token"} {
		if answer := s.dial(path + query).enter("-"); answer != `44"`+word+`"` {
			t.Errorf("%s: %s", query, answer)
		}
	}
	if answer := s.dial("/socket.io/?EIO=4&transport=websocket&userId=a%20b").enter(""); !strings.Contains(answer, "1 to 64 letters") {
		t.Errorf("the allowed form is not named: %s", answer)
	}
	c = s.dial(path + "1&token=" + s.token("alice", "user"))
	c.enter("-")
	if welcome := c.read(); !strings.Contains(welcome, `"user":"alice"`) {
		t.Error(welcome)
	}
}

// A token that is revoked ends its socket, and Socket.IO stays away.
func TestSocketIO_revoked(t *testing.T) {
	s := newShop(t)
	token := s.token("alice", "user")
	c := s.dial("/socket.io/?EIO=4&transport=websocket&token=" + token)
	c.enter("")
	c.read()
	s.ask("POST", "/api/logout", token, nil)
	if text := c.read(); !strings.HasPrefix(text, `42["refused",{"ok":false,"error":"token_bad"}]`) {
		t.Error(text)
	}
	if text := c.read(); text != "41" {
		t.Error(text)
	}
}
