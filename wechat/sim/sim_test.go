package sim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// credentials are made once: RSA keys take time.
var credentials = sync.OnceValue(func() Credentials {
	c, err := NewCredentials()
	if err != nil {
		panic(err)
	}
	return c
})

// clock is a Now that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 15, 10, 34, 56, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is a simulator with its clock, and the hub that it calls back.
type world struct {
	t     *testing.T
	sim   *Sim
	clock *clock
	hub   *hub
}

// hub records what WeChat sends, and answers as told. It needs no sockets.
type hub struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	answer   func(r *http.Request, body string) (status int, reply string)
}

func (h *hub) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	h.mu.Lock()
	h.requests = append(h.requests, r)
	h.bodies = append(h.bodies, body)
	answer := h.answer
	h.mu.Unlock()
	status, reply := 200, "success"
	if answer != nil {
		status, reply = answer(r, body)
	}
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(reply)), Request: r}, nil
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.requests)
}

func (h *hub) reply(status int, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = func(*http.Request, string) (int, string) { return status, body }
}

func (h *hub) last() (*http.Request, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.requests[len(h.requests)-1], h.bodies[len(h.bodies)-1]
}

func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: newClock(), hub: &hub{}}
	opts := Options{Credentials: credentials(), PushURL: "http://127.0.0.1:8080/wechat/push", Now: w.clock.Now, HTTP: &http.Client{Transport: w.hub}}
	if change != nil {
		change(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.sim = s
	return w
}

func (w *world) do(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, r)
	return rec
}

func (w *world) request(method, target, body string) *httptest.ResponseRecorder {
	return w.do(httptest.NewRequest(method, target, strings.NewReader(body)))
}

type object map[string]any

func (o object) text(name string) string { v, _ := o[name].(string); return v }
func (o object) number(name string) int  { v, _ := o[name].(float64); return int(v) }

func parse(t *testing.T, body []byte) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		t.Fatalf("not an object: %q", body)
	}
	return o
}

// control calls the control side and expects status 200.
func (w *world) control(path string, body object) object {
	w.t.Helper()
	rec := w.request("POST", path, string(toJSON(body)))
	if rec.Code != 200 {
		w.t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
	}
	return parse(w.t, rec.Body.Bytes())
}

func (w *world) state() object { return parse(w.t, w.request("GET", "/sim/state", "").Body.Bytes()) }

func (w *world) session(query url.Values) object {
	w.t.Helper()
	return parse(w.t, w.request("GET", "/sns/jscode2session?"+query.Encode(), "").Body.Bytes())
}

func loginQuery(code string) url.Values {
	c := credentials()
	return url.Values{"appid": {c.AppID}, "secret": {c.Secret}, "js_code": {code}, "grant_type": {"authorization_code"}}
}

func (w *world) token(force bool) object {
	w.t.Helper()
	c := credentials()
	rec := w.request("POST", "/cgi-bin/stable_token", string(toJSON(object{"grant_type": "client_credential", "appid": c.AppID, "secret": c.Secret, "force_refresh": force})))
	return parse(w.t, rec.Body.Bytes())
}

func (w *world) openid(user string) string {
	w.t.Helper()
	return w.control("/sim/login", object{"user": user}).text("openid")
}

// merchant signs as a shop's back end does.
func merchant(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := privateKey(credentials().MerchantKeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustSign(t *testing.T, key *rsa.PrivateKey, parts ...string) string {
	t.Helper()
	sig, err := signRSA(key, lines(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// signed is an honest request of API v3.
func (w *world) signed(method, target, body string) *http.Request {
	return sign(merchant(w.t), w.clock.Now(), method, target, body)
}

func sign(key *rsa.PrivateKey, at time.Time, method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	ts, nonce := strconv.FormatInt(at.Unix(), 10), random(letters, 32)
	sig, err := signRSA(key, lines(method, target, ts, nonce, body))
	if err != nil {
		panic(err)
	}
	c := credentials()
	r.Header.Set("Authorization", fmt.Sprintf(`%s mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"`,
		authScheme, c.MchID, nonce, ts, c.CertSerial, sig))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	return r
}

const prepayPath = "/v3/pay/transactions/jsapi"

func (w *world) order(outTradeNo, openid string) object {
	c := credentials()
	return object{"appid": c.AppID, "mchid": c.MchID, "description": "小猫杯", "out_trade_no": outTradeNo,
		"notify_url": "http://127.0.0.1:8080/wechat/pay/notify",
		"amount":     object{"total": 990, "currency": "CNY"}, "payer": object{"openid": openid}}
}

func (w *world) prepay(body object) *httptest.ResponseRecorder {
	return w.do(w.signed("POST", prepayPath, string(toJSON(body))))
}

// prepaid places an order for a user and returns its prepay_id.
func (w *world) prepaid(outTradeNo, user string) string {
	w.t.Helper()
	rec := w.prepay(w.order(outTradeNo, w.openid(user)))
	if rec.Code != 200 {
		w.t.Fatalf("prepay: %d %s", rec.Code, rec.Body)
	}
	return parse(w.t, rec.Body.Bytes()).text("prepay_id")
}

func (w *world) payFields(user, prepayID string) object {
	ts, nonce, pack := strconv.FormatInt(w.clock.Now().Unix(), 10), random(letters, 32), "prepay_id="+prepayID
	return object{"user": user, "timeStamp": ts, "nonceStr": nonce, "package": pack, "signType": "RSA",
		"paySign": mustSign(w.t, merchant(w.t), credentials().AppID, ts, nonce, pack)}
}

// openResource is the merchant's side of sealResource.
func openResource(t *testing.T, key, nonce, associated, sealed string) []byte {
	t.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gcm.Open(nil, []byte(nonce), raw, []byte(associated))
	if err != nil {
		t.Fatalf("resource does not open: %v", err)
	}
	return plain
}

// openUserData is the back end's side of sealUserData.
func openUserData(t *testing.T, sessionKey, iv, sealed string) []byte {
	t.Helper()
	block, ivBytes, err := userDataCipher(sessionKey, iv)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCDecrypter(block, ivBytes).CryptBlocks(raw, raw)
	return raw[:len(raw)-int(raw[len(raw)-1])]
}

func verifyPlatform(t *testing.T, h http.Header, body []byte) error {
	t.Helper()
	key, err := publicKey(credentials().PlatformPublicPEM)
	if err != nil {
		t.Fatal(err)
	}
	return verifyRSA(key, lines(h.Get("Wechatpay-Timestamp"), h.Get("Wechatpay-Nonce"), string(body)), h.Get("Wechatpay-Signature"))
}

func TestNew_refuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no appid":        func(o *Options) { o.AppID = "" },
		"no secret":       func(o *Options) { o.Secret = "" },
		"no push token":   func(o *Options) { o.PushToken = "" },
		"short v3 key":    func(o *Options) { o.APIv3Key = "short" },
		"no serial":       func(o *Options) { o.CertSerial = "" },
		"bad AES key":     func(o *Options) { o.PushAESKey = "abc" },
		"bad merchant":    func(o *Options) { o.MerchantKeyPEM = "x" },
		"bad platform":    func(o *Options) { o.PlatformKeyPEM = "x" },
		"unknown mode":    func(o *Options) { o.PushMode = "secret" },
		"unknown format":  func(o *Options) { o.PushFormat = "yaml" },
		"safe, no key":    func(o *Options) { o.PushMode, o.PushAESKey = "safe", "" },
		"push address":    func(o *Options) { o.PushURL = "ftp://x" },
		"negative scale":  func(o *Options) { o.TimeScale = -1 },
		"notify override": func(o *Options) { o.NotifyURL = "notify" },
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Credentials: credentials()}
			change(&o)
			if _, err := New(o); err == nil {
				t.Fatal("accepted")
			} else if c := credentials(); strings.Contains(err.Error(), c.Secret) || strings.Contains(err.Error(), c.APIv3Key) {
				t.Fatalf("secret in error: %v", err)
			}
		})
	}
}

func TestCredentials_hidden(t *testing.T) {
	c := credentials()
	var log bytes.Buffer
	fmt.Fprintf(&log, "%v %+v %#v %s", c, c, c, c.LogValue())
	for _, secret := range []string{c.Secret, c.PushToken, c.PushAESKey, c.APIv3Key, c.V2Key, c.MPSecret, c.MPToken, c.MPAESKey, "PRIVATE KEY"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("secret is printed: %s", log.String())
		}
	}
	if len(c.PushAESKey) != 43 || len(c.APIv3Key) != 32 || !strings.HasPrefix(c.PublicKeyID, "PUB_KEY_ID_") {
		t.Errorf("shape of %v", c)
	}
}

func TestClose_endsLadderAndLongPoll(t *testing.T) {
	w := newWorld(t, nil)
	w.hub.reply(500, "")
	w.control("/sim/pay", with(w.payFields("alice", w.prepaid("T0000001", "alice")), "confirm", true))
	polled := make(chan int)
	go func() { polled <- w.request("GET", "/sim/chat?user=alice&wait=60", "").Code }()
	time.Sleep(10 * time.Millisecond)
	w.sim.Close()
	if code := <-polled; code != 200 && code != 503 {
		t.Errorf("long poll ended with %d", code)
	}
	if rec := w.request("GET", "/sim/state", ""); rec.Code != 503 {
		t.Errorf("after Close: %d", rec.Code)
	}
	w.sim.Close()
}

func with(o object, pairs ...any) object {
	copied := object{}
	for k, v := range o {
		copied[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(copied, pairs[i].(string))
		} else {
			copied[pairs[i].(string)] = pairs[i+1]
		}
	}
	return copied
}
