package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wxhub/store"
)

// What became of a message, and what the relay gave up.

// offlineAfter is how long after its announcement mail counts as not taken by any socket: nodes tell what they wrote some
// hundred milliseconds late, and mail that came by the database within five seconds.
const offlineAfter = 10 * time.Second

type messageQuery struct {
	ID    string `path:"id" maxLength:"128"`
	User  string `query:"user" maxLength:"64" doc:"This user alone"`
	After string `query:"after" maxLength:"64" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type messageView struct {
	ID       string        `json:"id"`
	Rooms    []said        `json:"rooms,omitempty" doc:"Of a broadcast of the last 24 hours: where it was said"`
	Counts   messageCounts `json:"counts" doc:"Over all its users"`
	Receipts []receiptView `json:"receipts" doc:"By user"`
	Next     string        `json:"next,omitempty" doc:"There are more: ask again with after"`
}

type messageCounts struct {
	Stored       int `json:"stored"`
	Relayed      int `json:"relayed"`
	Written      int `json:"written"`
	Acknowledged int `json:"acknowledged"`
	Expired      int `json:"expired"`
	FallenBack   int `json:"fallenBack" doc:"told by WeChat"`
	Unknown      int `json:"unknown" doc:"perhaps told by WeChat: the answer was lost, and it is not sent twice unless an admin says so"`
	Waiting      int `json:"waiting" doc:"a fallback will be looked at"`
	Held         int `json:"held" doc:"nothing may be sent: waits for the user, a quota or a grant"`
}

type receiptView struct {
	User     string        `json:"user"`
	Offset   uint64        `json:"offset" doc:"in room user:ID"`
	Action   string        `json:"action"`
	State    string        `json:"state" enum:"stored,relayed,written,acknowledged,fallen_back,unknown,expired" doc:"how far it came"`
	Reason   string        `json:"reason,omitempty" doc:"why no further: offline, slow, unacknowledged, expired, no_quota, no_grant, refused, quiet_hours, no_openid, blocked, not_configured, online, not_yet; of unknown: lost, left; again: an admin has it sent again"`
	Code     int           `json:"code,omitempty" doc:"WeChat's, of a refusal"`
	Timeline []receiptStep `json:"timeline"`
}

type receiptStep struct {
	Step    string `json:"step" enum:"stored,relayed,written,slow,acknowledged,custom,subscribe,decision,fallback,expired"`
	At      int64  `json:"at"`
	Node    string `json:"node,omitempty" doc:"of a decision: who made it"`
	Outcome string `json:"outcome,omitempty" doc:"of a sending: sent, refused, unsent, unknown, sending; of a decision: again, left; of a fallback: waiting, held, expired"`
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Report  string `json:"report,omitempty" doc:"what WeChat said afterwards: arrived, or its word"`
}

type deadRow struct {
	Seq       int64  `json:"seq"`
	Kind      string `json:"kind" example:"hook"`
	To        string `json:"to" doc:"A room, a user id or a hook; empty: somebody unknown"`
	ID        string `json:"id"`
	Action    string `json:"action"`
	Attempts  int    `json:"attempts"`
	Reason    string `json:"reason"`
	CreatedAt int64  `json:"createdAt"`
	DiedAt    int64  `json:"diedAt"`
}

// doubtView is a letter that was perhaps sent.
type doubtView struct {
	User    string `json:"user"`
	ID      string `json:"id"`
	Action  string `json:"action"`
	Channel string `json:"channel" enum:"custom,subscribe"`
	At      int64  `json:"at" doc:"milliseconds: since when nobody knows"`
	Gone    bool   `json:"gone" doc:"kept no longer: it cannot be sent again"`
}

type decisionRequest struct {
	User string `json:"user" minLength:"1" maxLength:"64"`
	Do   string `json:"do" enum:"again,leave" doc:"again: tell it once more, after the rules but for its age. leave: it stays as it is"`
}

func (s *Server) routeMessages() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/fallbacks/unknown", access: admins, tag: "admin", summary: "Mail that WeChat has perhaps told: the answer was lost, and nobody has decided yet",
	}, func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) ([]doubtView, error) {
		list, err := s.o.Store.Doubts(ctx, in.Limit)
		if err != nil {
			return nil, err
		}
		rows := make([]doubtView, len(list))
		for i, d := range list {
			rows[i] = doubtView{d.User, d.ID, d.Action, d.Channel, d.At.UnixMilli(), d.Gone}
		}
		return rows, nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/messages/{id}/decision", access: admins, tag: "admin", summary: "Send mail again whose telling has an unknown end, or leave it",
		description: "WeChat may have told it already: ask the user, or look at what else is known. The decision stands in the message's timeline.",
		errors:      []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"128"`
		Body decisionRequest
	}) (empty, error) {
		err := s.o.Store.DecideDoubt(ctx, in.ID, in.Body.User, in.Body.Do == "again", requestOf(ctx).who())
		if errors.Is(err, store.ErrNotFound) {
			return empty{}, &Error{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such doubt any more", Err: err}
		}
		if err != nil {
			return empty{}, fmt.Errorf("decision: %w", err)
		}
		s.audit(ctx, in.Body.Do, fmt.Sprintf("message %s to %s", in.ID, in.Body.User))
		return empty{}, nil
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/messages/{id}", access: admins, tag: "admin", summary: "What became of a message, for each of its users",
		description: "For mail: stored, relayed by a node, written to a socket, acknowledged, told by WeChat; or the reason why not, with times. " +
			"Kept as long as the mail, and a month longer.",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *messageQuery) (messageView, error) { return s.message(ctx, in) })
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/outbox/dead", access: admins, tag: "admin", summary: "What the relay gave up, newest first, with the reason",
	}, func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) ([]deadRow, error) {
		return s.deadRows(ctx, in.Limit)
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/outbox/dead/{seq}/retry", access: admins, tag: "admin", summary: "Let the relay try again, as if it were new",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Seq int64 `path:"seq" minimum:"1"`
	}) (empty, error) {
		if err := s.o.Store.ReviveOutbox(ctx, in.Seq); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return empty{}, &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
			}
			return empty{}, fmt.Errorf("retry: %w", err)
		}
		s.audit(ctx, "retry", fmt.Sprint("outbox row ", in.Seq))
		return empty{}, nil
	})
}

func (s *Server) message(ctx context.Context, in *messageQuery) (messageView, error) {
	v := messageView{ID: in.ID, Receipts: []receiptView{}}
	b, err := s.o.Store.Broadcast(ctx, in.ID)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return v, fmt.Errorf("message: %w", err)
	}
	var answer broadcastView
	if b.Answer != nil && json.Unmarshal(b.Answer, &answer) == nil {
		v.Rooms = slices.DeleteFunc(answer.Results, func(r said) bool { return strings.HasPrefix(r.Room, mailRoom) && r.Offset > 0 })
	}
	c, err := s.o.Store.CountReceipts(ctx, in.ID)
	if err != nil {
		return v, fmt.Errorf("message: %w", err)
	}
	if !known && c.Stored == 0 {
		return v, &Error{Status: http.StatusNotFound, Code: "not_found", Message: "nobody has mail of this id"}
	}
	v.Counts = messageCounts{c.Stored, c.Relayed, c.Written, c.Acked, c.Expired, c.Sent, c.Unknown, c.Waiting, c.Held}
	var list []store.Receipt
	if in.User != "" {
		var one store.Receipt
		if one, err = s.o.Store.Receipt(ctx, in.ID, in.User); err == nil {
			list = append(list, one)
		} else if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	} else {
		list, err = s.o.Store.Receipts(ctx, in.ID, in.After, in.Limit)
	}
	if err != nil {
		return v, fmt.Errorf("message: %w", err)
	}
	now := time.Now()
	for _, r := range list {
		v.Receipts = append(v.Receipts, viewReceipt(r, now))
	}
	if in.User == "" && len(list) == in.Limit && len(list) < c.Stored {
		v.Next = list[len(list)-1].User
	}
	return v, nil
}

// viewReceipt says how far a letter came, and why no further.
func viewReceipt(r store.Receipt, now time.Time) receiptView {
	v := receiptView{User: r.User, Offset: r.Seq, Action: r.Action, State: "stored"}
	step := func(name string, at time.Time, node string) {
		if !at.IsZero() {
			v.Timeline = append(v.Timeline, receiptStep{Step: name, At: at.UnixMilli(), Node: node})
		}
	}
	step("stored", r.StoredAt, "")
	relayed := r.RelayedAt // noted after it was announced: a socket may have been quicker
	if !r.WrittenAt.IsZero() && r.WrittenAt.Before(relayed) {
		relayed = r.WrittenAt
	}
	step("relayed", relayed, r.RelayedBy)
	step("written", r.WrittenAt, r.WrittenBy)
	step("slow", r.SlowAt, "")
	step("acknowledged", r.AckedAt, "")
	for _, a := range r.Attempts {
		one := receiptStep{Step: a.Channel, At: a.At.UnixMilli(), Node: a.Node, Outcome: cmp.Or(a.Outcome, "sending"), Code: a.Code, Reason: a.Reason}
		if a.Report != nil {
			one.Report = "arrived"
			if a.Report.Code != 0 {
				one.Report = fmt.Sprintf("%d %s", a.Report.Code, a.Report.Reason)
			}
		}
		if a.Outcome == store.OutcomeRefused {
			v.Code = a.Code
		}
		v.Timeline = append(v.Timeline, one)
	}
	f := r.Fallback
	if f != nil && (f.State == store.FallbackWaiting || f.State == store.FallbackHeld || f.State == store.FallbackExpired) {
		v.Timeline = append(v.Timeline, receiptStep{Step: "fallback", At: f.At.UnixMilli(), Outcome: f.State, Reason: f.Reason})
	}
	if r.AckedAt.IsZero() {
		step("expired", r.GoneAt, "")
	}
	slices.SortStableFunc(v.Timeline, func(a, b receiptStep) int { return cmp.Compare(a.At, b.At) })
	v.State, v.Reason = standing(r, now)
	if v.Reason != "refused" {
		v.Code = 0
	}
	return v
}

// standing is the furthest that a letter came, and why no further.
func standing(r store.Receipt, now time.Time) (state, reason string) {
	f := store.FallbackState{}
	if r.Fallback != nil {
		f = *r.Fallback
	}
	switch {
	case !r.AckedAt.IsZero():
		return "acknowledged", ""
	case f.State == store.FallbackSent:
		return "fallen_back", ""
	case f.State == store.FallbackUnknown && f.Reason == store.ReasonLeft:
		return "unknown", store.ReasonLeft
	case f.State == store.FallbackUnknown:
		return "unknown", "lost"
	case !r.GoneAt.IsZero():
		return "expired", "expired"
	}
	state = "stored"
	switch {
	case !r.WrittenAt.IsZero():
		state, reason = "written", "unacknowledged"
	case !r.RelayedAt.IsZero():
		state = "relayed"
		if now.Sub(r.RelayedAt) > offlineAfter {
			reason = "offline"
		}
	}
	if r.SlowAt.After(r.WrittenAt) {
		reason = "slow"
	}
	if f.Reason != "" && f.State != store.FallbackSending {
		reason = f.Reason
	}
	return state, reason
}

func (s *Server) deadRows(ctx context.Context, limit int) ([]deadRow, error) {
	list, err := s.o.Store.DeadRows(ctx, limit)
	if err != nil {
		return nil, fmt.Errorf("dead rows: %w", err)
	}
	rows := make([]deadRow, len(list))
	for i, r := range list {
		rows[i] = deadRow{r.Seq, string(r.Kind), r.To, r.ID, r.Action, r.Attempts, r.Reason, r.CreatedAt.UnixMilli(), r.DiedAt.UnixMilli()}
		var appID string
		switch r.Kind {
		case store.TellCustomSend:
			appID = s.o.AppID
		case store.TellMPSend, store.TellFollower:
			appID = s.o.MPAppID
		default:
			continue
		}
		rows[i].To = "" // an openid leaves the server nowhere
		if u, err := s.o.Store.UserByOpenID(ctx, appID, r.To); err == nil {
			rows[i].To = u.ID
		}
	}
	return rows, nil
}
