package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestAccept_welcome(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	at := publish(t, h, "notice", say("purchase", `{"n":1}`))
	c := dial(t, addr, "user=ada&room=notice&room=room:tea&room=notice&room=kf&room=user:bob&room=b%20d&room=notice@"+at.Epoch)
	w := c.greeting()
	if w.User != "ada" || w.Client == "" || w.Heartbeat != 25 {
		t.Errorf("welcome: %s", c.welcome.raw)
	}
	var rooms, refused []string
	for _, r := range w.Rooms {
		rooms = append(rooms, r.Room)
		if r.Epoch == "" || r.Room == "notice" && r.Offset != 1 {
			t.Errorf("welcome: %+v", r)
		}
	}
	for _, r := range w.Refused {
		refused = append(refused, r.Room+" "+r.Error)
	}
	if got, want := strings.Join(rooms, ","), "all,user:ada,notice,room:tea"; got != want {
		t.Errorf("rooms %s, want %s", got, want)
	}
	if got, want := strings.Join(refused, ","), "kf forbidden,user:bob forbidden,b d bad_room"; got != want {
		t.Errorf("refused %s, want %s", got, want)
	}
}

func TestPublish_bytesOfPayload(t *testing.T) {
	h := newTestHub(t, Options{})
	c := dial(t, listen(t, h), "user=ada&room=notice")
	payload := "{ \"b\" : 1.50,\n\"a\":\"<茶>\\u8336&\", \"n\":12345678901234567890 }"
	for _, room := range []string{"notice", "all", "user:ada"} {
		publish(t, h, room, say("hello", payload))
		f := c.push()
		if !strings.Contains(f.raw, `"payload":`+payload+`}}`) {
			t.Errorf("payload changed: %s", f.raw)
		}
		if f.Meta.Room != room || f.Meta.Offset != 1 || f.Meta.ID == "" || f.Meta.Epoch == "" || f.Meta.Client != "" {
			t.Errorf("meta: %s", f.raw)
		}
	}
	if err := h.Say(context.Background(), "all", say("now", "")); err != nil {
		t.Fatal(err)
	}
	if f := c.push(); f.Meta.Offset != 0 || strings.Contains(f.raw, "offset") || string(f.Data.Payload) != "null" {
		t.Errorf("said: %s", f.raw)
	}
	for _, bad := range []Message{say("", "1"), say("x", "{"), say("x", "\"\xff\"")} {
		if _, err := h.Publish(context.Background(), "all", bad); err != ErrPayload {
			t.Errorf("%q: %v", bad.Payload, err)
		}
	}
	if _, err := h.Publish(context.Background(), "a b", say("x", "1")); err != ErrRoomName {
		t.Error(err)
	}
}

func TestNative_requests(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	ada := dial(t, addr, "user=ada")
	bob := dial(t, addr, "user=bob&room=room:tea")

	if f := ada.must(`"action":"join","room":"room:tea"`); f.Room != "room:tea" || f.Epoch == "" || f.Recovered != nil {
		t.Errorf("join: %s", f.raw)
	}
	ada.must(`"action":"join","room":"room:tea"`) // again
	f := ada.must(`"action":"publish","room":"room:tea","data":{"action":"chat","payload":{"text":"hi"}}`)
	if f.Offset != 1 || f.Epoch == "" {
		t.Errorf("publish: %s", f.raw)
	}
	if f := bob.push(); f.Meta.Client != ada.id || f.Data.Action != "chat" || string(f.Data.Payload) != `{"text":"hi"}` || f.Meta.Timestamp == 0 {
		t.Errorf("push: %s", f.raw)
	}
	if f := ada.must(`"action":"presence","room":"room:tea"`); f.Count != 2 || len(f.Users) != 2 || f.Users[0] != (PresentUser{"ada", 1}) {
		t.Errorf("presence: %s", f.raw)
	}
	if f := ada.must(`"action":"presence","room":"all"`); f.Count != 2 || strings.Contains(f.raw, "users") {
		t.Errorf("presence of all: %s", f.raw)
	}
	for n := 2; n <= 5; n++ {
		ada.must(fmt.Sprintf(`"action":"publish","room":"room:tea","data":{"action":"chat","payload":%d}`, n))
	}
	epoch := f.Epoch
	history := func(fields, want string) {
		t.Helper()
		f := ada.must(`"action":"history","room":"room:tea"` + fields)
		var got []string
		for _, m := range f.Messages {
			got = append(got, fmt.Sprint(m.Meta.Offset))
		}
		if s := strings.Join(got, " "); s != want || f.Offset != 5 || f.Epoch != epoch {
			t.Errorf("history %s: %s, want %s", fields, f.raw, want)
		}
	}
	history(``, "1 2 3 4 5")
	history(`,"limit":2`, "4 5")
	history(`,"limit":2,"since":{"epoch":"`+epoch+`","offset":1}`, "2 3")
	history(`,"since":{"epoch":"`+epoch+`","offset":5}`, "")
	history(`,"limit":1,"since":{"epoch":"other","offset":1}`, "5")
	history(`,"limit":2,"before":{"epoch":"`+epoch+`","offset":4}`, "2 3")

	ada.must(`"action":"ack","room":"user:ada","offset":0`)
	ada.must(`"action":"ping"`)
	ada.must(`"action":"leave","room":"room:tea"`)
	if f := bob.must(`"action":"presence","room":"room:tea"`); f.Count != 1 {
		t.Errorf("presence after leave: %s", f.raw)
	}

	ada.refused("not_joined", `"action":"leave","room":"room:tea"`)
	ada.refused("not_joined", `"action":"publish","room":"room:tea","data":{"action":"chat","payload":1}`)
	ada.refused("forbidden", `"action":"publish","room":"notice","data":{"action":"chat","payload":1}`)
	ada.refused("forbidden", `"action":"join","room":"kf"`)
	ada.refused("forbidden", `"action":"join","room":"user:bob"`)
	ada.refused("forbidden", `"action":"join","room":"secret"`)
	ada.refused("forbidden", `"action":"history","room":"user:bob"`)
	ada.refused("forbidden", `"action":"presence","room":"kf"`)
	ada.refused("bad_room", `"action":"join","room":"a b"`)
	ada.refused("bad_room", `"action":"join","room":"`+strings.Repeat("a", 129)+`"`)
	ada.refused("bad_room", `"action":"publish","data":{"action":"chat"}`)
	ada.refused("bad_token", `"action":"refresh","token":"x"`)
	ada.refused("bad_frame", `"action":"ack","room":"user:ada","offset":1`)
	ada.refused("not_joined", `"action":"ack","room":"notice","offset":1`)
	for _, action := range []string{"purchase", "order.paid", "order.", "kf.message", "kf.event", "follow", "unfollow", "join", "leave",
		"welcome", "exchange", "refused", "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "error"} {
		bob.refused("forbidden_action", `"action":"publish","room":"room:tea","data":{"action":"`+action+`","payload":1}`)
	}
}

func TestNative_staff(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	staff, admin := dial(t, addr, "user=sue&role=staff&room=kf&room=secret&room=user:ada"), dial(t, addr, "user=adm&role=admin&room=notice")
	if w := staff.greeting(); len(w.Refused) != 0 || len(w.Rooms) != 5 {
		t.Errorf("welcome of staff: %s", staff.welcome.raw)
	}
	staff.must(`"action":"publish","room":"kf","data":{"action":"note","payload":1}`)
	staff.refused("forbidden", `"action":"publish","room":"notice","data":{"action":"note","payload":1}`)
	admin.must(`"action":"publish","room":"notice","data":{"action":"note","payload":1}`)
	admin.must(`"action":"publish","room":"user:ada","data":{"action":"note","payload":1}`)
}

func TestNative_tokenRooms(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	c := dial(t, addr, "user=ada&may=shop:*&room=shop:7&room=other&room=kf")
	if w := c.greeting(); len(w.Refused) != 2 || len(w.Rooms) != 3 {
		t.Errorf("welcome: %s", c.welcome.raw)
	}
	wide := dial(t, addr, "user=bob&may=*&room=shop:7&room=kf&room=user:ada")
	if w := wide.greeting(); len(w.Refused) != 2 {
		t.Errorf("a token for every room opens a private one: %s", wide.welcome.raw)
	}
	named := dial(t, addr, "user=cy&may=kf&room=kf")
	if w := named.greeting(); len(w.Refused) != 0 {
		t.Errorf("welcome: %s", named.welcome.raw)
	}
}

func TestNative_badFrames(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesBurst: 1000}})
	addr := listen(t, h)
	for _, c := range []struct{ frame, reply, word string }{
		{`x`, `null`, "bad_frame"},
		{``, `null`, "bad_frame"},
		{`null`, `null`, "bad_frame"},
		{`[]`, `null`, "bad_frame"},
		{`"join"`, `null`, "bad_frame"},
		{`{}`, `null`, "bad_frame"},
		{`{"id":1}`, `1`, "bad_frame"},
		{`{"id":1,"action":"dance"}`, `1`, "unknown_action"},
		{`{"id":1,"action":7}`, `1`, "bad_frame"},
		{`{"id":1,"action":"join","room":7}`, `1`, "bad_frame"},
		{`{"id":"1","action":"ping"}`, `null`, "bad_frame"},
		{`{"id":{},"action":"ping"}`, `null`, "bad_frame"},
		{`{"id":1,"action":"join","room":"room:a","since":{"epoch":"e","offset":-1}}`, `1`, "bad_frame"},
		{`{"id":1,"action":"publish","room":"room:a"}`, `1`, "bad_frame"},
		{`{"id":1,"action":"publish","room":"room:a","data":{"payload":1}}`, `1`, "bad_frame"},
		{`{"id":1,"action":"publish","room":"room:a","data":[]}`, `1`, "bad_frame"},
		{`{"id":1,"action":"ping"} {"id":2,"action":"ping"}`, `null`, "bad_frame"},
		{strings.Repeat(`[`, 12000), `null`, "bad_frame"},
		{publishing(`"a"`, nested(31)), `1`, "bad_frame"},
		{`{"id":1,"action":"ping","more":` + nested(32) + `}`, `1`, "bad_frame"},
		{publishing(`""`, `1`), `1`, "bad_frame"},
		{publishing(`"`+strings.Repeat("茶", 43)+`"`, `1`), `1`, "bad_frame"},
		{publishing(`"a\u0000"`, `1`), `1`, "bad_frame"},
		{publishing(`"a\nb"`, `1`), `1`, "bad_frame"},
		{publishing(`"\u007f"`, `1`), `1`, "bad_frame"},
		{publishing(`"\u0085"`, `1`), `1`, "bad_frame"},
		{`{"id":1,"action":"ack","room":"user:ada"}`, `1`, "bad_frame"},
		{`{"id":1,"action":"ack","room":"user:ada","offset":null}`, `1`, "bad_frame"},
		{`{"id":1,"action":"ack","room":"user:ada","offset":"1"}`, `1`, "bad_frame"},
		{`{"id":1,"action":"history","room":"room:a","since":{"epoch":"e","offset":1},"before":{"epoch":"e","offset":1}}`, `1`, "bad_frame"},
	} {
		ws := dial(t, addr, "user=ada")
		ws.write(c.frame)
		if f := ws.next(); f.OK || string(f.Reply) != c.reply && !(f.Reply == nil && c.reply == "null") || f.Error != c.word || f.Message == "" {
			t.Errorf("%.60s: %s", c.frame, f.raw)
		}
		ws.must(`"action":"ping"`) // still open
	}
	binary := dial(t, addr, "user=ada")
	if err := binary.ws.WriteMessage(2, []byte(`{"id":1,"action":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if f := binary.next(); f.Error != "bad_frame" {
		t.Errorf("binary: %s", f.raw)
	}
	abuser := dial(t, addr, "user=eve")
	for range 20 {
		abuser.write(`x`)
	}
	abuser.wantClosed(4500, "abuse")
	if n := h.Stats().BadFrames; n != 51 {
		t.Errorf("%d bad frames counted", n)
	}
}

// nested is a list nested so deeply.
func nested(depth int) string { return strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth) }

func publishing(action, payload string) string {
	return `{"id":1,"action":"publish","room":"room:a","data":{"action":` + action + `,"payload":` + payload + `}}`
}

func TestNative_framesAtTheirBounds(t *testing.T) {
	h := newTestHub(t, Options{})
	c := dial(t, listen(t, h), "user=ada&room=room:a")
	for _, f := range []string{
		publishing(`"a"`, nested(30)),
		publishing(`"a"`, `"`+strings.Repeat(`[`, 100)+`\"`+strings.Repeat(`{`, 100)+`"`),
		publishing(`"`+strings.Repeat("茶", 42)+`xy"`, `1`),
		publishing(`"come in 🍵"`, `1`),
	} {
		c.write(f)
		if f := c.next(); f.Reply == nil { // the push may come before the reply
			f = c.next()
		} else if !f.OK {
			t.Errorf("%s", f.raw)
		} else {
			c.push()
		}
	}
}

func TestNative_limits(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{RoomsPerSocket: 3, FramesPerSecond: 1, FramesBurst: 10}})
	addr := listen(t, h)
	c := dial(t, addr, "user=ada&room=room:1&room=room:2&room=room:3&room=room:4")
	if w := c.greeting(); len(w.Rooms) != 5 || len(w.Refused) != 1 || w.Refused[0].Error != "too_many_rooms" {
		t.Errorf("welcome: %s", c.welcome.raw)
	}
	c.refused("too_many_rooms", `"action":"join","room":"room:5"`)
	c.must(`"action":"leave","room":"room:1"`)
	c.must(`"action":"join","room":"room:5"`)
	big := dial(t, addr, "user=big")
	big.write(`{"id":1,"action":"ping","token":"` + strings.Repeat("x", 16<<10) + `"}`)
	big.wantClosed(1009, "too_big")
	fast := dial(t, addr, "user=fast")
	for range 11 {
		fast.write(`{"id":1,"action":"ping"}`)
	}
	fast.wantClosed(4429, "too_many")
}

func TestNative_roomRate(t *testing.T) {
	rules := append([]Rule{{Pattern: "room:slow", Join: Anyone, Publish: Member, Keep: Keep{10, time.Hour}, Rate: 2}}, DefaultRules()...)
	h := newTestHub(t, Options{Rules: rules})
	c := dial(t, listen(t, h), "user=ada&room=room:slow")
	for range 2 {
		c.must(`"action":"publish","room":"room:slow","data":{"action":"chat","payload":1}`)
	}
	c.refused("too_many", `"action":"publish","room":"room:slow","data":{"action":"chat","payload":1}`)
	publish(t, h, "room:slow", say("server", "1")) // the server is not bounded by it
}

func TestNative_refresh(t *testing.T) {
	h := newTestHub(t, Options{Authenticate: func(_ context.Context, token string) (Session, error) {
		switch token {
		case "good":
			return Session{User: "ada", ID: "second", Rooms: []string{"shop:*"}, ExpiresAt: time.Now().Add(time.Hour)}, nil
		case "other":
			return Session{User: "bob"}, nil
		case "panic":
			panic("a secret of the token")
		}
		return Session{}, context.Canceled
	}})
	addr := listen(t, h)
	c := dial(t, addr, "user=ada&jti=first")
	c.refused("forbidden", `"action":"join","room":"shop:1"`)
	c.refused("bad_token", `"action":"refresh","token":"other"`)
	c.refused("bad_token", `"action":"refresh","token":"bad"`)
	if f := c.must(`"action":"refresh","token":"good"`); f.ExpiresAt == 0 {
		t.Errorf("refresh: %s", f.raw)
	}
	c.must(`"action":"join","room":"shop:1"`)
	if n := h.Disconnect(Target{Session: "first"}, DisconnectToken); n != 0 {
		t.Errorf("%d sockets of a session that was refreshed", n)
	}
	if n := h.Disconnect(Target{Session: "second"}, DisconnectToken); n != 1 {
		t.Errorf("%d sockets disconnected", n)
	}
	c.wantClosed(4501, "token_bad")
	p := dial(t, addr, "user=ada")
	p.write(`{"id":1,"action":"refresh","token":"panic"}`)
	p.wantClosed(1011, "fault")
	dial(t, addr, "user=ada").must(`"action":"ping"`) // the process lives
}

// A panic closes the one socket, and the log tells where, not with which data.
func TestNative_panic(t *testing.T) {
	var log bytes.Buffer
	h := newTestHub(t, Options{
		Logger:       slog.New(slog.NewTextHandler(&log, nil)),
		Authenticate: func(context.Context, string) (Session, error) { panic("a secret of the token") },
	})
	addr := listen(t, h)
	bob := dial(t, addr, "user=bob&room=room:a")
	ada := dial(t, addr, "user=ada&room=room:a")
	ada.write(`{"id":1,"action":"refresh","token":"canary"}`)
	ada.wantClosed(1011, "fault")
	bob.must(`"action":"publish","room":"room:a","data":{"action":"chat","payload":1}`)
	bob.push()
	eventually(t, "ada has left", func() bool { return h.Stats().Sockets == 1 })
	_ = bob.ws.Close()
	stopHub(t, h) // nobody writes into the log any more
	if text := log.String(); !strings.Contains(text, "doRefresh") || strings.Contains(text, "secret") || strings.Contains(text, "canary") {
		t.Errorf("log: %s", text)
	}
}

func TestNative_refreshToLess(t *testing.T) {
	h := newTestHub(t, Options{Authenticate: func(context.Context, string) (Session, error) {
		return Session{User: "ada", ExpiresAt: time.Now().Add(time.Hour)}, nil
	}})
	c := dial(t, listen(t, h), "user=ada&role=staff&room=kf&room=shop:1&room=room:1")
	if f := c.must(`"action":"refresh","token":"user"`); !strings.Contains(f.raw, `"left":["kf","shop:1"]`) {
		t.Errorf("rooms that the new token may not join: %s", f.raw)
	}
	c.refused("forbidden", `"action":"history","room":"kf"`)
	c.refused("forbidden", `"action":"presence","room":"kf"`)
	publish(t, h, "kf", say("secret", "1"))
	publish(t, h, "shop:1", say("secret", "1"))
	publish(t, h, "room:1", say("chat", "1"))
	if f := c.push(); f.Meta.Room != "room:1" {
		t.Errorf("heard %s", f.raw)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{``, `{}`, `null`, `{"id":1,"action":"ping"}`, `{"id":-1.5e3,"action":"join","room":"room:a","since":{"epoch":"e","offset":3}}`,
		`{"id":1,"action":"publish","room":"r","data":{"action":"a","payload":[1, 2]}}`, `{"id":"x"}`, ` {"ping":1}`, "{\"id\":1,\"action\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, no := parseRequest(data)
		b := append(appendReply(nil, q.ID, no == nil), '}')
		if !json.Valid(b) {
			t.Errorf("%q makes the reply %s", data, b)
		}
		if q.Data != nil && len(q.Data.Payload) > 0 && !json.Valid(appendPush(nil, q.Room, "e", &Message{Action: q.Data.Action, Payload: q.Data.Payload})) {
			t.Errorf("%q makes a push that is no JSON", data)
		}
	})
}
