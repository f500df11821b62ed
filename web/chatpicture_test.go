package web

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"wxhub/wechat/sim"
)

func somePicture(t *testing.T, size int) (content []byte, text string) {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, size, size))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), base64.StdEncoding.EncodeToString(b.Bytes())
}

// A clerk answers with a picture: the customer's phone gets it, the inbox shows it, and WeChat takes the same one once.
func TestInbox_picture(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	staff := s.staff()
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "有实物图吗"}, nil)
	s.quiet()
	path := "/api/admin/conversations/" + s.inbox()[0].ID
	content, text := somePicture(t, 20)
	for range 2 {
		s.data(s.call("POST", path+"/reply", s.clerk(), map[string]any{"image": text}), nil)
	}
	var got struct {
		Messages []struct{ From, Type string }
	}
	s.eventually("two pictures on the phone", func() bool {
		s.play("GET", "/sim/chat?user=alice&after=0", nil, &got)
		n := 0
		for _, m := range got.Messages {
			if m.From == "shop" && m.Type == "image" {
				n++
			}
		}
		return n == 2
	})
	var c conversationView
	s.data(s.call("GET", path, s.clerk(), nil), &c)
	line := c.Messages[len(c.Messages)-1]
	if line.Type != "image" || line.From != "staff" || !strings.HasPrefix(line.PicURL, chatPictures) {
		t.Fatalf("%+v", line)
	}
	status, header, shown := s.send("GET", s.url+line.PicURL, "", nil)
	if status != 200 || !bytes.Equal(shown, content) || header.Get("Content-Type") != "image/png" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the picture: %d %v", status, header)
	}
	s.eventually("every clerk's screen", func() bool { return len(staff.of("kf.message")) == 3 })
	if !s.figure(`wxhub_wechat_calls_total{api="wechat",call="media/upload",code="ok"} 1`) {
		t.Error("the same picture was uploaded twice")
	}

	_, large := somePicture(t, 20)
	for name, bad := range map[string]struct {
		body   map[string]any
		status int
		word   string
	}{
		"no base64":      {map[string]any{"image": "not base64!"}, 400, "bad_request"},
		"no picture":     {map[string]any{"image": base64.StdEncoding.EncodeToString([]byte("<svg onload=alert(1)>"))}, 400, "bad_request"},
		"with text":      {map[string]any{"image": large, "text": "x"}, 400, "bad_request"},
		"a byte too big": {map[string]any{"image": base64.StdEncoding.EncodeToString(append(bytes.Clone(content), make([]byte, 1<<20+1-len(content))...))}, 413, "too_large"},
	} {
		a := s.call("POST", path+"/reply", s.clerk(), bad.body)
		if a.Status != bad.status || a.Error != bad.word {
			t.Errorf("%s: %d %s", name, a.Status, a.Error)
		}
	}
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/media/upload", "errcode": -1, "times": 5}, nil)
	_, other := somePicture(t, 21)
	s.refused(s.call("POST", path+"/reply", s.clerk(), map[string]any{"image": other}), 503, "wechat_busy")
}

func TestInbox_typing(t *testing.T) {
	s := newShop(t)
	s.login("alice")
	s.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "在吗"}, nil)
	s.quiet()
	path := "/api/admin/conversations/" + s.inbox()[0].ID + "/typing"
	for _, typing := range []bool{true, true, false} {
		s.data(s.call("POST", path, s.clerk(), map[string]any{"typing": typing}), nil)
	}
	if !s.figure(`wxhub_wechat_calls_total{api="wechat",call="custom/typing",code="ok"}`) {
		t.Error("WeChat was not told")
	}
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/message/custom/typing", "errcode": 45080, "times": 1}, nil)
	s.data(s.call("POST", path, s.clerk(), map[string]any{"typing": true}), nil) // the customer was silent for a while
	s.play("POST", "/sim/fault", map[string]any{"path": "/cgi-bin/message/custom/typing", "errcode": 48001, "times": 1}, nil)
	s.refused(s.call("POST", path, s.clerk(), map[string]any{"typing": true}), 500, "wechat_config")
	s.refused(s.call("POST", "/api/admin/conversations/nothing/typing", s.clerk(), map[string]any{"typing": true}), 404, "not_found")
	off := newShop(t, func(o *Options, _ *sim.Options) {})
	off.login("alice")
	off.play("POST", "/sim/message", map[string]any{"user": "alice", "content": "在吗"}, nil)
	off.quiet()
	off.server.o.WeChat = nil
	off.refused(off.call("POST", "/api/admin/conversations/"+off.inbox()[0].ID+"/typing", off.clerk(), map[string]any{"typing": true}), 503, "not_configured")
}
