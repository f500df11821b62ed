package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// All phones of a node come back at once, with the default limits, through a trusted proxy: within a minute everybody is
// back, nobody was told to stay away, and the mailboxes were read in batches: about one for each tenth of a second. 3,000 phones; 10,000 with
// WXHUB_CHAOS=long.
func TestReconnect_everybodyAtOnce(t *testing.T) {
	phones := 3000 // more than the handshakes of a second
	if os.Getenv("WXHUB_CHAOS") == "long" {
		phones = 10_000
	}
	p, _ := startServe(t, "WXHUB_TRUSTED_PROXIES=127.0.0.0/8")
	keys := strings.SplitN(strings.TrimPrefix(goodKeys, "WXHUB_JWT_KEYS="), ":", 2)
	list := make([]*comer, phones)
	for i := range list {
		list[i] = &comer{i: i, addr: strings.TrimPrefix(p.hub, "http://"), token: comerToken(t, keys[0], strings.Split(keys[1], ",")[0], i)}
	}
	t.Cleanup(func() {
		for _, one := range list {
			one.drop()
		}
	})
	before := p.figures()
	for round, what := range []string{"come", "come back"} {
		began := time.Now()
		var all sync.WaitGroup
		for _, one := range list {
			all.Go(func() { one.connect(t, began.Add(time.Minute)) })
		}
		all.Wait()
		took, retries := time.Since(began), 0
		for _, one := range list {
			retries += one.retries
			one.retries = 0
		}
		if t.Failed() {
			t.FailNow()
		}
		now := p.figures()
		heads, batches := now["wxhub_mail_heads_total"]-before["wxhub_mail_heads_total"], now["wxhub_mail_head_batches_total"]-before["wxhub_mail_head_batches_total"]
		t.Logf("%d phones %s in %.1f s, %d times told to try again; %.0f mailboxes read in %.0f questions", phones, what, took.Seconds(), retries, heads, batches)
		if now["wxhub_sockets"] != float64(phones) || heads < float64(phones) || batches > heads/8 {
			t.Errorf("round %d: sockets %.0f, mailboxes %.0f, questions %.0f", round, now["wxhub_sockets"], heads, batches)
		}
		before = now
		if round == 0 { // the line between proxy and hub breaks
			for _, one := range list {
				one.drop()
			}
			p.wait("all lines to be gone", func() bool { return p.figures()["wxhub_sockets"] == 0 })
		}
	}
}

// A comer is a phone as small as it can be.
type comer struct {
	i       int
	addr    string
	token   string
	at      string // where it stands in notice
	retries int
	conn    net.Conn
}

func comerToken(t *testing.T, kid, secret string, i int) string {
	now := time.Now()
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": fmt.Sprintf("phone%05d", i), "iss": "wxhub", "aud": "wxhub", "jti": fmt.Sprint("j", i), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	j.Header["kid"] = kid
	token, err := j.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var noticeAt = regexp.MustCompile(`"room":"notice","epoch":"([^"]+)","offset":(\d+)`)

// connect tries until it has heard the welcome: as often as it is told to, as soon as it is told to and up to a second
// later.
func (p *comer) connect(t *testing.T, until time.Time) {
	for {
		wait, err := p.try(until)
		if err == nil && wait == 0 {
			return
		}
		if err != nil || time.Now().Add(wait).After(until) {
			t.Errorf("phone %d: wait %v, %v", p.i, wait, err)
			return
		}
		p.retries++
		time.Sleep(wait + rand.N(time.Second))
	}
}

func (p *comer) try(until time.Time) (wait time.Duration, err error) {
	c, err := net.DialTimeout("tcp", p.addr, time.Until(until))
	if err != nil {
		return 0, err
	}
	_ = c.SetDeadline(until)
	if _, err = fmt.Fprintf(c, "GET /ws?token=%s&room=notice%s HTTP/1.1\r\nHost: hub\r\nX-Forwarded-For: 10.%d.%d.7\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		p.token, p.at, p.i>>8, p.i&255); err != nil {
		_ = c.Close()
		return 0, err
	}
	lines := bufio.NewReaderSize(c, 1024)
	r, err := http.ReadResponse(lines, nil)
	if err != nil {
		_ = c.Close()
		return 0, err
	}
	if r.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(r.Body)
		_ = c.Close()
		seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
		if err != nil || r.StatusCode != http.StatusServiceUnavailable && r.StatusCode != http.StatusTooManyRequests {
			return 0, fmt.Errorf("status %d, Retry-After %q: %s", r.StatusCode, r.Header.Get("Retry-After"), body)
		}
		return time.Duration(seconds) * time.Second, nil
	}
	var welcome []byte
	for !strings.HasSuffix(string(welcome), "}}}") {
		b, err := lines.ReadByte()
		if err != nil {
			_ = c.Close()
			return 0, fmt.Errorf("after %q: %w", welcome, err)
		}
		welcome = append(welcome, b)
	}
	m := noticeAt.FindSubmatch(welcome)
	if m == nil || p.at != "" && !strings.Contains(string(welcome), `"recovered":true`) {
		_ = c.Close()
		return 0, fmt.Errorf("not in notice, or not where it was: %q", welcome)
	}
	p.at, p.conn = fmt.Sprintf("@%s:%s", m[1], m[2]), c
	return 0, nil
}

// drop cuts the line without a word.
func (p *comer) drop() {
	if c, ok := p.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	p.conn = nil
}

// figures are the metrics without labels.
func (p *process) figures() map[string]float64 {
	p.t.Helper()
	r, err := http.NewRequest("GET", p.hub+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", p.apiKey)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	list := map[string]float64{}
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				list[name] = n
			}
		}
	}
	return list
}
