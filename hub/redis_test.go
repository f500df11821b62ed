package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A redisServer is a real Redis, empty, for one test.
type redisServer struct {
	t    testing.TB
	port string
	cmd  *exec.Cmd
}

func startRedis(t testing.TB) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("skipped: no redis-server on this machine")
	}
	quietOnce.Do(quiet)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	s := &redisServer{t: t, port: port}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *redisServer) start(args ...string) {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", append([]string{"--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", s.t.TempDir(), "--loglevel", "warning"}, args...)...)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "redis answers", func() bool { return s.do("PING") == nil })
}

func (s *redisServer) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *redisServer) addr() string { return "127.0.0.1:" + s.port }

// do runs a command on a connection of its own.
func (s *redisServer) do(args ...any) error {
	c := redis.NewClient(&redis.Options{Addr: s.addr(), MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second})
	defer c.Close()
	return c.Do(context.Background(), args...).Err()
}

func (s *redisServer) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// quickRedis makes nothing wait that a test can wait for.
var quickRedis = redisClock{patience: time.Second, probe: 100 * time.Millisecond, lost: 800 * time.Millisecond, refresh: 200 * time.Millisecond, death: time.Second}

func (s *redisServer) broker(t testing.TB) *RedisBroker {
	t.Helper()
	b, err := newRedisBroker(t.Context(), RedisOptions{URL: "redis://" + s.addr(), Logger: testLog(t)}, quickRedis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestBroker_redis(t *testing.T) {
	testBroker(t, func(t *testing.T) Broker { return startRedis(t).broker(t) })
}

// Where there is no Redis the scripts run on a likeness of it.
func TestBroker_miniredis(t *testing.T) {
	testBroker(t, func(t *testing.T) Broker {
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: "redis://" + miniredis.RunT(t).Addr(), Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestRedisBroker_age(t *testing.T) {
	s := startRedis(t)
	b := s.broker(t)
	ctx, keep := t.Context(), Keep{Size: 10, Age: 1500 * time.Millisecond}
	first, err := b.Publish(ctx, "r", m2(), keep)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1000 * time.Millisecond)
	_, _ = b.Publish(ctx, "r", m2(), keep)
	time.Sleep(750 * time.Millisecond)
	if p, err := b.Read(ctx, "r", Query{Limit: 9}); err != nil || p.First != 2 || p.Head != 2 || len(p.Messages) != 1 {
		t.Errorf("after the age of the first: %+v, %v", p, err)
	}
	time.Sleep(1500 * time.Millisecond)
	if p, err := b.Read(ctx, "r", Query{Limit: 9}); err != nil || p.Epoch != first.Epoch || p.First != 3 || p.Head != 2 || len(p.Messages) != 0 {
		t.Errorf("after the age of all: %+v, %v", p, err)
	}
}

// A stream whose meta is lost begins another life, without what was left over of the old one.
func TestRedisBroker_lostMeta(t *testing.T) {
	s := startRedis(t)
	b := s.broker(t)
	ctx, keep := t.Context(), Keep{Size: 10, Age: time.Hour}
	first, _ := b.Publish(ctx, "r", m2(), keep)
	_, _ = b.Publish(ctx, "r", m2(), keep)
	if err := s.do("DEL", b.part("r").meta("r")); err != nil {
		t.Fatal(err)
	}
	at, err := b.Publish(ctx, "r", m2(), keep)
	if err != nil || at.Offset != 1 || at.Epoch == first.Epoch {
		t.Errorf("%+v, %v", at, err)
	}
	if p, err := b.Read(ctx, "r", Query{Limit: 9}); err != nil || len(p.Messages) != 1 || p.First != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// A stream that is ahead of its meta is of another life.
func TestRedisBroker_metaBehindItsStream(t *testing.T) {
	s := startRedis(t)
	b := s.broker(t)
	ctx, keep := t.Context(), Keep{Size: 10, Age: time.Hour}
	var first Position
	for range 5 {
		first, _ = b.Publish(ctx, "r", m2(), keep)
	}
	if err := s.do("HSET", b.part("r").meta("r"), "s", 3); err != nil {
		t.Fatal(err)
	}
	at, err := b.Publish(ctx, "r", m2(), keep)
	if err != nil || at.Offset != 4 || at.Epoch == first.Epoch {
		t.Errorf("%+v, %v", at, err)
	}
	if p, err := b.Read(ctx, "r", Query{Limit: 9}); err != nil || p.Epoch != at.Epoch || p.First != 4 || p.Head != 4 || len(p.Messages) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Scripts that Redis has forgotten are told again; what the others in the same round trip said is not repeated.
func TestRedisBroker_scriptsForgotten(t *testing.T) {
	s := startRedis(t)
	b := s.broker(t)
	for i := range 3 {
		if err := s.do("SCRIPT", "FLUSH"); err != nil {
			t.Fatal(err)
		}
		if at, err := b.Publish(t.Context(), "r", m2(), Keep{Size: 9}); err != nil || at.Offset != uint64(i+1) {
			t.Fatalf("%+v, %v", at, err)
		}
	}
}

// A Redis that is full refuses with its own word, and nothing is half done.
func TestRedisBroker_full(t *testing.T) {
	s := startRedis(t)
	b := s.broker(t)
	at, err := b.Publish(t.Context(), "r", m2(), Keep{Size: 9})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.do("CONFIG", "SET", "maxmemory", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), "r", m2(), Keep{Size: 9}); err == nil || !strings.Contains(err.Error(), "OOM") || errors.Is(err, ErrAway) {
		t.Errorf("published into a full redis: %v", err)
	}
	if err := s.do("CONFIG", "SET", "maxmemory", "0"); err != nil {
		t.Fatal(err)
	}
	if next, err := b.Publish(t.Context(), "r", m2(), Keep{Size: 9}); err != nil || next != (Position{at.Epoch, 2}) {
		t.Errorf("%+v, %v", next, err)
	}
}

func TestParseRedisURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want string // addresses, db, user, password, master, TLS; "!" and a part of the error
	}{
		{"redis://h", "[h:6379] 0 '' '' '' false"},
		{"redis://:p%40w@h:1/2", "[h:1] 2 '' 'p@w' '' false"},
		{"rediss://u:p@h:1", "[h:1] 0 'u' 'p' '' true"},
		{"redis://u:p@a:1,b:2,c", "[a:1 b:2 c:6379] 0 'u' 'p' '' false"},
		{"redis://u:p@a:1,redis://u:p@b:2", "[a:1 b:2] 0 'u' 'p' '' false"},
		{"redis://a:1,b:2/3?master_name=m&sentinel_password=s", "[a:1 b:2] 3 '' '' 'm' false"},
		{"redis://[::1]:1,[::2]", "[[::1]:1 [::2]:6379] 0 '' '' '' false"},
		{"http://h", "!must begin with"},
		{"h:6379", "!must begin with"},
		{"redis://:se/cret@h:1", "!"},
		{"redis://:se%cret@h:1", "!percent-encode"},
		{"redis://h/secret", "!database"},
		{"redis://h?secret=1", "!parameters"},
		{"redis://h,", "!empty"},
		{"redis://h?ca=secret.pem", "!rediss"},
		{"rediss://h?ca=a.pem", "[h:6379] 0 '' '' '' true"},
	} {
		o, _, err := parseRedisURL(c.url)
		if want, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: %v", c.url, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if got := fmt.Sprintf("%v %d '%s' '%s' '%s' %t", o.Addrs, o.DB, o.Username, o.Password, o.MasterName, o.TLSConfig != nil); got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}

func FuzzParseRedisURL(f *testing.F) {
	f.Add("redis://u:p@a:1,b:2/3?master_name=m")
	f.Add("rediss://[::1]:1,[::2]")
	f.Fuzz(func(t *testing.T, text string) {
		if o, _, err := parseRedisURL(text); err == nil && len(o.Addrs) == 0 {
			t.Error("no address")
		}
	})
}

func TestPartitionTags(t *testing.T) {
	if crc16("123456789") != 0x31C3 {
		t.Fatalf("crc16 %x", crc16("123456789"))
	}
	seen := map[int]bool{}
	for i, tag := range partitionTags() {
		share := int(crc16(tag)) % 16384 / (16384 / partitions)
		if tag == "" || share != i || seen[share] {
			t.Errorf("partition %d has the tag %q in share %d", i, tag, share)
		}
		seen[share] = true
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	m := Message{ID: "i", Action: "a b", Payload: []byte("{ \"x\" :\n1.0}"), At: time.UnixMilli(1_700_000_000_123), Client: "c", Target: "t"}
	f.Add(string(appendAnnouncement(nil, "room:a", &m)))
	f.Add("e1 7 room:a " + string(appendBody(nil, &m)))
	f.Add("e1 7 room:a \x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, text string) {
		_, epoch, m, err := parseAnnouncement(text)
		if err != nil {
			return
		}
		if (m.Offset > 0) != (epoch != "") {
			t.Errorf("epoch %q at offset %d", epoch, m.Offset)
		}
		again, err := parseBody(string(appendBody(nil, &m)))
		if err != nil || again.ID != m.ID || again.Action != m.Action || again.Client != m.Client || again.Target != m.Target || string(again.Payload) != string(m.Payload) || again.At.UnixMilli() != m.At.UnixMilli() {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

// testLog shows a broker's log where the test fails.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func TestRedisBroker_password(t *testing.T) {
	s := startRedis(t)
	for _, do := range [][]any{
		{"ACL", "SETUSER", "hub", "on", ">p@s:s/", "~wxhub:*", "&wxhub:*", "+@all", "-@dangerous"},
		{"ACL", "SETUSER", "default", "resetpass", "off"},
	} {
		if err := s.do(do...); err != nil {
			t.Fatal(err)
		}
	}
	broker := func(userinfo string) *RedisBroker {
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: "redis://" + userinfo + "@" + s.addr(), Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	h := newTestHub(t, Options{Broker: broker("hub:p%40s%3As%2F")})
	ada := dial(t, listen(t, h), "user=ada&room=room:tea")
	publish(t, h, "room:tea", say("n", "1"))
	if f := ada.push(); f.Meta.Offset != 1 {
		t.Errorf("heard %s", f.raw)
	}
	if p, err := h.Presence(t.Context(), "room:tea"); err != nil || p.Count != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := h.Rooms(t.Context()); err != nil {
		t.Error(err)
	}
	wrong := broker("hub:other-secret")
	eventually(t, "the node knows", func() bool { return wrong.Healthy() != nil })
	if _, err := wrong.Publish(t.Context(), "r", m2(), Keep{}); err == nil || strings.Contains(fmt.Sprint(err, wrong.Healthy()), "secret") {
		t.Errorf("%v, %v", err, wrong.Healthy())
	}
}

// Sentinels put a replica in the master's place: nodes follow, and nothing that was replicated is missing.
func TestRedisBroker_failover(t *testing.T) {
	t.Parallel()
	master := startRedis(t)
	replica := startRedis(t)
	replica.stop()
	replica.start("--replicaof", "127.0.0.1 "+master.port)
	sentinel := startRedis(t)
	sentinel.stop()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	conf := fmt.Sprintf("sentinel monitor shop 127.0.0.1 %s 1\nsentinel down-after-milliseconds shop 1000\nsentinel failover-timeout shop 3000\n", master.port)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel.cmd = exec.Command("redis-server", file, "--sentinel", "--port", sentinel.port, "--bind", "127.0.0.1")
	sentinel.cmd.Dir = t.TempDir()
	if err := sentinel.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ask := func(s *redisServer, args ...any) string {
		c := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2, MaxRetries: -1, DialerRetries: 1})
		defer c.Close()
		return fmt.Sprint(c.Do(context.Background(), args...).Val())
	}
	eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(ask(sentinel, "SENTINEL", "REPLICAS", "shop"), replica.port) && strings.Contains(ask(replica, "INFO", "replication"), "master_link_status:up")
	})
	o := Options{Rules: openRules, Limits: openLimits}
	var nodes []node
	for range 2 {
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: "redis://" + sentinel.addr() + "?master_name=shop", Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		o.Broker = b
		h := newTestHub(t, o)
		nodes = append(nodes, node{h, b, listen(t, h)})
	}
	ada := dial(t, nodes[1].addr, "user=ada&room=notice")
	first := publish(t, nodes[0].Hub, "notice", say("n", "1"))
	eventually(t, "it is replicated", func() bool { return ask(replica, "HGET", nodes[0].broker.part("notice").meta("notice"), "s") == "1" })
	master.stop()
	for n := 2; n <= 10; n++ {
		m := say("n", "1")
		m.ID = fmt.Sprint("m", n)
		eventually(t, "published again", func() bool {
			_, err := nodes[0].Publish(context.Background(), "notice", m)
			return err == nil
		})
	}
	r, err := ada.listenTo(10)
	if err == nil {
		err = r.dense(1)
	}
	if err != nil || len(r.epochs) != 1 || r.epochs[0] != first.Epoch {
		t.Errorf("heard %+v, %v", r, err)
	}
	eventually(t, "healthy", func() bool { return nodes[0].Healthy() == nil && nodes[1].Healthy() == nil })
}
