package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// fronted serves the shop through a Front too and returns that address.
func (s *shop) fronted(patience time.Duration) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	f := s.server.Front(l, s.server.Handler(), patience, slog.New(slog.DiscardHandler))
	srv := &http.Server{Handler: s.server.Handler(), ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(f) }()
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			s.t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Error(err)
		}
		f.Wait()
	}
}

// A caller keeps one connection.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func ring(t *testing.T, addr string) *caller {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &caller{t, c, bufio.NewReader(c)}
}

func (c *caller) send(pieces ...string) {
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(20 * time.Millisecond) // of a line that is slow
		}
		_, _ = io.WriteString(c.conn, p)
	}
}

// answer is status, fields without those that differ every time, and body; "closed" when there is none.
func (c *caller) answer() string {
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "closed"
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "cut off"
	}
	for _, field := range []string{"Date", "X-Request-Id"} {
		if r.StatusCode == http.StatusOK && r.Header.Get(field) == "" {
			c.t.Errorf("no %s in %v", field, r.Header)
		}
		r.Header.Del(field)
	}
	r.Header.Del("Content-Length")
	if r.StatusCode >= 400 {
		r.Header.Del("Connection")
		r.Header.Del("Content-Type")
	}
	fields := slices.Sorted(maps.Keys(r.Header))
	for i, f := range fields {
		fields[i] += ": " + strings.Join(r.Header[f], ", ")
	}
	own := regexp.MustCompile(`"(id|epoch)":"[^"]*"|"offset":\d+`)
	return fmt.Sprintf("%d %v %s", r.StatusCode, fields, own.ReplaceAllString(strings.TrimSpace(string(body)), ""))
}

func postOf(body string, fields ...string) string {
	return fmt.Sprintf("POST /api/admin/broadcast HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nX-API-Key: %s\r\nContent-Length: %d\r\n%s\r\n%s",
		apiKey, len(body), strings.Join(fields, ""), body)
}

// Whatever comes over a connection gets the same answer with the Front as without it, and what was said is said once.
func TestPost_sameAnswersAsWithoutFront(t *testing.T) {
	s := newShop(t)
	addr, stop := s.fronted(2 * time.Second)
	defer stop()
	good := `{"rooms":["post"],"action":"sale","payload":{"n":1}}`
	wrongKey := strings.Replace(postOf(good), apiKey, "wrong", 1)
	for name, pieces := range map[string][]string{
		"plain":                {postOf(good)},
		"again and again":      {postOf(good), postOf(good), postOf(good)},
		"head and body":        {strings.TrimSuffix(postOf(good), good), good},
		"byte by byte":         {postOf(good)[:3], postOf(good)[3:40], postOf(good)[40:]},
		"two at once":          {postOf(good) + postOf(good)},
		"two and a half":       {postOf(good) + postOf(good) + postOf(good)[:50], postOf(good)[50:]},
		"plain, bad, plain":    {postOf(good) + postOf(`{"rooms":["no room"],"action":"sale"}`) + postOf(good)},
		"other fields":         {postOf(good, "X-Forwarded-For: 1.2.3.4\r\n", "Accept: */*\r\n", "Connection: keep-alive\r\n", "accept-language: en\r\n")},
		"unknown fields":       {postOf(good, "X-What: ever\r\n")},
		"closing":              {postOf(good, "Connection: close\r\n")},
		"wrong key":            {wrongKey},
		"no key":               {strings.Replace(postOf(good), "X-API-Key", "X-Else", 1)},
		"two keys":             {postOf(good, "X-API-Key: other\r\n")},
		"two lengths":          {postOf(good, "Content-Length: 3\r\n")},
		"chunked too":          {postOf(good, "Transfer-Encoding: chunked\r\n") + "\r\n"},
		"expects":              {postOf(good, "Expect: 100-continue\r\n")},
		"two hosts":            {postOf(good, "Host: other\r\n")},
		"folded":               {postOf(good, "Accept: a\r\n b\r\n")},
		"form":                 {strings.Replace(postOf(good), "application/json", "text/plain", 1)},
		"charset":              {strings.Replace(postOf(good), "application/json", "application/json; charset=utf-8", 1)},
		"bad room":             {postOf(`{"rooms":["no room"],"action":"sale"}`)},
		"bad room, English":    {postOf(`{"rooms":["no room"],"action":"sale"}`, "Accept-Language: en\r\n")},
		"bad JSON":             {postOf(`{"rooms":`)},
		"large":                {postOf(`{"rooms":["post"],"action":"sale","payload":"` + strings.Repeat("x", 10<<10) + `"}`)},
		"another path":         {strings.Replace(postOf(good), "/broadcast", "/broadcasts", 1)},
		"plain, then another":  {postOf(good), "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n", postOf(good)},
		"plain, then nonsense": {postOf(good), "NONSENSE\r\n\r\n"},
		"HTTP/1.0":             {strings.Replace(postOf(good), "HTTP/1.1", "HTTP/1.0", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.history("post"))
			front, plain := ring(t, addr), ring(t, strings.TrimPrefix(s.url, "http://"))
			answers := 1
			if strings.HasPrefix(name, "again") || strings.HasPrefix(name, "plain, ") {
				answers = len(pieces)
			}
			switch name {
			case "two at once":
				answers = 2
			case "two and a half", "plain, bad, plain":
				answers = 3
			}
			oneByOne := answers == len(pieces)
			if !oneByOne {
				front.send(pieces...)
				plain.send(pieces...)
			}
			for n := range answers {
				var got [2]string
				for i, c := range []*caller{front, plain} {
					if oneByOne {
						c.send(pieces[n])
					}
					got[i] = c.answer()
				}
				if got[0] != got[1] {
					t.Errorf("answer %d with a Front: %s\nwithout: %s", n, got[0], got[1])
				}
			}
			if after := len(s.history("post")); (after-before)%2 != 0 {
				t.Errorf("said %d times by both together", after-before)
			}
		})
	}
}

// Connections that wait for a next request do not delay a stop, nor does half a request.
func TestPost_stopWhileWaiting(t *testing.T) {
	s := newShop(t)
	addr, stop := s.fronted(time.Second)
	waiting, half := ring(t, addr), ring(t, addr)
	waiting.send(postOf(`{"rooms":["post"],"action":"sale"}`))
	if a := waiting.answer(); !strings.HasPrefix(a, "200 ") {
		t.Fatal(a)
	}
	half.send(postOf(`{"rooms":["post"],"action":"sale"}`)[:60])
	began := time.Now()
	stop()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if a := waiting.answer(); a != "closed" {
		t.Error(a)
	}
}
