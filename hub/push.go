package hub

import (
	"encoding/json"
	"sync"
	"unicode/utf8"
)

// appendPush appends the JSON of one push. The payload is spliced in byte for byte; nothing in a push
// depends on who receives it.
func appendPush(dst []byte, room, epoch string, m *Message) []byte {
	dst = append(dst, `{"meta":{"room":`...)
	dst = appendString(dst, room)
	if m.Offset > 0 {
		dst = append(dst, `,"epoch":`...)
		dst = appendString(dst, epoch)
		dst = append(dst, `,"offset":`...)
		dst = appendUint(dst, m.Offset)
	}
	if m.ID != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, m.ID)
	}
	dst = append(dst, `,"timestamp":`...)
	dst = appendInt(dst, m.At.UnixMilli())
	if m.Client != "" {
		dst = append(dst, `,"client":`...)
		dst = appendString(dst, m.Client)
	}
	if m.Target != "" {
		dst = append(dst, `,"target":`...)
		dst = appendString(dst, m.Target)
	}
	dst = append(dst, `},"data":{"action":`...)
	dst = appendString(dst, m.Action)
	dst = append(dst, `,"payload":`...)
	if len(m.Payload) == 0 {
		dst = append(dst, `null`...)
	} else {
		dst = append(dst, m.Payload...)
	}
	return append(dst, `}}`...)
}

var scratch = sync.Pool{New: func() any { return new([]byte) }}

// pushMost is about how many bytes a push takes at most.
func pushMost(room string, m *Message) int { return len(m.Payload) + len(m.Action) + len(room) + 192 }

// appendPushFrame appends the push as one text frame.
func appendPushFrame(dst []byte, room, epoch string, m *Message) []byte {
	s := scratch.Get().(*[]byte)
	body := appendPush((*s)[:0], room, epoch, m)
	dst = append(appendHeader(dst, finText, len(body)), body...)
	*s = body
	if cap(body) <= 64<<10 {
		scratch.Put(s)
	}
	return dst
}

// heartbeatFrame is {"ping":MS}: what a page that cannot see protocol pings learns that the line lives by.
func heartbeatFrame(now int64) []byte {
	body := append(appendInt([]byte(`{"ping":`), now/1e6), '}')
	return textFrame(body)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string; bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		b := s[i]
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < 0x20:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
		case b < utf8.RuneSelf:
			dst = append(dst, b)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// EncodePush is m as clients of the native protocol see it: one JSON object, the payload byte for byte.
func EncodePush(room, epoch string, m Message) json.RawMessage {
	return appendPush(nil, room, epoch, &m)
}
