package web

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"wxhub/store"
	"wxhub/wechat"
)

// What pushes do beyond conversations: quotas, verdicts, deliveries, alarms. Every event is kept for people to look at and
// told to the hooks that want it.

// pushHook begins the names of hook events that are pushes: push.text, push.event.subscribe …
const pushHook = "push."

const aboutBytes = 16 << 10 // of a kept event; WeChat's have some hundred bytes

// recorded adds to what does makes of a push of account what its type does.
func (d *desk) recorded(account string, does func(*wechat.PushMessage) store.Push) func(*wechat.PushMessage) store.Push {
	return func(m *wechat.PushMessage) store.Push {
		p := does(m)
		if m.MsgType == "event" && m.Event != "LOCATION" { // where people are is nobody's business
			p.Event = &store.Event{Account: account, Kind: clipTo(m.Kind(), 128), About: about(m), At: saidAt(m)}
		}
		tellings := d.effects(m, &p)
		tell := p.Tell
		p.Tell = func(c store.Conversation, u store.User) (told []store.Telling) {
			if tell != nil {
				told = tell(c, u)
			}
			return append(append(told, tellings...), d.tellPush(account, m, u)...)
		}
		return p
	}
}

// effects are what a push does by its type, and the alarms that it raises.
func (d *desk) effects(m *wechat.PushMessage, p *store.Push) (told []store.Telling) {
	switch e := m.Typed().(type) {
	case wechat.SubscribePopup:
		p.Grants = grants(e.Items, store.GrantAccepted, store.GrantRefused)
	case wechat.SubscribeChange:
		p.Grants = grants(e.Items, store.GrantRefused, store.GrantRevoked)
	case wechat.SubscribeSent:
		for _, item := range e.Items {
			if item.MsgID != "" && len(item.MsgID) <= 128 {
				p.Reports = append(p.Reports, store.SendReport{MsgID: item.MsgID, TemplateID: item.TemplateID, Code: int(item.Code), Reason: clipTo(item.Status, 500)})
			}
		}
	case wechat.MediaChecked:
		verdict := string(e.Verdict)
		if verdict == "" { // WeChat could not look at it
			verdict = "unseen"
			if d.failOpen {
				verdict = string(wechat.VerdictPass)
			}
		}
		p.Verdict = &store.MediaVerdict{TraceID: clipTo(e.TraceID, 128), Verdict: verdict}
	case wechat.ShippingAccessReminder:
		told = append(told, store.RaiseTelling(alarmAccess, d.appID, "WeChat reminds of shipping management: "+clipTo(e.Text, 500)))
	case wechat.ShippingReminder:
		told = append(told, store.RaiseTelling(alarmOverdue, clipTo(e.OutTradeNo, 128), "WeChat reminds that the order is not shipped: "+clipTo(e.Text, 500)))
	case wechat.TradeControlled:
		told = append(told, store.RaiseTelling(alarmControlled, d.appID, "WeChat says that this mini-program's trade is restricted"))
	case wechat.OrderSettlement:
		p.Settled = &store.Settlement{OutTradeNo: clipTo(e.OutTradeNo, 128), ReceivedAt: e.ReceivedAt, SettledAt: e.SettledAt}
	}
	return told
}

// grants are what somebody decided about templates: one kind for those accepted, one for the others.
func grants(items []wechat.SubscribeItem, accepted, refused store.GrantKind) (changes []store.GrantChange) {
	for _, item := range items {
		if item.TemplateID == "" || len(item.TemplateID) > 128 {
			continue
		}
		kind := refused
		if item.Accepted {
			kind = accepted
		}
		changes = append(changes, store.GrantChange{TemplateID: item.TemplateID, Kind: kind})
	}
	return changes
}

// about is all fields of a push but those that every push has, and without openids.
func about(m *wechat.PushMessage) json.RawMessage {
	fields := maps.Clone(m.Fields)
	for _, common := range []string{"ToUserName", "FromUserName", "CreateTime", "MsgType", "Event"} {
		delete(fields, common)
	}
	text, err := json.Marshal(withoutOpenID(fields, m.FromUserName))
	if err != nil || len(text) > aboutBytes {
		return json.RawMessage(`{"tooLong":true}`)
	}
	return text
}

// withoutOpenID is a value without the fields that hold an openid.
func withoutOpenID(v any, openID string) any {
	switch v := v.(type) {
	case map[string]any:
		kept := make(map[string]any, len(v))
		for name, value := range v {
			if text, ok := value.(string); strings.EqualFold(name, "openid") || ok && openID != "" && text == openID {
				continue
			}
			kept[name] = withoutOpenID(value, openID)
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, value := range v {
			kept[i] = withoutOpenID(value, openID)
		}
		return kept
	}
	return v
}

// hookPush is the data of a hook event that is a push.
type hookPush struct {
	Account string          `json:"account"` // mini or mp
	Kind    string          `json:"kind"`
	User    string          `json:"user"` // empty: nobody's doing
	MsgID   string          `json:"msgId,omitempty"`
	Fields  json.RawMessage `json:"fields"`
}

// tellPush tells the hooks that asked for it by name; the hooks that want everything hear of orders and alarms alone.
func (d *desk) tellPush(account string, m *wechat.PushMessage, u store.User) []store.Telling {
	event := pushHook + strings.ReplaceAll(m.Kind(), ":", ".")
	return tellHook(d.hooks, event, first(u.ID, account), pushID(m), saidAt(m), hookPush{account, m.Kind(), u.ID, m.MsgID, about(m)})
}

// eventView is an event as staff sees it.
type eventView struct {
	Seq     int64           `json:"seq"`
	Account string          `json:"account" enum:"mini,mp" doc:"mini-program or official account"`
	Kind    string          `json:"kind" doc:"event: and WeChat's name of it"`
	User    string          `json:"user,omitempty"`
	About   json.RawMessage `json:"about" doc:"All fields that WeChat sent, without openids"`
	At      int64           `json:"at" doc:"milliseconds"`
}

func (s *Server) routeEvents() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/events", access: staff, tag: "admin", summary: "What WeChat pushed beyond messages, the newest first",
		description: "Also events that this version does not know. They are kept for 30 days.", errors: []int{http.StatusBadRequest},
	}, func(ctx context.Context, in *struct {
		Account string `query:"account" enum:"mini,mp,"`
		Kind    string `query:"kind" maxLength:"140"`
		User    string `query:"user" maxLength:"64"`
		Before  int64  `query:"before" minimum:"0" doc:"seq of the last one, to go on"`
		Limit   int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	}) ([]eventView, error) {
		all, err := s.o.Store.Events(ctx, store.EventQuery{Account: in.Account, Kind: in.Kind, UserID: in.User, Before: in.Before, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		views := make([]eventView, len(all))
		for i, e := range all {
			views[i] = eventView{e.Seq, e.Account, e.Kind, e.UserID, e.About, e.At.UnixMilli()}
			if len(e.About) == 0 {
				views[i].About = json.RawMessage("{}")
			}
		}
		return views, nil
	})
}
