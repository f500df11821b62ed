package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A scenario is one kind of load. Its zero value is everybody in one room, into which messages are said.
type scenario struct {
	about    string
	silent   bool // nothing is said
	holds    bool // stays connected for -for
	storm    bool // everybody connects at once
	perRoom  bool // -rooms rooms
	mail     bool
	drops    bool
	slow     bool
	churns   bool
	pays     bool
	asks     bool
	role     string // of the clients; empty: user
	lasts    bool   // for -for instead of -messages
	kills    bool
	parts    []part
	needsSim bool
}

// A part of a scenario that is made of others, with its share of the clients.
type part struct {
	name  string
	share float64
}

var scenarios = map[string]scenario{
	"connect":  {about: "everybody connects, -ramp a second (0: all at once)", silent: true},
	"storm":    {about: "everybody connects at once", silent: true, storm: true},
	"idle":     {about: "everybody stays for -for: memory and CPU of a silent socket", silent: true, holds: true},
	"fanout":   {about: "messages at a fixed rate into one room with everybody in it"},
	"rooms":    {about: "the same over -rooms rooms", perRoom: true},
	"mail":     {about: "each message is mail to one user, stored, delivered and acknowledged", mail: true},
	"presence": {about: "members of -rooms rooms are cut, step out, come back or leave for good: who is there is counted", perRoom: true, churns: true, drops: true},
	"recover":  {about: "fanout while a share (-drop) is cut off and comes back with its position", drops: true},
	"slow":     {about: "fanout while a share (-slow) stops reading: the others must not notice", slow: true},
	"pay":      {about: "every message is a payment: notify, purchase on every phone, order.paid for the payer", pays: true, needsSim: true},
	"push":     {about: "every message is a user's question: it appears on every staff socket", asks: true, needsSim: true, role: "staff"},
	"soak":     {about: "recover for -for: memory must not grow", drops: true, lasts: true},
	"nodes":    {about: "recover over several -url, of which -kill ends one half-way", drops: true, kills: true},
	"mixed": {about: "a shopping evening: recover, mail, rooms with presence, and payments where there is -sim, at the same time",
		parts: []part{{"recover", 0.6}, {"mail", 0.2}, {"presence", 0.1}, {"pay", 0.1}}},
}

var scenarioOrder = []string{
	"connect", "storm", "idle", "fanout", "rooms", "mail", "presence", "recover", "slow", "pay", "push", "mixed", "soak", "nodes",
}

// setCast decides what the crowd plays.
func (r *round) setCast(people []person) {
	s := r.scenario
	c := cast{
		URLs: r.urls, Protocol: r.protocol, Room: r.room, Groups: 1, Messages: r.messages, Run: newID(), Pad: r.pad,
		Interval: time.Duration(float64(time.Second) / r.rate), First: 0, People: people, Ramp: r.ramp, Sources: r.sources,
		Seed: r.seed, AwayLow: r.away / 10, AwayHigh: r.away, Churn: s.churns, Insecure: r.insecure, Mail: s.mail, Asked: s.asks,
	}
	switch {
	case s.silent:
		c.Messages = 0
	case s.lasts:
		c.Messages = max(int(r.hold.Seconds()*r.rate), 1)
	}
	switch {
	case s.storm:
		c.Ramp = 0
	case s.mail:
		c.Groups = len(people)
	case s.perRoom:
		c.Groups = min(r.rooms, len(people))
		c.Room = "room:" + c.Run + "-*"
	case s.asks:
		c.Room = "kf"
	}
	if s.drops {
		c.Drop = r.drop
	}
	if r.missed > 0 {
		c.AwayLow = time.Duration(r.missed) * c.Interval
		c.AwayHigh = c.AwayLow
	}
	if s.slow {
		c.Slow = r.slow
	}
	r.cast = c
}

// say says message n.
func (s scenario) say(ctx context.Context, r *round, n int) (position, error) {
	switch {
	case s.pays:
		return position{}, r.target.confirm(ctx, r.orders[n])
	case s.asks:
		return r.ask(ctx, n)
	default:
		return r.broadcast(ctx, n)
	}
}

// killOne ends a hub half-way, where that is asked for.
func (r *round) killOne(ctx context.Context) {
	if !r.scenario.kills || r.kill == 0 {
		return
	}
	half := time.Duration(r.cast.Messages) * r.cast.Interval / 2
	r.tasks.Go(func() {
		if sleep(ctx, half) != nil {
			return
		}
		hub, err := os.FindProcess(r.kill)
		if err == nil {
			err = hub.Signal(syscall.SIGKILL)
		}
		if err != nil {
			r.note(fmt.Errorf("kill %d: %w", r.kill, err))
		}
	})
}
