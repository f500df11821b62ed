package hub

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"wxhub/hub/socketio"
)

// Clients of 4.6 and later remember the last text argument of what they hear, if they were given a pid, and bring both
// when they return. So a push has, as its last argument, where the socket stands in all its rooms: NAME@EPOCH:OFFSET,
// first of the room of the push, which is a part of the shared encoding, then of the others, which is written beside it.

const (
	tailRooms = 16 + ownRooms // rooms of a socket that a position covers
	tailNone  = "-"           // a position from which nobody can be recovered

	positionAction = "hub:position"
)

// A mark is up to where a room was handed to a socket.
type mark struct {
	m  *member
	at Position
}

// newPID makes a name for what a user hears, which another cannot take up.
func newPID(user string) string {
	var b [9]byte
	_, _ = rand.Read(b[:])
	return pidOf(base64.RawURLEncoding.EncodeToString(b[:]), user)
}

func pidOf(name, user string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + user))
	return name + "." + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// comesBack reads where a client stands that was here before, as rooms of a query. nil: it was not, or as somebody else.
func (l *socketIO) comesBack(auth json.RawMessage, s *Session) []string {
	var back struct{ PID, Offset string }
	if json.Unmarshal(auth, &back) != nil || back.Offset == "" {
		return nil
	}
	if name, _, ok := strings.Cut(back.PID, "."); !ok || pidOf(name, s.User) != back.PID {
		return nil
	}
	places := strings.SplitN(back.Offset, ";", tailRooms+1)
	if len(places) > tailRooms {
		return nil
	}
	names := make([]string, len(places))
	for i, place := range places {
		f := parseFirstRoom(place)
		if f.bad != nil || f.since == nil {
			return nil
		}
		names[i] = f.name
	}
	l.lasting, l.back = back.PID, names
	return places
}

// recovered tells whether everything follows that a client has missed which comes back.
func (l *socketIO) recovered(joined []*joining) bool {
	for _, name := range l.back {
		i := slices.IndexFunc(joined, func(j *joining) bool { return j.name == name })
		if i < 0 || joined[i].m == nil || !joined[i].recovered() {
			return false
		}
	}
	return l.back != nil
}

// welcome answers the connect and greets.
func (l *socketIO) welcome(c *Conn, joined []*joining) []byte {
	if l.version == socketio.V4 && !l.recovered(joined) {
		l.lasting = ""
		if l.rooms() <= tailRooms {
			l.lasting = newPID(c.user)
		}
	}
	l.back = nil
	p := l.version.Connected("/", c.id, l.lasting)
	frames := textFrame(socketio.AppendPacket([]byte{byte(socketio.FrameMessage)}, &p))
	b := c.appendWelcome([]byte(`42["welcome",`), joined)
	return append(frames, textFrame(l.appendTail(b))...)
}

// enter notes where the socket stands in rooms that it joins, before it is handed what it missed there. greeted: it has
// been welcomed before. The caller holds c.mu.
func (l *socketIO) enter(joined []*joining) (greeted bool) {
	greeted = l.marks != nil
	if !greeted {
		l.marks = make([]mark, 0, len(joined))
	}
	l.marks = slices.DeleteFunc(l.marks, func(k mark) bool { return k.m.gone })
	for _, j := range joined {
		if j.m == nil {
			continue
		}
		at := j.at
		if j.replay.n > 0 {
			at.Offset = j.replay.first - 1
		}
		l.marks = append(l.marks, mark{j.m, at})
	}
	return greeted
}

// rooms counts where the socket stands.
func (l *socketIO) rooms() (n int) {
	for i := range l.marks {
		if !l.marks[i].m.gone {
			n++
		}
	}
	return n
}

// appendMarks appends where the socket stands in all its rooms but one, each behind a semicolon.
func (l *socketIO) appendMarks(dst []byte, but *member) []byte {
	for i := range l.marks {
		if k := &l.marks[i]; k.m != but && !k.m.gone {
			dst = appendPlace(append(dst, ';'), k.m.room.name, k.at.Epoch, k.at.Offset)
		}
	}
	return dst
}

// appendPlace appends NAME@EPOCH:OFFSET, as parseFirstRoom reads it.
func appendPlace(dst []byte, room, epoch string, offset uint64) []byte {
	dst = append(append(append(append(dst, room...), '@'), epoch...), ':')
	return appendUint(dst, offset)
}

// appendTail ends an event that is for this socket alone. The caller holds c.mu.
func (l *socketIO) appendTail(dst []byte) []byte {
	switch {
	case l.lasting == "":
		return append(dst, ']')
	case l.rooms() > tailRooms:
		return append(dst, `,"`+tailNone+`"]`...)
	}
	dst = append(dst, `,"`...)
	at := len(dst)
	dst = l.appendMarks(dst, nil)
	if len(dst) > at { // without the first semicolon
		dst = append(dst[:at], dst[at+1:]...)
	}
	return append(dst, `"]`...)
}

// positionEvent tells a client where it stands when its rooms have changed; nil: it does not want to know. Nobody
// listens to it, but the client remembers its last argument.
func (l *socketIO) positionEvent() []byte {
	if l.lasting == "" {
		return nil
	}
	return textFrame(l.appendTail([]byte(`42["` + positionAction + `"`)))
}

// hand hands shared frames of a room to a client, with its own position beside each, and notes that the room was handed
// to it up to at. Where at.Offset is 0 it stands where it stood. Conn.mu is held.
func (l *socketIO) hand(c *Conn, m *member, p piece, at Position) {
	i := slices.IndexFunc(l.marks, func(k mark) bool { return k.m == m })
	if l.version == socketio.V4 {
		s := scratch.Get().(*[]byte)
		defer scratch.Put(s)
		if l.lasting == "" || len(l.marks) > tailRooms && l.rooms() > tailRooms {
			*s = appendBare((*s)[:0], p.buf)
		} else {
			rest := l.appendMarks(make([]byte, 0, 128), m)
			*s = appendBeside((*s)[:0], p.buf, rest)
		}
		p.buf, p.lent = *s, true
	}
	c.sendLocked(p)
	if at.Offset == 0 || i < 0 {
		return
	}
	if k := &l.marks[i]; k.at.Epoch != at.Epoch || k.at.Offset < at.Offset {
		k.at = at
	}
	if c.hub.isMail(m.room.rule) && c.session.Load().owns(m.room.rule, m.room.name) {
		l.mail = max(l.mail, at.Offset)
	}
}

// appendBeside appends whole frames, with rest beside the position that ends some of them.
func appendBeside(dst, frames, rest []byte) []byte {
	for len(frames) > 0 {
		head, n := frameHead(frames), frameEnd(frames, 1)
		if body := frames[head:n]; positioned(frames[0], body) {
			dst = appendHeader(dst, finText, len(body)+len(rest))
			dst = append(append(append(dst, body[:len(body)-2]...), rest...), `"]`...)
		} else {
			dst = append(dst, frames[:n]...)
		}
		frames = frames[n:]
	}
	return dst
}

// appendBare appends whole frames without positions.
func appendBare(dst, frames []byte) []byte {
	for len(frames) > 0 {
		head, n := frameHead(frames), frameEnd(frames, 1)
		if body := frames[head:n]; positioned(frames[0], body) {
			body = body[:bytes.LastIndexByte(body, ',')]
			dst = appendHeader(dst, finText, len(body)+1)
			dst = append(append(dst, body...), ']')
		} else {
			dst = append(dst, frames[:n]...)
		}
		frames = frames[n:]
	}
	return dst
}

// positioned tells whether a frame of the shared encoding ends with a position: a push ends with a brace.
func positioned(first byte, body []byte) bool {
	return first == finText && bytes.HasSuffix(body, []byte(`"]`))
}
