package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// A position is a place in a room's stream.
type position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// A language is how a client speaks with a server. One value serves all clients; it keeps nothing.
type language interface {
	// request is the path and the header lines of p's next handshake.
	request(p *phone) (path string, header []string)
	opened(p *phone)
	heard(p *phone, text []byte, at time.Time) error
}

// languages by the name that -protocol knows.
var languages = map[string]language{"native": native{}, "socketio": socketIO{}}

// A frame is what one push says.
type frame struct {
	position
	Room, ID, Action string
	Payload          json.RawMessage

	other  *nativeFrame // not a push
	n      int          // which of our messages it is; -1: none
	intact bool         // the payload is byte for byte what was sent
}

// native is the hub's own language.
type native struct{}

type nativeFrame struct {
	position
	Ping      int64
	Reply     json.Number
	OK        bool
	Recovered *bool
	Error     string
	Count     int
	Meta      struct {
		position
		Room, ID string
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}
}

func (native) request(p *phone) (string, []string) {
	header := []string{"Authorization: Bearer " + p.Token}
	if room := p.wanted(); room != "" {
		return "/ws?room=" + url.QueryEscape(room), header
	}
	return "/ws", header
}

// wanted is what a handshake asks for: the room, and the position where the phone has been there before.
func (p *phone) wanted() string {
	switch {
	case p.at.Epoch != "":
		return p.room() + "@" + p.at.Epoch + ":" + strconv.FormatUint(p.at.Offset, 10)
	case p.player.crowd.Mail: // its room is joined anyway
		return ""
	default:
		return p.room()
	}
}

func (native) opened(*phone) {}

func readNative(text []byte) (*frame, error) {
	var n nativeFrame
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	f := &frame{position: n.Meta.position, Room: n.Meta.Room, ID: n.Meta.ID, Action: n.Data.Action, Payload: n.Data.Payload, n: -1}
	if f.Action == "" || f.Offset == 0 {
		f.Offset, f.other = 0, &n
	}
	return f, nil
}

func (native) heard(p *phone, text []byte, at time.Time) error {
	return p.hear(text, at, readNative)
}

// hear takes a frame of the hub, which read takes apart.
func (p *phone) hear(text []byte, at time.Time, read func([]byte) (*frame, error)) error {
	f, err := p.player.decode(text, read)
	switch {
	case err != nil:
		p.tally.Altered++
		p.player.note(fmt.Errorf("client %d: %w", p.index, err))
	case f.other == nil:
		p.push(f, at)
	case f.other.Ping > 0:
		p.say(`{"id":%d,"action":"ping"}`)
	case f.Action == "welcome" && f.Room == "":
		w, err := readWelcome(f.Payload, p.room())
		if err != nil {
			return err
		}
		p.patience = w.patience
		p.arrive(w.at, w.recovered, at)
	case f.other.Reply != "":
		p.replied(f.other)
	case f.Action != "":
		p.announced(f.Action)
	}
	return nil
}

// socketIO is Socket.IO 5 on Engine.IO 4, as the hub speaks it: pushes are events, with the whole push as argument.
type socketIO struct{}

func (socketIO) request(p *phone) (string, []string) {
	q := url.Values{"EIO": {"4"}, "transport": {"websocket"}, "token": {p.Token}}
	if room := p.wanted(); room != "" {
		q.Set("room", room)
	}
	return "/socket.io/?" + q.Encode(), nil
}

func (socketIO) opened(*phone) {}

func (socketIO) heard(p *phone, text []byte, at time.Time) error {
	switch {
	case bytes.HasPrefix(text, []byte("0")):
		p.line.say("40")
	case string(text) == "2":
		p.line.say("3")
	case bytes.HasPrefix(text, []byte("44")):
		return &refusal{Status: 403, Word: "connect_error", Message: string(text[2:])}
	case bytes.HasPrefix(text, []byte("42")):
		return p.hear(withoutTail(text), at, readEvent)
	}
	return nil
}

// withoutTail cuts the position off that follows the push in 42["action",{push},"position"]: it is each client's
// own, the rest is everybody's. What is left ends with the push.
func withoutTail(text []byte) []byte {
	if i := bytes.LastIndex(text, []byte(`}},"`)); i > 0 && bytes.HasSuffix(text, []byte(`"]`)) {
		return text[:i+2]
	}
	return bytes.TrimSuffix(text, []byte("]"))
}

// readEvent takes 42["action",{push} apart.
func readEvent(text []byte) (*frame, error) {
	i := bytes.Index(text, []byte(`",{`))
	if i < 0 {
		return nil, fmt.Errorf("event without a push: %.100q", text)
	}
	return readNative(text[i+2:])
}

// A welcome is what the first frame says of our room.
type welcome struct {
	at        position
	recovered bool
	patience  time.Duration // twice the heartbeat: then the line is dead
}

func readWelcome(payload json.RawMessage, room string) (welcome, error) {
	var w struct {
		Heartbeat float64
		Rooms     []struct {
			position
			Room      string
			Recovered *bool
		}
		Refused []struct{ Room, Error string }
	}
	if err := json.Unmarshal(payload, &w); err != nil {
		return welcome{}, fmt.Errorf("welcome: %w", err)
	}
	for _, at := range w.Rooms {
		if at.Room == room {
			heartbeat := time.Duration(max(w.Heartbeat, 1) * float64(time.Second))
			return welcome{at.position, at.Recovered == nil || *at.Recovered, 2*heartbeat + 5*time.Second}, nil
		}
	}
	for _, no := range w.Refused {
		if no.Room == room {
			return welcome{}, &refusal{Status: 403, Word: no.Error, Message: "joining " + room}
		}
	}
	return welcome{}, &refusal{Word: "welcome", Message: "does not name room " + room}
}
