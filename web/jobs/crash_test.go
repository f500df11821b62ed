package jobs

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// A mute lets requests through and loses the answers to sendings.
type mute struct{ http.RoundTripper }

func (m mute) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := m.RoundTripper.RoundTrip(r)
	if err == nil && (r.URL.Path == "/cgi-bin/message/subscribe/send" || r.URL.Path == "/cgi-bin/message/custom/send") {
		answer.Body.Close()
		return nil, errors.New("the line broke")
	}
	return answer, err
}

// A process is killed at every point of a fallback, and an answer is lost, for each thing that a message can cost. WeChat
// receives exactly one message, but for the one row that nothing can know: killed between the commit and the call, when
// the user has more messages left than the one. That one waits for an admin's word, and then it is exactly one, too.
func TestFallback_crashes(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "wxhub.db") },
		"postgres": func(t *testing.T) string { return startPostgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" && testing.Short() {
				t.Skip("skipped: -short")
			}
			testCrashes(t, url(t))
		})
	}
}

func testCrashes(t *testing.T, url string) {
	s := newStage(t, url, &dial{at: time.Now().Truncate(time.Millisecond)})
	lossy, err := wechat.New(wechat.Options{AppID: s.creds.AppID, Secret: s.creds.Secret, APIURL: s.sim,
		HTTP: &http.Client{Transport: mute{http.DefaultTransport}}, Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	type cost string
	const (
		lastGrant cost = "the last grant"
		oneGrant  cost = "one of two grants"
		lastReply cost = "the last reply"
		oneReply  cost = "one of five replies"
	)
	type point string
	const (
		beforeIntent point = "killed before the intent"
		afterIntent  point = "killed after the intent, before the call"
		afterCall    point = "killed after the call, before the answer is written down"
		lostAnswer   point = "the answer is lost"
		reported     point = "killed after the call, and WeChat reports it"
	)
	n := 0
	for _, c := range []cost{lastGrant, oneGrant, lastReply, oneReply} {
		for _, k := range []point{beforeIntent, afterIntent, afterCall, lostAnswer, reported} {
			if k == reported && (c == lastReply || c == oneReply) {
				continue // there is no such report
			}
			t.Run(string(c)+"/"+string(k), func(t *testing.T) {
				n++
				p := s.person()
				switch c {
				case oneGrant:
					p.grant(true, true)
					fallthrough
				case lastGrant:
					p.grant(true, true)
				case lastReply:
					p.speak(true)
					p.spend(4, true)
				case oneReply:
					p.speak(true)
				}
				p.mail("m1")
				s.clock.turn(testAfter)
				switch k {
				case beforeIntent:
					if _, err := s.db.ClaimFallbacks(t.Context(), "dead", fallbackBatch, fallbackLease); err != nil {
						t.Fatal(err)
					}
				case afterIntent:
					rounds(t, s.node("dead", func(o *Options) { o.BeforeSend = die }))
				case afterCall, reported:
					rounds(t, s.node("dead", func(o *Options) { o.AfterSend = die }))
				case lostAnswer:
					rounds(t, s.node("deaf", func(o *Options) { o.WeChat = lossy }))
				}
				if k == reported {
					p.push(store.Push{Reports: []store.SendReport{{MsgID: "msg-" + p.name, Reason: "success", TemplateID: testTemplate}}})
				}
				count := func() int {
					custom, subscribe := p.received()
					return custom + subscribe
				}
				receipt := func() store.Receipt {
					r, err := s.db.Receipt(t.Context(), "m1", p.user.ID)
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
				for range 3 { // other processes, several times
					s.clock.turn(fallbackLease + time.Second)
					rounds(t, s.node("one", nil), s.node("two", nil))
				}
				last := c == lastGrant || c == lastReply
				certain := last || k == beforeIntent || k == reported
				want, state := 1, store.FallbackSent
				if !certain {
					state = store.FallbackUnknown
					if k == afterIntent {
						want = 0 // the one row that nothing can know
					}
				}
				r := receipt()
				if got := count(); got != want || r.Fallback.State != state {
					t.Fatalf("WeChat received %d messages, want %d; %s, want %s: %+v", got, want, r.Fallback.State, state, r.Attempts)
				}
				if a := r.Attempts[len(r.Attempts)-1]; last && (k == afterCall || k == lostAnswer) && (a.Reason != store.ReasonRepeat || a.Code == 0) {
					t.Errorf("the repeat was answered %+v", a)
				}
				doubts, err := s.db.Doubts(t.Context(), 0)
				if err != nil || certain != (len(doubts) == 0) {
					t.Fatalf("doubts %+v, %v", doubts, err)
				}
				if certain {
					return
				}
				// An admin has seen that it did not arrive, or that it did, a day and a half later.
				s.clock.turn(36 * time.Hour)
				again := k == afterIntent
				if err := s.db.DecideDoubt(t.Context(), "m1", p.user.ID, again, "boss"); err != nil {
					t.Fatal(err)
				}
				rounds(t, s.node("one", nil), s.node("two", nil))
				if r = receipt(); count() != 1 || again != (r.Fallback.State == store.FallbackSent) {
					t.Errorf("after the admin's word WeChat received %d, %+v %+v", count(), r.Fallback, r.Attempts)
				}
				if a := r.Attempts[1]; a.Channel != store.ChannelDecision || a.Node != "boss" || again != (a.Outcome == store.ReasonAgain) {
					t.Errorf("the timeline has %+v", a)
				}
				if err := s.db.DecideDoubt(t.Context(), "m1", p.user.ID, true, "boss"); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("decided twice: %v", err)
				}
				if doubts, err := s.db.Doubts(t.Context(), 0); err != nil || len(doubts) != 0 {
					t.Errorf("doubts %+v, %v", doubts, err)
				}
			})
		}
	}
	t.Logf("%d rows", n)
}

// Without an access token nothing is written down and nothing is taken: what is tried later costs nothing.
func TestFallback_noTokenNoIntent(t *testing.T) {
	s := newStage(t, filepath.Join(t.TempDir(), "wxhub.db"), &dial{at: time.Now().Truncate(time.Millisecond)})
	p := s.person()
	p.grant(true, true)
	p.mail("m1")
	s.clock.turn(testAfter)
	stranger, err := wechat.New(wechat.Options{AppID: s.creds.AppID, Secret: "0123456789abcdef0123456789abcdef", APIURL: s.sim, Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	begun := 0
	rounds(t, s.node("stranger", func(o *Options) { o.WeChat, o.BeforeSend = stranger, func() { begun++ } }))
	r, err := s.db.Receipt(t.Context(), "m1", p.user.ID)
	if err != nil || begun != 0 || len(r.Attempts) != 0 || r.Fallback.State != store.FallbackWaiting {
		t.Errorf("begun %d times: %+v %+v %v", begun, r.Fallback, r.Attempts, err)
	}
	s.clock.turn(time.Hour)
	rounds(t, s.node("one", nil))
	if _, subscribe := p.received(); subscribe != 1 {
		t.Errorf("WeChat received %d", subscribe)
	}
}
