package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func seqsOf(letters []Letter) (seqs []uint64) {
	for _, l := range letters {
		seqs = append(seqs, l.Seq)
	}
	return seqs
}

func testMail(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	p := must(db.ReadMail(ctx, "alice", 0, 10, false))(t)
	if p.First != 1 || p.Head != 0 || p.Epoch == "" || len(p.Letters) != 0 {
		t.Errorf("empty %+v", p)
	}
	said := time.Date(2026, 2, 1, 0, 0, 0, 5e6, time.UTC)
	payload := json.RawMessage(`{ "text" : "a\u0062<>" }`)
	seqs := must(db.AddMail(ctx, []string{"bob", "alice", "bob"}, Letter{ID: "l1", Action: "hello", Payload: payload, At: said}))(t)
	if !slices.Equal(seqs, []uint64{1, 1, 1}) {
		t.Errorf("seqs %v", seqs)
	}
	for i := 2; i <= 5; i++ {
		seqs = must(db.AddMail(ctx, []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "hello"}))(t)
		if seqs[0] != uint64(i) {
			t.Errorf("seq %d, want %d", seqs[0], i)
		}
	}
	seqs = must(db.AddMail(ctx, []string{"carol", "alice", "bob"}, Letter{ID: "l3", Action: "again"}))(t)
	if !slices.Equal(seqs, []uint64{1, 3, 2}) {
		t.Errorf("seqs of a repeat %v", seqs)
	}
	for _, one := range []struct {
		after  uint64
		limit  int
		newest bool
		want   []uint64
	}{
		{0, 0, false, []uint64{1, 2, 3, 4, 5}},
		{0, 2, false, []uint64{1, 2}},
		{2, 2, false, []uint64{3, 4}},
		{0, 2, true, []uint64{4, 5}},
		{4, 2, true, []uint64{5}},
		{5, 2, false, nil},
		{1 << 63, 2, false, nil},
	} {
		p := must(db.ReadMail(ctx, "alice", one.after, one.limit, one.newest))(t)
		if got := seqsOf(p.Letters); !slices.Equal(got, one.want) || p.First != 1 || p.Head != 5 {
			t.Errorf("%+v: %v of %d-%d", one, got, p.First, p.Head)
		}
	}
	l := must(db.ReadMail(ctx, "alice", 0, 3, false))(t).Letters
	if string(l[0].Payload) != string(payload) || !l[0].At.Equal(said) || !l[1].At.Equal(c.now()) || l[1].Payload != nil || l[2].Action != "hello" {
		t.Errorf("letters %+v", l)
	}
	ack := func(seq, want uint64) {
		t.Helper()
		check(t, db.AckMail(ctx, "alice", seq))
		if h := must(db.MailHeads(ctx, []string{"alice"}))(t)[0]; h.Acked != want {
			t.Errorf("acked %d after ack %d, want %d", h.Acked, seq, want)
		}
	}
	ack(3, 3)
	ack(2, 3)
	ack(99, 5)
	ack(1<<64-1, 5)
	check(t, db.AckMail(ctx, "nobody", 3))

	many := []string{"nobody", "bob"}
	for i := range 1200 {
		many = append(many, fmt.Sprint("user", i))
	}
	heads := must(db.MailHeads(ctx, append(many, "alice")))(t)
	if len(heads) != 1203 || heads[0] != (MailHead{p.Epoch, 0, 0}) || heads[1] != (MailHead{p.Epoch, 2, 0}) || heads[1202] != (MailHead{p.Epoch, 5, 5}) {
		t.Errorf("heads %+v %+v %+v", heads[0], heads[1], heads[len(heads)-1])
	}
	if heads := must(db.MailHeads(ctx, nil))(t); len(heads) != 0 {
		t.Errorf("heads of nobody %v", heads)
	}
	if other := open(t, c); other.epoch == db.epoch && other != db {
		t.Error("two databases share an epoch")
	}
}

func testMail_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	// Overlapping lists in different orders, each letter sent twice.
	users := []string{"a", "b", "c", "d", "e"}
	for _, err := range each(60, func(i int) error {
		to := slices.Clone(users)
		slices.Reverse(to[:i%5+1])
		_, err := db.AddMail(ctx, to, Letter{ID: fmt.Sprint("l", i/2), Action: "x"})
		return err
	}) {
		check(t, err)
	}
	for _, u := range users {
		p := must(db.ReadMail(ctx, u, 0, 100, false))(t)
		if p.Head != 30 || len(p.Letters) != 30 || p.Letters[29].Seq != 30 {
			t.Errorf("%s: head %d, %d letters", u, p.Head, len(p.Letters))
		}
	}
}

// testMail_model compares mailboxes with lists.
func testMail_model(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		type box struct {
			letters []string // IDs, from Seq 1
			acked   int
		}
		boxes := make([]box, 3)
		user := func(i int) string { return fmt.Sprintf("run%d-%d", run, i) }
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "user")
			b := &boxes[i]
			switch rapid.IntRange(0, 2).Draw(rt, "what") {
			case 0:
				to := rapid.SliceOfNDistinct(rapid.IntRange(0, 2), 1, 3, rapid.ID[int]).Draw(rt, "to")
				id := fmt.Sprint("l", rapid.IntRange(0, 12).Draw(rt, "id"))
				var users []string
				var want []uint64
				for _, i := range to {
					at := slices.Index(boxes[i].letters, id)
					if at < 0 {
						at = len(boxes[i].letters)
						boxes[i].letters = append(boxes[i].letters, id)
					}
					users, want = append(users, user(i)), append(want, uint64(at+1))
				}
				seqs, err := db.AddMail(ctx, users, Letter{ID: id, Action: "x"})
				if err != nil || !slices.Equal(seqs, want) {
					rt.Fatalf("seqs %v, want %v (%v)", seqs, want, err)
				}
			case 1:
				seq := rapid.IntRange(0, 15).Draw(rt, "seq")
				b.acked = max(b.acked, min(seq, len(b.letters)))
				if err := db.AckMail(ctx, user(i), uint64(seq)); err != nil {
					rt.Fatal(err)
				}
			case 2:
				after, limit := rapid.IntRange(0, 15).Draw(rt, "after"), rapid.IntRange(1, 8).Draw(rt, "limit")
				newest := rapid.Bool().Draw(rt, "newest")
				want := b.letters[min(after, len(b.letters)):]
				if newest {
					want = want[max(0, len(want)-limit):]
				}
				want = want[:min(limit, len(want))]
				p, err := db.ReadMail(ctx, user(i), uint64(after), limit, newest)
				if err != nil || len(p.Letters) != len(want) || p.Head != uint64(len(b.letters)) {
					rt.Fatalf("page %+v, want %v (%v)", p, want, err)
				}
				for k, l := range p.Letters {
					if l.ID != want[k] || b.letters[l.Seq-1] != l.ID {
						rt.Fatalf("letter %d: %+v, want %s", k, l, want[k])
					}
				}
			}
		}
		heads, err := db.MailHeads(ctx, []string{user(0), user(1), user(2)})
		for i, h := range heads {
			if err != nil || h.Head != uint64(len(boxes[i].letters)) || h.Acked != uint64(boxes[i].acked) {
				rt.Fatalf("head %+v, want %+v (%v)", h, boxes[i], err)
			}
		}
	})
}
