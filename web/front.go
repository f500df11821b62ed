package web

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Front stands before an http.Server: it serves the handshakes of sockets itself and hands every other connection on,
// as if nobody had looked at it. net/http prepares two buffers of 4 KiB, a second goroutine and a dozen objects for
// requests that may follow on the same connection, and a connection that becomes a socket throws all of it away: that
// is half of what a wave of reconnects costs.
//
// Only what is beyond doubt stays here: a TCP connection whose first bytes are one whole GET request of HTTP/1.1 that
// asks for a WebSocket, or one on which a program broadcasts (post.go). Slow, large and odd ones go to net/http.
type Front struct {
	listener net.Listener
	handler  http.Handler
	post     func(p post, out []byte) (answer []byte, ok bool)
	patience time.Duration
	log      *slog.Logger

	others chan net.Conn     // for Accept
	work   chan *net.TCPConn // for a worker that has nothing to do
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup

	mu   sync.Mutex
	err  error                     // why the listener ended
	kept map[*net.TCPConn]struct{} // on which posts come
}

const (
	headBytes   = 4 << 10         // of a handshake that is served here
	workerIdles = 5 * time.Second // a worker keeps its stack so long for the next of a wave
)

// Front serves handshakes that come on l with handler, and broadcasts itself, and gives the rest to whoever calls Accept:
// an http.Server with the same handler, which leads to s. A connection that says nothing for patience is closed. The
// Server closes the Front; Wait returns when the last handshake is over.
func (s *Server) Front(l net.Listener, handler http.Handler, patience time.Duration, log *slog.Logger) *Front {
	return newFront(l, handler, s.post, patience, log)
}

func newFront(l net.Listener, handler http.Handler, answer func(post, []byte) ([]byte, bool), patience time.Duration, log *slog.Logger) *Front {
	f := &Front{
		listener: l, handler: handler, post: answer, patience: patience, log: log, kept: make(map[*net.TCPConn]struct{}),
		others: make(chan net.Conn), work: make(chan *net.TCPConn), closed: make(chan struct{}),
	}
	f.done.Go(f.listen)
	return f
}

// Addr is for net.Listener.
func (f *Front) Addr() net.Addr { return f.listener.Addr() }

// Close ends the listener and the connections that wait for a next request. What is under way goes on.
func (f *Front) Close() error {
	err := f.listener.Close()
	f.once.Do(func() { close(f.closed) })
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.kept {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// Wait returns when nothing of the Front runs any more. Call it after Close.
func (f *Front) Wait() { f.done.Wait() }

// Accept returns the next connection that is not for the Front.
func (f *Front) Accept() (net.Conn, error) {
	select {
	case c := <-f.others:
		return c, nil
	case <-f.closed:
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err != nil {
			return nil, f.err
		}
		return nil, net.ErrClosed
	}
}

func (f *Front) listen() {
	pause := 5 * time.Millisecond
	for {
		c, err := f.listener.Accept()
		if err != nil {
			if again, ok := errors.AsType[interface {
				error
				Temporary() bool
			}](err); ok && again.Temporary() { // no descriptor is left: some will be
				f.log.Warn("connection not taken", "err", err)
				select {
				case <-time.After(pause):
				case <-f.closed:
				}
				pause = min(2*pause, time.Second)
				continue
			}
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
			f.once.Do(func() { close(f.closed) })
			return
		}
		pause = 5 * time.Millisecond
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			f.done.Go(func() { f.handOn(c) })
			continue
		}
		select {
		case f.work <- tcp:
		default:
			f.done.Go(func() { f.worker(tcp) })
		}
	}
}

// worker meets one connection after the other, as long as they come.
func (f *Front) worker(c *net.TCPConn) {
	idle := time.NewTimer(workerIdles)
	defer idle.Stop()
	for {
		f.meet(c)
		idle.Reset(workerIdles)
		select {
		case c = <-f.work:
		case <-idle.C:
			return
		case <-f.closed:
			return
		}
	}
}

func (f *Front) handOn(c net.Conn) {
	select {
	case f.others <- c:
	case <-f.closed:
		_ = c.Close()
	}
}

// handBegun hands on a connection of which early was read.
func (f *Front) handBegun(c *net.TCPConn, early []byte) {
	_ = c.SetReadDeadline(time.Time{})
	f.handOn(&begun{TCPConn: c, early: bytes.Clone(early)})
}

// A head reads the first bytes of a connection.
type head struct {
	bytes [headBytes]byte
	text  bytes.Reader
	lines *bufio.Reader
	out   *bufio.Writer // lent by Hijack

	answer []byte // to a post
	failed bool   // … and nothing can follow it
}

var heads = sync.Pool{New: func() any {
	h := new(head)
	h.lines = bufio.NewReaderSize(&h.text, headBytes)
	h.out = bufio.NewWriterSize(nil, 1<<10)
	return h
}}

func (f *Front) meet(c *net.TCPConn) {
	h := heads.Get().(*head)
	defer heads.Put(h) // after the answer
	_ = c.SetReadDeadline(time.Now().Add(f.patience))
	n, err := c.Read(h.bytes[:])
	if err != nil {
		_ = c.Close()
		return
	}
	if h.bytes[0] == 'P' && f.post != nil {
		f.posts(c, h, n)
		return
	}
	r := h.handshake(n)
	if r == nil {
		f.handBegun(c, h.bytes[:n])
		return
	}
	r.RemoteAddr = c.RemoteAddr().String()
	a := &meeting{conn: c, head: h, header: make(http.Header, 8)}
	defer a.end()
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			f.log.Error("panic in a handshake", "cause", panicCause(p))
		}
	}()
	f.handler.ServeHTTP(a, r)
}

// handshake reads the request for a WebSocket that the first n bytes are, or nothing if there is any doubt.
func (h *head) handshake(n int) *http.Request {
	text := h.bytes[:n]
	if !bytes.HasPrefix(text, []byte("GET /")) || !bytes.HasSuffix(text, []byte("\r\n\r\n")) || !plainLines(text) {
		return nil
	}
	h.text.Reset(text)
	h.lines.Reset(&h.text)
	r, err := http.ReadRequest(h.lines)
	if err != nil || h.lines.Buffered() > 0 || h.text.Len() > 0 {
		return nil
	}
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Host == "" || r.ContentLength != 0 || len(r.TransferEncoding) > 0 ||
		r.Header["Content-Length"] != nil || r.Header["Expect"] != nil || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return nil
	}
	return r
}

// plainLines tells whether the text is one head: every line ends in CR LF and holds nothing but text, every field has a
// name of letters, digits and dashes, and there is one Host that is a name or an address.
func plainLines(text []byte) bool {
	hosts := 0
	for first := true; len(text) > 0; first = false {
		line, rest, ok := bytes.Cut(text, []byte("\r\n"))
		if text = rest; !ok || len(line) == 0 {
			return ok && len(rest) == 0 && hosts == 1
		}
		for _, b := range line {
			if b < ' ' && b != '\t' || b == 0x7f {
				return false
			}
		}
		if first {
			continue
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || !only(name, "-_") {
			return false
		}
		if bytes.EqualFold(name, []byte("Host")) {
			if hosts++; !only(bytes.TrimSpace(value), "-_.:[]") {
				return false
			}
		}
	}
	return false
}

// only tells whether text is made of letters, digits and others.
func only(text []byte, others string) bool {
	for _, b := range text {
		if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte(others, b) >= 0) {
			return false
		}
	}
	return true
}

// begun is a connection of which something was read already.
type begun struct {
	*net.TCPConn
	early []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.TCPConn.Read(p)
	}
	n := copy(p, b.early)
	if b.early = b.early[n:]; len(b.early) == 0 {
		b.early = nil
	}
	return n, nil
}

// A meeting is the response to one handshake. What is no socket ends with it.
type meeting struct {
	conn   *net.TCPConn
	head   *head
	header http.Header
	status int
	body   []byte
	taken  bool // by Hijack
}

func (a *meeting) Header() http.Header { return a.header }

func (a *meeting) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

func (a *meeting) Write(p []byte) (int, error) {
	if a.taken {
		return 0, http.ErrHijacked
	}
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

// Hijack is for http.Hijacker. The reader and writer hold nothing and are not to be used after the handler has returned.
func (a *meeting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if a.taken || a.status != 0 {
		return nil, nil, http.ErrHijacked
	}
	a.taken = true
	_ = a.conn.SetReadDeadline(time.Time{})
	a.head.out.Reset(a.conn)
	return a.conn, bufio.NewReadWriter(a.head.lines, a.head.out), nil
}

// end says what the handler answered, unless it took the connection over.
func (a *meeting) end() {
	if a.taken {
		a.head.out.Reset(nil)
		return
	}
	defer a.conn.Close()
	if a.status == 0 {
		return
	}
	_ = a.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	a.header.Set("Connection", "close")
	_, _ = a.conn.Write(a.append(nil))
}

// append appends the whole answer.
func (a *meeting) append(out []byte) []byte {
	a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	b := bytes.NewBuffer(out)
	fmt.Fprintf(b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_ = a.header.Write(b)
	b.WriteString("\r\n")
	b.Write(a.body)
	return b.Bytes()
}
