package wechat

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The same shipment told twice is told once.
func TestUploadShipping_nothingChanged(t *testing.T) {
	c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		_, _ = io.WriteString(w, `{"errcode":10060023,"errmsg":"nothing changed"}`)
	}))
	if err := c.UploadShipping(t.Context(), testShipment); err != nil {
		t.Error(err)
	}
}

// Right after the notify of a payment the shipping service does not know the order.
func TestUploadShipping_orderUnknownYet(t *testing.T) {
	c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		_, _ = io.WriteString(w, `{"errcode":10060001,"errmsg":"order not exist"}`)
	}))
	err := c.UploadShipping(t.Context(), testShipment)
	if !errors.Is(err, ErrNotYet) || AdviceOf(err) != Retry || RetryAfter(err) != shippingPause {
		t.Errorf("%v: %s after %v", err, AdviceOf(err), RetryAfter(err))
	}
}

func TestUploadShipping_bodies(t *testing.T) {
	var sent string
	c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		sent = body
		_, _ = io.WriteString(w, okAnswer)
	}))
	for want, s := range map[string]Shipment{
		`{"order_key":{"order_number_type":1,"mchid":"1900000109","out_trade_no":"T00001"},"logistics_type":3,"delivery_mode":1,` +
			`"shipping_list":[{"item_desc":"会员 <一年>"}],"upload_time":"2026-01-15T10:34:56.000+08:00","payer":{"openid":"o1"}}`: {
			MchID: "1900000109", OutTradeNo: "T00001", OpenID: "o1", Logistics: ShipVirtual, Parcels: []Parcel{{Item: "会员 <一年>"}}, At: time.Unix(callsNow, 0).UTC()},
		`{"order_key":{"order_number_type":2,"transaction_id":"42"},"logistics_type":1,"delivery_mode":2,"is_all_delivered":false,` +
			`"shipping_list":[{"tracking_no":"1","express_company":"ZTO","item_desc":"x"}],"upload_time":"2026-01-15T10:34:56.000+08:00","payer":{"openid":"o1"}}`: {
			TransactionID: "42", OpenID: "o1", Logistics: ShipExpress, Split: true, Parcels: []Parcel{{Item: "x", TrackingNo: "1", Company: "ZTO"}}, At: time.Unix(callsNow, 0)},
	} {
		if err := c.UploadShipping(t.Context(), s); err != nil || sent != want {
			t.Errorf("%v\n%s\n%s", err, sent, want)
		}
	}
}

func TestUploadShipping_checkedBefore(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, change := range map[string]func(*Shipment){
		"no order":        func(s *Shipment) { s.TransactionID = "" },
		"half an order":   func(s *Shipment) { s.TransactionID, s.OutTradeNo = "", "T00001" },
		"payer":           func(s *Shipment) { s.OpenID = "" },
		"logistics":       func(s *Shipment) { s.Logistics = 5 },
		"split by hand":   func(s *Shipment) { s.Logistics = ShipPickUp },
		"no parcel":       func(s *Shipment) { s.Parcels = nil },
		"two, not split":  func(s *Shipment) { s.Split = false },
		"sixteen":         func(s *Shipment) { s.Parcels = make([]Parcel, 16) },
		"no time":         func(s *Shipment) { s.At = time.Time{} },
		"no description":  func(s *Shipment) { s.Parcels = []Parcel{{TrackingNo: "1", Company: "ZTO", Item: " \n"}} },
		"no carrier":      func(s *Shipment) { s.Parcels = []Parcel{{TrackingNo: "1", Item: "x"}} },
		"SF, no contact":  func(s *Shipment) { s.Parcels = []Parcel{{TrackingNo: "1", Company: "SF", Item: "x"}} },
		"virtual carrier": func(s *Shipment) { s.Logistics, s.Split, s.Parcels = ShipVirtual, false, s.Parcels[:1] },
		"long": func(s *Shipment) {
			s.Parcels = []Parcel{{TrackingNo: strings.Repeat("1", 129), Company: "ZTO", Item: "x"}}
		},
	} {
		s := testShipment
		change(&s)
		if err := c.UploadShipping(t.Context(), s); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whether the app is managed is asked once a day, by all processes together; an error is not remembered.
func TestTradeManaged_askedOnce(t *testing.T) {
	var asked atomic.Int32
	var now clock
	store := &memoryTokens{now: now.now}
	h := withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		if asked.Add(1) == 1 {
			_, _ = io.WriteString(w, `{"errcode":45011,"errmsg":"slower"}`)
			return
		}
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok","is_trade_managed":false}`)
	})
	shared := func(o *Options) { o.Now, o.Tokens = now.now, store }
	one, other := newTestClient(t, h, shared), newTestClient(t, h, shared)
	if _, err := one.TradeManaged(t.Context()); !errors.Is(err, ErrTooOften) {
		t.Error(err)
	}
	parallel(10, func() {
		if managed, err := one.TradeManaged(t.Context()); err != nil || managed {
			t.Error(managed, err)
		}
	})
	if managed, err := other.TradeManaged(t.Context()); err != nil || managed || asked.Load() != 2 {
		t.Errorf("%v %v, asked %d times", managed, err, asked.Load())
	}
	now.wind(managedLife)
	if _, err := other.TradeManaged(t.Context()); err != nil || asked.Load() != 3 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}

func TestShippedOrder_answers(t *testing.T) {
	for answer, good := range map[string]bool{
		`{"order":{"transaction_id":"42","order_state":1}}`: true,
		`{"order":{"transaction_id":"42","order_state":6}}`: true,
		`{"order":{"transaction_id":"42","order_state":0}}`: false,
		`{"order":{"transaction_id":"42","order_state":7}}`: false,
		`{"order":{"transaction_id":"43","order_state":1}}`: false,
	} {
		c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, answer) }))
		o, err := c.ShippedOrder(t.Context(), "42")
		if (err == nil) != good || err != nil && (!errors.Is(err, ErrNonsense) || o != (ShippedOrder{})) {
			t.Errorf("%s: %+v %v", answer, o, err)
		}
	}
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	if _, err := c.ShippedOrder(t.Context(), "x"); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	if err := c.RemindReceipt(t.Context(), "42", time.Time{}); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	if err := c.SpecialOrder(t.Context(), "42", SpecialPresale, time.Time{}); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	if err := c.SetShippingPath(t.Context(), "a?b\n"); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
}
