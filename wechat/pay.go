package wechat

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// What our errors call the calls of WeChat Pay, in both versions.
const (
	opPrepay      = "pay/prepay"
	opQuery       = "pay/query"
	opClose       = "pay/close"
	opRefund      = "pay/refund"
	opQueryRefund = "pay/queryrefund"
)

// Pay is WeChat Pay of either version behind one order.
type Pay interface {
	// Prepay makes the order known to WeChat and returns its prepay_id (good for two hours). The same
	// order again, with the same fields, is the same order. Errors: *Error.
	Prepay(ctx context.Context, o PayOrder) (prepayID string, err error)
	// ClientParams are the five fields that wx.requestPayment takes.
	ClientParams(prepayID string) (ClientParams, error)
	// Query asks what has become of an order. State is NOTPAY, SUCCESS, CLOSED, REFUND …; before the
	// payment TransactionID, OpenID, PaidAt and the amounts may be empty. ErrNoOrder: it was never made.
	Query(ctx context.Context, outTradeNo string) (Payment, error)
	// QueryTransaction is Query by WeChat Pay's own number.
	QueryTransaction(ctx context.Context, transactionID string) (Payment, error)
	// Close ends an unpaid order; nil also when it was closed already. ErrOrderPaid: too late, query it;
	// ErrNoOrder: there is nothing to close.
	Close(ctx context.Context, outTradeNo string) error
	// Refund gives money back. The same OutRefundNo again is the same refund, so after ErrBusy or
	// ErrTooOften it is asked again with the same number; another number would pay a second time.
	// ErrNoOrder: there is no such payment.
	Refund(ctx context.Context, r RefundOrder) (Refund, error)
	// QueryRefund asks what has become of a refund. ErrNoRefund: it was never made.
	QueryRefund(ctx context.Context, outRefundNo string) (Refund, error)
	// OpenNotify verifies a payment notify over its raw bytes and opens it.
	// ErrSignature (with ErrProbe: WeChat tests us, no alarm), ErrStale, ErrDecrypt, ErrMalformed;
	// nothing in the body is believed before. Whether appid, mchid, amount and currency are those of
	// the order is the caller's to compare. An event that is no payment has an empty Payment: answer
	// Success and be done.
	OpenNotify(h http.Header, body []byte) (*PaymentNotify, error)
	// OpenRefund opens a refund notify, with OpenNotify's errors. Version 3 signs it; version 2 only
	// encrypts it, which proves nothing: then NeedsQuery is true, and QueryRefund tells the truth. An event
	// that is no refund has an empty Refund.
	OpenRefund(h http.Header, body []byte) (*RefundNotify, error)
	// TradeBill lists what was paid and given back on day (a date in Beijing), as WeChat Pay booked it: the
	// truth that our own orders are held against, see CompareBill. It is there from ten in the morning of the
	// next day (ErrNotYet before) and for three months. ErrNoBill: nothing was.
	TradeBill(ctx context.Context, day time.Time) ([]BillRow, error)
	// FundBill lists every movement of the merchant's money on day; see TradeBill.
	FundBill(ctx context.Context, day time.Time) ([]FundRow, error)
	// Refresh fetches what changes behind our back: in version 3 the platform certificates. Call it at the start
	// and every 12 hours; an error is an alarm, not a reason to stop.
	Refresh(ctx context.Context) error
	// Success and Failure are the answers that the notify's version wants, within 5 s. message is for
	// WeChat's logs and must hold no secret.
	Success() (status int, contentType string, body []byte)
	Failure(status int, message string) (contentType string, body []byte)
}

// PrepayLife is how long a prepay_id is good. Within it the same order needs no new one.
const PrepayLife = 2 * time.Hour

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
	EventType string // TRANSACTION.SUCCESS, in version 2 too
	Payment   Payment
	Plain     []byte // the decrypted text
}

// Key is what makes it the same notify again, whatever order it is about: for a store of those that were seen.
func (n *PaymentNotify) Key() string {
	if n.ID != "" {
		return "pay:" + n.ID
	}
	return "pay:" + n.Payment.TransactionID + ":" + n.EventType
}

// Key is PaymentNotify's.
func (n *RefundNotify) Key() string {
	if n.ID != "" {
		return "refund:" + n.ID
	}
	return "refund:" + n.Refund.RefundID + ":" + n.EventType
}

// A RefundOrder is what WeChat has to know of a refund.
type RefundOrder struct {
	OutTradeNo  string // of the order
	OutRefundNo string // 1 to 64 of 0-9 A-Z a-z _ - | * @
	Reason      string // optional; shown to the payer; at most 80 characters
	NotifyURL   string // "": RefundURL of the options
	RefundFen   int64  // at least 1, at most TotalFen
	TotalFen    int64  // of the order
}

// A Refund is a refund as WeChat Pay knows it.
type Refund struct {
	OutTradeNo, TransactionID, OutRefundNo, RefundID string
	Status                                           string // SUCCESS, PROCESSING, CLOSED or ABNORMAL
	RefundFen, TotalFen                              int64
	Currency                                         string    // CNY
	At                                               time.Time // of success; zero before
}

// A RefundNotify is an opened refund notify.
type RefundNotify struct {
	ID         string // of the notify (v3)
	EventType  string // REFUND.SUCCESS, REFUND.ABNORMAL or REFUND.CLOSED
	Refund     Refund
	NeedsQuery bool   // true: nothing in it is proven; ask QueryRefund before acting
	Plain      []byte // the decrypted text
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

var (
	tradeNo  = regexp.MustCompile(`^[0-9A-Za-z_\-|*]{6,32}$`)
	refundNo = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,64}$`)
)

// beijing is the time zone of everything in WeChat Pay.
var beijing = time.FixedZone("", 8*60*60)

// check says what WeChat would refuse in o, before any call. Error: *Error, which Is ErrRequest.
func (o PayOrder) check(now time.Time) error {
	description, attach := utf8.RuneCountInString(o.Description), utf8.RuneCountInString(o.Attach)
	complaint := ""
	switch {
	case !tradeNo.MatchString(o.OutTradeNo):
		return checkTradeNo(opPrepay, o.OutTradeNo)
	case description < 1 || description > 127 || !utf8.ValidString(o.Description):
		complaint = "description must have 1 to 127 characters"
	case o.OpenID == "" || len(o.OpenID) > 128:
		complaint = "the payer's openid is missing"
	case o.TotalFen < 1:
		complaint = "the amount must be at least 1 fen"
	case attach > 128 || !utf8.ValidString(o.Attach):
		complaint = "attach must have at most 128 characters"
	case !o.ExpiresAt.IsZero() && o.ExpiresAt.Before(now.Add(time.Minute)):
		complaint = "the order expires in less than a minute"
	}
	return complain(opPrepay, complaint)
}

// check is PayOrder's for a refund.
func (r RefundOrder) check() error {
	complaint := ""
	switch {
	case !tradeNo.MatchString(r.OutTradeNo):
		return checkTradeNo(opRefund, r.OutTradeNo)
	case !refundNo.MatchString(r.OutRefundNo):
		return checkRefundNo(opRefund, r.OutRefundNo)
	case r.RefundFen < 1 || r.RefundFen > r.TotalFen:
		complaint = "the refund must be at least 1 fen, and no more than the order"
	case utf8.RuneCountInString(r.Reason) > 80 || xmlText(r.Reason) != r.Reason:
		complaint = "the reason must have at most 80 characters"
	}
	if r.NotifyURL != "" && complaint == "" {
		if err := checkNotifyURL("NotifyURL", r.NotifyURL); err != nil {
			complaint = strings.TrimPrefix(err.Error(), "wechat: ")
		}
	}
	return complain(opRefund, complaint)
}

func checkTradeNo(op, no string) error {
	if tradeNo.MatchString(no) {
		return nil
	}
	return complain(op, "out_trade_no must be 6 to 32 letters, digits or _-|*")
}

func checkTransactionID(id string) error {
	if digits.MatchString(id) {
		return nil
	}
	return complain(opQuery, "transaction_id must be WeChat Pay's number of the payment")
}

func checkRefundNo(op, no string) error {
	if refundNo.MatchString(no) {
		return nil
	}
	return complain(op, "out_refund_no must be 1 to 64 letters, digits or _-|*@")
}

// complain is a request that is not even made; "": no complaint.
func complain(op, complaint string) error {
	if complaint == "" {
		return nil
	}
	return &Error{Op: op, Kind: ErrRequest, Msg: complaint}
}

// nonsense is a verified answer of WeChat Pay that is not what was promised.
func nonsense(op string, err error) error {
	return &Error{Op: op, Status: http.StatusOK, Kind: ErrNonsense, Err: err}
}

func checkNotifyURL(name, s string) error {
	if _, err := baseURL(name, s, ""); err != nil {
		return err
	}
	if len(s) > 255 {
		return errors.New("wechat: " + name + " is longer than 255 characters")
	}
	return nil
}

// notifyURLs checks both, and finds the refunds' own where none is given.
func notifyURLs(notify, refund string) (refundURL string, err error) {
	if err := checkNotifyURL("NotifyURL", notify); err != nil {
		return "", err
	}
	if refund == "" {
		refund = notify + "/refund"
		if i := strings.LastIndexByte(notify, '/'); i > len("https://") {
			refund = notify[:i] + "/refund"
		}
	}
	return refund, checkNotifyURL("RefundURL", refund)
}

// orElse is s, or the standard where s is empty.
func orElse(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}
