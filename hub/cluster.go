package hub

import (
	"context"
	"errors"
	"time"
)

// A Cluster is a Broker that joins several nodes. New finds out by itself whether its Broker is one.
//
// A Cluster does not promise that every announcement arrives: it says so by Doubt, and the hub then compares
// Positions and reads what it lacks.
type Cluster interface {
	Broker
	// Attach sets whom the Cluster tells; called once, by New, after Listen and before Subscribe.
	Attach(tell Neighbours)
	// Node names this node; another name at every start.
	Node() string
	// Healthy is nil while what this node says is seen to come round to it. Else it says what is wrong.
	Healthy() error
	// State says how well this node is heard.
	State() BrokerState
	// Order reaches Obey on every other node within a second, and on one that is cut off when it is back.
	Order(ctx context.Context, order []byte) error
	// Renew gives the room's stream another Epoch, if it still has at's and ends before at.Offset: it has lost
	// what others have seen.
	Renew(ctx context.Context, room string, at Position) error
	// Record tells which persons have how many sockets on this node. The same again changes nothing.
	Record(ctx context.Context, list []Attendance) error
	// Recorded lists the rooms in which persons are recorded for this node.
	Recorded(ctx context.Context) ([]string, error)
	// Settle tells which of the users have come or gone since somebody was last told so; each change is told to
	// one caller in the whole cluster. Nothing is told of a room with more than most persons.
	Settle(ctx context.Context, room string, users []string, most int) (came, went []string, err error)
	// Present counts each person's sockets in a room on all nodes.
	Present(ctx context.Context, room string) (map[string]int, error)
	// PresentCount counts the persons in a room on all nodes.
	PresentCount(ctx context.Context, room string) (int, error)
	// Occupied lists the rooms that have members on any node, without Head.
	Occupied(ctx context.Context) ([]RoomInfo, error)
}

// Neighbours are what a Cluster tells this node. None of them blocks.
type Neighbours struct {
	Doubt   func(rooms []string)              // announcements in these rooms (nil: in all) may have been lost
	Recount func()                            // what was recorded of this node is lost: record everything again
	Obey    func(order []byte)                // what another node ordered, once, in order
	Went    func(room string, users []string) // a node died, and with it the last sockets of persons who had been told
}

// Attendance is how many sockets persons have in a room on this node; 0: none any more.
type Attendance struct {
	Room    string
	Sockets map[string]int
	Whole   bool     // nobody else is there
	Told    []string // who is known to have been announced
}

// ErrAway means that Redis did not answer in time: nothing was said, or it is not known.
var ErrAway = errors.New("hub: redis does not answer")

// Healthy is nil while this node hears what is said on the others; without a Cluster always.
func (h *Hub) Healthy() error {
	if h.cluster == nil {
		return nil
	}
	return h.cluster.Healthy()
}

// BrokerState is how well this node is heard by its Cluster; ok is false without one.
func (h *Hub) BrokerState() (s BrokerState, ok bool) {
	if h.cluster == nil {
		return s, false
	}
	return h.cluster.State(), true
}

// Node names this node in its Cluster; empty without one.
func (h *Hub) Node() string {
	if h.cluster == nil {
		return ""
	}
	return h.cluster.Node()
}

func (h *Hub) joinCluster() {
	c, ok := h.broker.(Cluster)
	if !ok {
		return
	}
	h.cluster = c
	h.log = consequences(h.log)
	h.roll = newRoll(h, c)
	c.Attach(Neighbours{Doubt: h.roll.doubt, Recount: h.roll.recount, Obey: h.obey, Went: h.sayGone})
	h.start(h.roll.run)
}

// recheck compares where rooms stand with their stream, and has read what is lacking. It returns the rooms
// that it could not ask for.
func (h *Hub) recheck(stream Stream, names []string) (unasked []string) {
	var list []*Room
	for _, name := range names {
		if r := h.room(name); r != nil {
			list = append(list, r)
		}
	}
	for len(list) > 0 {
		n := min(len(list), batchRooms)
		if err := h.recheckBatch(stream, list[:n]); err != nil {
			h.log.Warn("rooms cannot compare their positions", "rooms", len(list), "error", err)
			for _, r := range list {
				unasked = append(unasked, r.name)
			}
			break
		}
		list = list[n:]
	}
	return unasked
}

func (h *Hub) recheckBatch(stream Stream, list []*Room) error {
	names := make([]string, len(list))
	before := make([]Position, len(list))
	for i, r := range list {
		names[i] = r.name
		r.mu.Lock()
		before[i] = r.at
		r.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.patience)
	defer cancel()
	var heads []Position
	err := protect(func() (err error) {
		heads, err = stream.Heads(ctx, names)
		return err
	})
	if err == nil && len(heads) != len(list) {
		err = errAnswers
	}
	if err != nil {
		return err
	}
	for i, r := range list {
		r.mu.Lock()
		lags := heads[i].Epoch != r.at.Epoch || heads[i].Offset > r.at.Offset || heads[i].Offset < before[i].Offset
		if r.state == roomLive && lags {
			r.lagLocked()
		}
		r.mu.Unlock()
	}
	return nil
}

// renew has the room's stream begin another life, because it ends before at, which members have seen.
func (r *Room) renew(ctx context.Context, at Position) error {
	r.hub.log.Warn("room's stream ran backwards: it gets a new epoch", "room", r.name, "offset", at.Offset)
	return r.hub.cluster.Renew(ctx, r.name, at)
}

// localNames lists the rooms that have members here: those whose stream is mail, or all others.
func (h *Hub) localNames(mail bool) []string {
	var names []string
	for i := range h.rooms {
		sh := &h.rooms[i]
		sh.mu.RLock()
		for name, r := range sh.rooms {
			if h.isMail(r.rule) == mail {
				names = append(names, name)
			}
		}
		sh.mu.RUnlock()
	}
	return names
}

func (h *Hub) clusterPresence(ctx context.Context, room string, ids bool) (Presence, error) {
	if err := h.roll.flush(ctx); err != nil {
		return Presence{}, err
	}
	if !ids {
		n, err := h.cluster.PresentCount(ctx, room)
		return Presence{Count: n}, err
	}
	counts, err := h.cluster.Present(ctx, room)
	if err != nil {
		return Presence{}, err
	}
	users := presentUsers(counts)
	return Presence{Count: len(users), Users: users}, nil
}

func (h *Hub) clusterRooms(ctx context.Context) ([]RoomInfo, error) {
	if err := h.roll.flush(ctx); err != nil {
		return nil, err
	}
	list, err := h.cluster.Occupied(ctx)
	if err != nil {
		return nil, err
	}
	sortRooms(list)
	for _, mail := range []bool{false, true} {
		var names []string
		var at []int
		for i := range list {
			if h.isMail(h.rule(list[i].Room)) == mail {
				names, at = append(names, list[i].Room), append(at, i)
			}
		}
		for len(names) > 0 {
			n := min(len(names), batchRooms)
			heads, err := h.stream(h.rule(names[0])).Heads(ctx, names[:n])
			if err == nil && len(heads) != n {
				err = errAnswers
			}
			if err != nil {
				return nil, err
			}
			for i := range heads {
				list[at[i]].Head = heads[i]
			}
			names, at = names[n:], at[n:]
		}
	}
	return list, nil
}

// sayGone tells a room of persons whose node died.
func (h *Hub) sayGone(room string, users []string) {
	h.start(func() { h.sayPeople(room, "leave", users) })
}

func (h *Hub) sayPeople(room, action string, users []string) {
	ctx, cancel := context.WithTimeout(h.ctx, h.patience)
	defer cancel()
	for _, user := range users {
		if err := h.broker.Say(ctx, room, personMessage(action, user, time.Now())); err != nil {
			h.log.Warn("join and leave not announced", "room", room, "error", err)
			return
		}
	}
}
