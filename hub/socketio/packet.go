package socketio

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// A PacketKind is what a packet of Socket.IO is. Binary events and acknowledgements are those with attachments.
type PacketKind uint8

const (
	PacketConnect      PacketKind = 0
	PacketDisconnect   PacketKind = 1
	PacketEvent        PacketKind = 2
	PacketAck          PacketKind = 3
	PacketConnectError PacketKind = 4

	packetBinaryEvent PacketKind = 5
	packetBinaryAck   PacketKind = 6
)

const (
	maxAttachments = 10      // of one packet, as clients themselves allow
	maxNamespace   = 256     // bytes of a namespace's name
	maxID          = 1 << 53 // what a client's numbers can count to
)

// A Packet is one packet of Socket.IO.
type Packet struct {
	Kind        PacketKind
	Namespace   string          // "/" or "/name"
	Query       string          // of a Connect of V3: name=value&…
	ID          uint64          // of an Event that wants an acknowledgement, and of the Ack
	HasID       bool            //
	Data        json.RawMessage // valid JSON; nil: none. Of an Event [name, arguments…], of an Ack [arguments…]
	Attachments [][]byte        // what placeholders in Data stand for
}

// The names of events that mean something to the clients themselves: they can neither be sent nor received.
var reserved = map[string]bool{
	"connect": true, "connect_error": true, "disconnect": true, "disconnecting": true, "newListener": true, "removeListener": true,
}

// Reserved tells whether an event cannot have this name.
func Reserved(event string) bool { return reserved[event] }

// ParsePacket reads the text of a packet, and how many attachments follow it. Data aliases text.
func ParsePacket(text []byte) (p Packet, attachments int, err error) {
	if len(text) == 0 || text[0] < '0' || text[0] > '0'+byte(packetBinaryAck) {
		return p, 0, malformed("packet of unknown type")
	}
	p.Kind, p.Namespace = PacketKind(text[0]-'0'), "/"
	rest := text[1:]
	if p.Kind == packetBinaryEvent || p.Kind == packetBinaryAck {
		number, after, ok := bytes.Cut(rest, []byte("-"))
		n, good := parseNumber(number, maxAttachments)
		if !ok || !good {
			return p, 0, malformed("number of attachments")
		}
		attachments, rest = int(n), after
		p.Kind -= packetBinaryEvent - PacketEvent
	}
	if len(rest) > 0 && rest[0] == '/' {
		name, after, _ := bytes.Cut(rest, []byte(","))
		rest = after
		name, query, _ := bytes.Cut(name, []byte("?"))
		if len(name) > maxNamespace {
			return p, 0, malformed("namespace too long")
		}
		p.Namespace, p.Query = string(name), string(query)
	}
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		if p.ID, p.HasID = parseNumber(rest[:digits], maxID); !p.HasID {
			return p, 0, malformed("acknowledgement number")
		}
		rest = rest[digits:]
	}
	if len(rest) > 0 {
		p.Data = rest
	}
	return p, attachments, p.check()
}

// parseNumber reads a decimal number up to most.
func parseNumber(text []byte, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, err == nil && n <= most && (len(text) == 1 || text[0] != '0')
}

// check wants what its kind demands of a packet that a client sent.
func (p *Packet) check() error {
	if p.Data != nil && !json.Valid(p.Data) {
		return malformed("packet without valid JSON")
	}
	switch p.Kind {
	case PacketConnect:
		if p.HasID || p.Data != nil && !begins(p.Data, '{') {
			return malformed("connect")
		}
	case PacketDisconnect:
		if p.HasID || p.Data != nil {
			return malformed("disconnect")
		}
	case PacketEvent:
		if !begins(p.Data, '[') {
			return malformed("event without arguments")
		}
		if name, _, err := p.Event(); err != nil || Reserved(name) {
			return malformed("event without a name, or of a reserved one")
		}
	case PacketAck:
		if !p.HasID || !begins(p.Data, '[') {
			return malformed("acknowledgement")
		}
	default:
		return malformed("packet that only servers send")
	}
	return nil
}

// begins tells whether valid JSON is an object or a list.
func begins(data []byte, bracket byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == bracket
}

// Event splits the Data of an Event: its name (a number is taken as its digits) and its arguments.
func (p *Packet) Event() (name string, arguments []json.RawMessage, err error) {
	if err := json.Unmarshal(p.Data, &arguments); err != nil || len(arguments) == 0 {
		return "", nil, malformed("event")
	}
	first := arguments[0]
	switch {
	case first[0] == '"':
		err = json.Unmarshal(first, &name)
	case first[0] == '-' || '0' <= first[0] && first[0] <= '9':
		name = string(first)
	default:
		err = malformed("event's name")
	}
	return name, arguments[1:], err
}

// AppendPacket appends the text of p, as the Data of a FrameMessage. Its attachments are sent after it, each as the
// Data of a binary one.
func AppendPacket(dst []byte, p *Packet) []byte {
	kind := p.Kind
	if len(p.Attachments) > 0 {
		kind += packetBinaryEvent - PacketEvent
	}
	dst = append(dst, '0'+byte(kind))
	if len(p.Attachments) > 0 {
		dst = append(strconv.AppendInt(dst, int64(len(p.Attachments)), 10), '-')
	}
	if p.Namespace != "/" && p.Namespace != "" {
		dst = append(append(dst, p.Namespace...), ',')
	}
	if p.HasID {
		dst = strconv.AppendUint(dst, p.ID, 10)
	}
	return append(dst, p.Data...)
}

// Connected is the answer to a Connect. A client of V4 learns the id of its socket; with a pid, which is handed back
// when it returns, it remembers the last text argument of what it heard.
func (v Version) Connected(namespace, sid, pid string) Packet {
	p := Packet{Kind: PacketConnect, Namespace: namespace}
	if v == V3 {
		return p
	}
	p.Data = appendText([]byte(`{"sid":`), sid)
	if pid != "" {
		p.Data = appendText(append(p.Data, `,"pid":`...), pid)
	}
	p.Data = append(p.Data, '}')
	return p
}

// Refused is the refusal of a Connect. A client of V4 hears message and data (valid JSON, or nil) as the properties of
// an error, one of V3 the message alone.
func (v Version) Refused(namespace, message string, data json.RawMessage) Packet {
	p := Packet{Kind: PacketConnectError, Namespace: namespace}
	if v == V3 {
		p.Data = appendText(nil, message)
		return p
	}
	p.Data = appendText([]byte(`{"message":`), message)
	if data != nil {
		p.Data = append(append(p.Data, `,"data":`...), data...)
	}
	p.Data = append(p.Data, '}')
	return p
}

// An Assembler puts packets together whose attachments come as messages of their own. The zero value is ready; one
// belongs to one connection.
type Assembler struct {
	part *Packet // waits for attachments
	left int     // how many
	size int64   // bytes of it so far
}

// Add takes the Data of a FrameMessage. It returns a packet when that is complete, nil when more is to come. Nothing
// of a packet that waits, and of one that has attachments, aliases data. most bounds the bytes of a packet with all its
// attachments.
func (a *Assembler) Add(binary bool, data []byte, most int64) (*Packet, error) {
	if !binary {
		if a.part != nil {
			return nil, malformed("text where an attachment was to come")
		}
		if int64(len(data)) > most {
			return nil, malformed("packet too big")
		}
		p, n, err := ParsePacket(data)
		if err != nil || n == 0 {
			return &p, err
		}
		p.Data = bytes.Clone(p.Data)
		a.part, a.left, a.size = &p, n, int64(len(data))
		return nil, nil
	}
	if a.part == nil {
		return nil, malformed("attachment of no packet")
	}
	if a.size += int64(len(data)); a.size > most {
		return nil, malformed("packet too big")
	}
	a.part.Attachments = append(a.part.Attachments, bytes.Clone(data))
	if a.left--; a.left > 0 {
		return nil, nil
	}
	p := a.part
	a.part = nil
	return p, p.checkPlaceholders()
}
