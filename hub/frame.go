package hub

import (
	"encoding/binary"
	"unicode/utf8"
)

// The first bytes of the frames that the hub sends (RFC 6455 section 5.2): whole, unmasked.
const (
	finText   = 0x81
	finBinary = 0x82
	finClose  = 0x88
	finPing   = 0x89
	finPong   = 0x8a
	rsv1      = 0x40 // compressed (RFC 7692)

	maxControl = 125 // bytes of a control frame's payload
)

// appendHeader appends the header of a whole server frame whose payload has n bytes.
func appendHeader(dst []byte, first byte, n int) []byte {
	switch {
	case n <= 125:
		return append(dst, first, byte(n))
	case n <= 0xffff:
		return append(dst, first, 126, byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(n))
	}
}

// textFrame returns body as one text frame.
func textFrame(body []byte) []byte {
	return append(appendHeader(make([]byte, 0, len(body)+10), finText, len(body)), body...)
}

// controlFrame returns a ping or pong; what exceeds a control frame is cut off.
func controlFrame(first byte, payload string) []byte {
	if len(payload) > maxControl {
		payload = payload[:maxControl]
	}
	return append([]byte{first, byte(len(payload))}, payload...)
}

// closeFrame returns the close frame for d; a code that must not be sent becomes an empty payload.
func closeFrame(d Disconnect) []byte {
	if d.Code < 1000 || d.Code == 1005 || d.Code == 1006 || d.Code == 1015 {
		return []byte{finClose, 0}
	}
	reason := d.Reason()
	for len(reason) > maxControl-2 || !utf8.ValidString(reason) {
		if len(reason) > maxControl-2 {
			reason = reason[:maxControl-2]
			continue
		}
		reason = reason[:len(reason)-1]
	}
	return append([]byte{finClose, byte(2 + len(reason)), byte(d.Code >> 8), byte(d.Code)}, reason...)
}

// frameEnd returns where the frame ends that the byte at position at belongs to, in a buffer of whole
// server frames laid end to end. A position between two frames is its own end.
func frameEnd(buf []byte, at int) int {
	end := 0
	for end < at {
		n, head := int(buf[end+1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(buf[end+2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(buf[end+2:])), 10
		}
		end += head + n
	}
	return end
}
