package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Sentinels put a replica in the place of a master that was killed.
func TestChaos_sentinelFailover(t *testing.T) {
	master := startRedisServer(t)
	replica := startRedisServer(t, "--replicaof", "127.0.0.1", master.port())
	var addrs []string
	var sentinels []*server
	for range 3 {
		sentinel := startSentinel(t, master)
		sentinels, addrs = append(sentinels, sentinel), append(addrs, sentinel.address)
	}
	eventually(t, "sentinels that know each other and the replica", func() bool {
		for _, one := range sentinels {
			state := redisCLI(t, one, "SENTINEL", "MASTER", "shop")
			if !strings.Contains(state, "num-other-sentinels\n2") || !strings.Contains(state, "num-slaves\n1") {
				return false
			}
		}
		return strings.Contains(redisCLI(t, replica, "INFO", "replication"), "master_link_status:up")
	})
	s := newStage(t)
	url := "redis://" + strings.Join(addrs, ",") + "?master_name=shop"
	s.addNodes(2, url)
	r := s.beginCrowd("Sentinel failover")
	master.stop(syscall.SIGKILL)
	killed := time.Now()
	eventually(t, "the replica's promotion", func() bool {
		return strings.Contains(redisCLI(t, replica, "INFO", "replication"), "role:master")
	})
	r.judge(killed, true) // replication is asynchronous: what it had not carried over is lost, and announced
}

// startSentinel runs a Redis Sentinel that watches master under the name shop.
func startSentinel(t *testing.T, master *server) *server {
	t.Helper()
	return startRedisKind(t, "sentinel.conf", fmt.Sprintf("sentinel monitor shop 127.0.0.1 %s 2\nsentinel down-after-milliseconds shop 1000\n"+
		"sentinel failover-timeout shop 5000\n", master.port()), "--sentinel")
}

func TestChaos_redisCluster(t *testing.T) {
	masters, replicas := startRedisCluster(t, either(1, 3))
	var addrs []string
	for _, one := range masters {
		addrs = append(addrs, one.address)
	}
	s := newStage(t)
	s.addNodes(2, "redis://"+strings.Join(addrs, ","))

	r := s.beginCrowd("Redis Cluster: slots move to another master")
	for _, room := range []string{"notice", r.room} {
		moveSlotOf(t, masters, room)
	}
	r.judge(time.Now(), false)

	r = s.beginCrowd("Redis Cluster: a master lost")
	masters[0].stop(syscall.SIGKILL)
	killed := time.Now()
	eventually(t, "a replica's promotion", func() bool {
		return strings.Contains(redisCLI(t, replicas[0], "INFO", "replication"), "role:master")
	})
	r.judge(killed, true)
}
