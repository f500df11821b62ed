package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A sample is what the hubs' /metrics say at a moment, over all nodes.
type sample struct {
	At      float64 `json:"at"`      // seconds since the run began
	CPU     float64 `json:"cpu"`     // seconds used so far
	Memory  float64 `json:"memory"`  // resident bytes
	Sockets float64 `json:"sockets"` // open
	known   bool
}

// A sampler reads /metrics of every node once a second. Where they are closed to us, there are no samples.
type sampler struct {
	target    *target
	processes []int // of the servers, whose figures the system tells; none: ask /metrics
	began     time.Time
	cancel    context.CancelFunc
	done      chan struct{}

	mu      sync.Mutex
	samples []sample
}

func newSampler(ctx context.Context, t *target) *sampler {
	ctx, cancel := context.WithCancel(ctx)
	s := &sampler{target: t, began: time.Now(), cancel: cancel, done: make(chan struct{})}
	go s.run(ctx)
	return s
}

func (s *sampler) run(ctx context.Context) {
	defer close(s.done)
	for {
		if got := s.now(ctx); got.known {
			s.mu.Lock()
			s.samples = append(s.samples, got)
			s.mu.Unlock()
		}
		if sleep(ctx, time.Second) != nil {
			return
		}
	}
}

// stop ends the sampling and gives what was seen.
func (s *sampler) stop() []sample {
	s.cancel()
	<-s.done
	return s.samples
}

// now reads the figures of this moment.
func (s *sampler) now(ctx context.Context) sample {
	all := sample{At: time.Since(s.began).Seconds()}
	for _, pid := range s.processes {
		cpu, memory, known := processCost(pid)
		all.CPU, all.Memory, all.known = all.CPU+cpu, all.Memory+memory, known
	}
	if len(s.processes) > 0 {
		return all
	}
	for _, url := range s.target.urls {
		figures, err := s.read(ctx, url)
		if err != nil {
			continue // a node that died, or metrics that are not ours to see
		}
		all.known = true
		all.CPU += figures["process_cpu_seconds_total"]
		all.Memory += figures["process_resident_memory_bytes"]
		all.Sockets += figures["wxhub_sockets"]
	}
	return all
}

func (s *sampler) read(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	a, err := s.target.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, &refusal{Status: a.StatusCode}
	}
	return parseMetrics(a.Body), nil
}

// parseMetrics reads figures without labels from the Prometheus text format.
func parseMetrics(r io.Reader) map[string]float64 {
	figures := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(r, 4<<20))
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if ok && err == nil && !strings.ContainsAny(name, "{#") {
			figures[name] = value
		}
	}
	return figures
}

// cost says what the hub spent: on connecting, for each socket when everybody was in, and on the messages.
func (r *result) cost(before, joined, settled, after sample, clients int) {
	if !before.known || !joined.known || !settled.known || !after.known {
		return
	}
	r.KiBPerSocket = (settled.Memory - before.Memory) / 1024 / float64(clients)
	r.ConnectCPU = (joined.CPU - before.CPU) * 1000 / float64(clients) * 1000
	if r.Received > 0 {
		r.DeliveryCPU = (after.CPU - settled.CPU) * 1e6 / float64(r.Received)
	}
	r.MemoryMiB = after.Memory / (1 << 20)
}
