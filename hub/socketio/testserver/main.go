// Command testserver is what the protocol suites of Socket.IO and Engine.IO are run against: /engine.io/ echoes every
// message, /socket.io/ answers as the suites expect it, in the namespaces "/" and "/custom".
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"wxhub/hub/socketio"
)

func main() {
	addr := flag.String("addr", "localhost:3000", "where to listen")
	interval := flag.Duration("ping-interval", 300*time.Millisecond, "between heartbeats")
	timeout := flag.Duration("ping-timeout", 200*time.Millisecond, "until a heartbeat must have been answered")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addr, *interval, *timeout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. A host's name is listened to on every address that it has.
func run(ctx context.Context, addr string, interval, timeout time.Duration) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	hosts, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler(interval, timeout), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, len(hosts))
	listening := 0
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			fmt.Fprintln(os.Stderr, "testserver:", err)
			continue
		}
		listening++
		fmt.Println("listening on", l.Addr())
		go func() { failed <- srv.Serve(pausing{l}) }()
	}
	if listening == 0 {
		return fmt.Errorf("nothing to listen on at %s", addr)
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	_ = srv.Close()
	return err
}

func handler(interval, timeout time.Duration) http.Handler {
	options := socketio.Options{
		PingInterval: interval, PingTimeout: timeout, MaxPayload: 1_000_000, ConnectTimeout: time.Second,
		CheckOrigin: func(*http.Request) bool { return true },
	}
	server := socketio.New(options)
	for _, name := range []string{"/", "/custom"} {
		n := server.Of(name)
		n.OnConnect(func(s *socketio.Socket) {
			auth := s.Auth()
			if auth == nil {
				auth = json.RawMessage("{}")
			}
			_ = s.Emit("auth", auth)
		})
		n.On("message", func(e *socketio.Event) { _ = e.Socket.Emit("message-back", values(e.Args)...) })
		n.On("message-with-ack", func(e *socketio.Event) { _ = e.Ack(values(e.Args)...) })
	}
	options.Path = "/engine.io/"
	options.Message = func(c *socketio.Client, binary bool, data []byte) { c.Send(binary, data) }
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", server)
	mux.Handle("/engine.io/", socketio.New(options))
	return mux
}

// A pausing listener's connections wait a moment between the answer to a handshake and what follows it: one of the
// cases begins to listen only when it has been told that its connection is open, and would miss what came along.
type pausing struct{ net.Listener }

func (l pausing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pausingConn{Conn: c}, nil
}

// Only one goroutine at a time writes to a connection.
type pausingConn struct {
	net.Conn
	opened bool
}

func (c *pausingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if !c.opened {
		c.opened = true
		time.Sleep(20 * time.Millisecond)
	}
	return n, err
}

func values(args []socketio.Value) []any {
	list := make([]any, len(args))
	for i, a := range args {
		list[i] = a
	}
	return list
}
