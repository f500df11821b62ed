package hub

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"
)

const (
	historyLimit = 50  // messages of a history that names no limit
	historyMost  = 300 // messages of one history reply
	presentMost  = 1000
	maxAction    = 128 // bytes of an action's name
)

// handle does what one frame asks for and replies. asked tells that a heartbeat waited for an answer:
// then anything will do.
func (c *Conn) handle(text bool, data []byte, asked bool) {
	var q request
	no := refusedBinary
	if text {
		q, no = parseRequest(data)
	}
	if no == nil && q.Action == "" {
		no = refusedNoAction
	}
	if no != nil && q.Action == "" && (asked || q.isHeartbeat()) {
		return
	}
	if no == nil {
		no = c.do(&q)
	}
	if no == nil {
		return
	}
	if no.Word == "bad_frame" || no.Word == "unknown_action" {
		c.countBad()
	}
	b := q.begin(make([]byte, 0, 128), false)
	b = appendString(append(b, `,"error":`...), no.Word)
	b = appendString(append(b, `,"message":`...), no.Text)
	c.reply(&q, b)
}

// countBad counts a bad frame, too many of which are abuse.
func (c *Conn) countBad() {
	c.hub.badFrames.Add(1)
	if c.bad.add(time.Now()) >= c.hub.limits.BadFrames {
		c.close(DisconnectAbuse)
	}
}

// reply sends the reply that q.begin has begun, if the client waits for one.
func (c *Conn) reply(q *request, body []byte) {
	if frame := q.end(body); frame != nil {
		c.send(1, frame)
	}
}

// do carries a request out and replies, or returns why not.
func (c *Conn) do(q *request) *refusal {
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.hub.patience)
	defer cancel()
	switch q.Action {
	case "join":
		return c.doJoin(ctx, q)
	case "leave":
		return c.doLeave(q)
	case "publish":
		return c.doPublish(ctx, q)
	case "presence":
		return c.doPresence(ctx, q)
	case "history":
		return c.doHistory(ctx, q)
	case "ack":
		return c.doAck(ctx, q)
	case "refresh":
		return c.doRefresh(ctx, q)
	case "ping":
		c.reply(q, q.begin(nil, true))
		return nil
	}
	return refusedUnknown
}

// away turns a fault of ours into what the client is told; the log gets the fault.
func (c *Conn) away(what string, err error) *refusal {
	if no, ok := errors.AsType[*refusal](err); ok {
		return no
	}
	c.hub.log.Warn("request not carried out", "action", what, "client", c.id, "error", err)
	return refusedAway
}

func (c *Conn) doJoin(ctx context.Context, q *request) *refusal {
	j, no := c.admit(q.Room, q.since())
	if no != nil {
		return no
	}
	reply := func() []byte {
		b := q.begin(make([]byte, 0, 160), true)
		b = appendJoined(appendString(append(b, `,"room":`...), j.name), j)
		return q.end(b)
	}
	if m := c.member(q.Room); m != nil {
		if j.since == nil {
			m.room.mu.Lock()
			j.at = m.room.told
			m.room.mu.Unlock()
			if frame := reply(); frame != nil {
				c.send(1, frame)
			}
			return nil
		}
		c.forget(m) // everything after since comes anew
	}
	var err error
	if j.room, err = c.hub.pin(j.name); err != nil {
		return c.away(q.Action, err)
	}
	c.begin(ctx, j)
	if j.err != nil {
		return c.away(q.Action, j.err)
	}
	c.finish([]*joining{j}, reply)
	return nil
}

// admit asks whether the client may join the room.
func (c *Conn) admit(room string, since *Position) (*joining, *refusal) {
	if !validRoom(room) {
		return nil, refusedRoom
	}
	if !c.session.Load().mayJoin(c.hub.rule(room), room) {
		return nil, refusedJoin
	}
	c.mu.Lock()
	n := len(c.rooms)
	c.mu.Unlock()
	if n >= c.hub.limits.RoomsPerSocket+ownRooms && c.member(room) == nil {
		return nil, refusedRooms
	}
	return &joining{name: room, since: since}, nil
}

func (c *Conn) doLeave(q *request) *refusal {
	if !validRoom(q.Room) {
		return refusedRoom
	}
	m := c.member(q.Room)
	if m == nil {
		return refusedMember
	}
	c.forget(m)
	b := appendString(append(q.begin(nil, true), `,"room":`...), q.Room)
	c.reply(q, b)
	return nil
}

func (c *Conn) doPublish(ctx context.Context, q *request) *refusal {
	switch {
	case !validRoom(q.Room):
		return refusedRoom
	case q.Data == nil || !validAction(q.Data.Action):
		return refusedData
	case reservedAction(q.Data.Action):
		return refusedAction
	}
	at, no := c.publishIn(ctx, q.Room, Message{Action: q.Data.Action, Payload: q.Data.Payload})
	if no != nil {
		return no
	}
	c.reply(q, appendPosition(q.begin(nil, true), at))
	return nil
}

// publishIn says m for the client, if the room's rule and a judge let it.
func (c *Conn) publishIn(ctx context.Context, room string, m Message) (Position, *refusal) {
	h := c.hub
	rule := h.rule(room)
	joined := c.member(room) != nil
	if !c.session.Load().mayPublish(rule, room, joined) {
		if rule.Publish == Member && c.session.Load().mayJoin(rule, room) {
			return Position{}, refusedMember
		}
		return Position{}, refusedPublish
	}
	if !h.rates.take(room, rule.Rate, false) {
		return Position{}, refusedRate
	}
	m.Client, m.At = c.id, time.Now()
	if rule.Moderate && h.moderate != nil {
		switch err := h.moderate(ctx, *c.session.Load(), room, m); {
		case errors.Is(err, ErrRisky):
			return Position{}, refusedRisky
		case err != nil:
			return Position{}, c.away("publish", err)
		}
	}
	at, err := h.publish(ctx, room, m)
	if err != nil {
		return Position{}, c.away("publish", err)
	}
	return at, nil
}

func (c *Conn) doPresence(ctx context.Context, q *request) *refusal {
	if !validRoom(q.Room) {
		return refusedRoom
	}
	rule := c.hub.rule(q.Room)
	if c.member(q.Room) == nil && !c.session.Load().mayJoin(rule, q.Room) {
		return refusedJoin
	}
	if rule.Presence == PresenceNone || rule.Presence == "" {
		return refusedPresence
	}
	p, err := c.hub.Presence(ctx, q.Room)
	if err != nil {
		return c.away(q.Action, err)
	}
	b := appendString(append(q.begin(nil, true), `,"room":`...), q.Room)
	b = appendInt(append(b, `,"count":`...), int64(p.Count))
	if p.Users != nil {
		b = append(b, `,"users":[`...)
		for i, u := range p.Users[:min(len(p.Users), presentMost)] {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(b, `{"id":`...), u.ID)
			b = append(appendInt(append(b, `,"sockets":`...), int64(u.Sockets)), '}')
		}
		b = append(b, ']')
	}
	c.reply(q, b)
	return nil
}

func (c *Conn) doHistory(ctx context.Context, q *request) *refusal {
	if !validRoom(q.Room) {
		return refusedRoom
	}
	if c.member(q.Room) == nil && !c.session.Load().mayJoin(c.hub.rule(q.Room), q.Room) {
		return refusedJoin
	}
	if q.Since != nil && q.Before != nil {
		return refusedBoth
	}
	query := Query{Limit: min(q.Limit, historyMost), Newest: q.Since == nil}
	if q.Limit <= 0 {
		query.Limit = historyLimit
	}
	switch {
	case q.Since != nil:
		query.After = q.Since.Offset
	case q.Before != nil:
		query.Before = max(q.Before.Offset, 1)
	}
	page, err := c.hub.History(ctx, q.Room, query)
	if err == nil && (q.Since != nil && !q.Since.within(page, 0) || q.Before != nil && !q.Before.within(page, 1)) { // what is there now
		query = Query{Newest: true, Limit: query.Limit}
		page, err = c.hub.History(ctx, q.Room, query)
	}
	if err != nil {
		return c.away(q.Action, err)
	}
	c.reply(q, appendHistory(q, page, query.Newest, c.hub.limits.QueueBytes/2))
	return nil
}

// within tells whether a place is of this life of the stream, and not of the future: beyond its head and more.
func (at *place) within(p Page, more uint64) bool {
	return at.Epoch == p.Epoch && at.Offset <= p.Head+more
}

// follows tells whether the messages of a history lie beside the position that was asked from, with nothing lost
// in between and none of another life.
func (p *Page) follows(q *request) bool {
	switch {
	case q.Since != nil:
		return q.Since.within(*p, 0) && q.Since.Offset+1 >= p.First
	case q.Before != nil:
		return q.Before.within(*p, 1) && q.Before.Offset >= p.First
	}
	return true
}

// appendHistory is the reply to a history; what exceeds most bytes is left out at the end that the client
// can ask for again.
func appendHistory(q *request, page Page, newest bool, most int) []byte {
	complete := page.follows(q)
	list, size := page.Messages, 0
	for n := range list {
		i := n
		if newest {
			i = len(list) - 1 - n
		}
		if size += len(list[i].Payload) + 256; size > most && n > 0 {
			if newest {
				list = list[i+1:]
			} else {
				list = list[:i]
			}
			break
		}
	}
	b := appendString(append(q.begin(nil, true), `,"room":`...), q.Room)
	b = appendUint(append(appendPosition(b, Position{page.Epoch, page.Head}), `,"first":`...), page.First)
	b = append(strconv.AppendBool(append(b, `,"complete":`...), complete), `,"messages":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPush(b, q.Room, page.Epoch, &list[i])
	}
	return append(b, ']')
}

func (c *Conn) doAck(ctx context.Context, q *request) *refusal {
	switch {
	case !validRoom(q.Room):
		return refusedRoom
	case q.Offset == nil:
		return refusedOffset
	}
	offset := *q.Offset
	m := c.member(q.Room)
	if m == nil {
		return refusedMember
	}
	m.room.mu.Lock()
	head := m.room.at.Offset
	m.room.mu.Unlock()
	if offset > head {
		return refusedFuture
	}
	if c.hub.isMail(m.room.rule) {
		if !c.session.Load().owns(m.room.rule, q.Room) {
			return refusedAck
		}
		if err := c.hub.mail.Ack(ctx, q.Room, offset); err != nil {
			return c.away(q.Action, err)
		}
	}
	c.reply(q, q.begin(nil, true))
	return nil
}

func (c *Conn) doRefresh(ctx context.Context, q *request) *refusal {
	authenticate := c.hub.authenticate
	if authenticate == nil || q.Token == "" {
		return refusedToken
	}
	s, err := authenticate(ctx, q.Token)
	if err != nil || s.User != c.user {
		return refusedToken
	}
	s.Address = c.session.Load().Address
	c.session.Store(&s)
	left := c.leaveForbidden(&s)
	if !s.ExpiresAt.IsZero() {
		c.hub.wheel.set(&c.timer, min(s.ExpiresAt.UnixNano(), c.hub.wheel.now.Load()+int64(c.hub.heartbeat)))
	}
	b := q.begin(nil, true)
	if !s.ExpiresAt.IsZero() {
		b = appendInt(append(b, `,"expiresAt":`...), s.ExpiresAt.UnixMilli())
	}
	for i, room := range left {
		if i == 0 {
			b = append(b, `,"left":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendString(b, room)
	}
	if left != nil {
		b = append(b, ']')
	}
	c.reply(q, b)
	return nil
}

// leaveForbidden leaves the rooms that a session may not join, in the order of their names: a refresh to less must
// not go on hearing what the old token heard.
func (c *Conn) leaveForbidden(s *Session) (left []string) {
	c.mu.Lock()
	members := slices.Clone(c.rooms)
	c.mu.Unlock()
	for _, m := range members {
		if !s.mayJoin(c.hub.rule(m.room.name), m.room.name) && c.forget(m) {
			left = append(left, m.room.name)
		}
	}
	slices.Sort(left)
	return left
}
