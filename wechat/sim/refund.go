package sim

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// refund is money on its way back. Guarded by Sim.mu; refundParams never change.
type refund struct {
	refundParams
	order    *order
	id       string // refund_id
	serial   int64  // grows from refund to refund
	status   string
	madeAt   time.Time
	doneAt   time.Time // zero: under way
	notified string    // what the ladder came to
}

// refundParams are the fields of a refund request that the simulator uses.
type refundParams struct {
	outTradeNo    string // one of the two
	transactionID string
	outRefundNo   string
	reason        string
	notifyURL     string
	fee           int64 // fen
	total         int64 // fen, of the order
	v2            bool  // asked for by Pay v2; its notify has that form
}

// What a refund can be. A refund that is under way counts as given.
const (
	refundProcessing = "PROCESSING"
	refundSuccess    = "SUCCESS"
	refundClosed     = "CLOSED"   // failed, the merchant keeps the money
	refundAbnormal   = "ABNORMAL" // the user's card does not take it; someone must help
)

const (
	refundTakes = 2 * time.Second // from the request to the money, scaled as retries are
	maxRefunds  = 50              // parts of one order
	refundLife  = 365 * 24 * time.Hour
)

var outRefundNoShape = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,64}$`)

// refundRefusal is why a refund is not given, in the words of both versions.
type refundRefusal struct {
	v3 *payError
	v2 string
}

func noRefund(status int, v3, v2, message string) *refundRefusal {
	return &refundRefusal{&payError{status: status, code: v3, message: message}, v2}
}

// giveRefund makes a refund, or finds the same one made before, and sees to its end and its notify.
func (s *Sim) giveRefund(p refundParams) (refundView, *refundRefusal) {
	r, fresh, e := s.addRefund(p)
	if e != nil {
		return refundView{}, e
	}
	if fresh && !s.start(func(ctx context.Context) { s.finishRefund(ctx, p.outRefundNo) }) {
		s.opts.Logger.Error("refund stays under way: closed, or too many notifies are waiting", "outRefundNo", p.outRefundNo)
	}
	return r, nil
}

func (s *Sim) addRefund(p refundParams) (v refundView, fresh bool, e *refundRefusal) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.find(p.outTradeNo, p.transactionID)
	if o == nil {
		return v, false, noRefund(404, "RESOURCE_NOT_EXISTS", "ORDERNOTEXIST", "订单不存在，请核实订单号")
	}
	if r := s.refunds[p.outRefundNo]; r != nil {
		if r.order != o || r.fee != p.fee || o.total != p.total {
			return v, false, noRefund(400, "INVALID_REQUEST", "REFUND_FEE_MISMATCH", "订单金额或退款金额与之前请求不一致，请核实后再试")
		}
		return s.viewRefund(r), false, nil
	}
	given := int64(0)
	parts := 0
	for _, r := range o.refunds {
		if r.status != refundClosed {
			given += r.fee
			parts++
		}
	}
	switch {
	case o.paidAt.IsZero():
		return v, false, noRefund(400, "INVALID_REQUEST", "ERROR", "订单未支付，不能退款")
	case o.total != p.total:
		return v, false, noRefund(400, "INVALID_REQUEST", "REFUND_FEE_MISMATCH", "订单金额不一致，请核实后再试")
	case now.Sub(o.paidAt) > refundLife:
		return v, false, noRefund(400, "INVALID_REQUEST", "TRADE_OVERDUE", "订单已经超过可退款的最大期限")
	case given == o.total:
		return v, false, noRefund(400, "INVALID_REQUEST", "ERROR", "订单已全额退款")
	case p.fee > o.total-given:
		return v, false, noRefund(400, "INVALID_REQUEST", "ERROR", "申请退款金额大于订单可退金额")
	case parts >= maxRefunds:
		return v, false, noRefund(400, "INVALID_REQUEST", "ERROR", "部分退款次数超过50次")
	}
	s.lastID = max(s.lastID+1, now.UnixNano())
	r := &refund{refundParams: p, order: o, serial: s.lastID, status: refundProcessing, madeAt: now,
		id: "5030" + random(digits, 4) + beijing(now).Format("20060102") + fmt.Sprintf("%010d", s.lastID%10_000_000_000) + random(digits, 3)}
	o.refunds = append(o.refunds, r)
	s.refunds[p.outRefundNo] = r
	return s.viewRefund(r), true, nil
}

// finishRefund brings the money back after a while and tells the merchant.
func (s *Sim) finishRefund(ctx context.Context, outRefundNo string) {
	if !wait(ctx, s.scaled(refundTakes)) {
		return
	}
	now := s.opts.Now()
	s.mu.Lock()
	r := s.refunds[outRefundNo]
	if r == nil { // forgotten with its order
		s.mu.Unlock()
		return
	}
	if r.status == refundProcessing {
		r.status, r.doneAt = refundSuccess, now
	}
	v := s.viewRefund(r)
	s.mu.Unlock()
	if v.notifyURL == "" {
		return
	}
	n, err := s.refundNotice(v, notifyForm{})
	if err != nil {
		s.opts.Logger.Error("refund notify not sent", "outRefundNo", outRefundNo, "error", err)
		return
	}
	s.climb(ctx, n)
}

// refundView is a refund as API v3 shows it.
type refundView struct {
	RefundID      string       `json:"refund_id"`
	OutRefundNo   string       `json:"out_refund_no"`
	TransactionID string       `json:"transaction_id"`
	OutTradeNo    string       `json:"out_trade_no"`
	Channel       string       `json:"channel"`
	Account       string       `json:"user_received_account"`
	SuccessTime   string       `json:"success_time,omitempty"`
	CreateTime    string       `json:"create_time"`
	Status        string       `json:"status"`
	FundsAccount  string       `json:"funds_account"`
	Amount        refundAmount `json:"amount"`
	Promotion     []any        `json:"promotion_detail"`

	appID, mchID string
	notifyURL    string
	v2           bool
	v2End        string // success time as Pay v2 writes it
}

type refundAmount struct {
	Total            int64  `json:"total"`
	Refund           int64  `json:"refund"`
	PayerTotal       int64  `json:"payer_total"`
	PayerRefund      int64  `json:"payer_refund"`
	SettlementRefund int64  `json:"settlement_refund"`
	SettlementTotal  int64  `json:"settlement_total"`
	DiscountRefund   int64  `json:"discount_refund"`
	Currency         string `json:"currency"`
}

// viewRefund renders a refund. Needs s.mu.
func (s *Sim) viewRefund(r *refund) refundView {
	v := refundView{RefundID: r.id, OutRefundNo: r.outRefundNo, TransactionID: r.order.transactionID, OutTradeNo: r.order.outTradeNo,
		Channel: "ORIGINAL", Account: "支付用户零钱", CreateTime: beijing(r.madeAt).Format(time.RFC3339), Status: r.status, FundsAccount: "AVAILABLE",
		Amount:    refundAmount{r.order.total, r.fee, r.order.total, r.fee, r.fee, r.order.total, 0, "CNY"},
		Promotion: []any{}, appID: s.opts.AppID, mchID: s.opts.MchID, notifyURL: r.notifyURL, v2: r.v2}
	if r.status == refundSuccess {
		v.SuccessTime, v.v2End = beijing(r.doneAt).Format(time.RFC3339), beijing(r.doneAt).Format(time.DateTime)
	}
	return v
}

// refundOrder is POST /v3/refund/domestic/refunds.
func (s *Sim) refundOrder(_ *http.Request, body []byte) (any, *payError) {
	p, e := readRefund(body)
	if e != nil {
		return nil, e
	}
	v, refused := s.giveRefund(p)
	if refused != nil {
		return nil, refused.v3
	}
	return v, nil
}

// readRefund checks every field of the body.
func readRefund(body []byte) (refundParams, *payError) {
	f, err := parseFields(body)
	if err != nil {
		return refundParams{}, errNotJSON
	}
	p := refundParams{
		transactionID: f.text("transaction_id", false, 32),
		outTradeNo:    f.text("out_trade_no", false, 32),
		outRefundNo:   f.text("out_refund_no", true, 64),
		reason:        f.text("reason", false, 80),
		notifyURL:     f.text("notify_url", false, 256),
	}
	if p.transactionID == "" && p.outTradeNo == "" {
		f.refuse("out_trade_no", "必填性规则校验失败，transaction_id和out_trade_no须二选一")
	}
	if !outRefundNoShape.MatchString(p.outRefundNo) {
		f.refuse("out_refund_no", "格式规则校验失败，应为数字、字母和_-|*@")
	}
	if p.notifyURL != "" {
		if why := badNotifyURL(p.notifyURL); why != "" {
			f.refuse("notify_url", why)
		}
	}
	amount := f.object("amount", true)
	p.fee, p.total = amount.integer("refund", 1), amount.integer("total", 1)
	if amount.text("currency", true, 16) != "CNY" {
		amount.refuse("currency", "枚举值规则校验失败，应为CNY")
	}
	if p.fee > p.total {
		amount.refuse("refund", "退款金额不能大于原订单金额")
	}
	return p, badField(f)
}

// queryRefund is GET /v3/refund/domestic/refunds/{no}.
func (s *Sim) queryRefund(r *http.Request, _ []byte) (any, *payError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.refunds[r.PathValue("no")]
	if got == nil {
		return nil, &payError{status: 404, code: "RESOURCE_NOT_EXISTS", message: "退款单不存在"}
	}
	return s.viewRefund(got), nil
}
