package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"wxhub/store"
	"wxhub/wechat"
)

// A door takes the pushes of one account of WeChat. Safe for concurrent use.
type door struct {
	*callbacks
	name     string           // in figures and logs: push, mp
	receiver *wechat.Receiver // nil: not configured
	record   func(*wechat.PushMessage) store.Push
}

var success = []byte("success")

// check answers WeChat's check that this URL is ours: the echostr, as it is.
func (d *door) check(w http.ResponseWriter, r *http.Request) {
	if d.receiver == nil {
		d.refuse(w, d.name, "not_configured", http.StatusServiceUnavailable)
		return
	}
	echostr, err := d.receiver.CheckURL(r.URL.Query())
	if err != nil {
		word, status := refusal(err)
		d.refuse(w, d.name, word, status)
		return
	}
	d.counts.WithLabelValues(d.name, "checked").Inc()
	answerCallback(w, http.StatusOK, "text/plain; charset=utf-8", []byte(echostr))
}

// take takes a message or event: it is verified, stored with all its effects in one transaction, and answered. What
// follows from it is the relay's work, so nothing slow stands between WeChat and its answer. A repeat has no effect and
// gets the first one's answer.
func (d *door) take(w http.ResponseWriter, r *http.Request) {
	if d.receiver == nil {
		d.refuse(w, d.name, "not_configured", http.StatusServiceUnavailable)
		return
	}
	body, status := readCallback(w, r)
	if status != 0 {
		d.refuse(w, d.name, "body", status)
		return
	}
	m, err := d.receiver.Open(r.URL.Query(), body)
	if err != nil {
		word, status := refusal(err)
		d.log.Warn("push refused", "door", d.name, "reason", word, "err", err)
		d.refuse(w, d.name, word, status)
		return
	}
	answer, err := d.store(r.Context(), m)
	switch {
	case errors.Is(err, store.ErrInvalid): // verified, but nothing that a store can hold; sending it again changes nothing
		d.log.Warn("push refused", "door", d.name, "reason", "malformed", "err", err)
		d.refuse(w, d.name, "malformed", http.StatusBadRequest)
		return
	case err != nil:
		d.log.Error("push not stored, WeChat will send it again", "door", d.name, "err", err)
		d.refuse(w, d.name, "fault", http.StatusInternalServerError)
		return
	}
	answer, contentType, err := d.receiver.Answer(m, answer)
	if err != nil {
		d.log.Error("push not answered, WeChat will send it again", "door", d.name, "err", err)
		d.refuse(w, d.name, "fault", http.StatusInternalServerError)
		return
	}
	answerCallback(w, http.StatusOK, contentType, answer)
}

// store keeps m once and returns the answer that the first m got.
func (d *door) store(ctx context.Context, m *wechat.PushMessage) ([]byte, error) {
	// A caller that hangs up does not undo what it told.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait)
	defer cancel()
	answer, first, err := d.db.RecordPush(ctx, d.record(m))
	if err != nil {
		return nil, fmt.Errorf("push %s: %w", pushID(m), err)
	}
	result := "taken"
	if !first {
		result = "repeat"
	}
	d.counts.WithLabelValues(d.name, result).Inc()
	return answer, nil
}

// A desk knows what pushes are to do. It is fixed once made.
type desk struct {
	appID   string
	mpAppID string // of the official account
	mpAsks  bool   // whether WeChat can be asked about followers
	rules   ruleSet

	hooks    []Hook
	failOpen bool // a picture that WeChat could not look at passes
}

// miniPush is what a push of the mini-program does: a customer's word or deed becomes a line of the conversation and is
// told to the staff, and the first rule that fits answers, by customer-service message.
func (d *desk) miniPush(m *wechat.PushMessage) store.Push {
	p := store.Push{Key: pushKey(m), AppID: d.appID, OpenID: m.FromUserName, Answer: success}
	if !ofCustomer(m) {
		p.OpenID = "" // nobody did anything: nobody is made known by it
		return p
	}
	talk := talkOf(m)
	p.Talk, p.Opens = &talk, opens(m)
	rule, answered := d.rules.fitting(miniAccount, m)
	if answered {
		p.Reply = rule.line(talk)
	}
	if rule.Transfer {
		p.Answer = rule.passive(m)
	}
	p.Tell = func(c store.Conversation, u store.User) []store.Telling {
		told := []store.Telling{tellStaff(m, talk, c, u)}
		if answered && !rule.Transfer {
			told = append(told, store.Telling{
				Kind: store.TellCustomSend, To: m.FromUserName, ID: "reply:" + talk.ID, Action: rule.kind(), Payload: payload(rule.custom()),
			})
		}
		return told
	}
	return p
}
