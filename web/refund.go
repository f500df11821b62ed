package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wxhub/store"
)

type refundRequest struct {
	Amount      int64  `json:"amount,omitempty" minimum:"1" maximum:"2147483647" doc:"fen; absent: all that is left"`
	Reason      string `json:"reason,omitempty" maxLength:"80" doc:"Shown to the payer"`
	OutRefundNo string `json:"outRefundNo,omitempty" pattern:"^[0-9A-Za-z_|*@-]{1,64}$" patternDescription:"1 to 64 letters, digits or _|*@-" doc:"Your own number; the same number again is the same refund"`
}

// refundView is a refund as the shop sees it.
type refundView struct {
	OutRefundNo string `json:"outRefundNo"`
	OutTradeNo  string `json:"outTradeNo"`
	State       string `json:"state" enum:"processing,success,closed,abnormal" doc:"closed: nothing was given back. abnormal: the money did not arrive; see WeChat's merchant platform"`
	Amount      int64  `json:"amount" doc:"fen"`
	Reason      string `json:"reason"`
	CreatedAt   int64  `json:"createdAt" doc:"milliseconds"`
	DoneAt      int64  `json:"doneAt,omitempty" doc:"milliseconds; absent while processing"`
}

func viewRefund(r store.Refund) refundView {
	v := refundView{r.OutRefundNo, r.OutTradeNo, r.State, r.Fen, r.Reason, r.CreatedAt.UnixMilli(), 0}
	if !r.DoneAt.IsZero() {
		v.DoneAt = r.DoneAt.UnixMilli()
	}
	return v
}

// routeRefunds serves refunds to the shop.
func (s *Server) routeRefunds() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/orders/{outTradeNo}/refund", access: admins, tag: "admin", summary: "Give money back",
		description: "Without `amount` all that is left. All refunds of an order together are never more than was paid. " +
			"`processing`: WeChat has not said yet what became of it; the hub keeps asking, with the same number. " +
			"After an answer that did not arrive, send the same `outRefundNo` again.",
		errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusBadGateway, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		OutTradeNo string `path:"outTradeNo" maxLength:"64"`
		Body       refundRequest
	}) (refundView, error) {
		return s.refund(ctx, in.OutTradeNo, in.Body)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/orders/{outTradeNo}/refunds", access: admins, tag: "admin", summary: "Refunds of an order, oldest first",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *orderPath) ([]refundView, error) {
		if _, err := s.o.Store.Order(ctx, in.OutTradeNo); err != nil {
			return nil, refundError(err)
		}
		refunds, err := s.o.Store.Refunds(ctx, in.OutTradeNo)
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		list := make([]refundView, len(refunds))
		for i, r := range refunds {
			list[i] = viewRefund(r)
		}
		return list, nil
	})
}

func (s *Server) refund(ctx context.Context, outTradeNo string, in refundRequest) (refundView, error) {
	if s.o.Pay == nil {
		return refundView{}, errNotConfigured
	}
	if _, err := s.o.Store.Order(ctx, outTradeNo); err != nil {
		return refundView{}, refundError(err)
	}
	number := in.OutRefundNo
	if number == "" {
		number = newOutTradeNo(time.Now())
	}
	r, err := s.till.Refund(ctx, store.Refund{OutRefundNo: number, OutTradeNo: outTradeNo, Reason: in.Reason, Fen: in.Amount, By: requestOf(ctx).who()})
	about := fmt.Sprintf("order %s refund %s: %d fen", outTradeNo, number, r.Fen)
	if err != nil {
		s.audit(ctx, "refund not done", about)
		return refundView{}, refundError(err)
	}
	s.audit(ctx, "refund", about)
	return viewRefund(r), nil
}

// refundError says why no money goes back.
func refundError(err error) error {
	e := &Error{Status: http.StatusConflict, Err: err}
	switch {
	case errors.Is(err, store.ErrNotFound):
		e.Status, e.Code = http.StatusNotFound, "not_found"
	case errors.Is(err, store.ErrOrderUnpaid):
		e.Code = "order_unpaid"
	case errors.Is(err, store.ErrRefundTooMuch):
		e.Code = "refund_too_much"
	case errors.Is(err, store.ErrRefundExists):
		e.Code, e.Message = "conflict", "outRefundNo is taken by another refund"
	case errors.Is(err, errRefundRefused):
		e.Status, e.Code = http.StatusBadGateway, "refund_refused"
	default:
		return payError(err)
	}
	return e
}
