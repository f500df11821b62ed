package hub

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// Clients of 4.6 and later come back with what they were given, to any node, and hear what they missed, once.
func TestSocketIO_recovery(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada&room=notice", "")
	l.must("join", `"room:tea"`)
	publish(t, h, "notice", say("sale", `1`))
	l.want("sale")
	l.must("leave", `"notice"`)
	l.must("join", `"notice"`)
	l.want(positionAction)
	publish(t, h, "notice", say("sale", `2`))
	l.want("sale")
	_ = l.ws.Close()
	for n := 3; n <= 5; n++ {
		publish(t, h, "notice", say("sale", fmt.Sprint(n)))
		publish(t, h, "room:tea", say("chat", fmt.Sprint(n)))
	}
	back, recovered := join4(t, addr, "user=ada&room=notice", l.auth())
	if !recovered {
		t.Fatal("not recovered")
	}
	got := map[string][]string{}
	for range 6 {
		e := back.event()
		got[e.name] = append(got[e.name], string(e.push(t).Data.Payload))
	}
	if fmt.Sprint(got) != "map[chat:[3 4 5] sale:[3 4 5]]" {
		t.Errorf("heard %v", got)
	}
	if p := back.must("presence", `"room:tea"`); p["count"] != 1.0 {
		t.Errorf("not back in the room that it had joined: %v", p)
	}
	// Nothing is heard twice, and the position goes on.
	_ = back.ws.Close()
	again, recovered := join4(t, addr, "user=ada", back.auth())
	if !recovered {
		t.Error("not recovered again")
	}
	publish(t, h, "room:tea", say("chat", `6`))
	if f := again.want("chat").push(t); string(f.Data.Payload) != "6" {
		t.Errorf("heard %s", f.raw)
	}
	// It is not back in a room that it has left.
	again.must("leave", `"notice"`)
	again.want(positionAction)
	_ = again.ws.Close()
	if again, recovered = join4(t, addr, "user=ada&room=notice", again.auth()); !recovered {
		t.Error("not recovered after leaving")
	}
	publish(t, h, "notice", say("sale", `6`))
	publish(t, h, "room:tea", say("chat", `7`))
	again.want("chat")
	// A position is its user's, and of a stream that goes on.
	for query, auth := range map[string]string{
		"user=bob": again.auth(),
		"user=ada": fmt.Sprintf(`{"pid":%q,"offset":"notice@another:5"}`, again.pid),
		"user=zoe": fmt.Sprintf(`{"pid":%q,"offset":"notice"}`, pidOf("x", "zoe", "")),
		"user=tim": fmt.Sprintf(`{"pid":%q}`, pidOf("x", "tim", "kf@x:1")),
		"user=eve": `{"pid":"forged.AAAA","offset":"notice@x:1"}`,
		"user=pat": `{"pid":7,"offset":[]}`,
		"user=sam": fmt.Sprintf(`{"pid":%q,"offset":%q}`, pidOf("x", "sam", ""), strings.Repeat("room:a@x:1;", 30)),
		"user=kim": fmt.Sprintf(`{"pid":%q,"offset":"kf@x:1"}`, pidOf("x", "kim", "")),
		"user=lee": fmt.Sprintf(`{"pid":%q,"offset":"notice"}`, pidOf("x", "lee", "notice")),
	} {
		l, recovered := join4(t, addr, query, auth)
		if recovered || l.pid == "" {
			t.Errorf("%s %s: recovered %t, pid %q", query, auth, recovered, l.pid)
		}
		_ = l.ws.Close()
	}
}

// Each message has a position of its own: a connection may break behind any of them.
func TestSocketIO_positionOfEachMessage(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada&room=notice", "")
	const n = 50
	var tails []string
	go func() {
		for i := range n {
			publishIn := []string{"notice", "all"}[i%2]
			_, _ = h.Publish(context.Background(), publishIn, say("sale", fmt.Sprint(i)))
		}
	}()
	for range n {
		l.want("sale")
		tails = append(tails, l.tail)
	}
	_ = l.ws.Close()
	for k := 0; k < n; k += 7 {
		back, recovered := join4(t, addr, "user=ada", fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, tails[k]))
		if !recovered {
			t.Fatalf("not recovered from %s", tails[k])
		}
		seen := map[string]bool{}
		for range n - k - 1 {
			f := back.want("sale").push(t)
			if seen[f.Meta.Room+string(f.Data.Payload)] {
				t.Fatalf("heard twice: %s", f.raw)
			}
			seen[f.Meta.Room+string(f.Data.Payload)] = true
		}
		back.must("presence", `"notice"`) // and nothing more before it
		_ = back.ws.Close()
	}
}

// Above 16 rooms nobody is promised to be recovered.
func TestSocketIO_manyRooms(t *testing.T) {
	h := newTestHub(t, Options{Limits: Limits{FramesPerSecond: 1000, FramesBurst: 1000}})
	addr := both(t, h)
	query := "user=ada"
	for i := range 16 {
		query += fmt.Sprintf("&room=room:%d", i)
	}
	l, _ := join4(t, addr, query, "")
	if strings.Count(l.pid, ";") != 17 || l.tail != "" {
		t.Fatalf("pid %q, tail %s", l.pid, l.tail)
	}
	l.must("join", `"room:more"`)
	if l.want(positionAction); l.tail != tailNone {
		t.Errorf("tail %s", l.tail)
	}
	publish(t, h, "room:more", say("chat", `1`))
	if e := l.want("chat"); len(e.args) != 1 || l.tail != tailNone {
		t.Errorf("heard %s", e.raw)
	}
	if _, recovered := join4(t, addr, query, l.auth()); recovered {
		t.Error("recovered")
	}
	l.must("leave", `"room:3"`)
	if l.want(positionAction); strings.Count(l.tail, "@") != 2 || !strings.Contains(l.tail, "room:3@") || !strings.Contains(l.tail, "room:more@") {
		t.Errorf("tail %s", l.tail)
	}
	if l, _ := join4(t, addr, query+"&room=room:more", ""); l.pid != "" || l.tail != "" {
		t.Errorf("pid %q, tail %q", l.pid, l.tail)
	} else {
		publish(t, h, "room:1", say("chat", `1`))
		if e := l.want("chat"); len(e.args) != 1 {
			t.Errorf("heard %s", e.raw)
		}
	}
}

// Clients without a recovery of their own bring positions in the address, or resume.
func TestSocketIO_resume(t *testing.T) {
	h := newTestHub(t, Options{})
	addr := both(t, h)
	at := publish(t, h, "notice", say("sale", `1`))
	publish(t, h, "notice", say("sale", `2`))
	publish(t, h, "room:tea", say("chat", `1`))
	l := join3(t, addr, fmt.Sprintf("user=ada&room=notice@%s:1", at.Epoch))
	if f := l.want("sale").push(t); f.Meta.Offset != 2 {
		t.Errorf("heard %s", f.raw)
	}
	answer := l.must("resume", fmt.Sprintf(`[{"room":"notice","epoch":%q,"offset":0},"room:tea@%s:0",{"room":"room:cup","since":{"epoch":"old","offset":3}},"kf@x:1"]`, at.Epoch, at.Epoch))
	if got := fmt.Sprint(answer["rooms"]); strings.Count(got, "recovered:true") != 2 || strings.Count(got, "recovered:false") != 1 || !strings.Contains(fmt.Sprint(answer["refused"]), "forbidden") {
		t.Errorf("answer %v", answer)
	}
	for _, want := range []string{"sale 1", "sale 2", "chat 1"} {
		e := l.event()
		if got := fmt.Sprint(e.name, " ", e.push(t).Meta.Offset); got != want {
			t.Errorf("heard %s, want %s", e.raw, want)
		}
	}
	if answer := l.must("resume", `"room:cup"`); strings.Contains(fmt.Sprint(answer), "recovered") {
		t.Errorf("answer %v", answer)
	}
	for _, bad := range []string{`7`, `[]`, `[7]`, `{}`} {
		answer, _ := l.ask("resume", bad)
		if answer["ok"] != false {
			t.Errorf("%s: %v", bad, answer)
		}
	}
	l.refused("bad_room", "resume", `"notice@x"`)
}

// Mail that was not acknowledged follows the welcome, and is not lost where a connection breaks within it.
func TestSocketIO_mailFromItsPositions(t *testing.T) {
	mail := newTestMail()
	for range 3 {
		mail.put("user:ada", "order.paid")
	}
	h := newTestHub(t, Options{Mail: mail})
	addr := both(t, h)
	l, _ := join4(t, addr, "user=ada", "")
	welcome := l.tail
	l.want("order.paid")
	first := l.tail
	_ = l.ws.Close()
	for tail, want := range map[string]uint64{welcome: 1, first: 2} {
		back, recovered := join4(t, addr, "user=ada", fmt.Sprintf(`{"pid":%q,"offset":%q}`, l.pid, tail))
		if f := back.want("order.paid").push(t); !recovered || f.Meta.Offset != want {
			t.Errorf("from %s: recovered %t, first %d", tail, recovered, f.Meta.Offset)
		}
		_ = back.ws.Close()
	}
}

// Whatever node a client comes back to, it hears what it missed.
func TestSocketIO_anyNode(t *testing.T) {
	redis := startRedis(t)
	a, b := redis.node(t, Options{}), redis.node(t, Options{})
	addrA, addrB := both(t, a.Hub), both(t, b.Hub)
	l, _ := join4(t, addrA, "user=ada&room=room:tea", "")
	old := join3(t, addrB, "user=bob&room=room:tea")
	publish(t, b.Hub, "room:tea", say("chat", `1`))
	l.want("chat")
	old.want("chat")
	_ = l.ws.Close()
	publish(t, a.Hub, "room:tea", say("chat", `2`))
	back, recovered := join4(t, addrB, "user=ada&room=room:tea", l.auth())
	if f := back.want("chat").push(t); !recovered || f.Meta.Offset != 2 {
		t.Errorf("recovered %t, heard %s", recovered, f.raw)
	}
	answer, _ := back.ask("exchange", `{"target":"res","payload":3}`)
	if answer["ok"] != true {
		t.Errorf("answer %v", answer)
	}
	if f := old.want("chat").push(t); f.Meta.Offset != 2 {
		t.Errorf("heard %s", f.raw)
	}
	if f := old.want("res").push(t); f.Meta.Offset != 3 || f.Meta.Target != "res" || f.Data.Action != "exchange" {
		t.Errorf("heard %s", f.raw)
	}
}
