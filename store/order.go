package store

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// OrderState is where an order stands. It never goes backwards, but for closed → paid (a late payment).
type OrderState string

const (
	OrderCreated   OrderState = "created"
	OrderPaying    OrderState = "paying"
	OrderPaid      OrderState = "paid"
	OrderClosed    OrderState = "closed"
	OrderRefunding OrderState = "refunding"
	OrderRefunded  OrderState = "refunded"
)

type Order struct {
	OutTradeNo      string // 6-32 of 0-9A-Za-z_-|*
	AppID, MchID    string // whom WeChat must name in the payment
	UserID, OpenID  string // who pays; one of them may be empty
	ProductID       string
	Description     string
	Quantity        int   // at least 1; 0 is stored as 1
	TotalFen        int64 // not negative
	RefundedFen     int64
	Currency        string // CNY, also when empty
	Room            string // where the purchase notice is said; empty: nowhere
	State           OrderState
	PrepayID        string
	PrepayExpiresAt time.Time
	TransactionID   string
	Late            bool // paid after it was closed
	CreatedAt       time.Time
	PaidAt          time.Time
}

// CreateOrder stores a new order in state created, at the store's own time. The same OutTradeNo with the same fields
// returns the order as it is; with others ErrOrderExists.
func (db *DB) CreateOrder(ctx context.Context, o Order) (Order, error) {
	if o.Quantity == 0 {
		o.Quantity = 1
	}
	if o.Currency == "" {
		o.Currency = "CNY"
	}
	if err := o.check(); err != nil {
		return Order{}, fmt.Errorf("create order: %w", err)
	}
	var kept Order
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO orders (out_trade_no, app_id, mch_id, user_id, open_id, product_id, description,
			quantity, total_fen, currency, room, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (out_trade_no) DO NOTHING`,
			o.OutTradeNo, o.AppID, o.MchID, o.UserID, o.OpenID, o.ProductID, o.Description,
			o.Quantity, o.TotalFen, o.Currency, o.Room, OrderCreated, stamp(t.now))
		if err != nil {
			return err
		}
		if kept, err = t.order(o.OutTradeNo); err != nil {
			return err
		}
		if n == 0 && !o.sameAs(kept) {
			return ErrOrderExists
		}
		return nil
	})
	if err != nil {
		return Order{}, fmt.Errorf("create order %s: %w", o.OutTradeNo, err)
	}
	return kept, nil
}

func (o *Order) check() error {
	var in inputs
	in.matches("OutTradeNo", o.OutTradeNo, outTradeNos)
	in.text("AppID", o.AppID, 1, maxName)
	in.text("MchID", o.MchID, 1, maxName)
	if o.UserID != "" {
		in.matches("UserID", o.UserID, userIDs)
	}
	in.text("OpenID", o.OpenID, 0, maxName)
	if o.UserID == "" && o.OpenID == "" {
		in.fault("UserID or OpenID", "is missing")
	}
	in.text("ProductID", o.ProductID, 0, maxName)
	in.text("Description", o.Description, 0, maxText)
	in.number("Quantity", int64(o.Quantity), 1, math.MaxInt32)
	in.number("TotalFen", o.TotalFen, 0, maxFen)
	in.matches("Currency", o.Currency, currencies)
	if o.Room != "" {
		in.matches("Room", o.Room, roomNames)
	}
	return in.err
}

// sameAs compares what a caller of CreateOrder says about an order.
func (o Order) sameAs(p Order) bool {
	said := func(o Order) Order {
		return Order{OutTradeNo: o.OutTradeNo, AppID: o.AppID, MchID: o.MchID, UserID: o.UserID, OpenID: o.OpenID,
			ProductID: o.ProductID, Description: o.Description, Quantity: o.Quantity, TotalFen: o.TotalFen,
			Currency: o.Currency, Room: o.Room}
	}
	return said(o) == said(p)
}

// SetPrepay records WeChat's prepay_id and moves created to paying. Any other state stays as it is.
func (db *DB) SetPrepay(ctx context.Context, outTradeNo, prepayID string, expiresAt time.Time) error {
	var in inputs
	in.text("PrepayID", prepayID, 1, maxText)
	if in.err != nil {
		return fmt.Errorf("order %.32q: set prepay: %w", outTradeNo, in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE orders SET prepay_id = ?, prepay_expires_at = ?,
			state = CASE WHEN state = 'created' THEN 'paying' ELSE state END WHERE out_trade_no = ?`,
			prepayID, stamp(expiresAt), outTradeNo)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("order %.32q: set prepay: %w", outTradeNo, err)
	}
	return nil
}

// Order finds an order by its number.
func (db *DB) Order(ctx context.Context, outTradeNo string) (o Order, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		o, err = t.order(outTradeNo)
		return err
	})
	if err != nil {
		return Order{}, fmt.Errorf("order %.32q: %w", outTradeNo, err)
	}
	return o, nil
}

// OrderQuery selects orders, newest first. Empty fields do not select.
type OrderQuery struct {
	UserID string
	State  OrderState
	Before time.Time // created before
	Limit  int       // 1 to 200, 0: 50
}

func (db *DB) Orders(ctx context.Context, q OrderQuery) ([]Order, error) {
	var in inputs
	limit := in.limited(q.Limit, 50, 200)
	if in.err != nil {
		return nil, fmt.Errorf("orders: %w", in.err)
	}
	where, args := []string{"1 = 1"}, []any(nil)
	if q.UserID != "" {
		where, args = append(where, "user_id = ?"), append(args, q.UserID)
	}
	if q.State != "" {
		where, args = append(where, "state = ?"), append(args, q.State)
	}
	if !q.Before.IsZero() {
		where, args = append(where, "created_at < ?"), append(args, stamp(q.Before))
	}
	var all []Order
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			o, err := scanOrder(scan)
			all = append(all, o)
			return err
		}, selectOrder+strings.Join(where, " AND ")+" ORDER BY created_at DESC, out_trade_no DESC LIMIT ?", append(args, limit)...)
	})
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	return all, nil
}

const selectOrder = `SELECT out_trade_no, app_id, mch_id, user_id, open_id, product_id, description, quantity, total_fen,
	refunded_fen, currency, room, state, prepay_id, prepay_expires_at, transaction_id, late, created_at, paid_at
	FROM orders WHERE `

func scanOrder(scan func(...any) error) (Order, error) {
	var o Order
	var prepayExpires, created, paid int64
	err := scan(&o.OutTradeNo, &o.AppID, &o.MchID, &o.UserID, &o.OpenID, &o.ProductID, &o.Description, &o.Quantity,
		&o.TotalFen, &o.RefundedFen, &o.Currency, &o.Room, &o.State, &o.PrepayID, &prepayExpires, &o.TransactionID,
		&o.Late, &created, &paid)
	o.PrepayExpiresAt, o.CreatedAt, o.PaidAt = moment(prepayExpires), moment(created), moment(paid)
	return o, err
}

// order reads an order; in a transaction that will change it, on PostgreSQL, with its lock.
func (t *tx) order(outTradeNo string) (o Order, err error) {
	err = ErrNotFound
	queryErr := t.rows(func(scan func(...any) error) error {
		o, err = scanOrder(scan)
		return err
	}, selectOrder+"out_trade_no = ?"+t.lock, outTradeNo)
	if queryErr != nil {
		err = queryErr
	}
	return o, err
}
