package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

var everyKind = []store.TellingKind{store.TellRoom, store.TellMail, store.TellCustomSend, store.TellMPSend, store.TellFollower, store.TellHook}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{
		URL:  filepath.Join(t.TempDir(), "wxhub.db"),
		Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newHub(t *testing.T) *hub.Hub {
	t.Helper()
	return hubWith(t, hub.Options{})
}

func hubWith(t *testing.T, o hub.Options) *hub.Hub {
	t.Helper()
	h, err := hub.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return h
}

// start runs jobs until the test ends or stop is called, which waits for the end.
func start(t *testing.T, o Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := New(o).Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

var pushes atomic.Int64

// tell commits what is to be told, all in one transaction.
func tell(t *testing.T, db *store.DB, tellings ...store.Telling) {
	t.Helper()
	_, first, err := db.RecordPush(t.Context(), store.Push{
		Key: fmt.Sprint("push", pushes.Add(1)), AppID: "wxapp", OpenID: "oAlice", Answer: []byte("success"),
		Tell: func(store.Conversation, store.User) []store.Telling { return tellings },
	})
	if err != nil || !first {
		t.Fatalf("record: first %v, %v", first, err)
	}
}

func notice(room, id string) store.Telling {
	return store.Telling{Kind: store.TellRoom, To: room, ID: id, Action: "purchase", Payload: json.RawMessage(`{"n":"` + id + `"}`)}
}

func text(openID, id string) store.Telling {
	return store.Telling{Kind: store.TellCustomSend, To: openID, ID: id, Action: "text", Payload: json.RawMessage(`{"text":{"content":"` + id + `"}}`)}
}

// said lists the ids of a room's history.
func said(t *testing.T, h *hub.Hub, room string) []string {
	t.Helper()
	page, err := h.History(t.Context(), room, hub.Query{Limit: 1000})
	if err != nil {
		t.Fatalf("history of %s: %v", room, err)
	}
	ids := []string{}
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// eventually waits until ok, at most limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func outbox(t *testing.T, db *store.DB) store.OutboxStats {
	t.Helper()
	stats, err := db.OutboxStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// platform is a WeChat that hears customer-service messages and answers them as the test wants.
type platform struct {
	*httptest.Server
	answer func(openID, text string) string // called before the answer; may block

	mu    sync.Mutex
	heard []string // "openid text", in the order of the answers
}

func newPlatform(t *testing.T, answer func(openID, text string) string) (*platform, *wechat.Client) {
	t.Helper()
	p := &platform{answer: answer}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/stable_token") {
			io.WriteString(w, `{"access_token":"T","expires_in":7200}`)
			return
		}
		var m struct {
			ToUser string `json:"touser"`
			Text   struct {
				Content string `json:"content"`
			} `json:"text"`
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		answer := p.answer(m.ToUser, m.Text.Content)
		p.mu.Lock()
		p.heard = append(p.heard, m.ToUser+" "+m.Text.Content)
		p.mu.Unlock()
		io.WriteString(w, answer)
	}))
	t.Cleanup(p.Close)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	c, err := wechat.New(wechat.Options{AppID: "wxapp", Secret: "S", APIURL: p.URL, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

func (p *platform) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

func TestRelay_order(t *testing.T) {
	db, h := newStore(t), newHub(t)
	var want []string
	tellNext := func(n int) {
		var tellings []store.Telling
		for range n {
			id := fmt.Sprint("m", len(want))
			want = append(want, id)
			tellings = append(tellings, notice("notice", id), notice("shop:a", id))
		}
		tell(t, db, tellings...)
	}
	tellNext(batch + 44) // one claim does not hold them all
	start(t, Options{Hub: h, Store: db})
	for range 20 {
		tellNext(3)
	}
	for _, room := range []string{"notice", "shop:a"} {
		keep := len(want)
		if room == "shop:a" {
			keep = 300 // what the room keeps
		}
		eventually(t, 10*time.Second, "the last message in "+room, func() bool {
			ids := said(t, h, room)
			return len(ids) > 0 && ids[len(ids)-1] == want[len(want)-1]
		})
		if got := said(t, h, room); !slices.Equal(got, want[len(want)-keep:]) {
			t.Errorf("%s heard %v", room, got)
		}
	}
	eventually(t, 2*time.Second, "everything settled", func() bool { return outbox(t, db).Waiting == 0 })
}

// What a room's rule holds back stays in the outbox, in order, and is said when there is room.
func TestRelay_roomHasItsFill(t *testing.T) {
	db := newStore(t)
	h := hubWith(t, hub.Options{Rules: []hub.Rule{{Pattern: "*", Join: hub.Anyone, Publish: hub.Admin, Keep: hub.Keep{Size: 100}, Rate: 2}}})
	var list []store.Telling
	var want []string
	for i := range 8 { // four at once: two, and two of debt
		id := fmt.Sprint("n", i)
		list, want = append(list, notice("room:busy", id)), append(want, id)
	}
	tell(t, db, list...)
	start(t, Options{Hub: h, Store: db})
	eventually(t, 20*time.Second, "what the room takes is said", func() bool { return len(said(t, h, "room:busy")) >= 4 })
	if n := len(said(t, h, "room:busy")); n > 6 {
		t.Errorf("%d were said at once", n)
	}
	eventually(t, 20*time.Second, "all is said", func() bool { return len(said(t, h, "room:busy")) == 8 })
	if got := said(t, h, "room:busy"); !slices.Equal(got, want) {
		t.Errorf("said %v, want %v", got, want)
	}
}

func TestRelay_wake(t *testing.T) {
	db, h := newStore(t), newHub(t)
	start(t, Options{Hub: h, Store: db})
	time.Sleep(20 * time.Millisecond) // past the first claim
	begin := time.Now()
	for i := range 10 {
		tell(t, db, notice("notice", fmt.Sprint("m", i)))
		eventually(t, 5*time.Second, "the notice", func() bool { return len(said(t, h, "notice")) == i+1 })
	}
	if took := time.Since(begin); took > 10*pollEvery/2 {
		t.Errorf("ten notices took %v: they waited for the poll", took)
	}
}

func TestRelay_crashBetweenClaimAndRelay(t *testing.T) {
	t.Parallel() // it waits for a lease or a delay
	db, h := newStore(t), newHub(t)
	tell(t, db, notice("notice", "m1"))
	if rows, err := db.ClaimOutbox(t.Context(), "dead", everyKind, 10, 300*time.Millisecond); err != nil || len(rows) != 1 {
		t.Fatalf("the process that will die claims %d rows, %v", len(rows), err)
	}
	tell(t, db, notice("notice", "m2"))
	start(t, Options{Hub: h, Store: db})
	eventually(t, 5*time.Second, "both, when the lease has run out", func() bool { return len(said(t, h, "notice")) == 2 })
	if got := said(t, h, "notice"); !slices.Equal(got, []string{"m1", "m2"}) {
		t.Errorf("heard %v: m2 overtook", got)
	}
}

func TestRelay_crashBetweenRelayAndSettle(t *testing.T) {
	t.Parallel() // it waits for a lease or a delay
	db, h := newStore(t), newHub(t)
	tell(t, db, notice("notice", "m1"))
	rows, err := db.ClaimOutbox(t.Context(), "dead", everyKind, 10, 300*time.Millisecond)
	if err != nil || len(rows) != 1 {
		t.Fatalf("the process that will die claims %d rows, %v", len(rows), err)
	}
	row := rows[0]
	if _, err := h.Publish(t.Context(), row.To, hub.Message{ID: row.ID, Action: row.Action, Payload: row.Payload, At: row.CreatedAt}); err != nil {
		t.Fatal(err)
	}
	start(t, Options{Hub: h, Store: db})
	eventually(t, 5*time.Second, "the row settled", func() bool { return outbox(t, db).Waiting == 0 })
	if got := said(t, h, "notice"); !slices.Equal(got, []string{"m1"}) {
		t.Errorf("heard %v, want m1 once", got)
	}
}

// A process that stops dead between claim and relay: within five seconds another one has told everything.
func TestRelay_frozenProcess(t *testing.T) {
	t.Parallel() // it waits for a lease or a delay
	db, h := newStore(t), newHub(t)
	frozen, thaw := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := start(t, Options{Hub: h, Store: db, Node: "frozen", BeforeRelay: func() {
		once.Do(func() { close(frozen); <-thaw })
	}})
	tell(t, db, notice("notice", "m1"))
	<-frozen
	begin := time.Now()
	start(t, Options{Hub: h, Store: db, Node: "other"})
	eventually(t, 10*time.Second, "the notice", func() bool { return len(said(t, h, "notice")) == 1 })
	if took := time.Since(begin); took > lease+2*pollEvery {
		t.Errorf("took %v", took)
	}
	close(thaw) // it wakes with a lease long gone, and must not say it again
	stop()
	if got := said(t, h, "notice"); !slices.Equal(got, []string{"m1"}) {
		t.Errorf("heard %v, want m1 once", got)
	}
}

func TestRelay_slowWeChat(t *testing.T) {
	db, h := newStore(t), newHub(t)
	open := make(chan struct{})
	_, client := newPlatform(t, func(string, string) string { <-open; return `{"errcode":0}` })
	for i := range 3 * sendWorkers {
		tell(t, db, text(fmt.Sprint("o", i), fmt.Sprint("t", i)))
	}
	stop := start(t, Options{Hub: h, Store: db, WeChat: client})
	time.Sleep(50 * time.Millisecond) // every worker of that lane is stuck now
	begin := time.Now()
	tell(t, db, notice("notice", "m1"))
	eventually(t, 5*time.Second, "the notice", func() bool { return len(said(t, h, "notice")) == 1 })
	if took := time.Since(begin); took > sendWait/2 {
		t.Errorf("a notice took %v behind a slow WeChat", took)
	}
	close(open)
	stop()
}

func TestSend_orderOfOneReceiver(t *testing.T) {
	db, h := newStore(t), newHub(t)
	p, client := newPlatform(t, func(string, string) string { return `{"errcode":0,"errmsg":"ok"}` })
	var alice, bob []string
	for i := range 30 {
		id := fmt.Sprint("t", i)
		tell(t, db, text("alice", id), text("bob", "b"+id))
		alice, bob = append(alice, "alice "+id), append(bob, "bob b"+id)
	}
	start(t, Options{Hub: h, Store: db, WeChat: client})
	eventually(t, 10*time.Second, "everything sent", func() bool { return len(p.got()) == 60 })
	for who, want := range map[string][]string{"alice": alice, "bob": bob} {
		got := slices.DeleteFunc(p.got(), func(s string) bool { return !strings.HasPrefix(s, who+" ") })
		if !slices.Equal(got, want) {
			t.Errorf("%s got %v", who, got)
		}
	}
	eventually(t, 2*time.Second, "everything settled", func() bool { return outbox(t, db).Waiting == 0 })
}

func TestSend_refusals(t *testing.T) {
	for name, c := range map[string]struct {
		answer  string
		buried  bool
		payload string
	}{
		"outside the window": {answer: `{"errcode":45015,"errmsg":"response out of time limit"}`, buried: true},
		"count used up":      {answer: `{"errcode":45047,"errmsg":"out of response count limit"}`, buried: true},
		"bad openid":         {answer: `{"errcode":40003,"errmsg":"invalid openid"}`, buried: true},
		"too long":           {answer: `{"errcode":45002,"errmsg":"content size out of limit"}`, buried: true},
		"not a message":      {answer: `{"errcode":0}`, buried: true, payload: `[1]`},
		"busy":               {answer: `{"errcode":-1,"errmsg":"system error"}`},
		"quota":              {answer: `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`},
		"a page of HTML":     {answer: `<html>502</html>`},
	} {
		t.Run(name, func(t *testing.T) {
			db, h := newStore(t), newHub(t)
			p, client := newPlatform(t, func(_, text string) string {
				if text == "first" {
					return c.answer
				}
				return `{"errcode":0}`
			})
			first := text("alice", "first")
			if c.payload != "" {
				first.Payload = json.RawMessage(c.payload)
			}
			tell(t, db, first, text("alice", "second"), text("bob", "third"))
			start(t, Options{Hub: h, Store: db, WeChat: client})
			eventually(t, 5*time.Second, "bob's message", func() bool { return slices.Contains(p.got(), "bob third") })
			if c.buried {
				eventually(t, 5*time.Second, "alice's second message", func() bool { return slices.Contains(p.got(), "alice second") })
				eventually(t, 5*time.Second, "one row given up, none waiting", func() bool {
					stats := outbox(t, db)
					return stats.Dead == 1 && stats.Waiting == 0
				})
				return
			}
			eventually(t, 5*time.Second, "bob's row settled", func() bool { return outbox(t, db).Waiting == 2 })
			if slices.Contains(p.got(), "alice second") {
				t.Error("alice's second message overtook the first")
			}
		})
	}
}

func TestSend_busyThenWell(t *testing.T) {
	t.Parallel() // it waits for a lease or a delay
	db, h := newStore(t), newHub(t)
	var calls atomic.Int64
	p, client := newPlatform(t, func(string, string) string {
		if calls.Add(1) <= 2 { // the client itself may try a second time
			return `{"errcode":-1,"errmsg":"system error"}`
		}
		return `{"errcode":0}`
	})
	tell(t, db, text("alice", "first"), text("alice", "second"))
	start(t, Options{Hub: h, Store: db, WeChat: client})
	eventually(t, 15*time.Second, "both sent", func() bool { return outbox(t, db).Waiting == 0 })
	heard := p.got()
	if n := len(heard); n < 3 || heard[n-2] != "alice first" || heard[n-1] != "alice second" {
		t.Errorf("heard %v", heard)
	}
}

func TestSend_withoutWeChat(t *testing.T) {
	db, h := newStore(t), newHub(t)
	tell(t, db, text("alice", "first"), notice("notice", "m1"))
	start(t, Options{Hub: h, Store: db})
	eventually(t, 5*time.Second, "the notice", func() bool { return len(said(t, h, "notice")) == 1 })
	eventually(t, 5*time.Second, "only the message waits", func() bool { return outbox(t, db).Waiting == 1 })
	if stats := outbox(t, db); stats.Dead != 0 {
		t.Errorf("a message was given up: %+v", stats)
	}
}

func TestRun_stopSettlesWhatIsUnderWay(t *testing.T) {
	db, h := newStore(t), newHub(t)
	begun, open := make(chan struct{}), make(chan struct{})
	p, client := newPlatform(t, func(_, text string) string {
		if text == "first" {
			close(begun)
			<-open
		}
		return `{"errcode":0}`
	})
	tell(t, db, text("alice", "first"), text("alice", "second"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(Options{Hub: h, Store: db, WeChat: client}).Run(ctx) }()
	<-begun
	cancel()
	select {
	case <-done:
		t.Fatal("returned while a call was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(open)
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if got := p.got(); !slices.Equal(got, []string{"alice first"}) {
		t.Errorf("heard %v", got)
	}
	if stats := outbox(t, db); stats.Waiting != 1 {
		t.Errorf("%d rows wait, want the second alone", stats.Waiting)
	}
}

// What a newer program committed waits for it.
func TestRelay_unknownKindWaits(t *testing.T) {
	db, h := newStore(t), newHub(t)
	tell(t, db, store.Telling{Kind: "smoke_signal", To: "hill", ID: "m1", Payload: json.RawMessage(`{}`)}, notice("notice", "m2"))
	start(t, Options{Hub: h, Store: db})
	eventually(t, 5*time.Second, "one waits, one said", func() bool {
		stats := outbox(t, db)
		return stats.Dead == 0 && stats.Waiting == 1 && len(said(t, h, "notice")) == 1
	})
}

func TestRelay_mail(t *testing.T) {
	db, h := newStore(t), newHub(t)
	start(t, Options{Hub: h, Store: db})
	if _, err := db.AddMail(t.Context(), []string{"u1", "u2"}, store.Letter{ID: "l1", Action: "hello", Payload: json.RawMessage(`{}`), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the rings settled", func() bool { return outbox(t, db).Waiting == 0 })
}

func TestDelays(t *testing.T) {
	for attempts, limit := range map[int]time.Duration{-1: time.Second, 0: time.Second, 3: 8 * time.Second, 9: sendRetryMax, 1000: sendRetryMax} {
		for range 50 {
			if d := grow(attempts, sendRetryMax); d < limit/2 || d > limit {
				t.Errorf("attempt %d waits %v, want %v to %v", attempts, d, limit/2, limit)
			}
		}
	}
	asked := &wechat.Error{Op: "custom/send", Kind: wechat.ErrBusy, RetryAfter: 7 * time.Minute}
	if d := sendDelay(0, asked); d < asked.RetryAfter {
		t.Errorf("WeChat asked for %v, waits %v", asked.RetryAfter, d)
	}
	if d := sendDelay(0, &wechat.Error{Kind: wechat.ErrTooOften}); d < quotaRetry {
		t.Errorf("a used-up quota waits %v", d)
	}
	if permanent(errors.New("anything else")) {
		t.Error("an unknown error is permanent")
	}
}
