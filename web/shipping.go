package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"wxhub/store"
	"wxhub/wechat"
)

// shippingRequest is how an order is delivered.
type shippingRequest struct {
	Logistics string       `json:"logistics,omitempty" enum:"express,city,virtual,pickup" doc:"absent: express. city: a courier in town"`
	Parcels   []parcelBody `json:"parcels,omitempty" maxItems:"15" doc:"express: one or more. Otherwise at most one, which says what it is"`
	More      bool         `json:"more,omitempty" doc:"express: further parcels follow in a later call, which lists all of them"`
}

type parcelBody struct {
	TrackingNo string `json:"trackingNo,omitempty" maxLength:"128" doc:"express"`
	Company    string `json:"company,omitempty" maxLength:"128" doc:"express: WeChat's code of the carrier, such as SF or ZTO"`
	Item       string `json:"item,omitempty" maxLength:"120" doc:"What is in it; absent: the order's description"`
	Contact    string `json:"contact,omitempty" maxLength:"32" doc:"SF: the receiver's phone number, masked like 138****1234"`
}

// shippingView is what became of telling WeChat.
type shippingView struct {
	OutTradeNo string         `json:"outTradeNo"`
	State      string         `json:"state" enum:"waiting,told,failed,received,settled,needless" doc:"waiting: WeChat is being told. needless: WeChat does not manage this shop's deliveries"`
	Logistics  string         `json:"logistics" enum:"express,city,virtual,pickup"`
	Complete   bool           `json:"complete"`
	Parcels    []store.Parcel `json:"parcels"`
	By         string         `json:"by"`
	At         int64          `json:"at" doc:"milliseconds"`
	ToldAt     int64          `json:"toldAt,omitempty" doc:"milliseconds: when WeChat took it"`
	ReceivedAt int64          `json:"receivedAt,omitempty" doc:"milliseconds"`
	SettledAt  int64          `json:"settledAt,omitempty" doc:"milliseconds: when the money became the shop's"`
	Reason     string         `json:"reason,omitempty" doc:"Why WeChat did not take it"`
}

var logisticsWords = map[string]wechat.Logistics{
	"express": wechat.ShipExpress, "city": wechat.ShipCity, "virtual": wechat.ShipVirtual, "pickup": wechat.ShipPickUp,
}

func viewShipment(s store.Shipment) shippingView {
	v := shippingView{
		OutTradeNo: s.OutTradeNo, State: s.State, Complete: s.Complete, Parcels: s.Parcels, By: s.By, At: s.At.UnixMilli(), Reason: s.Reason,
	}
	if v.Parcels == nil {
		v.Parcels = []store.Parcel{}
	}
	for word, n := range logisticsWords {
		if int(n) == s.Logistics {
			v.Logistics = word
		}
	}
	if !s.ToldAt.IsZero() {
		v.ToldAt = s.ToldAt.UnixMilli()
	}
	if !s.ReceivedAt.IsZero() {
		v.ReceivedAt = s.ReceivedAt.UnixMilli()
	}
	if !s.SettledAt.IsZero() {
		v.SettledAt = s.SettledAt.UnixMilli()
	}
	return v
}

func (s *Server) routeShipping() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/orders/{outTradeNo}/shipping", access: admins, tag: "admin", summary: "Say how a paid order is delivered",
		description: "WeChat is told in the background, where it manages the shop's deliveries; money stays frozen until then. " +
			"The same again changes nothing; another one takes its place, which WeChat allows once. Virtual goods are delivered by themselves when they are paid.",
		errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		OutTradeNo string `path:"outTradeNo" maxLength:"64"`
		Body       shippingRequest
	}) (shippingView, error) {
		return s.ship(ctx, in.OutTradeNo, in.Body)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/orders/{outTradeNo}/shipping", access: admins, tag: "admin", summary: "How an order is delivered",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *orderPath) (shippingView, error) {
		kept, err := s.o.Store.Shipment(ctx, in.OutTradeNo)
		if err != nil {
			return shippingView{}, shippingError(err)
		}
		return viewShipment(kept), nil
	})
}

func shippingError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
	case errors.Is(err, store.ErrOrderUnpaid):
		return &Error{Status: http.StatusConflict, Code: "order_unpaid", Err: err}
	}
	return fmt.Errorf("shipping: %w", err)
}

func (s *Server) ship(ctx context.Context, outTradeNo string, in shippingRequest) (shippingView, error) {
	if s.o.WeChat == nil {
		return shippingView{}, errNotConfigured
	}
	o, err := s.o.Store.Order(ctx, outTradeNo)
	if err != nil {
		return shippingView{}, shippingError(err)
	}
	shipment, err := in.shipment(o)
	if err != nil {
		return shippingView{}, err
	}
	shipment.By = requestOf(ctx).who()
	kept, err := s.o.Store.PutShipment(ctx, shipment, nil)
	if err != nil {
		return shippingView{}, shippingError(err)
	}
	s.audit(ctx, "shipping", "order "+outTradeNo)
	return viewShipment(kept), nil
}

// shipment is the request as it is kept, checked as WeChat will.
func (in *shippingRequest) shipment(o store.Order) (store.Shipment, error) {
	if in.Logistics == "" {
		in.Logistics = "express"
	}
	kind := logisticsWords[in.Logistics]
	express := kind == wechat.ShipExpress
	kept := store.Shipment{OutTradeNo: o.OutTradeNo, Logistics: int(kind), Complete: !in.More}
	switch {
	case express && len(in.Parcels) == 0:
		return kept, badRequest("parcels: express needs at least one, with trackingNo and company")
	case !express && (len(in.Parcels) > 1 || in.More):
		return kept, badRequest("parcels: only express comes in several")
	case !express && len(in.Parcels) == 0:
		in.Parcels = []parcelBody{{}}
	}
	for _, p := range in.Parcels {
		switch {
		case express && (p.TrackingNo == "" || p.Company == ""):
			return kept, badRequest("parcels: express needs trackingNo and company")
		case !express && (p.TrackingNo != "" || p.Company != ""):
			return kept, badRequest("parcels: only express has trackingNo and company")
		}
		kept.Parcels = append(kept.Parcels, store.Parcel{TrackingNo: p.TrackingNo, Company: p.Company, Item: first(p.Item, o.Description), Contact: p.Contact})
	}
	return kept, nil
}
