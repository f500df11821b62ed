package wechat

import (
	"context"
	"net/http"
	"time"
)

// Pay is WeChat Pay of either version behind one order.
type Pay interface {
	// Prepay makes the order known to WeChat and returns its prepay_id (good for two hours). The same
	// order again, with the same fields, is the same order. Errors: *Error.
	Prepay(ctx context.Context, o PayOrder) (prepayID string, err error)
	// ClientParams are the five fields that wx.requestPayment takes.
	ClientParams(prepayID string) (ClientParams, error)
	// OpenNotify verifies a payment notify over its raw bytes and opens it.
	// ErrSignature (with ErrProbe: WeChat tests us, no alarm), ErrStale, ErrDecrypt, ErrMalformed;
	// nothing in the body is believed before. Whether appid, mchid, amount and currency are those of
	// the order is the caller's to compare. An event that is no payment has an empty Payment: answer
	// Success and be done.
	OpenNotify(h http.Header, body []byte) (*PaymentNotify, error)
	// Success and Failure are the answers that the notify's version wants, within 5 s. message is for
	// WeChat's logs and must hold no secret.
	Success() (status int, contentType string, body []byte)
	Failure(status int, message string) (contentType string, body []byte)
}

// A PayOrder is what WeChat has to know of an order.
type PayOrder struct {
	OutTradeNo  string // 6 to 32 of 0-9 A-Z a-z _ - | *
	Description string // 1 to 127 characters, shown to the payer
	OpenID      string
	TotalFen    int64     // at least 1
	ClientIP    string    // optional
	ExpiresAt   time.Time // zero: WeChat's default of seven days; at least a minute ahead
	Attach      string    // optional; comes back in the notify; at most 128 characters
}

// ClientParams are what wx.requestPayment takes.
type ClientParams struct {
	TimeStamp string `json:"timeStamp"`
	NonceStr  string `json:"nonceStr"`
	Package   string `json:"package"`
	SignType  string `json:"signType"`
	PaySign   string `json:"paySign"`
}

// A PaymentNotify is a verified notify.
type PaymentNotify struct {
	ID        string // of the notify (v3)
	EventType string // TRANSACTION.SUCCESS
	Payment   Payment
	Plain     []byte // the decrypted text
}

// A Payment is an order as WeChat Pay knows it.
type Payment struct {
	AppID, MchID, OutTradeNo, TransactionID, OpenID string
	State                                           string // SUCCESS, NOTPAY …
	TotalFen, PayerFen                              int64
	Currency                                        string
	Attach                                          string
	PaidAt                                          time.Time
}
