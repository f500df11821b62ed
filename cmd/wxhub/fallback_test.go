package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A process dies while it tells mail by WeChat: before the call, or when WeChat has answered and nothing is written down.
// Where the last grant was taken, whoever comes after it sends again, and WeChat gives one message either way. Where more
// could be sent, nobody sends again, and the receipt says what is known.
func TestFallback_killedWhileSending(t *testing.T) {
	const custom, subscribe = `custom: {text: "{title}"}`, `subscribe: {template: TEMPLATE_NEWS_0001, data: {thing1: "{title}"}}`
	for _, c := range []struct {
		name, point, rule, state string
		received                 int
	}{
		{"before the call, of five answers", "before_send", custom, "unknown", 0},
		{"after the call, of five answers", "after_send", custom, "unknown", 1},
		{"before the call, the last grant", "before_send", subscribe, "fallen_back", 1},
		{"after the call, the last grant", "after_send", subscribe, "fallen_back", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, simAddr := spareAddress(t), spareAddress(t)
			simulator := startProcess(t, nil, "sim", "--addr", simAddr, "--hub", "http://"+addr, "--keys", t.TempDir()+"/sim.json")
			simulator.wait("the simulator's settings", func() bool { return strings.Contains(simulator.output(), "WXHUB_WECHAT_SECRET=") })
			config := filepath.Join(t.TempDir(), "wxhub.yaml")
			if err := os.WriteFile(config, []byte("fallbacks:\n  - {action: news, after: 1, "+c.rule+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			env := []string{"WXHUB_ADDR=" + addr, "WXHUB_DATA=" + t.TempDir(), "WXHUB_API_KEYS=test:" + modelKey, "WXHUB_JWT_KEYS=k:0123456789abcdef0123456789abcdef"}
			for line := range strings.SplitSeq(simulator.output(), "\n") {
				if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "WXHUB_") {
					env = append(env, name+"="+strings.Trim(value, "'"))
				}
			}
			start := func(more ...string) *process {
				p := startProcess(t, append(env, more...), "serve", "--config", config)
				p.hub, p.sim, p.apiKey = "http://"+addr, "http://"+simAddr, modelKey
				p.wait("readiness", func() bool {
					r, err := http.Get(p.hub + "/readyz")
					if err != nil {
						return false
					}
					r.Body.Close()
					return r.StatusCode == 200
				})
				return p
			}
			p := start("WXHUB_CRASHPOINT=" + c.point)
			ann := p.newPhone("ann")
			allow := func() {
				if c.rule == subscribe {
					p.simulate("/sim/subscribe", map[string]any{"user": "ann", "templates": map[string]string{"TEMPLATE_NEWS_0001": "accept"}}, &struct{}{})
				} else {
					p.simulate("/sim/message", map[string]any{"user": "ann", "type": "text", "content": "在吗"}, &struct{}{})
				}
			}
			allow()
			if a := p.ask("POST", "/api/admin/broadcast", "key:"+modelKey, map[string]any{"users": []string{ann.id}, "action": "news", "payload": map[string]any{"title": "新茶到了"}, "id": "n1"}); a.Status != 200 {
				t.Fatalf("broadcast: %+v", a)
			}
			p.ended()
			p = start()
			var v struct {
				Receipts []struct{ State, Reason string }
			}
			p.wait("what became of it", func() bool {
				p.ask("GET", "/api/admin/messages/n1", "key:"+modelKey, nil).into(t, &v)
				return len(v.Receipts) == 1 && v.Receipts[0].State == c.state
			})
			// Another letter, another round: it stays so.
			allow()
			if a := p.ask("POST", "/api/admin/broadcast", "key:"+modelKey, map[string]any{"users": []string{ann.id}, "action": "news", "payload": map[string]any{"title": "第二封"}, "id": "n2"}); a.Status != 200 {
				t.Fatalf("broadcast: %+v", a)
			}
			var got []string
			p.wait("the second one", func() bool {
				var state struct{ Messages []struct{ Content string } }
				r, err := http.Get(p.sim + "/sim/state")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				if err := json.NewDecoder(r.Body).Decode(&state); err != nil {
					t.Fatal(err)
				}
				got = nil
				for _, m := range state.Messages {
					got = append(got, m.Content)
				}
				return len(got) > 0 && strings.Contains(got[len(got)-1], "第二封")
			})
			if len(got) != c.received+1 {
				t.Errorf("WeChat received %q", got)
			}
		})
	}
}
