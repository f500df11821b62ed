package hub

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBroker(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testBroker(t, newMemoryBroker) })
}

func newMemoryBroker(t *testing.T) Broker {
	b, err := NewMemoryBroker(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// heard collects what a Broker delivers in the room r.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (l *heard) deliver(room, epoch string, m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room != "r" { // others may be delivered too
		return
	}
	l.list = append(l.list, fmt.Sprintf("%s %s/%d", room, m.Action, m.Offset))
}

func (l *heard) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.list...)
}

// testBroker is what every Broker must do.
func testBroker(t *testing.T, make func(*testing.T) Broker) {
	ctx := t.Context()
	keep := Keep{Size: 5, Age: time.Hour}
	open := func(t *testing.T) (Broker, *heard) {
		b, l := make(t), new(heard)
		b.Listen(l.deliver)
		t.Cleanup(func() { _ = b.Close() })
		return b, l
	}
	must := func(t *testing.T, b Broker, room string, m Message, keep Keep) Position {
		t.Helper()
		m.At = time.Now()
		at, err := b.Publish(ctx, room, m, keep)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	read := func(t *testing.T, b Broker, room string, q Query) (Page, string) {
		t.Helper()
		p, err := b.Read(ctx, room, q)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, m := range p.Messages {
			s = append(s, fmt.Sprintf("%s/%d", m.Action, m.Offset))
		}
		return p, strings.Join(s, " ")
	}

	t.Run("offsets are dense and read back", func(t *testing.T) {
		b, _ := open(t)
		first := must(t, b, "r", say("a", "1"), keep)
		if first.Offset != 1 || first.Epoch == "" || strings.ContainsAny(first.Epoch, ":@") {
			t.Fatalf("first position %+v", first)
		}
		for i := 2; i <= 8; i++ {
			if at := must(t, b, "r", say("a", "1"), keep); at != (Position{first.Epoch, uint64(i)}) {
				t.Fatalf("position %+v, want %d", at, i)
			}
		}
		for _, c := range []struct {
			q    Query
			want string
		}{
			{Query{Limit: 10}, "a/4 a/5 a/6 a/7 a/8"},
			{Query{Limit: 2}, "a/4 a/5"},
			{Query{After: 6, Limit: 10}, "a/7 a/8"},
			{Query{After: 8, Limit: 10}, ""},
			{Query{After: 99, Limit: 10}, ""},
			{Query{Newest: true, Limit: 2}, "a/7 a/8"},
			{Query{Newest: true, After: 7, Limit: 2}, "a/8"},
			{Query{}, ""},
		} {
			p, got := read(t, b, "r", c.q)
			if got != c.want || p.Epoch != first.Epoch || p.First != 4 || p.Head != 8 {
				t.Errorf("%+v: %s in %+v, want %s", c.q, got, p, c.want)
			}
		}
		heads, err := b.Heads(ctx, []string{"empty", "r", "r"})
		if err != nil || len(heads) != 3 || heads[0].Offset != 0 || heads[0].Epoch == "" || heads[1] != (Position{first.Epoch, 8}) || heads[2] != heads[1] {
			t.Errorf("heads %+v, %v", heads, err)
		}
	})

	t.Run("payload, times and names come back as they went", func(t *testing.T) {
		b, _ := open(t)
		m := Message{ID: "i", Action: "a b", Payload: []byte("{ \"x\" :\n1.0}"), At: time.UnixMilli(1_700_000_000_123), Client: "c", Target: "t"}
		if _, err := b.Publish(ctx, "r", m, keep); err != nil {
			t.Fatal(err)
		}
		p, _ := read(t, b, "r", Query{Limit: 1})
		got := p.Messages[0]
		if got.ID != m.ID || got.Action != m.Action || !bytes.Equal(got.Payload, m.Payload) || !got.At.Equal(m.At) || got.Client != "c" || got.Target != "t" || got.Offset != 1 {
			t.Errorf("read %+v", got)
		}
	})

	t.Run("a repeated ID is one message", func(t *testing.T) {
		b, l := open(t)
		if err := b.Subscribe(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		m := say("a", "1")
		m.ID = "same"
		first := must(t, b, "r", m, Keep{Size: 1, Age: time.Hour})
		must(t, b, "r", say("b", "1"), Keep{Size: 1, Age: time.Hour})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if at, err := b.Publish(ctx, "r", m, keep); err != nil || at != first {
					t.Errorf("repeat: %+v, %v", at, err)
				}
			})
		}
		wg.Wait()
		if at := must(t, b, "other", m, keep); at.Offset != 1 {
			t.Errorf("the same ID in another room: %+v", at)
		}
		eventuallyList(t, l, "r a/1,r b/2")
		p, _ := read(t, b, "r", Query{Limit: 5})
		if p.Messages[0].ID == "" {
			t.Error("the broker made no ID")
		}
	})

	t.Run("nothing kept", func(t *testing.T) {
		b, l := open(t)
		if err := b.Subscribe(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		must(t, b, "r", say("a", "1"), Keep{})
		if at := must(t, b, "r", say("a", "2"), Keep{}); at.Offset != 2 {
			t.Errorf("position %+v", at)
		}
		if p, got := read(t, b, "r", Query{Limit: 5}); got != "" || p.First != 3 || p.Head != 2 {
			t.Errorf("%+v", p)
		}
		eventuallyList(t, l, "r a/1,r a/2")
	})

	t.Run("what is said is not kept", func(t *testing.T) {
		b, l := open(t)
		if err := b.Subscribe(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		must(t, b, "r", say("a", "1"), keep)
		if err := b.Say(ctx, "r", say("live", "1")); err != nil {
			t.Fatal(err)
		}
		must(t, b, "r", say("b", "1"), keep)
		if _, got := read(t, b, "r", Query{Limit: 5}); got != "a/1 b/2" {
			t.Error(got)
		}
		eventuallyList(t, l, "r a/1,r live/0,r b/2")
	})

	t.Run("concurrent publishers are heard in offset order", func(t *testing.T) {
		b, l := open(t)
		if err := b.Subscribe(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					must(t, b, "r", say("a", "1"), keep)
				}
			})
		}
		wg.Wait()
		var want []string
		for i := 1; i <= 400; i++ {
			want = append(want, fmt.Sprintf("r a/%d", i))
		}
		eventuallyList(t, l, strings.Join(want, ","))
	})

	t.Run("closed", func(t *testing.T) {
		b, _ := open(t)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(ctx, "r", say("a", "1"), keep); err == nil {
			t.Error("published after Close")
		}
	})
}

func eventuallyList(t *testing.T, l *heard, want string) {
	t.Helper()
	eventually(t, want, func() bool { return len(l.all()) >= strings.Count(want, ",")+1 })
	if got := strings.Join(l.all(), ","); got != want {
		t.Errorf("heard %s, want %s", got, want)
	}
}

func TestMemoryBroker_age(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t).(*MemoryBroker)
		ctx, keep := t.Context(), Keep{Size: 10, Age: time.Minute}
		m := say("a", "1")
		m.ID = "once"
		first, _ := b.Publish(ctx, "r", m, keep)
		time.Sleep(40 * time.Second)
		_, _ = b.Publish(ctx, "r", say("b", "1"), keep)
		time.Sleep(30 * time.Second)
		if p, _ := b.Read(ctx, "r", Query{Limit: 9}); p.First != 2 || p.Head != 2 || len(p.Messages) != 1 {
			t.Errorf("after the age of the first: %+v", p)
		}
		time.Sleep(2 * time.Hour)
		_ = b.Subscribe(ctx, "held")
		_, _ = b.Publish(ctx, "held", say("c", "1"), keep)
		time.Sleep(2 * time.Hour)
		_, _ = b.Publish(ctx, "other", say("c", "1"), keep) // sweeps
		if n := len(b.shard("r").streams); b.shard("r").streams["r"] != nil {
			t.Errorf("a stream without history and members is still there, with %d", n)
		}
		if at, _ := b.Publish(ctx, "held", say("d", "1"), keep); at.Offset != 2 {
			t.Errorf("a stream with members was forgotten: %+v", at)
		}
		heads, _ := b.Heads(ctx, []string{"r"})
		if heads[0].Epoch == first.Epoch {
			t.Error("a stream that was forgotten begins anew under its old Epoch")
		}
		if at, _ := b.Publish(ctx, "r", m, keep); at.Offset != 1 || at.Epoch == first.Epoch {
			t.Errorf("position of another life: %+v", at)
		}
	})
}

// Whoever fills room after room loses the oldest of what nobody listens to, and rooms with members stay.
func TestMemoryBroker_memoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t).(*MemoryBroker)
		ctx, keep := t.Context(), Keep{Size: 1000, Age: 24 * time.Hour}
		payload := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
		_ = b.Subscribe(ctx, "held")
		for range 10 {
			_, _ = b.Publish(ctx, "held", Message{Action: "a", Payload: payload}, keep)
		}
		if p, _ := b.Read(ctx, "held", Query{Limit: 99}); p.Head != 10 || p.First != 8 {
			t.Errorf("one room keeps %d..%d", p.First, p.Head)
		}
		for i := range 1000 {
			_, _ = b.Publish(ctx, fmt.Sprintf("room:%d", i), Message{Action: "a", Payload: payload}, keep)
			time.Sleep(200 * time.Millisecond)
			if n := b.bytes.Load(); n > bytesMost+10<<20 {
				t.Fatalf("%d bytes after %d rooms", n, i)
			}
		}
		if p, _ := b.Read(ctx, "held", Query{Limit: 99}); p.Head != 10 {
			t.Errorf("a room with members was forgotten: %+v", p)
		}
		if p, _ := b.Read(ctx, "room:999", Query{Limit: 99}); len(p.Messages) != 1 {
			t.Error("the newest room was forgotten")
		}
		if p, _ := b.Read(ctx, "room:1", Query{Limit: 99}); len(p.Messages) != 0 {
			t.Error("the oldest room was not forgotten")
		}
		sum := 0
		for i := range b.shards {
			for _, s := range b.shards[i].streams {
				sum += s.bytes
			}
		}
		if int64(sum) != b.bytes.Load() {
			t.Errorf("%d bytes counted, %d there", b.bytes.Load(), sum)
		}
	})
}

func TestMemoryBroker_saveAndRestore(t *testing.T) {
	ctx, keep := t.Context(), Keep{Size: 3, Age: time.Hour}
	b := newMemoryBroker(t).(*MemoryBroker)
	m := say("a", "{ \"x\":\n1 }")
	m.ID, m.At = "once", time.Now()
	first, _ := b.Publish(ctx, "r", m, keep)
	for range 4 {
		_, _ = b.Publish(ctx, "r", m2(), keep)
	}
	quiet, _ := b.Heads(ctx, []string{"quiet"})
	_ = b.Close()
	var saved bytes.Buffer
	if err := b.Save(&saved); err != nil {
		t.Fatal(err)
	}
	c, err := NewMemoryBroker(bytes.NewReader(saved.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.Read(ctx, "r", Query{Limit: 9})
	if p.Epoch != first.Epoch || p.First != 3 || p.Head != 5 || string(p.Messages[2].Payload) != "{ \"x\":\n2 }" {
		t.Errorf("restored %+v", p)
	}
	if heads, _ := c.Heads(ctx, []string{"quiet"}); heads[0] != quiet[0] {
		t.Errorf("a silent room has another Epoch: %+v, was %+v", heads, quiet)
	}
	if at, _ := c.Publish(ctx, "r", m, keep); at != first {
		t.Errorf("a repeated ID after the restart: %+v, want %+v", at, first)
	}
	if at, _ := c.Publish(ctx, "r", m2(), keep); at.Offset != 6 {
		t.Errorf("goes on at %+v", at)
	}
	text := saved.Bytes()
	for i := range text {
		broken := bytes.Clone(text)
		broken[i] ^= 1
		if _, err := NewMemoryBroker(bytes.NewReader(broken)); err == nil {
			t.Errorf("a flipped bit at %d of %d is not noticed: %q", i, len(text), text[max(0, i-20):min(len(text), i+20)])
		}
	}
	for i := range text {
		if _, err := NewMemoryBroker(bytes.NewReader(text[:i])); err == nil {
			t.Errorf("cut off at %d of %d is not noticed", i, len(text))
		}
	}
}

func m2() Message {
	m := say("a", "{ \"x\":\n2 }")
	m.At = time.Now()
	return m
}

func FuzzNewMemoryBroker(f *testing.F) {
	b, _ := NewMemoryBroker(nil)
	_, _ = b.Publish(context.Background(), "r", m2(), Keep{Size: 2, Age: time.Hour})
	var saved bytes.Buffer
	_ = b.Save(&saved)
	f.Add(saved.Bytes())
	f.Add([]byte(`{"version":1}` + "\n" + `{"lines":1}` + "\n"))
	f.Add([]byte("{\"version\":1}\n{\"stream\":{\"room\":\"r\",\"epoch\":\"e\",\"head\":1,\"messages\":[{}]}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := NewMemoryBroker(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := b.Save(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}
