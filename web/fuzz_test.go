package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// What the handler gets is what was validated: the fields of the struct are those of the map.
func FuzzUnmarshal(f *testing.F) {
	type order struct {
		ID    string          `json:"id,omitempty"`
		Count int             `json:"count"`
		Keep  bool            `json:"Keep"`
		Any   json.RawMessage `json:"any,omitempty"`
	}
	for _, text := range []string{
		`{"id":"a","count":1}`, `{"id":"a","ID":"b"}`, `{"Id":"b"}`, `{"id":"a","id":"b"}`, `{"ıd":"a","Keep":true}`, `{"keep":true,"KEEP":false}`,
		`{"\u0069d":"a","id":"b"}`, `{"any":{"id":1,"id":2}}`, `{} {}`, `[{"id":"a"}]`, `null`, `{"count":1e400}`, "{\"id\":\"\xff\"}", `{"id":"\ud800"}`,
		strings.Repeat(`{"any":`, 40) + "1" + strings.Repeat("}", 40), `{"id":"a"}]`, `{"id":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var fields map[string]any
		var o order
		if unmarshal(data, &fields) != nil || unmarshal(data, &o) != nil {
			return
		}
		if !utf8.Valid(data) || !json.Valid(data) {
			t.Fatalf("%q is taken", data)
		}
		if id, _ := fields["id"].(string); id != o.ID {
			t.Errorf("%q: id %q was validated, the handler gets %q", data, id, o.ID)
		}
		if count, _ := fields["count"].(float64); count != float64(o.Count) {
			t.Errorf("%q: count %v was validated, the handler gets %d", data, count, o.Count)
		}
		if keep, _ := fields["Keep"].(bool); keep != o.Keep {
			t.Errorf("%q: Keep %v was validated, the handler gets %v", data, keep, o.Keep)
		}
		if len(o.Any) > 0 {
			var inner any
			if err := json.Unmarshal(o.Any, &inner); err != nil || !reflect.DeepEqual(inner, fields["any"]) {
				t.Errorf("%q: any is %s", data, o.Any)
			}
		}
	})
}

// The quick count of brackets never finds less than there is.
func FuzzJSONDepth(f *testing.F) {
	for _, text := range []string{`[[1],{"a":[]}]`, `"[\"["`, `{"[":"]"}`, `]]][[[`, `"\\"[`, ``, `[`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		if got, want := jsonDepth(data), depthOf(v); got < want {
			t.Errorf("%q has depth %d, counted %d", data, want, got)
		}
	})
}

func depthOf(v any) (deepest int) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			deepest = max(deepest, depthOf(e))
		}
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depthOf(e))
		}
	default:
		return 0
	}
	return deepest + 1
}

func TestLanguageOf(t *testing.T) {
	for header, want := range map[string]string{
		"": "zh", "en": "en", "EN-us": "en", "zh-CN,zh;q=0.9,en;q=0.8": "zh", "fr, en;q=0.5, zh;q=0.4": "en", "en;q=0": "zh", "zh;q=0,en;q=0.1": "en",
		"en;q=0.001,zh;q=0.002": "zh", "en ; q=0.9 , zh ; q=0.8": "en", "en;q=": "en", "de": "zh", "*": "zh", ";;;,,,": "zh", "zh-Hant-TW": "zh",
		"en;q=0.3;zh": "en", "zh;q=0.9999,en;q=1": "en",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Language", header)
		if got := languageOf(r); got != want {
			t.Errorf("%q reads %s, want %s", header, got, want)
		}
	}
}

func FuzzLanguageOf(f *testing.F) {
	for _, header := range []string{"zh", "en;q=0.5,zh;q=0.6", "en;q=0.é", ",,;q=", "e", "en;q=0.12345"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept-Language"] = []string{header}
		if got := languageOf(r); got != "zh" && got != "en" {
			t.Errorf("%q reads %q", header, got)
		}
	})
}

// However X-Forwarded-For is filled, the address is the peer's unless the peer is trusted, and never a trusted one
// when the chain names another to its right.
func FuzzClientAddress(f *testing.F) {
	for _, x := range [][3]string{
		{"10.0.0.1:80", "1.2.3.4", ""}, {"9.9.9.9:80", "1.2.3.4", ""}, {"10.0.0.1:80", "evil, 1.2.3.4, 10.9.9.9", "5.6.7.8"}, {"[::1]:80", "::ffff:10.0.0.1", ""},
		{"10.0.0.1:80", "1.2.3.4:99, unknown", "for=x"}, {"@", "1.2.3.4", ""}, {"10.0.0.1:80", "fe80::1%eth0", ""}, {"[::ffff:10.0.0.1]:1", "2001:db8::1", ""},
	} {
		f.Add(x[0], x[1], x[2])
	}
	trusted := netip.MustParsePrefix("10.0.0.0/8")
	s := &Server{o: Options{TrustedProxies: []netip.Prefix{trusted}}}
	f.Fuzz(func(t *testing.T, peer, one, two string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{one, two}
		var got netip.Addr
		s.fromTrustedProxy(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = clientAddress(r) })).ServeHTTP(httptest.NewRecorder(), r)
		key := addressKey(got)
		if len(key) > 50 || key != addressKey(got.Unmap()) {
			t.Errorf("key %q", key)
		}
		from, err := netip.ParseAddrPort(peer)
		if err != nil {
			return
		}
		own := from.Addr().Unmap().WithZone("")
		if !trusted.Contains(own) {
			if got != own {
				t.Errorf("%q behind no proxy of ours is %v", peer, got)
			}
			return
		}
		chain := strings.Split(one+","+two, ",")
		slices.Reverse(chain)
		for _, hop := range chain {
			if hop = strings.TrimSpace(hop); hop == "" {
				continue
			}
			a, err := netip.ParseAddr(hop)
			if a = a.Unmap().WithZone(""); err == nil && trusted.Contains(a) {
				continue
			}
			if err == nil && got != a || err != nil && got != own {
				t.Errorf("%q + %q: %v, want %v (%v)", one, two, got, a, err)
			}
			return
		}
		if got != own {
			t.Errorf("nobody but proxies is %v", got)
		}
	})
}
