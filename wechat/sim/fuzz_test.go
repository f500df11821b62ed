package sim

import (
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseAuthorization(f *testing.F) {
	f.Add(authScheme + ` mchid="1900000109",nonce_str="a",timestamp="1",serial_no="5",signature="AAAA"`)
	f.Add(authScheme + ` signature="",mchid="1"`)
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err == nil && (a.mchid == "" || a.nonce == "" || a.timestamp == "" || a.serial == "" || a.signature == "") {
			t.Errorf("incomplete: %+v", a)
		}
	})
}

func FuzzReadPrepay(f *testing.F) {
	f.Add(`{"appid":"wx","mchid":"1","description":"d","out_trade_no":"T0000001","notify_url":"https://a/b","amount":{"total":1},"payer":{"openid":"o"}}`)
	f.Add(`{"amount":{"total":1e2}}`)
	f.Add(`[`)
	s, err := New(Options{Credentials: credentials(), Now: newClock().Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, body string) {
		p, e := s.readPrepay([]byte(body))
		if e == nil && (p.total < 1 || !outTradeNoShape.MatchString(p.outTradeNo) || badNotifyURL(p.notifyURL) != "" || p.openid == "") {
			t.Errorf("accepted %+v", p)
		}
		if e != nil && (e.status != 400 || e.code == "" || e.message == "") {
			t.Errorf("refused with %+v", e)
		}
	})
}

func FuzzParseCustomMessage(f *testing.F) {
	f.Add(textTo("o", "你好"), true)
	f.Add(`{"touser":"o","msgtype":"text","text":{"content":"\u4f60"}}`, true)
	f.Add(`{"touser":"o","msgtype":"news","news":{"articles":[{"title":"a","url":"http://b"}]}}`, false)
	f.Add(`{"touser":"o","msgtype":"video","video":{"media_id":"m","thumb_media_id":"n"}}`, false)
	f.Fuzz(func(t *testing.T, body string, mini bool) {
		m, e := parseCustomMessage([]byte(body), mini)
		l := m.line
		if e == nil && (m.to == "" || l.Type == "text" && (l.Content == "" || len(l.Content) > maxTextBytes) || !utf8.ValidString(l.Content) || len(m.media) > 2) {
			t.Errorf("accepted %+v", m)
		}
	})
}

func FuzzParseUpload(f *testing.F) {
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.png\"\r\n\r\nfile\r\n--x--\r\n"))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\n\r\n--x--"))
	f.Add("application/json", []byte("{}"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if file, err := parseUpload(contentType, body); err == nil && len(file) > len(body) {
			t.Errorf("%d bytes of %d", len(file), len(body))
		}
	})
}

func FuzzReadReply(f *testing.F) {
	s, err := New(Options{Credentials: credentials(), Now: newClock().Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add("success", true, true)
	f.Add("<xml><ToUserName>o</ToUserName><MsgType>text</MsgType></xml>", true, false)
	f.Add(`{"Encrypt":"AAAA","MsgSignature":"a","TimeStamp":1,"Nonce":"n"}`, false, true)
	f.Add("<!DOCTYPE x><xml/>", true, false)
	f.Fuzz(func(t *testing.T, body string, asXML, safe bool) {
		form := pushForm{mode: modePlain, format: formatJSON}
		if asXML {
			form.format = formatXML
		}
		if safe {
			form.mode = modeSafe
		}
		p := pushed{to: s.mini, openid: "o", kind: "text"}
		rep, opened, err := p.readReply([]byte(body), form)
		if err == nil && safe && rep != nil && opened == "" {
			t.Errorf("unsealed reply accepted: %+v", rep)
		}
	})
}

func FuzzPushBoxOpen(f *testing.F) {
	box, err := newPushBox(credentials().PushAESKey, "wx1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(box.seal("0123456789abcdef", []byte("hello")))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, sealed string) { box.open(sealed) })
}

// Whatever arrives at the control side is answered with JSON and never with a 5xx.
func FuzzControl(f *testing.F) {
	s, err := New(Options{Credentials: credentials(), Now: newClock().Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add("/sim/login", `{"user":"alice"}`)
	f.Add("/sim/pay", `{"user":"alice","timeStamp":"1","package":"prepay_id=x"}`)
	f.Add("/sim/trigger", `{"event":"pay"}`)
	f.Add("/sim/trigger", `{"event":"event","user":"a","name":"x","fields":{"A":1}}`)
	f.Add("/sim/phone", `{"user":"alice"}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		switch path {
		case "/sim/login", "/sim/pay", "/sim/trigger", "/sim/message", "/sim/phone", "/sim/fault":
		default:
			path = "/sim/login"
		}
		if strings.Contains(body, "http") {
			return // nothing leaves this test
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if rec.Code >= 500 || !strings.HasPrefix(rec.Body.String(), "{") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}

func FuzzParseV2(f *testing.F) {
	f.Add("<xml><appid>wx</appid><sign><![CDATA[A]]></sign></xml>")
	f.Add("<xml><a><b/></a></xml>")
	f.Add("<!DOCTYPE x [<!ENTITY a \"b\">]><xml>&a;</xml>")
	f.Fuzz(func(t *testing.T, body string) {
		fields, err := parseV2([]byte(body))
		if err != nil {
			return
		}
		again := v2Fields{}
		for name, value := range fields {
			again = again.with(name, value)
		}
		if signV2(signMD5, "k", fields) != signV2(signMD5, "k", again.set()) {
			t.Errorf("%v", fields)
		}
	})
}

func FuzzReadRefund(f *testing.F) {
	f.Add(`{"out_trade_no":"T0000001","out_refund_no":"R1","amount":{"refund":1,"total":2,"currency":"CNY"}}`)
	f.Add(`{"amount":{"refund":1e9}}`)
	f.Fuzz(func(t *testing.T, body string) {
		p, e := readRefund([]byte(body))
		if e == nil && (p.fee < 1 || p.fee > p.total || !outRefundNoShape.MatchString(p.outRefundNo) || p.outTradeNo+p.transactionID == "") {
			t.Errorf("accepted %+v", p)
		}
	})
}

func FuzzParseFault(f *testing.F) {
	f.Add("path=/x,status=502,times=3")
	f.Add("on=push,forge=signature,always")
	f.Add("slow=9999999999999999999999,=,,")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseFault(text); err == nil && !got.spoils() && !got.ofCallback() && !got.TokenInvalid && !got.TokenExpired {
			t.Errorf("%q is no fault: %+v", text, got)
		}
	})
}

// Whatever a shop sends, api.weixin.qq.com answers 200 with JSON or a picture.
func FuzzPlatform(f *testing.F) {
	s, err := New(Options{Credentials: credentials(), Now: newClock().Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	s.mu.Lock()
	s.mini.stable.mint(s.opts.Now())
	token := s.mini.stable.current.text
	s.mu.Unlock()
	openid := s.openidOf("alice")
	paths := []string{"/cgi-bin/message/subscribe/send", "/cgi-bin/message/custom/send", "/cgi-bin/message/custom/typing", "/wxa/msg_sec_check", "/wxa/media_check_async",
		"/wxa/sec/order/upload_shipping_info", "/wxa/sec/order/get_order", "/wxa/sec/order/get_order_list", "/wxa/sec/order/notify_confirm_receive", "/wxa/sec/order/opspecialorder",
		"/wxa/generate_urllink", "/wxa/generatescheme", "/wxa/getwxacode", "/wxa/getwxacodeunlimit", "/wxa/business/getuserphonenumber", "/cgi-bin/clear_quota"}
	for i, body := range []string{`{"touser":"` + openid + `","template_id":"TPL_0123456789","data":{"thing1":{"value":"a"}}}`, textTo(openid, "a"), `{"touser":"o","command":"Typing"}`,
		`{"openid":"` + openid + `","scene":1,"version":2,"content":"a"}`, `{"media_url":"https://a/b","media_type":2,"version":2,"scene":1,"openid":"` + openid + `"}`,
		string(toJSON(shippingOf(openid, "T0000001"))), `{"transaction_id":"1"}`, `{"page_size":1}`, `{"merchant_trade_no":"1","received_time":1}`, `{"order_id":"1","type":2}`,
		`{"path":"a","expire_type":1,"expire_interval":3}`, `{"jump_wxa":{"path":"a"}}`, `{"path":"a?b=c"}`, `{"scene":"a"}`, `{"code":"x"}`, `{"appid":"wx"}`} {
		f.Add(uint8(i), body)
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		path := paths[int(which)%len(paths)]
		if path == "/wxa/media_check_async" && strings.Contains(body, "http") && !strings.Contains(body, "https://a/b") {
			return // nothing leaves this test
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest("POST", path+"?access_token="+token, strings.NewReader(body)))
		if rec.Code != 200 || !strings.HasPrefix(rec.Body.String(), "{") && !strings.HasPrefix(rec.Body.String(), "\x89PNG") {
			t.Errorf("%s: %d %.200s", path, rec.Code, rec.Body)
		}
	})
}

func FuzzUnifiedOrder(f *testing.F) {
	s, err := New(Options{Credentials: credentials(), Now: newClock().Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add("小猫杯", "T0000001", "990", "127.0.0.1", "https://a/b", "JSAPI", "o1", "20260115190000")
	f.Add("", "T", "9.9", "x", "http://a/b?c", "NATIVE", "", "x")
	f.Fuzz(func(t *testing.T, body, no, fee, ip, notify, trade, openid, expire string) {
		p, e := s.readUnifiedOrder(v2Request{signType: signMD5, fields: map[string]string{"body": body, "out_trade_no": no, "total_fee": fee, "spbill_create_ip": ip,
			"notify_url": notify, "trade_type": trade, "openid": openid, "time_expire": expire}})
		if e == nil && (p.total < 1 || len(p.outTradeNo) < 6 || len(p.outTradeNo) > 32 || p.openid == "" || strings.Contains(p.notifyURL, "?")) {
			t.Errorf("taken: %+v", p)
		}
	})
}
