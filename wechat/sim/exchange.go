package sim

import (
	"net/http"
	"slices"
	"strconv"
)

// Exchange is one push, notify or refused call as it went over the wire, with what its signature was
// made or judged by.
type Exchange struct {
	ID       int64             `json:"id"`
	Kind     string            `json:"kind"` // push, notify or call
	Method   string            `json:"method"`
	URL      string            `json:"url"`              // of a call: the path
	Header   map[string]string `json:"header,omitempty"` // of what was sent
	Body     string            `json:"body"`             // cut to 16 KiB; empty for calls, which may hold secrets
	Inside   string            `json:"inside,omitempty"` // what was sealed in it
	Answer   string            `json:"answer"`           // cut to 4 KiB
	Opened   string            `json:"opened,omitempty"` // what was sealed in the answer
	Evidence *Evidence         `json:"evidence,omitempty"`
	Again    bool              `json:"again"` // can be sent again

	size  int
	again *replay
}

// replay is what is needed to send something again.
type replay struct {
	notice  *notice
	pushed  *pushed
	user    *user
	form    pushForm
	request pushRequest // as it went out
}

const (
	maxExchangeBody = 16 << 10
	maxExchanges    = 32 << 20 // bytes of all
)

// keepExchange keeps one; the oldest are forgotten by number and by size. Needs s.mu.
func (s *Sim) keepExchange(e *Exchange) {
	e.Again = e.again != nil
	if e.again != nil {
		e.size = len(e.again.request.body)
	}
	e.size += len(e.URL) + len(e.Body) + len(e.Inside) + len(e.Answer) + len(e.Opened) + 1024
	if e.Evidence != nil {
		e.size += len(e.Evidence.Signed)
	}
	s.exchanges = append(s.exchanges, e)
	s.exchangeSize += e.size
	drop := 0
	for len(s.exchanges)-drop > 2*keep || s.exchangeSize > maxExchanges {
		s.exchangeSize -= s.exchanges[drop].size
		drop++
	}
	if drop > 0 {
		s.exchanges = slices.Clone(s.exchanges[drop:])
	}
}

// exchange finds one by its number, nil for none. Needs s.mu.
func (s *Sim) exchange(id int64) *Exchange {
	i, found := slices.BinarySearchFunc(s.exchanges, id, func(e *Exchange, id int64) int { return int(e.ID - id) })
	if !found {
		return nil
	}
	return s.exchanges[i]
}

var errNoExchange = &controlError{404, "no_exchange", "nothing of that number is kept; GET /sim/state lists what there is"}

// showExchange is GET /sim/exchange?id=…
func (s *Sim) showExchange(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.URL.Query().Get("id"), 10, 64)
	if err != nil {
		return nil, badRequest("id is a number of an entry of GET /sim/state")
	}
	return s.Exchange(id)
}

// Exchange returns what is kept under the number of an entry. An error says that it is no longer.
func (s *Sim) Exchange(id int64) (Exchange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.exchange(id)
	if e == nil {
		return Exchange{}, errNoExchange
	}
	return *e, nil
}

// sendAgain is POST /sim/replay: the same bytes once more, as a network would repeat them, or the same
// content signed afresh, as the platform repeats it.
func (s *Sim) sendAgain(r *http.Request) (any, error) {
	var req struct {
		ID    int64 `json:"id"`
		Fresh bool  `json:"fresh"`
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	e := s.exchange(req.ID)
	s.mu.Unlock()
	if e == nil || e.again == nil {
		return nil, errNoExchange
	}
	ctx, done := s.during(r)
	defer done()
	var got Answer
	switch again := e.again; {
	case again.notice != nil && req.Fresh:
		got, _ = s.notifyOnce(ctx, *again.notice, notifyForm{}, 1)
	case again.notice != nil:
		got, _ = s.sendNotice(ctx, *again.notice, again.request, notifyForm{forge: "replay"}, 1, e.Evidence)
	case req.Fresh:
		form := again.form
		form.forge, form.skew = "", 0
		got, _ = s.pushOnce(ctx, again.user, *again.pushed, form, 1)
	default:
		form := again.form
		form.forge = "replay"
		got, _ = s.sendPush(ctx, again.user, *again.pushed, form, again.request, 1, e.Evidence)
	}
	return map[string]any{"ok": true, "answer": got}, nil
}

func flatHeader(h http.Header) map[string]string {
	flat := make(map[string]string, len(h))
	for name := range h {
		flat[name] = h.Get(name)
	}
	return flat
}
