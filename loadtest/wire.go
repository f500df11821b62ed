package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3 names it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

const (
	longestMessage = 8 << 20  // of a server, fragments together
	longestAnswer  = 16 << 10 // head of the answer to a handshake
	longestRefusal = 1 << 10  // of its body, for people
)

// handshakeKey is the same in every handshake: the hub must not care, and the answer to it is computed once.
const handshakeKey = "bG9hZHRlc3QgcGhvbmVzIQ=="

var handshakeAccept = acceptFor(handshakeKey)

func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// handshake is the request that asks for a WebSocket.
func handshake(host, path string, header ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", path, host)
	fmt.Fprintf(&b, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", handshakeKey)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// clientFrame is one whole masked frame of a client.
func clientFrame(op byte, payload []byte) []byte {
	n := len(payload)
	b := make([]byte, 0, n+14)
	switch {
	case n <= 125:
		b = append(b, 0x80|op, 0x80|byte(n))
	case n <= 0xffff:
		b = append(b, 0x80|op, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|op, 0x80|127), uint64(n))
	}
	mask := binary.LittleEndian.AppendUint32(nil, rand.Uint32()) //nolint:gosec // masks protect proxies, not secrets
	b = append(b, mask...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// closePayload is what a close frame carries.
func closePayload(code int, reason string) []byte {
	return append([]byte{byte(code >> 8), byte(code)}, reason...)
}

// An ending tells why a line ended: the status of a refused handshake, the close code of the hub, or an error of
// the network. A line that was cut or hung up here has none of them.
type ending struct {
	status int           // of the answer to the handshake; 0: it was accepted or never answered
	code   int           // of the hub's close frame; 1005 without one in it; 0: no close frame
	reason string        // of the close frame, or the body of the refusal
	retry  time.Duration // what a refusal asks for
	err    error
}

// A parser reads what a server sends: the answer to the handshake, then frames. Bytes come in pieces of any size.
type parser struct {
	open     bool
	op       byte   // of the message whose fragments come; 0: none
	rest     []byte // bytes of an unfinished head or frame
	fragment []byte // of the unfinished message
}

var errAnswer = errors.New("the answer to the handshake is not HTTP")

// feed takes the next bytes and calls on for each whole message or control frame; text is valid during the call only. It ends the
// line by returning an ending.
func (p *parser) feed(b []byte, opened func(), on func(op byte, payload []byte)) *ending {
	if len(p.rest) > 0 {
		b = append(p.rest, b...)
	}
	if !p.open {
		n, end := p.answer(b)
		if end != nil {
			return end
		}
		if n == 0 {
			p.rest = bytes.Clone(b)
			return nil
		}
		b, p.open = b[n:], true
		opened()
	}
	for {
		n, end := p.frame(b, on)
		if end != nil {
			return end
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	p.rest = nil
	if len(b) > 0 {
		p.rest = bytes.Clone(b)
	}
	return nil
}

// answer reads the head of the answer; n is its length, 0 while it is not whole.
func (p *parser) answer(b []byte) (n int, end *ending) {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		if len(b) > longestAnswer {
			return 0, &ending{err: errAnswer}
		}
		return 0, nil
	}
	line, headers, _ := strings.Cut(string(b[:i]), "\r\n")
	proto, text, _ := strings.Cut(line, " ")
	text, _, _ = strings.Cut(text, " ")
	status, err := strconv.Atoi(text)
	if err != nil || !strings.HasPrefix(proto, "HTTP/1.") {
		return 0, &ending{err: errAnswer}
	}
	if status != 101 {
		body := b[i+4:]
		seconds, _ := strconv.Atoi(headerValue(headers, "Retry-After")) // absent or a date: 0
		return 0, &ending{
			status: status, reason: string(bytes.TrimSpace(body[:min(len(body), longestRefusal)])),
			retry: time.Duration(min(max(seconds, 0), 60)) * time.Second,
		}
	}
	if headerValue(headers, "Sec-WebSocket-Accept") != handshakeAccept {
		return 0, &ending{err: errors.New("the answer to the handshake lacks its Sec-WebSocket-Accept")}
	}
	return i + 4, nil
}

func headerValue(headers, name string) string {
	for header := range strings.SplitSeq(headers, "\r\n") {
		if n, value, _ := strings.Cut(header, ":"); strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// frame reads one frame; n is its length, 0 while it is not whole.
func (p *parser) frame(b []byte, on func(op byte, payload []byte)) (n int, end *ending) {
	if len(b) < 2 {
		return 0, nil
	}
	head, size := 2, uint64(b[1]&0x7f)
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	op, fin := b[0]&0x0f, b[0]&0x80 != 0
	switch {
	case b[0]&0x70 != 0:
		return 0, &ending{err: errors.New("a frame uses reserved bits")}
	case b[1]&0x80 != 0:
		return 0, &ending{err: errors.New("a frame of the server is masked")}
	case op >= opClose && (!fin || size > 125):
		return 0, &ending{err: errors.New("a control frame is too long or in parts")}
	case size+uint64(len(p.fragment)) > longestMessage:
		return 0, &ending{err: fmt.Errorf("a message of more than %d bytes", longestMessage)}
	}
	if n = head + int(size); len(b) < n { //nolint:gosec // bounded above
		return 0, nil
	}
	payload := b[head:n]
	switch {
	case op == opClose:
		if len(payload) < 2 {
			return 0, &ending{code: 1005}
		}
		return 0, &ending{code: int(binary.BigEndian.Uint16(payload)), reason: string(payload[2:])}
	case op == opPing || op == opPong:
		on(op, payload)
	case op == opContinuation:
		if p.op == 0 {
			return 0, &ending{err: errors.New("a continuation of nothing")}
		}
		p.fragment = append(p.fragment, payload...)
		if fin {
			whole, op := p.fragment, p.op
			p.fragment, p.op = nil, 0
			on(op, whole)
		}
	case op != opText && op != opBinary:
		return 0, &ending{err: fmt.Errorf("a frame of unknown opcode %d", op)}
	case p.op != 0:
		return 0, &ending{err: errors.New("a new message before the end of the last")}
	case fin:
		on(op, payload)
	default:
		p.op, p.fragment = op, bytes.Clone(payload)
	}
	return n, nil
}
