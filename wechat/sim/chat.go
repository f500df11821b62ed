package sim

import (
	"net/http"
	"strconv"
	"time"
)

// ChatMessage is one line of the customer-service chat on a person's phone.
type ChatMessage struct {
	Seq     int64  `json:"seq"`  // grows by one per person, from 1
	From    string `json:"from"` // user, shop or system
	Type    string `json:"type"` // text, link, or the msgtype of a passive reply
	Content string `json:"content"`
	Title   string `json:"title,omitempty"`
	URL     string `json:"url,omitempty"`
	MediaID string `json:"mediaId,omitempty"`
	Note    string `json:"note,omitempty"` // what WeChat writes below the message
	At      int64  `json:"at"`             // ms
}

// SentMessage is a custom, subscribe or template message that the platform delivered.
type SentMessage struct {
	ID      int64  `json:"id"`
	At      int64  `json:"at"`   // ms
	From    string `json:"from"` // mini or mp
	Kind    string `json:"kind"` // custom, subscribe or template
	User    string `json:"user"`
	Openid  string `json:"openid"`
	Type    string `json:"type"` // msgtype; of subscribe and template messages the template
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
	maxLines     = 100_000        // of all conversations together, at least; at most twice as many
)

// talk is one person's conversation with one account. Guarded by Sim.mu.
type talk struct {
	lines   []ChatMessage
	seq     int64
	more    chan struct{} // closed and replaced with every new line
	spoken  grant         // opened by a message of the user
	brief   grant         // opened by an event
	spokeAt time.Time
	actedAt time.Time // the last message or event of the user
	typing  time.Time // until when the user sees that the shop types
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
	s.forgetLines(t)
	close(t.more)
	t.more = make(chan struct{})
}

// saidLine is one line of any conversation, by age.
type saidLine struct {
	talk *talk
	seq  int64
}

// forgetLines counts the line that was just added, and drops the oldest lines of all conversations
// when they are too many. Needs s.mu.
func (s *Sim) forgetLines(t *talk) {
	s.said = append(s.said, saidLine{t, t.seq})
	if len(s.said) < 2*maxLines {
		return
	}
	for _, old := range s.said[:maxLines] {
		if l := old.talk.lines; len(l) > 0 && l[0].Seq <= old.seq {
			l[0] = ChatMessage{} // the array stays for a while
			old.talk.lines = l[1:]
		}
	}
	s.said = append(s.said[:0:0], s.said[maxLines:]...)
}

// speak writes down that the user said something: it opens the shop's window for answers. Needs s.mu.
func (s *Sim) speak(t *talk, m ChatMessage) {
	now := s.opts.Now()
	t.spokeAt, t.actedAt, t.spoken = now, now, grant{replyQuota, now.Add(replyWindow)}
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
		more, next, typing := t.more, t.seq, t.typing.After(s.opts.Now())
		s.mu.Unlock()
		if len(lines) == 0 && seconds > 0 {
			select {
			case <-more:
				continue
			case <-deadline.C:
			case <-ctx.Done():
			}
		}
		return map[string]any{"messages": lines, "next": next, "typing": typing}, nil
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
