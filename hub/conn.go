package hub

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// A Conn is one socket. Its reader goroutine owns its end: when the reader has returned, the socket has
// left every room.
type Conn struct {
	hub     *Hub
	user    string
	id      string          // names the connection on the wire
	net     net.Conn        // written through the door only
	raw     syscall.RawConn // nil: no descriptor, every write takes the queue
	ws      *websocket.Conn // read by the reader only; writes through the door
	br      bufio.Reader    // what ws reads from; it has a buffer only while something is read
	session atomic.Pointer[Session]
	proto   protocol
	speaks  encoding // fixed before the first room is joined

	// Owned by the reader.
	early  []byte  // what has come already: before the upgrade was answered, or the byte that was waited for
	one    [1]byte // … where that is read to
	budget int64   // wire bytes that the message being read may still take
	frames bucket
	bad    badFrames

	heard  atomic.Int64 // Unix ns of the wheel: last frame or pong received
	sent   atomic.Int64 // … last bytes handed to the door
	asked  atomic.Bool  // a heartbeat went out and nothing came back yet
	pinged int64        // … last protocol ping; owned by the wheel
	timer  entry
	opened int64 // Unix ns of the wheel; fixed

	older, newer *Conn // of the same address; guarded by its addressShard

	mu       sync.Mutex // guards what follows
	rooms    []*member
	queue    queue         // frames that the kernel did not take yet
	corked   bool          // frames wait for uncork
	flushing bool          // a flusher runs
	owed     *owed         // mail that waits with the frames; nil: none
	drained  chan struct{} // closed when the flusher ends; made on demand
	closing  bool          // no data frame leaves any more
	reason   Disconnect    // first cause wins
	closeBy  time.Time     // when politeness ends; set with closing
	peerDone bool          // the peer sent its close frame
	departed bool          // has left its rooms
	dead     bool          // nothing can be written
}

// serve reads until the socket ends. While nothing comes it holds no buffer and little stack.
func (c *Conn) serve() {
	defer c.end()
	for {
		switch {
		case len(c.early) > 0:
		case c.raw != nil:
			c.await()
		default:
			n, _ := c.net.Read(c.one[:]) // the next read says what is wrong
			c.early = c.one[:n]
		}
		if !c.turns() {
			return
		}
	}
}

var readBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// lend gives the reader a buffer until giveBack, when nothing is left in it.
func (c *Conn) lend() (lent *bufio.Reader) {
	lent = readBuffers.Get().(*bufio.Reader)
	c.br = *lent
	c.br.Reset((*wire)(c))
	return lent
}

func (c *Conn) giveBack(lent *bufio.Reader) {
	c.br.Reset(nil)
	*lent, c.br = c.br, bufio.Reader{}
	readBuffers.Put(lent)
}

// turns reads and handles one message and what has come with it; false when there will be no other.
//
//go:noinline
func (c *Conn) turns() bool {
	defer c.giveBack(c.lend())
	for c.turn() {
		if c.br.Buffered() == 0 {
			return true
		}
	}
	return false
}

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
func (c *Conn) turn() (more bool) {
	defer func() {
		if p := recover(); p != nil {
			c.hub.log.Error("panic in a socket's handling", "client", c.id, "panic", panicKind(p), "stack", string(debug.Stack()))
			c.close(DisconnectFault)
			more = true // the close handshake goes on
		}
	}()
	c.budget = 2*c.hub.limits.FrameBytes + 4096 // frame headers count too: no endless chain of empty fragments
	kind, r, err := c.ws.NextReader()
	if err != nil {
		c.linger(err)
		return false
	}
	buf := inboxes.Get().(*inbox)
	defer buf.putBack()
	if err := buf.readFrom(r, c.hub.limits.InflatedBytes); err != nil {
		if errors.As(err, new(flate.CorruptInputError)) || errors.Is(err, io.ErrUnexpectedEOF) { // gorilla says nothing then
			c.close(DisconnectProtocol)
		}
		c.linger(err)
		return false
	}
	asked := c.hear()
	switch {
	case c.isClosing():
	case int64(buf.Len()) > c.hub.limits.InflatedBytes:
		c.close(DisconnectTooBig)
	case !c.mayTalk():
	case kind == websocket.TextMessage && !utf8.Valid(buf.Bytes()):
		c.close(DisconnectUTF8)
	default:
		c.proto.handle(c, kind == websocket.TextMessage, buf.Bytes(), asked)
	}
	return true
}

// panicKind names a panic without the data that a runtime error or a caller's value may quote.
func panicKind(p any) string {
	if err, ok := p.(interface{ RuntimeError() }); ok {
		return err.(error).Error()
	}
	return "value"
}

// hear notes that the peer lives. It tells whether a heartbeat waited for an answer.
func (c *Conn) hear() (asked bool) {
	c.heard.Store(c.hub.wheel.now.Load())
	return c.asked.Swap(false)
}

// mayTalk takes one frame from the client's allowance, or closes.
func (c *Conn) mayTalk() bool {
	l := &c.hub.limits
	if c.frames.take(time.Now(), l.FramesPerSecond, float64(l.FramesBurst)) {
		return true
	}
	c.close(DisconnectTooMany.after(5*time.Second, 10*time.Second))
	return false
}

// handlers sets what gorilla does with control frames.
func (c *Conn) handlers() {
	c.ws.SetReadLimit(c.hub.limits.FrameBytes)
	c.ws.SetPingHandler(func(data string) error {
		c.control()
		c.send(1, controlFrame(finPong, data))
		return nil
	})
	c.ws.SetPongHandler(func(string) error {
		c.control()
		return nil
	})
	c.ws.SetCloseHandler(func(code int, _ string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.peerDone = true
		c.closeLocked(Disconnect{Code: code})
		return nil
	})
}

func (c *Conn) control() {
	c.hear()
	c.budget = 2*c.hub.limits.FrameBytes + 4096
	if !c.isClosing() {
		c.mayTalk()
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// close says goodbye with d and closes when the peer has answered, or after WriteWait. The first cause
// wins; it reports whether this was it. It never blocks.
func (c *Conn) close(d Disconnect) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeLocked(d)
}

func (c *Conn) closeLocked(d Disconnect) bool {
	if c.closing {
		return false
	}
	c.closing, c.reason = true, d
	if c.owed != nil && d.Code == DisconnectSlow.Code {
		c.tellOwedLocked(true)
	}
	c.owed = nil
	c.closeBy = time.Now().Add(c.hub.limits.WriteWait)
	if c.dead {
		return true
	}
	c.queue.truncate()
	_ = c.net.SetReadDeadline(c.closeBy)
	if c.flushing {
		_ = c.net.SetWriteDeadline(c.closeBy)
	}
	c.pushLocked(piece{buf: c.proto.goodbye(d), frames: 1})
	if !c.peerDone { // else the reader is about to end
		c.hub.tasks.Add(1)
		go func() {
			defer c.hub.tasks.Done()
			c.depart()
		}()
	}
	return true
}

// linger waits, after a close frame of ours that the peer has not answered, until the peer closes or the
// time is over: closing with unread bytes would reset the connection and destroy the close frame.
func (c *Conn) linger(err error) {
	if errors.Is(err, websocket.ErrReadLimit) {
		c.close(DisconnectTooBig) // gorilla says so itself except for absurd lengths
	}
	c.mu.Lock()
	wait := c.closing && !c.peerDone && !c.dead && !errors.Is(err, net.ErrClosed)
	if !c.closing { // the peer went without a word
		c.closing, c.dead = true, true
		c.reason = Disconnect{Code: websocket.CloseAbnormalClosure}
	}
	c.mu.Unlock()
	if !wait {
		return
	}
	c.depart()
	c.waitFlusher()
	if half, ok := c.net.(interface{ CloseWrite() error }); ok { // a server closes first: clients wait for it
		_ = half.CloseWrite()
	}
	var trash [512]byte
	for n := 0; n < 1<<20; {
		k, err := c.net.Read(trash[:])
		if err != nil {
			return
		}
		n += k
	}
}

// end is the end of the reader, and with it of the socket: when it returns nothing of it runs any more.
func (c *Conn) end() {
	c.depart()
	c.waitFlusher()
	_ = c.net.Close()
	c.mu.Lock()
	code := c.reason.Code
	c.mu.Unlock()
	if _, ok := c.proto.(*socketIO); ok {
		c.hub.guests.remove(c)
	}
	c.hub.unregister(c)
	c.hub.countClosed(code)
	c.hub.conns.Done()
}

// depart leaves every room, once.
func (c *Conn) depart() {
	c.mu.Lock()
	if c.departed {
		c.mu.Unlock()
		return
	}
	c.departed = true
	rooms := c.rooms
	c.rooms = nil
	for _, m := range rooms {
		m.gone, m.held = true, nil
	}
	c.mu.Unlock()
	c.hub.wheel.drop(&c.timer)
	for _, m := range rooms {
		m.room.detach(m)
	}
}

// ring is the wheel's visit: expiry, and what the protocol does against silence.
func (c *Conn) ring(now int64) (next int64) {
	expires := int64(0)
	if at := c.session.Load().ExpiresAt; !at.IsZero() {
		expires = at.UnixNano()
	}
	if expires != 0 && now >= expires {
		c.close(DisconnectExpired)
		return 0
	}
	out, next := c.proto.beat(c, now)
	if len(out) > 0 {
		c.send(1, out)
	}
	if next == 0 {
		return 0
	}
	if expires != 0 {
		next = min(next, expires)
	}
	return max(next, now+1)
}

// wire is the Conn as gorilla sees it: a net.Conn whose writes go through the door.
type wire Conn

func (w *wire) Read(p []byte) (int, error) {
	c := (*Conn)(w)
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	if c.budget <= 0 && c.ws != nil {
		c.close(DisconnectTooBig)
		return 0, errors.New("too many bytes for one message")
	}
	n, err := c.net.Read(p)
	c.budget -= int64(n)
	return n, err
}

// Write takes the answer to the handshake, and afterwards the control frames that gorilla itself sends
// when the peer breaks the protocol.
func (w *wire) Write(p []byte) (int, error) {
	c := (*Conn)(w)
	if c.ws != nil && len(p) >= 4 && p[0] == finClose {
		switch d := (Disconnect{Code: int(p[2])<<8 | int(p[3])}); d.Code {
		case DisconnectTooBig.Code:
			c.close(DisconnectTooBig)
		case DisconnectProtocol.Code:
			c.hub.log.Debug("protocol broken", "client", c.id, "why", string(p[4:])) // gorilla's own words, without data
			c.close(DisconnectProtocol)
		default:
			c.close(d)
		}
		return len(p), nil
	}
	head := 0
	if c.ws == nil {
		head = len(p)
	}
	c.mu.Lock()
	c.sendLocked(piece{buf: bytes.Clone(p), head: head})
	c.mu.Unlock()
	return len(p), nil
}

func (w *wire) Close() error                       { return w.net.Close() }
func (w *wire) LocalAddr() net.Addr                { return w.net.LocalAddr() }
func (w *wire) RemoteAddr() net.Addr               { return w.net.RemoteAddr() }
func (w *wire) SetDeadline(t time.Time) error      { return w.net.SetDeadline(t) }
func (w *wire) SetReadDeadline(t time.Time) error  { return w.net.SetReadDeadline(t) }
func (w *wire) SetWriteDeadline(t time.Time) error { return nil } // the door sets its own
