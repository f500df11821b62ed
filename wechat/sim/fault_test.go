package sim

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// paths plays payments of several orders with a refund under a fake clock and returns when each notify came.
func paths(t *testing.T, prepare func(w *world), play func(w *world)) (got []string, at []time.Duration) {
	t.Helper()
	credentials()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Now = nil })
		w.clock.at = time.Now()
		prepare(w)
		var mu sync.Mutex
		began := time.Now()
		w.hub.answer = func(r *http.Request, body string) (int, string) {
			mu.Lock()
			defer mu.Unlock()
			event := parse(t, []byte(body)).text("event_type")
			got, at = append(got, event), append(at, time.Since(began))
			return 200, ""
		}
		play(w)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		w.sim.Close()
	})
	return got, at
}

func (w *world) buy(no string) {
	w.t.Helper()
	w.control("/sim/pay", with(w.payFields("alice", w.prepaid(no, "alice")), "confirm", true))
}

func TestFault_notifyNeverComes(t *testing.T) {
	got, _ := paths(t, func(w *world) { w.control("/sim/fault", object{"muteNotify": true}) }, func(w *world) {
		w.buy("T0000001")
		synctest.Wait()
		if o := object(w.state()["orders"].([]any)[0].(map[string]any)); o.text("notified") != "muted" || o.text("state") != "paid" {
			t.Errorf("%v", o)
		}
		if got := w.queried("T0000001"); got.text("trade_state") != "SUCCESS" {
			t.Errorf("query: %v", got)
		}
		w.buy("T0000002")
	})
	if len(got) != 1 {
		t.Errorf("%v", got)
	}
	got, _ = paths(t, func(w *world) {}, func(w *world) {
		w.prepaid("T0000001", "alice")
		w.control("/sim/trigger", object{"event": "muteNotify", "outTradeNo": "T0000001"})
		w.buy("T0000001")
	})
	if len(got) != 0 {
		t.Errorf("muted order: %v", got)
	}
}

func TestFault_notifyLate(t *testing.T) {
	got, at := paths(t, func(w *world) { w.control("/sim/fault", object{"delay": 90_000, "outTradeNo": "T0000001"}) }, func(w *world) {
		w.buy("T0000001")
		w.buy("T0000002")
	})
	if len(got) != 2 || at[0] != 0 || at[1] != 90*time.Second {
		t.Errorf("%v at %v", got, at)
	}
}

// The refund is told of before the payment.
func TestFault_notifyOvertaken(t *testing.T) {
	got, at := paths(t, func(w *world) { w.control("/sim/fault", object{"reorder": true}) }, func(w *world) {
		w.buy("T0000001")
		if rec, got := w.v3("POST", refundPath, refundOf("T0000001", "R1", 990, 990)); rec.Code != 200 {
			t.Fatalf("%v", got)
		}
	})
	if len(got) != 2 || got[0] != "REFUND.SUCCESS" || got[1] != "TRANSACTION.SUCCESS" || at[1] != refundTakes {
		t.Errorf("%v at %v", got, at)
	}
	got, at = paths(t, func(w *world) { w.control("/sim/fault", object{"reorder": true}) }, func(w *world) { w.buy("T0000001") })
	if len(got) != 1 || at[0] != maxReorder {
		t.Errorf("nobody overtakes: %v at %v", got, at)
	}
}

func TestFault_ofNotifiesAndCalls(t *testing.T) {
	w := newWorld(t, nil)
	for _, body := range []string{`{"muteNotify":true,"slow":1}`, `{"delay":-1}`, `{"delay":3600001}`, `{"reorder":true,"path":"/x"}`, `{"slow":1,"outTradeNo":"T"}`, `{"outTradeNo":"T"}`} {
		if rec := w.request("POST", "/sim/fault", body); rec.Code != 400 {
			t.Errorf("%s: %d", body, rec.Code)
		}
	}
	w.control("/sim/fault", object{"muteNotify": true})
	if w.token(false).text("access_token") == "" {
		t.Error("a call used up the fault of a notify")
	}
	if faults := w.state()["faults"].([]any); len(faults) != 1 {
		t.Errorf("%v", faults)
	}
}

func TestTriggerRefund(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TimeScale = 0.0001 }) // the refund stays under way
	if rec := w.request("POST", "/sim/trigger", `{"event":"refund"}`); rec.Code != 404 {
		t.Errorf("no refund: %d", rec.Code)
	}
	w.paidV3("T0000001")
	w.v3("POST", refundPath, refundOf("T0000001", "R1", 300, 990))
	w.v3("POST", refundPath, refundOf("T0000001", "R2", 100, 990))
	read := func() (object, object) {
		_, body := w.hub.last()
		outer := parse(t, []byte(body))
		res := object(outer["resource"].(map[string]any))
		return outer, parse(t, openResource(t, credentials().APIv3Key, res.text("nonce"), res.text("associated_data"), res.text("ciphertext")))
	}
	for _, forge := range []string{"signature", "serial", "no-sign", "body"} {
		w.control("/sim/trigger", object{"event": "refund", "forge": forge})
		r, body := w.hub.last()
		if r.Header.Get("Wechatpay-Serial") == credentials().PublicKeyID && verifyPlatform(t, r.Header, []byte(body)) == nil {
			t.Errorf("%s verifies", forge)
		}
	}
	w.control("/sim/trigger", object{"event": "refund", "amount": 990})
	if _, in := read(); object(in["amount"].(map[string]any)).number("refund") != 990 {
		t.Errorf("amount: %v", in)
	}
	if _, got := w.v3("GET", refundPath+"/R2", nil); got.text("status") != "PROCESSING" {
		t.Errorf("a dishonest trigger finished the refund: %v", got)
	}
	got := w.control("/sim/trigger", object{"event": "refund", "outTradeNo": "T0000001", "times": 3, "parallel": true})
	if outer, in := read(); got.text("outRefundNo") != "R2" || in.text("out_refund_no") != "R2" || outer.text("event_type") != "REFUND.SUCCESS" {
		t.Errorf("newest: %v %v", got, in)
	}
	w.control("/sim/trigger", object{"event": "refund", "outRefundNo": "R1", "status": "ABNORMAL"})
	if outer, in := read(); outer.text("event_type") != "REFUND.ABNORMAL" || in.text("refund_status") != "ABNORMAL" || in.text("success_time") != "" {
		t.Errorf("abnormal: %v %v", outer, in)
	}
	if _, got := w.v3("GET", refundPath+"/R1", nil); got.text("status") != "ABNORMAL" {
		t.Errorf("query: %v", got)
	}
	if rec := w.request("POST", "/sim/trigger", `{"event":"refund","status":"PROCESSING"}`); rec.Code != 400 {
		t.Errorf("status: %d", rec.Code)
	}
}
