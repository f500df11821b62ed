package hub

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// A socket that comes while Redis is away gets its mail at once, and its rooms when Redis is back: what it missed
// there, what is said to all, and all without asking.
func TestCluster_socketComesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	mail := newTestMail()
	o := Options{Mail: mail}
	a := s.node(t, o)
	at := publish(t, a.Hub, "notice", say("n", "1"))
	publish(t, a.Hub, "notice", say("n", "2"))
	s.signal(syscall.SIGSTOP)
	eventually(t, "the node knows", func() bool { return a.Healthy() != nil })
	mail.put("user:ada", "letter")
	ada := dial(t, a.addr, fmt.Sprintf("user=ada&room=notice@%s:%d&room=room:tea", at.Epoch, at.Offset))
	_ = ada.ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	if refused := fmt.Sprint(ada.greeting().Refused); refused != "[{all unavailable} {notice unavailable} {room:tea unavailable}]" {
		t.Errorf("refused %s", refused)
	}
	ada.wantMail(1, 1)
	ada.refused("unavailable", `"action":"join","room":"room:mug"`)
	s.signal(syscall.SIGCONT)
	joined := make(map[string]frame)
	for len(joined) < 3 {
		f := ada.next()
		if f.Data.Action == "n" {
			if f.Meta.Offset != 2 || joined["notice"].Room == "" {
				t.Errorf("heard %s after %v", f.raw, joined)
			}
			continue
		}
		if string(f.Reply) != "null" || !f.OK || f.Epoch == "" {
			t.Fatalf("got %s", f.raw)
		}
		joined[f.Room] = f
	}
	if f := joined["notice"]; f.Recovered == nil || !*f.Recovered || f.Missed != 1 {
		t.Errorf("joined %s", f.raw)
	}
	eventually(t, "publishing works again", func() bool {
		_, err := a.Publish(t.Context(), "all", say("everybody", "1"))
		return err == nil
	})
	for ada.next().Data.Action != "everybody" {
	}
	ada.must(`"action":"join","room":"room:mug"`)
}
