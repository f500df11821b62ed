package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

func (s *shop) alarms(query string) []alarmView {
	s.Helper()
	return into[[]alarmView](s, s.ask("GET", "/api/admin/alarms?"+query, nil))
}

// alarm waits for the only open alarm of a kind.
func (s *shop) alarm(kind string) (a alarmView) {
	s.Helper()
	s.eventually("alarm "+kind, func() bool {
		all := s.alarms("kind=" + kind)
		if len(all) == 1 {
			a = all[0]
		}
		return len(all) == 1
	})
	return a
}

func (s *shop) figure(line string) bool {
	s.Helper()
	_, _, text := s.send("GET", s.url+"/metrics", "", nil)
	return strings.Contains(string(text), "\n"+line)
}

// An alarm is kept, logged, counted, told to hooks once, and gone from the list once somebody has seen to it.
func TestAlarm_life(t *testing.T) {
	ops := newSystem(t)
	s := newShop(t, func(o *Options, _ *sim.Options) {
		o.Hooks = []Hook{{Name: "ops", URL: ops.URL, Secret: hookSecret, AllowPrivate: true, Events: []string{"alarm"}}}
	})
	alice, _ := s.login("alice")
	no := s.order(alice, "apple", 1)["outTradeNo"].(string)
	for range 2 {
		s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "amount": 1, "transactionId": "4200000000000000000000000001"})
	}
	a := s.alarm(store.AlarmConflict)
	if a.Subject != no || a.Times != 2 || !strings.Contains(a.Text, "amount") || a.FirstAt == 0 || a.Step == "" || a.AckedAt != 0 {
		t.Errorf("%+v", a)
	}
	if n := s.log.having("ERROR ALARM"); n != 2 {
		t.Errorf("%d lines in the log", n)
	}
	s.eventually("the hook", func() bool { return ops.events() == "alarm" })
	var told hookAlarm
	if err := json.Unmarshal(ops.heard[0].Data, &told); err != nil || told.ID != a.ID || told.Kind != a.Kind || told.Subject != no {
		t.Errorf("told %s, %v", ops.raw[0], err)
	}
	for _, line := range []string{`wxhub_alarms_open{kind="payment.conflict"} 1`, `wxhub_alarms_total{kind="payment.conflict"} 2`} {
		if !s.figure(line) {
			t.Errorf("no figure %s", line)
		}
	}
	english := s.callWith("GET", "/api/admin/alarms?subject="+no, map[string]string{"X-API-Key": systemKey, "Accept-Language": "en"}, nil)
	if all := into[[]alarmView](s, english); len(all) != 1 || all[0].Step != alarmSteps[store.AlarmConflict][1] {
		t.Errorf("%+v", all)
	}

	acked := into[alarmView](s, s.ask("POST", "/api/admin/alarms/"+a.ID+"/ack", map[string]any{"note": "given back by hand"}))
	if acked.AckedAt == 0 || acked.AckedBy != "key test" || acked.Note != "given back by hand" {
		t.Errorf("%+v", acked)
	}
	if again := into[alarmView](s, s.ask("POST", "/api/admin/alarms/"+a.ID+"/ack", nil)); again != acked { // no body: no note
		t.Errorf("acknowledged again: %+v", again)
	}
	if open, all := s.alarms(""), s.alarms("state=all"); len(open) != 0 || len(all) != 1 {
		t.Errorf("%d open, %d in all", len(open), len(all))
	}
	s.refused(s.ask("POST", "/api/admin/alarms/nothing/ack", map[string]any{}), 404, "not_found")
	audits, err := s.db.Audits(t.Context(), 10)
	if err != nil || len(audits) == 0 || audits[0].What != "acknowledge" {
		t.Errorf("audit %+v, %v", audits, err)
	}
}

// The payment is good, and yet somebody should look: another openid paid, or the order was closed already.
func TestAlarm_payments(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	pay := func(no, transaction, openID string) {
		t.Helper()
		o := s.stored(no)
		p := wechat.Payment{AppID: o.AppID, MchID: o.MchID, OutTradeNo: no, TransactionID: transaction, OpenID: openID,
			State: "SUCCESS", TotalFen: o.TotalFen, PayerFen: o.TotalFen, Currency: "CNY", PaidAt: time.Now()}
		for want := range []string{"paid", "repeat"} { // once
			result, err := s.server.till.settle(t.Context(), p, nil)
			if err != nil || result != []string{"paid", "repeat"}[want] {
				t.Fatalf("%s, %v", result, err)
			}
		}
	}
	own := s.order(alice, "apple", 1)["outTradeNo"].(string)
	pay(own, "T-own", s.openID(aliceID))
	if all := s.alarms(""); len(all) != 0 {
		t.Errorf("an honest payment raised %+v", all)
	}
	other := s.order(alice, "apple", 1)["outTradeNo"].(string)
	pay(other, "T-other", "oSomebodyElse")
	if a := s.alarm(alarmPayer); a.Subject != other || a.Times != 1 || strings.Contains(a.Text, "oSomebodyElse") || strings.Contains(a.Text, s.openID(aliceID)) {
		t.Errorf("%+v", a)
	}
	late := s.order(alice, "apple", 1)["outTradeNo"].(string)
	into[orderView](s, s.call("POST", "/api/orders/"+late+"/close", alice, nil))
	pay(late, "T-late", s.openID(aliceID))
	if a := s.alarm(alarmLate); a.Subject != late || a.Times != 1 {
		t.Errorf("%+v", a)
	}
	if o := s.stored(late); o.State != store.OrderPaid || !o.Late {
		t.Errorf("%+v", o)
	}
	// A conflict notes it, too.
	if _, err := s.server.till.settle(t.Context(), wechat.Payment{AppID: s.keys.AppID, MchID: s.keys.MchID, OutTradeNo: own, TransactionID: "T-2",
		OpenID: "oSomebodyElse", State: "SUCCESS", TotalFen: 1, Currency: "CNY"}, nil); err == nil {
		t.Error("two fen for an apple")
	}
	conflicts, err := s.db.Conflicts(t.Context(), 10)
	if err != nil || len(conflicts) != 1 || !strings.HasSuffix(conflicts[0].Reason, "; payer: another openid than the order's") {
		t.Errorf("%+v, %v", conflicts, err)
	}
}

// A refund that WeChat does not take, one that does not arrive, and one that fits nothing.
func TestAlarm_refunds(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	no := s.bought(alice, "alice", "apple", 1)
	unknown := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", map[string]any{"description": "x", "total": 10, "userId": aliceID}))
	if _, err := s.db.MarkPaid(t.Context(), store.Payment{AppID: s.keys.AppID, MchID: s.keys.MchID, OutTradeNo: unknown.OutTradeNo,
		TransactionID: "4200000000000000000000000001", TotalFen: 10, Currency: "CNY", PaidAt: time.Now()}, nil); err != nil {
		t.Fatal(err)
	}
	s.refused(s.ask("POST", "/api/admin/orders/"+unknown.OutTradeNo+"/refund", map[string]any{"amount": 1, "outRefundNo": "RF-refused"}), 502, "refund_refused")
	if a := s.alarm(alarmRefundRefused); a.Subject != "RF-refused" {
		t.Errorf("%+v", a)
	}
	for state, kind := range map[string]string{"ABNORMAL": alarmRefundAbnormal, "CLOSED": alarmRefundClosed} {
		r := wechat.Refund{OutTradeNo: no, TransactionID: s.stored(no).TransactionID, OutRefundNo: "RF-" + state, RefundID: "R" + state, Status: state, RefundFen: 5, TotalFen: 1999, Currency: "CNY"}
		for range 2 {
			if _, err := s.server.till.settleRefund(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if a := s.alarm(kind); a.Subject != r.OutRefundNo || a.Times != 1 {
			t.Errorf("%+v", a)
		}
	}
	strange := wechat.Refund{OutTradeNo: no, TransactionID: "4200000000000000000000000009", OutRefundNo: "RF-strange", RefundID: "R9", Status: "SUCCESS", RefundFen: 5, TotalFen: 1999}
	if _, err := s.server.till.settleRefund(t.Context(), strange); err == nil {
		t.Error("a refund of another payment was taken")
	}
	if a := s.alarm(alarmRefundConflict); a.Subject != "RF-strange" {
		t.Errorf("%+v", a)
	}
}

// What WeChat refuses our calls with is counted, and raises one alarm for as long as it is open.
func TestAlarm_calls(t *testing.T) {
	s := newShop(t)
	alice, _ := s.login("alice")
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/getwxacodeunlimit", "errcode": 48001, "times": 5}, nil)
	for i := range 3 {
		s.code(alice, fmt.Sprint("scene=a", i))
	}
	a := s.alarm(alarmCall)
	if a.Subject != "wechat getwxacodeunlimit 48001" {
		t.Errorf("%+v", a)
	}
	for _, line := range []string{
		`wxhub_wechat_calls_total{api="wechat",call="getwxacodeunlimit",code="48001"} 3`,
		`wxhub_wechat_calls_total{api="wechat",call="code2session",code="ok"} 1`,
		`wxhub_wechat_call_seconds_count{api="wechat",call="code2session"} 1`,
	} {
		if !s.figure(line) {
			t.Errorf("no figure %s", line)
		}
	}
	// A person's own mistake is nobody's alarm.
	s.play("DELETE", "/sim/fault", nil, nil)
	s.refused(s.call("POST", "/api/login", "", map[string]any{"code": "nonsense"}), 401, "invalid_code")
	if all := s.alarms(""); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}
