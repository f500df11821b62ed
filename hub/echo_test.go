package hub

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// listenEcho serves sockets that hear themselves, with room for large messages.
func listenEcho(t *testing.T) string {
	t.Helper()
	const far = 1 << 30
	h := newTestHub(t, Options{Compression: true, Limits: Limits{
		FrameBytes: 64 << 20, InflatedBytes: 64 << 20, FramesPerSecond: far, FramesBurst: far, SocketsPerUser: far, QueueBytes: 256 << 20, QueueFrames: far,
		WriteWait: 20 * time.Second,
	}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = h.AcceptEcho(w, r) }))
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

// The first bytes of frames: FIN, RSV and opcode.
const (
	fin    = 0x80
	cont   = 0x0
	text   = 0x1
	binry  = 0x2
	closes = 0x8
	pings  = 0x9
	pongs  = 0xa
)

type wireFrame struct {
	first byte
	body  string
}

func (f wireFrame) bytes() []byte { return clientFrame(f.first, []byte(f.body)) }

// fragments cuts a message into frames of at most size bytes.
func fragments(op byte, body string, size int) (list []wireFrame) {
	for first := op; ; first = cont {
		if len(body) <= size {
			return append(list, wireFrame{fin | first, body})
		}
		list = append(list, wireFrame{first, body[:size]})
		body = body[size:]
	}
}

// told writes what a server's frame says; a long body by its length and sum.
func told(op byte, body []byte) string {
	if op == closes {
		if len(body) < 2 {
			return "close"
		}
		return fmt.Sprint("close ", binary.BigEndian.Uint16(body))
	}
	name := map[byte]string{text: "text ", binry: "binary ", pongs: "pong ", pings: "ping "}[op]
	if len(body) > 200 {
		return fmt.Sprintf("%s%d bytes %x", name, len(body), sha256.Sum256(body))
	}
	return name + string(body)
}

// talk opens a socket, writes the frames, chopped into pieces of chop bytes (0: in one), and reads to the end.
func talk(t *testing.T, addr string, chop int, frames ...wireFrame) string {
	t.Helper()
	r, resp := dialRaw(t, addr, "")
	if resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	_ = r.nc.SetDeadline(time.Now().Add(60 * time.Second))
	var all []byte
	for _, f := range frames {
		all = append(all, f.bytes()...)
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		if chop == 0 {
			chop = len(all)
		}
		for len(all) > 0 {
			n := min(chop, len(all))
			if _, err := r.nc.Write(all[:n]); err != nil { // it may have hung up
				return
			}
			all = all[n:]
		}
	}()
	var heard []string
	for {
		op, body, err := r.frame()
		if err != nil {
			if err != io.EOF {
				heard = append(heard, "error "+err.Error())
			}
			break
		}
		heard = append(heard, told(op, body))
		if op == closes {
			<-wrote
			_, _ = r.nc.Write(clientFrame(fin|closes, body[:min(2, len(body))]))
			if op, body, err = r.frame(); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") { // a server goes first
				heard = append(heard, fmt.Sprint("after the close: ", op, body, err))
			}
			break
		}
	}
	_ = r.nc.Close()
	<-wrote
	return strings.Join(heard, " · ")
}

var (
	bye     = wireFrame{fin | closes, "\x03\xe8"}
	asciis  = strings.Repeat("*", 1<<20)
	anyByte = func() string {
		b := make([]byte, 1<<20)
		rnd := rand.New(rand.NewPCG(6455, 7692))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return string(b)
	}()
)

type echoCase struct {
	name   string
	frames []wireFrame
	want   []string // besides the last close
	end    string   // "" for "close 1000"
}

func (c echoCase) run(t *testing.T, addr string) {
	t.Helper()
	if c.end == "" {
		c.frames, c.end = append(c.frames[:len(c.frames):len(c.frames)], bye), "close 1000"
	}
	want := strings.Join(append(c.want[:len(c.want):len(c.want)], c.end), " · ")
	size := 0
	for _, f := range c.frames {
		size += len(f.body)
	}
	chops := []int{0}
	if size < 1000 {
		chops = append(chops, 1)
	}
	for _, chop := range chops {
		if got := talk(t, addr, chop, c.frames...); got != want {
			t.Errorf("%s, chop %d: %.300q, want %.300q", c.name, chop, got, want)
		}
	}
}

// echoGroups are the ground of RFC 6455 in the groups that conformance suites have.
func echoGroups() map[string][]echoCase {
	groups := map[string][]echoCase{}
	add := func(group string, c echoCase) { groups[group] = append(groups[group], c) }
	one := func(op byte, body string) []string { return []string{told(op, []byte(body))} }

	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} { // section 5.2: each form of the length
		add("1 framing", echoCase{fmt.Sprint("text of ", n), []wireFrame{{fin | text, asciis[:n]}}, one(text, asciis[:n]), ""})
		add("1 framing", echoCase{fmt.Sprint("binary of ", n), []wireFrame{{fin | binry, anyByte[:n]}}, one(binry, anyByte[:n]), ""})
	}

	for _, n := range []int{0, 4, 125} { // section 5.5.2
		add("2 ping and pong", echoCase{fmt.Sprint("ping of ", n), []wireFrame{{fin | pings, anyByte[:n]}}, one(pongs, anyByte[:n]), ""})
	}
	add("2 ping and pong", echoCase{"ping of 126", []wireFrame{{fin | pings, anyByte[:126]}}, nil, "close 1002"})
	add("2 ping and pong", echoCase{"pongs unasked", []wireFrame{{fin | pongs, ""}, {fin | pongs, "x"}, {fin | pings, "p"}}, one(pongs, "p"), ""})
	var tenPings []wireFrame
	var tenPongs []string
	for i := range 10 {
		tenPings = append(tenPings, wireFrame{fin | pings, fmt.Sprint("payload-", i)})
		tenPongs = append(tenPongs, fmt.Sprint("pong payload-", i))
	}
	add("2 ping and pong", echoCase{"ten pings", tenPings, tenPongs, ""})

	for rsv := byte(1); rsv <= 7; rsv++ { // section 5.2: no extension was agreed on
		for _, op := range []byte{text, binry, closes, pings, pongs} {
			add("3 reserved bits", echoCase{fmt.Sprintf("RSV %d of opcode %d", rsv, op),
				[]wireFrame{{fin | text, "before"}, {fin | rsv<<4 | op, "ab"}, {fin | pings, "late"}}, one(text, "before"), "close 1002"})
		}
	}

	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} { // section 5.2
		for _, body := range []string{"", "reserved"} {
			add("4 opcodes", echoCase{fmt.Sprintf("opcode %d with %d bytes", op, len(body)),
				[]wireFrame{{fin | text, "before"}, {fin | op, body}, {fin | pings, "late"}}, one(text, "before"), "close 1002"})
		}
	}

	five := func(name, end string, want []string, frames ...wireFrame) {
		add("5 fragments", echoCase{name, frames, want, end})
	}
	five("ping in two fragments", "close 1002", nil, wireFrame{pings, "a"}, wireFrame{fin | cont, "b"})
	five("pong in two fragments", "close 1002", nil, wireFrame{pongs, "a"}, wireFrame{fin | cont, "b"})
	five("text in two", "", one(text, "ab"), wireFrame{text, "a"}, wireFrame{fin | cont, "b"})
	five("binary in three, one of them empty", "", one(binry, "ab"), wireFrame{binry, "a"}, wireFrame{cont, ""}, wireFrame{fin | cont, "b"})
	five("all empty", "", one(text, ""), wireFrame{text, ""}, wireFrame{cont, ""}, wireFrame{fin | cont, ""})
	five("a ping between", "", []string{"pong p", "text ab"}, wireFrame{text, "a"}, wireFrame{fin | pings, "p"}, wireFrame{fin | cont, "b"})
	five("pings and a pong between", "", []string{"pong p", "pong q", "text abc"},
		wireFrame{text, "a"}, wireFrame{fin | pings, "p"}, wireFrame{cont, "b"}, wireFrame{fin | pongs, "x"}, wireFrame{fin | pings, "q"}, wireFrame{fin | cont, "c"})
	five("a close between", "close 1000", nil, wireFrame{text, "a"}, bye, wireFrame{fin | cont, "b"})
	for _, first := range []byte{cont, fin | cont} {
		five("continuation of nothing", "close 1002", nil, wireFrame{first, "a"}, wireFrame{fin | text, "b"})
		five("continuation after a whole message", "close 1002", one(text, "a"), wireFrame{fin | text, "a"}, wireFrame{first, "b"}, wireFrame{fin | text, "c"})
	}
	five("a new message inside", "close 1002", nil, wireFrame{text, "a"}, wireFrame{fin | text, "b"})
	five("a new binary inside", "close 1002", nil, wireFrame{text, "a"}, wireFrame{binry, "b"}, wireFrame{fin | cont, "c"})

	for _, s := range []string{ // section 8.1, and the borders of RFC 3629
		"", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\uffff",
		"\U00010000", "\U0003ffff", "\U0010fffe", "\U0010ffff", strings.Repeat("茶", 100),
	} {
		add("6 UTF-8", echoCase{fmt.Sprintf("%.20q", s), []wireFrame{{fin | text, s}}, one(text, s), ""})
		add("6 UTF-8", echoCase{fmt.Sprintf("%.20q byte by byte", s), fragments(text, s, 1), one(text, s), ""})
	}
	for _, s := range []string{
		"\x80", "\xbf", "\xc0", "\xc1\xbf", "\xc0\xaf", "\xc3", "\xc3(", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xe8\x8c", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80",
		"\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf", "\xf0\x9f\x8d", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",
		"κόσμε\xed\xa0\x80edited", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
	} {
		add("6 UTF-8", echoCase{fmt.Sprintf("%q", s), []wireFrame{{fin | text, s}}, nil, "close 1007"})
		add("6 UTF-8", echoCase{fmt.Sprintf("%q in fragments", s), fragments(text, s, 1), nil, "close 1007"})
		add("6 UTF-8", echoCase{fmt.Sprintf("%q is binary", s), []wireFrame{{fin | binry, s}}, one(binry, s), ""})
	}

	seven := func(name, end string, frames ...wireFrame) { add("7 close", echoCase{name, frames, nil, end}) }
	saying := func(code int, reason string) wireFrame {
		return wireFrame{fin | closes, string([]byte{byte(code >> 8), byte(code)}) + reason}
	}
	seven("nothing after it", "close 1000", bye, wireFrame{fin | text, "late"})
	seven("twice", "close 1000", bye, bye)
	seven("a ping after it", "close 1000", bye, wireFrame{fin | pings, "late"})
	seven("without a code", "close", wireFrame{fin | closes, ""})
	seven("one byte, which says no more than none", "close", wireFrame{fin | closes, "a"})
	seven("a reason of 123", "close 1000", saying(1000, strings.Repeat("x", 123)))
	seven("a reason of 124", "close 1002", saying(1000, strings.Repeat("x", 124)))
	seven("a reason that is no UTF-8", "close 1002", saying(1000, "\xce\xba\xff"))
	seven("in fragments", "close 1002", wireFrame{closes, "\x03"}, wireFrame{fin | cont, "\xe8"})
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} { // section 7.4
		seven(fmt.Sprint("code ", code), fmt.Sprint("close ", code), saying(code, "why"))
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		seven(fmt.Sprint("code ", code), "close 1002", saying(code, "why"))
	}

	for _, n := range []int{64 << 10, 256 << 10, 1 << 20} {
		for _, op := range []byte{text, binry} {
			body := asciis[:n]
			if op == binry {
				body = anyByte[:n]
			}
			for _, size := range []int{64, 1 << 10, 64 << 10, n} {
				if size == 64 && n > 256<<10 {
					continue
				}
				add("9 large messages", echoCase{fmt.Sprintf("opcode %d of %d in %d", op, n, size), fragments(op, body, size), one(op, body), ""})
			}
		}
	}
	add("10 fragments of a large message", echoCase{"65536 in 1300", fragments(text, asciis[:65536], 1300), one(text, asciis[:65536]), ""})
	return groups
}

func TestEcho(t *testing.T) {
	addr := listenEcho(t)
	for group, cases := range echoGroups() {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			for _, c := range cases {
				c.run(t, addr)
			}
		})
	}
}

// A thousand messages one after the other, each as the last one was heard.
func TestEcho_manySmall(t *testing.T) {
	r, _ := dialRaw(t, listenEcho(t), "")
	_ = r.nc.SetDeadline(time.Now().Add(60 * time.Second))
	for i := range 1000 {
		body := anyByte[i : i+i%300]
		if _, err := r.nc.Write(clientFrame(fin|binry, []byte(body))); err != nil {
			t.Fatal(err)
		}
		if op, got, err := r.frame(); err != nil || op != binry || string(got) != body {
			t.Fatalf("message %d: opcode %d, %d bytes, %v", i, op, len(got), err)
		}
	}
}

// Groups 12 and 13: compressed messages of every size and offer, whole and in fragments, come back as they were.
func TestEcho_compressed(t *testing.T) {
	addr := listenEcho(t)
	words := strings.Repeat("To see a World in a Grain of Sand 一沙一世界 ", 4000)
	for _, offer := range []string{
		"permessage-deflate",
		"permessage-deflate; client_no_context_takeover; client_max_window_bits",
		"permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_max_window_bits=15",
		"permessage-deflate; server_max_window_bits=9",
	} {
		r, resp := dialRaw(t, addr, "", "Sec-WebSocket-Extensions: "+offer)
		if !strings.HasPrefix(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate; ") {
			t.Fatalf("%s: %v", offer, resp.Header)
		}
		r.deflated = true
		_ = r.nc.SetDeadline(time.Now().Add(60 * time.Second))
		for _, size := range []int{0, 1, 16, 64, 256, 1 << 10, 4 << 10, 32 << 10, 128 << 10} {
			for _, body := range []string{strings.ToValidUTF8(words[:size], ""), anyByte[:size]} {
				op := byte(binry)
				if strings.HasPrefix(words, body) {
					op = text
				}
				for _, cut := range []int{1 << 20, 256} {
					small := squeezed([]byte(body))
					list := fragments(op, string(small), cut)
					list[0].first |= rsv1
					var all []byte
					for i, f := range list {
						if i == 1 {
							all = append(all, clientFrame(fin|pings, []byte("between"))...)
						}
						all = append(all, f.bytes()...)
					}
					if _, err := r.nc.Write(all); err != nil {
						t.Fatal(err)
					}
					if len(list) > 1 {
						if op, got, err := r.frame(); err != nil || op != pongs || string(got) != "between" {
							t.Fatalf("%s, %d bytes: opcode %d %q, %v", offer, size, op, got, err)
						}
					}
					peeked, err := r.br.Peek(1)
					if err != nil {
						t.Fatal(err)
					}
					compressed := peeked[0]&rsv1 != 0
					heardOp, got, err := r.frame()
					if err != nil {
						t.Fatal(err)
					}
					if compressed {
						if strings.Contains(offer, "=9") {
							t.Errorf("%s: compressed beyond the window", offer)
						}
						got = []byte(inflated(t, got))
					}
					if heardOp != op || string(got) != body {
						t.Errorf("%s, %d bytes: opcode %d, %d bytes", offer, size, heardOp, len(got))
					}
				}
			}
		}
		if _, err := r.nc.Write(clientFrame(fin|rsv1|text, []byte("no deflate"))); err != nil {
			t.Fatal(err)
		}
		if got := r.conversation(); got != "close:1002" {
			t.Errorf("a message that cannot be inflated: %s", got)
		}
	}
}

// squeezed is body as a client compresses it, however large that gets.
func squeezed(body []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	_, _ = d.w.Write(body)
	_ = d.w.Flush()
	return bytes.Clone(bytes.TrimSuffix(d.buf.Bytes(), []byte{0, 0, 0xff, 0xff}))
}
