package web

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wxhub/store"
	"wxhub/wechat"
)

// callbacks are the doors for WeChat's servers. They believe nothing before its signature, store what they
// were told in one transaction, and answer; what follows is the relay's work. Safe for concurrent use.
type callbacks struct {
	appID  string
	db     *store.DB
	pay    wechat.Pay // nil: not configured
	till   *Till
	log    *slog.Logger
	counts *prometheus.CounterVec // by door and result
}

// newCallbacks makes the doors. counts is for the caller to register.
func newCallbacks(o Options, till *Till) *callbacks {
	c := &callbacks{
		appID: o.AppID, db: o.Store, pay: o.Pay, till: till, log: o.Logger,
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxhub_wechat_callbacks_total",
			Help: "Calls of WeChat's servers by door (push, mp, pay, refund) and result; pay conflict is real money that fits no order.",
		}, []string{"door", "result"}),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, door := range []string{"pay", "refund"} {
		c.counts.WithLabelValues(door, "conflict") // there from the start, so that its first increase can alarm
	}
	return c
}

const (
	callbackBytes = 64 << 10               // a push or notify has some hundred bytes to a few KiB
	callbackWait  = 900 * time.Millisecond // for our own store: an answer leaves within a second. WeChat would wait five
)

// readCallback reads the raw bytes, over which WeChat signed. A body that is too large or breaks off is
// answered with a 4xx status.
func readCallback(w http.ResponseWriter, r *http.Request) (body []byte, status int) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, callbackBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	}
	return body, 0
}

// refusal says why a callback is not believed: the word for the counter, and the status.
func refusal(err error) (word string, status int) {
	switch {
	case errors.Is(err, wechat.ErrSignature):
		return "signature", http.StatusUnauthorized
	case errors.Is(err, wechat.ErrStale):
		return "stale", http.StatusUnauthorized
	case errors.Is(err, wechat.ErrUnsealed):
		return "unsealed", http.StatusForbidden
	case errors.Is(err, wechat.ErrDecrypt):
		return "decrypt", http.StatusBadRequest
	case errors.Is(err, wechat.ErrMalformed):
		return "malformed", http.StatusBadRequest
	default:
		return "refused", http.StatusBadRequest
	}
}

// answerCallback writes an answer that nobody caches or guesses at.
func answerCallback(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who hung up asks again
}

// refuse answers a caller that is not believed or cannot be served, with nothing that teaches a forger.
func (c *callbacks) refuse(w http.ResponseWriter, door, result string, status int) {
	c.counts.WithLabelValues(door, result).Inc()
	answerCallback(w, status, "text/plain; charset=utf-8", []byte(http.StatusText(status)))
}
