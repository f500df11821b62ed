package web

import (
	"strings"

	"wxhub/wechat"
)

// Reply is an auto-reply rule for customer messages. Empty Keyword fits everything.
type Reply struct {
	Keyword string `koanf:"keyword"` // the text contains it
	Text    string `koanf:"text"`    // sent by custom/send
}

// fittingReply finds the first auto-reply rule that a customer's message fits. Events fit none: WeChat
// would count an answer to them by another, smaller quota.
func fittingReply(rules []Reply, m *wechat.PushMessage) (Reply, bool) {
	if m.MsgType == "event" {
		return Reply{}, false
	}
	said := strings.ToLower(m.Content)
	for _, rule := range rules {
		if rule.Text != "" && strings.Contains(said, strings.ToLower(rule.Keyword)) {
			return rule, true
		}
	}
	return Reply{}, false
}
