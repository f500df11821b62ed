package sim

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// stateUser, stateOrder and stateToken are what GET /sim/state shows; no secrets.
type stateUser struct {
	Name        string `json:"name"`
	Openid      string `json:"openid"`
	Nickname    string `json:"nickname"`
	Follows     bool   `json:"follows"` // the official account
	Messages    int64  `json:"messages"`
	RepliesLeft int    `json:"repliesLeft"`
	SpokeAt     int64  `json:"spokeAt,omitempty"` // ms

	Granted map[string]int `json:"granted,omitempty"` // subscribe messages that may still be sent, by template
}

type stateOrder struct {
	OutTradeNo    string `json:"outTradeNo"`
	Version       string `json:"version"` // v2 or v3
	State         string `json:"state"`   // prepaid, paid, closed or expired
	Description   string `json:"description"`
	Total         int64  `json:"total"` // fen
	User          string `json:"user"`
	NotifyURL     string `json:"notifyUrl"`
	TransactionID string `json:"transactionId,omitempty"`
	MadeAt        int64  `json:"madeAt"` // ms
	PaidAt        int64  `json:"paidAt,omitempty"`
	Notified      string `json:"notified,omitempty"` // taken, given up or muted
	Refunded      int64  `json:"refunded,omitempty"` // fen, with what is under way
	Delivery      int    `json:"delivery,omitempty"` // order_state of shipping, of paid orders: 1 to 5
}

type stateRefund struct {
	MadeAt      int64  `json:"madeAt"` // ms
	OutTradeNo  string `json:"outTradeNo"`
	OutRefundNo string `json:"outRefundNo"`
	State       string `json:"state"` // PROCESSING, SUCCESS, CLOSED or ABNORMAL
	Total       int64  `json:"total"` // fen given back
	Reason      string `json:"reason"`
	Notified    string `json:"notified,omitempty"` // taken, given up or muted
}

type stateToken struct {
	Fetches int64 `json:"fetches"` // calls of stable_token that got a token
	Minted  int64 `json:"minted"`  // tokens made
	Left    int64 `json:"left"`    // seconds of the current one; 0 for none
}

// state is GET /sim/state: the newest of everything, oldest first; limit says how many, 1,000 at most.
func (s *Sim) state(r *http.Request) (any, error) {
	limit, err := numberParam(r.URL.Query().Get("limit"), keep)
	if err != nil {
		return nil, badRequest("limit is 1 to 1000")
	}
	most := int(limit)
	if most == 0 {
		most = keep
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	users, orders, refunds, faults := []stateUser{}, []stateOrder{}, []stateRefund{}, []Fault{}
	for _, u := range s.names[max(0, len(s.names)-most):] {
		v := stateUser{Name: u.name, Openid: u.openid, Nickname: u.nickname, Messages: u.mini.seq, Follows: !u.followedAt.IsZero(), Granted: maps.Clone(u.granted)}
		if g := u.mini.spoken; g.open(now) {
			v.RepliesLeft, v.SpokeAt = g.left, u.mini.spokeAt.UnixMilli()
		}
		users = append(users, v)
	}
	for _, o := range s.line[max(0, len(s.line)-most):] {
		v := stateOrder{OutTradeNo: o.outTradeNo, Version: "v3", State: "prepaid", Description: o.description, Total: o.total,
			NotifyURL: o.notifyURL, MadeAt: o.madeAt.UnixMilli(), Notified: o.notified}
		if u := s.users[o.openid]; u != nil {
			v.User = u.name
		}
		if o.v2() {
			v.Version = "v2"
		}
		switch {
		case !o.paidAt.IsZero():
			v.State, v.TransactionID, v.PaidAt, v.Delivery = "paid", o.transactionID, o.paidAt.UnixMilli(), o.delivery()
		case !o.closedAt.IsZero():
			v.State = "closed"
		case !now.Before(o.expireAt):
			v.State = "expired"
		}
		for _, r := range o.refunds {
			if r.status != refundClosed {
				v.Refunded += r.fee
			}
			refunds = append(refunds, stateRefund{r.madeAt.UnixMilli(), o.outTradeNo, r.outRefundNo, r.status, r.fee, r.reason, r.notified})
		}
		orders = append(orders, v)
	}
	refunds = refunds[max(0, len(refunds)-most):]
	for _, f := range s.faults {
		faults = append(faults, *f)
	}
	v := map[string]any{
		"appId": s.opts.AppID, "mchId": s.opts.MchID, "pushMode": s.mini.mode, "pushFormat": s.mini.format,
		"keyMode": s.keyMode, "keyShare": s.keyShare, "tradeManaged": s.managed, "now": now.UnixMilli(), "timeScale": s.opts.TimeScale,
		"counts": map[string]int{"users": len(s.names), "orders": len(s.line), "refunds": len(s.refunds), "faults": len(s.faults), "calls": s.calls.seen,
			"messages": s.sent.seen, "pushes": s.pushes.seen, "notifies": s.notifies.seen},
		"token": s.mini.stable.state(now), "users": users, "orders": orders, "refunds": refunds, "faults": slices.Clip(faults),
		"calls": s.calls.list(most), "messages": s.sent.list(most), "pushes": s.pushes.list(most), "notifies": s.notifies.list(most),
	}
	if s.mp != nil {
		v["mp"] = map[string]any{"appId": s.mp.appID, "pushMode": s.mp.mode, "pushFormat": s.mp.format, "token": s.mp.stable.state(now)}
	}
	return v, nil
}

// state tells of the tokens without showing one. Needs Sim.mu.
func (t *tokens) state(now time.Time) stateToken {
	v := stateToken{Fetches: t.Fetches, Minted: t.Minted}
	if c := t.current; c != nil && c.until.After(now) {
		v.Left = int64(c.until.Sub(now).Seconds())
	}
	return v
}
