package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spareAddress is an address on loopback that nobody listened on a moment ago.
func spareAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A server is a foreign program that a test runs, stops and starts again.
type server struct {
	t       *testing.T
	command func() *exec.Cmd // a new one each time
	address string           // where it listens
	cmd     *exec.Cmd
	ended   chan error
}

// startServer runs a foreign server until the test ends, and waits until it listens.
func startServer(t *testing.T, address string, command func() *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, command: command, address: address}
	s.start()
	t.Cleanup(func() {
		if s.cmd != nil {
			_ = s.cmd.Process.Signal(syscall.SIGCONT)
			s.stop(os.Interrupt)
		}
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	s.cmd, s.ended = s.command(), make(chan error, 1)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, ended := s.cmd, s.ended
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		if c, err := net.Dial("tcp", s.address); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case err := <-s.ended:
			s.t.Fatalf("%s ended: %v", s.cmd.Path, err)
		case <-end:
			s.t.Fatalf("%s does not listen on %s", s.cmd.Path, s.address)
		}
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends it with a signal; what does not obey is killed.
func (s *server) stop(sig os.Signal) {
	s.t.Helper()
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	s.cmd = nil
}

func (s *server) port() string {
	_, port, _ := net.SplitHostPort(s.address)
	return port
}

// startRedis runs a redis-server of the test's own and returns its URL.
func startRedis(t *testing.T) string {
	t.Helper()
	return "redis://" + startRedisServer(t).address
}

// startRedisServer runs a redis-server that keeps nothing over a stop.
func startRedisServer(t *testing.T, args ...string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("skipped: no redis-server on this machine (make deps installs it)")
	}
	address := spareAddress(t)
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	return startServer(t, address, func() *exec.Cmd {
		cmd := exec.Command(path, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning"}, args...)...)
		cmd.Dir = dir
		return cmd
	})
}

// startRedisKind runs a redis-server with a file of settings that it may write into.
func startRedisKind(t *testing.T, file, conf string, args ...string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("skipped: no redis-server on this machine (make deps installs it)")
	}
	address := spareAddress(t)
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return startServer(t, address, func() *exec.Cmd {
		cmd := exec.Command(path, append([]string{filepath.Join(dir, file), "--port", port, "--bind", "127.0.0.1", "--dir", dir}, args...)...)
		cmd.Dir = dir
		return cmd
	})
}

// startRedisCluster runs a Redis Cluster of three masters, some of which have a replica.
func startRedisCluster(t *testing.T, replicaCount int) (masters, replicas []*server) {
	t.Helper()
	node := func() *server {
		return startRedisServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
			"--cluster-allow-replica-migration", "no")
	}
	for i := range 3 {
		m := node()
		redisCLI(t, m, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*5462), strconv.Itoa(min(i*5462+5461, 16383)))
		redisCLI(t, m, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		masters = append(masters, m)
	}
	for range replicaCount {
		replicas = append(replicas, node())
	}
	all := append(slices.Clone(masters), replicas...)
	for _, one := range all[1:] {
		redisCLI(t, one, "CLUSTER", "MEET", "127.0.0.1", masters[0].port())
	}
	agreed := func() bool {
		for _, one := range all {
			info := redisCLI(t, one, "CLUSTER", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprint("cluster_known_nodes:", len(all))) {
				return false
			}
		}
		return true
	}
	eventually(t, "a cluster", agreed)
	for i, one := range replicas {
		id := redisCLI(t, masters[i], "CLUSTER", "MYID")
		eventually(t, "a replica", func() bool { return redisCLI(t, one, "CLUSTER", "REPLICATE", id) == "OK" })
	}
	eventually(t, "replicas in step", func() bool {
		for _, one := range replicas {
			if !strings.Contains(redisCLI(t, one, "INFO", "replication"), "master_link_status:up") {
				return false
			}
		}
		return agreed()
	})
	return masters, replicas
}

// moveSlotOf moves the slot in which a room's keys live, key by key, to another master.
func moveSlotOf(t *testing.T, masters []*server, room string) {
	t.Helper()
	var from, to *server
	var slot string
	for i, m := range masters {
		if keys := strings.Fields(redisCLI(t, m, "--scan", "--pattern", "wxhub:*:m:"+room)); len(keys) > 0 {
			from, to = m, masters[(i+1)%len(masters)]
			slot = redisCLI(t, m, "CLUSTER", "KEYSLOT", keys[0])
		}
	}
	if from == nil {
		t.Fatalf("no master has the room %s", room)
	}
	toID := redisCLI(t, to, "CLUSTER", "MYID")
	redisCLI(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", redisCLI(t, from, "CLUSTER", "MYID"))
	redisCLI(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys := strings.Fields(redisCLI(t, from, "CLUSTER", "GETKEYSINSLOT", slot, "10"))
		if len(keys) == 0 {
			break
		}
		redisCLI(t, from, append([]string{"MIGRATE", "127.0.0.1", to.port(), "", "0", "5000", "KEYS"}, keys...)...)
	}
	for _, m := range append([]*server{to, from}, masters...) {
		redisCLI(t, m, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}

// startPostgres runs a PostgreSQL of the test's own and returns its URL.
func startPostgres(t *testing.T) string {
	t.Helper()
	return postgresURL(startPostgresServer(t))
}

func postgresURL(s *server) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", s.address)
}

// startPostgresServer runs a PostgreSQL of the test's own. It refuses to run as root.
func startPostgresServer(t *testing.T) *server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Skip("skipped: no PostgreSQL on this machine (make deps installs it)")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "wxhub-pg-") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("skipped: root may not run PostgreSQL, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	address := spareAddress(t)
	_, port, _ := net.SplitHostPort(address)
	s := startServer(t, address, func() *exec.Cmd {
		return run("postgres", "-D", data, "-k", dir, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=32MB")
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // it listens before it is ready
		if run("pg_isready", "-h", "127.0.0.1", "-p", port, "-U", "postgres").Run() == nil {
			return s
		}
		if time.Now().After(end) {
			t.Fatal("PostgreSQL never became ready")
		}
	}
}
