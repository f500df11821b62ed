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
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Exit statuses.
const (
	exitOK     = 0 // every expectation was met
	exitFailed = 1 // at least one was not
	exitUsage  = 2 // wrong flags, or the run could not take place
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop() // here, because Exit skips defers
	os.Exit(code)
}

// commands beside the scenarios.
var commands = map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) error{"compare": compare, "grow": grow}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitUsage
	}
	if len(args) == 1 && args[0] == crowdCommand {
		if err := playCrowd(ctx, stdin, stdout); err != nil {
			return fail(err)
		}
		return exitOK
	}
	if len(args) > 0 && commands[args[0]] != nil {
		if err := commands[args[0]](ctx, args[1:], stdout, stderr); err != nil {
			return fail(err)
		}
		return exitOK
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		return fail(err)
	}
	raiseFileLimit()
	t := newTarget(o)
	defer t.close()
	sampler := newSampler(ctx, t)
	defer sampler.stop()
	line := newProgress(stderr, o.quiet)
	var results []result
	for _, name := range o.scenarios {
		got, err := playScenario(ctx, o, t, sampler, line, name)
		line.done()
		if err != nil {
			return fail(fmt.Errorf("%s: %w", name, err))
		}
		for i := range got {
			got[i].judge(o.expect)
		}
		results = append(results, got...)
	}
	if o.html != "" {
		if err := writeHTML(o.html, o, results, sampler.stop()); err != nil {
			return fail(err)
		}
	}
	if err := report(stdout, o, results); err != nil {
		return fail(err)
	}
	for _, r := range results {
		if r.Verdict != verdictOK {
			return exitFailed
		}
	}
	if err := t.consistent(ctx); err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitFailed
	}
	return exitOK
}

// playScenario plays one scenario, or the parts of one at the same time.
func playScenario(ctx context.Context, o options, t *target, s *sampler, line *progress, name string) ([]result, error) {
	kind := scenarios[name]
	if kind.parts == nil {
		r := &round{options: o, target: t, scenario: kind, name: name, progress: line, sampler: s}
		got, err := r.play(ctx)
		return []result{got}, err
	}
	results := make([]result, len(kind.parts))
	g, ctx := errgroup.WithContext(ctx)
	first := 0
	for i, part := range kind.parts {
		if scenarios[part.name].needsSim && o.sim == "" {
			continue
		}
		own := o
		own.clients = max(share(part.share, o.clients), 1)
		own.first, first = first, first+own.clients
		r := &round{options: own, target: t, scenario: scenarios[part.name], name: name + "/" + part.name, progress: line, sampler: s, shared: true}
		g.Go(func() (err error) {
			results[i], err = r.play(ctx)
			return err
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(results, func(r result) bool { return r.Scenario == "" }), err
}
