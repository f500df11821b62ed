package wechat

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// PayV2Options: the XML version with an API key.
type PayV2Options struct {
	AppID, MchID string
	APIURL       string // https://api.mch.weixin.qq.com
	NotifyURL    string // without a query; at most 255 characters
	RefundURL    string // of refund notifies; "": NotifyURL's sibling …/refund
	Key          string // the API key, 32 letters and digits
	SignType     string // MD5 or HMAC-SHA256; "": MD5
	CertPEM      string // apiclient_cert.pem; refunds need it and KeyPEM, all else does not
	KeyPEM       string // apiclient_key.pem; line ends may be written as \n, in both
	// HTTP nil: one with sane timeouts. Refunds present the certificate on a copy of its Transport, which must
	// be an *http.Transport or nil.
	HTTP    *http.Client
	Observe func(Call) // as in Options
	Logger  *slog.Logger
	Now     func() time.Time
}

// String hides the keys.
func (o PayV2Options) String() string {
	return fmt.Sprintf("wechat.PayV2Options{%s %s %s}", o.AppID, o.MchID, o.APIURL)
}

// GoString hides the keys.
func (o PayV2Options) GoString() string { return o.String() }

// LogValue hides the keys.
func (o PayV2Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// PayV2 implements Pay. It is safe for concurrent use.
type PayV2 struct {
	*line
	appID, mchID string
	base         string
	notifyURL    string
	refundURL    string
	signer       v2Signer
	refunds      *http.Client // presents the merchant's certificate; nil: there is none
}

var _ Pay = (*PayV2)(nil)

var v2Key = regexp.MustCompile(`^[0-9A-Za-z]{32}$`)

// NewPayV2 checks every key and names each that is bad.
func NewPayV2(o PayV2Options) (*PayV2, error) {
	var bad []error
	check := func(ok bool, complaint string) {
		if !ok {
			bad = append(bad, errors.New("wechat: "+complaint))
		}
	}
	check(o.AppID != "", "AppID is missing")
	check(digits.MatchString(o.MchID), "MchID must be the merchant's number")
	base, err := baseURL("APIURL", o.APIURL, "https://api.mch.weixin.qq.com")
	if err != nil {
		bad = append(bad, err)
	}
	refundURL, err := notifyURLs(o.NotifyURL, o.RefundURL)
	if err != nil {
		bad = append(bad, err)
	}
	check(v2Key.MatchString(o.Key), "Key must be 32 letters and digits")
	signType := orElse(o.SignType, signMD5)
	check(signType == signMD5 || signType == signHMAC, "SignType must be MD5 or HMAC-SHA256")
	p := &PayV2{
		line:  newLine("pay", o.HTTP, o.Observe, o.Logger, o.Now),
		appID: o.AppID, mchID: o.MchID, base: base, notifyURL: o.NotifyURL, refundURL: refundURL,
		signer: v2Signer{key: o.Key, signType: signType},
	}
	if o.CertPEM != "" || o.KeyPEM != "" {
		if p.refunds, err = httpWithCertificate(p.http, o.CertPEM, o.KeyPEM); err != nil {
			bad = append(bad, err)
		}
	} else if strings.HasPrefix(base, "http://") { // a simulator: nobody asks for a certificate there
		p.refunds = p.http
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	return p, nil
}

// httpWithCertificate is h with a TLS client certificate. Its errors hold nothing of the key.
func httpWithCertificate(h *http.Client, certPEM, keyPEM string) (*http.Client, error) {
	if certPEM == "" || keyPEM == "" {
		return nil, errors.New("wechat: CertPEM and KeyPEM belong together, and one is missing")
	}
	lines := func(s string) []byte { return []byte(strings.ReplaceAll(s, `\n`, "\n")) }
	cert, err := tls.X509KeyPair(lines(certPEM), lines(keyPEM))
	if err != nil {
		return nil, errors.New("wechat: CertPEM and KeyPEM must be the merchant's apiclient_cert.pem and apiclient_key.pem, and fit each other")
	}
	way := h.Transport
	if way == nil {
		way = http.DefaultTransport
	}
	transport, ok := way.(*http.Transport)
	if !ok {
		return nil, errors.New("wechat: HTTP has a Transport of its own kind, which cannot present CertPEM")
	}
	transport = transport.Clone()
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	transport.TLSClientConfig.Certificates = []tls.Certificate{cert}
	own := *h
	own.Transport = transport
	return &own, nil
}

// String hides the keys.
func (p *PayV2) String() string { return "wechat.PayV2{" + p.appID + " " + p.mchID + "}" }

// GoString hides the keys.
func (p *PayV2) GoString() string { return p.String() }

// LogValue hides the keys.
func (p *PayV2) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Prepay calls /pay/unifiedorder. The answer counts only with its signature. Errors: *Error, which Is
// ErrRequest (Word says why: ORDERPAID, with ErrOrderPaid: query it; ORDERCLOSED: take a new number;
// OUT_TRADE_NO_USED …), ErrOpenID, ErrConfig, ErrTooOften, ErrBusy, ErrSignature or ErrNonsense.
func (p *PayV2) Prepay(ctx context.Context, o PayOrder) (prepayID string, err error) {
	if err := o.check(p.now()); err != nil {
		return "", err
	}
	if utf8.RuneCountInString(o.Attach) > 127 { // one less than version 3 takes
		return "", complain(opPrepay, "attach must have at most 127 characters")
	}
	in := v2Fields{
		"body": o.Description, "out_trade_no": o.OutTradeNo, "total_fee": strconv.FormatInt(o.TotalFen, 10),
		"spbill_create_ip": payerIP(o.ClientIP), "notify_url": p.notifyURL, "trade_type": "JSAPI",
		"openid": o.OpenID, "attach": o.Attach,
	}
	if !o.ExpiresAt.IsZero() {
		in["time_expire"] = o.ExpiresAt.In(beijing).Format(v2Time)
	}
	out, err := p.ask(ctx, opPrepay, p.http, "/pay/unifiedorder", in)
	if err != nil {
		return "", err
	}
	if out["prepay_id"] == "" {
		return "", &Error{Op: opPrepay, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without prepay_id"}
	}
	return out["prepay_id"], nil
}

// payerIP is an address that WeChat takes; it wants one even where none is known.
func payerIP(s string) string {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return "127.0.0.1"
	}
	return ip.WithZone("").Unmap().String()
}

// ClientParams signs the prepay_id with the key and in the way that signed the order.
func (p *PayV2) ClientParams(prepayID string) (ClientParams, error) {
	if prepayID == "" {
		return ClientParams{}, refuse(ErrMalformed, "no prepay_id")
	}
	c := ClientParams{
		TimeStamp: strconv.FormatInt(p.now().Unix(), 10), NonceStr: rand.Text(),
		Package: "prepay_id=" + prepayID, SignType: p.signer.signType,
	}
	c.PaySign = p.signer.sign(clientFields(p.appID, c))
	return c, nil
}

// clientFields have their names in the phone's spelling, appId too, which is signed but not handed on.
func clientFields(appID string, c ClientParams) v2Fields {
	return v2Fields{"appId": appID, "timeStamp": c.TimeStamp, "nonceStr": c.NonceStr, "package": c.Package, "signType": c.SignType}
}

// Query calls /pay/orderquery; see Pay.
func (p *PayV2) Query(ctx context.Context, outTradeNo string) (Payment, error) {
	if err := checkTradeNo(opQuery, outTradeNo); err != nil {
		return Payment{}, err
	}
	pay, err := p.query(ctx, v2Fields{"out_trade_no": outTradeNo})
	if err == nil && pay.OutTradeNo != outTradeNo {
		return Payment{}, &Error{Op: opQuery, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another order"}
	}
	return pay, err
}

// QueryTransaction calls /pay/orderquery with WeChat Pay's number; see Pay.
func (p *PayV2) QueryTransaction(ctx context.Context, transactionID string) (Payment, error) {
	if err := checkTransactionID(transactionID); err != nil {
		return Payment{}, err
	}
	pay, err := p.query(ctx, v2Fields{"transaction_id": transactionID})
	if err == nil && pay.TransactionID != transactionID {
		return Payment{}, &Error{Op: opQuery, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another order"}
	}
	return pay, err
}

func (p *PayV2) query(ctx context.Context, in v2Fields) (Payment, error) {
	out, err := p.ask(ctx, opQuery, p.http, "/pay/orderquery", in)
	if err != nil {
		return Payment{}, err
	}
	pay, err := out.payment(out["trade_state"], false)
	if err != nil {
		return Payment{}, nonsense(opQuery, err)
	}
	return pay, nil
}

// Close calls /pay/closeorder; see Pay.
func (p *PayV2) Close(ctx context.Context, outTradeNo string) error {
	if err := checkTradeNo(opClose, outTradeNo); err != nil {
		return err
	}
	_, err := p.ask(ctx, opClose, p.http, "/pay/closeorder", v2Fields{"out_trade_no": outTradeNo})
	return closedAlready(err)
}

// Refund calls /secapi/pay/refund with the merchant's certificate; see Pay. WeChat only says that it took
// the refund: Status is PROCESSING.
func (p *PayV2) Refund(ctx context.Context, r RefundOrder) (Refund, error) {
	if err := r.check(); err != nil {
		return Refund{}, err
	}
	if p.refunds == nil {
		return Refund{}, &Error{Op: opRefund, Kind: ErrConfig, Msg: "refunds need the merchant's certificate: CertPEM and KeyPEM"}
	}
	out, err := p.ask(ctx, opRefund, p.refunds, "/secapi/pay/refund", v2Fields{
		"out_trade_no": r.OutTradeNo, "out_refund_no": r.OutRefundNo, "refund_desc": r.Reason,
		"total_fee": strconv.FormatInt(r.TotalFen, 10), "refund_fee": strconv.FormatInt(r.RefundFen, 10),
		"notify_url": orElse(r.NotifyURL, p.refundURL),
	})
	if err != nil {
		return Refund{}, err
	}
	got, err := out.refund("", "PROCESSING")
	if err != nil {
		return Refund{}, nonsense(opRefund, err)
	}
	if got.OutTradeNo != r.OutTradeNo || got.OutRefundNo != r.OutRefundNo || got.RefundFen != r.RefundFen {
		return Refund{}, &Error{Op: opRefund, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another refund"}
	}
	return got, nil
}

// QueryRefund calls /pay/refundquery; see Pay.
func (p *PayV2) QueryRefund(ctx context.Context, outRefundNo string) (Refund, error) {
	if err := checkRefundNo(opQueryRefund, outRefundNo); err != nil {
		return Refund{}, err
	}
	out, err := p.ask(ctx, opQueryRefund, p.http, "/pay/refundquery", v2Fields{"out_refund_no": outRefundNo})
	if err != nil {
		return Refund{}, err
	}
	for n := range maxRefunds { // the answer is a list: out_refund_no_0, refund_fee_0 …
		index := "_" + strconv.Itoa(n)
		if out["out_refund_no"+index] != outRefundNo {
			continue
		}
		got, err := out.refund(index, v2RefundState[out["refund_status"+index]])
		if err != nil {
			return Refund{}, nonsense(opQueryRefund, err)
		}
		return got, nil
	}
	return Refund{}, &Error{Op: opQueryRefund, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another refund"}
}

// ask adds what every request has, signs and sends it, and opens the answer.
func (p *PayV2) ask(ctx context.Context, op string, h *http.Client, path string, in v2Fields) (out v2Fields, err error) {
	hide := []string{p.signer.key, in["openid"]}
	err = p.call(ctx, op, func(ctx context.Context) error {
		a, err := p.send(ctx, op, h, path, p.signer, in, hide, p.timeout, maxAnswer)
		if err != nil {
			return err
		}
		out, err = p.openAnswer(op, a, hide)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (p *PayV2) send(ctx context.Context, op string, h *http.Client, path string, signer v2Signer, in v2Fields, hide []string, timeout time.Duration, limit int) (answer, error) {
	in["appid"], in["mch_id"], in["nonce_str"], in["sign_type"] = p.appID, p.mchID, rand.Text(), signer.signType
	in["sign"] = signer.sign(in)
	body, ok := in.xml()
	if !ok {
		return answer{}, complain(op, "a field has characters that XML cannot hold")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
	}
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("User-Agent", "wxhub")
	return roundTripUpTo(h, req, op, timeout, limit, hide)
}

// openAnswer believes an answer only with its signature. The one that carries none is return_code FAIL:
// WeChat did not get as far as knowing us, and says nothing of the order.
func (p *PayV2) openAnswer(op string, a answer, hide []string) (v2Fields, error) {
	fail := &Error{Op: op, Status: a.status, RetryAfter: a.retryAfter()}
	switch {
	case a.status == http.StatusTooManyRequests:
		fail.Kind, fail.RetryAfter = ErrTooOften, max(fail.RetryAfter, time.Second)
		return nil, fail
	case a.status >= 500:
		fail.Kind, fail.RetryAfter = ErrBusy, max(fail.RetryAfter, time.Second)
		return nil, fail
	case a.status != http.StatusOK:
		fail.Kind = ErrNonsense
		return nil, fail
	}
	f, err := parseV2(a.body, "xml")
	if err != nil {
		fail.Kind, fail.Msg = ErrNonsense, "not the XML that was promised"
		return nil, fail
	}
	if f["return_code"] == "FAIL" {
		fail.Word, _ = words(f["err_code"], hide)
		fail.Msg, _ = words(f["return_msg"], hide)
		fail.Kind = failKind(fail.Word, f["return_msg"])
		if fail.Kind == ErrBusy || fail.Kind == ErrTooOften {
			fail.RetryAfter = max(fail.RetryAfter, time.Second)
		}
		return nil, fail
	}
	if err := p.signer.verify(f); err != nil {
		fail.Kind, fail.Err = ErrSignature, err
		return nil, fail
	}
	switch {
	case f["return_code"] != "SUCCESS", f["result_code"] != "SUCCESS" && f["result_code"] != "FAIL":
		fail.Kind, fail.Msg = ErrNonsense, "return_code or result_code is missing or unknown"
		return nil, fail
	case f["appid"] != p.appID || f["mch_id"] != p.mchID:
		fail.Kind, fail.Msg = ErrNonsense, "the answer is for another app or merchant"
		return nil, fail
	case f["result_code"] == "SUCCESS":
		return f, nil
	}
	fail.Word, _ = words(f["err_code"], hide)
	fail.Msg, _ = words(f["err_code_des"], hide)
	fail.Kind, fail.Err = payKindOf(fail.Word, a.status), payFact(op, fail.Word)
	switch {
	case plainWord(fail.Word) == "INVALIDREQTOOMUCH":
		fail.RetryAfter = max(fail.RetryAfter, perMinute)
	case fail.Kind == ErrTooOften, fail.Kind == ErrBusy:
		fail.RetryAfter = max(fail.RetryAfter, time.Second)
	}
	return nil, fail
}

// failKind is the reaction to an unsigned return_code FAIL, which mostly has only words: our key, our
// appid or our merchant number is wrong, or a field is.
func failKind(word, msg string) error {
	if word != "" {
		return payKindOf(word, http.StatusOK)
	}
	for _, setting := range []string{"签名", "sign", "appid", "mch_id", "mchid", "商户号"} {
		if strings.Contains(strings.ToLower(msg), setting) {
			return ErrConfig
		}
	}
	if strings.Contains(msg, "系统") || strings.Contains(strings.ToUpper(msg), "SYSTEMERROR") {
		return ErrBusy
	}
	return ErrRequest
}
