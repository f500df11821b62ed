package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	apiKey        = "canary-api-key-0123456789"
	adminPassword = "canary-admin-password"
	jwtSecret     = "canary-jwt-secret-of-at-least-32-bytes"

	busy = 2 * time.Second // what a machine with other work may add to a promised time
)

var credentials = sync.OnceValue(func() sim.Credentials {
	c, err := sim.NewCredentials()
	if err != nil {
		panic(err)
	}
	return c
})

// A shop is the real thing: hub, SQLite, server, and the simulator as its WeChat.
type shop struct {
	t      testing.TB
	hub    *hub.Hub
	db     *store.DB
	tokens *web.Tokens
	server *web.Server
	url    string
	sim    string
	client *http.Client
	log    *lockedBuffer
	run    func() // starts server.Run until the test ends
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func off(o *web.Options) {
	o.Limits = web.Limits{Address: web.Rate{Off: true}, User: web.Rate{Off: true}, Handshakes: web.Rate{Off: true}, AdminLogin: web.Rate{Off: true}}
}

// newShop opens a shop whose options are changed by change; limits are off until a change sets them.
func newShop(t testing.TB, change ...func(*web.Options)) *shop {
	t.Helper()
	s := &shop{t: t, log: &lockedBuffer{}, client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	var handler http.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	s.url = front.URL

	creds := credentials()
	simulator, err := sim.New(sim.Options{Credentials: creds, PushURL: s.url + "/wechat/push", TimeScale: 1000})
	must(err)
	back := httptest.NewServer(simulator)
	t.Cleanup(back.Close)
	t.Cleanup(func() { _ = simulator.Close() })
	s.sim = back.URL

	s.db, err = store.Open(t.Context(), store.Options{
		URL: filepath.Join(t.TempDir(), "wxhub.db"), Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}},
	})
	must(err)
	t.Cleanup(func() { _ = s.db.Close() })
	s.tokens, err = web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}, {ID: "old", Secret: []byte(strings.ToUpper(jwtSecret))}}, time.Hour, s.db)
	must(err)
	s.hub, err = hub.New(hub.Options{Mail: web.Mailbox(s.db, "test"), Authenticate: s.tokens.Check, Logger: log})
	must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.hub.Shutdown(ctx)
	})
	weChat, err := wechat.New(wechat.Options{AppID: creds.AppID, Secret: creds.Secret, APIURL: s.sim, HTTP: s.client, Logger: log})
	must(err)
	pay, err := wechat.NewPayV3(wechat.PayV3Options{
		AppID: creds.AppID, MchID: creds.MchID, APIURL: s.sim, NotifyURL: s.url + "/wechat/pay/notify", APIv3Key: creds.APIv3Key,
		CertSerial: creds.CertSerial, PrivateKeyPEM: creds.MerchantKeyPEM, PublicKeyID: creds.PublicKeyID, PublicKeyPEM: creds.PlatformPublicPEM,
		HTTP: s.client, Logger: log,
	})
	must(err)
	push, err := wechat.NewReceiver(wechat.PushOptions{AppID: creds.AppID, Token: creds.PushToken, AESKey: creds.PushAESKey})
	must(err)
	o := web.Options{
		Hub: s.hub, Store: s.db, Tokens: s.tokens, WeChat: weChat, Pay: pay, Push: push, AppID: creds.AppID, MchID: creds.MchID,
		AdminUser: "admin", AdminPassword: adminPassword, APIKeys: map[string]string{"shop": apiKey},
		Products: []web.Product{{ID: "tea", Name: "龙井 <50g>", PriceFen: 1280}}, Version: "test", Logger: log,
	}
	off(&o)
	for _, f := range change {
		f(&o)
	}
	s.server, err = web.New(o)
	must(err)
	handler = s.server.Handler()
	s.run = func() {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = s.server.Run(ctx) })
		t.Cleanup(func() { cancel(); running.Wait() })
	}
	return s
}

// An answer is what came back, opened as an envelope if it is one.
type answer struct {
	Status  int
	Header  http.Header
	Text    string
	Code    *int            `json:"code"`
	Data    json.RawMessage `json:"data"`
	Message string          `json:"message"`
	Error   *string         `json:"error"`
}

func (a answer) word() string {
	if a.Error == nil {
		return ""
	}
	return *a.Error
}

// wellFormed complains about an answer of /api that is no envelope as the contract has it.
func (a answer) wellFormed(t testing.TB, what string) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.Text), &fields); err != nil || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		t.Errorf("%s: %d %s is no envelope: %.200q", what, a.Status, a.Header.Get("Content-Type"), a.Text)
		return
	}
	failed := a.Code != nil && *a.Code == 0
	want := 3
	if failed {
		want = 4
		if string(a.Data) != "null" || a.word() == "" {
			t.Errorf("%s: data and error of %s", what, a.Text)
		}
	}
	if a.Code == nil || *a.Code > 1 || a.Message == "" || len(fields) != want {
		t.Errorf("%s: the envelope is %.300s", what, a.Text)
	}
}

// ask sends one request. body: nil, a string as it is, or something to marshal. who: "", "key", or a token.
func (s *shop) ask(method, path, who string, body any, headers ...string) answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	switch who {
	case "":
	case "key":
		r.Header.Set("X-API-Key", apiKey)
	default:
		r.Header.Set("Authorization", "Bearer "+who)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	web.CheckAnswer(s.t, s.server.Handler(), method, path, resp.StatusCode, text)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Text: string(text)}
	_ = json.Unmarshal(text, &a)
	return a
}

// into unpacks the data of a success.
func (a answer) into(t testing.TB, v any) {
	t.Helper()
	a.wellFormed(t, "answer")
	if a.Code == nil || *a.Code != 1 {
		t.Fatalf("failed: %d %s", a.Status, a.Text)
	}
	if err := json.Unmarshal(a.Data, v); err != nil {
		t.Fatalf("%v in %s", err, a.Text)
	}
}

// token issues one for a user who never logged in here.
func (s *shop) token(user, role string, rooms ...string) string {
	s.t.Helper()
	token, err := s.tokens.Issue(user, role, rooms, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// phone is what a person's wx.login and wx.getUserProfile give.
type phone struct {
	Code          string `json:"code"`
	OpenID        string `json:"openid"`
	RawData       string `json:"rawData"`
	Signature     string `json:"signature"`
	EncryptedData string `json:"encryptedData"`
	IV            string `json:"iv"`
}

func (s *shop) phone(user string) (p phone) {
	s.t.Helper()
	s.simulate("/sim/login", map[string]any{"user": user, "nickname": "小雨"}, &p)
	return p
}

func (s *shop) simulate(path string, in, out any) {
	s.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Post(s.sim+path, "application/json", bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, resp.StatusCode, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			s.t.Fatal(err)
		}
	}
}

type login struct {
	Token     string `json:"token"`
	ExpiresIn int64  `json:"expiresIn"`
	User      struct {
		ID       string `json:"id"`
		Nickname string `json:"nickname"`
		Avatar   string `json:"avatar"`
	} `json:"user"`
}

// login is a new session of a person whom the simulator knows.
func (s *shop) login(user string) (l login) {
	s.t.Helper()
	p := s.phone(user)
	s.ask("POST", "/api/login", "", map[string]any{"code": p.Code, "rawData": p.RawData, "signature": p.Signature}).into(s.t, &l)
	return l
}

// state is everything that a bad request must leave as it is.
func (s *shop) state(users ...string) string {
	s.t.Helper()
	ctx := context.Background()
	orders, err1 := s.db.Orders(ctx, store.OrderQuery{Limit: 200})
	outbox, err2 := s.db.OutboxStats(ctx)
	revoked, err3 := s.db.Revocations(ctx, time.Time{})
	talks, err4 := s.db.Conversations(ctx, 100)
	mail, err5 := s.db.MailHeads(ctx, users)
	conflicts, err6 := s.db.Conflicts(ctx, 100)
	text, err7 := json.Marshal([]any{orders, outbox, revoked, talks, mail, conflicts, s.hub.Stats().Published})
	for _, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return string(text)
}
