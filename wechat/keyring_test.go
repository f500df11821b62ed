package wechat

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A signature of WeChat Pay: a certificate and its key.
type payCert struct {
	key    *rsa.PrivateKey
	serial string
	pem    string
}

var certKeys = sync.OnceValue(func() [2]*rsa.PrivateKey { return [2]*rsa.PrivateKey{newKey(), newKey()} })

// newPayCert is one of the platform's certificates, good from one time to another.
func newPayCert(t testing.TB, key *rsa.PrivateKey, serial int64, from, to time.Time) payCert {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "Tenpay.com"}, NotBefore: from, NotAfter: to}
	b, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return payCert{key, fmt.Sprintf("%X", serial), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b}))}
}

// certificatesBody is what /v3/certificates says.
func certificatesBody(t testing.TB, certs ...payCert) string {
	t.Helper()
	block, err := aes.NewCipher([]byte(testAPIv3Key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	data := []map[string]any{}
	for _, c := range certs {
		sealed := gcm.Seal(nil, []byte("61f9c719728a"), []byte(c.pem), []byte("certificate"))
		data = append(data, map[string]any{"serial_no": c.serial, "effective_time": "2026-01-01T00:00:00+08:00", "expire_time": "2031-01-01T00:00:00+08:00",
			"encrypt_certificate": map[string]string{"algorithm": v3Algorithm, "nonce": "61f9c719728a", "associated_data": "certificate",
				"ciphertext": base64.StdEncoding.EncodeToString(sealed)}})
	}
	b, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// certPlatform is a WeChat Pay whose certificates change. Guarded by mu.
type certPlatform struct {
	t     testing.TB
	now   *clock
	mu    sync.Mutex
	asked int
	certs []payCert
	by    payCert // signs
	none  func(w http.ResponseWriter)
	away  bool
}

func (p *certPlatform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		w.WriteHeader(502)
		return
	}
	body := `{"prepay_id":"wx1"}`
	if r.URL.Path == "/v3/certificates" {
		p.asked++
		if p.none != nil {
			p.none(w)
			return
		}
		body = certificatesBody(p.t, p.certs...)
	}
	for name, v := range p.by.sign(p.t, p.now.now().Unix(), []byte(body)) {
		w.Header()[name] = v
	}
	_, _ = io.WriteString(w, body)
}

func (c payCert) sign(t testing.TB, timestamp int64, body []byte) http.Header {
	h := signAs(t, c.key, timestamp, body)
	h.Set("Wechatpay-Serial", c.serial)
	return h
}

func (p *certPlatform) pay(change ...func(*PayV3Options)) *PayV3 {
	p.t.Helper()
	s := httptest.NewServer(p)
	o := payOptions(p.t)
	o.APIURL, o.Now = s.URL, p.now.now
	for _, f := range change {
		f(&o)
	}
	pay, err := NewPayV3(o)
	if err != nil {
		p.t.Fatal(err)
	}
	pay.pause = time.Millisecond
	p.t.Cleanup(func() { s.CloseClientConnections(); s.Close(); pay.http.CloseIdleConnections() })
	return pay
}

func certificatesAlone(o *PayV3Options) { o.PublicKeyID, o.PublicKeyPEM = "", "" }

func (p *certPlatform) notify(pay *PayV3, by payCert) error {
	body := notifyBody(p.t, eventPaid, paidPlain)
	_, err := pay.OpenNotify(by.sign(p.t, p.now.now().Unix(), body), body)
	return err
}

func newCertPlatform(t testing.TB) (*certPlatform, payCert, payCert) {
	now := &clock{}
	day := 24 * time.Hour
	old := newPayCert(t, certKeys()[0], 0x1A2B, now.now().Add(-1000*day), now.now().Add(5*day))
	young := newPayCert(t, certKeys()[1], 0x3C4D, now.now().Add(-day), now.now().Add(1800*day))
	return &certPlatform{t: t, now: now, certs: []payCert{old}, by: old}, old, young
}

// A merchant of the older kind: the first answer is signed with a certificate that nobody has given us yet.
func TestRing_certificatesAlone(t *testing.T) {
	p, old, young := newCertPlatform(t)
	pay := p.pay(certificatesAlone)
	if id, err := pay.Prepay(t.Context(), testOrder); err != nil || id != "wx1" {
		t.Fatal(id, err)
	}
	if err := p.notify(pay, old); err != nil || p.asked != 1 {
		t.Errorf("%v, asked %d times", err, p.asked)
	}
	// The platform changes over: first it shows the new one, then it signs with it.
	p.now.wind(time.Hour)
	p.mu.Lock()
	p.certs = []payCert{old, young}
	p.mu.Unlock()
	if err := pay.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, by := range []payCert{old, young} {
		if err := p.notify(pay, by); err != nil {
			t.Errorf("%s: %v", by.serial, err)
		}
	}
	if keys := pay.Keys(); len(keys) != 2 || keys[0].Serial != "1A2B" || !keys[0].Certificate || keys[1].Serial != "3C4D" || keys[1].NotAfter.IsZero() {
		t.Errorf("%+v", keys)
	}
	// an old one is over, and what it signs no longer counts
	p.now.wind(5 * 24 * time.Hour)
	if err := p.notify(pay, old); !errors.Is(err, ErrSignature) {
		t.Errorf("a certificate that is over: %v", err)
	}
	if err := p.notify(pay, young); err != nil {
		t.Error(err)
	}
}

// Nobody refreshed in time: the first unknown serial fetches the new certificate.
func TestRing_rotationThatNobodySaw(t *testing.T) {
	p, old, young := newCertPlatform(t)
	pay := p.pay(certificatesAlone)
	if err := pay.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.now.wind(time.Hour)
	p.mu.Lock()
	p.certs, p.by = []payCert{old, young}, young
	p.mu.Unlock()
	parallel(10, func() {
		if err := p.notify(pay, young); err != nil && !errors.Is(err, ErrSignature) { // who comes while it is fetched may be refused
			t.Error(err)
		}
	})
	if err := p.notify(pay, young); err != nil || p.asked != 2 {
		t.Errorf("%v, asked %d times", err, p.asked)
	}
}

// Anybody can send us serials: they cost a download a minute, no more.
func TestRing_strangeSerials(t *testing.T) {
	p, _, young := newCertPlatform(t)
	pay := p.pay(certificatesAlone)
	if err := pay.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	strange := payCert{key: young.key}
	for n := range 50 {
		strange.serial = fmt.Sprintf("F%X", n)
		if err := p.notify(pay, strange); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	}
	for _, serial := range []string{"PUB_KEY_ID_9", "not hex", strings.Repeat("A", 65)} {
		strange.serial = serial
		if err := p.notify(pay, strange); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	}
	if p.asked != 2 {
		t.Errorf("asked %d times", p.asked)
	}
	p.now.wind(askApart)
	strange.serial = "F0"
	if err := p.notify(pay, strange); !errors.Is(err, ErrSignature) || p.asked != 3 {
		t.Errorf("%v, asked %d times", err, p.asked)
	}
}

// While a merchant changes over, both kinds of key sign: the serial says which.
func TestRing_mixedPeriod(t *testing.T) {
	p, old, _ := newCertPlatform(t)
	pay := p.pay()
	public := payCert{key: payKey(), serial: testKeyID}
	for _, by := range []payCert{old, public, old, public} {
		if err := p.notify(pay, by); err != nil {
			t.Errorf("%s: %v", by.serial, err)
		}
	}
	p.mu.Lock()
	p.by = public // and answers, because our requests ask for it
	p.mu.Unlock()
	if err := pay.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := pay.Prepay(t.Context(), testOrder); err != nil {
		t.Error(err)
	}
	// the serial of one kind with the other's signature is a forgery
	for _, by := range []payCert{{key: old.key, serial: testKeyID}, {key: payKey(), serial: old.serial}} {
		if err := p.notify(pay, by); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", by.serial, err)
		}
	}
	// lower case and leading zeros are the same serial
	if err := p.notify(pay, payCert{key: old.key, serial: "001a2b"}); err != nil {
		t.Error(err)
	}
	if keys := pay.Keys(); len(keys) != 2 || keys[0].Serial != testKeyID || keys[0].Certificate {
		t.Errorf("%+v", keys)
	}
}

// A merchant of the newer kind has no certificates, which is no fault; without the public key it is one.
func TestRing_noCertificates(t *testing.T) {
	p, _, _ := newCertPlatform(t)
	for name, none := range map[string]func(w http.ResponseWriter){
		"404": func(w http.ResponseWriter) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"code":"RESOURCE_NOT_EXISTS","message":"无可用的平台证书"}`)
		},
		"403": func(w http.ResponseWriter) { w.WriteHeader(403); _, _ = io.WriteString(w, `{"code":"NO_AUTH"}`) },
		"an empty list": func(w http.ResponseWriter) {
			for name, v := range signAs(t, payKey(), p.now.now().Unix(), []byte(`{"data":[]}`)) {
				w.Header()[name] = v
			}
			_, _ = io.WriteString(w, `{"data":[]}`)
		},
	} {
		p.none = none
		if err := p.pay().Refresh(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err := p.pay(certificatesAlone).Refresh(t.Context())
		if name != "an empty list" && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "PublicKeyPEM")) || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A start while WeChat Pay is away: the certificates of last time are in the store.
func TestRing_outOfTheStore(t *testing.T) {
	p, old, young := newCertPlatform(t)
	p.certs = []payCert{old, young}
	store := &memoryTokens{now: p.now.now}
	kept := func(o *PayV3Options) { certificatesAlone(o); o.Tokens = store }
	if err := p.pay(kept).Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, until, _ := store.Load(t.Context(), "certificates:1900000109"); len(text) > maxShelved || !until.Equal(p.now.now().Add(1800*24*time.Hour)) {
		t.Errorf("%d bytes until %v", len(text), until)
	}
	p.away = true
	pay := p.pay(kept)
	for _, by := range []payCert{old, young} {
		if err := p.notify(pay, by); err != nil {
			t.Errorf("%s: %v", by.serial, err)
		}
	}
	// what somebody wrote into the store is no key
	store.kept["certificates:1900000109"] = keptIn("garbage -----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", p.now.now().Add(time.Hour))
	if err := p.notify(p.pay(kept), old); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	pay = p.pay(func(o *PayV3Options) { certificatesAlone(o); o.Tokens = brokenStore{} })
	if err := p.notify(pay, old); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	p.mu.Lock()
	p.away = false
	p.mu.Unlock()
	if err := pay.Refresh(t.Context()); err != nil { // a store that is away keeps nobody from paying
		t.Error(err)
	}
	if err := p.notify(pay, old); err != nil {
		t.Error(err)
	}
}

func keptIn(value string, until time.Time) kept { return kept{value, until} }

func TestRefresh_refused(t *testing.T) {
	p, old, young := newCertPlatform(t)
	now := p.now.now().Unix()
	good := certificatesBody(t, old)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: p.now.now().Add(time.Hour)}
	ecDER, err := x509.CreateCertificate(rand.Reader, template, template, &ec.PublicKey, ec)
	if err != nil {
		t.Fatal(err)
	}
	ecCert := payCert{serial: "7", pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ecDER}))}
	relabelled := old
	relabelled.serial = "FFFF"
	signed := func(by payCert, at int64, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for name, v := range by.sign(t, at, []byte(body)) {
				w.Header()[name] = v
			}
			_, _ = io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   error
	}{
		"unsigned":                    {say(200, good), ErrSignature},
		"signed by nobody it names":   {signed(young, now, good), ErrSignature},
		"signed by another":           {signed(payCert{key: young.key, serial: old.serial}, now, good), ErrSignature},
		"too old":                     {signed(old, now-301, good), ErrStale},
		"another body":                {func(w http.ResponseWriter, r *http.Request) { signed(old, now, good+" ")(&cutWriter{w, 1}, r) }, ErrSignature},
		"sealed with another key":     {signed(old, now, strings.Replace(good, `"ciphertext":"`, `"ciphertext":"AAAA`, 1)), ErrNonsense},
		"another serial than its own": {signed(old, now, certificatesBody(t, relabelled)), ErrNonsense},
		"not a certificate":           {signed(old, now, certificatesBody(t, payCert{serial: "1", pem: "hello"})), ErrNonsense},
		"not RSA":                     {signed(old, now, certificatesBody(t, ecCert)), ErrNonsense},
		"no list":                     {signed(old, now, `{}`), ErrNonsense},
		"html":                        {say(200, `<html>`), ErrNonsense},
		"a list of strings":           {signed(old, now, `{"data":["x"]}`), ErrNonsense},
		"401":                         {say(401, `{"code":"SIGN_ERROR","message":"x"}`), ErrConfig},
		"500":                         {say(500, `{"code":"SYSTEM_ERROR","message":"x"}`), ErrBusy},
		"slow":                        {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			pay := newTestPay(t, c.answer)
			if name == "slow" {
				pay.timeout = 30 * time.Millisecond
			}
			err := pay.Refresh(t.Context())
			var e *Error
			if !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Op != opCertificates || len(pay.Keys()) != 1 {
				t.Error(err)
			}
			noSecrets(t, err, testAPIv3Key)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pay := newTestPay(t, say(500, ""))
	if err := pay.Refresh(ctx); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := newTestPayV2(t, say(500, "")).Refresh(ctx); err != nil {
		t.Error("version 2 has nothing to fetch:", err)
	}
}

// cutWriter drops the last bytes of what is written.
type cutWriter struct {
	http.ResponseWriter
	drop int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	_, err := w.ResponseWriter.Write(b[:len(b)-w.drop])
	return len(b), err
}
func (w *cutWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// The certificates that somebody else's key sealed, and whatever else comes in their place.
func FuzzCertificates(f *testing.F) {
	p, old, young := newCertPlatform(f)
	_ = p
	f.Add([]byte(certificatesBody(f, old, young)), []byte(old.pem))
	f.Add([]byte(`{"data":[{"serial_no":"1","encrypt_certificate":{}}]}`), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(vector[v3Vector](f, "pay_v3", "aead").Ciphertext), []byte(vector[v3Keys](f, "pay_v3", "keys").CertificatePEM))
	f.Fuzz(func(t *testing.T, body, plain []byte) {
		found, err := readCertificates([]byte(testAPIv3Key), body)
		oneOf(t, err, ErrMalformed, ErrDecrypt)
		if err != nil && found != nil {
			t.Error("keys beside an error")
		}
		k, err := payCertificate(plain)
		oneOf(t, err, ErrMalformed)
		if err == nil && (k.public == nil || k.public.N.BitLen() < minKeyBits || !hexed.MatchString(k.Serial) || len(certificatesIn(k.pem)) != 1) {
			t.Errorf("%+v", k.PayKey)
		}
		if n := len(certificatesIn(string(plain))); n > maxKeys {
			t.Errorf("%d keys", n)
		}
		sealed := payCert{serial: k.Serial, pem: string(plain)}
		if again, err2 := readCertificates([]byte(testAPIv3Key), []byte(certificatesBody(t, sealed))); (err2 == nil) != (err == nil) || err2 == nil && again[0].Serial != k.Serial {
			t.Errorf("in the open %v, sealed %v", err, err2)
		}
	})
}

// The platform's own example of a certificate.
func TestVectors_certificate(t *testing.T) {
	v := vector[v3Keys](t, "pay_v3", "keys")
	k, err := payCertificate([]byte(v.CertificatePEM))
	if err != nil || k.Serial != v.CertificateSerial || k.NotAfter.UTC().Format(time.RFC3339) != v.CertificateNotAfter {
		t.Errorf("%+v %v", k.PayKey, err)
	}
	if !k.public.Equal(vectorPublicKey(t)) {
		t.Error("its key is another than the public one beside it")
	}
	if k.usable(k.NotAfter) || !k.usable(k.NotAfter.Add(-time.Second)) || k.usable(k.NotBefore.Add(-payWindow-time.Second)) {
		t.Error("its life")
	}
}

type v3Keys struct {
	CertificatePEM      string `json:"certificate_pem"`
	CertificateSerial   string `json:"certificate_serial"`
	CertificateNotAfter string `json:"certificate_not_after"`
}
