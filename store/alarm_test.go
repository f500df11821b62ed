package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func testAlarms(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	var mu sync.Mutex
	var raised []Alarm
	db.WatchAlarms(AlarmWatch{
		Tell: func(a Alarm) []Telling {
			return []Telling{{Kind: TellHook, To: "ops", ID: "alarm:" + a.ID, Payload: json.RawMessage(`{}`)}}
		},
		Raised: func(a Alarm) { mu.Lock(); raised = append(raised, a); mu.Unlock() },
	})
	for range 3 {
		check(t, db.RaiseAlarm(ctx, "refund.abnormal", "RF1", "the money did not arrive"))
		c.move(time.Minute)
	}
	check(t, db.RaiseAlarm(ctx, "refund.abnormal", "RF2", "neither"))
	all := must(db.Alarms(ctx, AlarmQuery{Open: true}))(t)
	if len(all) != 2 || all[1].Times != 3 || !all[1].LastAt.After(all[1].FirstAt) || all[0].Subject != "RF2" {
		t.Fatalf("%+v", all)
	}
	if n := must(db.OpenAlarms(ctx))(t); n["refund.abnormal"] != 2 {
		t.Errorf("%v", n)
	}
	if len(raised) != 4 || raised[2].Times != 3 || raised[2].ID != all[1].ID {
		t.Errorf("heard of %+v", raised)
	}
	if s := must(db.OutboxStats(ctx))(t); s.Waiting != 2 {
		t.Errorf("%d hook calls for two alarms", s.Waiting)
	}

	acked := must(db.AckAlarm(ctx, all[1].ID, "admin carol", "called the bank"))(t)
	if acked.AckedBy != "admin carol" || acked.Note != "called the bank" || acked.AckedAt.IsZero() {
		t.Errorf("%+v", acked)
	}
	if again := must(db.AckAlarm(ctx, all[1].ID, "admin dave", "me too"))(t); again != acked {
		t.Errorf("acknowledged twice: %+v", again)
	}
	if _, err := db.AckAlarm(ctx, "nothing", "x", ""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	check(t, db.RaiseAlarm(ctx, "refund.abnormal", "RF1", "again")) // a new one: somebody had seen to the old
	all = must(db.Alarms(ctx, AlarmQuery{Kind: "refund.abnormal", Subject: "RF1"}))(t)
	if len(all) != 2 || all[0].Times != 1 || !all[0].AckedAt.IsZero() || all[1].ID != acked.ID {
		t.Errorf("%+v", all)
	}
	c.move(alarmsKept + time.Hour)
	check(t, db.Sweep(ctx))
	if all = must(db.Alarms(ctx, AlarmQuery{}))(t); len(all) != 2 {
		t.Errorf("open alarms are for ever, acknowledged ones for a year: %+v", all)
	}
}

func testAlarms_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := db.RaiseAlarm(ctx, "k", fmt.Sprint(i%2), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	open2 := must(db.Alarms(ctx, AlarmQuery{Open: true}))(t)
	if len(open2) != 2 || open2[0].Times+open2[1].Times != 20 {
		t.Errorf("%+v", open2)
	}
}

// Money that fits no order is a conflict and an alarm in one transaction; a repeat counts in both.
func testAlarms_conflict(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	for range 2 {
		if _, err := db.MarkPaid(ctx, Payment{AppID: "wx1", MchID: "m1", OutTradeNo: "NOSUCHORDER1", TransactionID: "T1", TotalFen: 7, Currency: "CNY", OpenID: "openid-secret"}, nil); !errors.Is(err, ErrPaymentConflict) {
			t.Fatal(err)
		}
	}
	all := must(db.Alarms(ctx, AlarmQuery{}))(t)
	if len(all) != 1 || all[0].Kind != AlarmConflict || all[0].Subject != "NOSUCHORDER1" || all[0].Times != 2 {
		t.Fatalf("%+v", all)
	}
	if found := traces(t, db, []string{"openid-secret"}, "conflicts"); len(found) > 0 {
		t.Errorf("an openid is in %v", found)
	}
}

func testPlatformPages(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	alice := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "openid-alice", Avatar: "https://a/1.png"}))(t)

	// Scenes.
	id := must(db.PutScene(ctx, alice.ID, "a scene that is too long"))(t)
	if again := must(db.PutScene(ctx, "", "a scene that is too long"))(t); again != id || len(id) > 32 || id[:1] != SceneMark {
		t.Errorf("%q and %q", id, again)
	}
	if scene := must(db.Scene(ctx, id))(t); scene != "a scene that is too long" {
		t.Errorf("%q", scene)
	}
	if _, err := db.Scene(ctx, "~nothing"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if n := must(db.CountScenes(ctx, alice.ID, c.now().Add(-time.Hour)))(t); n != 1 {
		t.Errorf("%d scenes", n)
	}

	// Notifies.
	if must(db.KnowsNotify(ctx, "n1"))(t) {
		t.Error("knows it already")
	}
	check(t, db.TookNotify(ctx, "n1"))
	check(t, db.TookNotify(ctx, "n1"))
	if !must(db.KnowsNotify(ctx, "n1"))(t) {
		t.Error("forgot it")
	}

	// Events, and pictures that WeChat judges.
	check(t, db.BeginMediaCheck(ctx, MediaCheck{TraceID: "tr1", UserID: alice.ID, URL: "https://a/1.png"}))
	record := func(p Push) {
		t.Helper()
		p.AppID, p.Answer = "wx1", []byte("success")
		if _, _, err := db.RecordPush(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	record(Push{Key: "k1", OpenID: "openid-alice", Event: &Event{Account: "mini", Kind: "event:x", About: json.RawMessage(`{"a":1}`), At: c.now()}})
	record(Push{Key: "k1", OpenID: "openid-alice", Event: &Event{Account: "mini", Kind: "event:x", About: json.RawMessage(`{"a":1}`), At: c.now()}})
	record(Push{Key: "k2", Event: &Event{Account: "mp", Kind: "event:y", At: c.now()}, Verdict: &MediaVerdict{TraceID: "unknown", Verdict: "risky"}})
	if u := must(db.User(ctx, alice.ID))(t); u.Avatar == "" {
		t.Error("an unknown check took the avatar")
	}
	record(Push{Key: "k3", Verdict: &MediaVerdict{TraceID: "tr1", Verdict: "risky"}})
	if u := must(db.User(ctx, alice.ID))(t); u.Avatar != "" {
		t.Error("a risky avatar stays")
	}
	// A verdict may come before we know what was asked.
	record(Push{Key: "k4", Verdict: &MediaVerdict{TraceID: "tr0", Verdict: "review"}})
	second := "https://a/1.png"
	must(db.UpdateProfile(ctx, alice.ID, nil, &second))(t)
	check(t, db.BeginMediaCheck(ctx, MediaCheck{TraceID: "tr0", UserID: alice.ID, URL: second}))
	if u := must(db.User(ctx, alice.ID))(t); u.Avatar != "" {
		t.Error("a verdict that came early was forgotten")
	}
	events := must(db.Events(ctx, EventQuery{}))(t)
	if len(events) != 2 || events[0].Kind != "event:y" || events[1].UserID != alice.ID || string(events[1].About) != `{"a":1}` {
		t.Errorf("%+v", events)
	}
	if of := must(db.Events(ctx, EventQuery{UserID: alice.ID, Kind: "event:x", Account: "mini", Before: events[0].Seq}))(t); len(of) != 1 {
		t.Errorf("%+v", of)
	}
	check(t, db.EraseUser(ctx, alice.ID))
	if found := traces(t, db, []string{"openid-alice", "https://a/1.png"}); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if found := traces(t, db, []string{alice.ID}, "blocks", "mailboxes"); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if err := db.BeginMediaCheck(ctx, MediaCheck{TraceID: "tr2", UserID: alice.ID, URL: "https://a/2.png"}); !errors.Is(err, ErrErased) {
		t.Error(err)
	}
	c.move(40 * 24 * time.Hour)
	check(t, db.Sweep(ctx))
	if events = must(db.Events(ctx, EventQuery{}))(t); len(events) != 0 || must(db.KnowsNotify(ctx, "n1"))(t) {
		t.Errorf("kept %+v", events)
	}
}

func testReconciliations(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	r := Reconciliation{Day: "2026-02-28", State: ReconcileUneven, Payments: 3, PaidFen: 300, Refunds: 1, RefundFen: 10, FeeFen: 2, Differences: []BillDifference{
		{What: "amount", OutTradeNo: "A1", TransactionID: "T1", TheirFen: 100, OurFen: 90}, {What: "missing_here", OutRefundNo: "R1", TheirFen: 10},
	}}
	check(t, db.PutReconciliation(ctx, Reconciliation{Day: "2026-02-28", State: ReconcileFailing, Reason: "away"}))
	check(t, db.PutReconciliation(ctx, r))
	check(t, db.PutReconciliation(ctx, Reconciliation{Day: "2026-02-27", State: ReconcileNoBill}))
	got := must(db.Reconciliation(ctx, "2026-02-28"))(t)
	if got.State != ReconcileUneven || got.N != 2 || len(got.Differences) != 2 || got.Differences[0] != r.Differences[0] || got.Differences[1] != r.Differences[1] || got.Reason != "" {
		t.Errorf("%+v", got)
	}
	all := must(db.Reconciliations(ctx, 0))(t)
	if len(all) != 2 || all[0].Day != "2026-02-28" || all[0].N != 2 || all[1].State != ReconcileNoBill {
		t.Errorf("%+v", all)
	}
	if _, err := db.Reconciliation(ctx, "2026-02-01"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := db.PutReconciliation(ctx, Reconciliation{Day: "yesterday", State: "x"}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func testShipments(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	order := func(no string) {
		t.Helper()
		must(db.CreateOrder(ctx, Order{OutTradeNo: no, AppID: "wx1", MchID: "m1", OpenID: "o1", TotalFen: 5, Virtual: true}))(t)
	}
	pay := func(no string, told ...Telling) {
		t.Helper()
		if _, err := db.MarkPaid(ctx, Payment{AppID: "wx1", MchID: "m1", OutTradeNo: no, TransactionID: "T" + no, TotalFen: 5, Currency: "CNY", PaidAt: c.now()},
			func(Order, User) []Telling { return told }); err != nil {
			t.Fatal(err)
		}
	}
	order("ORDER1")
	if o := must(db.Order(ctx, "ORDER1"))(t); !o.Virtual {
		t.Errorf("%+v", o)
	}
	if _, err := db.PutShipment(ctx, Shipment{OutTradeNo: "ORDER1", Logistics: 1}, nil); !errors.Is(err, ErrOrderUnpaid) {
		t.Error(err)
	}
	if _, err := db.PutShipment(ctx, Shipment{OutTradeNo: "NOSUCH", Logistics: 1}, nil); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	pay("ORDER1", VirtualTelling("ORDER1", "会员"))
	s := must(db.Shipment(ctx, "ORDER1"))(t)
	if s.State != ShipmentWaiting || s.Logistics != 3 || !s.Complete || len(s.Parcels) != 1 || s.Parcels[0].Item != "会员" {
		t.Errorf("%+v", s)
	}
	rows := must(db.ClaimOutbox(ctx, "me", []TellingKind{TellShipping}, 10, time.Minute))(t)
	if len(rows) != 1 || rows[0].To != "ORDER1" {
		t.Errorf("%+v", rows)
	}
	check(t, db.FinishShipment(ctx, "ORDER1", s.Version, ShipmentTold, ""))
	if s = must(db.Shipment(ctx, "ORDER1"))(t); s.State != ShipmentTold || s.ToldAt.IsZero() {
		t.Errorf("%+v", s)
	}

	order("ORDER2")
	pay("ORDER2")
	express := Shipment{OutTradeNo: "ORDER2", Logistics: 1, Complete: true, By: "admin", Parcels: []Parcel{{TrackingNo: "SF1", Company: "SF", Item: "茶", Contact: "+86-177****1234"}}}
	first := must(db.PutShipment(ctx, express, nil))(t)
	if same := must(db.PutShipment(ctx, express, nil))(t); same.Version != first.Version {
		t.Errorf("the same again is version %d", same.Version)
	}
	express.Parcels[0].TrackingNo = "SF2"
	second := must(db.PutShipment(ctx, express, nil))(t)
	if second.Version != first.Version+1 || second.State != ShipmentWaiting {
		t.Errorf("%+v", second)
	}
	check(t, db.FinishShipment(ctx, "ORDER2", first.Version, ShipmentTold, "")) // overtaken
	if s = must(db.Shipment(ctx, "ORDER2"))(t); s.State != ShipmentWaiting {
		t.Errorf("%+v", s)
	}
	check(t, db.FinishShipment(ctx, "ORDER2", second.Version, ShipmentFailed, "no such carrier"))
	if third := must(db.PutShipment(ctx, express, nil))(t); third.Version != second.Version+1 { // after a failure the same is told again
		t.Errorf("%+v", third)
	}
	if _, _, err := db.RecordPush(ctx, Push{Key: "shipped", AppID: "wx1", Settled: &Settlement{OutTradeNo: "ORDER2"}}); err != nil {
		t.Fatal(err)
	}
	if s = must(db.Shipment(ctx, "ORDER2"))(t); s.State != ShipmentWaiting {
		t.Errorf("an older version's event marked a newer one: %+v", s)
	}
	for _, told := range []Settlement{{OutTradeNo: "ORDER2", ReceivedAt: c.now()}, {OutTradeNo: "ORDER2", SettledAt: c.now()}, {OutTradeNo: "ORDER2", ReceivedAt: c.now()}, {OutTradeNo: "UNKNOWN", SettledAt: c.now()}} {
		if _, _, err := db.RecordPush(ctx, Push{Key: fmt.Sprint(told, c.now()), AppID: "wx1", Settled: &told}); err != nil {
			t.Fatal(err)
		}
		c.move(time.Second)
	}
	if s = must(db.Shipment(ctx, "ORDER2"))(t); s.State != ShipmentSettled || s.ReceivedAt.IsZero() || s.SettledAt.IsZero() || s.Parcels[0].TrackingNo != "SF2" {
		t.Errorf("%+v", s)
	}
	u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1"}))(t)
	check(t, db.EraseUser(ctx, u.ID))
	if found := traces(t, db, []string{"177****"}); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}
