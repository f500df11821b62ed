package hub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startRedisCluster starts three masters that share the slots.
func startRedisCluster(t testing.TB) (servers []*redisServer, url string) {
	t.Helper()
	url = "redis://"
	for i := range 3 {
		s := startRedis(t)
		s.stop()
		s.start("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		if err := s.do("CLUSTER", "ADDSLOTSRANGE", i*5462, min(i*5462+5461, 16383)); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
		if i > 0 {
			url += ","
		}
		url += s.addr()
	}
	for _, s := range servers[1:] {
		if err := s.do("CLUSTER", "MEET", "127.0.0.1", servers[0].port); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the masters know each other", func() bool {
		for _, s := range servers {
			c := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2})
			info, err := c.ClusterInfo(context.Background()).Result()
			_ = c.Close()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return servers, url
}

func TestBroker_redisCluster(t *testing.T) {
	servers, url := startRedisCluster(t)
	testBroker(t, func(t *testing.T) Broker {
		for _, s := range servers {
			if err := s.do("FLUSHALL"); err != nil {
				t.Fatal(err)
			}
		}
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: url, Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	o := Options{Rules: openRules, Limits: openLimits}
	nodes := make([]node, 2)
	for i := range nodes {
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: url, Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		if !b.sharded {
			t.Fatal("several addresses are no cluster")
		}
		o.Broker = b
		h := newTestHub(t, o)
		nodes[i] = node{h, b, listen(t, h)}
	}
	t.Run("rooms on all masters, subscriptions killed", func(t *testing.T) {
		const rooms, total = 40, 50
		var readers []*client
		for i := range rooms {
			readers = append(readers, dial(t, nodes[0].addr, fmt.Sprintf("user=u%d&room=live%d", i, i)), dial(t, nodes[1].addr, fmt.Sprintf("user=w%d&room=live%d", i, i)))
		}
		var wg sync.WaitGroup
		for i := range rooms {
			wg.Go(func() {
				for range total {
					publish(t, nodes[i%2].Hub, fmt.Sprintf("live%d", i), say("n", "1"))
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
		for _, s := range servers {
			if err := s.do("CLIENT", "KILL", "TYPE", "pubsub"); err != nil {
				t.Error(err)
			}
		}
		for i, c := range readers {
			r, err := c.listenTo(total)
			if err == nil {
				err = r.dense(1)
			}
			if err != nil {
				t.Errorf("live%d: %v", i/2, err)
			}
		}
		wg.Wait()
	})
	t.Run("presence and disconnect", func(t *testing.T) {
		ada := dial(t, nodes[0].addr, "user=ada&room=room:tea")
		bob := dial(t, nodes[1].addr, "user=bob&room=room:tea")
		p, err := nodes[1].Presence(t.Context(), "room:tea")
		eventually(t, "both are there", func() bool {
			p, err = nodes[1].Presence(t.Context(), "room:tea")
			return err == nil && p.Count == 2
		})
		nodes[0].Disconnect(Target{User: "bob"}, DisconnectBlocked)
		bob.wantClosed(4503, "blocked")
		ada.must(`"action":"ping"`)
	})
	t.Run("a partition moves", func(t *testing.T) {
		c := dial(t, nodes[0].addr, "user=eve&room=moving")
		publish(t, nodes[1].Hub, "moving", say("n", "1"))
		if _, err := c.listenTo(1); err != nil {
			t.Fatal(err)
		}
		moveSlot(t, servers, nodes[0].broker, "moving")
		for n := 2; n <= 10; n++ {
			eventually(t, "published", func() bool {
				m := say("n", "1")
				m.ID = fmt.Sprint("m", n)
				_, err := nodes[1].Publish(context.Background(), "moving", m)
				return err == nil
			})
		}
		r, err := c.listenTo(9)
		if err == nil {
			err = r.dense(2)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// moveSlot moves the slot of a room with its keys to another master.
func moveSlot(t testing.TB, servers []*redisServer, b *RedisBroker, room string) {
	t.Helper()
	ctx := context.Background()
	tag := b.part(room).prefix
	slot := int(crc16(tag[strings.Index(tag, "{")+1:strings.Index(tag, "}")])) % 16384
	from := servers[slot/5462]
	to := servers[(slot/5462+1)%3]
	id := func(s *redisServer) string {
		c := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2})
		defer c.Close()
		return c.Do(ctx, "CLUSTER", "MYID").Val().(string)
	}
	fromID, toID := id(from), id(to)
	must := func(s *redisServer, args ...any) {
		t.Helper()
		if err := s.do(args...); err != nil {
			t.Fatal(args, err)
		}
	}
	must(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	must(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	c := redis.NewClient(&redis.Options{Addr: from.addr(), Protocol: 2})
	defer c.Close()
	keys, err := c.ClusterGetKeysInSlot(ctx, slot, 10000).Result()
	if err != nil {
		t.Fatal(err)
	}
	args := []any{"MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS"}
	for _, k := range keys {
		args = append(args, k)
	}
	must(from, args...)
	for _, s := range []*redisServer{to, from, servers[3-slot/5462-(slot/5462+1)%3]} {
		must(s, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}
