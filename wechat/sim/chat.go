package sim

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// ChatMessage is one line of the customer-service chat on a person's phone.
type ChatMessage struct {
	Seq     int64  `json:"seq"`  // grows by one per person, from 1
	From    string `json:"from"` // user, shop or system
	Type    string `json:"type"` // text, link, or the msgtype of a passive reply
	Content string `json:"content"`
	Title   string `json:"title,omitempty"`
	URL     string `json:"url,omitempty"`
	At      int64  `json:"at"` // ms
}

// SentMessage is a custom message that the platform delivered.
type SentMessage struct {
	At      int64  `json:"at"` // ms
	User    string `json:"user"`
	Openid  string `json:"openid"`
	Type    string `json:"type"`
	Content string `json:"content"`
}

const (
	replyWindow  = 48 * time.Hour // after a message of the user
	replyQuota   = 5              // custom messages in that window
	briefWindow  = time.Minute    // after an event such as entering the session, following, scanning
	enterQuota   = 2              // of the mini-program
	eventQuota   = 3              // of the official account
	maxTextBytes = 2048           // of a custom text message
	maxChatWait  = 60             // seconds of a long poll
)

// talk is one person's conversation with one account. Guarded by Sim.mu.
type talk struct {
	lines   []ChatMessage
	seq     int64
	more    chan struct{} // closed and replaced with every new line
	spoken  grant         // opened by a message of the user
	brief   grant         // opened by an event
	spokeAt time.Time
}

// grant says how many custom messages the shop may still send, and until when.
type grant struct {
	left  int
	until time.Time
}

func (g grant) open(now time.Time) bool { return g.until.After(now) }

func newTalk() *talk { return &talk{more: make(chan struct{})} }

// say adds a line to a conversation and wakes who waits for it. Needs s.mu.
func (s *Sim) say(t *talk, m ChatMessage) {
	t.seq++
	m.Seq, m.At = t.seq, s.opts.Now().UnixMilli()
	if len(t.lines) >= 2*keep {
		t.lines = append(t.lines[:0:0], t.lines[keep:]...)
	}
	t.lines = append(t.lines, m)
	close(t.more)
	t.more = make(chan struct{})
}

// speak writes down that the user said something: it opens the shop's window for answers. Needs s.mu.
func (s *Sim) speak(t *talk, m ChatMessage) {
	now := s.opts.Now()
	t.spokeAt, t.spoken = now, grant{replyQuota, now.Add(replyWindow)}
	m.From = "user"
	s.say(t, m)
}

// chat is GET /sim/chat: what a phone shows, with an optional long poll. account=mp asks for the
// conversation with the official account.
func (s *Sim) chat(r *http.Request) (any, error) {
	q := r.URL.Query()
	after, err := numberParam(q.Get("after"), 1<<62)
	if err != nil {
		return nil, badRequest("after is the next of the answer before")
	}
	seconds, err := numberParam(q.Get("wait"), maxChatWait)
	if err != nil {
		return nil, badRequest("wait is 0 to 60 seconds")
	}
	if a := q.Get("account"); a != "" && a != "mini" && a != "mp" {
		return nil, badRequest("account is mini or mp")
	}
	ctx, done := s.during(r)
	defer done()
	deadline := time.NewTimer(time.Duration(seconds) * time.Second)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		u, err := s.byName(q.Get("user"))
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		t := u.talk(q.Get("account") != "mp")
		lines := []ChatMessage{}
		for i := max(0, len(t.lines)-keep); i < len(t.lines); i++ {
			if t.lines[i].Seq > after {
				lines = append(lines, t.lines[i])
			}
		}
		more, next := t.more, t.seq
		s.mu.Unlock()
		if len(lines) == 0 && seconds > 0 {
			select {
			case <-more:
				continue
			case <-deadline.C:
			case <-ctx.Done():
			}
		}
		return map[string]any{"messages": lines, "next": next}, nil
	}
}

// numberParam reads a number of a query; empty is 0.
func numberParam(text string, highest int64) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > highest {
		return 0, strconv.ErrRange
	}
	return n, nil
}

// customSend is POST /cgi-bin/message/custom/send of either app.
func (s *Sim) customSend(c apiCall) (any, *apiError) {
	to, msg, e := parseCustomMessage(c.body)
	if e == nil && msg.Type == "link" && !c.from.mini {
		e = apiErr(40008, "invalid message type")
	}
	if e == nil {
		e = s.deliver(c.from, to, msg)
	}
	if e != nil {
		return nil, e
	}
	return apiError{0, "ok"}, nil
}

// parseCustomMessage checks the body rules of custom/send.
func parseCustomMessage(body []byte) (to string, m ChatMessage, e *apiError) {
	f, err := parseFields(body)
	if err != nil {
		return "", m, apiErr(47001, "data format error")
	}
	if escape := needlessEscape(body); escape != "" {
		return "", m, apiErr(47001, "data format error: send raw UTF-8, not "+escape)
	}
	to, m.Type, m.From = f.text("touser", false, 128), f.text("msgtype", false, 64), "shop"
	if f.fault() != nil {
		return "", m, apiErr(47001, "data format error")
	}
	part := f.object(m.Type, false)
	switch m.Type {
	case "text":
		m.Content = part.text("content", false, maxBody)
		switch {
		case f.fault() != nil:
			e = apiErr(47001, "data format error")
		case m.Content == "":
			e = apiErr(44004, "empty content")
		case len(m.Content) > maxTextBytes:
			e = apiErr(45002, "content size out of limit")
		}
	case "link":
		m.Title, m.Content = part.text("title", true, 128), part.text("description", true, 512)
		m.URL = part.text("url", true, 1024)
		part.text("thumb_url", true, 1024)
		if f.fault() != nil || !strings.HasPrefix(m.URL, "http") {
			e = apiErr(40097, "invalid args")
		}
	case "image", "miniprogrampage":
		e = apiErr(40007, "invalid media_id") // no upload has happened, so there is none
	default:
		e = apiErr(40008, "invalid message type")
	}
	if e == nil && to == "" {
		e = apiErr(40003, "invalid openid")
	}
	return to, m, e
}

var unicodeEscape = regexp.MustCompile(`\\(\\|u([0-9a-fA-F]{4}))`)

// needlessEscape finds the first \uXXXX of a character that JSON does not force to be escaped.
// U+2028 and U+2029 are allowed, because common encoders always escape them.
func needlessEscape(body []byte) string {
	for _, m := range unicodeEscape.FindAllSubmatch(body, -1) {
		if len(m[2]) == 0 {
			continue // an escaped backslash
		}
		n, err := strconv.ParseUint(string(m[2]), 16, 16)
		r := rune(n)
		if err != nil || r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			continue
		}
		if r >= 0x20 || utf16.IsSurrogate(r) {
			return string(m[0])
		}
	}
	return ""
}

// deliver puts a custom message into the chat of its receiver, within the quota.
func (s *Sim) deliver(from *account, to string, m ChatMessage) *apiError {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.receiver(from, to)
	if u == nil {
		return apiErr(40003, "invalid openid")
	}
	t := u.talk(from.mini)
	switch {
	case !from.mini && u.followedAt.IsZero():
		return apiErr(43004, "require subscribe")
	case !t.spoken.open(now) && !t.brief.open(now):
		return apiErr(45015, "response out of time limit or subscription is canceled")
	case t.brief.open(now) && t.brief.left > 0:
		t.brief.left--
	case t.spoken.open(now) && t.spoken.left > 0:
		t.spoken.left--
	default:
		return apiErr(45047, "out of response count limit")
	}
	s.say(t, m)
	s.sent.add(SentMessage{At: now.UnixMilli(), User: u.name, Openid: to, Type: m.Type, Content: clip(m.Content+m.URL, 2048)})
	return nil
}
