package hub

import (
	"fmt"
	"strings"
	"time"
)

// Who names a circle of people. A circle holds the ones after it only where it says so.
type Who string

// The circles, from the widest.
const (
	Anyone Who = "anyone" // every session
	Member Who = "member" // who has joined the room (publishing only)
	Owner  Who = "owner"  // the user whose id the pattern's * stands for ("user:*")
	Staff  Who = "staff"  // role staff or admin
	Admin  Who = "admin"  // role admin
	Nobody Who = "nobody" // the server alone
)

// PresenceKind says what members may learn of each other.
type PresenceKind string

const (
	PresenceNone  PresenceKind = "none"
	PresenceCount PresenceKind = "count" // how many, no ids
	PresenceIDs   PresenceKind = "ids"   // who
)

// A Rule governs the rooms that its Pattern fits. The first fitting rule counts. Staff and admins may join
// every room; a session's own Rooms patterns widen Join, never Publish.
type Rule struct {
	Pattern  string // a room's name, or a beginning followed by *
	Join     Who
	Publish  Who // sockets; the server publishes anywhere
	Keep     Keep
	Presence PresenceKind
	Announce bool    // tell members who joins and leaves (settled some seconds, none above 200 members)
	Rate     float64 // messages a second that sockets may publish in the whole room, on each node; 0: no bound
	Moderate bool    // what sockets publish passes Options.Moderate before anybody sees it
	Mail     bool    // its stream is Options.Mail
	// Window is the time for which messages that follow one another closely are gathered, so that each socket gets
	// them in one write; one that comes alone is never held. 0 to 1 s; 0: only what waits anyway goes together.
	Window time.Duration
}

const maxWindow = time.Second // people wait no longer for a word

// DefaultRules are the rooms of the outside contract.
func DefaultRules() []Rule {
	day := 24 * time.Hour
	return []Rule{
		{Pattern: "notice", Join: Anyone, Publish: Admin, Keep: Keep{1000, day}, Presence: PresenceCount},
		{Pattern: "all", Join: Anyone, Publish: Admin, Keep: Keep{1000, day}, Presence: PresenceCount},
		{Pattern: "room:*", Join: Anyone, Publish: Member, Keep: Keep{300, day}, Presence: PresenceIDs, Announce: true, Rate: 50, Moderate: true},
		{Pattern: "user:*", Join: Owner, Publish: Admin, Presence: PresenceIDs, Mail: true},
		{Pattern: "kf", Join: Staff, Publish: Staff, Keep: Keep{1000, day}, Presence: PresenceIDs},
		{Pattern: "*", Join: Nobody, Publish: Admin, Keep: Keep{300, day}, Presence: PresenceCount},
	}
}

// Check finds what cannot be meant; New asks it of every rule.
func (r *Rule) Check() error {
	if r.Pattern != "*" && !validRoom(strings.TrimSuffix(r.Pattern, "*")) {
		return fmt.Errorf("hub: rule %q: pattern must be a room's name, or a beginning followed by *", r.Pattern)
	}
	switch r.Join {
	case Anyone, Owner, Staff, Admin, Nobody:
	default:
		return fmt.Errorf("hub: rule %q: join %q is none of anyone, owner, staff, admin, nobody", r.Pattern, r.Join)
	}
	switch r.Publish {
	case Anyone, Member, Owner, Staff, Admin, Nobody:
	default:
		return fmt.Errorf("hub: rule %q: publish %q is none of anyone, member, owner, staff, admin, nobody", r.Pattern, r.Publish)
	}
	switch r.Presence {
	case PresenceNone, PresenceCount, PresenceIDs, "":
	default:
		return fmt.Errorf("hub: rule %q: presence %q is none of none, count, ids", r.Pattern, r.Presence)
	}
	if (r.Join == Owner || r.Publish == Owner || r.Mail) && !strings.HasSuffix(r.Pattern, "*") {
		return fmt.Errorf("hub: rule %q: an owner or mail needs a pattern that ends in *", r.Pattern)
	}
	if r.Keep.Size < 0 || r.Keep.Age < 0 || r.Rate < 0 {
		return fmt.Errorf("hub: rule %q: keep and rate must not be negative", r.Pattern)
	}
	if r.Window < 0 || r.Window > maxWindow {
		return fmt.Errorf("hub: rule %q: window must lie between 0 and %s", r.Pattern, maxWindow)
	}
	return nil
}
