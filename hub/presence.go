package hub

import (
	"context"
	"sort"
	"time"
)

const (
	settleTime  = 2 * time.Second // a reconnect within it announces nothing
	announceMax = 200             // members above which joins and leaves are noise
)

// people are the persons of a room. Room.mu guards them.
type people struct {
	sockets map[string]int32 // by user; nil in a mailbox, where it is one person or a member of staff

	// Where the rule announces.
	told map[string]struct{} // announced as present
	due  map[string]int64    // changes to settle: when
}

// arrive counts one socket of user in. The caller holds r.mu.
func (r *Room) arrive(user string) {
	if r.hub.roll != nil {
		r.hub.roll.note(r.name, user)
	}
	if r.rule.Join == Owner {
		return
	}
	p := &r.people
	if p.sockets == nil {
		p.sockets = make(map[string]int32)
	}
	p.sockets[user]++
	if p.sockets[user] == 1 {
		r.changed(user)
	}
}

// leave counts one socket of user out. The caller holds r.mu.
func (r *Room) leave(user string) {
	if r.hub.roll != nil {
		r.hub.roll.note(r.name, user)
	}
	if r.rule.Join == Owner {
		return
	}
	p := &r.people
	if p.sockets[user]--; p.sockets[user] == 0 {
		delete(p.sockets, user)
		r.changed(user)
	}
}

// changed notes that user came or went: told when it has settled.
func (r *Room) changed(user string) {
	if !r.rule.Announce {
		return
	}
	p := &r.people
	if p.due == nil {
		p.due, p.told = make(map[string]int64), make(map[string]struct{})
	}
	if _, waits := p.due[user]; waits {
		return
	}
	due := time.Now().Add(settleTime).UnixNano()
	p.due[user] = due
	if len(p.due) == 1 {
		r.hub.wheel.set(&r.timer, due)
	}
}

// ring announces what has settled.
func (r *Room) ring(now int64) (next int64) {
	r.mu.Lock()
	p := &r.people
	var said []Message
	var settled []string // in a cluster, which knows whether they are new to it
	for user, due := range p.due {
		if due > now {
			if next == 0 || due < next {
				next = due
			}
			continue
		}
		delete(p.due, user)
		_, told := p.told[user]
		here := p.sockets[user] > 0
		if told == here {
			continue
		}
		if r.hub.roll != nil {
			settled = append(settled, user)
			if here {
				p.told[user] = struct{}{}
			} else {
				delete(p.told, user)
			}
			continue
		}
		quiet := r.size > announceMax
		if here && quiet {
			continue
		}
		action := "leave"
		if here {
			action = "join"
			p.told[user] = struct{}{}
		} else {
			delete(p.told, user)
		}
		if !quiet {
			said = append(said, personMessage(action, user, time.Unix(0, now)))
		}
	}
	r.mu.Unlock()
	if len(settled) > 0 {
		r.hub.start(func() {
			ctx, cancel := context.WithTimeout(r.hub.ctx, r.hub.patience)
			defer cancel()
			r.hub.roll.settle(ctx, r.name, settled)
		})
	}
	if len(said) > 0 {
		r.hub.start(func() { r.announce(said) })
	}
	return next
}

func personMessage(action, user string, at time.Time) Message {
	return Message{Action: action, Payload: append(appendString([]byte(`{"user":`), user), '}'), At: at}
}

func (r *Room) announce(said []Message) {
	ctx, cancel := context.WithTimeout(r.hub.ctx, r.hub.patience)
	defer cancel()
	for _, m := range said {
		if err := r.hub.broker.Say(ctx, r.name, m); err != nil {
			r.hub.log.Warn("join and leave not announced", "room", r.name, "error", err)
			return
		}
	}
}

// present tells who is in the room, by id.
func (r *Room) present() []PresentUser { return presentUsers(r.counts()) }

// counts counts each person's sockets.
func (r *Room) counts() map[string]int {
	counts := make(map[string]int)
	if r.rule.Join == Owner {
		r.each(func(m *member) { counts[m.conn.user]++ })
	} else {
		r.mu.Lock()
		for user, n := range r.people.sockets {
			counts[user] = int(n)
		}
		r.mu.Unlock()
	}
	return counts
}

func presentUsers(counts map[string]int) []PresentUser {
	users := make([]PresentUser, 0, len(counts))
	for user, n := range counts {
		users = append(users, PresentUser{ID: user, Sockets: n})
	}
	sort.Slice(users, func(i, j int) bool { return users[i].ID < users[j].ID })
	return users
}

// socketsOf counts the sockets that users have in a room on this node; nil: of everybody who is there.
func (h *Hub) socketsOf(room string, users map[string]struct{}) map[string]int {
	r := h.room(room)
	if users == nil {
		if r == nil {
			return nil
		}
		return r.counts()
	}
	counts := make(map[string]int, len(users))
	var there map[string]int
	if r != nil && r.rule.Join == Owner {
		there = r.counts()
	}
	for user := range users {
		counts[user] = there[user]
	}
	if r != nil && there == nil {
		r.mu.Lock()
		for user := range users {
			counts[user] = int(r.people.sockets[user])
		}
		r.mu.Unlock()
	}
	return counts
}

// toldIn lists who was announced in a room on this node.
func (h *Hub) toldIn(room string) (users []string) {
	r := h.room(room)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for user := range r.people.told {
		users = append(users, user)
	}
	return users
}

// count tells how many persons are in the room.
func (r *Room) count() int {
	if r.rule.Join == Owner {
		return len(r.present())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.people.sockets)
}

// Presence tells who is in a room: on every node of a Cluster, else on this one. A room in which nobody is has
// the count 0.
func (h *Hub) Presence(ctx context.Context, room string) (Presence, error) {
	if !validRoom(room) {
		return Presence{}, ErrRoomName
	}
	kind := h.rule(room).Presence
	if h.cluster != nil {
		return h.clusterPresence(ctx, room, kind == PresenceIDs)
	}
	r := h.room(room)
	if r == nil {
		if kind == PresenceIDs {
			return Presence{Users: []PresentUser{}}, nil
		}
		return Presence{}, nil
	}
	if kind != PresenceIDs {
		return Presence{Count: r.count()}, nil
	}
	users := r.present()
	return Presence{Count: len(users), Users: users}, nil
}
