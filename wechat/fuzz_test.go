package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// oneOf holds an error against the promise of the function that gave it.
func oneOf(t *testing.T, err error, kinds ...error) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
		t.Errorf("an error that was not promised: %v", err)
	}
	if err != nil && len(err.Error()) > 300 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// checkTree is what both parsers promise of what they let through.
func checkTree(t *testing.T, v any, depth int) {
	t.Helper()
	if depth > maxDepth {
		t.Error("deeper than promised")
	}
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			checkTree(t, x, next(x, depth))
		}
	case []any:
		for _, x := range v {
			checkTree(t, x, next(x, depth))
		}
	case string, json.Number, bool, nil:
	default:
		t.Errorf("a %T", v)
	}
}

func next(v any, depth int) int {
	switch v.(type) {
	case map[string]any, []any:
		return depth + 1
	}
	return depth
}

func checkMessage(t *testing.T, m *PushMessage, err error) {
	t.Helper()
	oneOf(t, err, ErrMalformed, ErrDecrypt)
	if err != nil {
		return
	}
	key := m.Key()
	if m.FromUserName == "" || m.MsgType == "" || len(key) > 6*maxID || key != m.Key() {
		t.Errorf("%+v", m)
	}
	if !m.CreateTime.IsZero() && m.CreateTime.Unix() <= 0 {
		t.Error(m.CreateTime)
	}
	checkTree(t, m.Fields, 1)
}

func FuzzPushJSON(f *testing.F) {
	f.Add([]byte(textJSON))
	f.Add([]byte(`{"FromUserName":"o1","CreateTime":"1","MsgType":"event","Event":"x","List":[{"a":1},{"a":null}]}`))
	f.Add([]byte(`{"a":{"a":{"a":[[[[[1e400]]]]]}}}`))
	f.Add([]byte(`{"a":1,"\u0061":2}`))
	r := newTestReceiver(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := parseJSON(body); err == nil {
			checkTree(t, m, 1)
			// nothing that encoding/json reads otherwise
			var want map[string]any
			d := json.NewDecoder(bytes.NewReader(body))
			d.UseNumber()
			if err := d.Decode(&want); err != nil || fmt.Sprint(m) != fmt.Sprint(want) {
				t.Errorf("%v\n%v %v", m, want, err)
			}
		} else {
			oneOf(t, err, ErrMalformed)
		}
		m, err := r.Open(plainQuery(pushNow), body)
		checkMessage(t, m, err)
	})
}

func FuzzPushXML(f *testing.F) {
	f.Add([]byte(textXML))
	f.Add([]byte(`<?xml version="1.0"?><xml><a><b>1</b><b>2</b></a><FromUserName>o</FromUserName><MsgType>t</MsgType></xml>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><xml>&a;</xml>`))
	f.Add([]byte(`<xml><a><![CDATA[]]]]><![CDATA[>]]></a><!-- --></xml>`))
	r := newTestReceiver(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseXML(body)
		if err == nil {
			checkTree(t, m, 1)
			if i := bytes.Index(body, []byte("<!DOCTYPE")); i >= 0 && !bytes.Contains(body[:i], []byte("<![CDATA[")) && !bytes.Contains(body[:i], []byte("\"")) && !bytes.Contains(body[:i], []byte("'")) {
				t.Error("a document type passed")
			}
		} else {
			oneOf(t, err, ErrMalformed)
		}
		msg, err := r.Open(plainQuery(pushNow), body)
		checkMessage(t, msg, err)
	})
}

// A sealed body: as ciphertext with a true signature over it, and as the plain text inside.
func FuzzSealedPush(f *testing.F) {
	own, err := newSealer(testAESKey, testAppID)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own.seal([]byte(textJSON)), []byte(textJSON))
	f.Add("AAAA", []byte(textXML))
	f.Add(strings.Repeat("A", 43)+"=", []byte{})
	r := newTestReceiver(f, sealedMode)
	f.Fuzz(func(t *testing.T, encrypt string, plain []byte) {
		for _, format := range []format{formatJSON, formatXML} {
			q, body := envelope(format, encrypt)
			m, err := r.Open(q, body)
			oneOf(t, err, ErrMalformed, ErrDecrypt, ErrUnsealed, ErrSignature)
			if err == nil {
				checkMessage(t, m, nil)
			}
		}
		got, err := own.open(own.seal(plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q came back as %q %v", plain, got, err)
		}
		q, body := envelope(formatJSON, own.seal(plain))
		m, err := r.Open(q, body)
		if len(body) <= maxBody {
			checkMessage(t, m, err)
		}
	})
}

// The order inside a notify, without the signing that makes FuzzNotify slow.
func FuzzPayment(f *testing.F) {
	f.Add([]byte(paidPlain))
	f.Add([]byte(vector[v3Vector](f, "pay_v3", "derived_notify_paid").Plaintext))
	f.Add([]byte(`{"amount":{"total":1e2}}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		pay, err := parsePayment(plain)
		oneOf(t, err, ErrMalformed)
		if err == nil && (pay.TotalFen < 0 || pay.PayerFen < 0 || pay.OutTradeNo == "" || pay.TransactionID == "" || pay.State == "") {
			t.Errorf("%+v", pay)
		}
		if err != nil && pay != (Payment{}) {
			t.Error("a payment beside an error")
		}
	})
}

// A notify with a true signature over whatever it is, and a forged one.
func FuzzNotify(f *testing.F) {
	f.Add(notifyBody(f, eventPaid, paidPlain), []byte("AAAA"))
	f.Add([]byte(`{"id":"1","event_type":"x","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"123456789012","ciphertext":"AAAA"}}`), []byte(probePrefix))
	o := payOptions(f)
	p, err := NewPayV3(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body, signature []byte) {
		n, err := p.OpenNotify(signAs(t, payKey(), payNow, body), body)
		oneOf(t, err, ErrMalformed, ErrDecrypt)
		if (n == nil) == (err == nil) {
			t.Error("neither or both")
		}
		if _, err := p.OpenNotify(header(map[string]string{"Wechatpay-Serial": testKeyID, "Wechatpay-Nonce": "1",
			"Wechatpay-Timestamp": "1768444496", "Wechatpay-Signature": string(signature)}), body); !errors.Is(err, ErrSignature) {
			t.Errorf("a forged one passed: %v", err)
		}
	})
}

func FuzzUserData(f *testing.F) {
	v := encryptedVector(f)
	f.Add(v.SessionKey, v.Encrypted, v.IV, []byte(v.Plaintext))
	f.Add("", "", "", []byte(`{"watermark":{"timestamp":"1477314187","appid":"wx4f4bc4dec97d474b"}}`))
	c := clientAt(v.AppID, v.Watermark)
	f.Fuzz(func(t *testing.T, key, data, iv string, plain []byte) {
		_, err := c.DecryptUserData(key, data, iv)
		oneOf(t, err, ErrDecrypt, ErrWatermark)
		k, d, i := sealUserData(t, testKey, testIV, string(plain))
		if got, err := openUserData(k, d, i); len(d) <= maxEncrypted && (err != nil || !bytes.Equal(got, plain)) {
			t.Errorf("%q came back as %q %v", plain, got, err)
		}
		u, err := c.DecryptUserData(k, d, i)
		oneOf(t, err, ErrDecrypt, ErrWatermark)
		if err != nil && u != (UserData{}) {
			t.Error("data beside an error")
		}
	})
}
