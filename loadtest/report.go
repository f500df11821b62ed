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
	Scenario  string      `json:"scenario"`
	Seed      uint64      `json:"seed"`
	Clients   int         `json:"clients"`
	Sent      int         `json:"sent"`
	Rate      float64     `json:"rate"`
	Seconds   float64     `json:"seconds"`
	Received  int         `json:"received"`
	Missing   int         `json:"missing"`
	Repeated  int         `json:"repeated"`
	Reordered int         `json:"reordered"`
	Altered   int         `json:"altered"`
	Gaps      int         `json:"gaps"`
	Failed    int         `json:"failed"`  // clients that never got in, or were told to stay away
	Refused   int         `json:"refused"` // messages that were not accepted
	Drops     int         `json:"drops"`
	Recovered int         `json:"recovered"` // messages that came by coming back
	Reloads   int         `json:"reloads"`   // the hub told a client to start afresh
	Closed    map[int]int `json:"closed"`    // sockets that the hub closed, by code
	P50       float64     `json:"p50"`
	P90       float64     `json:"p90"`
	P99       float64     `json:"p99"`
	P999      float64     `json:"p999"`
	Max       float64     `json:"max"`
	Verdict   string      `json:"verdict"`
	Unmet     []string    `json:"unmet,omitempty"` // each with the value found
	Notes     []string    `json:"notes,omitempty"` // the first errors met
}

var figureNames = []string{
	"received", "missing", "repeated", "reordered", "altered", "gaps", "failed", "refused", "drops", "recovered", "reloads",
	"closed", "p50", "p90", "p99", "p999", "max",
}

// figure is the value that an expectation compares.
func (r *result) figure(name string) (value float64, known bool) {
	switch name {
	case "p50":
		return r.P50, true
	case "p90":
		return r.P90, true
	case "p99":
		return r.P99, true
	case "p999":
		return r.P999, true
	case "max":
		return r.Max, true
	case "closed":
		for _, n := range r.Closed {
			value += float64(n)
		}
		return value, true
	}
	counts := map[string]int{
		"received": r.Received, "missing": r.Missing, "repeated": r.Repeated, "reordered": r.Reordered, "altered": r.Altered,
		"gaps": r.Gaps, "failed": r.Failed, "refused": r.Refused, "drops": r.Drops, "recovered": r.Recovered, "reloads": r.Reloads,
	}
	n, known := counts[name]
	return float64(n), known
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

// report writes the table, with what failed first, or JSON.
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
		for _, e := range withAlways(o.expect) {
			if value, _ := r.figure(e.name); e.met(value) && len(o.expect) > 0 && named(o.expect, e.name) {
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

func named(list []expectation, name string) bool {
	for _, e := range list {
		if e.name == name {
			return true
		}
	}
	return false
}

func shortMS(ms float64) string {
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
