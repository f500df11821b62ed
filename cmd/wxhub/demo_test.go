package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func countActions(frames []frame) map[string]int {
	n := map[string]int{}
	for _, f := range frames {
		n[f.Data.Action]++
	}
	return n
}

// Three phones, one pays: each hears it exactly once, whatever WeChat says afterwards.
func TestDemo_paymentReachesEveryPhone(t *testing.T) {
	p := startDemo(t, nil)
	var phones []*phone
	for _, name := range []string{"ann", "bo", "cy"} {
		phones = append(phones, p.newPhone(name).connect("room=notice"))
	}
	ann := phones[0]

	paid, sheet := ann.order("tea")
	ann.pay(sheet)
	p.wait("the payment", func() bool { return ann.orderState(paid) == "paid" })
	p.relayed()

	// WeChat repeats itself: one by one, and all at once.
	for _, parallel := range []bool{false, true} {
		var got triggerAnswer
		p.simulate("/sim/trigger", map[string]any{"event": "pay", "outTradeNo": paid, "times": 10, "parallel": parallel}, &got)
		if len(got.Answers) != 10 {
			t.Fatalf("answers: %+v", got)
		}
		for _, a := range got.Answers {
			if a.Status/100 != 2 {
				t.Errorf("a repeat was answered %d %s", a.Status, a.Body)
			}
		}
	}
	p.relayed()
	p.broadcast("notice", "mark")
	for _, ph := range phones {
		got := countActions(ph.until("mark"))
		wantMail := 0
		if ph == ann {
			wantMail = 1
		}
		if got["purchase"] != 1 || got["order.paid"] != wantMail || len(got) > 2 {
			t.Errorf("%s got %v", ph.name, got)
		}
	}

	// Nothing that does not come from WeChat, or does not fit, changes an order.
	open, sheet := ann.order("mug")
	for name, extra := range map[string]map[string]any{
		"forged signature": {"forge": "signature"}, "foreign serial": {"forge": "serial"}, "changed body": {"forge": "body"},
		"no signature": {"forge": "no-sign"}, "wrong amount": {"amount": 1}, "stale": {"skew": "-10m"},
		"from the future": {"skew": "10m"}, "probe": {"probe": true}, "other merchant": {"mchid": "1999999999"},
		"other app": {"appid": "wx0000000000000000"}, "other currency": {"currency": "USD"},
	} {
		order := map[string]any{"event": "pay", "outTradeNo": open, "times": 1}
		for k, v := range extra {
			order[k] = v
		}
		var got triggerAnswer
		p.simulate("/sim/trigger", order, &got)
		if len(got.Answers) != 1 || got.Answers[0].Status/100 != 4 || !strings.Contains(got.Answers[0].Body, "FAIL") {
			t.Errorf("%s was answered %+v", name, got.Answers)
		}
		if s := ann.orderState(open); s != "paying" {
			t.Fatalf("%s made the order %s", name, s)
		}
	}
	p.relayed()
	p.broadcast("notice", "mark2")
	for _, ph := range phones {
		if got := ph.until("mark2"); len(got) != 0 {
			t.Errorf("%s heard of a refused payment: %+v", ph.name, got)
		}
	}
	// The real payment still goes through.
	ann.pay(sheet)
	p.wait("the second payment", func() bool { return ann.orderState(open) == "paid" })

	var rows struct {
		Orders []struct{ OutTradeNo, State string }
	}
	a := p.ask("GET", "/api/admin/orders", "key:"+p.apiKey, nil)
	if err := json.Unmarshal(a.Data, &rows.Orders); err != nil {
		a.into(t, &rows)
	}
	if len(rows.Orders) != 2 {
		t.Errorf("orders: %s", a.Data)
	}
}

// The process dies after the payment's commit and before anybody was told.
func TestDemo_killBetweenCommitAndRelay(t *testing.T) {
	dir := t.TempDir()
	p := startDemo(t, []string{"WXHUB_CRASHPOINT=after_commit"}, "--data", dir)
	ann := p.newPhone("ann").connect("room=notice")
	paid, sheet := ann.order("tea")
	sheet["confirm"] = true
	// The simulator dies with the hub: there may be no answer.
	var wg sync.WaitGroup
	wg.Go(func() { postIgnoring(p.sim+"/sim/pay", sheet) })
	if code := p.ended(); code != -1 {
		t.Fatalf("the process ended with %d instead of being killed\n%s", code, p.output())
	}
	wg.Wait()

	q := startDemo(t, nil, "--data", dir)
	ann.p = q
	if s := ann.orderState(paid); s != "paid" {
		t.Fatalf("after the restart the order is %s", s)
	}
	ann.connect("room=notice")
	q.relayed()
	q.broadcast("notice", "mark")
	live := countActions(ann.until("mark"))
	reply, _ := ann.ask(`{"id":1,"action":"history","room":"notice","limit":100}`)
	kept := countActions(reply.Messages)
	if !reply.OK || kept["purchase"] != 1 || live["purchase"] > 1 {
		t.Errorf("purchase live %d, in the history %d (%+v)", live["purchase"], kept["purchase"], reply)
	}
	mail, _ := ann.ask(fmt.Sprintf(`{"id":2,"action":"history","room":"user:%s","limit":100}`, ann.id))
	if n := countActions(mail.Messages)["order.paid"]; n != 1 || live["order.paid"] > 1 {
		t.Errorf("order.paid live %d, in the mailbox %d", live["order.paid"], n)
	}
}

// kill -9 at any time, then a start with the same data: logged in, orders there, mail there.
func TestDemo_killAndRestart(t *testing.T) {
	dir := t.TempDir()
	p := startDemo(t, nil, "--data", dir)
	ann := p.newPhone("ann").connect("room=notice")
	paid, sheet := ann.order("tea")
	ann.pay(sheet)
	p.wait("the payment", func() bool { return ann.orderState(paid) == "paid" })
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.ended()
	q := startDemo(t, nil, "--data", dir)
	ann.p = q
	q.relayed()
	ann.connect("room=notice")
	mail := ann.read() // not acknowledged, so it comes again
	if mail.Data.Action != "order.paid" || mail.Meta.Offset != 1 {
		t.Errorf("after the restart came %+v", mail)
	}
	if s := ann.orderState(paid); s != "paid" {
		t.Errorf("the order is %s", s)
	}
}

// Ctrl-C: every socket is told when to come back, the process ends well, the temporary folder is gone.
func TestDemo_interrupt(t *testing.T) {
	p := startDemo(t, nil)
	ann := p.newPhone("ann").connect("room=notice")
	dir := ""
	for line := range strings.SplitSeq(p.output(), "\n") {
		if _, rest, ok := strings.Cut(line, "data  "); ok {
			dir, _, _ = strings.Cut(strings.TrimSpace(rest), "（")
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("data folder %q: %v", dir, err)
	}
	polled := make(chan error, 1)
	go func() { // as a phone waits for customer service
		a, err := http.Get(p.sim + "/sim/chat?user=ann&after=0&wait=60")
		if err == nil {
			err = a.Body.Close()
		}
		polled <- err
	}()
	time.Sleep(200 * time.Millisecond) // until it waits; else it proves nothing
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d\n%s", code, p.output())
	}
	if err := <-polled; err != nil {
		t.Errorf("who waited at the simulator was cut off: %v", err)
	}
	_, err := ann.next()
	if closeCode(err) != 1012 {
		t.Errorf("the socket ended with %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary folder is still there: %v", err)
	}
}

// A clean stop keeps the rooms: who comes back gets what it missed, in the same Epoch.
func TestDemo_restartKeepsRooms(t *testing.T) {
	dir := t.TempDir()
	p := startDemo(t, nil, "--data", dir)
	ann := p.newPhone("ann").connect("room=notice")
	p.broadcast("notice", "one")
	seen := ann.read()
	_ = ann.ws.Close()
	p.broadcast("notice", "two")
	if code := p.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	q := startDemo(t, nil, "--data", dir)
	ann.p = q
	ann.connect(fmt.Sprintf("room=notice@%s:%d", seen.Meta.Epoch, seen.Meta.Offset))
	if f := ann.read(); f.Data.Action != "two" || f.Meta.Epoch != seen.Meta.Epoch || f.Meta.Offset != seen.Meta.Offset+1 {
		t.Errorf("after the restart came %+v", f)
	}
}

// A customer writes: the staff sees it in kf once, the rule answers once.
func TestDemo_customerService(t *testing.T) {
	p := startDemo(t, nil)
	ann := p.newPhone("ann")
	a := p.ask("POST", "/api/admin/login", "", map[string]any{"username": "admin", "password": p.admin})
	var login struct{ Token string }
	a.into(t, &login)
	staff := (&phone{p: p, name: "admin", token: login.Token}).connect("room=kf")
	for i, mode := range []string{"plain", "compatible", "safe"} {
		for _, format := range []string{"json", "xml"} {
			var got triggerAnswer
			text := "在吗 " + mode + format
			p.simulate("/sim/trigger", map[string]any{"event": "message", "user": "ann", "content": text,
				"mode": mode, "format": format, "times": 3, "parallel": i > 0}, &got)
			for _, answer := range got.Answers {
				if sealed := mode != "plain"; sealed != (answer.Status == 200) || sealed && answer.Body != "success" {
					t.Errorf("%s %s was answered %d %q", mode, format, answer.Status, answer.Body)
				}
			}
			if mode == "plain" { // the demo has an AES key: an unsealed push counts for nothing
				continue
			}
			f := staff.read()
			var m struct{ User, Content, MsgID string }
			if err := json.Unmarshal(f.Data.Payload, &m); err != nil {
				t.Fatal(err)
			}
			if f.Data.Action != "kf.message" || m.Content != text || m.User != ann.id || m.MsgID == "" {
				t.Errorf("kf got %+v %s", f, f.Data.Payload)
			}
		}
	}
	p.relayed()
	p.broadcast("kf", "mark")
	if rest := staff.until("mark"); len(rest) != 0 {
		t.Errorf("kf heard more: %+v", rest)
	}
	var chat struct {
		Messages []struct{ From, Content string }
	}
	p.simulate("/sim/chat?user=ann&after=0", nil, &chat)
	replies := 0
	for _, m := range chat.Messages {
		if m.From == "shop" {
			replies++
		}
	}
	if replies != 4 { // two sealed modes × two formats, each copy answered once
		t.Errorf("the shop answered %d times: %+v", replies, chat.Messages)
	}
}
