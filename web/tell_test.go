package web

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"wxhub/store"
	"wxhub/wechat"
)

func TestMask(t *testing.T) {
	for name, want := range map[string]string{
		"张三":             "张**",
		"Alice":          "A**",
		"  小雨":           "小**",
		"🍎苹果":            "🍎**",
		"":               "微**",
		" \t\n":          "微**",
		"\u202Eevil":     "e**",
		"<script>":       "s**",
		"\x00\x01":       "微**",
		"\xff\xfe李":      "李**",
		"\u0301\u0301 é": "é**",
		"7号客人":           "7**",
	} {
		if got := mask(name); got != want {
			t.Errorf("mask(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestTellPaid(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	order := store.Order{
		OutTradeNo: "20260101000000abc", UserID: "u1", OpenID: "oSECRET", Description: `红富士 <5斤> & "礼盒"`,
		Quantity: 2, TotalFen: 1999, Room: "notice",
	}
	user := store.User{ID: "u1", OpenID: "oSECRET", Nickname: "张三"}

	told := tellPaid(at)(order, user)
	if len(told) != 2 {
		t.Fatalf("told %d things, want a notice and a letter", len(told))
	}
	notice, letter := told[0], told[1]
	if notice.Kind != store.TellRoom || notice.To != "notice" || notice.Action != "purchase" || !strings.HasPrefix(notice.ID, "pay:") || strings.Contains(notice.ID, order.OutTradeNo) {
		t.Errorf("notice = %+v", notice)
	}
	if want := `{"buyer":"张**","product":"红富士 <5斤> & \"礼盒\"","quantity":2,"at":1700000000123}`; string(notice.Payload) != want {
		t.Errorf("notice payload\n got %s\nwant %s", notice.Payload, want)
	}
	if letter.Kind != store.TellMail || letter.To != "u1" || letter.Action != "order.paid" || letter.ID != notice.ID {
		t.Errorf("letter = %+v", letter)
	}
	if want := `{"outTradeNo":"20260101000000abc","total":1999,"description":"红富士 <5斤> & \"礼盒\"","at":1700000000123,"refunded":0}`; string(letter.Payload) != want {
		t.Errorf("letter payload\n got %s\nwant %s", letter.Payload, want)
	}

	order.Room, order.UserID = "", ""
	if told := tellPaid(at)(order, store.User{}); len(told) != 0 {
		t.Errorf("an order without room and user tells %v", told)
	}
}

func TestTellPush(t *testing.T) {
	rules := []Reply{{Keyword: "发货", Text: "四十八小时内发货"}, {Keyword: "HELP", Text: "in a minute"}}
	c, u := store.Conversation{ID: "c1"}, store.User{ID: "u1", OpenID: "oSECRET"}
	message := wechat.PushMessage{
		ToUserName: "gh_1", FromUserName: "oSECRET", CreateTime: time.Unix(1700000000, 0),
		MsgType: "text", MsgID: "9007199254740993", Content: "什么时候发货?",
	}

	told := (&desk{rules: rules}).miniPush(&message).Tell(c, u)
	if len(told) != 2 {
		t.Fatalf("told %d things, want the message and the reply", len(told))
	}
	want := `{"conversation":"c1","user":"u1","msgId":"9007199254740993","type":"text","content":"什么时候发货?","picUrl":"","mediaId":"","title":"","pagePath":"","at":1700000000000}`
	if told[0].Action != "kf.message" || told[0].To != "kf" || string(told[0].Payload) != want {
		t.Errorf("message\n got %+v %s\nwant %s", told[0], told[0].Payload, want)
	}
	if told[1].Kind != store.TellCustomSend || told[1].To != "oSECRET" || string(told[1].Payload) != `{"text":{"content":"四十八小时内发货"}}` {
		t.Errorf("reply = %+v %s", told[1], told[1].Payload)
	}

	event := message
	event.MsgType, event.Event, event.SessionFrom, event.MsgID, event.Content = "event", "user_enter_tempsession", "detail", "", ""
	told = (&desk{rules: append(rules, Reply{Text: "to everything"})}).miniPush(&event).Tell(c, u)
	want = `{"conversation":"c1","user":"u1","event":"user_enter_tempsession","sessionFrom":"detail","at":1700000000000}`
	if len(told) != 1 || told[0].Action != "kf.event" || string(told[0].Payload) != want {
		t.Errorf("event = %+v, want only %s", told, want)
	}

	for _, told := range append((&desk{rules: rules}).miniPush(&message).Tell(c, u), (&desk{rules: rules}).miniPush(&event).Tell(c, u)...) {
		if told.Kind == store.TellCustomSend {
			continue // To and for WeChat, which knows it
		}
		if text, _ := json.Marshal(told); strings.Contains(string(text), "oSECRET") {
			t.Errorf("an openid is told: %s", text)
		}
	}
}

func FuzzMask(f *testing.F) {
	for _, name := range []string{"张三", "", "\u202Eevil", "🏳️‍🌈", "<b>"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		masked := mask(name)
		first, ok := strings.CutSuffix(masked, "**")
		if r := []rune(first); !ok || len(r) != 1 || !unicode.IsPrint(r[0]) || unicode.IsSpace(r[0]) {
			t.Errorf("mask(%q) = %q", name, masked)
		}
		if clipped := clip(name); !utf8.ValidString(clipped) || strings.ContainsRune(clipped, 0) || len(clipped) > 4<<10 {
			t.Errorf("clip(%q) = %q", name, clipped)
		}
	})
}
