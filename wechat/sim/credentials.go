package sim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"
)

// Credentials are everything that both sides need: what a merchant finds in WeChat's consoles, and
// the platform's private key, which only a simulator can have. They are secret as a whole.
type Credentials struct {
	AppID             string `json:"appId"`             // wx and 16 hex digits
	Secret            string `json:"secret"`            // AppSecret, 32 hex digits
	OriginalID        string `json:"originalId"`        // gh_…, the ToUserName of pushes
	PushToken         string `json:"pushToken"`         // message push: Token
	PushAESKey        string `json:"pushAesKey"`        // message push: EncodingAESKey, 43 characters; empty: plain only
	MchID             string `json:"mchId"`             // 10 digits
	APIv3Key          string `json:"apiV3Key"`          // 32 bytes
	CertSerial        string `json:"certSerial"`        // of the merchant's certificate, upper hex
	MerchantKeyPEM    string `json:"merchantKeyPem"`    // the merchant's private key; its public half or certificate is enough for the simulator
	PublicKeyID       string `json:"publicKeyId"`       // PUB_KEY_ID_…
	PlatformKeyPEM    string `json:"platformKeyPem"`    // WeChat Pay's private key
	PlatformPublicPEM string `json:"platformPublicPem"` // its public half, which the merchant downloads

	// Its certificate, for merchants of the older kind, who fetch it by GET /v3/certificates; may be empty.
	PlatformCertKeyPEM string `json:"platformCertKeyPem,omitempty"`
	PlatformCertPEM    string `json:"platformCertPem,omitempty"`

	V2Key           string `json:"v2Key"`           // API key of Pay v2, 32 characters
	V2SignType      string `json:"v2SignType"`      // MD5 or HMAC-SHA256: what the shop signs with; WeChat follows every request
	MerchantCertPEM string `json:"merchantCertPem"` // the merchant's certificate, of CertSerial; refunds of Pay v2 present it

	// The official account of the same shop. It is an app of its own, with tokens of its own.
	MPAppID      string `json:"mpAppId"`
	MPSecret     string `json:"mpSecret"`
	MPOriginalID string `json:"mpOriginalId"`
	MPToken      string `json:"mpToken"`
	MPAESKey     string `json:"mpAesKey"` // 43 characters
}

// LogValue hides everything but the names.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("appId", c.AppID), slog.String("mchId", c.MchID))
}

// String hides everything but the names, so that a printed value gives nothing away.
func (c Credentials) String() string {
	return fmt.Sprintf("credentials of %s and %s", c.AppID, c.MchID)
}

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// What a v2 request may be signed with.
const (
	signMD5  = "MD5"
	signHMAC = "HMAC-SHA256"
)

const (
	digits   = "0123456789"
	lowerHex = digits + "abcdef"
	upperHex = digits + "ABCDEF"
	letters  = digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewCredentials makes fresh random ones, complete, with RSA keys of 2048 bits. It takes some tenths of a second.
func NewCredentials() (Credentials, error) {
	merchant, _, err := newKey()
	if err != nil {
		return Credentials{}, fmt.Errorf("sim: merchant key: %w", err)
	}
	platform, platformPublic, err := newKey()
	if err != nil {
		return Credentials{}, fmt.Errorf("sim: platform key: %w", err)
	}
	c := Credentials{
		AppID:             "wx" + random(lowerHex, 16),
		Secret:            random(lowerHex, 32),
		OriginalID:        "gh_" + random(lowerHex, 12),
		PushToken:         random(letters, 32),
		PushAESKey:        random(letters, 43),
		MchID:             "19" + random(digits, 8),
		APIv3Key:          random(letters, 32),
		CertSerial:        "5" + random(upperHex, 39),
		MerchantKeyPEM:    merchant,
		PublicKeyID:       "PUB_KEY_ID_01" + random(digits, 26),
		PlatformKeyPEM:    platform,
		PlatformPublicPEM: platformPublic,
	}
	return c, c.Complete()
}

// Complete fills what credentials of an earlier form lack: the v2 key, the merchant's certificate and
// the official account. What is there already stays. An error says that no certificate could be made
// of the merchant's key; a key that is only the public half makes none, without an error.
func (c *Credentials) Complete() error {
	for _, part := range []struct {
		field *string
		make  func() string
	}{
		{&c.V2Key, func() string { return random(letters, 32) }},
		{&c.V2SignType, func() string { return signHMAC }},
		{&c.MPAppID, func() string { return "wx" + random(lowerHex, 16) }},
		{&c.MPSecret, func() string { return random(lowerHex, 32) }},
		{&c.MPOriginalID, func() string { return "gh_" + random(lowerHex, 12) }},
		{&c.MPToken, func() string { return random(letters, 32) }},
		{&c.MPAESKey, func() string { return random(letters, 43) }},
	} {
		if *part.field == "" {
			*part.field = part.make()
		}
	}
	key, err := privateKey(c.MerchantKeyPEM)
	if c.MerchantCertPEM != "" || err != nil {
		return nil
	}
	if c.MerchantCertPEM, err = c.certificate(key); err != nil {
		return fmt.Errorf("sim: merchant certificate: %w", err)
	}
	return nil
}

// certificate is what the platform would issue to the merchant: five years, signed by itself here.
func (c *Credentials) certificate(key *rsa.PrivateKey) (string, error) {
	serial, ok := new(big.Int).SetString(c.CertSerial, 16)
	if !ok || serial.Sign() <= 0 {
		return "", errors.New("CertSerial is not a positive hexadecimal number")
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: c.MchID, Organization: []string{"示例小店"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(5, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

func newKey() (private, public string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), nil
}

// random returns n characters of the alphabet, evenly drawn from a source fit for secrets.
func random(alphabet string, n int) string {
	out := make([]byte, 0, n)
	even := 256 - 256%len(alphabet)
	var pool [64]byte
	for len(out) < n {
		rand.Read(pool[:]) // never fails
		for _, b := range pool {
			if int(b) < even && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}
