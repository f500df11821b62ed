package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParsePacket(t *testing.T) {
	for text, want := range map[string]Packet{
		`0`:                           {Kind: PacketConnect, Namespace: "/"},
		`0{"token":"x"}`:              {Kind: PacketConnect, Namespace: "/", Data: json.RawMessage(`{"token":"x"}`)},
		`0/admin`:                     {Kind: PacketConnect, Namespace: "/admin"},
		`0/admin,`:                    {Kind: PacketConnect, Namespace: "/admin"},
		`0/admin,{}`:                  {Kind: PacketConnect, Namespace: "/admin", Data: json.RawMessage(`{}`)},
		`0/admin?a=b&c=d,`:            {Kind: PacketConnect, Namespace: "/admin", Query: "a=b&c=d"},
		`1`:                           {Kind: PacketDisconnect, Namespace: "/"},
		`1/admin,`:                    {Kind: PacketDisconnect, Namespace: "/admin"},
		`2["a",1]`:                    {Kind: PacketEvent, Namespace: "/", Data: json.RawMessage(`["a",1]`)},
		`212["a"]`:                    {Kind: PacketEvent, Namespace: "/", ID: 12, HasID: true, Data: json.RawMessage(`["a"]`)},
		`20["a"]`:                     {Kind: PacketEvent, Namespace: "/", ID: 0, HasID: true, Data: json.RawMessage(`["a"]`)},
		`2/admin,9007199254740992[1]`: {Kind: PacketEvent, Namespace: "/admin", ID: 1 << 53, HasID: true, Data: json.RawMessage(`[1]`)},
		`37[]`:                        {Kind: PacketAck, Namespace: "/", ID: 7, HasID: true, Data: json.RawMessage(`[]`)},
		`50-["a"]`:                    {Kind: PacketEvent, Namespace: "/", Data: json.RawMessage(`["a"]`)},
	} {
		p, n, err := ParsePacket([]byte(text))
		if err != nil || n != 0 || !reflect.DeepEqual(p, want) {
			t.Errorf("%s: %+v, %d attachments, %v", text, p, n, err)
		}
	}
	if p, n, err := ParsePacket([]byte(`62-/admin,7[{"_placeholder":true,"num":0}]`)); err != nil || n != 2 || p.Kind != PacketAck || p.ID != 7 {
		t.Errorf("%+v, %d attachments, %v", p, n, err)
	}
	for _, text := range []string{"", "7", "9", "a", "-1", " 0", `0[]`, `0"x"`, `0null`, `07`, `0{`, `1{}`, `17`, `2`, `2{}`, `2[]`, `2[null]`, `2[{}]`, `2[["a"]]`,
		`2["connect"]`, `2["disconnect"]`, `2["connect_error"]`, `2["disconnecting"]`, `2["newListener"]`, `2["removeListener"]`, `2["a",]`, `2["a"]x`, `2 ["a"`,
		`2abc["a"]`, `2-1["a"]`, `201["a"]`, `29007199254740993["a"]`, `2` + strings.Repeat("9", 400) + `["a"]`, `3[]`, `37{}`, `37`, `4{}`, `4"x"`,
		`5["a"]`, `5-["a"]`, `5x-["a"]`, `511-["a"]`, `501-["a"]`, `5` + strings.Repeat("9", 400) + `-["a"]`, `6-1[]`, `0/` + strings.Repeat("n", 300)} {
		if p, _, err := ParsePacket([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40q: %+v, %v", text, p, err)
		}
	}
}

func TestPacket_event(t *testing.T) {
	p := Packet{Data: json.RawMessage(`["say",{"a":[1]},"x"]`)}
	name, args, err := p.Event()
	if err != nil || name != "say" || len(args) != 2 || string(args[0]) != `{"a":[1]}` {
		t.Errorf("%s %s %v", name, args, err)
	}
	p.Data = json.RawMessage(`[12.5]`)
	if name, _, err := p.Event(); err != nil || name != "12.5" {
		t.Errorf("%s %v", name, err)
	}
}

func TestAppendPacket(t *testing.T) {
	for want, p := range map[string]Packet{
		`0{"sid":"x"}`:                  V4.Connected("/", "x", ""),
		`0/admin,{"sid":"x","pid":"y"}`: V4.Connected("/admin", "x", "y"),
		`0`:                             V3.Connected("/", "x", "y"),
		`4{"message":"no"}`:             V4.Refused("/", "no", nil),
		`4/admin,{"message":"\"","data":{"a":1}}`: V4.Refused("/admin", `"`, json.RawMessage(`{"a":1}`)),
		`4/admin,"no"`: V3.Refused("/admin", "no", json.RawMessage(`{"a":1}`)),
		`2["a"]`:       {Kind: PacketEvent, Data: json.RawMessage(`["a"]`)},
		`51-/admin,5["a",{"_placeholder":true,"num":0}]`: {Kind: PacketEvent, Namespace: "/admin", ID: 5, HasID: true, Data: json.RawMessage(`["a",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1}}},
		`30[]`: {Kind: PacketAck, HasID: true, Data: json.RawMessage(`[]`)},
		`1`:    {Kind: PacketDisconnect, Namespace: "/"},
	} {
		if got := AppendPacket(nil, &p); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestVersion_frames(t *testing.T) {
	for _, c := range []struct {
		v       Version
		text    bool
		message string
		want    Frame
	}{
		{V4, true, "4hello", Frame{FrameMessage, false, []byte("hello")}},
		{V4, true, "3", Frame{FramePong, false, []byte{}}},
		{V4, true, "1", Frame{FrameClose, false, []byte{}}},
		{V4, true, "6", Frame{FrameNoop, false, []byte{}}},
		{V4, false, "\x01\x02", Frame{FrameMessage, true, []byte{1, 2}}},
		{V4, false, "", Frame{FrameMessage, true, nil}},
		{V4, true, "bAQID", Frame{FrameMessage, true, []byte{1, 2, 3}}},
		{V3, true, "2probe", Frame{FramePing, false, []byte("probe")}},
		{V3, false, "\x04\x01", Frame{FrameMessage, true, []byte{1}}},
		{V3, true, "b4AQID", Frame{FrameMessage, true, []byte{1, 2, 3}}},
	} {
		f, err := c.v.ReadFrame(c.text, []byte(c.message))
		if err != nil || !reflect.DeepEqual(f, c.want) {
			t.Errorf("%d %q: %+v %v", c.v, c.message, f, err)
			continue
		}
		if f.Binary && len(f.Data) > 0 { // and back
			if back, text := c.v.AppendFrame(nil, f, c.text); string(back) != c.message || text != c.text {
				t.Errorf("%d %q comes back as %q", c.v, c.message, back)
			}
		}
	}
	for _, c := range []struct {
		v       Version
		text    bool
		message string
	}{
		{V4, true, ""}, {V3, true, ""}, {V3, false, ""}, {V3, false, "\x02"}, {V4, true, "0{}"}, {V4, true, "2"}, {V4, true, "2probe"}, {V3, true, "3"}, {V4, true, "3x"},
		{V4, true, "5"}, {V4, true, "7"}, {V4, true, "abc"}, {V4, true, "1x"}, {V4, true, "6x"}, {V4, true, "b!"}, {V3, true, "b"}, {V3, true, "b2AQID"}, {V3, true, "bAQID"},
		{V3, true, "2" + strings.Repeat("x", 200)},
	} {
		if f, err := c.v.ReadFrame(c.text, []byte(c.message)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d %.20q: %+v %v", c.v, c.message, f, err)
		}
	}
}

func TestAssembler(t *testing.T) {
	var a Assembler
	buf := []byte(`52-["a",{"_placeholder":true,"num":1},{"x":[{"_placeholder":true,"num":0}]}]`)
	if p, err := a.Add(false, buf, 1000); p != nil || err != nil {
		t.Fatal(p, err)
	}
	clear(buf) // it is its reader's again
	one := []byte{1, 2}
	if p, err := a.Add(true, one, 1000); p != nil || err != nil {
		t.Fatal(p, err)
	}
	clear(one)
	p, err := a.Add(true, []byte{3}, 1000)
	if err != nil || p == nil || p.Kind != PacketEvent {
		t.Fatal(p, err)
	}
	_, arguments, err := p.Event()
	if err != nil {
		t.Fatal(err)
	}
	values := p.values(arguments)
	var first []byte
	var second struct{ X [][]byte }
	if err := values[0].Decode(&first); err != nil || !bytes.Equal(first, []byte{3}) {
		t.Errorf("%x %v", first, err)
	}
	if err := values[1].Decode(&second); err != nil || !bytes.Equal(second.X[0], []byte{1, 2}) {
		t.Errorf("%x %v", second, err)
	}
	if err := values[1].Decode(new(int)); err == nil {
		t.Error("decoded an object into a number")
	}
	for name, steps := range map[string][]string{
		"text between":            {`t51-["a"]`, `t2["b"]`},
		"attachment of no packet": {`bx`},
		"placeholder beyond":      {`t51-["a",{"_placeholder":true,"num":1}]`, `bx`},
		"placeholder of nothing":  {`t51-["a",{"_placeholder":true,"num":-1}]`, `bx`},
		"too big":                 {`t52-["a"]`, `b` + strings.Repeat("x", 500), `b` + strings.Repeat("x", 500)},
		"too big a text":          {`t2["` + strings.Repeat("x", 1000) + `"]`},
	} {
		var a Assembler
		var err error
		for _, s := range steps {
			if err != nil {
				t.Fatalf("%s: %v before %.20s", name, err, s)
			}
			_, err = a.Add(s[0] == 'b', []byte(s[1:]), 1000)
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListOf(t *testing.T) {
	in := Value{json.RawMessage(`{"b":{"_placeholder":true,"num":1}}`), [][]byte{{9}, {8}}}
	l, err := listOf([]any{"a", []byte{1}, map[string]any{"z": []any{[]byte{2}, 3}, "y": nil}, in, json.RawMessage(`{"_placeholder":true,"num":7}`), struct{ A int }{4}})
	want := `["a",{"_placeholder":true,"num":0},{"y":null,"z":[{"_placeholder":true,"num":1},3]},{"b":{"_placeholder":true,"num":2}},{"_placeholder":true,"num":7},{"A":4}]`
	if err != nil || string(l.json) != want || fmt.Sprint(l.attachments) != "[[1] [2] [8]]" {
		t.Errorf("%s %v %v", l.json, l.attachments, err)
	}
	if _, err := listOf([]any{make(chan int)}); err == nil {
		t.Error("a channel was encoded")
	}
	many := make([]any, 11)
	for i := range many {
		many[i] = []byte{1}
	}
	if _, err := listOf(many); err == nil {
		t.Error("11 attachments were encoded")
	}
}

// Whatever a client sends is a packet or malformed, and a packet goes out as it came in.
func FuzzPacket(f *testing.F) {
	for _, seed := range []string{`0{"token":"x"}`, `2/admin,12["a",1]`, `51-["a",{"_placeholder":true,"num":0}]`, `61-3[{"_placeholder":true,"num":0}]`, `0/a?b=c,`, `37[]`} {
		f.Add(seed, []byte{1, 2})
	}
	f.Fuzz(func(t *testing.T, text string, attachment []byte) {
		var a Assembler
		p, err := a.Add(false, []byte(text), 1<<16)
		for range maxAttachments {
			if err != nil || p != nil {
				break
			}
			p, err = a.Add(true, attachment, 1<<16)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if p == nil {
			t.Fatal("waits for more than it may")
		}
		if p.Kind == PacketEvent {
			if name, _, err := p.Event(); err != nil || Reserved(name) {
				t.Fatalf("event %q %v", name, err)
			}
		}
		if _, err := p.Inline(p.Data, func(dst, b []byte) []byte { return append(dst, '0') }); err != nil {
			t.Fatal(err)
		}
		if p.Query != "" {
			return // only clients send it
		}
		again, n, err := ParsePacket(AppendPacket(nil, p))
		again.Attachments = p.Attachments
		if p.Namespace == "/" || len(p.Namespace) == 0 {
			again.Namespace = p.Namespace
		}
		if err != nil || n != len(p.Attachments) || !reflect.DeepEqual(&again, p) {
			t.Fatalf("%+v %+v %v", p, again, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"4hello", "2probe", "3", "bAQID", "b4AQID", "\x04\x01", "1", "6"} {
		f.Add(seed, true, true)
		f.Add(seed, false, false)
	}
	f.Fuzz(func(t *testing.T, message string, text, four bool) {
		v := V3
		if four {
			v = V4
		}
		frame, err := v.ReadFrame(text, []byte(message))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if frame.Kind == FramePing && v == V4 || frame.Kind == FramePong && v == V3 {
			t.Fatalf("%c", frame.Kind)
		}
		if frame.Kind == FrameMessage {
			back, isText := v.AppendFrame(nil, frame, false)
			again, err := v.ReadFrame(isText, back)
			if err != nil || again.Binary != frame.Binary || !bytes.Equal(again.Data, frame.Data) {
				t.Fatalf("%+v %+v %v", frame, again, err)
			}
		}
	})
}
