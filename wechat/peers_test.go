package wechat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/wechat/sim"
)

// A peer is a Node process with other people's WeChat libraries in it (testdata/npm/peer.mjs): what it signs,
// seals and reads was not written by us.
type peer struct {
	t   testing.TB
	mu  sync.Mutex // one question at a time
	in  io.WriteCloser
	out *bufio.Scanner
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: no node on this machine (Node 20 or newer plays WeChat here)")
	}
	if _, err := os.Stat("testdata/npm/node_modules/wechatpay-axios-plugin"); err != nil {
		t.Skip("skipped: no npm packages in wechat/testdata/npm on this machine (make deps installs them)")
	}
	cmd := exec.Command(node, "--no-deprecation", "peer.mjs")
	cmd.Dir = "testdata/npm"
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, in: in, out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 4<<20)
	t.Cleanup(func() {
		_ = in.Close() // its end
		_ = cmd.Wait()
	})
	return p
}

// ask puts one question; safe for concurrent use.
func (p *peer) ask(command string, in facts, out any) {
	p.t.Helper()
	q := facts{"command": command}
	for name, v := range in {
		q[name] = v
	}
	b, err := json.Marshal(q)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.in.Write(append(b, '\n')); err != nil || !p.out.Scan() {
		p.t.Errorf("%s: the peer is gone: %v", command, errors.Join(err, p.out.Err()))
		return
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &answer); err != nil || answer.Error != "" {
		p.t.Errorf("%s: %s %v", command, answer.Error, err)
		return
	}
	if err := json.Unmarshal(answer.Result, out); err != nil {
		p.t.Errorf("%s: %v in %s", command, err, answer.Result)
	}
}

// What they seal we open, and what we seal they open; texts of every length around a block.
func TestPeers_push(t *testing.T) {
	p := newPeer(t)
	r := newTestReceiver(t, sealedMode)
	for _, lib := range []string{"wechat-crypto", "@wecom/crypto"} {
		for n := range 70 {
			f, body := format(n%2), strings.Replace(textJSON, "你好", strings.Repeat("好", n), 1)
			if f == formatXML {
				body = strings.Replace(textXML, "你好", strings.Repeat("好", n), 1)
			}
			keys := facts{"lib": lib, "token": testToken, "key": testAESKey, "appid": testAppID, "timestamp": strconv.Itoa(pushNow), "nonce": "n1", "text": body}
			var sealed struct{ Encrypt, Signature string }
			p.ask("push.seal", keys, &sealed)
			q := query(map[string]string{"timestamp": strconv.Itoa(pushNow), "nonce": "n1", "encrypt_type": "aes", "msg_signature": sealed.Signature})
			_, envelope := envelope(f, sealed.Encrypt)
			m, err := r.Open(q, envelope)
			if err != nil || m.Content != strings.Repeat("好", n)+` 😀 <b>&"` {
				t.Fatalf("%s, %d characters: %v", lib, n, err)
			}
			q.Set("msg_signature", strings.Repeat("0", 40))
			if _, err := r.Open(q, envelope); !errors.Is(err, ErrSignature) {
				t.Error(err)
			}
			answer, _, err := r.Answer(m, m.TextReply(strings.Repeat("x", n+1)))
			if err != nil {
				t.Fatal(err)
			}
			outer, _, err := parsePush(answer)
			if err != nil {
				t.Fatal(err)
			}
			keys["timestamp"], keys["nonce"], keys["encrypt"] = scalar(outer["TimeStamp"]), scalar(outer["Nonce"]), scalar(outer["Encrypt"])
			var opened struct{ Message, ID, Signature string }
			p.ask("push.open", keys, &opened)
			if parsedReply(t, []byte(opened.Message)) != strings.Repeat("x", n+1) || opened.ID != testAppID || opened.Signature != scalar(outer["MsgSignature"]) {
				t.Fatalf("%s, %d characters: %+v", lib, n, opened)
			}
		}
	}
}

// Our requests of version 2 are read by them, and their answers and notifies by us.
func TestPeers_payV2(t *testing.T) {
	p := newPeer(t)
	for _, signType := range []string{signMD5, signHMAC} {
		pay := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var got struct {
				Fields v2Fields
				Good   bool
			}
			p.ask("v2.read", facts{"xml": string(body), "key": testV2Key, "type": signType}, &got)
			if !got.Good || got.Fields["body"] != testOrder.Description || got.Fields["total_fee"] != "100" {
				t.Errorf("they do not believe %s", body)
			}
			var answer string
			p.ask("v2.write", facts{"fields": v2Prepaid.with("new_field", "新 <&> a=b&c"), "key": testV2Key, "type": signType}, &answer)
			_, _ = io.WriteString(w, answer)
		}, func(o *PayV2Options) { o.SignType = signType })
		id, err := pay.Prepay(t.Context(), testOrder)
		if err != nil || id != v2Prepaid["prepay_id"] {
			t.Error(id, err)
		}
		params, err := pay.ClientParams(id)
		if err != nil {
			t.Fatal(err)
		}
		var sign string
		p.ask("v2.sign", facts{"fields": clientFields(testAppID, params), "key": testV2Key, "type": signType}, &sign)
		if sign != params.PaySign {
			t.Errorf("paySign %s, theirs %s", params.PaySign, sign)
		}
		paid := v2Good.with("out_trade_no", testNo, "transaction_id", "4200", "openid", "o1", "trade_type", "JSAPI", "bank_type", "OTHERS", "total_fee", "100",
			"cash_fee", "90", "coupon_fee", "10", "coupon_count", "1", "coupon_fee_0", "10", "coupon_id_0", "c", "time_end", "20260115103455", "attach", "房间=1&用户=张三", "is_subscribe", "N", "device_info", "", "brand_new", "1")
		var notify string
		p.ask("v2.write", facts{"fields": paid, "key": testV2Key, "type": signType}, &notify)
		n, err := pay.OpenNotify(nil, []byte(notify))
		if err != nil || n.Payment.OutTradeNo != testNo || n.Payment.TotalFen != 100 || n.Payment.PayerFen != 90 || n.Payment.Attach != "房间=1&用户=张三" {
			t.Errorf("%v\n%s", err, notify)
		}
		if _, err := pay.OpenNotify(nil, []byte(strings.Replace(notify, "100", "001", 1))); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
		var plain, info string
		p.ask("v2.write", facts{"fields": v2Fields{"out_trade_no": testNo, "transaction_id": "4200", "out_refund_no": "R1", "refund_id": "5000", "total_fee": "100", "refund_fee": "30",
			"settlement_refund_fee": "30", "refund_status": "SUCCESS", "success_time": "2026-01-15 11:00:00", "refund_recv_accout": "支付用户零钱"}}, &plain)
		plain = "<root>" + strings.TrimSuffix(strings.TrimPrefix(plain, "<xml>"), "</xml>") + "</root>"
		p.ask("v2.refundInfo", facts{"xml": plain, "key": testV2Key}, &info)
		refund, err := pay.OpenRefund(nil, []byte(rawV2((v2Fields{"return_code": "SUCCESS"}).with("appid", testAppID, "mch_id", "1900000109", "nonce_str", "n", "req_info", info))))
		if err != nil || refund.Refund.OutRefundNo != "R1" || refund.Refund.RefundFen != 30 || !refund.NeedsQuery {
			t.Errorf("%v %s", err, plain)
		}
		// the answers that end their repeats
		for _, body := range [][]byte{func() []byte { _, _, b := pay.Success(); return b }(), func() []byte { _, b := pay.Failure(500, "稍后"); return b }()} {
			var got struct{ Fields v2Fields }
			p.ask("v2.read", facts{"xml": string(body)}, &got)
			if code := got.Fields["return_code"]; code != "SUCCESS" && code != "FAIL" || got.Fields["return_msg"] == "" {
				t.Errorf("%s", body)
			}
		}
	}
}

// The same of version 3: requests, answers, notifies, certificates, and what the phone signs with.
func TestPeers_payV3(t *testing.T) {
	p := newPeer(t)
	answer := `{"prepay_id":"wx<1>&"}`
	sign := func(body string, key string, serial string) http.Header {
		ts, nonce := strconv.Itoa(payNow), "EcZ9Cmy4Xyx1i6RlJQzLcCyEqDa26NBz"
		var signature string
		p.ask("v3.sign", facts{"timestamp": ts, "nonce": nonce, "body": body, "key": key}, &signature)
		return header(map[string]string{"Wechatpay-Timestamp": ts, "Wechatpay-Nonce": nonce, "Wechatpay-Serial": serial, "Wechatpay-Signature": signature})
	}
	payPEM := privatePEM(t, payKey())
	verified := func(message, signature string) bool {
		var good bool
		p.ask("v3.verify", facts{"message": message, "signature": signature, "key": publicPEM(t, &merchantKey().PublicKey)}, &good)
		return good
	}
	pay := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
		if m == nil {
			t.Errorf("%s", r.Header.Get("Authorization"))
			return
		}
		var message string
		p.ask("v3.request", facts{"method": r.Method, "uri": r.URL.RequestURI(), "timestamp": m[2], "nonce": m[1], "body": string(body)}, &message)
		if !verified(message, m[3]) {
			t.Errorf("they do not believe %s %s", r.Method, r.URL)
		}
		for name, v := range sign(answer, payPEM, testKeyID) {
			w.Header()[name] = v
		}
		_, _ = io.WriteString(w, answer)
	})
	id, err := pay.Prepay(t.Context(), testOrder)
	if err != nil || id != "wx<1>&" {
		t.Fatal(id, err)
	}
	params, err := pay.ClientParams(id)
	if err != nil {
		t.Fatal(err)
	}
	var message string
	p.ask("v3.client", facts{"appid": testAppID, "timestamp": params.TimeStamp, "nonce": params.NonceStr, "pack": params.Package}, &message)
	if !verified(message, params.PaySign) {
		t.Error("they do not believe paySign")
	}
	answer = v3Paid
	if got, err := pay.Query(t.Context(), testNo); err != nil || got.TotalFen != 100 {
		t.Error(err)
	}
	resource := func(kind, plain string) string {
		var sealed string
		p.ask("v3.seal", facts{"text": plain, "key": testAPIv3Key, "nonce": "61f9c719728a", "aad": kind}, &sealed)
		b, _ := json.Marshal(facts{"original_type": kind, "algorithm": v3Algorithm, "associated_data": kind, "nonce": "61f9c719728a", "ciphertext": sealed})
		return string(b)
	}
	notify := fmt.Sprintf(`{"id":"EV-1","create_time":"2026-01-15T10:34:56+08:00","resource_type":"encrypt-resource","event_type":%q,"summary":"支付成功","resource":%s}`, eventPaid, resource("transaction", paidPlain))
	h := sign(notify, payPEM, testKeyID)
	if n, err := pay.OpenNotify(h, []byte(notify)); err != nil || n.Payment.TotalFen != 100 {
		t.Error(err)
	}
	if _, err := pay.OpenNotify(h, []byte(notify+" ")); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	if _, err := pay.OpenNotify(sign(notify, privatePEM(t, merchantKey()), testKeyID), []byte(notify)); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	// a certificate that they sealed and signed with
	now := time.Unix(payNow, 0)
	cert := newPayCert(t, certKeys()[0], 0x1A2B, now.Add(-time.Hour), now.Add(time.Hour))
	answer = fmt.Sprintf(`{"data":[{"serial_no":"1A2B","effective_time":"2026-01-01T00:00:00+08:00","expire_time":"2031-01-01T00:00:00+08:00","encrypt_certificate":%s}]}`, resource("certificate", cert.pem))
	if err := pay.Refresh(t.Context()); err != nil || len(pay.Keys()) != 2 {
		t.Error(err)
	}
	if _, err := pay.OpenNotify(sign(notify, privatePEM(t, certKeys()[0]), "1A2B"), []byte(notify)); err != nil {
		t.Error(err)
	}
}

// A whole merchant that is not ours works with the simulator: it signs, calls and verifies the answers by its own
// rules, in both versions and key modes; and what the simulator sends is believed by others.
func TestPeers_simulator(t *testing.T) {
	p := newPeer(t)
	for _, keyMode := range []string{"public-key", "certificate"} {
		t.Run(keyMode, func(t *testing.T) {
			w := newWorld(t, func(o *sim.Options) {
				o.KeyMode, o.PushMode = keyMode, "safe"
				o.NotifyURL = strings.Replace(o.PushURL, "/push/mini", "/pay/notify", 1)
			})
			c := w.creds
			openID := w.login("alice").OpenID
			keys := map[string]string{c.PublicKeyID: c.PlatformPublicPEM}
			if keyMode == "certificate" { // what our own client downloaded
				pay := w.payV3("https://hub.example/n", func(o *PayV3Options) { o.PublicKeyID, o.PublicKeyPEM = "", "" })
				if err := pay.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				keys = map[string]string{}
				for _, k := range pay.ring.list() {
					keys[k.Serial] = k.pem
				}
			}
			call := func(version, path, method string, data, params facts) (status int, answer facts, text string) {
				t.Helper()
				config := facts{"baseURL": w.url + "/", "mchid": c.MchID, "serial": c.CertSerial, "privateKey": c.MerchantKeyPEM, "certs": keys, "secret": c.APIv3Key}
				if version == "v2/" {
					config["secret"] = c.V2Key
				} else if keyMode == "public-key" {
					config["headers"] = facts{"Wechatpay-Serial": c.PublicKeyID}
				}
				var got struct {
					Status int
					Failed string
					Data   json.RawMessage
				}
				q := facts{"config": config, "path": version + path, "method": method}
				if data != nil {
					q["data"] = data
				}
				if params != nil {
					q["params"] = params
				}
				p.ask("merchant", q, &got)
				if got.Failed != "" && got.Status == 0 {
					t.Fatalf("%s: %s %s", path, got.Failed, got.Data)
				}
				_ = json.Unmarshal(got.Data, &answer)
				_ = json.Unmarshal(got.Data, &text)
				return got.Status, answer, text
			}
			pay := func(params ClientParams) {
				t.Helper()
				w.forget()
				if got := w.control("/sim/pay", facts{"user": "alice", "timeStamp": params.TimeStamp, "nonceStr": params.NonceStr, "package": params.Package,
					"signType": params.SignType, "paySign": params.PaySign, "confirm": true}); got["ok"] != true {
					t.Fatalf("%v", got)
				}
			}
			// version 3
			order := facts{"appid": c.AppID, "mchid": c.MchID, "description": "茶 <壶>", "out_trade_no": "PEER000001", "notify_url": "https://hub.example/n",
				"amount": facts{"total": 100, "currency": "CNY"}, "payer": facts{"openid": openID}}
			status, got, _ := call("", "v3/pay/transactions/jsapi", "POST", order, nil)
			prepayID, _ := got["prepay_id"].(string)
			if status != 200 || prepayID == "" {
				t.Fatal(status, got)
			}
			params, err := w.payV3("https://hub.example/n").ClientParams(prepayID)
			if err != nil {
				t.Fatal(err)
			}
			pay(params)
			n := w.last("/pay/notify")
			var good bool
			key := keys[n.header.Get("Wechatpay-Serial")]
			p.ask("v3.verify", facts{"message": n.header.Get("Wechatpay-Timestamp") + "\n" + n.header.Get("Wechatpay-Nonce") + "\n" + string(n.body) + "\n",
				"signature": n.header.Get("Wechatpay-Signature"), "key": key}, &good)
			if !good || key == "" {
				t.Errorf("they do not believe the notify, signed with %s", n.header.Get("Wechatpay-Serial"))
			}
			status, got, _ = call("", "v3/pay/transactions/out-trade-no/PEER000001", "GET", nil, facts{"mchid": c.MchID})
			transactionID, _ := got["transaction_id"].(string)
			if status != 200 || got["trade_state"] != "SUCCESS" || transactionID == "" {
				t.Error(status, got)
			}
			status, got, _ = call("", "v3/refund/domestic/refunds", "POST", facts{"out_trade_no": "PEER000001", "out_refund_no": "PR1",
				"amount": facts{"refund": 30, "total": 100, "currency": "CNY"}}, nil)
			if status != 200 || got["refund_id"] == "" {
				t.Error(status, got)
			}
			if status, got, _ = call("", "v3/pay/transactions/jsapi", "POST", facts{"appid": c.AppID}, nil); status != 400 || got["code"] != "PARAM_ERROR" {
				t.Error(status, got)
			}
			if status, got, _ = call("", "v3/certificates", "GET", nil, nil); (status == 200) != (keyMode == "certificate") {
				t.Error(status, got)
			}
			day := time.Now().In(beijing).Format(time.DateOnly)
			status, got, _ = call("", "v3/bill/tradebill", "GET", nil, facts{"bill_date": day})
			if status != 200 || got["hash_type"] != "SHA1" {
				t.Fatal(status, got)
			}
			address, _ := got["download_url"].(string)
			_, token, _ := strings.Cut(address, "token=")
			if _, _, text := call("", "v3/billdownload/file", "GET", nil, facts{"token": token}); !strings.Contains(text, "PEER000001") {
				t.Errorf("the bill: %.200s", text)
			}
			// version 2
			sign := func(f facts) facts { // what their client leaves to its caller
				f["nonce_str"], f["appid"], f["mch_id"] = "n1", c.AppID, c.MchID
				return f
			}
			_, got, _ = call("v2/", "pay/unifiedorder", "POST", sign(facts{"body": "茶", "out_trade_no": "PEER000002", "total_fee": "100", "spbill_create_ip": "127.0.0.1",
				"notify_url": "https://hub.example/n", "trade_type": "JSAPI", "openid": openID}), nil)
			prepayID, _ = got["prepay_id"].(string)
			if got["result_code"] != "SUCCESS" || prepayID == "" {
				t.Fatal(got)
			}
			v2 := w.payV2("https://hub.example/n", signMD5)
			if params, err = v2.ClientParams(prepayID); err != nil {
				t.Fatal(err)
			}
			pay(params)
			n = w.last("/pay/notify")
			var read struct {
				Fields v2Fields
				Good   bool
			}
			p.ask("v2.read", facts{"xml": string(n.body), "key": c.V2Key, "type": signMD5}, &read)
			if !read.Good || read.Fields["out_trade_no"] != "PEER000002" {
				t.Errorf("they do not believe %s", n.body)
			}
			if _, got, _ = call("v2/", "pay/orderquery", "POST", sign(facts{"out_trade_no": "PEER000002"}), nil); got["trade_state"] != "SUCCESS" {
				t.Error(got)
			}
			// pushes
			for _, lib := range []string{"wechat-crypto", "@wecom/crypto"} {
				w.forget()
				w.control("/sim/message", facts{"user": "alice", "type": "text", "content": "你好 " + lib})
				push := w.last("/push/mini")
				q := parseQuery(t, push.query)
				var outer struct{ Encrypt string }
				if err := json.Unmarshal(push.body, &outer); err != nil {
					t.Fatal(err)
				}
				var opened struct{ Message, ID, Signature string }
				p.ask("push.open", facts{"lib": lib, "token": c.PushToken, "key": c.PushAESKey, "appid": c.AppID,
					"timestamp": q.Get("timestamp"), "nonce": q.Get("nonce"), "encrypt": outer.Encrypt}, &opened)
				if opened.ID != c.AppID || opened.Signature != q.Get("msg_signature") || !bytes.Contains([]byte(opened.Message), []byte("你好 "+lib)) {
					t.Errorf("%s: %+v", lib, opened)
				}
			}
		})
	}
}
