package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

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
