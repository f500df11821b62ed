package web

import (
	"bytes"
	"cmp"
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
		id := payID(o.OutTradeNo)
		if o.Room != "" {
			told = append(told, store.Telling{
				Kind: store.TellRoom, To: o.Room, ID: id, Action: "purchase",
				Payload: payload(purchase{
					Buyer: mask(u.Nickname), Product: o.Description, Quantity: o.Quantity, At: at.UnixMilli(),
				}),
			})
		}
		return append(told, tellPayer(o, u, id, "order.paid", at)...)
	}
}

// tellClosed says to the payer that an order was closed.
func tellClosed(at time.Time) func(store.Order, store.User) []store.Telling {
	return func(o store.Order, u store.User) []store.Telling {
		return tellPayer(o, u, "close:"+digest(o.OutTradeNo), "order.closed", at)
	}
}

// tellRefunded says to the payer that money came back.
func tellRefunded(o store.Order, r store.Refund, u store.User) []store.Telling {
	return tellPayer(o, u, refundID(r.OutRefundNo), "order.refunded", r.DoneAt)
}

// tellPayer writes to who pays an order, also to one whom the order names by openid alone.
func tellPayer(o store.Order, u store.User, id, action string, at time.Time) []store.Telling {
	to := cmp.Or(o.UserID, u.ID)
	if to == "" {
		return nil
	}
	return []store.Telling{{
		Kind: store.TellMail, To: to, ID: id, Action: action,
		Payload: payload(orderTold{
			OutTradeNo: o.OutTradeNo, Total: o.TotalFen, Description: o.Description, At: at.UnixMilli(), Refunded: o.RefundedFen,
		}),
	}}
}

// payID names a payment to everybody in a room; an order's number is for the payer alone.
func payID(outTradeNo string) string { return "pay:" + digest(outTradeNo) }

func refundID(outRefundNo string) string { return "refund:" + digest(outRefundNo) }

// digest is short, and always the same for the same number.
func digest(number string) string {
	sum := sha256.Sum256([]byte("wxhub " + number))
	return hex.EncodeToString(sum[:12])
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
	Key          string `json:"key,omitempty"` // of a menu's button or a QR code
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

// talkOf is the line of the conversation that a push adds.
func talkOf(m *wechat.PushMessage) store.Talk {
	t := store.Talk{
		ID: pushID(m), From: "user", MsgID: m.MsgID, Type: m.MsgType, Content: clip(m.Content), PicURL: clip(m.PicURL),
		MediaID: clip(m.MediaID), Title: clip(m.Title), PagePath: clip(m.PagePath), At: saidAt(m),
	}
	if m.MsgType == "event" {
		t.Content, t.Title = m.Event, clip(eventKey(m))
	}
	return t
}

// saidAt is when a push says that it happened, else now.
func saidAt(m *wechat.PushMessage) time.Time {
	if m.CreateTime.IsZero() {
		return time.Now()
	}
	return m.CreateTime
}

// tellStaff says in room kf what a customer said or did; t is its line.
func tellStaff(m *wechat.PushMessage, t store.Talk, c store.Conversation, u store.User) store.Telling {
	if m.MsgType == "event" {
		return store.Telling{Kind: store.TellRoom, To: customerRoom, ID: t.ID, Action: "kf.event", Payload: payload(customerEvent{
			Conversation: c.ID, User: u.ID, Event: m.Event, SessionFrom: clip(m.SessionFrom), Key: clip(m.SceneKey()), At: t.At.UnixMilli(),
		})}
	}
	return store.Telling{Kind: store.TellRoom, To: customerRoom, ID: t.ID, Action: "kf.message", Payload: payload(customerMessage{
		Conversation: c.ID, User: u.ID, MsgID: t.MsgID, Type: t.Type, Content: t.Content, PicURL: t.PicURL,
		MediaID: t.MediaID, Title: t.Title, PagePath: t.PagePath, At: t.At.UnixMilli(),
	})}
}

// pushID names a push to the outside: digested, because the Key of an event holds the sender's openid.
func pushID(m *wechat.PushMessage) string { return "push:" + pushKey(m)[:32] }

// pushKey is the Key of a push in a fixed length.
func pushKey(m *wechat.PushMessage) string {
	digest := sha256.Sum256([]byte(m.Key()))
	return hex.EncodeToString(digest[:])
}

// clip makes one field of a push fit for the store and for phones: UTF-8 without NUL, at most 4 KiB. WeChat's own
// limits are lower; a push that exceeds them is still taken, for refusing it would only bring it back.
func clip(s string) string { return clipTo(s, 4<<10) }

func clipTo(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// payload marshals one of the structs above, which cannot fail. Text stays readable: no \u003c for <.
func payload(v any) json.RawMessage {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("web: a payload that cannot be marshalled: " + err.Error())
	}
	return bytes.TrimSpace(text.Bytes())
}
