package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// A phone is the other end of a socket that speaks Socket.IO, as far as a test needs it.
type phone struct {
	t    testing.TB
	ws   *websocket.Conn
	eio  int
	sid  string // of the socket
	pid  string
	tail string // last text argument heard
	acks int
}

// A saying is one event.
type saying struct {
	name string
	args []json.RawMessage
	raw  string
}

func (h saying) push(t testing.TB) (f frame) {
	t.Helper()
	if err := json.Unmarshal(h.args[0], &f); err != nil {
		t.Fatalf("%s: %v", h.raw, err)
	}
	f.raw = h.raw
	return f
}

// doorOf lets in who names a user: in the query, or as auth.token.
func doorOf(r *http.Request) Door {
	return Door{Admit: func(_ context.Context, auth json.RawMessage) (Session, error) {
		s := session(r)
		var a struct{ Token string }
		if _ = json.Unmarshal(auth, &a); a.Token != "" {
			s.User = a.Token
		}
		switch s.User {
		case "":
			return Session{}, &ConnectError{"bad_token", "who are you?"}
		case "broken":
			return Session{}, errBroken
		}
		return s, nil
	}}
}

// both serves h on loopback: /ws and /socket.io/.
func both(t testing.TB, h *Hub) (addr string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { _ = h.Accept(w, r, session(r)) })
	mux.HandleFunc("/socket.io/", func(w http.ResponseWriter, r *http.Request) { _ = h.AcceptSocketIO(w, r, doorOf(r)) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

// dialPhone opens a connection and reads the open packet; of V3 it has asked to come in by that.
func dialPhone(t testing.TB, d *websocket.Dialer, addr string, eio int, query string) *phone {
	t.Helper()
	ws, resp, err := d.Dial(fmt.Sprintf("%s/socket.io/?EIO=%d&transport=websocket&%s", addr, eio, query), nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	l := &phone{t: t, ws: ws, eio: eio}
	text := l.text()
	var open struct {
		SID                       string
		Upgrades                  []string
		PingInterval, PingTimeout int
		MaxPayload                int64
	}
	if err := json.Unmarshal([]byte(text[1:]), &open); text[0] != '0' || err != nil || open.SID == "" || open.Upgrades == nil || open.MaxPayload == 0 {
		t.Fatalf("open: %s", text)
	}
	if eio == 3 {
		l.sid = open.SID
	}
	return l
}

// join4 is a client of V4 that has come in, join3 one of V3. The welcome has been read.
func join4(t testing.TB, addr, query, auth string) (l *phone, recovered bool) {
	t.Helper()
	l = dialPhone(t, websocket.DefaultDialer, addr, 4, query)
	return l, l.enter(auth)
}

// enter asks to come in and reads the answer and the welcome.
func (l *phone) enter(auth string) (recovered bool) {
	l.t.Helper()
	l.write("40" + auth)
	var in struct{ SID, PID string }
	text := l.text()
	if !strings.HasPrefix(text, "40{") || json.Unmarshal([]byte(text[2:]), &in) != nil {
		l.t.Fatalf("connect: %s", text)
	}
	l.sid, l.pid = in.SID, in.PID
	l.want("welcome")
	return in.PID != "" && strings.Contains(auth, in.PID)
}

func join3(t testing.TB, addr, query string) *phone {
	t.Helper()
	l := dialPhone(t, websocket.DefaultDialer, addr, 3, query)
	if text := l.text(); text != "40" {
		t.Fatalf("connect: %s", text)
	}
	l.want("welcome")
	return l
}

func (l *phone) write(text string) {
	l.t.Helper()
	if err := l.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		l.t.Fatal(err)
	}
}

// text reads the next text that is no heartbeat; heartbeats are answered.
func (l *phone) text() string {
	l.t.Helper()
	for {
		kind, data, err := l.ws.ReadMessage()
		if err != nil {
			l.t.Fatalf("read: %v", err)
		}
		switch {
		case kind != websocket.TextMessage:
			l.t.Fatalf("binary: %x", data)
		case string(data) == "2":
			l.write("3")
		default:
			return string(data)
		}
	}
}

// event reads the next event, and remembers its last argument as clients do.
func (l *phone) event() (h saying) {
	l.t.Helper()
	h.raw = l.text()
	return l.parse(h.raw)
}

func (l *phone) parse(raw string) (h saying) {
	l.t.Helper()
	h.raw = raw
	at := strings.IndexByte(h.raw, '[')
	if at < 0 || h.raw[:2] != "42" && h.raw[:2] != "45" || json.Unmarshal([]byte(h.raw[at:]), &h.args) != nil {
		l.t.Fatalf("no event: %s", h.raw)
	}
	_ = json.Unmarshal(h.args[0], &h.name)
	h.args = h.args[1:]
	if last := h.args[len(h.args)-1]; last[0] == '"' && l.pid != "" {
		_ = json.Unmarshal(last, &l.tail)
	}
	return h
}

// want reads events until one of this name.
func (l *phone) want(name string) saying {
	l.t.Helper()
	h := l.event()
	for h.name == positionAction && name != positionAction {
		h = l.event()
	}
	if h.name != name {
		l.t.Fatalf("heard %s, want %s", h.raw, name)
	}
	return h
}

// ask emits an event and returns the acknowledgement; what is heard before it is returned too.
func (l *phone) ask(name, args string) (answer map[string]any, before []saying) {
	l.t.Helper()
	l.acks++
	l.write(fmt.Sprintf(`42%d[%q,%s]`, l.acks, name, args))
	for {
		raw := l.text()
		rest, ok := strings.CutPrefix(raw, fmt.Sprintf("43%d", l.acks))
		if !ok {
			before = append(before, l.parse(raw))
			continue
		}
		var list []map[string]any
		if json.Unmarshal([]byte(rest), &list) != nil || len(list) != 1 {
			l.t.Fatalf("answer: %s", raw)
		}
		return list[0], before
	}
}

// must asks and wants it granted.
func (l *phone) must(name, args string) map[string]any {
	l.t.Helper()
	answer, _ := l.ask(name, args)
	if answer["ok"] != true {
		l.t.Fatalf("%s %s: %v", name, args, answer)
	}
	return answer
}

func (l *phone) refused(word, name, args string) {
	l.t.Helper()
	answer, _ := l.ask(name, args)
	if answer["ok"] != false || answer["error"] != word || answer["message"] == "" || answer["event"] != name {
		l.t.Errorf("%s %s: got %v, want %s", name, args, answer, word)
	}
}

// closed reads until the connection is closed.
func (l *phone) closed() (code int, reason string, last []string) {
	l.t.Helper()
	for {
		_, data, err := l.ws.ReadMessage()
		var e *websocket.CloseError
		if errors.As(err, &e) {
			return e.Code, e.Text, last
		}
		if err != nil {
			l.t.Fatalf("closed without a close frame: %v", err)
		}
		last = append(last, string(data))
	}
}

func (l *phone) auth() string { return fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, l.tail) }

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

// article is the shape of what the article's client listens to.
type article struct {
	Meta struct {
		Timestamp int64
		Client    string
		Target    string
		Room      string
		Offset    uint64
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}
}

func TestSocketIO_exchange(t *testing.T) {
	rules := append([]Rule{{Pattern: "notice", Join: Anyone, Publish: Member, Keep: Keep{10, time.Hour}}}, DefaultRules()...)
	h := newTestHub(t, Options{Rules: rules, Limits: Limits{FramesPerSecond: 1000, FramesBurst: 1000}})
	addr := both(t, h)
	ada, _ := join4(t, addr, "user=ada&room=notice", "")
	bob := join3(t, addr, "user=bob&room=notice")
	native := dial(t, addr, "user=eve&room=notice")
	away, _ := join4(t, addr, "user=joe&room=room:tea", "")
	nobody, _ := join4(t, addr, "user=pat", "")

	answer, before := ada.ask("exchange", `{"payload":{"title":"this is a news"},"target":"res"}`)
	if answer["ok"] != true || fmt.Sprint(answer["rooms"]) == "" {
		t.Errorf("answer %v", answer)
	}
	for _, l := range []*phone{ada, bob} {
		var e saying
		if l == ada && len(before) > 0 {
			e = before[0]
		} else {
			e = l.want("res")
		}
		var a article
		if err := json.Unmarshal(e.args[0], &a); err != nil {
			t.Fatal(err)
		}
		if a.Meta.Client != ada.sid || a.Meta.Target != "res" || a.Meta.Room != "notice" || a.Meta.Timestamp == 0 || a.Data.Action != "exchange" ||
			string(a.Data.Payload) != `{"title":"this is a news"}` {
			t.Errorf("heard %s", e.raw)
		}
	}
	if f := native.push(); f.Data.Action != "exchange" || f.Meta.Target != "res" || f.Meta.Client != ada.sid {
		t.Errorf("heard %s", f.raw)
	}
	// Nobody else heard it: the next thing that they hear is something else.
	publish(t, h, "all", say("sale", `1`))
	for _, l := range []*phone{away, nobody} {
		l.want("sale")
	}
	ada.want("sale")
	bob.want("sale")
	native.push()

	// Without a payload it is an empty object, as the article's server had it.
	ada.must("exchange", `{"target":"res"}`)
	if e := bob.want("res"); !strings.Contains(e.raw, `"payload":{}`) {
		t.Errorf("heard %s", e.raw)
	}
	// Refusals come by the acknowledgement.
	for _, target := range []string{"purchase", "order.paid", "welcome", "join", "leave", "kf.message", "refused", "exchange", "connect", "connect_error",
		"disconnect", "disconnecting", "newListener", "removeListener"} {
		nobody.refused("forbidden_action", "exchange", `{"target":"`+target+`","payload":1}`)
		nobody.write(`42["exchange",{"target":"` + target + `"}]`)
		if e := nobody.want("refused"); !strings.Contains(e.raw, `"event":"exchange","error":"forbidden_action"`) {
			t.Errorf("heard %s", e.raw)
		}
	}
	nobody.refused("not_joined", "exchange", `{"target":"res"}`)
	for _, bad := range []string{`{"target":""}`, `{"target":7}`, `{}`, `[]`, `"res"`, `null`, `{"target":"` + strings.Repeat("x", 129) + `"}`, `{"target":"a\nb"}`} {
		bob.refused("bad_frame", "exchange", bad)
	}
	if code, _, _ := func() (int, string, []string) { // the abuse of bad frames is counted as ever
		for range 20 {
			bob.write(`42["exchange"]`)
		}
		return bob.closed()
	}(); code != DisconnectAbuse.Code {
		t.Errorf("closed with %d", code)
	}
}

// An exchange is said where its room's rule lets it be said; never to everybody, and in nobody's mailbox.
func TestSocketIO_exchangeByTheRooms(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesPerSecond: 1000, FramesBurst: 1000}})
	addr := both(t, h)
	admin, _ := join4(t, addr, "user=root&role=admin&room=kf&room=user:bob", "")
	bob := join3(t, addr, "user=bob&room=notice")
	answer := admin.must("exchange", `{"target":"res","payload":1}`)
	rooms, _ := answer["rooms"].([]any)
	if len(rooms) != 1 || rooms[0].(map[string]any)["room"] != "kf" || answer["refused"] != nil {
		t.Errorf("answer %v", answer)
	}
	bob.refused("forbidden", "exchange", `{"target":"res","payload":1}`)
	bob.must("join", `"room:tea"`)
	answer, before := bob.ask("exchange", `{"target":"res","payload":2}`)
	refused, _ := answer["refused"].([]any)
	if answer["ok"] != true || len(refused) != 1 || refused[0].(map[string]any)["error"] != "forbidden" {
		t.Errorf("answer %v", answer)
	}
	if len(before) == 0 {
		bob.want("res")
	}
	bob.write(`42["exchange",{"target":"res","payload":3}]`)
	names := []string{bob.event().name, bob.event().name}
	if slices.Sort(names); !slices.Equal(names, []string{"refused", "res"}) {
		t.Errorf("heard %v", names)
	}
	bob.must("leave", `"notice"`)
	for range 60 {
		answer, _ = bob.ask("exchange", `{"target":"res"}`)
	}
	if answer["error"] != "too_many" {
		t.Errorf("answer %v", answer)
	}
}

func TestSocketIO_requests(t *testing.T) {
	h := newTestHub(t, Options{Authenticate: refreshTo(time.Hour)})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada", "")
	at := publish(t, h, "notice", say("sale", `{"n":1}`))
	publish(t, h, "notice", say("sale", `{"n":2}`))
	joined := l.must("join", fmt.Sprintf(`{"room":"notice","since":{"epoch":%q,"offset":0}}`, at.Epoch))
	if joined["recovered"] != true || joined["missed"] != 2.0 {
		t.Errorf("joined %v", joined)
	}
	for n := 1; n <= 2; n++ {
		e := l.want("sale")
		if f := e.push(t); f.Meta.Offset != uint64(n) || f.Data.Action != "sale" || string(f.Data.Payload) != fmt.Sprintf(`{"n":%d}`, n) {
			t.Errorf("heard %s", e.raw)
		}
	}
	if !strings.Contains(l.tail, "notice@"+at.Epoch+":2") {
		t.Errorf("tail %s", l.tail)
	}
	if p := l.must("presence", `"notice"`); p["count"] != 1.0 {
		t.Errorf("presence %v", p)
	}
	if p := l.must("history", `{"room":"notice","limit":1}`); len(p["messages"].([]any)) != 1 {
		t.Errorf("history %v", p)
	}
	l.refused("forbidden", "join", `"kf"`)
	l.refused("bad_room", "join", `"a room"`)
	l.refused("bad_frame", "join", `7`)
	l.refused("unknown_action", "typing", `{}`)
	l.refused("unknown_action", "typing", `7`)
	l.refused("unknown_action", "typing", `[1,2]`)
	l.refused("forbidden_action", "exchange", `{"target":"ping","payload":1}`)
	l.refused("forbidden_action", "exchange", `{"target":"pong","payload":1}`)
	l.refused("forbidden", "publish", `{"room":"notice","data":{"action":"say","payload":1}}`)
	l.refused("bad_frame", "publish", strings.Repeat("[", 40)+strings.Repeat("]", 40))
	l.must("join", `"room:tea"`)
	l.must("publish", `{"room":"room:tea","data":{"action":"say","payload":1}}`)
	l.must("refresh", `"ada"`)
	if answer := l.must("leave", `"room:tea"`); answer["room"] != "room:tea" {
		t.Errorf("left %v", answer)
	}
	if l.want(positionAction); strings.Contains(l.tail, "room:tea") || !strings.Contains(l.tail, "notice@"+at.Epoch) {
		t.Errorf("tail %s", l.tail)
	}
	l.write("41")
	if code, _, _ := l.closed(); code != 1000 {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "gone", func() bool { return h.Stats().Sockets == 0 })
}

// Clients of 4.6 and later come back with what they were given, to any node, and hear what they missed, once.
func TestSocketIO_recovery(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada&room=notice", "")
	l.must("join", `"room:tea"`)
	publish(t, h, "notice", say("sale", `1`))
	l.want("sale")
	l.must("leave", `"notice"`)
	l.must("join", `"notice"`)
	l.want(positionAction)
	publish(t, h, "notice", say("sale", `2`))
	l.want("sale")
	_ = l.ws.Close()
	for n := 3; n <= 5; n++ {
		publish(t, h, "notice", say("sale", fmt.Sprint(n)))
		publish(t, h, "room:tea", say("chat", fmt.Sprint(n)))
	}
	back, recovered := join4(t, addr, "user=ada&room=notice", l.auth())
	if !recovered {
		t.Fatal("not recovered")
	}
	got := map[string][]string{}
	for range 6 {
		e := back.event()
		got[e.name] = append(got[e.name], string(e.push(t).Data.Payload))
	}
	if fmt.Sprint(got) != "map[chat:[3 4 5] sale:[3 4 5]]" {
		t.Errorf("heard %v", got)
	}
	if p := back.must("presence", `"room:tea"`); p["count"] != 1.0 {
		t.Errorf("not back in the room that it had joined: %v", p)
	}
	// Nothing is heard twice, and the position goes on.
	_ = back.ws.Close()
	again, recovered := join4(t, addr, "user=ada", back.auth())
	if !recovered {
		t.Error("not recovered again")
	}
	publish(t, h, "room:tea", say("chat", `6`))
	if f := again.want("chat").push(t); string(f.Data.Payload) != "6" {
		t.Errorf("heard %s", f.raw)
	}
	// It is not back in a room that it has left.
	again.must("leave", `"notice"`)
	again.want(positionAction)
	_ = again.ws.Close()
	if again, recovered = join4(t, addr, "user=ada&room=notice", again.auth()); !recovered {
		t.Error("not recovered after leaving")
	}
	publish(t, h, "notice", say("sale", `6`))
	publish(t, h, "room:tea", say("chat", `7`))
	again.want("chat")
	// A position is its user's, and of a stream that goes on.
	for query, auth := range map[string]string{
		"user=bob": again.auth(),
		"user=ada": fmt.Sprintf(`{"pid":%q,"offset":"notice@another:5"}`, again.pid),
		"user=zoe": fmt.Sprintf(`{"pid":%q,"offset":"notice"}`, pidOf("x", "zoe", "")),
		"user=tim": fmt.Sprintf(`{"pid":%q}`, pidOf("x", "tim", "kf@x:1")),
		"user=eve": `{"pid":"forged.AAAA","offset":"notice@x:1"}`,
		"user=pat": `{"pid":7,"offset":[]}`,
		"user=sam": fmt.Sprintf(`{"pid":%q,"offset":%q}`, pidOf("x", "sam", ""), strings.Repeat("room:a@x:1;", 30)),
		"user=kim": fmt.Sprintf(`{"pid":%q,"offset":"kf@x:1"}`, pidOf("x", "kim", "")),
		"user=lee": fmt.Sprintf(`{"pid":%q,"offset":"notice"}`, pidOf("x", "lee", "notice")),
	} {
		l, recovered := join4(t, addr, query, auth)
		if recovered || l.pid == "" {
			t.Errorf("%s %s: recovered %t, pid %q", query, auth, recovered, l.pid)
		}
		_ = l.ws.Close()
	}
}

// Each message has a position of its own: a connection may break behind any of them.
func TestSocketIO_positionOfEachMessage(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada&room=notice", "")
	const n = 50
	var tails []string
	go func() {
		for i := range n {
			publishIn := []string{"notice", "all"}[i%2]
			_, _ = h.Publish(context.Background(), publishIn, say("sale", fmt.Sprint(i)))
		}
	}()
	for range n {
		l.want("sale")
		tails = append(tails, l.tail)
	}
	_ = l.ws.Close()
	for k := 0; k < n; k += 7 {
		back, recovered := join4(t, addr, "user=ada", fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, tails[k]))
		if !recovered {
			t.Fatalf("not recovered from %s", tails[k])
		}
		seen := map[string]bool{}
		for range n - k - 1 {
			f := back.want("sale").push(t)
			if seen[f.Meta.Room+string(f.Data.Payload)] {
				t.Fatalf("heard twice: %s", f.raw)
			}
			seen[f.Meta.Room+string(f.Data.Payload)] = true
		}
		back.must("presence", `"notice"`) // and nothing more before it
		_ = back.ws.Close()
	}
}

// Above 16 rooms nobody is promised to be recovered.
func TestSocketIO_manyRooms(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesPerSecond: 1000, FramesBurst: 1000}})
	addr := both(t, h)
	query := "user=ada"
	for i := range 16 {
		query += fmt.Sprintf("&room=room:%d", i)
	}
	l, _ := join4(t, addr, query, "")
	if strings.Count(l.pid, ";") != 17 || l.tail != "" {
		t.Fatalf("pid %q, tail %s", l.pid, l.tail)
	}
	l.must("join", `"room:more"`)
	if l.want(positionAction); l.tail != tailNone {
		t.Errorf("tail %s", l.tail)
	}
	publish(t, h, "room:more", say("chat", `1`))
	if e := l.want("chat"); len(e.args) != 1 || l.tail != tailNone {
		t.Errorf("heard %s", e.raw)
	}
	if _, recovered := join4(t, addr, query, l.auth()); recovered {
		t.Error("recovered")
	}
	l.must("leave", `"room:3"`)
	if l.want(positionAction); strings.Count(l.tail, "@") != 2 || !strings.Contains(l.tail, "room:3@") || !strings.Contains(l.tail, "room:more@") {
		t.Errorf("tail %s", l.tail)
	}
	if l, _ := join4(t, addr, query+"&room=room:more", ""); l.pid != "" || l.tail != "" {
		t.Errorf("pid %q, tail %q", l.pid, l.tail)
	} else {
		publish(t, h, "room:1", say("chat", `1`))
		if e := l.want("chat"); len(e.args) != 1 {
			t.Errorf("heard %s", e.raw)
		}
	}
}

// Clients without a recovery of their own bring positions in the address, or resume.
func TestSocketIO_resume(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	at := publish(t, h, "notice", say("sale", `1`))
	publish(t, h, "notice", say("sale", `2`))
	publish(t, h, "room:tea", say("chat", `1`))
	l := join3(t, addr, fmt.Sprintf("user=ada&room=notice@%s:1", at.Epoch))
	if f := l.want("sale").push(t); f.Meta.Offset != 2 {
		t.Errorf("heard %s", f.raw)
	}
	answer := l.must("resume", fmt.Sprintf(`[{"room":"notice","epoch":%q,"offset":0},"room:tea@%s:0",{"room":"room:cup","since":{"epoch":"old","offset":3}},"kf@x:1"]`, at.Epoch, at.Epoch))
	if got := fmt.Sprint(answer["rooms"]); strings.Count(got, "recovered:true") != 2 || strings.Count(got, "recovered:false") != 1 || !strings.Contains(fmt.Sprint(answer["refused"]), "forbidden") {
		t.Errorf("answer %v", answer)
	}
	for _, want := range []string{"sale 1", "sale 2", "chat 1"} {
		e := l.event()
		if got := fmt.Sprint(e.name, " ", e.push(t).Meta.Offset); got != want {
			t.Errorf("heard %s, want %s", e.raw, want)
		}
	}
	if answer := l.must("resume", `"room:cup"`); strings.Contains(fmt.Sprint(answer), "recovered") {
		t.Errorf("answer %v", answer)
	}
	for _, bad := range []string{`7`, `[]`, `[7]`, `{}`} {
		answer, _ := l.ask("resume", bad)
		if answer["ok"] != false {
			t.Errorf("%s: %v", bad, answer)
		}
	}
	l.refused("bad_room", "resume", `"notice@x"`)
}

// Binary values come as they were said; in JSON they are objects that hold base64.
func TestSocketIO_binary(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	ada, _ := join4(t, addr, "user=ada&room=room:tea", "")
	bob := join3(t, addr, "user=bob&room=room:tea")
	native := dial(t, addr, "user=eve&room=room:tea")
	ada.write(`452-["exchange",{"target":"res","payload":[{"_placeholder":true,"num":0},1,{"_placeholder":true,"num":1}]}]`)
	_ = ada.ws.WriteMessage(websocket.BinaryMessage, []byte{1, 2})
	_ = ada.ws.WriteMessage(websocket.BinaryMessage, nil)
	for l, prefix := range map[*phone][]byte{ada: {}, bob: {4}} {
		e := l.want("res")
		if !strings.HasPrefix(e.raw, `452-["res",`) || !strings.Contains(e.raw, `"payload":[{"_placeholder":true,"num":0},1,{"_placeholder":true,"num":1}]`) {
			t.Errorf("heard %s", e.raw)
		}
		for _, want := range [][]byte{{1, 2}, {}} {
			kind, data, err := l.ws.ReadMessage()
			if err != nil || kind != websocket.BinaryMessage || !bytes.Equal(data, append(slices.Clone(prefix), want...)) {
				t.Errorf("got %d %x %v", kind, data, err)
			}
		}
	}
	if f := native.push(); string(f.Data.Payload) != `[{"$binary":"AQI="},1,{"$binary":""}]` {
		t.Errorf("heard %s", f.raw)
	}
	if strings.Count(ada.tail, "room:tea@") != 1 {
		t.Errorf("tail %s", ada.tail)
	}
	for payload, want := range map[string]string{
		`{"$binary":"AQI="}`:           `{"_placeholder":true,"num":0} [[1 2]]`,
		`{"$binary":"!"}`:              `{"$binary":"!"} []`,
		`[{"$binary":"AQ=="},{"x":1}]`: `[{"_placeholder":true,"num":0},{"x":1}] [[1]]`,
		`{"$binary":"AQ==","more":1}`:  `{"$binary":"AQ==","more":1} []`,
		`"{\"$binary\":\"AQ==\"}"`:     `"{\"$binary\":\"AQ==\"}" []`,
	} {
		rest, list := takeBinaries([]byte(payload))
		if got := fmt.Sprintf("%s %v", rest, list); got != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
}

// Clients of version 2 may have it compressed, binary values too; the others hear it plain.
func TestSocketIO_compressed(t *testing.T) {
	h := newTestHub(t, Options{Compression: true})
	addr := both(t, h)
	d := &websocket.Dialer{EnableCompression: true}
	long := strings.Repeat("tea and cups ", 100)
	for eio := 3; eio <= 4; eio++ {
		l := dialPhone(t, d, addr, eio, "user=ada&room=notice")
		if eio == 3 {
			l.text()
			l.want("welcome")
		} else {
			l.enter("")
		}
		publish(t, h, "notice", say("sale", fmt.Sprintf(`[%q,{"$binary":"AQID"}]`, long)))
		if e := l.want("sale"); !strings.Contains(e.raw, long) || !strings.HasPrefix(e.raw, "451-") {
			t.Errorf("heard %s", e.raw)
		}
		if kind, data, err := l.ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || !bytes.HasSuffix(data, []byte{1, 2, 3}) {
			t.Errorf("got %d %x %v", kind, data, err)
		}
		r := h.room("notice")
		r.mu.Lock()
		got := r.speak
		r.mu.Unlock()
		if eio == 3 && got[encodeSocketIO3+formats] != 1 || eio == 4 && got[encodeSocketIO4] != 1 {
			t.Errorf("speak %v", got)
		}
	}
}

// One order for all, whatever they speak.
func TestSocketIO_mixedRoomOneOrder(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	v4, _ := join4(t, addr, "user=a&room=room:tea", "")
	v3 := join3(t, addr, "user=b&room=room:tea")
	native := dial(t, addr, "user=c&room=room:tea")
	const n = 200
	done := make(chan struct{})
	for w := range 4 {
		go func() {
			for i := range n / 4 {
				_, _ = h.Publish(context.Background(), "room:tea", say("chat", fmt.Sprint(w*n+i)))
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	for i := range n {
		want := native.push()
		if want.Meta.Offset != uint64(i+1) {
			t.Fatalf("hole before %s", want.raw)
		}
		for _, l := range []*phone{v4, v3} {
			if f := l.want("chat").push(t); f.Meta.Offset != want.Meta.Offset || !bytes.Equal(f.Data.Payload, want.Data.Payload) {
				t.Fatalf("heard %s, others %s", f.raw, want.raw)
			}
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

// Mail that was not acknowledged follows the welcome, and is not lost where a connection breaks within it.
func TestSocketIO_mailFromItsPositions(t *testing.T) {
	mail := newTestMail()
	for range 3 {
		mail.put("user:ada", "order.paid")
	}
	h := newTestHub(t, Options{Mail: mail})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada", "")
	welcome := l.tail
	l.want("order.paid")
	first := l.tail
	_ = l.ws.Close()
	for tail, want := range map[string]uint64{welcome: 1, first: 2} {
		back, recovered := join4(t, addr, "user=ada", fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, tail))
		if f := back.want("order.paid").push(t); !recovered || f.Meta.Offset != want {
			t.Errorf("from %s: recovered %t, first %d", tail, recovered, f.Meta.Offset)
		}
		_ = back.ws.Close()
	}
}

// Whatever node a client comes back to, it hears what it missed.
func TestSocketIO_anyNode(t *testing.T) {
	redis := startRedis(t)
	a, b := redis.node(t, Options{}), redis.node(t, Options{})
	addrA, addrB := both(t, a.Hub), both(t, b.Hub)
	l, _ := join4(t, addrA, "user=ada&room=room:tea", "")
	old := join3(t, addrB, "user=bob&room=room:tea")
	publish(t, b.Hub, "room:tea", say("chat", `1`))
	l.want("chat")
	old.want("chat")
	_ = l.ws.Close()
	publish(t, a.Hub, "room:tea", say("chat", `2`))
	back, recovered := join4(t, addrB, "user=ada&room=room:tea", l.auth())
	if f := back.want("chat").push(t); !recovered || f.Meta.Offset != 2 {
		t.Errorf("recovered %t, heard %s", recovered, f.raw)
	}
	answer, _ := back.ask("exchange", `{"target":"res","payload":3}`)
	if answer["ok"] != true {
		t.Errorf("answer %v", answer)
	}
	if f := old.want("chat").push(t); f.Meta.Offset != 2 {
		t.Errorf("heard %s", f.raw)
	}
	if f := old.want("res").push(t); f.Meta.Offset != 3 || f.Meta.Target != "res" || f.Data.Action != "exchange" {
		t.Errorf("heard %s", f.raw)
	}
}
