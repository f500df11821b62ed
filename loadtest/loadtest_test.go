package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == crowdCommand { // this program as a crowd in another process
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// play runs the program against h and returns its exit status and results.
func play(t *testing.T, h *fakeHub, flags ...string) (int, []result, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	args := append([]string{
		"-url", h.http.URL, "-token-key", "k1:" + fakeSecret, "-api-key", fakeAPIKey,
		"-clients", "8", "-messages", "30", "-rate", "300", "-ramp", "2000", "-settle", "400ms", "-seed", "7", "-json",
	}, flags...)
	code := run(t.Context(), args, nil, &out, &errOut)
	var results []result
	if code != exitUsage {
		if err := json.Unmarshal(out.Bytes(), &results); err != nil {
			t.Fatalf("%v in %s", err, out.String())
		}
	}
	return code, results, errOut.String()
}

func TestRun_honestHub(t *testing.T) {
	for _, scenario := range []string{"fanout", "recover"} {
		code, got, log := play(t, newFakeHub(t), "-scenario", scenario, "-drop", "0.5", "-away", "60ms", "-expect", "p99<5s")
		if code != exitOK {
			t.Fatalf("%s: exit %d: %+v %s", scenario, code, got, log)
		}
		if r := got[0]; r.Received != 8*30 || r.Missing+r.Repeated+r.Reordered+r.Altered+r.Gaps != 0 {
			t.Errorf("%s: %+v", scenario, r)
		}
	}
}

func TestRun_dropsComeBack(t *testing.T) {
	code, got, log := play(t, newFakeHub(t), "-drop", "1", "-away", "80ms", "-rate", "100")
	if code != exitOK {
		t.Fatalf("exit %d: %+v %s", code, got, log)
	}
	if r := got[0]; r.Scenario != "recover" || r.Drops != 8 || r.Recovered == 0 {
		t.Errorf("nobody was away: %+v", r)
	}
}

// Each broken promise must be noticed by the figure that is named after it.
func TestRun_brokenHub(t *testing.T) {
	third := func(client, offset int) bool { return client == 3 && offset%10 == 5 }
	tests := map[string]struct {
		fault  func(*fakeHub)
		flags  []string
		figure string
		atMost float64
	}{
		"loses":              {func(h *fakeHub) { h.lose = third }, nil, "missing", 3},
		"loses, seen as gap": {func(h *fakeHub) { h.lose = third }, nil, "gaps", 3},
		"loses the last":     {func(h *fakeHub) { h.lose = func(c, o int) bool { return c == 1 && o == 30 } }, nil, "missing", 1},
		"repeats":            {func(h *fakeHub) { h.repeat = third }, nil, "repeated", 3},
		"repeats the last":   {func(h *fakeHub) { h.repeat = func(c, o int) bool { return c == 1 && o == 30 } }, nil, "repeated", 1},
		"reorders":           {func(h *fakeHub) { h.swap = third }, nil, "reordered", 3},
		"changes payloads":   {func(h *fakeHub) { h.garble = third }, nil, "altered", 3},
		// Who hears it first decides which place the others are held against.
		"misplaces": {func(h *fakeHub) { h.misplace = func(c, o int) bool { return c == 2 && o == 30 } }, nil, "altered", 7},
		"forgets who was away": {func(h *fakeHub) { h.forget = true },
			[]string{"-drop", "1", "-away", "80ms", "-rate", "100"}, "missing", 240},
		"delays":             {func(h *fakeHub) { h.delay = 60 * time.Millisecond }, []string{"-expect", "p50<50ms"}, "p50", 5000},
		"stalls publishers":  {func(h *fakeHub) { h.stall = 60 * time.Millisecond }, []string{"-expect", "p50<50ms"}, "p50", 5000},
		"refuses a publish":  {func(h *fakeHub) { h.refuse = func(o int) bool { return o == 9 } }, nil, "refused", 1},
		"closes for good":    {func(h *fakeHub) { h.closeCode = 4503 }, nil, "failed", 1},
		"closes for a while": {func(h *fakeHub) { h.closeCode = 4413 }, []string{"-expect", "closed=0"}, "closed", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t)
			tt.fault(h)
			code, got, log := play(t, h, tt.flags...)
			if code != exitFailed {
				t.Fatalf("exit %d: %+v %s", code, got, log)
			}
			value, _ := got[0].figure(tt.figure)
			if value <= 0 || value > tt.atMost {
				t.Errorf("%s = %v: %+v", tt.figure, value, got[0])
			}
			if !slices.ContainsFunc(got[0].Unmet, func(u string) bool { return strings.HasPrefix(u, tt.figure) }) {
				t.Errorf("the verdict does not name %s: %v", tt.figure, got[0].Unmet)
			}
		})
	}
}

// A hub that closes with a code below 4500 gets its client back, with nothing missing.
func TestRun_closedClientRecovers(t *testing.T) {
	h := newFakeHub(t)
	h.closeCode = 1012
	code, got, log := play(t, h)
	if code != exitOK || got[0].Closed[1012] != 1 || got[0].Missing != 0 {
		t.Errorf("exit %d: %+v %s", code, got, log)
	}
}

// Every scenario that needs no simulator plays to its end and finds nothing wrong with an honest hub.
func TestRun_scenarios(t *testing.T) {
	want := map[string]int{
		"connect": 0, "storm": 0, "idle": 0, "fanout": 240, "rooms": 60, "mail": 30, "recover": 240, "slow": 240, "soak": 8 * 60, "presence": -1,
	}
	for scenario, received := range want {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			code, got, log := play(t, newFakeHub(t), "-scenario", scenario, "-rooms", "4", "-for", "200ms", "-drop", "0.5", "-away", "60ms", "-slow", "0.25")
			if code != exitOK || received >= 0 && got[0].Received != received {
				t.Errorf("exit %d, received %d, want %d: %+v %s", code, got[0].Received, received, got[0], log)
			}
		})
	}
	code, got, log := play(t, newFakeHub(t), "-scenario", "mixed", "-clients", "20", "-rooms", "2")
	if code != exitOK || len(got) != 3 || got[0].Clients != 12 {
		t.Errorf("mixed: exit %d: %+v %s", code, got, log)
	}
}

func TestRun_ghost(t *testing.T) {
	h := newFakeHub(t)
	h.ghost = 1
	code, got, log := play(t, h, "-scenario", "presence", "-rooms", "2")
	if code != exitFailed || got[0].Ghosts != 2 {
		t.Errorf("exit %d, ghosts %d: %+v %s", code, got[0].Ghosts, got, log)
	}
}

// What the hub says that it cannot give back is announced, not missing.
// A hub whose own maps do not agree at the end has not passed, whatever its clients heard.
func TestRun_consistency(t *testing.T) {
	for wrong, want := range map[int64]int{2: exitOK, 1000: exitFailed} {
		h := newFakeHub(t)
		h.disagrees.Store(wrong)
		code, _, log := play(t, h, "-scenario", "fanout")
		if code != want || want != exitOK && !strings.Contains(log, "counts 3 members") {
			t.Errorf("wrong %d times: exit %d %s", wrong, code, log)
		}
	}
}

func TestRun_announcedLoss(t *testing.T) {
	h := newFakeHub(t)
	h.partial = true
	code, got, log := play(t, h, "-drop", "1", "-away", "80ms", "-rate", "100")
	if code != exitOK || got[0].Announced == 0 || got[0].Reloads != 8 || got[0].Missing != 0 {
		t.Errorf("exit %d: %+v %s", code, got, log)
	}
}

// Two nodes: when one dies, its clients go to the other. (Both are one hub here, so that nothing is lost on the way.)
func TestRun_nodeDies(t *testing.T) {
	h := newFakeHub(t)
	second := httptest.NewServer(h.http.Config.Handler)
	t.Cleanup(second.Close)
	time.AfterFunc(500*time.Millisecond, func() {
		second.Listener.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		for s := range h.sockets {
			if s.ws.LocalAddr().String() == second.Listener.Addr().String() {
				_ = s.ws.NetConn().Close()
			}
		}
	})
	code, got, log := play(t, h, "-url", h.http.URL+","+second.URL, "-scenario", "nodes", "-rate", "30", "-settle", "3s")
	if code != exitOK || got[0].Received != 240 || got[0].Closed[1006] < 4 {
		t.Errorf("exit %d: %+v %s", code, got, log)
	}
}

// A crowd in another process finds what one in this process finds.
func TestRun_crowdInAnotherProcess(t *testing.T) {
	h := newFakeHub(t)
	h.lose = func(client, offset int) bool { return client == 3 && offset == 9 }
	var out, errOut bytes.Buffer
	o, err := parseOptions([]string{"-url", h.http.URL, "-token-key", "k1:" + fakeSecret, "-api-key", fakeAPIKey, "-clients", "8", "-messages", "30",
		"-rate", "300", "-settle", "400ms", "-seed", "7", "-quiet"}, &errOut)
	if err != nil {
		t.Fatal(err)
	}
	tg := newTarget(o)
	defer tg.close()
	r := &round{options: o, target: tg, scenario: scenarios["fanout"], name: "fanout", progress: newProgress(&out, true), sampler: &sampler{target: tg}}
	r.gather = func(ctx context.Context, c cast) (troupes, error) {
		half := c
		half.People, c.People, c.First = c.People[:4], c.People[4:], 4
		here, err := newCrowd(half)
		if err != nil {
			return nil, err
		}
		there, err := startProcess(ctx, c)
		return troupes{here, there}, err
	}
	got, err := r.play(t.Context())
	if err != nil || got.Received != 239 || got.Missing != 1 || got.Gaps != 1 {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestRun_pay(t *testing.T) {
	h := newFakeHub(t)
	code, got, log := play(t, h, "-sim", h.http.URL, "-token-key", "", "-scenario", "pay")
	if code != exitOK || got[0].Received != 8*30 {
		t.Fatalf("exit %d: %+v %s", code, got, log)
	}
	for letters, figure := range map[int]string{0: "missing", 2: "repeated"} {
		h := newFakeHub(t)
		h.letters = letters
		code, got, log := play(t, h, "-sim", h.http.URL, "-token-key", "", "-scenario", "pay")
		if value, _ := got[0].figure(figure); code != exitFailed || value != 30 {
			t.Errorf("%d letters: exit %d: %+v %s", letters, code, got, log)
		}
	}
}

func TestRun_seedRepeatsTheDrops(t *testing.T) {
	var drops []int
	for range 2 {
		_, got, _ := play(t, newFakeHub(t), "-drop", "0.5", "-away", "50ms")
		drops = append(drops, got[0].Drops)
	}
	if drops[0] != 4 || drops[1] != 4 {
		t.Errorf("drops %v, want 4 of 8 both times", drops)
	}
}

func TestRun_refusedTokens(t *testing.T) {
	code, got, log := play(t, newFakeHub(t), "-token-key", "k2:"+fakeSecret, "-clients", "2", "-messages", "1")
	if code != exitFailed || got[0].Failed != 2 || len(got[0].Notes) == 0 || !strings.Contains(got[0].Notes[0], "401") {
		t.Errorf("exit %d: %+v %s", code, got, log)
	}
}

func TestRun_refusedRoom(t *testing.T) {
	code, got, log := play(t, newFakeHub(t), "-room", "kf", "-clients", "2", "-messages", "1")
	if code != exitFailed || got[0].Failed != 2 || len(got[0].Notes) == 0 || !strings.Contains(got[0].Notes[0], "forbidden") {
		t.Errorf("exit %d: %+v %s", code, got, log)
	}
}

func TestRun_usage(t *testing.T) {
	tests := map[string][]string{
		"-api-key":     {"-token-key", "k1:" + fakeSecret, "-api-key", ""},
		"-token-key":   {"-api-key", "k", "-token-key", "k1:short"},
		"get tokens":   {"-api-key", "k"},
		"there are":    {"-api-key", "k", "-token-key", "k1:" + fakeSecret, "-expect", "p98<1s"},
		"not a time":   {"-api-key", "k", "-token-key", "k1:" + fakeSecret, "-expect", "p99<1"},
		"needs -sim":   {"-api-key", "k", "-token-key", "k1:" + fakeSecret, "-scenario", "pay"},
		"idle, fanout": {"-api-key", "k", "-token-key", "k1:" + fakeSecret, "-scenario", "party"},
		"only flags":   {"-api-key", "k", "fanout"},
		"http(s) URL":  {"-api-key", "k", "-token-key", "k1:" + fakeSecret, "-url", "localhost:8080"},
	}
	for want, args := range tests {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), args, nil, &out, &errOut); code != exitUsage || !strings.Contains(errOut.String(), want) {
			t.Errorf("%v: exit %d, %q lacks %q", args, code, errOut.String(), want)
		}
	}
}

func TestReport_table(t *testing.T) {
	r := result{Scenario: "recover", Clients: 200, Sent: 100, P50: 4, P99: 31.2, Max: 120}
	r.tally = tally{Received: 19999, Missing: 1, Drops: 20, Recovered: 44}
	o := options{seed: 7}
	o.expect, _ = parseExpectations("p99<200ms,missing=0")
	r.judge(o.expect)
	var out bytes.Buffer
	if err := report(&out, o, []result{r}); err != nil {
		t.Fatal(err)
	}
	want := `✗ recover: expected missing=0 (found 1)
✓ recover: p99<200ms
scenario  clients  sent  received  missing  repeated  reordered  drops  recovered  p50   p99    max     verdict
recover   200      100   19999     1        0         0          20     44         4 ms  31 ms  120 ms  FAILED
seed 7
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func FuzzParseExpectations(f *testing.F) {
	for _, s := range []string{"p99<200ms,missing=0", "max>=1s", "p50<=,", "=1", "missing==3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseExpectations(text)
		if err != nil {
			return
		}
		for _, e := range list {
			if _, known := (&result{}).figure(e.name); !known {
				t.Errorf("%q gave the unknown figure %q", text, e.name)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	b := broadcasts{"run", padding(4)}
	f.Add([]byte(`{"meta":{"room":"notice","epoch":"e","offset":3},"data":{"action":"loadtest","payload":` + string(b.payload(2)) + `}}`))
	f.Add([]byte(`{"ping":1}`))
	f.Add([]byte(`{"reply":"x","meta":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &player{crowd: &crowd{recognise: b.recogniser(10)}, frames: map[string]*frame{}}
		if got, err := p.decode(text, readNative); err == nil && got.n >= 10 {
			t.Errorf("message %d of 10", got.n)
		}
	})
}
