package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

const sealBlock = 32 // WeChat pads sealed texts to 32 bytes, not to AES's 16

// A sealer opens and seals texts with an EncodingAESKey:
// AES-256-CBC over 16 random bytes, the length, the text and the appid.
type sealer struct {
	block cipher.Block
	iv    []byte // the key's first 16 bytes
	appID string
}

func newSealer(aesKey, appID string) (*sealer, error) {
	// The last of the 43 characters carries two bits too many, which WeChat does not clear: not Strict.
	key, err := base64.StdEncoding.DecodeString(aesKey + "=")
	if len(aesKey) != 43 || err != nil || len(key) != 32 {
		return nil, errors.New("wechat: AESKey must be 43 letters and digits")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("wechat: AESKey is not a key")
	}
	return &sealer{block: block, iv: key[:aes.BlockSize], appID: appID}, nil
}

// open returns the text in sealed (base64). Its caller has checked msg_signature. Error: ErrDecrypt.
func (s *sealer) open(sealed string) ([]byte, error) {
	b, err := strictBase64(sealed)
	if err != nil || len(b) == 0 || len(b)%sealBlock != 0 {
		return nil, refuse(ErrDecrypt, "not base64 of whole blocks")
	}
	cipher.NewCBCDecrypter(s.block, s.iv).CryptBlocks(b, b)
	b, ok := unpad(b, sealBlock)
	if !ok || len(b) < 20 {
		return nil, refuse(ErrDecrypt, "is AESKey the one in WeChat's console?")
	}
	n := uint64(binary.BigEndian.Uint32(b[16:20]))
	if n > uint64(len(b)-20) {
		return nil, refuse(ErrDecrypt, "the length inside is wrong")
	}
	text, appID := b[20:20+n], b[20+n:]
	if subtle.ConstantTimeCompare(appID, []byte(s.appID)) != 1 {
		return nil, refuse(ErrDecrypt, "sealed for another appid")
	}
	return text, nil
}

// seal is open's other way.
func (s *sealer) seal(text []byte) string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return s.sealWith(random, text)
}

func (s *sealer) sealWith(random [16]byte, text []byte) string {
	b := make([]byte, 0, 20+len(text)+len(s.appID)+sealBlock)
	b = append(b, random[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(append(b, text...), s.appID...)
	b = pad(b, sealBlock)
	cipher.NewCBCEncrypter(s.block, s.iv).CryptBlocks(b, b)
	return base64.StdEncoding.EncodeToString(b)
}

// pushSignature is sha1 of the sorted parts laid end to end, in lower-case hex.
func pushSignature(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// sameSignature compares in constant time.
func sameSignature(got, want string) bool {
	return subtle.ConstantTimeCompare([]byte(strings.ToLower(got)), []byte(want)) == 1
}
