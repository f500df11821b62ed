package hub

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const readBuffer = 4 << 10 // bytes; lent to a socket while it has something to say

// An ear takes messages from a socket: gorilla's state machine and its buffer. Between two messages nothing in it
// belongs to the socket, so an idle socket has none: it is lent one when something comes.
type ear struct {
	c      *Conn
	ws     *websocket.Conn // reads br; writes through the door
	br     *bufio.Reader   // reads wire
	budget int64           // wire bytes that the message being read may still take
	whole  bool            // stands between two messages
	dumb   bool            // what is written is the answer to nobody's handshake
}

// ears are those that nobody uses, for sockets without compression and with it.
type ears [2]sync.Pool

func (e *ears) of(c *Conn) *sync.Pool {
	if c.inflates {
		return &e[1]
	}
	return &e[0]
}

func (h *Hub) lendEar(c *Conn) *ear {
	r, _ := h.ears.of(c).Get().(*ear)
	if r == nil {
		r = newEar(h, c.inflates)
	}
	r.c = c
	r.br.Reset((*wire)(r))
	return r
}

// giveBack takes an ear that has read no part of a message.
func (r *ear) giveBack() {
	c := r.c
	r.c = nil
	c.hub.ears.of(c).Put(r)
}

// newEar has gorilla shake hands with nobody: there is no other way to a server's end.
func newEar(h *Hub, inflates bool) *ear {
	r := &ear{whole: true, dumb: true}
	r.br = bufio.NewReaderSize((*wire)(r), readBuffer)
	upgrader := &plainUpgrader
	if inflates {
		upgrader = &deflatingUpgrader
	}
	ws, err := upgrader.Upgrade(rehearsal{r: r}, nobody, nil)
	if err != nil {
		panic("hub: gorilla refuses its own handshake: " + err.Error()) // of constants
	}
	r.ws, r.dumb = ws, false
	ws.SetReadLimit(h.limits.FrameBytes)
	ws.SetPingHandler(func(data string) error {
		r.control(finPing, []byte(data))
		return nil
	})
	ws.SetPongHandler(func(string) error {
		r.control(finPong, nil)
		return nil
	})
	ws.SetCloseHandler(func(code int, _ string) error {
		c := r.c
		c.mu.Lock()
		defer c.mu.Unlock()
		c.peerDone = true
		c.closeLocked(Disconnect{Code: code})
		return nil
	})
	return r
}

// nobody asks for a socket with everything that gorilla wants to see.
var nobody = &http.Request{Method: http.MethodGet, Header: http.Header{
	"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	"Sec-Websocket-Extensions": {"permessage-deflate"},
}}

// rehearsal is the server's side of a handshake with nobody.
type rehearsal struct {
	http.ResponseWriter
	r *ear
}

func (p rehearsal) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return (*wire)(p.r), bufio.NewReadWriter(p.r.br, bufio.NewWriterSize(io.Discard, 512)), nil
}

// turns reads and handles what has come, and what comes before that is whole; false when there will be nothing more.
//
//go:noinline
func (c *Conn) turns() bool {
	r := c.hub.lendEar(c)
	for r.controls() {
		if !r.turn() {
			return false // whatever it has read of another message is lost with it
		}
		if r.whole && r.br.Buffered() == 0 {
			break
		}
	}
	r.giveBack()
	return true
}

// controls handles the pings and pongs that have come; false when nothing else has. gorilla would go on to wait for a
// message in there.
func (r *ear) controls() bool {
	r.renew()
	for r.whole {
		b, err := r.br.Peek(2)
		if err != nil || b[0] != finPing && b[0] != finPong || b[1]&0x80 == 0 || b[1]&0x7f > maxControl {
			return true
		}
		size := 6 + int(b[1]&0x7f)
		if b, err = r.br.Peek(size); err != nil {
			return true
		}
		var data [maxControl]byte
		n := copy(data[:], b[6:])
		for i := range n {
			data[i] ^= b[2+i&3]
		}
		first := b[0]
		_, _ = r.br.Discard(size)
		r.control(first, data[:n])
		if r.br.Buffered() == 0 {
			return false
		}
	}
	return true
}

func (r *ear) control(first byte, data []byte) {
	r.c.hear()
	r.renew()
	if !r.c.isClosing() {
		r.c.mayTalk()
	}
	if first == finPing {
		r.c.send(1, controlFrame(finPong, string(data)))
	}
}

// renew gives the next message its allowance. Frame headers count too: no endless chain of empty fragments.
func (r *ear) renew() { r.budget = 2*r.c.hub.limits.FrameBytes + 4096 }

// An inbox takes one message of a client.
type inbox struct {
	bytes.Buffer
	bound io.LimitedReader
}

var inboxes = sync.Pool{New: func() any { return new(inbox) }}

// readFrom reads a message, and of one that has more bytes than most as many as show it: gorilla counts those on the
// wire, and a compressed message may hide a thousand times as many.
func (b *inbox) readFrom(r io.Reader, most int64) error {
	b.Reset()
	b.bound = io.LimitedReader{R: r, N: most + 1}
	_, err := b.ReadFrom(&b.bound)
	b.bound.R = nil
	return err
}

func (b *inbox) putBack() {
	if b.Cap() <= 64<<10 {
		inboxes.Put(b)
	}
}

// turn reads and handles one message; false when there will be no other.
func (r *ear) turn() (more bool) {
	c := r.c
	defer func() {
		if p := recover(); p != nil {
			c.hub.log.Error("panic in a socket's handling", "client", c.id, "panic", panicKind(p), "stack", string(debug.Stack()))
			c.close(DisconnectFault)
			more = true // the close handshake goes on
		}
	}()
	r.renew()
	kind, message, err := r.ws.NextReader()
	r.whole = false
	if err != nil {
		c.linger(err)
		return false
	}
	buf := inboxes.Get().(*inbox)
	defer buf.putBack()
	if err := buf.readFrom(message, c.hub.limits.InflatedBytes); err != nil {
		if errors.As(err, new(flate.CorruptInputError)) || errors.Is(err, io.ErrUnexpectedEOF) { // gorilla says nothing then
			c.close(DisconnectProtocol)
		}
		c.linger(err)
		return false
	}
	r.whole = int64(buf.Len()) <= c.hub.limits.InflatedBytes
	asked := c.hear()
	switch {
	case c.isClosing():
	case !r.whole:
		c.close(DisconnectTooBig)
	case !c.mayTalk():
	case kind == websocket.TextMessage && !utf8.Valid(buf.Bytes()):
		c.close(DisconnectUTF8)
	default:
		c.proto.handle(c, kind == websocket.TextMessage, buf.Bytes(), asked)
	}
	return true
}

// wire is the socket as gorilla sees it: a net.Conn whose writes go through the door.
type wire ear

func (w *wire) Read(p []byte) (int, error) {
	c := w.c
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	if w.budget <= 0 {
		c.close(DisconnectTooBig)
		return 0, errors.New("too many bytes for one message")
	}
	n, err := c.net.Read(p)
	w.budget -= int64(n)
	return n, err
}

// Write takes the control frames that gorilla itself sends when the peer breaks the protocol.
func (w *wire) Write(p []byte) (int, error) {
	c := w.c
	switch {
	case w.dumb:
	case len(p) >= 4 && p[0] == finClose:
		switch d := (Disconnect{Code: int(p[2])<<8 | int(p[3])}); d.Code {
		case DisconnectTooBig.Code:
			c.close(DisconnectTooBig)
		case DisconnectProtocol.Code:
			c.hub.log.Debug("protocol broken", "client", c.id, "why", string(p[4:])) // gorilla's own words, without data
			c.close(DisconnectProtocol)
		default:
			c.close(d)
		}
	default:
		c.send(1, bytes.Clone(p))
	}
	return len(p), nil
}

// What gorilla does with a connection besides, while it shakes hands with nobody and afterwards, is the Conn's business.

func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
