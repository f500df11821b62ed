package sim

import (
	"net/http"
	"time"
)

// order is what the merchant asked to be paid. Guarded by Sim.mu; prepayParams never change.
type order struct {
	prepayParams
	asked         string // canonical request, to tell a repeat from another order
	prepayID      string // the newest
	prepayIDs     []string
	prepayAt      time.Time
	madeAt        time.Time
	closedAt      time.Time // zero: not closed by the merchant
	transactionID string    // once paid
	paidAt        time.Time // zero: unpaid
	muted         bool      // its notifies never come
	notified      string    // what the ladder came to
	refunds       []*refund // oldest first
	shipping      *shipment // nil: nothing uploaded
	reminded      bool      // that it is not shipped; or nothing to remind of
}

// prepayParams are the fields of a prepay that the simulator uses.
type prepayParams struct {
	outTradeNo  string
	description string
	attach      string
	notifyURL   string
	openid      string
	total       int64 // fen
	expireAt    time.Time
	signType    string // of the client's five fields: RSA for API v3, else as the v2 order was signed
}

const signRSAName = "RSA"

// v2 tells whether the order was made by Pay v2; its notify has that form too.
func (p prepayParams) v2() bool { return p.signType == signMD5 || p.signType == signHMAC }

const (
	prepayLife   = 2 * time.Hour
	orderLife    = 7 * 24 * time.Hour
	longestOrder = 15 * 24 * time.Hour
)

// The trade states of a mini-program's order.
const (
	statePaid     = "SUCCESS"
	stateRefunded = "REFUND" // as soon as a refund was asked for
	stateUnpaid   = "NOTPAY"
	stateClosed   = "CLOSED" // by the merchant, or because its time is over
)

var stateWords = map[string]string{statePaid: "支付成功", stateRefunded: "订单发生过退款，退款详情请查询退款单", stateUnpaid: "订单未支付", stateClosed: "订单已关闭"}

// state is the order's trade_state.
func (o *order) state(now time.Time) string {
	switch {
	case !o.paidAt.IsZero() && len(o.refunds) > 0:
		return stateRefunded
	case !o.paidAt.IsZero():
		return statePaid
	case !o.closedAt.IsZero() || !now.Before(o.expireAt):
		return stateClosed
	}
	return stateUnpaid
}

// placeOrder makes the order, or finds the same one made before.
func (s *Sim) placeOrder(p prepayParams, asked string) (prepayID string, e *payError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byOpenid(p.openid) == nil {
		return "", &payError{status: 400, code: "PARAM_ERROR", message: "无效的openid", detail: map[string]any{"location": "body", "field": "/payer/openid", "issue": "无效的openid"}}
	}
	o := s.orders[p.outTradeNo]
	switch {
	case o == nil:
		o = &order{prepayParams: p, asked: asked, madeAt: now}
		s.addOrder(o)
	case !o.paidAt.IsZero():
		return "", &payError{status: 400, code: "ORDERPAID", message: "该订单已支付"}
	case o.asked != asked:
		return "", &payError{status: 403, code: "OUT_TRADE_NO_USED", message: "商户订单号重复，请核实商户订单号是否重复提交"}
	case o.state(now) == stateClosed:
		return "", &payError{status: 400, code: "ORDER_CLOSED", message: "订单已关闭，请重新下单"}
	case now.Sub(o.prepayAt) < prepayLife:
		return o.prepayID, nil
	}
	o.prepayID = "wx" + beijing(now).Format("20060102150405") + random(lowerHex, 16) + "0000"
	o.prepayAt = now
	o.prepayIDs = append(o.prepayIDs, o.prepayID)
	s.prepays[o.prepayID] = o
	return o.prepayID, nil
}

// addOrder keeps an order; at the limit the oldest tenth is forgotten. Needs s.mu.
func (s *Sim) addOrder(o *order) {
	if len(s.line) >= maxOrders {
		for _, old := range s.line[:maxOrders/10] {
			delete(s.orders, old.outTradeNo)
			delete(s.paid, old.transactionID)
			for _, id := range old.prepayIDs {
				delete(s.prepays, id)
			}
			for _, r := range old.refunds {
				delete(s.refunds, r.outRefundNo)
			}
		}
		s.line = append(s.line[:0:0], s.line[maxOrders/10:]...)
	}
	s.orders[o.outTradeNo] = o
	s.line = append(s.line, o)
}

// find returns the order of either number, nil for none. Needs s.mu.
func (s *Sim) find(outTradeNo, transactionID string) *order {
	if transactionID == "" {
		return s.orders[outTradeNo]
	}
	if o := s.paid[transactionID]; o != nil && (outTradeNo == "" || o.outTradeNo == outTradeNo) {
		return o
	}
	return nil
}

// lookUp tells of an order as a query does; an unpaid one has no transaction.
func (s *Sim) lookUp(outTradeNo, transactionID string) (transaction, *payError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.find(outTradeNo, transactionID)
	if o == nil {
		return transaction{}, &payError{status: 404, code: "ORDER_NOT_EXIST", message: "查询的订单不存在"}
	}
	t := s.transactionOf(o)
	t.TradeState = o.state(now)
	t.TradeStateDesc = stateWords[t.TradeState]
	return t, nil
}

// shut closes an unpaid order. It reports whether it was closed before.
func (s *Sim) shut(outTradeNo string) (already bool, e *payError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[outTradeNo]
	switch {
	case o == nil:
		return false, &payError{status: 404, code: "ORDER_NOT_EXIST", message: "订单不存在"}
	case !o.paidAt.IsZero():
		return false, &payError{status: 400, code: "ORDERPAID", message: "订单已支付，不能发起关单"}
	case o.state(now) == stateClosed:
		return true, nil
	}
	o.closedAt = now
	return false, nil
}

// queryOrder is GET /v3/pay/transactions/out-trade-no/{no} and …/id/{id}.
func (s *Sim) queryOrder(r *http.Request, _ []byte) (any, *payError) {
	if e := s.askedMerchant(r); e != nil {
		return nil, e
	}
	t, e := s.lookUp(r.PathValue("no"), r.PathValue("id"))
	if e != nil {
		return nil, e
	}
	if t.TransactionID != "" {
		return t, nil
	}
	type amount struct {
		Total    int64  `json:"total"`
		Currency string `json:"currency"`
	}
	return struct {
		AppID          string   `json:"appid"`
		MchID          string   `json:"mchid"`
		OutTradeNo     string   `json:"out_trade_no"`
		Attach         string   `json:"attach"`
		TradeState     string   `json:"trade_state"`
		TradeStateDesc string   `json:"trade_state_desc"`
		Amount         amount   `json:"amount"`
		Payer          struct{} `json:"payer"`
		Promotion      []any    `json:"promotion_detail"`
	}{t.AppID, t.MchID, t.OutTradeNo, t.Attach, t.TradeState, t.TradeStateDesc, amount{t.Amount.Total, t.Amount.Currency}, struct{}{}, []any{}}, nil
}

// closeOrder is POST /v3/pay/transactions/out-trade-no/{no}/close; it may be repeated.
func (s *Sim) closeOrder(r *http.Request, body []byte) (any, *payError) {
	f, err := parseFields(body)
	if err != nil {
		return nil, errNotJSON
	}
	mchID := f.text("mchid", true, 32)
	if e := badField(f); e != nil {
		return nil, e
	}
	if mchID != s.opts.MchID {
		return nil, errOtherMerchant
	}
	_, e := s.shut(r.PathValue("no"))
	return nil, e
}
