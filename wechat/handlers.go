package wechat

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// PushHandlers is a table of who does what about a push. The zero value is ready; it may be filled at any
// time, and is safe for concurrent use.
type PushHandlers struct {
	mu       sync.RWMutex // guards what follows
	handlers []pushHandler
}

type pushHandler struct {
	wants func(*PushMessage, Push) bool
	do    func(context.Context, *PushMessage, Push) ([]byte, error)
}

// HandlePush adds f for every push of type P: HandlePush(h, func(ctx, m, p wechat.EnterSession) …). A reply that
// is not nil answers the push (PushMessage.TextReply …); whoever calls Handle too late for an answer ignores it.
func HandlePush[P Push](h *PushHandlers, f func(ctx context.Context, m *PushMessage, p P) (reply []byte, err error)) {
	h.add(pushHandler{
		wants: func(_ *PushMessage, p Push) bool { _, ok := p.(P); return ok },
		do: func(ctx context.Context, m *PushMessage, p Push) ([]byte, error) {
			return f(ctx, m, p.(P))
		},
	})
}

// HandleKind adds f for a kind as PushMessage.Kind spells it, also for one that this package does not know.
func (h *PushHandlers) HandleKind(kind string, f func(ctx context.Context, m *PushMessage) (reply []byte, err error)) {
	h.add(pushHandler{
		wants: func(m *PushMessage, _ Push) bool { return m.Kind() == kind },
		do:    func(ctx context.Context, m *PushMessage, _ Push) ([]byte, error) { return f(ctx, m) },
	})
}

// HandleAny adds f for every push.
func (h *PushHandlers) HandleAny(f func(ctx context.Context, m *PushMessage) (reply []byte, err error)) {
	h.add(pushHandler{
		wants: func(*PushMessage, Push) bool { return true },
		do:    func(ctx context.Context, m *PushMessage, _ Push) ([]byte, error) { return f(ctx, m) },
	})
}

func (h *PushHandlers) add(one pushHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers = append(h.handlers, one)
}

// Handle lets every handler that wants m have it, in the order in which they were added. The first reply that
// is not nil counts. One handler's error or panic keeps no other from its turn; err joins them all.
func (h *PushHandlers) Handle(ctx context.Context, m *PushMessage) (reply []byte, err error) {
	h.mu.RLock()
	handlers := h.handlers[:len(h.handlers):len(h.handlers)]
	h.mu.RUnlock()
	typed := m.Typed()
	var bad []error
	for _, one := range handlers {
		if !one.wants(m, typed) {
			continue
		}
		r, err := one.guarded(ctx, m, typed)
		if err != nil {
			bad = append(bad, fmt.Errorf("wechat: a handler of %s: %w", m.Kind(), err))
		}
		if reply == nil {
			reply = r
		}
	}
	return reply, errors.Join(bad...)
}

// guarded is do, with a panic as an error: one shop's handler must not take the server down.
func (o pushHandler) guarded(ctx context.Context, m *PushMessage, p Push) (reply []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			reply, err = nil, fmt.Errorf("panic on a %s: %v", reflect.TypeOf(p).Name(), r)
		}
	}()
	return o.do(ctx, m, p)
}
