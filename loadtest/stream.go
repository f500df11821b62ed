package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// A stream is the wire of a line without a descriptor of its own (TLS, other systems than Linux): a reader and a
// writer goroutine, which the loop waits for when it ends.
type stream struct {
	line   *line
	cancel context.CancelFunc

	mu     sync.Mutex // guards what follows
	conn   net.Conn   // nil until connected
	queue  [][]byte
	ready  sync.Cond // the queue or quiet or closed changed
	quiet  bool
	closed bool
}

func newStream(n *line, d dialing) *stream {
	ctx, cancel := context.WithTimeout(context.Background(), d.patient)
	s := &stream{line: n, cancel: cancel}
	s.ready.L = &s.mu
	n.loop.streams.Go(func() { s.live(ctx, d) })
	return s
}

func (s *stream) live(ctx context.Context, d dialing) {
	defer s.cancel()
	dialer := net.Dialer{KeepAlive: -1}
	if d.source != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: d.source}
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.address.String())
	if err == nil && d.receive > 0 {
		_ = conn.(*net.TCPConn).SetReadBuffer(d.receive) // a wish
	}
	if err == nil && d.tls != nil {
		secure := tls.Client(conn, d.tls)
		if err = secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
		}
		conn = secure
	}
	if err != nil {
		s.tell(&ending{err: err})
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	s.conn = conn
	s.queue = append([][]byte{d.request}, s.queue...)
	s.mu.Unlock()
	s.line.loop.streams.Go(func() { s.writeAll(conn) })
	s.readAll(conn)
}

func (s *stream) tell(end *ending) { s.line.loop.post(func() { s.line.finish(end) }) }

func (s *stream) readAll(conn net.Conn) {
	buffer := make([]byte, 4<<10)
	for s.mayRead() {
		k, err := conn.Read(buffer)
		if k > 0 {
			taken := make(chan struct{})
			s.line.loop.post(func() { defer close(taken); s.line.received(buffer[:k]) })
			select {
			case <-taken:
			case <-s.line.loop.done:
				return
			}
		}
		if err != nil {
			if err == io.EOF { //nolint:errorlint // Read returns it bare
				err = io.ErrUnexpectedEOF
			}
			s.tell(&ending{err: err})
			return
		}
	}
}

// mayRead waits while the line is quiet.
func (s *stream) mayRead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.quiet && !s.closed {
		s.ready.Wait()
	}
	return !s.closed
}

func (s *stream) writeAll(conn net.Conn) {
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.ready.Wait()
		}
		queue := s.queue
		s.queue = nil
		closed := s.closed
		s.mu.Unlock()
		for _, b := range queue {
			_ = conn.SetWriteDeadline(time.Now().Add(politeness))
			if _, err := conn.Write(b); err != nil {
				break // the reader finds out
			}
		}
		if closed {
			_ = conn.Close()
			return
		}
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, b)
	s.ready.Broadcast()
	return len(b), nil
}

func (s *stream) pause(quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = quiet
	s.ready.Broadcast()
}

func (s *stream) close() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // the writer closes it, after what was said last
	}
	s.ready.Broadcast()
}
