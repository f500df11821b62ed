package sim

import (
	"bytes"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMiniEvents(t *testing.T) {
	for _, format := range []string{formatJSON, formatXML} {
		w := newWorld(t, func(o *Options) { o.PushMode, o.PushFormat = modeSafe, format })
		alice := w.openid("alice")
		for _, trigger := range []object{
			{"event": "user_enter_tempsession", "user": "alice", "sessionFrom": "商品|7"},
			{"event": "event", "name": "user_enter_tempsession", "user": "alice", "sessionFrom": "商品|7"},
		} {
			w.control("/sim/trigger", trigger)
			r, body := w.hub.last()
			if f := w.opened(r, body, modeSafe, format); f["Event"] != "user_enter_tempsession" || f["SessionFrom"] != "商品|7" || f["MsgType"] != "event" || f["MsgId"] != "" {
				t.Errorf("%s: %v", format, f)
			}
		}
		for i, want := range []int{0, 0, 45047} {
			if got := w.send(w.miniToken(), textTo(alice, "欢迎")); got.number("errcode") != want {
				t.Errorf("greeting %d: %v", i, got)
			}
		}
		w.clock.move(briefWindow)
		if got := w.send(w.miniToken(), textTo(alice, "欢迎")); got.number("errcode") != 45015 {
			t.Errorf("a minute later: %v", got)
		}
		w.control("/sim/trigger", object{"event": "event", "name": "wxa_media_check", "user": "alice", "fields": object{"trace_id": "t1", "version": 2}})
		r, body := w.hub.last()
		if f := w.opened(r, body, modeSafe, format); f["Event"] != "wxa_media_check" || f["trace_id"] != "t1" || f["version"] != "2" {
			t.Errorf("%s: %v", format, f)
		}
		w.control("/sim/message", object{"user": "alice", "type": "image"})
		r, body = w.hub.last()
		if f := w.opened(r, body, modeSafe, format); f["MsgType"] != "image" || !strings.HasPrefix(f["PicUrl"], "http://") || f["MediaId"] == "" || f["MsgId"] == "" {
			t.Errorf("%s picture: %v", format, f)
		}
		w.control("/sim/trigger", object{"event": "message", "user": "alice", "type": "miniprogrampage", "title": "小猫杯", "pagePath": "pages/item?id=1"})
		r, body = w.hub.last()
		if f := w.opened(r, body, modeSafe, format); f["MsgType"] != "miniprogrampage" || f["Title"] != "小猫杯" || f["PagePath"] != "pages/item?id=1" || f["AppId"] != credentials().AppID {
			t.Errorf("%s card: %v", format, f)
		}
	}
}

func (w *world) api(path, token string, body object) *http.Response {
	return w.request("POST", path+"?access_token="+token, string(toJSON(body))).Result()
}

func (w *world) asked(path, token string, body object) object {
	w.t.Helper()
	rec := w.request("POST", path+"?access_token="+token, string(toJSON(body)))
	if rec.Code != 200 {
		w.t.Fatalf("%s: %d", path, rec.Code)
	}
	return parse(w.t, rec.Body.Bytes())
}

func TestPhoneNumber(t *testing.T) {
	const path = "/wxa/business/getuserphonenumber"
	w := newWorld(t, nil)
	if rec := w.request("POST", "/sim/phone", `{"user":"alice"}`); rec.Code != 409 {
		t.Errorf("before the login: %s", rec.Body)
	}
	login := w.control("/sim/login", object{"user": "alice"})
	got := w.control("/sim/phone", object{"user": "alice"})
	key := w.session(loginQuery(login.text("code"))).text("session_key")
	sealed := parse(t, openUserData(t, key, got.text("iv"), got.text("encryptedData")))
	answer := w.asked(path, w.miniToken(), object{"code": got.text("code")})
	info := object(answer["phone_info"].(map[string]any))
	mark := object(info["watermark"].(map[string]any))
	if answer.number("errcode") != 0 || len(info.text("purePhoneNumber")) != 11 || info.text("purePhoneNumber") != sealed.text("purePhoneNumber") ||
		info.text("countryCode") != "86" || mark.text("appid") != credentials().AppID || int64(mark["timestamp"].(float64)) != w.clock.Now().Unix() {
		t.Errorf("%v, %v", answer, sealed)
	}
	late := w.control("/sim/phone", object{"user": "alice"}).text("code")
	other := w.control("/sim/login", object{"user": "bob"}).text("code")
	w.clock.move(codeLife + time.Second)
	for name, code := range map[string]any{"used": got.text("code"), "late": late, "of wx.login": other, "unknown": "x", "number": 1, "none": nil} {
		if got := w.asked(path, w.miniToken(), object{"code": code}); got.number("errcode") != 40029 {
			t.Errorf("%s: %v", name, got)
		}
	}
	fresh := w.control("/sim/phone", object{"user": "alice"}).text("code")
	if got := w.session(loginQuery(fresh)); got.number("errcode") != 40029 {
		t.Errorf("a phone code logs in: %v", got)
	}
	if got := w.asked(path, w.mpToken(), object{"code": fresh}); got.number("errcode") != 48001 {
		t.Errorf("token of the official account: %v", got)
	}
	if got := w.asked(path, "", object{"code": fresh}); got.number("errcode") != 41001 {
		t.Errorf("no token: %v", got)
	}
}

func TestCode(t *testing.T) {
	const path = "/wxa/getwxacodeunlimit"
	w := newWorld(t, func(o *Options) { o.Pages = []string{"pages/room/room"} })
	token := w.miniToken()
	draw := func(body object) (string, []byte) {
		resp := w.api(path, token, body)
		var b bytes.Buffer
		b.ReadFrom(resp.Body)
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
		return resp.Header.Get("Content-Type"), b.Bytes()
	}
	for width, body := range map[int]object{430: {"scene": "r=7~!#$&'()*+,/:;=?@-._"}, 600: {"scene": "a", "width": 600, "page": "pages/room/room", "env_version": "trial"}} {
		kind, picture := draw(body)
		image, err := png.Decode(bytes.NewReader(picture))
		if err != nil || kind != "image/png" || image.Bounds().Dx() != width {
			t.Errorf("%v: %s %v", body, kind, err)
		}
	}
	if kind, _ := draw(object{"scene": "a", "page": "pages/new/new", "check_path": false}); kind != "image/png" {
		t.Errorf("unchecked page: %s", kind)
	}
	for name, c := range map[string]struct {
		body object
		code int
	}{
		"no scene":        {object{}, 40169},
		"long scene":      {object{"scene": strings.Repeat("a", 33)}, 40169},
		"percent":         {object{"scene": "a%20"}, 40129},
		"blank":           {object{"scene": "a b"}, 40129},
		"Chinese":         {object{"scene": "房间"}, 40129},
		"number":          {object{"scene": 7}, 47001},
		"page with slash": {object{"scene": "a", "page": "/pages/room/room"}, 41030},
		"page with query": {object{"scene": "a", "page": "pages/room/room?a=1"}, 41030},
		"unknown page":    {object{"scene": "a", "page": "pages/none"}, 41030},
		"narrow":          {object{"scene": "a", "width": 279}, 40097},
		"wide":            {object{"scene": "a", "width": 1281}, 40097},
		"version":         {object{"scene": "a", "env_version": "beta"}, 40097},
	} {
		kind, body := draw(c.body)
		if got := parse(t, body); got.number("errcode") != c.code || !strings.HasPrefix(kind, "application/json") {
			t.Errorf("%s: %s %v", name, kind, got)
		}
	}
	if got := w.asked(path, w.mpToken(), object{"scene": "a"}); got.number("errcode") != 48001 {
		t.Errorf("token of the official account: %v", got)
	}
	w.control("/sim/fault", object{"path": path, "errcode": 45009})
	if kind, body := draw(object{"scene": "a"}); parse(t, body).number("errcode") != 45009 || !strings.HasPrefix(kind, "application/json") {
		t.Errorf("fault: %s %s", kind, body)
	}
}

func TestCheckText(t *testing.T) {
	const path = "/wxa/msg_sec_check"
	w := newWorld(t, nil)
	alice := w.openid("alice")
	ask := func(change ...any) object {
		return w.asked(path, w.miniToken(), with(object{"openid": alice, "scene": 2, "version": 2, "content": "你好"}, change...))
	}
	for content, want := range map[string]string{"你好 <b>": "pass", "这是违规内容": "risky", "Risky!": "risky", "买一送一广告": "review"} {
		got := ask("content", content)
		if result := object(got["result"].(map[string]any)); result.text("suggest") != want || got.number("errcode") != 0 || got.text("trace_id") == "" ||
			(result.number("label") == 100) != (want == "pass") {
			t.Errorf("%s: %v", content, got)
		}
	}
	if got := ask("nickname", "违规"); object(got["result"].(map[string]any)).text("suggest") != "risky" {
		t.Errorf("nickname: %v", got)
	}
	for name, c := range map[string]struct {
		change []any
		code   int
	}{
		"version 1":   {[]any{"version", 1}, 40129},
		"scene 5":     {[]any{"scene", 5}, 40129},
		"no scene":    {[]any{"scene", nil}, 47001},
		"empty":       {[]any{"content", ""}, 47001},
		"too long":    {[]any{"content", strings.Repeat("长", 2501)}, 45002},
		"no content":  {[]any{"content", nil}, 47001},
		"nobody":      {[]any{"openid", "o123"}, 40003},
		"not visited": {[]any{"openid", w.sim.openidOf("stranger")}, 61010},
		"other app":   {[]any{"openid", w.sim.mp.openidOf("alice")}, 40003},
	} {
		if got := ask(c.change...); got.number("errcode") != c.code {
			t.Errorf("%s: %v", name, got)
		}
	}
	if rec := w.request("POST", path+"?access_token="+w.miniToken(), `{"openid":"`+alice+`","scene":2,"version":2,"content":"\u4f60"}`); parse(t, rec.Body.Bytes()).number("errcode") != 47001 {
		t.Errorf("escaped: %s", rec.Body)
	}
	w.clock.move(seenFor + time.Second)
	if got := ask(); got.number("errcode") != 61010 {
		t.Errorf("two hours later: %v", got)
	}
	w.request("GET", "/sim/chat?user=alice", "")
	if got := ask(); got.number("errcode") != 0 {
		t.Errorf("back again: %v", got)
	}
}
