package wechat

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	opTradeManaged   = "is_trade_managed"
	opTradeConfirmed = "is_trade_management_confirmation_completed"
	opShip           = "upload_shipping_info"
	opShipped        = "get_order"
	opRemindReceipt  = "notify_confirm_receive"
	opSpecialOrder   = "opspecialorder"
	opShippingPath   = "set_msg_jump_path"

	managedLife = 24 * time.Hour // of the answer whether an app's trade is managed
	maxParcels  = 15
	maxItem     = 120 // characters
)

// Logistics is how goods reach their buyer.
type Logistics int

const (
	ShipExpress Logistics = 1
	ShipCity    Logistics = 2 // a courier in town
	ShipVirtual Logistics = 3 // nothing travels
	ShipPickUp  Logistics = 4
)

// A Parcel is what is shipped, or a part of it.
type Parcel struct {
	Item             string // what is in it; cut to 120 characters
	TrackingNo       string // with Company; both for ShipExpress, neither for all else
	Company          string // WeChat's code of the carrier: SF, ZTO …
	ReceiverContact  string // masked phone number of the receiver; SF wants one of the two
	ConsignorContact string // masked phone number of the shop
}

// A Shipment tells WeChat that an order is on its way. Without it the money of a managed app stays frozen.
type Shipment struct {
	TransactionID string // of the payment; or else both of the following
	MchID         string
	OutTradeNo    string
	OpenID        string // of the payer
	Logistics     Logistics
	Split         bool // in several parcels; by express alone
	Complete      bool // when Split: these are the last ones
	Parcels       []Parcel
	At            time.Time // of the shipping; later than the last upload for this order
}

// check says what WeChat would refuse in s, before any call. Error: *Error, which Is ErrRequest.
func (s Shipment) check() error {
	complaint := ""
	switch {
	case s.TransactionID == "" && (!digits.MatchString(s.MchID) || !tradeNo.MatchString(s.OutTradeNo)),
		s.TransactionID != "" && !digits.MatchString(s.TransactionID):
		complaint = "an order is named by its transaction id, or by merchant and order number"
	case s.OpenID == "" || len(s.OpenID) > maxID:
		complaint = "the payer's openid is missing"
	case s.Logistics < ShipExpress || s.Logistics > ShipPickUp:
		complaint = "logistics must be 1 to 4"
	case s.Split && s.Logistics != ShipExpress:
		complaint = "only express is split into parcels"
	case len(s.Parcels) < 1 || len(s.Parcels) > maxParcels || !s.Split && len(s.Parcels) > 1:
		complaint = "there must be one parcel, or 1 to 15 when split"
	case s.At.IsZero():
		complaint = "the time of shipping is missing"
	}
	for _, p := range s.Parcels {
		express := s.Logistics == ShipExpress
		switch {
		case complaint != "":
		case oneLine(p.Item) == "" || !utf8.ValidString(p.Item):
			complaint = "a parcel needs a description of what is in it"
		case express && (p.TrackingNo == "" || p.Company == ""), !express && (p.TrackingNo != "" || p.Company != ""):
			complaint = "express needs a tracking number and a carrier, all else neither"
		case len(p.TrackingNo) > 128 || len(p.Company) > 128 || len(p.ReceiverContact) > 1024 || len(p.ConsignorContact) > 1024:
			complaint = "a parcel's field is too long"
		case p.Company == "SF" && p.ReceiverContact == "" && p.ConsignorContact == "":
			complaint = "SF wants the masked phone number of receiver or sender"
		}
	}
	return complain(opShip, complaint)
}

type shipKey struct {
	Kind          int    `json:"order_number_type"` // 1: merchant and order number, 2: transaction id
	TransactionID string `json:"transaction_id,omitempty"`
	MchID         string `json:"mchid,omitempty"`
	OutTradeNo    string `json:"out_trade_no,omitempty"`
}

type shipContact struct {
	Consignor string `json:"consignor_contact,omitempty"`
	Receiver  string `json:"receiver_contact,omitempty"`
}

type shipParcel struct {
	TrackingNo string       `json:"tracking_no,omitempty"`
	Company    string       `json:"express_company,omitempty"`
	Item       string       `json:"item_desc"`
	Contact    *shipContact `json:"contact,omitempty"`
}

// UploadShipping tells WeChat that an order was shipped (wxa/sec/order/upload_shipping_info). The same shipment
// again is no error (10060023). Right after a payment's notify WeChat's shipping service may not know the order:
// then the error Is ErrNotYet and AdviceOf says Retry.
// Errors: *Error, which Is ErrNotYet, ErrOpenID (10060031: somebody else paid), ErrTooOften, ErrBusy, ErrToken,
// ErrConfig, ErrNonsense or ErrRequest (10060002 to 10060004: its state does not allow it).
func (c *Client) UploadShipping(ctx context.Context, s Shipment) error {
	if err := s.check(); err != nil {
		return err
	}
	key := shipKey{Kind: 2, TransactionID: s.TransactionID}
	if s.TransactionID == "" {
		key = shipKey{Kind: 1, MchID: s.MchID, OutTradeNo: s.OutTradeNo}
	}
	mode, complete := 1, (*bool)(nil)
	if s.Split {
		mode, complete = 2, &s.Complete
	}
	list := make([]shipParcel, len(s.Parcels))
	for i, p := range s.Parcels {
		list[i] = shipParcel{TrackingNo: p.TrackingNo, Company: p.Company, Item: cutRunes(oneLine(p.Item), maxItem)}
		if p.ReceiverContact != "" || p.ConsignorContact != "" {
			list[i].Contact = &shipContact{p.ConsignorContact, p.ReceiverContact}
		}
	}
	type payer struct {
		OpenID string `json:"openid"`
	}
	err := c.post(ctx, opShip, "/wxa/sec/order/upload_shipping_info", struct {
		Key       shipKey      `json:"order_key"`
		Logistics Logistics    `json:"logistics_type"`
		Mode      int          `json:"delivery_mode"` // 1: in one, 2: in several
		Complete  *bool        `json:"is_all_delivered,omitempty"`
		List      []shipParcel `json:"shipping_list"`
		At        string       `json:"upload_time"`
		Payer     payer        `json:"payer"`
	}{key, s.Logistics, mode, complete, list, s.At.In(beijing).Format("2006-01-02T15:04:05.000Z07:00"), payer{s.OpenID}}, nil, s.OpenID)
	var e *Error
	if errors.As(err, &e) {
		switch e.Code {
		case 10060023:
			return nil
		case 10060031:
			e.Kind = ErrOpenID
		}
	}
	return err
}

// TradeManaged tells whether WeChat holds this app's money until shipping is uploaded (wxa/sec/order/
// is_trade_managed). It asks once and keeps the answer for 24 hours, in Options.Tokens. Errors: *Error, which Is
// ErrTooOften, ErrBusy, ErrToken, ErrConfig, ErrNonsense or ErrRequest.
func (c *Client) TradeManaged(ctx context.Context) (bool, error) {
	name := "trade_managed:" + c.appID
	if known, err := strconv.ParseBool(recall(ctx, c.line, c.shelf, name)); err == nil {
		return known, nil
	}
	ch := c.questions.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.timeout)
		defer cancel()
		managed, err := c.ask(ctx, opTradeManaged, "is_trade_managed")
		if err == nil {
			keep(ctx, c.line, c.shelf, name, strconv.FormatBool(managed), c.now().Add(managedLife))
		}
		return managed, err
	})
	select {
	case r := <-ch:
		return r.Val.(bool), r.Err
	case <-ctx.Done():
		return false, &Error{Op: opTradeManaged, Kind: ErrBusy, Err: ctx.Err()}
	}
}

// TradeConfirmed tells whether an admin of the app has agreed to what managed trade means. Errors: TradeManaged's.
func (c *Client) TradeConfirmed(ctx context.Context) (bool, error) {
	return c.ask(ctx, opTradeConfirmed, "completed")
}

// ask is a question about the app that has one answer, in the field called name.
func (c *Client) ask(ctx context.Context, op, name string) (bool, error) {
	var got map[string]any
	err := c.post(ctx, op, "/wxa/sec/order/"+op, struct {
		AppID string `json:"appid"`
	}{c.appID}, &got)
	if err != nil {
		return false, err
	}
	yes, ok := got[name].(bool)
	if !ok {
		return false, &Error{Op: op, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without an answer"}
	}
	return yes, nil
}

// What an order is in, for WeChat's shipping service.
const (
	ShipStateWaiting   = 1 // to be shipped
	ShipStateShipped   = 2
	ShipStateReceived  = 3 // the buyer said so, or time did
	ShipStateDone      = 4
	ShipStateRefunded  = 5
	ShipStateUnsettled = 6 // the money is on its way
)

// A ShippedOrder is an order as WeChat's shipping service knows it.
type ShippedOrder struct {
	TransactionID, OutTradeNo, OpenID string
	State                             int // ShipStateWaiting …
	PaidFen                           int64
}

// ShippedOrder asks for an order of the payment with that transaction id (wxa/sec/order/get_order). Errors:
// UploadShipping's.
func (c *Client) ShippedOrder(ctx context.Context, transactionID string) (ShippedOrder, error) {
	if !digits.MatchString(transactionID) {
		return ShippedOrder{}, complain(opShipped, "transaction_id must be WeChat Pay's number of the payment")
	}
	var got struct {
		Order struct {
			TransactionID string `json:"transaction_id"`
			OutTradeNo    string `json:"merchant_trade_no"`
			OpenID        string `json:"openid"`
			State         int    `json:"order_state"`
			Paid          int64  `json:"paid_amount"`
		} `json:"order"`
	}
	err := c.post(ctx, opShipped, "/wxa/sec/order/get_order", struct {
		TransactionID string `json:"transaction_id"`
	}{transactionID}, &got)
	o := got.Order
	switch {
	case err != nil:
		return ShippedOrder{}, err
	case o.TransactionID != transactionID || o.State < ShipStateWaiting || o.State > ShipStateUnsettled:
		return ShippedOrder{}, &Error{Op: opShipped, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without that order"}
	}
	return ShippedOrder{TransactionID: o.TransactionID, OutTradeNo: o.OutTradeNo, OpenID: o.OpenID, State: o.State, PaidFen: o.Paid}, nil
}

// RemindReceipt lets WeChat ask the buyer to confirm what they received at that time (notify_confirm_receive):
// once for an order, and for express alone. Errors: UploadShipping's.
func (c *Client) RemindReceipt(ctx context.Context, transactionID string, receivedAt time.Time) error {
	if !digits.MatchString(transactionID) || receivedAt.IsZero() {
		return complain(opRemindReceipt, "the payment's transaction id or the time is missing")
	}
	return c.post(ctx, opRemindReceipt, "/wxa/sec/order/notify_confirm_receive", struct {
		TransactionID string `json:"transaction_id"`
		At            int64  `json:"received_time"`
	}{transactionID, receivedAt.Unix()}, nil)
}

// Kinds of SpecialOrder.
const (
	SpecialPresale = 1 // shipped later than the rule allows
	SpecialTest    = 2 // nobody's
)

// SpecialOrder marks an order as presale, to be shipped until delayTo, or as a test (opspecialorder). Errors:
// UploadShipping's.
func (c *Client) SpecialOrder(ctx context.Context, transactionID string, kind int, delayTo time.Time) error {
	if !digits.MatchString(transactionID) || kind != SpecialPresale && kind != SpecialTest || kind == SpecialPresale && delayTo.IsZero() {
		return complain(opSpecialOrder, "a transaction id, presale with a time, or test")
	}
	in := struct {
		OrderID string `json:"order_id"`
		Kind    int    `json:"type"`
		DelayTo int64  `json:"delay_to,omitempty"`
	}{OrderID: transactionID, Kind: kind}
	if kind == SpecialPresale {
		in.DelayTo = delayTo.Unix()
	}
	return c.post(ctx, opSpecialOrder, "/wxa/sec/order/opspecialorder", in, nil)
}

// SetShippingPath is the page that WeChat's messages about shipping open (set_msg_jump_path). Errors: UploadShipping's.
func (c *Client) SetShippingPath(ctx context.Context, path string) error {
	if err := (PathCode{Path: path}).Check(); err != nil {
		return complain(opShippingPath, "path must be a page's path with or without a query")
	}
	return c.post(ctx, opShippingPath, "/wxa/sec/order/set_msg_jump_path", struct {
		Path string `json:"path"`
	}{path}, nil)
}
