package hub

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

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
	session atomic.Pointer[Session]
	proto   protocol
	speaks  encoding // fixed before the first room is joined

	inflates bool // the client may compress what it says; fixed

	// Owned by the reader.
	early  []byte  // what has come already: before the upgrade was answered, or the byte that was waited for
	one    [1]byte // … where that is read to
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
			c.end()
			return
		}
		if c.speaks.plain() != encodeNative { // it said something, as Socket.IO's clients do who only listen, and the stack has grown
			go c.serve()
			return
		}
	}
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
