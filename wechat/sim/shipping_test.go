package sim

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func shippingOf(openid, no string) object {
	return object{"order_key": object{"order_number_type": 1, "mchid": credentials().MchID, "out_trade_no": no}, "logistics_type": 3, "delivery_mode": 1,
		"shipping_list": []object{{"item_desc": "小猫杯"}}, "upload_time": "2026-01-15T18:40:00.120+08:00", "payer": object{"openid": openid}}
}

const shipPath = "/wxa/sec/order/upload_shipping_info"

func TestShipping(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.PushMode = "plain"; o.TimeScale = 1000 })
	w.paidV3("T0000001")
	openid, token := w.openid("alice"), w.miniToken()
	appID := credentials().AppID
	ship := func(pairs ...any) object {
		return w.asked(shipPath, token, with(shippingOf(openid, "T0000001"), pairs...))
	}
	state := func() int {
		got := w.asked("/wxa/sec/order/get_order", token, object{"merchant_id": credentials().MchID, "merchant_trade_no": "T0000001"})
		order, _ := got["order"].(map[string]any)
		return object(order).number("order_state")
	}
	if got := w.asked("/wxa/sec/order/is_trade_managed", token, object{"appid": appID}); got["is_trade_managed"] != true {
		t.Errorf("managed: %v", got)
	}
	if got := w.asked("/wxa/sec/order/is_trade_management_confirmation_completed", token, object{"appid": appID}); got["completed"] != true {
		t.Errorf("completed: %v", got)
	}
	want(t, "managed, without a body", parse(t, w.request("POST", "/wxa/sec/order/is_trade_managed?access_token="+token, "").Body.Bytes()), 40097)
	want(t, "managed, another appid", w.asked("/wxa/sec/order/is_trade_managed", token, object{"appid": "wx1"}), 40013)

	want(t, "right after the payment", ship(), 10060001)
	w.clock.move(orderKnownAfter)
	if got := state(); got != shipWaiting {
		t.Errorf("order_state %d", got)
	}
	parcel := object{"tracking_no": "SF1", "express_company": "SF", "item_desc": "杯", "contact": object{"receiver_contact": "138****0000"}}
	for name, c := range map[string]struct {
		pairs []any
		want  int
	}{
		"no key":              {[]any{"order_key", nil}, 47001},
		"unknown number type": {[]any{"order_key", object{"order_number_type": 3}}, 10060014},
		"other merchant":      {[]any{"order_key", object{"order_number_type": 1, "mchid": "1", "out_trade_no": "T0000001"}}, 10060001},
		"unknown order":       {[]any{"order_key", object{"order_number_type": 2, "transaction_id": "4200"}}, 10060001},
		"logistics":           {[]any{"logistics_type", 5}, 10060005},
		"mode":                {[]any{"delivery_mode", 3}, 268485224},
		"split virtual":       {[]any{"delivery_mode", 2, "is_all_delivered", true}, 10060006},
		"split without all":   {[]any{"delivery_mode", 2, "logistics_type", 1, "shipping_list", []object{parcel}}, 10060007},
		"list as object":      {[]any{"shipping_list", object{"item_desc": "a"}}, 47001},
		"empty list":          {[]any{"shipping_list", []object{}}, 47001},
		"two of one":          {[]any{"shipping_list", []object{{"item_desc": "a"}, {"item_desc": "b"}}}, 10060024},
		"no description":      {[]any{"shipping_list", []object{{"item_desc": ""}}}, 10060008},
		"long description":    {[]any{"shipping_list", []object{{"item_desc": strings.Repeat("长", 121)}}}, 10060009},
		"express bare":        {[]any{"logistics_type", 1}, 10060014},
		"SF without contact":  {[]any{"logistics_type", 1, "shipping_list", []object{{"tracking_no": "SF1", "express_company": "SF", "item_desc": "杯"}}}, 10060014},
		"time without zone":   {[]any{"upload_time", "2026-01-15T18:40:00"}, 268485216},
		"time missing":        {[]any{"upload_time", nil}, 47001},
		"somebody else":       {[]any{"payer", object{"openid": w.openid("bob")}}, 10060031},
		"misplaced openid":    {[]any{"payer", nil, "openid", openid}, 47001},
	} {
		t.Run(name, func(t *testing.T) { want(t, name, ship(c.pairs...), c.want) })
	}

	want(t, "shipped", ship(), 0)
	w.idle()
	if e := w.lastEvent(t); e["Event"] != "trade_manage_order_settlement" || e["estimated_settlement_time"] == nil || e["merchant_trade_no"] != "T0000001" || e["settlement_time"] != nil {
		t.Errorf("first settlement event: %v", e)
	}
	want(t, "the same again", ship(), 10060023)
	want(t, "an earlier time", ship("upload_time", "2026-01-15T18:39:00+08:00", "shipping_list", []object{{"item_desc": "b"}}), 268485216)
	want(t, "the one new chance", ship("upload_time", "2026-01-15T18:41:00+08:00", "shipping_list", []object{{"item_desc": "b"}}), 0)
	want(t, "a third time", ship("upload_time", "2026-01-15T18:42:00+08:00", "shipping_list", []object{{"item_desc": "c"}}), 10060003)
	if got := state(); got != shipSent {
		t.Errorf("order_state %d", got)
	}
	want(t, "reminder of virtual goods", w.asked("/wxa/sec/order/notify_confirm_receive", token, object{"merchant_id": credentials().MchID, "merchant_trade_no": "T0000001", "received_time": 1}), 10060004)
	w.control("/sim/receive", object{"user": "alice", "outTradeNo": "T0000001"})
	w.idle()
	if e := w.lastEvent(t); e["confirm_receive_method"] != float64(2) || e["settlement_time"] == nil || state() != shipDone {
		t.Errorf("second settlement event: %v, state %d", e, state())
	}
	want(t, "after the settlement", ship("upload_time", "2026-01-15T18:50:00+08:00", "shipping_list", []object{{"item_desc": "d"}}), 10060004)
}

func TestShipping_splitAndOthers(t *testing.T) {
	w := newWorld(t, fast)
	w.paidV3("T0000001")
	w.paidV3("T0000002")
	w.clock.move(time.Minute)
	openid, token := w.openid("alice"), w.miniToken()
	split := func(at, tracking string, all bool) object {
		return w.asked(shipPath, token, with(shippingOf(openid, "T0000001"), "logistics_type", 1, "delivery_mode", 2, "is_all_delivered", all, "upload_time", at,
			"shipping_list", []object{{"tracking_no": tracking, "express_company": "YTO", "item_desc": "杯"}}))
	}
	want(t, "first parcel", split("2026-01-15T18:40:00+08:00", "1", false), 0)
	want(t, "second parcel", split("2026-01-15T18:41:00+08:00", "2", true), 0)
	list := w.asked("/wxa/sec/order/get_order_list", token, object{"page_size": 1})
	if list["has_more"] != true || len(list["order_list"].([]any)) != 1 {
		t.Errorf("first page: %v", list)
	}
	list = w.asked("/wxa/sec/order/get_order_list", token, object{"page_size": 1, "last_index": list["last_index"]})
	shipping := list["order_list"].([]any)[0].(map[string]any)["shipping"].(map[string]any)
	if list["has_more"] != false || len(shipping["shipping_list"].([]any)) != 2 || shipping["finish_shipping"] != true {
		t.Errorf("second page: %v", list)
	}
	remind := object{"merchant_id": credentials().MchID, "merchant_trade_no": "T0000001", "received_time": 1}
	want(t, "reminder", w.asked("/wxa/sec/order/notify_confirm_receive", token, remind), 0)
	want(t, "second reminder", w.asked("/wxa/sec/order/notify_confirm_receive", token, remind), 10060004)
	want(t, "special", w.asked("/wxa/sec/order/opspecialorder", token, object{"order_id": "T0000002", "type": 1, "delay_to": 1800000000}), 0)
	want(t, "special of none", w.asked("/wxa/sec/order/opspecialorder", token, object{"order_id": "none", "type": 2}), 10060001)
	want(t, "path", w.asked("/wxa/sec/order/set_msg_jump_path", token, object{"path": "pages/order?id=${商品订单号}"}), 0)
	want(t, "no path", w.asked("/wxa/sec/order/set_msg_jump_path", token, object{}), 47001)
	if got := w.asked("/wxa/sec/order/is_trade_managed", w.miniToken(), object{"appid": credentials().AppID}); got["is_trade_managed"] != true {
		t.Error(got)
	}
	w.control("/sim/setting", object{"tradeManaged": false})
	if got := w.asked("/wxa/sec/order/is_trade_managed", w.miniToken(), object{"appid": credentials().AppID}); got["is_trade_managed"] != false {
		t.Error(got)
	}
}

// A shop that does not ship is reminded of each order once, and daily that it does not use shipping at all.
func TestShipping_reminders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) {
			o.PushMode, o.Reminders, o.Now = "plain", true, time.Now
		})
		w.clock.at = time.Now()
		w.paidV3("T0000001")
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		seen := map[string]int{}
		for _, v := range w.state()["pushes"].([]any) {
			seen[object(v.(map[string]any)).text("type")]++
		}
		if fmt.Sprint(seen) != "map[trade_manage_remind_access_api:2 trade_manage_remind_shipping:1]" {
			t.Errorf("reminders in 50 h: %v", seen)
		}
		w.sim.Close()
	})
}
