package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web/jobs"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

// A shop is everything that a payment passes through: hub, store, relay and server, and a WeChat that they
// reach over HTTP and that reaches them.
type shop struct {
	*testing.T
	db     *store.DB
	hub    *hub.Hub
	server *Server
	url    string // of the hub's server
	wechat string // of the simulator
	keys   sim.Credentials
	log    *logged
	client *http.Client
}

// logged keeps what was logged at warn and above.
type logged struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString(r.Level.String() + " " + r.Message)
	r.Attrs(func(a slog.Attr) bool { line.WriteString(" " + a.String()); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line.String())
	return nil
}
func (l *logged) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logged) WithGroup(string) slog.Handler      { return l }

// having counts the lines that hold part.
func (l *logged) having(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

var (
	shopKeys     sim.Credentials
	shopKeysOnce sync.Once
)

type shopOption func(*Options, *sim.Options)

func newShop(t *testing.T, options ...shopOption) *shop {
	t.Helper()
	shopKeysOnce.Do(func() {
		var err error
		if shopKeys, err = sim.NewCredentials(); err != nil {
			t.Fatal(err)
		}
	})
	s := &shop{T: t, keys: shopKeys, log: &logged{}, client: &http.Client{Transport: &tap{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}}
	t.Cleanup(s.client.CloseIdleConnections)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error

	var door atomic.Pointer[http.Handler]
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*door.Load()).ServeHTTP(w, r) }))
	t.Cleanup(outside.Close)
	s.url = outside.URL

	logger := slog.New(s.log)
	simOptions := sim.Options{Credentials: s.keys, PushURL: s.url + "/wechat/push", MPURL: s.url + "/wechat/mp", TimeScale: 60}
	o := Options{
		AppID: s.keys.AppID, MchID: s.keys.MchID, Logger: logger, Version: "test",
		APIKeys:  map[string]string{"test": "test-api-key"},
		Products: []Product{{ID: "apple", Name: "红富士苹果", PriceFen: 1999}, {ID: "pear", Name: "雪梨", PriceFen: 1}},
		Replies:  []Reply{{Keyword: "发货", Text: "四十八小时内发货"}},
		Limits:   Limits{Address: Rate{Off: true}, User: Rate{Off: true}, Handshakes: Rate{Off: true}, AdminLogin: Rate{Off: true}},
	}
	for _, option := range options {
		option(&o, &simOptions)
	}

	platform, err := sim.New(simOptions)
	must(err)
	wechatServer := httptest.NewServer(platform)
	t.Cleanup(func() { platform.Close(); wechatServer.Close() })
	s.wechat = wechatServer.URL

	s.db, err = store.Open(t.Context(), store.Options{
		URL: filepath.Join(t.TempDir(), "wxhub.db"), Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}, Logger: logger,
	})
	must(err)
	t.Cleanup(func() { s.db.Close() })
	o.Calls = NewCalls()
	client, err := wechat.New(wechat.Options{AppID: s.keys.AppID, Secret: s.keys.Secret, APIURL: s.wechat, HTTP: s.client, Observe: o.Calls.Observe, Logger: logger})
	must(err)
	o.MPAppID = s.keys.MPAppID
	o.MPClient, err = wechat.New(wechat.Options{AppID: s.keys.MPAppID, Secret: s.keys.MPSecret, APIURL: s.wechat, HTTP: s.client, Logger: logger})
	must(err)
	if o.Moderator == nil {
		o.Moderator = &Moderator{}
	}
	o.Moderator.Store, o.Moderator.WeChat, o.Moderator.Logger = s.db, client, logger
	s.hub, err = hub.New(hub.Options{Mail: Mailbox(s.db, "test"), Moderate: o.Moderator.Moderate, Logger: logger})
	must(err)
	pay, err := wechat.NewPayV3(wechat.PayV3Options{
		AppID: s.keys.AppID, MchID: s.keys.MchID, APIURL: s.wechat, NotifyURL: s.url + "/wechat/pay/notify",
		APIv3Key: s.keys.APIv3Key, CertSerial: s.keys.CertSerial, PrivateKeyPEM: s.keys.MerchantKeyPEM,
		PublicKeyID: s.keys.PublicKeyID, PublicKeyPEM: s.keys.PlatformPublicPEM, HTTP: s.client, Observe: o.Calls.Observe, Logger: logger,
	})
	must(err)
	pushOptions := wechat.PushOptions{AppID: s.keys.AppID, Token: s.keys.PushToken}
	if simOptions.PushMode != "plain" {
		pushOptions.AESKey = s.keys.PushAESKey
	}
	push, err := wechat.NewReceiver(pushOptions)
	must(err)
	mpOptions := wechat.PushOptions{AppID: s.keys.MPAppID, Token: s.keys.MPToken}
	if simOptions.MPMode != "plain" {
		mpOptions.AESKey = s.keys.MPAESKey
	}
	o.MP, err = wechat.NewReceiver(mpOptions)
	must(err)
	tokens, err := NewTokens([]Key{{ID: "k", Secret: []byte("0123456789abcdef0123456789abcdef")}}, time.Hour, s.db)
	must(err)
	o.Hub, o.Store, o.Tokens, o.WeChat, o.Push = s.hub, s.db, tokens, client, push
	if _, v2 := o.Pay.(*wechat.PayV2); v2 { // as withPayV2 wants it
		o.Pay, err = wechat.NewPayV2(wechat.PayV2Options{
			AppID: s.keys.AppID, MchID: s.keys.MchID, APIURL: s.wechat, NotifyURL: s.url + "/wechat/pay/notify",
			Key: s.keys.V2Key, SignType: simOptions.V2SignType, HTTP: s.client, Observe: o.Calls.Observe, Logger: logger,
		})
		must(err)
	} else {
		o.Pay = pay
	}
	s.server, err = New(o)
	must(err)
	handler := s.server.Handler()
	door.Store(&handler)

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.server.Run(ctx) })
	running.Go(func() {
		jobs.New(jobs.Options{
			Hub: s.hub, Store: s.db, WeChat: client, MP: o.MPClient, AppID: o.AppID, MPAppID: o.MPAppID,
			Hooks: o.Hooks, Fallbacks: s.server.o.Fallbacks, Logger: logger,
		}).Run(ctx)
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.hub.Shutdown(ctx)
	})
	return s
}

// answer is the envelope of /api.
type answer struct {
	Status     int `json:"-"`
	Header     http.Header
	Code       int             `json:"code"`
	Data       json.RawMessage `json:"data"`
	Message    string          `json:"message"`
	Error      string          `json:"error"`
	RetryAfter string          `json:"-"`
}

// call sends body (a string as it is, nil none, anything else as JSON) and reads the envelope.
func (s *shop) call(method, path, token string, body any) answer {
	s.Helper()
	status, header, text := s.send(method, s.url+path, token, body)
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		s.Fatalf("%s %s: %d %s: %v", method, path, status, text, err)
	}
	a.Status, a.Header = status, header
	return a
}

func (s *shop) send(method, address, token string, body any) (int, http.Header, []byte) {
	s.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, address, reader)
	if err != nil {
		s.Fatal(err)
	}
	if reader != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	if path, own := strings.CutPrefix(address, s.url); own && strings.HasPrefix(path, "/api/") {
		CheckAnswer(s, s.server.Handler(), method, path, res.StatusCode, text)
	}
	return res.StatusCode, res.Header, text
}

// play asks the simulator's control side and demands success.
func (s *shop) play(method, path string, body, into any) {
	s.Helper()
	status, _, text := s.send(method, s.wechat+path, "", body)
	if status != http.StatusOK {
		s.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			s.Fatalf("%s: %s: %v", path, text, err)
		}
	}
}

// wxLogin is what wx.login gives to a person's phone.
func (s *shop) wxLogin(name string) (code string) {
	s.Helper()
	var got struct {
		Code string `json:"code"`
	}
	s.play("POST", "/sim/login", map[string]string{"user": name, "nickname": name}, &got)
	return got.Code
}

// login logs a person in, with the nickname that the person's phone tells.
func (s *shop) login(name string) (token, user string) {
	s.Helper()
	var got map[string]string
	s.play("POST", "/sim/login", map[string]string{"user": name, "nickname": name}, &got)
	a := s.call("POST", "/api/login", "", map[string]string{
		"code": got["code"], "rawData": got["rawData"], "signature": got["signature"],
		"encryptedData": got["encryptedData"], "iv": got["iv"],
	})
	var data struct {
		Token string `json:"token"`
		User  struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	if err := json.Unmarshal(a.Data, &data); err != nil || data.Token == "" {
		s.Fatalf("login of %s: %+v", name, a)
	}
	return data.Token, data.User.ID
}

// order orders a product and returns what wx.requestPayment takes.
func (s *shop) order(token, product string, quantity int) map[string]any {
	s.Helper()
	return s.params(s.call("POST", "/api/pay", token, map[string]any{"productId": product, "quantity": quantity}))
}

func (s *shop) params(a answer) map[string]any {
	s.Helper()
	var params map[string]any
	if a.Status != http.StatusOK || a.Code != 1 || json.Unmarshal(a.Data, &params) != nil {
		s.Fatalf("pay: %d %s %s %s", a.Status, a.Error, a.Message, a.Data)
	}
	return params
}

// confirm is the person who types the password into the pay sheet.
func (s *shop) confirm(name string, params map[string]any) map[string]any {
	s.Helper()
	body := map[string]any{"user": name, "confirm": true}
	for _, field := range []string{"timeStamp", "nonceStr", "package", "signType", "paySign"} {
		body[field] = params[field]
	}
	var got map[string]any
	s.play("POST", "/sim/pay", body, &got)
	return got
}

// notified is what the hub answered to one notify or push that the simulator was told to send.
type notified struct {
	Status int             `json:"status"`
	Body   string          `json:"body"`
	Ms     float64         `json:"ms"`
	More   json.RawMessage `json:"-"`
}

// trigger has the simulator send something and returns the answers it got.
func (s *shop) trigger(body map[string]any) []notified {
	s.Helper()
	var got struct {
		Answers []notified `json:"answers"`
	}
	s.play("POST", "/sim/trigger", body, &got)
	return got.Answers
}

// orderState asks for an order as its owner.
func (s *shop) orderState(token, outTradeNo string) (state string, paidAt int64) {
	s.Helper()
	a := s.call("GET", "/api/orders/"+outTradeNo, token, nil)
	var o struct {
		State  string `json:"state"`
		PaidAt int64  `json:"paidAt"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Data, &o) != nil {
		s.Fatalf("order %s: %+v", outTradeNo, a)
	}
	return o.State, o.PaidAt
}

// heard is a push that reached a socket.
type heard struct {
	Meta struct {
		Room string `json:"room"`
		ID   string `json:"id"`
	} `json:"meta"`
	Data struct {
		Action  string          `json:"action"`
		Payload json.RawMessage `json:"payload"`
	} `json:"data"`
}

// A handset is a phone's socket that writes down what it hears.
type handset struct {
	mu    sync.Mutex
	heard []heard
}

func (s *shop) phone(token string, rooms ...string) *handset {
	s.Helper()
	q := url.Values{"token": {token}, "room": rooms}
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/ws?"+q.Encode(), nil)
	if err != nil {
		s.Fatal(err)
	}
	p := &handset{}
	welcome := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for first := true; ; first = false {
			_, text, err := ws.ReadMessage()
			if err != nil {
				return
			}
			CheckFrame(s, text)
			var h heard
			if json.Unmarshal(text, &h) == nil && h.Data.Action != "" {
				p.mu.Lock()
				p.heard = append(p.heard, h)
				p.mu.Unlock()
			}
			if first {
				close(welcome)
			}
		}
	})
	s.Cleanup(func() { ws.Close(); reading.Wait() })
	select {
	case <-welcome:
	case <-time.After(5 * time.Second):
		s.Fatal("no welcome")
	}
	return p
}

// of returns the pushes of an action.
func (p *handset) of(action string) (of []heard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.heard {
		if h.Data.Action == action {
			of = append(of, h)
		}
	}
	return of
}

// eventually waits until ok, at most twenty seconds: a machine may have other work.
func (s *shop) eventually(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within twenty seconds: %s", what)
		}
	}
}

// quiet waits until the relay has nothing left to say, so that what was not heard by then never comes.
func (s *shop) quiet() {
	s.Helper()
	s.eventually("an empty outbox", func() bool {
		stats, err := s.db.OutboxStats(s.Context())
		return err == nil && stats.Waiting == 0
	})
	time.Sleep(50 * time.Millisecond) // the last frame's way to the phone
}
