package sim

import (
	"net"
	"time"
	"unicode/utf8"
)

const v2Time = "20060102150405" // in Beijing

// unifiedOrder is POST /pay/unifiedorder of a mini-program.
func (s *Sim) unifiedOrder(r v2Request) (v2Fields, *v2Error) {
	p, e := s.readUnifiedOrder(r)
	if e != nil {
		return nil, e
	}
	asked := v2Fields{}.set()
	for name, value := range r.fields {
		if name != "nonce_str" && name != "sign" {
			asked[name] = value
		}
	}
	id, refused := s.placeOrder(p, "v2 "+string(toJSON(asked)))
	if refused != nil {
		return nil, refused.v2()
	}
	return v2Fields{{"trade_type", "JSAPI"}, {"prepay_id", id}}, nil
}

// readUnifiedOrder checks every field.
func (s *Sim) readUnifiedOrder(r v2Request) (prepayParams, *v2Error) {
	f := r.fields
	if e := r.need("body", "out_trade_no", "total_fee", "spbill_create_ip", "notify_url", "trade_type"); e != nil {
		return prepayParams{}, e
	}
	p := prepayParams{description: f["body"], outTradeNo: f["out_trade_no"], attach: f["attach"], notifyURL: f["notify_url"],
		openid: f["openid"], total: r.fen("total_fee"), expireAt: s.opts.Now().Add(orderLife), signType: r.signType}
	switch {
	case f["trade_type"] != "JSAPI":
		return p, v2Fault("trade_type参数有误，应为JSAPI")
	case p.openid == "":
		return p, v2Fault("JSAPI支付必须传openid")
	case utf8.RuneCountInString(p.description) > 127:
		return p, v2Fault("body参数长度有误")
	case !outTradeNoShape.MatchString(p.outTradeNo):
		return p, v2Fault("参数错误:输入的商户订单号有误")
	case p.total == 0:
		return p, v2Fault("total_fee参数格式错误，应为大于0的整数，单位为分")
	case f["fee_type"] != "" && f["fee_type"] != "CNY":
		return p, v2Fault("fee_type参数有误")
	case net.ParseIP(f["spbill_create_ip"]) == nil:
		return p, v2Fault("spbill_create_ip参数格式错误")
	case len(p.notifyURL) > 256 || badNotifyURL(p.notifyURL) != "":
		return p, v2Fault("notify_url参数格式错误")
	case utf8.RuneCountInString(p.attach) > 127:
		return p, v2Fault("attach参数长度有误")
	case f["limit_pay"] != "" && f["limit_pay"] != "no_credit":
		return p, v2Fault("limit_pay参数有误")
	}
	for _, name := range []string{"time_start", "time_expire"} {
		if f[name] == "" {
			continue
		}
		at, err := time.ParseInLocation(v2Time, f[name], beijing(s.opts.Now()).Location())
		if err != nil {
			return p, v2Fault(name + "参数格式错误")
		}
		if name == "time_expire" {
			if at.Before(s.opts.Now().Add(time.Minute)) {
				return p, v2Fault("time_expire时间过短，刷卡至少1分钟")
			}
			p.expireAt = at
		}
	}
	return p, nil
}

// orderQuery is POST /pay/orderquery.
func (s *Sim) orderQuery(r v2Request) (v2Fields, *v2Error) {
	if r.fields["out_trade_no"] == "" && r.fields["transaction_id"] == "" {
		return nil, v2Fault("缺少参数out_trade_no")
	}
	t, e := s.lookUp(r.fields["out_trade_no"], r.fields["transaction_id"])
	if e != nil {
		return nil, e.v2()
	}
	if t.TransactionID == "" {
		return v2Fields{{"out_trade_no", t.OutTradeNo}, {"attach", t.Attach}, {"trade_state", t.TradeState}, {"trade_state_desc", t.TradeStateDesc}}.
			fen("total_fee", t.Amount.Total), nil
	}
	return append(t.v2Fields(), [2]string{"trade_state", t.TradeState}, [2]string{"trade_state_desc", t.TradeStateDesc}), nil
}

// closeOrderV2 is POST /pay/closeorder. Unlike API v3 it refuses a second closing.
func (s *Sim) closeOrderV2(r v2Request) (v2Fields, *v2Error) {
	if e := r.need("out_trade_no"); e != nil {
		return nil, e
	}
	already, e := s.shut(r.fields["out_trade_no"])
	switch {
	case e != nil:
		return nil, e.v2()
	case already:
		return nil, &v2Error{code: "ORDERCLOSED", message: "订单已关闭"}
	}
	return v2Fields{{"result_msg", "OK"}}, nil
}

// v2Fields are what query and notify of Pay v2 tell of a payment.
func (t transaction) v2Fields() v2Fields {
	f := v2Fields{{"device_info", ""}, {"openid", t.Payer.Openid}, {"is_subscribe", "N"}, {"trade_type", t.TradeType}, {"bank_type", t.BankType}}
	f = f.fen("total_fee", t.Amount.Total).fen("settlement_total_fee", t.Amount.Total).with("fee_type", t.Amount.Currency)
	f = f.fen("cash_fee", t.Amount.PayerTotal).with("cash_fee_type", t.Amount.Currency)
	return f.with("transaction_id", t.TransactionID).with("out_trade_no", t.OutTradeNo).with("attach", t.Attach).with("time_end", t.v2End)
}

// notifyV2 is the body of a v2 payment notify, signed with the order's algorithm.
func (s *Sim) notifyV2(t transaction, form notifyForm) []byte {
	f := append(v2Fields{{"return_code", "SUCCESS"}, {"return_msg", "OK"}, {"appid", t.AppID}, {"mch_id", t.MchID},
		{"nonce_str", random(letters, 32)}, {"result_code", "SUCCESS"}}, t.v2Fields()...)
	if t.signType == signHMAC {
		f = f.with("sign_type", signHMAC)
	}
	f = f.signed(t.signType, s.opts.V2Key)
	switch form.forge {
	case "signature":
		f[len(f)-1][1] = random(upperHex, len(f[len(f)-1][1]))
	case "no-sign":
		f = f[:len(f)-1]
	case "body":
		f = f.with("forged", "true") // a field that the signature does not know
	}
	return f.xml("xml")
}
