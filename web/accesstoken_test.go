package web

import (
	"testing"
	"time"

	"wxhub/wechat/sim"
)

// A token that leaked is ended by hand, seldom enough for WeChat.
func TestAccessToken_refresh(t *testing.T) {
	s := newShop(t)
	const path = "/api/admin/wechat/refresh"
	s.data(s.ask("POST", path, map[string]any{}), nil)
	a := s.ask("POST", path, map[string]any{"account": "mini"})
	if a.Status != 429 || a.Error != "too_many" || a.Header.Get("Retry-After") == "" {
		t.Errorf("half a minute has not passed: %d %s", a.Status, a.Error)
	}
	s.data(s.ask("POST", path, map[string]any{"account": "mp"}), nil)
	alice, _ := s.login("alice")
	into[codeView](s, s.code(alice, "scene=a")) // with the new one
	audits, err := s.db.Audits(t.Context(), 10)
	if err != nil || len(audits) != 2 || time.Since(audits[0].At) > time.Minute {
		t.Errorf("%+v, %v", audits, err)
	}
	none := newShop(t, func(_ *Options, _ *sim.Options) {})
	none.server.o.MPClient = nil
	none.refused(none.ask("POST", path, map[string]any{"account": "mp"}), 503, "not_configured")
}
