package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

// A dial is a clock that tests turn.
type dial struct {
	mu sync.Mutex
	at time.Time
}

func (d *dial) now() time.Time {
	if d == nil {
		return time.Now()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

func (d *dial) turn(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = d.at.Add(by)
}

// shopMail is the store's mail as the hub needs it.
type shopMail struct{ db *store.DB }

func (m shopMail) heads(ctx context.Context, rooms []string) ([]store.MailHead, error) {
	users := make([]string, len(rooms))
	for i, r := range rooms {
		users[i] = strings.TrimPrefix(r, "user:")
	}
	return m.db.MailHeads(ctx, users)
}

func (m shopMail) Heads(ctx context.Context, rooms []string) (list []hub.Position, err error) {
	heads, err := m.heads(ctx, rooms)
	for _, h := range heads {
		list = append(list, hub.Position{Epoch: h.Epoch, Offset: h.Head})
	}
	return list, err
}

func (m shopMail) Acked(ctx context.Context, rooms []string) (list []uint64, err error) {
	heads, err := m.heads(ctx, rooms)
	for _, h := range heads {
		list = append(list, h.Acked)
	}
	return list, err
}

func (m shopMail) Read(ctx context.Context, room string, q hub.Query) (hub.Page, error) {
	p, err := m.db.ReadMail(ctx, strings.TrimPrefix(room, "user:"), q.After, q.Limit, q.Newest)
	page := hub.Page{Epoch: p.Epoch, First: p.First, Head: p.Head}
	for _, l := range p.Letters {
		page.Messages = append(page.Messages, hub.Message{ID: l.ID, Action: l.Action, Payload: l.Payload, At: l.At, Offset: l.Seq})
	}
	return page, err
}

func (m shopMail) Ack(ctx context.Context, room string, offset uint64) error {
	return m.db.AckMail(ctx, strings.TrimPrefix(room, "user:"), offset)
}

func (m shopMail) Written(ctx context.Context, all []hub.Writing) error {
	noted := make([]store.Writing, len(all))
	for i, w := range all {
		noted[i] = store.Writing{User: strings.TrimPrefix(w.Room, "user:"), From: w.From, To: w.To, Slow: w.Slow, At: w.At}
	}
	return m.db.NoteWritten(ctx, "test", noted)
}

const (
	testTemplate = "TEMPLATE_PAID_0001"
	testAfter    = 30 * time.Second
)

var testRules = []FallbackRule{{
	Action: "order.paid", After: int(testAfter / time.Second),
	Custom:    &CustomFallback{Text: "您的订单已支付：{description}，{total|yuan}元"},
	Subscribe: &SubscribeFallback{Template: testTemplate, Page: "pages/order", Data: map[string]string{"thing1": "{description}", "amount2": "{total|yuan}元", "time3": "{@at|time}"}},
}}

// A stage is a shop with mail and the simulator as its WeChat, all on one clock.
type stage struct {
	t     testing.TB
	clock *dial // nil: the real time
	db    *store.DB
	hub   *hub.Hub
	wx    *wechat.Client
	book  *Fallbacks
	creds sim.Credentials
	sim   string
	ws    string
	n     int
}

var simCredentials = sync.OnceValues(sim.NewCredentials)

func newStage(t testing.TB, url string, clock *dial) *stage {
	t.Helper()
	s := &stage{t: t, clock: clock}
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.creds, err = simCredentials()
	fail(err)
	// The pushes are recorded by the test itself, in the order that it wants.
	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "success") }))
	t.Cleanup(deaf.Close)
	wechatSide, err := sim.New(sim.Options{Credentials: s.creds, PushURL: deaf.URL, Now: s.clock.now})
	fail(err)
	platform := httptest.NewServer(wechatSide)
	t.Cleanup(func() { platform.Close(); wechatSide.Close() })
	s.sim = platform.URL
	s.db, err = store.Open(t.Context(), store.Options{URL: url, Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}, Now: s.clock.now})
	fail(err)
	t.Cleanup(func() { s.db.Close() })
	s.hub, err = hub.New(hub.Options{Mail: shopMail{s.db}})
	fail(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = s.hub.Shutdown(ctx)
	})
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	s.wx, err = wechat.New(wechat.Options{AppID: s.creds.AppID, Secret: s.creds.Secret, APIURL: s.sim, HTTP: client, Now: s.clock.now})
	fail(err)
	s.book, err = NewFallbacks(t.Context(), s.db, testRules)
	fail(err)
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = s.hub.Accept(w, r, hub.Session{User: r.URL.Query().Get("user"), Role: "user"})
	}))
	t.Cleanup(door.Close)
	s.ws = "ws" + strings.TrimPrefix(door.URL, "http")
	return s
}

// node is one process of the shop; change may let it die.
func (s *stage) node(name string, change func(*Options)) *Jobs {
	o := Options{Hub: s.hub, Store: s.db, WeChat: s.wx, AppID: s.creds.AppID, Node: name, Fallbacks: s.book, Now: s.clock.now}
	if change != nil {
		change(&o)
	}
	return New(o)
}

func (s *stage) control(path string, in, out any) {
	s.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.Post(s.sim+path, "application/json", bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(out); err != nil || r.StatusCode != 200 {
		s.t.Fatalf("simulator %s: %d %v", path, r.StatusCode, err)
	}
}

// A person has a phone with the mini-program.
type person struct {
	s            *stage
	name, openID string
	user         store.User
}

func (s *stage) person() *person {
	s.t.Helper()
	s.n++
	p := &person{s: s, name: fmt.Sprint("person", s.n)}
	var wx struct{ OpenID string }
	s.control("/sim/login", map[string]any{"user": p.name}, &wx)
	p.openID = wx.OpenID
	var err error
	if p.user, err = s.db.SignIn(s.t.Context(), store.SignIn{AppID: s.creds.AppID, OpenID: p.openID}); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// speak opens WeChat's window for customer-service messages; known: the push of it reached us.
func (p *person) speak(known bool) {
	p.s.t.Helper()
	p.s.control("/sim/message", map[string]any{"user": p.name, "type": "text", "content": "在吗"}, &struct{}{})
	if known {
		p.push(store.Push{Opens: &store.ReplyWindow{Messages: 5, For: 48 * time.Hour, At: p.s.clock.now()}})
	}
}

// grant accepts a popup for one subscribe message, at WeChat, here, or both.
func (p *person) grant(there, here bool) {
	p.s.t.Helper()
	if there {
		p.s.control("/sim/subscribe", map[string]any{"user": p.name, "templates": map[string]string{testTemplate: "accept"}}, &struct{}{})
	}
	if here {
		p.push(store.Push{Grants: []store.GrantChange{{TemplateID: testTemplate, Kind: store.GrantAccepted}}})
	}
}

func (p *person) push(of store.Push) {
	p.s.t.Helper()
	p.s.n++
	of.Key, of.AppID, of.OpenID = fmt.Sprint("push", p.s.n), p.s.creds.AppID, p.openID
	if _, _, err := p.s.db.RecordPush(p.s.t.Context(), of); err != nil {
		p.s.t.Fatal(err)
	}
}

// spend uses messages of the window up, at WeChat and, counted, here too.
func (p *person) spend(n int, counted bool) {
	p.s.t.Helper()
	for range n {
		if err := p.s.wx.SendCustom(p.s.t.Context(), p.openID, wechat.CustomMessage{Text: &wechat.CustomText{Content: "spent"}}); err != nil {
			p.s.t.Fatal(err)
		}
		if counted {
			if err := p.s.db.SpendReply(p.s.t.Context(), p.s.creds.AppID, p.openID, false); err != nil {
				p.s.t.Fatal(err)
			}
		}
	}
}

// mail stores a letter and has its ring relayed.
func (p *person) mail(id string) {
	p.s.t.Helper()
	if _, err := p.s.db.AddMail(p.s.t.Context(), []string{p.user.ID}, store.Letter{ID: id, Action: "order.paid", Payload: json.RawMessage(`{"description":"新茶 250 克","total":12800}`)}); err != nil {
		p.s.t.Fatal(err)
	}
	j := p.s.node("relay", nil)
	for _, f := range j.flows {
		if f.kinds[0] == store.TellMail {
			if _, err := j.claim(p.s.t.Context(), f, batch); err != nil {
				p.s.t.Fatal(err)
			}
		}
	}
}

// received counts what WeChat gave this person, by kind, without what the test spent.
func (p *person) received() (custom, subscribe int) {
	p.s.t.Helper()
	r, err := http.Get(p.s.sim + "/sim/state?limit=40")
	if err != nil {
		p.s.t.Fatal(err)
	}
	defer r.Body.Close()
	var state struct {
		Messages []struct{ Kind, Openid, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&state); err != nil {
		p.s.t.Fatal(err)
	}
	for _, m := range state.Messages {
		switch {
		case m.Openid != p.openID || m.Content == "spent":
		case !strings.Contains(m.Content, "新茶 250 克") || !strings.Contains(m.Content, "128.00元"):
			p.s.t.Errorf("WeChat was given %q", m.Content)
		case m.Kind == "custom":
			custom++
		case m.Kind == "subscribe":
			subscribe++
		}
	}
	return custom, subscribe
}

// connect opens a socket, and waits until the hub knows.
func (p *person) connect() (close func()) {
	p.s.t.Helper()
	ws, _, err := websocket.DefaultDialer.DialContext(p.s.t.Context(), p.s.ws+"?user="+p.user.ID, nil)
	if err != nil {
		p.s.t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		p.s.t.Fatal(err)
	}
	return func() {
		_ = ws.Close()
		for end := time.Now().Add(20 * time.Second); p.s.hub.Stats().Sockets > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				p.s.t.Fatal("the socket stays")
			}
		}
	}
}

// rounds lets nodes look for due mail at once, as often as there is some.
func rounds(t testing.TB, nodes ...*Jobs) {
	t.Helper()
	for range 5 {
		var all sync.WaitGroup
		for _, j := range nodes {
			all.Go(func() {
				if _, err := j.FallBack(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// die is a process that vanishes: nothing of it runs any more, and nothing is cleaned up.
func die() { runtime.Goexit() }

// Every state in which mail can find its user, WeChat and us, and every place where the process may die: what WeChat
// received is counted. It is never more than one message, and none where one was already seen.
func TestFallback_matrix(t *testing.T) {
	s := newStage(t, filepath.Join(t.TempDir(), "wxhub.db"), &dial{at: time.Now().Truncate(time.Millisecond)})
	type window string
	const (
		never   window = "never"
		open    window = "open"
		expired window = "expired"
		used    window = "used up"
		unknown window = "used up, unknown to us"
	)
	type grants string
	const (
		none    grants = "none"
		granted grants = "granted"
		ghost   grants = "known to us alone"
	)
	type crash string
	const (
		alive   crash = "no crash"
		claimed crash = "crash after the claim"
		before  crash = "crash before the call"
		after   crash = "crash after the call"
	)
	cases := 0
	for _, online := range []bool{false, true} {
		for _, acked := range []bool{false, true} {
			for _, w := range []window{never, open, expired, used, unknown} {
				for _, g := range []grants{none, granted, ghost} {
					for _, c := range []crash{alive, claimed, before, after} {
						if testing.Short() && (online || acked) && c != alive {
							continue
						}
						cases++
						name := fmt.Sprintf("online %v, acked %v, window %s, grant %s, %s", online, acked, w, g, c)
						p := s.person()
						if w != never {
							p.speak(true)
						}
						switch w {
						case expired:
							s.clock.turn(49 * time.Hour)
						case used:
							p.spend(5, true)
						case unknown:
							p.spend(5, false)
						}
						p.grant(g == granted, g != none)
						hangUp := func() {}
						if online {
							hangUp = p.connect()
						}
						p.mail("m1")
						if acked {
							if err := s.db.AckMail(t.Context(), p.user.ID, 1); err != nil {
								t.Fatal(err)
							}
						}
						s.clock.turn(testAfter)
						switch c {
						case alive:
							rounds(t, s.node("one", nil), s.node("two", nil))
						case claimed:
							if _, err := s.db.ClaimFallbacks(t.Context(), "dead", fallbackBatch, fallbackLease); err != nil {
								t.Fatal(err)
							}
						case before:
							rounds(t, s.node("dead", func(o *Options) { o.BeforeSend = die }))
						case after:
							rounds(t, s.node("dead", func(o *Options) { o.AfterSend = die }))
						}
						if c != alive {
							s.clock.turn(fallbackLease)
							rounds(t, s.node("one", nil), s.node("two", nil))
						}
						customs, subscribes := 0, 0
						// Who called WeChat before it died has lost its answer: what WeChat refused there is not tried elsewhere.
						tries := []string{}
						if w == open || w == unknown {
							tries = append(tries, "custom")
						}
						if g != none {
							tries = append(tries, "subscribe")
						}
						if c == after && len(tries) > 1 {
							tries = tries[:1]
						}
						switch {
						case online || acked || c == before && len(tries) > 0 && tries[0] == "custom":
						case len(tries) > 0 && tries[0] == "custom" && w == open:
							customs = 1
						case g == granted && tries[len(tries)-1] == "subscribe":
							subscribes = 1
						}
						if gotC, gotS := p.received(); gotC != customs || gotS != subscribes {
							t.Errorf("%s: WeChat received %d customer-service and %d subscribe messages, want %d and %d", name, gotC, gotS, customs, subscribes)
						}
						// Whatever comes later, it is not sent again once it was.
						if customs+subscribes > 0 || c == before || c == after {
							had := customs + subscribes
							p.speak(true)
							p.grant(true, true)
							hangUp()
							s.clock.turn(time.Hour)
							rounds(t, s.node("later", nil))
							if gotC, gotS := p.received(); !online && !acked && len(tries) > 0 && gotC+gotS != had {
								t.Errorf("%s: later WeChat received %d more", name, gotC+gotS-had)
							}
						} else {
							hangUp()
						}
						if t.Failed() {
							r, err := s.db.Receipt(t.Context(), "m1", p.user.ID)
							t.Fatalf("%+v %+v %v", r, r.Fallback, err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}
