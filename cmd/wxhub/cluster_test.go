package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A cluster is two nodes of `wxhub serve` with Redis and PostgreSQL, and a simulator that stands for WeChat.
type cluster struct {
	t     *testing.T
	env   []string
	nodes []*process
}

const clusterKey = "cluster-api-key-0123456789"

func startCluster(t *testing.T, more ...string) *cluster {
	t.Helper()
	redis, postgres := startRedis(t), startPostgres(t)
	simAddr, first := spareAddress(t), spareAddress(t)
	keys := t.TempDir() + "/sim.json"
	simulator := startProcess(t, nil, "sim", "--addr", simAddr, "--hub", "http://"+first, "--keys", keys)
	c := &cluster{t: t, env: []string{
		"WXHUB_REDIS_URL=" + redis, "WXHUB_DATABASE_URL=" + postgres, "WXHUB_API_KEYS=test:" + clusterKey,
		"WXHUB_JWT_KEYS=k:0123456789abcdef0123456789abcdef", "WXHUB_ADMIN_PASSWORD=cluster-password", "WXHUB_DRAIN=1s",
		"WXHUB_LIMIT_ADDRESS=off", "WXHUB_LIMIT_USER=off",
	}}
	c.env = append(append(c.env, simulator.settings()...), more...)
	c.addNode(first, "http://"+simAddr)
	c.addNode(spareAddress(t), "http://"+simAddr)
	return c
}

// settings are those of a hub that the simulator prints, as a person would paste them.
func (p *process) settings() (env []string) {
	p.t.Helper()
	p.wait("the simulator's settings", func() bool { return strings.Contains(p.output(), "WXHUB_WECHAT_SECRET=") })
	for line := range strings.SplitSeq(p.output(), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "WXHUB_") {
			env = append(env, name+"="+strings.Trim(value, "'"))
		}
	}
	return env
}

func (c *cluster) addNode(addr, sim string) *process {
	c.t.Helper()
	p := startProcess(c.t, append([]string{"WXHUB_ADDR=" + addr, "WXHUB_DATA=" + c.t.TempDir()}, c.env...), "serve", "--config", writeProducts(c.t))
	p.hub, p.sim, p.apiKey = "http://"+addr, sim, clusterKey
	p.wait("readiness", func() bool {
		r, err := http.Get(p.hub + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
	c.nodes = append(c.nodes, p)
	return p
}

// on moves a phone to another node; its token is good everywhere.
func (ph *phone) on(p *process) *phone {
	moved := *ph
	moved.p = p
	return &moved
}

// Three phones on two nodes, one pays: each hears it exactly once; then a node dies, and nobody misses anything.
func TestCluster_nodeLoss(t *testing.T) {
	c := startCluster(t)
	one, two := c.nodes[0], c.nodes[1]
	ann := one.newPhone("ann").connect("room=notice")
	bo := one.newPhone("bo").on(two).connect("room=notice")
	cy := two.newPhone("cy").connect("room=notice")
	phones := []*phone{ann, bo, cy}

	// The payment reaches node one; the payer's order is asked for on node two.
	paid, sheet := cy.order("tea")
	cy.pay(sheet)
	two.wait("the payment", func() bool { return cy.orderState(paid) == "paid" })
	two.relayed()
	one.broadcast("notice", "mark")
	last := map[*phone]frame{}
	for _, ph := range phones {
		want := map[string]int{"purchase": 1, "mark": 1}
		if ph == cy { // mail comes another way than the room's messages: before or after them
			want["order.paid"] = 1
		}
		got := map[string]int{}
		for total(got) < total(want) {
			f := ph.read()
			got[f.Data.Action]++
			if f.Data.Action == "mark" {
				last[ph] = f
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s heard %v, want %v", ph.name, got, want)
		}
	}
	if last[ann].Meta.Epoch != last[cy].Meta.Epoch || last[ann].Meta.Offset != last[cy].Meta.Offset {
		t.Errorf("the nodes disagree where the room stands: %+v %+v", last[ann].Meta, last[cy].Meta)
	}

	// Everybody sees everybody, wherever they are.
	one.wait("three persons in notice", func() bool {
		reply, _ := ann.ask(`{"id":1,"action":"presence","room":"notice"}`)
		return reply.Count == 3
	})

	// Node two dies without a word. A second payment goes through node one, and who was on node two comes back there.
	if err := two.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	two.ended()
	paid, sheet = ann.order("mug")
	ann.pay(sheet)
	one.wait("the second payment", func() bool { return ann.orderState(paid) == "paid" })
	one.relayed()
	one.broadcast("notice", "mark2")
	got := map[string]int{}
	for got["mark2"] == 0 || got["order.paid"] == 0 {
		got[ann.read().Data.Action]++
	}
	if got["purchase"] != 1 || total(got) != 3 {
		t.Errorf("ann heard %v", got)
	}
	for _, ph := range []*phone{bo, cy} {
		at := last[ph].Meta
		back := ph.on(one).connect(fmt.Sprintf("room=notice@%s:%d", at.Epoch, at.Offset))
		got := countActions(back.until("mark2"))
		delete(got, "order.paid") // cy has acknowledged nothing, so the first payment's mail comes again
		if got["purchase"] != 1 || len(got) != 1 {
			t.Errorf("%s came back to %v", ph.name, got)
		}
	}

	// Logged out on one node, dead on the other; a blocked user is thrown out of both.
	three := c.addNode(spareAddress(t), one.sim)
	dee := one.newPhone("dee").connect("room=notice")
	eve := one.newPhone("eve").on(three).connect("room=notice")
	if a := three.ask("POST", "/api/logout", dee.token, nil); a.Status != 200 {
		t.Fatalf("logout: %+v", a)
	}
	if _, err := dee.next(); closeCode(err) != 4501 {
		t.Errorf("logged out on the other node, the socket ended with %v", err)
	}
	one.wait("the dead token", func() bool { return one.ask("GET", "/api/me", dee.token, nil).Status == 401 })
	if a := one.ask("POST", "/api/admin/users/"+eve.id+"/block", "key:"+clusterKey, nil); a.Status != 200 {
		t.Fatalf("block: %+v", a)
	}
	if _, err := eve.next(); closeCode(err) != 4503 {
		t.Errorf("blocked on the other node, the socket ended with %v", err)
	}
	var nodes []struct{ ID string }
	one.wait("both nodes in the list", func() bool {
		one.ask("GET", "/api/admin/nodes", "key:"+clusterKey, nil).into(t, &nodes)
		return len(nodes) >= 2
	})
	c.noSecrets()
}

// The same shop with Pay v2: order, notify, refund, and a notify that never comes.
func TestCluster_payV2(t *testing.T) {
	c := startCluster(t, "WXHUB_PAY_VERSION=v2", "WXHUB_PAY_V2_SIGN_TYPE=HMAC-SHA256")
	one, two := c.nodes[0], c.nodes[1]
	ann := one.newPhone("ann").connect("room=notice")
	paid, sheet := ann.order("tea")
	if sheet["signType"] != "HMAC-SHA256" {
		t.Errorf("the pay sheet is signed with %v", sheet["signType"])
	}
	ann.pay(sheet)
	two.wait("the payment", func() bool { return ann.on(two).orderState(paid) == "paid" })

	if a := two.ask("POST", "/api/admin/orders/"+paid+"/refund", "key:"+clusterKey, map[string]any{"amount": 800, "reason": "test"}); a.Status != 200 {
		t.Fatalf("refund: %+v", a)
	}
	heard := map[string]int{}
	for heard["purchase"]+heard["order.paid"]+heard["order.refunded"] < 3 {
		heard[ann.read().Data.Action]++
	}
	if heard["order.refunded"] != 1 || total(heard) != 3 {
		t.Errorf("ann heard %v", heard)
	}

	// WeChat stays silent about this one: looking at the order asks.
	silent, sheet := ann.order("mug")
	one.simulate("/sim/fault", map[string]any{"muteNotify": true, "outTradeNo": silent}, &struct{}{})
	ann.pay(sheet)
	one.wait("the payment that nobody told of", func() bool { return ann.orderState(silent) == "paid" })
	one.relayed()
	one.broadcast("notice", "mark")
	heard = map[string]int{}
	for heard["mark"] == 0 || heard["order.paid"] == 0 {
		heard[ann.read().Data.Action]++
	}
	if heard["purchase"] != 1 || total(heard) != 3 {
		t.Errorf("ann heard %v", heard)
	}
	c.noSecrets()
}

// No secret of the settings is in what the nodes log or answer.
func (c *cluster) noSecrets() {
	c.t.Helper()
	secrets := map[string]string{}
	for _, line := range c.env {
		name, value, _ := strings.Cut(line, "=")
		for _, row := range settingsTable {
			if name != "WXHUB_"+row.name || !row.secret || strings.HasSuffix(name, "_URL") {
				continue
			}
			for part := range strings.SplitSeq(value, `\n`) { // of a PEM text each line counts
				if _, key, ok := strings.Cut(part, ":"); ok {
					part = key
				}
				if len(part) > 12 && !strings.Contains(part, "-----") {
					secrets[part] = name
				}
			}
		}
	}
	if len(secrets) < 10 {
		c.t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for i, p := range c.nodes {
		texts := map[string]string{"log": p.output()}
		if p.running() {
			for _, path := range []string{"/metrics", "/api/openapi.json", "/api/admin/stats", "/api/admin/orders", "/api/admin/nodes", "/api/admin/rooms", "/api/admin/conversations"} {
				r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, p.hub+path, nil)
				if err != nil {
					c.t.Fatal(err)
				}
				r.Header.Set("X-API-Key", clusterKey)
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					c.t.Fatal(err)
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 {
					c.t.Errorf("%s: %d %v", path, resp.StatusCode, err)
				}
				texts[path] = string(text)
			}
		}
		for where, text := range texts {
			for secret, name := range secrets {
				if strings.Contains(text, secret) {
					c.t.Errorf("node %d, %s: the value of %s", i+1, where, name)
				}
			}
		}
	}
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// writeProducts writes a settings file with a small catalogue.
func writeProducts(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxhub.yaml")
	text := "products:\n  - {id: tea, name: 茶, price: 12800}\n  - {id: mug, name: 杯, price: 6800}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
