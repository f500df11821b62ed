package wechat

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	signMD5    = "MD5"
	signHMAC   = "HMAC-SHA256"
	v2Time     = "20060102150405"
	v2Day      = "2006-01-02 15:04:05" // refunds write their times so
	maxRefunds = 50                    // of one order
)

// v2Fields are a flat XML body of version 2, with whatever fields WeChat may add: all of them are signed.
type v2Fields map[string]string

// parseV2 reads a body strictly. Error: ErrMalformed.
func parseV2(b []byte, root string) (v2Fields, error) {
	tree, err := parseXMLRoot(b, root)
	if err != nil {
		return nil, err
	}
	f := make(v2Fields, len(tree))
	for name, v := range tree {
		s, ok := v.(string)
		if !ok {
			return nil, refuse(ErrMalformed, "an element with elements in it")
		}
		f[name] = s
	}
	return f, nil
}

// xml writes the fields that are not empty; false: one has characters that XML cannot hold, or would not
// give back as they are, so that WeChat would see another text than the one that was signed.
func (f v2Fields) xml() ([]byte, bool) {
	var b strings.Builder
	b.WriteString("<xml>")
	for _, name := range slices.Sorted(maps.Keys(f)) {
		v := f[name]
		if v == "" {
			continue
		}
		if xmlText(v) != v {
			return nil, false
		}
		b.WriteString("<" + name + ">" + cdata(v) + "</" + name + ">")
	}
	b.WriteString("</xml>")
	return []byte(b.String()), true
}

// A v2Signer signs and checks with the API key.
type v2Signer struct {
	key      string
	signType string
}

// sign is over all fields that are not empty but sign itself, sorted by name, in upper-case hex.
func (s v2Signer) sign(f v2Fields) string {
	text := f.signed() + "&key=" + s.key
	var h hash.Hash
	if s.signType == signHMAC {
		h = hmac.New(sha256.New, []byte(s.key))
	} else {
		h = md5.New()
	}
	h.Write([]byte(text))
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
}

func (f v2Fields) signed() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != "sign" && f[name] != "" {
			parts = append(parts, name+"="+f[name])
		}
	}
	return strings.Join(parts, "&")
}

// verify compares in constant time. Only the configured way of signing counts. Error: ErrSignature.
func (s v2Signer) verify(f v2Fields) error {
	if f["sign"] == "" {
		return refuse(ErrSignature, "no sign")
	}
	if t := f["sign_type"]; t == signMD5 && s.signType == signHMAC || t == signHMAC && s.signType == signMD5 {
		return refuse(ErrSignature, "signed as "+t+", but SignType is "+s.signType)
	}
	if subtle.ConstantTimeCompare([]byte(strings.ToUpper(f["sign"])), []byte(s.sign(f))) != 1 {
		return refuse(ErrSignature, "is Key the API key of the merchant console?")
	}
	return nil
}

// payment reads an order in that state; see readPayment. Error: ErrMalformed.
func (f v2Fields) payment(state string, paid bool) (Payment, error) {
	p := Payment{
		AppID: f["appid"], MchID: f["mch_id"], OutTradeNo: f["out_trade_no"], TransactionID: f["transaction_id"],
		OpenID: f["openid"], State: state, Currency: orElse(f["fee_type"], "CNY"), Attach: f["attach"],
	}
	if err := p.complete(paid); err != nil {
		return Payment{}, err
	}
	must := paid || p.settled()
	var ok1, ok2 bool
	p.TotalFen, ok1 = f.fen("total_fee", must)
	p.PayerFen, ok2 = f.fen("cash_fee", false)
	if !ok1 || !ok2 {
		return Payment{}, refuse(ErrMalformed, "total_fee or cash_fee is not a whole number of fen")
	}
	var ok bool
	if p.PaidAt, ok = f.time("time_end", v2Time, must && p.State == "SUCCESS"); !ok {
		return Payment{}, refuse(ErrMalformed, "time_end is missing or not a time")
	}
	return p, nil
}

// v2RefundState are the states of version 2 in the words of version 3.
var v2RefundState = map[string]string{
	"SUCCESS": "SUCCESS", "PROCESSING": "PROCESSING", "REFUNDCLOSE": "CLOSED", "CHANGE": "ABNORMAL",
}

// refund reads the refund with that index behind its names. Error: ErrMalformed.
func (f v2Fields) refund(index, status string) (Refund, error) {
	r := Refund{
		OutTradeNo: f["out_trade_no"], TransactionID: f["transaction_id"],
		OutRefundNo: f["out_refund_no"+index], RefundID: f["refund_id"+index],
		Status: status, Currency: orElse(f["refund_fee_type"], orElse(f["fee_type"], "CNY")),
	}
	for _, id := range []string{r.OutTradeNo, r.TransactionID, r.OutRefundNo, r.RefundID} {
		if id == "" || len(id) > maxID {
			return Refund{}, refuse(ErrMalformed, "out_trade_no, transaction_id, out_refund_no or refund_id is missing")
		}
	}
	if status == "" {
		return Refund{}, refuse(ErrMalformed, "refund_status is missing or unknown")
	}
	var ok1, ok2 bool
	r.RefundFen, ok1 = f.fen("refund_fee"+index, true)
	r.TotalFen, ok2 = f.fen("total_fee", true)
	if !ok1 || !ok2 {
		return Refund{}, refuse(ErrMalformed, "refund_fee or total_fee is not a whole number of fen")
	}
	name := "refund_success_time" + index
	if f[name] == "" {
		name = "success_time" // what the notify calls it
	}
	var ok bool
	if r.At, ok = f.time(name, v2Day, false); !ok {
		return Refund{}, refuse(ErrMalformed, "the time of success is not a time")
	}
	return r, nil
}

// fen is an amount: digits alone. Missing is 0, unless it must be there.
func (f v2Fields) fen(name string, must bool) (int64, bool) {
	s := f[name]
	if s == "" {
		return 0, !must
	}
	if !digits.MatchString(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// time is a time of Beijing. Missing is zero, unless it must be there.
func (f v2Fields) time(name, layout string, must bool) (time.Time, bool) {
	if f[name] == "" {
		return time.Time{}, !must
	}
	at, err := time.ParseInLocation(layout, f[name], beijing)
	return at, err == nil
}
