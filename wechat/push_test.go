package wechat

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	testToken  = "pushtoken01"
	testAESKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	pushNow    = 1768444496
)

func newTestReceiver(t testing.TB, change ...func(*PushOptions)) *Receiver {
	t.Helper()
	o := PushOptions{AppID: testAppID, Token: testToken, Now: at(pushNow)}
	for _, f := range change {
		f(&o)
	}
	r, err := NewReceiver(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sealedMode(o *PushOptions) { o.AESKey = testAESKey }

// plainQuery is what WeChat puts into the URL of a plain push.
func plainQuery(timestamp int64) url.Values {
	ts := strconv.FormatInt(timestamp, 10)
	return query(map[string]string{"timestamp": ts, "nonce": "1320562132", "openid": "o1",
		"signature": pushSignature(testToken, ts, "1320562132")})
}

// sealedPush is what WeChat sends in safe mode.
func sealedPush(t testing.TB, format format, plain string) (url.Values, []byte) {
	s, err := newSealer(testAESKey, testAppID)
	if err != nil {
		t.Fatal(err)
	}
	return envelope(format, s.seal([]byte(plain)))
}

func envelope(format format, encrypt string) (url.Values, []byte) {
	q := plainQuery(pushNow)
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", pushSignature(testToken, q.Get("timestamp"), q.Get("nonce"), encrypt))
	if format == formatJSON {
		b, _ := json.Marshal(map[string]string{"ToUserName": "gh_1", "Encrypt": encrypt})
		return q, b
	}
	return q, []byte("<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[" + encrypt + "]]></Encrypt></xml>")
}

const (
	textJSON = `{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1768444490,"MsgType":"text","Content":"你好 😀 <b>&\"","MsgId":7594567890123456789}`
	textXML  = `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o1]]></FromUserName><CreateTime>1768444490</CreateTime>` +
		`<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好 😀 <b>&"]]></Content><MsgId>7594567890123456789</MsgId></xml>`
)

// Every mode and format gives the same message, and the same key.
func TestOpen_modesAndFormats(t *testing.T) {
	for _, mode := range []string{"plain", "compatible", "safe", "compatible, no key set"} {
		for _, f := range []format{formatXML, formatJSON} {
			t.Run(fmt.Sprint(mode, " ", []string{"XML", "JSON"}[f]), func(t *testing.T) {
				body := []byte([]string{textXML, textJSON}[f])
				r, q := newTestReceiver(t), plainQuery(pushNow)
				if mode != "plain" {
					var sealed []byte
					q, sealed = sealedPush(t, f, string(body))
					encrypt := sealed
					if mode != "safe" { // the plain fields beside it are somebody else's words
						lie := strings.ReplaceAll(string(body), "你好", "谎言")
						if mode != "compatible" {
							lie = string(body)
						}
						fields, _, _ := parsePush(sealed)
						e := fields["Encrypt"].(string)
						if f == formatJSON {
							encrypt = []byte(strings.TrimSuffix(lie, "}") + `,"Encrypt":"` + e + `"}`)
						} else {
							encrypt = []byte(strings.TrimSuffix(lie, "</xml>") + "<Encrypt>" + e + "</Encrypt></xml>")
						}
					}
					body = encrypt
				}
				if mode == "safe" || mode == "compatible" {
					r = newTestReceiver(t, sealedMode)
				}
				m, err := r.Open(q, body)
				if err != nil {
					t.Fatal(err)
				}
				if m.ToUserName != "gh_1" || m.FromUserName != "o1" || m.MsgType != "text" || m.Content != "你好 😀 <b>&\"" ||
					m.MsgID != "7594567890123456789" || m.CreateTime.Unix() != 1768444490 {
					t.Errorf("%+v", m)
				}
				if m.Key() != "msg:gh_1:7594567890123456789" {
					t.Error(m.Key())
				}
				checkAnswer(t, r, m, f, mode == "safe" || mode == "compatible")
			})
		}
	}
}

// checkAnswer reads the passive reply as WeChat would.
func checkAnswer(t *testing.T, r *Receiver, m *PushMessage, f format, sealed bool) {
	t.Helper()
	for _, plain := range []string{"success", ""} {
		body, kind, err := r.Answer(m, []byte(plain))
		if err != nil || string(body) != plain || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%q became %q %s %v", plain, body, kind, err)
		}
	}
	reply := []string{"<xml><MsgType>text</MsgType></xml>", `{"a":"<&>"}`}[f]
	body, kind, err := r.Answer(m, []byte(reply))
	if err != nil || !strings.Contains(kind, []string{"xml", "json"}[f]) {
		t.Fatal(kind, err)
	}
	if !sealed {
		if string(body) != reply {
			t.Errorf("%s", body)
		}
		return
	}
	var got struct {
		XMLName                      xml.Name `json:"-"`
		Encrypt, MsgSignature, Nonce string
		TimeStamp                    int64
	}
	if f == formatJSON {
		err = json.Unmarshal(body, &got)
	} else {
		err = xml.Unmarshal(body, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.Nonce != "1320562132" || got.TimeStamp != pushNow ||
		got.MsgSignature != pushSignature(testToken, strconv.FormatInt(got.TimeStamp, 10), got.Nonce, got.Encrypt) {
		t.Errorf("%+v", got)
	}
	if plain, err := r.seal.open(got.Encrypt); err != nil || string(plain) != reply {
		t.Errorf("%s %v", plain, err)
	}
	if again, _, _ := r.Answer(m, []byte(reply)); bytes.Equal(again, body) {
		t.Error("sealed with the same random bytes twice")
	}
}

func TestOpen_forged(t *testing.T) {
	plain, sealed := newTestReceiver(t), newTestReceiver(t, sealedMode)
	with := func(q url.Values, k string, v ...string) url.Values {
		q[k] = v
		return q
	}
	sealedQ := func() url.Values { q, _ := sealedPush(t, formatJSON, textJSON); return q }
	_, sealedBody := sealedPush(t, formatJSON, textJSON)
	fitting, fittingBody := sealedPush(t, formatJSON, textJSON)
	_ = sealedQ
	for _, c := range []struct {
		name string
		r    *Receiver
		q    url.Values
		body string
		want error
	}{
		{"nothing in the query", plain, url.Values{}, textJSON, ErrSignature},
		{"other signature", plain, with(plainQuery(pushNow), "signature", strings.Repeat("0", 40)), textJSON, ErrSignature},
		{"empty signature", plain, with(plainQuery(pushNow), "signature", ""), textJSON, ErrSignature},
		{"signature twice", plain, with(plainQuery(pushNow), "signature", "x", plainQuery(pushNow).Get("signature")), textJSON, ErrSignature},
		{"timestamp twice", plain, with(plainQuery(pushNow), "timestamp", "1", "2"), textJSON, ErrSignature},
		{"other timestamp", plain, with(plainQuery(pushNow), "timestamp", "1768444497"), textJSON, ErrSignature},
		{"other nonce", plain, with(plainQuery(pushNow), "nonce", "1"), textJSON, ErrSignature},
		{"10 minutes old", plain, plainQuery(pushNow - 600), textJSON, nil},
		{"older", plain, plainQuery(pushNow - 601), textJSON, ErrStale},
		{"10 minutes ahead", plain, plainQuery(pushNow + 600), textJSON, nil},
		{"further ahead", plain, plainQuery(pushNow + 601), textJSON, ErrStale},
		{"milliseconds", plain, plainQuery(pushNow * 1000), textJSON, ErrMalformed},
		{"sealed, no key set", plain, fitting, string(fittingBody), ErrDecrypt},
		{"encrypt_type twice", plain, with(plainQuery(pushNow), "encrypt_type", "aes", "raw"), textJSON, ErrMalformed},

		{"unsealed, key set", sealed, plainQuery(pushNow), textJSON, ErrUnsealed},
		{"encrypt_type raw", sealed, with(sealedQ(), "encrypt_type", "raw"), string(sealedBody), ErrUnsealed},
		{"no encrypt_type", sealed, with(sealedQ(), "encrypt_type"), string(sealedBody), ErrUnsealed},
		{"plain body called sealed", sealed, sealedQ(), textJSON, ErrUnsealed},
		{"Encrypt an object", sealed, sealedQ(), `{"Encrypt":{}}`, ErrUnsealed},
		{"signature alone", sealed, with(fitting, "msg_signature"), string(fittingBody), ErrSignature},
		{"other msg_signature", sealed, with(sealedQ(), "msg_signature", strings.Repeat("0", 40)), string(sealedBody), ErrSignature},
		{"signature of another body", sealed, sealedQ(), string(sealedBody), ErrSignature},
	} {
		m, err := c.r.Open(c.q, []byte(c.body))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (m == nil) != (err != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			noCanary(t, err.Error(), testToken, testAESKey, "你好", `"o1"`)
		}
	}
}

// Sealed texts that carry a true signature and are wrong inside.
func TestOpen_sealedWrong(t *testing.T) {
	r := newTestReceiver(t, sealedMode)
	own, _ := newSealer(testAESKey, testAppID)
	other, _ := newSealer(testAESKey, "wx1")
	longer, _ := newSealer(testAESKey, testAppID+"x")
	otherKey, _ := newSealer(strings.Repeat("A", 43), testAppID)
	good := own.seal([]byte(textJSON))
	raw, _ := base64.StdEncoding.DecodeString(good)
	cut := base64.StdEncoding.EncodeToString(raw[:len(raw)-16])
	short := base64.StdEncoding.EncodeToString(raw[:32])
	flipped := bytes.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	for name, encrypt := range map[string]string{
		"another app":     other.seal([]byte(textJSON)),
		"appid and more":  longer.seal([]byte(textJSON)),
		"another key":     otherKey.seal([]byte(textJSON)),
		"not base64":      "!!!!",
		"half a block":    cut,
		"one block":       short,
		"a bit flipped":   base64.StdEncoding.EncodeToString(flipped),
		"line end inside": good[:8] + "\n" + good[8:],
		"empty base64":    "====",
	} {
		q, body := envelope(formatJSON, encrypt)
		if _, err := r.Open(q, body); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, plain := range map[string]string{"not JSON": "hello", "empty": "", "DOCTYPE": "<!DOCTYPE xml><xml></xml>"} {
		q, body := sealedPush(t, formatXML, plain)
		if _, err := r.Open(q, body); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpen_badBodies(t *testing.T) {
	r := newTestReceiver(t)
	nest := func(n int, open, close string) string { return strings.Repeat(open, n) + strings.Repeat(close, n) }
	from := `<FromUserName>o1</FromUserName><MsgType>text</MsgType>`
	for name, body := range map[string]string{
		"empty":                    "",
		"text":                     "hello",
		"number":                   "1",
		"JSON list":                "[]",
		"JSON broken":              textJSON[:50],
		"JSON and more":            textJSON + "{}",
		"JSON name twice":          strings.Replace(textJSON, `"MsgType"`, `"MsgType":"event","MsgType"`, 1),
		"JSON name twice, escaped": strings.Replace(textJSON, `"MsgType"`, `"Msg\u0054ype":"event","MsgType"`, 1),
		"JSON name twice below":    strings.Replace(textJSON, `{`, `{"a":{"b":1,"b":2},`, 1),
		"JSON too deep":            strings.Replace(textJSON, `{`, `{"a":`+nest(8, "[", "]")+`,`, 1),
		"JSON very deep":           nest(30000, `{"a":`, `}`),
		"JSON bad UTF-8":           strings.Replace(textJSON, "你", "\xff", 1),
		"JSON NaN":                 strings.Replace(textJSON, "1768444490", "NaN", 1),
		"JSON no sender":           `{"MsgType":"text"}`,
		"JSON no type":             `{"FromUserName":"o1"}`,
		"JSON sender an object":    `{"FromUserName":{"a":"o1"},"MsgType":"text"}`,
		"JSON sender huge":         `{"FromUserName":"` + strings.Repeat("o", 129) + `","MsgType":"text"}`,
		"JSON sender with NUL":     `{"FromUserName":"o\u0000","MsgType":"text"}`,
		"JSON time in ms":          strings.Replace(textJSON, "1768444490", "1768444490000", 1),
		"JSON time a word":         strings.Replace(textJSON, "1768444490", `"now"`, 1),
		"JSON time a fraction":     strings.Replace(textJSON, "1768444490", `1.5`, 1),
		"JSON other case":          strings.Replace(textJSON, "FromUserName", "fromusername", 1),
		"too long":                 strings.Replace(textJSON, "你好", strings.Repeat("x", maxBody), 1),
		"XML DOCTYPE":              `<!DOCTYPE xml [<!ENTITY a "b">]>` + textXML,
		"XML DOCTYPE inside":       strings.Replace(textXML, "<MsgId>", `<!DOCTYPE x><MsgId>`, 1),
		"XML external entity":      `<?xml version="1.0"?><!DOCTYPE foo SYSTEM "file:///etc/passwd"><xml>&foo;</xml>`,
		"XML entity":               strings.Replace(textXML, "1768444490", "&a;", 1),
		"XML comment":              strings.Replace(textXML, "1768444490", "17684<!-- -->44490", 1),
		"XML instruction":          strings.Replace(textXML, "<MsgId>", `<?php x?><MsgId>`, 1),
		"XML second instruction":   `<?xml version="1.0"?><?xml-stylesheet href="x"?>` + textXML,
		"XML other encoding":       `<?xml version="1.0" encoding="GBK"?>` + textXML,
		"XML element twice":        strings.Replace(textXML, "<MsgType>", `<MsgType>event</MsgType><MsgType>`, 1),
		"XML element twice, apart": strings.Replace(textXML, "</xml>", `<FromUserName>o2</FromUserName></xml>`, 1),
		"XML namespace":            strings.Replace(textXML, "<MsgId>", `<a:MsgType xmlns:a="b">x</a:MsgType><MsgId>`, 1),
		"XML other root":           strings.ReplaceAll(textXML, "xml>", "html>"),
		"XML two roots":            textXML + textXML,
		"XML and text":             textXML + "x",
		"XML text between":         "<xml>x" + from + "</xml>",
		"XML text root":            "<xml>x</xml>",
		"XML empty":                "<xml></xml>",
		"XML broken":               textXML[:100],
		"XML crossed":              "<xml><a><b></a></b></xml>",
		"XML too deep":             "<xml>" + from + nest(8, "<a>", "</a>") + "</xml>",
		"XML very deep":            "<xml>" + nest(9000, "<a>", "</a>") + "</xml>",
		"XML of crumbs":            "<xml>" + from + "<b>" + strings.Repeat("<a/>", 15000) + "</b></xml>",
		"XML bad UTF-8":            strings.Replace(textXML, "你", "\xff", 1),
		"XML NUL":                  strings.Replace(textXML, "你", "\x00", 1),
		"XML no sender":            "<xml><MsgType>text</MsgType></xml>",
	} {
		start := time.Now()
		m, err := r.Open(plainQuery(pushNow), []byte(body))
		if !errors.Is(err, ErrMalformed) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func TestOpen_shapesThatMustPass(t *testing.T) {
	r := newTestReceiver(t)
	for name, c := range map[string]struct {
		body  string
		check func(m *PushMessage) bool
	}{
		"numbers as text": {`{"FromUserName":"o1","CreateTime":"1768444490","MsgType":"event","Event":"subscribe_msg_popup_event","MsgId":"7594567890123456789"}`,
			func(m *PushMessage) bool {
				return m.CreateTime.Unix() == 1768444490 && m.MsgID == "7594567890123456789"
			}},
		"texts as numbers": {`{"FromUserName":"o1","MsgType":"text","Content":12345678901234567890}`,
			func(m *PushMessage) bool { return m.Content == "12345678901234567890" }},
		"null and unknown": {`{"FromUserName":"o1","MsgType":"event","Event":"new_one","EventKey":null,"Title":{"a":1},"x":[{"y":true}]}`,
			func(m *PushMessage) bool { return m.Event == "new_one" && m.EventKey == "" && m.Title == "" }},
		"list as object": {`{"FromUserName":"o1","MsgType":"event","Event":"e","List":{"TemplateId":"t"}}`,
			func(m *PushMessage) bool { _, ok := m.Fields["List"].(map[string]any); return ok }},
		"XML list": {`<xml><FromUserName>o1</FromUserName><MsgType>event</MsgType><E><List><T>1</T></List><List><T>2</T></List><List><T>3</T></List></E></xml>`,
			func(m *PushMessage) bool {
				e, _ := m.Fields["E"].(map[string]any)
				l, _ := e["List"].([]any)
				return len(l) == 3
			}},
		"XML escapes and parts of CDATA": {`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><Content>a &lt;b&gt; &#20320;<![CDATA[]]]]><![CDATA[>]]></Content></xml>` + "\n",
			func(m *PushMessage) bool { return m.Content == "a <b> 你]]>" }},
		"XML with spaces": {"<xml>\n <FromUserName>o1</FromUserName>\n <MsgType>text</MsgType>\n <CreateTime> 1768444490 </CreateTime>\n <Content>\n</Content>\n</xml>",
			func(m *PushMessage) bool { return m.Content == "\n" && m.CreateTime.Unix() == 1768444490 }},
		"image": {`{"FromUserName":"o1","MsgType":"image","PicUrl":"http://p","MediaId":"m","MsgId":1}`,
			func(m *PushMessage) bool { return m.PicURL == "http://p" && m.MediaID == "m" }},
		"card": {`{"FromUserName":"o1","MsgType":"miniprogrampage","Title":"t","AppId":"wx","PagePath":"p","ThumbUrl":"u","ThumbMediaId":"d"}`,
			func(m *PushMessage) bool {
				return m.Title == "t" && m.AppID == "wx" && m.PagePath == "p" && m.ThumbURL == "u" && m.ThumbMediaID == "d"
			}},
		"depth 8": {`{"FromUserName":"o1","MsgType":"event","a":[[[[[[[]]]]]]]}`, func(m *PushMessage) bool { return true }},
	} {
		m, err := r.Open(plainQuery(pushNow), []byte(c.body))
		if err != nil || !c.check(m) {
			t.Errorf("%s: %v %+v", name, err, m)
		}
	}
}

func TestKey(t *testing.T) {
	r := newTestReceiver(t)
	key := func(body string) string {
		m, err := r.Open(plainQuery(pushNow), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return m.Key()
	}
	event := `{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1768444490,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"TemplateId":"%s"}}`
	a, again, b := key(fmt.Sprintf(event, "t1")), key(fmt.Sprintf(" "+event, "t1")), key(fmt.Sprintf(event, "t2"))
	if a != again || a == b {
		t.Errorf("%s\n%s\n%s", a, again, b)
	}
	if !strings.HasPrefix(a, "event:gh_1:o1:20260115T023450:subscribe_msg_popup_event:") {
		t.Error(a)
	}
}

func TestCheckURL(t *testing.T) {
	for _, r := range []*Receiver{newTestReceiver(t), newTestReceiver(t, sealedMode)} {
		q := plainQuery(1) // no window: the check changes nothing
		q.Set("echostr", "<b>1</b>")
		if got, err := r.CheckURL(q); err != nil || got != "<b>1</b>" {
			t.Error(got, err)
		}
		q.Set("signature", "0")
		if got, err := r.CheckURL(q); !errors.Is(err, ErrSignature) || got != "" {
			t.Error(got, err)
		}
		if _, err := r.CheckURL(url.Values{"echostr": {"1"}}); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
		if _, err := r.CheckURL(plainQuery(pushNow)); !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
	}
}

func TestAnswer_nonceThatBreaksOut(t *testing.T) {
	r := newTestReceiver(t, sealedMode)
	const nonce = `]]></Nonce><a>"&`
	body, _, err := r.Answer(&PushMessage{format: formatXML, sealed: true, nonce: nonce}, []byte("<xml/>"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseXML(body)
	if err != nil || f["Nonce"] != nonce || len(f) != 4 {
		t.Errorf("%v %s", err, body)
	}
}

func TestNewReceiver_namesEachBadOption(t *testing.T) {
	for _, c := range []struct {
		o     PushOptions
		names []string
	}{
		{PushOptions{}, []string{"Token"}},
		{PushOptions{Token: " x"}, []string{"Token"}},
		{PushOptions{Token: "x", AESKey: testAESKey}, []string{"AppID"}},
		{PushOptions{AESKey: "canary", Window: -1}, []string{"Token", "AESKey", "AppID", "Window"}},
		{PushOptions{Token: "x", AppID: "a", AESKey: testAESKey + "H"}, []string{"AESKey"}},
		{PushOptions{Token: "x", AppID: "a", AESKey: testAESKey[:42] + "!"}, []string{"AESKey"}},
	} {
		_, err := NewReceiver(c.o)
		for _, name := range c.names {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s not named: %v", name, err)
			}
		}
		if err != nil {
			noCanary(t, err.Error(), testAESKey)
		}
	}
}
