package hub

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"wxhub/hub/socketio"
)

// Clients of 4.6 and later remember the last text argument of what they hear, if they were given a pid, and bring both
// when they return. The pid says where the socket stood when it came in, and in every push the last argument says where
// it stands in the rooms that it has heard of since: NAME@EPOCH:OFFSET, first of the room of the push, which is a part
// of the shared encoding, then of the others, which is written beside it. So whoever hears of one room only hears the
// shared encoding as it is.

const (
	tailRooms = 16 + ownRooms // rooms of a socket that a position covers
	tailNone  = "-"           // a position from which nobody can be recovered

	positionAction = "hub:position"
)

// A mark is up to where a room was handed to a socket.
type mark struct {
	m     *member
	at    Position
	moved bool // the pid says something else
}

// pidOf names what a user heard from places on, so that another user cannot take it up.
func pidOf(name, user, places string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + user + "\x00" + places))
	return name + "." + base64.RawURLEncoding.EncodeToString(sum[:9]) + "." + places
}

// newPID makes a pid of where the socket stands.
func (l *socketIO) newPID(user string) string {
	var name [9]byte
	_, _ = rand.Read(name[:])
	for i := range l.marks {
		l.marks[i].moved = true
	}
	l.left = ""
	places := l.appendMarks(nil, nil)
	for i := range l.marks {
		l.marks[i].moved = false
	}
	return pidOf(base64.RawURLEncoding.EncodeToString(name[:]), user, strings.TrimPrefix(string(places), ";"))
}

// parsePlaces reads places, of which one without a position is a room that was left. It fails where one makes no sense.
func parsePlaces(text string) (places []firstRoom, ok bool) {
	for place := range strings.SplitSeq(text, ";") {
		name, isLeft := strings.CutSuffix(place, "@")
		if text == "" {
			break
		}
		f := parseFirstRoom(name)
		if f.bad != nil || (f.since == nil) != isLeft || len(places) >= 2*tailRooms {
			return nil, false
		}
		places = append(places, f)
	}
	return places, true
}

// placesOf reads the places in a pid.
func placesOf(pid string) (places []firstRoom, ok bool) {
	parts := strings.SplitN(pid, ".", 3)
	if len(parts) != 3 {
		return nil, false
	}
	return parsePlaces(parts[2])
}

// comesBack reads where a client stands that was here before, as rooms of a query, before those of its own query but
// the ones that it has left. Those alone: it was not here, or as somebody else.
func (l *socketIO) comesBack(auth json.RawMessage, s *Session, query []string) (rooms []string) {
	var back struct{ PID, Offset string }
	if json.Unmarshal(auth, &back) != nil || back.PID == "" {
		return query
	}
	began, ok := placesOf(back.PID)
	if parts := strings.SplitN(back.PID, ".", 3); !ok || pidOf(parts[0], s.User, parts[2]) != back.PID {
		return query
	}
	since, ok := parsePlaces(back.Offset)
	if !ok {
		return query
	}
	for _, f := range since {
		i := slices.IndexFunc(began, func(b firstRoom) bool { return b.name == f.name })
		if i < 0 {
			i, began = len(began), append(began, f)
		}
		began[i] = f
	}
	for _, f := range began {
		if f.since != nil {
			l.back = append(l.back, f.name)
			rooms = append(rooms, string(appendPlace(nil, f.name, f.since.Epoch, f.since.Offset)))
		}
	}
	if len(rooms) > tailRooms {
		l.back = nil
		return query
	}
	l.lasting = back.PID
	for _, room := range query {
		name, _, _ := strings.Cut(room, "@")
		if !slices.ContainsFunc(began, func(f firstRoom) bool { return f.name == name && f.since == nil }) {
			rooms = append(rooms, room)
		}
	}
	return rooms
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
		if len(l.marks) <= tailRooms {
			l.lasting = l.newPID(c.user)
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
	for _, j := range joined {
		if j.m == nil {
			continue
		}
		at := j.at
		if j.replay.n > 0 {
			at.Offset = j.replay.first - 1
		}
		l.marks = append(l.marks, mark{m: j.m, at: at, moved: true})
	}
	l.compare()
	return greeted
}

// compare forgets rooms that were left and finds out what differs from what the pid says.
func (l *socketIO) compare() {
	l.marks = slices.DeleteFunc(l.marks, func(k mark) bool { return k.m.gone })
	l.left = ""
	if l.lasting == "" {
		return
	}
	began, _ := placesOf(l.lasting)
	for _, f := range began {
		i := slices.IndexFunc(l.marks, func(k mark) bool { return k.m.room.name == f.name })
		if i < 0 {
			l.left += ";" + f.name + "@"
			continue
		}
		l.marks[i].moved = l.marks[i].at != *f.since
	}
}

// appendMarks appends where the socket stands in all the rooms but one in which it has moved, each behind a semicolon.
func (l *socketIO) appendMarks(dst []byte, but *member) []byte {
	for i := range l.marks {
		if k := &l.marks[i]; k.moved && k.m != but && !k.m.gone {
			dst = appendPlace(append(dst, ';'), k.m.room.name, k.at.Epoch, k.at.Offset)
		}
	}
	return append(dst, l.left...)
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
	case len(l.marks) > tailRooms:
		return append(dst, `,"`+tailNone+`"]`...)
	}
	places := l.appendMarks(nil, nil)
	dst = append(append(dst, `,"`...), bytes.TrimPrefix(places, []byte(";"))...)
	return append(dst, `"]`...)
}

// positionEvent tells a client where it stands when its rooms have changed; nil: it does not want to know. Nobody
// listens to it, but the client remembers its last argument. The caller holds c.mu.
func (l *socketIO) positionEvent() []byte {
	l.compare()
	if l.lasting == "" {
		return nil
	}
	return textFrame(l.appendTail([]byte(`42["` + positionAction + `"`)))
}

// hand hands shared frames of a room to a client, with its position in other rooms beside each, and notes that the room
// was handed to it up to at. Where at.Offset is 0 it stands where it stood. The caller holds c.mu.
func (l *socketIO) hand(c *Conn, m *member, p piece, at Position, w *wardrobe) {
	var own *mark
	alone := l.left == ""
	for i := range l.marks {
		k := &l.marks[i]
		if k.m == m {
			own = k
		} else if k.moved && !k.m.gone {
			alone = false
		}
	}
	bare := l.lasting == "" || len(l.marks) > tailRooms
	if l.version == socketio.V4 && (bare || !alone) {
		var text [256]byte
		rest := text[:0]
		if !bare {
			rest = l.appendMarks(rest, m)
		}
		if worn := w.of(p.buf, rest, bare); worn != nil {
			p.buf = worn
		} else {
			s := scratch.Get().(*[]byte)
			defer scratch.Put(s)
			*s = dress((*s)[:0], p.buf, rest, bare)
			p.buf, p.lent = *s, true
		}
	}
	c.sendLocked(p)
	if at.Offset == 0 {
		return
	}
	if own != nil && (own.at.Epoch != at.Epoch || own.at.Offset < at.Offset) {
		own.at, own.moved = at, true
	}
	if r := m.room.rule; r.Mail && c.hub.isMail(r) && c.session.Load().owns(r, m.room.name) {
		l.mail = max(l.mail, at.Offset)
	}
}

// A wardrobe keeps what a batch looks like with the positions of other rooms beside it: most of those who hear it stand
// at the same place there.
type wardrobe struct {
	mu    sync.Mutex
	suits []suit
}

type suit struct {
	of   *byte // the first of the frames
	rest string
	bare bool
	buf  []byte
}

const mostSuits = 4 // of one batch; who fits none is dressed alone

// of returns shared frames with rest beside their positions, or bare of them; nil: nobody else wears that. The wardrobe of
// no batch is nil.
func (w *wardrobe) of(frames, rest []byte, bare bool) []byte {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.suits {
		if s := &w.suits[i]; s.of == &frames[0] && s.bare == bare && s.rest == string(rest) {
			return s.buf
		}
	}
	if len(w.suits) == mostSuits {
		return nil
	}
	buf := dress(make([]byte, 0, len(frames)+len(frames)/4+len(rest)), frames, rest, bare)
	w.suits = append(w.suits, suit{&frames[0], string(rest), bare, buf})
	return buf
}

// dress appends shared frames with rest beside their positions, or bare of them.
func dress(dst, frames, rest []byte, bare bool) []byte {
	if bare {
		return appendBare(dst, frames)
	}
	return appendBeside(dst, frames, rest)
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
