package wechat

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/hex"
	"net/http"
)

// OpenNotify verifies, then parses; see Pay. At most 64 KiB. The version has no timestamp: a repeat of an
// old notify is genuine, and no news.
func (p *PayV2) OpenNotify(_ http.Header, body []byte) (*PaymentNotify, error) {
	if len(body) > maxBody {
		return nil, refuse(ErrMalformed, "longer than 64 KiB")
	}
	f, err := parseV2(body, "xml")
	if err != nil {
		return nil, err
	}
	if err := p.signer.verify(f); err != nil {
		return nil, err
	}
	n := &PaymentNotify{EventType: "TRANSACTION." + f["result_code"], Plain: body}
	switch {
	case f["return_code"] != "SUCCESS":
		return nil, refuse(ErrMalformed, "return_code is not SUCCESS")
	case f["result_code"] == "FAIL":
		return n, nil
	case n.EventType != eventPaid:
		return nil, refuse(ErrMalformed, "result_code is missing or unknown")
	}
	if n.Payment, err = f.payment("SUCCESS", true); err != nil {
		return nil, err
	}
	return n, nil
}

// OpenRefund decrypts, then parses; see Pay. At most 64 KiB. Everybody who sees a few notifies can put
// another together from their parts, so NeedsQuery is always true.
func (p *PayV2) OpenRefund(_ http.Header, body []byte) (*RefundNotify, error) {
	if len(body) > maxBody {
		return nil, refuse(ErrMalformed, "longer than 64 KiB")
	}
	f, err := parseV2(body, "xml")
	switch {
	case err != nil:
		return nil, err
	case f["return_code"] != "SUCCESS":
		return nil, refuse(ErrMalformed, "return_code is not SUCCESS")
	case f["appid"] != p.appID || f["mch_id"] != p.mchID:
		return nil, refuse(ErrMalformed, "a refund of another app or merchant")
	}
	plain, ok := openRefundInfo(p.signer.key, f["req_info"])
	if !ok {
		return nil, errRefundInfo
	}
	r, ok := readRefundInfo(plain)
	if !ok {
		return nil, errRefundInfo
	}
	return &RefundNotify{EventType: "REFUND." + r.Status, Refund: r, NeedsQuery: true, Plain: plain}, nil
}

// errRefundInfo does not say what was wrong: a sender could learn the text from the padding.
var errRefundInfo = refuse(ErrDecrypt, "is Key the API key of the merchant console?")

// openRefundInfo decrypts req_info: AES-256 in ECB mode, keyed with the hex digits of the API key's MD5.
func openRefundInfo(key, info string) ([]byte, bool) {
	sealed, err := strictBase64(info)
	if err != nil || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, false
	}
	sum := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(sum[:])))
	if err != nil {
		return nil, false
	}
	for i := 0; i < len(sealed); i += aes.BlockSize {
		block.Decrypt(sealed[i:i+aes.BlockSize], sealed[i:i+aes.BlockSize])
	}
	return unpad(sealed, aes.BlockSize)
}

func readRefundInfo(plain []byte) (Refund, bool) {
	f, err := parseV2(plain, "root")
	if err != nil {
		return Refund{}, false
	}
	r, err := f.refund("", v2RefundState[f["refund_status"]])
	return r, err == nil
}

// Success is the answer that ends WeChat Pay's repeats.
func (p *PayV2) Success() (status int, contentType string, body []byte) {
	return http.StatusOK, xmlType, v2Reply("SUCCESS", "OK")
}

// Failure is the body that makes WeChat Pay come again.
func (p *PayV2) Failure(status int, message string) (contentType string, body []byte) {
	return xmlType, v2Reply("FAIL", orElse(message, http.StatusText(status)))
}

const xmlType = "application/xml; charset=utf-8"

func v2Reply(code, msg string) []byte {
	return []byte("<xml><return_code>" + cdata(code) + "</return_code><return_msg>" + cdata(xmlText(msg)) + "</return_msg></xml>")
}
