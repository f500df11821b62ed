package wechat

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLink_checkedBefore(t *testing.T) {
	now := time.Unix(callsNow, 0)
	for name, c := range map[string]struct {
		l    Link
		good bool
	}{
		"home":         {Link{}, true},
		"slash":        {Link{Path: "/pages/a"}, true},
		"thirty days":  {Link{ExpiresAt: now.Add(30 * 24 * time.Hour)}, true},
		"longest":      {Link{Query: strings.Repeat("q", 1024)}, true},
		"query in it":  {Link{Path: "pages/a?b=1"}, false},
		"chinese path": {Link{Path: "页面"}, false},
		"question":     {Link{Query: "?a=1"}, false},
		"too long":     {Link{Query: strings.Repeat("q", 1025)}, false},
		"line end":     {Link{Query: "a\r\nb"}, false},
		"version":      {Link{EnvVersion: "beta"}, false},
		"31 days":      {Link{ExpiresAt: now.Add(31 * 24 * time.Hour)}, false},
		"over":         {Link{ExpiresAt: now}, false},
	} {
		if err := c.l.Check(now); (err == nil) != c.good || err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for _, make := range []func() (string, error){
		func() (string, error) { return c.URLLink(t.Context(), Link{Path: "a?b"}) },
		func() (string, error) { return c.URLScheme(t.Context(), Link{Path: "a?b"}) },
	} {
		if link, err := make(); link != "" || !errors.Is(err, ErrRequest) {
			t.Error(link, err)
		}
	}
}

func TestPathCode_checkedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		p    PathCode
		good bool
	}{
		"query":           {PathCode{Path: "pages/a?b=好"}, true},
		"square":          {PathCode{Path: "pages/a?b=1", Square: true, Width: 280}, true},
		"longest":         {PathCode{Path: "pages/a?" + strings.Repeat("q", 1016)}, true},
		"empty":           {PathCode{}, false},
		"query alone":     {PathCode{Path: "?a=1"}, false},
		"too long":        {PathCode{Path: "pages/a?" + strings.Repeat("q", 1017)}, false},
		"square too long": {PathCode{Path: "pages/a?" + strings.Repeat("q", 121), Square: true}, false},
		"square coloured": {PathCode{Path: "pages/a", Square: true, Color: &RGB{}}, false},
		"square version":  {PathCode{Path: "pages/a", Square: true, EnvVersion: "trial"}, false},
		"width":           {PathCode{Path: "pages/a", Width: 279}, false},
		"version":         {PathCode{Path: "pages/a", EnvVersion: "beta"}, false},
		"line end":        {PathCode{Path: "pages/a?\n"}, false},
	} {
		if err := c.p.Check(); (err == nil) != c.good || err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !IsScene("a=1") || IsScene("") || IsScene(strings.Repeat("a", 33)) || IsScene("好") || IsScene("100%") {
		t.Error("scenes")
	}
}

func TestCheckMedia_checkedBefore(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, m := range map[string]MediaCheck{
		"scene": {OpenID: "o", URL: "https://a.example/x"}, "no URL": {OpenID: "o", Scene: 1}, "path": {OpenID: "o", Scene: 1, URL: "/x.png"},
		"file": {OpenID: "o", Scene: 1, URL: "file:///etc/passwd"}, "long": {OpenID: "o", Scene: 1, URL: "https://a.example/" + strings.Repeat("x", 2048)},
	} {
		if id, err := c.CheckMedia(t.Context(), m); id != "" || !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.CheckMedia(t.Context(), MediaCheck{Scene: 1, URL: "https://a.example/x"}); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
}
