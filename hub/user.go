package hub

import (
	"sync"
	"time"
)

// A userShard holds the sockets of some users, each user's oldest first.
type userShard struct {
	mu    sync.Mutex
	conns map[string][]*Conn
}

// register lists a new socket. One too many for its user or address replaces the oldest, or goes itself.
func (h *Hub) register(c *Conn) {
	sh := &h.users[h.shard(c.user)]
	sh.mu.Lock()
	list := append(sh.conns[c.user], c)
	sh.conns[c.user] = list
	list = list[:len(list):len(list)]
	sh.mu.Unlock()
	h.sockets.Add(1)
	if h.limits.UserFull == RefuseNew {
		if open := countOpen(list); open > h.limits.SocketsPerUser {
			c.close(DisconnectTooMany.after(5*time.Second, 10*time.Second))
		}
	} else {
		open := 0
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].isClosing() {
				continue
			}
			if open++; open > h.limits.SocketsPerUser {
				list[i].close(DisconnectReplaced)
			}
		}
	}
	if at := c.session.Load().Address; at.IsValid() {
		h.registerAddress(c, at)
	}
}

func countOpen(list []*Conn) (open int) {
	for _, c := range list {
		if !c.isClosing() {
			open++
		}
	}
	return open
}

// crowded tells, before the upgrade, whether a socket of s would be one too many that is to be refused.
func (h *Hub) crowded(s *Session) bool {
	if h.limits.UserFull == RefuseNew && countOpen(h.connsOf(s.User)) >= h.limits.SocketsPerUser {
		return true
	}
	if h.limits.AddressFull != RefuseNew || !s.Address.IsValid() {
		return false
	}
	sh := h.addressShard(s.Address)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.lists[s.Address]
	return list != nil && list.n >= h.limits.SocketsPerAddress
}

func (h *Hub) unregister(c *Conn) {
	sh := &h.users[h.shard(c.user)]
	sh.mu.Lock()
	list := sh.conns[c.user]
	for i := range list {
		if list[i] != c {
			continue
		}
		if len(list) == 1 {
			delete(sh.conns, c.user)
		} else {
			kept := make([]*Conn, 0, len(list)-1) // readers may hold the old list
			sh.conns[c.user] = append(append(kept, list[:i]...), list[i+1:]...)
		}
		h.sockets.Add(-1)
		break
	}
	sh.mu.Unlock()
	if at := c.session.Load().Address; at.IsValid() {
		h.unregisterAddress(c, at)
	}
}

func (h *Hub) connsOf(user string) []*Conn {
	sh := &h.users[h.shard(user)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.conns[user]
	return list[:len(list):len(list)]
}

func (h *Hub) eachConn(f func(*Conn)) {
	var list []*Conn
	for i := range h.users {
		sh := &h.users[i]
		list = list[:0]
		sh.mu.Lock()
		for _, conns := range sh.conns {
			list = append(list, conns...)
		}
		sh.mu.Unlock()
		for _, c := range list {
			f(c)
		}
	}
}
