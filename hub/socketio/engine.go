package socketio

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// A FrameKind is what a message of Engine.IO is.
type FrameKind uint8

const (
	FrameClose   FrameKind = '1' // the other end goes
	FramePing    FrameKind = '2' // is to be answered by a FramePong with the same data; only clients of V3 send it
	FramePong    FrameKind = '3' // answers our ping; only clients of V4 send it
	FrameMessage FrameKind = '4' // carries a piece of a packet
	FrameNoop    FrameKind = '6'
)

// A Frame is one message of Engine.IO.
type Frame struct {
	Kind   FrameKind
	Binary bool
	Data   []byte
}

// ErrMalformed is what every error wraps that is about what the other end said: its connection is to be closed.
var ErrMalformed = errors.New("malformed")

func malformed(format string, a ...any) error {
	return fmt.Errorf("socketio: %w: "+format, append([]any{ErrMalformed}, a...)...)
}

// ReadFrame reads one WebSocket message of a client, whose text is valid UTF-8. Data aliases message, except for
// binary values that came as base64.
func (v Version) ReadFrame(text bool, message []byte) (Frame, error) {
	if len(message) == 0 {
		if !text && v == V4 { // a binary value of no bytes
			return Frame{Kind: FrameMessage, Binary: true}, nil
		}
		return Frame{}, malformed("empty message")
	}
	kind, data := FrameKind(message[0]), message[1:]
	switch {
	case !text && v == V4:
		return Frame{Kind: FrameMessage, Binary: true, Data: message}, nil
	case !text:
		if message[0] != byte(FrameMessage-'0') {
			return Frame{}, malformed("binary message of type %d", message[0])
		}
		return Frame{Kind: FrameMessage, Binary: true, Data: data}, nil
	case kind == 'b':
		return v.readBase64(data)
	}
	switch kind {
	case FrameMessage:
	case FrameClose, FrameNoop:
		if len(data) > 0 {
			return Frame{}, malformed("data in a message of type %c", kind)
		}
	case FramePing:
		if v != V3 || len(data) > 128 {
			return Frame{}, malformed("ping in the wrong direction or too long")
		}
	case FramePong:
		if v != V4 || len(data) > 0 {
			return Frame{}, malformed("pong in the wrong direction or with data")
		}
	default:
		return Frame{}, malformed("message of type %q", kind)
	}
	return Frame{Kind: kind, Data: data}, nil
}

// readBase64 reads a binary value that came as text.
func (v Version) readBase64(data []byte) (Frame, error) {
	if v == V3 {
		if len(data) == 0 || FrameKind(data[0]) != FrameMessage {
			return Frame{}, malformed("base64 that is no message")
		}
		data = data[1:]
	}
	raw, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(data))), data)
	if err != nil {
		return Frame{}, malformed("base64")
	}
	return Frame{Kind: FrameMessage, Binary: true, Data: raw}, nil
}

// AppendFrame appends f as one message: text, unless it is binary and asText is false.
func (v Version) AppendFrame(dst []byte, f Frame, asText bool) (message []byte, text bool) {
	switch {
	case !f.Binary:
		return append(append(dst, byte(f.Kind)), f.Data...), true
	case asText:
		dst = append(dst, 'b')
		if v == V3 {
			dst = append(dst, byte(FrameMessage))
		}
		return base64.StdEncoding.AppendEncode(dst, f.Data), true
	case v == V3:
		dst = append(dst, byte(FrameMessage-'0'))
	}
	return append(dst, f.Data...), false
}
