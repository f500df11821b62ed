package sim

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Every event and message of both accounts arrives in each mode and format, signed well.
func TestPush_matrix(t *testing.T) {
	list := func(items int) object {
		all := []any{}
		for i := range items {
			all = append(all, object{"n": i})
		}
		return object{"List": all}
	}
	mini := map[string]object{
		"text": {"event": "message", "content": "a<b>&]]>😀\n"}, "image": {"event": "message", "type": "image"},
		"miniprogrampage":        {"event": "message", "type": "miniprogrampage", "title": "店", "pagePath": "p"},
		"user_enter_tempsession": {"event": "user_enter_tempsession", "sessionFrom": "a=1"}, "debug_demo": {"event": "debug_demo"},
		"subscribe_msg_popup_event":      {"event": "subscribe_msg_popup_event", "template": "TPL_0123456789abcdef"},
		"subscribe_msg_change_event":     {"event": "subscribe_msg_change_event", "template": "TPL_0123456789abcdef", "status": "reject"},
		"subscribe_msg_sent_event":       {"event": "subscribe_msg_sent_event", "template": "TPL_0123456789abcdef", "code": 20003},
		"wxa_media_check":                {"event": "wxa_media_check", "traceId": "t", "status": "risky"},
		"trade_manage_remind_access_api": {"event": "trade_manage_remind_access_api"}, "trade_manage_remind_shipping": {"event": "trade_manage_remind_shipping"},
		"trade_manage_order_settlement": {"event": "trade_manage_order_settlement"}, "xpay_goods_deliver_notify": {"event": "xpay_goods_deliver_notify"},
		"xpay_coin_pay_notify": {"event": "xpay_coin_pay_notify"}, "wxa_trade_controlled": {"event": "wxa_trade_controlled"}, "some_new_event": {"event": "event", "name": "some_new_event", "fields": list(1)},
	}
	mp := map[string]object{
		"text": {"event": "mptext", "content": "a"}, "image": {"event": "mptext", "type": "image"}, "voice": {"event": "mptext", "type": "voice"}, "video": {"event": "mptext", "type": "video"},
		"shortvideo": {"event": "mptext", "type": "shortvideo"}, "location": {"event": "mptext", "type": "location", "latitude": 23.1, "longitude": 113.3, "title": "广州"},
		"link":      {"event": "mptext", "type": "link", "title": "a", "content": "b", "key": "https://example.com"},
		"subscribe": {"event": "follow", "scene": "7"}, "SCAN": {"event": "scan", "key": "7"}, "LOCATION": {"event": "location", "latitude": 1.5}, "CLICK": {"event": "click", "key": "k"},
		"VIEW": {"event": "view", "key": "https://example.com"}, "TEMPLATESENDJOBFINISH": {"event": "TEMPLATESENDJOBFINISH", "msgId": "9007199254740993", "status": "failed:user block"},
		"MASSSENDJOBFINISH": {"event": "MASSSENDJOBFINISH"}, "PUBLISHJOBFINISH": {"event": "PUBLISHJOBFINISH"}, "scancode_push": {"event": "scancode_push", "key": "k"}, "unsubscribe": {"event": "unfollow"},
	}
	for _, mode := range []string{modePlain, modeCompatible, modeSafe} {
		for _, format := range []string{formatJSON, formatXML} {
			w := newWorld(t, func(o *Options) {
				withMP(mode)(o)
				o.PushMode, o.PushFormat, o.TimeScale = mode, format, 10_000
			})
			w.paidV3("T0000001")
			w.clock.move(time.Minute)
			openid := w.openid("alice")
			want(t, "shipping", w.asked(shipPath, w.miniToken(), shippingOf(openid, "T0000001")), 0)
			w.idle()
			for kind, trigger := range mini {
				w.paidV3("T" + fmt.Sprintf("%07x", number(kind)&0xfffffff)) // something to ship
				w.control("/sim/trigger", with(trigger, "user", "alice", "times", 1, "outTradeNo", map[string]string{"trade_manage_order_settlement": "T0000001"}[kind]))
				r, body := w.hub.last()
				if f := w.opened(r, body, mode, format); f["MsgType"] != kind && f["Event"] != kind || f["FromUserName"] != openid {
					t.Errorf("%s %s mini %s: %v", mode, format, kind, f)
				}
			}
			w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
			for kind, trigger := range mp {
				if kind == "unsubscribe" {
					continue
				}
				w.control("/sim/trigger", with(trigger, "user", "alice"))
				if f := w.openedMP(mode); f["MsgType"] != kind && f["Event"] != kind {
					t.Errorf("%s %s mp %s: %v", mode, format, kind, f)
				} else if kind == "TEMPLATESENDJOBFINISH" && f["MsgID"] != "9007199254740993" {
					t.Errorf("%s %s: MsgID %s", mode, format, f["MsgID"])
				}
			}
			w.control("/sim/trigger", with(mp["unsubscribe"], "user", "alice"))
			if f := w.openedMP(mode); f["Event"] != "unsubscribe" {
				t.Errorf("%s %s: %v", mode, format, f)
			}
		}
	}
}

// The List of subscribe events is an object when it has one item, an array when it has more; XML nests it.
func TestPush_subscribeList(t *testing.T) {
	item := func(id string) []pushField { return []pushField{{"TemplateId", id}, {"PopupScene", "0"}} }
	p := pushed{to: &account{originalID: "gh_1"}, openid: "o1", kind: "event", at: time.Unix(1768444496, 0), textTime: true}
	for _, c := range []struct {
		items     [][]pushField
		json, xml string
	}{
		{[][]pushField{item("a")}, `"List":{"TemplateId":"a","PopupScene":"0"}`, "<SubscribeMsgPopupEvent><List><TemplateId><![CDATA[a]]></TemplateId>"},
		{[][]pushField{item("a"), item("b")}, `"List":[{"TemplateId":"a","PopupScene":"0"},{"TemplateId":"b","PopupScene":"0"}]`, "</List><List><TemplateId><![CDATA[b]]>"},
	} {
		p.fields = subscribeEvent("subscribe_msg_popup_event", c.items).fields
		if got := string(p.plain(formatJSON)); !strings.Contains(got, c.json) || !strings.Contains(got, `"CreateTime":"1768444496"`) {
			t.Error(got)
		}
		if got := string(p.plain(formatXML)); !strings.Contains(got, c.xml) || !strings.Contains(got, "<CreateTime>1768444496</CreateTime>") {
			t.Error(got)
		}
	}
}

// Faults spoil the first try only: the honest one follows by the ladder.
func TestFault_firstTry(t *testing.T) {
	for name, c := range map[string]struct {
		fault    object
		requests int // in 48 h
		good     int // signed well and in time
	}{
		"copies":    {object{"copies": 50}, 50, 50},
		"signature": {object{"forge": "signature"}, 2, 1},
		"body":      {object{"forge": "body"}, 2, 1},
		"probe":     {object{"forge": "probe"}, 2, 1},
		"stale":     {object{"skew": "-10m"}, 2, 1},
		"both":      {object{"forge": "no-sign", "copies": 3}, 4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			good := atomic.Int64{}
			got, _ := paths(t, func(w *world) { w.control("/sim/fault", c.fault) }, func(w *world) {
				answer := w.hub.answer
				w.hub.answer = func(r *http.Request, body string) (int, string) {
					answer(r, body)
					var at int64
					fmt.Sscan(r.Header.Get("Wechatpay-Timestamp"), &at)
					if verifyPlatform(t, r.Header, []byte(body)) != nil || time.Since(time.Unix(at, 0)).Abs() > clockSlack {
						return 401, `{"code":"FAIL"}`
					}
					good.Add(1)
					return 200, ""
				}
				w.buy("T0000001")
			})
			if len(got) != c.requests || int(good.Load()) != c.good {
				t.Errorf("%d requests, %d good", len(got), good.Load())
			}
		})
	}
}

func TestFault_ofPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PushMode = "plain" })
		var mu sync.Mutex
		var contents []string
		w.hub.answer = func(r *http.Request, body string) (int, string) {
			mu.Lock()
			defer mu.Unlock()
			q := r.URL.Query()
			if q.Get("signature") != pushSignature(credentials().PushToken, q.Get("timestamp"), q.Get("nonce")) {
				contents = append(contents, "forged")
				return 403, ""
			}
			contents = append(contents, parse(t, []byte(body)).text("Content"))
			return 200, "success"
		}
		tell := func(content string) object {
			return w.control("/sim/message", object{"user": "alice", "content": content})
		}
		w.control("/sim/fault", object{"on": "push", "muteNotify": true})
		if got := tell("lost"); got["ok"] != true || len(contents) != 0 {
			t.Errorf("lost: %v %v", got, contents)
		}
		w.control("/sim/fault", object{"on": "push", "forge": "signature"})
		if got := tell("forged first"); got["ok"] != true {
			t.Errorf("forged: %v", got)
		}
		w.control("/sim/fault", object{"on": "push", "copies": 3})
		tell("thrice")
		w.control("/sim/fault", object{"on": "push", "reorder": true})
		var all sync.WaitGroup
		all.Go(func() { tell("overtaken") })
		synctest.Wait()
		tell("first")
		all.Wait()
		if got := strings.Join(contents, ","); got != "forged,forged first,thrice,thrice,thrice,first,overtaken" {
			t.Errorf("%s", got)
		}
		w.control("/sim/fault", object{"on": "push", "muteNotify": true, "always": true})
		for range 5 {
			tell("never")
		}
		if len(contents) != 7 || len(w.state()["faults"].([]any)) != 1 {
			t.Errorf("always: %v", contents)
		}
		w.sim.Close()
	})
}

func TestFault_byChance(t *testing.T) {
	w := newWorld(t, nil)
	w.control("/sim/fault", object{"errcode": -1, "percent": 30, "always": true})
	busy := 0
	for range 1000 {
		if w.session(loginQuery("x")).number("errcode") == -1 {
			busy++
		}
	}
	if busy < 200 || busy > 400 {
		t.Errorf("%d of 1000 are busy at 30 %%", busy)
	}
}

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"path=/sns/jscode2session,errcode=-1,times=2": {Path: "/sns/jscode2session", Errcode: -1, Times: 2},
		"slow=300,percent=20,always":                  {Slow: 300, Percent: 20, Always: true},
		"on=push,forge=signature,always=true":         {On: "push", Forge: "signature", Always: true},
		"muteNotify,outTradeNo=20260115103456000001":  {MuteNotify: true, OutTradeNo: "20260115103456000001"},
		"skew=-10m, copies=3":                         {Skew: "-10m", Copies: 3},
	} {
		if got, err := ParseFault(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "dance", "slow=long", "status=99", "on=push,forge=serial", "copies=101", "skew=soon", "muteNotify,path=/x", "on=moon,delay=1", "bill=burn", "code=a b"} {
		if got, err := ParseFault(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	w := newWorld(t, func(o *Options) { o.Faults = []Fault{{Errcode: -1}} })
	want(t, "a fault from the start", w.session(loginQuery("x")), -1)
	if _, err := New(Options{Credentials: credentials(), Faults: []Fault{{Slow: -1}}}); err == nil {
		t.Error("a bad fault is taken")
	}
}

// A payment and a refund of a server that no order was made for, as trigger --url plays them.
func TestTrigger_strangers(t *testing.T) {
	w := newWorld(t, nil)
	pay := object{"event": "pay", "user": "x", "openid": "oStranger", "outTradeNo": "SHOP000001", "amount": 100, "url": "http://127.0.0.1:9/notify"}
	w.control("/sim/trigger", pay)
	r, body := w.hub.last()
	if tx := received(t, r, body); tx.text("out_trade_no") != "SHOP000001" || object(tx["payer"].(map[string]any)).text("openid") != "oStranger" || r.URL.String() != "http://127.0.0.1:9/notify" {
		t.Errorf("%v", tx)
	}
	w.control("/sim/trigger", with(pay, "version", "v2", "signType", signHMAC))
	_, body = w.hub.last()
	if f, err := parseV2([]byte(body)); err != nil || f["sign"] != signV2(signHMAC, credentials().V2Key, f) || f["total_fee"] != "100" || f["openid"] != "oStranger" {
		t.Errorf("v2: %v %v", f, err)
	}
	w.control("/sim/trigger", with(pay, "event", "refund", "outRefundNo", "R1"))
	r, body = w.hub.last()
	resource := object(parse(t, []byte(body))["resource"].(map[string]any))
	plain := openResource(t, credentials().APIv3Key, resource.text("nonce"), resource.text("associated_data"), resource.text("ciphertext"))
	if v := parse(t, plain); verifyPlatform(t, r.Header, []byte(body)) != nil || v.text("out_refund_no") != "R1" || v.text("refund_status") != "SUCCESS" {
		t.Errorf("refund: %v", v)
	}
	if o := w.state()["orders"].([]any); len(o) != 0 {
		t.Errorf("a stranger's order is kept: %v", o)
	}
}

// A purchase of virtual goods is answered by ErrCode; which form the platform asks for is not known for sure.
func TestPush_virtualGoods(t *testing.T) {
	w := newWorld(t, nil)
	for answer, why := range map[string]string{`{"ErrCode":0,"ErrMsg":"success"}`: "", "success": "", `{"ErrCode":1,"ErrMsg":"no stock"}`: "ErrCode 1"} {
		w.hub.reply(200, answer)
		w.control("/sim/trigger", object{"event": "xpay_goods_deliver_notify", "user": "alice", "key": "sword", "amount": 600})
		all := w.state()["pushes"].([]any)
		if last := object(all[len(all)-1].(map[string]any)); !strings.Contains(last.text("why"), why) || why == "" && last.text("why") != "" {
			t.Errorf("%s: %v", answer, last)
		}
	}
}
