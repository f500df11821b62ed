package web

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat/sim"
)

func (s *shop) pushed(query string) []eventView {
	s.Helper()
	return into[[]eventView](s, s.ask("GET", "/api/admin/events?"+query, nil))
}

// Every event of the platform is taken, kept, shown, and does what its type says, however often it comes.
func TestEvent_types(t *testing.T) {
	for _, format := range []string{"json", "xml"} {
		t.Run(format, func(t *testing.T) {
			s := newShop(t, func(_ *Options, o *sim.Options) { o.PushFormat = format })
			alice, aliceID := s.login("alice")
			no := s.bought(alice, "alice", "apple", 1)
			template := strings.Repeat("tmpl", 10) + "abc"
			play := func(what map[string]any) {
				t.Helper()
				what["user"], what["times"] = "alice", 3
				for _, a := range s.trigger(what) {
					if a.Status != 200 || a.Body != "success" || a.Ms > 1000 {
						t.Errorf("%v answered %d %q in %v ms", what["event"], a.Status, a.Body, a.Ms)
					}
				}
			}
			play(map[string]any{"event": "subscribe_msg_popup_event", "template": template, "status": "accept"})
			granted := func(want int) {
				t.Helper()
				grants, err := s.db.Grants(t.Context(), aliceID)
				if err != nil || len(grants) != 1 || grants[0].TemplateID != template || grants[0].Remaining != want {
					t.Errorf("grants %+v, %v; want %d", grants, err, want)
				}
			}
			granted(1)
			play(map[string]any{"event": "subscribe_msg_popup_event", "template": template, "status": "reject", "createTime": time.Now().Unix() + 1})
			granted(1)
			play(map[string]any{"event": "subscribe_msg_change_event", "template": template, "status": "reject", "createTime": time.Now().Unix() + 2})
			granted(0)
			play(map[string]any{"event": "subscribe_msg_sent_event", "template": template, "msgId": "1700827132819554304", "code": 1, "status": "failed"})
			play(map[string]any{"event": "wxa_media_check", "traceId": "trace-nobody-knows"})
			play(map[string]any{"event": "trade_manage_remind_access_api"})
			play(map[string]any{"event": "trade_manage_remind_shipping", "outTradeNo": no})
			play(map[string]any{"event": "event", "name": "wxa_trade_controlled"})
			play(map[string]any{"event": "event", "name": "brand_new_event", "fields": map[string]any{"Deep": map[string]any{"OpenId": s.openID(aliceID), "kept": "yes"}}})
			play(map[string]any{"event": "xpay_goods_deliver_notify", "key": "coin"})

			if a := s.alarm(alarmOverdue); a.Subject != no || a.Times != 1 {
				t.Errorf("%+v", a)
			}
			s.alarm(alarmAccess)
			s.alarm(alarmControlled)
			var kinds []string
			for _, e := range s.pushed("account=mini&limit=500") {
				kinds = append(kinds, e.Kind)
				if strings.Contains(string(e.About), s.openID(aliceID)) || strings.Contains(strings.ToLower(string(e.About)), "openid") {
					t.Errorf("an openid is shown: %s", e.About)
				}
			}
			slices.Sort(kinds)
			want := []string{"event:brand_new_event", "event:subscribe_msg_change_event", "event:subscribe_msg_popup_event", "event:subscribe_msg_popup_event",
				"event:subscribe_msg_sent_event", "event:trade_manage_remind_access_api", "event:trade_manage_remind_shipping", "event:wxa_media_check",
				"event:wxa_trade_controlled", "event:xpay_goods_deliver_notify"}
			if !slices.Equal(kinds, want) {
				t.Errorf("kept %v", kinds)
			}
			if of := s.pushed("kind=event:brand_new_event&user=" + aliceID); len(of) != 1 || !strings.Contains(string(of[0].About), `"kept":"yes"`) || of[0].Account != "mini" {
				t.Errorf("%+v", of)
			}
			// Who leaves takes it along.
			if err := s.db.EraseUser(t.Context(), aliceID); err != nil {
				t.Fatal(err)
			}
			if of := s.pushed("user=" + aliceID); len(of) != 0 {
				t.Errorf("%+v", of)
			}
		})
	}
}

// The shop's own system hears the pushes that it asked for by name, once, without openids.
func TestEvent_hooks(t *testing.T) {
	some, all, orders := newSystem(t), newSystem(t), newSystem(t)
	s := newShop(t, func(o *Options, _ *sim.Options) {
		o.Hooks = []Hook{
			{Name: "some", URL: some.URL, Secret: hookSecret, AllowPrivate: true, Events: []string{"push.text", "push.event.subscribe"}},
			{Name: "all", URL: all.URL, Secret: hookSecret, AllowPrivate: true, Events: []string{"push.*"}},
			{Name: "orders", URL: orders.URL, Secret: hookSecret, AllowPrivate: true},
		}
	})
	_, aliceID := s.login("alice")
	s.trigger(map[string]any{"event": "message", "user": "alice", "content": "在吗", "times": 5, "parallel": true})
	s.trigger(map[string]any{"event": "user_enter_tempsession", "user": "alice", "sessionFrom": "detail"})
	s.trigger(map[string]any{"event": "follow", "user": "alice"})
	s.eventually("what each wants", func() bool {
		return len(strings.Fields(some.events())) == 2 && len(strings.Fields(all.events())) == 3
	})
	s.quiet()
	sorted := func(y *system) string { f := strings.Fields(y.events()); slices.Sort(f); return strings.Join(f, " ") }
	if got := sorted(some); got != "push.event.subscribe push.text" {
		t.Errorf("some heard %s", got)
	}
	if got := sorted(all); got != "push.event.subscribe push.event.user_enter_tempsession push.text" {
		t.Errorf("all heard %s", got)
	}
	if got := orders.events(); got != "" {
		t.Errorf("who asked for no pushes heard %s", got)
	}
	for _, raw := range all.raw {
		if strings.Contains(raw, s.openID(aliceID)) || strings.Contains(raw, "FromUserName") {
			t.Errorf("told %s", raw)
		}
	}
	if text := strings.Join(all.raw, "\n"); !strings.Contains(text, `"user":"`+aliceID+`"`) || !strings.Contains(text, `"Content":"在吗"`) || !strings.Contains(text, `"account":"mp"`) {
		t.Errorf("told %s", text)
	}
}

// A picture is anybody's avatar only until WeChat says that it must not be.
func TestEvent_pictureJudged(t *testing.T) {
	for verdict, stays := range map[string]bool{"fine.png": true, "违规.png": false, "missing.png": false} {
		s := newShop(t)
		alice, aliceID := s.login("alice")
		address := "https://pictures.example/" + verdict
		into[userView](s, s.call("PATCH", "/api/me", alice, map[string]any{"avatar": address}))
		s.eventually("the verdict on "+verdict, func() bool { return len(s.pushed("kind=event:wxa_media_check")) == 1 })
		s.eventually(verdict, func() bool {
			u, err := s.db.User(t.Context(), aliceID)
			return err == nil && (u.Avatar == address) == stays
		})
	}
	s := newShop(t)
	alice, _ := s.login("alice")
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/media_check_async", "errcode": -1, "times": 5}, nil)
	s.refused(s.call("PATCH", "/api/me", alice, map[string]any{"avatar": "https://a.example/1.png"}), 503, "unavailable")
	open := newShop(t, func(o *Options, _ *sim.Options) { o.Moderator = &Moderator{FailOpen: true} })
	alice, _ = open.login("alice")
	open.play("POST", "/sim/fault", map[string]any{"path": "/wxa/media_check_async", "errcode": -1, "times": 5}, nil)
	into[userView](open, open.call("PATCH", "/api/me", alice, map[string]any{"avatar": "https://a.example/1.png"}))
}

// A delivery that WeChat settles is shown with its order.
func TestShipping(t *testing.T) {
	s := newShop(t, func(o *Options, w *sim.Options) {
		o.Products = append(o.Products, Product{ID: "card", Name: "会员月卡", PriceFen: 3000, Virtual: true})
		w.TimeScale = 60_000 // WeChat's shipping knows of a payment at once
	})
	alice, _ := s.login("alice")
	path := func(no string) string { return "/api/admin/orders/" + no + "/shipping" }
	shipping := func(no string) shippingView { return into[shippingView](s, s.ask("GET", path(no), nil)) }

	// Virtual goods by themselves.
	card := s.bought(alice, "alice", "card", 1)
	s.eventually("the card delivered", func() bool { return shipping(card).State == store.ShipmentTold })
	if v := shipping(card); v.Logistics != "virtual" || len(v.Parcels) != 1 || v.Parcels[0].Item != "会员月卡" || v.ToldAt == 0 || v.By != "wxhub" {
		t.Errorf("%+v", v)
	}
	// Express by hand.
	apple := s.bought(alice, "alice", "apple", 1)
	s.refused(s.ask("GET", path(apple), nil), 404, "not_found")
	parcel := map[string]any{"trackingNo": "YT0000000001", "company": "YTO"}
	v := into[shippingView](s, s.ask("POST", path(apple), map[string]any{"parcels": []any{parcel}}))
	if v.State != store.ShipmentWaiting || v.Logistics != "express" || !v.Complete || v.Parcels[0].Item != "红富士苹果" || v.By != "key test" {
		t.Errorf("%+v", v)
	}
	s.eventually("the apple on its way", func() bool { return shipping(apple).State == store.ShipmentTold })
	into[shippingView](s, s.ask("POST", path(apple), map[string]any{"parcels": []any{parcel}})) // the same again
	if v := shipping(apple); v.State != store.ShipmentTold {
		t.Errorf("%+v", v)
	}
	s.play("POST", "/sim/receive", map[string]any{"user": "alice", "outTradeNo": apple}, nil)
	s.eventually("settled", func() bool {
		v := shipping(apple)
		return v.State == store.ShipmentSettled && v.SettledAt > 0 && v.ReceivedAt > 0
	})

	// What is not to be.
	unpaid := s.order(alice, "apple", 1)["outTradeNo"].(string)
	s.refused(s.ask("POST", path(unpaid), map[string]any{"parcels": []any{parcel}}), 409, "order_unpaid")
	s.refused(s.ask("POST", path("20260101000000nobody"), map[string]any{"parcels": []any{parcel}}), 404, "not_found")
	for _, bad := range []map[string]any{
		{}, {"parcels": []any{}}, {"parcels": []any{map[string]any{"item": "x"}}}, {"logistics": "city", "parcels": []any{parcel}},
		{"logistics": "virtual", "parcels": []any{map[string]any{}, map[string]any{}}}, {"logistics": "pickup", "more": true},
	} {
		s.refused(s.ask("POST", path(apple), bad), 400, "bad_request")
	}
	// WeChat does not take it: an alarm, and the same again tries again.
	pear := s.bought(alice, "alice", "pear", 1)
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/sec/order/upload_shipping_info", "errcode": 10060004, "times": 10}, nil)
	into[shippingView](s, s.ask("POST", path(pear), map[string]any{"logistics": "pickup"}))
	if a := s.alarm(alarmShipping); a.Subject != pear {
		t.Errorf("%+v", a)
	}
	if v := shipping(pear); v.State != store.ShipmentFailed || v.Reason == "" {
		t.Errorf("%+v", v)
	}
	s.play("DELETE", "/sim/fault", nil, nil)
	into[shippingView](s, s.ask("POST", path(pear), map[string]any{"logistics": "pickup"}))
	s.eventually("the pear", func() bool { return shipping(pear).State == store.ShipmentTold })
}

// A shop whose deliveries WeChat does not manage tells it nothing.
func TestShipping_unmanaged(t *testing.T) {
	s := newShop(t, func(o *Options, w *sim.Options) {
		o.Products = append(o.Products, Product{ID: "card", Name: "会员月卡", PriceFen: 3000, Virtual: true})
		w.Unmanaged = true
	})
	alice, _ := s.login("alice")
	for range 2 {
		no := s.bought(alice, "alice", "card", 1)
		s.eventually("no need", func() bool {
			return into[shippingView](s, s.ask("GET", "/api/admin/orders/"+no+"/shipping", nil)).State == store.ShipmentNeedless
		})
	}
	if !s.figure(`wxhub_wechat_calls_total{api="wechat",call="is_trade_managed",code="ok"} 1`) || s.figure(`wxhub_wechat_calls_total{api="wechat",call="upload_shipping_info"`) {
		t.Error("WeChat was asked more than once, or told")
	}
}
