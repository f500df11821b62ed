package hub

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A sink is the other end of a socket for benchmarks: it takes everything at once and says nothing. It lives in memory
// and has no descriptor, so its socket takes the queue path. With a device it has one, of that device: its socket takes
// the path of the non-blocking write, and what is measured is the hub, with a system call that does nothing.
type sink struct {
	taken  *atomic.Int64 // bytes, of all sinks
	device *os.File
	mu     sync.Mutex
	ended  chan struct{} // made by whoever waits
	over   bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.taken.Add(int64(len(p)))
	return len(p), nil
}

func (s *sink) Read([]byte) (int, error) {
	s.wait()
	return 0, io.EOF
}

func (s *sink) wait() {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	if s.ended == nil {
		s.ended = make(chan struct{})
	}
	ended := s.ended
	s.mu.Unlock()
	<-ended
}

func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && s.ended != nil {
		close(s.ended)
	}
	s.over = true
	return nil
}

// SetReadDeadline ends the sink: a hub sets one when it says goodbye, and nobody answers here.
func (s *sink) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return s.Close()
}

func (s *sink) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *sink) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// deviceSink shows the descriptor, which a sink in memory must not seem to have.
type deviceSink struct{ *sink }

func (d deviceSink) SyscallConn() (syscall.RawConn, error) { return deviceRaw(d), nil }

type deviceRaw struct{ *sink }

func (d deviceRaw) Control(f func(fd uintptr)) error {
	return d.Write(func(fd uintptr) bool { f(fd); return true })
}
func (d deviceRaw) Read(func(fd uintptr) bool) error { d.wait(); return nil }
func (d deviceRaw) Write(f func(fd uintptr) bool) error {
	f(d.device.Fd())
	return nil
}

// sinks opens sockets whose other ends are sinks.
type sinks struct {
	h      *Hub
	device *os.File // nil: in memory
	taken  atomic.Int64
	brw    sync.Pool
}

func newSinks(h *Hub, device *os.File) *sinks {
	s := &sinks{h: h, device: device}
	s.brw.New = func() any {
		return bufio.NewReadWriter(bufio.NewReader(bytes.NewReader(nil)), bufio.NewWriterSize(io.Discard, 1024))
	}
	return s
}

// devNull is a device that takes everything.
func devNull(t testing.TB) *os.File {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// open brings user to the hub by the real upgrade and join, in the rooms of the query. It fails only when the hub does.
func (s *sinks) open(user string, rooms ...string) error {
	r := &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "hub",
		URL: &url.URL{Path: "/ws", RawQuery: url.Values{"room": rooms}.Encode()},
		Header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		},
	}
	brw := s.brw.Get().(*bufio.ReadWriter)
	defer s.brw.Put(brw)
	end := &sink{taken: &s.taken, device: s.device}
	w := &pipeResponse{conn: end, brw: brw, header: http.Header{}}
	if s.device != nil {
		w.conn = deviceSink{end}
	}
	return s.h.Accept(w, r, Session{User: user, ID: "s" + user, Role: "user", ExpiresAt: time.Now().Add(time.Hour)})
}

// openMany opens n sockets of as many users, from as many goroutines as there are cores.
func (s *sinks) openMany(t testing.TB, n int, rooms ...string) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				i := next.Add(1)
				if int(i) > n {
					return
				}
				if err := s.open(fmt.Sprintf("u%07d", i), rooms...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// noMail is mail that nobody ever got: what a mailbox table without rows answers.
type noMail struct{}

func (noMail) Heads(_ context.Context, rooms []string) ([]Position, error) {
	list := make([]Position, len(rooms))
	for i := range list {
		list[i].Epoch = "mail"
	}
	return list, nil
}
func (noMail) Read(context.Context, string, Query) (Page, error) {
	return Page{Epoch: "mail", First: 1}, nil
}
func (noMail) Acked(_ context.Context, rooms []string) ([]uint64, error) {
	return make([]uint64, len(rooms)), nil
}
func (noMail) Ack(context.Context, string, uint64) error { return nil }
