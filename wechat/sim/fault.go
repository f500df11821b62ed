package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault spoils the next calls of the platform side, or the next notifies. What is combined happens
// together: a slow one may also be lost.
type Fault struct {
	Path         string `json:"path,omitempty"`         // exact; empty = every platform call
	Times        int    `json:"times,omitempty"`        // calls that it spoils; 0 = 1, at most 1,000,000
	Slow         int    `json:"slow,omitempty"`         // ms before the answer, at most 60,000
	Status       int    `json:"status,omitempty"`       // HTTP status instead of an answer
	HTML         bool   `json:"html,omitempty"`         // an HTML page instead of JSON
	Errcode      int    `json:"errcode,omitempty"`      // this errcode instead of an answer (-1, 40226, 45011, …)
	Lost         bool   `json:"lost,omitempty"`         // the call is done, then the connection is cut
	Code         string `json:"code,omitempty"`         // Pay: this code instead of an answer, such as SYSTEM_ERROR or ORDERPAID; v2 FAIL: return_code FAIL
	Sign         string `json:"sign,omitempty"`         // v3 answers: "probe", "wrong", "stale", "serial" or "none"; v2: "wrong" or "none"
	Bill         string `json:"bill,omitempty"`         // bills: "drop" or "extra" (a line), "amount" (of the first line) or "hash"
	Always       bool   `json:"always,omitempty"`       // never used up; times counts nothing then
	Percent      int    `json:"percent,omitempty"`      // spoils this share only, by chance; 0 = all
	On           string `json:"on,omitempty"`           // what follows is of: notify (and empty), push or both
	MuteNotify   bool   `json:"muteNotify,omitempty"`   // the next callback never comes
	Reorder      bool   `json:"reorder,omitempty"`      // the next callback waits until another one was sent, at most 30 s
	Delay        int    `json:"delay,omitempty"`        // ms that the next callback waits, at most 3,600,000; real time
	Copies       int    `json:"copies,omitempty"`       // the first try of the next callback comes so many times at once, at most 100
	Forge        string `json:"forge,omitempty"`        // the first try is forged (signature, body; notify also serial, no-sign, probe); the honest one follows
	Skew         string `json:"skew,omitempty"`         // the first try has another clock, such as -10m; the right one follows
	OutTradeNo   string `json:"outTradeNo,omitempty"`   // the notifies of this order only
	TokenInvalid bool   `json:"tokenInvalid,omitempty"` // at once: the access tokens of both apps die (40001)
	TokenExpired bool   `json:"tokenExpired,omitempty"` // at once: their time is over (42001)
}

// maxReorder is how long a notify waits for another one to overtake it.
const maxReorder = 30 * time.Second

// ofCallback tells whether it spoils notifies or pushes.
func (f *Fault) ofCallback() bool {
	return f.MuteNotify || f.Reorder || f.Delay > 0 || f.Copies > 1 || f.Forge != "" || f.Skew != ""
}

// What a fault of callbacks is of.
const (
	onNotify = "notify"
	onPush   = "push"
	onBoth   = "both"
)

func (f *Fault) spoils() bool {
	return f.Slow > 0 || f.Status > 0 || f.HTML || f.Errcode != 0 || f.Lost || f.Sign != "" || f.Code != "" || f.Bill != ""
}

// check refuses what cannot be meant.
func (f *Fault) check() error {
	switch {
	case f.Times < 0 || f.Times > 1_000_000:
		return badRequest("times is 1 to 1000000")
	case f.Percent < 0 || f.Percent > 100:
		return badRequest("percent is 1 to 100")
	case f.Slow < 0 || f.Slow > 60_000:
		return badRequest("slow is 0 to 60000 milliseconds")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return badRequest("status is 200 to 599")
	case !slices.Contains([]string{"", "probe", "wrong", "stale", "serial", "none"}, f.Sign):
		return badRequest("sign is probe, wrong, stale, serial or none")
	case !slices.Contains([]string{"", "drop", "extra", "amount", "hash"}, f.Bill):
		return badRequest("bill is drop, extra, amount or hash")
	case f.Code != "" && !faultCode.MatchString(f.Code):
		return badRequest("code is one of WeChat Pay, such as SYSTEM_ERROR")
	case f.ofCallback() && (f.spoils() || f.Path != ""):
		return badRequest("muteNotify, reorder, delay, copies, forge and skew are of callbacks; spoil calls by a fault of their own")
	case f.OutTradeNo != "" && !f.ofCallback():
		return badRequest("outTradeNo goes with muteNotify, reorder, delay, copies, forge or skew")
	case !f.spoils() && !f.ofCallback() && !f.TokenInvalid && !f.TokenExpired:
		return badRequest("name a fault: slow, status, html, errcode, code, lost, sign, bill, tokenInvalid, tokenExpired, muteNotify, reorder, delay, copies, forge or skew")
	}
	return f.checkCallback()
}

// checkCallback is check for what spoils notifies and pushes.
func (f *Fault) checkCallback() error {
	if _, err := time.ParseDuration(cmp.Or(f.Skew, "0s")); err != nil {
		return badRequest("skew is a duration such as -10m")
	}
	switch {
	case f.Delay < 0 || f.Delay > 3_600_000:
		return badRequest("delay is 0 to 3600000 milliseconds")
	case f.Copies < 0 || f.Copies > maxParallel:
		return badRequest("copies is 2 to 100")
	case !slices.Contains([]string{"", onNotify, onPush, onBoth}, f.On):
		return badRequest("on is notify, push or both")
	case !slices.Contains([]string{"", "signature", "body", "serial", "no-sign", "probe"}, f.Forge):
		return badRequest("forge is signature, body, serial, no-sign or probe")
	case f.On == onPush && !slices.Contains([]string{"", "signature", "body"}, f.Forge):
		return badRequest("a push is forged by signature or body")
	}
	return nil
}

// setFault is POST /sim/fault.
func (s *Sim) setFault(r *http.Request) (any, error) {
	var f Fault
	if err := decode(r, &f); err != nil {
		return nil, err
	}
	waiting, err := s.addFault(f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ok": true, "waiting": waiting}, nil
}

// addFault lets a checked fault wait for what it spoils. It tells how many wait.
func (s *Sim) addFault(f Fault) (waiting int, err error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	if f.Times == 0 {
		f.Times = 1
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accountsOf() {
		for _, t := range []*tokens{&a.stable, &a.classic} {
			if f.TokenInvalid {
				t.revoke()
			}
			if f.TokenExpired {
				t.expire(now)
			}
		}
	}
	f.TokenInvalid, f.TokenExpired = false, false
	if f.spoils() || f.ofCallback() {
		if len(s.faults) >= keep {
			return 0, &controlError{429, "too_many_faults", "DELETE /sim/fault clears them"}
		}
		s.faults = append(s.faults, &f)
	}
	return len(s.faults), nil
}

// ParseFault reads a fault as a flag has it: fields and values as in POST /sim/fault, such as
// path=/v3/pay/transactions/jsapi,status=502,times=3 or on=push,forge=signature,always.
func ParseFault(text string) (Fault, error) {
	named := map[string]any{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, given := strings.Cut(strings.TrimSpace(part), "=")
		number, err := strconv.Atoi(value)
		switch {
		case !given:
			named[name] = true
		case value == "true" || value == "false":
			named[name] = value == "true"
		case err == nil && name != "outTradeNo":
			named[name] = number
		default:
			named[name] = value
		}
	}
	var f Fault
	dec := json.NewDecoder(bytes.NewReader(toJSON(named)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return f, fmt.Errorf("fault %q: %s", clip(text, 200), strings.TrimPrefix(err.Error(), "json: "))
	}
	var refused *controlError
	if err := f.check(); errors.As(err, &refused) {
		return f, fmt.Errorf("fault %q: %s", clip(text, 200), refused.message)
	}
	return f, nil
}

// clearFaults is DELETE /sim/fault.
func (s *Sim) clearFaults(*http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	return map[string]any{"ok": true, "waiting": 0}, nil
}

// takeFault uses up one count of the first fault for a path.
func (s *Sim) takeFault(path string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if !f.ofCallback() && (f.Path == "" || f.Path == path) && f.happens() {
			return s.useFault(i)
		}
	}
	return nil
}

// happens throws the dice.
func (f *Fault) happens() bool { return f.Percent == 0 || rand.IntN(100) < f.Percent }

// useFault uses up one count of a fault. Needs s.mu.
func (s *Sim) useFault(i int) *Fault {
	taken := *s.faults[i]
	if taken.Always {
		return &taken
	}
	s.faults[i].Times--
	if s.faults[i].Times == 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return &taken
}

// callbackFault uses up one count of the first fault for a notify of this order, or a push; nil for none.
func (s *Sim) callbackFault(on, outTradeNo string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		of := cmp.Or(f.On, onNotify)
		if f.ofCallback() && (of == on || of == onBoth) && (f.OutTradeNo == "" || f.OutTradeNo == outTradeNo) && f.happens() {
			return s.useFault(i)
		}
	}
	return nil
}

// holdBack waits as a fault of callbacks says. It reports whether there is still somebody to send to.
func (s *Sim) holdBack(ctx context.Context, on string, f *Fault) bool {
	if f.Delay > 0 && !wait(ctx, time.Duration(f.Delay)*time.Millisecond) {
		return false
	}
	if !f.Reorder {
		return true
	}
	overtaken := make(chan struct{})
	s.mu.Lock()
	s.held[on] = append(s.held[on], overtaken)
	s.mu.Unlock()
	limit := time.NewTimer(s.scaled(maxReorder))
	defer limit.Stop()
	select {
	case <-overtaken:
	case <-limit.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// letGo wakes the callbacks of a kind that wait to be overtaken.
func (s *Sim) letGo(on string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, overtaken := range s.held[on] {
		close(overtaken)
	}
	delete(s.held, on)
}

// skew is how far the clock of the first try is off.
func (f *Fault) skew() time.Duration {
	d, _ := time.ParseDuration(cmp.Or(f.Skew, "0s")) // checked when it was set
	return d
}

// applyFault waits and answers as the fault says. It reports whether the call still has to be done.
func (s *Sim) applyFault(w http.ResponseWriter, r *http.Request, f *Fault) bool {
	if f.Slow > 0 {
		ctx, done := s.during(r)
		wait(ctx, time.Duration(f.Slow)*time.Millisecond)
		done()
	}
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case f.Code != "":
		return true // by the handler, which can sign
	case f.HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, "<html><head><title>系统繁忙</title></head><body><h1>系统繁忙，请稍后再试</h1></body></html>")
	case f.Errcode != 0:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		s.answerAPI(w, apiErr(f.Errcode, "set by a fault"), nil)
	case f.Status != 0:
		w.WriteHeader(status)
	default:
		return true
	}
	return false
}

var faultCode = regexp.MustCompile(`^[A-Z0-9_]{2,64}$`)

// statusV3 are the HTTP statuses of the codes of API v3; all others are 400.
var statusV3 = map[string]int{"SIGN_ERROR": 401, "NO_AUTH": 403, "NOAUTH": 403, "OUT_TRADE_NO_USED": 403, "RULE_LIMIT": 403, "RULELIMIT": 403,
	"TRADE_ERROR": 403, "ACCOUNT_ERROR": 403, "NOT_ENOUGH": 403, "USER_ACCOUNT_ABNORMAL": 403, "ORDER_NOT_EXIST": 404, "RESOURCE_NOT_EXISTS": 404, "FREQUENCY_LIMITED": 429, "RATELIMIT_EXCEEDED": 429, "SYSTEM_ERROR": 500, "SYSTEMERROR": 500, "BANK_ERROR": 500,
	"OPENID_MISMATCH": 500, "INVALID_TRANSACTIONID": 500}

// refusalV3 is the refusal that a fault wants of API v3, nil for none; f may be nil.
func (f *Fault) refusalV3() *payError {
	if f == nil || f.Code == "" {
		return nil
	}
	return &payError{status: cmp.Or(f.Status, statusV3[f.Code], http.StatusBadRequest), code: f.Code, message: "set by a fault"}
}

// refusalV2 is the same of Pay v2.
func (f *Fault) refusalV2() *v2Error {
	switch {
	case f == nil || f.Code == "":
		return nil
	case f.Code == "FAIL":
		return v2Fault("set by a fault")
	}
	return &v2Error{code: f.Code, message: "set by a fault"}
}

type faultKey struct{}

func withFault(r *http.Request, f *Fault) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), faultKey{}, f))
}

// faultOf returns the fault that spoils this request, nil for none.
func faultOf(r *http.Request) *Fault {
	f, _ := r.Context().Value(faultKey{}).(*Fault)
	return f
}

// wait sleeps for d and reports whether it was not interrupted.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
