package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A cast is what a crowd plays. It travels as JSON to crowds in other processes.
//
// Message n is said in group n % Groups, and client i is in group i % Groups: one room for all has one group, mail
// has a group for each client.
type cast struct {
	URLs     []string      `json:"urls"`
	Protocol string        `json:"protocol"`
	Room     string        `json:"room"` // * stands for the group's number; mail: empty
	Mail     bool          `json:"mail"`
	Groups   int           `json:"groups"`
	Messages int           `json:"messages"`
	Interval time.Duration `json:"interval"`
	Run      string        `json:"run"` // names the payloads of this run
	Pad      int           `json:"pad"`
	Bought   []purchase    `json:"bought,omitempty"` // messages are payments
	Asked    bool          `json:"asked"`            // messages are what users ask the customer service

	First    int           `json:"first"` // index of this crowd's first client
	People   []person      `json:"people"`
	Ramp     float64       `json:"ramp"` // handshakes a second; 0: all at once
	Sources  int           `json:"sources"`
	Seed     uint64        `json:"seed"`
	Drop     float64       `json:"drop"` // share that is cut off once
	AwayLow  time.Duration `json:"awayLow"`
	AwayHigh time.Duration `json:"awayHigh"`
	Slow     float64       `json:"slow"`  // share that stops reading for a while
	Churn    bool          `json:"churn"` // those that drop leave by turns: cut, by a frame, or for good
	Insecure bool          `json:"insecure"`
}

// A troupe plays a cast: here, or in another process.
type troupe interface {
	// connect brings everybody in and returns when each has arrived or given up.
	connect(ctx context.Context, due time.Time) error
	// start tells when message 0 is due.
	start(at time.Time)
	status() status
	// finish ends the play; accepted and places are by message.
	finish(accepted []bool, places []uint64) (findings, error)
}

// A status is how a play stands.
type status struct {
	Received int64   `json:"received"` // (client, message) pairs, each once
	Away     int64   `json:"away"`     // clients that are on their way back
	Ready    int64   `json:"ready"`    // clients that have arrived or given up
	Members  []int64 `json:"members"`  // by group: clients that were in the room
	P99      float64 `json:"p99"`      // of the last whole second, milliseconds
}

func (s *status) add(t status) {
	s.Received += t.Received
	s.Away += t.Away
	s.Ready += t.Ready
	for len(s.Members) < len(t.Members) {
		s.Members = append(s.Members, 0)
	}
	for g, n := range t.Members {
		s.Members[g] += n
	}
	s.P99 = max(s.P99, t.P99)
}

// A crowd is a troupe in this process.
type crowd struct {
	cast
	language  language
	recognise func(action string, payload json.RawMessage) (n int, intact bool)
	hosts     []host
	players   []*player
	phones    []*phone

	began                       atomic.Int64 // when message 0 is due, nanoseconds; 0: not known yet
	received, away, ready, gone atomic.Int64
	members                     []atomic.Int64
}

// A host is where a line goes.
type host struct {
	dialing
	host string
}

func newCrowd(c cast) (*crowd, error) {
	m := &crowd{cast: c, language: languages[c.Protocol], members: make([]atomic.Int64, c.Groups)}
	switch {
	case c.Bought != nil:
		m.recognise = recognisePurchase(c.Bought)
	case c.Asked:
		m.recognise = recogniseQuestion(c.Run, c.Messages)
	default:
		m.recognise = broadcasts{c.Run, padding(c.Pad)}.recogniser(c.Messages)
	}
	for _, text := range c.URLs {
		h, err := resolve(text, c.Insecure)
		if err != nil {
			return nil, err
		}
		m.hosts = append(m.hosts, h)
	}
	for i := range min(runtime.GOMAXPROCS(0), len(c.People)) {
		p, err := newPlayer(m, uint64(c.First)<<8|uint64(i)) //nolint:gosec // small
		if err != nil {
			m.close()
			return nil, err
		}
		m.players = append(m.players, p)
	}
	return m, nil
}

func resolve(text string, insecure bool) (host, error) {
	u, err := url.Parse(text)
	if err != nil {
		return host{}, err
	}
	h := host{host: u.Host}
	port := u.Port()
	if u.Scheme == "https" {
		h.tls = &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: insecure} //nolint:gosec // asked for, in a test set-up
		if port == "" {
			port = "443"
		}
	} else if port == "" {
		port = "80"
	}
	h.patient = handshakePatience
	h.address, err = net.ResolveTCPAddr("tcp", net.JoinHostPort(u.Hostname(), port))
	return h, err
}

// dialing is where p goes next: the hubs in turn, from another local address where there are many clients.
func (c *crowd) dialing(p *phone) host {
	h := c.hosts[(p.index+p.turn)%len(c.hosts)]
	if c.Sources > 1 && h.address.IP.IsLoopback() && h.address.IP.To4() != nil {
		k := p.index % c.Sources
		h.source = net.IPv4(127, 1, byte(k/250), byte(1+k%250)) //nolint:gosec // bounded
	}
	if p.slow {
		h.receive = 4 << 10
	}
	return h
}

func (c *crowd) room(group int, user string) string {
	if c.Mail {
		return "user:" + user
	}
	return strings.ReplaceAll(c.Room, "*", strconv.Itoa(group))
}

func (c *crowd) opened(group int) { c.members[group].Add(1) }

func (c *crowd) begin() time.Time { return time.Unix(0, c.began.Load()) }

// due is when message n had to be sent, whether or not it was.
func (c *crowd) due(n int) time.Time { return c.begin().Add(time.Duration(n) * c.Interval) }

func (c *crowd) connect(ctx context.Context, due time.Time) error {
	words := (c.Messages/c.Groups + 64) / 64
	for i, who := range c.People {
		p := &phone{person: who, player: c.players[i%len(c.players)], index: c.First + i, have: make([]uint64, words)}
		p.group = p.index % c.Groups
		c.phones = append(c.phones, p)
	}
	c.chooseSlow()
	for k, player := range c.players {
		player.post(func() {
			for i := k; i < len(c.phones); i += len(c.players) {
				p := c.phones[i]
				player.phones = append(player.phones, p)
				at := due
				if c.Ramp > 0 {
					at = at.Add(time.Duration(float64(i) / c.Ramp * float64(time.Second)))
				}
				player.later(time.Until(at), func() { p.connect(at) })
			}
		})
	}
	for c.ready.Load() < int64(len(c.phones)) {
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) chooseSlow() {
	for _, i := range c.shuffled(1)[:share(c.Slow, len(c.phones))] {
		c.phones[i].slow = true
	}
}

// shuffled are the clients' numbers in an order that the seed decides.
func (c *crowd) shuffled(salt uint64) []int {
	r := seeded(c.Seed, uint64(c.First)<<8|salt) //nolint:gosec // small
	return r.Perm(len(c.phones))
}

func share(part float64, of int) int { return int(part*float64(of) + 0.5) }

func (c *crowd) start(at time.Time) {
	c.began.Store(at.UnixNano())
	lasts := time.Duration(c.Messages) * c.Interval
	random := seeded(c.Seed, uint64(c.First)<<8|2) //nolint:gosec // small
	between := func(low, high float64) time.Duration {
		return time.Duration((low + (high-low)*random.Float64()) * float64(lasts))
	}
	for k, i := range c.shuffled(0)[:share(c.Drop, len(c.phones))] {
		p, when := c.phones[i], at.Add(between(0.1, 0.7))
		away := c.AwayLow + time.Duration(random.Float64()*float64(c.AwayHigh-c.AwayLow))
		step := func() { p.cut(away) }
		if c.Churn {
			step = []func(){step, func() { p.stepOut(away) }, p.goAway}[k%3]
		}
		p.player.post(func() { p.player.later(time.Until(when), step) })
	}
	for _, p := range c.phones {
		if p.slow {
			from, until := at.Add(between(0, 0.1)), at.Add(between(0.6, 0.8))
			p.player.post(func() {
				p.player.later(time.Until(from), func() { p.freeze(true) })
				p.player.later(time.Until(until), func() { p.freeze(false) })
			})
		}
	}
}

func (c *crowd) status() status {
	s := status{Received: c.received.Load(), Away: c.away.Load(), Ready: c.ready.Load(), Members: make([]int64, c.Groups)}
	for g := range c.members {
		s.Members[g] = c.members[g].Load()
	}
	last := newHistogram(2)
	for _, p := range c.players {
		p.ask(func() {
			if n := len(p.found.Seconds); n > 1 {
				last.Merge(p.found.Seconds[n-2].Delay.Histogram)
			}
		})
	}
	s.P99 = last.ms(99)
	return s
}

// finish asks for the presence where it churned, hangs everybody up and adds up.
func (c *crowd) finish(accepted []bool, places []uint64) (findings, error) {
	all := newFindings(c.Messages)
	if c.Churn {
		all.Presence = c.countPresence()
	}
	for _, p := range c.players {
		p.ask(func() {
			for _, f := range p.phones {
				if !f.over {
					f.leave()
				}
				if f.line != nil {
					f.line.hangUp()
				}
			}
		})
	}
	for end := time.Now().Add(2 * politeness); c.gone.Load() < int64(len(c.phones)) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	c.close()
	for _, p := range c.players {
		all.add(p.found)
	}
	for n, at := range places {
		if at != 0 && all.Places[n] != 0 && all.Places[n] != at {
			all.Tally.Altered++
			all.note(fmt.Sprintf("message %d: its publisher was told offset %d, its readers another", n, at))
		}
	}
	known := slices.Clone(places)
	for n := range known {
		if known[n] == 0 {
			known[n] = all.Places[n]
		}
	}
	for _, p := range c.phones {
		p.judge(accepted, known)
		all.Tally.add(p.tally)
		for number, ids := range p.letters {
			all.Letters[number] = append(all.Letters[number], len(ids))
			all.Who[number] = append(all.Who[number], p.index)
		}
	}
	return all, nil
}

// countPresence compares what the hub says of each group's room with who is in it, by the differences.
func (c *crowd) countPresence() (differences []int) {
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for g := range c.Groups {
		want := 0
		var asker *phone
		for _, p := range c.phones {
			if p.group != g {
				continue
			}
			p.player.ask(func() {
				if p.line != nil && p.arrived && !p.over && !p.out {
					want++
					asker = p
				}
			})
		}
		if asker == nil {
			continue
		}
		waiting.Add(1)
		var once sync.Once
		asker.player.post(func() {
			asker.askPresence(func(count int) {
				once.Do(func() {
					mu.Lock()
					differences = append(differences, max(count-want, want-count))
					mu.Unlock()
					waiting.Done()
				})
			})
		})
	}
	waiting.Wait()
	return differences
}

func (c *crowd) close() {
	for _, p := range c.players {
		p.loop.close()
	}
}

// broadcasts are messages whose payload names run and number, and is compared whole.
type broadcasts struct{ run, pad string }

const broadcastAction = "loadtest"

func padding(n int) string { return strings.Repeat("~", n) }

func (b broadcasts) payload(n int) json.RawMessage {
	return json.RawMessage(`{"run":"` + b.run + `","n":` + strconv.Itoa(n) + `,"pad":"` + b.pad + `"}`)
}

func (b broadcasts) recogniser(messages int) func(string, json.RawMessage) (int, bool) {
	return func(action string, payload json.RawMessage) (int, bool) {
		var p struct {
			Run string
			N   int
		}
		if action != broadcastAction || json.Unmarshal(payload, &p) != nil || p.Run != b.run || p.N < 0 || p.N >= messages {
			return -1, false
		}
		return p.N, bytes.Equal(payload, b.payload(p.N))
	}
}

// recogniseQuestion knows what our users ask the customer service: "RUN n".
func recogniseQuestion(run string, messages int) func(string, json.RawMessage) (int, bool) {
	return func(action string, payload json.RawMessage) (int, bool) {
		if action != "kf.message" {
			return -1, false
		}
		text, ours := strings.CutPrefix(jsonText(payload, "content"), run+" ")
		n, err := strconv.Atoi(text)
		if !ours || err != nil || n < 0 || n >= messages {
			return -1, false
		}
		return n, true
	}
}
