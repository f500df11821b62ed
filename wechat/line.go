package wechat

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// A Call is what became of one HTTP call to WeChat, or of one that a breaker did not let through.
type Call struct {
	API  string // wechat or pay
	Op   string // as in Error: code2session, custom/send, pay/prepay …; a closed set
	Code string // ok, an errcode, a word of WeChat Pay, http_503, timeout, canceled, broken, nonsense, signature, breaker, refused
	Took time.Duration
	// Advice is "" for a success.
	Advice Advice
}

// A line is the way to one of WeChat's hosts. It counts each call, repeats once what may be repeated, and lets
// an endpoint rest that only fails.
type line struct {
	api     string
	http    *http.Client
	observe func(Call) // nil: nobody listens
	log     *slog.Logger
	now     func() time.Time
	timeout time.Duration // of one call, with its repeat
	pause   time.Duration // before a repeat, give or take a half

	mu     sync.Mutex // guards what follows
	ailing map[string]*ailment
}

// An ailment is what a breaker remembers of an endpoint whose last call failed.
type ailment struct {
	failures  int           // in a row
	restUntil time.Time     // no call before
	rest      time.Duration // of the last time; it doubles
	trying    bool          // one call is out to see whether it works again
}

const (
	breakerFailures = 8                // in a row, and the endpoint rests
	breakerRest     = 2 * time.Second  // the first time
	breakerLongest  = 30 * time.Second // and at most
	repeatPause     = 150 * time.Millisecond
	repeatNeeds     = time.Second // of the call's time, or a repeat is not begun
)

// repeatable are the calls that may be made twice, because they only ask, or because WeChat takes the same
// number for the same thing. What tells a person something, uses a code up or counts a small quota is not here.
var repeatable = map[string]bool{
	opToken: true, opCheckSession: true, opPaidUnionID: true, opFollower: true, opFollowers: true, opFollowerInfos: true,
	opCheckText: true, opQRCode: true, opUploadMedia: true,
	opTradeManaged: true, opTradeConfirmed: true, opShip: true, opShipped: true,
	opPrepay: true, opQuery: true, opClose: true, opRefund: true, opQueryRefund: true, // same number, same thing
	opCertificates: true, opTradeBill: true, opFundBill: true, opDownload: true,
}

func newLine(api string, h *http.Client, observe func(Call), log *slog.Logger, now func() time.Time) *line {
	return &line{api: api, http: httpFor(h), observe: observe, log: loggerFor(log), now: clockFor(now),
		timeout: callTimeout, pause: repeatPause}
}

// call makes one call with f, which sends the request and opens the answer. What is repeatable is made once
// more after a failure that came fast, after a short random pause.
func (l *line) call(ctx context.Context, op string, f func(ctx context.Context) error) error {
	ends := time.Now().Add(l.timeout)
	err := l.once(ctx, op, f)
	if err == nil || !repeatable[op] || !l.worthRepeating(ctx, err, ends) {
		return err
	}
	select {
	case <-time.After(l.pause/2 + rand.N(l.pause)):
	case <-ctx.Done():
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, ends)
	defer cancel()
	return l.once(ctx, op, f)
}

func (l *line) worthRepeating(ctx context.Context, err error, ends time.Time) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == ErrBusy && !errors.Is(err, ErrBreaker) && e.RetryAfter <= time.Second &&
		ctx.Err() == nil && time.Until(ends) >= repeatNeeds
}

func (l *line) once(ctx context.Context, op string, f func(ctx context.Context) error) error {
	if rest := l.resting(op); rest > 0 {
		err := &Error{Op: op, Kind: ErrBusy, RetryAfter: rest, Err: ErrBreaker}
		l.tell(op, err, 0)
		return err
	}
	began := time.Now()
	settled := false
	defer func() {
		if !settled { // f panicked
			l.settle(op, unknown, nil)
		}
	}()
	err := f(ctx)
	settled = true
	took := time.Since(began)
	switch {
	case !errors.Is(err, ErrBusy):
		l.settle(op, well, nil)
	case errors.Is(ctx.Err(), context.Canceled), ctx.Err() != nil && took < l.timeout/2:
		l.settle(op, unknown, nil) // our own caller gave up, which says nothing of WeChat
	default:
		l.settle(op, ill, err)
	}
	l.tell(op, err, took)
	return err
}

// resting is how long op is still left alone; 0: go.
func (l *line) resting(op string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.ailing[op]
	if a == nil || a.failures < breakerFailures {
		return 0
	}
	if rest := a.restUntil.Sub(l.now()); rest > 0 {
		return rest
	}
	if a.trying {
		return time.Second
	}
	a.trying = true
	return 0
}

// What a call says of its endpoint.
type health int

const (
	well health = iota
	ill
	unknown
)

// settle remembers what became of a call.
func (l *line) settle(op string, h health, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.ailing[op]
	switch {
	case h == well:
		if a != nil && a.failures >= breakerFailures {
			l.log.Info("an endpoint of WeChat answers again", "op", op)
		}
		delete(l.ailing, op)
		return
	case h == unknown:
		if a != nil {
			a.trying = false
		}
		return
	case a == nil:
		a = &ailment{}
		if l.ailing == nil {
			l.ailing = map[string]*ailment{}
		}
		l.ailing[op] = a
	}
	a.failures++
	if a.failures < breakerFailures || a.failures > breakerFailures && !a.trying { // these were out already
		return
	}
	a.trying = false
	a.rest = min(max(2*a.rest, breakerRest), breakerLongest)
	a.restUntil = l.now().Add(a.rest)
	l.log.Warn("an endpoint of WeChat only fails and is left alone for a while", "op", op, "failures", a.failures, "rest", a.rest, "err", err)
}

func (l *line) tell(op string, err error, took time.Duration) {
	if l.observe != nil {
		l.observe(Call{API: l.api, Op: op, Code: codeOf(err), Took: took, Advice: AdviceOf(err)})
	}
}

var codeWord = regexp.MustCompile(`^[A-Z0-9_]{1,40}$`)

// codeOf is an error in one word, for counting.
func codeOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrBreaker):
		return "breaker"
	case !errors.As(err, &e):
		return "refused"
	case e.Code != 0:
		return strconv.Itoa(e.Code)
	case codeWord.MatchString(e.Word):
		return e.Word
	case errors.Is(err, ErrSignature), errors.Is(err, ErrStale):
		return "signature"
	case errors.Is(err, ErrNonsense):
		return "nonsense"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case e.Status >= 400:
		return "http_" + strconv.Itoa(e.Status)
	case errors.Is(err, ErrBusy):
		return "broken"
	}
	return "refused"
}
