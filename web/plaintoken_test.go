package web_test

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"wxhub/web"
)

// Whoever has seen a header before must find the same of a token as who has not.
func TestTokens_plainAsWhole(t *testing.T) {
	now := time.Now().Unix()
	good := claimsWith(nil)
	list := []string{
		good, claimsWith(map[string]any{"rooms": []string{"a:*", "b"}, "role": "staff", "sid": "s1", "nbf": now}),
		claimsWith(map[string]any{"aud": []string{"x", "wxhub"}}), claimsWith(map[string]any{"aud": []string{"x"}}), claimsWith(map[string]any{"aud": []string{}}),
		claimsWith(map[string]any{"iss": "other"}), claimsWith(map[string]any{"exp": now - 1}), claimsWith(map[string]any{"exp": now - 100}), claimsWith(map[string]any{"iat": nil}),
		claimsWith(map[string]any{"iat": now + 30}), claimsWith(map[string]any{"iat": now + 3600}), claimsWith(map[string]any{"nbf": now + 3600}),
		claimsWith(map[string]any{"exp": nil}), claimsWith(map[string]any{"exp": 1.5}), claimsWith(map[string]any{"exp": fmt.Sprint(now + 9)}), claimsWith(map[string]any{"exp": "9999999999999"}),
		claimsWith(map[string]any{"exp": 0}), claimsWith(map[string]any{"nbf": 0}), claimsWith(map[string]any{"exp": -5}), claimsWith(map[string]any{"sub": "a b"}), claimsWith(map[string]any{"sub": "甲"}),
		claimsWith(map[string]any{"role": "root"}), claimsWith(map[string]any{"role": ""}), claimsWith(map[string]any{"rooms": []string{""}}), claimsWith(map[string]any{"rooms": "a"}),
		claimsWith(map[string]any{"rooms": []any{}}), claimsWith(map[string]any{"rooms": []any{1}}), claimsWith(map[string]any{"jti": ""}), claimsWith(map[string]any{"jti": strings.Repeat("j", 129)}),
		claimsWith(map[string]any{"extra": 1}), claimsWith(map[string]any{"SUB": "bob"}), claimsWith(map[string]any{"jti": "tab\t"}), claimsWith(map[string]any{"jti": "quote\""}),
		good + " ", " " + good, good + "{}", strings.Replace(good, ":", ": ", 1), strings.Replace(good, `"sub"`, `"sub":"bob","sub"`, 1),
		good[:len(good)-1], good[:len(good)-1] + ",}", "[]", "null", "", `{"sub":"alice"}`, strings.Replace(good, "j1", "j\xff", 1), strings.Replace(good, "j1", `\u006a1`, 1),
	}
	tokens := newTokens(t)
	if word := checkWord(tokens, seal(goodHeader, good, jwtSecret)); word != "ok" {
		t.Fatal(word)
	}
	for _, claims := range list {
		same(t, tokens, seal(goodHeader, claims, jwtSecret))
	}
	token := seal(goodHeader, good, jwtSecret)
	body, signature := token[:strings.LastIndexByte(token, '.')], token[strings.LastIndexByte(token, '.')+1:]
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	raw[31] ^= 1
	for _, other := range []string{
		body + ".", body + "." + signature[:42], body + "." + base64.RawURLEncoding.EncodeToString(raw), token + "=", body + "." + signature[:42] + "~",
		body + "." + lastBitSet(signature), // a text that decodes to the same bytes unless one looks at unused bits
		seal(goodHeader, good, strings.ToUpper(jwtSecret)), strings.Replace(token, ".", "..", 1),
	} {
		if same(t, tokens, other) {
			t.Errorf("good: %s", other)
		}
	}
}

func lastBitSet(signature string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return signature[:42] + string(alphabet[strings.IndexByte(alphabet, signature[42])|1])
}

func newTokens(t testing.TB) *web.Tokens {
	tokens, err := web.NewTokens([]web.Key{{ID: "new", Secret: []byte(jwtSecret)}}, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// same tells whether the token is good, to who knows its header and to who does not.
func same(t *testing.T, knows *web.Tokens, token string) bool {
	t.Helper()
	fast, errFast := knows.Check(t.Context(), token)
	whole, errWhole := newTokens(t).Check(t.Context(), token)
	if fmt.Sprint(errFast) != fmt.Sprint(errWhole) || !reflect.DeepEqual(fast, whole) && len(fast.Rooms)+len(whole.Rooms) > 0 {
		t.Errorf("%s:\n%+v %v\n%+v %v", token, fast, errFast, whole, errWhole)
	}
	return errFast == nil
}

func FuzzTokens_plainAsWhole(f *testing.F) {
	f.Add(claimsWith(nil))
	f.Add(claimsWith(map[string]any{"rooms": []string{"a:*"}, "role": "staff", "nbf": 1}))
	f.Add(`{"sub":"a","iss":"wxhub","aud":["wxhub"],"iat":1,"exp":9999999999,"jti":"1"}`)
	knows := newTokens(f)
	if word := checkWord(knows, seal(goodHeader, claimsWith(nil), jwtSecret)); word != "ok" {
		f.Fatal(word)
	}
	f.Fuzz(func(t *testing.T, claims string) { same(t, knows, seal(goodHeader, claims, jwtSecret)) })
}

func BenchmarkTokens_check(b *testing.B) {
	for _, kind := range []struct {
		name string
		more map[string]any
	}{{"plain", map[string]any{"rooms": []string{"*"}}}, {"whole", map[string]any{"rooms": []string{"*"}, "shop": "tea"}}} {
		b.Run(kind.name, func(b *testing.B) {
			tokens := newTokens(b)
			token := seal(goodHeader, claimsWith(kind.more), jwtSecret)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tokens.Check(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
