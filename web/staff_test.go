package web

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/hub"
	"wxhub/wechat/sim"
)

func TestRooms(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	other, bob := s.login("bob")
	s.phone(token, "notice", "room:1")
	s.phone(token, "notice")
	s.phone(other, "notice")
	for i := range 60 {
		if _, err := s.hub.Publish(t.Context(), "room:1", hub.Message{Action: "say", Payload: json.RawMessage(`{"n":` + string(rune('0'+i%10)) + `,"x":"<>"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	var rooms []roomRow
	s.data(s.call("GET", "/api/admin/rooms", s.admin(), nil), &rooms)
	at := slices.IndexFunc(rooms, func(r roomRow) bool { return r.Room == "notice" })
	if at < 0 || rooms[at].Users != 2 || rooms[at].Sockets != 3 || rooms[at].Epoch == "" && rooms[at].Offset > 0 {
		t.Errorf("rooms: %+v", rooms)
	}
	for i, r := range rooms {
		if strings.HasPrefix(r.Room, "user:") || i > 0 && r.Sockets > rooms[i-1].Sockets {
			t.Errorf("rooms: %+v", rooms)
		}
	}
	s.data(s.call("GET", "/api/admin/rooms?limit=1", s.admin(), nil), &rooms)
	if len(rooms) != 1 {
		t.Errorf("%d rooms, one was asked for", len(rooms))
	}

	var room roomView
	s.data(s.call("GET", "/api/admin/rooms/room:1", s.admin(), nil), &room)
	if room.Room != "room:1" || room.Count != 1 || len(room.Users) != 1 || room.Users[0].ID != alice || room.Offset != 60 || len(room.Messages) != roomMessages {
		t.Errorf("room:1 is %s %d %+v, offset %d, %d messages", room.Room, room.Count, room.Users, room.Offset, len(room.Messages))
	}
	var first, last struct {
		Meta struct {
			Room   string `json:"room"`
			Offset uint64 `json:"offset"`
		} `json:"meta"`
		Data struct {
			Action  string          `json:"action"`
			Payload json.RawMessage `json:"payload"`
		} `json:"data"`
	}
	if json.Unmarshal(room.Messages[0], &first) != nil || json.Unmarshal(room.Messages[roomMessages-1], &last) != nil ||
		first.Meta.Offset != 11 || last.Meta.Offset != 60 || last.Data.Action != "say" || string(last.Data.Payload) != `{"n":9,"x":"<>"}` {
		t.Errorf("messages from %+v to %+v %s", first, last, last.Data.Payload)
	}
	s.data(s.call("GET", "/api/admin/rooms/notice", s.admin(), nil), &room)
	if room.Count != 2 || room.Users != nil {
		t.Errorf("notice tells %d, %+v", room.Count, room.Users)
	}
	a := s.call("GET", "/api/admin/rooms/empty", s.admin(), nil)
	s.data(a, &room)
	if room.Count != 0 || len(room.Messages) != 0 || !strings.Contains(string(a.Data), `"messages":[]`) {
		t.Errorf("an empty room is %s", a.Data)
	}
	s.refused(s.call("GET", "/api/admin/rooms/no%20room", s.admin(), nil), 400, "bad_request")
	_ = bob
}

func TestDisconnect_andBlock(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	one, two := s.dial(token, "notice"), s.dial(token)
	var closed closedView
	s.data(s.call("POST", "/api/admin/users/"+alice+"/disconnect", s.admin(), nil), &closed)
	if closed.Closed != 2 || one.closed(t) != 4503 || two.closed(t) != 4503 {
		t.Errorf("closed %d", closed.Closed)
	}
	one = s.dial(token) // a disconnect alone refuses nothing
	var b blockedView
	s.data(s.call("POST", "/api/admin/users/"+alice+"/block", s.admin(), nil), &b)
	if !b.Blocked || one.closed(t) != 4503 {
		t.Error("not blocked")
	}
	s.refused(s.call("GET", "/api/me", token, nil), 403, "blocked")
	s.refused(s.call("POST", "/api/login", "", map[string]any{"code": s.wxLogin("alice")}), 403, "blocked")
	s.data(s.call("POST", "/api/admin/users/"+alice+"/block", s.admin(), nil), &b)
	s.data(s.call("POST", "/api/admin/users/"+alice+"/unblock", s.admin(), nil), &b)
	if b.Blocked {
		t.Error("blocked still")
	}
	s.data(s.call("GET", "/api/me", token, nil), nil)
	s.dial(token)

	// Nobody locks themselves out, and what was done is written down.
	s.refused(s.call("POST", "/api/admin/users/admin/block", s.admin(), nil), 409, "conflict")
	s.data(s.call("GET", "/api/admin/stats", s.admin(), nil), nil)
	audits, err := s.db.Audits(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, e := range slices.Backward(audits) {
		did = append(did, e.Who+" "+e.What+" "+e.About)
	}
	want := []string{"disconnect", "block", "block", "unblock"}
	for i := range want {
		want[i] = "admin admin " + want[i] + " user " + alice
	}
	if !slices.Equal(did, want) {
		t.Errorf("written down: %q", did)
	}
}

func TestNodes(t *testing.T) {
	s := newShop(t, func(o *Options, _ *sim.Options) { o.Node, o.Addr = "here", "127.0.0.1:8080" })
	s.neighbour()
	token, _ := s.login("alice")
	s.phone(token, "notice")
	var nodes []nodeView
	s.eventually("both nodes", func() bool {
		s.data(s.call("GET", "/api/admin/nodes", s.admin(), nil), &nodes)
		return len(nodes) == 2 && nodes[0].Sockets == 1
	})
	here, there := nodes[0], nodes[1]
	now := time.Now()
	if here.ID != "here" || !here.Self || here.Version != "test" || here.Addr != "127.0.0.1:8080" || here.Users != 1 || here.Rooms < 1 ||
		now.Sub(time.UnixMilli(here.SeenAt)).Abs() > nodeGone || here.StartedAt > here.SeenAt || there.ID != "neighbour" || there.Self {
		t.Errorf("%+v\n%+v", here, there)
	}
}
