package hub

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	metaAge      = 30 * 24 * time.Hour // a room that is silent for longer begins another life
	emptyAge     = 24 * time.Hour      // … one in which nothing was ever said
	batchPosts   = 512                 // messages that share a round trip
	batchPayload = 1 << 20             // … and their bytes
	waitingPosts = 8192                // above it publishing is refused at once
	awayPause    = 300 * time.Millisecond
)

// A publisher joins the messages of many callers: a lone one goes out at once, carried by its caller; those that come
// while it is on its way go together in the next round trip.
type publisher struct {
	broker *RedisBroker

	mu      sync.Mutex
	waiting []*post
	running bool
}

// A post is a message on its way to Redis.
type post struct {
	script *script // nil: it is only said
	args   []any   // the command: of a script EVALSHA, its name, how many keys, keys and arguments
	size   int

	at   Position
	err  error
	done chan struct{} // nil: its caller carries it
}

// Publish implements Broker. It returns within a second, with ErrAway if Redis did not answer.
func (b *RedisBroker) Publish(ctx context.Context, room string, m Message, keep Keep) (Position, error) {
	part := b.part(room)
	args := append(make([]any, 0, 13), "evalsha", publishScript.sha, 2, part.stream(room), part.meta(room))
	if m.ID == "" {
		m.ID = newMessageID()
	} else if !m.Fresh {
		args = append(args, part.idempotent(room, m.ID))
		args[2] = 3
	}
	command := "PUBLISH"
	if b.sharded {
		command = "SPUBLISH"
	}
	body := appendBody(make([]byte, 0, len(m.Payload)+96), &m)
	p := &post{script: publishScript, size: len(body),
		args: append(args, room, body, newEpoch(), max(0, keep.Size), max(0, keep.Age.Milliseconds()), command, b.channel(room))}
	if err := b.post(ctx, room, p); err != nil {
		return Position{}, err
	}
	return p.at, nil
}

// Say implements Broker.
func (b *RedisBroker) Say(ctx context.Context, room string, m Message) error {
	text := appendAnnouncement(make([]byte, 0, len(room)+len(m.Payload)+96), room, &m)
	command := "publish"
	if b.sharded {
		command = "spublish"
	}
	return b.post(ctx, room, &post{size: len(text), args: []any{command, b.channel(room), text}})
}

func (b *RedisBroker) post(ctx context.Context, room string, p *post) error {
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	if time.Now().UnixNano() < b.awayTo.Load() {
		return ErrAway
	}
	pub := &b.posts[0]
	if b.sharded {
		pub = &b.posts[partitionOf(room)]
	}
	pub.mu.Lock()
	if len(pub.waiting) >= waitingPosts {
		pub.mu.Unlock()
		return ErrAway
	}
	if !pub.running { // nobody is on the way: the caller goes
		pub.running = true
		pub.mu.Unlock()
		b.carry(p)
		pub.handOver()
		return p.err
	}
	p.done = make(chan struct{})
	pub.waiting = append(pub.waiting, p)
	pub.mu.Unlock()
	t := time.NewTimer(b.clock.patience)
	defer t.Stop()
	select {
	case <-p.done:
		return p.err
	case <-t.C:
	case <-ctx.Done():
	}
	pub.withdraw(p)
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return ErrAway
}

// withdraw takes back what nobody waits for any more, if it is not on its way yet.
func (pub *publisher) withdraw(p *post) {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	for i := range pub.waiting {
		if pub.waiting[i] == p {
			pub.waiting = append(pub.waiting[:i:i], pub.waiting[i+1:]...)
			return
		}
	}
}

// handOver ends the caller's turn: those who came meanwhile go on a task's.
func (pub *publisher) handOver() {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	if len(pub.waiting) > 0 && pub.broker.start(pub.run) {
		return
	}
	for _, p := range pub.waiting { // the broker has ended
		p.err = ErrClosed
		close(p.done)
	}
	pub.waiting, pub.running = nil, false
}

func (pub *publisher) run() {
	for {
		pub.mu.Lock()
		n, size := 0, 0
		for n < len(pub.waiting) && n < batchPosts && (n == 0 || size < batchPayload) {
			size += pub.waiting[n].size
			n++
		}
		batch := append([]*post(nil), pub.waiting[:n]...)
		pub.waiting = pub.waiting[n:]
		if n == 0 {
			pub.waiting, pub.running = nil, false
			pub.mu.Unlock()
			return
		}
		pub.mu.Unlock()
		pub.broker.send(batch)
	}
}

// carry sends one post. It takes no longer than a caller may wait.
func (b *RedisBroker) carry(p *post) {
	ctx := b.soon()
	cmd := p.command(ctx)
	err := b.client.Process(ctx, cmd)
	if isUnknownScript(err) {
		cmd = p.withText(ctx)
		_ = b.client.Process(ctx, cmd)
	}
	b.settle(p, cmd)
}

// send sends a batch and answers its callers.
func (b *RedisBroker) send(batch []*post) {
	ctx := b.soon()
	pipe := b.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, p := range batch {
		cmds[i] = p.command(ctx)
		_ = pipe.Process(ctx, cmds[i])
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	pipe = nil
	for i, p := range batch {
		if isUnknownScript(cmds[i].Err()) {
			if pipe == nil {
				pipe = b.client.Pipeline()
			}
			cmds[i] = p.withText(ctx)
			_ = pipe.Process(ctx, cmds[i])
		}
	}
	if pipe != nil {
		_, _ = pipe.Exec(ctx)
	}
	for i, p := range batch {
		b.settle(p, cmds[i])
		close(p.done)
	}
}

func (p *post) command(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx, p.args...)
	if p.script != nil {
		cmd.SetFirstKeyPos(3)
	}
	return cmd
}

// withText is the command for a Redis that did not know the script: it did nothing.
func (p *post) withText(ctx context.Context) *redis.Cmd {
	p.args[0], p.args[1] = "eval", p.script.text
	return p.command(ctx)
}

// settle says what became of a post.
func (b *RedisBroker) settle(p *post, cmd *redis.Cmd) {
	if p.script != nil {
		p.at, p.err = position(cmd)
	} else {
		p.err = cmd.Err()
	}
	if p.err == nil {
		return
	}
	if !isReply(p.err) {
		b.awayTo.Store(time.Now().Add(awayPause).UnixNano())
	}
	p.err = b.fault(p.err)
}

// Heads implements Stream.
func (b *RedisBroker) Heads(ctx context.Context, rooms []string) ([]Position, error) {
	calls := make([]call, len(rooms))
	for i, room := range rooms {
		part := b.part(room)
		calls[i] = call{headScript, []string{part.stream(room), part.meta(room)}, []any{newEpoch(), emptyAge.Milliseconds(), metaAge.Milliseconds()}}
	}
	cmds, err := b.runAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	list := make([]Position, len(rooms))
	for i := range cmds {
		if list[i], err = position(cmds[i]); err != nil {
			return nil, b.fault(err)
		}
	}
	return list, nil
}

func parsePage(cmd *redis.Cmd, newest bool) (p Page, err error) {
	at, err := position(cmd)
	if err != nil {
		return p, err
	}
	list, _ := cmd.Slice()
	if len(list) != 4 {
		return p, errBody
	}
	first, ok1 := list[2].(int64)
	entries, ok2 := list[3].([]any)
	if !ok1 || !ok2 || first < 1 {
		return p, errBody
	}
	p = Page{Epoch: at.Epoch, Head: at.Offset, First: uint64(first), Messages: make([]Message, len(entries))}
	for i, e := range entries {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			return p, errBody
		}
		id, _ := pair[0].(string)
		fields, _ := pair[1].([]any)
		if len(fields) != 4 {
			return p, errBody
		}
		body, _ := fields[3].(string)
		m, err := parseBody(body)
		if err != nil {
			return p, err
		}
		number, _, _ := strings.Cut(id, "-")
		if m.Offset, err = strconv.ParseUint(number, 10, 64); err != nil {
			return p, errBody
		}
		if newest {
			i = len(entries) - 1 - i
		}
		p.Messages[i] = m
	}
	return p, nil
}

// Renew implements Cluster.
func (b *RedisBroker) Renew(ctx context.Context, room string, at Position) error {
	_, err := b.runAll(ctx, []call{{renewScript, []string{b.part(room).meta(room)}, []any{at.Epoch, at.Offset, newEpoch()}}})
	return err
}

// Listen implements Broker.
func (b *RedisBroker) Listen(deliver func(room, epoch string, m Message)) { b.deliver.Store(&deliver) }
