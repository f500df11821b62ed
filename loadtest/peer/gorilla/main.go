// Command gorilla is what most shops write first: a chat hub after gorilla's own example. A goroutine reads each
// socket, another writes it, a message goes into a channel for each, and nobody remembers anything. It is what
// loadtest compare measures others by.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

type socket struct {
	conn *websocket.Conn
	out  chan []byte
}

type hub struct {
	secret []byte
	mu     sync.RWMutex
	rooms  map[string]map[*socket]bool
}

func main() {
	addr := flag.String("addr", "127.0.0.1:9100", "address to listen on")
	secret := flag.String("secret", "", "of the clients' tokens (HS256)")
	flag.Parse()
	h := &hub{secret: []byte(*secret), rooms: map[string]map[*socket]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", h.join)
	mux.HandleFunc("POST /publish", h.publish)
	server := &http.Server{Addr: *addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
}

func (h *hub) join(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	_, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return h.secret, nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		http.Error(w, "token", http.StatusUnauthorized)
		return
	}
	conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s := &socket{conn: conn, out: make(chan []byte, 256)}
	s.out <- []byte("welcome")
	room := r.URL.Query().Get("room")
	h.mu.Lock()
	if h.rooms[room] == nil {
		h.rooms[room] = map[*socket]bool{}
	}
	h.rooms[room][s] = true
	h.mu.Unlock()
	go s.write()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			break
		}
	}
	h.leave(room, s)
}

// leave takes s out of the room and ends its writer, once.
func (h *hub) leave(room string, s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rooms[room][s] {
		delete(h.rooms[room], s)
		close(s.out)
	}
}

func (s *socket) write() {
	beat := time.NewTicker(25 * time.Second)
	defer beat.Stop()
	defer s.conn.Close()
	for {
		kind, text, more := websocket.PingMessage, []byte(nil), true
		select {
		case text, more = <-s.out:
			kind = websocket.TextMessage
		case <-beat.C:
		}
		if !more {
			return
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // the write tells
		if err := s.conn.WriteMessage(kind, text); err != nil {
			return
		}
	}
}

func (h *hub) publish(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	room := r.URL.Query().Get("room")
	var slow []*socket
	h.mu.RLock()
	for s := range h.rooms[room] {
		select {
		case s.out <- text:
		default:
			slow = append(slow, s)
		}
	}
	h.mu.RUnlock()
	for _, s := range slow {
		h.leave(room, s)
	}
}
