package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// picture is the smallest picture that is one.
var picture = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89")

// get asks an API of api.weixin.qq.com with a token.
func (w *world) get(path, token string, query url.Values) object {
	w.t.Helper()
	if query == nil {
		query = url.Values{}
	}
	query.Set("access_token", token)
	return parse(w.t, w.request("GET", path+"?"+query.Encode(), "").Body.Bytes())
}

// upload sends a file as media/upload takes it.
func (w *world) upload(token, kind, field string, file []byte) object {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile(field, "a.png")
	if err != nil {
		w.t.Fatal(err)
	}
	part.Write(file)
	form.Close()
	r := httptest.NewRequest("POST", "/cgi-bin/media/upload?access_token="+token+"&type="+kind, &b)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return parse(w.t, w.do(r).Body.Bytes())
}

// want holds an answer to an errcode; 0 is success, with or without one.
func want(t *testing.T, what string, got object, code int) {
	t.Helper()
	if got.number("errcode") != code {
		t.Errorf("%s: %v, want %d", what, got, code)
	}
}

func TestSession_checkAndReset(t *testing.T) {
	w := newWorld(t, nil)
	login := w.control("/sim/login", object{"user": "alice"})
	key := w.session(loginQuery(login.text("code"))).text("session_key")
	openid, token := login.text("openid"), w.miniToken()
	ask := func(path string, change ...string) object {
		q := url.Values{"openid": {openid}, "signature": {sessionSignature(key)}, "sig_method": {"hmac_sha256"}}
		for i := 0; i < len(change); i += 2 {
			q.Set(change[i], change[i+1])
		}
		return w.get(path, token, q)
	}
	for _, path := range []string{"/wxa/checksession", "/wxa/resetusersessionkey"} {
		want(t, path+" no openid", ask(path, "openid", ""), 40097)
		want(t, path+" other openid", ask(path, "openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"), 40003)
		want(t, path+" bad method", ask(path, "sig_method", "md5"), 87008)
		want(t, path+" bad signature", ask(path, "signature", strings.Repeat("a", 64)), 87009)
		want(t, path+" never logged in", ask(path, "openid", w.sim.openidOf("nobody"), "signature", "x"), 87007)
	}
	want(t, "check", ask("/wxa/checksession"), 0)
	reset := ask("/wxa/resetusersessionkey")
	if want(t, "reset", reset, 0); reset.text("session_key") == key || reset.text("session_key") == "" || reset.text("openid") != openid {
		t.Errorf("reset: %v", reset)
	}
	want(t, "the old key", ask("/wxa/checksession"), 87009)
	key = reset.text("session_key")
	want(t, "the new key", ask("/wxa/checksession"), 0)
	for range sessionCallsAMinute {
		ask("/wxa/checksession")
	}
	want(t, "too often", ask("/wxa/checksession"), 45011)
}

func TestPaidUnionid(t *testing.T) {
	w := newWorld(t, withMP("safe"))
	w.paidV3("T0000001")
	id := w.queried("T0000001").text("transaction_id")
	openid, token := w.openid("alice"), w.miniToken()
	ask := func(pairs ...string) object {
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return w.get("/wxa/getpaidunionid", token, q)
	}
	if got := ask("openid", openid, "transaction_id", id); got.text("unionid") == "" || got.number("errcode") != 0 {
		t.Errorf("by transaction: %v", got)
	}
	want(t, "by order", ask("openid", openid, "mch_id", credentials().MchID, "out_trade_no", "T0000001"), 0)
	want(t, "no args", ask("openid", openid), 40097)
	want(t, "other merchant", ask("openid", openid, "mch_id", "1", "out_trade_no", "T0000001"), 89300)
	want(t, "unknown", ask("openid", openid, "transaction_id", "4200"), 89300)
	want(t, "somebody else", ask("openid", w.openid("bob"), "transaction_id", id), 89300)
	w.clock.move(paidUnionidLife + time.Second)
	want(t, "too late", ask("openid", openid, "transaction_id", id), 89300)
	bare := newWorld(t, func(o *Options) { o.MPAppID = "" })
	want(t, "not bound", bare.get("/wxa/getpaidunionid", bare.miniToken(), url.Values{"openid": {bare.openid("alice")}, "transaction_id": {"1"}}), 89002)
}

func TestSealedData(t *testing.T) {
	w := newWorld(t, nil)
	if rec := w.request("POST", "/sim/rundata", `{"user":"alice"}`); rec.Code != 409 {
		t.Errorf("before a login: %d", rec.Code)
	}
	login := w.control("/sim/login", object{"user": "alice"})
	key := w.session(loginQuery(login.text("code"))).text("session_key")
	open := func(path string, body object) object {
		sealed := w.control(path, body)
		return parse(t, openUserData(t, key, sealed.text("iv"), sealed.text("encryptedData")))
	}
	if phone := open("/sim/phone", object{"user": "alice", "phoneNumber": "13800000000"}); phone.text("purePhoneNumber") != "13800000000" {
		t.Errorf("phone: %v", phone)
	}
	if run := open("/sim/rundata", object{"user": "alice"}); len(run["stepInfoList"].([]any)) != 3 {
		t.Errorf("run data: %v", run)
	}
	if group := open("/sim/group", object{"user": "alice", "appid": "wx0", "age": "10m"}); group.text("openGId") == "" ||
		group["watermark"].(map[string]any)["appid"] != "wx0" || group["watermark"].(map[string]any)["timestamp"] != float64(w.clock.Now().Add(-10*time.Minute).Unix()) {
		t.Errorf("group: %v", group)
	}
}

func TestMedia(t *testing.T) {
	w := newWorld(t, withMP("safe"))
	mini, mp := w.miniToken(), w.mpToken()
	up := w.upload(mini, "image", "media", picture)
	id := up.text("media_id")
	if id == "" || up.text("type") != "image" || up.number("created_at") == 0 {
		t.Fatalf("upload: %v", up)
	}
	rec := w.request("GET", "/cgi-bin/media/get?access_token="+mini+"&media_id="+id, "")
	if !bytes.Equal(rec.Body.Bytes(), picture) || rec.Header().Get("Content-Type") != "image/png" {
		t.Errorf("get: %v %q", rec.Header(), rec.Body)
	}
	want(t, "no type", w.upload(mini, "", "media", picture), 40004)
	want(t, "voice of a mini-program", w.upload(mini, "voice", "media", []byte("#!AMR")), 40004)
	want(t, "voice", w.upload(mp, "voice", "media", []byte("#!AMR")), 0)
	want(t, "other field", w.upload(mini, "image", "file", picture), 41005)
	want(t, "empty", w.upload(mini, "image", "media", nil), 41005)
	want(t, "not a picture", w.upload(mini, "image", "media", []byte("text")), 40005)
	want(t, "large", w.upload(mini, "image", "media", append(bytes.Clone(picture), make([]byte, 10<<20)...)), 40006)
	want(t, "large thumb", w.upload(mp, "thumb", "media", append([]byte("\xff\xd8\xff"), make([]byte, 64<<10)...)), 40006)
	want(t, "not a form", parse(t, w.request("POST", "/cgi-bin/media/upload?type=image&access_token="+mini, "x").Body.Bytes()), 41005)
	want(t, "unknown id", w.get("/cgi-bin/media/get", mini, url.Values{"media_id": {"x"}}), 40007)
	want(t, "id of the other account", w.get("/cgi-bin/media/get", mp, url.Values{"media_id": {id}}), 40007)

	alice := w.openid("alice")
	w.control("/sim/message", object{"user": "alice", "type": "image"})
	pushed := w.pushedFields(t)
	if rec := w.request("GET", "/cgi-bin/media/get?access_token="+mini+"&media_id="+pushed["MediaId"], ""); rec.Header().Get("Content-Type") != "image/png" {
		t.Errorf("a person's picture: %q %v", rec.Body, pushed)
	}
	for name, c := range map[string]struct {
		part object
		want int
	}{
		"image":           {object{"media_id": id}, 0},
		"miniprogrampage": {object{"title": "店", "pagepath": "pages/a", "thumb_media_id": id}, 0},
	} {
		want(t, name, w.send(mini, string(toJSON(object{"touser": alice, "msgtype": name, name: c.part}))), c.want)
		c.part[map[string]string{"image": "media_id", "miniprogrampage": "thumb_media_id"}[name]] = "none"
		want(t, name+" of an unknown file", w.send(mini, string(toJSON(object{"touser": alice, "msgtype": name, name: c.part}))), 40007)
	}
	want(t, "card without title", w.send(mini, string(toJSON(object{"touser": alice, "msgtype": "miniprogrampage", "miniprogrampage": object{"pagepath": "a", "thumb_media_id": id}}))), 40097)
	want(t, "voice of a mini-program", w.send(mini, string(toJSON(object{"touser": alice, "msgtype": "voice", "voice": object{"media_id": id}}))), 40008)
	w.clock.move(mediumLife + time.Second)
	want(t, "after three days", w.get("/cgi-bin/media/get", w.miniToken(), url.Values{"media_id": {id}}), 40007)
}

// pushedFields are those of the last push of the mini-program, in safe mode and JSON.
func (w *world) pushedFields(t *testing.T) map[string]string {
	t.Helper()
	r, body := w.hub.last()
	return w.opened(r, body, "safe", "json")
}

func TestMedia_bounded(t *testing.T) {
	w := newWorld(t, nil)
	w.sim.mu.Lock()
	defer w.sim.mu.Unlock()
	for range 30 {
		w.sim.addMedium(w.sim.mini, "image", make([]byte, 5<<20))
	}
	for range maxMedia {
		w.sim.addMedium(w.sim.mini, "image", nil)
	}
	if len(w.sim.media) != maxMedia || len(w.sim.mediaLine) != maxMedia || w.sim.mediaSize > maxMediaSize {
		t.Errorf("%d files of %d bytes", len(w.sim.media), w.sim.mediaSize)
	}
}

func TestCustomSend_ofAccount(t *testing.T) {
	w := newWorld(t, withMP("safe"))
	alice := w.control("/sim/login", object{"user": "alice"}).text("mpOpenid")
	token := w.mpToken()
	send := func(kind string, part object) object {
		return w.send(token, string(toJSON(object{"touser": alice, "msgtype": kind, kind: part})))
	}
	want(t, "no follower", send("text", object{"content": "hi"}), 43004)
	w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
	id := w.upload(token, "image", "media", picture).text("media_id")
	want(t, "link", send("link", object{"title": "a"}), 40008)
	want(t, "music", send("music", object{"title": "a", "musicurl": "http://a/b", "hqmusicurl": "http://a/b", "thumb_media_id": id}), 0)
	want(t, "news of two", send("news", object{"articles": []object{{"title": "a", "url": "http://a"}, {"title": "b", "url": "http://b"}}}), 45008)
	want(t, "news", send("news", object{"articles": []object{{"title": "a", "url": "http://a"}}}), 0)
	want(t, "news without title", send("news", object{"articles": []object{{"url": "http://a"}}}), 40097)
	want(t, "video without picture", send("video", object{"media_id": id}), 40097)
	want(t, "card of a stranger", send("miniprogrampage", object{"title": "a", "appid": "wx1", "pagepath": "p", "thumb_media_id": id}), 40013)
	want(t, "the third after following", send("miniprogrampage", object{"title": "a", "appid": credentials().AppID, "pagepath": "p", "thumb_media_id": id}), 0)
	want(t, "the fourth", send("text", object{"content": "hi"}), 45047)
	w.clock.move(briefWindow + time.Second)
	want(t, "after a minute", send("text", object{"content": "hi"}), 45015)
}

func TestTyping(t *testing.T) {
	w := newWorld(t, nil)
	alice, token := w.openid("alice"), w.miniToken()
	typing := func(to, command string) object {
		return w.asked("/cgi-bin/message/custom/typing", token, object{"touser": to, "command": command})
	}
	want(t, "bad command", typing(alice, "Dance"), 45072)
	want(t, "nobody", typing("o", "Typing"), 40003)
	want(t, "nothing said", typing(alice, "Typing"), 45080)
	w.control("/sim/message", object{"user": "alice", "content": "在吗"})
	want(t, "typing", typing(alice, "Typing"), 0)
	if got := parse(t, w.request("GET", "/sim/chat?user=alice", "").Body.Bytes()); got["typing"] != true {
		t.Errorf("the phone shows no typing: %v", got)
	}
	want(t, "again", typing(alice, "Typing"), 45081)
	want(t, "cancel", typing(alice, "CancelTyping"), 0)
	want(t, "typing anew", typing(alice, "Typing"), 0)
	want(t, "a message ends it", w.send(token, textTo(alice, "在")), 0)
	want(t, "typing after the message", typing(alice, "Typing"), 0)
	w.clock.move(typingWithin + time.Second)
	want(t, "too late", typing(alice, "Typing"), 45080)
}

func TestSubscribeMessage(t *testing.T) {
	const template = "TPL_0123456789abcdef"
	w := newWorld(t, func(o *Options) {
		fast(o)
		o.PushMode = "plain"
		o.Templates = map[string][]string{template: {"thing1", "time2"}}
		o.Pages = []string{"pages/index/index"}
	})
	alice, token := w.openid("alice"), w.miniToken()
	good := object{"touser": alice, "template_id": template, "page": "pages/index/index?id=1", "miniprogram_state": "formal", "lang": "zh_CN",
		"data": object{"thing1": object{"value": "您的咖啡好了"}, "time2": object{"value": "2026年1月15日 10:34"}}}
	send := func(pairs ...any) object {
		return w.asked("/cgi-bin/message/subscribe/send", token, with(good, pairs...))
	}
	want(t, "no grant", send(), 43101)
	if got := w.control("/sim/subscribe", object{"user": "alice", "templates": object{template: "accept"}}); got.text(template) != "accept" {
		t.Errorf("popup: %v", got)
	}
	w.idle()
	if got := w.lastEvent(t); got["Event"] != "subscribe_msg_popup_event" || got["CreateTime"] == nil || fmt.Sprintf("%T", got["CreateTime"]) != "string" ||
		fmt.Sprint(got["List"]) != "map[PopupScene:0 SubscribeStatusString:accept TemplateId:"+template+"]" {
		t.Errorf("popup event: %v", got)
	}
	for name, c := range map[string]struct {
		pairs []any
		want  int
	}{
		"nobody":            {[]any{"touser", "o"}, 40003},
		"unknown template":  {[]any{"template_id", "TPL_unknown_unknown"}, 40037},
		"unknown page":      {[]any{"page", "pages/other"}, 41030},
		"bad state":         {[]any{"miniprogram_state", "beta"}, 40097},
		"bad lang":          {[]any{"lang", "de"}, 40097},
		"no data":           {[]any{"data", object{}}, 47003},
		"a field missing":   {[]any{"data", object{"thing1": object{"value": "a"}}}, 47003},
		"too long":          {[]any{"data", object{"thing1": object{"value": strings.Repeat("长", 21)}, "time2": object{"value": "10:34"}}}, 47003},
		"not a time":        {[]any{"data", object{"thing1": object{"value": "a"}, "time2": object{"value": "soon"}}}, 47003},
		"a sensitive word":  {[]any{"data", object{"thing1": object{"value": "违规"}, "time2": object{"value": "10:34"}}}, 45168},
		"a number as value": {[]any{"data", object{"thing1": object{"value": 5}, "time2": object{"value": "10:34"}}}, 47001},
	} {
		t.Run(name, func(t *testing.T) { want(t, name, send(c.pairs...), c.want) })
	}
	sent := send()
	if want(t, "granted", sent, 0); sent.number("msgid") == 0 {
		t.Errorf("sent: %v", sent)
	}
	want(t, "one popup is worth one message", send(), 43101)
	w.idle()
	if got := w.lastEvent(t); got["Event"] != "subscribe_msg_sent_event" || fmt.Sprint(got["List"].(map[string]any)["ErrorCode"]) != "0" {
		t.Errorf("sent event: %v", got)
	}
	w.control("/sim/subscribe", object{"user": "alice", "templates": object{template: "accept"}})
	w.control("/sim/trigger", object{"event": "subscribe_msg_change_event", "user": "alice", "template": template, "status": "reject"})
	want(t, "taken back", send(), 43101)
	if got := w.control("/sim/subscribe", object{"user": "alice", "templates": object{"TPL_unknown_unknown": "accept"}}); got["ok"] != false || got.number("errCode") != 20001 {
		t.Errorf("unknown template: %v", got)
	}
}

// lastEvent is the last push in plain mode and JSON, by what it says.
func (w *world) lastEvent(t *testing.T) object {
	t.Helper()
	_, body := w.hub.last()
	return parse(t, []byte(body))
}

func TestSubscribeValue(t *testing.T) {
	for name, values := range map[string][2][]string{
		"thing1":            {{"a", strings.Repeat("长", 20)}, {strings.Repeat("长", 21)}},
		"number2":           {{"12", "12.5"}, {"a", "12a", strings.Repeat("1", 33)}},
		"letter3":           {{"Abc"}, {"a1", "字"}},
		"symbol4":           {{"!?", "★"}, {"a", "!!!!!!"}},
		"character_string5": {{"A-1_b"}, {"字", strings.Repeat("a", 33)}},
		"time6":             {{"10:34", "2026年1月15日 10:34", "2026-01-15 10:34:56~11:00"}, {"soon", ":"}},
		"date7":             {{"2026年1月15日", "2026-01-15"}, {"1月", "tomorrow"}},
		"amount8":           {{"¥9.90", "100", "9.9元"}, {"9.901", "many", "¥12345678901"}},
		"phone_number9":     {{"+86-13800138000"}, {"138-0013-8000-12345", "phone"}},
		"car_number10":      {{"粤A12345", "粤AD12345"}, {"粤A1", "粤A123456789"}},
		"name11":            {{"张三", "John Smith"}, {strings.Repeat("张", 11), strings.Repeat("a", 21)}},
		"phrase12":          {{"已发货"}, {"abc", "一二三四五六"}},
		"enum13":            {{"甲"}, {strings.Repeat("甲", 21)}},
		"thing":             {nil, {"a"}},
		"dance1":            {nil, {"a"}},
	} {
		for _, good := range values[0] {
			if !goodSubscribeValue(name, good) {
				t.Errorf("%s refuses %q", name, good)
			}
		}
		for _, bad := range values[1] {
			if goodSubscribeValue(name, bad) {
				t.Errorf("%s takes %q", name, bad)
			}
		}
	}
}

func TestTemplateMessage(t *testing.T) {
	w := newWorld(t, func(o *Options) { withMP("safe")(o); fast(o) })
	alice := w.control("/sim/login", object{"user": "alice"}).text("mpOpenid")
	body := object{"touser": alice, "template_id": "TPL_0123456789abcdef", "url": "https://example.com/a", "data": object{"first": object{"value": "好了"}}}
	send := func(pairs ...any) object {
		return w.asked("/cgi-bin/message/template/send", w.mpToken(), with(body, pairs...))
	}
	want(t, "no follower", send(), 43004)
	w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
	want(t, "nobody", send("touser", "o"), 40003)
	want(t, "no template", send("template_id", "x"), 40037)
	want(t, "no data", send("data", nil), 47001)
	want(t, "of the mini-program", w.asked("/cgi-bin/message/template/send", w.miniToken(), body), 48001)
	sent := send()
	w.idle()
	got := w.openedMP("safe")
	if sent.number("msgid") == 0 || got["Event"] != "TEMPLATESENDJOBFINISH" || got["Status"] != "success" {
		t.Errorf("%v %v", sent, got)
	}
	var exact struct {
		MsgID json.Number `json:"msgid"`
	}
	_ = json.Unmarshal(toJSON(sent), &exact)
	if exact.MsgID == "" || got["MsgID"] == "" {
		t.Errorf("ids: %v %v", exact, got["MsgID"])
	}
}

func TestCheckMedia(t *testing.T) {
	w := newWorld(t, func(o *Options) { fast(o); o.PushMode = "plain" })
	w.hub.answer = func(r *http.Request, _ string) (int, string) {
		return map[bool]int{true: 404, false: 200}[strings.HasPrefix(r.URL.Path, "/gone")], "success"
	}
	alice := w.openid("alice")
	body := object{"media_url": "http://127.0.0.1:8080/a.png", "media_type": 2, "version": 2, "scene": 1, "openid": alice}
	check := func(pairs ...any) object {
		return w.asked("/wxa/media_check_async", w.miniToken(), with(body, pairs...))
	}
	want(t, "type", check("media_type", 3), 40097)
	want(t, "version", check("version", 1), 40129)
	want(t, "scene", check("scene", 5), 40129)
	want(t, "address", check("media_url", "a.png"), 40097)
	want(t, "nobody", check("openid", "o"), 40003)
	want(t, "a text as type", check("media_type", "2"), 47001)
	for address, verdict := range map[string]string{
		"http://127.0.0.1:8080/a.png": "0 pass 100", "https://example.com/risky.png": "0 risky 20006", "https://example.com/%E5%B9%BF%E5%91%8A.png": "0 review 10001",
		"http://127.0.0.1:8080/gone.png": "-1008 <nil> <nil>", "https://example.com/missing.png": "-1008 <nil> <nil>",
	} {
		got := check("media_url", address)
		want(t, address, got, 0)
		w.idle()
		e := w.lastEvent(t)
		result, _ := e["result"].(map[string]any)
		if told := fmt.Sprint(e["errcode"], " ", result["suggest"], " ", result["label"]); e["Event"] != "wxa_media_check" || e["trace_id"] != got["trace_id"] || told != verdict {
			t.Errorf("%s: %v, want %s", address, e, verdict)
		}
	}
	w.clock.move(seenFor + time.Second)
	want(t, "not seen for two hours", check(), 61010)
}

func TestLinksAndCodes(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pages = []string{"pages/index/index"} })
	token := w.miniToken()
	in := func(d time.Duration) int64 { return w.clock.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		path string
		body object
		want int
	}{
		"link":               {"/wxa/generate_urllink", object{"path": "/pages/index/index", "query": "a=1", "expire_type": 1, "expire_interval": 30}, 0},
		"link for ever":      {"/wxa/generate_urllink", object{}, 0},
		"link 31 days":       {"/wxa/generate_urllink", object{"expire_type": 1, "expire_interval": 31}, 85401},
		"link past":          {"/wxa/generate_urllink", object{"expire_type": 0, "expire_time": in(-time.Hour)}, 85401},
		"link late":          {"/wxa/generate_urllink", object{"expire_type": 0, "expire_time": in(31 * 24 * time.Hour)}, 85401},
		"link expire type":   {"/wxa/generate_urllink", object{"expire_type": 2}, 40097},
		"link no page":       {"/wxa/generate_urllink", object{"path": "pages/other"}, 40165},
		"link long query":    {"/wxa/generate_urllink", object{"query": strings.Repeat("a", 1025)}, 40212},
		"link env":           {"/wxa/generate_urllink", object{"env_version": "beta"}, 40097},
		"scheme":             {"/wxa/generatescheme", object{"jump_wxa": object{"path": "pages/index/index", "query": "a=1"}, "expire_type": 0, "expire_time": in(time.Hour)}, 0},
		"scheme no page":     {"/wxa/generatescheme", object{"jump_wxa": object{"path": "pages/other"}}, 40165},
		"scheme not object":  {"/wxa/generatescheme", object{"jump_wxa": "x"}, 47001},
		"code":               {"/wxa/getwxacode", object{"path": "pages/index/index?a=1"}, 0},
		"code no path":       {"/wxa/getwxacode", object{}, 40159},
		"code long":          {"/wxa/getwxacode", object{"path": "pages/index/index?a=" + strings.Repeat("1", 1010)}, 40159},
		"code no page":       {"/wxa/getwxacode", object{"path": "pages/other"}, 41030},
		"code width":         {"/wxa/getwxacode", object{"path": "pages/index/index", "width": 200}, 40097},
		"square":             {"/cgi-bin/wxaapp/createwxaqrcode", object{"path": "pages/index/index?a=1"}, 0},
		"square long":        {"/cgi-bin/wxaapp/createwxaqrcode", object{"path": "pages/index/index?a=" + strings.Repeat("1", 120)}, 40159},
		"unlimited reserved": {"/wxa/getwxacodeunlimit", object{"scene": "a", "scancode_time": 1}, 85096},
	} {
		t.Run(name, func(t *testing.T) {
			rec := w.request("POST", c.path+"?access_token="+token, string(toJSON(c.body)))
			if strings.HasPrefix(rec.Body.String(), "\x89PNG") {
				if c.want != 0 || rec.Header().Get("Content-Type") != "image/png" {
					t.Errorf("a picture, want %d", c.want)
				}
				return
			}
			got := parse(t, rec.Body.Bytes())
			if want(t, name, got, c.want); c.want == 0 && got.text("url_link")+got.text("openlink") == "" {
				t.Errorf("no link: %v", got)
			}
		})
	}
	w.sim.mu.Lock()
	w.sim.limited = codesInAll
	w.sim.mu.Unlock()
	want(t, "all used up", w.asked("/wxa/getwxacode", token, object{"path": "pages/index/index"}), 45029)
	for range linksASecond {
		w.asked("/wxa/generate_urllink", token, object{})
	}
	want(t, "too many in a second", w.asked("/wxa/generate_urllink", token, object{}), 44990)
	unreleased := newWorld(t, func(o *Options) { o.Unreleased = true })
	want(t, "not released", unreleased.asked("/wxa/generate_urllink", unreleased.miniToken(), object{}), 85079)
}

func TestFollowers(t *testing.T) {
	w := newWorld(t, withMP("safe"))
	var openids []string
	for _, user := range []string{"a", "b", "c"} {
		openids = append(openids, w.control("/sim/login", object{"user": user}).text("mpOpenid"))
		if user != "c" {
			w.control("/sim/trigger", object{"event": "follow", "user": user})
		}
	}
	token := w.mpToken()
	all := w.get("/cgi-bin/user/get", token, nil)
	if all.number("total") != 2 || all.number("count") != 2 {
		t.Errorf("followers: %v", all)
	}
	if rest := w.get("/cgi-bin/user/get", token, url.Values{"next_openid": {all.text("next_openid")}}); rest.number("count") != 0 {
		t.Errorf("after the last: %v", rest)
	}
	want(t, "no such openid", w.get("/cgi-bin/user/get", token, url.Values{"next_openid": {"o"}}), 40003)
	want(t, "of the mini-program", w.get("/cgi-bin/user/get", w.miniToken(), nil), 48001)
	list := []object{}
	for _, openid := range openids {
		list = append(list, object{"openid": openid, "lang": "zh_CN"})
	}
	got := w.asked("/cgi-bin/user/info/batchget", token, object{"user_list": list})
	infos, _ := got["user_info_list"].([]any)
	if len(infos) != 3 || object(infos[0].(map[string]any)).number("subscribe") != 1 || object(infos[2].(map[string]any)).number("subscribe") != 0 {
		t.Errorf("infos: %v", got)
	}
	want(t, "a stranger", w.asked("/cgi-bin/user/info/batchget", token, object{"user_list": []object{{"openid": "o"}}}), 40003)
	want(t, "nobody", w.asked("/cgi-bin/user/info/batchget", token, object{"user_list": []object{}}), 40097)
	for i := range clearsAMonth + 1 {
		want(t, "clear quota", w.asked("/cgi-bin/clear_quota", token, object{"appid": credentials().MPAppID}), map[bool]int{true: 48006}[i == clearsAMonth])
	}
	want(t, "quota of another", w.asked("/cgi-bin/clear_quota", token, object{"appid": credentials().AppID}), 40013)
}
