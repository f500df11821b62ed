package web_test

import (
	"testing"

	"wxhub/web"
)

// Without payment settings no login helps, so nobody is asked for one.
func TestPay_notConfigured(t *testing.T) {
	s := newShop(t, func(o *web.Options) { o.Pay = nil })
	for name, who := range map[string]string{"nobody": "", "user": s.token("alice", "user"), "bad token": "x.y.z"} {
		a := s.ask("POST", "/api/pay", who, map[string]any{"productId": "tea", "quantity": 1})
		if a.Status != 503 || a.word() != "not_configured" {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
}

func TestPay_unknownProductFirst(t *testing.T) {
	s := newShop(t)
	alice := s.login("alice").Token
	for _, test := range []struct {
		body   string
		status int
		word   string
	}{
		{`{"productId":"nothing"}`, 404, "unknown_product"},
		{`{"productId":"nothing","quantity":3}`, 404, "unknown_product"},
		{`{"productId":"tea"}`, 400, "bad_request"},
	} {
		if a := s.ask("POST", "/api/pay", alice, test.body); a.Status != test.status || a.word() != test.word {
			t.Errorf("%s: %d %s", test.body, a.Status, a.Text)
		}
	}
}
