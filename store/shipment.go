package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// States of a Shipment.
const (
	ShipmentWaiting  = "waiting"  // WeChat is to be told
	ShipmentTold     = "told"     // WeChat took it
	ShipmentFailed   = "failed"   // WeChat did not take it, see Reason
	ShipmentReceived = "received" // the customer has it, or time went by
	ShipmentSettled  = "settled"  // the money is the shop's
	ShipmentNeedless = "needless" // WeChat does not manage this shop's deliveries
)

// TellShipping is the Kind of a Telling that has WeChat told of an order's Shipment; To is the order's number.
const TellShipping TellingKind = "shipping"

// A Shipment is how an order is delivered, as WeChat is told.
type Shipment struct {
	OutTradeNo string
	State      string
	Logistics  int  // WeChat's: 1 express, 2 city, 3 virtual, 4 pick-up
	Complete   bool // nothing more follows
	Parcels    []Parcel
	By         string // who said so
	At         time.Time
	Version    int // of what was said; it grows
	ToldAt     time.Time
	Reason     string
	ReceivedAt time.Time
	SettledAt  time.Time
}

// A Parcel is one of a Shipment.
type Parcel struct {
	TrackingNo string `json:"trackingNo,omitempty"`
	Company    string `json:"company,omitempty"` // WeChat's code of the carrier
	Item       string `json:"item"`
	Contact    string `json:"contact,omitempty"` // masked phone number of the receiver, which some carriers want
}

// PutShipment keeps how a paid order is delivered and has WeChat told of it, in one transaction. The same again changes
// nothing; another one takes its place. tell says what the change wants told; it may be nil. ErrNotFound, ErrOrderUnpaid.
func (db *DB) PutShipment(ctx context.Context, s Shipment, tell func(Order, Shipment) []Telling) (kept Shipment, err error) {
	parcels, err := json.Marshal(s.Parcels)
	if err != nil {
		return Shipment{}, fmt.Errorf("put shipment: %w", err)
	}
	var in inputs
	in.matches("OutTradeNo", s.OutTradeNo, outTradeNos)
	in.number("Logistics", int64(s.Logistics), 1, 4)
	in.bytes("Parcels", parcels, maxRaw)
	in.text("By", s.By, 0, maxName)
	if in.err != nil {
		return Shipment{}, fmt.Errorf("put shipment: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		o, err := t.order(s.OutTradeNo)
		if err != nil {
			return err
		}
		if o.TransactionID == "" {
			return ErrOrderUnpaid
		}
		n, err := t.exec(`INSERT INTO shipments (out_trade_no, state, logistics, complete, parcels, asked_by, asked_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (out_trade_no) DO UPDATE SET state = excluded.state, logistics = excluded.logistics, complete = excluded.complete,
			parcels = excluded.parcels, asked_by = excluded.asked_by, asked_at = excluded.asked_at, version = shipments.version + 1, reason = ''
			WHERE shipments.logistics <> excluded.logistics OR shipments.complete <> excluded.complete
				OR shipments.parcels IS NULL OR shipments.parcels <> excluded.parcels OR shipments.state = 'failed'`,
			s.OutTradeNo, ShipmentWaiting, s.Logistics, s.Complete, parcels, s.By, stamp(t.now))
		if err != nil {
			return err
		}
		if kept, err = t.shipment(s.OutTradeNo); err != nil || n == 0 {
			return err
		}
		if err := t.addOutbox(Telling{Kind: TellShipping, To: s.OutTradeNo, ID: fmt.Sprintf("ship:%d", kept.Version), Action: "shipping"}); err != nil || tell == nil {
			return err
		}
		return t.tell(tell(o, kept))
	})
	if err != nil {
		return Shipment{}, fmt.Errorf("order %.32q: put shipment: %w", s.OutTradeNo, err)
	}
	return kept, nil
}

// VirtualTelling delivers an order of which nothing is sent by post, within the transaction that finds it paid.
func VirtualTelling(outTradeNo, item string) Telling {
	parcel, _ := json.Marshal([]Parcel{{Item: item}}) // texts always marshal
	return Telling{Kind: TellShipping, To: outTradeNo, ID: "ship:1", Payload: parcel}
}

const shipVirtual = 3 // WeChat's number

// deliver keeps the Shipment of a VirtualTelling, once.
func (t *tx) deliver(outTradeNo string, parcels []byte) error {
	n, err := t.exec(`INSERT INTO shipments (out_trade_no, state, logistics, complete, parcels, asked_by, asked_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (out_trade_no) DO NOTHING`, outTradeNo, ShipmentWaiting, shipVirtual, true, parcels, "wxhub", stamp(t.now))
	if err != nil || n == 0 {
		return err
	}
	return t.addOutbox(Telling{Kind: TellShipping, To: outTradeNo, ID: "ship:1", Action: "shipping"})
}

// Shipment finds how an order is delivered. Absent: ErrNotFound.
func (db *DB) Shipment(ctx context.Context, outTradeNo string) (s Shipment, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		s, err = t.shipment(outTradeNo)
		return err
	})
	if err != nil {
		return Shipment{}, fmt.Errorf("order %.32q: shipment: %w", outTradeNo, err)
	}
	return s, nil
}

func (t *tx) shipment(outTradeNo string) (s Shipment, err error) {
	var asked, told, received, settled int64
	var parcels []byte
	err = t.row([]any{&s.OutTradeNo, &s.State, &s.Logistics, &s.Complete, &parcels, &s.By, &asked, &s.Version, &told, &s.Reason, &received, &settled},
		`SELECT out_trade_no, state, logistics, complete, parcels, asked_by, asked_at, version, told_at, reason, received_at, settled_at
		FROM shipments WHERE out_trade_no = ?`, outTradeNo)
	s.At, s.ToldAt, s.ReceivedAt, s.SettledAt = moment(asked), moment(told), moment(received), moment(settled)
	if err == nil && len(parcels) > 0 {
		err = json.Unmarshal(parcels, &s.Parcels)
	}
	return s, err
}

// FinishShipment records what became of telling WeChat of a Shipment's version: ShipmentTold, ShipmentFailed or
// ShipmentNeedless, with the reason of a failure. A version that was replaced meanwhile, or a state that WeChat has told
// of since, stays.
func (db *DB) FinishShipment(ctx context.Context, outTradeNo string, version int, state, reason string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		query, args := "UPDATE shipments SET state = ?, reason = ?", []any{state, cut(reason, maxReason)}
		if state == ShipmentTold {
			query, args = query+", told_at = ?", append(args, stamp(t.now))
		}
		_, err := t.exec(query+" WHERE out_trade_no = ? AND version = ? AND state IN ('waiting', 'failed')", append(args, outTradeNo, version)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("order %.32q: finish shipment: %w", outTradeNo, err)
	}
	return nil
}

// A Settlement is what the platform tells of an order's delivery.
type Settlement struct {
	OutTradeNo            string
	ReceivedAt, SettledAt time.Time // zero: not yet
}

// settle notes a Settlement; an order that nobody shipped here gets a row of its own. That WeChat was told says nothing of
// a row that is there: a newer version may wait to be told.
func (t *tx) settle(s Settlement) error {
	o, err := t.order(s.OutTradeNo)
	if err == ErrNotFound {
		return nil // of another program of the shop
	}
	if err != nil {
		return err
	}
	state := ShipmentTold
	switch {
	case !s.SettledAt.IsZero():
		state = ShipmentSettled
	case !s.ReceivedAt.IsZero():
		state = ShipmentReceived
	}
	_, err = t.exec(`INSERT INTO shipments (out_trade_no, state, logistics, complete, asked_by, asked_at, told_at, received_at, settled_at)
		VALUES (?, ?, ?, ?, 'WeChat', ?, ?, ?, ?) ON CONFLICT (out_trade_no) DO UPDATE SET
		state = CASE WHEN shipments.settled_at > 0 OR excluded.state = 'told' THEN shipments.state ELSE excluded.state END,
		received_at = CASE WHEN excluded.received_at > 0 THEN excluded.received_at ELSE shipments.received_at END,
		settled_at = CASE WHEN excluded.settled_at > 0 THEN excluded.settled_at ELSE shipments.settled_at END`,
		o.OutTradeNo, state, 1, true, stamp(t.now), stamp(t.now), stamp(s.ReceivedAt), stamp(s.SettledAt))
	return err
}

// forgetContacts takes away what parcels of these orders say about their receivers.
func (t *tx) forgetContacts(orders []string) error {
	for _, no := range orders {
		s, err := t.shipment(no)
		if err == ErrNotFound {
			continue
		}
		if err != nil {
			return err
		}
		for i := range s.Parcels {
			s.Parcels[i].Contact = ""
		}
		parcels, err := json.Marshal(s.Parcels)
		if err == nil {
			_, err = t.exec("UPDATE shipments SET parcels = ? WHERE out_trade_no = ?", parcels, no)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
