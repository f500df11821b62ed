package web

import (
	"errors"
	"fmt"
	"math"
)

const (
	maxQuantity = 99            // of one order
	maxTotalFen = math.MaxInt32 // fen of one order: 21 million yuan, more than WeChat moves at once
)

// Product is one thing the shop sells. The server alone decides amounts.
type Product struct {
	ID          string `json:"id" koanf:"id"`
	Name        string `json:"name" koanf:"name"`
	NameEN      string `json:"nameEn,omitempty" koanf:"name_en"`
	Description string `json:"description,omitempty" koanf:"description"`
	PriceFen    int64  `json:"price" koanf:"price" doc:"fen"`
	Picture     string `json:"picture,omitempty" koanf:"picture" doc:"URL"`
	Virtual     bool   `json:"virtual,omitempty" koanf:"virtual" doc:"nothing is sent by post: it is delivered when it is paid"`
}

// A catalogue is what the shop sells, in the shop's order. It is fixed once made.
type catalogue struct {
	list []Product
	byID map[string]Product
}

// newCatalogue checks that every product can be sold, and names each that cannot.
func newCatalogue(products []Product) (catalogue, error) {
	c := catalogue{list: []Product{}, byID: make(map[string]Product, len(products))}
	var bad []error
	for i, p := range products {
		_, twice := c.byID[p.ID]
		switch {
		case p.ID == "" || len(p.ID) > 64:
			bad = append(bad, fmt.Errorf("product %d (%s): id must have 1 to 64 bytes", i+1, p.Name))
		case twice:
			bad = append(bad, fmt.Errorf("product %s: the id is taken by another product", p.ID))
		case p.Name == "":
			bad = append(bad, fmt.Errorf("product %s: name is missing", p.ID))
		case p.PriceFen < 1 || p.PriceFen > maxTotalFen/maxQuantity:
			bad = append(bad, fmt.Errorf("product %s: price must be 1 to %d fen", p.ID, maxTotalFen/maxQuantity))
		default:
			c.byID[p.ID] = p
			c.list = append(c.list, p)
		}
	}
	return c, errors.Join(bad...)
}

// totalFen is what quantity of p costs. newCatalogue bounds the price, so that it cannot overflow.
func (p Product) totalFen(quantity int) int64 { return p.PriceFen * int64(quantity) }
