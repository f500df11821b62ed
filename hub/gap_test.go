package hub

import (
	"context"
	"sync"
	"testing"
	"time"
)

// A lossyBroker is a Broker whose announcements get lost, as those of a dead subscription do.
type lossyBroker struct {
	*MemoryBroker
	mu   sync.Mutex
	deaf bool
}

func (b *lossyBroker) Listen(deliver func(room, epoch string, m Message)) {
	b.MemoryBroker.Listen(func(room, epoch string, m Message) {
		b.mu.Lock()
		deaf := b.deaf
		b.mu.Unlock()
		if !deaf {
			deliver(room, epoch, m)
		}
	})
}

func (b *lossyBroker) set(deaf bool) {
	b.mu.Lock()
	b.deaf = deaf
	b.mu.Unlock()
}

func newLossyBroker(t *testing.T) *lossyBroker {
	return &lossyBroker{MemoryBroker: newMemoryBroker(t).(*MemoryBroker)}
}

func TestRoom_lostAnnouncementsAreRead(t *testing.T) {
	b := newLossyBroker(t)
	h := newTestHub(t, Options{Broker: b})
	c := dial(t, listen(t, h), "user=ada&room=notice")
	publish(t, h, "notice", say("n", "1"))
	b.set(true)
	for range 250 {
		publish(t, h, "notice", say("n", "1"))
	}
	b.set(false)
	publish(t, h, "notice", say("n", "1"))
	for n := uint64(1); n <= 252; n++ {
		if f := c.push(); f.Meta.Offset != n {
			t.Fatalf("got %s, want %d", f.raw, n)
		}
	}
	c.must(`"action":"ping"`)
}

func TestRoom_lostForGoodIsAnnounced(t *testing.T) {
	b := newLossyBroker(t)
	h := newTestHub(t, Options{Broker: b, Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Admin, Keep: Keep{Size: 5, Age: time.Hour}}}})
	addr := listen(t, h)
	c := dial(t, addr, "user=ada&room=notice")
	at := publish(t, h, "notice", say("n", "1"))
	c.push()
	b.set(true)
	for range 10 {
		publish(t, h, "notice", say("n", "1"))
	}
	b.set(false)
	publish(t, h, "notice", say("n", "1"))
	c.wantClosed(4413, "slow")
	back := dial(t, addr, "user=ada&room=notice@"+at.Epoch+":1")
	if r := back.greeting().Rooms[2]; r.Recovered == nil || *r.Recovered || r.Offset != 12 {
		t.Errorf("welcome: %s", back.welcome.raw)
	}
}

func TestRoom_anotherLifeOfTheStream(t *testing.T) {
	b := newLossyBroker(t)
	h := newTestHub(t, Options{Broker: b})
	c := dial(t, listen(t, h), "user=ada&room=notice")
	old := publish(t, h, "notice", say("n", "1"))
	c.push()
	sh := b.shard("notice")
	sh.mu.Lock()
	sh.forget("notice", sh.streams["notice"])
	sh.subscribed["notice"] = sh.epoch
	sh.mu.Unlock()
	for n := uint64(1); n <= 3; n++ {
		at := publish(t, h, "notice", say("n", "1"))
		if f := c.push(); f.Meta.Epoch == old.Epoch || f.Meta.Epoch != at.Epoch || f.Meta.Offset != n {
			t.Errorf("got %s, want %d of %s", f.raw, n, at.Epoch)
		}
	}
}

// failingBroker refuses everything.
type failingBroker struct{ *MemoryBroker }

func (failingBroker) Publish(context.Context, string, Message, Keep) (Position, error) {
	return Position{}, errBroken
}
func (failingBroker) Subscribe(context.Context, string) error { return errBroken }

func TestAccept_brokerAway(t *testing.T) {
	h := newTestHub(t, Options{Broker: failingBroker{newMemoryBroker(t).(*MemoryBroker)}, Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Anyone}}})
	c := dial(t, listen(t, h), "user=ada&room=notice")
	if w := c.greeting(); len(w.Rooms) != 0 || len(w.Refused) != 3 || w.Refused[2].Error != "unavailable" {
		t.Errorf("welcome: %s", c.welcome.raw)
	}
	c.refused("unavailable", `"action":"join","room":"room:a"`)
	c.refused("unavailable", `"action":"publish","room":"room:a","data":{"action":"x","payload":1}`)
	if _, err := h.Publish(t.Context(), "all", say("x", "1")); err == nil {
		t.Error("no error")
	}
}
