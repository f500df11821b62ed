package sim

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Evidence is what a signature was made or judged by, so that people see why one did not match. Keys
// are never in it: where a text contains one, the text says …key….
type Evidence struct {
	Scheme     string   `json:"scheme"`           // v3, v2, client (the five fields), push or reply
	Signed     string   `json:"signed"`           // the exact text, cut to 8 KiB
	Length     int      `json:"length"`           // bytes of the whole text
	Got        string   `json:"got"`              // the signature that came, or that was sent
	Want       string   `json:"want,omitempty"`   // of digests: the right one
	Serial     string   `json:"serial,omitempty"` // as sent
	Expected   string   `json:"expected,omitempty"`
	Key        string   `json:"key"`               // what kind of key
	ClockMs    int64    `json:"clockMs"`           // timestamp of the sender minus the clock of this simulator
	BodySHA256 string   `json:"bodySha256"`        // lower hex
	Hints      []string `json:"hints,omitempty"`   // what the signature would be right for, in words that the page explains
	Refused    string   `json:"refused,omitempty"` // which check failed
}

const (
	maxSigned  = 8 << 10 // bytes of a text kept as evidence
	hiddenKey  = "…key…"
	hintOther  = "other_key_or_text"
	hintBase64 = "not_base64"
	hintLength = "wrong_length"
)

func bodyHash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// evidenceV3 explains the signature of a request of API v3.
func evidenceV3(key *rsa.PublicKey, r *http.Request, a authorization, body []byte) Evidence {
	message := lines(r.Method, r.URL.RequestURI(), a.timestamp, a.nonce, string(body))
	e := Evidence{Scheme: "v3", Signed: clip(message, maxSigned), Length: len(message), Got: clip(a.signature, 1024), Serial: clip(a.serial, 128),
		Key: "merchant certificate", BodySHA256: bodyHash(body)}
	if a.signature == "" || verifyRSA(key, message, a.signature) == nil {
		return e
	}
	e.Hints = hintsRSA(key, a.signature, wrongTextsV3(r, a, body))
	return e
}

// hintsRSA names the texts that a signature is right for.
func hintsRSA(key *rsa.PublicKey, signature string, texts map[string]string) (hints []string) {
	switch raw, err := base64.StdEncoding.DecodeString(signature); {
	case err != nil:
		return []string{hintBase64}
	case len(raw) != key.Size():
		return []string{hintLength}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if verifyRSA(key, texts[name], signature) == nil {
			hints = append(hints, name)
		}
	}
	if hints == nil {
		hints = []string{hintOther}
	}
	return hints
}

// wrongTextsV3 are the usual mistakes, by the word that explains each.
func wrongTextsV3(r *http.Request, a authorization, body []byte) map[string]string {
	uri, text := r.URL.RequestURI(), string(body)
	whole := func(method, uri, body string) string { return lines(method, uri, a.timestamp, a.nonce, body) }
	texts := map[string]string{
		"no_final_newline": strings.TrimSuffix(whole(r.Method, uri, text), "\n"),
		"full_url":         whole(r.Method, "https://"+r.Host+uri, text),
		"full_url_http":    whole(r.Method, "http://"+r.Host+uri, text),
		"no_query":         whole(r.Method, r.URL.EscapedPath(), text),
		"lower_method":     whole(strings.ToLower(r.Method), uri, text),
		"empty_body":       whole(r.Method, uri, ""),
		"body_trimmed":     whole(r.Method, uri, strings.TrimSpace(text)),
		"body_newline":     whole(r.Method, uri, text+"\n"),
		"swapped":          lines(r.Method, uri, a.nonce, a.timestamp, text),
		"joined":           strings.Join([]string{r.Method, uri, a.timestamp, a.nonce, text}, ""),
	}
	if decoded, err := url.QueryUnescape(uri); err == nil && decoded != uri {
		texts["decoded_url"] = whole(r.Method, decoded, text)
	}
	if escaped, err := json.Marshal(json.RawMessage(body)); err == nil && len(body) > 0 {
		texts["body_escaped"] = whole(r.Method, uri, string(escaped)) // < > & as \u003c …
	}
	var compact bytes.Buffer
	if json.Compact(&compact, body) == nil && compact.String() != text {
		texts["body_compact"] = whole(r.Method, uri, compact.String())
	}
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		texts["body_indented"] = whole(r.Method, uri, indented.String())
	}
	for name, wrong := range texts {
		if wrong == whole(r.Method, uri, text) {
			delete(texts, name)
		}
	}
	return texts
}

// evidenceV2 explains the signature of a request of Pay v2, or of the five fields.
func evidenceV2(scheme, signType, key string, f map[string]string, got string, body []byte) Evidence {
	text := textV2(f, hiddenKey)
	e := Evidence{Scheme: scheme, Signed: clip(text, maxSigned), Length: len(text) - len(hiddenKey) + len(key), Got: clip(got, 256), Want: signV2(signType, key, f),
		Key: "API key, " + signType}
	if body != nil {
		e.BodySHA256 = bodyHash(body)
	}
	if same(got, e.Want) {
		return e
	}
	e.Hints = hintsV2(signType, key, f, got)
	return e
}

// hintsV2 names the usual mistakes that explain a signature.
func hintsV2(signType, key string, f map[string]string, got string) (hints []string) {
	other := map[string]string{signMD5: signHMAC, signHMAC: signMD5}[signType]
	without := func(name string) map[string]string {
		copied := maps.Clone(f)
		delete(copied, name)
		return copied
	}
	encoded := map[string]string{}
	for name, value := range f {
		encoded[name] = url.QueryEscape(value)
	}
	empties := ""
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != "sign" {
			empties += name + "=" + f[name] + "&"
		}
	}
	for _, try := range []struct{ name, sign string }{
		{"lower_case", strings.ToLower(signV2(signType, key, f))},
		{"signed_by_" + other, signV2(other, key, f)},
		{"without_sign_type", signV2(signType, key, without("sign_type"))},
		{"url_encoded", signV2(signType, key, encoded)},
		{"with_empty_fields", digestV2(signType, key, empties+"key="+key)},
		{"without_key", digestV2(signType, key, strings.TrimSuffix(textV2(f, ""), "&key="))},
		{"empty_key", signV2(signType, "", f)},
	} {
		if same(try.sign, got) {
			hints = append(hints, try.name)
		}
	}
	if hints == nil {
		hints = []string{hintOther}
	}
	return hints
}

// evidencePush tells of a signature of message push: the parts, sorted and joined, the token hidden.
func evidencePush(scheme, token, got string, body []byte, parts ...string) Evidence {
	sorted := append([]string{token}, parts...)
	slices.Sort(sorted)
	for i, part := range sorted {
		if part == token {
			sorted[i] = hiddenKey
		}
	}
	text := strings.Join(sorted, "")
	return Evidence{Scheme: scheme, Signed: clip(text, maxSigned), Length: len(text) - len(hiddenKey) + len(token), Got: got,
		Want: pushSignature(append([]string{token}, parts...)...), Key: "push Token, SHA1", BodySHA256: bodyHash(body)}
}
