package web

import (
	"net/url"
	"strings"
	"testing"

	"wxhub/store"
	"wxhub/wechat/sim"
)

// A scene that is too long for a code is kept here; the code carries an id, and the page gets the scene back by it.
func TestScene_long(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	long := "邀请码=8848&活动=" + strings.Repeat("双十一", 20) + "&100%"
	v := into[codeView](s, s.code(alice, "scene="+url.QueryEscape(long)))
	if !strings.HasPrefix(v.Scene, store.SceneMark) || len(v.Scene) > 32 || v.Img == "" {
		t.Fatalf("%+v", v)
	}
	if status, _, picture := s.send("GET", s.url+v.Img, "", nil); status != 200 || len(picture) == 0 {
		t.Errorf("the picture: %d", status)
	}
	for _, id := range []string{v.Scene, strings.TrimPrefix(v.Scene, store.SceneMark)} { // nobody needs to be logged in
		if got := into[sceneView](s, s.call("GET", "/api/scene/"+id, "", nil)); got.Scene != long {
			t.Errorf("%s stands for %q", id, got.Scene)
		}
	}
	if again := into[codeView](s, s.code(alice, "scene="+url.QueryEscape(long))); again != v {
		t.Errorf("the same again is %+v", again)
	}
	if n := s.codes(aliceID); n != 1 {
		t.Errorf("%d pictures", n)
	}
	short := into[codeView](s, s.code(alice, "scene=a%3D1"))
	if short.Scene != "a=1" {
		t.Errorf("%+v", short)
	}
	s.refused(s.call("GET", "/api/scene/~nothing", "", nil), 404, "not_found")
	// A picture that cannot be had leaves at most twice as many scenes as pictures are allowed.
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/getwxacodeunlimit", "errcode": 40097, "times": 1000}, nil)
	last := 0
	for i := range 2*codesADay + 1 {
		last = s.code(alice, "scene="+strings.Repeat("x", 40)+strings.Repeat("y", i)).Status
	}
	if last != 429 {
		t.Errorf("answered %d", last)
	}
}

func TestLinks(t *testing.T) {
	s := newShop(t)
	for kind, prefix := range map[string]string{"": "https://", "link": "https://", "scheme": "weixin://"} {
		body := map[string]any{"path": "pages/index/index", "query": "a=1&b=茶", "days": 7}
		if kind != "" {
			body["kind"] = kind
		}
		if v := into[linkView](s, s.ask("POST", "/api/admin/links", body)); !strings.HasPrefix(v.URL, prefix) || v.ExpiresAt == 0 {
			t.Errorf("%s: %+v", kind, v)
		}
	}
	into[linkView](s, s.ask("POST", "/api/admin/links", map[string]any{}))
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/generate_urllink", "errcode": 85079, "times": 5}, nil)
	s.refused(s.ask("POST", "/api/admin/links", map[string]any{}), 400, "bad_request")

	path := map[string]any{"path": "pages/index/index?a=1"}
	round, square := into[codeView](s, s.ask("POST", "/api/admin/qrcodes", path)), into[codeView](s, s.ask("POST", "/api/admin/qrcodes", map[string]any{"path": "pages/index/index?a=1", "square": true}))
	if round.Img == square.Img || into[codeView](s, s.ask("POST", "/api/admin/qrcodes", path)) != round {
		t.Errorf("%+v and %+v", round, square)
	}
	if !s.figure(`wxhub_wechat_calls_total{api="wechat",call="getwxacode",code="ok"} 1`) {
		t.Error("the same picture was drawn twice")
	}
	s.refused(s.ask("POST", "/api/admin/qrcodes", map[string]any{"path": strings.Repeat("p", 129), "square": true}), 400, "bad_request")

	none := newShop(t, func(o *Options, _ *sim.Options) {})
	none.server.o.WeChat = nil
	for _, at := range []string{"/api/admin/links", "/api/admin/qrcodes"} {
		none.refused(none.ask("POST", at, path), 503, "not_configured")
	}
}
