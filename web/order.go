package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wxhub/store"
)

// ownOrder finds an order of u. Somebody else's is as unknown as none.
func (s *Server) ownOrder(ctx context.Context, u store.User, outTradeNo string) (store.Order, error) {
	o, err := s.o.Store.Order(ctx, outTradeNo)
	own := err == nil && (o.UserID == u.ID && u.ID != "" ||
		o.UserID == "" && u.OpenID != "" && o.OpenID == u.OpenID && o.AppID == u.AppID)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && !own:
		return store.Order{}, &Error{Status: 404, Code: "not_found", Message: "you have no such order"}
	case err != nil:
		return store.Order{}, fmt.Errorf("order: %w", err)
	}
	return o, nil
}

// orderView is an order as its owner sees it.
type orderView struct {
	OutTradeNo  string           `json:"outTradeNo"`
	State       store.OrderState `json:"state" enum:"created,paying,paid,closed,refunding,refunded"`
	Total       int64            `json:"total" doc:"fen"`
	Refunded    int64            `json:"refunded" doc:"fen"`
	Description string           `json:"description"`
	ProductID   string           `json:"productId,omitempty"`
	Quantity    int              `json:"quantity"`
	CreatedAt   int64            `json:"createdAt" doc:"milliseconds"`
	PaidAt      int64            `json:"paidAt,omitempty" doc:"milliseconds; absent until it is paid"`
	Late        bool             `json:"late,omitempty" doc:"paid after it was closed"`
}

func viewOrder(o store.Order) orderView {
	v := orderView{
		OutTradeNo: o.OutTradeNo, State: o.State, Total: o.TotalFen, Refunded: o.RefundedFen, Description: o.Description,
		ProductID: o.ProductID, Quantity: o.Quantity, CreatedAt: o.CreatedAt.UnixMilli(), Late: o.Late,
	}
	if !o.PaidAt.IsZero() {
		v.PaidAt = o.PaidAt.UnixMilli()
	}
	return v
}

// OrderView is orderView by an exported name: huma looks into no other embedded struct.
type OrderView = orderView

// adminOrderView is an order as the shop sees it. An openid is in no answer.
type adminOrderView struct {
	OrderView
	UserID        string `json:"userId"`
	TransactionID string `json:"transactionId,omitempty" doc:"WeChat Pay's number"`
	Room          string `json:"room,omitempty" doc:"Where the purchase is told"`
	Virtual       bool   `json:"virtual,omitempty" doc:"Nothing is sent by post"`
}

func viewAdminOrder(o store.Order) adminOrderView {
	return adminOrderView{viewOrder(o), o.UserID, o.TransactionID, o.Room, o.Virtual}
}

// shopOrder is an order that the shop's own system makes.
type shopOrder struct {
	Description string `json:"description" minLength:"1" maxLength:"127" doc:"Shown on the pay sheet"`
	Total       int64  `json:"total" minimum:"1" maximum:"2147483647" doc:"fen"`
	Quantity    int    `json:"quantity,omitempty" minimum:"1" maximum:"9999" doc:"Told with the purchase; absent: 1"`
	UserID      string `json:"userId,omitempty" pattern:"^[A-Za-z0-9_.-]{1,64}$" patternDescription:"a user id" doc:"Who pays; or openid"`
	OpenID      string `json:"openid,omitempty" pattern:"^[A-Za-z0-9_-]{1,128}$" patternDescription:"an openid" doc:"Who pays; or userId"`
	Room        string `json:"room,omitempty" pattern:"^[A-Za-z0-9_.:-]{1,128}$" patternDescription:"a room's name" doc:"Where the purchase is told; absent: nowhere"`
	Virtual     bool   `json:"virtual,omitempty" doc:"Nothing is sent by post: WeChat is told so when it is paid"`
	OutTradeNo  string `json:"outTradeNo,omitempty" pattern:"^[0-9A-Za-z_|*-]{6,32}$" patternDescription:"6 to 32 letters, digits or _|*-" doc:"Your own number; the same number with the same fields is the same order"`
}

type orderPath struct {
	OutTradeNo string `path:"outTradeNo" maxLength:"64"`
}

// routeOrders serves orders to who pays them, and to the shop.
func (s *Server) routeOrders() {
	handle(s, route{
		method: http.MethodGet, path: "/api/orders", access: users, tag: "shop", summary: "My orders, newest first",
	}, func(ctx context.Context, in *struct {
		Limit  int   `query:"limit" minimum:"1" maximum:"200" default:"50"`
		Before int64 `query:"before" minimum:"0" maximum:"253402300799999" doc:"Only orders made before: createdAt of the last one, to go on"`
	}) ([]orderView, error) {
		u, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		return s.ownOrders(ctx, u, in.Limit, in.Before)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/orders/{outTradeNo}", access: users, tag: "shop", summary: "One of my orders",
		description: "An order that waits for money asks WeChat what became of it, at most every five seconds.",
		errors:      []int{http.StatusNotFound},
	}, func(ctx context.Context, in *orderPath) (orderView, error) {
		u, err := s.caller(ctx)
		if err != nil {
			return orderView{}, err
		}
		o, err := s.ownOrder(ctx, u, in.OutTradeNo)
		if err != nil {
			return orderView{}, err
		}
		return viewOrder(s.till.glance(ctx, o)), nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/orders/{outTradeNo}/close", access: users, tag: "shop", summary: "Close an order that is not paid",
		description: "It is closed at WeChat first, so that nobody can pay it any more. One that was paid in this moment is 409 order_paid.",
		errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *orderPath) (orderView, error) {
		u, err := s.caller(ctx)
		if err != nil {
			return orderView{}, err
		}
		o, err := s.ownOrder(ctx, u, in.OutTradeNo)
		if err != nil {
			return orderView{}, err
		}
		return s.closeOrder(ctx, o)
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/orders", access: admins, tag: "admin", summary: "An order from the shop's own system",
		description: "Who pays takes it up with POST /api/pay and its outTradeNo. Another order under a used number is a conflict.",
		errors:      []int{http.StatusBadRequest, http.StatusConflict},
	}, func(ctx context.Context, in *body[shopOrder]) (adminOrderView, error) {
		return s.makeOrder(ctx, in.Body)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/orders", access: admins, tag: "admin", summary: "Orders, newest first",
		errors: []int{http.StatusBadRequest},
	}, func(ctx context.Context, in *struct {
		OutTradeNo string `query:"outTradeNo" maxLength:"64" doc:"the whole number"`
		UserID     string `query:"userId" maxLength:"64"`
		State      string `query:"state" enum:"created,paying,paid,closed,refunding,refunded"`
		Before     int64  `query:"before" minimum:"0" maximum:"253402300799999" doc:"created before this moment: milliseconds"`
		Limit      int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	}) ([]adminOrderView, error) {
		q := store.OrderQuery{OutTradeNo: in.OutTradeNo, UserID: in.UserID, State: store.OrderState(in.State), Limit: in.Limit}
		if in.Before > 0 {
			q.Before = time.UnixMilli(in.Before)
		}
		orders, err := s.o.Store.Orders(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("admin: orders: %w", err)
		}
		list := make([]adminOrderView, len(orders))
		for i, o := range orders {
			list[i] = viewAdminOrder(o)
		}
		return list, nil
	})
}

// ownOrders are a person's orders: those under the user id, and those that the shop's own system made for the openid.
func (s *Server) ownOrders(ctx context.Context, u store.User, limit int, before int64) ([]orderView, error) {
	q := store.OrderQuery{UserID: u.ID, Limit: limit}
	if before > 0 {
		q.Before = time.UnixMilli(before)
	}
	orders, err := s.o.Store.Orders(ctx, q)
	if err == nil && u.OpenID != "" {
		q.UserID, q.OpenID = "", u.OpenID
		var more []store.Order
		more, err = s.o.Store.Orders(ctx, q)
		orders = append(orders, slices.DeleteFunc(more, func(o store.Order) bool { return o.UserID != "" || o.AppID != u.AppID })...)
	}
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	slices.SortFunc(orders, func(a, b store.Order) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.OutTradeNo, a.OutTradeNo))
	})
	list := make([]orderView, min(limit, len(orders)))
	for i := range list {
		list[i] = viewOrder(orders[i])
	}
	return list, nil
}

func (s *Server) closeOrder(ctx context.Context, o store.Order) (orderView, error) {
	if s.o.Pay == nil {
		return orderView{}, errNotConfigured
	}
	o, err := s.till.Close(ctx, o)
	switch {
	case err == nil:
		return viewOrder(o), nil
	case errors.Is(err, store.ErrOrderPaid), errors.Is(err, store.ErrPaymentConflict):
		return orderView{}, errOrderPaid
	}
	return orderView{}, payError(err)
}

// payError is wechatError for calls that pay orders; a fault of our own store stays one.
func payError(err error) error {
	e := wechatError(err)
	var own *Error
	if errors.As(e, &own) && own.Code == "internal" {
		return err
	}
	return e
}

// makeOrder takes an order from the shop's own system. It is kept as it was said, so that saying it again can be compared.
func (s *Server) makeOrder(ctx context.Context, in shopOrder) (adminOrderView, error) {
	switch {
	case (in.UserID == "") == (in.OpenID == ""):
		return adminOrderView{}, badRequest("name the payer by userId or by openid")
	case strings.HasPrefix(in.Room, mailRoom):
		return adminOrderView{}, badRequest("room: a person's mail is no room; the payer is told anyway")
	}
	o, err := s.o.Store.CreateOrder(ctx, store.Order{
		OutTradeNo: cmp.Or(in.OutTradeNo, newOutTradeNo(time.Now())), AppID: s.o.AppID, MchID: s.o.MchID,
		UserID: in.UserID, OpenID: in.OpenID, Description: in.Description, Quantity: max(in.Quantity, 1), TotalFen: in.Total,
		Currency: "CNY", Room: in.Room, Virtual: in.Virtual,
	})
	switch {
	case errors.Is(err, store.ErrOrderExists):
		return adminOrderView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "outTradeNo is taken by another order", Err: err}
	case errors.Is(err, store.ErrErased):
		return adminOrderView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "this user's data was erased", Err: err}
	case err != nil:
		return adminOrderView{}, fmt.Errorf("admin: %w", err)
	}
	s.audit(ctx, "order", "order "+o.OutTradeNo)
	return viewAdminOrder(o), nil
}
