package hub

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"wxhub/hub/socketio"
)

// eventName is the event as which a client of Socket.IO hears m.
func eventName(m *Message) string {
	name := m.Action
	if m.Target != "" {
		name = m.Target
	}
	if socketio.Reserved(name) { // such a client would close the connection
		return "message"
	}
	return name
}

// In a payload a binary value that a client of Socket.IO sent is an object of this form, with base64 behind it; such
// clients hear the binary value again.
const binaryValue = `{"$binary":"`

const maxBinaries = 10 // of one message; what is beyond stays an object

// appendEvent appends m as whole frames: a text, and the binary values that it has.
func (e encoding) appendEvent(dst []byte, room, epoch string, m *Message) []byte {
	var binaries [][]byte
	said := m
	if bytes.Contains(m.Payload, []byte(binaryValue)) {
		other := *m
		other.Payload, binaries = takeBinaries(m.Payload)
		said = &other
	}
	s := scratch.Get().(*[]byte)
	b := append((*s)[:0], '4', '2')
	if len(binaries) > 0 {
		b = append(appendInt(append(b[:0], '4', '5'), int64(len(binaries))), '-')
	}
	b = append(appendString(append(b, '['), eventName(m)), ',')
	b = appendPush(b, room, epoch, said)
	if e == encodeSocketIO4 && m.Offset > 0 {
		b = append(appendPlace(append(b, `,"`...), room, epoch, m.Offset), '"')
	}
	b = append(b, ']')
	dst = append(appendHeader(dst, finText, len(b)), b...)
	*s = b
	if cap(b) <= 64<<10 {
		scratch.Put(s)
	}
	for _, binary := range binaries {
		if e == encodeSocketIO3 {
			dst = append(appendHeader(dst, finBinary, len(binary)+1), byte(socketio.FrameMessage-'0'))
		} else {
			dst = appendHeader(dst, finBinary, len(binary))
		}
		dst = append(dst, binary...)
	}
	return dst
}

// takeBinaries puts placeholders where binary values are. In valid JSON the form can be nothing but an object: within a
// string its quotes would be escaped.
func takeBinaries(payload []byte) (rest []byte, binaries [][]byte) {
	for len(binaries) < maxBinaries {
		before, after, found := bytes.Cut(payload, []byte(binaryValue))
		if !found {
			break
		}
		text, behind, closed := bytes.Cut(after, []byte(`"}`))
		binary, err := base64.StdEncoding.AppendDecode(nil, text)
		rest = append(rest, before...)
		if !closed || err != nil {
			rest, payload = append(rest, binaryValue...), after
			continue
		}
		rest = append(appendInt(append(rest, `{"_placeholder":true,"num":`...), int64(len(binaries))), '}')
		binaries = append(binaries, binary)
		payload = behind
	}
	return append(rest, payload...), binaries
}

// An ackPrefix is how the answer to an event begins: with the number that the client gave it, if it wants one.
type ackPrefix struct {
	name  string
	id    uint64
	asked bool
}

// begin begins the answer; the caller adds fields. A refusal that nobody waits for is an event of its own.
func (a *ackPrefix) begin(dst []byte, ok bool) []byte {
	switch {
	case a.asked:
		dst = append(appendUint(append(dst, '4', '3'), a.id), '[')
	case !ok:
		dst = append(dst, `42["refused",`...)
	}
	if ok {
		return append(dst, `{"ok":true`...)
	}
	return appendString(append(dst, `{"ok":false,"event":`...), a.name)
}

// end makes a whole frame of an answer, nil where nobody waits for it.
func (a *ackPrefix) end(body []byte) []byte {
	if body[0] == '{' {
		return nil
	}
	return textFrame(append(body, `}]`...))
}

// event does what an event asks for.
func (l *socketIO) event(c *Conn, p *socketio.Packet) {
	name, arguments, err := p.Event()
	if err != nil { // parsed before
		return
	}
	q := request{Action: name, event: &ackPrefix{name, p.ID, p.HasID}}
	no := l.do(c, &q, p, arguments)
	if no == nil {
		return
	}
	if no.Word == "bad_frame" {
		c.countBad()
	}
	b := q.begin(make([]byte, 0, 128), false)
	b = appendString(append(b, `,"error":`...), no.Word)
	b = appendString(append(b, `,"message":`...), no.Text)
	c.reply(&q, b)
}

// actions are those of the native protocol, which are events here.
var actions = []string{"join", "leave", "publish", "presence", "history", "ack", "refresh", "ping"}

func (l *socketIO) do(c *Conn, q *request, p *socketio.Packet, arguments []json.RawMessage) *refusal {
	if jsonDepth(p.Data) > maxDepth {
		return refusedDepth
	}
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.hub.patience)
	defer cancel()
	switch q.Action {
	case "exchange":
		return l.exchange(ctx, c, q, p, arguments)
	case "resume":
		return l.resume(ctx, c, q, arguments)
	}
	if !slices.Contains(actions, q.Action) { // whatever its arguments are
		return refusedUnknown
	}
	if len(p.Attachments) > 0 && q.Action != "publish" {
		return refusedBinary
	}
	event := q.event
	if len(arguments) > 0 {
		first := arguments[0]
		if len(p.Attachments) > 0 {
			var err error
			if first, err = p.Inline(first, appendBinaryValue); err != nil {
				return refusedJSON
			}
		}
		if no := q.fields(first); no != nil {
			return no
		}
	}
	action := event.name
	*q = request{Action: action, Room: q.Room, Data: q.Data, Since: q.Since, Before: q.Before, Offset: q.Offset, Limit: q.Limit, Token: q.Token, event: event}
	l.acks = l.acks || action == "ack"
	no := c.do(q)
	if no == nil && (action == "leave" || action == "refresh") {
		c.mu.Lock()
		if b := l.positionEvent(); b != nil {
			c.sendLocked(piece{buf: b, frames: 1})
		}
		c.mu.Unlock()
	}
	return no
}

// fields reads the argument of an event: an object, or the name of a room (of refresh: the token).
func (q *request) fields(argument json.RawMessage) *refusal {
	if argument[0] == '"' {
		field := &q.Room
		if q.Action == "refresh" {
			field = &q.Token
		}
		if json.Unmarshal(argument, field) != nil {
			return refusedJSON
		}
		return nil
	}
	if argument[0] != '{' || json.Unmarshal(argument, q) != nil {
		return refusedJSON
	}
	return nil
}

func appendBinaryValue(dst, binary []byte) []byte {
	dst = base64.StdEncoding.AppendEncode(append(dst, binaryValue...), binary)
	return append(dst, `"}`...)
}

// exchange says a payload in the rooms that the client has joined, as the event that it names.
func (l *socketIO) exchange(ctx context.Context, c *Conn, q *request, p *socketio.Packet, arguments []json.RawMessage) *refusal {
	var what struct {
		Target  string
		Payload json.RawMessage
	}
	if len(arguments) == 0 || arguments[0][0] != '{' || json.Unmarshal(arguments[0], &what) != nil {
		return refusedExchange
	}
	switch {
	case !validAction(what.Target):
		return refusedTarget
	case reservedAction(what.Target):
		return refusedAction
	}
	payload, err := p.Inline(what.Payload, appendBinaryValue)
	if err != nil {
		return refusedJSON
	}
	if payload == nil {
		payload = json.RawMessage("{}")
	}
	m := Message{Action: "exchange", Target: what.Target, Payload: payload}
	rooms := l.speaksIn(c)
	if len(rooms) == 0 {
		return refusedMember
	}
	if len(rooms) > 1 {
		m.ID = newClientID() // who hears it in several rooms knows that it is one
	}
	var first *refusal
	b := append(q.begin(make([]byte, 0, 256), true), `,"rooms":[`...)
	var refused []byte
	said := 0
	for _, room := range rooms {
		at, no := c.publishIn(ctx, room, m)
		if no != nil {
			if first == nil {
				first = no
			} else {
				refused = append(refused, ',')
			}
			refused = appendString(append(refused, `{"room":`...), room)
			refused = append(appendString(append(refused, `,"error":`...), no.Word), '}')
			continue
		}
		if said++; said > 1 {
			b = append(b, ',')
		}
		b = append(appendPosition(appendString(append(b, `{"room":`...), room), at), '}')
	}
	if said == 0 {
		return first
	}
	b = append(b, ']')
	if refused != nil {
		b = append(append(append(b, `,"refused":[`...), refused...), ']')
		if !q.event.asked {
			return first
		}
	}
	c.reply(q, b)
	return nil
}

// speaksIn lists the rooms in which an exchange is said: those that the client asked for, not those that everybody
// is in, and nobody's mail.
func (l *socketIO) speaksIn(c *Conn) (rooms []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.rooms {
		if name := m.room.name; name != "all" && !strings.HasPrefix(name, "user:") && !c.hub.isMail(m.room.rule) {
			rooms = append(rooms, name)
		}
	}
	return rooms
}

// resume joins rooms from where the client stands, for clients that have no recovery of their own. Its argument is a
// place or a list of them: "NAME@EPOCH:OFFSET", or an object with room, epoch and offset.
func (l *socketIO) resume(ctx context.Context, c *Conn, q *request, arguments []json.RawMessage) *refusal {
	if len(arguments) == 0 {
		return refusedResume
	}
	list := arguments[:1]
	if arguments[0][0] == '[' && json.Unmarshal(arguments[0], &list) != nil {
		return refusedResume
	}
	if len(list) == 0 || len(list) > c.hub.limits.RoomsPerSocket {
		return refusedResume
	}
	joined := make([]*joining, 0, len(list))
	for _, text := range list {
		j, no := parsePlace(text)
		if no != nil {
			return no
		}
		joined = append(joined, j)
	}
	for _, j := range joined {
		l.rejoin(ctx, c, j)
	}
	c.finish(joined, func() []byte {
		b := append(q.begin(make([]byte, 0, 256), true), `,`...)
		return q.end(appendJoinedRooms(b, joined))
	})
	return nil
}

// rejoin joins a room afresh from where the client stands.
func (l *socketIO) rejoin(ctx context.Context, c *Conn, j *joining) {
	if _, no := c.admit(j.name, j.since); no != nil {
		j.err = no
		return
	}
	if m := c.member(j.name); m != nil {
		c.forget(m)
	}
	if j.room, j.err = c.hub.pin(j.name); j.err == nil {
		c.begin(ctx, j)
	}
	if j.err != nil && !errors.As(j.err, new(*refusal)) {
		j.err = c.away("resume", j.err)
	}
}

// parsePlace reads one place of a resume.
func parsePlace(text json.RawMessage) (*joining, *refusal) {
	if len(text) > 0 && text[0] == '"' {
		var s string
		if json.Unmarshal(text, &s) != nil {
			return nil, refusedResume
		}
		f := parseFirstRoom(s)
		if f.bad != nil {
			return nil, f.bad
		}
		return &joining{name: f.name, since: f.since}, nil
	}
	var o struct {
		Room   string
		Epoch  string
		Offset *uint64
		Since  *place
	}
	if json.Unmarshal(text, &o) != nil || !validRoom(o.Room) {
		return nil, refusedRoom
	}
	j := &joining{name: o.Room}
	switch {
	case o.Since != nil:
		j.since = &Position{o.Since.Epoch, o.Since.Offset}
	case o.Offset != nil:
		j.since = &Position{o.Epoch, *o.Offset}
	}
	return j, nil
}
