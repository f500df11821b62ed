package wechat

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// v2Notify is what WeChat Pay sends of a payment.
var v2Notify = v2Paid.with("trade_state", "-", "attach", "房间=notice&用户=张三", "fee_type", "CNY", "coupon_fee_0", "10")

func TestOpenNotify_v2(t *testing.T) {
	for _, signType := range []string{signMD5, signHMAC} {
		s := v2Signer{testV2Key, signType}
		p := newTestPayV2(t, nil, func(o *PayV2Options) { o.SignType = signType })
		good := v2Answer(s, v2Notify)
		for _, c := range []struct {
			name, body string
			want       error
		}{
			{"as it came", good, nil},
			{"sign in small letters", rawV2(v2Notify.with("sign", strings.ToLower(s.sign(v2Notify)))), nil},
			{"another app is for the caller", v2Answer(s, v2Notify.with("appid", "wx1")), nil},
			{"unsigned", rawV2(v2Notify), ErrSignature},
			{"empty sign", rawV2(v2Notify.with("sign", "")), ErrSignature},
			{"another sign", rawV2(v2Notify.with("sign", strings.Repeat("A", 32))), ErrSignature},
			{"another key", v2Answer(v2Signer{strings.Repeat("k", 32), signType}, v2Notify), ErrSignature},
			{"another amount", strings.Replace(good, "<total_fee>100<", "<total_fee>1<", 1), ErrSignature},
			{"one field more", strings.Replace(good, "<xml>", "<xml><coupon_fee>1</coupon_fee>", 1), ErrSignature},
			{"one field less", strings.Replace(good, "<new_field><![CDATA[new]]></new_field>", "", 1), ErrSignature},
			{"unsigned FAIL", rawV2(v2Fields{"return_code": "FAIL", "return_msg": "x"}), ErrSignature},
			{"signed FAIL", v2Answer(s, v2Notify.with("return_code", "FAIL")), ErrMalformed},
			{"no result", v2Answer(s, v2Notify.with("result_code", "-")), ErrMalformed},
			{"no amount", v2Answer(s, v2Notify.with("total_fee", "-")), ErrMalformed},
			{"amount a fraction", v2Answer(s, v2Notify.with("total_fee", "100.0")), ErrMalformed},
			{"no transaction", v2Answer(s, v2Notify.with("transaction_id", "-")), ErrMalformed},
			{"no order", v2Answer(s, v2Notify.with("out_trade_no", "-")), ErrMalformed},
			{"no merchant", v2Answer(s, v2Notify.with("mch_id", "-")), ErrMalformed},
			{"no time", v2Answer(s, v2Notify.with("time_end", "-")), ErrMalformed},
			{"amount twice", strings.Replace(good, "<xml>", "<xml><total_fee>1</total_fee>", 1), ErrMalformed},
			{"document type", `<!DOCTYPE xml [<!ENTITY a "b">]>` + good, ErrMalformed},
			{"comment", strings.Replace(good, "<xml>", "<xml><!-- -->", 1), ErrMalformed},
			{"nested", strings.Replace(good, "<xml>", "<xml><a><b>1</b></a>", 1), ErrMalformed},
			{"deep", strings.Replace(good, "<xml>", "<xml>"+strings.Repeat("<a>", 20)+strings.Repeat("</a>", 20), 1), ErrMalformed},
			{"billion laughs", `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><xml><attach>&b;</attach></xml>`, ErrMalformed},
			{"behind the end", good + "<xml/>", ErrMalformed},
			{"JSON", `{"return_code":"SUCCESS"}`, ErrMalformed},
			{"empty", ``, ErrMalformed},
			{"too long", good + strings.Repeat(" ", maxBody), ErrMalformed},
		} {
			t.Run(signType+" "+c.name, func(t *testing.T) {
				n, err := p.OpenNotify(http.Header{}, []byte(c.body))
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (err == nil) != (n != nil) {
					t.Fatal(err)
				}
				if err != nil {
					noSecrets(t, err, testV2Key)
					return
				}
				if n.EventType != eventPaid || n.Payment.TotalFen != 100 || n.Payment.PayerFen != 90 || n.Payment.Attach != "房间=notice&用户=张三" ||
					n.Payment.State != "SUCCESS" || n.Payment.PaidAt.Unix() != 1768444495 || n.Payment.Currency != "CNY" || n.Payment.OpenID != "o1" {
					t.Errorf("%+v", n)
				}
			})
		}
		n, err := p.OpenNotify(nil, []byte(v2Answer(s, v2Notify.with("result_code", "FAIL"))))
		if err != nil || n.EventType == eventPaid || n.Payment != (Payment{}) {
			t.Errorf("%+v %v", n, err)
		}
	}
}

// sealRefundInfo is WeChat's side of req_info.
func sealRefundInfo(key, plain string) string {
	sum := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(sum[:])))
	if err != nil {
		panic(err)
	}
	b := pad([]byte(plain), aes.BlockSize)
	for i := 0; i < len(b); i += aes.BlockSize {
		block.Encrypt(b[i:i+aes.BlockSize], b[i:i+aes.BlockSize])
	}
	return base64.StdEncoding.EncodeToString(b)
}

const refundInfo = `<root><out_refund_no><![CDATA[R20260115103456000001]]></out_refund_no><out_trade_no><![CDATA[20260115103456000001]]></out_trade_no><refund_fee><![CDATA[30]]></refund_fee><refund_id><![CDATA[50000000382026011500000000001]]></refund_id><refund_recv_accout><![CDATA[支付用户零钱]]></refund_recv_accout><refund_status><![CDATA[SUCCESS]]></refund_status><success_time><![CDATA[2026-01-15 11:00:00]]></success_time><total_fee><![CDATA[100]]></total_fee><transaction_id><![CDATA[4200002026202601151234567890]]></transaction_id></root>`

func TestOpenRefund_v2(t *testing.T) {
	p := newTestPayV2(t, nil)
	body := func(plain string, more ...string) string {
		return rawV2(v2Fields{"return_code": "SUCCESS", "appid": testAppID, "mch_id": "1900000109", "nonce_str": "n", "req_info": sealRefundInfo(testV2Key, plain)}.with(more...))
	}
	replace := func(old, new string) string {
		if !strings.Contains(refundInfo, old) {
			t.Fatal(old)
		}
		return strings.Replace(refundInfo, old, new, 1)
	}
	for _, c := range []struct {
		name, body string
		want       error
		status     string
	}{
		{"success", body(refundInfo), nil, "SUCCESS"},
		{"closed", body(replace("SUCCESS", "REFUNDCLOSE")), nil, "CLOSED"},
		{"abnormal", body(replace("SUCCESS", "CHANGE")), nil, "ABNORMAL"},
		{"new field", body(replace("<root>", "<root><new>1</new>")), nil, "SUCCESS"},
		{"another app", body(refundInfo, "appid", "wx1"), ErrMalformed, ""},
		{"another merchant", body(refundInfo, "mch_id", "1"), ErrMalformed, ""},
		{"no return_code", body(refundInfo, "return_code", "-"), ErrMalformed, ""},
		{"FAIL", body(refundInfo, "return_code", "FAIL"), ErrMalformed, ""},
		{"no req_info", body(refundInfo, "req_info", "-"), ErrDecrypt, ""},
		{"not base64", body(refundInfo, "req_info", "!"), ErrDecrypt, ""},
		{"half a block", body(refundInfo, "req_info", "AAAA"), ErrDecrypt, ""},
		{"another key", body(refundInfo, "req_info", sealRefundInfo(strings.Repeat("k", 32), refundInfo)), ErrDecrypt, ""},
		{"empty", body(""), ErrDecrypt, ""},
		{"another root", body(strings.ReplaceAll(refundInfo, "root>", "xml>")), ErrDecrypt, ""},
		{"document type inside", body(`<!DOCTYPE root [<!ENTITY a "b">]>` + refundInfo), ErrDecrypt, ""},
		{"field twice inside", body(replace("<root>", "<root><refund_fee>1</refund_fee>")), ErrDecrypt, ""},
		{"unknown status", body(replace("SUCCESS", "DONE")), ErrDecrypt, ""},
		{"no amount", body(replace("<refund_fee><![CDATA[30]]></refund_fee>", "")), ErrDecrypt, ""},
		{"amount a fraction", body(replace("<![CDATA[30]]>", "0.3")), ErrDecrypt, ""},
		{"time a word", body(replace("2026-01-15 11:00:00", "then")), ErrDecrypt, ""},
		{"document type outside", `<!DOCTYPE xml>` + body(refundInfo), ErrMalformed, ""},
		{"not XML", `x`, ErrMalformed, ""},
		{"too long", body(refundInfo) + strings.Repeat(" ", maxBody), ErrMalformed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := p.OpenRefund(http.Header{}, []byte(c.body))
			if !errors.Is(err, c.want) || (err == nil) != (n != nil) || (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			if err != nil {
				if errors.Is(err, ErrDecrypt) && err.Error() != errRefundInfo.Error() {
					t.Errorf("it says why: %v", err)
				}
				noSecrets(t, err, testV2Key)
				return
			}
			if !n.NeedsQuery || n.Refund.Status != c.status || n.EventType != "REFUND."+c.status {
				t.Errorf("%+v", n)
			}
			if c.status == "SUCCESS" && sayRefund(n.Refund) != saidRefunded {
				t.Error(sayRefund(n.Refund))
			}
		})
	}
}

func TestAnswersToNotify_v2(t *testing.T) {
	p := newTestPayV2(t, nil)
	want := vector[string](t, "pay_v2", "success_reply_xml")
	if status, kind, body := p.Success(); status != 200 || !strings.HasPrefix(kind, "application/xml") || string(body) != want {
		t.Error(status, kind, string(body))
	}
	if kind, body := p.Failure(401, "签名]]>错\x00"); !strings.HasPrefix(kind, "application/xml") ||
		string(body) != "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[签名]]]]><![CDATA[>错]]></return_msg></xml>" {
		t.Error(kind, string(body))
	}
	if _, body := p.Failure(500, ""); string(body) != "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[Internal Server Error]]></return_msg></xml>" {
		t.Error(string(body))
	}
}

// A notify, whatever it is, with a true signature over it and as it came.
func FuzzNotifyV2(f *testing.F) {
	s := v2Signer{testV2Key, signMD5}
	f.Add([]byte(v2Answer(s, v2Notify)))
	f.Add([]byte(vector[v2Vector](f, "pay_v2", "derived_notify_md5").XML))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><xml><return_code>&a;</return_code></xml>`))
	f.Add([]byte(`<xml><return_code>SUCCESS</return_code><total_fee>1e2</total_fee></xml>`))
	p, err := NewPayV2(payV2Options())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := p.OpenNotify(nil, body)
		oneOf(t, err, ErrMalformed, ErrSignature)
		if (n == nil) == (err == nil) {
			t.Error("neither or both")
		}
		fields, err := parseV2(body, "xml")
		oneOf(t, err, ErrMalformed)
		if err != nil {
			return
		}
		if b, ok := fields.xml(); ok { // what we write is what is read, but for empty fields
			again, err := parseV2(b, "xml")
			if err != nil || again.signed() != fields.signed() {
				t.Errorf("%v\n%s\n%v", fields, b, err)
			}
		}
		fields["sign"] = s.sign(fields)
		b, ok := fields.xml()
		if !ok {
			return
		}
		n, err = p.OpenNotify(nil, b)
		oneOf(t, err, ErrMalformed, ErrSignature)
		if errors.Is(err, ErrSignature) && fields["sign_type"] != signHMAC {
			t.Error(err)
		}
		if err == nil && n.EventType == eventPaid && (n.Payment.TotalFen < 0 || n.Payment.OutTradeNo == "" || n.Payment.TransactionID == "" || n.Payment.PaidAt.IsZero()) {
			t.Errorf("%+v", n.Payment)
		}
	})
}

// What is inside req_info, and req_info itself.
func FuzzRefundInfo(f *testing.F) {
	f.Add([]byte(refundInfo), "AAAA")
	f.Add([]byte(`<root><refund_status>SUCCESS</refund_status></root>`), sealRefundInfo(testV2Key, refundInfo))
	p, err := NewPayV2(payV2Options())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plain []byte, info string) {
		for _, info := range []string{info, sealRefundInfo(testV2Key, string(plain))} {
			if strings.ContainsAny(info, "<>&]\r") {
				continue // it would be other XML
			}
			body := rawV2(v2Fields{"return_code": "SUCCESS", "appid": testAppID, "mch_id": "1900000109", "req_info": info})
			n, err := p.OpenRefund(nil, []byte(body))
			oneOf(t, err, ErrMalformed, ErrDecrypt)
			if (n == nil) == (err == nil) {
				t.Error("neither or both")
			}
			if err == nil && (!n.NeedsQuery || !slices.Contains(refundStates, n.Refund.Status) || n.Refund.RefundFen < 0 || n.Refund.OutRefundNo == "") {
				t.Errorf("%+v", n)
			}
		}
	})
}
