package sim

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// Notify is one try of a payment or refund notify and what became of it.
type Notify struct {
	ID            int64  `json:"id"`
	At            int64  `json:"at"`   // ms
	Kind          string `json:"kind"` // pay or refund
	OutTradeNo    string `json:"outTradeNo"`
	OutRefundNo   string `json:"outRefundNo,omitempty"`
	TransactionID string `json:"transactionId"`
	Forge         string `json:"forge,omitempty"` // what was wrong with it on purpose
	Try           int    `json:"try"`             // from 1
	Status        int    `json:"status"`          // 0: no answer
	Answer        string `json:"answer"`          // as received, cut
	Why           string `json:"why,omitempty"`
	Done          bool   `json:"done"` // the platform is content
	Ms            int64  `json:"ms"`
}

// ladder is how long the platform waits before each further try: 24 h 4 min in all.
// Source: WeChat Pay, callback page.
var ladder = []time.Duration{
	15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute, 20 * time.Minute,
	30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour,
	3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
}

// transaction is the sealed content of a notify.
type transaction struct {
	MchID          string            `json:"mchid"`
	AppID          string            `json:"appid"`
	OutTradeNo     string            `json:"out_trade_no"`
	TransactionID  string            `json:"transaction_id"`
	TradeType      string            `json:"trade_type"`
	TradeState     string            `json:"trade_state"`
	TradeStateDesc string            `json:"trade_state_desc"`
	BankType       string            `json:"bank_type"`
	Attach         string            `json:"attach"`
	SuccessTime    string            `json:"success_time"`
	Payer          transactionPayer  `json:"payer"`
	Amount         transactionAmount `json:"amount"`
	Promotion      []any             `json:"promotion_detail"`

	notifyURL string
	signType  string // of the order
	v2End     string // time of payment as Pay v2 writes it
}

type transactionPayer struct {
	Openid string `json:"openid"`
}

type transactionAmount struct {
	Total         int64  `json:"total"`
	PayerTotal    int64  `json:"payer_total"`
	Currency      string `json:"currency"`
	PayerCurrency string `json:"payer_currency"`
}

// transactionOf renders an order, as paid. Needs s.mu.
func (s *Sim) transactionOf(o *order) transaction {
	t := transaction{
		MchID: s.opts.MchID, AppID: s.opts.AppID, OutTradeNo: o.outTradeNo, TransactionID: o.transactionID,
		TradeType: "JSAPI", TradeState: statePaid, TradeStateDesc: stateWords[statePaid], BankType: "OTHERS", Attach: o.attach,
		SuccessTime: beijing(o.paidAt).Format(time.RFC3339), Payer: transactionPayer{o.openid},
		Amount:    transactionAmount{o.total, o.total, "CNY", "CNY"},
		Promotion: []any{}, notifyURL: o.notifyURL, signType: o.signType, v2End: beijing(o.paidAt).Format(v2Time),
	}
	if s.opts.NotifyURL != "" {
		t.notifyURL = s.opts.NotifyURL
	}
	return t
}

// notifyForm says what is wrong with a notify on purpose; the zero value is an honest one.
type notifyForm struct {
	forge string        // "signature", "serial", "body" or "no-sign"
	skew  time.Duration // added to the signed timestamp
	probe bool          // a signature probe of the platform
}

// mustFail tells whether a merchant who checks takes such a notify for forged.
func (f notifyForm) mustFail() bool {
	return f.probe || f.skew.Abs() > clockSlack || f.forge != "" && f.forge != "replay"
}

func (f notifyForm) label() string {
	switch {
	case f.probe:
		return "probe"
	case f.skew != 0 && f.forge == "":
		return "skew"
	}
	return f.forge
}

// notice is one thing to tell the merchant, in the form of the API by which it came about. Retries
// and repeats send the same bytes.
type notice struct {
	kind          string // pay or refund
	outTradeNo    string
	outRefundNo   string
	transactionID string
	url           string
	v2            bool
	body          []byte
	inside        []byte // what is sealed in it
}

// payNotice tells of a payment. In a v2 notice the form is already worked in.
func (s *Sim) payNotice(t transaction, form notifyForm) (notice, error) {
	n := notice{kind: "pay", outTradeNo: t.OutTradeNo, transactionID: t.TransactionID, url: t.notifyURL}
	if t.signType == signMD5 || t.signType == signHMAC {
		n.v2, n.body = true, s.notifyV2(t, form)
		return n, nil
	}
	var err error
	n.inside = toJSON(t)
	n.body, err = s.sealNotice("transaction", "TRANSACTION.SUCCESS", "支付成功", n.inside)
	if err != nil {
		return n, fmt.Errorf("notify of %s: %w", t.OutTradeNo, err)
	}
	return n, nil
}

// refundNotice tells of the end of a refund.
func (s *Sim) refundNotice(v refundView, form notifyForm) (notice, error) {
	n := notice{kind: "refund", outTradeNo: v.OutTradeNo, outRefundNo: v.OutRefundNo, transactionID: v.TransactionID, url: v.notifyURL}
	if v.v2 {
		n.v2, n.body = true, s.refundNotifyV2(v, form)
		return n, nil
	}
	type amount struct {
		Total       int64 `json:"total"`
		Refund      int64 `json:"refund"`
		PayerTotal  int64 `json:"payer_total"`
		PayerRefund int64 `json:"payer_refund"`
	}
	n.inside = toJSON(struct {
		MchID         string `json:"mchid"`
		TransactionID string `json:"transaction_id"`
		OutTradeNo    string `json:"out_trade_no"`
		RefundID      string `json:"refund_id"`
		OutRefundNo   string `json:"out_refund_no"`
		Status        string `json:"refund_status"`
		SuccessTime   string `json:"success_time,omitempty"`
		Account       string `json:"user_received_account"`
		Amount        amount `json:"amount"`
	}{v.mchID, v.TransactionID, v.OutTradeNo, v.RefundID, v.OutRefundNo, v.Status, v.SuccessTime, v.Account,
		amount{v.Amount.Total, v.Amount.Refund, v.Amount.PayerTotal, v.Amount.PayerRefund}})
	summary := map[string]string{refundSuccess: "退款成功", refundAbnormal: "退款异常", refundClosed: "退款关闭"}[v.Status]
	var err error
	n.body, err = s.sealNotice("refund", "REFUND."+v.Status, summary, n.inside)
	if err != nil {
		return n, fmt.Errorf("notify of %s: %w", v.OutRefundNo, err)
	}
	return n, nil
}

// sealNotice builds the body of a v3 notify; what is also its associated data.
func (s *Sim) sealNotice(what, event, summary string, plain []byte) ([]byte, error) {
	nonce := random(letters, 12)
	sealed, err := sealResource(s.opts.APIv3Key, nonce, what, plain)
	if err != nil {
		return nil, err
	}
	type resource struct {
		OriginalType   string `json:"original_type"`
		Algorithm      string `json:"algorithm"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData string `json:"associated_data"`
		Nonce          string `json:"nonce"`
	}
	return toJSON(struct {
		ID           string   `json:"id"`
		CreateTime   string   `json:"create_time"`
		ResourceType string   `json:"resource_type"`
		EventType    string   `json:"event_type"`
		Summary      string   `json:"summary"`
		Resource     resource `json:"resource"`
	}{notifyID(), beijing(s.opts.Now()).Format(time.RFC3339), "encrypt-resource", event, summary,
		resource{what, "AEAD_AES_256_GCM", sealed, what, nonce}}), nil
}

// notifyID is a UUID of version 5's looks, as the platform's are.
func notifyID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// notifyOnce signs a notice afresh, sends it and writes down the answer.
func (s *Sim) notifyOnce(ctx context.Context, n notice, form notifyForm, try int) (Answer, bool) {
	req := pushRequest{url: n.url, body: n.body, header: http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}, "User-Agent": {"Mozilla/4.0"}}}
	if n.v2 {
		req.header.Set("Content-Type", "text/xml")
		return s.sendNotice(ctx, n, req, form, try, n.evidenceV2(form, s.opts.V2Key))
	}
	key := s.callbackKey()
	at := s.opts.Now().Add(form.skew)
	if err := signHeader(req.header, req.body, at, key); err != nil {
		return Answer{Error: err.Error()}, false
	}
	message := lines(req.header.Get("Wechatpay-Timestamp"), req.header.Get("Wechatpay-Nonce"), string(req.body))
	spoilNotify(req.header, &req.body, form)
	return s.sendNotice(ctx, n, req, form, try, &Evidence{Scheme: "v3", Signed: clip(message, maxSigned), Length: len(message),
		Got: req.header.Get("Wechatpay-Signature"), Serial: req.header.Get("Wechatpay-Serial"), Expected: key.serial, Key: key.kind(),
		ClockMs: form.skew.Milliseconds(), BodySHA256: bodyHash(req.body), Refused: form.label()})
}

// evidenceV2 is what a v2 notify is signed by; that of a refund has a seal only.
func (n notice) evidenceV2(form notifyForm, key string) *Evidence {
	f, err := parseV2(n.body)
	if err != nil || n.kind != "pay" {
		return &Evidence{Scheme: "v2", Key: "API key, AES-256-ECB of req_info, no signature", BodySHA256: bodyHash(n.body), Refused: form.label()}
	}
	signType := signMD5
	if f["sign_type"] != "" {
		signType = f["sign_type"]
	}
	e := evidenceV2("v2", signType, key, f, f["sign"], n.body)
	e.Refused = form.label()
	return &e
}

// sendNotice sends the bytes of one try and writes down what became of it. It reports whether the platform is content.
func (s *Sim) sendNotice(ctx context.Context, n notice, req pushRequest, form notifyForm, try int, evidence *Evidence) (Answer, bool) {
	got, raw := s.post(ctx, req.url, req.header, req.body)
	done := n.taken(got, raw)
	entry := Notify{At: s.opts.Now().UnixMilli(), Kind: n.kind, OutTradeNo: n.outTradeNo, OutRefundNo: n.outRefundNo, TransactionID: n.transactionID,
		Forge: form.label(), Try: try, Status: got.Status, Answer: clip(got.Body, 512), Ms: got.Ms, Done: done, Why: got.Error}
	if got.Status == http.StatusOK && !done && got.Error == "" {
		entry.Why = "the answer is not <xml> with return_code SUCCESS"
	}
	if done && form.mustFail() {
		entry.Why = "taken although it was forged: " + form.label()
	}
	kept := &Exchange{Kind: "notify", Method: http.MethodPost, URL: req.url, Header: flatHeader(req.header), Body: clip(string(req.body), maxExchangeBody),
		Inside: clip(string(n.inside), maxExchangeBody), Answer: got.Body, Evidence: evidence, again: &replay{notice: &n, request: req}}
	s.mu.Lock()
	entry.ID = s.nextEntry()
	kept.ID = entry.ID
	s.notifies.add(entry)
	s.keepExchange(kept)
	s.mu.Unlock()
	got.ID = entry.ID
	return got, done
}

// taken judges an answer: API v3 looks at the status alone, Pay v2 wants return_code SUCCESS in XML.
func (n notice) taken(got Answer, raw []byte) bool {
	if !n.v2 {
		return got.Status == http.StatusOK || got.Status == http.StatusNoContent
	}
	f, err := parseV2(raw)
	return got.Status == http.StatusOK && err == nil && f["return_code"] == "SUCCESS"
}

func spoilNotify(h http.Header, body *[]byte, form notifyForm) {
	switch {
	case form.probe:
		h.Set("Wechatpay-Signature", probeSignature())
	case form.forge == "signature":
		h.Set("Wechatpay-Signature", base64Random(256))
	case form.forge == "serial":
		h.Set("Wechatpay-Serial", "PUB_KEY_ID_01"+random(digits, 26))
	case form.forge == "no-sign":
		h.Del("Wechatpay-Signature")
	case form.forge == "body":
		*body = append([]byte(`{"forged":true,`), (*body)[1:]...) // still good JSON, other bytes
	}
}

// notifyPaid starts the retry ladder of a payment. Close ends it.
func (s *Sim) notifyPaid(t transaction) {
	n, err := s.payNotice(t, notifyForm{})
	if err == nil && !s.start(func(ctx context.Context) { s.climb(ctx, n) }) {
		err = errors.New("closed, or too many notifies are waiting")
	}
	if err != nil {
		s.opts.Logger.Error("notify not sent", "outTradeNo", t.OutTradeNo, "error", err)
	}
}

// climb sends a notice until it is taken, the order is muted or the ladder ends. A fault may spoil the first try.
func (s *Sim) climb(ctx context.Context, n notice) {
	f := s.callbackFault(onNotify, n.outTradeNo)
	if f == nil {
		f = &Fault{}
	}
	if f.MuteNotify {
		s.settle(n, "muted")
		return
	}
	if !s.holdBack(ctx, onNotify, f) {
		return
	}
	for try := 1; !s.silent(n); try++ {
		done := false
		if try == 1 {
			done = s.firstNotify(ctx, n, f)
		} else {
			_, done = s.notifyOnce(ctx, n, notifyForm{}, try)
		}
		s.letGo(onNotify)
		if done || try > len(ladder) {
			s.settle(n, map[bool]string{true: "taken", false: "given up"}[done])
			return
		}
		if !wait(ctx, s.scaled(ladder[try-1])) {
			return
		}
	}
	s.settle(n, "muted")
}

// firstNotify is the first try, as a fault wants it. A forged one is never the end.
func (s *Sim) firstNotify(ctx context.Context, n notice, f *Fault) (done bool) {
	form := notifyForm{forge: f.Forge, skew: f.skew()}
	if f.Forge == "probe" {
		form.forge, form.probe = "", true
	}
	honest := form == notifyForm{}
	if n.v2 && !honest {
		form.skew, form.probe = 0, false
		n = n.forgedV2(form)
	}
	var taken atomic.Bool
	Trigger{Times: max(f.Copies, 1), Parallel: true}.each(func(int) Answer {
		got, done := s.notifyOnce(ctx, n, form, 1)
		if done {
			taken.Store(true)
		}
		return got
	})
	return taken.Load() && honest
}

// forgedV2 spoils the finished body of a v2 notice: the sign, or a field that the sign does not know.
func (n notice) forgedV2(form notifyForm) notice {
	forged := "<forged>true</forged></xml>"
	if form.forge == "signature" || form.forge == "no-sign" {
		forged = "<sign>" + random(upperHex, 32) + "</sign></xml>"
		if at := bytes.Index(n.body, []byte("<sign>")); at >= 0 {
			n.body = append(bytes.Clone(n.body[:at]), []byte("</xml>")...)
		}
	}
	n.body = append(bytes.TrimSuffix(bytes.Clone(n.body), []byte("</xml>")), forged...)
	return n
}

// scaled is a time of the platform in the time of this simulator.
func (s *Sim) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.opts.TimeScale)
}

// silent reports whether the notifies of an order were muted.
func (s *Sim) silent(n notice) bool {
	if s.opts.MuteNotify {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[n.outTradeNo]
	return o != nil && o.muted
}

// settle writes down what the ladder came to.
func (s *Sim) settle(n notice, came string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.refunds[n.outRefundNo]; n.kind == "refund" && r != nil {
		r.notified = came
	} else if o := s.orders[n.outTradeNo]; n.kind == "pay" && o != nil {
		o.notified = came
	}
}
