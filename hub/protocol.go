package hub

// A protocol is the language of a client: what its frames mean and what it hears. Rooms, streams, queues and the
// fan-out know nothing of it but this and its encoding. What one socket needs beyond (a session, a half of a
// message) lives in the value, which then belongs to that socket alone.
type protocol interface {
	// handle does what one message of the client asks for. asked tells that a heartbeat waited for an answer.
	// Only the reader calls it; data is the reader's again when it returns.
	handle(c *Conn, text bool, data []byte, asked bool)
	// beat is the wheel's visit at the time now (Unix ns): it returns the frames to send, nil for none, and when
	// to come again. A line that counts as dead it closes itself; next is 0 then. It must not block.
	beat(c *Conn, now int64) (out []byte, next int64)
	// welcome is the first thing said to a socket that has joined its first rooms, as whole frames.
	welcome(c *Conn, joined []*joining) []byte
	// goodbye is the last thing: whole frames, the last of them the close frame. Conn.mu is held.
	goodbye(d Disconnect) []byte
	// encoding is how the client hears pushes.
	encoding() encoding
}

// An encoding is how a push looks on the wire. A batch is encoded once for each encoding that the room's members
// need. It is fixed before a socket joins its first room.
type encoding uint8

const (
	encodeNative    encoding = iota
	encodeSocketIO3          // as clients of Socket.IO 2 hear it
	encodeSocketIO4          // … of 3 and 4: with a Position, beside which the socket's others are written

	formats // how many there are

	encodings = 2 * formats // each of them also compressed
)

// plain is the encoding without compression.
func (e encoding) plain() encoding { return e % formats }

// appendPush appends m as whole frames: more than one where it has binary values.
func (e encoding) appendPush(dst []byte, room, epoch string, m *Message) []byte {
	if e >= formats {
		s := scratch.Get().(*[]byte)
		defer scratch.Put(s)
		*s = e.plain().appendPush((*s)[:0], room, epoch, m)
		for frames := *s; len(frames) > 0; {
			n := frameEnd(frames, 1)
			dst = deflateFrame(dst, frames[:n])
			frames = frames[n:]
		}
		return dst
	}
	if e != encodeNative {
		return e.appendEvent(dst, room, epoch, m)
	}
	return appendPushFrame(dst, room, epoch, m)
}

// native is the protocol of the outside contract: JSON objects in text frames. It needs nothing of its own.
type native struct{}

func (native) handle(c *Conn, text bool, data []byte, asked bool) { c.handle(text, data, asked) }
func (native) goodbye(d Disconnect) []byte                        { return closeFrame(d) }
func (native) encoding() encoding                                 { return encodeNative }

func (native) welcome(c *Conn, joined []*joining) []byte {
	s := scratch.Get().(*[]byte)
	defer scratch.Put(s)
	*s = c.appendWelcome((*s)[:0], joined)
	return textFrame(*s)
}

// beat says {"ping":MS} when nothing was sent for a heartbeat. A page that ignores that has a network stack that
// answers protocol pings; who answers neither is dead.
func (native) beat(c *Conn, now int64) (out []byte, next int64) {
	beat := int64(c.hub.heartbeat)
	silence := beat * 12 / 5
	heard, sent := c.heard.Load(), c.sent.Load()
	if now-heard >= silence {
		c.close(DisconnectSilent)
		return nil, 0
	}
	if now-sent >= beat {
		out = heartbeatFrame(now)
		c.asked.Store(true)
		sent = now
	}
	nudge := heard + beat*3/2
	if now >= nudge && c.pinged <= heard {
		out = append(out, finPing, 0)
		c.pinged = now
	}
	next = min(sent+beat, heard+silence)
	if c.pinged <= heard {
		next = min(next, nudge)
	}
	return out, next
}
