package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A witness writes down what its line tells it.
type witness struct {
	line  *line
	up    chan struct{}
	words chan string
	end   chan ending
}

func (w *witness) opened()                        { close(w.up) }
func (w *witness) heard(text []byte, _ time.Time) { w.words <- string(text) }
func (w *witness) ended(why ending)               { w.end <- why }

func startLoop(t *testing.T) *loop {
	t.Helper()
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// call dials server with a new line.
func call(t *testing.T, l *loop, server *httptest.Server, change func(*dialing)) *witness {
	t.Helper()
	host := server.Listener.Addr().(*net.TCPAddr)
	d := dialing{address: host, request: handshake(host.String(), "/"), patient: 5 * time.Second}
	if server.TLS != nil {
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		d.tls = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	}
	if change != nil {
		change(&d)
	}
	w := &witness{up: make(chan struct{}), words: make(chan string, 1000), end: make(chan ending, 1)}
	l.ask(func() { w.line = l.dial(d, w) })
	return w
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// echo answers every message with itself, in fragments, with a ping before it; "bye" closes with 4413.
func echo(t *testing.T) http.HandlerFunc {
	up := websocket.Upgrader{WriteBufferSize: 64}
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			_, text, err := ws.ReadMessage()
			if err != nil {
				return
			}
			if string(text) == "bye" {
				_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4413, "slow;retry=5"), time.Now().Add(time.Second))
				_, _, _ = ws.ReadMessage()
				return
			}
			_ = ws.WriteControl(websocket.PingMessage, []byte("?"), time.Now().Add(time.Second))
			out, err := ws.NextWriter(websocket.TextMessage)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = out.Write(text) // longer than the buffer: several fragments
			_ = out.Close()
		}
	}
}

func TestLine_echo(t *testing.T) {
	servers := map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "TLS": httptest.NewTLSServer}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(echo(t))
			defer server.Close()
			l := startLoop(t)
			w := call(t, l, server, func(d *dialing) { d.source = net.IPv4(127, 0, 0, 9) })
			next(t, w.up)
			for _, size := range []int{0, 1, 125, 126, 70, 65535, 65536, 1 << 20} {
				text := strings.Repeat("x", size)
				l.post(func() { w.line.say(text) })
				if got := next(t, w.words); got != text {
					t.Errorf("%d bytes came back as %d", size, len(got))
				}
			}
			l.post(func() { w.line.say("bye") })
			if got := next(t, w.end); got.code != 4413 || got.reason != "slow;retry=5" || got.err != nil {
				t.Errorf("ended with %+v", got)
			}
			l.ask(func() {
				if len(l.lines)+len(l.timers) != 0 {
					t.Errorf("%d lines and %d timers are left", len(l.lines), len(l.timers))
				}
			})
		})
	}
}

func TestLine_hangUpAndCut(t *testing.T) {
	server := httptest.NewServer(echo(t))
	defer server.Close()
	l := startLoop(t)
	for name, end := range map[string]func(*line){"hang up": (*line).hangUp, "cut": (*line).cut} {
		w := call(t, l, server, nil)
		next(t, w.up)
		l.post(func() { end(w.line) })
		if got := next(t, w.end); got != (ending{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestLine_refused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no token", http.StatusUnauthorized)
	}))
	l := startLoop(t)
	if got := next(t, call(t, l, server, nil).end); got.status != 401 || got.reason != "no token" {
		t.Errorf("%+v", got)
	}
	server.Close()
	if got := next(t, call(t, l, server, nil).end); !errors.Is(got.err, syscall.ECONNREFUSED) {
		t.Errorf("%+v", got)
	}
}

func TestLine_silentServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := startLoop(t)
	w := call(t, l, &httptest.Server{Listener: listener}, func(d *dialing) { d.patient = 50 * time.Millisecond })
	if got := next(t, w.end); !errors.Is(got.err, errPatience) {
		t.Errorf("%+v", got)
	}
}

// A line that does not read fills the server's pipe; afterwards everything comes.
func TestLine_pause(t *testing.T) {
	stuck := make(chan struct{})
	const words, size = 200, 100 << 10
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		go func() { _, _, _ = ws.ReadMessage() }()
		text := make([]byte, size)
		for i := range words {
			began := time.Now()
			_ = ws.WriteMessage(websocket.TextMessage, text)
			if time.Since(began) > 50*time.Millisecond && i < words-1 {
				select {
				case <-stuck:
				default:
					close(stuck)
				}
			}
		}
	}))
	defer server.Close()
	l := startLoop(t)
	w := call(t, l, server, func(d *dialing) { d.receive = 4 << 10 })
	next(t, w.up)
	l.ask(func() { w.line.pause(true) })
	time.Sleep(200 * time.Millisecond) // the server writes against a full pipe
	l.ask(func() { w.line.pause(false) })
	for range words {
		if got := next(t, w.words); len(got) != size {
			t.Fatalf("%d bytes", len(got))
		}
	}
	select {
	case <-stuck:
	default:
		t.Error("the server never had to wait")
	}
}

// Frames mean the same however the network cuts them.
func TestParser_pieces(t *testing.T) {
	frame := func(first byte, payload string) []byte {
		b := clientFrame(first&0x0f, []byte(payload))
		b[0] = first
		mask := b[len(b)-len(payload)-4:][:4]
		key := [4]byte(mask)
		for i := range payload {
			b[len(b)-len(payload)+i] ^= key[i&3]
		}
		b[1] &^= 0x80
		return append(b[:len(b)-len(payload)-4], b[len(b)-len(payload):]...)
	}
	stream := []byte("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: " + handshakeAccept + "\r\n\r\n")
	stream = append(stream, frame(0x81, "one")...)
	stream = append(stream, frame(0x01, "two, ")...)
	stream = append(stream, frame(0x89, "ping")...)
	stream = append(stream, frame(0x80, "in parts")...)
	stream = append(stream, frame(0x81, strings.Repeat("long", 200))...)
	stream = append(stream, frame(0x88, "\x11\x3dslow")...)
	want := []string{"1one", "9ping", "1two, in parts", "1" + strings.Repeat("long", 200)}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var p parser
		var got []string
		opened := 0
		var end *ending
		for rest := stream; len(rest) > 0 && end == nil; {
			n := 1 + random.IntN(min(len(rest), 1+random.IntN(len(rest))))
			end = p.feed(slices.Clone(rest[:n]), func() { opened++ }, func(op byte, b []byte) { got = append(got, string('0'+rune(op))+string(b)) })
			rest = rest[n:]
		}
		if opened != 1 || !slices.Equal(got, want) || end == nil || *end != (ending{code: 4413, reason: "slow"}) {
			t.Fatalf("%d %q %+v", opened, got, end)
		}
	}
}

func FuzzParser(f *testing.F) {
	open := "HTTP/1.1 101 S\r\nSec-WebSocket-Accept: " + handshakeAccept + "\r\n\r\n"
	for _, text := range []string{"", "HTTP/1.1 401 No\r\n\r\nbody", open + "\x81\x02hi\x88\x02\x03\xe8", open + "\x01\x01a\x80\x01b", open + "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", open + "\xc1\x00"} {
		f.Add([]byte(text), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		read := func(pieces ...[]byte) (words []string, last ending) {
			var p parser
			for _, piece := range pieces {
				if end := p.feed(piece, func() {}, func(_ byte, b []byte) { words = append(words, string(b)) }); end != nil {
					return words, *end
				}
			}
			return words, ending{}
		}
		cut = min(max(cut, 0), len(b))
		whole, end := read(b)
		parts, end2 := read(b[:cut:cut], b[cut:])
		if end.status == 0 && end2.status == 0 && (!slices.Equal(whole, parts) || (end.err == nil) != (end2.err == nil) || end.code != end2.code) {
			t.Errorf("whole %q %+v, in two %q %+v", whole, end, parts, end2)
		}
	})
}

// A position beside a push of Socket.IO does not hide that the push is everybody's.
func TestSocketIO_tail(t *testing.T) {
	push := `{"meta":{"room":"notice","epoch":"e","offset":3},"data":{"action":"a","payload":{"x":"}},\""}}}`
	for _, text := range []string{`42["a",` + push + `]`, `42["a",` + push + `,"0:abc"]`, `42["a",` + push + `,"-"]`} {
		got := withoutTail([]byte(text))
		if string(got) != `42["a",`+push {
			t.Errorf("%s\nbecame %s", text, got)
		}
		if f, err := readEvent(got); err != nil || f.Offset != 3 || f.Room != "notice" {
			t.Errorf("%+v %v", f, err)
		}
	}
}
