package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A balancer sends each caller to a node that says it is ready, as one does that looks at /readyz now and again.
type balancer struct {
	mu       sync.Mutex
	nodes    []string // addresses
	ready    map[string]bool
	outer    bool          // a real balancer stands at the only address: whatever it answers counts
	refusals []string      // of nodes that had said they are ready
	looked   time.Time     // the last time
	standing time.Duration // the longest time between two looks: how long this machine stood still
	next     atomic.Uint64
	http     http.Client
	stop     chan struct{}
	ended    sync.WaitGroup
}

const balancerEvery = 300 * time.Millisecond

func newBalancer() *balancer {
	b := &balancer{ready: make(map[string]bool), stop: make(chan struct{}), http: http.Client{Timeout: 2 * time.Second}}
	b.ended.Go(func() {
		tick := time.NewTicker(balancerEvery)
		defer tick.Stop()
		for {
			select {
			case <-b.stop:
				b.http.CloseIdleConnections()
				return
			case <-tick.C:
				b.look()
			}
		}
	})
	return b
}

func (b *balancer) close() {
	close(b.stop)
	b.ended.Wait()
}

func (b *balancer) look() {
	b.mu.Lock()
	if !b.looked.IsZero() {
		b.standing = max(b.standing, time.Since(b.looked))
	}
	b.looked = time.Now()
	nodes := slices.Clone(b.nodes)
	b.mu.Unlock()
	var all sync.WaitGroup
	for _, addr := range nodes {
		all.Go(func() {
			ok := b.isReady(addr)
			b.mu.Lock()
			b.ready[addr] = ok
			b.mu.Unlock()
		})
	}
	all.Wait()
}

func (b *balancer) isReady(addr string) bool {
	r, err := b.http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// pick gives the address of a node that is ready; when none is, of any.
func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, addr := range b.nodes {
		if b.ready[addr] {
			list = append(list, addr)
		}
	}
	if len(list) == 0 {
		list = b.nodes
	}
	return list[int(b.next.Add(1))%len(list)]
}

// refused notes an error of a node that is taken for ready.
func (b *balancer) refused(addr, what string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outer || b.ready[addr] {
		b.refusals = append(b.refusals, fmt.Sprintf("%s of %s: %v", what, addr, err))
	}
}

func (b *balancer) takeRefusals() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, b.refusals = b.refusals, nil
	return list
}

// stood tells for how long this machine did nothing since it was asked last, as far as a tick every 300 ms can tell.
func (b *balancer) stood() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.standing, time.Since(b.looked))
}

func (b *balancer) forgetStanding() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.standing, b.looked = 0, time.Now()
}

// broadcast says text through any node. It returns where it stands, and the status.
func (b *balancer) broadcast(client *http.Client, body []byte) (at standing, code int, took time.Duration, err error) {
	addr := b.pick()
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/api/admin/broadcast", bytes.NewReader(body))
	if err != nil {
		return at, 0, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", clusterKey)
	start := time.Now()
	resp, err := client.Do(r)
	took = time.Since(start)
	if err != nil {
		b.refused(addr, "broadcast", err)
		return at, 0, took, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Results []struct {
				standing
				Error string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return at, resp.StatusCode, took, err
	}
	if resp.StatusCode != http.StatusOK {
		b.refused(addr, "broadcast", errors.New(resp.Status))
		return at, resp.StatusCode, took, errors.New(resp.Status)
	}
	if len(answer.Data.Results) != 1 || answer.Data.Results[0].Error != "" {
		return at, resp.StatusCode, took, fmt.Errorf("answered %+v", answer.Data)
	}
	return answer.Data.Results[0].standing, resp.StatusCode, took, nil
}
