package wechat

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestQRCode_check(t *testing.T) {
	good := QRCode{Scene: "a=1", Page: "pages/index/index"}
	for _, c := range []struct {
		name   string
		change func(*QRCode)
		word   string // in the complaint; "": none
	}{
		{"good", func(q *QRCode) {}, ""},
		{"home page", func(q *QRCode) { q.Page = "" }, ""},
		{"all characters", func(q *QRCode) { q.Scene = "aZ09!#$&'()*+,/:;=?@-._~" }, ""},
		{"32 characters", func(q *QRCode) { q.Scene = strings.Repeat("x", 32) }, ""},
		{"smallest", func(q *QRCode) { q.Width = 280 }, ""},
		{"largest", func(q *QRCode) { q.Width = 1280 }, ""},
		{"trial", func(q *QRCode) { q.EnvVersion = "trial" }, ""},
		{"no scene", func(q *QRCode) { q.Scene = "" }, "scene"},
		{"33 characters", func(q *QRCode) { q.Scene = strings.Repeat("x", 33) }, "scene"},
		{"percent", func(q *QRCode) { q.Scene = "a%20b" }, "scene"},
		{"space", func(q *QRCode) { q.Scene = "a b" }, "scene"},
		{"Chinese", func(q *QRCode) { q.Scene = "房间" }, "scene"},
		{"line end", func(q *QRCode) { q.Scene = "a\n" }, "scene"},
		{"quote", func(q *QRCode) { q.Scene = `a"b` }, "scene"},
		{"slash before the page", func(q *QRCode) { q.Page = "/pages/index" }, "slash"},
		{"query", func(q *QRCode) { q.Page = "pages/index?a=1" }, "query"},
		{"space in the page", func(q *QRCode) { q.Page = "pages/in dex" }, "page"},
		{"long page", func(q *QRCode) { q.Page = strings.Repeat("p", maxPage+1) }, "page"},
		{"too small", func(q *QRCode) { q.Width = 279 }, "width"},
		{"too large", func(q *QRCode) { q.Width = 1281 }, "width"},
		{"negative", func(q *QRCode) { q.Width = -1 }, "width"},
		{"other version", func(q *QRCode) { q.EnvVersion = "beta" }, "envVersion"},
	} {
		q := good
		c.change(&q)
		err := q.Check()
		if c.word == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var e *Error
		if !errors.Is(err, ErrRequest) || !errors.As(err, &e) || !strings.Contains(e.Msg, c.word) {
			t.Errorf("%s: %v", c.name, err)
		}
		client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
		if _, _, err := client.QRCode(t.Context(), q); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// An error in a picture's clothes is an error, and a picture in an error's clothes is none either.
func TestQRCode_pictureOrError(t *testing.T) {
	const jpeg = "\xff\xd8\xff\xe0jpeg"
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		want                    string // content type of the picture
		kind                    error
	}{
		{"png", "image/png", testPicture, 200, "image/png", nil},
		{"jpeg", "image/jpeg", jpeg, 200, "image/jpeg", nil},
		{"png that is called jpeg", "image/jpeg", testPicture, 200, "image/png", nil},
		{"capitals", "Image/JPEG; x=y", jpeg, 200, "image/jpeg", nil},
		{"error as JSON", "application/json; encoding=utf-8", `{"errcode":41030,"errmsg":"invalid page"}`, 200, "", ErrRequest},
		{"error as picture", "image/jpeg", `{"errcode":41030,"errmsg":"invalid page"}`, 200, "", ErrRequest},
		{"error behind space", "image/png", "\n {\"errcode\":45011}", 200, "", ErrTooOften},
		{"error as text", "text/plain", `{"errcode":40003}`, 200, "", ErrOpenID},
		{"success without picture", "application/json", `{"errcode":0,"errmsg":"ok"}`, 200, "", ErrNonsense},
		{"base64 in JSON", "application/json", `{"errcode":0,"buffer":"iVBORw0KGgo="}`, 200, "", ErrNonsense},
		{"picture that is called JSON", "application/json", testPicture, 200, "", ErrNonsense},
		{"picture without a type", "", testPicture, 200, "", ErrNonsense},
		{"picture with an error's status", "image/png", testPicture, 502, "", ErrBusy},
		{"svg", "image/svg+xml", `<svg onload="alert(1)"/>`, 200, "", ErrNonsense},
		{"html", "image/png", `<html>`, 200, "", ErrNonsense},
		{"empty", "image/png", "", 200, "", ErrNonsense},
		{"cut magic", "image/png", "\x89PN", 200, "", ErrNonsense},
		{"endless", "image/png", testPicture + strings.Repeat("x", maxAnswer), 200, "", ErrNonsense},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				w.Header()["Content-Type"] = []string{c.contentType}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			b, kind, err := client.QRCode(t.Context(), QRCode{Scene: "s"})
			if !errors.Is(err, c.kind) || (err == nil) != (c.kind == nil) || kind != c.want || (len(b) > 0) != (c.kind == nil) {
				t.Errorf("%d bytes %q %v", len(b), kind, err)
			}
			if err == nil && string(b) != c.body {
				t.Error("another picture")
			}
		})
	}
	client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { say(200, `{"errcode":45009}`)(w, r) }))
	_, _, err := client.QRCode(t.Context(), QRCode{Scene: "s"})
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter != time.Minute {
		t.Error(err)
	}
}

// Whatever comes in the picture's place.
func FuzzPicture(f *testing.F) {
	f.Add("image/png", []byte(testPicture), 200)
	f.Add("image/jpeg", []byte(`{"errcode":41030}`), 200)
	f.Add("application/json", []byte(`{"errcode":0}`), 500)
	f.Fuzz(func(t *testing.T, kind string, body []byte, status int) {
		b, got, err := answer{status: status, header: http.Header{"Content-Type": {kind}}, body: body}.picture(opQRCode, nil)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Kind == nil || b != nil || got != "") {
			t.Error(err)
		}
		if err == nil && (status != 200 || pictureType(b) != got || got == "" || bytes.HasPrefix(b, []byte("{"))) {
			t.Errorf("%q for %q", got, b)
		}
	})
}
