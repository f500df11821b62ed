package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Query asks for an order by our number (/v3/pay/transactions/out-trade-no/…); see Pay.
func (p *PayV3) Query(ctx context.Context, outTradeNo string) (Payment, error) {
	if err := checkTradeNo(opQuery, outTradeNo); err != nil {
		return Payment{}, err
	}
	pay, err := p.query(ctx, "/v3/pay/transactions/out-trade-no/"+url.PathEscape(outTradeNo))
	if err == nil && pay.OutTradeNo != outTradeNo {
		return Payment{}, &Error{Op: opQuery, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another order"}
	}
	return pay, err
}

// QueryTransaction asks for an order by WeChat Pay's number (/v3/pay/transactions/id/…); see Pay.
func (p *PayV3) QueryTransaction(ctx context.Context, transactionID string) (Payment, error) {
	if err := checkTransactionID(transactionID); err != nil {
		return Payment{}, err
	}
	pay, err := p.query(ctx, "/v3/pay/transactions/id/"+transactionID)
	if err == nil && pay.TransactionID != transactionID {
		return Payment{}, &Error{Op: opQuery, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another order"}
	}
	return pay, err
}

func (p *PayV3) query(ctx context.Context, path string) (Payment, error) {
	var raw json.RawMessage
	if err := p.ask(ctx, opQuery, http.MethodGet, path+"?mchid="+url.QueryEscape(p.mchID), nil, &raw, p.hide()); err != nil {
		return Payment{}, err
	}
	fields, err := parseJSON(raw)
	if err != nil {
		return Payment{}, nonsense(opQuery, err)
	}
	pay, err := readPayment(fields, false)
	if err != nil {
		return Payment{}, nonsense(opQuery, err)
	}
	if pay.MchID != p.mchID {
		return Payment{}, &Error{Op: opQuery, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another order"}
	}
	return pay, nil
}

// Close ends an unpaid order (…/close); see Pay.
func (p *PayV3) Close(ctx context.Context, outTradeNo string) error {
	if err := checkTradeNo(opClose, outTradeNo); err != nil {
		return err
	}
	body, err := encode(struct {
		MchID string `json:"mchid"`
	}{p.mchID})
	if err != nil {
		return &Error{Op: opClose, Kind: ErrRequest, Msg: "the request cannot be written as JSON"}
	}
	uri := "/v3/pay/transactions/out-trade-no/" + url.PathEscape(outTradeNo) + "/close"
	return closedAlready(p.ask(ctx, opClose, http.MethodPost, uri, body, nil, p.hide()))
}

// Refund asks for a refund (/v3/refund/domestic/refunds); see Pay.
func (p *PayV3) Refund(ctx context.Context, r RefundOrder) (Refund, error) {
	if err := r.check(); err != nil {
		return Refund{}, err
	}
	type amount struct {
		Refund   int64  `json:"refund"`
		Total    int64  `json:"total"`
		Currency string `json:"currency"`
	}
	body, err := encode(struct {
		OutTradeNo  string `json:"out_trade_no"`
		OutRefundNo string `json:"out_refund_no"`
		Reason      string `json:"reason,omitempty"`
		NotifyURL   string `json:"notify_url"`
		Amount      amount `json:"amount"`
	}{r.OutTradeNo, r.OutRefundNo, r.Reason, orElse(r.NotifyURL, p.refundURL), amount{r.RefundFen, r.TotalFen, "CNY"}})
	if err != nil {
		return Refund{}, &Error{Op: opRefund, Kind: ErrRequest, Msg: "the refund cannot be written as JSON"}
	}
	var raw json.RawMessage
	if err := p.ask(ctx, opRefund, http.MethodPost, "/v3/refund/domestic/refunds", body, &raw, p.hide()); err != nil {
		return Refund{}, err
	}
	got, err := openRefundAnswer(opRefund, raw, r.OutRefundNo)
	if err == nil && (got.OutTradeNo != r.OutTradeNo || got.RefundFen != r.RefundFen) {
		return Refund{}, &Error{Op: opRefund, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another refund"}
	}
	return got, err
}

// QueryRefund asks for a refund by our number; see Pay.
func (p *PayV3) QueryRefund(ctx context.Context, outRefundNo string) (Refund, error) {
	if err := checkRefundNo(opQueryRefund, outRefundNo); err != nil {
		return Refund{}, err
	}
	var raw json.RawMessage
	uri := "/v3/refund/domestic/refunds/" + url.PathEscape(outRefundNo)
	if err := p.ask(ctx, opQueryRefund, http.MethodGet, uri, nil, &raw, p.hide()); err != nil {
		return Refund{}, err
	}
	return openRefundAnswer(opQueryRefund, raw, outRefundNo)
}

func (p *PayV3) hide() []string { return []string{string(p.key)} }

// openRefundAnswer reads a verified answer about the refund that was asked for.
func openRefundAnswer(op string, raw []byte, outRefundNo string) (Refund, error) {
	fields, err := parseJSON(raw)
	if err != nil {
		return Refund{}, nonsense(op, err)
	}
	r, err := readRefund(fields, "status")
	if err != nil {
		return Refund{}, nonsense(op, err)
	}
	if r.OutRefundNo != outRefundNo {
		return Refund{}, &Error{Op: op, Status: http.StatusOK, Kind: ErrNonsense, Msg: "the answer is about another refund"}
	}
	return r, nil
}

// refundStates are all that a refund can be in.
var refundStates = []string{"SUCCESS", "PROCESSING", "CLOSED", "ABNORMAL"}

// readRefund reads a refund of an answer or notify, which call its state by different names.
// Error: ErrMalformed.
func readRefund(f map[string]any, state string) (Refund, error) {
	amount, _ := f["amount"].(map[string]any)
	r := Refund{
		OutTradeNo: text(f["out_trade_no"]), TransactionID: text(f["transaction_id"]),
		OutRefundNo: text(f["out_refund_no"]), RefundID: text(f["refund_id"]),
		Status: text(f[state]), Currency: orElse(text(amount["currency"]), "CNY"),
	}
	for _, id := range []string{r.OutTradeNo, r.TransactionID, r.OutRefundNo, r.RefundID} {
		if id == "" || len(id) > maxID {
			return Refund{}, refuse(ErrMalformed, "out_trade_no, transaction_id, out_refund_no or refund_id is missing")
		}
	}
	if !slices.Contains(refundStates, r.Status) {
		return Refund{}, refuse(ErrMalformed, state+" is missing or unknown")
	}
	var ok1, ok2 bool
	r.RefundFen, ok1 = fen(amount["refund"])
	r.TotalFen, ok2 = fen(amount["total"])
	if !ok1 || !ok2 {
		return Refund{}, refuse(ErrMalformed, "amount.refund or amount.total is not a whole number of fen")
	}
	if at := text(f["success_time"]); at != "" {
		var err error
		if r.At, err = time.Parse(time.RFC3339, at); err != nil {
			return Refund{}, refuse(ErrMalformed, "success_time is not a time")
		}
	} else if r.Status == "SUCCESS" {
		return Refund{}, refuse(ErrMalformed, "success_time is missing")
	}
	return r, nil
}

// closedAlready takes ORDER_CLOSED for what was wanted.
func closedAlready(err error) error {
	var e *Error
	if errors.As(err, &e) && plainWord(e.Word) == "ORDERCLOSED" {
		return nil
	}
	return err
}
