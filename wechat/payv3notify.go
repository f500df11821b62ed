package wechat

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	v3Algorithm = "AEAD_AES_256_GCM"
	v3Nonce     = 12 // bytes

	learnTimeout = 2500 * time.Millisecond
	eventPaid    = "TRANSACTION.SUCCESS"
)

// tradeStates are all that an order of WeChat Pay can be in.
var tradeStates = []string{"SUCCESS", "REFUND", "NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR"}

// OpenNotify verifies, then decrypts, then parses; see Pay. At most 64 KiB.
func (p *PayV3) OpenNotify(h http.Header, body []byte) (*PaymentNotify, error) {
	e, err := p.openNotice(h, body)
	if err != nil {
		return nil, err
	}
	n := &PaymentNotify{ID: e.id, EventType: e.eventType, Plain: e.plain}
	if n.EventType != eventPaid {
		return n, nil
	}
	if e.about != "" && e.about != "transaction" {
		return nil, refuse(ErrMalformed, "a payment event about something else")
	}
	n.Payment, err = parsePayment(n.Plain)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// OpenRefund verifies, then decrypts, then parses; see Pay. At most 64 KiB.
func (p *PayV3) OpenRefund(h http.Header, body []byte) (*RefundNotify, error) {
	e, err := p.openNotice(h, body)
	if err != nil {
		return nil, err
	}
	n := &RefundNotify{ID: e.id, EventType: e.eventType, Plain: e.plain}
	state, ours := strings.CutPrefix(n.EventType, "REFUND.")
	if !ours || !slices.Contains(refundStates, state) {
		return n, nil
	}
	if e.about != "" && e.about != "refund" {
		return nil, refuse(ErrMalformed, "a refund event about something else")
	}
	if n.Refund, err = p.parseRefund(e.plain); err != nil {
		return nil, err
	}
	if n.Refund.Status != state {
		return nil, refuse(ErrMalformed, "event_type and refund_status disagree")
	}
	return n, nil
}

// parseRefund reads the decrypted refund, which must be one of ours. Error: ErrMalformed.
func (p *PayV3) parseRefund(plain []byte) (Refund, error) {
	f, err := parseJSON(plain)
	if err != nil {
		return Refund{}, err
	}
	if text(f["mchid"]) != p.mchID {
		return Refund{}, refuse(ErrMalformed, "a refund of another merchant")
	}
	return readRefund(f, "refund_status")
}

// A notice is a verified notify with its resource decrypted.
type notice struct {
	id, eventType string
	about         string // original_type
	plain         []byte
}

func (p *PayV3) openNotice(h http.Header, body []byte) (notice, error) {
	if len(body) > maxBody {
		return notice{}, refuse(ErrMalformed, "longer than 64 KiB")
	}
	// An unknown certificate may be a new one: it is downloaded then, in half of the time that WeChat Pay waits.
	ctx, cancel := context.WithTimeout(context.Background(), learnTimeout)
	defer cancel()
	if err := p.verify(h, body, p.findOrLearn(ctx)); err != nil {
		return notice{}, err
	}
	fields, err := parseJSON(body)
	if err != nil {
		return notice{}, err
	}
	resource, _ := fields["resource"].(map[string]any)
	e := notice{id: text(fields["id"]), eventType: text(fields["event_type"]), about: text(resource["original_type"])}
	if e.id == "" || len(e.id) > maxID || e.eventType == "" || len(e.eventType) > maxID || resource == nil {
		return notice{}, refuse(ErrMalformed, "id, event_type or resource is missing")
	}
	e.plain, err = openResource(p.key, resource)
	return e, err
}

// openResource decrypts the resource of a notify. Error: ErrDecrypt.
func openResource(key []byte, resource map[string]any) ([]byte, error) {
	if text(resource["algorithm"]) != v3Algorithm {
		return nil, refuse(ErrDecrypt, "an algorithm other than "+v3Algorithm)
	}
	sealed, err := strictBase64(text(resource["ciphertext"]))
	nonce := text(resource["nonce"])
	if err != nil || len(sealed) == 0 || len(nonce) != v3Nonce {
		return nil, refuse(ErrDecrypt, "ciphertext is not base64, or the nonce not 12 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, refuse(ErrDecrypt, "the APIv3 key is not a key")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, refuse(ErrDecrypt, "the APIv3 key is not a key")
	}
	plain, err := gcm.Open(nil, []byte(nonce), sealed, []byte(text(resource["associated_data"])))
	if err != nil {
		return nil, refuse(ErrDecrypt, "is APIv3Key the one in the merchant console?")
	}
	return plain, nil
}

// parsePayment reads the decrypted order of a payment. Error: ErrMalformed.
func parsePayment(plain []byte) (Payment, error) {
	f, err := parseJSON(plain)
	if err != nil {
		return Payment{}, err
	}
	return readPayment(f, true)
}

// readPayment reads an order: required fields present and of their type, amounts whole numbers of fen, a
// known state; new fields are welcome. Of an order that was not paid, which only the answer to a query may
// be about (paid false), the transaction and the amount may be missing. Error: ErrMalformed.
func readPayment(f map[string]any, paid bool) (Payment, error) {
	amount, _ := f["amount"].(map[string]any)
	payer, _ := f["payer"].(map[string]any)
	p := Payment{
		AppID: text(f["appid"]), MchID: text(f["mchid"]),
		OutTradeNo: text(f["out_trade_no"]), TransactionID: text(f["transaction_id"]),
		OpenID: text(payer["openid"]), State: text(f["trade_state"]),
		Currency: text(amount["currency"]), Attach: text(f["attach"]),
	}
	if err := p.complete(paid); err != nil {
		return Payment{}, err
	}
	var ok bool
	if p.TotalFen, ok = fen(amount["total"]); !ok && (amount["total"] != nil || paid || p.settled()) {
		return Payment{}, refuse(ErrMalformed, "amount.total is not a whole number of fen")
	}
	if paid, there := amount["payer_total"]; there {
		if p.PayerFen, ok = fen(paid); !ok {
			return Payment{}, refuse(ErrMalformed, "amount.payer_total is not a whole number of fen")
		}
	}
	if at := text(f["success_time"]); at != "" {
		var err error
		if p.PaidAt, err = time.Parse(time.RFC3339, at); err != nil {
			return Payment{}, refuse(ErrMalformed, "success_time is not a time")
		}
	} else if p.State == "SUCCESS" {
		return Payment{}, refuse(ErrMalformed, "success_time is missing")
	}
	return p, nil
}

// settled tells whether money has moved.
func (p Payment) settled() bool { return p.State == "SUCCESS" || p.State == "REFUND" }

// complete checks the names in p, of either version. Error: ErrMalformed.
func (p Payment) complete(paid bool) error {
	needed := []string{p.AppID, p.MchID, p.OutTradeNo}
	if paid || p.settled() {
		needed = append(needed, p.TransactionID)
	}
	if slices.Contains(needed, "") {
		return refuse(ErrMalformed, "appid, mchid, out_trade_no or transaction_id is missing")
	}
	for _, id := range append(needed, p.TransactionID, p.OpenID) {
		if len(id) > maxID {
			return refuse(ErrMalformed, "a name is too long")
		}
	}
	if !slices.Contains(tradeStates, p.State) {
		return refuse(ErrMalformed, "trade_state is missing or unknown")
	}
	return nil
}

// text is a JSON string and nothing else.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// fen is a JSON number without fraction or exponent, not negative.
func fen(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	amount, err := strconv.ParseInt(n.String(), 10, 64)
	return amount, err == nil && amount >= 0
}
