package wechat

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	opTradeBill = "pay/tradebill"
	opFundBill  = "pay/fundflowbill"
	opDownload  = "pay/billdownload"

	maxBill      = 64 << 20         // bytes; some 150,000 orders
	billTimeout  = 60 * time.Second // of one download
	billPause    = 30 * time.Minute // before a bill that is being made is asked for again
	billReadyAt  = 34 * time.Hour   // after the beginning of its day: ten in the morning of the next
	billKeptDays = 92
)

// A BillRow is a line of the trade bill: a payment, or a refund.
type BillRow struct {
	At                                                 time.Time
	AppID, MchID, TransactionID, OutTradeNo, OpenID    string
	TradeType                                          string // JSAPI …
	State                                              string // SUCCESS, REFUND or REVOKED
	RefundID, OutRefundNo, RefundState                 string // when State is REFUND
	TotalFen, SettledFen, CouponFen, RefundFen, FeeFen int64  // FeeFen: what WeChat Pay keeps, rounded; below 0 when it gives back
	Currency, Description, Attach                      string
}

// A FundRow is a line of the fund bill: money that came or went.
type FundRow struct {
	At                     time.Time
	TransactionID, FlowID  string
	Business, Kind         string // what for, in WeChat Pay's words
	In                     bool   // false: it went
	AmountFen, BalanceFen  int64
	Applicant, Note, Proof string
}

// billDay is day's date in Beijing. Error: *Error, which Is ErrRequest: no such day has a bill.
func billDay(op string, day, now time.Time) (time.Time, error) {
	day = day.In(beijing)
	day = time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, beijing)
	switch {
	case day.After(now):
		return day, complain(op, "the day is yet to come")
	case now.Sub(day) > billKeptDays*24*time.Hour:
		return day, complain(op, "bills are kept for three months")
	}
	return day, nil
}

// tooEarly makes of WeChat's "there is none" what it means before ten in the morning of the next day.
func tooEarly(op string, err error, day, now time.Time) error {
	if ready := day.Add(billReadyAt); errors.Is(err, ErrNoBill) && now.Before(ready) {
		return &Error{Op: op, Kind: ErrNotYet, RetryAfter: ready.Sub(now), Msg: "a bill is there from ten in the morning of the next day"}
	}
	return err
}

// TradeBill calls /v3/bill/tradebill and downloads what it names; see Pay. The download carries no signature: it counts
// because its hash is in the signed answer.
func (p *PayV3) TradeBill(ctx context.Context, day time.Time) ([]BillRow, error) {
	text, err := p.bill(ctx, opTradeBill, "/v3/bill/tradebill", day, url.Values{"bill_type": {"ALL"}})
	if err != nil {
		return nil, err
	}
	rows, err := readTradeBill(text)
	if err != nil {
		return nil, nonsense(opTradeBill, err)
	}
	return rows, nil
}

// FundBill calls /v3/bill/fundflowbill; see TradeBill.
func (p *PayV3) FundBill(ctx context.Context, day time.Time) ([]FundRow, error) {
	text, err := p.bill(ctx, opFundBill, "/v3/bill/fundflowbill", day, url.Values{"account_type": {"BASIC"}})
	if err != nil {
		return nil, err
	}
	rows, err := readFundBill(text)
	if err != nil {
		return nil, nonsense(opFundBill, err)
	}
	return rows, nil
}

func (p *PayV3) bill(ctx context.Context, op, path string, day time.Time, q url.Values) ([]byte, error) {
	day, err := billDay(op, day, p.now())
	if err != nil {
		return nil, err
	}
	q.Set("bill_date", day.Format(time.DateOnly))
	var at struct {
		HashType string `json:"hash_type"`
		Hash     string `json:"hash_value"`
		URL      string `json:"download_url"`
	}
	if err := p.ask(ctx, op, http.MethodGet, path+"?"+q.Encode(), nil, &at, p.hide()); err != nil {
		return nil, tooEarly(op, err, day, p.now())
	}
	uri, ok := p.ownURI(at.URL)
	if !ok || at.HashType != "SHA1" || len(at.Hash) != 2*sha1.Size {
		return nil, &Error{Op: op, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a place to download from, or its hash"}
	}
	var text []byte
	err = p.call(ctx, opDownload, func(ctx context.Context) error {
		req, err := p.request(ctx, http.MethodGet, uri, nil)
		if err != nil {
			return &Error{Op: opDownload, Kind: ErrConfig, Err: bare(err, p.hide())}
		}
		a, err := roundTripUpTo(p.http, req, opDownload, max(p.timeout, min(billTimeout, 15*p.timeout)), maxBill, p.hide())
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return p.openAnswer(opDownload, a, nil, p.hide(), p.findOrLearn(ctx))
		}
		sum := sha1.Sum(a.body)
		if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(at.Hash))) != 1 {
			return &Error{Op: opDownload, Status: a.status, Kind: ErrSignature, Msg: "the bill's hash is not the one that was signed"}
		}
		text = a.body
		return nil
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}

// ownURI is path and query of a download address, which are asked for at our own base: an answer must not send our
// signature elsewhere. The host is not signed, so that nothing is lost.
func (p *PayV3) ownURI(address string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", false
	}
	base, err := url.Parse(p.base)
	if err != nil {
		return "", false
	}
	uri := strings.TrimPrefix(u.RequestURI(), base.Path)
	return uri, strings.HasPrefix(uri, "/v3/")
}

// TradeBill calls /pay/downloadbill; see Pay. Version 2 has neither signature nor hash for it, so that the totals
// at its end must fit.
func (p *PayV2) TradeBill(ctx context.Context, day time.Time) ([]BillRow, error) {
	text, err := p.bill(ctx, opTradeBill, p.http, "/pay/downloadbill", p.signer, day, v2Fields{"bill_type": "ALL"})
	if err != nil {
		return nil, err
	}
	rows, err := readTradeBill(text)
	if err != nil {
		return nil, nonsense(opTradeBill, err)
	}
	return rows, nil
}

// FundBill calls /pay/downloadfundflow with the merchant's certificate; see TradeBill.
func (p *PayV2) FundBill(ctx context.Context, day time.Time) ([]FundRow, error) {
	if p.refunds == nil {
		return nil, &Error{Op: opFundBill, Kind: ErrConfig, Msg: "the fund bill needs the merchant's certificate: CertPEM and KeyPEM"}
	}
	signer := v2Signer{key: p.signer.key, signType: signHMAC} // the only one that it takes
	text, err := p.bill(ctx, opFundBill, p.refunds, "/pay/downloadfundflow", signer, day, v2Fields{"account_type": "Basic"})
	if err != nil {
		return nil, err
	}
	rows, err := readFundBill(text)
	if err != nil {
		return nil, nonsense(opFundBill, err)
	}
	return rows, nil
}

// bill downloads a bill as text; a refusal comes as XML in its place, unsigned.
func (p *PayV2) bill(ctx context.Context, op string, h *http.Client, path string, signer v2Signer, day time.Time, in v2Fields) ([]byte, error) {
	day, err := billDay(op, day, p.now())
	if err != nil {
		return nil, err
	}
	in["bill_date"] = day.Format("20060102")
	var text []byte
	err = p.call(ctx, op, func(ctx context.Context) error {
		hide := []string{p.signer.key}
		a, err := p.send(ctx, op, h, path, signer, in, hide, max(p.timeout, min(billTimeout, 15*p.timeout)), maxBill)
		if err != nil {
			return err
		}
		if a.status == http.StatusOK && !bytes.HasPrefix(bytes.TrimLeft(a.body, "\xef\xbb\xbf \r\n\t"), []byte("<")) {
			text = a.body
			return nil
		}
		return p.billRefusal(op, a, hide)
	})
	if err != nil {
		return nil, tooEarly(op, err, day, p.now())
	}
	return text, nil
}

// billRefusal is openAnswer for the bills, which name their errors in a way of their own.
func (p *PayV2) billRefusal(op string, a answer, hide []string) error {
	if f, err := parseV2(a.body, "xml"); err == nil && f["return_code"] == "FAIL" && a.status == http.StatusOK {
		msg, _ := words(f["return_msg"], hide)
		word, _ := words(orElse(f["error_code"], f["err_code"]), hide)
		switch said := plainWord(strings.ReplaceAll(msg, " ", "")); {
		case word == "20002", said == "NOBILLEXIST", payFact(op, word) == ErrNoBill:
			return &Error{Op: op, Status: a.status, Kind: ErrNoBill, Word: word, Msg: msg}
		case word == "20003", said == "BILLCREATING", payFact(op, word) == ErrNotYet:
			return &Error{Op: op, Status: a.status, Kind: ErrNotYet, Word: word, Msg: msg, RetryAfter: billPause}
		case word == "20100", said == "SYSTEMERROR":
			return &Error{Op: op, Status: a.status, Kind: ErrBusy, Word: word, Msg: msg, RetryAfter: time.Second}
		}
	}
	if _, err := p.openAnswer(op, a, hide); err != nil {
		return err
	}
	return &Error{Op: op, Status: a.status, Kind: ErrNonsense, Msg: "success without a bill"}
}

// Refresh has nothing to fetch in version 2.
func (p *PayV2) Refresh(context.Context) error { return nil }
