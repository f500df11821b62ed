package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	rollEvery   = 100 * time.Millisecond // changes of presence are recorded together
	recheckWait = time.Second            // after a check or a record that failed
	recheckAll  = 30 * time.Second       // however sound everything looks
	orderFor    = time.Minute            // how long a node that is cut off tries to be heard
	orderFresh  = 5 * time.Second        // an older order does not touch sockets opened after it
	clockSkew   = time.Second            // between nodes
)

// A roll is what a Cluster is to be told of this node: who is in which room, and which rooms are in doubt.
type roll struct {
	h *Hub
	c Cluster

	turn chan struct{} // holds one token: the right to record, so that an older count never follows a newer one

	mu      sync.Mutex                     // guards what follows; nothing is locked under it
	changed map[string]map[string]struct{} // persons by room
	whole   bool                           // everything is to be recorded again
	due     []settling                     // rooms that ended here with persons announced in them
	live    doubts
	mail    doubts // apart: it is asked of somebody else, who may be there when the Cluster is not
}

// doubts are the rooms whose positions are to be checked.
type doubts struct {
	all      bool
	rooms    map[string]struct{}
	checking bool
}

type settling struct {
	room  string
	users []string
	at    time.Time
}

func newRoll(h *Hub, c Cluster) *roll {
	r := &roll{h: h, c: c, turn: make(chan struct{}, 1), changed: make(map[string]map[string]struct{})}
	r.live.rooms, r.mail.rooms = make(map[string]struct{}), make(map[string]struct{})
	r.turn <- struct{}{}
	return r
}

// note remembers that the number of user's sockets in the room changed.
func (r *roll) note(room, user string) {
	r.mu.Lock()
	users := r.changed[room]
	if users == nil {
		users = make(map[string]struct{})
		r.changed[room] = users
	}
	users[user] = struct{}{}
	r.mu.Unlock()
}

func (r *roll) recount() {
	r.mu.Lock()
	r.whole = true
	r.mu.Unlock()
}

// doubt has the rooms' positions checked soon; nil: all rooms.
func (r *roll) doubt(rooms []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rooms == nil {
		r.live.all, r.mail.all = true, r.h.mail != nil
		return
	}
	for _, name := range rooms {
		d := &r.live
		if r.h.isMail(r.h.rule(name)) {
			d = &r.mail
		}
		d.rooms[name] = struct{}{}
	}
}

// settleLater has announced that users left a room that ended here, unless they are somewhere else by then.
func (r *roll) settleLater(room string, users []string) {
	r.mu.Lock()
	r.due = append(r.due, settling{room, users, time.Now().Add(settleTime)})
	r.mu.Unlock()
}

// run tells the Cluster what changed until the hub ends.
func (r *roll) run() {
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	checked := time.Now()
	var pause time.Time
	for {
		select {
		case <-r.h.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(checked) >= recheckAll {
			checked = now
			r.doubt(nil)
		}
		r.check(&r.live, r.h.broker)
		r.check(&r.mail, r.h.mail)
		if now.Before(pause) {
			continue
		}
		ctx, cancel := context.WithTimeout(r.h.ctx, r.h.patience)
		err := r.flush(ctx)
		if err == nil {
			r.settleDue(ctx, now)
		}
		cancel()
		if err != nil {
			r.h.log.Warn("presence not recorded", "error", err)
			pause = time.Now().Add(recheckWait)
		}
	}
}

// check compares the positions of the rooms in doubt with their stream, one check of a kind at a time.
func (r *roll) check(d *doubts, stream Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.checking || !d.all && len(d.rooms) == 0 {
		return
	}
	all, some := d.all, d.rooms
	d.all, d.rooms = false, make(map[string]struct{})
	d.checking = r.h.start(func() {
		names := slices.Collect(maps.Keys(some))
		if all {
			names = r.h.localNames(d == &r.mail)
		}
		if unasked := r.h.recheck(stream, names); len(unasked) > 0 {
			r.doubt(unasked)
			r.h.sleep(recheckWait)
		}
		r.mu.Lock()
		d.checking = false
		r.mu.Unlock()
	})
}

// flush records what changed. When it returns nil, everything noted before the call is recorded.
func (r *roll) flush(ctx context.Context) error {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return fmt.Errorf("hub: record presence: %w", context.Cause(ctx))
	}
	defer func() { r.turn <- struct{}{} }()
	r.mu.Lock()
	changed, whole := r.changed, r.whole
	if len(changed) == 0 && !whole {
		r.mu.Unlock()
		return nil
	}
	r.changed, r.whole = make(map[string]map[string]struct{}), false
	r.mu.Unlock()
	var list []Attendance
	err := error(nil)
	if whole {
		list, err = r.everything(ctx)
	} else {
		for room, users := range changed {
			list = append(list, Attendance{Room: room, Sockets: r.h.socketsOf(room, users)})
		}
	}
	if err == nil {
		err = r.c.Record(ctx, list)
	}
	if err == nil {
		return nil
	}
	r.mu.Lock()
	r.whole = r.whole || whole
	r.mu.Unlock()
	for room, users := range changed {
		for user := range users {
			r.note(room, user)
		}
	}
	return fmt.Errorf("hub: record presence: %w", err)
}

// everything is who is where on this node, and where nobody is any more.
func (r *roll) everything(ctx context.Context) ([]Attendance, error) {
	before, err := r.c.Recorded(ctx)
	if err != nil {
		return nil, err
	}
	var list []Attendance
	here := make(map[string]bool)
	for _, name := range append(r.h.localNames(false), r.h.localNames(true)...) {
		here[name] = true
		list = append(list, Attendance{Room: name, Sockets: r.h.socketsOf(name, nil), Whole: true, Told: r.h.toldIn(name)})
	}
	for _, name := range before {
		if !here[name] {
			list = append(list, Attendance{Room: name, Whole: true})
		}
	}
	return list, nil
}

// settleDue announces who left rooms that ended here.
func (r *roll) settleDue(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var ripe []settling
	for len(r.due) > 0 && !r.due[0].at.After(now) {
		ripe = append(ripe, r.due[0])
		r.due = r.due[1:]
	}
	r.mu.Unlock()
	for _, s := range ripe {
		r.settle(ctx, s.room, s.users)
	}
}

// settle announces which of the users have come to the room or gone from it, in the whole cluster.
func (r *roll) settle(ctx context.Context, room string, users []string) {
	err := r.flush(ctx)
	var came, went []string
	if err == nil {
		came, went, err = r.c.Settle(ctx, room, users, announceMax)
	}
	now := time.Now()
	for _, c := range []struct {
		action string
		users  []string
	}{{"join", came}, {"leave", went}} {
		for _, user := range c.users {
			if err == nil {
				err = r.c.Say(ctx, room, personMessage(c.action, user, now))
			}
		}
	}
	if err != nil {
		r.h.log.Warn("join and leave not announced", "room", room, "error", err)
	}
}

// leave tells the Cluster that nobody is here any more. The hub has ended by then.
func (r *roll) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.flush(ctx); err != nil {
		r.h.log.Warn("presence is left to the other nodes", "error", err)
		return
	}
	r.settleDue(ctx, time.Now().Add(settleTime))
}

// A disconnection is the order to close sockets on another node.
type disconnection struct {
	User    string `json:"user,omitempty"`
	Session string `json:"session,omitempty"`
	Room    string `json:"room,omitempty"`
	Code    int    `json:"code"`
	Word    string `json:"word"`
	RetryMS int64  `json:"retry,omitempty"`
	AtMS    int64  `json:"at"`
}

// order has the other nodes close the sockets that fit t. It does not wait.
func (r *roll) order(t Target, d Disconnect) {
	text, err := json.Marshal(disconnection{t.User, t.Session, t.Room, d.Code, d.Word, d.Retry.Milliseconds(), time.Now().UnixMilli()})
	if err != nil {
		r.h.log.Error("disconnect not ordered", "error", err)
		return
	}
	until := time.Now().Add(orderFor)
	r.h.start(func() {
		for {
			ctx, cancel := context.WithTimeout(r.h.ctx, r.h.patience)
			err := r.c.Order(ctx, text)
			cancel()
			if err == nil {
				return
			}
			if time.Now().After(until) || !r.h.sleep(retryFrom) {
				r.h.log.Error("other nodes not told to disconnect", "user", t.User, "room", t.Room, "error", err)
				return
			}
		}
	})
}

// obey closes what another node ordered to be closed.
func (h *Hub) obey(order []byte) {
	var o disconnection
	if err := json.Unmarshal(order, &o); err != nil || o.Code == 0 {
		h.log.Warn("an order of another node cannot be read")
		return
	}
	t := Target{User: o.User, Session: o.Session, Room: o.Room}
	d := Disconnect{Code: o.Code, Word: o.Word, Retry: time.Duration(o.RetryMS) * time.Millisecond}
	before := int64(0)
	if at := time.UnixMilli(o.AtMS); time.Since(at) > orderFresh && t.Session == "" {
		before = at.Add(clockSkew).UnixNano()
	}
	h.disconnect(t, d, before)
}
