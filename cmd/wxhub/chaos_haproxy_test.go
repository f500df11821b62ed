package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startBalancer runs HAProxy with the file that docker-compose.yml mounts; only where it listens, where the nodes are
// and how many sockets this machine must grant are others.
func startBalancer(t *testing.T, one, two string) (address string) {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("skipped: no haproxy on this machine (make deps installs it)")
	}
	text, err := os.ReadFile("haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	address = spareAddress(t)
	for _, change := range []struct {
		old, new string
		times    int
	}{
		{"bind :8080", "bind " + address, 1}, {" one:8080", " " + one, 3}, {" two:8080", " " + two, 3}, {"maxconn 100000", "maxconn 4000", 1},
	} {
		if n := strings.Count(config, change.old); n != change.times {
			t.Fatalf("haproxy.cfg has %q %d times, not %d", change.old, n, change.times)
		}
		config = strings.ReplaceAll(config, change.old, change.new)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, address, func() *exec.Cmd { return exec.Command(path, "-db", "-f", file) })
	return address
}

// Behind the balancer of docker-compose.yml a node is restarted, at length one after the other: no request and no handshake fails,
// nothing is lost or repeated, and those who are sent away come back one after the other. The hub sees its clients'
// addresses, and not what they claim.
func TestChaos_rollingRestartBehindHAProxy(t *testing.T) {
	addrs := []string{spareAddress(t), spareAddress(t)}
	front := startBalancer(t, addrs[0], addrs[1])
	redis := startRedisServer(t)
	const drain = 14 * time.Second // a fifth of it is more than the balancer's two looks
	s := newStage(t, "WXHUB_TRUSTED_PROXIES=127.0.0.1/32", "WXHUB_DRAIN="+drain.String())
	s.door.leadTo(front)
	for _, addr := range addrs {
		s.addNode(addr, redis.address)
	}
	s.allReady()
	eventually(t, "a balancer that knows its nodes", func() bool { return s.door.isReady(front) })
	time.Sleep(3 * time.Second) // it looks at each once a second

	if code := loginFrom(t, "127.0.0.2", front); code != http.StatusUnauthorized {
		t.Errorf("a wrong password was answered %d", code)
	}
	logs := s.nodes[0].output() + s.nodes[1].output()
	if !strings.Contains(logs, "127.0.0.2") || strings.Contains(logs, "203.0.113.9") {
		t.Error("the client's address did not come through the balancer")
	}

	r := s.beginCrowd("nodes restarted behind HAProxy")
	for i, n := range s.nodes[:either(1, 2)] {
		told := time.Now()
		if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := n.ended(); code != 0 {
			t.Errorf("a node that was told to stop ended with %d\n%s", code, n.output())
		}
		r.wait("every watcher in its rooms", (*watcher).ready)
		var first, last time.Time
		came := 0
		for _, w := range r.watchers {
			w.mu.Lock()
			if at := w.cameAt; at.After(told) {
				if came++; first.IsZero() || at.Before(first) {
					first = at
				}
				if at.After(last) {
					last = at
				}
			}
			w.mu.Unlock()
		}
		t.Logf("node %d: %d of %d came back over %s, the first %s after the signal", i, came, len(r.watchers), last.Sub(first), first.Sub(told))
		if came < len(r.watchers)/4 || last.Sub(first) < drain/4 {
			r.late("%d came back within %s", came, last.Sub(first))
		}
		if first.Sub(told) < drain/5 {
			r.late("somebody was sent away after %s, before the balancer could know", first.Sub(told))
		}
		s.launch(n)
		s.allReady()
		time.Sleep(2 * time.Second) // until the balancer knows it
	}
	v := r.judge(time.Now(), false)
	if list := s.door.takeRefusals(); len(list) > 0 || v.refused > 0 {
		r.late("%d errors at the balancer, %d answers 503: %v", len(list), v.refused, list[:min(len(list), 5)])
	}
}

// loginFrom tries a wrong password from another address of this machine, and claims to come from a third.
func loginFrom(t *testing.T, from, to string) int {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodPost, "http://"+to+"/api/admin/login", strings.NewReader(`{"username":"admin","password":"wrong"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		t.Skipf("skipped: this machine has no second address on loopback: %v", err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
