package main

import (
	"testing"
	"time"
)

// What is decided at run time on one node holds on the other within a second, also while that one is cut off from
// Redis: revocations and rules come by the database. A kick comes when it is back.
func TestCluster_decisionsReachNodeCutOff(t *testing.T) {
	redis := startRedisServer(t)
	s := newStage(t)
	sim, first := s.withSimulator()
	s.addNode(first, redis.address)
	s.addNodes(1, redis.address)
	for _, n := range s.nodes {
		n.sim = sim
	}
	one, two := s.nodes[0], s.nodes[1]
	phones := make(map[string]*phone)
	for _, name := range []string{"ann", "bo", "cy", "dee", "eve", "fay"} {
		phones[name] = one.newPhone(name).on(two.process).connect("")
	}
	post := func(path, auth string) {
		t.Helper()
		if a := one.ask("POST", path, auth, nil); a.Status != 200 {
			t.Fatalf("%s: %+v", path, a)
		}
	}
	user := func(name, what string) {
		t.Helper()
		post("/api/admin/users/"+phones[name].id+"/"+what, "key:"+clusterKey)
	}
	closed := func(name string, code int, since time.Time, within time.Duration) {
		t.Helper()
		for {
			_, err := phones[name].next()
			if err == nil {
				continue
			}
			if got := closeCode(err); got != code {
				t.Errorf("%s's socket ended with %v, want %d", name, err, code)
			}
			break
		}
		took := time.Since(since)
		t.Logf("%s: %s", name, took.Round(time.Millisecond))
		if took > within+2*time.Second { // for a busy machine
			t.Errorf("%s's socket was closed after %s, not within %s", name, took, within)
		}
	}
	version := int64(0)
	rules := func() {
		t.Helper()
		var saved, learned struct{ Version int64 }
		one.ask("PUT", "/api/admin/fallbacks", "key:"+clusterKey, map[string]any{"rules": []any{}, "version": version}).into(t, &saved)
		start := time.Now()
		if saved.Version <= version {
			t.Fatalf("rules of version %d after %d", saved.Version, version)
		}
		version = saved.Version
		two.wait("the rules", func() bool {
			two.ask("GET", "/api/admin/fallbacks", "key:"+clusterKey, nil).into(t, &learned)
			return learned.Version == version
		})
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the rules came after %s", took)
		}
	}
	start := time.Now()
	user("ann", "disconnect")
	closed("ann", 4503, start, time.Second)
	start = time.Now()
	post("/api/logout", phones["bo"].token)
	closed("bo", 4501, start, time.Second)
	start = time.Now()
	user("cy", "block")
	closed("cy", 4503, start, time.Second)
	rules()

	two.link.set(fault{hole: true})
	eventually(t, "red readiness", func() bool { return !s.door.isReady(two.addr) })
	start = time.Now()
	post("/api/logout", phones["dee"].token)
	closed("dee", 4501, start, time.Second)
	start = time.Now()
	user("eve", "block")
	closed("eve", 4503, start, time.Second)
	rules()
	user("fay", "disconnect")
	two.link.reset() // what waits in the black hole never arrives
	two.link.set(fault{})
	start = time.Now()
	closed("fay", 4503, start, 5*time.Second)
}
