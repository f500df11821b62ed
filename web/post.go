package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
)

// A shop's program that broadcasts sends one request after the other over a connection that it keeps, and each is alike:
// POST /api/admin/broadcast with an API key and a small body of JSON. The Front serves such connections too, for the way
// through net/http and the router costs more than what is said. As with handshakes only what is beyond doubt stays here:
// from the first request on that is not plain, the connection and all of that request go to net/http.

const (
	postLine = "POST " + postPath + " HTTP/1.1\r\n"
	postPath = "/api/admin/broadcast"
	postIdle = 2 * time.Minute // between two requests, as net/http waits
	postWait = 5 * time.Second // for an answer to be taken
)

// A post is one whole plain request. Its parts lie in the head's bytes, which the next request overwrites.
type post struct{ key, language, body []byte }

// postFields are those that a plain request may have besides the ones that readPost reads: nothing here depends on them.
var postFields = map[string]bool{
	"host": true, "user-agent": true, "accept": true, "accept-encoding": true, "traceparent": true, "tracestate": true, "via": true,
	"x-forwarded-for": true, "x-forwarded-proto": true, "x-forwarded-host": true, "x-forwarded-port": true, "x-real-ip": true, "forwarded": true,
}

// readPost reads the request that text begins with, of size bytes. size 0: more of it has to come, or else it is no plain
// request, or none that is read here.
func readPost(text []byte) (p post, size int, more bool) {
	if !bytes.HasPrefix(text, []byte(postLine)) {
		return p, 0, len(text) < len(postLine) && bytes.HasPrefix([]byte(postLine), text)
	}
	end := bytes.Index(text, []byte("\r\n\r\n"))
	if end < 0 {
		return p, 0, len(text) < headBytes
	}
	top := text[:end+4]
	if !plainLines(top) {
		return p, 0, false
	}
	var length, kind []byte
	for line := range bytes.SplitSeq(top[len(postLine):end], []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		var own *[]byte
		switch lower := lowered(name); lower {
		case "content-length":
			own = &length
		case "content-type":
			own = &kind
		case "x-api-key":
			own = &p.key
		case "accept-language":
			own = &p.language
		case "connection":
			if !bytes.EqualFold(value, []byte("keep-alive")) {
				return p, 0, false
			}
			continue
		default:
			if !postFields[lower] {
				return p, 0, false
			}
			continue
		}
		if *own != nil || len(value) == 0 {
			return p, 0, false
		}
		*own = value
	}
	n, ok := 0, len(length) > 0 && len(length) < 5
	for _, b := range length {
		ok = ok && '0' <= b && b <= '9'
		n = n*10 + int(b-'0')
	}
	size = end + 4 + n
	if !ok || n == 0 || size > headBytes || len(p.key) == 0 || string(kind) != "application/json" {
		return p, 0, false
	}
	if len(text) < size {
		return p, 0, true
	}
	p.body = text[end+4 : size]
	return p, size, false
}

// lowered is a field's name in lower case; "" for names that are too long to be known.
func lowered(name []byte) string {
	var b [24]byte
	if len(name) > len(b) {
		return ""
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	return string(b[:len(name)])
}

// posts serves a connection whose first n bytes may begin a plain request, one after the other, and hands it on as soon
// as one is not plain.
func (f *Front) posts(c *net.TCPConn, h *head, n int) {
	f.keep(c, true)
	defer f.keep(c, false)
	for {
		p, size, more := readPost(h.bytes[:n])
		for more {
			_ = c.SetReadDeadline(time.Now().Add(f.patience))
			m, err := c.Read(h.bytes[n:])
			if n += m; err != nil {
				break // net/http says what there is to say
			}
			p, size, more = readPost(h.bytes[:n])
		}
		if size == 0 || !f.answer(c, h, p) {
			f.handBegun(c, h.bytes[:n])
			return
		}
		if h.failed {
			_ = c.Close()
			return
		}
		if n = copy(h.bytes[:], h.bytes[size:n]); n > 0 { // the next came along
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(postIdle))
		select {
		case <-f.closed: // it may have been closed before the deadline was set
			_ = c.Close()
			return
		default:
		}
		var err error
		if n, err = c.Read(h.bytes[:]); err != nil {
			_ = c.Close()
			return
		}
	}
}

// answer answers p; false: it is not for here, and nothing was done.
func (f *Front) answer(c *net.TCPConn, h *head, p post) (ok bool) {
	defer func() {
		if cause := recover(); cause != nil {
			f.log.Error("panic in a post", "cause", panicCause(cause), "stack", string(debug.Stack()))
			h.failed, ok = true, true
		}
	}()
	if h.answer, ok = f.post(p, h.answer[:0]); !ok {
		return false
	}
	_ = c.SetWriteDeadline(time.Now().Add(postWait))
	_, err := c.Write(h.answer)
	h.failed = err != nil
	return true
}

// keep remembers connections that wait for their next request, which Close ends.
func (f *Front) keep(c *net.TCPConn, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on {
		f.kept[c] = struct{}{}
	} else {
		delete(f.kept, c)
	}
}

// post answers a plain request from a system that is known; false: the whole way knows better.
func (s *Server) post(p post, out []byte) (answer []byte, ok bool) {
	if s.leaving.Load() || len(s.o.AllowedOrigins) > 0 || s.o.Always200 {
		return out, false
	}
	name := s.apiKeyName(string(p.key))
	if name == "" {
		return out, false
	}
	b, ok := parsePlainBroadcast(bytes.Clone(p.body)) // the payload is kept
	if !ok {
		return out, false
	}
	start := time.Now()
	q := &request{server: s, id: rand.Text()[:16], language: "zh", apiKey: name, context: context.Background()}
	text, err := s.plainBroadcast(q.context, b)
	status := http.StatusOK
	if err == nil {
		out = append(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"...)
		for name, values := range everyAnswer {
			out = append(append(append(append(out, name...), ": "...), values[0]...), "\r\n"...)
		}
		out = append(out, "Cache-Control: no-store\r\nX-Request-Id: "...)
		out = append(append(out, q.id...), "\r\nDate: "...)
		out = start.UTC().AppendFormat(out, http.TimeFormat)
		out = strconv.AppendInt(append(out, "\r\nContent-Length: "...), int64(len(text)), 10)
		out = append(append(out, "\r\n\r\n"...), text...)
	} else {
		status, out = s.postFailed(q, p, err, out)
	}
	took := time.Since(start)
	s.metrics.served(http.MethodPost, postPath, status, took)
	if s.log.Enabled(q.context, slog.LevelDebug) {
		s.log.Debug("request", "id", q.id, "method", http.MethodPost, "route", postPath, "status", status, "took", took)
	}
	return out, true
}

// postFailed answers as fail does.
func (s *Server) postFailed(q *request, p post, err error, out []byte) (status int, answer []byte) {
	r := &http.Request{Header: http.Header{"Accept-Language": {string(p.language)}}}
	q.language = languageOf(r)
	a := &meeting{header: everyAnswer.Clone()}
	a.header.Set("X-Request-Id", q.id)
	a.header.Set("Cache-Control", noStore[0])
	s.fail(a, r.WithContext(context.WithValue(q.context, requestKey{}, q)), err)
	return a.status, a.append(out)
}
