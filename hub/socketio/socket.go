package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// A Handler takes an event. Handlers of one connection are called one after the other, by its reader: what takes long
// belongs into a goroutine.
type Handler func(e *Event)

// An Event is what a client said.
type Event struct {
	Socket *Socket
	Name   string
	Args   []Value

	id    uint64
	asked bool
}

// Asked tells whether the client waits for an acknowledgement.
func (e *Event) Asked() bool { return e.asked }

// Ack acknowledges the event, if the client asked for that. Only the first call counts.
func (e *Event) Ack(arguments ...any) error {
	if !e.asked {
		return nil
	}
	e.asked = false
	l, err := listOf(arguments)
	if err != nil {
		return err
	}
	e.Socket.send(&Packet{Kind: PacketAck, ID: e.id, HasID: true, Data: l.json, Attachments: l.attachments})
	return nil
}

// A Refusal keeps a client out of a namespace: it hears the message, and Data (as JSON) where its version knows of it.
type Refusal struct {
	Message string
	Data    any
}

func (r *Refusal) Error() string { return "socketio: refused: " + r.Message }

func (r *Refusal) data() json.RawMessage {
	if r.Data == nil {
		return nil
	}
	data, err := json.Marshal(r.Data)
	if err != nil {
		return nil
	}
	return data
}

// A Namespace is a part of a server that clients enter on their own.
type Namespace struct {
	name string // fixed

	mu      sync.Mutex // guards what follows
	admit   []func(*Socket) error
	greet   []func(*Socket)
	events  map[string][]Handler
	any     []Handler
	sockets map[*Socket]struct{}
}

// Use asks f before a client enters. Each of several is asked in their order; the first error keeps it out, and a
// *Refusal tells it why.
func (n *Namespace) Use(f func(*Socket) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.admit = append(n.admit, f)
}

// OnConnect calls f when a client has entered, before any event of it. There may be several.
func (n *Namespace) OnConnect(f func(*Socket)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.greet = append(n.greet, f)
}

// On has h take the events of this name from every socket, after the handlers of that socket itself. There may be
// several, called in their order.
func (n *Namespace) On(event string, h Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events[event] = append(n.events[event], h)
}

// OnAny has h take every event of every socket, before those that wait for it by name.
func (n *Namespace) OnAny(h Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.any = append(n.any, h)
}

// Emit says an event to every socket of the namespace. It is encoded once.
func (n *Namespace) Emit(event string, arguments ...any) error {
	p, err := n.event(event, arguments)
	if err != nil {
		return err
	}
	for _, s := range n.Sockets() {
		s.send(p)
	}
	return nil
}

// Sockets lists who is in the namespace.
func (n *Namespace) Sockets() []*Socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*Socket, 0, len(n.sockets))
	for s := range n.sockets {
		list = append(list, s)
	}
	return list
}

func (n *Namespace) admission() []func(*Socket) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.admit[:len(n.admit):len(n.admit)]
}

// enter lists s and returns who is to be told.
func (n *Namespace) enter(s *Socket) []func(*Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[s] = struct{}{}
	return n.greet[:len(n.greet):len(n.greet)]
}

func (n *Namespace) leave(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sockets, s)
}

// handlers lists who takes an event here.
func (n *Namespace) handlers(event string) (any, named []Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.any[:len(n.any):len(n.any)], n.events[event][:len(n.events[event]):len(n.events[event])]
}

// event encodes what is to be said.
func (n *Namespace) event(name string, arguments []any) (*Packet, error) {
	if Reserved(name) {
		return nil, fmt.Errorf("socketio: event %q is reserved", name)
	}
	l, err := listOf(append([]any{name}, arguments...))
	if err != nil {
		return nil, err
	}
	return &Packet{Kind: PacketEvent, Namespace: n.name, Data: l.json, Attachments: l.attachments}, nil
}

// A Socket is one client in one namespace. All methods are safe for concurrent use.
type Socket struct {
	client    *Client
	namespace *Namespace
	id        string
	auth      json.RawMessage
	query     string

	mu        sync.Mutex // guards what follows
	events    map[string][]Handler
	farewells []func(reason string)
	asked     uint64 // questions so far
	waiting   map[uint64]*question
	over      bool
}

// A question waits for its acknowledgement.
type question struct {
	reply func([]Value, error)
	stop  func() bool
}

// ID names the socket: to its client, too.
func (s *Socket) ID() string { return s.id }

// Client is the connection. Namespace's sockets of one client share it.
func (s *Socket) Client() *Client { return s.client }

// Auth is what a client of V4 brought along to enter, a JSON object; nil if nothing.
func (s *Socket) Auth() json.RawMessage { return s.auth }

// Query is what a client of V3 wrote behind the name of the namespace: name=value&…
func (s *Socket) Query() string { return s.query }

// On has h take the events of this name. There may be several, called in their order.
func (s *Socket) On(event string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[event] = append(s.events[event], h)
}

// OnDisconnect calls f when the socket has left its namespace.
func (s *Socket) OnDisconnect(f func(reason string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.farewells = append(s.farewells, f)
}

// Emit says an event to the client. It does not wait: a client that reads too slowly is closed.
func (s *Socket) Emit(event string, arguments ...any) error {
	p, err := s.namespace.event(event, arguments)
	if err != nil {
		return err
	}
	s.send(p)
	return nil
}

var (
	errOver     = errors.New("socketio: the socket has left")
	errQuestion = errors.New("socketio: too many acknowledgements are awaited")
)

const maxQuestions = 1000 // acknowledgements that one socket may owe

// Ask says an event and has reply called with the acknowledgement, by the connection's reader, or with an error when
// ctx ends or the socket leaves before. reply is called once, unless Ask returns an error.
func (s *Socket) Ask(ctx context.Context, event string, reply func([]Value, error), arguments ...any) error {
	p, err := s.namespace.event(event, arguments)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.over || len(s.waiting) >= maxQuestions {
		defer s.mu.Unlock()
		if s.over {
			return errOver
		}
		return errQuestion
	}
	id := s.asked
	s.asked++
	s.waiting[id] = &question{reply: reply, stop: context.AfterFunc(ctx, func() {
		if q := s.question(id); q != nil {
			q.reply(nil, context.Cause(ctx))
		}
	})}
	s.mu.Unlock()
	p.ID, p.HasID = id, true
	s.send(p)
	return nil
}

// question takes out what waits for an acknowledgement.
func (s *Socket) question(id uint64) *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.waiting[id]
	delete(s.waiting, id)
	return q
}

// answered hands an acknowledgement over. One that nobody waits for came too late.
func (s *Socket) answered(p *Packet) {
	q := s.question(p.ID)
	if q == nil {
		return
	}
	q.stop()
	var arguments []json.RawMessage
	_ = json.Unmarshal(p.Data, &arguments) // it is a list
	q.reply(p.values(arguments), nil)
}

// Disconnect has the client leave the namespace; its connection goes on.
func (s *Socket) Disconnect() {
	s.send(&Packet{Kind: PacketDisconnect})
	s.end("server namespace disconnect")
}

func (s *Socket) send(p *Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if p.Namespace == "" {
		p.Namespace = s.namespace.name
	}
	s.client.packet(p)
}

// hear hands an event to those who wait for it. What nobody waits for is passed over.
func (s *Socket) hear(e *Event) {
	all, named := s.namespace.handlers(e.Name)
	s.mu.Lock()
	own := s.events[e.Name][:len(s.events[e.Name]):len(s.events[e.Name])]
	s.mu.Unlock()
	for _, list := range [][]Handler{all, own, named} {
		for _, h := range list {
			h(e)
		}
	}
}

// end is the socket's end in its namespace, once.
func (s *Socket) end(reason string) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over = true
	waiting, farewells := s.waiting, s.farewells
	s.waiting = nil
	s.mu.Unlock()
	c := s.client
	c.mu.Lock()
	delete(c.sockets, s.namespace.name)
	c.mu.Unlock()
	s.namespace.leave(s)
	for _, q := range waiting {
		q.stop()
		q.reply(nil, errOver)
	}
	for _, f := range farewells {
		f(reason)
	}
}
