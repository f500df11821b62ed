// Package hub delivers messages to the sockets of a room.
//
// Delivery: in Offset order, at least once on the wire, once per Message.ID to the page. A part of a
// stream that is lost is always announced, never skipped.
// Concurrency: one reader goroutine per socket, a flusher only while frames wait for the kernel. Lock
// order: shards, Room.mu, chunk.mu, Conn.mu, wheel.mu, roll.mu; nothing blocks under any of them.
// Lifecycle: Shutdown returns when every goroutine that the Hub started has ended.
// Dependencies: gorilla/websocket, go-redis and hub/socketio; never wechat, store or web.
package hub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A Session is who a socket speaks for. The caller has checked it.
type Session struct {
	User      string    // [A-Za-z0-9_.-]{1,64}
	Role      string    // "user", "staff" or "admin"
	ID        string    // of the token (jti): the handle by which the session is ended
	Rooms     []string  // patterns of rooms that it may join beyond the rules
	ExpiresAt time.Time // the socket is closed then, unless refreshed
	// Address is where the client connects from, as far as the caller believes it: Limits.SocketsPerAddress counts
	// by it. The zero Addr is not counted. A refresh does not change it.
	Address netip.Addr
}

// Options say how a Hub works. The zero value of a field means its default.
type Options struct {
	Broker       Broker // nil: a MemoryBroker. One that is a Cluster makes this hub a node of it
	Mail         Mail   // nil: no durable mail; "user:ID" is then an ordinary room of the Broker
	Rules        []Rule // nil: DefaultRules
	Limits       Limits
	Heartbeat    time.Duration                                            // 25 s: below the 60 s after which proxies cut an idle socket
	Authenticate func(ctx context.Context, token string) (Session, error) // for the refresh frame; nil: refused
	// Moderate judges what a socket publishes in a room whose rule says so, before anybody sees it: nil lets it pass,
	// ErrRisky refuses it, another error says that nobody could judge it (the client is told to try again).
	Moderate func(ctx context.Context, s Session, room string, m Message) error
	// Compression offers permessage-deflate to clients that ask for it: each message is compressed once for all who
	// hear it. Off by default: it costs time for every message, and most are smaller than what it saves.
	Compression bool
	Logger      *slog.Logger
}

// Limits protect the hub. Zero means the default.
type Limits struct {
	FrameBytes      int64   // 16 KiB a client frame: a chat message, not an upload
	InflatedBytes   int64   // 64 KiB a compressed client frame may grow to; never less than FrameBytes
	FramesPerSecond float64 // 20, burst FramesBurst 60
	FramesBurst     int
	BadFrames       int  // 20 in a minute are abuse
	RoomsPerSocket  int  // 128
	SocketsPerUser  int  // 8: a phone, a tablet, a desk, and lines not yet known to be dead
	UserFull        Full // CloseOldest: a reconnect whose old line is not known to be dead must succeed
	// SocketsPerAddress counts the sockets of one Session.Address on this node: 20,000, because phone networks and
	// companies put thousands of people behind one; the limit only keeps one host from taking every descriptor.
	SocketsPerAddress int
	AddressFull       Full          // RefuseNew: else one guest of a network could push out the others
	QueueBytes        int           // 1 MiB waiting for one socket
	QueueFrames       int           // 1000
	ReplayBytes       int           // 4 MiB of missed messages for one socket: what exceeds it is not recovered
	ReplayFrames      int           // 2000
	WriteWait         time.Duration // 5 s: a stuck write holds its own socket this long, no other
	ConnectWait       time.Duration // 5 s in which a Socket.IO client must have said who it is; at most one heartbeat
}

// Full says what happens to one socket too many.
type Full string

const (
	CloseOldest Full = "close-oldest" // the oldest is closed with DisconnectReplaced
	RefuseNew   Full = "refuse-new"   // the new one is answered 429, or closed with DisconnectTooMany when it was quick
)

// Who a Disconnect is meant for: every socket that fits all the fields set.
type Target struct {
	User    string
	Session string
	Room    string // sockets that are in it
}

// Presence tells who is in a room. A person with several sockets counts once.
type Presence struct {
	Count int
	Users []PresentUser // nil where the room's rule gives a count only
}

type PresentUser struct {
	ID      string `json:"id"`
	Sockets int    `json:"sockets"`
}

// RoomInfo is one row of the list of rooms that have members here.
type RoomInfo struct {
	Room    string
	Users   int
	Sockets int
	Head    Position
}

// Stats are the hub's figures since start; gauges are of now.
type Stats struct {
	Sockets, Users, Rooms         int
	Published, Delivered, Written uint64 // messages accepted · (message, socket) pairs handed over · system calls made for them
	Dropped                       uint64 // sockets closed because they read too slowly
	BadFrames                     uint64
	Closed                        map[int]uint64 // by close code
	Recovered, NotRecovered       uint64
	MailHeads, MailHeadBatches    uint64 // mailboxes whose position was asked for, in so many questions
}

// Errors that callers test.
var (
	ErrRoomName = errors.New("hub: room name must be [A-Za-z0-9_.:-]{1,128}")
	ErrClosed   = errors.New("hub: shut down")
	ErrPayload  = errors.New("hub: payload must be valid JSON in UTF-8, action must not be empty")
	ErrTooMany  = errors.New("hub: more messages than the room's rule allows: wait a moment")
	// ErrTooManySockets refuses a socket where Limits say RefuseNew.
	ErrTooManySockets = errors.New("hub: as many sockets as one user or address may have are open")

	ErrRisky = errors.New("hub: content that others must not see") // for Options.Moderate
	ErrMail  = errors.New("hub: the stream of this room is mail: store the message where mail is kept, then Ring")

	errAnswers = errors.New("hub: a stream answered for another number of rooms")
)

const hubShards = 64 // enough that joins of different rooms seldom meet

// A Hub is this node: its sockets, its rooms, and what is said in them. All methods are safe for
// concurrent use.
type Hub struct {
	broker       Broker
	ownBroker    bool
	cluster      Cluster // the broker, if it joins several nodes; else nil
	roll         *roll   // what the cluster is to know of this node; nil without
	mail         Mail
	rules        []Rule
	limits       Limits
	heartbeat    time.Duration
	patience     time.Duration // how long one question to a Broker or Mail may take
	shared       atomic.Pointer[deadline]
	ears         ears
	everywhere   bool // the broker delivers every room here, subscribed or not
	authenticate func(ctx context.Context, token string) (Session, error)
	moderate     func(ctx context.Context, s Session, room string, m Message) error
	compression  bool
	log          *slog.Logger

	wheel     *wheel
	seed      maphash.Seed
	rooms     [hubShards]roomShard
	users     [hubShards]userShard
	addresses [hubShards]addressShard
	rates     rates
	roomHeads batcher[Position]
	mailHeads batcher[Position]
	acked     batcher[uint64]
	late      latecomers
	writings  writings
	guests    guests

	ctx    context.Context // ends when the hub is shut down
	cancel context.CancelFunc
	conns  sync.WaitGroup // readers
	tasks  sync.WaitGroup // flushers, fan-outs, fills: every other goroutine but the wheel's
	life   sync.RWMutex   // guards the next two against starting what nobody waits for
	full   bool           // no new sockets
	over   bool           // no new work

	sockets                 atomic.Int64
	published, delivered    atomic.Uint64
	written, dropped        atomic.Uint64
	badFrames               atomic.Uint64
	recovered, notRecovered atomic.Uint64
	closedMu                sync.Mutex
	closed                  map[int]uint64
}

// New builds a Hub. Shutdown ends it. It fails when a rule makes no sense.
func New(o Options) (*Hub, error) {
	h := &Hub{
		broker: o.Broker, mail: o.Mail, rules: o.Rules, limits: o.Limits.defaults(), heartbeat: o.Heartbeat,
		authenticate: o.Authenticate, moderate: o.Moderate, compression: o.Compression, log: o.Logger, patience: 5 * time.Second, seed: maphash.MakeSeed(),
		closed: make(map[int]uint64),
	}
	if h.rules == nil {
		h.rules = DefaultRules()
	}
	for _, r := range h.rules {
		if err := r.Check(); err != nil {
			return nil, err
		}
	}
	if h.heartbeat <= 0 {
		h.heartbeat = 25 * time.Second
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.broker == nil {
		b, err := NewMemoryBroker(nil)
		if err != nil {
			return nil, err
		}
		h.broker, h.ownBroker = b, true
	}
	for i := range hubShards {
		h.rooms[i].rooms = make(map[string]*Room)
		h.users[i].conns = make(map[string][]*Conn)
		h.addresses[i].lists = make(map[netip.Addr]*addressList)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.late.hub = h
	h.roomHeads = batcher[Position]{hub: h, ask: h.broker.Heads}
	if h.mail != nil {
		h.mailHeads = batcher[Position]{hub: h, ask: h.mail.Heads}
		h.acked = batcher[uint64]{hub: h, ask: h.mail.Acked}
		h.writings.witness, _ = h.mail.(witness)
	}
	_, h.everywhere = h.broker.(*MemoryBroker)
	h.broker.Listen(h.hear)
	h.joinCluster()
	h.wheel = newWheel(min(max(h.heartbeat/64, 10*time.Millisecond), 500*time.Millisecond))
	go h.wheel.run()
	return h, nil
}

func (l Limits) defaults() Limits {
	byDefault(&l.FrameBytes, 16<<10)
	byDefault(&l.InflatedBytes, 64<<10)
	l.InflatedBytes = max(l.InflatedBytes, l.FrameBytes)
	byDefault(&l.FramesPerSecond, 20)
	byDefault(&l.FramesBurst, 60)
	byDefault(&l.BadFrames, 20)
	byDefault(&l.RoomsPerSocket, 128)
	byDefault(&l.SocketsPerUser, 8)
	byDefault(&l.SocketsPerAddress, 20_000)
	if l.UserFull == "" {
		l.UserFull = CloseOldest
	}
	if l.AddressFull == "" {
		l.AddressFull = RefuseNew
	}
	byDefault(&l.QueueBytes, 1<<20)
	byDefault(&l.QueueFrames, 1000)
	byDefault(&l.ReplayBytes, 4<<20)
	byDefault(&l.ReplayFrames, 2000)
	byDefault(&l.WriteWait, 5*time.Second)
	byDefault(&l.ConnectWait, 5*time.Second)
	return l
}

func byDefault[T int | int64 | float64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Disconnect closes the sockets that fit t and tells how many there were on this node. The other nodes of a
// Cluster do so within a second, and one that is cut off when it is back. An empty Target fits none.
func (h *Hub) Disconnect(t Target, d Disconnect) int {
	if h.cluster != nil && t != (Target{}) {
		h.roll.order(t, d)
	}
	return h.disconnect(t, d, 0)
}

// disconnect ends the sockets of this node that were opened before the Unix nanosecond before; 0: all.
func (h *Hub) disconnect(t Target, d Disconnect, before int64) int {
	n := 0
	end := func(c *Conn) {
		if before != 0 && c.opened > before {
			return
		}
		if t.Session != "" && c.session.Load().ID != t.Session || t.User != "" && c.user != t.User {
			return
		}
		if c.close(d) {
			n++
		}
	}
	switch {
	case t.Room != "":
		if r := h.room(t.Room); r != nil {
			r.each(func(m *member) { end(m.conn) })
		}
	case t.User != "":
		for _, c := range h.connsOf(t.User) {
			end(c)
		}
	case t.Session != "":
		h.eachConn(end)
	}
	return n
}

// History reads a piece of a room's stream. A Limit of 0 means 300.
func (h *Hub) History(ctx context.Context, room string, q Query) (Page, error) {
	if !validRoom(room) {
		return Page{}, ErrRoomName
	}
	if q.Limit <= 0 {
		q.Limit = historyMost
	}
	read := h.stream(h.rule(room)).Read
	if q.Before > 0 {
		read = h.readBefore
	}
	p, err := read(ctx, room, q)
	if err != nil {
		return Page{}, fmt.Errorf("hub: history of %s: %w", room, err)
	}
	return p, nil
}

// readBefore reads backwards: Offsets have no holes, so it knows where the piece begins that ends before q.Before.
func (h *Hub) readBefore(ctx context.Context, room string, q Query) (p Page, err error) {
	next := max(q.After+1, q.Before-min(q.Before-1, uint64(q.Limit)))
	for {
		page, err := h.stream(h.rule(room)).Read(ctx, room, Query{After: next - 1, Limit: max(1, int(q.Before-min(next, q.Before)))})
		if err != nil {
			return Page{}, err
		}
		if p.Messages != nil && page.Epoch != p.Epoch {
			return p, nil
		}
		said := p.Messages
		p = page
		p.Messages = said
		for _, m := range page.Messages {
			if next = m.Offset + 1; m.Offset < q.Before {
				p.Messages = append(p.Messages, m)
			}
		}
		if len(page.Messages) == 0 || next >= min(q.Before, page.Head+1) { // a stream may give fewer at once
			return p, nil
		}
	}
}

// Rooms lists the rooms that have members, by name: on every node of a Cluster, else on this one.
func (h *Hub) Rooms(ctx context.Context) ([]RoomInfo, error) {
	if h.cluster != nil {
		return h.clusterRooms(ctx)
	}
	return h.localRooms(), nil
}

func (h *Hub) localRooms() []RoomInfo {
	var list []RoomInfo
	for i := range h.rooms {
		sh := &h.rooms[i]
		sh.mu.RLock()
		rooms := make([]*Room, 0, len(sh.rooms))
		for _, r := range sh.rooms {
			rooms = append(rooms, r)
		}
		sh.mu.RUnlock()
		for _, r := range rooms {
			users := r.count()
			r.mu.Lock()
			info := RoomInfo{Room: r.name, Users: users, Sockets: r.size, Head: r.at}
			r.mu.Unlock()
			if info.Sockets > 0 {
				list = append(list, info)
			}
		}
	}
	sortRooms(list)
	return list
}

func sortRooms(list []RoomInfo) {
	sort.Slice(list, func(i, j int) bool { return list[i].Room < list[j].Room })
}

func (h *Hub) Stats() Stats {
	s := Stats{
		Sockets: int(h.sockets.Load()), Published: h.published.Load(), Delivered: h.delivered.Load(),
		Written: h.written.Load(), Dropped: h.dropped.Load(), BadFrames: h.badFrames.Load(),
		Recovered: h.recovered.Load(), NotRecovered: h.notRecovered.Load(),
		MailHeads: h.mailHeads.rooms.Load(), MailHeadBatches: h.mailHeads.batches.Load(),
	}
	for i := range hubShards {
		h.rooms[i].mu.RLock()
		s.Rooms += len(h.rooms[i].rooms)
		h.rooms[i].mu.RUnlock()
		h.users[i].mu.Lock()
		s.Users += len(h.users[i].conns)
		h.users[i].mu.Unlock()
	}
	h.closedMu.Lock()
	s.Closed = maps.Clone(h.closed)
	h.closedMu.Unlock()
	return s
}

func (h *Hub) countClosed(code int) {
	h.closedMu.Lock()
	h.closed[code]++
	h.closedMu.Unlock()
}

// start runs f in a goroutine that Shutdown waits for; false when it is too late for that.
func (h *Hub) start(f func()) bool {
	h.life.RLock()
	defer h.life.RUnlock()
	if h.over {
		return false
	}
	h.tasks.Go(f)
	return true
}

// A deadline is a context that many questions share, so that a wave of sockets does not set a timer for each.
type deadline struct {
	context.Context
	renewAt int64 // Unix ns: from then on the next asks for another
}

// soon is a context that ends in patience, or up to a second later.
func (h *Hub) soon() context.Context {
	now := h.wheel.now.Load()
	if d := h.shared.Load(); d != nil && now < d.renewAt {
		return d
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.patience+time.Second)
	context.AfterFunc(ctx, cancel)
	d := &deadline{ctx, now + int64(time.Second)}
	h.shared.Store(d)
	return d
}

// sleep waits for d; false when the hub ends meanwhile.
func (h *Hub) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

func (h *Hub) shard(name string) int { return int(maphash.String(h.seed, name) % hubShards) }

func (h *Hub) roomShard(name string) *roomShard { return &h.rooms[h.shard(name)] }

// room returns the room if it has members here.
func (h *Hub) room(name string) *Room {
	sh := h.roomShard(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.rooms[name]
}

func (h *Hub) isMail(r *Rule) bool { return r.Mail && h.mail != nil }

func (h *Hub) stream(r *Rule) Stream {
	if h.isMail(r) {
		return h.mail
	}
	return h.broker
}

func (h *Hub) heads(r *Rule) *batcher[Position] {
	if h.isMail(r) {
		return &h.mailHeads
	}
	return &h.roomHeads
}
