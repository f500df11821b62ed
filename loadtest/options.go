package main

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// options are the flags, checked.
type options struct {
	url       string // of the hub, http or https, without a slash at the end
	sim       string // of the simulator; empty: tokens are signed with the key
	keyID     string
	keySecret []byte
	apiKey    string
	scenarios []string
	clients   int
	messages  int
	rate      float64 // messages a second
	ramp      float64 // handshakes a second
	room      string
	drop      float64 // share of the clients that are cut off once
	away      time.Duration
	settle    time.Duration
	pad       int
	seed      uint64
	json      bool
	quiet     bool
	expect    []expectation
}

const (
	scenarioFanout  = "fanout"
	scenarioRecover = "recover"
	scenarioPay     = "pay"
)

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var scenarios, tokenKey, expect string
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.url, "url", "http://127.0.0.1:8080", "the hub")
	f.StringVar(&o.sim, "sim", "", "the WeChat simulator: clients log in through it (pay needs it)")
	f.StringVar(&tokenKey, "token-key", "", "kid:secret, one of the hub's JWT keys: clients sign their own tokens")
	f.StringVar(&o.apiKey, "api-key", os.Getenv("WXHUB_API_KEY"), "key for /api/admin (default: WXHUB_API_KEY)")
	f.StringVar(&scenarios, "scenario", "", "fanout, recover, pay, or several with commas (default: fanout; with -drop recover)")
	f.IntVar(&o.clients, "clients", 100, "sockets, each of another user")
	f.IntVar(&o.messages, "messages", 100, "messages or payments")
	f.Float64Var(&o.rate, "rate", 50, "messages a second")
	f.Float64Var(&o.ramp, "ramp", 500, "handshakes a second at the start")
	f.StringVar(&o.room, "room", "notice", "the room that everybody is in")
	f.Float64Var(&o.drop, "drop", 0, "share of the clients that are cut off once and come back, in recover and pay (0 to 1; recover: 0.1)")
	f.DurationVar(&o.away, "away", time.Second, "longest time that a dropped client stays away")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "how long nothing may arrive before what lacks counts as missing")
	f.IntVar(&o.pad, "pad", 64, "bytes of filling in a message's payload")
	f.Uint64Var(&o.seed, "seed", 0, "repeats the choices of an earlier run (0: a new one)")
	f.BoolVar(&o.json, "json", false, "print JSON instead of the table")
	f.BoolVar(&o.quiet, "quiet", false, "no progress line")
	f.StringVar(&expect, "expect", "", "thresholds such as 'p99<200ms,missing=0'; loss, repeats and disorder are refused anyway")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w (see -h)", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: there are only flags (see -h)", f.Arg(0))
	}
	var err error
	if o.expect, err = parseExpectations(expect); err != nil {
		return o, err
	}
	if tokenKey != "" {
		id, secret, ok := strings.Cut(tokenKey, ":")
		if !ok || id == "" || len(secret) < 32 {
			return o, errors.New("-token-key: kid:secret with at least 32 bytes of secret")
		}
		o.keyID, o.keySecret = id, []byte(secret)
	}
	o.scenarios = chosenScenarios(scenarios, o.drop)
	return o, o.check()
}

func chosenScenarios(list string, drop float64) []string {
	switch {
	case list != "":
		return strings.Split(list, ",")
	case drop > 0:
		return []string{scenarioRecover}
	default:
		return []string{scenarioFanout}
	}
}

func (o *options) check() error {
	var errs []error
	for _, s := range o.scenarios {
		if !slices.Contains([]string{scenarioFanout, scenarioRecover, scenarioPay}, s) {
			errs = append(errs, fmt.Errorf("-scenario %q: fanout, recover or pay", s))
		}
		if s == scenarioPay && o.sim == "" {
			errs = append(errs, errors.New("-scenario pay needs -sim, which pays"))
		}
		if s == scenarioRecover && o.drop == 0 {
			o.drop = 0.1
		}
	}
	for name, text := range map[string]*string{"-url": &o.url, "-sim": &o.sim} {
		u, err := url.Parse(*text)
		if *text != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "") {
			errs = append(errs, fmt.Errorf("%s %q is not an http(s) URL", name, *text))
		}
		*text = strings.TrimRight(*text, "/")
	}
	if o.sim == "" && o.keyID == "" {
		errs = append(errs, errors.New("how do clients get tokens? -sim URL (demo) or -token-key kid:secret (one of WXHUB_JWT_KEYS)"))
	}
	if o.apiKey == "" {
		errs = append(errs, errors.New("-api-key is missing: the demo prints one, serve has WXHUB_API_KEYS"))
	}
	if o.clients < 1 || o.messages < 1 || o.rate <= 0 || o.ramp <= 0 || o.pad < 0 || o.pad > 8<<10 {
		errs = append(errs, errors.New("-clients, -messages, -rate and -ramp must be above 0, -pad between 0 and 8192"))
	}
	if o.drop < 0 || o.drop > 1 {
		errs = append(errs, errors.New("-drop is a share between 0 and 1"))
	}
	if o.seed == 0 {
		var b [4]byte
		_, _ = cryptorand.Read(b[:]) // never fails (crypto/rand)
		o.seed = 1 + uint64(binary.LittleEndian.Uint32(b[:]))
	}
	return errors.Join(errs...)
}
