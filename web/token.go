package web

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"wxhub/hub"
	"wxhub/store"
)

const (
	tokenParty  = "wxhub"          // iss and aud
	tokenBytes  = 4 << 10          // longer ones are not even parsed
	tokenLeeway = 60 * time.Second // for iat and nbf: clocks of other signers differ. Never for exp
	tokenRooms  = 100              // patterns in one token
)

// A Key signs tokens (HS256). The kid is binding.
type Key struct {
	ID     string
	Secret []byte // at least 32 bytes
}

// Tokens issues and checks our JWTs and knows which were revoked. Safe for concurrent use.
type Tokens struct {
	signer  Key
	keys    map[string][]byte
	ttl     time.Duration
	parser  *jwt.Parser
	seals   map[string]*seal // by kid
	headers headers
	revocations
}

var (
	errBadToken     = &Error{Status: http.StatusUnauthorized, Code: "bad_token"}
	errTokenExpired = &Error{Status: http.StatusUnauthorized, Code: "token_expired"}

	userID      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	roomPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{0,128}\*?$`)
)

type claims struct {
	jwt.RegisteredClaims
	Role    string   `json:"role,omitempty"`
	Rooms   []string `json:"rooms,omitempty"`
	Session string   `json:"sid,omitempty"` // the jti of the token that the session began with; absent in that one
}

// NewTokens: the first key signs, all verify. ttl is how long a login's token is good. db may be nil
// (wxhub token): nothing is known to be revoked then.
func NewTokens(keys []Key, ttl time.Duration, db *store.DB) (*Tokens, error) {
	if len(keys) == 0 {
		return nil, errors.New("web: no key to sign tokens with")
	}
	t := &Tokens{
		signer: keys[0], keys: map[string][]byte{}, seals: map[string]*seal{}, ttl: ttl, revocations: newRevocations(db),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithIssuer(tokenParty), jwt.WithAudience(tokenParty), jwt.WithLeeway(tokenLeeway), jwt.WithStrictDecoding(),
		),
	}
	for _, k := range keys {
		if k.ID == "" || len(k.Secret) < 32 || t.keys[k.ID] != nil {
			return nil, fmt.Errorf("web: token key %q: needs an id of its own and at least 32 bytes", k.ID)
		}
		t.keys[k.ID], t.seals[k.ID] = k.Secret, newSeal(k.Secret)
	}
	return t, nil
}

// Issue signs a token for user in role ("user", "staff", "admin") that may join rooms beyond the public ones.
// ttl 0: as logins have it.
func (t *Tokens) Issue(user, role string, rooms []string, ttl time.Duration) (token string, err error) {
	return t.issue(user, role, rooms, ttl, "")
}

// issue is Issue for a session that goes on; "": a new one.
func (t *Tokens) issue(user, role string, rooms []string, ttl time.Duration, session string) (token string, err error) {
	if ttl == 0 {
		ttl = t.ttl
	}
	c := claims{Role: role, Rooms: rooms, Session: session}
	if role == "user" {
		c.Role = ""
	}
	if _, err := c.session(user, "new", time.Now()); err != nil {
		return "", err
	}
	now := time.Now()
	c.RegisteredClaims = jwt.RegisteredClaims{
		Subject: user, Issuer: tokenParty, Audience: jwt.ClaimStrings{tokenParty}, ID: uuid.NewString(),
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	j.Header["kid"] = t.signer.ID
	if token, err = j.SignedString(t.signer.Secret); err == nil && len(token) > tokenBytes {
		return "", fmt.Errorf("web: a token of %d bytes: more than %d are taken from nobody; name fewer rooms", len(token), tokenBytes)
	}
	return token, err
}

// session checks what the library does not: our own claims.
func (c *claims) session(user, id string, expiresAt time.Time) (hub.Session, error) {
	role := c.Role
	if role == "" {
		role = "user"
	}
	switch {
	case !userID.MatchString(user):
		return hub.Session{}, errors.New("web: a user id is [A-Za-z0-9_.-]{1,64}")
	case role != "user" && role != "staff" && role != "admin":
		return hub.Session{}, errors.New("web: a role is user, staff or admin")
	case id == "" || len(id) > 128 || len(c.Session) > 128:
		return hub.Session{}, errors.New("web: jti is missing or too long, or sid too long")
	case len(c.Rooms) > tokenRooms:
		return hub.Session{}, fmt.Errorf("web: more than %d room patterns", tokenRooms)
	}
	for _, p := range c.Rooms {
		if p == "" || !roomPattern.MatchString(p) {
			return hub.Session{}, errors.New("web: a room pattern is a room's name, or a beginning followed by *")
		}
	}
	return hub.Session{User: user, Role: role, ID: first(c.Session, id), Rooms: c.Rooms, ExpiresAt: expiresAt}, nil
}

// Check verifies a token: signature by kid, claims, expiry, revocation. It fits hub.Options.Authenticate.
// Every bad token is the same error, bad_token; only an expired one that was good is told apart.
func (t *Tokens) Check(_ context.Context, token string) (hub.Session, error) {
	s, _, err := t.check(token)
	return s, err
}

// check gives the token's own id too: a session outlives its tokens.
func (t *Tokens) check(token string) (s hub.Session, id string, err error) {
	if len(token) > tokenBytes || strings.Count(token, ".") != 2 {
		return s, "", errBadToken
	}
	if s, id, ok := t.plain(token, time.Now()); ok {
		if err := t.allow(s, id); err != nil {
			return hub.Session{}, "", err
		}
		return s, id, nil
	}
	var c claims
	parsed, err := t.parser.ParseWithClaims(token, &c, func(j *jwt.Token) (any, error) {
		kid, _ := j.Header["kid"].(string)
		secret := t.keys[kid]
		if _, critical := j.Header["crit"]; secret == nil || critical {
			return nil, jwt.ErrTokenUnverifiable
		}
		return secret, nil
	})
	expired := onlyExpired(err)
	switch {
	case err != nil && !expired || c.IssuedAt == nil || c.ExpiresAt == nil || !unambiguous(token):
		return hub.Session{}, "", errBadToken
	}
	s, err = c.session(c.Subject, c.ID, c.ExpiresAt.Time)
	if err != nil {
		return hub.Session{}, "", errBadToken
	}
	if expired || !time.Now().Before(s.ExpiresAt) {
		return hub.Session{}, "", errTokenExpired
	}
	if err := t.allow(s, c.ID); err != nil {
		return hub.Session{}, "", err
	}
	kid, _ := parsed.Header["kid"].(string)
	t.headers.learn(token[:strings.IndexByte(token, '.')], t.seals[kid])
	return s, c.ID, nil
}

// onlyExpired: what else is wrong with a token outweighs its age.
func onlyExpired(err error) bool {
	if !errors.Is(err, jwt.ErrTokenExpired) {
		return false
	}
	for _, worse := range []error{
		jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenRequiredClaimMissing,
		jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenNotValidYet,
	} {
		if errors.Is(err, worse) {
			return false
		}
	}
	return true
}

// unambiguous tells whether every reader finds the same claims in a signed token: encoding/json takes "SUB" for "sub",
// the last of two, and a text for a number.
func unambiguous(token string) bool {
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return false
	}
	seen := map[string]bool{}
	for name, value := range members(text) {
		for _, own := range []string{"sub", "iss", "aud", "iat", "exp", "nbf", "jti", "role", "rooms", "sid"} {
			if name != own && strings.EqualFold(name, own) {
				return false
			}
		}
		if number := name == "exp" || name == "iat" || name == "nbf"; seen[name] || number && value[0] == '"' {
			return false
		}
		seen[name] = true
	}
	return true
}
