package jobs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/store"
)

// A run of mail to many people of whom a fifth is away: every letter is accounted for, by our receipts and by what phones
// and WeChat received. With WXHUB_CHAOS=long there are 10,000 letters.
func TestMail_everyLetterAccountedFor(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testAccount(t, filepath.Join(t.TempDir(), "wxhub.db")) })
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("skipped: -short")
		}
		testAccount(t, startPostgres(t))
	})
}

func testAccount(t *testing.T, url string) {
	people, each := 100, 10
	if os.Getenv("WXHUB_CHAOS") == "long" {
		people = 1000
	}
	s := newStage(t, url, nil)
	rules := testRules
	rules[0].After = 3
	var err error
	if s.book, err = NewFallbacks(t.Context(), s.db, rules); err != nil {
		t.Fatal(err)
	}
	all := make([]*person, people)
	var heard atomic.Int64 // letters that phones received, each once
	var phones sync.WaitGroup
	var sockets []*websocket.Conn
	for i := range all {
		p := s.person()
		all[i] = p
		switch i % 10 {
		case 0: // away; WeChat takes five customer-service messages, and two subscribe messages are granted
			p.speak(true)
			p.grant(true, true)
			p.grant(true, true)
		case 1: // away; half of them granted one subscribe message, the others nothing
			if i%20 == 1 {
				p.grant(true, true)
			}
		default:
			ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), s.ws+"?user="+p.user.ID, nil)
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, ws)
			phones.Go(func() { listenAndAck(ws, p.user.ID, each, &heard) })
		}
	}
	stop1 := run(s.node("one", nil))
	stop2 := run(s.node("two", nil))
	defer func() { stop2() }()
	ids := make([]string, people)
	for i, p := range all {
		ids[i] = p.user.ID
	}
	begin := time.Now()
	for i := range each {
		if _, err := s.db.AddMail(t.Context(), ids, store.Letter{ID: fmt.Sprint("m", i), Action: "order.paid", Payload: json.RawMessage(`{"description":"新茶 250 克","total":12800}`)}); err != nil {
			t.Fatal(err)
		}
	}
	stored := time.Since(begin)
	stop1() // one node leaves in between
	var c store.ReceiptCounts
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c = store.ReceiptCounts{}
		for i := range each {
			one, err := s.db.CountReceipts(t.Context(), fmt.Sprint("m", i))
			if err != nil {
				t.Fatal(err)
			}
			c.Stored += one.Stored
			c.Relayed += one.Relayed
			c.Written += one.Written
			c.Acked += one.Acked
			c.Sent += one.Sent
			c.Held += one.Held
			c.Waiting += one.Waiting
			c.Unknown += one.Unknown
			c.Expired += one.Expired
		}
		if c.Acked+c.Sent+c.Held+c.Unknown+c.Expired == people*each {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not accounted for after two minutes: %+v", c)
		}
	}
	took := time.Since(begin)
	for _, ws := range sockets {
		_ = ws.Close()
	}
	phones.Wait()
	custom, subscribe := s.sent()
	t.Logf("%d letters to %d people, a fifth of them away: stored in %v; after %v %d delivered and acknowledged, %d fallen back (%d customer-service, %d subscribe messages), %d waiting, %d unknown, 0 unaccounted for",
		c.Stored, people, stored.Round(time.Millisecond), took.Round(time.Millisecond), c.Acked, c.Sent, custom, subscribe, c.Held, c.Unknown)
	online := people / 10 * 8 * each
	wantCustom, wantSubscribe := people/10*5, people/10*2+people/20
	if c.Stored != people*each || c.Relayed != c.Stored || c.Acked != online || c.Written != online || int(heard.Load()) != online {
		t.Errorf("phones heard %d: %+v", heard.Load(), c)
	}
	if custom != wantCustom || subscribe != wantSubscribe || c.Sent != custom+subscribe || c.Unknown != 0 || c.Held != people*each-online-c.Sent {
		t.Errorf("WeChat received %d and %d, want %d and %d: %+v", custom, subscribe, wantCustom, wantSubscribe, c)
	}
}

// sent is how much WeChat ever gave to phones.
func (s *stage) sent() (custom, subscribe int) {
	s.t.Helper()
	r, err := http.Get(s.sim + "/sim/state")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	var state struct {
		Counts   map[string]int
		Messages []struct{ Kind string }
	}
	if err := json.NewDecoder(r.Body).Decode(&state); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range state.Messages {
		if m.Kind == "custom" {
			custom++
		} else {
			subscribe++
		}
	}
	if len(state.Messages) != state.Counts["messages"] {
		s.t.Fatalf("the simulator lists %d of %d messages", len(state.Messages), state.Counts["messages"])
	}
	return custom, subscribe
}

// listenAndAck is a phone: it counts each letter once and acknowledges what it has.
func listenAndAck(ws *websocket.Conn, user string, letters int, heard *atomic.Int64) {
	have := uint64(0)
	for n := 1; ; {
		var f struct {
			Meta struct {
				Room   string
				Offset uint64
			}
		}
		if err := ws.ReadJSON(&f); err != nil {
			return
		}
		if f.Meta.Room != "user:"+user || f.Meta.Offset != have+1 {
			continue
		}
		have++
		heard.Add(1)
		if have%3 == 0 || have == uint64(letters) {
			n++
			if err := ws.WriteJSON(map[string]any{"id": n, "action": "ack", "room": f.Meta.Room, "offset": have}); err != nil {
				return
			}
		}
	}
}
