package hub

import (
	"context"
	"encoding/json"
	"time"
)

// A Message is what is said in a room. No field depends on who receives it.
type Message struct {
	ID      string          // names the message: a room takes one ID once; empty: the Broker makes one
	Action  string          // what it is about: "purchase", "order.paid"
	Payload json.RawMessage // valid JSON; reaches every client byte for byte
	At      time.Time       // when it was said; on the wire milliseconds
	Client  string          // the connection that said it; empty: the server
	Target  string          // the event name that a Socket.IO client chose; usually empty
	Fresh   bool            // the ID was made for this message and nobody can have said it before: the room need not remember it
	Offset  uint64          // its place in the stream, from 1 without holes; 0: live only, not kept
}

// A Position is a place in the stream of one room.
type Position struct {
	Epoch  string // names the stream's life: Offsets of two Epochs have nothing to do with each other
	Offset uint64 // of the newest message seen; 0: none yet
}

// A Query asks for a piece of a stream.
type Query struct {
	After  uint64 // messages with a greater Offset
	Before uint64 // Hub.History only, which asks the Stream otherwise: the last Limit messages with a smaller Offset; 0: not set
	Newest bool   // the last Limit messages instead; After still bounds them
	Limit  int    // at most so many; the stream may give fewer and says so by Page.Head
}

// A Page is a piece of a stream, in Offset order, and where the stream stands.
type Page struct {
	Epoch    string
	First    uint64 // Offset of the oldest message that is kept; Head+1 when nothing is
	Head     uint64 // Offset of the newest message
	Messages []Message
}

// A Stream can be read: by Position, forwards, or its newest part. It says nothing of announcing.
type Stream interface {
	// Heads tells where each of the rooms stands. A room in which nothing was said has Offset 0.
	Heads(ctx context.Context, rooms []string) ([]Position, error)
	// Read returns the piece that q asks for.
	Read(ctx context.Context, room string, q Query) (Page, error)
}

// Mail is the stream of the rooms "user:ID", whose messages somebody else keeps (a database).
// The hub is told by Ring that it grew, and reads what it lacks.
type Mail interface {
	Stream
	// Acked tells up to which Offset the user of each room has acknowledged.
	Acked(ctx context.Context, rooms []string) ([]uint64, error)
	// Ack records that the user of the room has received everything up to offset. Smaller than before: no effect.
	Ack(ctx context.Context, room string, offset uint64) error
}
