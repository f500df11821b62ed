package sim

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
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
	MuteNotify   bool   `json:"muteNotify,omitempty"`   // the next notify of a payment or refund never comes
	Reorder      bool   `json:"reorder,omitempty"`      // the next notify waits until another one was sent, at most 30 s
	Delay        int    `json:"delay,omitempty"`        // ms that the next notify waits, at most 3,600,000; real time
	OutTradeNo   string `json:"outTradeNo,omitempty"`   // the notifies of this order only
	TokenInvalid bool   `json:"tokenInvalid,omitempty"` // at once: the access tokens of both apps die (40001)
	TokenExpired bool   `json:"tokenExpired,omitempty"` // at once: their time is over (42001)
}

// maxReorder is how long a notify waits for another one to overtake it.
const maxReorder = 30 * time.Second

func (f *Fault) ofNotify() bool { return f.MuteNotify || f.Reorder || f.Delay > 0 }

func (f *Fault) spoils() bool {
	return f.Slow > 0 || f.Status > 0 || f.HTML || f.Errcode != 0 || f.Lost || f.Sign != "" || f.Code != "" || f.Bill != ""
}

// setFault is POST /sim/fault.
func (s *Sim) setFault(r *http.Request) (any, error) {
	var f Fault
	if err := decode(r, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Times < 0 || f.Times > 1_000_000:
		return nil, badRequest("times is 1 to 1000000")
	case f.Slow < 0 || f.Slow > 60_000:
		return nil, badRequest("slow is 0 to 60000 milliseconds")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return nil, badRequest("status is 200 to 599")
	case !slices.Contains([]string{"", "probe", "wrong", "stale", "serial", "none"}, f.Sign):
		return nil, badRequest("sign is probe, wrong, stale, serial or none")
	case !slices.Contains([]string{"", "drop", "extra", "amount", "hash"}, f.Bill):
		return nil, badRequest("bill is drop, extra, amount or hash")
	case f.Code != "" && !faultCode.MatchString(f.Code):
		return nil, badRequest("code is one of WeChat Pay, such as SYSTEM_ERROR")
	case f.Delay < 0 || f.Delay > 3_600_000:
		return nil, badRequest("delay is 0 to 3600000 milliseconds")
	case f.ofNotify() && (f.spoils() || f.Path != ""):
		return nil, badRequest("muteNotify, reorder and delay are of notifies; spoil calls by a fault of their own")
	case f.OutTradeNo != "" && !f.ofNotify():
		return nil, badRequest("outTradeNo goes with muteNotify, reorder or delay")
	case !f.spoils() && !f.ofNotify() && !f.TokenInvalid && !f.TokenExpired:
		return nil, badRequest("name a fault: slow, status, html, errcode, lost, sign, tokenInvalid, tokenExpired, muteNotify, reorder or delay")
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
	if f.spoils() || f.ofNotify() {
		if len(s.faults) >= keep {
			return nil, &controlError{429, "too_many_faults", "DELETE /sim/fault clears them"}
		}
		s.faults = append(s.faults, &f)
	}
	return map[string]any{"ok": true, "waiting": len(s.faults)}, nil
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
		if f.ofNotify() || f.Path != "" && f.Path != path {
			continue
		}
		return s.useFault(i)
	}
	return nil
}

// useFault uses up one count of a fault. Needs s.mu.
func (s *Sim) useFault(i int) *Fault {
	f := s.faults[i]
	f.Times--
	if f.Times == 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	taken := *f
	return &taken
}

// holdBack applies the faults of notifies before the first try. It reports whether the notify is to be sent.
func (s *Sim) holdBack(ctx context.Context, n notice) bool {
	s.mu.Lock()
	var f *Fault
	for i, waiting := range s.faults {
		if waiting.ofNotify() && (waiting.OutTradeNo == "" || waiting.OutTradeNo == n.outTradeNo) {
			f = s.useFault(i)
			break
		}
	}
	var overtaken chan struct{}
	if f != nil && f.Reorder {
		overtaken = make(chan struct{})
		s.held = append(s.held, overtaken)
	}
	s.mu.Unlock()
	switch {
	case f == nil:
		return true
	case f.MuteNotify:
		s.settle(n, "muted")
		return false
	}
	if f.Delay > 0 && !wait(ctx, time.Duration(f.Delay)*time.Millisecond) {
		return false
	}
	if overtaken != nil {
		limit := time.NewTimer(s.scaled(maxReorder))
		defer limit.Stop()
		select {
		case <-overtaken:
		case <-limit.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// letGo wakes the notifies that wait to be overtaken.
func (s *Sim) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, overtaken := range s.held {
		close(overtaken)
	}
	s.held = nil
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
