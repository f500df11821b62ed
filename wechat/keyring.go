package wechat

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	opCertificates = "pay/certificates"
	// askApart is how often an unknown serial makes us download the certificates: anybody can send us one.
	askApart = time.Minute
	maxKeys  = 32 // certificates of WeChat Pay at one time; it has one, or two while they change over

	maxShelved = 4 << 10 // bytes, what a TokenStore takes
)

// A PayKey is a key that WeChat Pay signs with.
type PayKey struct {
	Serial              string // PUB_KEY_ID_…, or a certificate's in hex
	Certificate         bool   // a platform certificate; false: the public key
	NotBefore, NotAfter time.Time
}

type ringKey struct {
	PayKey
	public *rsa.PublicKey
	pem    string // of a certificate
}

// A ring holds every key that WeChat Pay may sign with, by its serial: the public key and platform certificates
// stand side by side, because while a merchant changes over WeChat uses both.
type ring struct {
	asking singleflight.Group

	mu      sync.RWMutex // guards what follows
	keys    map[string]ringKey
	askedAt time.Time // for certificates, because of an unknown serial
}

// serialOf makes serials comparable: hex in upper case, without leading zeros.
func serialOf(s string) string {
	if hexed.MatchString(s) {
		return strings.TrimLeft(strings.ToUpper(s), "0")
	}
	return s
}

func (r *ring) find(serial string) (ringKey, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.keys[serialOf(serial)]
	return k, ok
}

// add puts keys on the ring and takes certificates off that are long over.
func (r *ring) add(now time.Time, keys ...ringKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		r.keys = map[string]ringKey{}
	}
	for serial, k := range r.keys {
		if k.Certificate && now.After(k.NotAfter.Add(24*time.Hour)) {
			delete(r.keys, serial)
		}
	}
	for _, k := range keys {
		r.keys[serialOf(k.Serial)] = k
	}
}

// mayAsk tells whether an unknown serial is worth a download, and counts it.
func (r *ring) mayAsk(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.askedAt.IsZero() && now.Sub(r.askedAt) < askApart {
		return false
	}
	r.askedAt = now
	return true
}

func (r *ring) list() []ringKey {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []ringKey
	for _, k := range r.keys {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b ringKey) int {
		if c := a.NotAfter.Compare(b.NotAfter); c != 0 {
			return c
		}
		return strings.Compare(a.Serial, b.Serial)
	})
	return all
}

// Keys are the keys of WeChat Pay that are known, those without an end first; for checks and alarms.
func (p *PayV3) Keys() []PayKey {
	var all []PayKey
	for _, k := range p.ring.list() {
		all = append(all, k.PayKey)
	}
	return all
}

// Refresh downloads the platform certificates, which WeChat Pay changes about every five years, a day or more before it
// signs with a new one: call it at the start and every 12 hours. It is nil too for a merchant who has the public key
// alone; without that key the error then Is ErrConfig. Errors: *Error, which Is ErrConfig, ErrSignature, ErrStale,
// ErrDecrypt, ErrTooOften, ErrBusy, ErrNonsense or ErrRequest.
func (p *PayV3) Refresh(ctx context.Context) error {
	ch := p.ring.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
		defer cancel()
		return nil, p.download(ctx)
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return &Error{Op: opCertificates, Kind: ErrBusy, Err: ctx.Err()}
	}
}

func (p *PayV3) shelfName() string { return "certificates:" + p.mchID }

func (p *PayV3) download(ctx context.Context) error {
	const path = "/v3/certificates"
	var found []ringKey
	err := p.call(ctx, opCertificates, func(ctx context.Context) error {
		req, err := p.request(ctx, http.MethodGet, path, nil)
		if err != nil {
			return &Error{Op: opCertificates, Kind: ErrConfig, Err: bare(err, p.hide())}
		}
		a, err := roundTrip(p.http, req, opCertificates, p.timeout, p.hide())
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return p.openAnswer(opCertificates, a, nil, p.hide(), p.find)
		}
		if found, err = readCertificates(p.key, a.body); err != nil {
			return nonsense(opCertificates, err)
		}
		// The first time the certificate that signed the answer is in the answer. That is no vicious circle: what it
		// came out of was sealed with the APIv3 key, which nobody but WeChat Pay and we have.
		return p.openAnswer(opCertificates, a, nil, p.hide(), func(serial string) (ringKey, bool) {
			for _, k := range found {
				if serialOf(k.Serial) == serialOf(serial) {
					return k, true
				}
			}
			return p.find(serial)
		})
	})
	var e *Error
	none := err == nil && len(found) == 0 || errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusForbidden)
	switch {
	case none && p.publicID != "":
		return nil // a merchant of the newer kind
	case none:
		return &Error{Op: opCertificates, Kind: ErrConfig, Msg: "this merchant has no platform certificates: PublicKeyID and PublicKeyPEM are needed", Err: err}
	case err != nil:
		return err
	}
	p.ring.add(p.now(), found...)
	p.shelve(ctx)
	return nil
}

// shelve keeps the certificates for a start at which WeChat Pay is away.
func (p *PayV3) shelve(ctx context.Context) {
	if p.shelf == nil {
		return
	}
	var text string
	var until time.Time
	for _, k := range slices.Backward(p.ring.list()) { // the newest first; two of them are what there may be
		if k.Certificate && len(text)+len(k.pem) <= maxShelved {
			text += k.pem
			until = slices.MaxFunc([]time.Time{until, k.NotAfter}, time.Time.Compare)
		}
	}
	if text != "" {
		keep(ctx, p.line, p.shelf, p.shelfName(), text, until)
	}
}

// learn looks for a certificate that we do not know: in the store, then at WeChat Pay.
func (p *PayV3) learn(ctx context.Context, serial string) (ringKey, bool) {
	if !hexed.MatchString(serial) || !p.ring.mayAsk(p.now()) {
		return ringKey{}, false
	}
	if p.shelf != nil {
		p.ring.add(p.now(), certificatesIn(recall(ctx, p.line, p.shelf, p.shelfName()))...)
		if k, ok := p.find(serial); ok {
			return k, true
		}
	}
	if err := p.Refresh(ctx); err != nil {
		p.log.Warn("an unknown key of WeChat Pay, and its certificates cannot be downloaded", "err", err)
	}
	return p.find(serial)
}

// find is a key that may be used now.
func (p *PayV3) find(serial string) (ringKey, bool) {
	k, ok := p.ring.find(serial)
	return k, ok && k.usable(p.now())
}

func (k ringKey) usable(now time.Time) bool {
	return !k.Certificate || !now.Before(k.NotBefore.Add(-payWindow)) && now.Before(k.NotAfter)
}

// readCertificates opens the answer of /v3/certificates. Errors: ErrMalformed, ErrDecrypt.
func readCertificates(key, body []byte) ([]ringKey, error) {
	fields, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	list, ok := fields["data"].([]any)
	if !ok || len(list) > maxKeys {
		return nil, refuse(ErrMalformed, "no list of certificates")
	}
	var found []ringKey
	for _, one := range list {
		item, _ := one.(map[string]any)
		sealed, _ := item["encrypt_certificate"].(map[string]any)
		if sealed == nil {
			return nil, refuse(ErrMalformed, "a certificate is missing")
		}
		plain, err := openResource(key, sealed)
		if err != nil {
			return nil, err
		}
		k, err := payCertificate(plain)
		if err != nil {
			return nil, err
		}
		if serialOf(text(item["serial_no"])) != serialOf(k.Serial) {
			return nil, refuse(ErrMalformed, "a certificate with another serial than its own")
		}
		found = append(found, k)
	}
	return found, nil
}

// payCertificate reads one certificate in PEM. Error: ErrMalformed.
func payCertificate(text []byte) (ringKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return ringKey{}, refuse(ErrMalformed, "not a certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ringKey{}, refuse(ErrMalformed, "not an X.509 certificate")
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < minKeyBits {
		return ringKey{}, refuse(ErrMalformed, "a certificate without an RSA key of 2048 bits")
	}
	if cert.SerialNumber.Cmp(big.NewInt(0)) <= 0 || cert.SerialNumber.BitLen() > 256 {
		return ringKey{}, refuse(ErrMalformed, "a certificate without a serial")
	}
	return ringKey{
		PayKey: PayKey{Serial: strings.ToUpper(cert.SerialNumber.Text(16)), Certificate: true, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter},
		public: public, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})),
	}, nil
}

// certificatesIn reads what shelve wrote; what cannot be read is passed over.
func certificatesIn(text string) []ringKey {
	var found []ringKey
	for rest := []byte(text); len(found) < maxKeys; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if k, err := payCertificate(pem.EncodeToMemory(block)); err == nil {
			found = append(found, k)
		}
	}
	return found
}
