package socketio

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// A Client is one connection. It may be in several namespaces, as a Socket in each.
type Client struct {
	server    *Server
	ws        *websocket.Conn
	handshake *Handshake // fixed
	id        string     // fixed
	wake      chan struct{}
	gone      chan struct{} // closed when the reader has ended

	assembler Assembler // owned by the reader

	mu      sync.Mutex // guards what follows
	sockets map[string]*Socket
	entered bool // has been in a namespace
	queue   []outgoing
	bytes   int       // in queue
	asked   time.Time // when a heartbeat went out that is not answered; zero: none
	heard   time.Time // when the client last spoke
	closing bool
	code    int // the first cause of the end wins
	reason  string
}

// An outgoing message waits for the writer.
type outgoing struct {
	kind int // as gorilla names it
	data []byte
}

// ID names the connection.
func (c *Client) ID() string { return c.id }

// Handshake is what the client said when it opened the connection. It must not be changed.
func (c *Client) Handshake() *Handshake { return c.handshake }

// Send says one message of Engine.IO. It does not wait; a client that reads too slowly is closed.
func (c *Client) Send(binary bool, data []byte) {
	c.say(Frame{Kind: FrameMessage, Binary: binary, Data: data})
}

func (c *Client) say(frames ...Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range frames {
		data, text := c.handshake.Version.AppendFrame(make([]byte, 0, len(f.Data)+1), f, c.handshake.Base64)
		out := outgoing{websocket.BinaryMessage, data}
		if text {
			out.kind = websocket.TextMessage
		}
		c.queueLocked(out)
	}
}

func (c *Client) queueLocked(o outgoing) {
	if c.closing {
		return
	}
	if c.bytes += len(o.data); c.bytes > c.server.o.QueueBytes {
		c.queue = nil
		c.closeLocked(websocket.CloseTryAgainLater, "reads too slowly")
		return
	}
	c.queue = append(c.queue, o)
	c.nudge()
}

// nudge wakes the writer.
func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// packet sends a packet with its attachments, nothing between them.
func (c *Client) packet(p *Packet) {
	frames := make([]Frame, 1, 1+len(p.Attachments))
	frames[0] = Frame{Kind: FrameMessage, Data: AppendPacket(nil, p)}
	for _, a := range p.Attachments {
		frames = append(frames, Frame{Kind: FrameMessage, Binary: true, Data: a})
	}
	c.say(frames...)
}

// Close ends the connection. What was said before is still sent.
func (c *Client) Close() { c.close(websocket.CloseNormalClosure, "") }

func (c *Client) close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(code, reason)
}

func (c *Client) closeLocked(code int, reason string) {
	if !c.closing {
		c.closing, c.code, c.reason = true, code, reason
		c.nudge()
	}
}

// serve is the reader; it ends when the connection and the writer have.
func (c *Client) serve() {
	o := &c.server.o
	now := time.Now()
	c.heard = now
	c.ws.SetReadLimit(o.MaxPayload + 1) // the type of a message is no payload
	c.mu.Lock()
	c.queueLocked(outgoing{websocket.TextMessage, AppendOpen(nil, c.id, o.PingInterval, o.PingTimeout, o.MaxPayload)})
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.write(now)
	}()
	if c.handshake.Version == V3 && o.Message == nil {
		c.take(func() error { return c.enter(&Packet{Kind: PacketConnect, Namespace: "/"}) })
	}
	for {
		kind, data, err := c.ws.ReadMessage()
		if err != nil {
			break
		}
		if !c.take(func() error { return c.read(kind == websocket.TextMessage, data) }) {
			break
		}
	}
	close(c.gone)
	<-done
	for _, s := range c.all() {
		c.take(func() error { s.end(c.why()); return nil })
	}
}

// why tells handlers why the connection ended, in the words of other servers of Socket.IO.
func (c *Client) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		return "transport close"
	}
	return c.reason
}

func (c *Client) all() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Socket, 0, len(c.sockets))
	for _, s := range c.sockets {
		list = append(list, s)
	}
	return list
}

// take runs what may panic or find a fault of the client's; false ends the connection.
func (c *Client) take(f func() error) (more bool) {
	defer func() {
		if p := recover(); p != nil {
			c.server.o.Logger.Error("panic in a handler", "client", c.id, "stack", string(debug.Stack()))
			c.close(websocket.CloseInternalServerErr, "server error")
			more = false
		}
	}()
	err := f()
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrMalformed):
		c.close(websocket.CloseProtocolError, "parse error")
	default:
		c.close(websocket.CloseInternalServerErr, "server error")
	}
	return false
}

var errLeft = fmt.Errorf("socketio: %w: packet for a namespace that the client is not in", ErrMalformed)

// read handles one message.
func (c *Client) read(text bool, data []byte) error {
	if text && !utf8.Valid(data) {
		return malformed("text that is no UTF-8")
	}
	f, err := c.handshake.Version.ReadFrame(text, data)
	if err != nil {
		return err
	}
	c.mu.Lock()
	closing := c.closing
	if f.Kind == FramePong {
		c.asked = time.Time{}
	}
	c.heard = time.Now()
	c.mu.Unlock()
	if closing {
		return nil
	}
	switch f.Kind {
	case FrameClose:
		c.close(websocket.CloseNormalClosure, "transport close")
	case FramePing:
		c.say(Frame{Kind: FramePong, Data: f.Data})
	case FrameMessage:
		if c.server.o.Message != nil {
			c.server.o.Message(c, f.Binary, f.Data)
			return nil
		}
		p, err := c.assembler.Add(f.Binary, f.Data, c.server.o.MaxPayload)
		if err != nil || p == nil {
			return err
		}
		return c.handle(p)
	}
	return nil
}

// handle does what a packet asks for.
func (c *Client) handle(p *Packet) error {
	c.mu.Lock()
	s := c.sockets[p.Namespace]
	c.mu.Unlock()
	switch {
	case p.Kind == PacketConnect && s == nil:
		return c.enter(p)
	case s == nil, p.Kind == PacketConnect:
		return errLeft
	case p.Kind == PacketDisconnect:
		s.end("client namespace disconnect")
		return nil
	case p.Kind == PacketAck:
		s.answered(p)
		return nil
	}
	name, arguments, err := p.Event()
	if err != nil {
		return err
	}
	s.hear(&Event{Socket: s, Name: name, Args: p.values(arguments), id: p.ID, asked: p.HasID})
	return nil
}

// enter lets the client into a namespace, or refuses it.
func (c *Client) enter(p *Packet) error {
	version := c.handshake.Version
	n := c.server.namespace(p.Namespace)
	c.mu.Lock()
	full := len(c.sockets) >= c.server.o.Namespaces
	c.mu.Unlock()
	if n == nil || full {
		refused := version.Refused(p.Namespace, "Invalid namespace", nil)
		c.packet(&refused)
		return nil
	}
	s := &Socket{client: c, namespace: n, auth: p.Data, query: p.Query, waiting: map[uint64]*question{}, events: map[string][]Handler{}}
	switch {
	case version == V4:
		s.id = newID()
	case p.Namespace == "/":
		s.id = c.id
	default:
		s.id = p.Namespace + "#" + c.id
	}
	for _, admit := range n.admission() {
		if err := admit(s); err != nil {
			var data []byte
			var refusal *Refusal
			message := "refused"
			if errors.As(err, &refusal) {
				message, data = refusal.Message, refusal.data()
			}
			refused := version.Refused(p.Namespace, message, data)
			c.packet(&refused)
			return nil
		}
	}
	c.mu.Lock()
	c.sockets[p.Namespace] = s
	c.entered = true
	c.mu.Unlock()
	connected := version.Connected(p.Namespace, s.id, "")
	c.packet(&connected)
	for _, greet := range n.enter(s) {
		greet(s)
	}
	return nil
}

// write is the writer: it sends what waits and asks whether the client lives.
func (c *Client) write(opened time.Time) {
	o := &c.server.o
	asked := opened // when the last heartbeat went out
	timer := time.NewTimer(o.PingInterval)
	defer timer.Stop()
	defer func() { _ = c.ws.Close() }() // the reader wakes and ends
	for {
		c.mu.Lock()
		out := c.queue
		c.queue, c.bytes = nil, 0
		closing, code, reason := c.closing, c.code, c.reason
		c.mu.Unlock()
		for _, m := range out {
			_ = c.ws.SetWriteDeadline(time.Now().Add(writeWait))
			if c.ws.WriteMessage(m.kind, m.data) != nil {
				return
			}
		}
		if closing {
			c.goodbye(code, reason)
			return
		}
		timer.Reset(c.beat(opened, &asked))
		select {
		case <-c.wake:
		case <-timer.C:
		case <-c.gone:
			c.mu.Lock()
			closing, code, reason := c.closing, c.code, c.reason
			c.mu.Unlock()
			if closing { // the reader ended because of what it read
				c.goodbye(code, reason)
			}
			return
		}
	}
}

// beat keeps the heartbeat and tells when to look again. A client of V4 is asked, one of V3 asks by itself.
func (c *Client) beat(opened time.Time, asked *time.Time) time.Duration {
	o := &c.server.o
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	next := asked.Add(o.PingInterval)
	dead := c.heard.Add(o.PingInterval + o.PingTimeout)
	if c.handshake.Version == V4 {
		if !now.Before(next) && c.asked.IsZero() {
			c.queueLocked(outgoing{websocket.TextMessage, []byte{byte(FramePing)}})
			*asked, c.asked = now, now
		}
		next, dead = asked.Add(o.PingInterval), time.Time{}
		if !c.asked.IsZero() {
			dead = c.asked.Add(o.PingTimeout)
		}
	} else {
		next = dead
	}
	if !dead.IsZero() {
		if !now.Before(dead) {
			c.closeLocked(websocket.CloseNormalClosure, "ping timeout")
			return 0
		}
		next = dead
	}
	if !c.entered && o.Message == nil {
		late := opened.Add(o.ConnectTimeout)
		if !now.Before(late) {
			c.closeLocked(websocket.CloseNormalClosure, "connect timeout")
			return 0
		}
		if late.Before(next) {
			next = late
		}
	}
	return next.Sub(now)
}

// goodbye says why and gives the client time to answer.
func (c *Client) goodbye(code int, reason string) {
	by := time.Now().Add(writeWait)
	alone := false // the reader has ended because of what it read
	select {
	case <-c.gone:
		alone = true
	default:
	}
	if c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), by) != nil {
		return
	}
	_ = c.ws.SetReadDeadline(by)
	if alone { // closing with unread bytes would reset the connection and destroy what was said last
		if half, ok := c.ws.NetConn().(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(c.ws.NetConn(), lingerBytes))
		}
		return
	}
	select {
	case <-c.gone:
	case <-time.After(writeWait):
	}
}
