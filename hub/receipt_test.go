package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// witnessMail is testMail that is told what became of its messages.
type witnessMail struct {
	*testMail

	tellMu sync.Mutex
	told   []Writing
	deaf   int // calls that fail first
}

func (m *witnessMail) Written(_ context.Context, all []Writing) error {
	m.tellMu.Lock()
	defer m.tellMu.Unlock()
	if m.deaf > 0 {
		m.deaf--
		return errBroken
	}
	m.told = append(m.told, all...)
	return nil
}

// offsets lists each Offset of a room that was told, with slow behind those that were not taken.
func (m *witnessMail) offsets(room string) string {
	m.tellMu.Lock()
	defer m.tellMu.Unlock()
	var list []string
	for _, w := range m.told {
		for o := w.From; w.Room == room && o <= w.To; o++ {
			word := fmt.Sprint(o)
			if w.Slow {
				word += "slow"
			}
			if !slices.Contains(list, word) {
				list = append(list, word)
			}
		}
	}
	return strings.Join(list, " ")
}

func eventuallyOffsets(t *testing.T, m *witnessMail, room, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if got := m.offsets(room); got == want {
			return
		} else if time.Now().After(end) {
			t.Fatalf("told %q of %s, want %q", got, room, want)
		}
	}
}

func TestWritten_liveReplayAndError(t *testing.T) {
	mail := &witnessMail{testMail: newTestMail(), deaf: 1}
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	mail.put("user:ada", "order.paid")
	mail.put("user:ada", "order.paid")
	phone := dial(t, addr, "user=ada")
	phone.greeting()
	phone.wantMail(1, 2)
	mail.put("user:ada", "order.paid")
	mail.put("user:bob", "order.paid") // has no socket
	h.Ring("user:ada")
	h.Ring("user:bob")
	phone.wantMail(3, 3)
	eventuallyOffsets(t, mail, "user:ada", "1 2 3")
	if got := mail.offsets("user:bob"); got != "" {
		t.Errorf("told %s of somebody without a socket", got)
	}
}

// Staff who looks into a mailbox is not its owner.
func TestWritten_staff(t *testing.T) {
	mail := &witnessMail{testMail: newTestMail()}
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	staff := dial(t, addr, "user=eve&role=staff&room=user:ada")
	staff.greeting()
	mail.put("user:ada", "order.paid")
	h.Ring("user:ada")
	staff.wantMail(1, 1)
	phone := dial(t, addr, "user=bob")
	phone.greeting()
	mail.put("user:bob", "order.paid")
	h.Ring("user:bob")
	if f := phone.push(); f.Meta.Room != "user:bob" {
		t.Fatalf("got %s", f.raw)
	}
	eventuallyOffsets(t, mail, "user:bob", "1")
	if got := mail.offsets("user:ada"); got != "" {
		t.Errorf("told %s: the owner heard nothing", got)
	}
}

// A phone that reads nothing is closed, and its mail is told as not taken; what the kernel took before is told as taken.
func TestWritten_slowReader(t *testing.T) {
	mail := &witnessMail{testMail: newTestMail()}
	h := newTestHub(t, Options{Mail: mail, Limits: Limits{QueueFrames: 5, WriteWait: 300 * time.Millisecond}})
	addr := listen(t, h)
	phone := dial(t, addr, "user=ada")
	phone.greeting()
	const all = 200
	big := `"` + strings.Repeat("x", 256<<10) + `"`
	for range all {
		mail.put("user:ada", "order.paid")
		mail.set(func() {
			box := mail.boxes["user:ada"]
			box[len(box)-1].Payload = []byte(big)
		})
		h.Ring("user:ada")
	}
	for end := time.Now().Add(20 * time.Second); h.Stats().Dropped == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not closed")
		}
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(mail.offsets("user:ada"), "slow"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("told %q, nothing of a slow reader", mail.offsets("user:ada"))
		}
	}
}

// What waits to be told is told before a stop ends.
func TestWritten_shutdown(t *testing.T) {
	mail := &witnessMail{testMail: newTestMail()}
	h := newTestHub(t, Options{Mail: mail})
	addr := listen(t, h)
	mail.put("user:ada", "order.paid")
	phone := dial(t, addr, "user=ada")
	phone.greeting()
	phone.wantMail(1, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_ = h.Shutdown(ctx) // the phone reads nothing more: it is cut
	if got := mail.offsets("user:ada"); got != "1" {
		t.Errorf("told %q", got)
	}
}
