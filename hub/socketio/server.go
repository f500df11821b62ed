package socketio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Options say how a Server works. The zero value of a field means its default.
type Options struct {
	Path           string        // "/socket.io/"; other paths are not found
	PingInterval   time.Duration // 25 s between heartbeats
	PingTimeout    time.Duration // 20 s until a heartbeat must have been answered
	MaxPayload     int64         // 1,000,000 bytes of a message, and of a packet with its attachments
	ConnectTimeout time.Duration // 45 s within which a client of V4 must have entered a namespace
	QueueBytes     int           // 4 MiB that may wait for one client; one that reads more slowly is closed
	Namespaces     int           // 16 that one client may be in
	CheckOrigin    func(*http.Request) bool
	// Message takes the messages of Engine.IO as they come, instead of the whole layer of Socket.IO: no client is
	// asked to enter a namespace then. It is called by the connection's reader; data is its to keep.
	Message func(c *Client, binary bool, data []byte)
	Logger  *slog.Logger
}

func (o Options) defaults() Options {
	if o.Path == "" {
		o.Path = "/socket.io/"
	}
	if o.PingInterval <= 0 {
		o.PingInterval = 25 * time.Second
	}
	if o.PingTimeout <= 0 {
		o.PingTimeout = 20 * time.Second
	}
	if o.MaxPayload <= 0 {
		o.MaxPayload = 1_000_000
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 45 * time.Second
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 4 << 20
	}
	if o.Namespaces <= 0 {
		o.Namespaces = 16
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	writeWait   = 5 * time.Second // for one write, and for a goodbye
	lingerBytes = 1 << 20         // of a client that broke the protocol: read and thrown away after the goodbye
)

// A Server takes connections and hands what they say to handlers. All methods are safe for concurrent use.
type Server struct {
	o        Options
	upgrader websocket.Upgrader
	open     sync.WaitGroup // connections

	mu         sync.Mutex // guards what follows
	namespaces map[string]*Namespace
	clients    map[*Client]struct{}
	closed     bool
}

// New builds a Server that has the namespace "/".
func New(o Options) *Server {
	s := &Server{o: o.defaults(), namespaces: map[string]*Namespace{}, clients: map[*Client]struct{}{}}
	s.upgrader = websocket.Upgrader{
		ReadBufferSize: 1024, WriteBufferPool: new(sync.Pool), CheckOrigin: s.o.CheckOrigin,
		Error: func(w http.ResponseWriter, r *http.Request, status int, _ error) {
			if status == http.StatusForbidden {
				http.Error(w, "origin not allowed", status)
				return
			}
			errRequest.ServeHTTP(w, r)
		},
	}
	s.Of("/")
	return s
}

// Of returns the namespace of this name, and makes it if there is none. Clients are refused that ask for one that was
// never made.
func (s *Server) Of(name string) *Namespace {
	if !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.namespaces[name]
	if n == nil {
		n = &Namespace{name: name, events: map[string][]Handler{}, sockets: map[*Socket]struct{}{}}
		s.namespaces[name] = n
	}
	return n
}

func (s *Server) namespace(name string) *Namespace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.namespaces[name]
}

// ServeHTTP upgrades a request and serves the connection until it ends.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != s.o.Path && r.URL.Path+"/" != s.o.Path {
		http.NotFound(w, r)
		return
	}
	h, err := ReadHandshake(r)
	if err != nil {
		err.(*HandshakeError).ServeHTTP(w, r)
		return
	}
	c := &Client{server: s, handshake: h, id: newID(), wake: make(chan struct{}, 1), gone: make(chan struct{}), sockets: map[string]*Socket{}}
	if !s.enter(c) {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	defer s.leave(c)
	if c.ws, err = s.upgrader.Upgrade(w, r, nil); err != nil {
		return
	}
	c.serve()
}

func (s *Server) enter(c *Client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.clients[c] = struct{}{}
	s.open.Add(1)
	return true
}

func (s *Server) leave(c *Client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	s.open.Done()
}

// Close refuses new connections, closes the open ones and waits until they have ended, or until ctx does.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for c := range s.clients {
		c.close(websocket.CloseServiceRestart, "server stops")
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.open.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
