package sim

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// certified are credentials with a platform certificate, made once.
func certified(t *testing.T, mode string) func(*Options) {
	return func(o *Options) {
		o.KeyMode = mode
		keyPEM, certPEM, err := newPlatformCertificate(newClock().at)
		if err != nil {
			t.Fatal(err)
		}
		o.PlatformCertKeyPEM, o.PlatformCertPEM = keyPEM, certPEM
	}
}

// downloaded are the certificates that GET /v3/certificates gives, by serial.
func (w *world) downloaded() map[string]*x509.Certificate {
	w.t.Helper()
	rec := w.do(w.signed("GET", "/v3/certificates", ""))
	got := parse(w.t, rec.Body.Bytes())
	if rec.Code != 200 {
		w.t.Fatalf("certificates: %d %v", rec.Code, got)
	}
	certs := map[string]*x509.Certificate{}
	for _, v := range got["data"].([]any) {
		item := object(v.(map[string]any))
		sealed := object(item["encrypt_certificate"].(map[string]any))
		plain := openResource(w.t, credentials().APIv3Key, sealed.text("nonce"), sealed.text("associated_data"), sealed.text("ciphertext"))
		key, err := readPlatformCertificate("", string(plain))
		if key.cert == nil {
			w.t.Fatalf("certificate: %v %q", err, plain)
		}
		certs[item.text("serial_no")] = key.cert
		if _, err := time.Parse(time.RFC3339, item.text("expire_time")); err != nil {
			w.t.Error(err)
		}
	}
	return certs
}

func TestKeyModes(t *testing.T) {
	query := func(w *world, asked string) http.Header {
		r := w.signed("GET", "/v3/certificates", "")
		if asked != "" {
			r.Header.Set("Wechatpay-Serial", asked)
		}
		return w.do(r).Header()
	}
	public := credentials().PublicKeyID
	t.Run("public key", func(t *testing.T) {
		w := newWorld(t, nil)
		if rec, got := w.v3("GET", "/v3/certificates", nil); rec.Code != 404 || got.text("code") != "RESOURCE_NOT_EXISTS" || verifyPlatform(t, rec.Header(), rec.Body.Bytes()) != nil {
			t.Errorf("certificates of a merchant without: %d %v", rec.Code, got)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		w := newWorld(t, certified(t, keyModeCertificate))
		certs := w.downloaded()
		h := query(w, "")
		if certs[h.Get("Wechatpay-Serial")] == nil || len(certs) != 1 {
			t.Errorf("signed by %s, given %v", h.Get("Wechatpay-Serial"), certs)
		}
		rec := w.do(func() *http.Request {
			r := w.signed("GET", "/v3/certificates", "")
			r.Header.Set("Wechatpay-Serial", public)
			return r
		}())
		if rec.Code != 400 || parse(t, rec.Body.Bytes()).text("code") != "INVALID_REQUEST" {
			t.Errorf("public key of a merchant without: %d %s", rec.Code, rec.Body)
		}
	})
	t.Run("mixed, with a rotation", func(t *testing.T) {
		w := newWorld(t, certified(t, keyModeMixed))
		first := query(w, "").Get("Wechatpay-Serial")
		if got := query(w, public).Get("Wechatpay-Serial"); got != public || first == public {
			t.Errorf("asked for the public key: %s, else %s", got, first)
		}
		second := w.control("/sim/rotate", object{}).text("serial")
		certs := w.downloaded()
		if certs[first] == nil || certs[second] == nil || len(certs) != 2 || first == second {
			t.Errorf("after the rotation: %v", certs)
		}
		for asked, signed := range map[string]string{"": second, first: first, second: second, public: public} {
			r := w.signed("GET", "/v3/pay/transactions/out-trade-no/T0000001?mchid="+credentials().MchID, "")
			if asked != "" {
				r.Header.Set("Wechatpay-Serial", asked)
			}
			rec := w.do(r)
			if got := rec.Header().Get("Wechatpay-Serial"); got != signed {
				t.Errorf("asked for %q: signed by %s, want %s", asked, got, signed)
			}
			if signed != public {
				message := lines(rec.Header().Get("Wechatpay-Timestamp"), rec.Header().Get("Wechatpay-Nonce"), rec.Body.String())
				key, _ := publicKey(string(certPEM(certs[signed])))
				if err := verifyRSA(key, message, rec.Header().Get("Wechatpay-Signature")); err != nil {
					t.Errorf("answer by %s: %v", signed, err)
				}
			}
		}
		w.control("/sim/setting", object{"keyShare": 25})
		w.prepaid("T0000001", "alice")
		w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "T0000001", "times": 100})
		count := map[string]int{}
		for _, r := range w.hub.requests {
			count[r.Header.Get("Wechatpay-Serial")]++
		}
		if count[public] != 25 || count[second] != 75 {
			t.Errorf("callbacks by key: %v", count)
		}
	})
	for _, bad := range []object{{"keyMode": "x"}, {"keyShare": 101}} {
		if rec := newWorld(t, nil).request("POST", "/sim/setting", string(toJSON(bad))); rec.Code != 400 {
			t.Errorf("%v: %d", bad, rec.Code)
		}
	}
	made := newWorld(t, nil)
	made.control("/sim/setting", object{"keyMode": keyModeCertificate})
	if len(made.downloaded()) != 1 {
		t.Error("no certificate was made when the mode asked for one")
	}
}

// billLines asks for a v3 bill, checks its hash and returns its lines without the header.
func (w *world) billLines(query string) []string {
	w.t.Helper()
	rec, got := w.v3("GET", query, nil)
	if rec.Code != 200 {
		w.t.Fatalf("%s: %d %v", query, rec.Code, got)
	}
	r := w.signed("GET", strings.TrimPrefix(got.text("download_url"), "http://example.com"), "")
	file := w.do(r)
	if file.Code != 200 || file.Header().Get("Wechatpay-Signature") != "" {
		w.t.Fatalf("download: %d %v", file.Code, file.Header())
	}
	text := file.Body.Bytes()
	if strings.Contains(query, "GZIP") {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			w.t.Fatal(err)
		}
		text, _ = io.ReadAll(z)
	}
	if sum := sha1.Sum(text); hex.EncodeToString(sum[:]) != got.text("hash_value") || got.text("hash_type") != "SHA1" {
		w.t.Errorf("hash %v", got)
	}
	all := strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n")
	return all[1:]
}

func TestBills(t *testing.T) {
	w := newWorld(t, fast)
	w.paidV3("T0000001")
	w.prepaid("T0000002", "bob") // never paid: in no bill
	w.v3("POST", "/v3/refund/domestic/refunds", refundOf("T0000001", "R1", 100, 990))
	w.v3("POST", "/v3/refund/domestic/refunds", refundOf("T0000001", "R2", 200, 990))
	w.idle()
	day := beijing(w.clock.Now()).Format(time.DateOnly)
	trade := "/v3/bill/tradebill?bill_date=" + day
	if rec, got := w.v3("GET", trade, nil); rec.Code != 400 || got.text("code") != noBill {
		t.Errorf("before ten of the next day: %d %v", rec.Code, got)
	}
	w.clock.move(24 * time.Hour)
	rows := w.billLines(trade)
	if len(rows) != 5 || !strings.HasPrefix(rows[4], "`3,`9.90,`3.00,`0.00,") {
		t.Fatalf("bill:\n%s", strings.Join(rows, "\n"))
	}
	for i, part := range []string{"`JSAPI,`SUCCESS,`OTHERS,`CNY,`9.90,`0.00,`0,`0,`0.00,", "`REFUND,`OTHERS,`CNY,`0.00,`0.00,`5030", "`R2,`2.00,`0.00,`ORIGINAL,`SUCCESS"} {
		if !strings.Contains(rows[i], part) {
			t.Errorf("line %d: %s lacks %s", i, rows[i], part)
		}
	}
	if got := w.billLines(trade + "&tar_type=GZIP"); !slices.Equal(got, rows) {
		t.Errorf("packed: %v", got)
	}
	if got := w.billLines(trade + "&bill_type=SUCCESS"); len(got) != 3 {
		t.Errorf("payments only: %v", got)
	}
	if got := w.billLines(trade + "&bill_type=REFUND"); len(got) != 4 {
		t.Errorf("refunds only: %v", got)
	}
	fund := w.billLines("/v3/bill/fundflowbill?bill_date=" + day)
	if len(fund) != 6 || !strings.Contains(fund[0], "`交易,`交易,`收入,`9.90,`9.90") || !strings.Contains(fund[1], "`支出,`0.06,`9.84") || fund[5] != "`4,`1,`9.90,`3,`3.06" {
		t.Errorf("fund flow:\n%s", strings.Join(fund, "\n"))
	}
	for _, query := range []string{"/v3/bill/tradebill", trade + "&bill_type=X", trade + "&tar_type=ZIP", "/v3/bill/tradebill?bill_date=20260115", "/v3/bill/fundflowbill?account_type=X&bill_date=" + day} {
		if rec, got := w.v3("GET", query, nil); rec.Code != 400 || got.text("code") != "PARAM_ERROR" {
			t.Errorf("%s: %d %v", query, rec.Code, got)
		}
	}
	if rec, got := w.v3("GET", "/v3/bill/tradebill?bill_date=2026-01-14", nil); rec.Code != 400 || got.text("code") != noBill {
		t.Errorf("a day without trade: %d %v", rec.Code, got)
	}
	if rec := w.do(w.signed("GET", "/v3/billdownload/file?token=x", "")); rec.Code != 400 {
		t.Errorf("unknown token: %d", rec.Code)
	}
	if rec := w.request("GET", "/v3/billdownload/file?token=x", ""); rec.Code != 401 {
		t.Errorf("unsigned download: %d", rec.Code)
	}
	for spoil, check := range map[string]func([]string) bool{
		"drop": func(r []string) bool { return len(r) == 4 }, "extra": func(r []string) bool { return len(r) == 6 && strings.Contains(r[3], "UNKNOWN") },
		"amount": func(r []string) bool { return strings.Contains(r[0], "`9.91") },
	} {
		w.control("/sim/fault", object{"bill": spoil, "path": "/v3/bill/tradebill"})
		if got := w.billLines(trade); !check(got) {
			t.Errorf("spoiled by %s:\n%s", spoil, strings.Join(got, "\n"))
		}
	}
	v2 := strings.ReplaceAll(day, "-", "")
	if got := w.callV2("/pay/downloadbill", signMD5, fieldsV2{"bill_date": v2, "bill_type": "ALL"}).Body.String(); !strings.Contains(got, rows[0]+"\r\n"+rows[1]) {
		t.Errorf("v2 bill: %s", got)
	}
	if got := w.callV2("/pay/downloadbill", signMD5, fieldsV2{"bill_date": v2, "tar_type": "GZIP"}).Body.Bytes(); !bytes.HasPrefix(got, []byte("\x1f\x8b")) {
		t.Errorf("v2 bill packed: %q", got)
	}
	if got := w.callV2("/pay/downloadfundflow", signHMAC, fieldsV2{"bill_date": v2, "account_type": "Basic"}).Body.String(); !strings.Contains(got, fund[0]) {
		t.Errorf("v2 fund flow: %s", got)
	}
	for name, c := range map[string]struct {
		path, sign, want string
		f                fieldsV2
	}{
		"no day":            {"/pay/downloadbill", signMD5, "缺少参数bill_date", fieldsV2{}},
		"a bad day":         {"/pay/downloadbill", signMD5, "invalid bill_date", fieldsV2{"bill_date": "x"}},
		"a bad kind":        {"/pay/downloadbill", signMD5, "invalid bill_type", fieldsV2{"bill_date": v2, "bill_type": "X"}},
		"a bad packing":     {"/pay/downloadbill", signMD5, "invalid tar_type", fieldsV2{"bill_date": v2, "tar_type": "X"}},
		"no trade":          {"/pay/downloadbill", signMD5, "No Bill Exist", fieldsV2{"bill_date": "20260114"}},
		"MD5 of fund flow":  {"/pay/downloadfundflow", signMD5, "sign_type", fieldsV2{"bill_date": v2, "account_type": "Basic"}},
		"account":           {"/pay/downloadfundflow", signHMAC, "invalid account_type", fieldsV2{"bill_date": v2, "account_type": "X"}},
		"a wrong signature": {"/pay/downloadbill", signMD5, "签名错误", fieldsV2{"bill_date": v2, "sign": "X"}},
	} {
		got, err := parseV2(w.callV2(c.path, c.sign, c.f).Body.Bytes())
		if err != nil || got["return_code"] != "FAIL" || !strings.Contains(got["return_msg"], c.want) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestBills_early(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.EarlyBills = true })
	w.paidV3("T0000001")
	if got := w.billLines("/v3/bill/tradebill?bill_date=" + beijing(w.clock.Now()).Format(time.DateOnly)); len(got) != 3 {
		t.Errorf("bill of today: %v", got)
	}
	w.clock.move(100 * 24 * time.Hour)
	if rec, got := w.v3("GET", "/v3/bill/tradebill?bill_date=2026-01-15", nil); rec.Code != 400 || got.text("code") != noBill {
		t.Errorf("after more than three months: %d %v", rec.Code, got)
	}
}

// Over TLS a v2 refund is for the holder of the merchant's certificate only.
func TestV2_clientCertificate(t *testing.T) {
	w := newWorld(t, fast)
	no := w.paidV2("T0000001")
	srv := httptest.NewUnstartedServer(w.sim)
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	own, err := tls.X509KeyPair([]byte(credentials().MerchantCertPEM), []byte(credentials().MerchantKeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		certs []tls.Certificate
		want  string
	}{
		"none":           {nil, "FAIL No required SSL certificate was sent"},
		"another":        {[]tls.Certificate{strangerCertificate(t)}, "FAIL 商户证书校验失败，请核对证书与商户号"},
		"the merchant's": {[]tls.Certificate{own}, "SUCCESS OK"},
	} {
		t.Run(name, func(t *testing.T) {
			client := srv.Client()
			client.Transport.(*http.Transport).TLSClientConfig.Certificates = c.certs
			client.CloseIdleConnections()
			f := fieldsV2{"appid": credentials().AppID, "mch_id": credentials().MchID, "nonce_str": "n", "out_trade_no": no, "out_refund_no": "R1", "total_fee": "990", "refund_fee": "990"}
			f["sign"] = signV2(signMD5, credentials().V2Key, f)
			body := v2Fields{}
			for name, value := range f {
				body = body.with(name, value)
			}
			resp, err := client.Post(srv.URL+"/secapi/pay/refund", "text/xml", bytes.NewReader(body.xml("xml")))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if got, _ := parseV2(text); got["return_code"]+" "+got["return_msg"] != c.want {
				t.Errorf("%s", text)
			}
		})
	}
	w.idle()
	strict := newWorld(t, func(o *Options) { o.NeedCertificate = true })
	if got := strict.askV2("/secapi/pay/refund", signMD5, fieldsV2{"out_trade_no": "x", "out_refund_no": "R1", "total_fee": "1", "refund_fee": "1"}); got["return_code"] != "FAIL" {
		t.Errorf("without TLS, where a certificate is needed: %v", got)
	}
}

func strangerCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Every code that the platform has is to be had, in the form of its API.
func TestFault_codes(t *testing.T) {
	w := newWorld(t, nil)
	for code, status := range map[string]int{"PARAM_ERROR": 400, "SIGN_ERROR": 401, "NO_AUTH": 403, "ORDER_NOT_EXIST": 404, "FREQUENCY_LIMITED": 429, "SYSTEM_ERROR": 500, "ORDERPAID": 400, "BANK_ERROR": 500} {
		w.control("/sim/fault", object{"code": code, "path": "/v3/pay/transactions/jsapi"})
		rec := w.prepay(w.order("T0000001", w.openid("alice")))
		if got := parse(t, rec.Body.Bytes()); rec.Code != status || got.text("code") != code || status != 401 && verifyPlatform(t, rec.Header(), rec.Body.Bytes()) != nil {
			t.Errorf("%s: %d %v", code, rec.Code, got)
		}
		w.control("/sim/fault", object{"code": code, "path": "/pay/unifiedorder"})
		if got := w.askV2("/pay/unifiedorder", signHMAC, w.orderV2("T0000002", w.openid("alice"))); got["result_code"] != "FAIL" || got["err_code"] != code {
			t.Errorf("v2 %s: %v", code, got)
		}
	}
	w.control("/sim/fault", object{"code": "FAIL", "path": "/pay/unifiedorder"})
	if got := w.askV2("/pay/unifiedorder", signMD5, w.orderV2("T0000002", w.openid("alice"))); got["return_code"] != "FAIL" || got["result_code"] != "" {
		t.Errorf("v2 FAIL: %v", got)
	}
	for _, code := range []int{-1, 40226, 45011, 43108, 43107, 70000, 48001} {
		w.control("/sim/fault", object{"errcode": code})
		if got := w.session(loginQuery("x")); got.number("errcode") != code {
			t.Errorf("errcode %d: %v", code, got)
		}
	}
	if state := fmt.Sprint(w.state()["faults"]); state != "[]" {
		t.Errorf("left over: %s", state)
	}
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
