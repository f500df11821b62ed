package web

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func postText(body string, fields string) string {
	return fmt.Sprintf("%sHost: hub\r\nContent-Type: application/json\r\nX-API-Key: key\r\nContent-Length: %d\r\n%s\r\n%s", postLine, len(body), fields, body)
}

// What is read as a plain request, net/http reads the same.
func FuzzReadPost(f *testing.F) {
	for _, text := range []string{
		postText("{}", ""), postText("{}", "")[:90], postText("{}", "Accept-Language: en\r\nConnection: keep-alive\r\n"), postText("{}", "") + postText("[]", ""),
		postText("{}", "Content-Length: 2\r\n"), postText("{}", "Transfer-Encoding: chunked\r\n"), postText("{}", "X-API-Key : a\r\n"), postText("{}", "Host: b\r\n"),
		postText("{}", " folded\r\n"), strings.ReplaceAll(postText("{}", ""), "\r\n", "\n"), postText("{}", "Expect: 100-continue\r\n"), postText(strings.Repeat("x", 5000), ""),
		"POST /api/adm", "GET / HTTP/1.1\r\n\r\n", strings.Replace(postText("{}", ""), ": 2", ": +2", 1), strings.Replace(postText("{}", ""), ": 2", ": 02", 1),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > headBytes {
			text = text[:headBytes]
		}
		p, size, more := readPost(text)
		if size == 0 {
			return
		}
		if more || size > len(text) {
			t.Fatalf("%q: size %d, more %t", text, size, more)
		}
		in := bufio.NewReader(bytes.NewReader(text[:size]))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, p.body) {
			t.Errorf("%q: body %q, not %q: %v", text, p.body, body, err)
		}
		if rest, _ := io.ReadAll(in); len(rest) > 0 {
			t.Errorf("%q: %q is left", text, rest)
		}
		if r.Method != http.MethodPost || r.RequestURI != postPath || r.Proto != "HTTP/1.1" || len(r.TransferEncoding) > 0 || r.Close ||
			r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Api-Key") != string(p.key) || r.Header.Get("Accept-Language") != string(p.language) {
			t.Errorf("%q is %+v", text, r)
		}
		for _, name := range []string{"Authorization", "Origin", "Expect", "Upgrade", "Content-Encoding"} {
			if r.Header[name] != nil {
				t.Errorf("%q has %s", text, name)
			}
		}
	})
}
