package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A pushCase is one type of message or event: its fields, and what they mean.
type pushCase struct {
	name  string
	json  string // the fields beside those of every push
	xml   string // "": the JSON's own fields as elements
	event string // "": json names a MsgType
	want  Push
	quota int // messages that it lets the shop send
}

var pushCases = []pushCase{
	{name: "text", json: `"MsgType":"text","Content":"你好 ]]> <b>&","MsgId":7594567890123456789`, want: TextMessage{"你好 ]]> <b>&"}, quota: 5},
	{name: "image", json: `"MsgType":"image","PicUrl":"https://a.example/p?x=1&y=2","MediaId":"m1","MsgId":"9007199254740993"`, want: ImageMessage{"https://a.example/p?x=1&y=2", "m1"}, quota: 5},
	{name: "voice", json: `"MsgType":"voice","MediaId":"m1","Format":"amr","Recognition":"你好","MsgId":1`, want: VoiceMessage{"m1", "amr", "你好"}, quota: 5},
	{name: "video", json: `"MsgType":"video","MediaId":"m1","ThumbMediaId":"t1","MsgId":1`, want: VideoMessage{"m1", "t1", false}, quota: 5},
	{name: "shortvideo", json: `"MsgType":"shortvideo","MediaId":"m1","ThumbMediaId":"t1","MsgId":1`, want: VideoMessage{"m1", "t1", true}, quota: 5},
	{name: "location", json: `"MsgType":"location","Location_X":23.134521,"Location_Y":113.358803,"Scale":20,"Label":"广州","MsgId":1`, want: LocationMessage{"23.134521", "113.358803", "20", "广州"}, quota: 5},
	{name: "link", json: `"MsgType":"link","Title":"t","Description":"d","Url":"https://a.example/","MsgId":1`, want: LinkMessage{"t", "d", "https://a.example/"}, quota: 5},
	{name: "miniprogrampage", json: `"MsgType":"miniprogrampage","MsgId":1,"Title":"t","AppId":"wx1","PagePath":"pages/a","ThumbUrl":"https://a.example/t","ThumbMediaId":"t1"`,
		want: CardMessage{"t", "wx1", "pages/a", "https://a.example/t", "t1"}, quota: 5},
	{name: "enter", event: "user_enter_tempsession", json: `"SessionFrom":"sessionFrom"`, want: EnterSession{"sessionFrom"}, quota: 2},
	{name: "popup, several", event: "subscribe_msg_popup_event",
		json: `"List":[{"TemplateId":"T1","SubscribeStatusString":"reject","PopupScene":"0"},{"TemplateId":"T2","SubscribeStatusString":"accept","PopupScene":0}]`,
		xml: `<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>reject</SubscribeStatusString><PopupScene>0</PopupScene></List>` +
			`<List><TemplateId>T2</TemplateId><SubscribeStatusString>accept</SubscribeStatusString><PopupScene>0</PopupScene></List></SubscribeMsgPopupEvent>`,
		want: SubscribePopup{[]SubscribeItem{{TemplateID: "T1", Status: "reject", PopupScene: "0"}, {TemplateID: "T2", Status: "accept", Accepted: true, PopupScene: "0"}}}},
	{name: "popup, one", event: "subscribe_msg_popup_event", json: `"List":{"TemplateId":"T1","SubscribeStatusString":"accept","PopupScene":"2"}`,
		xml:  `<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString><PopupScene>2</PopupScene></List></SubscribeMsgPopupEvent>`,
		want: SubscribePopup{[]SubscribeItem{{TemplateID: "T1", Status: "accept", Accepted: true, PopupScene: "2"}}}},
	{name: "change", event: "subscribe_msg_change_event", json: `"List":{"TemplateId":"T1","SubscribeStatusString":"reject"}`,
		xml:  `<SubscribeMsgChangeEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List></SubscribeMsgChangeEvent>`,
		want: SubscribeChange{[]SubscribeItem{{TemplateID: "T1", Status: "reject"}}}},
	{name: "sent", event: "subscribe_msg_sent_event", json: `"List":{"TemplateId":"T1","MsgID":"1864323726461255680","ErrorCode":"0","ErrorStatus":"success"}`,
		xml:  `<SubscribeMsgSentEvent><List><TemplateId>T1</TemplateId><MsgID>1864323726461255680</MsgID><ErrorCode>0</ErrorCode><ErrorStatus>success</ErrorStatus></List></SubscribeMsgSentEvent>`,
		want: SubscribeSent{[]SubscribeItem{{TemplateID: "T1", Status: "success", MsgID: "1864323726461255680"}}}},
	{name: "media checked", event: "wxa_media_check",
		json: `"appid":"wx8888888888888888","trace_id":"60ae-1","version":2,"detail":[{"strategy":"content_model","errcode":0,"suggest":"risky","label":20002,"prob":90}],"errcode":0,"errmsg":"ok","result":{"suggest":"risky","label":20002}`,
		want: MediaChecked{TraceID: "60ae-1", AppID: "wx8888888888888888", Verdict: VerdictRisky, Label: 20002}},
	{name: "media not fetched", event: "wxa_media_check", json: `"appid":"wx8888888888888888","trace_id":"60ae-1","version":2,"errcode":-1008,"errmsg":"download error","result":{"suggest":"pass","label":100}`,
		want: MediaChecked{TraceID: "60ae-1", AppID: "wx8888888888888888", Label: 100, Code: -1008}},
	{name: "media, strange verdict", event: "wxa_media_check", json: `"trace_id":"60ae-1","errcode":"0","result":{"suggest":"PASS"}`, want: MediaChecked{TraceID: "60ae-1"}},
	{name: "use the shipping API", event: "trade_manage_remind_access_api", json: `"msg":"请尽快接入"`, want: ShippingAccessReminder{"请尽快接入"}},
	{name: "ship it", event: "trade_manage_remind_shipping", json: `"transaction_id":"4200","merchant_id":"1900","sub_merchant_id":"","merchant_trade_no":"T1","pay_time":1768444490,"msg":"请发货"`,
		want: ShippingReminder{TradeReminder{"4200", "1900", "T1", time.Unix(1768444490, 0), "请发货"}}},
	{name: "shipped", event: "trade_manage_order_settlement", json: `"transaction_id":"4200","merchant_id":"1900","sub_merchant_id":"19","merchant_trade_no":"T1","pay_time":1768444490,"shipped_time":"1768444491","estimated_settlement_time":1768444492`,
		want: OrderSettlement{TransactionID: "4200", MchID: "1900", SubMchID: "19", OutTradeNo: "T1", PaidAt: time.Unix(1768444490, 0), ShippedAt: time.Unix(1768444491, 0), EstimatedSettlementAt: time.Unix(1768444492, 0)}},
	{name: "settled", event: "trade_manage_order_settlement", json: `"transaction_id":"4200","merchant_trade_no":"T1","confirm_receive_method":2,"confirm_receive_time":1768444493,"settlement_time":1768444494`,
		want: OrderSettlement{TransactionID: "4200", OutTradeNo: "T1", ReceivedAt: time.Unix(1768444493, 0), SettledAt: time.Unix(1768444494, 0), ReceivedByHand: true}},
	{name: "controlled", event: "wxa_trade_controlled", json: `"x":"y"`, want: TradeControlled{}},
	{name: "goods", event: "xpay_goods_deliver_notify",
		json: `"OpenId":"o1","OutTradeNo":"T1","Env":1,"WeChatPayInfo":{"MchOrderNo":"M1","TransactionId":"4200","PaidTime":1768444490},"GoodsInfo":{"ProductId":"p1","Quantity":2,"OrigPrice":100,"ActualPrice":90,"Attach":"a"}`,
		want: GoodsDelivery{VirtualPayment{OpenID: "o1", OutTradeNo: "T1", Sandbox: true, PayOutTradeNo: "M1", PayTransactionID: "4200", PaidAt: time.Unix(1768444490, 0), Quantity: 2, OrigPrice: 100, ActualPrice: 90, Attach: "a"}, "p1"}},
	{name: "coins", event: "xpay_coin_pay_notify",
		json: `"OpenId":"o1","OutTradeNo":"T1","Env":0,"WeChatPayInfo":{"MchOrderNo":"M1","TransactionId":"4200","PaidTime":1768444490},"CoinInfo":{"Quantity":10,"OrigPrice":100,"ActualPrice":90,"Attach":""}`,
		want: CoinPayment{VirtualPayment{OpenID: "o1", OutTradeNo: "T1", PayOutTradeNo: "M1", PayTransactionID: "4200", PaidAt: time.Unix(1768444490, 0), Quantity: 10, OrigPrice: 100, ActualPrice: 90}}},
	{name: "follow", event: "subscribe", json: `"EventKey":""`, want: Follow{}, quota: 3},
	{name: "follow by code", event: "subscribe", json: `"EventKey":"qrscene_live:7","Ticket":"TK"`, want: Follow{"live:7", "TK"}, quota: 3},
	{name: "unfollow", event: "unsubscribe", json: `"EventKey":""`, want: Unfollow{}},
	{name: "scan", event: "SCAN", json: `"EventKey":"live:7","Ticket":"TK"`, want: Scan{"live:7", "TK"}, quota: 3},
	{name: "where", event: "LOCATION", json: `"Latitude":23.137466,"Longitude":"113.352425","Precision":119.385040`, want: LocationReport{"23.137466", "113.352425", "119.385040"}},
	{name: "click", event: "CLICK", json: `"EventKey":"MENU"`, want: MenuClick{"MENU"}, quota: 3},
	{name: "view", event: "VIEW", json: `"EventKey":"https://a.example/?x=1&y=2","MenuId":"409"`, want: MenuView{"https://a.example/?x=1&y=2", "409"}},
	{name: "mini-program", event: "view_miniprogram", json: `"EventKey":"pages/a"`, want: MenuEvent{"view_miniprogram", "pages/a"}, quota: 3},
	{name: "scancode", event: "scancode_push", json: `"EventKey":"6","ScanCodeInfo":{"ScanType":"qrcode","ScanResult":"1"}`, want: MenuEvent{"scancode_push", "6"}, quota: 3},
	{name: "scancode, wait", event: "scancode_waitmsg", json: `"EventKey":"6"`, want: MenuEvent{"scancode_waitmsg", "6"}, quota: 3},
	{name: "photo", event: "pic_sysphoto", json: `"EventKey":"6"`, want: MenuEvent{"pic_sysphoto", "6"}, quota: 3},
	{name: "place", event: "location_select", json: `"EventKey":"6"`, want: MenuEvent{"location_select", "6"}, quota: 3},
	{name: "template sent", event: "TEMPLATESENDJOBFINISH", json: `"MsgID":200163836,"Status":"success"`, want: TemplateResult{MsgID: "200163836", Status: "success", Delivered: true}},
	{name: "template blocked", event: "TEMPLATESENDJOBFINISH", json: `"MsgID":1,"Status":"failed:user block"`, want: TemplateResult{MsgID: "1", Status: "failed:user block", Blocked: true}},
	{name: "template failed", event: "TEMPLATESENDJOBFINISH", json: `"MsgID":1,"Status":"failed: system failed"`, want: TemplateResult{MsgID: "1", Status: "failed: system failed"}},
	{name: "mass", event: "MASSSENDJOBFINISH", json: `"MsgID":1,"Status":"send success"`, want: MassResult{"1", "send success"}},
	{name: "published", event: "PUBLISHJOBFINISH", json: `"PublishEventInfo":{"publish_id":2247503051,"publish_status":0,"article_id":"A1"}`, want: PublishResult{"2247503051", "A1", 0}},
	{name: "unknown event", event: "debug_demo", json: `"debug_str":"hello world"`, want: UnknownPush{}},
	{name: "unknown type", json: `"MsgType":"hologram","Content":"x"`, want: UnknownPush{}},
}

// body is the case as it is sent.
func (c pushCase) body(f format, at int64) string {
	head := fmt.Sprintf(`"ToUserName":"gh_1","FromUserName":"o1","CreateTime":%d,`, at)
	if c.event != "" {
		head += fmt.Sprintf(`"MsgType":"event","Event":%q,`, c.event)
	}
	text := "{" + head + c.json + "}"
	if f == formatJSON {
		return text
	}
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		panic(c.name + ": " + err.Error())
	}
	if c.xml != "" {
		delete(fields, "List")
	}
	var b strings.Builder
	b.WriteString("<xml>")
	writeXML(&b, fields)
	b.WriteString(c.xml + "</xml>")
	return b.String()
}

// writeXML writes elements as WeChat does: texts in CDATA, numbers bare, a list as elements of one name.
func writeXML(b *strings.Builder, fields map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		list, isList := fields[name].([]any)
		if !isList {
			list = []any{fields[name]}
		}
		for _, v := range list {
			b.WriteString("<" + name + ">")
			switch v := v.(type) {
			case map[string]any:
				writeXML(b, v)
			case string:
				b.WriteString(cdata(v))
			default:
				var escaped bytes.Buffer
				_ = xml.EscapeText(&escaped, []byte(fmt.Sprint(v)))
				b.Write(escaped.Bytes())
			}
			b.WriteString("</" + name + ">")
		}
	}
}

// Every type in every mode and format, of a mini-program and of an official account, comes out as the same
// message with the same key, and takes an answer.
func TestPush_everyModeFormatAccountAndType(t *testing.T) {
	for _, account := range []struct{ name, token, appID string }{{"mini-program", testToken, testAppID}, {"official account", "mptoken02", "wxb11529c136998cb6"}} {
		for _, mode := range []string{"plain", "compatible", "safe"} {
			o := PushOptions{AppID: account.appID, Token: account.token, Now: at(pushNow)}
			if mode != "plain" {
				o.AESKey = testAESKey
			}
			r, err := NewReceiver(o)
			if err != nil {
				t.Fatal(err)
			}
			s, err := newSealer(testAESKey, account.appID)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range []format{formatXML, formatJSON} {
				for _, c := range pushCases {
					t.Run(strings.Join([]string{account.name, mode, []string{"XML", "JSON"}[f], c.name}, "/"), func(t *testing.T) {
						plain := c.body(f, pushNow-1)
						body, q := plain, query(map[string]string{"timestamp": fmt.Sprint(pushNow), "nonce": "n1",
							"signature": pushSignature(account.token, fmt.Sprint(pushNow), "n1")})
						if mode != "plain" {
							encrypt := s.seal([]byte(plain))
							q.Set("encrypt_type", "aes")
							q.Set("msg_signature", pushSignature(account.token, fmt.Sprint(pushNow), "n1", encrypt))
							rest := map[format]string{formatXML: "<xml><ToUserName>gh_1</ToUserName>", formatJSON: `{"ToUserName":"gh_1"`}[f]
							if mode == "compatible" { // what is said in the open is not believed
								lie := strings.ReplaceAll(plain, "o1", "mallory")
								rest = strings.TrimSuffix(strings.TrimSuffix(lie, "</xml>"), "}")
							}
							body = rest + map[format]string{formatXML: "<Encrypt>" + encrypt + "</Encrypt></xml>", formatJSON: `,"Encrypt":"` + encrypt + `"}`}[f]
						}
						m, err := r.Open(q, []byte(body))
						if err != nil {
							t.Fatalf("%v\n%s", err, body)
						}
						if m.FromUserName != "o1" || m.CreateTime.Unix() != pushNow-1 {
							t.Errorf("%s at %v", m.FromUserName, m.CreateTime)
						}
						if got := m.Typed(); !reflect.DeepEqual(got, c.want) {
							t.Errorf("%#v\nwant %#v", got, c.want)
						}
						if n, within := m.ReplyQuota(); n != c.quota || (within > 0) != (n > 0) {
							t.Errorf("%d messages for %v", n, within)
						}
						again, err := r.Open(q, []byte(body))
						if err != nil || again.Key() != m.Key() {
							t.Error("a repeat has another key", err)
						}
						reply := m.TextReply("好的 <b>")
						answer, kind, err := r.Answer(m, reply)
						if err != nil || kind == "" || bytes.Equal(answer, reply) == (mode != "plain") {
							t.Errorf("%v %s %s", err, kind, answer)
						}
						if b, _, err := r.Answer(m, []byte("success")); err != nil || string(b) != "success" {
							t.Error("success was sealed", err)
						}
					})
				}
			}
		}
	}
}

// Two events of one person in one second are two.
func TestKey_twoEventsInOneSecond(t *testing.T) {
	r := newTestReceiver(t)
	seen := map[string]string{}
	for _, c := range pushCases {
		for _, f := range []format{formatXML, formatJSON} {
			m, err := r.Open(plainQuery(pushNow), []byte(c.body(f, pushNow)))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(m.Key(), "msg:") {
				continue
			}
			if other, twice := seen[m.Key()+fmt.Sprint(f)]; twice {
				t.Errorf("%s and %s are one", other, c.name)
			}
			seen[m.Key()+fmt.Sprint(f)] = c.name
		}
	}
}

// Strange shapes give empty fields, never a refusal.
func TestTyped_strangeShapes(t *testing.T) {
	r := newTestReceiver(t)
	for body, want := range map[string]Push{
		`"MsgType":"event","Event":"subscribe_msg_popup_event"`:                                             SubscribePopup{},
		`"MsgType":"event","Event":"subscribe_msg_popup_event","List":null`:                                 SubscribePopup{},
		`"MsgType":"event","Event":"subscribe_msg_popup_event","List":"x"`:                                  SubscribePopup{},
		`"MsgType":"event","Event":"subscribe_msg_popup_event","List":[1,null]`:                             SubscribePopup{[]SubscribeItem{{}, {}}},
		`"MsgType":"event","Event":"subscribe_msg_sent_event","List":[{"MsgID":7,"ErrorCode":"x"}]`:         SubscribeSent{[]SubscribeItem{{MsgID: "7"}}},
		`"MsgType":"event","Event":"wxa_media_check","result":[],"errcode":{}`:                              MediaChecked{},
		`"MsgType":"event","Event":"trade_manage_remind_shipping","pay_time":"soon","transaction_id":{}`:    ShippingReminder{},
		`"MsgType":"event","Event":"xpay_goods_deliver_notify","WeChatPayInfo":"{\"TransactionId\":\"4\"}"`: GoodsDelivery{VirtualPayment: VirtualPayment{PayTransactionID: "4"}},
		`"MsgType":"event","Event":"xpay_coin_pay_notify","WeChatPayInfo":"{","CoinInfo":7`:                 CoinPayment{},
		`"MsgType":"event","Event":"PUBLISHJOBFINISH"`:                                                      PublishResult{},
		`"MsgType":"event"`: UnknownPush{},
	} {
		m, err := r.Open(plainQuery(pushNow), []byte(`{"FromUserName":"o1",`+body+`}`))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if got := m.Typed(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v", body, got)
		}
	}
}

func FuzzTyped(f *testing.F) {
	for _, c := range pushCases {
		f.Add(c.body(formatJSON, pushNow))
		f.Add(c.body(formatXML, pushNow))
	}
	r := newTestReceiver(f)
	f.Fuzz(func(t *testing.T, body string) {
		m, err := r.Open(plainQuery(pushNow), []byte(body))
		if err != nil {
			return
		}
		if m.Typed() == nil || !reflect.DeepEqual(m.Typed(), m.Typed()) {
			t.Error("no type")
		}
		if c, ok := m.Typed().(MediaChecked); ok && c.Verdict == VerdictPass && c.Code != 0 {
			t.Error("passed without having been seen")
		}
		if n, within := m.ReplyQuota(); n < 0 || n > MessageQuota || (n > 0) != (within > 0) {
			t.Error(n, within)
		}
	})
}

func TestPushHandlers(t *testing.T) {
	var h PushHandlers
	var heard []string
	say := func(s string) { heard = append(heard, s) }
	HandlePush(&h, func(_ context.Context, m *PushMessage, p TextMessage) ([]byte, error) {
		say("text " + p.Content)
		return m.TextReply("first"), nil
	})
	HandlePush(&h, func(_ context.Context, m *PushMessage, p TextMessage) ([]byte, error) {
		return m.TextReply("second"), nil
	})
	HandlePush(&h, func(_ context.Context, m *PushMessage, p Scan) ([]byte, error) {
		say("scan " + p.Scene)
		return nil, errors.New("away")
	})
	HandlePush(&h, func(context.Context, *PushMessage, Scan) ([]byte, error) { panic("ours") })
	HandlePush(&h, func(_ context.Context, m *PushMessage, _ UnknownPush) ([]byte, error) {
		say("unknown " + m.Kind())
		return nil, nil
	})
	h.HandleKind("event:my_event", func(_ context.Context, m *PushMessage) ([]byte, error) { say("mine"); return m.TextReply("own"), nil })
	h.HandleAny(func(_ context.Context, m *PushMessage) ([]byte, error) { say("any " + m.Kind()); return nil, nil })
	r := newTestReceiver(t)
	push := func(fields string) ([]byte, error) {
		t.Helper()
		m, err := r.Open(plainQuery(pushNow), []byte(`{"ToUserName":"gh_1","FromUserName":"o1",`+fields+`}`))
		if err != nil {
			t.Fatal(err)
		}
		return h.Handle(t.Context(), m)
	}
	if reply, err := push(`"MsgType":"text","Content":"hi"`); err != nil || !bytes.Contains(reply, []byte("first")) {
		t.Errorf("%s %v", reply, err)
	}
	reply, err := push(`"MsgType":"event","Event":"SCAN","EventKey":"7"`)
	if err == nil || !strings.Contains(err.Error(), "away") || !strings.Contains(err.Error(), "panic on a Scan: ours") || reply != nil {
		t.Errorf("%s %v", reply, err)
	}
	if reply, err := push(`"MsgType":"event","Event":"my_event"`); err != nil || !bytes.Contains(reply, []byte("own")) {
		t.Errorf("%s %v", reply, err)
	}
	want := "text hi|any text|scan 7|any event:SCAN|unknown event:my_event|mine|any event:my_event"
	if got := strings.Join(heard, "|"); got != want {
		t.Error(got)
	}
	var none PushHandlers
	if reply, err := none.Handle(t.Context(), &PushMessage{MsgType: "text"}); reply != nil || err != nil {
		t.Error("a table without handlers")
	}
}
