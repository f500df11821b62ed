package hub

import (
	"bytes"
	"compress/flate"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// permessage-deflate (RFC 7692), without context takeover in either direction: no state between messages, so that one
// compressed message serves every socket that hears it, and an idle socket holds no window.

const (
	deflateFrom = 128 // bytes of a push; what is smaller hardly shrinks
	fullWindow  = 15  // bits: 32 KiB, the only window that compress/flate writes with
)

// An offer is what a client offers of permessage-deflate, as far as we take it up.
type deflateOffer struct {
	taken  bool
	window int // bits of the window that the client wants us to stay within; 0: it says nothing
}

// deflateOffers finds the first offer that can be honoured. A client that wants a smaller window than ours may
// compress what it says and hears everything plain.
func deflateOffers(header http.Header) deflateOffer {
	for _, line := range header["Sec-Websocket-Extensions"] {
		for extension := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(extension, ";")
			if strings.TrimSpace(name) != "permessage-deflate" {
				continue
			}
			if o, ok := parseDeflate(parameters); ok {
				return o
			}
		}
	}
	return deflateOffer{}
}

// parseDeflate reads the parameters of an offer (RFC 7692 section 7.1). False: one is unknown, twice there or out of
// its range, so the offer must be declined.
func parseDeflate(parameters string) (o deflateOffer, ok bool) {
	seen := map[string]bool{}
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, valued := strings.Cut(strings.TrimSpace(p), "=")
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"`)
		if name == "" && !valued && strings.TrimSpace(parameters) == "" {
			break
		}
		if seen[name] {
			return o, false
		}
		seen[name] = true
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if valued {
				return o, false
			}
		case "client_max_window_bits":
			if valued && windowBits(value) == 0 {
				return o, false
			}
		case "server_max_window_bits":
			if o.window = windowBits(value); o.window == 0 {
				return o, false
			}
		default:
			return o, false
		}
	}
	o.taken = true
	return o, true
}

// windowBits reads 8 to 15; 0: it is something else.
func windowBits(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 8 || n > fullWindow || s[0] == '0' || s[0] == '+' {
		return 0
	}
	return n
}

// takeUp does what was agreed on. The answer to the handshake waits in the queue: what the offer demands beyond what
// gorilla says is added there. Without it the client would not know that its window is kept to.
func (c *Conn) takeUp(o deflateOffer) {
	if !o.taken {
		return
	}
	if o.window == 0 || o.window == fullWindow {
		c.speaks += formats
	}
	if o.window == 0 {
		return
	}
	const said = "client_no_context_takeover\r\n"
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.queue.pieces[0]
	before := len(p.buf)
	p.buf = bytes.Replace(p.buf, []byte(said), []byte("client_no_context_takeover; server_max_window_bits="+strconv.Itoa(o.window)+"\r\n"), 1)
	p.head = len(p.buf)
	c.queue.bytes += len(p.buf) - before
}

// A deflater compresses one message after the other. It has about 600 KiB, which is why sockets share them.
type deflater struct {
	buf bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.buf, flate.BestSpeed) // the level is a valid one
	return d
}}

// appendDeflated appends a data frame of the opcode in first with body compressed, or as it is where that is smaller.
func appendDeflated(dst []byte, first byte, body []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	_, err := d.w.Write(body)
	if err == nil {
		err = d.w.Flush()
	}
	small := bytes.TrimSuffix(d.buf.Bytes(), []byte{0, 0, 0xff, 0xff})
	if err != nil || len(small) >= len(body) {
		return append(appendHeader(dst, first, len(body)), body...)
	}
	dst = append(appendHeader(dst, first|rsv1, len(small)), small...)
	if d.buf.Cap() > 256<<10 {
		d.buf = bytes.Buffer{}
	}
	return dst
}

// deflateFrame appends a whole plain data frame compressed.
func deflateFrame(dst, frame []byte) []byte {
	body := frame[frameHead(frame):]
	if len(body) < deflateFrom {
		return append(dst, frame...)
	}
	return appendDeflated(dst, frame[0], body)
}

// frameHead tells how long the header of a server's frame is.
func frameHead(frame []byte) int {
	switch frame[1] {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}
