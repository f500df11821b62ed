package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// opened checks the signatures of a push and returns its fields, as a hub would.
func (w *world) opened(r *http.Request, body, mode, format string) map[string]string {
	w.t.Helper()
	c, q := credentials(), r.URL.Query()
	ts, nonce := q.Get("timestamp"), q.Get("nonce")
	if pushSignature(c.PushToken, ts, nonce) != q.Get("signature") || q.Get("openid") == "" {
		w.t.Errorf("query %v", q)
	}
	if (q.Get("encrypt_type") == "aes") != (mode != modePlain) {
		w.t.Errorf("encrypt_type %q in %s", q.Get("encrypt_type"), mode)
	}
	read := func(b []byte) map[string]string {
		f, err := flatten(b, format)
		if format == formatJSON {
			f = map[string]string{}
			var raw map[string]any
			dec := json.NewDecoder(strings.NewReader(string(b)))
			dec.UseNumber()
			err = dec.Decode(&raw)
			for k := range raw {
				f[k] = at(raw, k)
			}
		}
		if err != nil {
			w.t.Fatalf("push %q: %v", b, err)
		}
		return f
	}
	f := read([]byte(body))
	if mode == modePlain {
		return f
	}
	if (f["MsgType"] != "") != (mode == modeCompatible) {
		w.t.Errorf("%s body %v", mode, f)
	}
	if pushSignature(c.PushToken, ts, nonce, f["Encrypt"]) != q.Get("msg_signature") {
		w.t.Error("msg_signature")
	}
	plain, err := w.sim.mini.box.open(f["Encrypt"])
	if err != nil {
		w.t.Fatal(err)
	}
	return read(plain)
}

func TestPush_modesAndFormats(t *testing.T) {
	for _, mode := range []string{modePlain, modeCompatible, modeSafe} {
		for _, format := range []string{formatJSON, formatXML} {
			t.Run(mode+" "+format, func(t *testing.T) {
				w := newWorld(t, func(o *Options) {
					o.PushMode, o.PushFormat, o.PushURL = mode, format, "http://127.0.0.1:8080/push?app=1"
				})
				content := "在吗 <b>&]]>\"\n😀"
				got := w.control("/sim/message", object{"user": "alice", "content": content})
				if got["ok"] != true || got.number("status") != 200 || got.text("answer") != "success" || got.text("shown") != "" {
					t.Fatalf("%v", got)
				}
				r, body := w.hub.last()
				if want := map[string]string{formatJSON: "application/json", formatXML: "text/xml"}[format]; r.Header.Get("Content-Type") != want || r.URL.Query().Get("app") != "1" {
					t.Errorf("%s %v", r.URL, r.Header)
				}
				f := w.opened(r, body, mode, format)
				id, err := strconv.ParseInt(f["MsgId"], 10, 64)
				if f["Content"] != content || f["MsgType"] != "text" || f["ToUserName"] != credentials().OriginalID || f["FromUserName"] != w.openid("alice") ||
					f["CreateTime"] != fmt.Sprint(w.clock.Now().Unix()) || err != nil || id < 1<<53 {
					t.Errorf("%v", f)
				}
			})
		}
	}
}

func (w *world) passive(format, kind, content string) string {
	if format == formatXML {
		return fmt.Sprintf("<xml><ToUserName>%s</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime><MsgType>%s</MsgType><Content>%s</Content></xml>",
			cdata(w.openid("alice")), cdata(credentials().OriginalID), w.clock.Now().Unix(), cdata(kind), cdata(content))
	}
	return string(toJSON(object{"ToUserName": w.openid("alice"), "FromUserName": credentials().OriginalID, "CreateTime": w.clock.Now().Unix(), "MsgType": kind, "Content": content}))
}

func (w *world) sealedReply(format, plain string) string {
	sealed, ts, nonce := w.sim.mini.box.seal(random(lowerHex, 16), []byte(plain)), w.clock.Now().Unix(), "123456789"
	sig := pushSignature(credentials().PushToken, fmt.Sprint(ts), nonce, sealed)
	if format == formatXML {
		return fmt.Sprintf("<xml><Encrypt>%s</Encrypt><MsgSignature>%s</MsgSignature><TimeStamp>%d</TimeStamp><Nonce>%s</Nonce></xml>", cdata(sealed), cdata(sig), ts, cdata(nonce))
	}
	return string(toJSON(object{"Encrypt": sealed, "MsgSignature": sig, "TimeStamp": ts, "Nonce": nonce}))
}

func TestPush_replies(t *testing.T) {
	const refused = "!"
	for name, c := range map[string]struct {
		mode, format string
		reply        func(w *world) string
		shown        string // the last line of the chat; "" = only the user's own, refused = the notice
	}{
		"success":            {modeSafe, formatJSON, func(*world) string { return "success" }, ""},
		"empty":              {modeSafe, formatXML, func(*world) string { return "" }, ""},
		"plain XML text":     {modePlain, formatXML, func(w *world) string { return w.passive(formatXML, "text", "你好 ]]>") }, "你好 ]]>"},
		"plain JSON text":    {modePlain, formatJSON, func(w *world) string { return w.passive(formatJSON, "text", "你好") }, "你好"},
		"sealed XML text":    {modeSafe, formatXML, func(w *world) string { return w.sealedReply(formatXML, w.passive(formatXML, "text", "你好")) }, "你好"},
		"sealed JSON text":   {modeSafe, formatJSON, func(w *world) string { return w.sealedReply(formatJSON, w.passive(formatJSON, "text", "你好")) }, "你好"},
		"compatible, sealed": {modeCompatible, formatJSON, func(w *world) string { return w.sealedReply(formatJSON, w.passive(formatJSON, "text", "你好")) }, "你好"},
		"compatible, plain":  {modeCompatible, formatXML, func(w *world) string { return w.passive(formatXML, "text", "你好") }, "你好"},
		"transfer":           {modePlain, formatJSON, func(w *world) string { return w.passive(formatXML, "transfer_customer_service", "") }, "已为你转接人工客服"},
		"picture": {modePlain, formatXML, func(w *world) string {
			return strings.Replace(w.passive(formatXML, "image", ""), "</xml>", "<Image><MediaId>m1</MediaId></Image></xml>", 1)
		}, "[image]"},
		"picture in JSON": {modePlain, formatJSON, func(w *world) string {
			return strings.Replace(w.passive(formatJSON, "image", ""), "}", `,"Image":{"MediaId":"m1"}}`, 1)
		}, "[image]"},
		"news": {modePlain, formatXML, func(w *world) string {
			return strings.Replace(w.passive(formatXML, "news", ""), "</xml>", "<ArticleCount>2</ArticleCount><Articles><item><Title>上新</Title><Description>今天</Description></item><item><Title>b</Title></item></Articles></xml>", 1)
		}, "今天"},
		"picture without id": {modePlain, formatXML, func(w *world) string { return w.passive(formatXML, "image", "") }, refused},
		"wrong ArticleCount": {modePlain, formatJSON, func(w *world) string {
			return strings.Replace(w.passive(formatJSON, "news", ""), "}", `,"ArticleCount":2,"Articles":[{"Title":"a"}]}`, 1)
		}, refused},
		"twice the same": {modePlain, formatXML, func(w *world) string {
			return strings.Replace(w.passive(formatXML, "text", "x"), "</xml>", "<Content>y</Content></xml>", 1)
		}, refused},
		"nonsense":         {modePlain, formatJSON, func(*world) string { return "ok" }, refused},
		"error envelope":   {modePlain, formatJSON, func(*world) string { return `{"code":1}` }, refused},
		"JSON for XML":     {modePlain, formatXML, func(w *world) string { return w.passive(formatJSON, "text", "x") }, refused},
		"unsealed in safe": {modeSafe, formatJSON, func(w *world) string { return w.passive(formatJSON, "text", "x") }, refused},
		"sealed in plain":  {modePlain, formatJSON, func(w *world) string { return w.sealedReply(formatJSON, w.passive(formatJSON, "text", "x")) }, refused},
		"sealed success":   {modeSafe, formatJSON, func(w *world) string { return w.sealedReply(formatJSON, "success") }, refused},
		"MsgSignature": {modeSafe, formatXML, func(w *world) string {
			return strings.Replace(w.sealedReply(formatXML, w.passive(formatXML, "text", "x")), "<TimeStamp>", "<TimeStamp>1", 1)
		}, refused},
		"TimeStamp as text": {modeSafe, formatJSON, func(w *world) string {
			return strings.Replace(w.sealedReply(formatJSON, w.passive(formatJSON, "text", "x")), `"TimeStamp":`, `"TimeStamp":"1","T":`, 1)
		}, refused},
		"to somebody else": {modePlain, formatXML, func(w *world) string {
			return strings.Replace(w.passive(formatXML, "text", "x"), w.openid("alice"), w.openid("bob"), 1)
		}, refused},
		"from nobody": {modePlain, formatXML, func(w *world) string { return strings.Replace(w.passive(formatXML, "text", "x"), "gh_", "gx_", 1) }, refused},
		"time in milliseconds": {modePlain, formatXML, func(w *world) string {
			return strings.Replace(w.passive(formatXML, "text", "x"), "</CreateTime>", "000</CreateTime>", 1)
		}, refused},
		"no text":      {modePlain, formatXML, func(w *world) string { return w.passive(formatXML, "text", "") }, refused},
		"unknown type": {modePlain, formatXML, func(w *world) string { return w.passive(formatXML, "dance", "x") }, refused},
		"DOCTYPE":      {modePlain, formatXML, func(w *world) string { return "<!DOCTYPE x>" + w.passive(formatXML, "text", "x") }, refused},
		"too large":    {modePlain, formatXML, func(w *world) string { return strings.Repeat(" ", maxAnswer+1) }, refused},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.PushMode, o.PushFormat = c.mode, c.format })
			w.hub.reply(200, c.reply(w))
			got := w.control("/sim/message", object{"user": "alice", "content": "在吗"})
			lines := w.chatOf("alice")
			last := object(lines[len(lines)-1].(map[string]any))
			switch {
			case c.shown == refused && (got["ok"] != false || got.text("shown") != noticeFailed || last.text("from") != "system" || last.text("content") != noticeFailed):
				t.Errorf("%v, chat %v", got, lines)
			case c.shown == "" && (got["ok"] != true || len(lines) != 1):
				t.Errorf("%v, chat %v", got, lines)
			case c.shown != refused && c.shown != "" && (got["ok"] != true || last.text("content") != c.shown):
				t.Errorf("%v, chat %v", got, lines)
			}
		})
	}
}

// Three tries of five seconds, then the user sees the notice; the same MsgId each time.
func TestPush_tries(t *testing.T) {
	credentials()
	for name, c := range map[string]struct {
		answers []int // 0: no answer
		ok      bool
		took    time.Duration
	}{
		"hangs":           {[]int{0, 0, 0}, false, 15 * time.Second},
		"hangs once":      {[]int{0, 200}, true, 5 * time.Second},
		"refuses":         {[]int{403, 403, 403}, false, 0},
		"comes back":      {[]int{500, 502, 200}, true, 0},
		"answers at once": {[]int{200}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *Options) { o.Now, o.PushMode = nil, modePlain })
				ids := map[string]bool{}
				w.hub.answer = func(r *http.Request, body string) (int, string) {
					ids[w.opened(r, body, modePlain, formatJSON)["MsgId"]] = true
					return c.answers[w.hub.count()-1], "success"
				}
				began := time.Now()
				got := w.control("/sim/message", object{"user": "alice", "content": "在吗"})
				if got["ok"] != c.ok || time.Since(began) != c.took || w.hub.count() != len(c.answers) || len(ids) != 1 {
					t.Errorf("%v after %s, %d tries, ids %v", got, time.Since(began), w.hub.count(), ids)
				}
				pushes := w.state()["pushes"].([]any)
				if last := object(pushes[len(pushes)-1].(map[string]any)); last.number("try") != len(c.answers) || (last.text("why") == "") != c.ok {
					t.Errorf("%v", last)
				}
			})
		})
	}
}

func TestTriggerMessage(t *testing.T) {
	w := newWorld(t, nil)
	got := w.control("/sim/trigger", object{"event": "message", "user": "alice", "content": "在吗", "format": "xml", "mode": "compatible", "times": 3, "parallel": true})
	if len(got["answers"].([]any)) != 3 || len(w.chatOf("alice")) != 1 {
		t.Fatalf("%v", got)
	}
	id := got.text("msgId")
	for i := range w.hub.requests {
		if f := w.opened(w.hub.requests[i], w.hub.bodies[i], modeCompatible, formatXML); f["MsgId"] != id {
			t.Errorf("copy %d: %v", i, f)
		}
	}
	w.control("/sim/trigger", object{"event": "message", "user": "alice", "content": "在吗", "msgId": id})
	if r, body := w.hub.last(); w.opened(r, body, modeSafe, formatJSON)["MsgId"] != id {
		t.Error("the id was not repeated")
	}
	w.control("/sim/trigger", object{"event": "message", "user": "alice", "content": "在吗", "skew": "-1h"})
	if r, _ := w.hub.last(); r.URL.Query().Get("timestamp") != fmt.Sprint(w.clock.Now().Add(-time.Hour).Unix()) {
		t.Errorf("skew: %s", r.URL)
	}
}

func TestTriggerMessage_forged(t *testing.T) {
	w := newWorld(t, nil)
	w.hub.reply(403, "no")
	token := credentials().PushToken
	for _, mode := range []string{modePlain, modeCompatible, modeSafe} {
		for _, format := range []string{formatJSON, formatXML} {
			w.control("/sim/trigger", object{"event": "message", "user": "alice", "content": "在吗", "mode": mode, "format": format, "forge": "signature"})
			r, _ := w.hub.last()
			q := r.URL.Query()
			if pushSignature(token, q.Get("timestamp"), q.Get("nonce")) == q.Get("signature") {
				t.Errorf("%s %s: signature is good", mode, format)
			}
			w.control("/sim/trigger", object{"event": "message", "user": "alice", "content": "在吗", "mode": mode, "format": format, "forge": "body"})
			r, body := w.hub.last()
			q = r.URL.Query()
			f, err := flatten([]byte(body), format)
			if err != nil {
				t.Fatal(err)
			}
			if mode == modePlain && f["FromUserName"] == w.openid("alice") {
				t.Error("plain body is unchanged")
			}
			if mode != modePlain && pushSignature(token, q.Get("timestamp"), q.Get("nonce"), f["Encrypt"]) == q.Get("msg_signature") {
				t.Errorf("%s %s: msg_signature covers the forged body", mode, format)
			}
		}
	}
	if lines := w.chatOf("alice"); len(lines) != 0 {
		t.Errorf("forged messages in the chat: %v", lines)
	}
}

func TestTriggerCheck(t *testing.T) {
	w := newWorld(t, nil)
	w.hub.answer = func(r *http.Request, _ string) (int, string) {
		q := r.URL.Query()
		if r.Method != "GET" || pushSignature(credentials().PushToken, q.Get("timestamp"), q.Get("nonce")) != q.Get("signature") {
			return 403, "forbidden"
		}
		return 200, q.Get("echostr")
	}
	if got := w.control("/sim/trigger", object{"event": "check"}); got.text("note") != "the address is accepted" {
		t.Errorf("%v", got)
	}
	if got := w.control("/sim/trigger", object{"event": "check", "forge": "signature"}); object(got["answers"].([]any)[0].(map[string]any)).number("status") != 403 {
		t.Errorf("forged: %v", got)
	}
}
