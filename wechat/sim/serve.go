package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Call is one request to the platform side, without its query, which may hold a secret.
type Call struct {
	ID     int64  `json:"id"`
	At     int64  `json:"at"` // ms
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"` // HTTP; 0: the answer was lost on purpose
	Code   string `json:"code"`   // errcode or v3 code of a refusal, else empty
	Note   string `json:"note,omitempty"`
	Ms     int64  `json:"ms"`
	Why    bool   `json:"why,omitempty"` // GET /sim/exchange shows why its signature did not match
}

// ServeHTTP answers as WeChat, and under /sim as the people and the consoles.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.ctx.Err() != nil {
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	s.routes.ServeHTTP(w, r)
}

// outcome is what the list of calls keeps of an answer.
type outcome struct {
	code     string
	note     string
	evidence *Evidence // of a signature that did not match
}

// platformCall puts the faults in front of a platform handler and writes down what was answered.
func (s *Sim) platformCall(h func(http.ResponseWriter, *http.Request) outcome) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		got := outcome{}
		fault := s.takeFault(r.URL.Path)
		lost := false
		switch {
		case fault == nil:
			got = h(sw, r)
		case !s.applyFault(sw, r, fault):
			got = outcome{code: "fault", note: "answered by a fault"}
		case fault.Lost:
			lost = true
			got = h(&statusWriter{ResponseWriter: discard{http.Header{}}}, r)
		default:
			got = h(sw, withFault(r, fault))
		}
		call := Call{At: s.opts.Now().UnixMilli(), Method: r.Method, Path: clip(r.URL.Path, 128), Status: sw.status,
			Code: got.code, Note: got.note, Ms: time.Since(began).Milliseconds()}
		if lost {
			call.Status, call.Note = 0, "answer lost by a fault"
		}
		s.keepCall(call, got.evidence)
		if got.code != "" {
			s.opts.Logger.Debug("wechat refused a call", "path", call.Path, "code", got.code, "why", got.note)
		}
		if lost {
			panic(http.ErrAbortHandler) // cuts the connection
		}
	})
}

// keepCall writes down a call, and why its signature was refused.
func (s *Sim) keepCall(c Call, why *Evidence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ID = s.nextEntry()
	if why != nil {
		c.Why = true
		s.keepExchange(&Exchange{ID: c.ID, Kind: "call", Method: c.Method, URL: c.Path, Answer: c.Note, Evidence: why})
	}
	s.calls.add(c)
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// discard is a ResponseWriter that goes nowhere.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// apiError is the errcode form of api.weixin.qq.com.
type apiError struct {
	Code    int    `json:"errcode"`
	Message string `json:"errmsg"`
}

func apiErr(code int, message string) *apiError { return &apiError{code, message} }

// answerAPI writes v, or the error when there is one, always with status 200 unless one was written.
func (s *Sim) answerAPI(w http.ResponseWriter, e *apiError, v any) outcome {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	if e == nil {
		_, _ = w.Write(toJSON(v))
		return outcome{}
	}
	rid := random(lowerHex, 8) + "-" + random(lowerHex, 8) + "-" + random(lowerHex, 8)
	_, _ = w.Write(toJSON(apiError{e.Code, e.Message + " rid: " + rid}))
	return outcome{code: fmt.Sprint(e.Code), note: e.Message}
}

// controlError is a refusal of the control side.
type controlError struct {
	status  int
	word    string // for programs
	message string // for people, with the next step
}

func (e *controlError) Error() string { return e.word + ": " + e.message }

func badRequest(message string) error { return &controlError{400, "bad_request", message} }

func allowAnyOrigin(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Content-Type")
}

// control wraps a call of the control side: JSON in and out, any origin, errors with a word.
func (s *Sim) control(h func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowAnyOrigin(w)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		v, err := h(r)
		if err == nil {
			_, _ = w.Write(toJSON(v))
			return
		}
		var refused *controlError
		if !errors.As(err, &refused) {
			s.opts.Logger.Error("control call failed", "path", r.URL.Path, "error", err)
			refused = &controlError{500, "internal", "the simulator failed; see its log"}
		}
		w.WriteHeader(refused.status)
		_, _ = w.Write(toJSON(map[string]any{"ok": false, "error": refused.word, "message": refused.message}))
	})
}

// decode reads the JSON body of a control call. Unknown fields are refused: they are typing mistakes.
func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badRequest("send one JSON object: " + clip(strings.TrimPrefix(err.Error(), "json: "), 200))
	}
	return nil
}

// clip cuts s to at most n bytes for lists and messages, between characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
