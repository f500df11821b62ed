package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The bytes of every kind of frame are a promise to clients.
func TestFrames_golden(t *testing.T) {
	h := newTestHub(t, Options{})
	c := &Conn{hub: h, id: "Cq3kAb0Zp1xYwVu_", user: "u_7f3a"}
	at := Position{"9f86d081884c7d65", 13}
	moment := time.UnixMilli(1700000000000)
	yes, no := replay{n: 3, complete: true}, replay{}
	push := Message{ID: "m-1", Action: "purchase", Payload: json.RawMessage(`{ "buyer":"王**", "quantity":1 }`), At: moment, Offset: 13}
	fromClient := Message{ID: "m-2", Action: "exchange", Target: "res", Client: c.id, Payload: json.RawMessage(`"hi \"you\"\n"`), At: moment, Offset: 14}
	odd := Message{ID: "\"\\\x01\xff茶", Action: "a\nb", At: moment, Offset: 1}
	joined := []*joining{
		{name: "all", at: Position{at.Epoch, 0}},
		{name: "user:u_7f3a", at: Position{"mail", 2}, since: &Position{"mail", 2}, replay: replay{complete: true}},
		{name: "notice", at: at, since: &at, replay: yes},
		{name: "room:tea", at: at, since: &at, replay: no},
		{name: "kf", err: refusedJoin},
		{name: "room:cup", err: refusedAway},
		{name: "x", err: errors.New("not for clients")},
	}
	welcome := native{}.welcome(c, joined)
	start := bytes.Index(welcome, []byte(`"timestamp":`)) + len(`"timestamp":`)
	end := start + bytes.IndexByte(welcome[start:], '}')
	welcome = bytes.Replace(welcome, welcome[start:end], []byte("1700000000000"), 1)
	q := &request{ID: json.RawMessage("7"), Room: "notice"}
	frames := map[string][]byte{
		"push":             appendPush(nil, "notice", at.Epoch, &push),
		"push_from_client": appendPush(nil, "room:tea", at.Epoch, &fromClient),
		"push_said":        appendPush(nil, "room:tea", "", &Message{Action: "join", Payload: json.RawMessage(`{"user":"u_7f3a"}`), At: moment}),
		"push_odd":         appendPush(nil, "notice", at.Epoch, &odd),
		"welcome":          body(t, welcome),
		"heartbeat":        body(t, heartbeatFrame(moment.UnixNano())),
		"reply":            append(appendReply(nil, q.ID, true), '}'),
		"reply_joined":     append(appendJoined(appendReply(nil, q.ID, true), joined[2]), '}'),
		"reply_history":    append(appendHistory(q, Page{Epoch: at.Epoch, First: 1, Head: 13, Messages: []Message{push}}, false, 1<<20), '}'),
	}
	for name, got := range frames {
		if !json.Valid(got) {
			t.Errorf("%s is no JSON: %s", name, got)
		}
		file := filepath.Join("testdata", "frames", name+".json")
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(append(got, '\n'), want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// body takes the payload out of a server's text frame.
func body(t *testing.T, frame []byte) []byte {
	t.Helper()
	if frame[0] != finText || frameEnd(frame, len(frame)) != len(frame) {
		t.Fatalf("not one text frame: % x", frame[:min(len(frame), 10)])
	}
	return frame[bytes.IndexByte(frame, '{'):]
}

func TestFrameEnd(t *testing.T) {
	a, b, c := textFrame(make([]byte, 5)), textFrame(make([]byte, 300)), textFrame(make([]byte, 70000))
	buf := append(append(append([]byte{}, a...), b...), c...)
	ends := []int{len(a), len(a) + len(b), len(buf)}
	for at := range len(buf) + 1 {
		want := 0
		for _, e := range ends {
			if want < at {
				want = e
			}
		}
		if got := frameEnd(buf, at); got != want {
			t.Fatalf("frameEnd(%d) = %d, want %d", at, got, want)
		}
	}
}

func TestCloseFrame(t *testing.T) {
	for _, c := range []struct {
		d    Disconnect
		want string
	}{
		{DisconnectSlow, "\x88\x06\x11\x3dslow"},
		{Disconnect{Code: 1012, Word: "restart", Retry: 1500 * time.Millisecond}, "\x88\x14\x03\xf4restart;retry=1500"},
		{Disconnect{Code: 1005}, "\x88\x00"},
		{Disconnect{Code: 1006}, "\x88\x00"},
	} {
		if got := string(closeFrame(c.d)); got != c.want {
			t.Errorf("%+v: %q, want %q", c.d, got, c.want)
		}
	}
	long := closeFrame(Disconnect{Code: 4500, Word: string(bytes.Repeat([]byte("茶"), 100))})
	if len(long) > 127 || !json.Valid(append(append([]byte{'"'}, long[4:]...), '"')) {
		t.Errorf("long reason: %q", long)
	}
}
