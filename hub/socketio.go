package hub

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"wxhub/hub/socketio"
)

// A Door lets the clients of Socket.IO in.
type Door struct {
	// Admit tells who a client speaks for, or why it may not come in: a *ConnectError, in its words; anything else is
	// "unavailable". auth is the JSON object that a client of version 3 or 4 brings along, else nil. It is asked again
	// when a client that was refused tries again over the same connection.
	Admit func(ctx context.Context, auth json.RawMessage) (Session, error)
	// Entered is called when Disconnect finds the socket: what ended the session since Admit is to be asked again.
	// nil: nobody wants to know.
	Entered func(Session)
}

// A ConnectError is what a client is told that may not come in: a stable word for programs, a sentence for people.
type ConnectError struct {
	Word, Text string
}

func (e *ConnectError) Error() string { return "hub: " + e.Word + ": " + e.Text }

// connectWait is how long a client may take to come in.
func (h *Hub) connectWait() time.Duration { return min(h.limits.ConnectWait, h.heartbeat) }

// answerWait is how long a client may take to answer a heartbeat: 20 s where one goes out every 25 s.
func (h *Hub) answerWait() time.Duration { return h.heartbeat * 4 / 5 }

// A socketIO is one client that speaks Socket.IO: versions 2 (V3 of Engine.IO) and 3 and 4 (V4).
type socketIO struct {
	version socketio.Version
	entered bool // it is in the namespace "/"; owned by the reader
	acks    bool // it acknowledges mail by itself; owned by the reader
	parts   socketio.Assembler
	guest   *guest   // until it has come in; owned by the reader
	lasting string   // its pid: with it a client of V4 is handed positions; empty: it is not
	back    []string // rooms that it wants to be recovered in; nil: it was not here before

	// Guarded by Conn.mu.
	asking bool   // a heartbeat of ours waits for its answer
	beatAt int64  // Unix ns of the wheel: the last heartbeat
	marks  []mark // what was handed to it
	left   string // rooms of its pid that it has left, as they stand in a position
	mail   uint64 // Offset of the last letter handed to it
	beaten uint64 // … when the last heartbeat went out: what an answer to it acknowledges
	acked  uint64 // … of the last letter acknowledged; owned by the reader
}

// A guest is a client that has not come in yet.
type guest struct {
	door  Door
	query url.Values
}

// guests are the connections of clients that have not come in yet. Nobody else knows of them.
type guests struct {
	mu  sync.Mutex
	set map[*Conn]struct{}
}

func (g *guests) add(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set == nil {
		g.set = map[*Conn]struct{}{}
	}
	g.set[c] = struct{}{}
}

func (g *guests) remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.set, c)
}

func (g *guests) each(f func(*Conn)) {
	g.mu.Lock()
	list := make([]*Conn, 0, len(g.set))
	for c := range g.set {
		list = append(list, c)
	}
	g.mu.Unlock()
	for _, c := range list {
		f(c)
	}
}

// AcceptSocketIO is Accept for clients of Socket.IO, over WebSocket: d tells who they are. They join the rooms of the
// query as Accept has it. The caller has checked the Origin.
func (h *Hub) AcceptSocketIO(w http.ResponseWriter, r *http.Request, d Door) error {
	hs, err := socketio.ReadHandshake(r)
	if err != nil {
		err.(*socketio.HandshakeError).ServeHTTP(w, r)
		return err
	}
	l := &socketIO{version: hs.Version, guest: &guest{d, hs.Query}}
	c, err := h.upgrade(w, r, Session{}, l)
	if err != nil {
		return err
	}
	h.guests.add(c)
	sid := c.id
	if l.version == socketio.V4 {
		sid = newClientID() // the connection has a name of its own; c.id is the socket's
	}
	l.beatAt = c.opened
	c.greet(func() {
		defer c.uncork()
		c.sendText(socketio.AppendOpen(nil, sid, h.heartbeat, h.answerWait(), h.limits.FrameBytes))
		if l.version == socketio.V3 {
			l.connect(c, nil)
		}
	})
	waits := l.guest != nil
	c.open()
	if waits {
		h.wheel.set(&c.timer, c.opened+int64(h.connectWait()))
	}
	h.stopGuest(c)
	return nil
}

// stopGuest closes a connection that came when the hub had said goodbye to all.
func (h *Hub) stopGuest(c *Conn) {
	h.life.RLock()
	full := h.full
	h.life.RUnlock()
	if full {
		c.close(DisconnectRestart.after(returnFrom, returnTo))
	}
}

func (c *Conn) sendText(body []byte) { c.send(1, textFrame(body)) }

func (l *socketIO) encoding() encoding {
	if l.version == socketio.V3 {
		return encodeSocketIO3
	}
	return encodeSocketIO4
}

// handle takes one message of the client.
func (l *socketIO) handle(c *Conn, text bool, data []byte, _ bool) {
	err := l.take(c, text, data)
	if err != nil {
		c.hub.badFrames.Add(1)
		c.close(DisconnectProtocol)
	}
}

var errStranger = errors.New("hub: packet of a client that is not in")

func (l *socketIO) take(c *Conn, text bool, data []byte) error {
	f, err := l.version.ReadFrame(text, data)
	if err != nil {
		return err
	}
	switch f.Kind {
	case socketio.FrameClose:
		c.close(Disconnect{Code: 1000})
	case socketio.FramePing: // of V3: it has taken in what we said before we answered the last one
		l.answered(c)
		c.mu.Lock()
		l.beaten = l.mail
		c.mu.Unlock()
		pong, _ := l.version.AppendFrame(nil, socketio.Frame{Kind: socketio.FramePong, Data: f.Data}, false)
		c.sendText(pong)
	case socketio.FramePong: // of V4: it has taken in what we said before we asked
		c.mu.Lock()
		asked := l.asking
		l.asking = false
		c.mu.Unlock()
		if asked {
			l.answered(c)
		}
	case socketio.FrameMessage:
		p, err := l.parts.Add(f.Binary, f.Data, c.hub.limits.FrameBytes)
		if err != nil || p == nil {
			return err
		}
		return l.packet(c, p)
	}
	return nil
}

// answered acknowledges, for a client that does not do so by itself, the mail that it must have got.
func (l *socketIO) answered(c *Conn) {
	c.mu.Lock()
	upTo := l.beaten
	c.mu.Unlock()
	if l.acks || upTo <= l.acked || c.hub.mail == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.hub.patience)
	defer cancel()
	if err := c.hub.mail.Ack(ctx, "user:"+c.user, upTo); err != nil {
		c.hub.log.Warn("mail not acknowledged", "client", c.id, "error", err)
		return
	}
	l.acked = upTo
}

func (l *socketIO) packet(c *Conn, p *socketio.Packet) error {
	if p.Namespace != "/" {
		if p.Kind != socketio.PacketConnect {
			return errStranger
		}
		l.sayPacket(c, l.version.Refused(p.Namespace, "Invalid namespace", nil))
		return nil
	}
	switch {
	case p.Kind == socketio.PacketConnect && !l.entered && l.version == socketio.V4:
		data := json.RawMessage(strings.Clone(string(p.Data)))
		done := make(chan struct{})
		go func() { // the reader's own stack stays small
			defer close(done)
			c.greet(func() { l.connect(c, data) })
		}()
		<-done
	case !l.entered, p.Kind == socketio.PacketConnect:
		return errStranger
	case p.Kind == socketio.PacketDisconnect:
		c.close(Disconnect{Code: 1000})
	case p.Kind == socketio.PacketEvent:
		l.event(c, p)
	}
	return nil // nobody here waits for an acknowledgement
}

// sayPacket sends a packet without attachments.
func (l *socketIO) sayPacket(c *Conn, p socketio.Packet) {
	c.sendText(socketio.AppendPacket([]byte{byte(socketio.FrameMessage)}, &p))
}

// connect lets the client in, or tells it why not.
func (l *socketIO) connect(c *Conn, auth json.RawMessage) {
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.hub.patience)
	defer cancel()
	s, err := l.guest.door.Admit(ctx, auth)
	if err != nil {
		no, told := errors.AsType[*ConnectError](err)
		if !told {
			c.hub.log.Warn("nobody could tell who a client is", "client", c.id, "error", err)
			no = &ConnectError{refusedAway.Word, refusedAway.Text}
		}
		data := appendString([]byte(`{"error":`), no.Word)
		data = append(appendString(append(data, `,"message":`...), no.Text), '}')
		l.sayPacket(c, l.version.Refused("/", no.Word, data))
		return
	}
	g := l.guest
	l.guest, l.entered = nil, true
	c.user = s.User
	c.session.Store(&s)
	c.hub.register(c)
	c.hub.guests.remove(c)
	c.hub.stopGuest(c)
	if g.door.Entered != nil {
		g.door.Entered(s)
	}
	c.welcome(l.comesBack(auth, &s, g.query["room"]))
	next := c.hub.wheel.now.Load() + int64(c.hub.heartbeat)
	if !s.ExpiresAt.IsZero() {
		next = min(next, s.ExpiresAt.UnixNano())
	}
	c.hub.wheel.set(&c.timer, next)
}

// beat keeps the heartbeat: V4 is asked, V3 asks by itself.
func (l *socketIO) beat(c *Conn, now int64) (out []byte, next int64) {
	interval, timeout := int64(c.hub.heartbeat), int64(c.hub.answerWait())
	if c.session.Load().User == "" && now-c.opened >= int64(c.hub.connectWait()) {
		c.close(DisconnectSilent)
		return nil, 0
	}
	if l.version == socketio.V3 {
		dead := c.heard.Load() + interval + timeout
		if now >= dead {
			c.close(DisconnectSilent)
			return nil, 0
		}
		return nil, dead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.asking && now >= l.beatAt+timeout:
		c.closeLocked(DisconnectSilent)
		return nil, 0
	case l.asking:
		return nil, l.beatAt + timeout
	case now >= l.beatAt+interval:
		l.asking, l.beatAt, l.beaten = true, now, l.mail
		return textFrame([]byte{byte(socketio.FramePing)}), now + timeout
	}
	return nil, l.beatAt + interval
}

// goodbye says why, and to a client that is to stay away what makes it do so: it comes back by itself when a connection
// breaks, and not when it was told to leave.
func (l *socketIO) goodbye(d Disconnect) (frames []byte) {
	if d.Code >= 4500 && l.marks != nil {
		b := appendString([]byte(`42["refused",{"ok":false,"error":`), d.Word)
		frames = textFrame(append(b, `}]`...))
		frames = append(frames, textFrame([]byte("41"))...)
	}
	return append(frames, closeFrame(d)...)
}
