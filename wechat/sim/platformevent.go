package sim

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// platformEvents are the events that the platform itself makes, of the mini-program.
var platformEvents = []string{
	"subscribe_msg_popup_event", "subscribe_msg_change_event", "subscribe_msg_sent_event", "wxa_media_check",
	"trade_manage_remind_access_api", "trade_manage_remind_shipping", "trade_manage_order_settlement",
	"xpay_goods_deliver_notify", "xpay_coin_pay_notify",
}

// accountEvents are what happens in the official account, by the names of the control side and of the platform.
var accountEvents = []string{
	"follow", "unfollow", "click", "view", "scan", "location", "mptext", "TEMPLATESENDJOBFINISH", "MASSSENDJOBFINISH", "PUBLISHJOBFINISH",
	"view_miniprogram", "scancode_push", "scancode_waitmsg", "pic_sysphoto", "pic_photo_or_album", "pic_weixin", "location_select",
}

// platformEvent makes an event of the platform, as a trigger wants it; an honest one also changes what
// WeChat knows. Needs s.mu.
func (s *Sim) platformEvent(u *user, t Trigger, honest bool) (event, error) {
	switch t.Event {
	case "subscribe_msg_popup_event", "subscribe_msg_change_event", "subscribe_msg_sent_event":
		return s.subscribeTrigger(u, t, honest)
	case "wxa_media_check":
		j := mediaJudgement{errcode: t.Code, verdict: verdict{cmp.Or(t.Status, "pass"), 100}}
		if j.Suggest != "pass" {
			j.Label = 20001
		}
		if !slices.Contains([]string{"pass", "review", "risky"}, j.Suggest) {
			return event{}, badRequest("status is pass, review or risky")
		}
		return s.mediaVerdict(cmp.Or(t.TraceID, traceID()), j), nil
	case "trade_manage_remind_access_api":
		return accessEvent(), nil
	case "trade_manage_remind_shipping", "trade_manage_order_settlement":
		return s.tradeTrigger(t, honest)
	}
	return s.virtualEvent(u, t), nil
}

// subscribeTrigger makes one of the three events of subscribe messages.
func (s *Sim) subscribeTrigger(u *user, t Trigger, honest bool) (event, error) {
	if !s.knowsTemplate(t.Template) {
		return event{}, badRequest("template names a template of this mini-program")
	}
	if t.Event == "subscribe_msg_sent_event" {
		return subscribeEvent(t.Event, [][]pushField{{{"TemplateId", t.Template}, {"MsgID", cmp.Or(t.MsgID, strconv.FormatInt(s.opts.Now().UnixNano(), 10))},
			{"ErrorCode", strconv.Itoa(t.Code)}, {"ErrorStatus", cmp.Or(t.Status, "success")}}}), nil
	}
	status := cmp.Or(t.Status, statusAccept)
	if status != statusAccept && status != statusReject {
		return event{}, badRequest("status is accept or reject")
	}
	item := []pushField{{"TemplateId", t.Template}, {"SubscribeStatusString", status}}
	switch {
	case t.Event == "subscribe_msg_popup_event":
		item = append(item, pushField{"PopupScene", cmp.Or(t.Scene, "0")})
		if honest {
			if err := s.grantTemplate(u, t.Template, status); err != nil {
				return event{}, err
			}
		}
	case honest && status == statusReject:
		delete(u.granted, t.Template)
	}
	return subscribeEvent(t.Event, [][]pushField{item}), nil
}

// tradeTrigger tells of an order: that it is not shipped, or that its money comes. The newest fitting one, if none is named.
func (s *Sim) tradeTrigger(t Trigger, honest bool) (event, error) {
	remind := t.Event == "trade_manage_remind_shipping"
	o := s.orders[t.OutTradeNo]
	if t.OutTradeNo == "" {
		for _, one := range slices.Backward(s.line) {
			if state := one.delivery(); !one.paidAt.IsZero() && (remind && state == shipWaiting || !remind && (state == shipSent || state == shipReceived)) {
				o = one
				break
			}
		}
	}
	switch {
	case o == nil || o.paidAt.IsZero():
		return event{}, &controlError{404, "no_order", "no paid order that fits; pay one first, and ship it for a settlement"}
	case remind:
		return s.remindEvent(o), nil
	case o.shipping == nil || !o.shipping.done:
		return event{}, &controlError{409, "not_shipped", "the shop has not uploaded the shipping of this order"}
	}
	how, settled := 1, *o.shipping
	if !settled.receivedAt.IsZero() {
		how = 2
	}
	now := s.opts.Now()
	for _, at := range []*time.Time{&settled.receivedAt, &settled.settledAt} {
		if at.IsZero() {
			*at = now
		}
	}
	if honest {
		*o.shipping = settled
		return s.settlementEvent(o, how), nil
	}
	copied := *o
	copied.shipping = &settled
	return s.settlementEvent(&copied, how), nil
}

// virtualEvent is a purchase of virtual goods or coins.
func (s *Sim) virtualEvent(u *user, t Trigger) event {
	now := s.opts.Now()
	s.lastID = max(s.lastID+1, now.UnixNano())
	price := cmp.Or(t.Amount, 100)
	number := cmp.Or(t.OutTradeNo, "X"+beijing(now).Format("20060102150405")+random(digits, 6))
	goods := []pushField{{"Quantity", 1}, {"OrigPrice", price}, {"ActualPrice", price}, {"Attach", t.Content}}
	part := pushField{"CoinInfo", goods}
	if t.Event == "xpay_goods_deliver_notify" {
		part = pushField{"GoodsInfo", append([]pushField{{"ProductId", cmp.Or(t.Key, "goods-1")}}, goods...)}
	}
	return event{fields: []pushField{{"Event", t.Event}, {"OpenId", u.openid}, {"OutTradeNo", number}, {"Env", 0},
		{"WeChatPayInfo", []pushField{{"MchOrderNo", "M" + number}, {"TransactionId", s.newTransactionID(now)}, {"PaidTime", now.Unix()}}}, part}}
}

// fieldValue turns a value of the control side into one of a push.
func fieldValue(v any, depth int) (any, error) {
	switch v := v.(type) {
	case string, json.Number:
		return v, nil
	case float64:
		return json.Number(strconv.FormatFloat(v, 'f', -1, 64)), nil
	case map[string]any:
		return fieldTree(v, depth+1)
	case []any:
		items := [][]pushField{}
		for _, one := range v {
			object, ok := one.(map[string]any)
			if !ok {
				return nil, badRequest("a list in fields has objects")
			}
			item, err := fieldTree(object, depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	}
	return nil, badRequest("fields are texts, numbers, objects or lists of objects")
}
