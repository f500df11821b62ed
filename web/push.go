package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"wxhub/store"
	"wxhub/wechat"
)

// checkPush answers WeChat's check that this URL is ours (GET /wechat/push): the echostr, as it is.
func (c *callbacks) checkPush(w http.ResponseWriter, r *http.Request) {
	if c.push == nil {
		c.refuse(w, "push", "not_configured", http.StatusServiceUnavailable)
		return
	}
	echostr, err := c.push.CheckURL(r.URL.Query())
	if err != nil {
		word, status := refusal(err)
		c.refuse(w, "push", word, status)
		return
	}
	c.counts.WithLabelValues("push", "checked").Inc()
	answerCallback(w, http.StatusOK, "text/plain; charset=utf-8", []byte(echostr))
}

// receivePush takes a message or event of WeChat's message push (POST /wechat/push): it is verified, stored with all
// its effects in one transaction, and answered. What follows from it is the relay's work, so nothing slow
// stands between WeChat and its answer. A repeat has no effect and gets the first one's answer.
func (c *callbacks) receivePush(w http.ResponseWriter, r *http.Request) {
	if c.push == nil {
		c.refuse(w, "push", "not_configured", http.StatusServiceUnavailable)
		return
	}
	body, status := readCallback(w, r)
	if status != 0 {
		c.refuse(w, "push", "body", status)
		return
	}
	m, err := c.push.Open(r.URL.Query(), body)
	if err != nil {
		word, status := refusal(err)
		c.log.Warn("push refused", "reason", word, "err", err)
		c.refuse(w, "push", word, status)
		return
	}
	answer, err := c.recordPush(r.Context(), m)
	switch {
	case errors.Is(err, store.ErrInvalid): // verified, but nothing that a store can hold; sending it again changes nothing
		c.log.Warn("push refused", "reason", "malformed", "err", err)
		c.refuse(w, "push", "malformed", http.StatusBadRequest)
		return
	case err != nil:
		c.log.Error("push not stored, WeChat will send it again", "err", err)
		c.refuse(w, "push", "fault", http.StatusInternalServerError)
		return
	}
	answer, contentType, err := c.push.Answer(m, answer)
	if err != nil {
		c.log.Error("push not answered, WeChat will send it again", "err", err)
		c.refuse(w, "push", "fault", http.StatusInternalServerError)
		return
	}
	answerCallback(w, http.StatusOK, contentType, answer)
}

// recordPush stores m once and returns the answer that the first m got.
func (c *callbacks) recordPush(ctx context.Context, m *wechat.PushMessage) ([]byte, error) {
	// A caller that hangs up does not undo what it told.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackWait)
	defer cancel()
	p := store.Push{Key: pushKey(m), AppID: c.appID, OpenID: m.FromUserName, Answer: []byte("success")}
	if ofCustomer(m) {
		talk := talkOf(m)
		p.Talk, p.Tell = &talk, tellPush(m, c.replies)
	}
	answer, first, err := c.db.RecordPush(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("push %s: %w", pushID(m), err)
	}
	result := "taken"
	if !first {
		result = "repeat"
	}
	c.counts.WithLabelValues("push", result).Inc()
	return answer, nil
}
