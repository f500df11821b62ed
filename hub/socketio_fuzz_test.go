package hub

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"wxhub/hub/socketio"
)

// Whatever a client that is in says, it gets an answer, hears a refusal or is closed.
func FuzzSocketIO(f *testing.F) {
	for _, seed := range []string{`42["exchange",{"target":"res","payload":1}]`, `421["join","room:tea"]`, `422["resume",["notice@x:1",{"room":"room:a","since":{"epoch":"e","offset":1}}]]`,
		`423["history",{"room":"notice","before":{"epoch":"e","offset":9}}]`, `424["refresh","x"]`, `425["ack",{"room":"user:ada","offset":1}]`, "2", "3", "41", `42["publish",{"room":"room:tea","data":{"action":"a"}}]`} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	h, err := New(Options{Limits: Limits{BadFrames: 1 << 30}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { stopHub(f, h) })
	f.Fuzz(func(t *testing.T, text string, four bool) {
		l := &socketIO{version: socketio.V3, entered: true, marks: []mark{}}
		if four {
			l.version = socketio.V4
			l.lasting = pidOf("x", "ada", "notice@e:1")
		}
		c := &Conn{hub: h, id: "c", user: "ada", proto: l, speaks: l.encoding(), dead: true} // answers go nowhere
		c.session.Store(&Session{User: "ada"})
		c.timer.owner = c
		l.handle(c, true, []byte(text), false)
		c.depart()
	})
}

// A position that was made is read as it was, and nothing else makes a socket something that it may not be.
func FuzzPlaces(f *testing.F) {
	f.Add("notice@e:1;room:tea@", "all@e:0;user:ada@m:3")
	f.Add("-", "")
	f.Add("notice@e:1;notice@e:2", "x@y@z:1")
	f.Fuzz(func(t *testing.T, offset, places string) {
		if since, ok := parsePlaces(offset); ok {
			var back []byte
			for _, p := range since {
				if back = append(append(back, ';'), p.name+"@"...); p.since != nil {
					back = appendPlace(back[:len(back)-len(p.name)-1], p.name, p.since.Epoch, p.since.Offset)
				}
			}
			again, ok := parsePlaces(strings.TrimPrefix(string(back), ";"))
			if !ok || len(again) != len(since) {
				t.Fatalf("%q is %q", offset, back)
			}
		}
		auth, _ := json.Marshal(map[string]string{"pid": pidOf("x", "ada", places), "offset": offset})
		l := &socketIO{version: socketio.V4}
		if l.comesBack(auth, &Session{User: "bob"}, nil); l.back != nil {
			t.Fatal("somebody else's position was taken")
		}
		if rooms := l.comesBack(auth, &Session{User: "ada"}, []string{"notice"}); len(rooms) > tailRooms+1 {
			t.Fatalf("%d rooms", len(rooms))
		}
		if l.recovered(nil) && len(l.back) > 0 {
			t.Fatal("recovered in no room")
		}
	})
}

// What is written beside shared frames, or left away, leaves all else as it was.
func FuzzBeside(f *testing.F) {
	f.Add("purchase", `{"n":1}`, uint64(3))
	f.Add(`"],`, `"\"]"`, uint64(0))
	f.Add("res", `{"$binary":"AQID"}`, uint64(9))
	f.Fuzz(func(t *testing.T, action, payload string, offset uint64) {
		if !json.Valid([]byte(payload)) || action == "" {
			return
		}
		m := Message{Action: action, Payload: []byte(payload), At: time.UnixMilli(1), Offset: offset}
		shared := encodeSocketIO4.appendPush(nil, "notice", "e", &m)
		shared = encodeSocketIO4.appendPush(shared, "notice", "e", &m)
		plain := encodeSocketIO4.appendPush(nil, "notice", "e", &m)
		const rest = ";all@e:7"
		beside := appendBeside(nil, shared, []byte(rest))
		if want := len(shared); offset > 0 && len(beside) < want+2*len(rest) || offset == 0 && !bytes.Equal(beside, shared) {
			t.Fatalf("%q beside %q", beside, shared)
		}
		if offset > 0 && bytes.Count(beside, []byte(`"notice@e:`)) < 2 {
			t.Fatalf("%q", beside)
		}
		m.Offset = 0
		bare := appendBare(nil, plain)
		want := encodeSocketIO4.appendPush(nil, "notice", "e", &m)
		if offset == 0 && !bytes.Equal(bare, want) {
			t.Fatalf("%q, want %q", bare, want)
		}
		if bytes.Contains(bare, []byte(`"notice@e:`)) && !strings.Contains(payload+action, "notice@e:") {
			t.Fatalf("%q", bare)
		}
		for _, frames := range [][]byte{shared, beside, bare} {
			for len(frames) > 0 {
				n := frameEnd(frames, 1)
				if body := frames[frameHead(frames):n]; frames[0] == finText && !json.Valid(body[bytes.IndexByte(body, '['):]) {
					t.Fatalf("%q", body)
				}
				frames = frames[n:]
			}
		}
	})
}
