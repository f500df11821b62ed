package web

import (
	"context"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are this server's own; nothing is global.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxhub_http_request_seconds", Help: "HTTP requests by method, route and status.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1, 5},
		}, []string{"method", "route", "status"}),
	}
	m.registry.MustRegister(m.requests, s.callbacks.counts, s.alarms, s.o.Calls.counts, s.o.Calls.took, hubFigures{s}, alarmFigures{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// served counts one request. Methods and routes are of a bounded set, whatever is asked for.
func (m *metrics) served(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
	default:
		method = "other"
	}
	if route == "" || status == http.StatusNotFound {
		route = "none"
	}
	if status == 0 { // a socket took the connection over
		status = http.StatusSwitchingProtocols
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// hubFigures reads the hub and the outbox when somebody asks.
type hubFigures struct{ s *Server }

var (
	desc = func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	socketsNow     = desc("wxhub_sockets", "Open sockets.")
	usersNow       = desc("wxhub_users", "Users with at least one socket.")
	roomsNow       = desc("wxhub_rooms", "Rooms with members here.")
	publishedTotal = desc("wxhub_published_total", "Messages accepted.")
	deliveredTotal = desc("wxhub_delivered_total", "Message and socket pairs handed over.")
	writtenTotal   = desc("wxhub_writes_total", "System calls made for deliveries.")
	slowTotal      = desc("wxhub_slow_readers_total", "Sockets closed because they read too slowly.")
	badFramesTotal = desc("wxhub_bad_frames_total", "Frames of clients that made no sense.")
	closedTotal    = desc("wxhub_closed_total", "Sockets closed, by code.", "code")
	recoveredTotal = desc("wxhub_recoveries_total", "Joins with a position, by result.", "recovered")
	mailHeadsTotal = desc("wxhub_mail_heads_total", "Mailboxes whose position was read for sockets that came.")
	mailHeadsAsked = desc("wxhub_mail_head_batches_total", "Questions to the database in which they were read.")
	brokerUp       = desc("wxhub_broker_up", "1: what this node says is seen to come round to it; without Redis always.")
	brokerSilent   = desc("wxhub_broker_silent_seconds", "Since the last round trip over the subscription that is worst off.")
	brokerReplaced = desc("wxhub_broker_subscriptions_replaced_total", "Subscriptions to Redis that broke and were replaced.")
	outboxWaiting  = desc("wxhub_outbox_waiting", "What committed and was not yet relayed.")
	outboxDead     = desc("wxhub_outbox_dead", "What the relay gave up.")
	outboxLag      = desc("wxhub_outbox_lag_seconds", "Age of the oldest waiting row.")
)

// what became of mail, by MailCounts.
var (
	mailTotal        = desc("wxhub_mail_total", "What this process did with mail: stored, relayed, written, acknowledged, expired.", "event")
	fallbacksTotal   = desc("wxhub_fallbacks_total", "Mail told by WeChat: custom, subscribe; refused, unknown; held for want of a quota or grant.", "result")
	fallbacksNow     = desc("wxhub_fallbacks", "Fallbacks that have not ended, by state.", "state")
	fallbackLag      = desc("wxhub_fallback_lag_seconds", "How long the oldest due fallback waits.")
	outboxKindNow    = desc("wxhub_outbox_kind_waiting", "What committed and was not yet relayed, by kind.", "kind")
	outboxKindLag    = desc("wxhub_outbox_kind_lag_seconds", "How long the oldest row of a kind is overdue.", "kind")
	relayedTotal     = desc("wxhub_relayed_total", "Outbox rows that this process relayed, by kind.", "kind")
	relaySecondTotal = desc("wxhub_relay_seconds_total", "Time from their commit to their end, added up, by kind.", "kind")
	relayGivenUp     = desc("wxhub_relay_given_up_total", "Outbox rows that this process gave up, by kind.", "kind")
	relayRetries     = desc("wxhub_relay_retries_total", "Outbox rows that this process will try again, by kind.", "kind")
)

// mail reads what became of mail.
func (f hubFigures) mail(ctx context.Context, ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	c := f.s.o.Store.MailCounts()
	for event, n := range map[string]uint64{"stored": c.Stored, "relayed": c.Relayed, "written": c.Written, "acknowledged": c.Acked, "expired": c.Expired} {
		count(mailTotal, float64(n), event)
	}
	for result, n := range map[string]uint64{"custom": c.CustomSent, "subscribe": c.SubscribeSent, "refused": c.Refused, "unknown": c.Unknown, "held": c.Held} {
		count(fallbacksTotal, float64(n), result)
	}
	if stats, err := f.s.o.Store.FallbackStats(ctx); err == nil {
		gauge(fallbacksNow, float64(stats.Waiting), "waiting")
		gauge(fallbacksNow, float64(stats.Sending), "sending")
		gauge(fallbacksNow, float64(stats.Held), "held")
		gauge(fallbackLag, since(stats.Oldest))
	}
	if j := f.s.relay.Load(); j != nil {
		for kind, k := range j.Stats() {
			count(relayedTotal, float64(k.Relayed), string(kind))
			count(relaySecondTotal, k.Took.Seconds(), string(kind))
			count(relayGivenUp, float64(k.GivenUp), string(kind))
			count(relayRetries, float64(k.Retries), string(kind))
		}
	}
}

// since is the age of a moment in seconds; of none, 0.
func since(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, time.Since(at).Seconds())
}

// Describe is for prometheus.Collector.
func (f hubFigures) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

// Collect is for prometheus.Collector.
func (f hubFigures) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	h := f.s.o.Hub.Stats()
	gauge(socketsNow, float64(h.Sockets))
	gauge(usersNow, float64(h.Users))
	gauge(roomsNow, float64(h.Rooms))
	count(publishedTotal, h.Published)
	count(deliveredTotal, h.Delivered)
	count(writtenTotal, h.Written)
	count(slowTotal, h.Dropped)
	count(badFramesTotal, h.BadFrames)
	count(recoveredTotal, h.Recovered, "true")
	count(recoveredTotal, h.NotRecovered, "false")
	count(mailHeadsTotal, h.MailHeads)
	count(mailHeadsAsked, h.MailHeadBatches)
	for code, n := range h.Closed {
		count(closedTotal, n, strconv.Itoa(code))
	}
	up := 1.0
	if f.s.o.Hub.Healthy() != nil {
		up = 0
	}
	gauge(brokerUp, up)
	if b, ok := f.s.o.Hub.BrokerState(); ok {
		gauge(brokerSilent, b.Silent.Seconds())
		count(brokerReplaced, b.Replaced)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	outbox, err := f.s.o.Store.OutboxStats(ctx)
	if err != nil {
		return // readiness and the log tell of it
	}
	gauge(outboxWaiting, float64(outbox.Waiting))
	gauge(outboxDead, float64(outbox.Dead))
	gauge(outboxLag, since(outbox.Oldest))
	for kind, k := range outbox.Kinds {
		ch <- prometheus.MustNewConstMetric(outboxKindNow, prometheus.GaugeValue, float64(k.Waiting), string(kind))
		ch <- prometheus.MustNewConstMetric(outboxKindLag, prometheus.GaugeValue, since(k.Due), string(kind))
	}
	f.mail(ctx, ch)
}

// consistency compares the hub's own maps, for load runs: 200 when they agree, else 500 with what does not. Ask while
// nothing comes and goes; a socket on its way in may look like a fault.
func (s *Server) consistency(w http.ResponseWriter, r *http.Request) {
	if e := admins.admit(requestOf(r.Context())); e != nil {
		s.fail(w, r, e)
		return
	}
	if err := s.o.Hub.CheckConsistency(); err != nil {
		plain(w, http.StatusInternalServerError, err.Error()+"\n")
		return
	}
	plain(w, http.StatusOK, "consistent\n")
}

// pprof serves Go's profiles to admins and API keys. gc=1 on the heap profile collects garbage first.
func (s *Server) pprof() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", http.NotFound) // arguments are nobody's business
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := admins.admit(requestOf(r.Context())); e != nil {
			s.fail(w, r, e)
			return
		}
		if r.URL.Path == "/debug/pprof/heap" && r.URL.Query().Get("gc") != "" {
			runtime.GC()
		}
		mux.ServeHTTP(w, r)
	})
}
