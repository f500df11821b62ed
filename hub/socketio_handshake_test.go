package hub

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

func TestSocketIO_handshake(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	for query, want := range map[string]string{
		"EIO=4&transport=polling":         `{"code":0,"message":"Transport unknown"}`,
		"EIO=4":                           `{"code":0,"message":"Transport unknown"}`,
		"EIO=5&transport=websocket":       `{"code":5,"message":"Unsupported protocol version"}`,
		"transport=websocket":             `{"code":5,"message":"Unsupported protocol version"}`,
		"EIO=4&transport=websocket&sid=x": `{"code":1,"message":"Session ID unknown"}`,
		"EIO=4&transport=websocket&a=%zz": `{"code":3,"message":"Bad request"}`,
	} {
		_, resp, err := websocket.DefaultDialer.Dial(addr+"/socket.io/?"+query, nil)
		if err == nil {
			t.Fatalf("%s: opened", query)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || body.String() != want {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body.String())
		}
	}
	resp, err := http.Get("http" + strings.TrimPrefix(addr, "ws") + "/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without an upgrade: %d", resp.StatusCode)
	}
	l := dialPhone(t, websocket.DefaultDialer, addr, 4, "user=ada")
	if l.enter(""); len(l.sid) != 16 || !strings.Contains(l.pid, ".all@") || l.tail != "" {
		t.Errorf("sid %q, pid %q, tail %q", l.sid, l.pid, l.tail)
	}
	if l := join3(t, addr, "user=ada"); l.sid == "" {
		t.Error("no id")
	}
}

// Who may not come in is told why, and may try again over the same connection if it can say more.
func TestSocketIO_connectRefused(t *testing.T) {
	h := newTestHub(t, Options{Logger: testLog(t)})
	addr := both(t, h)
	l := dialPhone(t, websocket.DefaultDialer, addr, 4, "")
	l.write("40")
	if got := l.text(); got != `44{"message":"bad_token","data":{"error":"bad_token","message":"who are you?"}}` {
		t.Errorf("got %s", got)
	}
	l.write(`40{"token":"broken"}`)
	if got := l.text(); got != `44{"message":"unavailable","data":{"error":"unavailable","message":"try again in a moment"}}` {
		t.Errorf("got %s", got)
	}
	l.write("40/admin,{}")
	if got := l.text(); got != `44/admin,{"message":"Invalid namespace"}` {
		t.Errorf("got %s", got)
	}
	l.enter(`{"token":"ada"}`)
	if h.Stats().Sockets != 1 || h.Stats().Users != 1 {
		t.Errorf("%+v", h.Stats())
	}
	old := dialPhone(t, websocket.DefaultDialer, addr, 3, "")
	if got := old.text(); got != `44"bad_token"` {
		t.Errorf("got %s", got)
	}
	old.write(`42["exchange",{}]`)
	if code, _, _ := old.closed(); code != 1002 {
		t.Errorf("closed with %d", code)
	}
}

// What breaks the protocol ends its own connection.
func TestSocketIO_malformed(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	for _, eio := range []int{3, 4} {
		for _, text := range []string{"", "9", "abc", "4", "4abc", "42", "42{}", `42["connect"]`, "42[", `42abc["x"]`, "40", "43", "43[]", "44{}",
			`451-["x",{"_placeholder":true,"num":1}]`, `4599-["x"]`, "0{}", "1x", `42/other,["x"]`, "5", "bAAAA"} {
			var l *phone
			if eio == 3 {
				l = join3(t, addr, "user=ada")
			} else {
				l, _ = join4(t, addr, "user=ada", "")
			}
			l.write(text)
			if strings.HasPrefix(text, "451") { // its attachment is the other one
				_ = l.ws.WriteMessage(websocket.BinaryMessage, []byte{4, 1})
			}
			if code, reason, _ := l.closed(); code != 1002 || reason != "protocol" {
				t.Errorf("EIO %d %q: closed with %d %s", eio, text, code, reason)
			}
		}
	}
	l, _ := join4(t, addr, "user=ada", "")
	l.write(`42["x","` + strings.Repeat("x", 17<<10) + `"]`)
	if code, _, _ := l.closed(); code != 1009 {
		t.Errorf("closed with %d", code)
	}
	if err := l.ws.WriteMessage(websocket.TextMessage, []byte("\xff")); err == nil {
		l2, _ := join4(t, addr, "user=ada", "")
		_ = l2.ws.WriteMessage(websocket.TextMessage, []byte("42\xff"))
		if code, _, _ := l2.closed(); code != 1007 {
			t.Errorf("closed with %d", code)
		}
	}
}

// A client that is to stay away is told to leave, because it would come back by itself otherwise.
func TestSocketIO_goodbye(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	for _, d := range []Disconnect{DisconnectBlocked, DisconnectToken, DisconnectRestart, DisconnectSlow} {
		for eio := 3; eio <= 4; eio++ {
			var l *phone
			if eio == 3 {
				l = join3(t, addr, "user=ada")
			} else {
				l, _ = join4(t, addr, "user=ada", "")
			}
			if n := h.Disconnect(Target{User: "ada"}, d); n != 1 {
				t.Fatalf("%d disconnected", n)
			}
			code, reason, last := l.closed()
			want := []string(nil)
			if d.Code >= 4500 {
				want = []string{`42["refused",{"ok":false,"error":"` + d.Word + `"}]`, "41"}
			}
			if code != d.Code || reason != d.Word || !slices.Equal(last, want) {
				t.Errorf("%v: %d %s after %v", d, code, reason, last)
			}
			eventually(t, "gone", func() bool { return h.Stats().Sockets == 0 })
		}
	}
}

// phonePipe opens a connection over a pipe, in synthetic time.
func phonePipe(t testing.TB, h *Hub, eio int, query string) *phone {
	t.Helper()
	return dialPhone(t, pipeDialerTo(func(w http.ResponseWriter, r *http.Request) error { return h.AcceptSocketIO(w, r, doorOf(r)) }), "ws://hub", eio, query)
}

func TestSocketIO_heartbeat(t *testing.T) {
	t.Run("asks V4", func(t *testing.T) {
		inTime(t, Options{}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada")
			l.enter("")
			begin := time.Now()
			for n := 1; n <= 4; n++ {
				_, data, err := l.ws.ReadMessage()
				if since := time.Since(begin); err != nil || string(data) != "2" || since < time.Duration(n)*25*time.Second-time.Second || since > time.Duration(n)*26*time.Second {
					t.Fatalf("%s %v after %v", data, err, since)
				}
				if n < 4 {
					l.write("3")
				}
			}
			if code, reason, _ := l.closed(); code != DisconnectSilent.Code || reason != "silent" {
				t.Errorf("closed with %d %s", code, reason)
			}
			if since := time.Since(begin); since < 119*time.Second || since > 123*time.Second {
				t.Errorf("closed after %v", since)
			}
		})
	})
	t.Run("answers V3", func(t *testing.T) {
		inTime(t, Options{}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 3, "user=ada")
			_, _ = l.text(), l.want("welcome")
			for range 3 {
				time.Sleep(40 * time.Second)
				l.write("2probe")
				if got := l.text(); got != "3probe" {
					t.Fatalf("got %s", got)
				}
			}
			begin := time.Now()
			if code, _, _ := l.closed(); code != DisconnectSilent.Code || time.Since(begin) < 44*time.Second || time.Since(begin) > 47*time.Second {
				t.Errorf("closed with %d after %v", code, time.Since(begin))
			}
		})
	})
	t.Run("a guest that says nothing", func(t *testing.T) {
		inTime(t, Options{}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada")
			begin := time.Now()
			if code, _, _ := l.closed(); code != DisconnectSilent.Code || time.Since(begin) > 11*time.Second {
				t.Errorf("closed with %d after %v", code, time.Since(begin))
			}
		})
	})
	t.Run("a guest at the end", func(t *testing.T) {
		inTime(t, Options{}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada")
			go func() { _ = h.Shutdown(context.Background()) }()
			if code, _, _ := l.closed(); code != DisconnectRestart.Code {
				t.Errorf("closed with %d", code)
			}
		})
	})
	t.Run("the token expires", func(t *testing.T) {
		inTime(t, Options{}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada&exp=7s")
			l.enter("")
			begin := time.Now()
			if code, _, _ := l.closed(); code != DisconnectExpired.Code || time.Since(begin) > 9*time.Second {
				t.Errorf("closed with %d after %v", code, time.Since(begin))
			}
		})
	})
}

// Mail of a client that does not acknowledge it counts as received by the first heartbeat's answer that can only come
// after it.
func TestSocketIO_heartbeatAcknowledgesMail(t *testing.T) {
	acked := func(m *testMail) (n uint64) {
		m.set(func() { n = m.acks["user:ada"] })
		return n
	}
	t.Run("V4", func(t *testing.T) {
		mail := newTestMail()
		mail.put("user:ada", "order.paid")
		inTime(t, Options{Mail: mail}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada")
			l.enter("")
			l.want("order.paid")
			if _, data, err := l.ws.ReadMessage(); err != nil || string(data) != "2" {
				t.Fatal(string(data), err)
			}
			mail.put("user:ada", "order.refunded") // after the heartbeat went out: its answer says nothing of it
			h.Ring("user:ada")
			l.want("order.refunded")
			if acked(mail) != 0 {
				t.Error("acknowledged before the answer")
			}
			l.write("3")
			synctest.Wait()
			if got := acked(mail); got != 1 {
				t.Errorf("acknowledged up to %d, want 1", got)
			}
			_, _, _ = l.ws.ReadMessage()
			l.write("3")
			synctest.Wait()
			if got := acked(mail); got != 2 {
				t.Errorf("acknowledged up to %d, want 2", got)
			}
		})
	})
	t.Run("V3", func(t *testing.T) {
		mail := newTestMail()
		mail.put("user:ada", "order.paid")
		inTime(t, Options{Mail: mail}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 3, "user=ada")
			_, _ = l.text(), l.want("welcome")
			l.want("order.paid")
			time.Sleep(25 * time.Second)
			l.write("2") // it may have gone out before the mail came
			l.text()
			synctest.Wait()
			if got := acked(mail); got != 0 {
				t.Errorf("acknowledged up to %d too soon", got)
			}
			time.Sleep(25 * time.Second)
			l.write("2")
			l.text()
			synctest.Wait()
			if got := acked(mail); got != 1 {
				t.Errorf("acknowledged up to %d, want 1", got)
			}
		})
	})
	t.Run("not for one that acknowledges by itself", func(t *testing.T) {
		mail := newTestMail()
		mail.put("user:ada", "order.paid")
		mail.put("user:ada", "order.paid")
		inTime(t, Options{Mail: mail}, func(t *testing.T, h *Hub) {
			l := phonePipe(t, h, 4, "user=ada")
			l.enter("")
			l.want("order.paid")
			l.want("order.paid")
			l.must("ack", `{"room":"user:ada","offset":1}`)
			_, _, _ = l.ws.ReadMessage()
			l.write("3")
			synctest.Wait()
			if got := acked(mail); got != 1 {
				t.Errorf("acknowledged up to %d, want 1", got)
			}
		})
	})
}
