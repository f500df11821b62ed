package hub

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A history says whether it lies beside the position that was asked from; paging either way finds every message
// that is kept, once.
func TestHistory_bothWays(t *testing.T) {
	h := newTestHub(t, Options{Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{60, time.Hour}}}})
	c := dial(t, listen(t, h), "user=ada")
	var epoch string
	for range 100 { // 41 to 100 are kept
		epoch = publish(t, h, "room:a", say("n", "1")).Epoch
	}
	for _, q := range []struct {
		fields   string
		from, to int // of the messages; to < from: none
		complete bool
	}{
		{``, 51, 100, true},
		{`,"limit":10`, 91, 100, true},
		{`,"limit":10,"since":{"epoch":"E","offset":50}`, 51, 60, true},
		{`,"limit":10,"since":{"epoch":"E","offset":40}`, 41, 50, true},
		{`,"limit":10,"since":{"epoch":"E","offset":95}`, 96, 100, true},
		{`,"limit":10,"since":{"epoch":"E","offset":100}`, 1, 0, true},
		{`,"limit":10,"since":{"epoch":"E","offset":39}`, 41, 50, false},
		{`,"limit":10,"since":{"epoch":"E","offset":0}`, 41, 50, false},
		{`,"limit":10,"since":{"epoch":"E","offset":101}`, 91, 100, false},
		{`,"limit":10,"since":{"epoch":"E","offset":18446744073709551615}`, 91, 100, false},
		{`,"limit":10,"since":{"epoch":"other","offset":50}`, 91, 100, false},
		{`,"limit":10,"before":{"epoch":"E","offset":101}`, 91, 100, true},
		{`,"limit":10,"before":{"epoch":"E","offset":91}`, 81, 90, true},
		{`,"limit":10,"before":{"epoch":"E","offset":46}`, 41, 45, true},
		{`,"limit":10,"before":{"epoch":"E","offset":41}`, 1, 0, true},
		{`,"limit":10,"before":{"epoch":"E","offset":40}`, 1, 0, false},
		{`,"limit":10,"before":{"epoch":"E","offset":0}`, 1, 0, false},
		{`,"limit":10,"before":{"epoch":"E","offset":102}`, 91, 100, false},
		{`,"limit":10,"before":{"epoch":"E","offset":18446744073709551615}`, 91, 100, false},
		{`,"limit":10,"before":{"epoch":"other","offset":50}`, 91, 100, false},
	} {
		f := c.must(`"action":"history","room":"room:a"` + strings.ReplaceAll(q.fields, `"E"`, `"`+epoch+`"`))
		got := ""
		for _, m := range f.Messages {
			got += fmt.Sprint(" ", m.Meta.Offset)
		}
		want := ""
		for n := q.from; n <= q.to; n++ {
			want += fmt.Sprint(" ", n)
		}
		if got != want || f.Complete == nil || *f.Complete != q.complete || f.First != 41 || f.Offset != 100 || f.Epoch != epoch {
			t.Errorf("history %s: got%s, want%s; %.120s", q.fields, got, want, f.raw)
		}
	}
	next, seen := uint64(101), 0
	for {
		f := c.must(fmt.Sprintf(`"action":"history","room":"room:a","limit":7,"before":{"epoch":"%s","offset":%d}`, epoch, next))
		for i := len(f.Messages) - 1; i >= 0; i-- {
			if next--; f.Messages[i].Meta.Offset != next {
				t.Fatalf("paging back: %d, want %d", f.Messages[i].Meta.Offset, next)
			}
			seen++
		}
		if next == f.First {
			break
		}
	}
	if seen != 60 {
		t.Errorf("paged back over %d messages", seen)
	}
	f := c.must(`"action":"history","room":"room:never"`)
	if f.First != 1 || f.Offset != 0 || len(f.Messages) != 0 || !*f.Complete {
		t.Errorf("history of silence: %s", f.raw)
	}
}

// Messages that do not fit into one reply are left out at the end from which the client goes on.
func TestHistory_largeMessages(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{QueueBytes: 64 << 10}, Rules: []Rule{{Pattern: "*", Join: Anyone, Publish: Member, Keep: Keep{60, time.Hour}}}})
	c := dial(t, listen(t, h), "user=ada")
	var epoch string
	for range 20 {
		epoch = publish(t, h, "room:a", say("n", `"`+strings.Repeat("x", 10<<10)+`"`)).Epoch
	}
	if f := c.must(`"action":"history","room":"room:a","before":{"epoch":"` + epoch + `","offset":11}`); len(f.Messages) != 3 || f.Messages[2].Meta.Offset != 10 || !*f.Complete {
		t.Errorf("%d messages, last %d", len(f.Messages), f.Messages[len(f.Messages)-1].Meta.Offset)
	}
	if f := c.must(`"action":"history","room":"room:a","since":{"epoch":"` + epoch + `","offset":5}`); len(f.Messages) != 3 || f.Messages[0].Meta.Offset != 6 || !*f.Complete {
		t.Errorf("%d messages, first %d", len(f.Messages), f.Messages[0].Meta.Offset)
	}
}
