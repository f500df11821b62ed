package sim

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// loginSignature is lower-hex sha1(rawData + session_key), the key as base64 text.
// Source: WeChat, open-ability/signature.
func loginSignature(rawData, sessionKey string) string {
	sum := sha1.Sum([]byte(rawData + sessionKey))
	return hex.EncodeToString(sum[:])
}

// sealUserData encrypts as wx.getUserProfile does: AES-128-CBC with PKCS#7. All but plain is base64.
func sealUserData(sessionKey, iv string, plain []byte) (string, error) {
	block, ivBytes, err := userDataCipher(sessionKey, iv)
	if err != nil {
		return "", err
	}
	padded := pad(plain, aes.BlockSize)
	cipher.NewCBCEncrypter(block, ivBytes).CryptBlocks(padded, padded)
	return base64.StdEncoding.EncodeToString(padded), nil
}

func userDataCipher(sessionKey, iv string) (cipher.Block, []byte, error) {
	key, err := base64.StdEncoding.DecodeString(sessionKey)
	if err != nil || len(key) != 16 {
		return nil, nil, errors.New("session_key is not 16 bytes of base64")
	}
	ivBytes, err := base64.StdEncoding.DecodeString(iv)
	if err != nil || len(ivBytes) != aes.BlockSize {
		return nil, nil, errors.New("iv is not 16 bytes of base64")
	}
	block, err := aes.NewCipher(key)
	return block, ivBytes, err
}

// pushSignature is lower-hex sha1 over the sorted and joined parts: token, timestamp, nonce and,
// for msg_signature, the sealed text.
func pushSignature(parts ...string) string {
	parts = slices.Clone(parts)
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// pushBox seals and opens message pushes and their replies with one EncodingAESKey.
type pushBox struct {
	block cipher.Block
	iv    []byte
	appID string
}

// pushPad is the PKCS#7 block of message push: 32, not the 16 of AES.
const pushPad = 32

func newPushBox(encodingAESKey, appID string) (*pushBox, error) {
	key, err := base64.StdEncoding.DecodeString(encodingAESKey + "=")
	if err != nil || len(key) != 32 {
		return nil, errors.New("EncodingAESKey is not 43 characters of base64")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &pushBox{block: block, iv: key[:aes.BlockSize], appID: appID}, nil
}

// seal returns base64 of AES-256-CBC(16 random bytes, length, msg, appid).
func (b *pushBox) seal(random16 string, msg []byte) string {
	plain := []byte(random16)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(msg)))
	plain = append(append(plain, msg...), b.appID...)
	plain = pad(plain, pushPad)
	cipher.NewCBCEncrypter(b.block, b.iv).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

// open is the reverse of seal. It refuses bad padding, a bad length and another appid.
func (b *pushBox) open(sealed string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, errors.New("sealed text is not base64")
	}
	if len(raw) == 0 || len(raw)%aes.BlockSize != 0 {
		return nil, errors.New("sealed text is not a whole number of blocks")
	}
	cipher.NewCBCDecrypter(b.block, b.iv).CryptBlocks(raw, raw)
	n := int(raw[len(raw)-1])
	if n < 1 || n > pushPad || n > len(raw) || !bytes.Equal(raw[len(raw)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, errors.New("padding is wrong: another EncodingAESKey, or blocks of 16 instead of 32")
	}
	raw = raw[:len(raw)-n]
	if len(raw) < 20 {
		return nil, errors.New("sealed text is too short")
	}
	size := binary.BigEndian.Uint32(raw[16:20])
	rest := raw[20:]
	if uint64(size) > uint64(len(rest)) {
		return nil, errors.New("length inside the sealed text is too large")
	}
	if got := string(rest[size:]); got != b.appID {
		return nil, errors.New("sealed for another appid")
	}
	return rest[:size], nil
}

func pad(plain []byte, block int) []byte {
	n := block - len(plain)%block
	return append(slices.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
}

// signRSA is SHA256 with RSA PKCS#1 v1.5, in base64.
func signRSA(key *rsa.PrivateKey, message string) (string, error) {
	sum := sha256.Sum256([]byte(message))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

func verifyRSA(key *rsa.PublicKey, message, signature string) error {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return errors.New("signature is not base64")
	}
	sum := sha256.Sum256([]byte(message))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig); err != nil {
		return errors.New("signature does not match")
	}
	return nil
}

// sealResource is AEAD_AES_256_GCM of API v3, in base64. nonce has 12 bytes.
func sealResource(apiV3Key, nonce, associated string, plain []byte) (string, error) {
	block, err := aes.NewCipher([]byte(apiV3Key))
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	if len(nonce) != gcm.NonceSize() {
		return "", fmt.Errorf("seal: nonce has %d bytes, want %d", len(nonce), gcm.NonceSize())
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nil, []byte(nonce), plain, []byte(associated))), nil
}

// lines joins as API v3 signs: every part ends with a line feed, an empty one too.
func lines(parts ...string) string { return strings.Join(parts, "\n") + "\n" }

// same compares secrets in constant time.
func same(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// publicKey reads the public half of a private key, a public key or a certificate in PEM.
func publicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		private, err := privateKey(text)
		if err != nil {
			return nil, err
		}
		return &private.PublicKey, nil
	}
	if err != nil {
		return nil, errors.New("PEM block cannot be read")
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return public, nil
}

func privateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("PEM block cannot be read")
		}
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("PEM block cannot be read")
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return private, nil
}
