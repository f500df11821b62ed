package sim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// By what WeChat Pay signs its answers and callbacks.
const (
	keyModePublic      = "public-key"  // merchants since the end of 2024
	keyModeCertificate = "certificate" // older ones
	keyModeMixed       = "mixed"       // while a merchant changes over: answers as asked for, callbacks by share
)

var keyModes = []string{keyModePublic, keyModeCertificate, keyModeMixed}

// platformKey is one key of WeChat Pay.
type platformKey struct {
	serial  string // of the certificate, or PUB_KEY_ID_…
	private *rsa.PrivateKey
	cert    *x509.Certificate // nil: a public key, which the merchant downloads once
	pem     string            // of the certificate
}

// kind is what people call the key.
func (k platformKey) kind() string {
	if k.cert == nil {
		return "WeChat Pay public key"
	}
	return "platform certificate"
}

const (
	certificateLife = 5 * 365 * 24 * time.Hour
	keptKeys        = 3 // platform certificates at a time
)

// newPlatformCertificate makes what GET /v3/certificates gives; key and certificate in PEM.
func newPlatformCertificate(now time.Time) (keyPEM, certPEM string, err error) {
	keyPEM, _, err = newKey()
	if err != nil {
		return "", "", err
	}
	key, err := privateKey(keyPEM)
	if err != nil {
		return "", "", err
	}
	serial, _ := new(big.Int).SetString("7"+random(upperHex, 39), 16)
	form := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Tenpay.com sign", Organization: []string{"Tenpay.com"}, OrganizationalUnit: []string{"Tenpay.com CA Center"}, Country: []string{"CN"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return "", "", err
	}
	return keyPEM, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

// readPlatformCertificate joins a certificate and its private key.
func readPlatformCertificate(keyPEM, certPEM string) (k platformKey, err error) {
	block, _ := pem.Decode([]byte(certPEM))
	if block == nil {
		return k, fmt.Errorf("no PEM block")
	}
	if k.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return k, fmt.Errorf("certificate cannot be read")
	}
	if k.private, err = privateKey(keyPEM); err != nil {
		return k, err
	}
	if !k.private.PublicKey.Equal(k.cert.PublicKey) {
		return k, fmt.Errorf("key and certificate do not fit")
	}
	k.pem = certPEM
	k.serial = strings.ToUpper(k.cert.SerialNumber.Text(16))
	return k, nil
}

// loadKeys reads the platform's keys from checked options; a certificate is made when one is needed and there is none.
func (s *Sim) loadKeys() error {
	s.keyMode, s.keyShare = s.opts.KeyMode, 50
	private, err := privateKey(s.opts.PlatformKeyPEM)
	if err != nil {
		return fmt.Errorf("PlatformKeyPEM: %w", err)
	}
	s.public = platformKey{serial: s.opts.PublicKeyID, private: private}
	if s.opts.PlatformCertPEM != "" {
		k, err := readPlatformCertificate(s.opts.PlatformCertKeyPEM, s.opts.PlatformCertPEM)
		if err != nil {
			return fmt.Errorf("PlatformCertPEM: %w", err)
		}
		s.certs = append(s.certs, k)
	} else if s.keyMode != keyModePublic {
		return s.addCertificate()
	}
	return nil
}

// addCertificate makes a new certificate, which signs from now on.
func (s *Sim) addCertificate() error {
	keyPEM, certPEM, err := newPlatformCertificate(s.opts.Now())
	if err != nil {
		return fmt.Errorf("platform certificate: %w", err)
	}
	k, err := readPlatformCertificate(keyPEM, certPEM)
	if err != nil {
		return fmt.Errorf("platform certificate: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs = append(s.certs, k)
	if len(s.certs) > keptKeys {
		s.certs = slices.Clone(s.certs[len(s.certs)-keptKeys:])
	}
	return nil
}

// answerKey is what an answer is signed with: what the request asks for by Wechatpay-Serial, where there is a choice.
func (s *Sim) answerKey(r *http.Request) platformKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := r.Header.Get("Wechatpay-Serial")
	switch s.keyMode {
	case keyModePublic:
		return s.public
	case keyModeMixed:
		if asked == s.public.serial {
			return s.public
		}
	}
	for _, k := range s.certs {
		if strings.EqualFold(k.serial, asked) {
			return k
		}
	}
	return s.certs[len(s.certs)-1]
}

// callbackKey is what the next callback is signed with; while a merchant changes over, the platform's choice.
func (s *Sim) callbackKey() platformKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callbacks++
	before, after := (s.callbacks-1)*s.keyShare/100, s.callbacks*s.keyShare/100
	if s.keyMode == keyModePublic || s.keyMode == keyModeMixed && after > before {
		return s.public
	}
	return s.certs[len(s.certs)-1]
}

// badSerial tells why a request's Wechatpay-Serial is none of this merchant's, nil when it is good or absent.
func (s *Sim) badSerial(r *http.Request) *payError {
	id := r.Header.Get("Wechatpay-Serial")
	if id == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.public.serial && s.keyMode != keyModeCertificate {
		return nil
	}
	if s.keyMode != keyModePublic && slices.ContainsFunc(s.certs, func(k platformKey) bool { return strings.EqualFold(k.serial, id) }) {
		return nil
	}
	return &payError{status: 400, code: "INVALID_REQUEST", message: "Http头Wechatpay-Serial不是本商户的微信支付公钥ID或平台证书序列号"}
}

// certificates is GET /v3/certificates: every platform certificate, sealed with the APIv3 key. Merchants
// that have the public key only are told so.
func (s *Sim) certificates(*http.Request, []byte) (any, *payError) {
	s.mu.Lock()
	mode, list := s.keyMode, slices.Clone(s.certs)
	s.mu.Unlock()
	if mode == keyModePublic {
		return nil, &payError{status: 404, code: "RESOURCE_NOT_EXISTS", message: "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥。可查看指引https://pay.weixin.qq.com/docs/merchant/products/platform-certificate/wxp-pub-key-guide.html"}
	}
	type sealedCertificate struct {
		Algorithm  string `json:"algorithm"`
		Nonce      string `json:"nonce"`
		Associated string `json:"associated_data"`
		Ciphertext string `json:"ciphertext"`
	}
	type item struct {
		Serial    string            `json:"serial_no"`
		Effective string            `json:"effective_time"`
		Expire    string            `json:"expire_time"`
		Sealed    sealedCertificate `json:"encrypt_certificate"`
	}
	items := []item{}
	for _, k := range list {
		nonce := random(letters, 12)
		sealed, err := sealResource(s.opts.APIv3Key, nonce, "certificate", []byte(k.pem))
		if err != nil {
			s.opts.Logger.Error("certificate not sealed", "error", err)
			return nil, &payError{status: 500, code: "SYSTEM_ERROR", message: "系统异常，请稍后重试"}
		}
		items = append(items, item{k.serial, beijing(k.cert.NotBefore).Format(time.RFC3339), beijing(k.cert.NotAfter).Format(time.RFC3339),
			sealedCertificate{"AEAD_AES_256_GCM", nonce, "certificate", sealed}})
	}
	return map[string]any{"data": items}, nil
}

// rotate is POST /sim/rotate: a new platform certificate signs from now on; older ones are still given out.
func (s *Sim) rotate(*http.Request) (any, error) {
	if err := s.addCertificate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"ok": true, "serial": s.certs[len(s.certs)-1].serial, "keyMode": s.keyMode}, nil
}

// setting is POST /sim/setting: what WeChat's consoles would change.
func (s *Sim) setting(r *http.Request) (any, error) {
	var req struct {
		KeyMode      string `json:"keyMode"`      // public-key, certificate or mixed
		KeyShare     *int64 `json:"keyShare"`     // mixed: percent of callbacks that the public key signs
		TradeManaged *bool  `json:"tradeManaged"` // the platform manages shipping
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.KeyMode != "" && !slices.Contains(keyModes, req.KeyMode) {
		return nil, badRequest("keyMode is public-key, certificate or mixed")
	}
	if req.KeyShare != nil && (*req.KeyShare < 0 || *req.KeyShare > 100) {
		return nil, badRequest("keyShare is 0 to 100")
	}
	s.mu.Lock()
	none := len(s.certs) == 0
	s.mu.Unlock()
	if none && req.KeyMode != "" && req.KeyMode != keyModePublic {
		if err := s.addCertificate(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.KeyMode != "" {
		s.keyMode = req.KeyMode
	}
	if req.KeyShare != nil {
		s.keyShare = *req.KeyShare
	}
	if req.TradeManaged != nil {
		s.managed = *req.TradeManaged
	}
	return map[string]any{"ok": true, "keyMode": s.keyMode, "keyShare": s.keyShare, "tradeManaged": s.managed}, nil
}
