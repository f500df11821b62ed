package wechat

import (
	"cmp"
	"slices"
)

// DifferenceKind is how a day's bill and our own books disagree.
type DifferenceKind string

const (
	DiffMissingHere  DifferenceKind = "missing_here"  // WeChat Pay has it, we do not: money without an order
	DiffMissingThere DifferenceKind = "missing_there" // we have it, WeChat Pay does not: an order without money
	DiffAmount       DifferenceKind = "amount"
	DiffTransaction  DifferenceKind = "transaction" // another payment than the one we know
	DiffTwice        DifferenceKind = "twice"       // one side has it twice
)

// A Difference is one line of a day's reconciliation. OutRefundNo is "" for a payment.
type Difference struct {
	What                    DifferenceKind
	OutTradeNo, OutRefundNo string
	TheirTransactionID      string
	OurTransactionID        string
	TheirFen, OurFen        int64
}

// CompareBill holds a day's trade bill against our own books of that day and lists every difference, sorted
// by order number. In ours a payment has State SUCCESS, OutTradeNo, TransactionID and TotalFen; a refund has State
// REFUND, OutTradeNo, OutRefundNo and RefundFen. Revoked payments in the bill are passed over. What was paid around
// midnight may stand in the bill of the day beside: give ours of a day more, and let the caller drop what the next
// bill settles.
func CompareBill(bill, ours []BillRow) []Difference {
	type key struct{ order, refund string }
	index := func(rows []BillRow, seen map[key]BillRow, twice *[]key) {
		for _, r := range rows {
			if r.State != "SUCCESS" && r.State != "REFUND" {
				continue
			}
			k := key{order: r.OutTradeNo}
			if r.State == "REFUND" {
				if k.refund = r.OutRefundNo; r.RefundState == "FAIL" || r.RefundState == "CLOSED" || r.RefundState == "REFUNDCLOSE" {
					continue // no money went
				}
			}
			if _, known := seen[k]; known {
				*twice = append(*twice, k)
				continue
			}
			seen[k] = r
		}
	}
	theirs, mine := map[key]BillRow{}, map[key]BillRow{}
	var twice []key
	index(bill, theirs, &twice)
	index(ours, mine, &twice)
	amount := func(r BillRow) int64 {
		if r.State == "REFUND" {
			return r.RefundFen
		}
		return r.TotalFen
	}
	var all []Difference
	add := func(what DifferenceKind, k key) {
		t, m := theirs[k], mine[k]
		all = append(all, Difference{
			What: what, OutTradeNo: k.order, OutRefundNo: k.refund,
			TheirTransactionID: t.TransactionID, OurTransactionID: m.TransactionID, TheirFen: amount(t), OurFen: amount(m),
		})
	}
	for k, t := range theirs {
		m, known := mine[k]
		switch {
		case !known:
			add(DiffMissingHere, k)
		case amount(t) != amount(m):
			add(DiffAmount, k)
		case m.TransactionID != "" && t.TransactionID != m.TransactionID:
			add(DiffTransaction, k)
		}
	}
	for k := range mine {
		if _, known := theirs[k]; !known {
			add(DiffMissingThere, k)
		}
	}
	for _, k := range twice {
		add(DiffTwice, k)
	}
	slices.SortFunc(all, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.OutTradeNo, b.OutTradeNo), cmp.Compare(a.OutRefundNo, b.OutRefundNo), cmp.Compare(a.What, b.What))
	})
	return all
}
