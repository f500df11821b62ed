package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	modePlain      = "plain"
	modeCompatible = "compatible"
	modeSafe       = "safe"
	formatJSON     = "json"
	formatXML      = "xml"
	pushTries      = 3
)

func checkPushForm(mode, format string, key bool) error {
	switch {
	case mode != modePlain && mode != modeCompatible && mode != modeSafe:
		return fmt.Errorf("push mode %q is not plain, compatible or safe", clip(mode, 32))
	case format != formatJSON && format != formatXML:
		return fmt.Errorf("push format %q is not json or xml", clip(format, 32))
	case mode != modePlain && !key:
		return fmt.Errorf("push mode %s needs an AES key", mode)
	}
	return nil
}

// Push is one try of a message push and what became of it.
type Push struct {
	ID     int64  `json:"id"`
	At     int64  `json:"at"` // ms
	User   string `json:"user"`
	To     string `json:"to"`   // mini or mp
	Type   string `json:"type"` // of the message, or the name of the event
	MsgID  string `json:"msgId,omitempty"`
	Mode   string `json:"mode"`
	Format string `json:"format"`
	Forge  string `json:"forge,omitempty"`
	Try    int    `json:"try"`    // 1 to 3
	Status int    `json:"status"` // 0: no answer
	Answer string `json:"answer"` // as received, cut
	Why    string `json:"why,omitempty"`
	Ms     int64  `json:"ms"`
}

// pushed is a message or event of a person on its way to the shop.
type pushed struct {
	to       *account
	openid   string
	kind     string // MsgType
	fields   []pushField
	msgID    int64 // 0: an event, which has none
	at       time.Time
	textTime bool // CreateTime is a text in JSON, as subscribe events have it
	system   bool // of the platform itself: nobody sees that the hub failed
}

// all are the fields that every push has, those of this one, and MsgId.
func (p pushed) all() []pushField {
	all := append([]pushField{{"ToUserName", p.to.originalID}, {"FromUserName", p.openid}, {"CreateTime", p.at.Unix()}, {"MsgType", p.kind}}, p.fields...)
	if p.msgID != 0 {
		all = append(all, pushField{"MsgId", p.msgID})
	}
	return all
}

// label is what lists call this push.
func (p pushed) label() string {
	for _, f := range p.fields {
		if f.name == "Event" {
			return fmt.Sprint(f.value)
		}
	}
	return p.kind
}

// plain renders the push in one of the two formats.
func (p pushed) plain(format string) []byte {
	if format == formatXML {
		return fmt.Appendf(nil, "<xml>%s</xml>", appendXML(nil, p.all()))
	}
	return p.json()
}

// pushForm says how a push is dressed; the zero forge is an honest one.
type pushForm struct {
	url    string
	mode   string
	format string
	forge  string        // "signature" or "body"
	skew   time.Duration // added to the timestamp
}

// mustFail tells whether a shop that checks takes such a push for forged. In plain mode the signature does not cover the body.
func (f pushForm) mustFail() bool {
	return f.forge == "signature" || f.forge == "body" && f.mode != modePlain
}

func (f pushForm) label() string {
	if f.skew != 0 && f.forge == "" {
		return "skew"
	}
	return f.forge
}

// pushRequest is a push ready to be sent.
type pushRequest struct {
	url    string
	body   []byte
	header http.Header
}

// dress signs and, by mode, seals one push. Every call has its own nonce and timestamp.
func (s *Sim) dress(p pushed, form pushForm) (pushRequest, *Evidence) {
	token := p.to.pushToken
	plain := p.plain(form.format)
	forged := bytes.Replace(plain, []byte(p.openid), []byte(p.to.openidOf("nobody")), 1)
	timestamp := strconv.FormatInt(s.opts.Now().Add(form.skew).Unix(), 10)
	nonce := strconv.Itoa(100_000_000 + int(number(random(letters, 8))%900_000_000))
	query := url.Values{
		"signature": {pushSignature(token, timestamp, nonce)},
		"timestamp": {timestamp},
		"nonce":     {nonce},
		"openid":    {p.openid},
	}
	body, sealed := plain, ""
	if form.mode != modePlain {
		sealed = p.to.box.seal(random(lowerHex, 16), plain)
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", pushSignature(token, timestamp, nonce, sealed))
		if form.forge == "body" {
			sealed = p.to.box.seal(random(lowerHex, 16), forged)
		}
		body = envelope(p.to.originalID, sealed, plain, form)
	} else if form.forge == "body" {
		body = forged
	}
	if form.forge == "signature" {
		for _, name := range []string{"signature", "msg_signature"} {
			if query.Has(name) {
				query.Set(name, random(lowerHex, 40))
			}
		}
	}
	header := http.Header{"User-Agent": {"Mozilla/4.0"}, "Content-Type": {"application/json"}}
	if form.format == formatXML {
		header.Set("Content-Type", "text/xml")
	}
	parts := []string{timestamp, nonce}
	got := query.Get("signature")
	if form.mode != modePlain {
		parts, got = append(parts, sealed), query.Get("msg_signature")
	}
	evidence := evidencePush("push", token, got, body, parts...)
	evidence.ClockMs = form.skew.Milliseconds()
	return pushRequest{url: withQuery(form.url, query), body: body, header: header}, &evidence
}

// envelope is the body of a sealed push; compatible mode keeps the readable fields beside the seal.
func envelope(to, sealed string, plain []byte, form pushForm) []byte {
	switch {
	case form.mode == modeCompatible && form.format == formatXML:
		return fmt.Appendf(nil, "%s<Encrypt>%s</Encrypt></xml>", bytes.TrimSuffix(plain, []byte("</xml>")), cdata(sealed))
	case form.mode == modeCompatible:
		return append(append(bytes.TrimSuffix(plain, []byte("}")), `,"Encrypt":`...), append(toJSON(sealed), '}')...)
	case form.format == formatXML:
		return fmt.Appendf(nil, "<xml><ToUserName>%s</ToUserName><Encrypt>%s</Encrypt></xml>", cdata(to), cdata(sealed))
	}
	return toJSON(struct{ ToUserName, Encrypt string }{to, sealed})
}

// withQuery adds a query to an address that may have one.
func withQuery(address string, q url.Values) string {
	glue := "?"
	if strings.Contains(address, "?") {
		glue = "&"
	}
	return address + glue + q.Encode()
}

// Answer is what a hub said to a push or a notify.
type Answer struct {
	ID     int64  `json:"id,omitempty"` // GET /sim/exchange tells more
	Status int    `json:"status"`       // 0: no answer
	Body   string `json:"body"`         // cut to 4 KiB
	Ms     int64  `json:"ms"`
	Error  string `json:"error,omitempty"`  // why there was no answer
	Opened string `json:"opened,omitempty"` // push: the reply inside the seal
	Reply  *Reply `json:"reply,omitempty"`  // push: the passive reply, opened and read
}

// post sends one push or notify, within the platform's five seconds.
func (s *Sim) post(ctx context.Context, address string, header http.Header, body []byte) (Answer, []byte) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return Answer{Error: "address cannot be used"}, nil
	}
	req.Header = header
	got, raw, err := s.roundTrip(req)
	got.Ms = time.Since(began).Milliseconds()
	if err != nil {
		got = Answer{Ms: got.Ms, Error: reason(err)}
		raw = nil
	}
	return got, raw
}

func (s *Sim) roundTrip(req *http.Request) (Answer, []byte, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{}, nil, err
	}
	defer resp.Body.Close()
	raw, err := readBody(resp.Body, maxAnswer)
	if err != nil {
		return Answer{}, nil, err
	}
	return Answer{Status: resp.StatusCode, Body: clip(string(raw), 4096)}, raw, nil
}

// reason tells why nothing came back, without the address, whose query is signed.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within 5 s"
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return clip(err.Error(), 200)
}

// push sends a message to the hub: up to three tries, until one is answered with 200. It returns the
// system notice that the user sees, empty when the hub did well. A fault may spoil the first try.
func (s *Sim) push(ctx context.Context, u *user, p pushed, form pushForm) (got Answer, shown string) {
	f := s.callbackFault(onPush, "")
	if f == nil {
		f = &Fault{}
	}
	if f.MuteNotify {
		return Answer{Error: "lost by a fault"}, ""
	}
	if !s.holdBack(ctx, onPush, f) {
		return Answer{Error: reason(ctx.Err())}, ""
	}
	err := errors.New("not tried")
	for try := 1; try <= pushTries && ctx.Err() == nil; try++ {
		if try == 1 {
			got, err = s.firstPush(ctx, u, p, form, f)
		} else {
			got, err = s.pushOnce(ctx, u, p, form, try)
		}
		s.letGo(onPush)
		if got.Status == http.StatusOK {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && p.system:
		return got, ""
	case err != nil:
		s.say(u.talk(p.to.mini), ChatMessage{From: "system", Type: "text", Content: p.to.failed})
		return got, p.to.failed
	}
	if !p.system {
		s.show(u.talk(p.to.mini), got.Reply)
	}
	return got, ""
}

// firstPush is the first try, as a fault wants it. The answer is that of the first copy.
func (s *Sim) firstPush(ctx context.Context, u *user, p pushed, form pushForm, f *Fault) (Answer, error) {
	form.forge, form.skew = f.Forge, f.skew()
	if form.forge != "signature" && form.forge != "body" {
		form.forge = ""
	}
	copies := max(f.Copies, 1)
	errs := make([]error, copies)
	answers := Trigger{Times: copies, Parallel: true}.each(func(copy int) Answer {
		got, err := s.pushOnce(ctx, u, p, form, 1)
		errs[copy-1] = err
		return got
	})
	return answers[0], errs[0]
}

// show puts a passive reply into the chat. Needs s.mu.
func (s *Sim) show(t *talk, rep *Reply) {
	if rep == nil {
		return
	}
	m := ChatMessage{From: "shop", Type: rep.Type, Content: rep.Content}
	switch {
	case rep.Type == replyTransfer:
		m.From, m.Type = "system", "text"
	case len(rep.Articles) > 0:
		m.Title, m.Content, m.URL = rep.Articles[0].Title, rep.Articles[0].Description, rep.Articles[0].URL
	}
	s.say(t, m)
}

// pushOnce signs and sends one try and writes it down. The error says why the user would see the notice.
func (s *Sim) pushOnce(ctx context.Context, u *user, p pushed, form pushForm, try int) (Answer, error) {
	req, evidence := s.dress(p, form)
	return s.sendPush(ctx, u, p, form, req, try, evidence)
}

// sendPush sends the bytes of one try and writes down what became of it.
func (s *Sim) sendPush(ctx context.Context, u *user, p pushed, form pushForm, req pushRequest, try int, evidence *Evidence) (Answer, error) {
	got, raw := s.post(ctx, req.url, req.header, req.body)
	var err error
	switch got.Status {
	case 0:
		err = errors.New(got.Error)
	case http.StatusOK:
		got.Reply, got.Opened, err = p.readReply(raw, form)
	default:
		err = fmt.Errorf("status %d", got.Status)
	}
	entry := Push{At: s.opts.Now().UnixMilli(), To: p.to.label(), Type: p.label(), Mode: form.mode, Format: form.format,
		Forge: form.label(), Try: try, Status: got.Status, Answer: clip(got.Body, 512), Ms: got.Ms}
	if p.msgID != 0 {
		entry.MsgID = strconv.FormatInt(p.msgID, 10)
	}
	kept := &Exchange{Kind: "push", Method: http.MethodPost, URL: req.url, Header: flatHeader(req.header), Body: clip(string(req.body), maxExchangeBody),
		Inside: clip(string(p.plain(form.format)), maxExchangeBody), Answer: got.Body, Opened: got.Opened, Evidence: evidence,
		again: &replay{pushed: &p, user: u, form: form, request: req}}
	if err != nil {
		entry.Why = err.Error()
		var wrong *replySignatureError
		if errors.As(err, &wrong) {
			kept.Evidence = &wrong.evidence
		}
	}
	if err == nil && form.mustFail() {
		entry.Why = "taken although it was forged: " + form.forge
	}
	s.mu.Lock()
	entry.ID = s.nextEntry()
	entry.User, kept.ID = u.name, entry.ID
	s.pushes.add(entry)
	s.keepExchange(kept)
	s.mu.Unlock()
	got.ID = entry.ID
	return got, err
}
