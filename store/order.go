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
	Virtual         bool // nothing is sent by post
	CreatedAt       time.Time
	PaidAt          time.Time
	QueriedAt       time.Time // when WeChat was last asked about it, see CheckedOrder
}

// CreateOrder stores a new order in state created, at the store's own time. The same OutTradeNo with the same fields
// returns the order as it is; with others ErrOrderExists. A UserID whose person was erased: ErrErased.
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
		if o.UserID != "" {
			if err := t.alive(o.UserID); err != nil {
				return err
			}
		}
		n, err := t.exec(`INSERT INTO orders (out_trade_no, app_id, mch_id, user_id, open_id, product_id, description,
			quantity, total_fen, currency, room, is_virtual, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (out_trade_no) DO NOTHING`,
			o.OutTradeNo, o.AppID, o.MchID, o.UserID, o.OpenID, o.ProductID, o.Description,
			o.Quantity, o.TotalFen, o.Currency, o.Room, o.Virtual, OrderCreated, stamp(t.now))
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
			Currency: o.Currency, Room: o.Room, Virtual: o.Virtual}
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

// FirstOrderAt is when the oldest order was made; zero: there is none.
func (db *DB) FirstOrderAt(ctx context.Context) (time.Time, error) {
	var at int64
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&at}, "SELECT COALESCE(MIN(created_at), 0) FROM orders")
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("first order: %w", err)
	}
	return moment(at), nil
}

// OrderQuery selects orders, newest first. Empty fields do not select.
type OrderQuery struct {
	OutTradeNo string // the whole number
	UserID     string
	OpenID     string
	State      OrderState
	Before     time.Time // created before
	Limit      int       // 1 to 200, 0: 50
}

func (db *DB) Orders(ctx context.Context, q OrderQuery) ([]Order, error) {
	var in inputs
	limit := in.limited(q.Limit, 50, 200)
	if in.err != nil {
		return nil, fmt.Errorf("orders: %w", in.err)
	}
	where, args := []string{"1 = 1"}, []any(nil)
	for column, value := range map[string]string{
		"out_trade_no": q.OutTradeNo, "user_id": q.UserID, "open_id": q.OpenID, "state": string(q.State),
	} {
		if value != "" {
			where, args = append(where, column+" = ?"), append(args, value)
		}
	}
	if !q.Before.IsZero() {
		where, args = append(where, "created_at < ?"), append(args, stamp(q.Before))
	}
	all, err := db.orders(ctx, strings.Join(where, " AND ")+" ORDER BY created_at DESC, out_trade_no DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	return all, nil
}

func (db *DB) orders(ctx context.Context, where string, args ...any) (all []Order, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			o, err := scanOrder(scan)
			all = append(all, o)
			return err
		}, selectOrder+where, args...)
	})
	return all, err
}

const selectOrder = `SELECT out_trade_no, app_id, mch_id, user_id, open_id, product_id, description, quantity, total_fen,
	refunded_fen, currency, room, state, prepay_id, prepay_expires_at, transaction_id, late, created_at, paid_at,
	queried_at, is_virtual FROM orders WHERE `

func scanOrder(scan func(...any) error) (Order, error) {
	var o Order
	var prepayExpires, created, paid, queried int64
	err := scan(&o.OutTradeNo, &o.AppID, &o.MchID, &o.UserID, &o.OpenID, &o.ProductID, &o.Description, &o.Quantity,
		&o.TotalFen, &o.RefundedFen, &o.Currency, &o.Room, &o.State, &o.PrepayID, &prepayExpires, &o.TransactionID,
		&o.Late, &created, &paid, &queried, &o.Virtual)
	o.PrepayExpiresAt, o.CreatedAt, o.PaidAt, o.QueriedAt = moment(prepayExpires), moment(created), moment(paid), moment(queried)
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

// nameless orders belong to a person who was erased.
func (o Order) nameless() bool { return o.OutTradeNo != "" && o.UserID == "" && o.OpenID == "" }

// CloseOrder moves an order that was not paid to closed, in one transaction with what tell wants said; WeChat has been
// told before. A closed one is returned as it is, and tell is not called again. One that was paid: ErrOrderPaid.
// A payment that comes later all the same makes it paid, with Late.
func (db *DB) CloseOrder(ctx context.Context, outTradeNo string, tell func(Order, User) []Telling) (o Order, err error) {
	err = db.engine.write(ctx, func(t *tx) error {
		if o, err = t.order(outTradeNo); err != nil {
			return err
		}
		switch o.State {
		case OrderCreated, OrderPaying:
		case OrderClosed:
			return nil
		default:
			return ErrOrderPaid
		}
		o.State = OrderClosed
		if _, err := t.exec("UPDATE orders SET state = ? WHERE out_trade_no = ?", o.State, o.OutTradeNo); err != nil || tell == nil {
			return err
		}
		u, err := t.someUser(o.UserID, o.AppID, o.OpenID)
		if err != nil {
			return err
		}
		return t.tell(tell(o, u))
	})
	if err != nil {
		return Order{}, fmt.Errorf("order %.32q: close: %w", outTradeNo, err)
	}
	return o, nil
}

// UnpaidOrders returns orders in state created or paying that were created before a time; those about which WeChat was
// not asked for longest come first. limit is 1 to 1000, 0: 100.
func (db *DB) UnpaidOrders(ctx context.Context, createdBefore time.Time, limit int) ([]Order, error) {
	var in inputs
	limit = in.limited(limit, 100, 1000)
	if in.err != nil {
		return nil, fmt.Errorf("unpaid orders: %w", in.err)
	}
	all, err := db.orders(ctx, `state IN ('created', 'paying') AND created_at < ?
		ORDER BY queried_at, created_at, out_trade_no LIMIT ?`, stamp(createdBefore), limit)
	if err != nil {
		return nil, fmt.Errorf("unpaid orders: %w", err)
	}
	return all, nil
}

// CheckedOrder records that WeChat is being asked about an order, and returns when it was asked before (zero: never).
// QueriedAt never goes back. Of several who found QueriedAt old enough and call this at once, only one gets an old prev:
// that one asks.
func (db *DB) CheckedOrder(ctx context.Context, outTradeNo string, at time.Time) (prev time.Time, err error) {
	err = db.engine.write(ctx, func(t *tx) error {
		o, err := t.order(outTradeNo)
		if err != nil {
			return err
		}
		if prev = o.QueriedAt; !at.After(prev) {
			return nil
		}
		_, err = t.exec("UPDATE orders SET queried_at = ? WHERE out_trade_no = ?", stamp(at), outTradeNo)
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("order %.32q: checked: %w", outTradeNo, err)
	}
	return prev, nil
}
