package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// An order is ready to be paid: its payer has the pay sheet open.
type order struct {
	description string // unique: the purchase notice shows it as the product
	outTradeNo  string
	payer       int // index of the phone
	sheet       map[string]any
}

const orderFen = 100 // what every order costs

// prepareOrders registers one order for each payment and asks for its five fields, before the clock starts.
func (r *round) prepareOrders(ctx context.Context, people []person) ([]order, error) {
	run := newID()
	orders := make([]order, r.messages)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(entrants)
	for n := range orders {
		g.Go(func() error {
			o := &orders[n]
			o.payer = n % len(people)
			o.description = fmt.Sprintf("load %s %d", run, n)
			if err := r.target.order(ctx, o, people[o.payer]); err != nil {
				return fmt.Errorf("order %d: %w", n, err)
			}
			r.progress.say("ordering %d/%d", n+1, r.messages)
			return nil
		})
	}
	return orders, g.Wait()
}

// order makes the order in the shop's name and opens its pay sheet in the payer's.
func (t *target) order(ctx context.Context, o *order, payer person) error {
	var made struct{ OutTradeNo string }
	body := map[string]any{"description": o.description, "total": orderFen, "userId": payer.user, "room": t.room}
	if err := t.call(ctx, t.url+"/api/admin/orders", t.admin(), body, &made); err != nil {
		return err
	}
	o.outTradeNo = made.OutTradeNo
	var fields map[string]any
	bearer := http.Header{"Authorization": {"Bearer " + payer.token}}
	for {
		err := t.call(ctx, t.url+"/api/pay", bearer, map[string]any{"outTradeNo": o.outTradeNo}, &fields)
		var r *refusal
		if errors.As(err, &r) && r.Status == http.StatusTooManyRequests {
			if err := sleep(ctx, max(r.retryAfter, 200*time.Millisecond)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		o.sheet = map[string]any{"user": payer.name, "confirm": true}
		for _, name := range []string{"timeStamp", "nonceStr", "package", "signType", "paySign"} {
			o.sheet[name] = fields[name]
		}
		return nil
	}
}

// confirm presses the button on the pay sheet. WeChat's notify follows by itself.
func (t *target) confirm(ctx context.Context, o order) error {
	return t.call(ctx, t.sim+"/sim/pay", nil, o.sheet, nil)
}

func recognisePurchase(orders []order) func(string, json.RawMessage) (int, bool) {
	byDescription := make(map[string]int, len(orders))
	for n, o := range orders {
		byDescription[o.description] = n
	}
	return func(action string, payload json.RawMessage) (int, bool) {
		n, ours := byDescription[jsonText(payload, "product")]
		if action != "purchase" || !ours {
			return -1, false
		}
		return n, true
	}
}

// countLetters checks that each payer was told of each of its payments once, and nobody else was.
func (r *round) countLetters(orders []order, got *result) {
	owner := map[string]int{}
	for n, o := range orders {
		owner[o.outTradeNo] = o.payer
		letters := len(r.phones[o.payer].mail[o.outTradeNo])
		switch {
		case letters == 0 && r.ledger.accepted[n].Load() && !r.phones[o.payer].tally.failed:
			got.Missing++
		case letters > 1:
			got.Repeated += letters - 1
		}
	}
	for i, p := range r.phones {
		for number := range p.mail {
			if payer, ours := owner[number]; ours && payer != i {
				got.Altered++
			}
		}
	}
}

// jsonText reads one text field of an object; absent or no object: empty.
func jsonText(object json.RawMessage, name string) string {
	var fields map[string]json.RawMessage
	var text string
	if json.Unmarshal(object, &fields) != nil || json.Unmarshal(fields[name], &text) != nil {
		return ""
	}
	return text
}
