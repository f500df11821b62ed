package sim

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

const mpAddress = "http://127.0.0.1:8080/wechat/mp"

func withMP(mode string) func(*Options) {
	return func(o *Options) { o.MPURL, o.MPMode = mpAddress, mode }
}

func (w *world) tokenOf(appID, secret string) string {
	w.t.Helper()
	rec := w.request("POST", "/cgi-bin/stable_token", string(toJSON(object{"grant_type": "client_credential", "appid": appID, "secret": secret})))
	return parse(w.t, rec.Body.Bytes()).text("access_token")
}

func (w *world) miniToken() string {
	c := credentials()
	return w.tokenOf(c.AppID, c.Secret)
}

func (w *world) mpToken() string {
	c := credentials()
	return w.tokenOf(c.MPAppID, c.MPSecret)
}

// openedMP is what the hub reads in a push of the official account.
func (w *world) openedMP(mode string) map[string]string {
	w.t.Helper()
	r, body := w.hub.last()
	c, q := credentials(), r.URL.Query()
	f, err := flattenXML([]byte(body))
	if err != nil || r.URL.Path != "/wechat/mp" || r.Header.Get("Content-Type") != "text/xml" {
		w.t.Fatalf("%v %s %q", err, r.URL, body)
	}
	if q.Get("signature") != pushSignature(c.MPToken, q.Get("timestamp"), q.Get("nonce")) {
		w.t.Error("signature")
	}
	if mode == modePlain {
		return f
	}
	if q.Get("msg_signature") != pushSignature(c.MPToken, q.Get("timestamp"), q.Get("nonce"), f["Encrypt"]) {
		w.t.Error("msg_signature")
	}
	plain, err := w.sim.mp.box.open(f["Encrypt"])
	if err != nil {
		w.t.Fatal(err)
	}
	if f, err = flattenXML(plain); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func TestOfficialAccount_events(t *testing.T) {
	for _, mode := range []string{modePlain, modeCompatible, modeSafe} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, withMP(mode))
			openid := w.control("/sim/login", object{"user": "alice"}).text("mpOpenid")
			for _, c := range []struct {
				trigger object
				want    map[string]string
			}{
				{object{"event": "follow"}, map[string]string{"Event": "subscribe", "EventKey": ""}},
				{object{"event": "click", "key": "NEWS"}, map[string]string{"Event": "CLICK", "EventKey": "NEWS"}},
				{object{"event": "view", "key": "https://example.com/?a=1&b=2"}, map[string]string{"Event": "VIEW", "EventKey": "https://example.com/?a=1&b=2"}},
				{object{"event": "scan", "key": "table7"}, map[string]string{"Event": "SCAN", "EventKey": "table7"}},
				{object{"event": "location", "latitude": 23.1375, "longitude": 113.3583}, map[string]string{"Event": "LOCATION", "Latitude": "23.137500", "Longitude": "113.358300", "Precision": "65.000000"}},
				{object{"event": "unfollow"}, map[string]string{"Event": "unsubscribe", "EventKey": ""}},
				{object{"event": "follow", "scene": "shop3"}, map[string]string{"Event": "subscribe", "EventKey": "qrscene_shop3"}},
				{object{"event": "unfollow"}, map[string]string{"Event": "unsubscribe"}},
				{object{"event": "scan", "key": "123"}, map[string]string{"Event": "subscribe", "EventKey": "qrscene_123"}},
			} {
				got := w.control("/sim/trigger", with(c.trigger, "user", "alice"))
				f := w.openedMP(mode)
				for name, value := range c.want {
					if f[name] != value {
						t.Errorf("%v: %s = %q", c.trigger, name, f[name])
					}
				}
				if f["ToUserName"] != credentials().MPOriginalID || f["FromUserName"] != openid || f["MsgType"] != "event" || f["MsgId"] != "" ||
					f["CreateTime"] != fmt.Sprint(w.clock.Now().Unix()) || len(got["answers"].([]any)) != 1 {
					t.Errorf("%v: %v", c.trigger, f)
				}
				if byCode := strings.HasPrefix(f["EventKey"], "qrscene_") || f["Event"] == "SCAN"; byCode != (f["Ticket"] != "") {
					t.Errorf("%v: ticket %q", c.trigger, f["Ticket"])
				}
			}
			got := w.control("/sim/trigger", object{"event": "mptext", "user": "alice", "content": "@小满 很好"})
			if f := w.openedMP(mode); f["Content"] != "@小满 很好" || f["MsgType"] != "text" || f["MsgId"] != got.text("msgId") {
				t.Errorf("text: %v", f)
			}
		})
	}
}

func TestOfficialAccount_refusals(t *testing.T) {
	w := newWorld(t, withMP(""))
	for body, word := range map[string]string{
		`{"event":"click","user":"bob","key":"a"}`:                     "not_following",
		`{"event":"view","user":"bob","key":"a"}`:                      "not_following",
		`{"event":"mptext","user":"bob","content":"a"}`:                "not_following",
		`{"event":"follow"}`:                                           "bad_user",
		`{"event":"scan","user":"bob"}`:                                "bad_request",
		`{"event":"follow","user":"bob","forge":"serial"}`:             "bad_request",
		`{"event":"follow","user":"bob","mode":"x"}`:                   "bad_request",
		`{"event":"event","user":"bob"}`:                               "bad_request",
		`{"event":"event","user":"bob","name":"a","fields":[]}`:        "bad_request",
		`{"event":"event","user":"bob","name":"a b"}`:                  "bad_request",
		`{"event":"message","user":"bob","type":"voice"}`:              "bad_type",
		`{"event":"message","user":"bob","type":"image","picUrl":"x"}`: "bad_request",
	} {
		rec := w.request("POST", "/sim/trigger", body)
		if got := parse(t, rec.Body.Bytes()); got.text("error") != word {
			t.Errorf("%s: %d %v", body, rec.Code, got)
		}
	}
	none := newWorld(t, func(o *Options) { o.MPAppID = "" })
	if rec := none.request("POST", "/sim/trigger", `{"event":"follow","user":"a"}`); rec.Code != 409 {
		t.Errorf("no account: %d", rec.Code)
	}
	if got := none.control("/sim/login", object{"user": "alice"}); got.text("unionid") != "" {
		t.Errorf("a unionid without a second app: %v", got)
	}
	if rec := none.request("GET", "/cgi-bin/user/info?openid=o&access_token="+none.miniToken(), ""); parse(t, rec.Body.Bytes()).number("errcode") != 48001 {
		t.Errorf("user/info: %s", rec.Body)
	}
	silent := newWorld(t, nil)
	if rec := silent.request("POST", "/sim/trigger", `{"event":"follow","user":"a"}`); rec.Code != 409 {
		t.Errorf("no address: %d", rec.Code)
	}
}

func TestOfficialAccount_replies(t *testing.T) {
	sealed := func(w *world, plain string) string {
		text, ts, nonce := w.sim.mp.box.seal(random(lowerHex, 16), []byte(plain)), w.clock.Now().Unix(), "123456789"
		return fmt.Sprintf("<xml><Encrypt>%s</Encrypt><MsgSignature>%s</MsgSignature><TimeStamp>%d</TimeStamp><Nonce>%s</Nonce></xml>",
			cdata(text), cdata(pushSignature(credentials().MPToken, fmt.Sprint(ts), nonce, text)), ts, cdata(nonce))
	}
	reply := func(w *world, kind, inner string) string {
		return fmt.Sprintf("<xml><ToUserName>%s</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime><MsgType>%s</MsgType>%s</xml>",
			cdata(w.control("/sim/login", object{"user": "alice"}).text("mpOpenid")), cdata(credentials().MPOriginalID), w.clock.Now().Unix(), cdata(kind), inner)
	}
	for name, c := range map[string]struct {
		mode  string
		body  func(w *world) string
		check func(a object) bool
		shown string
	}{
		"success":     {modeSafe, func(w *world) string { return "success" }, func(a object) bool { return a["reply"] == nil && a.text("error") == "" }, ""},
		"sealed text": {modeSafe, func(w *world) string { return sealed(w, reply(w, "text", "<Content>欢迎 😀</Content>")) }, func(a object) bool { return a.text("opened") != "" }, "欢迎 😀"},
		"plain text":  {modePlain, func(w *world) string { return reply(w, "text", "<Content>欢迎</Content>") }, func(a object) bool { return a.text("opened") == "" }, "欢迎"},
		"picture":     {modePlain, func(w *world) string { return reply(w, "image", "<Image><MediaId>m1</MediaId></Image>") }, func(a object) bool { return object(a["reply"].(map[string]any)).text("mediaId") == "m1" }, "[image]"},
		"transfer": {modePlain, func(w *world) string {
			return reply(w, replyTransfer, "<TransInfo><KfAccount>k1@shop</KfAccount></TransInfo>")
		}, func(a object) bool { return object(a["reply"].(map[string]any)).text("agent") == "k1@shop" }, "已为你转接人工客服"},
		"news": {modePlain, func(w *world) string {
			return reply(w, "news", "<ArticleCount>1</ArticleCount><Articles><item><Title>上新</Title><Description>杯子</Description><Url>https://example.com/1</Url></item></Articles>")
		}, func(a object) bool { return len(object(a["reply"].(map[string]any))["articles"].([]any)) == 1 }, "杯子"},
		"JSON": {modePlain, func(w *world) string { return `{"MsgType":"text"}` }, func(a object) bool { return a.text("error") != "" }, ""},
		"the other gh_": {modePlain, func(w *world) string {
			return strings.Replace(reply(w, "text", "<Content>x</Content>"), credentials().MPOriginalID, credentials().OriginalID, 1)
		}, func(a object) bool { return a.text("error") != "" }, ""},
		"unsealed":      {modeSafe, func(w *world) string { return reply(w, "text", "<Content>x</Content>") }, func(a object) bool { return a.text("error") != "" }, ""},
		"the other key": {modeSafe, func(w *world) string { return w.sealedReply(formatXML, reply(w, "text", "<Content>x</Content>")) }, func(a object) bool { return a.text("error") != "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withMP(c.mode))
			w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
			w.hub.reply(200, c.body(w))
			got := w.control("/sim/trigger", object{"event": "mptext", "user": "alice", "content": "你好"})
			if a := object(got["answers"].([]any)[0].(map[string]any)); !c.check(a) {
				t.Errorf("%v", a)
			}
			lines := parse(t, w.request("GET", "/sim/chat?user=alice&account=mp", "").Body.Bytes())["messages"].([]any)
			last := object(lines[len(lines)-1].(map[string]any))
			if c.shown == "" && len(lines) != 1 || c.shown != "" && last.text("content") != c.shown {
				t.Errorf("chat %v", lines)
			}
			if mini := w.chatOf("alice"); len(mini) != 0 {
				t.Errorf("in the mini-program: %v", mini)
			}
		})
	}
	w := newWorld(t, withMP(modePlain))
	w.hub.reply(200, reply(w, replyTransfer, ""))
	got := w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
	if a := object(got["answers"].([]any)[0].(map[string]any)); a.text("error") == "" {
		t.Errorf("an event was handed to an agent: %v", a)
	}
}

func TestOfficialAccount_forged(t *testing.T) {
	w := newWorld(t, withMP(modeSafe))
	for _, forge := range []string{"signature", "body"} {
		w.control("/sim/trigger", object{"event": "follow", "user": "alice", "forge": forge})
		r, body := w.hub.last()
		f, err := flattenXML([]byte(body))
		q := r.URL.Query()
		if err != nil || q.Get("msg_signature") == pushSignature(credentials().MPToken, q.Get("timestamp"), q.Get("nonce"), f["Encrypt"]) {
			t.Errorf("%s: %v %v", forge, err, q)
		}
	}
	w.control("/sim/trigger", object{"event": "mptext", "user": "alice", "content": "x", "forge": "signature"})
	if u := object(w.state()["users"].([]any)[0].(map[string]any)); u["follows"] != false {
		t.Errorf("a forged event changed what WeChat knows: %v", u)
	}
	first := w.control("/sim/trigger", object{"event": "follow", "user": "alice", "times": 3})
	w.clock.move(time.Hour)
	again := w.control("/sim/trigger", object{"event": "follow", "user": "alice", "createTime": first["createTime"]})
	if f := w.openedMP(modeSafe); again["createTime"] != first["createTime"] || f["CreateTime"] != fmt.Sprint(int64(first["createTime"].(float64))) {
		t.Errorf("repeat: %v %v", again, f)
	}
}

func TestFollowerInfo(t *testing.T) {
	w := newWorld(t, withMP(""))
	login := w.control("/sim/login", object{"user": "alice"})
	ask := func(openid, token string) object {
		return parse(t, w.request("GET", "/cgi-bin/user/info?lang=zh_CN&openid="+openid+"&access_token="+token, "").Body.Bytes())
	}
	if got := ask(login.text("mpOpenid"), w.mpToken()); got.number("subscribe") != 0 || got["subscribe_time"] != nil || got.text("unionid") != login.text("unionid") {
		t.Errorf("before: %v", got)
	}
	w.control("/sim/trigger", object{"event": "follow", "user": "alice", "scene": "17"})
	if got := ask(login.text("mpOpenid"), w.mpToken()); got.number("subscribe") != 1 || got.text("unionid") != login.text("unionid") ||
		int64(got["subscribe_time"].(float64)) != w.clock.Now().Unix() || got.text("subscribe_scene") != "ADD_SCENE_QR_CODE" || got.number("qr_scene") != 17 || got.text("nickname") != "" {
		t.Errorf("following: %v", got)
	}
	w.control("/sim/trigger", object{"event": "unfollow", "user": "alice"})
	if got := ask(login.text("mpOpenid"), w.mpToken()); got.number("subscribe") != 0 {
		t.Errorf("after: %v", got)
	}
	if got := ask(w.sim.mp.openidOf("stranger"), w.mpToken()); got.number("subscribe") != 0 || got.number("errcode") != 0 {
		t.Errorf("a stranger: %v", got)
	}
	for openid, want := range map[string]int{login.text("openid"): 40003, "": 40003} {
		if got := ask(openid, w.mpToken()); got.number("errcode") != want {
			t.Errorf("%q: %v", openid, got)
		}
	}
	if got := ask(login.text("mpOpenid"), w.miniToken()); got.number("errcode") != 48001 {
		t.Errorf("token of the mini-program: %v", got)
	}
	session := w.session(loginQuery(login.text("code")))
	if session.text("unionid") != login.text("unionid") || session.text("unionid") == "" {
		t.Errorf("session %v", session)
	}
	full := parse(t, openUserData(t, session.text("session_key"), login.text("iv"), login.text("encryptedData")))
	if full.text("unionId") != login.text("unionid") {
		t.Errorf("encryptedData %v", full)
	}
}

func TestTokens_perApp(t *testing.T) {
	w := newWorld(t, withMP(""))
	c := credentials()
	classic := func(appID, secret string) object {
		q := url.Values{"grant_type": {"client_credential"}, "appid": {appID}, "secret": {secret}}
		return parse(t, w.request("GET", "/cgi-bin/token?"+q.Encode(), "").Body.Bytes())
	}
	judge := func(token string) (*account, int) {
		a, e := w.sim.checkToken(token)
		if e != nil {
			return nil, e.Code
		}
		return a, 0
	}
	stable := w.mpToken()
	first := classic(c.MPAppID, c.MPSecret).text("access_token")
	mini := classic(c.AppID, c.Secret).text("access_token")
	w.clock.move(time.Minute)
	second := classic(c.MPAppID, c.MPSecret).text("access_token")
	for token, want := range map[string]*account{stable: w.sim.mp, first: w.sim.mp, second: w.sim.mp, mini: w.sim.mini, w.miniToken(): w.sim.mini} {
		if got, code := judge(token); got != want || first == second {
			t.Errorf("%v, %d", got, code)
		}
	}
	w.clock.move(tokenOverlap)
	if _, code := judge(first); code != 42001 {
		t.Errorf("overtaken token: %d", code)
	}
	if got, _ := judge(mini); got != w.sim.mini {
		t.Error("the other app's token died")
	}
	if got := classic(c.MPAppID, c.Secret); got.number("errcode") != 40125 {
		t.Errorf("secret of the other app: %v", got)
	}
	q := loginQuery("x")
	q.Set("appid", c.MPAppID)
	q.Set("secret", c.MPSecret)
	if got := w.session(q); got.number("errcode") != 48001 {
		t.Errorf("code2session of the official account: %v", got)
	}
	// A custom message of the official account needs a follower who did something.
	login := w.control("/sim/login", object{"user": "alice"})
	for i, want := range []int{43004, 45015, 0, 0, 0, 45047} {
		if i == 1 {
			w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
			w.clock.move(2 * briefWindow)
		}
		if i == 2 {
			w.control("/sim/trigger", object{"event": "click", "user": "alice", "key": "K"})
		}
		if got := w.send(w.mpToken(), textTo(login.text("mpOpenid"), "在")); got.number("errcode") != want {
			t.Errorf("send %d: %v", i, got)
		}
	}
	if got := w.send(w.mpToken(), textTo(login.text("openid"), "在")); got.number("errcode") != 40003 {
		t.Errorf("openid of the mini-program: %v", got)
	}
}

func TestCredentials_complete(t *testing.T) {
	old := credentials()
	old.V2Key, old.V2SignType, old.MPAppID, old.MPSecret, old.MPOriginalID, old.MPToken, old.MPAESKey, old.MerchantCertPEM = "", "", "", "", "", "", "", ""
	if s, err := New(Options{Credentials: old}); err != nil {
		t.Errorf("credentials of an earlier form: %v", err)
	} else {
		s.Close()
	}
	c := old
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(c.MerchantCertPEM), []byte(c.MerchantKeyPEM))
	if err != nil || !strings.EqualFold(fmt.Sprintf("%X", pair.Leaf.SerialNumber), c.CertSerial) {
		t.Errorf("certificate: %v", err)
	}
	key, err := base64.StdEncoding.DecodeString(c.MPAESKey + "=")
	if len(c.V2Key) != 32 || c.V2SignType == "" || !strings.HasPrefix(c.MPAppID, "wx") || c.MPAppID == c.AppID || err != nil || len(key) != 32 ||
		c.MPSecret == "" || c.MPToken == "" || !strings.HasPrefix(c.MPOriginalID, "gh_") || c.AppID != old.AppID || c.MerchantKeyPEM != old.MerchantKeyPEM {
		t.Errorf("%#v", c)
	}
	again := c
	if err := again.Complete(); err != nil || again != c {
		t.Error("completing twice changes what is there")
	}
}
