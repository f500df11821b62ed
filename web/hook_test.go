package web

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/web/jobs"
	"wxhub/wechat/sim"
)

const hookSecret = "canary-hook-secret-0123"

// A system is the shop's own, which hears hooks.
type system struct {
	*httptest.Server
	mu    sync.Mutex
	heard []hookCall
	raw   []string
}

func newSystem(t *testing.T) *system {
	y := &system{}
	y.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var call hookCall
		id, timestamp := r.Header.Get("Wxhub-Id"), r.Header.Get("Wxhub-Timestamp")
		if r.Header.Get("Wxhub-Signature") != "v1="+jobs.SignHook(hookSecret, id, timestamp, text) || r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(text, &call) != nil || call.ID != id {
			t.Errorf("a call that is not genuine: %v %s", r.Header, text)
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		y.heard, y.raw = append(y.heard, call), append(y.raw, string(text))
	}))
	t.Cleanup(y.Close)
	return y
}

func (y *system) events() (events string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, c := range y.heard {
		events += c.Event + " "
	}
	return strings.TrimSpace(events)
}

func TestHook_paidAndRefunded(t *testing.T) {
	all, paid := newSystem(t), newSystem(t)
	s := newShop(t, func(o *Options, _ *sim.Options) {
		o.Hooks = []Hook{
			{Name: "erp", URL: all.URL + "/in?key=canary-query", Secret: hookSecret, AllowPrivate: true},
			{Name: "paid-only", URL: paid.URL, Secret: hookSecret, Events: []string{"order.paid"}, AllowPrivate: true},
		}
	})
	alice, aliceID := s.login("alice")
	no := s.bought(alice, "alice", "apple", 2)
	s.trigger(map[string]any{"event": "pay", "outTradeNo": no, "times": 20, "parallel": true})
	into[refundView](s, s.ask("POST", "/api/admin/orders/"+no+"/refund", map[string]any{"amount": 100, "reason": "少一个", "outRefundNo": "RF-1"}))
	s.eventually("both events", func() bool { return all.events() == "order.paid order.refunded" })
	s.quiet()
	if got := all.events(); got != "order.paid order.refunded" {
		t.Errorf("heard %s", got)
	}
	if got := paid.events(); got != "order.paid" {
		t.Errorf("who wants payments alone heard %s", got)
	}
	var order hookOrder
	if err := json.Unmarshal(all.heard[0].Data, &order); err != nil || order.OutTradeNo != no || order.UserID != aliceID || order.Total != 3998 ||
		order.ProductID != "apple" || order.Quantity != 2 || order.TransactionID == "" || order.PaidAt == 0 || all.heard[0].At != order.PaidAt {
		t.Errorf("told %s, %v", all.raw[0], err)
	}
	var refund hookRefund
	if err := json.Unmarshal(all.heard[1].Data, &refund); err != nil || refund.Amount != 100 || refund.Refunded != 100 || refund.Reason != "少一个" || refund.OutRefundNo != "RF-1" {
		t.Errorf("told %s, %v", all.raw[1], err)
	}
	openID := s.openID(aliceID)
	for _, raw := range all.raw {
		if strings.Contains(raw, openID) || strings.Contains(raw, "openid") {
			t.Errorf("an openid is told: %s", raw)
		}
	}
	for _, secret := range []string{hookSecret, "canary-query"} {
		if s.log.having(secret) > 0 {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// The hooks are checked when the server is made, and none is told of what it does not know.
func TestHook_badOptions(t *testing.T) {
	good := Hook{Name: "erp", URL: "https://erp.example/in", Secret: hookSecret}
	if err := jobs.CheckHooks([]Hook{good, {Name: "b", URL: "http://b.example", Secret: hookSecret, Events: []string{"order.refunded"}}}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]func(*Hook){
		"no name": func(h *Hook) { h.Name = "" }, "name": func(h *Hook) { h.Name = "E R P" }, "no URL": func(h *Hook) { h.URL = "" },
		"scheme": func(h *Hook) { h.URL = "file:///etc/passwd" }, "user": func(h *Hook) { h.URL = "https://a:b@erp.example" },
		"no host": func(h *Hook) { h.URL = "https:///in" }, "secret": func(h *Hook) { h.Secret = "short" }, "event": func(h *Hook) { h.Events = []string{"order.eaten"} },
	} {
		h := good
		bad(&h)
		err := jobs.CheckHooks([]Hook{good, h})
		if err == nil || strings.Contains(err.Error(), hookSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := jobs.CheckHooks([]Hook{good, good}); err == nil {
		t.Error("two of a name")
	}
	if text := good.String() + time.Now().String(); strings.Contains(text, hookSecret) {
		t.Error("the secret is printed")
	}
}
