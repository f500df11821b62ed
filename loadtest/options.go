package main

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// options are the flags, checked.
type options struct {
	urls      []string // of the hub's nodes, http or https, without a slash at the end
	sim       string   // of the simulator; empty: tokens are signed with the key
	keyID     string
	keySecret []byte
	tokens    []string
	apiKey    string
	protocol  string
	scenarios []string
	clients   int
	first     int // number of the first client
	messages  int
	rate      float64 // messages a second
	ramp      float64 // handshakes a second; 0: all at once
	room      string
	rooms     int
	drop      float64 // share of the clients that are cut off once
	slow      float64 // share that stops reading
	away      time.Duration
	missed    int
	hold      time.Duration
	settle    time.Duration
	pad       int
	sources   int
	kill      int
	insecure  bool
	seed      uint64
	json      bool
	html      string
	quiet     bool
	expect    []expectation
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var list, urls, tokenKey, tokens, expect string
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { usage(f) }
	f.StringVar(&urls, "url", "http://127.0.0.1:8080", "the hub; several nodes with commas")
	f.StringVar(&o.sim, "sim", "", "the WeChat simulator: clients log in through it (pay and push need it)")
	f.StringVar(&tokenKey, "token-key", "", "kid:secret, one of the hub's JWT keys: clients sign their own tokens")
	f.StringVar(&tokens, "tokens", "", "file with a token in each line, as wxhub token prints them; - reads them from standard input")
	f.StringVar(&o.apiKey, "api-key", os.Getenv("WXHUB_API_KEY"), "key for /api/admin (default: WXHUB_API_KEY)")
	f.StringVar(&o.protocol, "protocol", "native", "what clients speak: "+strings.Join(languageNames(), ", "))
	f.StringVar(&list, "scenario", "", "one of those below, or several with commas (default: fanout; with -drop recover)")
	f.IntVar(&o.clients, "clients", 100, "sockets, each of another user")
	f.IntVar(&o.messages, "messages", 100, "messages, payments or questions")
	f.Float64Var(&o.rate, "rate", 50, "messages a second")
	f.Float64Var(&o.ramp, "ramp", 500, "handshakes a second at the start; 0: all at once")
	f.StringVar(&o.room, "room", "notice", "the room that everybody is in")
	f.IntVar(&o.rooms, "rooms", 20, "rooms, in rooms and presence")
	f.Float64Var(&o.drop, "drop", 0, "share of the clients that leave once and come back (0 to 1; where a scenario drops: 0.1)")
	f.Float64Var(&o.slow, "slow", 0.05, "share of the clients that stops reading for a while, in slow")
	f.DurationVar(&o.away, "away", time.Second, "longest time that a dropped client stays away")
	f.IntVar(&o.missed, "missed", 0, "instead: stay away for as long as this many messages take")
	f.DurationVar(&o.hold, "for", 15*time.Second, "how long idle and soak last")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "how long nothing may arrive before what lacks counts as missing")
	f.IntVar(&o.pad, "pad", 64, "bytes of filling in a message's payload")
	f.IntVar(&o.sources, "sources", 0, "local addresses 127.1.x.y to come from (default: one for every 10,000 clients; loopback only)")
	f.IntVar(&o.kill, "kill", 0, "in nodes: process id of the hub that dies half-way")
	f.BoolVar(&o.insecure, "insecure", false, "believe any TLS certificate: for test set-ups")
	f.Uint64Var(&o.seed, "seed", 0, "repeats the choices of an earlier run (0: a new one)")
	f.BoolVar(&o.json, "json", false, "print JSON instead of the table")
	f.StringVar(&o.html, "html", "", "also write a report with charts into this file")
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
	if tokens != "" {
		if o.tokens, err = readTokens(tokens); err != nil {
			return o, err
		}
	}
	o.urls = strings.Split(urls, ",")
	o.scenarios = chosenScenarios(list, o.drop)
	return o, o.check()
}

func usage(f *flag.FlagSet) {
	w := f.Output()
	fmt.Fprint(w, "loadtest puts load on a hub and judges what comes out.\n\n"+
		"  go run ./loadtest [flags]            one hub, or the nodes of one\n"+
		"  go run ./loadtest compare [flags]    the same work on other servers, in turn (compare -h)\n"+
		"  go run ./loadtest grow [flags]       what one hub and a cluster cost at several sizes (grow -h)\n"+
		"\nscenarios:\n")
	for _, name := range scenarioOrder {
		fmt.Fprintf(w, "  %-9s %s\n", name, scenarios[name].about)
	}
	fmt.Fprintf(w, "\nfigures for -expect: %s\n\nflags:\n", strings.Join(figureNames(), ", "))
	f.PrintDefaults()
}

// languageNames are those of the hub; the peers' languages are for compare.
func languageNames() []string {
	names := slices.Sorted(maps.Keys(languages))
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "peer-") })
}

func readTokens(path string) ([]string, error) {
	in := os.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("-tokens: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("-tokens: %w", err)
	}
	list := strings.Fields(string(text))
	if len(list) == 0 {
		return nil, errors.New("-tokens: there is none in it")
	}
	return list, nil
}

func chosenScenarios(list string, drop float64) []string {
	switch {
	case list != "":
		return strings.Split(list, ",")
	case drop > 0:
		return []string{"recover"}
	default:
		return []string{"fanout"}
	}
}

func (o *options) check() error {
	var errs []error
	for _, name := range o.scenarios {
		s, known := scenarios[name]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("-scenario %q: there are %s", name, strings.Join(scenarioOrder, ", ")))
		case s.needsSim && o.sim == "":
			errs = append(errs, fmt.Errorf("-scenario %s needs -sim, which plays WeChat", name))
		case s.role != "" && o.keyID == "" && len(o.tokens) == 0:
			errs = append(errs, fmt.Errorf("-scenario %s needs -token-key or -tokens of role %s", name, s.role))
		case s.kills && len(o.urls) < 2:
			errs = append(errs, fmt.Errorf("-scenario %s needs several -url", name))
		}
		if (s.drops || s.parts != nil) && o.drop == 0 {
			o.drop = 0.1
		}
	}
	for i := range o.urls {
		errs = append(errs, checkURL("-url", &o.urls[i]))
	}
	if o.sim != "" {
		errs = append(errs, checkURL("-sim", &o.sim))
	}
	if !slices.Contains(languageNames(), o.protocol) {
		errs = append(errs, fmt.Errorf("-protocol %q: there are %s", o.protocol, strings.Join(languageNames(), ", ")))
	}
	if o.sim == "" && o.keyID == "" && len(o.tokens) == 0 {
		errs = append(errs, errors.New("how do clients get tokens? -sim URL (demo), -token-key kid:secret (one of WXHUB_JWT_KEYS) or -tokens FILE"))
	}
	if o.apiKey == "" {
		errs = append(errs, errors.New("-api-key is missing: the demo prints one, serve has WXHUB_API_KEYS"))
	}
	if o.clients < 1 || o.messages < 1 || o.rooms < 1 || o.rate <= 0 || o.ramp < 0 || o.pad < 0 || o.pad > 8<<10 {
		errs = append(errs, errors.New("-clients, -messages, -rooms and -rate must be above 0, -ramp at least 0, -pad between 0 and 8192"))
	}
	if o.drop < 0 || o.drop > 1 || o.slow < 0 || o.slow > 1 {
		errs = append(errs, errors.New("-drop and -slow are shares between 0 and 1"))
	}
	if o.away < 0 || o.hold <= 0 || o.settle <= 0 || o.missed < 0 {
		errs = append(errs, errors.New("-for and -settle must be above 0, -away and -missed not below"))
	}
	if o.sources == 0 {
		o.sources = 1 + o.clients/10000
	}
	if o.seed == 0 {
		var b [4]byte
		_, _ = cryptorand.Read(b[:]) // never fails (crypto/rand)
		o.seed = 1 + uint64(binary.LittleEndian.Uint32(b[:]))
	}
	return errors.Join(errs...)
}

func checkURL(name string, text *string) error {
	u, err := url.Parse(*text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s %q is not an http(s) URL", name, *text)
	}
	*text = strings.TrimRight(*text, "/")
	return nil
}

func newID() string {
	var b [8]byte
	_, _ = cryptorand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
