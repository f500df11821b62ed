package sim

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// shipment is what the shop told of the delivery of one order. Guarded by Sim.mu.
type shipment struct {
	logistics  int64
	split      bool
	done       bool // everything is on its way
	again      bool // the one chance to ship anew is used
	parcels    []parcel
	asked      string // canonical content, to tell a repeat from a change
	uploadedAt time.Time
	shippedAt  time.Time // when everything was on its way
	receivedAt time.Time
	settledAt  time.Time
	told       bool // the shop asked the buyer to confirm
}

type parcel struct {
	TrackingNo string `json:"tracking_no"`
	Company    string `json:"express_company"`
	Item       string `json:"goods_desc"`
	UploadedAt int64  `json:"upload_time"` // s
}

// What an order's order_state is.
const (
	shipWaiting  = 1
	shipSent     = 2
	shipReceived = 3
	shipDone     = 4
	shipRefunded = 5
)

const (
	logisticsExpress = 1
	maxParcels       = 15
	maxItem          = 120             // characters of item_desc
	orderKnownAfter  = 3 * time.Second // shipping learns of a payment so late, in the simulator's time
	settlesAfter     = 2 * time.Second // from the buyer's receipt, in the simulator's time
	remindAfter      = 48 * time.Hour  // without shipping
	expectedReceipt  = 10 * 24 * time.Hour
)

// delivery is the order_state of a paid order.
func (o *order) delivery() int {
	given := int64(0)
	for _, r := range o.refunds {
		if r.status == refundSuccess {
			given += r.fee
		}
	}
	switch {
	case given >= o.total:
		return shipRefunded
	case o.shipping == nil || !o.shipping.done:
		return shipWaiting
	case !o.shipping.settledAt.IsZero():
		return shipDone
	case !o.shipping.receivedAt.IsZero():
		return shipReceived
	}
	return shipSent
}

// tradeManaged is POST /wxa/sec/order/is_trade_managed and …/is_trade_management_confirmation_completed.
func (s *Sim) tradeManaged(field string) func(apiCall) (any, *apiError) {
	return func(c apiCall) (any, *apiError) {
		f, err := parseFields(c.body)
		if err != nil || f.text("appid", true, 32) == "" {
			return nil, apiErr(40097, "invalid args")
		}
		if f.text("appid", true, 32) != s.mini.appID {
			return nil, apiErr(40013, "invalid appid")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return map[string]any{"errcode": 0, "errmsg": "ok", field: s.managed}, nil
	}
}

// shippedOrder finds the paid order that order_key, or the fields of a query, name. Needs s.mu.
func (s *Sim) shippedOrder(outTradeNo, mchID, transactionID string) (*order, *apiError) {
	o := s.find(outTradeNo, transactionID)
	switch {
	case transactionID == "" && mchID != s.opts.MchID, o == nil, o.paidAt.IsZero(),
		s.opts.Now().Sub(o.paidAt) < s.scaled(orderKnownAfter):
		return nil, apiErr(10060001, "支付单不存在")
	}
	return o, nil
}

// shippingUpload is a read body of upload_shipping_info.
type shippingUpload struct {
	outTradeNo, mchID, transactionID string
	logistics, mode                  int64
	allSent                          bool
	parcels                          []parcel
	at                               time.Time
	openid                           string
	asked                            string
}

// uploadShipping is POST /wxa/sec/order/upload_shipping_info.
func (s *Sim) uploadShipping(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil || needlessEscape(c.body) != "" {
		return nil, errFormat
	}
	u, e := readShipping(f)
	if e != nil {
		return nil, e
	}
	s.mu.Lock()
	o, first, e := s.ship(u)
	var payer *user
	var told event
	if e == nil && first {
		payer, told = s.byOpenid(o.openid), s.settlementEvent(o, 0)
	}
	s.mu.Unlock()
	if e != nil {
		return nil, e
	}
	s.tell(s.mini, payer, tellAfter, told)
	return apiError{0, "ok"}, nil
}

// readShipping checks every field of the body.
func readShipping(f *fields) (u shippingUpload, e *apiError) {
	key := f.object("order_key", true)
	kind := key.integer("order_number_type", 1)
	switch kind {
	case 1:
		u.mchID, u.outTradeNo = key.text("mchid", true, 32), key.text("out_trade_no", true, 32)
	case 2:
		u.transactionID = key.text("transaction_id", true, 64)
	}
	u.logistics, u.mode = f.integer("logistics_type", 1), f.integer("delivery_mode", 1)
	u.allSent = f.truth("is_all_delivered") || u.mode == 1
	list := f.list("shipping_list", 1)
	sf := false
	for _, one := range list {
		p := parcel{TrackingNo: one.text("tracking_no", false, 128), Company: one.text("express_company", false, 128), Item: one.text("item_desc", false, maxBody)}
		contact := one.object("contact", false)
		contact.text("consignor_contact", false, 1024)
		contact.text("receiver_contact", false, 1024)
		sf = sf || p.Company == "SF" && !contact.seen
		u.parcels = append(u.parcels, p)
	}
	stamp := f.text("upload_time", true, 64)
	u.openid = f.object("payer", true).text("openid", true, 128)
	if bad := f.fault(); bad != nil {
		return u, apiErr(47001, "data format error: "+bad.path)
	}
	var err error
	u.at, err = time.Parse(time.RFC3339, stamp)
	u.asked = string(toJSON([]any{u.logistics, u.mode, u.allSent, u.parcels}))
	return u, u.bad(kind, err != nil, sf, f.has("is_all_delivered"))
}

// bad holds the fields to the rules among them.
func (u shippingUpload) bad(kind int64, badTime, noContact, saysAll bool) *apiError {
	switch {
	case kind > 2:
		return apiErr(10060014, "参数错误: order_number_type")
	case badTime:
		return apiErr(268485216, "上传时间非法，请使用 RFC 3339 格式")
	case u.logistics > 4:
		return apiErr(10060005, "物流类型有误")
	case u.mode > 2:
		return apiErr(268485224, "发货模式非法")
	case u.mode == 2 && u.logistics != logisticsExpress:
		return apiErr(10060006, "非快递发货时不允许分拆发货")
	case u.mode == 2 && !saysAll:
		return apiErr(10060007, "分拆发货模式下必须填写 is_all_delivered")
	case len(u.parcels) > maxParcels || u.mode == 1 && len(u.parcels) != 1:
		return apiErr(10060024, "物流信息列表太长")
	case noContact:
		return apiErr(10060014, "参数错误: contact")
	}
	for _, p := range u.parcels {
		switch {
		case strings.TrimSpace(p.Item) == "":
			return apiErr(10060008, "商品描述不能为空")
		case utf8.RuneCountInString(p.Item) > maxItem:
			return apiErr(10060009, "商品描述 item_desc 字段不能太长")
		case u.logistics == logisticsExpress && (p.TrackingNo == "" || p.Company == ""):
			return apiErr(10060014, "参数错误: tracking_no, express_company")
		}
	}
	return nil
}

// ship takes an upload. It reports whether everything is on its way for the first time. Needs s.mu.
func (s *Sim) ship(u shippingUpload) (o *order, first bool, e *apiError) {
	o, e = s.shippedOrder(u.outTradeNo, u.mchID, u.transactionID)
	if e != nil {
		return nil, false, e
	}
	if o.openid != u.openid {
		return nil, false, apiErr(10060031, "该笔支付单不属于 openid 所指定的用户")
	}
	now := s.opts.Now()
	was := o.shipping
	switch {
	case o.delivery() == shipRefunded || o.delivery() == shipDone:
		return nil, false, apiErr(10060004, "支付单处于不可发货的状态")
	case was == nil:
		was = &shipment{}
		o.shipping = was
	case was.asked == u.asked:
		return nil, false, apiErr(10060023, "发货信息未更新")
	case was.done && was.again:
		return nil, false, apiErr(10060003, "支付单已使用重新发货机会")
	case was.done && !was.receivedAt.IsZero():
		return nil, false, apiErr(10060002, "支付单已完成发货，无法继续发货")
	case !u.at.After(was.uploadedAt):
		return nil, false, apiErr(268485216, "上传时间非法，须晚于上次上传")
	case was.done:
		was.again, was.parcels = true, nil
	}
	for i := range u.parcels {
		u.parcels[i].UploadedAt = u.at.Unix()
	}
	first = !was.done && u.allSent
	was.logistics, was.split, was.asked, was.uploadedAt = u.logistics, u.mode == 2, u.asked, u.at
	was.parcels = append(was.parcels, u.parcels...)
	if len(was.parcels) > maxParcels {
		was.parcels = was.parcels[len(was.parcels)-maxParcels:]
	}
	if u.allSent {
		was.done, was.shippedAt = true, now
	}
	return o, first, nil
}

// shippingView is an order as get_order shows it.
func (s *Sim) shippingView(o *order) map[string]any {
	shipping := map[string]any{"delivery_mode": 1, "logistics_type": 0, "finish_shipping": false, "goods_desc": "", "finish_shipping_count": 0, "shipping_list": []parcel{}}
	if w := o.shipping; w != nil {
		mode, times := 1, 0
		if w.split {
			mode = 2
		}
		if w.done {
			times = 1
		}
		if w.again {
			times = 2
		}
		items := []string{}
		for _, p := range w.parcels {
			items = append(items, p.Item)
		}
		shipping = map[string]any{"delivery_mode": mode, "logistics_type": w.logistics, "finish_shipping": w.done, "goods_desc": strings.Join(items, ";"),
			"finish_shipping_count": times, "shipping_list": w.parcels}
	}
	return map[string]any{"transaction_id": o.transactionID, "merchant_id": s.opts.MchID, "sub_merchant_id": "", "merchant_trade_no": o.outTradeNo,
		"description": o.description, "paid_amount": o.total, "openid": o.openid, "trade_create_time": o.madeAt.Unix(), "pay_time": o.paidAt.Unix(),
		"order_state": o.delivery(), "in_complaint": false, "shipping": shipping}
}

// getShipping is POST /wxa/sec/order/get_order.
func (s *Sim) getShipping(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	id, mch, no := f.text("transaction_id", false, 64), f.text("merchant_id", false, 32), f.text("merchant_trade_no", false, 32)
	if f.fault() != nil || id == "" && no == "" {
		return nil, apiErr(47001, "data format error")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, e := s.shippedOrder(no, mch, id)
	if e != nil {
		return nil, e
	}
	return map[string]any{"errcode": 0, "errmsg": "ok", "order": s.shippingView(o)}, nil
}

// listShipping is POST /wxa/sec/order/get_order_list: newest first, a page after last_index.
func (s *Sim) listShipping(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	openid, last := f.text("openid", false, 128), f.text("last_index", false, 64)
	state, size := int64(0), int64(100)
	if f.has("order_state") {
		state = f.integer("order_state", 1)
	}
	if f.has("page_size") {
		size = f.integer("page_size", 1)
	}
	span := f.object("pay_time_range", false)
	from, until := int64(0), int64(1<<62)
	if span.has("begin_time") {
		from = span.integer("begin_time", 0)
	}
	if span.has("end_time") {
		until = span.integer("end_time", 0)
	}
	if f.fault() != nil || size > 100 {
		return nil, errFormat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, reached, more := []map[string]any{}, last == "", false
	for _, o := range slices.Backward(s.line) {
		switch {
		case !reached:
			reached = o.transactionID == last
		case o.paidAt.IsZero() || openid != "" && o.openid != openid || state != 0 && int64(o.delivery()) != state || o.paidAt.Unix() < from || o.paidAt.Unix() > until:
		case int64(len(list)) == size:
			more = true
		default:
			list = append(list, s.shippingView(o))
			last = o.transactionID
		}
		if more {
			break
		}
	}
	return map[string]any{"errcode": 0, "errmsg": "ok", "last_index": last, "has_more": more, "order_list": list}, nil
}

// remindReceipt is POST /wxa/sec/order/notify_confirm_receive: once per order, of express only.
func (s *Sim) remindReceipt(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	id, mch, no := f.text("transaction_id", false, 64), f.text("merchant_id", false, 32), f.text("merchant_trade_no", false, 32)
	f.integer("received_time", 1)
	if f.fault() != nil || id == "" && no == "" {
		return nil, errFormat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, e := s.shippedOrder(no, mch, id)
	switch {
	case e != nil:
		return nil, e
	case o.delivery() != shipSent || o.shipping.logistics != logisticsExpress || o.shipping.told:
		return nil, apiErr(10060004, "支付单处于不可操作的状态")
	}
	o.shipping.told = true
	return apiError{0, "ok"}, nil
}

// specialOrder is POST /wxa/sec/order/opspecialorder: 1 a presale (delay_to), 2 an order of a test.
func (s *Sim) specialOrder(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	id, kind := f.text("order_id", true, 64), f.integer("type", 1)
	if kind == 1 {
		f.integer("delay_to", 1)
	}
	if f.fault() != nil || kind > 2 {
		return nil, errFormat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.find("", id)
	if o == nil {
		o = s.orders[id]
	}
	if o == nil || o.paidAt.IsZero() {
		return nil, apiErr(10060001, "支付单不存在")
	}
	o.reminded = true // neither is late any more
	return apiError{0, "ok"}, nil
}

// jumpPath is POST /wxa/sec/order/set_msg_jump_path.
func (s *Sim) jumpPath(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil || f.text("path", true, 1024) == "" {
		return nil, errFormat
	}
	return apiError{0, "ok"}, nil
}
