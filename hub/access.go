package hub

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// maxRoomName is the longest name of a room, in bytes.
const maxRoomName = 128

func validRoom(name string) bool {
	if len(name) == 0 || len(name) > maxRoomName {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '_', b == '.', b == ':', b == '-':
		default:
			return false
		}
	}
	return true
}

// match tells whether pattern (a name, or a beginning followed by *) fits name, and what the * stood for.
func match(pattern, name string) (rest string, ok bool) {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.CutPrefix(name, prefix)
	}
	return "", pattern == name
}

// rule returns the first rule that fits the room.
func (h *Hub) rule(room string) *Rule {
	for i := range h.rules {
		if _, ok := match(h.rules[i].Pattern, room); ok {
			return &h.rules[i]
		}
	}
	return &closedRule
}

// closedRule governs a room that no rule fits.
var closedRule = Rule{Join: Nobody, Publish: Nobody, Presence: PresenceNone}

func (s *Session) isStaff() bool { return s.Role == "staff" || s.Role == "admin" }

// owns tells whether room is the one in which the rule's * stands for this user.
func (s *Session) owns(r *Rule, room string) bool {
	rest, ok := match(r.Pattern, room)
	return ok && rest == s.User && strings.HasSuffix(r.Pattern, "*")
}

// mayJoin asks the rule and the patterns of the token. Patterns open what the rules leave closed; they
// never open another person's room, and a staff room only when they name it in full, so that a token
// made for "*" is no key to everything.
func (s *Session) mayJoin(r *Rule, room string) bool {
	if s.isStaff() {
		return true
	}
	switch r.Join {
	case Anyone:
		return true
	case Owner:
		return s.owns(r, room)
	case Staff, Admin:
		return slices.Contains(s.Rooms, room)
	}
	return slices.ContainsFunc(s.Rooms, func(pattern string) bool {
		_, ok := match(pattern, room)
		return ok
	})
}

// mayPublish asks the rule; joined tells whether the socket is a member of the room.
func (s *Session) mayPublish(r *Rule, room string, joined bool) bool {
	switch r.Publish {
	case Anyone:
		return true
	case Member:
		return joined
	case Owner:
		return s.owns(r, room)
	case Staff:
		return s.isStaff()
	case Admin:
		return s.Role == "admin"
	}
	return false
}

// reservedAction tells whether only the server may say action: what it says itself, the names that mean
// something to every Socket.IO client, and those by which such clients speak to each other (exchange) and learn of
// a refusal (refused).
func reservedAction(action string) bool {
	switch action {
	case "purchase", "kf.message", "kf.event", "follow", "unfollow", "join", "leave", "welcome", "exchange", "refused",
		"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "error", "ping", "pong", positionAction:
		return true
	}
	return strings.HasPrefix(action, "order.")
}

// A bucket allows a rate with a burst. The zero bucket is full.
type bucket struct {
	used float64 // tokens taken and not yet given back
	at   int64   // Unix ns when used was right
}

// take takes one token if there is one.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	t := now.UnixNano()
	if b.at != 0 {
		b.used = max(0, b.used-rate*float64(t-b.at)/1e9)
	}
	b.at = t
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}

// badFrames counts a client's bad frames in the current minute.
type badFrames struct {
	since time.Time
	n     int
}

func (b *badFrames) add(now time.Time) int {
	if now.Sub(b.since) >= time.Minute {
		b.since, b.n = now, 0
	}
	b.n++
	return b.n
}

// rates bounds what sockets publish in each room. A room's second may be used in a burst of one second.
type rates struct {
	mu    sync.Mutex
	rooms map[string]*bucket
}

const maxRates = 4096 // buckets; above it those that are full again are forgotten

// take takes one message of a room's allowance. The server itself may go into debt by another second's worth, so
// that people who talk all the time cannot keep it from speaking: the room falls silent for them until it is paid.
func (r *rates) take(room string, rate float64, server bool) bool {
	if rate <= 0 {
		return true
	}
	burst := max(1, rate)
	if server {
		burst *= 2
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.rooms[room]
	if b == nil {
		if r.rooms == nil {
			r.rooms = make(map[string]*bucket)
		}
		if len(r.rooms) >= maxRates {
			for name, old := range r.rooms {
				if now.UnixNano()-old.at > int64(2*time.Second) {
					delete(r.rooms, name)
				}
			}
		}
		b = new(bucket)
		r.rooms[room] = b
	}
	return b.take(now, rate, burst)
}
