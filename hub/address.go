package hub

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// An addressShard holds the sockets of some addresses.
type addressShard struct {
	mu    sync.Mutex
	lists map[netip.Addr]*addressList
}

// An addressList holds the sockets of one address in the order in which they came. The shard's mutex guards it, and
// the links in the Conns.
type addressList struct {
	oldest, newest *Conn
	n              int
}

func (h *Hub) addressShard(a netip.Addr) *addressShard {
	b := a.As16()
	n := binary.BigEndian.Uint64(b[:8])*31 + binary.BigEndian.Uint64(b[8:])
	return &h.addresses[n%hubShards]
}

// registerAddress lists c; one too many replaces the oldest that is open, or goes itself. Those that are closing count
// until they are gone.
func (h *Hub) registerAddress(c *Conn, a netip.Addr) {
	sh := h.addressShard(a)
	sh.mu.Lock()
	list := sh.lists[a]
	if list == nil {
		list = new(addressList)
		sh.lists[a] = list
	}
	c.older = list.newest
	if c.older != nil {
		c.older.newer = c
	} else {
		list.oldest = c
	}
	list.newest = c
	list.n++
	var goes *Conn
	if list.n > h.limits.SocketsPerAddress {
		if goes = c; h.limits.AddressFull == CloseOldest {
			for goes = list.oldest; goes != c && goes.isClosing(); {
				goes = goes.newer
			}
			if goes == c { // all others are on their way
				goes = nil
			}
		}
	}
	sh.mu.Unlock()
	switch goes {
	case nil:
	case c:
		c.close(DisconnectTooMany.after(5*time.Second, 10*time.Second))
	default:
		goes.close(DisconnectReplaced)
	}
}

func (h *Hub) unregisterAddress(c *Conn, a netip.Addr) {
	sh := h.addressShard(a)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.lists[a]
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		list.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		list.newest = c.older
	}
	c.older, c.newer = nil, nil
	if list.n--; list.n == 0 {
		delete(sh.lists, a)
	}
}
