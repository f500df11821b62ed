package hub

import (
	"context"
	"encoding/json"
	"time"
)

// Orders are a stream that every node reads to its end, so that one that was cut off gets them when it is back.
// No room of a client can have this name.
const ordersRoom = "!orders"

var ordersKeep = Keep{Size: 1000, Age: time.Hour}

// An orderBook is where this node stands in the orders.
type orderBook struct {
	kick chan struct{}
	at   Position // owned by the goroutine that obeys
}

func (o *orderBook) nudge() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// Order implements Cluster. This node does not hear it itself.
func (b *RedisBroker) Order(ctx context.Context, order []byte) error {
	_, err := b.Publish(ctx, ordersRoom, Message{ID: newMessageID(), Action: "order", Client: b.node, Payload: json.RawMessage(order), At: time.Now()}, ordersKeep)
	return err
}

// obey reads orders whenever there may be one.
func (b *RedisBroker) obey() {
	known := false
	for {
		if err := b.readOrders(&known); err != nil {
			b.log.Warn("orders cannot be read", "error", err)
			if !b.sleep(b.clock.patience) {
				return
			}
			continue
		}
		select {
		case <-b.ctx.Done():
			return
		case <-b.orders.kick:
		}
	}
}

func (b *RedisBroker) readOrders(known *bool) error {
	at := &b.orders.at
	if !*known { // a node that begins has nobody to whom an earlier order could apply
		heads, err := b.Heads(b.ctx, []string{ordersRoom})
		if err != nil {
			return err
		}
		*at, *known = heads[0], true
	}
	for {
		p, err := b.Read(b.ctx, ordersRoom, Query{After: at.Offset, Limit: 100})
		switch {
		case err != nil:
			return err
		case p.Epoch != at.Epoch:
			*at = Position{Epoch: p.Epoch}
			continue
		case p.Head < at.Offset:
			if err := b.Renew(b.ctx, ordersRoom, *at); err != nil {
				return err
			}
			continue
		}
		for i := range p.Messages {
			if m := &p.Messages[i]; m.Client != b.node {
				b.tell.Load().Obey(m.Payload)
			}
			at.Offset = p.Messages[i].Offset
		}
		if len(p.Messages) == 0 {
			at.Offset = p.Head
			return nil
		}
	}
}
