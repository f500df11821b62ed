package web

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wxhub/wechat"
)

// Calls counts what becomes of calls to WeChat, and raises an alarm for every answer that only a person can mend. Give its
// Observe to wechat's clients, and the Calls to one Server. Safe for concurrent use.
type Calls struct {
	counts *prometheus.CounterVec
	took   *prometheus.HistogramVec

	mu     sync.Mutex             // guards what follows
	alarms map[string]wechat.Call // by subject: what is to be raised; bounded by the number of calls and codes
	wake   chan struct{}          // 1 deep
}

// NewCalls makes an empty count.
func NewCalls() *Calls {
	return &Calls{
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxhub_wechat_calls_total", Help: "Calls to WeChat by API (wechat, pay), call and code (ok, an errcode, timeout, breaker …).",
		}, []string{"api", "call", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxhub_wechat_call_seconds", Help: "How long calls to WeChat took, by API and call.",
			Buckets: []float64{.02, .05, .1, .2, .5, 1, 3, 8},
		}, []string{"api", "call"}),
		alarms: map[string]wechat.Call{}, wake: make(chan struct{}, 1),
	}
}

// Observe is for the clients' options.
func (c *Calls) Observe(call wechat.Call) {
	c.counts.WithLabelValues(call.API, call.Op, call.Code).Inc()
	if call.Took > 0 {
		c.took.WithLabelValues(call.API, call.Op).Observe(call.Took.Seconds())
	}
	if call.Advice != wechat.Alarm {
		return
	}
	c.mu.Lock()
	c.alarms[call.API+" "+call.Op+" "+call.Code] = call
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take gives what is to be raised, once.
func (c *Calls) take() map[string]wechat.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.alarms
	c.alarms = map[string]wechat.Call{}
	return taken
}

const alarmRest = time.Second // between two rounds: an answer that comes a thousand times is one alarm

// raiseCalls raises the alarms of calls until ctx ends. A store that is away is tried again with the next call.
func (s *Server) raiseCalls(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.o.Calls.wake:
		}
		for subject, call := range s.o.Calls.take() {
			raise(ctx, s.o.Store, s.log, alarmCall, subject, "WeChat refuses %s with %s: only a person can mend that", call.Op, call.Code)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(alarmRest):
		}
	}
}
