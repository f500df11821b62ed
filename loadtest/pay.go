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
func (r *round) prepareOrders(ctx context.Context, people []person) error {
	var catalogue []product
	if err := r.target.call(ctx, http.MethodGet, r.target.hub()+"/api/products", bearer(people[0]), nil, &catalogue); err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	if most := len(catalogue) * mostQuantity; r.messages > most {
		return fmt.Errorf("at most %d payments with a catalogue of %d products: -messages %d", most, len(catalogue), most)
	}
	if len(catalogue) == 0 {
		return errors.New("the hub's catalogue is empty: nothing can be bought")
	}
	r.orders = make([]order, r.messages)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(entrants)
	for n := range r.orders {
		g.Go(func() error {
			o := &r.orders[n]
			o.payer = n % len(people)
			if err := r.target.order(ctx, o, catalogue[n%len(catalogue)], 1+n/len(catalogue), people[o.payer]); err != nil {
				return fmt.Errorf("order %d: %w", n, err)
			}
			r.progress.say("ordering %d/%d", n+1, r.messages)
			return nil
		})
	}
	err := g.Wait()
	r.cast.Bought = make([]purchase, len(r.orders))
	for n, o := range r.orders {
		r.cast.Bought[n] = o.purchase
	}
	return err
}

func bearer(p person) http.Header { return http.Header{"Authorization": {"Bearer " + p.Token}} }

// order orders quantity of p, up to the pay sheet. Where the hub says too often, it waits.
func (t *target) order(ctx context.Context, o *order, p product, quantity int, payer person) error {
	o.purchase = purchase{p.Name, quantity}
	for {
		var fields map[string]any
		body := map[string]any{"productId": p.ID, "quantity": quantity}
		err := t.call(ctx, http.MethodPost, t.hub()+"/api/pay", bearer(payer), body, &fields)
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
		o.sheet = map[string]any{"user": payer.Name, "confirm": true}
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

func recognisePurchase(bought []purchase) func(string, json.RawMessage) (int, bool) {
	byPurchase := make(map[purchase]int, len(bought))
	for n, b := range bought {
		byPurchase[b] = n
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
func (r *round) countLetters(f findings, got *result) {
	for n, o := range r.orders {
		letters := 0
		for k, who := range f.Who[o.outTradeNo] {
			if who == o.payer {
				letters = f.Letters[o.outTradeNo][k]
			} else {
				got.Altered++
			}
		}
		switch {
		case letters == 0 && r.told[n] && got.Failed == 0:
			got.Missing++
		case letters > 1:
			got.Repeated += letters - 1
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
