package hub

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	subprotocol = "wxhub.v1"
	ownRooms    = 2 // "all" and "user:ID", which everybody joins at connect
)

// plainUpgrader speaks RFC 6455. The caller of Accept has checked the Origin. Compression is off: it costs
// time for every message, and notices are small.
var plainUpgrader = websocket.Upgrader{
	Subprotocols:    []string{subprotocol},
	WriteBufferPool: noWriteBuffers{},
	CheckOrigin:     func(*http.Request) bool { return true },
	Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
		writeError(w, status, "bad_handshake", reason.Error())
	},
}

// deflatingUpgrader says yes to permessage-deflate, without context takeover, where it is offered.
var deflatingUpgrader = func() websocket.Upgrader {
	u := plainUpgrader
	u.EnableCompression = true
	return u
}()

// noWriteBuffers keeps gorilla from holding a write buffer: data leaves through the door.
type noWriteBuffers struct{}

func (noWriteBuffers) Get() any { return nil }
func (noWriteBuffers) Put(any)  {}

func writeError(w http.ResponseWriter, status int, word, text string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	b := appendString([]byte(`{"code":0,"data":null,"message":`), text)
	b = appendString(append(b, `,"error":`...), word)
	_, _ = w.Write(append(b, '}'))
}

// Accept upgrades r to a WebSocket that speaks the native protocol for s, joins the rooms of the
// query (room=NAME or room=NAME@EPOCH:OFFSET, repeatable), "all" and "user:ID", sends the welcome and returns;
// the hub owns the socket from then on. After an error the answer has been written.
// The caller has checked the token behind s, and the Origin.
func (h *Hub) Accept(w http.ResponseWriter, r *http.Request, s Session) error {
	c, err := h.upgrade(w, r, s, native{})
	if err != nil {
		return err
	}
	h.register(c)
	c.greet(func() { c.welcome(r.URL.Query()["room"]) })
	c.open()
	return nil
}

// Serve is Accept in the caller's goroutine: it returns when the socket has ended and nothing of it runs any more. It
// suits a handler that wants to do something then; Accept costs less memory while the socket idles.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, s Session) error {
	c, err := h.upgrade(w, r, s, native{})
	if err != nil {
		return err
	}
	h.register(c)
	c.greet(func() { c.welcome(r.URL.Query()["room"]) })
	c.wind()
	c.serve()
	return nil
}

// upgrade answers the handshake: the answer waits in the corked Conn for what is said first. The caller registers
// the Conn, greets and opens it.
func (h *Hub) upgrade(w http.ResponseWriter, r *http.Request, s Session, p protocol) (*Conn, error) {
	if !h.enterSocket() {
		w.Header().Set("Retry-After", "2")
		writeError(w, http.StatusServiceUnavailable, "unavailable", "this node is stopping")
		return nil, ErrClosed
	}
	if err := speaksVersion13(w, r); err != nil {
		h.conns.Done()
		return nil, err
	}
	if err := onlyHandshake(w, r); err != nil {
		h.conns.Done()
		return nil, err
	}
	if h.crowded(&s) {
		h.conns.Done()
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusTooManyRequests, "too_many", "as many sockets as one user or address may have are open")
		return nil, ErrTooManySockets
	}
	c := &Conn{hub: h, id: newClientID(), user: s.User, proto: p, speaks: p.encoding(), corked: true}
	upgrader, offer := &plainUpgrader, deflateOffer{}
	if h.compression && c.speaks != encodeSocketIO4 { // what is written beside a compressed message cannot be read
		if offer = deflateOffers(r.Header); offer.taken {
			upgrader = &deflatingUpgrader
		}
	}
	c.session.Store(&s)
	c.timer.owner = c
	if _, err := upgrader.Upgrade(&hijack{ResponseWriter: w, c: c}, r, nil); err != nil {
		if c.net != nil {
			_ = c.net.Close()
		}
		h.conns.Done()
		return nil, fmt.Errorf("hub: upgrade: %w", err)
	}
	c.inflates = offer.taken
	c.takeUp(offer)
	now := h.wheel.now.Load()
	c.opened = now
	c.heard.Store(now)
	c.sent.Store(now)
	return c, nil
}

// greet runs what is said first; a panic in it closes the socket.
func (c *Conn) greet(first func()) {
	if err := protect(func() error { first(); return nil }); err != nil {
		c.hub.log.Error("panic in a socket's welcome", "client", c.id, "error", err)
		c.close(DisconnectFault)
	}
}

// open sets the clock for the Conn and starts its reader, which owns it from now on.
func (c *Conn) open() {
	c.wind()
	go c.serve()
}

// wind sets the clock for the Conn.
func (c *Conn) wind() {
	next := c.opened + int64(c.hub.heartbeat)
	if s := c.session.Load(); !s.ExpiresAt.IsZero() {
		next = min(next, s.ExpiresAt.UnixNano())
	}
	c.hub.wheel.set(&c.timer, next)
}

// speaksVersion13 answers a handshake of another version with the one that is spoken here (RFC 6455 section 4.4).
func speaksVersion13(w http.ResponseWriter, r *http.Request) error {
	version, asked := r.Header["Sec-Websocket-Version"]
	if !asked || slices.ContainsFunc(version, func(v string) bool {
		return slices.ContainsFunc(strings.Split(v, ","), func(v string) bool { return strings.TrimSpace(v) == "13" })
	}) {
		return nil
	}
	w.Header().Set("Sec-WebSocket-Version", "13")
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	writeError(w, http.StatusUpgradeRequired, "bad_handshake", "only version 13 of the WebSocket protocol is spoken here")
	return fmt.Errorf("hub: upgrade: version %q", version)
}

// onlyHandshake refuses what gorilla takes although RFC 6455 section 4.2.1 does not: an older HTTP, a field of the
// handshake that stands there twice, and a body, whose bytes would be read as frames.
func onlyHandshake(w http.ResponseWriter, r *http.Request) error {
	var why string
	switch {
	case !r.ProtoAtLeast(1, 1):
		why = "a WebSocket needs HTTP/1.1"
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		why = "a handshake has no body"
	case len(r.Header["Sec-Websocket-Key"]) > 1:
		why = "Sec-WebSocket-Key stands in the handshake more than once"
	case len(r.Header["Sec-Websocket-Version"]) > 1:
		why = "Sec-WebSocket-Version stands in the handshake more than once"
	default:
		return nil
	}
	w.Header().Set("Connection", "close") // what follows may be no request
	writeError(w, http.StatusBadRequest, "bad_handshake", why)
	return fmt.Errorf("hub: upgrade: %s", why)
}

func newClientID() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hijack lets gorilla answer the handshake through the door. What it makes of the connection besides is not needed: an
// ear is lent to the Conn when something comes.
type hijack struct {
	http.ResponseWriter
	c *Conn
}

func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, brw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := h.c
	c.net, c.raw = nc, rawConn(nc)
	if n := brw.Reader.Buffered(); n > 0 { // a client that does not wait for the answer
		early, _ := brw.Reader.Peek(n)
		c.early = append(c.early, early...)
		_, _ = brw.Reader.Discard(n)
	}
	return (*answering)(c), brw, nil
}

// answering is the Conn while the handshake is answered.
type answering Conn

func (a *answering) Write(p []byte) (int, error) {
	c := (*Conn)(a)
	c.mu.Lock()
	c.sendLocked(piece{buf: bytes.Clone(p), head: len(p)})
	c.mu.Unlock()
	return len(p), nil
}

func (a *answering) Read([]byte) (int, error)           { return 0, io.EOF } // nobody reads yet
func (a *answering) Close() error                       { return a.net.Close() }
func (a *answering) LocalAddr() net.Addr                { return a.net.LocalAddr() }
func (a *answering) RemoteAddr() net.Addr               { return a.net.RemoteAddr() }
func (a *answering) SetDeadline(t time.Time) error      { return a.net.SetDeadline(t) }
func (a *answering) SetReadDeadline(t time.Time) error  { return a.net.SetReadDeadline(t) }
func (a *answering) SetWriteDeadline(t time.Time) error { return a.net.SetWriteDeadline(t) }

// welcome joins the rooms that the socket begins with and sends the welcome, the answer to the handshake
// before it and what was missed behind it in one write.
func (c *Conn) welcome(rooms []string) {
	defer c.uncork()
	ctx := c.hub.soon()
	asked := firstRooms(c.user, rooms)
	joinings := make([]joining, len(asked))
	joined := make([]*joining, len(asked))
	var start *Room // the last of those that nobody is in yet; the others start meanwhile
	for i, a := range asked {
		j := &joinings[i]
		j.name, j.since = a.name, a.since
		joined[i] = j
		switch {
		case a.bad != nil:
			j.err = a.bad
		case i >= ownRooms && !c.session.Load().mayJoin(c.hub.rule(a.name), a.name):
			j.err = refusedJoin
		case i >= ownRooms+c.hub.limits.RoomsPerSocket:
			j.err = refusedRooms
		default:
			var first bool
			if j.room, first = c.hub.hold(a.name); first {
				if start != nil && !c.hub.start(start.start) {
					start.start()
				}
				start = j.room
			}
		}
	}
	c.mu.Lock()
	c.rooms = make([]*member, 0, len(joined))
	c.mu.Unlock()
	if start != nil {
		start.start()
	}
	var late []*joining
	for _, j := range joined {
		if j.err == nil {
			c.begin(ctx, j)
		}
		if j.err != nil && !errors.As(j.err, new(*refusal)) {
			j.err = c.away("connect", j.err)
			late = append(late, j)
		}
	}
	c.finish(joined, func() []byte { return c.proto.welcome(c, joined) })
	c.hub.late.later(c, late)
}

// appendWelcome appends the push that tells a client who it is and where it has joined.
func (c *Conn) appendWelcome(b []byte, joined []*joining) []byte {
	b = appendInt(append(b, `{"meta":{"timestamp":`...), time.Now().UnixMilli())
	b = appendString(append(b, `},"data":{"action":"welcome","payload":{"client":`...), c.id)
	b = appendString(append(b, `,"user":`...), c.user)
	b = strconv.AppendFloat(append(b, `,"heartbeat":`...), c.hub.heartbeat.Seconds(), 'f', -1, 64)
	b = appendJoinedRooms(append(b, ','), joined)
	return append(b, `}}}`...)
}

// appendJoinedRooms appends the rooms that a socket has joined, and those that it may not, as two fields.
func appendJoinedRooms(b []byte, joined []*joining) []byte {
	b = append(b, `"rooms":[`...)
	n := 0
	for _, j := range joined {
		if j.err != nil {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = append(appendJoined(appendString(append(b, `{"room":`...), j.name), j), '}')
	}
	b = append(b, ']')
	n = 0
	for _, j := range joined {
		no, ok := errors.AsType[*refusal](j.err)
		if !ok {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		} else {
			b = append(b, `,"refused":[`...)
		}
		b = appendString(append(b, `{"room":`...), j.name)
		b = append(appendString(append(b, `,"error":`...), no.Word), '}')
	}
	if n > 0 {
		b = append(b, ']')
	}
	return b
}

type firstRoom struct {
	name  string
	since *Position
	bad   *refusal
}

const maxFirstRooms = 1024 // of one query; what is beyond is not even looked at

// firstRooms reads the rooms of a query, after the two that everybody joins. A room named twice counts
// once; a position that is given counts.
func firstRooms(user string, query []string) []firstRoom {
	query = query[:min(len(query), maxFirstRooms)]
	list := append(make([]firstRoom, 0, ownRooms+len(query)), firstRoom{name: "all"}, firstRoom{name: "user:" + user})
	seen := make(map[string]int) // of small size without an allocation
	for i := range list {
		seen[list[i].name] = i
	}
	for _, text := range query {
		f := parseFirstRoom(text)
		i, twice := seen[f.name]
		if !twice {
			seen[f.name] = len(list)
			list = append(list, f)
		} else if f.bad == nil && list[i].since == nil {
			list[i].since = f.since
		}
	}
	return list
}

func parseFirstRoom(text string) firstRoom {
	name, pos, positioned := strings.Cut(text, "@")
	f := firstRoom{name: name}
	if !validRoom(name) {
		if len(f.name) > maxRoomName {
			f.name = f.name[:maxRoomName]
		}
		f.bad = refusedRoom
		return f
	}
	if positioned {
		i := strings.LastIndexByte(pos, ':')
		offset, err := strconv.ParseUint(pos[i+1:], 10, 64)
		if i < 0 || err != nil {
			f.bad = refusedSince
			return f
		}
		f.since = &Position{pos[:i], offset}
	}
	return f
}
