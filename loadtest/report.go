package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

const verdictOK = "ok"

// A result is what a scenario came to. Times are milliseconds from when a message was due to when a client had it,
// measured where the client was connected at the time.
type result struct {
	Scenario string  `json:"scenario"`
	Seed     uint64  `json:"seed"`
	Clients  int     `json:"clients"`
	Rooms    int     `json:"rooms"`
	Sent     int     `json:"sent"`
	Rate     float64 `json:"rate"`
	Seconds  float64 `json:"seconds"`
	tally
	Refused    int         `json:"refused"` // messages that were not accepted
	Ghosts     int         `json:"ghosts"`  // by how much the hub's presence differs from who is there
	Closed     map[int]int `json:"closed"`  // sockets that the hub closed, by code
	P50        float64     `json:"p50"`
	P90        float64     `json:"p90"`
	P99        float64     `json:"p99"`
	P999       float64     `json:"p999"`
	Max        float64     `json:"max"`
	Connected  float64     `json:"connected"`  // seconds until everybody was in
	ConnectP50 float64     `json:"connectP50"` // from when a handshake was due to the welcome
	ConnectP99 float64     `json:"connectP99"`
	ConnectMax float64     `json:"connectMax"`

	// What the hub's /metrics said; 0 where they are closed to us.
	ConnectCPU   float64 `json:"connectCPU"`  // milliseconds for 1,000 sockets
	DeliveryCPU  float64 `json:"deliveryCPU"` // seconds for a million deliveries
	KiBPerSocket float64 `json:"kibPerSocket"`
	MemoryMiB    float64 `json:"memoryMiB"` // resident, at the end

	Percentiles []point  `json:"percentiles,omitempty"`
	Series      []moment `json:"series,omitempty"`
	Verdict     string   `json:"verdict"`
	Unmet       []string `json:"unmet,omitempty"` // each with the value found
	Notes       []string `json:"notes,omitempty"` // the first errors met
}

// A point is a place on the curve of percentiles.
type point struct {
	Share float64 `json:"share"` // 0 to 100
	MS    float64 `json:"ms"`
}

// A moment is one second of a run.
type moment struct {
	At       int     `json:"at"`
	Received int     `json:"received"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Max      float64 `json:"max"`
}

func series(seconds []second) (list []moment) {
	for _, s := range seconds {
		list = append(list, moment{s.At, s.Received, s.Delay.ms(50), s.Delay.ms(99), float64(s.Delay.Max()) / 1000})
	}
	return list
}

func percentiles(h *histogram) (list []point) {
	if h.TotalCount() == 0 {
		return nil
	}
	for _, q := range []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100} {
		list = append(list, point{q, h.ms(q)})
	}
	return list
}

// figures are what an expectation can compare, by name.
var figures = []struct {
	name  string
	value func(*result) float64
}{
	{"received", func(r *result) float64 { return float64(r.Received) }},
	{"missing", func(r *result) float64 { return float64(r.Missing) }},
	{"announced", func(r *result) float64 { return float64(r.Announced) }},
	{"repeated", func(r *result) float64 { return float64(r.Repeated) }},
	{"reordered", func(r *result) float64 { return float64(r.Reordered) }},
	{"altered", func(r *result) float64 { return float64(r.Altered) }},
	{"gaps", func(r *result) float64 { return float64(r.Gaps) }},
	{"failed", func(r *result) float64 { return float64(r.Failed) }},
	{"refused", func(r *result) float64 { return float64(r.Refused) }},
	{"ghosts", func(r *result) float64 { return float64(r.Ghosts) }},
	{"drops", func(r *result) float64 { return float64(r.Drops) }},
	{"recovered", func(r *result) float64 { return float64(r.Recovered) }},
	{"reloads", func(r *result) float64 { return float64(r.Reloads) }},
	{"retries", func(r *result) float64 { return float64(r.Retries) }},
	{"closed", func(r *result) (sum float64) {
		for _, n := range r.Closed {
			sum += float64(n)
		}
		return sum
	}},
	{"p50", func(r *result) float64 { return r.P50 }},
	{"p90", func(r *result) float64 { return r.P90 }},
	{"p99", func(r *result) float64 { return r.P99 }},
	{"p999", func(r *result) float64 { return r.P999 }},
	{"max", func(r *result) float64 { return r.Max }},
	{"connect_p50", func(r *result) float64 { return r.ConnectP50 }},
	{"connect_p99", func(r *result) float64 { return r.ConnectP99 }},
	{"connect_max", func(r *result) float64 { return r.ConnectMax }},
	{"connect_cpu", func(r *result) float64 { return r.ConnectCPU }},
	{"delivery_cpu", func(r *result) float64 { return r.DeliveryCPU }},
	{"kib_per_socket", func(r *result) float64 { return r.KiBPerSocket }},
	{"memory_mib", func(r *result) float64 { return r.MemoryMiB }},
}

func figureNames() (names []string) {
	for _, f := range figures {
		names = append(names, f.name)
	}
	return names
}

// figure is the value that an expectation compares.
func (r *result) figure(name string) (value float64, known bool) {
	for _, f := range figures {
		if f.name == name {
			return f.value(r), true
		}
	}
	return 0, false
}

// judge sets the verdict.
func (r *result) judge(expect []expectation) {
	r.Verdict, r.Unmet = verdictOK, nil
	for _, e := range withAlways(expect) {
		value, _ := r.figure(e.name)
		if e.met(value) {
			continue
		}
		r.Unmet = append(r.Unmet, fmt.Sprintf("%s (found %g%s)", e, value, e.unit()))
		r.Verdict = "FAILED"
	}
}

// costs tells what the hub's metrics said, where there was enough of it to divide: they count CPU by 10 ms.
func (r *result) costs() string {
	var parts []string
	if r.Clients >= 1000 && r.MemoryMiB > 0 {
		parts = append(parts, fmt.Sprintf("spent %.0f ms of CPU on 1,000 handshakes", r.ConnectCPU), fmt.Sprintf("grew by %.1f KiB for a socket", r.KiBPerSocket))
	}
	if r.Received >= 100_000 && r.MemoryMiB > 0 {
		parts = append(parts, fmt.Sprintf("spent %.2f s of CPU on a million deliveries", r.DeliveryCPU))
	}
	if r.MemoryMiB > 0 {
		parts = append(parts, fmt.Sprintf("holds %.0f MiB", r.MemoryMiB))
	}
	return strings.Join(parts, ", ")
}

// report writes thresholds first, then the table, or JSON.
func report(w io.Writer, o options, results []result) error {
	if o.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(results)
	}
	for _, r := range results {
		for _, u := range r.Unmet {
			fmt.Fprintf(w, "✗ %s: expected %s\n", r.Scenario, u)
		}
		for _, e := range o.expect {
			if value, _ := r.figure(e.name); e.met(value) {
				fmt.Fprintf(w, "✓ %s: %s\n", r.Scenario, e)
			}
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\tclients\tsent\treceived\tmissing\trepeated\treordered\tdrops\trecovered\tp50\tp99\tmax\tverdict")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", r.Scenario, r.Clients, r.Sent, r.Received,
			r.Missing, r.Repeated, r.Reordered, r.Drops, r.Recovered, shortMS(r.P50), shortMS(r.P99), shortMS(r.Max), r.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.ConnectMax > 0 {
			fmt.Fprintf(w, "%s: everybody in after %.2f s, handshake p50 %s, p99 %s\n", r.Scenario, r.Connected, shortMS(r.ConnectP50), shortMS(r.ConnectP99))
		}
		if text := r.costs(); text != "" {
			fmt.Fprintf(w, "%s: the hub %s\n", r.Scenario, text)
		}
		if r.Announced > 0 {
			fmt.Fprintf(w, "%s: %d were announced as no longer kept\n", r.Scenario, r.Announced)
		}
		if len(r.Closed) > 0 {
			fmt.Fprintf(w, "%s: sockets closed by the hub, by code: %v\n", r.Scenario, r.Closed)
		}
		for _, n := range r.Notes {
			fmt.Fprintf(w, "%s: %s\n", r.Scenario, n)
		}
	}
	_, err := fmt.Fprintf(w, "seed %d\n", o.seed)
	return err
}

func shortMS(ms float64) string {
	if ms == 0 {
		return "-"
	}
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2g ms", ms)
}

// progress is one line on a terminal that writes over itself; elsewhere it is silent. Safe for concurrent use.
type progress struct {
	w    io.Writer
	mu   sync.Mutex
	last time.Time
	long int
}

func newProgress(w io.Writer, quiet bool) *progress {
	f, ok := w.(*os.File)
	if ok {
		info, err := f.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if quiet || !ok {
		return &progress{}
	}
	return &progress{w: w}
}

func (p *progress) say(format string, args ...any) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", max(p.long-len(line), 0)))
	p.long = len(line)
}

func (p *progress) done() {
	if p.w != nil && p.long > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.long))
	}
}
