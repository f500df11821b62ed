package sim

import (
	_ "embed"
	"net/http"
	"slices"
)

//go:embed page.html
var pageHTML []byte

// page is GET /: the state for people.
func page(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:")
	_, _ = w.Write(pageHTML)
}

// stateUser, stateOrder and stateToken are what GET /sim/state shows; no secrets.
type stateUser struct {
	Name        string `json:"name"`
	Openid      string `json:"openid"`
	Nickname    string `json:"nickname"`
	Messages    int64  `json:"messages"`
	RepliesLeft int    `json:"repliesLeft"`
	SpokeAt     int64  `json:"spokeAt,omitempty"` // ms
}

type stateOrder struct {
	OutTradeNo    string `json:"outTradeNo"`
	State         string `json:"state"` // prepaid, paid or expired
	Description   string `json:"description"`
	Total         int64  `json:"total"` // fen
	User          string `json:"user"`
	NotifyURL     string `json:"notifyUrl"`
	TransactionID string `json:"transactionId,omitempty"`
	MadeAt        int64  `json:"madeAt"` // ms
	PaidAt        int64  `json:"paidAt,omitempty"`
	Notified      string `json:"notified,omitempty"` // taken or given up
}

type stateToken struct {
	Fetches int64 `json:"fetches"` // calls of stable_token that got a token
	Minted  int64 `json:"minted"`  // tokens made
	Left    int64 `json:"left"`    // seconds of the current one; 0 for none
}

// state is GET /sim/state: the newest 1,000 of everything, oldest first.
func (s *Sim) state(*http.Request) (any, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	users, orders, faults := []stateUser{}, []stateOrder{}, []Fault{}
	for _, u := range s.names[max(0, len(s.names)-keep):] {
		v := stateUser{Name: u.name, Openid: u.openid, Nickname: u.nickname, Messages: u.seq}
		if u.replyUntil.After(now) {
			v.RepliesLeft, v.SpokeAt = u.repliesLeft, u.spokeAt.UnixMilli()
		}
		users = append(users, v)
	}
	for _, o := range s.line[max(0, len(s.line)-keep):] {
		v := stateOrder{OutTradeNo: o.outTradeNo, State: "prepaid", Description: o.description, Total: o.total,
			NotifyURL: o.notifyURL, MadeAt: o.madeAt.UnixMilli(), Notified: o.notified}
		if u := s.users[o.openid]; u != nil {
			v.User = u.name
		}
		switch {
		case !o.paidAt.IsZero():
			v.State, v.TransactionID, v.PaidAt = "paid", o.transactionID, o.paidAt.UnixMilli()
		case !now.Before(o.expireAt):
			v.State = "expired"
		}
		orders = append(orders, v)
	}
	for _, f := range s.faults {
		faults = append(faults, *f)
	}
	token := stateToken{Fetches: s.token.Fetches, Minted: s.token.Minted}
	if c := s.token.current; c != nil && c.until.After(now) {
		token.Left = int64(c.until.Sub(now).Seconds())
	}
	return map[string]any{
		"appId": s.opts.AppID, "mchId": s.opts.MchID, "pushMode": s.opts.PushMode, "pushFormat": s.opts.PushFormat,
		"token": token, "users": users, "orders": orders, "faults": slices.Clip(faults),
		"calls": s.calls.list(), "messages": s.sent.list(), "pushes": s.pushes.list(), "notifies": s.notifies.list(),
	}, nil
}
