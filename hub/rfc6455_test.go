package hub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw is a client that writes bytes as it likes.
type raw struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader

	deflated bool // RSV1 may be set
}

func dialRaw(t *testing.T, addr, query string, header ...string) (*raw, *http.Response) {
	t.Helper()
	return handshake(t, addr, query, append(header, "Sec-WebSocket-Version: 13"))
}

func dialVersion(t *testing.T, addr, version string) (*raw, *http.Response) {
	t.Helper()
	return handshake(t, addr, "user=ada", []string{"Sec-WebSocket-Version: " + version})
}

func handshake(t *testing.T, addr, query string, header []string) (*raw, *http.Response) {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(addr, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	head := "GET /ws?" + query + " HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range header {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(nc, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, nc: nc, br: bufio.NewReader(nc)}
	resp, err := http.ReadResponse(r.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, resp
}

// clientFrame is a masked frame; b0 holds FIN, RSV and opcode.
func clientFrame(b0 byte, payload []byte) []byte {
	f := []byte{b0}
	switch n := len(payload); {
	case n <= 125:
		f = append(f, 0x80|byte(n))
	case n <= 0xffff:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	f = append(f, mask[:]...)
	for i, b := range payload {
		f = append(f, b^mask[i%4])
	}
	return f
}

// frame reads one server frame.
func (r *raw) frame() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(r.br, h[:]); err != nil {
		return 0, nil, err
	}
	if h[0]&0x30 != 0 || h[0]&0x40 != 0 && !r.deflated || h[1]&0x80 != 0 || h[0]&0x80 == 0 {
		r.t.Errorf("frame header % x: RSV, mask or fragment", h)
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(r.br, b[:]); err != nil {
			return 0, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(r.br, b[:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r.br, payload)
	return h[0] & 15, payload, err
}

// RFC 6455: what is sent, and what must come back: text, pong or close:CODE, in this order.
func TestRFC6455(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesBurst: 1000}})
	addr := listen(t, h)
	ping := func(id int) []byte { return []byte(fmt.Sprintf(`{"id":%d,"action":"ping"}`, id)) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	pong := func(id int) string { return fmt.Sprintf(`text:{"reply":%d,"ok":true}`, id) }
	closing := func(code int, reason string) []byte {
		return clientFrame(0x88, append([]byte{byte(code >> 8), byte(code)}, reason...))
	}
	bye := closing(1000, "")
	long := append(append([]byte(`{"id":1,"action":"ping","token":"`), bytes.Repeat([]byte("x"), 300)...), `"}`...)
	euro := []byte("{\"id\":1,\"action\":\"ping\",\"token\":\"€茶🍵\"}")
	for _, c := range []struct {
		name string
		send []byte
		want string
	}{
		{"5.2 whole text", join(clientFrame(0x81, ping(1)), bye), pong(1) + " close:1000"},
		{"5.2 length in 16 bits", join(clientFrame(0x81, long), bye), pong(1) + " close:1000"},
		{"5.2 two in one segment", join(clientFrame(0x81, ping(1)), clientFrame(0x81, ping(2)), bye), pong(1) + " " + pong(2) + " close:1000"},
		{"5.4 fragments", join(clientFrame(0x01, ping(1)[:5]), clientFrame(0x00, ping(1)[5:9]), clientFrame(0x80, ping(1)[9:]), bye), pong(1) + " close:1000"},
		{"5.4 empty fragments", join(clientFrame(0x01, nil), clientFrame(0x00, ping(1)), clientFrame(0x80, nil), bye), pong(1) + " close:1000"},
		{"5.4 ping between fragments", join(clientFrame(0x01, ping(1)[:5]), clientFrame(0x89, []byte("hi")), clientFrame(0x80, ping(1)[5:]), bye), "pong:hi " + pong(1) + " close:1000"},
		{"5.4 a character in two fragments", join(clientFrame(0x01, euro[:35]), clientFrame(0x80, euro[35:]), bye), pong(1) + " close:1000"},
		{"5.4 continuation of nothing", clientFrame(0x80, ping(1)), "close:1002"},
		{"5.4 text inside a fragmented text", join(clientFrame(0x01, ping(1)), clientFrame(0x81, ping(2))), "close:1002"},
		{"5.5 fragmented ping", clientFrame(0x09, []byte("hi")), "close:1002"},
		{"5.5 ping of 125", join(clientFrame(0x89, bytes.Repeat([]byte("p"), 125)), bye), "pong:" + strings.Repeat("p", 125) + " close:1000"},
		{"5.5 ping of 126", clientFrame(0x89, bytes.Repeat([]byte("p"), 126)), "close:1002"},
		{"5.5.2 empty ping", join(clientFrame(0x89, nil), bye), "pong: close:1000"},
		{"5.5.2 binary ping", join(clientFrame(0x89, []byte{0, 0xff, 0xfe}), bye), "pong:\x00\xff\xfe close:1000"},
		{"5.5.3 pong unasked", join(clientFrame(0x8a, []byte("x")), clientFrame(0x81, ping(1)), bye), pong(1) + " close:1000"},
		{"5.2 RSV1", clientFrame(0xc1, ping(1)), "close:1002"},
		{"5.2 RSV2", clientFrame(0xa1, ping(1)), "close:1002"},
		{"5.2 RSV3", clientFrame(0x91, ping(1)), "close:1002"},
		{"5.2 RSV on a ping", clientFrame(0xc9, nil), "close:1002"},
		{"5.2 opcode 3", clientFrame(0x83, nil), "close:1002"},
		{"5.2 opcode 7", clientFrame(0x87, nil), "close:1002"},
		{"5.2 opcode 11", clientFrame(0x8b, nil), "close:1002"},
		{"5.2 opcode 15", clientFrame(0x8f, nil), "close:1002"},
		{"5.3 no mask", append([]byte{0x81, byte(len(ping(1)))}, ping(1)...), "close:1002"},
		{"5.2 length of 2^63", []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, "close:1009"},
		{"5.2 longer than the limit", clientFrame(0x81, bytes.Repeat([]byte("x"), 16<<10+1)), "close:1009"},
		{"5.4 fragments longer than the limit", join(clientFrame(0x01, bytes.Repeat([]byte("x"), 10<<10)), clientFrame(0x80, bytes.Repeat([]byte("x"), 10<<10))), "close:1009"},
		{"8.1 not UTF-8", clientFrame(0x81, []byte("{\"id\":\xff}")), "close:1007"},
		{"8.1 overlong", clientFrame(0x81, []byte("\xc0\xaf")), "close:1007"},
		{"8.1 surrogate", clientFrame(0x81, []byte("\xed\xa0\x80")), "close:1007"},
		{"8.1 cut short", clientFrame(0x81, []byte("\xe8\x8c")), "close:1007"},
		{"8.1 not UTF-8 in fragments", join(clientFrame(0x01, []byte("\xe8")), clientFrame(0x80, []byte("\x8c"))), "close:1007"},
		{"7.1 close without code", clientFrame(0x88, nil), "close:"},
		{"7.4 close 1001", closing(1001, "away"), "close:1001"},
		{"7.4 close 3000", closing(3000, ""), "close:3000"},
		{"7.4 close 4999", closing(4999, ""), "close:4999"},
		{"7.4 close 999", closing(999, ""), "close:1002"},
		{"7.4 close 1004", closing(1004, ""), "close:1002"},
		{"7.4 close 1005", closing(1005, ""), "close:1002"},
		{"7.4 close 1006", closing(1006, ""), "close:1002"},
		{"7.4 close 2999", closing(2999, ""), "close:1002"},
		{"7.4 close 5000", closing(5000, ""), "close:1002"},
		{"7.1 close with reason no UTF-8", closing(1000, "\xff"), "close:1002"},
		{"5.5 close of 126", clientFrame(0x88, append([]byte{3, 0xe8}, bytes.Repeat([]byte("x"), 124)...)), "close:1002"},
		{"5.5.1 nothing after close", join(bye, clientFrame(0x81, ping(1))), "close:1000"},
	} {
		for _, bytewise := range []bool{false, true} {
			name := c.name
			if bytewise {
				if len(c.send) > 1000 {
					continue
				}
				name += ", byte by byte"
			}
			t.Run(name, func(t *testing.T) {
				r, resp := dialRaw(t, addr, "user="+fmt.Sprintf("u%d", time.Now().UnixNano()))
				if resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-Websocket-Extensions") != "" {
					t.Fatalf("%s %v", resp.Status, resp.Header)
				}
				if _, welcome, err := r.frame(); err != nil || !bytes.Contains(welcome, []byte("welcome")) {
					t.Fatalf("%s, %v", welcome, err)
				}
				if bytewise {
					for i := range c.send {
						_, _ = r.nc.Write(c.send[i : i+1]) // the hub may have hung up
					}
				} else if _, err := r.nc.Write(c.send); err != nil {
					t.Fatal(err)
				}
				if got := r.conversation(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
}

// conversation reads to the end and answers a close frame, so that the hub may hang up.
func (r *raw) conversation() string {
	var got []string
	for {
		op, p, err := r.frame()
		if err != nil {
			if n := len(got); err != io.EOF && (n == 0 || !strings.HasPrefix(got[n-1], "close:")) {
				got = append(got, err.Error())
			}
			return strings.Join(got, " ")
		}
		switch op {
		case 1:
			got = append(got, "text:"+string(p))
		case 10:
			got = append(got, "pong:"+string(p))
		case 8:
			s := "close:"
			if len(p) >= 2 {
				s += fmt.Sprint(binary.BigEndian.Uint16(p))
			}
			got = append(got, s)
			_, _ = r.nc.Write(clientFrame(0x88, p[:min(2, len(p))]))
			if tc, ok := r.nc.(*net.TCPConn); ok {
				_ = tc.CloseWrite()
			}
		default:
			got = append(got, fmt.Sprintf("opcode:%d", op))
		}
	}
}

func TestHandshake(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	_, resp := dialRaw(t, addr, "user=ada", "Sec-WebSocket-Protocol: wxhub.v1, bearer.abc")
	if got := resp.Header.Get("Sec-Websocket-Protocol"); got != "wxhub.v1" {
		t.Errorf("subprotocol %q", got)
	}
	_, resp = dialRaw(t, addr, "user=ada", "Sec-WebSocket-Protocol: other")
	if _, there := resp.Header["Sec-Websocket-Protocol"]; there {
		t.Errorf("a subprotocol that is not ours: %v", resp.Header)
	}
	for version, status := range map[string]int{"8": 426, "14": 426, "": 426, "x": 426, "13": 101, "8, 13": 101} {
		_, resp = dialVersion(t, addr, version)
		said := resp.Header.Get("Sec-Websocket-Version")
		if resp.StatusCode != status || status == 426 && (said != "13" || resp.Header.Get("Upgrade") != "websocket") {
			t.Errorf("version %q: %s, Sec-WebSocket-Version %q", version, resp.Status, said)
		}
	}
	r, err := http.Get("http" + strings.TrimPrefix(addr, "ws") + "/ws?user=ada")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if r.StatusCode != 400 || !bytes.Contains(body, []byte(`"error":"bad_handshake"`)) {
		t.Errorf("%s: %s", r.Status, body)
	}
}

// What is no handshake by RFC 6455 section 4.2.1 opens no socket, and what follows it is read as nothing.
func TestHandshake_improper(t *testing.T) {
	addr := strings.TrimPrefix(listen(t, newTestHub(t, Options{})), "ws://")
	const proper = "GET /ws?user=ada HTTP/1.1\r\nHost: hub\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for name, test := range map[string]struct {
		head   string
		status int
	}{
		"proper":       {proper + "\r\n", 101},
		"empty body":   {proper + "Content-Length: 0\r\n\r\n", 101},
		"HTTP/1.0":     {strings.Replace(proper, "HTTP/1.1", "HTTP/1.0", 1) + "\r\n", 400},
		"two keys":     {proper + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", 400},
		"two versions": {proper + "Sec-WebSocket-Version: 13\r\n\r\n", 400},
		"body":         {proper + "Content-Length: 4\r\n\r\nbody", 400},
		"chunks":       {proper + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"no host":      {strings.Replace(proper, "Host: hub\r\n", "", 1) + "\r\n", 400},
		"two hosts":    {proper + "Host: other\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(nc, test.head); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil || r.StatusCode != test.status {
				t.Errorf("%v %v", r, err)
			}
		})
	}
}

// A client that does not wait for the answer to its handshake loses nothing.
func TestHandshake_earlyFrames(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	nc, err := net.Dial("tcp", strings.TrimPrefix(addr, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	head := "GET /ws?user=ada HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	text := append([]byte(head), clientFrame(0x81, []byte(`{"id":1,"action":"ping"}`))...)
	if _, err := nc.Write(append(text, clientFrame(0x88, []byte{3, 0xe8})...)); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, nc: nc, br: bufio.NewReader(nc)}
	if _, err := http.ReadResponse(r.br, nil); err != nil {
		t.Fatal(err)
	}
	if got := r.conversation(); !strings.HasSuffix(got, `text:{"reply":1,"ok":true} close:1000`) {
		t.Error(got)
	}
}
