package web

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"wxhub/wechat/sim"
)

func (s *shop) code(token, query string) answer {
	s.Helper()
	return s.call("GET", "/api/qrcode?"+query, token, nil)
}

func (s *shop) codes(user string) int {
	s.Helper()
	n, err := s.db.CountPictures(s.Context(), user, s.server.started.AddDate(-1, 0, 0))
	if err != nil {
		s.Fatal(err)
	}
	return n
}

var picturePath = regexp.MustCompile(`^/qrcode/[a-z2-7]{26}\.png$`)

func TestQRCode(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	bob, bobID := s.login("bob")
	first := into[codeView](s, s.code(alice, "scene=room%3D7&page=pages/index/index&width=300"))
	if !picturePath.MatchString(first.Img) {
		t.Fatalf("img %q", first.Img)
	}
	for token, query := range map[string]string{
		alice: "scene=room%3D7&page=pages/index/index&width=300", bob: "width=300&page=pages/index/index&scene=room%3D7&envVersion=release",
	} {
		if again := into[codeView](s, s.code(token, query)); again != first {
			t.Errorf("the same parameters give %v and %v", first, again)
		}
	}
	if a, b := s.codes(aliceID), s.codes(bobID); a != 1 || b != 0 {
		t.Errorf("counted %d and %d", a, b)
	}
	for _, query := range []string{"scene=room%3D8&page=pages/index/index&width=300", "scene=room%3D7&width=300", "scene=room%3D7&page=pages/index/index", "scene=room%3D7&page=pages/index/index&width=300&envVersion=trial"} {
		if other := into[codeView](s, s.code(alice, query)); other == first {
			t.Errorf("%s gives the same picture", query)
		}
	}

	status, h, picture := s.send("GET", s.url+first.Img, "", nil)
	size, kind, err := image.DecodeConfig(bytes.NewReader(picture))
	if status != 200 || err != nil || kind != "png" || size.Width != 300 || h.Get("Content-Type") != "image/png" || !strings.Contains(h.Get("Cache-Control"), "immutable") ||
		h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v %s %v %v", status, h, kind, size, err)
	}
	for _, path := range []string{"/qrcode/nothing.png", "/qrcode/", strings.TrimSuffix(first.Img, ".png"), strings.Replace(first.Img, ".png", ".svg", 1), "/qrcode/..%2f..%2fetc.png", "/qrcode/%00.png"} {
		if status, _, _ := s.send("GET", s.url+path, "", nil); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}

	// Another node serves it, and gives its URL under its own address.
	o := s.server.o
	o.PublicURL = "https://hub.example"
	other, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	node := httptest.NewServer(other.Handler())
	defer node.Close()
	if status, _, there := s.send("GET", node.URL+first.Img, "", nil); status != 200 || !bytes.Equal(there, picture) {
		t.Errorf("the other node: %d, %d bytes", status, len(there))
	}
	s2 := *s
	s2.url = node.URL
	if there := into[codeView](&s2, s2.code(bob, "scene=room%3D7&page=pages/index/index&width=300")); there.Img != "https://hub.example"+first.Img {
		t.Errorf("img %q", there.Img)
	}
}

// What WeChat answers instead of a picture is never kept, and what it would refuse is not even sent.
func TestQRCode_neverAnErrorInPlaceOfAPicture(t *testing.T) {
	s := newShop(t, func(_ *Options, o *sim.Options) { o.Pages = []string{"pages/index/index"} })
	alice, aliceID := s.login("alice")
	for errcode, want := range map[int]string{40129: "400 bad_request", 45009: "429 too_many", -1: "503 wechat_busy", 48001: "500 wechat_config"} {
		s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/getwxacodeunlimit", "errcode": errcode, "times": 10}, nil)
		if a := s.code(alice, "scene=a"); fmt.Sprint(a.Status, " ", a.Error) != want {
			t.Errorf("errcode %d: %d %+v", errcode, a.Status, a)
		}
		s.play("DELETE", "/sim/fault", nil, nil)
	}
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/getwxacodeunlimit", "html": true, "times": 10}, nil)
	if a := s.code(alice, "scene=a"); a.Status != 502 || a.Error != "wechat_nonsense" {
		t.Errorf("HTML: %+v", a)
	}
	// The fault stands: a request that were made would fail otherwise.
	for _, scene := range []string{"", "100%", "茶", "a b", strings.Repeat("s", 1025), "a\nb", strings.Repeat("s", 40) + "\n"} {
		if a := s.code(alice, "scene="+url.QueryEscape(scene)); a.Status != 400 || a.Error != "bad_request" {
			t.Errorf("scene %q: %+v", scene, a)
		}
	}
	s.play("DELETE", "/sim/fault", nil, nil)
	if a := s.code(alice, "scene=a&page=pages/no/such"); a.Status != 400 || !strings.Contains(a.Message, "page") {
		t.Errorf("a page that is not there: %+v", a)
	}
	into[codeView](s, s.code(alice, "scene=a&page=pages/no/such&envVersion=develop"))
	if n := s.codes(aliceID); n != 1 {
		t.Errorf("%d pictures are kept", n)
	}
}

func TestQRCode_atMostSoManyADay(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	bob, _ := s.login("bob")
	var mu sync.Mutex
	words := map[string]int{}
	slots := make(chan struct{}, 8)
	var all sync.WaitGroup
	for i := range codesADay + 10 {
		slots <- struct{}{}
		all.Go(func() {
			a := s.code(alice, fmt.Sprint("width=280&scene=", i))
			mu.Lock()
			words[a.Error]++
			mu.Unlock()
			<-slots
		})
	}
	all.Wait()
	for i := 0; s.codes(aliceID) < codesADay && i < 20; i++ { // at once a few are turned away too early, none too late
		s.code(alice, fmt.Sprint("width=281&scene=", i))
	}
	if n := s.codes(aliceID); n != codesADay {
		t.Errorf("%d pictures, answers %v", n, words)
	}
	if a := s.code(alice, "scene=one-more"); a.Status != http.StatusTooManyRequests || a.Error != "too_many" || a.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %+v", a)
	}
	into[codeView](s, s.code(bob, "scene=one-more"))
	into[codeView](s, s.code(alice, "scene=one-more")) // it is there now
}

func TestAsPNG(t *testing.T) {
	drawn := image.NewGray(image.Rect(0, 0, 300, 300))
	for i := range drawn.Pix {
		drawn.Pix[i] = uint8(i / 300 % 2 * 255)
	}
	drawn.Set(0, 0, color.White)
	var text bytes.Buffer
	if err := jpeg.Encode(&text, drawn, nil); err != nil {
		t.Fatal(err)
	}
	got, kind := asPNG(text.Bytes(), "image/jpeg")
	size, err := png.DecodeConfig(bytes.NewReader(got))
	if kind != "image/png" || err != nil || size.Width != 300 {
		t.Errorf("%s %v %v", kind, size, err)
	}
	for _, broken := range []string{"", "\xff\xd8\xff", text.String()[:text.Len()/2]} {
		if got, kind := asPNG([]byte(broken), "image/jpeg"); kind != "image/jpeg" || string(got) != broken {
			t.Errorf("%d bytes became %s", len(broken), kind)
		}
	}
	if got, kind := asPNG([]byte("x"), "image/png"); kind != "image/png" || string(got) != "x" {
		t.Error("a PNG was touched")
	}
}
