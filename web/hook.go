package web

import (
	"encoding/json"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
)

// Hook is an address of the shop's own system that hears of orders. jobs calls it.
type Hook = jobs.Hook

// hookCall is the body of a call. It is written once, so that every try sends the same bytes.
type hookCall struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	At    int64           `json:"at"`
	Data  json.RawMessage `json:"data"`
}

// hookOrder is the data of "order.paid".
type hookOrder struct {
	OutTradeNo    string `json:"outTradeNo"`
	UserID        string `json:"userId"`
	Description   string `json:"description"`
	ProductID     string `json:"productId"`
	Quantity      int    `json:"quantity"`
	Total         int64  `json:"total"`
	Refunded      int64  `json:"refunded"`
	TransactionID string `json:"transactionId"`
	Late          bool   `json:"late"`
	PaidAt        int64  `json:"paidAt"`
}

// hookRefund is the data of "order.refunded".
type hookRefund struct {
	hookOrder
	OutRefundNo string `json:"outRefundNo"`
	Amount      int64  `json:"amount"`
	Reason      string `json:"reason"`
}

func ofOrder(o store.Order) hookOrder {
	return hookOrder{
		OutTradeNo: o.OutTradeNo, UserID: o.UserID, Description: o.Description, ProductID: o.ProductID, Quantity: o.Quantity,
		Total: o.TotalFen, Refunded: o.RefundedFen, TransactionID: o.TransactionID, Late: o.Late, PaidAt: o.PaidAt.UnixMilli(),
	}
}

// tellHooks tells every hook that wants to hear of event, which is about an order.
func tellHooks(hooks []Hook, event, id string, at time.Time, o store.Order, data any) []store.Telling {
	return tellHook(hooks, event, o.OutTradeNo, id, at, data)
}

// tellHook tells every hook that wants to hear of event. Events about the same keep their order.
func tellHook(hooks []Hook, event, about, id string, at time.Time, data any) (told []store.Telling) {
	for _, h := range hooks {
		if h.Wants(event) {
			told = append(told, store.Telling{
				Kind: store.TellHook, To: jobs.HookLane(h.Name, about), ID: id, Action: event,
				Payload: payload(hookCall{id, event, at.UnixMilli(), payload(data)}),
			})
		}
	}
	return told
}
