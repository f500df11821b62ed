package socketio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// quick are heartbeats that a test can wait for.
var quick = Options{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond, ConnectTimeout: 400 * time.Millisecond}

func TestServer_handshake(t *testing.T) {
	_, addr := serve(t, Options{})
	web := "http" + strings.TrimPrefix(addr, "ws")
	for query, want := range map[string]string{
		"":                                 `{"code":5,"message":"Unsupported protocol version"}`,
		"?EIO=abc&transport=websocket":     `{"code":5,"message":"Unsupported protocol version"}`,
		"?EIO=4":                           `{"code":0,"message":"Transport unknown"}`,
		"?EIO=3&transport=abc":             `{"code":0,"message":"Transport unknown"}`,
		"?EIO=4&transport=polling":         `{"code":0,"message":"Transport unknown"}`,
		"?EIO=4&transport=websocket&sid=":  `{"code":3,"message":"Bad request"}`,
		"?EIO=4&transport=websocket":       `{"code":3,"message":"Bad request"}`,
		"?EIO=4&transport=websocket&sid=x": `{"code":1,"message":"Session ID unknown"}`,
	} {
		resp, err := http.Get(web + "/socket.io/" + query)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || body.String() != want {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body.String())
		}
	}
	resp, err := http.Post(web+"/socket.io/?EIO=4&transport=websocket", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("post: %d", resp.StatusCode)
	}
	if resp, err = http.Get(web + "/elsewhere/"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("elsewhere: %d", resp.StatusCode)
		}
	}
	_, resp, err = websocket.DefaultDialer.Dial(addr+"/socket.io/?EIO=4&transport=websocket", http.Header{"Origin": {"https://evil.example"}})
	if err == nil {
		t.Fatal("a foreign page came in")
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign page: %d", resp.StatusCode)
	}
	ws, resp, err := websocket.DefaultDialer.Dial(addr+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	defer func() { _ = ws.Close() }()
	_, data, _ := ws.ReadMessage()
	var open map[string]any
	if err := json.Unmarshal(data[1:], &open); err != nil || len(open) != 5 || open["pingInterval"] != 25000.0 || open["pingTimeout"] != 20000.0 || open["maxPayload"] != 1e6 {
		t.Errorf("open: %s", data)
	}
}

func TestServer_connect(t *testing.T) {
	s, addr := serve(t, quick)
	greet := func(k *Socket) {
		auth := k.Auth()
		if auth == nil {
			auth = json.RawMessage("{}")
		}
		_ = k.Emit("auth", auth, k.Query())
	}
	s.Of("/").OnConnect(greet)
	s.Of("custom").OnConnect(greet)
	s.Of("/closed").Use(func(*Socket) error { return nil })
	s.Of("/closed").Use(func(*Socket) error { return &Refusal{"not today", map[string]int{"retry": 5}} })
	s.Of("/broken").Use(func(*Socket) error { return errors.New("secret") })
	c := enter(t, addr, "/", "")
	c.want(`42["auth",{},""]`)
	c.write(`40/custom,{"token":"abc"}`)
	c.wantPrefix(`40/custom,{"sid":"`)
	c.want(`42/custom,["auth",{"token":"abc"},""]`)
	c.write("40/random")
	c.want(`44/random,{"message":"Invalid namespace"}`)
	c.write("40/closed")
	c.want(`44/closed,{"message":"not today","data":{"retry":5}}`)
	c.write("40/broken")
	c.want(`44/broken,{"message":"refused"}`)
	enter(t, addr, "/", `{"token":"123"}`).want(`42["auth",{"token":"123"},""]`)

	old := dial(t, addr, 3, "")
	old.want("40", `42["auth",{},""]`)
	old.write("40/custom?a=b,")
	old.want("40/custom,", `42/custom,["auth",{},"a=b"]`)
	old.write("40/closed")
	old.want(`44/closed,"not today"`)

	late := dial(t, addr, 4, "")
	begin := time.Now()
	if late.wantClosed(websocket.CloseNormalClosure, "connect timeout"); time.Since(begin) < 300*time.Millisecond {
		t.Error("too soon")
	}
	twice := enter(t, addr, "/", "")
	twice.write("40")
	twice.wantClosed(websocket.CloseProtocolError, "parse error")
}

func TestServer_heartbeat(t *testing.T) {
	_, addr := serve(t, quick)
	t.Run("asks V4", func(t *testing.T) {
		c := enter(t, addr, "/", "")
		for range 3 {
			if _, data, err := c.ws.ReadMessage(); err != nil || string(data) != "2" {
				t.Fatal(string(data), err)
			}
			c.write("3")
		}
		begin := time.Now()
		c.wantClosed(websocket.CloseNormalClosure, "ping timeout")
		if took := time.Since(begin); took < 400*time.Millisecond {
			t.Errorf("after %v", took)
		}
	})
	t.Run("answers V3", func(t *testing.T) {
		c := dial(t, addr, 3, "")
		c.want("40")
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			c.write("2")
			c.want("3")
		}
		c.write("2probe")
		c.want("3probe")
		begin := time.Now()
		c.wantClosed(websocket.CloseNormalClosure, "ping timeout")
		if took := time.Since(begin); took < 400*time.Millisecond {
			t.Errorf("after %v", took)
		}
	})
}

func TestServer_events(t *testing.T) {
	s, addr := serve(t, Options{})
	n := s.Of("/")
	var order []string
	n.OnAny(func(e *Event) { order = append(order, "any "+e.Name) })
	n.On("message", func(e *Event) { order = append(order, "first") })
	n.On("message", func(e *Event) { _ = e.Socket.Emit("message-back", slices.Collect(anys(e.Args))...) })
	n.On("ask", func(e *Event) {
		if !e.Asked() {
			t.Error("not asked")
		}
		_ = e.Ack(slices.Collect(anys(e.Args))...)
		_ = e.Ack("again")
	})
	n.OnConnect(func(k *Socket) { k.On("message", func(*Event) { order = append(order, "own") }) })
	c := enter(t, addr, "/", "")
	c.write(`42["message",1,"2",{"3":[true]}]`)
	c.want(`42["message-back",1,"2",{"3":[true]}]`)
	if fmt.Sprint(order) != "[any message own first]" {
		t.Errorf("handlers in the order %v", order)
	}
	c.write(`42456["ask",1,"2",{"3":[false]}]`)
	c.want(`43456[1,"2",{"3":[false]}]`)
	c.write(`42["nobody listens"]`)
	c.write(`452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	c.writeBinary(1, 2, 3)
	c.writeBinary(4, 5, 6)
	c.want(`452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "01 02 03", "04 05 06")
	c.write(`452-789["ask",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	c.writeBinary(1)
	c.writeBinary(2)
	c.want(`462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "01", "02")

	old := dial(t, addr, 3, "")
	old.want("40")
	old.write(`451-7["ask",{"_placeholder":true,"num":0}]`)
	old.writeBinary(4, 9)
	old.want(`461-7[{"_placeholder":true,"num":0}]`, "04 09")
	plain := dial(t, addr, 3, "&b64=1")
	plain.want("40")
	plain.write(`451-7["ask",{"_placeholder":true,"num":0}]`)
	plain.write("b4CQ==")
	plain.want(`461-7[{"_placeholder":true,"num":0}]`, "b4CQ==")

	// Both are in the room's namespace; one encoding serves them.
	if err := n.Emit("all", []byte{7}); err != nil {
		t.Fatal(err)
	}
	c.want(`451-["all",{"_placeholder":true,"num":0}]`, "07")
	old.want(`451-["all",{"_placeholder":true,"num":0}]`, "04 07")
	if n.Emit("disconnect") == nil {
		t.Error("a reserved name was said")
	}
}

func anys(args []Value) func(func(any) bool) {
	return func(yield func(any) bool) {
		for _, a := range args {
			if !yield(a) {
				return
			}
		}
	}
}

func TestSocket_ask(t *testing.T) {
	s, addr := serve(t, Options{})
	type answer struct {
		values []Value
		err    error
	}
	answers := make(chan answer, 3)
	reply := func(v []Value, err error) { answers <- answer{v, err} }
	sockets := make(chan *Socket, 1)
	s.Of("/").OnConnect(func(k *Socket) { sockets <- k })
	c := enter(t, addr, "/", "")
	k := <-sockets
	if err := k.Ask(t.Context(), "how", reply, 1); err != nil {
		t.Fatal(err)
	}
	c.want(`420["how",1]`)
	c.write(`430["well",2]`)
	c.write(`430["twice"]`)
	c.write(`4399["nobody asked"]`)
	if a := <-answers; a.err != nil || len(a.values) != 2 || string(a.values[0].JSON) != `"well"` {
		t.Errorf("%v", a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_ = k.Ask(ctx, "slow", reply)
	c.want(`421["slow"]`)
	if a := <-answers; !errors.Is(a.err, context.DeadlineExceeded) {
		t.Errorf("%v", a)
	}
	_ = k.Ask(t.Context(), "never", reply)
	c.want(`422["never"]`)
	c.write("41")
	if a := <-answers; a.err == nil {
		t.Errorf("%v", a)
	}
	if err := k.Ask(t.Context(), "late", reply); err == nil {
		t.Error("asked somebody who has left")
	}
}

func TestServer_leave(t *testing.T) {
	s, addr := serve(t, Options{})
	left := make(chan string, 4)
	for _, name := range []string{"/", "/custom"} {
		s.Of(name).OnConnect(func(k *Socket) { k.OnDisconnect(func(why string) { left <- name + " " + why }) })
		s.Of(name).On("message", func(e *Event) { _ = e.Socket.Emit("back", e.Args[0]) })
		s.Of(name).On("go", func(e *Event) { e.Socket.Disconnect() })
	}
	c := enter(t, addr, "/", "")
	c.write("40/custom,")
	c.wantPrefix("40/custom,{")
	c.write("41/custom,")
	if why := <-left; why != "/custom client namespace disconnect" {
		t.Error(why)
	}
	c.write(`42["message","main"]`)
	c.want(`42["back","main"]`)
	if n := len(s.Of("/custom").Sockets()); n != 0 {
		t.Errorf("%d sockets", n)
	}
	c.write("40/custom,")
	c.wantPrefix("40/custom,{")
	c.write(`42/custom,["go"]`)
	c.want("41/custom,")
	if why := <-left; why != "/custom server namespace disconnect" {
		t.Error(why)
	}
	c.write("1")
	c.wantClosed(websocket.CloseNormalClosure, "transport close")
	if why := <-left; why != "/ transport close" {
		t.Error(why)
	}
	c = enter(t, addr, "/", "")
	_ = c.ws.Close()
	if why := <-left; why != "/ transport close" {
		t.Error(why)
	}
}

// What breaks the protocol ends its own connection, and no other.
func TestServer_malformed(t *testing.T) {
	s, addr := serve(t, Options{MaxPayload: 1000, Namespaces: 2})
	s.Of("/").On("message", func(e *Event) { _ = e.Socket.Emit("back", e.Args[0]) })
	s.Of("/custom")
	s.Of("/third")
	other := enter(t, addr, "/", "")
	for _, text := range []string{"4abc", "42{}", `42abc["message",1]`, "abc", "", "2", "0{}", "5", "42", `42/custom,["x"]`, `41/custom`, `42["connect"]`, `431`, `44"x"`,
		`4511-["x"]`, `42["x"`, "42\xff"} {
		c := enter(t, addr, "/", "")
		c.write(text)
		c.wantClosed(websocket.CloseProtocolError, "parse error")
	}
	c := enter(t, addr, "/", "")
	c.writeBinary(1)
	c.wantClosed(websocket.CloseProtocolError, "parse error")
	c = enter(t, addr, "/", "")
	c.write(`42["` + strings.Repeat("x", 1000) + `"]`)
	if code, _ := c.closed(); code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}
	c = enter(t, addr, "/", "")
	c.write("40/custom,")
	c.wantPrefix("40/custom,{")
	c.write("40/third,")
	c.want(`44/third,{"message":"Invalid namespace"}`)
	other.write(`42["message",1]`)
	other.want(`42["back",1]`)
}

func TestServer_panic(t *testing.T) {
	var log bytes.Buffer
	s, addr := serve(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.Of("/").On("boom", func(*Event) { panic("a secret") })
	s.Of("/").On("message", func(e *Event) { _ = e.Socket.Emit("back") })
	other := enter(t, addr, "/", "")
	c := enter(t, addr, "/", "")
	c.write(`42["boom"]`)
	c.wantClosed(websocket.CloseInternalServerErr, "server error")
	other.write(`42["message"]`)
	other.want(`42["back"]`)
	if !strings.Contains(log.String(), "panic in a handler") || strings.Contains(log.String(), "a secret") {
		t.Errorf("log: %s", log.String())
	}
}

// A client that does not read is closed; the others are not held up.
func TestServer_slowReader(t *testing.T) {
	s, addr := serve(t, Options{QueueBytes: 1 << 20})
	gone := make(chan string, 1)
	s.Of("/slow").OnConnect(func(k *Socket) { k.OnDisconnect(func(why string) { gone <- why }) })
	slow := enter(t, addr, "/slow", "")
	big := strings.Repeat("x", 64<<10)
	for {
		select {
		case why := <-gone:
			if why != "reads too slowly" {
				t.Error(why)
			}
			_ = slow
			return
		default:
			_ = s.Of("/slow").Emit("big", big)
		}
	}
}

func TestServer_close(t *testing.T) {
	s, addr := serve(t, Options{})
	c := enter(t, addr, "/", "")
	done := make(chan error, 1)
	go func() { done <- s.Close(t.Context()) }()
	c.wantClosed(websocket.CloseServiceRestart, "server stops")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, resp, err := websocket.DefaultDialer.Dial(addr+"/socket.io/?EIO=4&transport=websocket", nil); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the end: %v", err)
	} else {
		_ = resp.Body.Close()
	}
}

// The layer below alone: every message comes back.
func TestServer_message(t *testing.T) {
	o := quick
	o.Path = "/engine.io/"
	o.Message = func(c *Client, binary bool, data []byte) { c.Send(binary, data) }
	_, addr := serve(t, o)
	for version, binary := range map[int][]byte{3: {4, 1, 2}, 4: {1, 2}} {
		ws, resp, err := websocket.DefaultDialer.Dial(fmt.Sprintf("%s/engine.io/?EIO=%d&transport=websocket", addr, version), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		c := &client{t, ws}
		c.wantPrefix("0{")
		c.write("4hello")
		c.want("4hello")
		c.writeBinary(binary...)
		c.want(fmt.Sprintf("% x", binary))
		c.write("abc")
		c.wantClosed(websocket.CloseProtocolError, "parse error")
	}
}
