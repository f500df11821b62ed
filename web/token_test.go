package web_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"wxhub/web"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// seal signs header and claims as they are written.
func seal(header, claims, secret string) string {
	text := b64(header) + "." + b64(claims)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

const goodHeader = `{"alg":"HS256","typ":"JWT","kid":"new"}`

// claimsWith changes a good set of claims; nil removes one.
func claimsWith(changes map[string]any) string {
	now := time.Now().Unix()
	c := map[string]any{"sub": "alice", "iss": "wxhub", "aud": "wxhub", "iat": now, "exp": now + 600, "jti": "j1"}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func checkWord(tokens *web.Tokens, token string) string {
	_, err := tokens.Check(context.Background(), token)
	var e *web.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e) && e.Status == 401:
		return e.Code
	}
	return fmt.Sprint("unexpected: ", err)
}

func TestTokens_check(t *testing.T) {
	now := time.Now().Unix()
	keys := []web.Key{{ID: "new", Secret: []byte(jwtSecret)}, {ID: "old", Secret: []byte(strings.ToUpper(jwtSecret))}}
	tokens, err := web.NewTokens(keys, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256 := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "alice", "iss": "wxhub", "aud": "wxhub", "iat": now, "exp": now + 600, "jti": "j"})
	rs256.Header["kid"] = "new"
	rsaToken, err := rs256.SignedString(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	with := func(changes map[string]any) string { return seal(goodHeader, claimsWith(changes), jwtSecret) }
	good := with(nil)
	many := make([]string, 101)
	for i := range many {
		many[i] = "r"
	}
	for name, test := range map[string]struct{ token, want string }{
		"good":                         {good, "ok"},
		"without typ":                  {seal(`{"alg":"HS256","kid":"new"}`, claimsWith(nil), jwtSecret), "ok"},
		"older key":                    {seal(`{"alg":"HS256","kid":"old"}`, claimsWith(nil), strings.ToUpper(jwtSecret)), "ok"},
		"audience in a list":           {with(map[string]any{"aud": []string{"shop", "wxhub"}}), "ok"},
		"signer's clock 50 s ahead":    {with(map[string]any{"iat": now + 50, "nbf": now + 50}), "ok"},
		"unknown claims":               {with(map[string]any{"shop": map[string]any{"a": 1}}), "ok"},
		"staff":                        {with(map[string]any{"role": "staff"}), "ok"},
		"expired":                      {with(map[string]any{"exp": now - 1}), "token_expired"},
		"expired long ago":             {with(map[string]any{"exp": now - 1e6, "iat": now - 2e6}), "token_expired"},
		"expired, of another":          {with(map[string]any{"exp": now - 1e6, "iss": "other"}), "bad_token"},
		"expired, for another":         {with(map[string]any{"exp": now - 1e6, "aud": "other"}), "bad_token"},
		"expired, not yet issued":      {with(map[string]any{"exp": now - 1e6, "iat": now + 120}), "bad_token"},
		"expired, nameless":            {with(map[string]any{"exp": now - 1e6, "sub": nil}), "bad_token"},
		"expired, other key":           {seal(goodHeader, claimsWith(map[string]any{"exp": now - 1e6}), strings.ToUpper(jwtSecret)), "bad_token"},
		"signer's clock 100 s ahead":   {with(map[string]any{"iat": now + 100}), "bad_token"},
		"expired, bad signature":       {with(map[string]any{"exp": now - 1e6})[:40] + "x" + with(map[string]any{"exp": now - 1e6})[41:], "bad_token"},
		"empty":                        {"", "bad_token"},
		"one dot":                      {"a.b", "bad_token"},
		"a megabyte of dots":           {strings.Repeat(".", 1<<20), "bad_token"},
		"above 4 KiB":                  {with(map[string]any{"x": strings.Repeat("x", 4<<10)}), "bad_token"},
		"no signature":                 {strings.Join(strings.Split(good, ".")[:2], ".") + ".", "bad_token"},
		"signature of other claims":    {strings.Join(strings.Split(good, ".")[:2], ".") + "." + strings.Split(with(map[string]any{"sub": "bob"}), ".")[2], "bad_token"},
		"alg none":                     {b64(`{"alg":"none","kid":"new"}`) + "." + b64(claimsWith(nil)) + ".", "bad_token"},
		"alg None":                     {seal(`{"alg":"None","kid":"new"}`, claimsWith(nil), jwtSecret), "bad_token"},
		"alg HS512 named":              {seal(`{"alg":"HS512","kid":"new"}`, claimsWith(nil), jwtSecret), "bad_token"},
		"alg RS256":                    {rsaToken, "bad_token"},
		"kid missing":                  {seal(`{"alg":"HS256"}`, claimsWith(nil), jwtSecret), "bad_token"},
		"kid unknown":                  {seal(`{"alg":"HS256","kid":"other"}`, claimsWith(nil), jwtSecret), "bad_token"},
		"kid empty":                    {seal(`{"alg":"HS256","kid":""}`, claimsWith(nil), jwtSecret), "bad_token"},
		"kid is a path":                {seal(`{"alg":"HS256","kid":"../../dev/null"}`, claimsWith(nil), ""), "bad_token"},
		"kid is a number":              {seal(`{"alg":"HS256","kid":1}`, claimsWith(nil), jwtSecret), "bad_token"},
		"kid of the other key":         {seal(`{"alg":"HS256","kid":"old"}`, claimsWith(nil), jwtSecret), "bad_token"},
		"crit":                         {seal(`{"alg":"HS256","kid":"new","crit":["x"]}`, claimsWith(nil), jwtSecret), "bad_token"},
		"own key brought along":        {seal(`{"alg":"HS256","kid":"mine","jwk":{"kty":"oct","k":"eA"},"jku":"http://127.0.0.1/"}`, claimsWith(nil), "x"), "bad_token"},
		"header is no object":          {seal(`[]`, claimsWith(nil), jwtSecret), "bad_token"},
		"claims are no object":         {seal(goodHeader, `[]`, jwtSecret), "bad_token"},
		"claims are no JSON":           {seal(goodHeader, `{`, jwtSecret), "bad_token"},
		"sub missing":                  {with(map[string]any{"sub": nil}), "bad_token"},
		"sub with a slash":             {with(map[string]any{"sub": "a/b"}), "bad_token"},
		"sub with a line end":          {with(map[string]any{"sub": "alice\n"}), "bad_token"},
		"sub of 65":                    {with(map[string]any{"sub": strings.Repeat("a", 65)}), "bad_token"},
		"sub is a number":              {with(map[string]any{"sub": 7}), "bad_token"},
		"sub twice":                    {seal(goodHeader, strings.TrimSuffix(claimsWith(nil), "}")+`,"sub":"bob"}`, jwtSecret), "bad_token"},
		"sub twice, spelled otherwise": {seal(goodHeader, strings.TrimSuffix(claimsWith(nil), "}")+`,"SUB":"bob"}`, jwtSecret), "bad_token"},
		"role spelled otherwise":       {with(map[string]any{"Role": "admin"}), "bad_token"},
		"iss missing":                  {with(map[string]any{"iss": nil}), "bad_token"},
		"iss of another":               {with(map[string]any{"iss": "other"}), "bad_token"},
		"aud missing":                  {with(map[string]any{"aud": nil}), "bad_token"},
		"aud of another":               {with(map[string]any{"aud": "other"}), "bad_token"},
		"exp missing":                  {with(map[string]any{"exp": nil}), "bad_token"},
		"exp is text":                  {with(map[string]any{"exp": fmt.Sprint(now + 600)}), "bad_token"},
		"exp beyond numbers":           {seal(goodHeader, strings.TrimSuffix(claimsWith(map[string]any{"exp": nil}), "}")+`,"exp":1e400}`, jwtSecret), "bad_token"},
		"iat missing":                  {with(map[string]any{"iat": nil}), "bad_token"},
		"iat in the future":            {with(map[string]any{"iat": now + 120}), "bad_token"},
		"nbf in the future":            {with(map[string]any{"nbf": now + 120}), "bad_token"},
		"jti missing":                  {with(map[string]any{"jti": nil}), "bad_token"},
		"jti empty":                    {with(map[string]any{"jti": ""}), "bad_token"},
		"role unknown":                 {with(map[string]any{"role": "root"}), "bad_token"},
		"role is a list":               {with(map[string]any{"role": []string{"admin"}}), "bad_token"},
		"rooms is text":                {with(map[string]any{"rooms": "x"}), "bad_token"},
		"a room with a star inside":    {with(map[string]any{"rooms": []string{"a*b"}}), "bad_token"},
		"an empty room":                {with(map[string]any{"rooms": []string{""}}), "bad_token"},
		"too many rooms":               {with(map[string]any{"rooms": many}), "bad_token"},
		"a room with a space":          {with(map[string]any{"rooms": []string{"a b"}}), "bad_token"},
		"signature with trailing bits": {good[:len(good)-1] + string(good[len(good)-1]+1), "bad_token"},
		"padding":                      {good + "=", "bad_token"},
		"space before":                 {" " + good, "bad_token"},
		"padding in the middle":        {strings.SplitN(good, ".", 2)[0] + "=." + strings.SplitN(good, ".", 2)[1], "bad_token"},
	} {
		if got := checkWord(tokens, test.token); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	s, err := tokens.Check(t.Context(), with(map[string]any{"role": "admin", "rooms": []string{"vip:*", "x"}, "exp": now + 600}))
	if err != nil || s.User != "alice" || s.Role != "admin" || s.ID != "j1" || len(s.Rooms) != 2 || s.ExpiresAt.Unix() != now+600 {
		t.Errorf("session %+v, %v", s, err)
	}
	if s, err := tokens.Check(t.Context(), good); err != nil || s.Role != "user" {
		t.Errorf("a token without a role is of %+v, %v", s, err)
	}
}

func TestTokens_keysAndIssue(t *testing.T) {
	for name, keys := range map[string][]web.Key{
		"none": nil, "short": {{ID: "a", Secret: make([]byte, 31)}}, "nameless": {{Secret: make([]byte, 32)}},
		"twice": {{ID: "a", Secret: make([]byte, 32)}, {ID: "a", Secret: make([]byte, 33)}},
	} {
		if _, err := web.NewTokens(keys, time.Hour, nil); err == nil {
			t.Errorf("keys %s: accepted", name)
		}
	}
	tokens, err := web.NewTokens([]web.Key{{ID: "a", Secret: []byte(jwtSecret)}}, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := make([]string, 99)
	for i := range long {
		long[i] = strings.Repeat("r", 100)
	}
	for name, bad := range map[string]struct {
		user, role string
		rooms      []string
	}{
		"no user": {"", "user", nil}, "bad user": {"a b", "user", nil}, "bad role": {"a", "root", nil},
		"bad room": {"a", "user", []string{"*x"}}, "longer than a token may be": {"a", "user", long},
	} {
		if token, err := tokens.Issue(bad.user, bad.role, bad.rooms, 0); err == nil {
			t.Errorf("%s: issued %d bytes", name, len(token))
		}
	}
	a, err := tokens.Issue("alice", "staff", []string{"vip:*"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tokens.Check(t.Context(), a)
	if err != nil || s.User != "alice" || s.Role != "staff" || time.Until(s.ExpiresAt) > time.Minute || time.Until(s.ExpiresAt) < 50*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
	b, _ := tokens.Issue("alice", "staff", nil, 0)
	if sb, _ := tokens.Check(t.Context(), b); sb.ID == s.ID {
		t.Error("two tokens share a jti")
	}
}

// A token is dead at once where it was revoked, within a second elsewhere, and after a restart.
func TestTokens_revoked(t *testing.T) {
	s := newShop(t)
	s.run()
	other := newShop(t, func(o *web.Options) { // another node at the same store
		o.Store = s.db
		tokens, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, s.db)
		if err != nil {
			t.Fatal(err)
		}
		o.Tokens = tokens
	})
	other.run()
	token := s.token("alice", "user")
	for _, node := range []*shop{s, other} {
		if a := node.ask("GET", "/api/me", token, nil); a.Status != 200 {
			t.Fatalf("before: %s", a.Text)
		}
	}
	if a := s.ask("POST", "/api/logout", token, nil); a.Status != 200 {
		t.Fatalf("logout: %s", a.Text)
	}
	dead := s.ask("GET", "/api/me", token, nil)
	if dead.Status != 401 || dead.word() != "bad_token" {
		t.Errorf("after logout: %d %s", dead.Status, dead.Text)
	}
	since := time.Now()
	for {
		if a := other.ask("GET", "/api/me", token, nil); a.Status == 401 {
			break
		}
		if time.Since(since) > time.Second+busy {
			t.Fatal("the other node takes the dead token after a second")
		}
		time.Sleep(5 * time.Millisecond)
	}
	again, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, s.db)
	if err != nil {
		t.Fatal(err)
	}
	restarted := newShop(t, func(o *web.Options) { o.Store, o.Tokens = s.db, again })
	if a := restarted.ask("GET", "/api/me", token, nil); a.Status != 401 {
		t.Errorf("after a restart: %s", a.Text)
	}
	if a := restarted.ask("GET", "/api/me", s.token("alice", "user"), nil); a.Status != 200 {
		t.Errorf("another token of the same user: %s", a.Text)
	}
}

func FuzzTokens_check(f *testing.F) {
	tokens, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(goodHeader, claimsWith(nil))
	f.Add(`{"alg":"HS256","kid":"new","crit":[]}`, claimsWith(map[string]any{"rooms": []string{"a:*"}, "role": "staff"}))
	f.Add(`{"kid":"new","alg":"HS256","alg":"none"}`, `{"sub":"a","sub":"b"}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		s, err := tokens.Check(t.Context(), seal(header, claims, jwtSecret))
		if err != nil {
			return
		}
		if s.User == "" || strings.ContainsAny(s.User, " /\n\x00") || s.ID == "" || s.ExpiresAt.Before(time.Now()) {
			t.Errorf("%s %s made %+v", header, claims, s)
		}
		if s.Role != "user" && s.Role != "staff" && s.Role != "admin" {
			t.Errorf("role %q", s.Role)
		}
	})
}
