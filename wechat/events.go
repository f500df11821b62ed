package wechat

import (
	"encoding/json"
	"strings"
	"time"
)

// Push is one of the types below: what a PushMessage says, in words of its own. All of them are read leniently:
// what is absent or of a strange type is empty, because WeChat may add and change, and an event must never be
// refused for that.
type Push interface{ push() }

// Messages of a person. Texts and pictures are not moderated.
type (
	TextMessage  struct{ Content string }
	ImageMessage struct{ PicURL, MediaID string }
	VoiceMessage struct{ MediaID, Format, Recognition string }
	VideoMessage struct {
		MediaID, ThumbMediaID string
		Short                 bool // shortvideo
	}
	LocationMessage struct {
		Latitude, Longitude, Scale string // degrees; of the map
		Label                      string
	}
	LinkMessage struct{ Title, Description, URL string }
	CardMessage struct{ Title, AppID, PagePath, ThumbURL, ThumbMediaID string } // miniprogrampage
)

// Events of a mini-program.
type (
	EnterSession  struct{ SessionFrom string } // user_enter_tempsession: somebody opened the chat
	SubscribeItem struct {
		TemplateID string
		Status     string // accept, reject, ban …; of SubscribeSent: success or why not
		Accepted   bool   // Status is accept
		PopupScene string // of SubscribePopup: 0 the popup, 1 and 2 the settings
		MsgID      string // of SubscribeSent: what SendSubscribe returned
		Code       int64  // of SubscribeSent; 0: delivered
	}
	SubscribePopup  struct{ Items []SubscribeItem } // a popup was answered: each accepted item is one message more
	SubscribeChange struct{ Items []SubscribeItem } // switched off in the settings
	SubscribeSent   struct{ Items []SubscribeItem } // what became of messages, when the platform failed
	MediaChecked    struct {
		TraceID, AppID string
		Verdict        Verdict // "" when Code is not 0
		Label          int64   // 100: nothing found
		Code           int64   // 0 ok; -1008: WeChat could not fetch it
	}
)

// Trade management and virtual payment, of a mini-program.
type (
	ShippingAccessReminder struct{ Text string }   // trade_manage_remind_access_api: use the shipping API, or be cut off
	ShippingReminder       struct{ TradeReminder } // trade_manage_remind_shipping: not shipped for 48 hours
	TradeReminder          struct {
		TransactionID, MchID, OutTradeNo string
		PaidAt                           time.Time
		Text                             string
	}
	OrderSettlement struct { // trade_manage_order_settlement: shipped, and once more when settled
		TransactionID, MchID, SubMchID, OutTradeNo string
		PaidAt, ShippedAt                          time.Time
		EstimatedSettlementAt                      time.Time
		ReceivedAt, SettledAt                      time.Time // zero before
		ReceivedByHand                             bool      // false: by time
	}
	TradeControlled struct{} // wxa_trade_controlled
	GoodsDelivery   struct { // xpay_goods_deliver_notify
		VirtualPayment
		ProductID string
	}
	CoinPayment    struct{ VirtualPayment } // xpay_coin_pay_notify
	VirtualPayment struct {
		OpenID, OutTradeNo               string
		Sandbox                          bool
		PayOutTradeNo, PayTransactionID  string
		PaidAt                           time.Time
		Quantity, OrigPrice, ActualPrice int64 // prices in fen
		Attach                           string
	}
)

// Events of an official account.
type (
	Follow         struct{ Scene, Ticket string } // subscribe; Scene: of the code that led to it
	Unfollow       struct{}                       // unsubscribe: the platform demands that this person's data be erased
	Scan           struct{ Scene, Ticket string }
	LocationReport struct{ Latitude, Longitude, Precision string } // degrees; meters
	MenuClick      struct{ Key string }
	MenuView       struct{ URL, MenuID string }
	MenuEvent      struct{ Name, Key string } // view_miniprogram, scancode_push, scancode_waitmsg, pic_…, location_select
	TemplateResult struct {
		MsgID, Status      string
		Delivered, Blocked bool // Blocked: by the person
	}
	MassResult    struct{ MsgID, Status string } // MASSSENDJOBFINISH
	PublishResult struct {
		PublishID, ArticleID string
		Status               int64 // 0: published
	}
)

// UnknownPush is all else: WeChat's tools send such too, and want "success" like any other.
type UnknownPush struct{}

func (TextMessage) push()            {}
func (ImageMessage) push()           {}
func (VoiceMessage) push()           {}
func (VideoMessage) push()           {}
func (LocationMessage) push()        {}
func (LinkMessage) push()            {}
func (CardMessage) push()            {}
func (EnterSession) push()           {}
func (SubscribePopup) push()         {}
func (SubscribeChange) push()        {}
func (SubscribeSent) push()          {}
func (MediaChecked) push()           {}
func (ShippingAccessReminder) push() {}
func (ShippingReminder) push()       {}
func (OrderSettlement) push()        {}
func (TradeControlled) push()        {}
func (GoodsDelivery) push()          {}
func (CoinPayment) push()            {}
func (Follow) push()                 {}
func (Unfollow) push()               {}
func (Scan) push()                   {}
func (LocationReport) push()         {}
func (MenuClick) push()              {}
func (MenuView) push()               {}
func (MenuEvent) push()              {}
func (TemplateResult) push()         {}
func (MassResult) push()             {}
func (PublishResult) push()          {}
func (UnknownPush) push()            {}

// Kind is what kind of push it is: its MsgType (text, image …), or "event:" and the event as WeChat spells it
// (event:subscribe, event:SCAN).
func (m *PushMessage) Kind() string {
	if m.MsgType == "event" {
		return "event:" + m.Event
	}
	return m.MsgType
}

// Typed is what m says; UnknownPush when that is new.
func (m *PushMessage) Typed() Push {
	if read, known := pushTypes[m.Kind()]; known {
		return read(m)
	}
	if m.MsgType == "event" && strings.HasPrefix(m.Event, "pic_") {
		return menuEvent(m)
	}
	return UnknownPush{}
}

var pushTypes = map[string]func(*PushMessage) Push{
	"text":  func(m *PushMessage) Push { return TextMessage{m.Content} },
	"image": func(m *PushMessage) Push { return ImageMessage{m.PicURL, m.MediaID} },
	"voice": func(m *PushMessage) Push {
		return VoiceMessage{m.MediaID, m.field("Format"), m.field("Recognition")}
	},
	"video":      func(m *PushMessage) Push { return VideoMessage{m.MediaID, m.ThumbMediaID, false} },
	"shortvideo": func(m *PushMessage) Push { return VideoMessage{m.MediaID, m.ThumbMediaID, true} },
	"location": func(m *PushMessage) Push {
		return LocationMessage{m.field("Location_X"), m.field("Location_Y"), m.field("Scale"), m.field("Label")}
	},
	"link": func(m *PushMessage) Push { return LinkMessage{m.Title, m.field("Description"), m.field("Url")} },
	"miniprogrampage": func(m *PushMessage) Push {
		return CardMessage{m.Title, m.AppID, m.PagePath, m.ThumbURL, m.ThumbMediaID}
	},

	"event:user_enter_tempsession": func(m *PushMessage) Push { return EnterSession{m.SessionFrom} },
	"event:subscribe_msg_popup_event": func(m *PushMessage) Push {
		return SubscribePopup{subscribeItems(m, "SubscribeMsgPopupEvent")}
	},
	"event:subscribe_msg_change_event": func(m *PushMessage) Push {
		return SubscribeChange{subscribeItems(m, "SubscribeMsgChangeEvent")}
	},
	"event:subscribe_msg_sent_event": func(m *PushMessage) Push {
		return SubscribeSent{subscribeItems(m, "SubscribeMsgSentEvent")}
	},
	"event:wxa_media_check": readMediaCheck,

	"event:trade_manage_remind_access_api": func(m *PushMessage) Push { return ShippingAccessReminder{m.field("msg")} },
	"event:trade_manage_remind_shipping": func(m *PushMessage) Push {
		return ShippingReminder{TradeReminder{
			TransactionID: m.field("transaction_id"), MchID: m.field("merchant_id"), OutTradeNo: m.field("merchant_trade_no"),
			PaidAt: m.seconds("pay_time"), Text: m.field("msg"),
		}}
	},
	"event:trade_manage_order_settlement": func(m *PushMessage) Push {
		return OrderSettlement{
			TransactionID: m.field("transaction_id"), MchID: m.field("merchant_id"), SubMchID: m.field("sub_merchant_id"),
			OutTradeNo: m.field("merchant_trade_no"), PaidAt: m.seconds("pay_time"), ShippedAt: m.seconds("shipped_time"),
			EstimatedSettlementAt: m.seconds("estimated_settlement_time"), ReceivedAt: m.seconds("confirm_receive_time"),
			SettledAt: m.seconds("settlement_time"), ReceivedByHand: m.field("confirm_receive_method") == "2",
		}
	},
	"event:wxa_trade_controlled": func(*PushMessage) Push { return TradeControlled{} },
	"event:xpay_goods_deliver_notify": func(m *PushMessage) Push {
		goods := object(m.Fields["GoodsInfo"])
		return GoodsDelivery{readVirtualPayment(m, goods), scalar(goods["ProductId"])}
	},
	"event:xpay_coin_pay_notify": func(m *PushMessage) Push {
		return CoinPayment{readVirtualPayment(m, object(m.Fields["CoinInfo"]))}
	},

	"event:subscribe":        func(m *PushMessage) Push { return Follow{m.SceneKey(), m.Ticket} },
	"event:unsubscribe":      func(*PushMessage) Push { return Unfollow{} },
	"event:SCAN":             func(m *PushMessage) Push { return Scan{m.EventKey, m.Ticket} },
	"event:LOCATION":         func(m *PushMessage) Push { return LocationReport{m.Latitude, m.Longitude, m.Precision} },
	"event:CLICK":            func(m *PushMessage) Push { return MenuClick{m.EventKey} },
	"event:VIEW":             func(m *PushMessage) Push { return MenuView{m.EventKey, m.field("MenuId")} },
	"event:view_miniprogram": menuEvent,
	"event:scancode_push":    menuEvent,
	"event:scancode_waitmsg": menuEvent,
	"event:location_select":  menuEvent,
	"event:TEMPLATESENDJOBFINISH": func(m *PushMessage) Push {
		// Here it is MsgID, and the space after the colon comes and goes.
		status := strings.ReplaceAll(strings.ToLower(m.field("Status")), " ", "")
		return TemplateResult{
			MsgID: orElse(m.field("MsgID"), m.MsgID), Status: m.field("Status"),
			Delivered: status == "success", Blocked: status == "failed:userblock",
		}
	},
	"event:MASSSENDJOBFINISH": func(m *PushMessage) Push {
		return MassResult{orElse(m.field("MsgID"), m.MsgID), m.field("Status")}
	},
	"event:PUBLISHJOBFINISH": func(m *PushMessage) Push {
		info := object(m.Fields["PublishEventInfo"])
		status, _ := whole(info["publish_status"])
		return PublishResult{scalar(info["publish_id"]), scalar(info["article_id"]), status}
	},
}

func menuEvent(m *PushMessage) Push { return MenuEvent{m.Event, m.EventKey} }

// subscribeItems reads a list that stands at the top in JSON and in an element of its own in XML, and is an
// object where it has one item.
func subscribeItems(m *PushMessage, element string) []SubscribeItem {
	list := m.Fields["List"]
	if list == nil {
		list = object(m.Fields[element])["List"]
	}
	var items []SubscribeItem
	for _, one := range oneOrMore(list) {
		item := object(one)
		status := scalar(item["SubscribeStatusString"])
		code, _ := whole(item["ErrorCode"])
		items = append(items, SubscribeItem{
			TemplateID: scalar(item["TemplateId"]), Status: orElse(status, scalar(item["ErrorStatus"])), Accepted: status == "accept",
			PopupScene: scalar(item["PopupScene"]), MsgID: orElse(scalar(item["MsgID"]), scalar(item["MsgId"])), Code: code,
		})
	}
	return items
}

func readMediaCheck(m *PushMessage) Push {
	result := object(m.Fields["result"])
	c := MediaChecked{TraceID: m.field("trace_id"), AppID: m.field("appid"), Verdict: Verdict(scalar(result["suggest"]))}
	c.Label, _ = whole(result["label"])
	c.Code, _ = whole(m.Fields["errcode"])
	if c.Code != 0 || !c.Verdict.known() {
		c.Verdict = ""
	}
	return c
}

func readVirtualPayment(m *PushMessage, what map[string]any) VirtualPayment {
	pay := object(m.Fields["WeChatPayInfo"])
	p := VirtualPayment{
		OpenID: m.field("OpenId"), OutTradeNo: m.field("OutTradeNo"), Sandbox: m.field("Env") == "1",
		PayOutTradeNo: scalar(pay["MchOrderNo"]), PayTransactionID: scalar(pay["TransactionId"]),
		PaidAt: secondsOf(pay["PaidTime"]), Attach: scalar(what["Attach"]),
	}
	p.Quantity, _ = whole(what["Quantity"])
	p.OrigPrice, _ = whole(what["OrigPrice"])
	p.ActualPrice, _ = whole(what["ActualPrice"])
	return p
}

// field is a field as text; "" when it is absent or no text or number.
func (m *PushMessage) field(name string) string { return scalar(m.Fields[name]) }

// seconds is a field as a time; zero when it is absent or no time.
func (m *PushMessage) seconds(name string) time.Time { return secondsOf(m.Fields[name]) }

func secondsOf(v any) time.Time {
	at, err := unixSeconds(strings.TrimSpace(scalar(v)))
	if err != nil {
		return time.Time{}
	}
	return at
}

// object is an object, also one that came as JSON in a text; else nil.
func object(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return v
	case string:
		if strings.HasPrefix(strings.TrimSpace(v), "{") && json.Valid([]byte(v)) {
			m, _ := parseJSON([]byte(v))
			return m
		}
	}
	return nil
}

// oneOrMore is a list, of one where v is no list; empty for nothing.
func oneOrMore(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		return []any{v}
	}
	return nil
}
