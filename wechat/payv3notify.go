package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	v3Algorithm = "AEAD_AES_256_GCM"
	v3Nonce     = 12 // bytes
	eventPaid   = "TRANSACTION.SUCCESS"
)

// tradeStates are all that an order of WeChat Pay can be in.
var tradeStates = []string{"SUCCESS", "REFUND", "NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR"}

// OpenNotify verifies, then decrypts, then parses; see Pay. At most 64 KiB.
func (p *PayV3) OpenNotify(h http.Header, body []byte) (*PaymentNotify, error) {
	if len(body) > maxBody {
		return nil, refuse(ErrMalformed, "longer than 64 KiB")
	}
	if err := p.verify(h, body); err != nil {
		return nil, err
	}
	envelope, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	n := &PaymentNotify{ID: text(envelope["id"]), EventType: text(envelope["event_type"])}
	resource, _ := envelope["resource"].(map[string]any)
	if n.ID == "" || len(n.ID) > maxID || n.EventType == "" || len(n.EventType) > maxID || resource == nil {
		return nil, refuse(ErrMalformed, "id, event_type or resource is missing")
	}
	if n.Plain, err = openResource(p.key, resource); err != nil {
		return nil, err
	}
	if n.EventType != eventPaid {
		return n, nil
	}
	if kind := text(resource["original_type"]); kind != "" && kind != "transaction" {
		return nil, refuse(ErrMalformed, "a payment event about something else")
	}
	n.Payment, err = parsePayment(n.Plain)
	if err != nil {
		return nil, err
	}
	return n, nil
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

// parsePayment reads the decrypted order: required fields present and of their type, amounts whole
// numbers of fen, a known state; new fields are welcome. Error: ErrMalformed.
func parsePayment(plain []byte) (Payment, error) {
	f, err := parseJSON(plain)
	if err != nil {
		return Payment{}, err
	}
	amount, _ := f["amount"].(map[string]any)
	payer, _ := f["payer"].(map[string]any)
	p := Payment{
		AppID: text(f["appid"]), MchID: text(f["mchid"]),
		OutTradeNo: text(f["out_trade_no"]), TransactionID: text(f["transaction_id"]),
		OpenID: text(payer["openid"]), State: text(f["trade_state"]),
		Currency: text(amount["currency"]), Attach: text(f["attach"]),
	}
	for _, id := range []string{p.AppID, p.MchID, p.OutTradeNo, p.TransactionID} {
		if id == "" || len(id) > maxID {
			return Payment{}, refuse(ErrMalformed, "appid, mchid, out_trade_no or transaction_id is missing")
		}
	}
	if len(p.OpenID) > maxID {
		return Payment{}, refuse(ErrMalformed, "the openid is too long")
	}
	if !slices.Contains(tradeStates, p.State) {
		return Payment{}, refuse(ErrMalformed, "trade_state is missing or unknown")
	}
	var ok bool
	if p.TotalFen, ok = fen(amount["total"]); !ok {
		return Payment{}, refuse(ErrMalformed, "amount.total is not a whole number of fen")
	}
	if paid, there := amount["payer_total"]; there {
		if p.PayerFen, ok = fen(paid); !ok {
			return Payment{}, refuse(ErrMalformed, "amount.payer_total is not a whole number of fen")
		}
	}
	if at := text(f["success_time"]); at != "" {
		if p.PaidAt, err = time.Parse(time.RFC3339, at); err != nil {
			return Payment{}, refuse(ErrMalformed, "success_time is not a time")
		}
	} else if p.State == "SUCCESS" {
		return Payment{}, refuse(ErrMalformed, "success_time is missing")
	}
	return p, nil
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
