package hub

import (
	"context"
	"time"
)

// Keep says how much of a room's stream stays readable.
type Keep struct {
	Size int           // messages; 0: none
	Age  time.Duration // 0: no bound by age
}

// A Broker holds the streams of rooms and carries what is said to every node that subscribed.
type Broker interface {
	Stream
	// Publish appends m to the room's stream and announces it, as one step: nobody sees one
	// without the other. A repeated m.ID returns the Position that it got the first time.
	Publish(ctx context.Context, room string, m Message, keep Keep) (Position, error)
	// Say announces m without keeping it: it has no Offset, and who is away misses it.
	Say(ctx context.Context, room string, m Message) error
	// Listen sets who is told; called once, by New, before Subscribe. For one room the calls come
	// one after the other, in Offset order. deliver does not block.
	Listen(deliver func(room, epoch string, m Message))
	// Subscribe returns when messages published from now on will be delivered here. Other rooms may be
	// delivered too.
	Subscribe(ctx context.Context, room string) error
	// Unsubscribe takes back the last Subscribe, also one that failed. It waits for nothing, above all not for deliver.
	Unsubscribe(room string)
	Close() error
}
