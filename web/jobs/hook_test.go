package jobs

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wxhub/store"
)

const secret = "0123456789abcdef"

func hookRow(hook, order, id string) store.Telling {
	return store.Telling{Kind: store.TellHook, To: HookLane(hook, order), ID: id, Action: "order.paid", Payload: json.RawMessage(`{"id":"` + id + `"}`)}
}

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"93.184.216.34": true, "8.8.8.8": true, "2606:4700::1111": true, "2408:8000::1": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "::ffff:192.168.1.1": false, "fd00::1": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "100.64.0.1": false, "100.127.255.255": false, "198.18.0.1": false,
		"192.0.0.170": false, "192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.1.1.1": false,
		"240.0.0.1": false, "255.255.255.255": false, "ff02::1": false, "fec0::1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false,
		"2002:7f00:1::": false, "2001:0:7f00:1::": false, "2001:db8::1": false, "100::1": false, "3fff::1": false, "::127.0.0.1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("public(%s) = %v", address, got)
		}
	}
	for _, address := range []string{"", "localhost:80", "127.0.0.1", "[::1]:80", "127.0.0.1:80"} {
		if publicOnly("tcp", address, nil) == nil {
			t.Errorf("%q may be dialled", address)
		}
	}
	if err := publicOnly("tcp", "[2606:4700::1111]:443", nil); err != nil {
		t.Error(err)
	}
}

func FuzzPublicOnly(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "[::ffff:10.0.0.1]:1", "[fe80::1%lo]:1", "8.8.8.8:53", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		err := publicOnly("tcp", address, nil)
		a, bad := netip.ParseAddrPort(address)
		if err == nil && (bad != nil || a.Addr().Unmap().IsPrivate() || a.Addr().Unmap().IsLoopback() || a.Addr().Unmap().IsLinkLocalUnicast()) {
			t.Errorf("%q may be dialled", address)
		}
	})
}

// A name or a redirect that leads inside is refused when it is dialled, and nobody inside hears anything.
func TestHook_privateAddresses(t *testing.T) {
	var heard atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	defer inside.Close()
	outside := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
	defer outside.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(inside.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	db, h := newStore(t), newHub(t)
	hooks := []Hook{
		{Name: "ip", URL: inside.URL}, {Name: "name", URL: "http://localhost:" + port}, {Name: "mapped", URL: "http://[::ffff:127.0.0.1]:" + port},
		{Name: "decimal", URL: "http://2130706433:" + port}, {Name: "zero", URL: "http://0.0.0.0:" + port},
		{Name: "redirect", URL: outside.URL, AllowPrivate: true},
	}
	for i := range hooks {
		hooks[i].Secret = secret
		tell(t, db, hookRow(hooks[i].Name, "order", "e1"))
	}
	j := New(Options{Hub: h, Store: db, Hooks: hooks})
	for _, one := range hooks {
		rows := []store.OutboxRow{{Telling: hookRow(one.Name, "order", "e1")}}
		if err := j.hooks[one.Name].call(t.Context(), rows[0]); err == nil || strings.Contains(err.Error(), "key=") {
			t.Errorf("%s: %v", one.Name, err)
		}
		j.hooks[one.Name].http.CloseIdleConnections()
	}
	stop := start(t, Options{Hub: h, Store: db, Hooks: hooks})
	time.Sleep(300 * time.Millisecond)
	stop()
	if n := heard.Load(); n != 0 {
		t.Errorf("an inside address heard %d calls", n)
	}
	if stats := outbox(t, db); stats.Waiting != len(hooks) || stats.Dead != 0 {
		t.Errorf("%+v: they are tried again for a day", stats)
	}
}

// ears is a hook's other side.
type ears struct {
	*httptest.Server
	answer func(id string) int // may block
	mu     sync.Mutex
	heard  []string // "id body signature-good"
}

func newEars(t *testing.T, answer func(id string) int) *ears {
	e := &ears{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("Wxhub-Id")
		good := r.Header.Get("Wxhub-Signature") == "v1="+SignHook(secret, id, r.Header.Get("Wxhub-Timestamp"), body)
		e.mu.Lock()
		e.heard = append(e.heard, fmt.Sprint(id, " ", string(body), " ", good))
		e.mu.Unlock()
		w.WriteHeader(e.answer(id))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *ears) of(id string) (heard []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if strings.HasPrefix(h, id+" ") {
			heard = append(heard, h)
		}
	}
	return heard
}

// What fails comes again, the same; what belongs to the same order waits for it, and nothing else does.
func TestHook_retryAndOrder(t *testing.T) {
	t.Parallel()
	var tries atomic.Int64
	e := newEars(t, func(id string) int {
		if id == "a1" && tries.Add(1) <= 1 {
			return http.StatusInternalServerError
		}
		return http.StatusNoContent
	})
	db, h := newStore(t), newHub(t)
	tell(t, db, hookRow("erp", "a", "a1"), hookRow("erp", "a", "a2"), hookRow("erp", "b", "b1"))
	start(t, Options{Hub: h, Store: db, Hooks: []Hook{{Name: "erp", URL: e.URL, Secret: secret, AllowPrivate: true}}})
	eventually(t, 5*time.Second, "another order's event", func() bool { return len(e.of("b1")) == 1 })
	eventually(t, 15*time.Second, "the rest", func() bool { return len(e.of("a2")) == 1 && outbox(t, db).Waiting == 0 })
	twice := e.of("a1")
	if len(twice) != 2 || twice[0] != twice[1] || !strings.HasSuffix(twice[0], "true") {
		t.Errorf("heard %v", twice)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	place := func(id string) int {
		return slices.IndexFunc(e.heard, func(h string) bool { return strings.HasPrefix(h, id) })
	}
	if len(e.heard) != 4 || place("a2") < place("a1") || !strings.HasPrefix(e.heard[3], "a2") {
		t.Errorf("heard %v", e.heard)
	}
}

// A hook that never answers holds its own workers and nobody else's.
func TestHook_slowOneDelaysNobody(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	slow := newEars(t, func(string) int { <-open; return 200 })
	t.Cleanup(func() { close(open) })
	quick := newEars(t, func(string) int { return 200 })
	db, h := newStore(t), newHub(t)
	var told []store.Telling
	for i := range 40 {
		told = append(told, hookRow("slow", fmt.Sprint("o", i), fmt.Sprint("s", i)))
	}
	told = append(told, hookRow("quick", "o", "q1"), notice("notice", "m1"))
	began := time.Now()
	tell(t, db, told...)
	start(t, Options{Hub: h, Store: db, Hooks: []Hook{
		{Name: "slow", URL: slow.URL, Secret: secret, AllowPrivate: true}, {Name: "quick", URL: quick.URL, Secret: secret, AllowPrivate: true},
	}})
	eventually(t, 2*time.Second, "the quick hook and the notice", func() bool { return len(quick.of("q1")) == 1 && len(said(t, h, "notice")) == 1 })
	t.Logf("after %v", time.Since(began))
}

// After a day an event is given up with its reason; one of a hook that is gone at once.
func TestHook_givenUp(t *testing.T) {
	e := newEars(t, func(string) int { return http.StatusBadGateway })
	long := time.Now().Add(-25 * time.Hour)
	db, err := store.Open(t.Context(), store.Options{
		URL: filepath.Join(t.TempDir(), "wxhub.db"), Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}, Now: func() time.Time { return long },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	tell(t, db, hookRow("erp", "a", "a1"), hookRow("gone", "a", "g1"))
	start(t, Options{Hub: newHub(t), Store: db, Hooks: []Hook{{Name: "erp", URL: e.URL + "?key=canary", Secret: secret, AllowPrivate: true}}})
	eventually(t, 5*time.Second, "both given up", func() bool { return outbox(t, db).Dead == 2 })
	dead, err := db.DeadRows(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range dead {
		want := "given up after 24h0m0s: hook erp: answered 502"
		if row.ID == "g1" {
			want = "no hook is called gone any more"
		}
		if row.Reason != want {
			t.Errorf("%s: %s", row.ID, row.Reason)
		}
	}
}
