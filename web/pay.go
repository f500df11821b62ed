package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

const (
	payWait      = 8 * time.Second             // for WeChat Pay, which commonly takes a third of a second
	prepayLife   = 2*time.Hour - 5*time.Minute // WeChat says two hours; a person needs some minutes on the pay sheet
	noticeRoom   = "notice"                    // where purchases of the catalogue are told
	outTradeNoAt = "20060102150405"
)

var beijing = time.FixedZone("CST", 8*60*60) // WeChat's bills go by it

// newOutTradeNo names an order: when it was made and 90 random bits, 32 digits and lower-case letters in all, which
// is the narrowest of what WeChat's interfaces take.
func newOutTradeNo(now time.Time) string {
	return now.In(beijing).Format(outTradeNoAt) + strings.ToLower(rand.Text())[:18]
}

// payRequest asks for an order of a product, or to pay an order that there is already.
type payRequest struct {
	ProductID  string `json:"productId,omitempty" maxLength:"64" doc:"A product of the catalogue; with quantity"`
	Quantity   int    `json:"quantity,omitempty" minimum:"1" maximum:"99"`
	OutTradeNo string `json:"outTradeNo,omitempty" pattern:"^[0-9A-Za-z_|*-]{6,32}$" doc:"An order that there is already, instead of a product"`
	Code       string `json:"code,omitempty" maxLength:"512" doc:"Of wx.login, instead of the bearer token"`
}

// payParams are an order's number and what wx.requestPayment takes.
type payParams struct {
	OutTradeNo string `json:"outTradeNo"`
	wechat.ClientParams
}

// orderToPay finds or makes the order that a request of u is about.
func (s *Server) orderToPay(ctx context.Context, u store.User, in payRequest) (store.Order, error) {
	switch {
	case in.OutTradeNo != "" && (in.ProductID != "" || in.Quantity != 0):
		return store.Order{}, badRequest("name a product or an order, not both")
	case in.OutTradeNo != "":
		return s.unpaidOrder(ctx, u, in.OutTradeNo)
	case in.ProductID == "":
		return store.Order{}, badRequest("productId or outTradeNo is missing")
	}
	p, ok := s.catalogue.byID[in.ProductID]
	switch {
	case !ok:
		return store.Order{}, &Error{Status: 404, Code: "unknown_product", Message: "the shop has no such product"}
	case in.Quantity < 1 || in.Quantity > maxQuantity:
		return store.Order{}, badRequest(fmt.Sprintf("quantity must be 1 to %d", maxQuantity))
	}
	o, err := s.o.Store.CreateOrder(ctx, store.Order{
		OutTradeNo: newOutTradeNo(time.Now()), AppID: s.o.AppID, MchID: s.o.MchID, UserID: u.ID, OpenID: u.OpenID,
		ProductID: p.ID, Description: p.Name, Quantity: in.Quantity, TotalFen: p.totalFen(in.Quantity), Currency: "CNY",
		Room: noticeRoom, Virtual: p.Virtual,
	})
	if err != nil {
		return store.Order{}, fmt.Errorf("pay: %w", err)
	}
	return o, nil
}

// unpaidOrder finds an order of u that waits for money.
func (s *Server) unpaidOrder(ctx context.Context, u store.User, outTradeNo string) (store.Order, error) {
	o, err := s.ownOrder(ctx, u, outTradeNo)
	if err != nil {
		return o, err
	}
	switch o.State {
	case store.OrderCreated, store.OrderPaying:
		return o, nil
	case store.OrderClosed:
		return o, errOrderClosed
	}
	return o, errOrderPaid
}

var (
	errOrderPaid   = &Error{Status: 409, Code: "order_paid", Message: "this order has been paid"}
	errOrderClosed = &Error{Status: 409, Code: "order_closed", Message: "this order is closed; make a new one"}
)

// prepay makes o known to WeChat, or takes up what WeChat knows of it, and signs what the phone needs. The fields that
// WeChat sees are the order's own, so that asking again for a number is the same request.
func (s *Server) prepay(ctx context.Context, o store.Order, u store.User) (payParams, error) {
	if o.PrepayID == "" || !time.Now().Before(o.PrepayExpiresAt) {
		openID := o.OpenID
		if openID == "" {
			openID = u.OpenID
		}
		asking, cancel := context.WithTimeout(ctx, payWait)
		defer cancel()
		prepayID, err := s.o.Pay.Prepay(asking, wechat.PayOrder{
			OutTradeNo: o.OutTradeNo, Description: describe(o.Description), OpenID: openID, TotalFen: o.TotalFen,
			ClientIP: s.payerAddress(ctx),
		})
		if errors.Is(err, wechat.ErrOrderPaid) { // its notify has not come yet
			if _, err := s.till.Ask(ctx, o); err != nil {
				s.log.WarnContext(ctx, "an order that WeChat knows as paid could not be asked about", "outTradeNo", o.OutTradeNo, "err", err)
			}
		}
		if err != nil {
			return payParams{}, prepayError(o.OutTradeNo, err)
		}
		if err := s.o.Store.SetPrepay(ctx, o.OutTradeNo, prepayID, time.Now().Add(prepayLife)); err != nil {
			return payParams{}, fmt.Errorf("pay: %w", err)
		}
		if o, err = s.unpaidOrder(ctx, u, o.OutTradeNo); err != nil { // closed while WeChat was asked
			return payParams{}, err
		}
	}
	params, err := s.o.Pay.ClientParams(o.PrepayID)
	if err != nil {
		return payParams{}, fmt.Errorf("pay: order %s: %w", o.OutTradeNo, err)
	}
	return payParams{OutTradeNo: o.OutTradeNo, ClientParams: params}, nil
}

// payerAddress is the phone's address, which version 2 wants to know. Version 3 does not, and takes an order a second
// time only with the same fields, while a phone changes its address on the way to the door.
func (s *Server) payerAddress(ctx context.Context) string {
	if _, v2 := s.o.Pay.(*wechat.PayV2); !v2 {
		return ""
	}
	return requestOf(ctx).address.String()
}

// describe cuts a description to what the pay sheet shows: WeChat takes 127 characters.
func describe(s string) string {
	if r := []rune(s); len(r) > 127 {
		return string(r[:127])
	}
	return s
}

// prepayError says what a person can do about WeChat's refusal.
func prepayError(outTradeNo string, err error) error {
	var answer *wechat.Error
	if errors.As(err, &answer) {
		switch strings.ReplaceAll(answer.Word, "_", "") { // spelled either way
		case "ORDERPAID":
			return errOrderPaid
		case "ORDERCLOSED":
			return errOrderClosed
		}
	}
	err = fmt.Errorf("pay: order %s: %w", outTradeNo, err)
	if errors.Is(err, wechat.ErrRequest) || errors.Is(err, wechat.ErrOpenID) {
		return &Error{Status: 502, Code: "pay_refused", Message: "WeChat Pay does not take this order", Err: err}
	}
	return wechatError(err)
}

// routeShop serves the catalogue and payment to mini-programs.
func (s *Server) routeShop() {
	handle(s, route{
		method: http.MethodGet, path: "/api/products", tag: "shop", summary: "The catalogue",
		description: "The server alone decides amounts; prices here are for showing.",
	}, func(context.Context, *empty) ([]Product, error) { return s.catalogue.list, nil })
	handle(s, route{
		method: http.MethodPost, path: "/api/pay", tag: "shop", summary: "Order a product, or pay an order",
		description: "The answer holds what wx.requestPayment takes. Asking again for the same order gives the same order. " +
			"`code` may stand in for the bearer token.",
		errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
			http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *body[payRequest]) (payParams, error) {
		if s.o.Pay == nil { // whoever asks: no login helps
			return payParams{}, errNotConfigured
		}
		u, err := s.payer(ctx, in.Body.Code)
		if err != nil {
			return payParams{}, err
		}
		o, err := s.orderToPay(ctx, u, in.Body)
		if err != nil {
			return payParams{}, err
		}
		return s.prepay(ctx, o, u)
	})
}

// payer is who pays: by bearer token, or by a login code that came along.
func (s *Server) payer(ctx context.Context, code string) (store.User, error) {
	q := requestOf(ctx)
	var u store.User
	var err error
	if _, known := q.user(); code != "" && !known && q.denied == nil {
		u, err = s.signIn(ctx, loginRequest{Code: code})
	} else if e := users.admit(q); e != nil {
		return u, e
	} else {
		u, err = s.caller(ctx)
	}
	switch {
	case err != nil:
		return u, err
	case u.Blocked:
		return u, errBlocked
	case u.OpenID == "": // a token of the shop's own back end, whose owner never logged in here
		return u, &Error{Status: http.StatusConflict, Code: "conflict", Message: "this user has no openid here: log in with wx.login first"}
	}
	return u, nil
}
