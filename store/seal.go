package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"log/slog"
)

// LogValue hides the secret.
func (k Key) LogValue() slog.Value { return slog.StringValue("key " + k.ID) }

// String hides the secret.
func (k Key) String() string { return "key " + k.ID }

// Format hides the secret from every verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// A keyring seals and opens secrets at rest with AES-256-GCM. A sealed value is a random nonce and the ciphertext.
type keyring struct {
	first string // seals
	aeads map[string]cipher.AEAD
}

func newKeyring(keys []Key) (*keyring, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: a key is needed to seal secrets at rest", ErrInvalid)
	}
	r := &keyring{first: keys[0].ID, aeads: make(map[string]cipher.AEAD)}
	for _, k := range keys {
		if k.ID == "" || len(k.ID) > 64 || r.aeads[k.ID] != nil {
			return nil, fmt.Errorf("%w: each key needs an ID of its own, of at most 64 bytes (%q)", ErrInvalid, k.ID)
		}
		if len(k.Secret) != 32 {
			return nil, fmt.Errorf("%w: key %q has %d bytes instead of 32", ErrInvalid, k.ID, len(k.Secret))
		}
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, err
		}
		if r.aeads[k.ID], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// seal binds secret to the row that keeps it: moved to another row, it does not open.
func (r *keyring) seal(row, secret string) (sealed []byte, kid string) {
	aead := r.aeads[r.first]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, []byte(secret), []byte(row)), r.first
}

func (r *keyring) open(row string, sealed []byte, kid string) (string, error) {
	aead := r.aeads[kid]
	if aead == nil {
		return "", fmt.Errorf("%w: key %q is not configured", ErrSealed, kid)
	}
	n := aead.NonceSize()
	if len(sealed) < n {
		return "", ErrSealed
	}
	secret, err := aead.Open(nil, sealed[:n], sealed[n:], []byte(row))
	if err != nil {
		return "", ErrSealed
	}
	return string(secret), nil
}
