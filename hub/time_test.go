package hub

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// inTime runs f in synthetic time with a hub and pipes.
func inTime(t *testing.T, o Options, f func(t *testing.T, h *Hub)) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, o)
		f(t, h)
		synctest.Wait()
		if err := h.CheckConsistency(); err != nil {
			t.Error(err)
		}
	})
}

func TestHeartbeat_whenNothingWasSent(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		for range 5 {
			start := time.Now()
			f, err := c.read()
			if err != nil || f.Ping == 0 {
				t.Fatalf("%s, %v", f.raw, err)
			}
			if d := time.Since(start); d < 24*time.Second || d > 26*time.Second {
				t.Errorf("heartbeat after %s", d)
			}
			if off := time.Since(time.UnixMilli(f.Ping)).Abs(); off > time.Second {
				t.Errorf("heartbeat says %d, off by %s", f.Ping, off)
			}
			c.write(`{"pong":1}`)
		}
		// Something said in between moves it.
		time.Sleep(20 * time.Second)
		publish(t, h, "all", say("x", "1"))
		c.push()
		start := time.Now()
		if f, _ := c.read(); f.Ping == 0 || time.Since(start) < 24*time.Second {
			t.Errorf("%s after %s", f.raw, time.Since(start))
		}
	})
}

func TestHeartbeat_anythingIsAnAnswer(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		for _, answer := range []string{`{"pong":1}`, `{"ping":2}`, `{}`, `pong`, ``, `{"action":"ping"}`, `[1]`} {
			if f, err := c.read(); err != nil || f.Ping == 0 {
				t.Fatalf("%s, %v", f.raw, err)
			}
			c.write(answer)
			if answer == `{"action":"ping"}` {
				if f := c.next(); !f.OK || string(f.Reply) != "null" && f.Reply != nil {
					t.Errorf("%s", f.raw)
				}
			}
		}
		c.must(`"action":"ping"`)
		if n := h.Stats().BadFrames; n != 0 {
			t.Errorf("%d bad frames", n)
		}
	})
}

func TestHeartbeat_silentClientIsClosed(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		c.ws.SetPingHandler(func(string) error { return nil })
		start := time.Now()
		c.wantClosed(4408, "silent")
		if d := time.Since(start); d < 58*time.Second || d > 62*time.Second {
			t.Errorf("closed after %s", d)
		}
	})
}

func TestHeartbeat_protocolPongKeepsASilentPage(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada") // answers protocol pings while it reads, and says nothing
		start := time.Now()
		for time.Since(start) < 10*time.Minute {
			if f, err := c.read(); err != nil || f.Ping == 0 {
				t.Fatalf("after %s: %s, %v", time.Since(start), f.raw, err)
			}
		}
	})
}

func TestHeartbeat_busyRoomDoesNotHideADeadPeer(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		c.ws.SetPingHandler(func(string) error { return nil })
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					publish(t, h, "all", say("x", "1"))
				}
			}
		}()
		c.wantClosed(4408, "silent")
	})
}

// Whoever vanished without a word is no ghost: out of the room within the time that a silent line may take.
func TestPresence_noGhosts(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		ada := dialPipe(t, h, "user=ada&room=room:a")
		go func() { // lives
			for {
				if _, err := ada.read(); err != nil {
					return
				}
			}
		}()
		ghost := dialPipe(t, h, "user=bob&room=room:a") // neither reads nor writes from now on
		cut := dialPipe(t, h, "user=cy&room=room:a")
		_ = cut.ws.NetConn().Close()
		synctest.Wait()
		in := func() string {
			p, err := h.Presence(t.Context(), "room:a")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(p.Count, p.Users)
		}
		if got := in(); got != "2 [{ada 1} {bob 1}]" {
			t.Errorf("after the cut: %s", got)
		}
		time.Sleep(70 * time.Second)
		if got := in(); got != "1 [{ada 1}]" {
			t.Errorf("after a minute of silence: %s", got)
		}
		_ = ghost
	})
}

func TestExpiry_closesAndRefreshPostpones(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada&exp=90s")
		start := time.Now()
		c.wantClosed(4401, "token_expired")
		if d := time.Since(start); d < 89*time.Second || d > 91*time.Second {
			t.Errorf("closed after %s", d)
		}
	})
	inTime(t, Options{Authenticate: refreshTo(10 * time.Second)}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada&exp=5s")
		time.Sleep(4 * time.Second)
		c.must(`"action":"refresh","token":"t"`)
		start := time.Now()
		c.wantClosed(4401, "token_expired")
		if d := time.Since(start); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("closed after %s", d)
		}
	})
}

func TestAnnounce_joinsAndLeavesSettle(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		ada := dialPipe(t, h, "user=ada&room=room:tea")
		told := func(want string) {
			t.Helper()
			f := ada.push()
			if got := fmt.Sprintf("%s %s", f.Data.Action, f.Data.Payload); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
			if f.Meta.Offset != 0 || f.Meta.Room != "room:tea" || f.Meta.Timestamp == 0 || strings.Contains(f.raw, "client") {
				t.Errorf("announcement: %s", f.raw)
			}
		}
		told(`join {"user":"ada"}`)
		bob := dialPipe(t, h, "user=bob&room=room:tea")
		start := time.Now()
		told(`join {"user":"bob"}`)
		if d := time.Since(start); d < 1500*time.Millisecond || d > 3*time.Second {
			t.Errorf("told after %s", d)
		}
		// A second socket, a reconnect: nothing to tell.
		bob2 := dialPipe(t, h, "user=bob&room=room:tea")
		_ = bob.ws.Close()
		time.Sleep(5 * time.Second)
		_ = bob2.ws.Close()
		time.Sleep(time.Second)
		bob3 := dialPipe(t, h, "user=bob&room=room:tea")
		time.Sleep(5 * time.Second)
		_ = bob3.ws.Close()
		told(`leave {"user":"bob"}`)
		if f := ada.must(`"action":"history","room":"room:tea"`); len(f.Messages) != 0 {
			t.Errorf("announcements are kept: %s", f.raw)
		}
	})
}

func TestAnnounce_notInALargeRoom(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		first := dialPipe(t, h, "user=first&room=room:big")
		first.push()
		for i := range announceMax {
			c := dialPipe(t, h, fmt.Sprintf("user=u%d&room=room:big", i))
			go func() {
				for {
					if _, err := c.read(); err != nil {
						return
					}
				}
			}()
		}
		time.Sleep(10 * time.Second)
		if f := first.must(`"action":"presence","room":"room:big"`); f.Count != announceMax+1 {
			t.Errorf("count %d", f.Count)
		}
	})
}

func TestClose_peerThatNeverAnswers(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		c.ws.SetCloseHandler(func(int, string) error { return nil }) // no close frame comes back
		go h.Disconnect(Target{User: "ada"}, DisconnectBlocked)
		c.wantClosed(4503, "blocked")
		time.Sleep(6 * time.Second)
		if n := h.Stats().Sockets; n != 0 {
			t.Errorf("%d sockets after the bounded wait", n)
		}
	})
}

func TestClose_stuckPipeIsCut(t *testing.T) {
	inTime(t, Options{Limits: Limits{QueueFrames: 10}}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada") // reads nothing more
		for range 20 {
			publish(t, h, "all", say("x", "1"))
		}
		time.Sleep(10 * time.Second)
		s := h.Stats()
		if s.Sockets != 0 || s.Dropped != 1 || s.Closed[4413] != 1 {
			t.Errorf("%+v", s)
		}
		_ = c
	})
}

func TestShutdown_spreadsGoodbyes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		const n = 20
		start := time.Now()
		reasons := make(chan string, n)
		ended := make(chan time.Duration, n)
		for i := range n {
			c := dialPipe(t, h, fmt.Sprintf("user=u%d", i))
			go func() {
				code, reason := c.closed()
				if code != 1012 {
					t.Errorf("closed with %d", code)
				}
				reasons <- reason
				ended <- time.Since(start)
			}()
		}
		ctx, cancel := contextTimeout(t, 10*time.Second)
		defer cancel()
		done := make(chan error)
		go func() { done <- h.Shutdown(ctx) }()
		time.Sleep(time.Second)
		if _, err := tryDial(t, pipeDialer(h), "ws://hub", "user=late"); err == nil {
			t.Error("a new socket while stopping")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		different, last := map[string]bool{}, time.Duration(0)
		for range n {
			different[<-reasons] = true
			last = max(last, <-ended)
		}
		if len(different) < n/2 {
			t.Errorf("hints: %v", different)
		}
		for r := range different {
			if !strings.HasPrefix(r, "restart;retry=") {
				t.Errorf("reason %q", r)
			}
		}
		if last < 4*time.Second || last > 8*time.Second {
			t.Errorf("the last goodbye after %s", last)
		}
		if _, err := h.Publish(t.Context(), "all", say("x", "1")); err == nil {
			t.Error("published after the shutdown")
		}
	})
}

func TestShutdown_cutsWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := dialPipe(t, h, "user=ada")
		c.ws.SetCloseHandler(func(int, string) error { return nil })
		ctx, cancel := contextTimeout(t, time.Second)
		defer cancel()
		start := time.Now()
		if err := h.Shutdown(ctx); err == nil {
			t.Error("no error for a socket that was cut")
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %s", d)
		}
	})
}

func TestDisconnect_byRoomUserAndSession(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		a1 := dialPipe(t, h, "user=ada&jti=1&room=room:x")
		a2 := dialPipe(t, h, "user=ada&jti=2")
		b := dialPipe(t, h, "user=bob&jti=3&room=room:x")
		c := dialPipe(t, h, "user=cy&jti=4")
		for _, step := range []struct {
			target Target
			want   int
			gone   []*client
		}{
			{Target{}, 0, nil},
			{Target{User: "ada", Room: "room:y"}, 0, nil},
			{Target{User: "bob", Session: "1"}, 0, nil},
			{Target{Session: "4"}, 1, []*client{c}},
			{Target{User: "ada", Session: "2"}, 1, []*client{a2}},
			{Target{Room: "room:x"}, 2, []*client{a1, b}},
		} {
			if n := h.Disconnect(step.target, DisconnectBlocked); n != step.want {
				t.Errorf("%+v: %d sockets, want %d", step.target, n, step.want)
			}
			for _, ws := range step.gone {
				ws.wantClosed(4503, "blocked")
			}
			synctest.Wait()
		}
		if s := h.Stats(); s.Sockets != 0 || s.Rooms != 0 || s.Closed[4503] != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAccept_ninthSocketReplacesTheOldest(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		var cs []*client
		for range 8 {
			cs = append(cs, dialPipe(t, h, "user=ada"))
		}
		synctest.Wait()
		cs = append(cs, dialPipe(t, h, "user=ada"))
		cs[0].wantClosed(4509, "replaced")
		cs = append(cs, dialPipe(t, h, "user=ada"))
		cs[1].wantClosed(4509, "replaced")
		for _, c := range cs[2:] {
			c.must(`"action":"ping"`)
		}
	})
}

// A disconnect by an admin says what it is: nobody is barred.
func TestDisconnect_kicked(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada")
		h.Disconnect(Target{User: "ada"}, DisconnectKicked)
		c.wantClosed(4503, "kicked")
		dialPipe(t, h, "user=ada").must(`"action":"ping"`)
	})
}

func TestClose_byTheClient(t *testing.T) {
	inTime(t, Options{}, func(t *testing.T, h *Hub) {
		c := dialPipe(t, h, "user=ada&room=room:x")
		go func() {
			_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "interrupted"), time.Now().Add(time.Second))
		}()
		if code, _ := c.closed(); code != 1000 {
			t.Errorf("echoed %d", code)
		}
		synctest.Wait()
		if s := h.Stats(); s.Sockets != 0 || s.Closed[1000] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func contextTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func refreshTo(d time.Duration) func(context.Context, string) (Session, error) {
	return func(context.Context, string) (Session, error) {
		return Session{User: "ada", ExpiresAt: time.Now().Add(d)}, nil
	}
}
