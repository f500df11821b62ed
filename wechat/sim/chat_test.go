package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func (w *world) send(token, body string) object {
	w.t.Helper()
	return parse(w.t, w.request("POST", "/cgi-bin/message/custom/send?access_token="+token, body).Body.Bytes())
}

func textTo(openid, content string) string {
	return string(toJSON(object{"touser": openid, "msgtype": "text", "text": object{"content": content}}))
}

func (w *world) chatOf(user string) []any {
	w.t.Helper()
	rec := w.request("GET", "/sim/chat?user="+user, "")
	lines, _ := parse(w.t, rec.Body.Bytes())["messages"].([]any)
	return lines
}

func TestCustomSend_quota(t *testing.T) {
	w := newWorld(t, nil)
	alice, token := w.openid("alice"), w.token(false).text("access_token")
	if got := w.send(token, textTo(alice, "hi")); got.number("errcode") != 45015 {
		t.Errorf("before the user spoke: %v", got)
	}
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	for i := range replyQuota {
		if got := w.send(token, textTo(alice, fmt.Sprint("你好 <b>", i))); got.number("errcode") != 0 || got.text("errmsg") != "ok" {
			t.Fatalf("message %d: %v", i, got)
		}
	}
	if got := w.send(token, textTo(alice, "hi")); got.number("errcode") != 45047 {
		t.Errorf("sixth: %v", got)
	}
	w.control("/sim/message", object{"user": "alice", "content": "?"})
	if got := w.send(token, textTo(alice, "again")); got.number("errcode") != 0 {
		t.Errorf("after the user spoke again: %v", got)
	}
	w.clock.move(replyWindow)
	if got := w.send(w.token(false).text("access_token"), textTo(alice, "late")); got.number("errcode") != 45015 {
		t.Errorf("after 48 h: %v", got)
	}
	lines := w.chatOf("alice")
	if len(lines) != 8 {
		t.Fatalf("chat %v", lines)
	}
	second := object(lines[1].(map[string]any))
	if second.text("from") != "shop" || second.text("content") != "你好 <b>0" || second.number("seq") != 2 {
		t.Errorf("second line %v", second)
	}
	if sent := w.state()["messages"].([]any); len(sent) != 6 {
		t.Errorf("state has %d messages", len(sent))
	}
}

func TestCustomSend_bodies(t *testing.T) {
	w := newWorld(t, nil)
	alice, token := w.openid("alice"), w.token(false).text("access_token")
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	escaped := `{"touser":"` + alice + `","msgtype":"text","text":{"content":"%s"}}`
	link := object{"touser": alice, "msgtype": "link", "link": object{"title": "到店", "description": "看看", "url": "https://example.com/a", "thumb_url": "https://example.com/a.png"}}
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"not JSON":          {"touser=" + alice, 47001},
		"empty body":        {"", 47001},
		"GBK":               {strings.Replace(textTo(alice, "x"), "x", "\xc4\xe3", 1), 47001},
		"escaped CJK":       {fmt.Sprintf(escaped, `\u4f60\u597d`), 47001},
		"escaped <":         {fmt.Sprintf(escaped, `\u003cb\u003e`), 47001},
		"escaped emoji":     {fmt.Sprintf(escaped, `\ud83d\ude00`), 47001},
		"escaped backslash": {fmt.Sprintf(escaped, `\\u4f60`), 0},
		"control character": {fmt.Sprintf(escaped, `a\u0009b\u2028`), 0},
		"no type":           {string(toJSON(object{"touser": alice})), 40008},
		"unknown type":      {string(toJSON(object{"touser": alice, "msgtype": "dance"})), 40008},
		"number":            {string(toJSON(object{"touser": alice, "msgtype": "text", "text": object{"content": 5}})), 47001},
		"no text":           {string(toJSON(object{"touser": alice, "msgtype": "text"})), 44004},
		"empty text":        {textTo(alice, ""), 44004},
		"long text":         {textTo(alice, strings.Repeat("长", 683)), 45002},
		"longest text":      {textTo(alice, strings.Repeat("长", 682)), 0},
		"no openid":         {textTo("", "hi"), 40003},
		"unknown openid":    {textTo("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "hi"), 40003},
		"link":              {string(toJSON(link)), 0},
		"link without url":  {string(toJSON(with(link, "link", object{"title": "a", "description": "b", "thumb_url": "c"}))), 40097},
		"image":             {string(toJSON(object{"touser": alice, "msgtype": "image", "image": object{"media_id": "m"}})), 40007},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.send(token, c.body); got.number("errcode") != c.want {
				t.Errorf("%v, want %d", got, c.want)
			}
		})
	}
	if got := w.send("", textTo(alice, "hi")); got.number("errcode") != 41001 {
		t.Errorf("no token: %v", got)
	}
	if got := parse(t, w.request("GET", "/cgi-bin/message/custom/send?access_token="+token, "").Body.Bytes()); got.number("errcode") != 43002 {
		t.Errorf("GET: %v", got)
	}
}

func TestChat_longPoll(t *testing.T) {
	w := newWorld(t, nil)
	alice, token := w.openid("alice"), w.token(false).text("access_token")
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	got := make(chan object)
	go func() {
		got <- parse(t, w.request("GET", "/sim/chat?user=alice&after=1&wait=60", "").Body.Bytes())
	}()
	time.Sleep(5 * time.Millisecond)
	w.send(token, textTo(alice, "在"))
	answer := <-got
	lines := answer["messages"].([]any)
	if len(lines) != 1 || answer.number("next") != 2 || object(lines[0].(map[string]any)).text("content") != "在" {
		t.Errorf("%v", answer)
	}
	for _, query := range []string{"", "user=alice&after=-1", "user=alice&after=x", "user=alice&wait=61"} {
		if rec := w.request("GET", "/sim/chat?"+query, ""); rec.Code != 400 {
			t.Errorf("%q: %d", query, rec.Code)
		}
	}
}
