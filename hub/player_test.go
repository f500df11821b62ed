package hub

import (
	"errors"
	"fmt"
	"testing/synctest"

	"github.com/gorilla/websocket"
)

// A player is a phone: it may be connected, and remembers where it stands in each room.
type player struct {
	s     *simulation
	user  string
	ws    *client
	rooms map[string]Position // where it stands; of rooms that it wants to be in
	lines chan frame
	ended chan struct{}
	gate  chan struct{} // closed while it reads
	slow  bool
}

func (p *player) connect() {
	if p.ws != nil {
		return
	}
	p.goOnReading()
	query := "user=" + p.user + "&jti=s" + p.user
	for _, room := range append([]string{"user:" + p.user}, simRooms...) {
		if at, ok := p.rooms[room]; ok {
			query += "&room=" + escape(fmt.Sprintf("%s@%s:%d", room, at.Epoch, at.Offset))
		}
	}
	ws, err := tryDial(p.s.t, pipeDialer(p.s.h), "ws://hub", query)
	if e, ok := errors.AsType[*websocket.CloseError](err); ok && e.Code == DisconnectSlow.Code { // more was said than waits
		return
	}
	if err != nil {
		p.s.fail("%s connects: %v", p.user, err)
		return
	}
	p.ws = ws
	p.lines, p.ended = make(chan frame, 10000), make(chan struct{})
	p.gate = make(chan struct{})
	close(p.gate)
	go func(ws *client, lines chan frame, ended chan struct{}) {
		defer close(ended)
		for {
			f, err := ws.read()
			if err != nil {
				return
			}
			lines <- f
			<-p.open()
		}
	}(p.ws, p.lines, p.ended)
	for _, r := range p.ws.greeting().Rooms {
		if r.Room == "all" {
			continue
		}
		since, brought := p.rooms[r.Room]
		if !brought { // only the mailbox: what is not acknowledged follows
			p.rooms[r.Room] = Position{r.Epoch, p.acked()}
			continue
		}
		p.returned(r.Room, since, Position{r.Epoch, r.Offset}, r.Recovered, r.Missed)
	}
}

// open is closed while the player reads.
func (p *player) open() chan struct{} {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.gate
}

// acked is up to where the player's user has acknowledged mail.
func (p *player) acked() (n uint64) {
	p.s.mail.set(func() { n = p.s.mail.acks["user:"+p.user] })
	return n
}

// returned checks what the hub says of a return, and starts afresh if it says so.
func (p *player) returned(room string, since, at Position, recovered *bool, missed int) {
	p.s.t.Helper()
	isMail := room == "user:"+p.user
	switch lack := int(at.Offset) - int(since.Offset); {
	case recovered == nil:
		p.s.fail("%s returned to %s and is not told whether it recovered", p.user, room)
	case *recovered:
		if since.Epoch != at.Epoch || missed != lack || !isMail && lack > p.s.kept {
			p.s.fail("%s returned to %s at %d of %d: recovered, missed %d", p.user, room, since.Offset, at.Offset, missed)
		}
	case isMail:
		from := p.acked()
		if since.Epoch == at.Epoch && lack >= 0 || missed != int(at.Offset-from) {
			p.s.fail("%s returned to %s at %d of %d, acknowledged %d: not recovered, missed %d", p.user, room, since.Offset, at.Offset, from, missed)
		}
		p.rooms[room] = Position{at.Epoch, from}
	default:
		if since.Epoch == at.Epoch && lack >= 0 {
			p.s.losses = append(p.s.losses, loss{p.user, room, since.Offset})
		}
		p.rooms[room] = at
	}
}

// stopReading leaves what comes in the socket.
func (p *player) stopReading() {
	if p.ws == nil || p.slow {
		return
	}
	p.s.mu.Lock()
	p.gate, p.slow = make(chan struct{}), true
	p.s.mu.Unlock()
}

func (p *player) goOnReading() {
	if p.slow {
		p.slow = false
		close(p.gate)
	}
}

// ack acknowledges the mail that the player heard.
func (p *player) ack() {
	box := "user:" + p.user
	at, in := p.rooms[box]
	if p.ws == nil || p.slow || !in || !p.request(fmt.Sprintf(`"id":1,"action":"ack","room":"%s","offset":%d`, box, at.Offset)) {
		return
	}
	p.until(func(f frame) {
		if !f.OK {
			p.s.fail("%s acknowledges %d: %s", p.user, at.Offset, f.raw)
		}
	})
}

// forgetPlaces is a reinstallation, or a device that comes from another hub.
func (p *player) forgetPlaces() {
	if p.ws != nil {
		return
	}
	for room := range p.rooms {
		switch p.s.rnd.IntN(3) {
		case 0:
			delete(p.rooms, room)
		case 1:
			p.rooms[room] = Position{"elsewhere", uint64(p.s.rnd.IntN(20))}
		}
	}
}

// publish says something over the player's own socket.
func (p *player) publish(room string) {
	_, in := p.rooms[room]
	if p.ws == nil || p.slow || !in {
		return
	}
	text := p.s.text()
	if !p.request(`"id":1,"action":"publish","room":"` + room + `","data":{"action":"n","payload":` + text + `}`) {
		p.s.unsure(room)
		return
	}
	answered := false
	p.until(func(f frame) {
		if answered = true; f.OK {
			p.s.note(room, f.Offset, text)
		} else {
			p.s.fail("%s publishes in %s: %s", p.user, room, f.raw)
		}
	})
	if !answered {
		p.s.unsure(room)
	}
}

func (p *player) drop() {
	if p.ws == nil {
		return
	}
	p.goOnReading()
	_ = p.ws.ws.Close()
	<-p.ended
	p.drain()
	p.ws = nil
}

func (p *player) join(room string) {
	if p.ws == nil || p.slow {
		return
	}
	synctest.Wait()
	if p.drain(); p.ws == nil { // what was said to the old membership
		return
	}
	since, again := p.rooms[room]
	fields := `"id":1,"action":"join","room":"` + room + `"`
	if again {
		fields += fmt.Sprintf(`,"since":{"epoch":"%s","offset":%d}`, since.Epoch, since.Offset)
	}
	if !p.request(fields) {
		return
	}
	p.until(func(f frame) {
		at := Position{f.Epoch, f.Offset}
		if again {
			p.returned(room, since, at, f.Recovered, f.Missed)
			return
		}
		p.rooms[room] = at
	})
}

func (p *player) leave(room string) {
	if _, in := p.rooms[room]; !in || p.ws == nil || p.slow || !p.request(`"id":1,"action":"leave","room":"`+room+`"`) {
		return
	}
	p.until(func(frame) {})
	delete(p.rooms, room)
}

// request writes a frame; false when the line is gone.
func (p *player) request(fields string) bool {
	if p.ws.ws.WriteMessage(1, []byte(`{`+fields+`}`)) != nil {
		<-p.ended
		p.drain()
		p.ws = nil
		return false
	}
	return true
}

// until hears what comes up to the reply.
func (p *player) until(reply func(frame)) {
	for {
		select {
		case f := <-p.lines:
			if f.Reply != nil {
				reply(f)
				return
			}
			p.hear(f)
		case <-p.ended:
			p.drain()
			p.ws = nil
			return
		}
	}
}

// drain hears what has come.
func (p *player) drain() {
	for p.ws != nil {
		select {
		case f := <-p.lines:
			if f.Reply == nil {
				p.hear(f)
			}
			continue
		default:
		}
		select {
		case <-p.ended:
			if len(p.lines) == 0 {
				p.ws = nil
			}
			continue
		default:
		}
		return
	}
}

// hear checks one push against the model: the next of its room. Its text is compared when all is said.
func (p *player) hear(f frame) {
	room := f.Meta.Room
	at, in := p.rooms[room]
	switch {
	case f.Ping != 0:
		return
	case !in:
		p.s.fail("%s is not in the room of %s", p.user, f.raw)
	case f.Meta.Offset == 0:
		if f.Data.Action != "join" && f.Data.Action != "leave" || room != "room:a" {
			p.s.fail("%s heard %s", p.user, f.raw)
		}
		return
	case f.Meta.Offset != at.Offset+1 || f.Meta.Epoch != at.Epoch:
		p.s.fail("%s is at %d: %s", p.user, at.Offset, f.raw)
	}
	p.s.heard = append(p.s.heard, hearing{p.user, room, string(f.Data.Payload), f.Meta.Offset})
	p.rooms[room] = Position{f.Meta.Epoch, f.Meta.Offset}
}
