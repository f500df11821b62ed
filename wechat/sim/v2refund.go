package sim

import (
	"fmt"
	"time"
)

// refundV2 is POST /secapi/pay/refund, for who holds the merchant's client certificate.
func (s *Sim) refundV2(r v2Request) (v2Fields, *v2Error) {
	f := r.fields
	if e := s.holdsCertificate(r.http); e != nil {
		return nil, e
	}
	if e := r.need("out_refund_no", "total_fee", "refund_fee"); e != nil {
		return nil, e
	}
	p := refundParams{outTradeNo: f["out_trade_no"], transactionID: f["transaction_id"], outRefundNo: f["out_refund_no"],
		reason: f["refund_desc"], notifyURL: f["notify_url"], fee: r.fen("refund_fee"), total: r.fen("total_fee"), v2: true}
	switch {
	case p.outTradeNo == "" && p.transactionID == "":
		return nil, v2Fault("缺少参数out_trade_no")
	case !outRefundNoShape.MatchString(p.outRefundNo):
		return nil, v2Fault("out_refund_no参数格式错误")
	case p.fee == 0 || p.total == 0:
		return nil, v2Fault("total_fee或refund_fee参数格式错误，应为大于0的整数，单位为分")
	case p.fee > p.total:
		return nil, v2Fault("refund_fee不能大于total_fee")
	case f["refund_fee_type"] != "" && f["refund_fee_type"] != "CNY":
		return nil, v2Fault("refund_fee_type参数有误")
	case p.notifyURL != "" && (len(p.notifyURL) > 256 || badNotifyURL(p.notifyURL) != ""):
		return nil, v2Fault("notify_url参数格式错误")
	case len(p.reason) > 80:
		return nil, v2Fault("refund_desc参数长度有误")
	}
	v, refused := s.giveRefund(p)
	if refused != nil {
		return nil, &v2Error{code: refused.v2, message: refused.v3.message}
	}
	return v2Fields{{"transaction_id", v.TransactionID}, {"out_trade_no", v.OutTradeNo}, {"out_refund_no", v.OutRefundNo}, {"refund_id", v.RefundID}}.
		fen("refund_fee", v.Amount.Refund).fen("total_fee", v.Amount.Total).fen("cash_fee", v.Amount.PayerTotal).
		fen("cash_refund_fee", v.Amount.PayerRefund).fen("coupon_refund_fee", 0).fen("coupon_refund_count", 0), nil
}

// refundQueryV2 is POST /pay/refundquery, by one of four numbers; the fields of each refund end in _0, _1 and so on.
func (s *Sim) refundQueryV2(r v2Request) (v2Fields, *v2Error) {
	f := r.fields
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*refund
	switch {
	case f["out_refund_no"] != "":
		if got := s.refunds[f["out_refund_no"]]; got != nil {
			found = []*refund{got}
		}
	case f["refund_id"] != "":
		for _, got := range s.refunds {
			if got.id == f["refund_id"] {
				found = []*refund{got}
			}
		}
	case f["out_trade_no"] != "" || f["transaction_id"] != "":
		o := s.find(f["out_trade_no"], f["transaction_id"])
		if o == nil {
			return nil, &v2Error{code: "ORDERNOTEXIST", message: "订单不存在"}
		}
		found = o.refunds
	default:
		return nil, v2Fault("缺少参数out_refund_no")
	}
	if len(found) == 0 {
		return nil, &v2Error{code: "REFUNDNOTEXIST", message: "退款订单查询失败"}
	}
	o := found[0].order
	out := v2Fields{{"transaction_id", o.transactionID}, {"out_trade_no", o.outTradeNo}}.
		fen("total_fee", o.total).with("fee_type", "CNY").fen("cash_fee", o.total).fen("refund_count", int64(len(found)))
	for i, got := range found {
		v := s.viewRefund(got)
		for _, field := range v.v2Fields() {
			out = out.with(fmt.Sprintf("%s_%d", field[0], i), field[1])
		}
	}
	return out, nil
}

// v2Fields are what the refund query of Pay v2 tells of one refund, without the index.
func (v refundView) v2Fields() v2Fields {
	f := v2Fields{{"out_refund_no", v.OutRefundNo}, {"refund_id", v.RefundID}, {"refund_channel", "ORIGINAL"}}.
		fen("refund_fee", v.Amount.Refund).with("refund_status", v.v2Status()).with("refund_recv_accout", v.Account)
	if v.v2End != "" {
		f = f.with("refund_success_time", v.v2End)
	}
	return f
}

// v2Status is the status in the words of Pay v2.
func (v refundView) v2Status() string {
	switch v.Status {
	case refundClosed:
		return "REFUNDCLOSE"
	case refundAbnormal:
		return "CHANGE"
	}
	return v.Status
}

// refundNotifyV2 is the body of a v2 refund notify. It has no signature, only req_info.
func (s *Sim) refundNotifyV2(v refundView, form notifyForm) []byte {
	end := v.v2End
	if end == "" {
		end = beijing(s.opts.Now()).Format(time.DateTime)
	}
	plain := v2Fields{{"out_refund_no", v.OutRefundNo}, {"out_trade_no", v.OutTradeNo}, {"refund_account", "REFUND_SOURCE_RECHARGE_FUNDS"}}.
		fen("refund_fee", v.Amount.Refund).with("refund_id", v.RefundID).with("refund_recv_accout", v.Account).
		with("refund_request_source", "API").with("refund_status", v.v2Status()).fen("settlement_refund_fee", v.Amount.SettlementRefund).
		fen("settlement_total_fee", v.Amount.SettlementTotal).with("success_time", end).fen("total_fee", v.Amount.Total).
		with("transaction_id", v.TransactionID).xml("root")
	key := s.opts.V2Key
	if form.forge == "signature" {
		key = random(letters, 32)
	}
	sealed := sealRefundV2(key, plain)
	f := v2Fields{{"return_code", "SUCCESS"}, {"appid", v.appID}, {"mch_id", v.mchID}, {"nonce_str", random(letters, 16)}}
	switch form.forge {
	case "no-sign":
		return f.xml("xml")
	case "body":
		sealed = base64Random(18) + sealed[24:] // still good base64, other bytes
	}
	return f.with("req_info", sealed).xml("xml")
}
