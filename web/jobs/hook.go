package jobs

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wxhub/store"
)

const (
	hookWorkers  = 4               // of each hook; its slowness holds them and nobody else's
	hookWait     = 3 * time.Second // for the shop's own system, which should store first and work later; shorter than the lease
	hookAge      = 24 * time.Hour  // then an event is given up
	hookRetryMax = time.Hour
	hookAnswer   = 4 << 10 // bytes of an answer that are read, so that its connection can be used again
)

// HookEvents are what a Hook is told when it names no events. By name it can also be told what WeChat pushes: push.text,
// push.event.subscribe …; push.* are all of them.
var HookEvents = []string{"order.paid", "order.refunded", "alarm"}

// A Hook is an address of the shop's own system that hears of orders, alarms and pushes.
type Hook struct {
	Name         string   `koanf:"name"` // 1 to 32 of a-z 0-9 _ -
	URL          string   `koanf:"url"`
	Secret       string   `koanf:"secret"`        // signs every call; at least 16 bytes
	Events       []string `koanf:"events"`        // empty: all of HookEvents
	AllowPrivate bool     `koanf:"allow_private"` // its address may be a private, loopback or link-local one
}

// String hides the secret, and the URL's query, which may hold one.
func (h Hook) String() string { return "hook " + h.Name }

// GoString hides what String hides.
func (h Hook) GoString() string { return h.String() }

// LogValue hides what String hides.
func (h Hook) LogValue() slog.Value { return slog.StringValue(h.String()) }

// Wants tells whether the hook is told of an event.
func (h Hook) Wants(event string) bool {
	push := strings.HasPrefix(event, "push.")
	return len(h.Events) == 0 && !push || slices.Contains(h.Events, event) || push && slices.Contains(h.Events, "push.*")
}

var hookPushes = regexp.MustCompile(`^push\.(\*|[A-Za-z0-9_.]{1,100})$`)

var hookNames = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// CheckHooks names every hook that cannot be called, and why.
func CheckHooks(hooks []Hook) error {
	var bad []error
	seen := map[string]bool{}
	for i, h := range hooks {
		u, err := url.Parse(h.URL)
		unknown := slices.IndexFunc(h.Events, func(e string) bool { return !slices.Contains(HookEvents, e) && !hookPushes.MatchString(e) })
		switch {
		case !hookNames.MatchString(h.Name):
			bad = append(bad, fmt.Errorf("hook %d: name must be 1 to 32 of a-z 0-9 _ -", i+1))
		case seen[h.Name]:
			bad = append(bad, fmt.Errorf("hook %s: the name is taken by another hook", h.Name))
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "":
			bad = append(bad, fmt.Errorf("hook %s: url must be http(s)://host/path without user and fragment", h.Name))
		case len(h.Secret) < 16:
			bad = append(bad, fmt.Errorf("hook %s: secret must have at least 16 bytes", h.Name))
		case unknown >= 0:
			bad = append(bad, fmt.Errorf("hook %s: events can be %s, push.* or push.KIND", h.Name, strings.Join(HookEvents, ", ")))
		}
		seen[h.Name] = true
	}
	return errors.Join(bad...)
}

// HookLane is what keeps its order among a hook's events: those of one order follow each other, other orders do not
// wait for them. It is the To of a store.TellHook.
func HookLane(hook, outTradeNo string) string { return hook + "/" + outTradeNo }

// A caller calls one hook.
type caller struct {
	Hook
	http *http.Client
	lane *lane
}

func (j *Jobs) newCaller(h Hook) *caller {
	dialer := net.Dialer{Timeout: hookWait, KeepAlive: 30 * time.Second}
	if !h.AllowPrivate {
		dialer.Control = publicOnly
	}
	c := &caller{Hook: h, http: &http.Client{
		Transport: &http.Transport{ // no Proxy: a proxy would look the name up by itself
			DialContext: dialer.DialContext, TLSHandshakeTimeout: hookWait, ResponseHeaderTimeout: hookWait,
			MaxIdleConnsPerHost: hookWorkers, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.lane = newLane(hookWorkers, batch, func(ctx context.Context, chain chain) { j.callChain(ctx, c, chain) })
	return c
}

// callHooks hands rows to the lanes of their hooks.
func (j *Jobs) callHooks(ctx context.Context, rows []store.OutboxRow, until time.Time) {
	byHook := make(map[string][]store.OutboxRow)
	for _, row := range rows {
		name, _, _ := strings.Cut(row.To, "/")
		byHook[name] = append(byHook[name], row)
	}
	for name, rows := range byHook {
		c := j.hooks[name]
		if c == nil {
			for _, row := range rows {
				j.bury(ctx, row, fmt.Errorf("no hook is called %s any more", name))
			}
			continue
		}
		j.offer(c.lane, store.TellHook, chains(rows, until))
	}
}

// callChain tells a hook about one order, event by event, up to the first that has to wait.
func (j *Jobs) callChain(ctx context.Context, c *caller, events chain) {
	for _, row := range events.rows {
		if ctx.Err() != nil || !events.lasts(hookWait) {
			return
		}
		err := c.call(ctx, row)
		delay := grow(row.Attempts-1, hookRetryMax)
		switch {
		case err == nil:
			j.settle(ctx, row)
			continue
		case time.Since(row.FreshAt)+delay > hookAge:
			j.bury(ctx, row, fmt.Errorf("given up after %v: %w", hookAge, err))
			continue
		}
		j.postpone(ctx, row, err, delay)
		return
	}
}

// call posts one event. It outlives ctx as send does. Its errors hold neither the URL nor anything of the answer.
func (c *caller) call(ctx context.Context, row store.OutboxRow) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookWait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(row.Payload))
	if err != nil {
		return errors.New("the URL cannot be called")
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "wxhub-hook/1")
	r.Header.Set("Wxhub-Id", row.ID)
	r.Header.Set("Wxhub-Timestamp", timestamp)
	r.Header.Set("Wxhub-Signature", "v1="+SignHook(c.Secret, row.ID, timestamp, row.Payload))
	answer, err := c.http.Do(r)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return fmt.Errorf("hook %s: %w", c.Name, err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, hookAnswer)
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("hook %s: answered %d", c.Name, answer.StatusCode)
	}
	return nil
}

// SignHook is the signature of a call: hex(HMAC-SHA256(secret, id.timestamp.body)).
func SignHook(secret, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

var errPrivate = errors.New("the address is private, loopback, link-local or reserved, and allow_private is not set")

// publicOnly refuses addresses by IP when they are dialled, whatever name led there.
func publicOnly(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !public(a.Addr()) {
		return errPrivate
	}
	return nil
}

// Networks that are nobody's host out there, beyond those that netip knows (IANA's special-purpose registries), and
// those that wrap an IPv4 address, which could be any.
var reserved = func() (all []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()

var globalIPv6 = netip.MustParsePrefix("2000::/3")

// public tells whether an address is one of the open internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() ||
		a.Is6() && !globalIPv6.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}
