package hub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestJoin_recovers(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{ReplayFrames: 50}, Rules: []Rule{
		{Pattern: "room:*", Join: Anyone, Publish: Member, Keep: Keep{60, time.Hour}, Presence: PresenceIDs},
		{Pattern: "*", Join: Anyone, Publish: Member, Presence: PresenceCount},
	}})
	addr := listen(t, h)
	var epoch string
	for range 100 { // 41..100 are kept
		epoch = publish(t, h, "room:a", say("n", "1")).Epoch
	}
	for _, c := range []struct {
		name      string
		epoch     string
		offset    uint64
		recovered bool
		missed    int
	}{
		{"a few", epoch, 97, true, 3},
		{"nothing", epoch, 100, true, 0},
		{"as many as one replay holds", epoch, 50, true, 50},
		{"one more", epoch, 49, false, 0},
		{"further than history", epoch, 10, false, 0},
		{"from the beginning", epoch, 0, false, 0},
		{"future", epoch, 101, false, 0},
		{"another life", "other", 97, false, 0},
		{"no epoch", "", 97, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := func(got *bool, missed int, raw string) {
				t.Helper()
				if got == nil || *got != c.recovered || missed != c.missed {
					t.Errorf("got %s, want recovered %t, missed %d", raw, c.recovered, c.missed)
				}
			}
			replay := func(ws *client) {
				t.Helper()
				for n := range c.missed {
					if f := ws.push(); f.Meta.Offset != c.offset+uint64(n)+1 {
						t.Fatalf("got %s, want offset %d", f.raw, c.offset+uint64(n)+1)
					}
				}
				ws.must(`"action":"ping"`) // and nothing else came
			}
			byFrame := dial(t, addr, "user=ada")
			f := byFrame.must(fmt.Sprintf(`"action":"join","room":"room:a","since":{"epoch":"%s","offset":%d}`, c.epoch, c.offset))
			want(f.Recovered, f.Missed, f.raw)
			if f.Offset != 100 || f.Epoch != epoch {
				t.Errorf("position: %s", f.raw)
			}
			replay(byFrame)
			byQuery := dial(t, addr, fmt.Sprintf("user=ada&room=%s", escape(fmt.Sprintf("room:a@%s:%d", c.epoch, c.offset))))
			r := byQuery.greeting().Rooms[2]
			want(r.Recovered, r.Missed, byQuery.welcome.raw)
			replay(byQuery)
		})
	}
	s := h.Stats()
	if s.Recovered != 6 || s.NotRecovered != 12 {
		t.Errorf("recovered %d, not %d", s.Recovered, s.NotRecovered)
	}
}

// A client drops and returns again and again while others publish: nothing is missing, nothing comes
// twice, nothing is out of order.
func TestJoin_whileOthersPublish(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesPerSecond: 1e6, FramesBurst: 1e6}, Rules: []Rule{
		{Pattern: "*", Join: Anyone, Publish: Anyone, Keep: Keep{100000, time.Hour}, Presence: PresenceCount},
	}})
	addr := listen(t, h)
	const total = 3000
	start := publish(t, h, "room:a", say("n", "0"))
	ctx, cancel := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for range 3 {
		publishers.Go(func() {
			for range total / 3 {
				publish(t, h, "room:a", say("n", "1"))
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			at := start
			for turn := 0; at.Offset < total+1; turn++ {
				var c *client
				since := fmt.Sprintf("%s:%d", at.Epoch, at.Offset)
				if (turn+i)%2 == 0 {
					c = dial(t, addr, fmt.Sprintf("user=u%d&room=room:a@%s", i, since))
				} else {
					c = dial(t, addr, fmt.Sprintf("user=u%d", i))
					c.write(fmt.Sprintf(`{"id":1,"action":"join","room":"room:a","since":{"epoch":"%s","offset":%d}}`, at.Epoch, at.Offset))
				}
				for n := 0; n < 400 && at.Offset < total+1; n++ {
					f := c.next()
					if f.Reply != nil {
						if f.Recovered == nil || !*f.Recovered || f.Offset-at.Offset != uint64(f.Missed) {
							t.Errorf("join at %d: %s", at.Offset, f.raw)
						}
						continue
					}
					if f.Meta.Offset != at.Offset+1 || f.Meta.Epoch != at.Epoch {
						t.Errorf("at %d: %s", at.Offset, f.raw)
						return
					}
					at.Offset++
				}
				_ = c.ws.Close()
			}
		})
	}
	publishers.Wait()
	readers.Wait()
	cancel()
	<-ctx.Done()
}

// Joins and leaves by many sockets while a room speaks; every member hears a run without holes.
func TestRoom_stormOfJoins(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesPerSecond: 1e6, FramesBurst: 1e6}})
	addr := listen(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	var publisher, members sync.WaitGroup
	publisher.Go(func() {
		for ctx.Err() == nil {
			publish(t, h, "room:a", say("n", "1"))
			time.Sleep(50 * time.Microsecond)
		}
	})
	for i := range 20 {
		members.Go(func() {
			c := dial(t, addr, fmt.Sprintf("user=u%d", i%5))
			for range 20 {
				f, pushes := c.ask(`"action":"join","room":"room:a"`)
				at := f.Offset
				for range 5 {
					m := c.push()
					if m.Data.Action != "n" {
						continue
					}
					if at++; m.Meta.Offset != at {
						t.Errorf("joined at %d, heard %s, want %d", f.Offset, m.raw, at)
					}
				}
				for _, p := range pushes {
					t.Errorf("heard before the reply: %s", p.raw)
				}
				_, rest := c.ask(`"action":"leave","room":"room:a"`)
				for _, m := range rest {
					if m.Data.Action != "n" {
						continue
					}
					if at++; m.Meta.Offset != at {
						t.Errorf("heard %s, want %d", m.raw, at)
					}
				}
			}
		})
	}
	members.Wait()
	cancel()
	publisher.Wait()
	eventually(t, "nobody is in the room", func() bool { return h.room("room:a") == nil })
	if err := h.CheckConsistency(); err != nil {
		t.Error(err)
	}
}

func TestPublish_manyAtOnceInOrder(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := listen(t, h)
	var cs []*client
	for i := range 10 {
		cs = append(cs, dial(t, addr, fmt.Sprintf("user=u%d&room=notice", i)))
	}
	const total = 2000
	pad := strings.Repeat("x", 200)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range total / 4 {
				publish(t, h, "notice", say("n", `"`+pad+`"`))
			}
		})
	}
	for _, c := range cs {
		wg.Go(func() {
			for n := uint64(1); n <= total; n++ {
				if f := c.push(); f.Meta.Offset != n {
					t.Errorf("got %d, want %d", f.Meta.Offset, n)
					return
				}
			}
		})
	}
	wg.Wait()
	s := h.Stats()
	if s.Published != total || s.Delivered != 10*total {
		t.Errorf("published %d, delivered %d", s.Published, s.Delivered)
	}
	t.Logf("%d deliveries in %d writes", s.Delivered, s.Written)
}
