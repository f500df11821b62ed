package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Notify is one try of a payment notify and what became of it.
type Notify struct {
	At            int64  `json:"at"` // ms
	OutTradeNo    string `json:"outTradeNo"`
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

// transactionOf renders a paid order. Needs s.mu.
func (s *Sim) transactionOf(o *order) transaction {
	t := transaction{
		MchID: s.opts.MchID, AppID: s.opts.AppID, OutTradeNo: o.outTradeNo, TransactionID: o.transactionID,
		TradeType: "JSAPI", TradeState: "SUCCESS", TradeStateDesc: "支付成功", BankType: "OTHERS", Attach: o.attach,
		SuccessTime: beijing(o.paidAt).Format(time.RFC3339), Payer: transactionPayer{o.openid},
		Amount:    transactionAmount{o.total, o.total, "CNY", "CNY"},
		Promotion: []any{}, notifyURL: o.notifyURL,
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

func (f notifyForm) label() string {
	switch {
	case f.probe:
		return "probe"
	case f.skew != 0 && f.forge == "":
		return "skew"
	}
	return f.forge
}

// sealNotify builds the body of a notify; retries and repeats send the same bytes.
func (s *Sim) sealNotify(t transaction) ([]byte, error) {
	const associated = "transaction"
	nonce := random(letters, 12)
	sealed, err := sealResource(s.opts.APIv3Key, nonce, associated, toJSON(t))
	if err != nil {
		return nil, fmt.Errorf("notify of %s: %w", t.OutTradeNo, err)
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
	}{notifyID(), beijing(s.opts.Now()).Format(time.RFC3339), "encrypt-resource", "TRANSACTION.SUCCESS", "支付成功",
		resource{"transaction", "AEAD_AES_256_GCM", sealed, associated, nonce}}), nil
}

// notifyID is a UUID of version 5's looks, as the platform's are.
func notifyID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// notifyOnce signs a body afresh, sends it and writes down the answer.
func (s *Sim) notifyOnce(ctx context.Context, t transaction, body []byte, form notifyForm, try int) (Answer, bool) {
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}, "User-Agent": {"Mozilla/4.0"}}
	entry := Notify{OutTradeNo: t.OutTradeNo, TransactionID: t.TransactionID, Forge: form.label(), Try: try}
	var got Answer
	if err := s.signHeader(header, body, s.opts.Now().Add(form.skew)); err != nil {
		got.Error = err.Error()
	} else {
		spoilNotify(header, &body, form)
		got, _ = s.post(ctx, t.notifyURL, header, body)
	}
	done := got.Status == http.StatusOK || got.Status == http.StatusNoContent
	entry.At, entry.Status, entry.Answer, entry.Why, entry.Ms, entry.Done =
		s.opts.Now().UnixMilli(), got.Status, clip(got.Body, 512), got.Error, got.Ms, done
	s.mu.Lock()
	s.notifies.add(entry)
	s.mu.Unlock()
	return got, done
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
	body, err := s.sealNotify(t)
	if err == nil && !s.start(func(ctx context.Context) { s.climb(ctx, t, body) }) {
		err = errors.New("closed, or too many notifies are waiting")
	}
	if err != nil {
		s.opts.Logger.Error("notify not sent", "outTradeNo", t.OutTradeNo, "error", err)
	}
}

// climb sends a notify until it is taken or the ladder ends.
func (s *Sim) climb(ctx context.Context, t transaction, body []byte) {
	for try := 1; ; try++ {
		_, done := s.notifyOnce(ctx, t, body, notifyForm{}, try)
		if done || try > len(ladder) {
			s.settle(t.OutTradeNo, done)
			return
		}
		if !wait(ctx, time.Duration(float64(ladder[try-1])/s.opts.TimeScale)) {
			return
		}
	}
}

// settle writes down what the ladder came to.
func (s *Sim) settle(outTradeNo string, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[outTradeNo]; o != nil {
		o.notified = map[bool]string{true: "taken", false: "given up"}[done]
	}
}
