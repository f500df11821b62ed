package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web"
	"wxhub/wechat"
)

type doctorCommand struct {
	settingsFlag
}

// A doctor looks at a deployment from the machine that it runs on, with the settings of serve. It changes nothing: no
// migration, no file that stays, no access token that kills another.
type doctor struct {
	s     *Settings
	out   io.Writer
	warns int
	fails int
}

const (
	doctorWait   = 10 * time.Second // of one question
	skewMost     = 60 * time.Second // tokens allow as much, and WeChat Pay 300 s
	slowSync     = 50 * time.Millisecond
	redisVersion = 7
)

var errUnwell = errors.New("something has to be done")

// Run looks at everything and says what to do. Exit status 1: something fails.
func (c doctorCommand) Run(ctx context.Context, st streams) error {
	set, err := readSettings(c.Config, st.env)
	if err != nil {
		return fmt.Errorf("the settings are not right:\n%w", err)
	}
	d := &doctor{s: set, out: st.out}
	d.settings()
	d.machine()
	d.database(ctx)
	d.redis(ctx)
	d.wechat(ctx)
	d.pay(ctx)
	d.reach(ctx)
	fmt.Fprintf(st.out, "\n%d to mend, %d to look at\n", d.fails, d.warns)
	if d.fails > 0 {
		return errUnwell
	}
	return nil
}

func (d *doctor) ok(what, format string, args ...any) {
	fmt.Fprintf(d.out, "ok    %-10s %s\n", what, fmt.Sprintf(format, args...))
}

func (d *doctor) skip(what, format string, args ...any) {
	fmt.Fprintf(d.out, "-     %-10s %s\n", what, fmt.Sprintf(format, args...))
}

// warn and fail end with what to do.
func (d *doctor) warn(what, todo, format string, args ...any) {
	d.warns++
	fmt.Fprintf(d.out, "look  %-10s %s\n      %-10s → %s\n", what, fmt.Sprintf(format, args...), "", todo)
}

func (d *doctor) fail(what, todo, format string, args ...any) {
	d.fails++
	fmt.Fprintf(d.out, "MEND  %-10s %s\n      %-10s → %s\n", what, fmt.Sprintf(format, args...), "", todo)
}

// settings are checked as serve checks them.
func (d *doctor) settings() {
	var warned strings.Builder
	_, err := plan(d.s, slog.New(slog.NewTextHandler(&warned, nil)), nil)
	if err != nil {
		for line := range strings.Lines(strings.TrimPrefix(err.Error(), "the settings are not right:\n")) {
			d.fail("settings", "`wxhub config` lists all settings with where they come from", "%s", strings.TrimSpace(line))
		}
		return
	}
	d.ok("settings", "are understood")
	for line := range strings.Lines(warned.String()) {
		if _, text, ok := strings.Cut(line, "msg="); ok {
			d.warn("settings", "see the guide to operations, /docs/", "%s", strings.Trim(strings.TrimSpace(text), `"`))
		}
	}
	public := d.s.get("PUBLIC_URL")
	switch {
	case public == "":
		d.warn("settings", "set WXHUB_PUBLIC_URL to the https address that phones and WeChat use", "WXHUB_PUBLIC_URL is empty: WeChat does not know where to call")
	case !strings.HasPrefix(public, "https://"):
		d.warn("settings", "put a certificate before the hub: mini-programs connect to wss:// and https:// alone", "WXHUB_PUBLIC_URL is not https")
	}
	if d.s.get("WECHAT_APPID") == "" {
		d.warn("settings", "set WXHUB_WECHAT_APPID and WXHUB_WECHAT_SECRET", "no mini-program: nobody can log in")
	}
}

func (d *doctor) database(ctx context.Context) {
	if url := d.s.get("DATABASE_URL"); strings.Contains(url, "://") {
		d.postgres(ctx, url)
		return
	}
	folder := filepath.Dir(d.s.databaseURL())
	if err := os.MkdirAll(folder, 0o700); err != nil {
		d.fail("database", "make the folder and give it to the user that wxhub runs as", "SQLite: %v", err)
		return
	}
	f, err := os.CreateTemp(folder, "doctor-*")
	if err != nil {
		d.fail("database", "give the folder to the user that wxhub runs as", "SQLite: %v", err)
		return
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	began := time.Now()
	const times = 8
	for range times {
		if _, err = f.Write(make([]byte, 4<<10)); err == nil {
			err = f.Sync()
		}
		if err != nil {
			d.fail("database", "look at the disk: nothing can be kept there", "SQLite: %v", err)
			return
		}
	}
	each := time.Since(began) / times
	if each > slowSync {
		d.warn("database", "use a local disk, or PostgreSQL: every payment waits for this", "SQLite: writing through to the disk takes %v", each.Round(time.Millisecond))
	} else {
		d.ok("database", "SQLite in %s, %v to write through to the disk", folder, each.Round(100*time.Microsecond))
	}
	if d.s.get("REDIS_URL") != "" {
		d.warn("database", "set WXHUB_DATABASE_URL", "several nodes share Redis, but each has its own users, orders and mail")
	}
}

func (d *doctor) postgres(ctx context.Context, url string) {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	p, err := store.AskServer(ctx, url)
	switch {
	case err != nil:
		d.fail("database", "is WXHUB_DATABASE_URL right, does the server run, does its firewall let this machine in?", "PostgreSQL: %v", plainCause(err))
		return
	case p.ReadOnly:
		d.fail("database", "name the primary in WXHUB_DATABASE_URL", "PostgreSQL %s is read-only", p.Version)
	case p.Forgets:
		d.fail("database", "set fsync and synchronous_commit to on: what was answered with success is lost else", "PostgreSQL %s forgets at a crash", p.Version)
	default:
		d.ok("database", "PostgreSQL %s, %v to connect and ask", p.Version, p.Trip.Round(time.Millisecond))
	}
	c := &check{s: d.s}
	if own := c.count("DATABASE_CONNS", 2, 1000); own*2 > p.Connections {
		d.warn("database", "lower WXHUB_DATABASE_CONNS or raise max_connections", "two nodes with %d connections each exceed the server's %d", own, p.Connections)
	}
	d.skew("database", p.Skew)
}

func (d *doctor) skew(what string, by time.Duration) {
	if by.Abs() > skewMost {
		d.fail("clock", "let NTP set both clocks: tokens and payments depend on them", "the %s's clock is %v off ours", what, by.Round(time.Second))
	}
}

func (d *doctor) redis(ctx context.Context) {
	url := d.s.get("REDIS_URL")
	if url == "" {
		d.skip("redis", "none: one node")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	b, err := hub.NewRedisBroker(ctx, hub.RedisOptions{URL: url})
	if err != nil {
		d.fail("redis", "see WXHUB_REDIS_URL in the guide to operations", "%v", err)
		return
	}
	defer b.Close()
	list, err := b.Servers(ctx)
	if errors.Is(err, hub.ErrAway) {
		d.fail("redis", "is WXHUB_REDIS_URL right, does the server run, may its user publish and subscribe to wxhub:*?", "%v", err)
		return
	}
	if err != nil {
		d.warn("redis", "allow the user TIME, INFO and CONFIG|GET to have it looked at", "messages come round, but it may not be asked: %v", err)
		return
	}
	for _, s := range list {
		major := 0
		_, _ = fmt.Sscanf(s.Version, "%d.", &major)
		switch {
		case major < redisVersion:
			d.fail("redis", "use Redis 7.0 or later", "it is version %s", s.Version)
		case s.Eviction != "noeviction" && s.Eviction != "":
			d.fail("redis", "set maxmemory-policy noeviction: else rooms lose their history when memory is short", "version %s throws keys away (%s)", s.Version, s.Eviction)
		case !s.Keeps:
			d.warn("redis", "switch AOF on if rooms are to keep their history over its restart; mail and payments do not need it", "version %s keeps nothing on disk", s.Version)
		default:
			d.ok("redis", "version %s, %v a question", s.Version, s.Trip.Round(100*time.Microsecond))
		}
		d.skew("redis", s.Skew)
	}
}

func (d *doctor) wechat(ctx context.Context) {
	c := &check{s: d.s}
	api := c.url("WECHAT_API_URL")
	if d.s.get("WECHAT_APPID") == "" || d.s.get("WECHAT_SECRET") == "" {
		d.skip("wechat", "no appid and secret")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	if !d.date(ctx, "wechat", api) {
		return
	}
	if c.boolean("WECHAT_CLASSIC_TOKEN") {
		d.skip("wechat", "the secret is not tried: a classic token would end the one in use")
		return
	}
	w, err := wechat.New(wechat.Options{AppID: d.s.get("WECHAT_APPID"), Secret: d.s.get("WECHAT_SECRET"), APIURL: api})
	if err == nil {
		_, err = w.AccessToken(ctx)
	}
	if err != nil {
		todo := "look the code up in the guide, /docs/"
		var answer *wechat.Error
		if errors.As(err, &answer) {
			switch answer.Code {
			case 40013, 40125, 40001, 41002, 41004:
				todo = "compare WXHUB_WECHAT_APPID and WXHUB_WECHAT_SECRET with the mini-program's page of developer settings"
			case 40164, 61004:
				todo = "add this machine's address to the list of allowed IPs in the developer settings"
			}
		}
		d.fail("wechat", todo, "no access token: %v", err)
		return
	}
	d.ok("wechat", "appid and secret are good")
}

// date asks a server for nothing but the time.
func (d *doctor) date(ctx context.Context, what, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	var resp *http.Response
	began := time.Now()
	if err == nil {
		resp, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		d.fail(what, "does this machine reach the internet: DNS, firewall, proxy?", "%s does not answer: %v", url, plainCause(err))
		return false
	}
	_ = resp.Body.Close()
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		by := at.Sub(began)
		if by.Abs() > skewMost {
			d.fail("clock", "let NTP set this machine's clock: WeChat Pay refuses what is 300 s off", "ours is %v off WeChat's", by.Round(time.Second))
		} else {
			d.ok("clock", "agrees with %s", what)
		}
	}
	return true
}

func (d *doctor) pay(ctx context.Context) {
	if d.s.get("PAY_MCHID") == "" {
		d.skip("pay", "not set up")
		return
	}
	c := &check{s: d.s}
	p, err := newPay(d.s, c.url("WECHAT_PAY_URL"), cmp.Or(c.url("PAY_NOTIFY_URL"), "https://missing.invalid/"), nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		d.skip("pay", "its settings are not right")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	switch _, err = p.Query(ctx, "doctor"+strings.ReplaceAll(uuid.NewString(), "-", "")[:20]); {
	case errors.Is(err, wechat.ErrNoOrder) || err == nil:
		d.ok("pay", "merchant %s: WeChat Pay knows our signature, and we know its", d.s.get("PAY_MCHID"))
	default:
		d.fail("pay", "compare merchant number, certificate serial, private key and APIv3 key (v2: API key) with the merchant platform", "an order that does not exist could not be asked for: %v", err)
	}
}

// reach comes in as a phone does: by the public address, with a token of our own.
func (d *doctor) reach(ctx context.Context) {
	c := &check{s: d.s}
	public := c.url("PUBLIC_URL")
	if public == "" {
		host, port, err := net.SplitHostPort(d.s.get("ADDR"))
		if err != nil {
			return
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		public = "http://" + net.JoinHostPort(host, port)
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, public+"/readyz", nil)
	var resp *http.Response
	if err == nil {
		resp, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		d.warn("reach", "start `wxhub serve` and look again; if it runs: DNS, certificate, firewall, the proxy's address of the hub", "%s does not answer: %v", public, plainCause(err))
		return
	}
	word, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.fail("reach", "the word says what the node waits for", "%s/readyz answers %d %s", public, resp.StatusCode, strings.TrimSpace(string(word)))
		return
	}
	keys := c.jwtKeys()
	tokens, err := web.NewTokens(keys, time.Minute, nil)
	if err != nil {
		return // said above
	}
	token, err := tokens.Issue("doctor", "user", nil, time.Minute)
	if err != nil {
		return
	}
	address := "ws" + strings.TrimPrefix(public, "http") + "/ws"
	switch status, err := hub.Knock(ctx, address, token); {
	case errors.Is(err, hub.ErrNoWelcome):
		d.fail("reach", "what stands between changes what sockets say", "%s says no welcome", address)
		return
	case err != nil:
		todo := "let the proxy pass Upgrade and Connection on, over HTTP/1.1"
		if status == http.StatusUnauthorized {
			todo = "the running node has other WXHUB_JWT_KEYS than these settings"
		}
		d.fail("reach", todo, "%s opens no socket (%d): %v", address, status, plainCause(err))
		return
	}
	d.ok("reach", "%s is ready, and a socket is welcomed", public)
}

// plainCause is an error without the address that it was about: that may hold a password.
func plainCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
