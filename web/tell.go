package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// What a transaction wants said. Every ID is derived from the cause, so that a cause told twice is heard once.

// purchase is the payload of the push "purchase", which everybody in the room sees.
type purchase struct {
	Buyer    string `json:"buyer"` // masked
	Product  string `json:"product"`
	Quantity int    `json:"quantity"`
	At       int64  `json:"at"`
}

// orderTold is the payload of "order.paid", "order.closed" and "order.refunded", which the payer alone sees.
type orderTold struct {
	OutTradeNo  string `json:"outTradeNo"`
	Total       int64  `json:"total"`
	Description string `json:"description"`
	At          int64  `json:"at"`
	Refunded    int64  `json:"refunded"`
}

// tellPaid says that an order was paid: to its room with the buyer masked, and to the payer by mail.
func tellPaid(at time.Time) func(store.Order, store.User) []store.Telling {
	return func(o store.Order, u store.User) []store.Telling {
		var told []store.Telling
		id := "pay:" + o.OutTradeNo
		if o.Room != "" {
			told = append(told, store.Telling{
				Kind: store.TellRoom, To: o.Room, ID: id, Action: "purchase",
				Payload: payload(purchase{
					Buyer: mask(u.Nickname), Product: o.Description, Quantity: o.Quantity, At: at.UnixMilli(),
				}),
			})
		}
		if o.UserID != "" {
			told = append(told, store.Telling{
				Kind: store.TellMail, To: o.UserID, ID: id, Action: "order.paid",
				Payload: payload(orderTold{
					OutTradeNo: o.OutTradeNo, Total: o.TotalFen, Description: o.Description,
					At: at.UnixMilli(), Refunded: o.RefundedFen,
				}),
			})
		}
		return told
	}
}

// customerRoom is where staff hears what customers say.
const customerRoom = "kf"

// customerMessage is the payload of the push "kf.message".
type customerMessage struct {
	Conversation string `json:"conversation"`
	User         string `json:"user"`
	MsgID        string `json:"msgId"` // text: beyond what a JavaScript number holds
	Type         string `json:"type"`
	Content      string `json:"content"`
	PicURL       string `json:"picUrl"`
	MediaID      string `json:"mediaId"`
	Title        string `json:"title"`
	PagePath     string `json:"pagePath"`
	At           int64  `json:"at"`
}

// customerEvent is the payload of the push "kf.event".
type customerEvent struct {
	Conversation string `json:"conversation"`
	User         string `json:"user"`
	Event        string `json:"event"`
	SessionFrom  string `json:"sessionFrom"`
	At           int64  `json:"at"`
}

// ofCustomer tells whether a push is a customer's doing. The platform reports under a customer's openid too.
func ofCustomer(m *wechat.PushMessage) bool {
	if m.MsgType != "event" {
		return true
	}
	for _, platform := range []string{"wxa_", "trade_manage_", "xpay_", "subscribe_msg_sent_", "debug_"} {
		if strings.HasPrefix(m.Event, platform) {
			return false
		}
	}
	return true
}

// tellPush says what a customer said or did to the staff, and answers by the first auto-reply rule that fits.
func tellPush(m *wechat.PushMessage, rules []Reply) func(store.Conversation, store.User) []store.Telling {
	return func(c store.Conversation, u store.User) []store.Telling {
		id := pushID(m)
		staff := store.Telling{Kind: store.TellRoom, To: customerRoom, ID: id}
		if m.MsgType == "event" {
			staff.Action = "kf.event"
			staff.Payload = payload(customerEvent{
				Conversation: c.ID, User: u.ID, Event: m.Event, SessionFrom: m.SessionFrom, At: m.CreateTime.UnixMilli(),
			})
			return []store.Telling{staff}
		}
		staff.Action = "kf.message"
		staff.Payload = payload(customerMessage{
			Conversation: c.ID, User: u.ID, MsgID: m.MsgID, Type: m.MsgType, Content: m.Content, PicURL: m.PicURL,
			MediaID: m.MediaID, Title: m.Title, PagePath: m.PagePath, At: m.CreateTime.UnixMilli(),
		})
		told := []store.Telling{staff}
		if rule, ok := fittingReply(rules, m); ok {
			told = append(told, store.Telling{
				Kind: store.TellCustomSend, To: m.FromUserName, ID: "reply:" + id, Action: "text",
				Payload: payload(wechat.CustomMessage{Text: &wechat.CustomText{Content: rule.Text}}),
			})
		}
		return told
	}
}

// pushID names a push to the outside. The Key of an event holds the sender's openid, so it is digested.
func pushID(m *wechat.PushMessage) string {
	digest := sha256.Sum256([]byte(m.Key()))
	return "push:" + hex.EncodeToString(digest[:12])
}

// payload marshals one of the structs above, which cannot fail. Text stays readable: no <> for <>.
func payload(v any) json.RawMessage {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("web: a payload that cannot be marshalled: " + err.Error())
	}
	return bytes.TrimSpace(text.Bytes())
}
