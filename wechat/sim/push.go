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
	"unicode/utf8"
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
		return fmt.Errorf("push mode %s needs PushAESKey", mode)
	}
	return nil
}

// Push is one try of a message push and what became of it.
type Push struct {
	At     int64  `json:"at"` // ms
	User   string `json:"user"`
	MsgID  string `json:"msgId"`
	Mode   string `json:"mode"`
	Format string `json:"format"`
	Forge  string `json:"forge,omitempty"`
	Try    int    `json:"try"`    // 1 to 3
	Status int    `json:"status"` // 0: no answer
	Answer string `json:"answer"` // as received, cut
	Why    string `json:"why,omitempty"`
	Ms     int64  `json:"ms"`
}

// userText is a text message on its way to the shop.
type userText struct {
	openid  string
	content string
	msgID   int64
	at      time.Time
}

// plain renders the message in one of the two formats.
func (t userText) plain(originalID, format string) []byte {
	if format == formatXML {
		return fmt.Appendf(nil, "<xml><ToUserName>%s</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime>"+
			"<MsgType><![CDATA[text]]></MsgType><Content>%s</Content><MsgId>%d</MsgId></xml>",
			cdata(originalID), cdata(t.openid), t.at.Unix(), cdata(t.content), t.msgID)
	}
	return toJSON(struct {
		ToUserName   string
		FromUserName string
		CreateTime   int64
		MsgType      string
		Content      string
		MsgId        int64
	}{originalID, t.openid, t.at.Unix(), "text", t.content, t.msgID})
}

// cdata wraps text for XML; what XML cannot hold becomes U+FFFD.
func cdata(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || (r >= 0x20 && r != 0xFFFE && r != 0xFFFF) {
			return r
		}
		return utf8.RuneError
	}, text)
	return "<![CDATA[" + strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") + "]]>"
}

// pushForm says how a push is dressed; the zero forge is an honest one.
type pushForm struct {
	url    string
	mode   string
	format string
	forge  string        // "signature" or "body"
	skew   time.Duration // added to the timestamp
}

// pushRequest is a push ready to be sent, and what is needed to judge the answer.
type pushRequest struct {
	url    string
	body   []byte
	header http.Header
}

// dress signs and, by mode, seals one push. Every call has its own nonce and timestamp.
func (s *Sim) dress(t userText, form pushForm) pushRequest {
	plain := t.plain(s.opts.OriginalID, form.format)
	timestamp := strconv.FormatInt(s.opts.Now().Add(form.skew).Unix(), 10)
	nonce := strconv.Itoa(100_000_000 + int(number(random(letters, 8))%900_000_000))
	query := url.Values{
		"signature": {pushSignature(s.opts.PushToken, timestamp, nonce)},
		"timestamp": {timestamp},
		"nonce":     {nonce},
		"openid":    {t.openid},
	}
	body := plain
	if form.mode != modePlain {
		sealed := s.box.seal(random(lowerHex, 16), plain)
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", pushSignature(s.opts.PushToken, timestamp, nonce, sealed))
		if form.forge == "body" {
			sealed = s.box.seal(random(lowerHex, 16), bytes.Replace(plain, []byte(t.content), []byte("x"), 1))
		}
		body = envelope(s.opts.OriginalID, sealed, plain, form)
	} else if form.forge == "body" {
		body = bytes.Replace(plain, []byte(t.openid), []byte(s.openidOf("nobody")), 1)
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
	return pushRequest{url: withQuery(form.url, query), body: body, header: header}
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
	Status int    `json:"status"` // 0: no answer
	Body   string `json:"body"`   // cut to 4 KiB
	Ms     int64  `json:"ms"`
	Error  string `json:"error,omitempty"`  // why there was no answer
	Opened string `json:"opened,omitempty"` // push: the reply inside the seal
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
	got, raw, err := s.exchange(req)
	got.Ms = time.Since(began).Milliseconds()
	if err != nil {
		got = Answer{Ms: got.Ms, Error: reason(err)}
		raw = nil
	}
	return got, raw
}

func (s *Sim) exchange(req *http.Request) (Answer, []byte, error) {
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

// pushResult is what the user and the control side see of a push.
type pushResult struct {
	answer Answer
	shown  string // the system notice, empty when the hub did well
}

// push sends a message to the hub: up to three tries, until one is answered with 200.
func (s *Sim) push(ctx context.Context, u *user, t userText, form pushForm) pushResult {
	var got Answer
	var rep reply
	err := errors.New("not tried")
	for try := 1; try <= pushTries && ctx.Err() == nil; try++ {
		got, rep, err = s.pushOnce(ctx, u, t, form, try)
		if got.Status == http.StatusOK {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result := pushResult{answer: got}
	switch {
	case err != nil:
		result.shown = noticeFailed
		s.say(u, ChatMessage{From: "system", Type: "text", Content: noticeFailed})
	case rep.Type == "transfer_customer_service":
		s.say(u, ChatMessage{From: "system", Type: "text", Content: rep.Content})
	case rep.Type != "":
		s.say(u, ChatMessage{From: "shop", Type: rep.Type, Content: rep.Content})
	}
	return result
}

// pushOnce sends one try and writes it down. The error says why the user would see the notice.
func (s *Sim) pushOnce(ctx context.Context, u *user, t userText, form pushForm, try int) (Answer, reply, error) {
	req := s.dress(t, form)
	got, raw := s.post(ctx, req.url, req.header, req.body)
	var rep reply
	var err error
	switch got.Status {
	case 0:
		err = errors.New(got.Error)
	case http.StatusOK:
		rep, err = s.readReply(raw, t.openid, form)
		got.Opened = rep.opened
	default:
		err = fmt.Errorf("status %d", got.Status)
	}
	entry := Push{At: s.opts.Now().UnixMilli(), MsgID: strconv.FormatInt(t.msgID, 10), Mode: form.mode, Format: form.format,
		Forge: form.forge, Try: try, Status: got.Status, Answer: clip(got.Body, 512), Ms: got.Ms}
	if err != nil {
		entry.Why = err.Error()
	}
	s.mu.Lock()
	entry.User = u.name
	s.pushes.add(entry)
	s.mu.Unlock()
	return got, rep, err
}

// message is POST /sim/message: a person writes to customer service.
func (s *Sim) message(r *http.Request) (any, error) {
	req := struct {
		User    string `json:"user"`
		Type    string `json:"type"`
		Content string `json:"content"`
	}{Type: "text"}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.Type != "text" {
		return nil, &controlError{400, "bad_type", "type is text"}
	}
	if s.opts.PushURL == "" {
		return nil, &controlError{409, "no_push_url", "start the simulator with a push address"}
	}
	u, t, err := s.write(req.User, req.Content, true)
	if err != nil {
		return nil, err
	}
	ctx, done := s.during(r)
	defer done()
	got := s.push(ctx, u, t, pushForm{url: s.opts.PushURL, mode: s.opts.PushMode, format: s.opts.PushFormat})
	return map[string]any{"ok": got.shown == "", "status": got.answer.Status, "answer": got.answer.Body, "shown": got.shown}, nil
}

// write makes a text message of a person; spoken messages appear in the chat and open the reply window.
func (s *Sim) write(name, content string, spoken bool) (*user, userText, error) {
	if strings.TrimSpace(content) == "" || len(content) > maxTextBytes {
		return nil, userText{}, badRequest("content has 1 to 2048 bytes")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(name)
	if err != nil {
		return nil, userText{}, err
	}
	if spoken {
		s.speak(u, content)
	}
	s.lastID = max(s.lastID+1, now.UnixNano())
	return u, userText{openid: u.openid, content: content, msgID: s.lastID, at: now}, nil
}
