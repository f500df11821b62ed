// Command loadtest puts load on a hub and judges what comes out: every client checks that no message is missing,
// repeated, out of order or altered, and the end is a table, a verdict and an exit status.
//
//	go run ./loadtest -url http://127.0.0.1:8080 -sim http://127.0.0.1:8081 -api-key KEY \
//	    -clients 200 -messages 100 -rate 50 -drop 0.1 -seed 7 -expect 'p99<200ms,missing=0'
//
// It is a stranger with sockets, like a phone: it speaks the documented wire only and imports nothing of the hub.
//
// Timing is open-loop: a message is due at its place in the schedule, and its latency counts from there, so a
// server that stalls cannot hide it by slowing the sender down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses.
const (
	exitOK     = 0 // every expectation was met
	exitFailed = 1 // at least one was not
	exitUsage  = 2 // wrong flags, or the run could not take place
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop() // here, because Exit skips defers
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitUsage
	}
	t := newTarget(o)
	defer t.close()
	var results []result
	for i, name := range o.scenarios {
		r := &round{
			options: o, target: t, scenario: name, progress: newProgress(stderr, o.quiet),
			random: rand.New(rand.NewPCG(o.seed, uint64(i))), //nolint:gosec // repeatable on purpose
		}
		got, err := r.play(ctx)
		r.progress.done()
		if err != nil {
			fmt.Fprintf(stderr, "loadtest: %s: %v\n", name, err)
			return exitUsage
		}
		got.judge(o.expect)
		results = append(results, got)
	}
	if err := report(stdout, o, results); err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitUsage
	}
	for _, r := range results {
		if r.Verdict != verdictOK {
			return exitFailed
		}
	}
	return exitOK
}
