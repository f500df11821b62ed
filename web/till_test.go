package web

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
	"wxhub/wechat"
	"wxhub/wechat/sim"
)

const systemKey = "test-api-key"

// ask calls as the shop's own system.
func (s *shop) ask(method, path string, body any) answer {
	s.Helper()
	return s.callWith(method, path, map[string]string{"X-API-Key": systemKey}, body)
}

func (s *shop) callWith(method, path string, header map[string]string, body any) answer {
	s.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			s.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(string(text)))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{}
	answered, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(answered, &a)
	}
	if err != nil {
		s.Fatalf("%s %s: %d: %v", method, path, res.StatusCode, err)
	}
	CheckAnswer(s, s.server.Handler(), method, path, res.StatusCode, answered)
	a.Status, a.Header = res.StatusCode, res.Header
	return a
}

// into opens the data of a success.
func into[T any](s *shop, a answer) (v T) {
	s.Helper()
	if a.Status != http.StatusOK || a.Code != 1 {
		s.Fatalf("answered %d %s %s", a.Status, a.Error, a.Message)
	}
	if err := json.Unmarshal(a.Data, &v); err != nil {
		s.Fatalf("%s: %v", a.Data, err)
	}
	return v
}

func withPayV2(signType string) shopOption {
	return func(o *Options, s *sim.Options) {
		o.Pay = (*wechat.PayV2)(nil)
		s.V2SignType = signType
	}
}

// bothVersions runs a test with version 3 and with version 2 in both its signatures.
func bothVersions(t *testing.T, test func(t *testing.T, s *shop)) {
	t.Run("v3", func(t *testing.T) { test(t, newShop(t)) })
	t.Run("v2 MD5", func(t *testing.T) { test(t, newShop(t, withPayV2("MD5"))) })
	t.Run("v2 HMAC-SHA256", func(t *testing.T) { test(t, newShop(t, withPayV2("HMAC-SHA256"))) })
}

func (s *shop) chaser(node string) *chaser {
	c := &chaser{shop: s}
	c.Jobs = jobs.New(jobs.Options{
		Hub: s.hub, Store: s.db, Till: s.server.Till(), Node: node,
		Now: func() time.Time { return time.Now().Add(c.ahead) },
	})
	return c
}

func (c *chaser) at(ahead time.Duration) {
	c.Helper()
	c.ahead = ahead
	if err := c.Chase(c.Context()); err != nil {
		c.Fatalf("chase after %v: %v", ahead, err)
	}
}

func (s *shop) stored(no string) store.Order {
	s.Helper()
	o, err := s.db.Order(s.Context(), no)
	if err != nil {
		s.Fatal(err)
	}
	return o
}

func (s *shop) mute(no string) {
	s.Helper()
	s.trigger(map[string]any{"event": "muteNotify", "outTradeNo": no})
}

// bought is an order that was paid, of which the hub knows.
func (s *shop) bought(token, name, product string, quantity int) (no string) {
	s.Helper()
	params := s.order(token, product, quantity)
	no = params["outTradeNo"].(string)
	if got := s.confirm(name, params); got["ok"] != true {
		s.Fatalf("the pay sheet says %v", got)
	}
	s.eventually("paid", func() bool { return s.stored(no).State == store.OrderPaid })
	return no
}

func TestShopOrder(t *testing.T) {
	s := newShop(t)
	alice, aliceID := s.login("alice")
	bob, bobID := s.login("bob")
	p := s.phone(alice, "notice", "room:live")
	made := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", map[string]any{"description": "定制礼盒", "total": 5200, "userId": aliceID}))
	if made.State != store.OrderCreated || made.Total != 5200 || made.Quantity != 1 || made.UserID != aliceID || made.Room != "" {
		t.Errorf("made %+v", made)
	}
	if a := s.call("POST", "/api/pay", bob, map[string]any{"outTradeNo": made.OutTradeNo}); a.Status != 404 {
		t.Errorf("bob pays alice's order: %+v", a)
	}
	if got := s.confirm("alice", s.params(s.call("POST", "/api/pay", alice, map[string]any{"outTradeNo": made.OutTradeNo}))); got["ok"] != true {
		t.Errorf("the pay sheet says %v", got)
	}
	s.eventually("the letter", func() bool { return len(p.of("order.paid")) == 1 })

	// The shop's own number, an openid, a room.
	bobOpenID := s.openID(bobID)
	order := map[string]any{"description": "茶", "total": 100, "openid": bobOpenID, "room": "room:live", "outTradeNo": "ERP-2026-0001", "quantity": 3}
	first := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", order))
	again := into[adminOrderView](s, s.ask("POST", "/api/admin/orders", order))
	if first.OutTradeNo != "ERP-2026-0001" || first != again {
		t.Errorf("made %+v, then %+v", first, again)
	}
	for field, other := range map[string]any{"total": 101, "description": "咖啡", "openid": "oSomebodyElse", "room": "notice", "quantity": 4} {
		changed := map[string]any{}
		for k, v := range order {
			changed[k] = v
		}
		changed[field] = other
		if a := s.ask("POST", "/api/admin/orders", changed); a.Status != 409 || a.Error != "conflict" {
			t.Errorf("another %s under the same number: %+v", field, a)
		}
	}
	b := s.phone(bob)
	if got := s.confirm("bob", s.params(s.call("POST", "/api/pay", bob, map[string]any{"outTradeNo": first.OutTradeNo}))); got["ok"] != true {
		t.Errorf("the pay sheet says %v", got)
	}
	s.eventually("bob's letter, though the order names only his openid", func() bool { return len(b.of("order.paid")) == 1 })
	s.eventually("the notice in the order's room", func() bool { return len(p.of("purchase")) == 1 })
	s.quiet()
	if heard := p.of("purchase"); len(heard) != 1 || heard[0].Meta.Room != "room:live" || strings.Contains(heard[0].Meta.ID, first.OutTradeNo) {
		t.Errorf("heard %+v", heard)
	}
	mine := into[[]orderView](s, s.call("GET", "/api/orders", bob, nil))
	if len(mine) != 1 || mine[0].OutTradeNo != first.OutTradeNo {
		t.Errorf("bob's orders: %+v", mine)
	}
	found := into[[]adminOrderView](s, s.ask("GET", "/api/admin/orders?outTradeNo=ERP-2026-0001", nil))
	if len(found) != 1 || found[0].OutTradeNo != first.OutTradeNo || found[0].State != store.OrderPaid || found[0].TransactionID == "" {
		t.Errorf("found %+v", found)
	}
	if none := into[[]adminOrderView](s, s.ask("GET", "/api/admin/orders?outTradeNo=ERP-2026-000", nil)); len(none) != 0 {
		t.Errorf("half a number finds %+v", none)
	}
	entries, err := s.db.Audits(t.Context(), 10)
	if err != nil || !slices.ContainsFunc(entries, func(e store.AuditEntry) bool { return e.About == "order ERP-2026-0001" && e.Who == "key test" }) {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

func (s *shop) openID(user string) string {
	s.Helper()
	u, err := s.db.User(s.Context(), user)
	if err != nil || u.OpenID == "" {
		s.Fatalf("user %s: %v", user, err)
	}
	return u.OpenID
}

func (s *shop) refunds(no string) []refundView {
	s.Helper()
	return into[[]refundView](s, s.ask("GET", "/api/admin/orders/"+no+"/refunds", nil))
}
