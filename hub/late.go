package hub

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	lateEvery   = time.Second
	lateWorkers = 8 // sockets that join at a time: a Broker that is back is not flooded
)

// Latecomers are rooms that sockets asked for in their handshake and could not have, because their stream was away.
// They join as soon as they can: a page has no reason to ask again for what it never asked for by itself, like "all".
type latecomers struct {
	hub *Hub

	mu      sync.Mutex // guards what follows
	waiting []latecomer
	running bool
}

type latecomer struct {
	c    *Conn
	room string
	// since is where the client stood at its handshake; nothing was said to it in this room since then.
	since *Position
}

// A laterTeller is a protocol that can say that a socket has joined a room, unasked.
type laterTeller interface {
	joinedLater(j *joining) []byte
}

// later has c join the rooms when they can be had.
func (l *latecomers) later(c *Conn, list []*joining) {
	if len(list) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range list {
		l.waiting = append(l.waiting, latecomer{c, j.name, j.since})
	}
	if !l.running {
		l.running = l.hub.start(l.run)
	}
}

// run tries again until nobody waits.
func (l *latecomers) run() {
	for l.hub.sleep(lateEvery) {
		l.mu.Lock()
		list := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		left := l.try(list)
		l.mu.Lock()
		l.waiting = append(left, l.waiting...)
		if len(l.waiting) == 0 {
			l.waiting, l.running = nil, false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// try returns those who still wait. A room that cannot be had yet is not tried for every one of them.
func (l *latecomers) try(list []latecomer) (left []latecomer) {
	var mu sync.Mutex
	away := make(map[string]bool)
	var workers sync.WaitGroup
	next := make(chan latecomer)
	for range min(lateWorkers, len(list)) {
		workers.Go(func() {
			for one := range next {
				if one.c.isClosing() {
					continue
				}
				mu.Lock()
				skip := away[one.room]
				mu.Unlock()
				if skip || !l.join(one) {
					mu.Lock()
					away[one.room] = true
					left = append(left, one)
					mu.Unlock()
				}
			}
		})
	}
	for _, one := range list {
		next <- one
	}
	close(next)
	workers.Wait()
	return left
}

// join lets one in; false when the room cannot be had yet.
func (l *latecomers) join(one latecomer) bool {
	c := one.c
	ctx, cancel := context.WithTimeout(l.hub.ctx, l.hub.patience)
	defer cancel()
	j, no := c.admit(one.room, one.since)
	if no != nil || c.isClosing() || c.member(one.room) != nil { // forbidden, gone, or it has asked by itself
		return true
	}
	var err error
	if j.room, err = l.hub.pin(j.name); err != nil {
		return true // the hub ends
	}
	if c.begin(ctx, j); j.err != nil {
		return errors.Is(j.err, ErrClosed)
	}
	c.finish([]*joining{j}, func() []byte {
		if t, ok := c.proto.(laterTeller); ok {
			return t.joinedLater(j)
		}
		return nil
	})
	return true
}

// joinedLater is the answer to a join that nobody numbered.
func (native) joinedLater(j *joining) []byte {
	b := appendReply(make([]byte, 0, 160), nil, true)
	b = appendJoined(appendString(append(b, `,"room":`...), j.name), j)
	return textFrame(append(b, '}'))
}
