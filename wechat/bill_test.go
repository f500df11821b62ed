package wechat

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The bills as the documents show them: Chinese names, a backtick before every value, totals at the end.
const (
	tradeBillText = "\xef\xbb\xbf交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n" +
		"`2026-01-15 10:34:55,`wx8888888888888888,`1900000109,`0,`,`4200002026202601151234567890,`20260115103456000001,`o1,`JSAPI,`SUCCESS,`OTHERS,`CNY,`1.00,`0.10,`0,`0,`0.00,`0.00,`,`,`茶,壶 \"大\",`room=notice,`0.00600,`1.00%,`1.00,`0.00,`\r\n" +
		"`2026-01-15 11:00:00,`wx8888888888888888,`1900000109,`0,`,`4200002026202601151234567890,`20260115103456000001,`o1,`JSAPI,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`50000000382026011500000000001,`R20260115103456000001,`0.30,`0.00,`ORIGINAL,`SUCCESS,`茶,`,`-0.00300,`1.00%,`0.00,`0.30,`\r\n" +
		"总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`2,`1.00,`0.30,`0.00,`0.01,`1.00,`0.30\r\n"
	fundBillText = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\n" +
		"`2026-01-15 10:34:55,`4200,`F1,`交易,`交易,`收入,`1.00,`101.00,`1900000109,`结算,`P1\n" +
		"`2026-01-15 11:00:00,`5000,`F2,`退款,`退款,`支出,`0.30,`100.70,`1900000109API,`退款总金额0.30元,`R1\n" +
		"资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\n`2.0,`1.0,`1.00,`1.0,`0.30\n"
	emptyBillText = "交易时间,微信订单号,商户订单号,交易状态,总金额\n总交易单数,总交易额\n`0,`0.00\n"
)

var (
	billDate  = time.Date(2026, 1, 15, 20, 0, 0, 0, time.UTC) // the 16th in Beijing
	billNow   = time.Date(2026, 1, 17, 10, 0, 0, 0, beijing)
	tradeRows = []BillRow{
		{At: time.Date(2026, 1, 15, 10, 34, 55, 0, beijing), AppID: testAppID, MchID: "1900000109", TransactionID: "4200002026202601151234567890", OutTradeNo: testNo,
			OpenID: "o1", TradeType: "JSAPI", State: "SUCCESS", TotalFen: 100, SettledFen: 100, CouponFen: 10, FeeFen: 1, Currency: "CNY",
			Description: `茶,壶 "大"`, Attach: "room=notice"},
		{At: time.Date(2026, 1, 15, 11, 0, 0, 0, beijing), AppID: testAppID, MchID: "1900000109", TransactionID: "4200002026202601151234567890", OutTradeNo: testNo,
			OpenID: "o1", TradeType: "JSAPI", State: "REFUND", RefundID: "50000000382026011500000000001", OutRefundNo: testRefundNo, RefundState: "SUCCESS",
			RefundFen: 30, Currency: "CNY", Description: "茶"},
	}
	fundRows = []FundRow{
		{At: time.Date(2026, 1, 15, 10, 34, 55, 0, beijing), TransactionID: "4200", FlowID: "F1", Business: "交易", Kind: "交易", In: true, AmountFen: 100, BalanceFen: 10100, Applicant: "1900000109", Note: "结算", Proof: "P1"},
		{At: time.Date(2026, 1, 15, 11, 0, 0, 0, beijing), TransactionID: "5000", FlowID: "F2", Business: "退款", Kind: "退款", AmountFen: 30, BalanceFen: 10070, Applicant: "1900000109API", Note: "退款总金额0.30元", Proof: "R1"},
	}
)

func TestReadBills(t *testing.T) {
	rows, err := readTradeBill([]byte(tradeBillText))
	if err != nil || !reflect.DeepEqual(rows, tradeRows) {
		t.Errorf("%v\n%+v\n%+v", err, rows, tradeRows)
	}
	funds, err := readFundBill([]byte(fundBillText))
	if err != nil || !reflect.DeepEqual(funds, fundRows) {
		t.Errorf("%v\n%+v", err, funds)
	}
	if rows, err := readTradeBill([]byte(emptyBillText)); err != nil || len(rows) != 0 {
		t.Error(rows, err)
	}
	for name, change := range map[string]func(string) string{
		"cut off":              func(s string) string { return s[:strings.Index(s, "总交易单数")] },
		"cut in the totals":    func(s string) string { return s[:strings.LastIndex(s, "`2")] },
		"a row too few":        func(s string) string { return strings.Replace(s, "`2,`1.00", "`3,`1.00", 1) },
		"another sum":          func(s string) string { return strings.Replace(s, "`2,`1.00", "`2,`1.01", 1) },
		"a value too few":      func(s string) string { return strings.Replace(s, "`OTHERS,", "", 1) },
		"an amount that is no": func(s string) string { return strings.Replace(s, "`1.00,`0.10", "`1.00,`1e2", 1) },
		"a time that is no":    func(s string) string { return strings.Replace(s, "10:34:55", "25:34:55", 1) },
		"no order":             func(s string) string { return strings.ReplaceAll(s, "`"+testNo, "`") },
		"a column twice":       func(s string) string { return strings.Replace(s, "付款银行", "交易状态", 1) },
		"no columns":           func(s string) string { return strings.Replace(s, "交易状态", "状态", 1) },
		"a line between": func(s string) string {
			return strings.Replace(s, "\r\n`2026-01-15 11", "\r\nhello\r\n`2026-01-15 11", 1)
		},
		"more behind": func(s string) string { return s + "`x\r\n" },
		"not UTF-8":   func(s string) string { return s + "\xff" },
		"a long line": func(s string) string { return strings.Replace(s, "room=notice", strings.Repeat("x", maxBillLine), 1) },
		"html":        func(string) string { return "<html>" },
		"nothing":     func(string) string { return "" },
	} {
		if rows, err := readTradeBill([]byte(change(tradeBillText))); !errors.Is(err, ErrMalformed) || rows != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readFundBill([]byte(strings.Replace(fundBillText, "`收入", "`不明", 1))); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if _, err := readFundBill([]byte(strings.Replace(fundBillText, "`2.0", "`2.5", 1))); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestFenOfYuan(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "1": 100, "1.5": 150, "0.07": 7, "19.99": 1999, "-0.30": -30, "0.01000": 1, "1234567890123.45": 123456789012345} {
		if got, ok := fenOfYuan(s); !ok || got != want {
			t.Errorf("%s: %d %t", s, got, ok)
		}
	}
	for _, s := range []string{"", "-", ".5", "1.", "1.234", "1e2", "+1", "1,000", "--1", "９", "1234567890123456", "0x1"} {
		if got, ok := fenOfYuan(s); ok {
			t.Errorf("%q: %d", s, got)
		}
	}
}

// billServer plays both calls of version 3: where the bill is, and the bill itself.
func billServer(t *testing.T, text string, where func(r *http.Request, hash string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), v3Auth) {
			t.Errorf("unsigned %s", r.URL)
		}
		if r.URL.Path == "/v3/billdownload/file" {
			if r.URL.RawQuery != "token=TK%3D&tartype=" {
				t.Error(r.URL.RawQuery)
			}
			_, _ = io.WriteString(w, text) // no signature
			return
		}
		sum := sha1.Sum([]byte(text))
		body := where(r, hex.EncodeToString(sum[:]))
		for name, v := range signAs(t, payKey(), billNow.Unix(), []byte(body)) {
			w.Header()[name] = v
		}
		_, _ = io.WriteString(w, body)
	}
}

func billURL(r *http.Request, hash string) string {
	return fmt.Sprintf(`{"hash_type":"SHA1","hash_value":%q,"download_url":"https://api.mch.weixin.qq.com/v3/billdownload/file?token=TK%%3D&tartype="}`, hash)
}

func atBillTime(p *PayV3) *PayV3 { p.now = func() time.Time { return billNow }; return p }

func TestBills_v3(t *testing.T) {
	var asked []string
	p := atBillTime(newTestPay(t, billServer(t, tradeBillText, func(r *http.Request, hash string) string {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		return billURL(r, strings.ToUpper(hash))
	})))
	rows, err := p.TradeBill(t.Context(), billDate)
	if err != nil || !reflect.DeepEqual(rows, tradeRows) {
		t.Errorf("%v %+v", err, rows)
	}
	p = atBillTime(newTestPay(t, billServer(t, fundBillText, func(r *http.Request, hash string) string {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		return billURL(r, hash)
	})))
	funds, err := p.FundBill(t.Context(), billDate)
	if err != nil || !reflect.DeepEqual(funds, fundRows) {
		t.Errorf("%v %+v", err, funds)
	}
	if got := strings.Join(asked, ", "); got != "GET /v3/bill/tradebill?bill_date=2026-01-16&bill_type=ALL, GET /v3/bill/fundflowbill?account_type=BASIC&bill_date=2026-01-16" {
		t.Error(got)
	}
}

func TestBills_v3_refused(t *testing.T) {
	refusal := func(status int, word string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body := fmt.Sprintf(`{"code":%q,"message":"x"}`, word)
			for name, v := range signAs(t, payKey(), billNow.Unix(), []byte(body)) {
				w.Header()[name] = v
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	download := func(h http.HandlerFunc) http.HandlerFunc {
		good := billServer(t, tradeBillText, billURL)
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v3/billdownload") {
				h(w, r)
				return
			}
			good(w, r)
		}
	}
	place := func(body string) http.HandlerFunc {
		return billServer(t, tradeBillText, func(r *http.Request, hash string) string { return strings.ReplaceAll(body, "HASH", hash) })
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   error
		advice Advice
	}{
		"nobody paid":         {refusal(400, "NO_STATEMENT_EXIST"), ErrNoBill, GiveUp},
		"being made":          {refusal(400, "STATEMENT_CREATING"), ErrNotYet, Retry},
		"403":                 {refusal(403, "NO_AUTH"), ErrConfig, Alarm},
		"unsigned":            {say(200, billURL(nil, strings.Repeat("0", 40))), ErrSignature, Alarm},
		"another hash":        {download(say(200, tradeBillText+" ")), ErrSignature, Alarm},
		"cut off":             {download(say(200, tradeBillText[:500])), ErrSignature, Alarm},
		"html":                {download(say(200, "<html>")), ErrSignature, Alarm},
		"download fails":      {download(say(502, "")), ErrBusy, Retry},
		"download refused":    {download(say(404, "{}")), ErrNonsense, Alarm},
		"slow":                {download(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), ErrBusy, Retry},
		"huge":                {download(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, maxBill+1)) }), ErrNonsense, Alarm},
		"another way to hash": {place(`{"hash_type":"MD5","hash_value":"HASH","download_url":"https://a.example/v3/billdownload/file?token=TK%3D&tartype="}`), ErrNonsense, Alarm},
		"no place":            {place(`{"hash_type":"SHA1","hash_value":"HASH"}`), ErrNonsense, Alarm},
		"a strange place":     {place(`{"hash_type":"SHA1","hash_value":"HASH","download_url":"https://a.example/elsewhere?token=canary"}`), ErrNonsense, Alarm},
		"types":               {place(`{"hash_type":1,"hash_value":[],"download_url":{}}`), ErrNonsense, Alarm},
	} {
		t.Run(name, func(t *testing.T) {
			p := atBillTime(newTestPay(t, c.answer))
			if name == "slow" {
				p.timeout = 30 * time.Millisecond
			}
			rows, err := p.TradeBill(t.Context(), billDate)
			if !errors.Is(err, c.kind) || AdviceOf(err) != c.advice || rows != nil {
				t.Errorf("%v: %s", err, AdviceOf(err))
			}
			noSecrets(t, err, testAPIv3Key)
		})
	}
}

// A bill goes to no other host, whatever the answer names: our signature would go with it.
func TestBills_v3_ownHostOnly(t *testing.T) {
	p := atBillTime(newTestPay(t, billServer(t, tradeBillText, func(r *http.Request, hash string) string {
		return strings.Replace(billURL(r, hash), "api.mch.weixin.qq.com", "thief.invalid", 1)
	})))
	if _, err := p.TradeBill(t.Context(), billDate); err != nil { // our own host was asked
		t.Error(err)
	}
	for address, want := range map[string]string{
		"https://x.example/v3/billdownload/file?token=a%2Fb": "/v3/billdownload/file?token=a%2Fb",
		"http://x.example/sub/v3/billdownload/file":          "/v3/billdownload/file",
		"https://x.example/other":                            "",
		"/v3/billdownload/file":                              "",
		"https://x.example/sub/other/v3/":                    "",
		"::":                                                 "",
	} {
		uri, ok := (&PayV3{base: "http://127.0.0.1:1/sub"}).ownURI(address)
		if ok != (want != "") || ok && uri != want {
			t.Errorf("%s: %q %t", address, uri, ok)
		}
	}
}

func TestBills_v2(t *testing.T) {
	for op, c := range map[string]struct {
		path, text string
		sent       v2Fields
		signType   string
	}{
		opTradeBill: {"/pay/downloadbill", tradeBillText, v2Fields{"bill_date": "20260116", "bill_type": "ALL"}, signMD5},
		opFundBill:  {"/pay/downloadfundflow", fundBillText, v2Fields{"bill_date": "20260116", "account_type": "Basic"}, signHMAC},
	} {
		p := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got, err := parseV2(body, "xml")
			if err != nil || r.URL.Path != c.path || (v2Signer{testV2Key, c.signType}).verify(got) != nil || got["sign_type"] != c.signType {
				t.Errorf("%s %v %s", r.URL, err, body)
			}
			for name, v := range c.sent {
				if got[name] != v {
					t.Errorf("%s: %q", name, got[name])
				}
			}
			_, _ = io.WriteString(w, c.text)
		}, func(o *PayV2Options) { o.Now = func() time.Time { return billNow } })
		if op == opTradeBill {
			rows, err := p.TradeBill(t.Context(), billDate)
			if err != nil || !reflect.DeepEqual(rows, tradeRows) {
				t.Errorf("%v %+v", err, rows)
			}
			continue
		}
		rows, err := p.FundBill(t.Context(), billDate)
		if err != nil || !reflect.DeepEqual(rows, fundRows) {
			t.Errorf("%v %+v", err, rows)
		}
	}
}

func TestBills_v2_refused(t *testing.T) {
	fail := func(fields ...string) http.HandlerFunc {
		return say(200, rawV2((v2Fields{"return_code": "FAIL"}).with(fields...)))
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   error
	}{
		"nobody paid":         {fail("return_msg", "No Bill Exist", "error_code", "20002"), ErrNoBill},
		"nobody paid, worded": {fail("return_msg", "No Bill Exist"), ErrNoBill},
		"being made":          {fail("return_msg", "Bill Creating", "error_code", "20003"), ErrNotYet},
		"busy":                {fail("return_msg", "SYSTEMERROR", "error_code", "20100"), ErrBusy},
		"our key":             {fail("return_msg", "签名失败"), ErrConfig},
		"500":                 {say(500, ""), ErrBusy},
		"429":                 {say(429, ""), ErrTooOften},
		"404":                 {say(404, "x"), ErrNonsense},
		"html":                {say(200, "<html>"), ErrNonsense},
		"success as XML":      {say(200, v2Answer(v2Signer{testV2Key, signMD5}, v2Good)), ErrNonsense},
		"nothing":             {say(200, ""), ErrNonsense},
		"cut off":             {say(200, tradeBillText[:500]), ErrNonsense},
		"slow":                {func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPayV2(t, c.answer, func(o *PayV2Options) { o.Now = func() time.Time { return billNow } })
			if name == "slow" {
				p.timeout = 20 * time.Millisecond
			}
			rows, err := p.TradeBill(t.Context(), billDate)
			if !errors.Is(err, c.kind) || rows != nil {
				t.Error(err)
			}
			noSecrets(t, err, testV2Key)
		})
	}
	p := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") }, func(o *PayV2Options) { o.Now = func() time.Time { return billNow } })
	p.refunds = nil
	if _, err := p.FundBill(t.Context(), billDate); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

// A bill is there from ten in the morning of the next day in Beijing, and for three months. Before that "there is
// none" does not mean that nobody paid.
func TestBills_day(t *testing.T) {
	none := say(200, rawV2((v2Fields{"return_code": "FAIL"}).with("return_msg", "No Bill Exist", "error_code", "20002")))
	for _, c := range []struct {
		now  time.Time
		kind error
	}{
		{time.Date(2026, 1, 15, 23, 0, 0, 0, beijing), ErrRequest},
		{time.Date(2026, 1, 16, 1, 0, 0, 0, beijing), ErrNotYet},
		{time.Date(2026, 1, 17, 9, 59, 59, 0, beijing), ErrNotYet},
		{time.Date(2026, 1, 17, 10, 0, 0, 0, beijing), ErrNoBill},
		{time.Date(2026, 4, 17, 0, 0, 0, 0, beijing), ErrNoBill},
		{time.Date(2026, 4, 19, 0, 0, 0, 0, beijing), ErrRequest},
	} {
		p := newTestPayV2(t, none, func(o *PayV2Options) { o.Now = func() time.Time { return c.now } })
		_, err := p.TradeBill(t.Context(), billDate)
		if !errors.Is(err, c.kind) {
			t.Errorf("%v: %v", c.now, err)
		}
		if c.kind == ErrNotYet && !c.now.Add(RetryAfter(err)).Equal(time.Date(2026, 1, 17, 10, 0, 0, 0, beijing)) {
			t.Errorf("%v: again in %v", c.now, RetryAfter(err))
		}
	}
}

func TestCompareBill(t *testing.T) {
	paid := func(no, transaction string, fen int64) BillRow {
		return BillRow{OutTradeNo: no, TransactionID: transaction, State: "SUCCESS", TotalFen: fen}
	}
	refund := func(no, refundNo string, fen int64, state string) BillRow {
		return BillRow{OutTradeNo: no, OutRefundNo: refundNo, State: "REFUND", RefundFen: fen, RefundState: state, TransactionID: "t" + no}
	}
	bill := []BillRow{
		paid("1", "t1", 100), paid("2", "t2", 100), paid("3", "t3", 100), paid("4", "t4", 100), paid("6", "t6", 100), paid("6", "t6b", 100),
		refund("1", "r1", 30, "SUCCESS"), refund("1", "r2", 20, "SUCCESS"), refund("2", "r3", 20, "PROCESSING"), refund("2", "failed", 20, "FAIL"),
		{OutTradeNo: "7", State: "REVOKED", TotalFen: 1},
	}
	ours := []BillRow{
		paid("1", "t1", 100), paid("2", "t2", 101), paid("3", "another", 100), paid("5", "t5", 100), paid("6", "t6", 100),
		refund("1", "r1", 30, ""), refund("1", "r2", 21, ""), refund("1", "r9", 5, ""),
	}
	var got []string
	for _, d := range CompareBill(bill, ours) {
		got = append(got, fmt.Sprintf("%s %s/%s theirs %d ours %d", d.What, d.OutTradeNo, d.OutRefundNo, d.TheirFen, d.OurFen))
	}
	want := []string{
		"amount 1/r2 theirs 20 ours 21",
		"missing_there 1/r9 theirs 0 ours 5",
		"amount 2/ theirs 100 ours 101",
		"missing_here 2/r3 theirs 20 ours 0",
		"transaction 3/ theirs 100 ours 100",
		"missing_here 4/ theirs 100 ours 0",
		"missing_there 5/ theirs 0 ours 100",
		"twice 6/ theirs 100 ours 100",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if d := CompareBill(tradeRows, []BillRow{paid(testNo, "4200002026202601151234567890", 100), {OutTradeNo: testNo, OutRefundNo: testRefundNo, State: "REFUND", RefundFen: 30}}); len(d) != 0 {
		t.Errorf("%+v", d)
	}
}

func TestQueryTransaction(t *testing.T) {
	const id = "4200002026202601151234567890"
	v3 := newTestPay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/v3/pay/transactions/id/"+id+"?mchid=1900000109" {
			t.Error(r.URL)
		}
		answerSigned(t, 200, v3Paid)(w, r)
	})
	v2 := newTestPayV2(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if f, err := parseV2(body, "xml"); err != nil || f["transaction_id"] != id || f["out_trade_no"] != "" {
			t.Errorf("%s", body)
		}
		_, _ = io.WriteString(w, v2Answer(v2Signer{testV2Key, signMD5}, v2Paid))
	})
	for name, p := range map[string]Pay{"v3": v3, "v2": v2} {
		if pay, err := p.QueryTransaction(t.Context(), id); err != nil || pay.OutTradeNo != testNo || pay.TotalFen != 100 {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.QueryTransaction(t.Context(), "x/../y"); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v3 = newTestPay(t, answerSigned(t, 200, v3Paid))
	v2 = newTestPayV2(t, say(200, v2Answer(v2Signer{testV2Key, signMD5}, v2Paid)))
	for name, p := range map[string]Pay{"v3": v3, "v2": v2} {
		if pay, err := p.QueryTransaction(t.Context(), "42"); !errors.Is(err, ErrNonsense) || pay != (Payment{}) {
			t.Errorf("%s: the answer is about another one: %v", name, err)
		}
	}
}

func TestNotify_keys(t *testing.T) {
	a, b := &PaymentNotify{ID: "EV-1"}, &PaymentNotify{EventType: eventPaid, Payment: Payment{TransactionID: "4200"}}
	c, d := &RefundNotify{ID: "EV-1"}, &RefundNotify{EventType: "REFUND.SUCCESS", Refund: Refund{RefundID: "5000"}}
	if got := strings.Join([]string{a.Key(), b.Key(), c.Key(), d.Key()}, " "); got != "pay:EV-1 pay:4200:TRANSACTION.SUCCESS refund:EV-1 refund:5000:REFUND.SUCCESS" {
		t.Error(got)
	}
}

func FuzzTradeBill(f *testing.F) {
	f.Add([]byte(tradeBillText))
	f.Add([]byte(emptyBillText))
	f.Add([]byte("a,b\n`1,`2\nc\n`3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := readTradeBill(b)
		oneOf(t, err, ErrMalformed)
		if err != nil && rows != nil {
			t.Error("rows beside an error")
		}
		for _, r := range rows {
			if r.OutTradeNo == "" || r.TransactionID == "" || r.State == "" || r.At.IsZero() {
				t.Errorf("%+v", r)
			}
		}
		if d := CompareBill(rows, rows); err == nil {
			for _, one := range d {
				if one.What != DiffTwice {
					t.Errorf("a bill differs from itself: %+v", one)
				}
			}
		}
	})
}

func FuzzFundBill(f *testing.F) {
	f.Add([]byte(fundBillText))
	f.Add([]byte("记账时间,资金流水单号,收支类型,收支金额(元)\n资金流水总笔数\n`0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := readFundBill(b)
		oneOf(t, err, ErrMalformed)
		if err != nil && len(rows) > 0 && !errors.Is(err, ErrMalformed) {
			t.Error("rows beside an error")
		}
	})
}
