package hub

import (
	"errors"
	"fmt"
)

// CheckConsistency compares the hub's own maps, for tests and load runs. It is meaningful while nothing
// joins, leaves, connects or closes.
func (h *Hub) CheckConsistency() error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf("hub: "+format, a...)) }
	sockets, members := 0, 0
	h.eachConn(func(c *Conn) {
		sockets++
		c.mu.Lock()
		rooms := append([]*member(nil), c.rooms...)
		if c.departed && len(c.rooms) > 0 {
			fault("socket %s has departed and is in %d rooms", c.id, len(c.rooms))
		}
		if c.queue.bytes < 0 || c.queue.frames < 0 || c.queue.replay < 0 || len(c.queue.pieces) == 0 && c.queue.bytes+c.queue.frames+c.queue.replay != 0 {
			fault("socket %s: queue counts %d bytes, %d frames, %d of replay in %d pieces", c.id, c.queue.bytes, c.queue.frames, c.queue.replay, len(c.queue.pieces))
		}
		if len(c.queue.pieces) > 0 && !c.flushing && !c.corked {
			fault("socket %s: frames wait and nobody flushes", c.id)
		}
		c.mu.Unlock()
		for _, m := range rooms {
			members++
			if h.room(m.room.name) != m.room {
				fault("socket %s is in room %s, which is not listed", c.id, m.room.name)
			}
		}
	})
	if n := int(h.sockets.Load()); n != sockets {
		fault("%d sockets counted, %d listed", n, sockets)
	}
	h.checkAddresses(fault)
	seated := 0
	for i := range h.rooms {
		sh := &h.rooms[i]
		sh.mu.RLock()
		for name, r := range sh.rooms {
			n := r.check(fault)
			seated += n
			if r.pins != n {
				fault("room %s has %d members and %d pins", name, n, r.pins)
			}
		}
		sh.mu.RUnlock()
	}
	if seated != members {
		fault("rooms have %d members, sockets are in %d rooms", seated, members)
	}
	return errors.Join(faults...)
}

// check compares what the room knows of its members and returns how many it has.
func (r *Room) check(fault func(string, ...any)) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	users := make(map[string]int32)
	var speak [encodings]int32
	n := 0
	for i, ch := range r.chunks {
		ch.mu.Lock()
		for seat, m := range ch.members {
			n++
			users[m.conn.user]++
			speak[m.conn.speaks]++
			if m.room != r || m.chunk != ch || m.seat != seat || ch.at != i {
				fault("room %s: a member does not know its seat", r.name)
			}
		}
		ch.mu.Unlock()
	}
	if speak != r.speak {
		fault("room %s counts %v members by encoding and has %v", r.name, r.speak, speak)
	}
	if n != r.size {
		fault("room %s counts %d members and has %d", r.name, r.size, n)
	}
	if r.rule.Join != Owner {
		if len(users) != len(r.people.sockets) {
			fault("room %s counts %d persons and has %d", r.name, len(r.people.sockets), len(users))
		}
		for user, k := range users {
			if r.people.sockets[user] != k {
				fault("room %s: a person has %d sockets, counted %d", r.name, k, r.people.sockets[user])
			}
		}
	}
	if r.state == roomLive && !r.filling && !r.fan.running && len(r.fan.waiting) > 0 {
		fault("room %s: messages wait and nobody says them", r.name)
	}
	return n
}

// checkAddresses compares the lists of the addresses with the sockets.
func (h *Hub) checkAddresses(fault func(string, ...any)) {
	want, have := 0, 0
	h.eachConn(func(c *Conn) {
		if c.session.Load().Address.IsValid() {
			want++
		}
	})
	for i := range h.addresses {
		sh := &h.addresses[i]
		sh.mu.Lock()
		for a, list := range sh.lists {
			n := 0
			for c := list.oldest; c != nil; c = c.newer {
				if n++; c.session.Load().Address != a {
					fault("a socket of another address is listed under %s", a)
				}
			}
			if n != list.n || n == 0 {
				fault("address %s counts %d sockets and has %d", a, list.n, n)
			}
			have += n
		}
		sh.mu.Unlock()
	}
	if want != have {
		fault("%d sockets have an address, %d are listed under one", want, have)
	}
}
