package wechat

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wxhub/wechat/sim"
)

// An order's whole life, in both versions, each way of signing and each kind of platform key.
func TestSim_payments(t *testing.T) {
	certificates := func(o *PayV3Options) { o.PublicKeyID, o.PublicKeyPEM = "", "" }
	for name, c := range map[string]struct {
		keyMode string
		pay     func(w *world, notify string) Pay
	}{
		"v3 public key":   {"", func(w *world, notify string) Pay { return w.payV3(notify) }},
		"v3 certificates": {"certificate", func(w *world, notify string) Pay { return w.payV3(notify, certificates) }},
		"v3 mixed":        {"mixed", func(w *world, notify string) Pay { return w.payV3(notify) }},
		"v2 MD5":          {"", func(w *world, notify string) Pay { return w.payV2(notify, signMD5) }},
		"v2 HMAC":         {"", func(w *world, notify string) Pay { return w.payV2(notify, signHMAC) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *sim.Options) {
				o.KeyMode = c.keyMode
				o.NotifyURL = strings.Replace(o.PushURL, "/push/mini", "/pay/notify", 1)
			})
			ctx := t.Context()
			openID := w.login("alice").OpenID
			pay := c.pay(w, "https://hub.example/pay/notify")
			if err := pay.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			no := "T" + strings.Repeat("0", 9) + "1"
			order := PayOrder{OutTradeNo: no, Description: "茶 <壶>", OpenID: openID, TotalFen: 100, Attach: "room=1", ExpiresAt: time.Now().Add(time.Hour)}
			if _, err := pay.Query(ctx, no); !errors.Is(err, ErrNoOrder) {
				t.Errorf("before it was made: %v", err)
			}
			id, err := pay.Prepay(ctx, order)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := pay.Prepay(ctx, order); err != nil || again == "" {
				t.Errorf("the same order again: %v", err)
			}
			if got, err := pay.Query(ctx, no); err != nil || got.State != "NOTPAY" {
				t.Errorf("%v %v", got.State, err)
			}
			params, err := pay.ClientParams(id)
			if err != nil {
				t.Fatal(err)
			}
			sheet := w.control("/sim/pay", facts{"user": "alice", "timeStamp": params.TimeStamp, "nonceStr": params.NonceStr, "package": params.Package,
				"signType": params.SignType, "paySign": params.PaySign, "confirm": true})
			if sheet["ok"] != true {
				t.Fatalf("%v", sheet)
			}
			got := w.last("/pay/notify")
			n, err := pay.OpenNotify(got.header, got.body)
			if err != nil {
				t.Fatalf("%v\n%s", err, got.body)
			}
			p := n.Payment
			if p.OutTradeNo != no || p.TotalFen != 100 || p.AppID != w.creds.AppID || p.MchID != w.creds.MchID || p.OpenID != openID || p.Attach != "room=1" || p.State != "SUCCESS" {
				t.Error("the notify is about another payment")
			}
			queried, err := pay.QueryTransaction(ctx, p.TransactionID)
			if err != nil || queried.OutTradeNo != no || queried.TotalFen != 100 {
				t.Error(err)
			}
			if err := pay.Close(ctx, no); !errors.Is(err, ErrOrderPaid) {
				t.Errorf("closing a paid one: %v", err)
			}
			for i, fen := range []int64{30, 50} { // several partial refunds
				r := RefundOrder{OutTradeNo: no, OutRefundNo: fmt.Sprint("R", i), Reason: "缺货", RefundFen: fen, TotalFen: 100}
				got, err := pay.Refund(ctx, r)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := pay.Refund(ctx, r); err != nil || again.RefundID != got.RefundID {
					t.Errorf("the same refund again: %v", err)
				}
				if q, err := pay.QueryRefund(ctx, r.OutRefundNo); err != nil || q.RefundFen != fen || q.TotalFen != 100 {
					t.Error(err)
				}
			}
			if _, err := pay.Refund(ctx, RefundOrder{OutTradeNo: no, OutRefundNo: "R9", RefundFen: 21, TotalFen: 100}); err == nil || AdviceOf(err) == Retry {
				t.Errorf("more than was paid: %v", err)
			}
			if _, err := pay.QueryRefund(ctx, "R77"); !errors.Is(err, ErrNoRefund) {
				t.Error(err)
			}
			if strings.HasPrefix(name, "v3") {
				if ship := w.shipped(p, openID); ship != nil {
					t.Error(ship)
				}
			}
			second := order
			second.OutTradeNo = no + "x"
			if _, err := pay.Prepay(ctx, second); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := pay.Close(ctx, second.OutTradeNo); err != nil {
					t.Error(err)
				}
			}
			if _, err := pay.Prepay(ctx, second); AdviceOf(err) != GiveUp {
				t.Errorf("a closed number: %v", err)
			}
			w.compareBills(pay, p)
		})
	}
}

func (w *world) shipped(p Payment, openID string) error {
	ctx := w.t.Context()
	managed, err := w.mini.TradeManaged(ctx)
	if err != nil || !managed {
		return fmt.Errorf("managed %t: %w", managed, err)
	}
	s := Shipment{TransactionID: p.TransactionID, OpenID: openID, Logistics: ShipVirtual, Parcels: []Parcel{{Item: "会员"}}, At: time.Now()}
	for n := range 2 { // the second says nothing new
		err := w.mini.UploadShipping(ctx, s)
		for tries := 0; errors.Is(err, ErrNotYet) && tries < 100; tries++ {
			time.Sleep(20 * time.Millisecond)
			err = w.mini.UploadShipping(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("upload %d: %w", n+1, err)
		}
	}
	o, err := w.mini.ShippedOrder(ctx, p.TransactionID)
	if err != nil || o.State < ShipStateShipped || o.OutTradeNo != p.OutTradeNo {
		return fmt.Errorf("%+v: %w", o, err)
	}
	return nil
}

func (w *world) compareBills(pay Pay, p Payment) {
	w.t.Helper()
	ctx := w.t.Context()
	bill, err := pay.TradeBill(ctx, time.Now())
	if err != nil {
		w.t.Errorf("trade bill: %v", err)
		return
	}
	ours := []BillRow{{OutTradeNo: p.OutTradeNo, TransactionID: p.TransactionID, State: "SUCCESS", TotalFen: 100}}
	for i, fen := range []int64{30, 50} {
		ours = append(ours, BillRow{OutTradeNo: p.OutTradeNo, OutRefundNo: fmt.Sprint("R", i), State: "REFUND", RefundFen: fen})
	}
	if d := CompareBill(bill, ours); len(d) != 0 {
		w.t.Errorf("%+v\n%+v", d, bill)
	}
	ours[0].TotalFen = 101
	if d := CompareBill(bill, ours); len(d) != 1 || d[0].What != DiffAmount {
		w.t.Errorf("%+v", d)
	}
	if funds, err := pay.FundBill(ctx, time.Now()); err != nil || len(funds) < 1 || !funds[0].In {
		w.t.Errorf("fund bill: %v %+v", err, funds)
	}
	if _, err := pay.TradeBill(ctx, time.Now().Add(-48*time.Hour)); !errors.Is(err, ErrNoBill) {
		w.t.Errorf("a day without trade: %v", err)
	}
}
