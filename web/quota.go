package web

import (
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// opens is the window for customer-service messages that a push opens; nil: none. Deeds open a brief one.
func opens(m *wechat.PushMessage) *store.ReplyWindow {
	messages, within := m.ReplyQuota()
	if messages == 0 {
		return nil
	}
	return &store.ReplyWindow{Brief: within < time.Hour, Messages: messages, For: within, At: saidAt(m)}
}
