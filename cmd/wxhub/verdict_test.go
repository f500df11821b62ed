package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A verdict is what came of a round: one row of the table of faults.
type verdict struct {
	name      string
	watchers  int
	sent      int // accepted messages
	due       int // of them, over all watchers
	heard     int // by pages
	missing   int // unannounced
	lost      int // announced by recovered:false or a new Epoch
	repeated  int // to a page
	dropped   int // repeats that the client dropped
	disorder  int
	announced int // how often a loss was announced
	refused   int // publishes answered 503, and tried again
	slowest   time.Duration
	back      int // handshakes after the first
	heal      time.Duration
	faults    []string // what must not be, in words
}

func (v *verdict) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// end waits until everybody has what was said after the fault, compares the logs and returns the verdict. healed is
// when the fault was over.
func (r *round) end(healed time.Time, lossMayBeAnnounced bool) verdict {
	t := r.s.t
	t.Helper()
	var marks []saying
	for _, p := range r.publishers {
		marks = append(marks, p.next())
	}
	r.wait("what was said since", func(w *watcher) bool {
		for _, m := range marks {
			if w.rooms[m.room] != nil && !w.has(m.room, m.id) {
				return false
			}
		}
		return true
	})
	v := verdict{name: r.name, watchers: len(r.watchers), heal: time.Since(healed)}
	// What everybody hears without having asked for it comes too.
	r.wait("rooms joined", (*watcher).ready)
	all := r.publish(time.Millisecond, "all")
	all.next()
	for _, p := range r.publishers {
		p.finish()
		if p.gaveUp != "" {
			t.Errorf("%s: never accepted: %s", r.name, p.gaveUp)
		}
		v.refused += p.refused
		v.slowest = max(v.slowest, p.slowest)
	}
	log := make(map[string][]string)
	for _, p := range r.publishers {
		for room, ids := range p.log() {
			log[room] = append(log[room], ids...)
		}
	}
	r.wait("the last message", func(w *watcher) bool {
		for room, ids := range log {
			if w.rooms[room] != nil && !w.has(room, ids[len(ids)-1]) {
				return false
			}
		}
		return true
	})
	for _, w := range r.watchers {
		w.close()
	}
	for _, w := range r.watchers {
		<-w.done
	}
	places := make(map[string]map[string]int) // room → id → where it stands in the log
	for room, ids := range log {
		places[room] = make(map[string]int, len(ids))
		for i, id := range ids {
			places[room][id] = i
		}
		v.sent += len(ids)
	}
	for _, w := range r.watchers {
		for _, fault := range w.faults {
			t.Errorf("%s: %s", r.name, fault)
		}
		v.back += w.opened - 1
		for _, p := range w.rooms {
			if p.name != "all" { // nobody brings a position there
				v.compare(w.user, p, log[p.name], places[p.name], lossMayBeAnnounced)
			}
		}
	}
	r.compareDatabase(log)
	for _, fault := range v.faults[:min(20, len(v.faults))] {
		t.Errorf("%s: %s", r.name, fault)
	}
	if v.missing+v.repeated+v.disorder+len(v.faults) > 0 || v.heard == 0 {
		v.faults = nil
		t.Errorf("%s: %+v", r.name, v)
	}
	return v
}

// compare holds what one page was handed in one room against the publishers' log; places tells where an id stands in it.
func (v *verdict) compare(user string, p *place, log []string, places map[string]int, mayBeAnnounced bool) {
	mail := strings.HasPrefix(p.name, "user:")
	v.due += len(log)
	v.dropped += p.again
	v.announced += len(p.resets)
	if len(p.resets) > 0 && (mail || !mayBeAnnounced) {
		v.fault("%s: a loss was announced in %s after %v of %d", user, p.name, p.resets, len(p.heard))
	}
	announced := make(map[int]bool)
	for _, at := range p.resets {
		announced[at] = true
	}
	seen := make(map[string]bool)
	before := -1
	missed := func(at, n int) {
		switch {
		case n <= 0:
		case announced[at]:
			v.lost += n
		default:
			v.missing += n
			v.fault("%s: %d messages of %s are missing after %d", user, n, p.name, at)
		}
	}
	for at, id := range p.heard {
		i, ours := places[id]
		if seen[id] {
			v.repeated++
			v.fault("%s: heard %s of %s twice", user, id, p.name)
			continue
		}
		seen[id] = true
		if !ours {
			continue // a purchase, say: its test looks for it
		}
		v.heard++
		if i <= before {
			v.disorder++
			v.fault("%s: heard %s of %s too late", user, id, p.name)
			continue
		}
		missed(at, i-before-1)
		before = i
	}
	missed(len(p.heard), len(log)-1-before)
}

// compareDatabase holds the mailboxes against the publishers' log, and wants nothing left to be relayed.
func (r *round) compareDatabase(log map[string][]string) {
	t := r.s.t
	t.Helper()
	for room, ids := range log {
		user, mail := strings.CutPrefix(room, "user:")
		if !mail {
			continue
		}
		rows, err := r.s.db.QueryContext(t.Context(), "SELECT seq, id FROM letters WHERE user_id = $1 ORDER BY seq", user)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; rows.Next(); n++ {
			var seq int
			var id string
			if err := rows.Scan(&seq, &id); err != nil {
				t.Fatal(err)
			}
			if n >= len(ids) || id != ids[n] || seq != n+1 {
				t.Errorf("%s: the database has %s of %s at %d", r.name, id, room, seq)
			}
		}
		if err := rows.Err(); err != nil || n != len(ids) {
			t.Errorf("%s: %d letters in the database, %d were accepted: %v", r.name, n, len(ids), err)
		}
		_ = rows.Close()
	}
	var waiting, dead int
	eventually(t, "an empty outbox", func() bool {
		err := r.s.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FILTER (WHERE state = 0), COUNT(*) FILTER (WHERE state = 2) FROM outbox").Scan(&waiting, &dead)
		return err == nil && waiting == 0
	})
	if dead > 0 {
		t.Errorf("%s: %d rows given up", r.name, dead)
	}
}

// heardBeside counts, by id, what pages were handed in a room beside what our publishers said.
func (r *round) heardBeside(room string) map[string]int {
	counts := make(map[string]int)
	for _, w := range r.watchers {
		w.mu.Lock()
		for _, id := range w.rooms[room].heard {
			if !strings.HasPrefix(id, fmt.Sprintf("c%d.", r.s.rounds)) {
				counts[id]++
			}
		}
		w.mu.Unlock()
	}
	return counts
}

// faultTable is the table in Markdown.
func faultTable(list []verdict) string {
	var b strings.Builder
	b.WriteString("| fault | clients | sent | due | received | missing | lost, announced | repeated | dropped by the client | 503s (slowest) | came back | healed in |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, v := range list {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d (%s) | %d | %s |\n", v.name, v.watchers, v.sent, v.due, v.heard, v.missing, v.lost,
			v.repeated, v.dropped, v.refused, v.slowest.Round(10*time.Millisecond), v.back, v.heal.Round(10*time.Millisecond))
	}
	return b.String()
}

// The judge itself is judged: it finds what is missing, repeated, out of order, and lost with and without a word.
func TestVerdict_findsFaults(t *testing.T) {
	log := []string{"a", "b", "c", "d", "e"}
	places := map[string]int{"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
	for _, c := range []struct {
		name, room, heard                   string
		resets                              []int
		may                                 bool
		missing, lost, repeated, disordered int
		faulty                              bool
	}{
		{name: "all", heard: "abcde"},
		{name: "a purchase between", heard: "abXcde"},
		{name: "missing", heard: "abde", missing: 1, faulty: true},
		{name: "missing at the beginning and the end", heard: "bcd", missing: 2, faulty: true},
		{name: "nothing", heard: "", missing: 5, faulty: true},
		{name: "twice", heard: "abbcde", repeated: 1, faulty: true},
		{name: "out of order", heard: "acbde", missing: 1, disordered: 1, faulty: true},
		{name: "announced", heard: "abe", resets: []int{2}, may: true, lost: 2},
		{name: "announced elsewhere", heard: "abe", resets: []int{1}, may: true, missing: 2, faulty: true},
		{name: "announced where nothing may be lost", heard: "abe", resets: []int{2}, lost: 2, faulty: true},
		{name: "announced in mail", room: "user:ann", heard: "abe", resets: []int{2}, may: true, lost: 2, faulty: true},
	} {
		var v verdict
		p := &place{name: "notice", heard: strings.Split(c.heard, ""), resets: c.resets}
		if c.room != "" {
			p.name = c.room
		}
		v.compare("ann", p, log, places, c.may)
		got := []int{v.missing, v.lost, v.repeated, v.disorder}
		if !slices.Equal(got, []int{c.missing, c.lost, c.repeated, c.disordered}) || len(v.faults) > 0 != c.faulty {
			t.Errorf("%s: %v %v", c.name, got, v.faults)
		}
	}
}
