package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"wxhub/hub"
)

// Nearly every token is a plain one: its header was there in another token already, and its claims are one flat JSON
// object of the names that we know, each once, texts without escapes, times in whole seconds. Such a token is read
// here, at a tenth of the cost. It is only ever found good here: whatever is unusual or wrong about a token is left to
// the whole check, which says so.

// headers are the first segments of tokens whose whole check went well, with the key that each names. Who gets one in
// here holds a key.
type headers struct {
	mu   sync.RWMutex
	keys map[string]*seal
}

const maxHeaders = 64

// A seal makes signatures of one key.
type seal struct{ pool sync.Pool }

func newSeal(secret []byte) *seal {
	return &seal{pool: sync.Pool{New: func() any { return &sealing{mac: hmac.New(sha256.New, secret)} }}}
}

type sealing struct {
	mac  hash.Hash
	sum  []byte
	text []byte
}

func (h *headers) key(header string) *seal {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.keys[header]
}

// learn remembers the header of a token that was found good with key.
func (h *headers) learn(header string, key *seal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys == nil {
		h.keys = make(map[string]*seal)
	}
	if len(h.keys) < maxHeaders {
		h.keys[strings.Clone(header)] = key
	}
}

// plain reads a plain token. False: it is not one, or it is not good.
func (t *Tokens) plain(token string, now time.Time) (s hub.Session, id string, ok bool) {
	header, rest, _ := strings.Cut(token, ".")
	body, signature, _ := strings.Cut(rest, ".")
	key := t.headers.key(header)
	if key == nil {
		return s, "", false
	}
	m := key.pool.Get().(*sealing)
	defer key.pool.Put(m)
	m.mac.Reset()
	m.text = append(m.text[:0], token[:len(header)+1+len(body)]...)
	m.mac.Write(m.text)
	m.sum = m.mac.Sum(m.sum[:0])
	strict := base64.RawURLEncoding.Strict()
	var err error
	if m.text, err = strict.AppendDecode(m.text[:0], []byte(signature)); err != nil || !hmac.Equal(m.text, m.sum) {
		return s, "", false
	}
	if m.text, err = strict.AppendDecode(m.text[:0], []byte(body)); err != nil {
		return s, "", false
	}
	c, ok := parsePlain(string(m.text))
	if !ok || c.issuer != tokenParty || !c.forUs || c.issued == 0 || c.expires == 0 {
		return s, "", false
	}
	if latest := now.Add(tokenLeeway); latest.Before(time.Unix(c.issued, 0)) || latest.Before(time.Unix(c.from, 0)) {
		return s, "", false
	}
	expires := time.Unix(c.expires, 0)
	if !now.Before(expires) {
		return s, "", false
	}
	s, err = (&claims{Role: c.role, Rooms: c.rooms, Session: c.session}).session(c.user, c.id, expires)
	return s, c.id, err == nil
}

// plainClaims are the claims of a plain token. The texts are parts of one string.
type plainClaims struct {
	user, id, issuer, role, session string
	rooms                           []string
	forUs                           bool
	issued, expires, from           int64 // Unix seconds; 0: not there
}

// parsePlain reads one flat object. False: something about it is not plain.
func parsePlain(text string) (c plainClaims, ok bool) {
	p := plainText{text}
	if !p.skip('{') {
		return c, false
	}
	seen := 0
	for first := true; !p.skip('}'); first = false {
		if !first && !p.skip(',') {
			return c, false
		}
		name, ok := p.str()
		if !ok || !p.skip(':') {
			return c, false
		}
		bit := 0
		switch name {
		case "sub":
			bit = 1
			c.user, ok = p.str()
		case "iss":
			bit = 2
			c.issuer, ok = p.str()
		case "aud":
			bit = 4
			var list []string
			if list, ok = p.list(); !ok {
				var one string
				one, ok = p.str()
				list = []string{one}
			}
			for _, a := range list {
				c.forUs = c.forUs || a == tokenParty
			}
		case "jti":
			bit = 8
			c.id, ok = p.str()
		case "role":
			bit = 16
			c.role, ok = p.str()
		case "sid":
			bit = 32
			c.session, ok = p.str()
		case "rooms":
			bit = 64
			c.rooms, ok = p.list()
		case "iat":
			bit = 128
			c.issued, ok = p.seconds()
		case "exp":
			bit = 256
			c.expires, ok = p.seconds()
		case "nbf":
			bit = 512
			c.from, ok = p.seconds()
		}
		if !ok || bit == 0 || seen&bit != 0 {
			return c, false
		}
		seen |= bit
	}
	return c, p.rest == "" && utf8.ValidString(text)
}
