package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Publish says m in a room, for the server: no rule is asked. It returns when the Broker has appended m.
// ErrRoomName, ErrPayload and ErrMail are the caller's; any other error means that nothing was said, or that it
// is not known: a repeat with the same ID is safe.
func (h *Hub) Publish(ctx context.Context, room string, m Message) (Position, error) {
	if err := h.checkMessage(room, &m); err != nil {
		return Position{}, err
	}
	return h.publish(ctx, room, m)
}

// PublishPaced is Publish within the rate of the room's rule. ErrTooMany: nothing was said, keep it for a moment.
func (h *Hub) PublishPaced(ctx context.Context, room string, m Message) (Position, error) {
	if validRoom(room) && !h.rates.take(room, h.rule(room).Rate, true) {
		return Position{}, fmt.Errorf("hub: publish in %s: %w", room, ErrTooMany)
	}
	return h.Publish(ctx, room, m)
}

func (h *Hub) publish(ctx context.Context, room string, m Message) (Position, error) {
	rule := h.rule(room)
	if h.isMail(rule) {
		return h.post(ctx, room, m)
	}
	if h.ctx.Err() != nil {
		return Position{}, ErrClosed
	}
	at, err := h.broker.Publish(ctx, room, m, rule.Keep)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish in %s: %w", room, err)
	}
	h.published.Add(1)
	return at, nil
}

// A poster is a Mail that takes messages itself. Without it mail is written past the hub, which is then
// told by Ring.
type poster interface {
	Post(ctx context.Context, room string, m Message) (Position, error)
}

func (h *Hub) post(ctx context.Context, room string, m Message) (Position, error) {
	p, ok := h.mail.(poster)
	if !ok {
		if m.Client != "" {
			return Position{}, refusedMail
		}
		return Position{}, ErrMail
	}
	at, err := p.Post(ctx, room, m)
	if err != nil {
		return Position{}, fmt.Errorf("hub: post to %s: %w", room, err)
	}
	h.published.Add(1)
	h.Ring(room)
	return at, nil
}

// Say says m to who is in the room now; it is not kept and has no Offset.
func (h *Hub) Say(ctx context.Context, room string, m Message) error {
	if err := h.checkMessage(room, &m); err != nil {
		return err
	}
	if h.ctx.Err() != nil {
		return ErrClosed
	}
	m.Offset = 0
	if err := h.broker.Say(ctx, room, m); err != nil {
		return fmt.Errorf("hub: say in %s: %w", room, err)
	}
	h.published.Add(1)
	return nil
}

// checkMessage refuses what would break a frame, and says when it was said.
func (h *Hub) checkMessage(room string, m *Message) error {
	if !validRoom(room) {
		return ErrRoomName
	}
	if m.Action == "" || len(m.Payload) > 0 && (!json.Valid(m.Payload) || !utf8.Valid(m.Payload)) {
		return ErrPayload
	}
	if m.At.IsZero() {
		m.At = time.Now()
	}
	return nil
}

// Ring tells that the Mail stream of a room grew: members get what they lack, in order, on every node that
// the Broker reaches, and on this one even if it reaches none. It does not wait.
func (h *Hub) Ring(room string) {
	if !validRoom(room) {
		return
	}
	h.start(func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.patience)
		defer cancel()
		if err := h.broker.Say(ctx, room, Message{Action: ringAction}); err != nil {
			h.log.Warn("other nodes not told of mail", "room", room, "error", err)
			h.deliver(room, "", Message{Action: ringAction})
		}
	})
}
