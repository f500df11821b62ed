package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// peer is a process that runs other people's programs: what WeChat's partners use from npm.
type peer struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Reader
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	const folder = "../testdata/npm"
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: no Node on this machine")
	}
	if _, err := os.Stat(folder + "/node_modules"); err != nil {
		t.Skip("skipped: no npm packages on this machine (make deps installs them)")
	}
	cmd := exec.Command(node, "peer.mjs")
	cmd.Dir = folder
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &peer{t, json.NewEncoder(in), bufio.NewReader(out)}
}

// ask runs one command of the peer and reads its result.
func (p *peer) ask(command string, query object, result any) {
	p.t.Helper()
	query["command"] = command
	if err := p.in.Encode(query); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	if err != nil || json.Unmarshal([]byte(line), &answer) != nil || answer.Error != "" {
		p.t.Fatalf("%s: %v %s", command, err, line)
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		p.t.Fatal(err)
	}
}

// A merchant of wechatpay-axios-plugin orders, asks, refunds and closes here; it checks every answer itself.
func TestPeers_merchant(t *testing.T) {
	p := newPeer(t)
	for _, mode := range []string{keyModePublic, keyModeCertificate} {
		t.Run(mode, func(t *testing.T) {
			p := &peer{t, p.in, p.out}
			w := newWorld(t, func(o *Options) {
				certified(t, mode)(o)
				o.Now, o.TimeScale = nil, 10_000
			})
			srv := httptest.NewServer(w.sim)
			defer srv.Close()
			c := credentials()
			serial, cert := c.PublicKeyID, c.PlatformPublicPEM
			if mode == keyModeCertificate {
				serial, cert = w.sim.certs[0].serial, w.sim.certs[0].pem
			}
			config := object{"mchid": c.MchID, "serial": c.CertSerial, "privateKey": c.MerchantKeyPEM, "certs": object{serial: cert}, "baseURL": srv.URL}
			call := func(method, path string, data object, want int) object {
				t.Helper()
				var got struct {
					Status int
					Failed string
					Data   any
				}
				query := object{"config": config, "path": path, "method": method}
				if data != nil {
					query["data"] = data
				}
				p.ask("merchant", query, &got)
				if got.Status != want {
					t.Fatalf("%s %s: %+v", method, path, got)
				}
				v, _ := got.Data.(map[string]any)
				return v
			}
			order := w.order("PEER000001", w.openid("alice"))
			id := call("POST", "v3/pay/transactions/jsapi", order, 200).text("prepay_id")
			if id == "" {
				t.Fatal("no prepay_id")
			}
			mustPay := w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "PEER000001"})
			if mustPay.text("transactionId") == "" {
				t.Fatal(mustPay)
			}
			if got := call("GET", "v3/pay/transactions/out-trade-no/PEER000001?mchid="+c.MchID, nil, 200); got.text("trade_state") != "SUCCESS" {
				t.Errorf("query: %v", got)
			}
			if got := call("POST", "v3/refund/domestic/refunds", refundOf("PEER000001", "R1", 100, 990), 200); got.text("status") != "PROCESSING" {
				t.Errorf("refund: %v", got)
			}
			call("POST", "v3/pay/transactions/jsapi", with(order, "out_trade_no", "PEER000002"), 200)
			call("POST", "v3/pay/transactions/out-trade-no/PEER000002/close", object{"mchid": c.MchID}, 204)
			call("POST", "v3/pay/transactions/jsapi", with(order, "description", ""), 400)
			w.idle()
		})
	}
}

// What WeChat sends here is signed and sealed as the same program does it.
func TestPeers_callbacks(t *testing.T) {
	p := newPeer(t)
	w := newWorld(t, fast)
	c := credentials()
	w.buy("T0000001")
	w.settled(1)
	r, body := w.hub.last()
	var good bool
	p.ask("v3.verify", object{"message": lines(r.Header.Get("Wechatpay-Timestamp"), r.Header.Get("Wechatpay-Nonce"), body),
		"signature": r.Header.Get("Wechatpay-Signature"), "key": c.PlatformPublicPEM}, &good)
	if !good {
		t.Error("the notify's signature is refused")
	}
	sealed := object(parse(t, []byte(body))["resource"].(map[string]any))
	plain := openResource(t, c.APIv3Key, sealed.text("nonce"), sealed.text("associated_data"), sealed.text("ciphertext"))
	var again string
	p.ask("v3.seal", object{"text": string(plain), "key": c.APIv3Key, "nonce": sealed.text("nonce"), "aad": sealed.text("associated_data")}, &again)
	if again != sealed.text("ciphertext") {
		t.Error("the notify is sealed otherwise")
	}

	w.hub.reply(200, "<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>")
	for _, signType := range []string{signMD5, signHMAC} {
		no := "PEER" + strings.ReplaceAll(signType, "-", "")
		id := w.prepaidV2(signType, no, "alice")
		w.control("/sim/pay", with(w.payFieldsV2(signType, "alice", id), "confirm", true))
		w.idle()
		_, body := w.hub.last()
		var read struct {
			Fields map[string]any
			Good   bool
		}
		p.ask("v2.read", object{"xml": body, "key": c.V2Key, "type": signType}, &read)
		if !read.Good || fmt.Sprint(read.Fields["out_trade_no"]) != no {
			t.Errorf("%s notify: %+v", signType, read)
		}
		w.askV2("/secapi/pay/refund", signType, fieldsV2{"out_trade_no": no, "out_refund_no": "R" + no, "total_fee": "990", "refund_fee": "1", "notify_url": "https://example.com/r"})
		w.idle()
		_, body = w.hub.last()
		f, err := parseV2([]byte(body))
		if err != nil || f["req_info"] == "" {
			t.Fatalf("refund notify: %v %v", f, err)
		}
		var info string
		p.ask("v2.refundInfo", object{"xml": string(openRefundV2(t, c.V2Key, f["req_info"])), "key": c.V2Key}, &info)
		if info != f["req_info"] {
			t.Errorf("req_info is sealed otherwise")
		}
	}

	w.hub.reply(200, "success")
	for _, lib := range []string{"wechat-crypto", "@wecom/crypto"} {
		w.control("/sim/message", object{"user": "alice", "content": "在吗 <b>😀"})
		r, body := w.hub.last()
		q := r.URL.Query()
		var opened struct{ Message, ID, Signature string }
		p.ask("push.open", object{"lib": lib, "token": c.PushToken, "key": c.PushAESKey, "appid": c.AppID, "timestamp": q.Get("timestamp"), "nonce": q.Get("nonce"),
			"encrypt": parse(t, []byte(body)).text("Encrypt")}, &opened)
		if opened.ID != c.AppID || opened.Signature != q.Get("msg_signature") || parse(t, []byte(opened.Message)).text("Content") != "在吗 <b>😀" {
			t.Errorf("%s: %+v", lib, opened)
		}
		var reply struct{ Encrypt, Signature string }
		p.ask("push.seal", object{"lib": lib, "token": c.PushToken, "key": c.PushAESKey, "appid": c.AppID, "timestamp": "1768444496", "nonce": "n",
			"text": w.passive("xml", "transfer_customer_service", "")}, &reply)
		w.hub.reply(200, fmt.Sprintf(`{"Encrypt":%q,"MsgSignature":%q,"TimeStamp":1768444496,"Nonce":"n"}`, reply.Encrypt, reply.Signature))
		if got := w.control("/sim/message", object{"user": "alice", "content": "人工"}); got["ok"] != true {
			t.Errorf("%s reply: %v", lib, got)
		}
		w.hub.reply(200, "success")
	}
}
