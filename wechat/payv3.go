package wechat

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	payWindow   = 5 * time.Minute // WeChat Pay's own rule, both directions
	probePrefix = "WECHATPAY/SIGNTEST/"
	v3Auth      = "WECHATPAY2-SHA256-RSA2048"
)

// PayV3Options: WeChat Pay signs with its public key, or with platform certificates that are downloaded, or with
// both while a merchant changes over. Without the public key certificates alone are used.
type PayV3Options struct {
	AppID, MchID  string
	APIURL        string // https://api.mch.weixin.qq.com
	NotifyURL     string // without a query; at most 255 characters
	RefundURL     string // of refund notifies; "": NotifyURL's sibling …/refund
	APIv3Key      string // 32 bytes
	CertSerial    string // of the merchant certificate
	PrivateKeyPEM string // apiclient_key.pem; line ends may be written as \n
	PublicKeyID   string // PUB_KEY_ID_…; with PublicKeyPEM, or neither
	PublicKeyPEM  string // pub_key.pem of WeChat Pay; line ends may be written as \n
	HTTP          *http.Client
	Tokens        TokenStore // keeps the platform certificates for the next start; nil: nobody does
	Observe       func(Call) // as in Options
	Logger        *slog.Logger
	Now           func() time.Time
}

// String hides the keys.
func (o PayV3Options) String() string {
	return fmt.Sprintf("wechat.PayV3Options{%s %s %s}", o.AppID, o.MchID, o.APIURL)
}

// GoString hides the keys.
func (o PayV3Options) GoString() string { return o.String() }

// LogValue hides the keys.
func (o PayV3Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// PayV3 implements Pay. It is safe for concurrent use.
type PayV3 struct {
	*line
	appID, mchID string
	base         string
	notifyURL    string
	refundURL    string
	key          []byte // APIv3
	certSerial   string
	private      *rsa.PrivateKey // signs our requests
	publicID     string          // "": platform certificates alone
	shelf        TokenStore      // nil: none
	ring         ring            // verifies WeChat Pay's answers and notifies
}

var _ Pay = (*PayV3)(nil)

var (
	digits = regexp.MustCompile(`^[0-9]{1,32}$`)
	hexed  = regexp.MustCompile(`^[0-9A-Fa-f]{1,64}$`)
)

// NewPayV3 checks every key and names each that is bad.
func NewPayV3(o PayV3Options) (*PayV3, error) {
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
	check(len(o.APIv3Key) == 32, "APIv3Key must have 32 bytes")
	check(hexed.MatchString(o.CertSerial), "CertSerial must be the hex serial of the merchant certificate")
	private, err := rsaPrivateKey(o.PrivateKeyPEM)
	if err != nil {
		bad = append(bad, fmt.Errorf("wechat: PrivateKeyPEM: %w", err))
	}
	var public *rsa.PublicKey
	if o.PublicKeyID != "" || o.PublicKeyPEM != "" {
		check(strings.HasPrefix(o.PublicKeyID, "PUB_KEY_ID_"), "PublicKeyID must begin with PUB_KEY_ID_")
		if public, err = rsaPublicKey(o.PublicKeyPEM); err != nil {
			bad = append(bad, fmt.Errorf("wechat: PublicKeyPEM: %w", err))
		}
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	p := &PayV3{
		line:  newLine("pay", o.HTTP, o.Observe, o.Logger, o.Now),
		appID: o.AppID, mchID: o.MchID, base: base, notifyURL: o.NotifyURL, refundURL: refundURL, key: []byte(o.APIv3Key),
		certSerial: o.CertSerial, private: private, publicID: o.PublicKeyID, shelf: o.Tokens,
	}
	if public != nil {
		p.ring.add(p.now(), ringKey{PayKey: PayKey{Serial: o.PublicKeyID}, public: public})
	}
	if public != nil && private.PublicKey.Equal(public) {
		p.log.Warn("the public key of WeChat Pay is the merchant's own: is it the right file (pub_key.pem)?")
	}
	return p, nil
}

// String hides the keys.
func (p *PayV3) String() string { return "wechat.PayV3{" + p.appID + " " + p.mchID + "}" }

// GoString hides the keys.
func (p *PayV3) GoString() string { return p.String() }

// LogValue hides the keys.
func (p *PayV3) LogValue() slog.Value { return slog.StringValue(p.String()) }

type v3Amount struct {
	Total    int64  `json:"total"`
	Currency string `json:"currency"`
}

type v3Prepay struct {
	AppID       string    `json:"appid"`
	MchID       string    `json:"mchid"`
	Description string    `json:"description"`
	OutTradeNo  string    `json:"out_trade_no"`
	TimeExpire  string    `json:"time_expire,omitempty"`
	Attach      string    `json:"attach,omitempty"`
	NotifyURL   string    `json:"notify_url"`
	Amount      v3Amount  `json:"amount"`
	Payer       v3Payer   `json:"payer"`
	Scene       *v3Client `json:"scene_info,omitempty"`
}

type v3Payer struct {
	OpenID string `json:"openid"`
}

type v3Client struct {
	IP string `json:"payer_client_ip"`
}

// Prepay calls /v3/pay/transactions/jsapi. The answer counts only with WeChat Pay's signature over its
// raw bytes; a refusal that is signed wrongly is ErrSignature too. Errors: *Error, which Is ErrRequest
// (Word says why: ORDER_PAID, ORDER_CLOSED, OUT_TRADE_NO_USED …), ErrOpenID, ErrConfig, ErrTooOften,
// ErrBusy, ErrSignature, ErrStale or ErrNonsense.
func (p *PayV3) Prepay(ctx context.Context, o PayOrder) (prepayID string, err error) {
	if err := o.check(p.now()); err != nil {
		return "", err
	}
	in := v3Prepay{
		AppID: p.appID, MchID: p.mchID, Description: o.Description, OutTradeNo: o.OutTradeNo,
		Attach: o.Attach, NotifyURL: p.notifyURL,
		Amount: v3Amount{o.TotalFen, "CNY"}, Payer: v3Payer{o.OpenID},
	}
	if !o.ExpiresAt.IsZero() {
		in.TimeExpire = o.ExpiresAt.In(beijing).Format(time.RFC3339)
	}
	if o.ClientIP != "" {
		in.Scene = &v3Client{o.ClientIP}
	}
	body, err := encode(in)
	if err != nil {
		return "", &Error{Op: opPrepay, Kind: ErrRequest, Msg: "the order cannot be written as JSON"}
	}
	var out struct {
		PrepayID string `json:"prepay_id"`
	}
	err = p.ask(ctx, opPrepay, http.MethodPost, "/v3/pay/transactions/jsapi", body, &out, append(p.hide(), o.OpenID))
	if err != nil {
		return "", err
	}
	if out.PrepayID == "" {
		return "", &Error{Op: opPrepay, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without prepay_id"}
	}
	return out.PrepayID, nil
}

// ClientParams signs the prepay_id with the key that signed the order.
func (p *PayV3) ClientParams(prepayID string) (ClientParams, error) {
	if prepayID == "" {
		return ClientParams{}, refuse(ErrMalformed, "no prepay_id")
	}
	c := ClientParams{
		TimeStamp: strconv.FormatInt(p.now().Unix(), 10), NonceStr: rand.Text(),
		Package: "prepay_id=" + prepayID, SignType: "RSA",
	}
	var err error
	c.PaySign, err = p.sign(clientMessage(p.appID, c))
	return c, err
}

func clientMessage(appID string, c ClientParams) string {
	return appID + "\n" + c.TimeStamp + "\n" + c.NonceStr + "\n" + c.Package + "\n"
}

// requestMessage is what a request is signed over; uri is path and query, without the host.
func requestMessage(method, uri, timestamp, nonce string, body []byte) string {
	return method + "\n" + uri + "\n" + timestamp + "\n" + nonce + "\n" + string(body) + "\n"
}

func (p *PayV3) sign(message string) (string, error) {
	sum := sha256.Sum256([]byte(message))
	b, err := rsa.SignPKCS1v15(nil, p.private, crypto.SHA256, sum[:])
	if err != nil {
		return "", errors.New("wechat: the merchant's private key cannot sign")
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// ask signs and sends a request, and decodes the verified answer into out (nil: none is expected). When
// WeChat Pay tried whether we check (ErrProbe) it asks once more: every one of our requests may be repeated.
func (p *PayV3) ask(ctx context.Context, op, method, uri string, body []byte, out any, hide []string) error {
	once := func(ctx context.Context) error {
		req, err := p.request(ctx, method, uri, body)
		if err != nil {
			return &Error{Op: op, Kind: ErrConfig, Err: bare(err, hide)}
		}
		a, err := roundTrip(p.http, req, op, p.timeout, hide)
		if err != nil {
			return err
		}
		return p.openAnswer(op, a, out, hide, p.findOrLearn(ctx))
	}
	err := p.call(ctx, op, once)
	if errors.Is(err, ErrProbe) {
		err = p.call(ctx, op, once)
	}
	return err
}

// findOrLearn finds a key by its serial, and may download the certificates to do so.
func (p *PayV3) findOrLearn(ctx context.Context) func(serial string) (ringKey, bool) {
	return func(serial string) (ringKey, bool) {
		if k, ok := p.find(serial); ok {
			return k, true
		}
		return p.learn(ctx, serial)
	}
}

func (p *PayV3) request(ctx context.Context, method, uri string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+uri, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	timestamp, nonce := strconv.FormatInt(p.now().Unix(), 10), rand.Text()
	signature, err := p.sign(requestMessage(method, req.URL.RequestURI(), timestamp, nonce, body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", fmt.Sprintf(`%s mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"`,
		v3Auth, p.mchID, nonce, timestamp, p.certSerial, signature))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "wxhub")
	if p.publicID != "" {
		req.Header.Set("Wechatpay-Serial", p.publicID) // asks for an answer signed with this key
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// openAnswer believes a success only with its signature. A refusal may come without one (WeChat Pay
// leaves it out when it did not get as far as knowing us), but not with a wrong one.
func (p *PayV3) openAnswer(op string, a answer, out any, hide []string, find func(serial string) (ringKey, bool)) error {
	fail := &Error{Op: op, Status: a.status, RetryAfter: a.retryAfter()}
	fail.RequestID, _ = words(a.header.Get("Request-Id"), hide)
	success := a.status >= 200 && a.status < 300
	if signed := len(a.header.Values("Wechatpay-Signature")) > 0; signed || success {
		if err := p.verify(a.header, a.body, find); err != nil {
			fail.Kind, fail.Err = signatureKind(err), err
			return fail
		}
	}
	if success {
		if out != nil && json.Unmarshal(a.body, out) != nil {
			fail.Kind, fail.Msg = ErrNonsense, "not the JSON that was promised"
			return fail
		}
		return nil
	}
	var refusal struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(a.body, &refusal) == nil {
		fail.Word, _ = words(refusal.Code, hide)
		fail.Msg, _ = words(refusal.Message, hide)
	}
	fail.Kind, fail.Err = payKindOf(fail.Word, a.status), payFact(op, fail.Word)
	if fail.Err == ErrNotYet {
		fail.RetryAfter = max(fail.RetryAfter, billPause)
	}
	if fail.Kind == ErrTooOften || fail.Kind == ErrBusy {
		fail.RetryAfter = max(fail.RetryAfter, time.Second)
	}
	return fail
}

// signatureKind is the one value of err that the Error shows.
func signatureKind(err error) error {
	for _, kind := range []error{ErrStale, ErrMalformed} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return ErrSignature
}

// verify checks WeChat Pay's signature over the raw bytes of an answer or a notify. Errors:
// ErrSignature, with ErrProbe for a probe, or ErrStale for a true signature that is too old.
func (p *PayV3) verify(h http.Header, body []byte, find func(serial string) (ringKey, bool)) error {
	var v [4]string
	for i, name := range []string{"Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial"} {
		all := h.Values(name)
		if len(all) != 1 || all[0] == "" {
			return refuse(ErrSignature, "header "+name+" is missing or stands twice")
		}
		v[i] = all[0]
	}
	timestamp, nonce, signature, serial := v[0], v[1], v[2], v[3]
	if strings.HasPrefix(signature, probePrefix) {
		return fmt.Errorf("%w: %w", ErrSignature, ErrProbe)
	}
	if kinds := h.Values("Wechatpay-Signature-Type"); len(kinds) > 1 || len(kinds) == 1 && kinds[0] != v3Auth {
		return refuse(ErrSignature, "a signature type other than "+v3Auth)
	}
	b, err := strictBase64(signature)
	if err != nil {
		return refuse(ErrSignature, "not base64")
	}
	at, err := unixSeconds(timestamp)
	if err != nil {
		return refuse(ErrSignature, "the timestamp is not seconds")
	}
	key, ok := find(serial)
	if !ok {
		if hexed.MatchString(serial) {
			return refuse(ErrSignature, "signed with a platform certificate that is not known or over")
		}
		return refuse(ErrSignature, "signed with another key than "+orElse(p.publicID, "a platform certificate"))
	}
	sum := sha256.Sum256([]byte(timestamp + "\n" + nonce + "\n" + string(body) + "\n"))
	if rsa.VerifyPKCS1v15(key.public, crypto.SHA256, sum[:], b) != nil {
		return ErrSignature
	}
	if off := p.now().Sub(at).Abs(); off > payWindow {
		return refuse(ErrStale, "off by "+off.Round(time.Second).String()+"; is the clock right?")
	}
	return nil
}

// Success is the answer that ends WeChat Pay's repeats.
func (p *PayV3) Success() (status int, contentType string, body []byte) {
	return http.StatusOK, "application/json; charset=utf-8", []byte(`{"code":"SUCCESS","message":"成功"}`)
}

// Failure is the body beside a 4xx or 5xx; WeChat Pay will come again.
func (p *PayV3) Failure(status int, message string) (contentType string, body []byte) {
	if message == "" {
		message = http.StatusText(status)
	}
	body, err := encode(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"FAIL", message})
	if err != nil { // two strings always encode
		body = []byte(`{"code":"FAIL","message":""}`)
	}
	return "application/json; charset=utf-8", body
}
