package wechat

import (
	"encoding/json"
	"strings"
	"testing"
)

func openPlain(t testing.TB, f format, kind string) *PushMessage {
	t.Helper()
	body := []string{textXML, textJSON}[f]
	body = strings.Replace(strings.Replace(body, `"MsgType":"text"`, `"MsgType":"`+kind+`"`, 1), "[CDATA[text]]", "[CDATA["+kind+"]]", 1)
	m, err := newTestReceiver(t).Open(plainQuery(pushNow), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReplies_bytes(t *testing.T) {
	articles := []Article{{"标题 <1>", "说明 & 更多", "https://a.example/1.png", "https://a.example/?a=1&b=2"}, {"2", "", "", "https://a.example/2"}}
	for _, c := range []struct {
		name  string
		kind  string // of the push
		reply func(m *PushMessage) []byte
		xml   string // behind the four fields
		json  string
	}{
		{"text", "text", func(m *PushMessage) []byte { return m.TextReply(`你好 <b> & "😀"`) },
			`<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好 <b> & "😀"]]></Content>`,
			`"MsgType":"text","Content":"你好 <b> & \"😀\""`},
		{"text with the end mark", "text", func(m *PushMessage) []byte { return m.TextReply(`a]]>b<Content>`) },
			`<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[a]]]]><![CDATA[>b<Content>]]></Content>`,
			`"MsgType":"text","Content":"a]]>b<Content>"`},
		{"text that XML cannot hold", "text", func(m *PushMessage) []byte { return m.TextReply("a\x00b\x1b\xff\uffffc\r\nd") },
			"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[abc\nd]]></Content>",
			`"MsgType":"text","Content":"abc\nd"`},
		{"image", "text", func(m *PushMessage) []byte { return m.ImageReply("media-1") },
			`<MsgType><![CDATA[image]]></MsgType><Image><MediaId><![CDATA[media-1]]></MediaId></Image>`,
			`"MsgType":"image","Image":{"MediaId":"media-1"}`},
		{"voice", "text", func(m *PushMessage) []byte { return m.VoiceReply("media-1") },
			`<MsgType><![CDATA[voice]]></MsgType><Voice><MediaId><![CDATA[media-1]]></MediaId></Voice>`,
			`"MsgType":"voice","Voice":{"MediaId":"media-1"}`},
		{"video", "text", func(m *PushMessage) []byte { return m.VideoReply("media-1", "标题", "") },
			`<MsgType><![CDATA[video]]></MsgType><Video><MediaId><![CDATA[media-1]]></MediaId><Title><![CDATA[标题]]></Title><Description><![CDATA[]]></Description></Video>`,
			`"MsgType":"video","Video":{"MediaId":"media-1","Title":"标题","Description":""}`},
		{"music", "event", func(m *PushMessage) []byte {
			return m.MusicReply(Music{Title: "歌", URL: "https://a.example/1.mp3", ThumbMediaID: "thumb-1"})
		},
			`<MsgType><![CDATA[music]]></MsgType><Music><Title><![CDATA[歌]]></Title><Description><![CDATA[]]></Description><MusicUrl><![CDATA[https://a.example/1.mp3]]></MusicUrl><HQMusicUrl><![CDATA[https://a.example/1.mp3]]></HQMusicUrl><ThumbMediaId><![CDATA[thumb-1]]></ThumbMediaId></Music>`,
			`"MsgType":"music","Music":{"Title":"歌","Description":"","MusicUrl":"https://a.example/1.mp3","HQMusicUrl":"https://a.example/1.mp3","ThumbMediaId":"thumb-1"}`},
		{"no voice", "text", func(m *PushMessage) []byte { return m.VoiceReply("") }, "", ""},
		{"no video", "text", func(m *PushMessage) []byte { return m.VideoReply("", "t", "d") }, "", ""},
		{"music without a picture", "text", func(m *PushMessage) []byte { return m.MusicReply(Music{Title: "t"}) }, "", ""},
		{"one card for a message", "text", func(m *PushMessage) []byte { return m.NewsReply(articles) },
			`<MsgType><![CDATA[news]]></MsgType><ArticleCount>1</ArticleCount><Articles><item><Title><![CDATA[标题 <1>]]></Title><Description><![CDATA[说明 & 更多]]></Description><PicUrl><![CDATA[https://a.example/1.png]]></PicUrl><Url><![CDATA[https://a.example/?a=1&b=2]]></Url></item></Articles>`,
			`"MsgType":"news","ArticleCount":1,"Articles":[{"Title":"标题 <1>","Description":"说明 & 更多","PicUrl":"https://a.example/1.png","Url":"https://a.example/?a=1&b=2"}]`},
		{"transfer", "text", func(m *PushMessage) []byte { return m.TransferReply("") },
			`<MsgType><![CDATA[transfer_customer_service]]></MsgType>`, `"MsgType":"transfer_customer_service"`},
		{"transfer to one", "text", func(m *PushMessage) []byte { return m.TransferReply("kf1@shop") },
			`<MsgType><![CDATA[transfer_customer_service]]></MsgType><TransInfo><KfAccount><![CDATA[kf1@shop]]></KfAccount></TransInfo>`,
			`"MsgType":"transfer_customer_service","TransInfo":{"KfAccount":"kf1@shop"}`},
		{"no text", "text", func(m *PushMessage) []byte { return m.TextReply("\x00") }, "", ""},
		{"no picture", "text", func(m *PushMessage) []byte { return m.ImageReply("") }, "", ""},
		{"no cards", "text", func(m *PushMessage) []byte { return m.NewsReply(nil) }, "", ""},
		{"transfer of an event", "event", func(m *PushMessage) []byte { return m.TransferReply("") }, "", ""},
	} {
		wantXML := `<xml><ToUserName><![CDATA[o1]]></ToUserName><FromUserName><![CDATA[gh_1]]></FromUserName><CreateTime>1768444496</CreateTime>` + c.xml + `</xml>`
		wantJSON := `{"ToUserName":"o1","FromUserName":"gh_1","CreateTime":1768444496,` + c.json + `}`
		if c.xml == "" {
			wantXML, wantJSON = "success", "success"
		}
		if got := string(c.reply(openPlain(t, formatXML, c.kind))); got != wantXML {
			t.Errorf("%s: %s\nwant %s", c.name, got, wantXML)
		} else if _, err := parseXML([]byte(got)); err != nil && got != "success" {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := string(c.reply(openPlain(t, formatJSON, c.kind))); got != wantJSON {
			t.Errorf("%s: %s\nwant %s", c.name, got, wantJSON)
		}
	}
	many := make([]Article, 10)
	if got := string(openPlain(t, formatXML, "event").NewsReply(many)); strings.Count(got, "<item>") != 8 || !strings.Contains(got, "<ArticleCount>8<") {
		t.Error(got)
	}
	long := parsedReply(t, openPlain(t, formatXML, "text").TextReply(strings.Repeat("好", 1000)))
	if len(long) > maxReplyText || len(long) < maxReplyText-3 || strings.Trim(long, "好") != "" {
		t.Error(len(long))
	}
}

func parsedReply(t testing.TB, b []byte) string {
	t.Helper()
	f, _, err := parsePush(b)
	if err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return scalar(f["Content"])
}

// A reply takes the way of the push: sealed for a sealed one, and WeChat opens it.
func TestReplies_sealed(t *testing.T) {
	r := newTestReceiver(t, sealedMode)
	for f, body := range []string{textXML, textJSON} {
		q, sealed := sealedPush(t, format(f), body)
		m, err := r.Open(q, sealed)
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := r.Answer(m, m.TextReply("在的"))
		if err != nil {
			t.Fatal(err)
		}
		outer, _, err := parsePush(answer)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := r.seal.open(scalar(outer["Encrypt"]))
		if err != nil || parsedReply(t, plain) != "在的" {
			t.Errorf("%s %v", plain, err)
		}
	}
}

func TestSceneKey(t *testing.T) {
	for key, want := range map[string]string{"qrscene_table-7": "table-7", "table-7": "table-7", "": "", "qrscene_": ""} {
		if got := (&PushMessage{EventKey: key}).SceneKey(); got != want {
			t.Errorf("%q: %q", key, got)
		}
	}
	m, err := newTestReceiver(t).Open(plainQuery(pushNow), []byte(`<xml><FromUserName>o1</FromUserName><CreateTime>1</CreateTime><MsgType>event</MsgType><Event>LOCATION</Event><Latitude>23.137466</Latitude><Longitude>113.352425</Longitude><Precision>119.385040</Precision><Ticket>t1</Ticket></xml>`))
	if err != nil || m.Latitude != "23.137466" || m.Longitude != "113.352425" || m.Precision != "119.385040" || m.Ticket != "t1" {
		t.Errorf("%+v %v", m, err)
	}
}

// Whatever is said, the reply says it and nothing else.
func FuzzTextReply(f *testing.F) {
	f.Add("你好")
	f.Add("]]><Content>x</Content>")
	f.Add("]]]]>>\x00\r\n&amp;")
	xml, js := openPlain(f, formatXML, "text"), openPlain(f, formatJSON, "text")
	f.Fuzz(func(t *testing.T, content string) {
		want := cut(xmlText(content), maxReplyText)
		b := xml.TextReply(content)
		if want == "" {
			if string(b) != "success" {
				t.Errorf("%s", b)
			}
			return
		}
		fields, err := parseXML(b)
		if err != nil || len(fields) != 5 || fields["Content"] != want || fields["ToUserName"] != "o1" {
			t.Errorf("%v in %s", err, b)
		}
		var m map[string]any
		if err := json.Unmarshal(js.TextReply(content), &m); err != nil || len(m) != 5 || m["Content"] != want {
			t.Errorf("%v in %s", err, js.TextReply(content))
		}
	})
}
