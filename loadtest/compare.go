package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// compareOptions are the flags of compare.
type compareOptions struct {
	options
	peers      []string
	rounds     int
	wxhub      string // binary; empty: built
	centrifugo string
}

func parseCompare(args []string, stderr io.Writer) (compareOptions, error) {
	o := compareOptions{}
	var list string
	f := flag.NewFlagSet("loadtest compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&list, "peers", strings.Join(peerOrder, ","), "who takes part; the first is what the others are measured by")
	f.IntVar(&o.rounds, "rounds", 3, "how often; the table shows medians")
	f.IntVar(&o.clients, "clients", 2000, "sockets, all in one room")
	f.IntVar(&o.messages, "messages", 200, "messages in a round")
	f.Float64Var(&o.rate, "rate", 20, "messages a second")
	f.Float64Var(&o.ramp, "ramp", 2000, "handshakes a second")
	f.IntVar(&o.pad, "pad", 64, "bytes of filling in a message's payload")
	f.StringVar(&o.wxhub, "wxhub", "", "binary of wxhub (default: built from here)")
	f.StringVar(&o.centrifugo, "centrifugo", "centrifugo", "binary of Centrifugo")
	f.Uint64Var(&o.seed, "seed", 1, "for the order in which clients are told apart")
	f.BoolVar(&o.json, "json", false, "print JSON instead of the table")
	f.BoolVar(&o.quiet, "quiet", false, "no progress line")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.peers = strings.Split(list, ",")
	for _, name := range o.peers {
		if _, known := peers[name]; !known {
			return o, fmt.Errorf("-peers %q: there are %s", name, strings.Join(peerOrder, ", "))
		}
	}
	if o.rounds < 1 || o.clients < 1 || o.messages < 1 || o.rate <= 0 || o.pad < 0 || o.pad > 8<<10 {
		return o, errors.New("-rounds, -clients, -messages and -rate must be above 0, -pad between 0 and 8192")
	}
	o.room, o.rooms, o.settle, o.hold, o.sources = "notice", 1, 5*time.Second, 2*time.Second, 1+o.clients/10000
	o.keyID, o.keySecret, o.apiKey = "k1", []byte(compareSecret), compareKey
	return o, nil
}

// A measurement is one round with one peer.
type measurement struct {
	Peer         string  `json:"peer"`
	Round        int     `json:"round"`
	KiBPerSocket float64 `json:"kibPerSocket"`
	ConnectCPU   float64 `json:"connectCPU"`  // milliseconds for 1,000 sockets
	DeliveryCPU  float64 `json:"deliveryCPU"` // seconds for a million deliveries
	P50          float64 `json:"p50"`         // milliseconds
	P99          float64 `json:"p99"`
	Received     int     `json:"received"`
	Missing      int     `json:"missing"`
	Disorder     int     `json:"disorder"` // came twice, changed, or in another order than others saw
}

// compare gives every peer the same work in turn, round by round, and prints medians and ratios.
func compare(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseCompare(args, stderr)
	if err != nil {
		return err
	}
	if !hasProcesses {
		return errors.New("compare reads what servers cost from /proc, which only Linux has")
	}
	raiseFileLimit()
	dir, err := os.MkdirTemp("", "loadtest-compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	line := newProgress(stderr, o.quiet)
	var all []measurement
	absent := map[string]error{}
	for round := 1; round <= o.rounds; round++ {
		for _, name := range o.peers {
			if absent[name] != nil {
				continue
			}
			line.say("round %d of %d: %s", round, o.rounds, name)
			m, err := measure(ctx, o, name, dir, line)
			line.done()
			switch {
			case errors.Is(err, errNotHere):
				absent[name] = err
				fmt.Fprintf(stderr, "%s is passed over: %v\n", name, err)
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			default:
				m.Round = round
				all = append(all, m)
			}
		}
	}
	if o.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	return printComparison(stdout, o, all)
}

// measure plays one round with one peer.
func measure(ctx context.Context, o compareOptions, name, dir string, line *progress) (measurement, error) {
	p := peers[name]
	at := filepath.Join(dir, name)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return measurement{}, err
	}
	s, err := launch(ctx, p, o, at)
	if err != nil {
		return measurement{}, err
	}
	defer s.stop()
	o.urls = []string{s.url}
	o.protocol = "native"
	if p.publish != nil {
		o.protocol = "peer-" + name
	}
	t := newTarget(o.options)
	defer t.close()
	t.publish = p.publish
	watch := &sampler{target: t, processes: []int{s.cmd.Process.Pid}, began: time.Now()}
	r := &round{options: o.options, target: t, scenario: scenario{holds: true}, name: name, progress: line, sampler: watch}
	got, err := r.play(ctx)
	if err != nil {
		return measurement{}, err
	}
	if got.Failed > 0 || got.Refused > 0 {
		return measurement{}, fmt.Errorf("%d clients failed, %d messages were refused: %s", got.Failed, got.Refused, strings.Join(got.Notes, "; "))
	}
	return measurement{
		Peer: name, KiBPerSocket: got.KiBPerSocket, ConnectCPU: got.ConnectCPU, DeliveryCPU: got.DeliveryCPU, P50: got.P50, P99: got.P99,
		Received: got.Received, Missing: got.Missing, Disorder: got.Repeated + got.Reordered + got.Altered,
	}, nil
}

func printComparison(w io.Writer, o compareOptions, all []measurement) error {
	by := map[string][]measurement{}
	for _, m := range all {
		by[m.Peer] = append(by[m.Peer], m)
	}
	fmt.Fprintf(w, "%d clients in one room, %d messages at %g/s, payload %d bytes, %d rounds in turn, medians; %d cores, %s/%s, server and clients on one machine\n",
		o.clients, o.messages, o.rate, len(broadcasts{newID(), padding(o.pad)}.payload(0)), o.rounds, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "server\tKiB a socket\tconnect, CPU ms per 1,000\tdelivery, CPU s per million\tp50\tp99\tmissing\tdisorder")
	columns := []func(measurement) float64{
		func(m measurement) float64 { return m.KiBPerSocket }, func(m measurement) float64 { return m.ConnectCPU },
		func(m measurement) float64 { return m.DeliveryCPU }, func(m measurement) float64 { return m.P50 }, func(m measurement) float64 { return m.P99 },
	}
	for _, name := range o.peers {
		if by[name] == nil {
			continue
		}
		fmt.Fprint(t, name)
		for i, column := range columns {
			mine, first := median(by[name], column), median(by[o.peers[0]], column)
			fmt.Fprintf(t, "\t%.2f", mine)
			if i > 2 {
				fmt.Fprint(t, " ms")
			}
			if name != o.peers[0] && first > 0 {
				fmt.Fprintf(t, " (%.2f×)", mine/first)
			}
		}
		missing, disorder := 0, 0
		for _, m := range by[name] {
			missing += m.Missing
			disorder += m.Disorder
		}
		fmt.Fprintf(t, "\t%d\t%d\n", missing, disorder)
	}
	return t.Flush()
}

func median(list []measurement, column func(measurement) float64) float64 {
	var values []float64
	for _, m := range list {
		values = append(values, column(m))
	}
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}
