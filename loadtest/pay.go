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
	purchase
	outTradeNo string
	payer      int // index of the phone
	sheet      map[string]any
}

// A purchase is what the notice shows of an order. A notice names no order, so every order of a run buys another
// product or another quantity.
type purchase struct {
	Product  string
	Quantity int
}

// A product is one line of the hub's catalogue.
type product struct{ ID, Name string }

const mostQuantity = 99 // of one product in one order

// prepareOrders makes one order for each payment and gets its five fields, before the clock starts.
func (r *round) prepareOrders(ctx context.Context, people []person) ([]order, error) {
	var catalogue []product
	if err := r.target.call(ctx, http.MethodGet, r.url+"/api/products", bearer(people[0]), nil, &catalogue); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	if most := len(catalogue) * mostQuantity; r.messages > most {
		return nil, fmt.Errorf("at most %d payments with a catalogue of %d products: -messages %d", most, len(catalogue), most)
	}
	orders := make([]order, r.messages)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(entrants)
	for n := range orders {
		g.Go(func() error {
			o := &orders[n]
			o.payer = n % len(people)
			if err := r.target.order(ctx, o, catalogue[n%len(catalogue)], 1+n/len(catalogue), people[o.payer]); err != nil {
				return fmt.Errorf("order %d: %w", n, err)
			}
			r.progress.say("ordering %d/%d", n+1, r.messages)
			return nil
		})
	}
	return orders, g.Wait()
}

func bearer(p person) http.Header { return http.Header{"Authorization": {"Bearer " + p.token}} }

// order orders quantity of p, up to the pay sheet. Where the hub says too often, it waits.
func (t *target) order(ctx context.Context, o *order, p product, quantity int, payer person) error {
	o.purchase = purchase{p.Name, quantity}
	for {
		var fields map[string]any
		body := map[string]any{"productId": p.ID, "quantity": quantity}
		err := t.call(ctx, http.MethodPost, t.url+"/api/pay", bearer(payer), body, &fields)
		var no *refusal
		switch {
		case errors.As(err, &no) && no.Status == http.StatusTooManyRequests:
			if err := sleep(ctx, max(no.retryAfter, 200*time.Millisecond)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		o.outTradeNo, _ = fields["outTradeNo"].(string)
		o.sheet = map[string]any{"user": payer.name, "confirm": true}
		for _, name := range []string{"timeStamp", "nonceStr", "package", "signType", "paySign"} {
			o.sheet[name] = fields[name]
		}
		return nil
	}
}

// confirm presses the button on the pay sheet. WeChat's notify follows by itself.
func (t *target) confirm(ctx context.Context, o order) error {
	return t.call(ctx, http.MethodPost, t.sim+"/sim/pay", nil, o.sheet, nil)
}

func recognisePurchase(orders []order) func(string, json.RawMessage) (int, bool) {
	byPurchase := make(map[purchase]int, len(orders))
	for n, o := range orders {
		byPurchase[o.purchase] = n
	}
	return func(action string, payload json.RawMessage) (int, bool) {
		var p purchase
		if action != "purchase" || json.Unmarshal(payload, &p) != nil {
			return -1, false
		}
		n, ours := byPurchase[p]
		if !ours {
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
