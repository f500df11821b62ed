package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// relayMail claims and settles the rings that wait, each letter with a fallback after a while (0: none).
func relayMail(t *testing.T, db *DB, node string, after time.Duration) (n int) {
	t.Helper()
	rows := must(db.ClaimOutbox(t.Context(), node, []TellingKind{TellMail}, 512, time.Minute))(t)
	var rung []Rung
	for _, r := range rows {
		one := Rung{Seq: r.Seq, User: r.To, ID: r.ID}
		if after > 0 {
			one.Fallback = &after
		}
		rung = append(rung, one)
	}
	check(t, db.SettleMail(t.Context(), node, rung))
	return len(rows)
}

func testReceipts(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	stored := c.now()
	must(db.AddMail(ctx, []string{"alice", "bob", "carol"}, Letter{ID: "l1", Action: "hello"}))(t)
	must(db.AddMail(ctx, []string{"alice"}, Letter{ID: "l2", Action: "hello"}))(t)
	c.move(time.Second)
	if n := relayMail(t, db, "node1", 0); n != 4 {
		t.Fatalf("%d rings", n)
	}
	relayed := c.now()
	c.move(time.Second)
	written := c.now()
	check(t, db.NoteWritten(ctx, "node2", []Writing{
		{User: "alice", From: 1, To: 2, At: written},
		{User: "bob", From: 1, To: 1, Slow: true, At: written},
		{User: "alice", From: 1, To: 1, At: written.Add(time.Hour)}, // a second device
		{User: "nobody", From: 1, To: 9, At: written},
	}))
	c.move(time.Second)
	check(t, db.AckMail(ctx, "alice", 1))
	all := must(db.Receipts(ctx, "l1", "", 0))(t)
	if len(all) != 3 {
		t.Fatalf("receipts %+v", all)
	}
	want := Receipt{User: "alice", ID: "l1", Action: "hello", Seq: 1, StoredAt: stored, RelayedAt: relayed, RelayedBy: "node1",
		WrittenAt: written, WrittenBy: "node2", AckedAt: c.now()}
	if fmt.Sprint(all[0]) != fmt.Sprint(want) {
		t.Errorf("alice %+v\nwant  %+v", all[0], want)
	}
	if bob := all[1]; !bob.SlowAt.Equal(written) || !bob.WrittenAt.IsZero() || !bob.AckedAt.IsZero() {
		t.Errorf("bob %+v", bob)
	}
	if r := must(db.Receipts(ctx, "l1", "alice", 1))(t); len(r) != 1 || r[0].User != "bob" {
		t.Errorf("after alice: %+v", r)
	}
	if n := must(db.CountReceipts(ctx, "l1"))(t); n != (ReceiptCounts{Stored: 3, Relayed: 3, Written: 1, Acked: 1}) {
		t.Errorf("counts %+v", n)
	}
	if n := db.MailCounts(); n != (MailCounts{Stored: 4, Relayed: 4, Written: 2, Acked: 1}) {
		t.Errorf("figures %+v", n)
	}
	// Acknowledged letters go after a week, the others after a month; their receipts stay for another one.
	c.move(8 * 24 * time.Hour)
	check(t, db.Sweep(ctx))
	if p := must(db.ReadMail(ctx, "alice", 0, 10, false))(t); p.First != 2 || len(p.Letters) != 1 {
		t.Errorf("alice keeps %+v", p)
	}
	c.move(23 * 24 * time.Hour)
	check(t, db.Sweep(ctx))
	all = must(db.Receipts(ctx, "l1", "", 0))(t)
	if len(all) != 3 || all[0].GoneAt.IsZero() || !all[0].AckedAt.Equal(want.AckedAt) || all[1].GoneAt.IsZero() || !all[1].AckedAt.IsZero() {
		t.Errorf("receipts of what is gone %+v", all)
	}
	if n := must(db.CountReceipts(ctx, "l1"))(t); n != (ReceiptCounts{Stored: 3, Relayed: 3, Written: 1, Acked: 1, Expired: 2}) {
		t.Errorf("counts of what is gone %+v", n)
	}
	if n := db.MailCounts(); n.Expired != 3 {
		t.Errorf("figures %+v", n)
	}
	check(t, db.EraseUser(ctx, "bob"))
	if all = must(db.Receipts(ctx, "l1", "", 0))(t); len(all) != 2 || all[1].User != "carol" {
		t.Errorf("after bob's erasure: %+v", all)
	}
	c.move(31 * 24 * time.Hour)
	check(t, db.Sweep(ctx))
	if all = must(db.Receipts(ctx, "l1", "", 0))(t); len(all) != 0 {
		t.Errorf("a month later: %+v", all)
	}
}

// A mailbox keeps its newest letters.
func testMail_count(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	for i := range mailCount + 7 {
		must(db.AddMail(ctx, []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "x"}))(t)
	}
	p := must(db.ReadMail(ctx, "alice", 0, 1000, false))(t)
	if p.First != 8 || p.Head != mailCount+7 || len(p.Letters) != mailCount {
		t.Errorf("keeps %d from %d to %d", len(p.Letters), p.First, p.Head)
	}
	if r := must(db.Receipts(ctx, "l0", "", 0))(t); len(r) != 1 || r[0].GoneAt.IsZero() {
		t.Errorf("the first letter: %+v", r)
	}
}

// quotaOf records a push that opens windows and changes grants.
func quotaOf(t *testing.T, db *DB, key, openID string, w *ReplyWindow, grants ...GrantChange) User {
	t.Helper()
	var u User
	_, _, err := db.RecordPush(t.Context(), Push{Key: key, AppID: "wx1", OpenID: openID, Opens: w, Grants: grants,
		Tell: func(_ Conversation, of User) []Telling { u = of; return nil }})
	check(t, err)
	if u.ID == "" {
		u = must(db.UserByOpenID(t.Context(), "wx1", openID))(t)
	}
	return u
}

func testQuota(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	said := &ReplyWindow{Messages: 5, For: 48 * time.Hour, At: c.now()}
	u := quotaOf(t, db, "p1", "o1", said)
	left := func(want int) {
		t.Helper()
		if q := must(db.ReplyQuota(ctx, u.ID))(t); q.Left != want {
			t.Errorf("%d left, want %d (until %v)", q.Left, want, q.Until)
		}
	}
	left(5)
	quotaOf(t, db, "p1", "o1", said) // the same push again
	check(t, db.SpendReply(ctx, "wx1", "o1", false))
	left(4)
	check(t, db.SpendReply(ctx, "wx1", "stranger", false))
	quotaOf(t, db, "p2", "o1", &ReplyWindow{Brief: true, Messages: 2, For: time.Minute, At: c.now()})
	left(6)
	check(t, db.SpendReply(ctx, "wx1", "o1", false)) // of the brief one
	c.move(time.Minute)
	left(4)
	quotaOf(t, db, "p3", "o1", &ReplyWindow{Messages: 5, For: 48 * time.Hour, At: said.At.Add(-time.Hour)}) // late: an older word
	left(4)
	c.move(time.Hour)
	quotaOf(t, db, "p4", "o1", &ReplyWindow{Messages: 5, For: 48 * time.Hour, At: c.now()})
	left(5)
	check(t, db.SpendReply(ctx, "wx1", "o1", true))
	left(0)
	quotaOf(t, db, "p5", "o1", nil, GrantChange{"t1", GrantAccepted}, GrantChange{"t2", GrantRefused})
	quotaOf(t, db, "p6", "o1", nil, GrantChange{"t1", GrantAccepted}, GrantChange{"t1", GrantRefused}, GrantChange{"t2", GrantAccepted})
	quotaOf(t, db, "p6", "o1", nil, GrantChange{"t1", GrantAccepted}) // the same push again
	grants := func(want string) {
		t.Helper()
		var got []string
		for _, g := range must(db.Grants(ctx, u.ID))(t) {
			got = append(got, fmt.Sprint(g.TemplateID, "=", g.Remaining))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("grants %v, want %s", got, want)
		}
	}
	grants("[t1=2 t2=1]")
	quotaOf(t, db, "p7", "o1", nil, GrantChange{"t1", GrantRevoked})
	grants("[t1=0 t2=1]")
	check(t, db.EraseUser(ctx, u.ID))
	grants("[]")
	for name, p := range map[string]Push{
		"nobody":   {Key: "x", AppID: "wx1", Grants: []GrantChange{{"t1", GrantAccepted}}},
		"kind":     {Key: "x", AppID: "wx1", OpenID: "o1", Grants: []GrantChange{{"t1", "maybe"}}},
		"template": {Key: "x", AppID: "wx1", OpenID: "o1", Grants: []GrantChange{{"", GrantAccepted}}},
		"window":   {Key: "x", AppID: "wx1", OpenID: "o1", Opens: &ReplyWindow{}},
		"report":   {Key: "x", AppID: "wx1", Reports: []SendReport{{}}},
	} {
		if _, _, err := db.RecordPush(ctx, p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func testFallbacks(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	u := quotaOf(t, db, "p1", "o1", &ReplyWindow{Messages: 1, For: 48 * time.Hour, At: c.now()}, GrantChange{"t1", GrantAccepted})
	letter := func(id string) {
		must(db.AddMail(ctx, []string{u.ID}, Letter{ID: id, Action: "x", Payload: json.RawMessage(`{"n":1}`)}))(t)
	}
	claim := func(node string, want int) []Fallback {
		t.Helper()
		all := must(db.ClaimFallbacks(ctx, node, 10, time.Minute))(t)
		if len(all) != want {
			t.Fatalf("%s claims %d, want %d: %+v", node, len(all), want, all)
		}
		return all
	}
	state := func(id string) (s FallbackState, attempts []Attempt) {
		t.Helper()
		r := must(db.Receipts(ctx, id, "", 0))(t)
		if len(r) != 1 {
			t.Fatalf("receipts of %s: %+v", id, r)
		}
		if r[0].Fallback != nil {
			s = *r[0].Fallback
		}
		return s, r[0].Attempts
	}
	begin := func(f Fallback, node, channel, template string, want Begun) {
		t.Helper()
		if got := must(db.BeginFallback(ctx, node, f, channel, template, 10*time.Second))(t); got != want {
			t.Fatalf("begin of %s over %s: %q, want %q", f.Letter.ID, channel, got, want)
		}
	}
	letter("acked")
	letter("custom")
	letter("subscribe")
	relayMail(t, db, "n", 30*time.Second)
	relayMail(t, db, "n", 30*time.Second)
	check(t, db.AckMail(ctx, u.ID, 1))
	claim("a", 0)
	c.move(30 * time.Second)
	due := claim("a", 2)
	if f := due[0]; f.Letter.ID != "custom" || string(f.Letter.Payload) != `{"n":1}` || f.User != u.ID || f.Letter.Seq != 2 {
		t.Errorf("claimed %+v", f)
	}
	claim("b", 0)
	begin(due[0], "b", ChannelCustom, "", BegunLost)
	begin(due[0], "a", ChannelCustom, "", BegunYes)
	begin(due[0], "a", ChannelCustom, "", BegunLost)      // twice
	begin(due[1], "a", ChannelSubscribe, "t1", BegunBusy) // one at a time to a person
	check(t, db.EndFallback(ctx, "a", due[0], SendOutcome{Result: OutcomeSent, MsgID: "m1"}, time.Minute))
	if s, a := state("custom"); s.State != FallbackSent || s.Channel != ChannelCustom || len(a) != 1 || a[0].Outcome != OutcomeSent || a[0].Node != "a" {
		t.Errorf("sent: %+v %+v", s, a)
	}
	begin(due[1], "a", ChannelCustom, "", BegunNoQuota)
	begin(due[1], "a", ChannelSubscribe, "t9", BegunNoGrant)
	begin(due[1], "a", ChannelSubscribe, "t1", BegunYes)
	check(t, db.EndFallback(ctx, "a", due[1], SendOutcome{Result: OutcomeRefused, Code: 47003, Reason: "data"}, time.Minute))
	if g := must(db.Grants(ctx, u.ID))(t); g[0].Remaining != 1 {
		t.Errorf("a refusal cost a grant: %+v", g)
	}
	begin(due[1], "a", ChannelSubscribe, "t1", BegunYes)
	check(t, db.EndFallback(ctx, "a", due[1], SendOutcome{Result: OutcomeRefused, Code: 43101, Reason: "none", Empty: true}, time.Minute))
	check(t, db.HoldFallback(ctx, "a", due[1], "no_grant"))
	c.move(time.Hour)
	claim("a", 0) // held: only a quota, a grant or another rule wakes it
	check(t, db.WakeHeld(ctx))
	check(t, db.HoldFallback(ctx, "a", claim("a", 1)[0], "no_grant"))
	quotaOf(t, db, "p2", "o1", nil, GrantChange{"t1", GrantAccepted})
	f := claim("b", 1)[0]
	begin(f, "b", ChannelSubscribe, "t1", BegunYes)
	check(t, db.EndFallback(ctx, "b", f, SendOutcome{Result: OutcomeSent, MsgID: "m2"}, time.Minute))
	_, _, err := db.RecordPush(ctx, Push{Key: "sent", AppID: "wx1", Reports: []SendReport{{MsgID: "m2", Reason: "success"}}})
	check(t, err)
	if s, a := state("subscribe"); s.State != FallbackSent || len(a) != 3 || a[0].Code != 47003 || a[1].Code != 43101 || a[2].Report == nil {
		t.Errorf("in the end: %+v %+v", s, a)
	}
	if n := must(db.CountReceipts(ctx, "subscribe"))(t); n.Sent != 1 {
		t.Errorf("counts %+v", n)
	}
	check(t, db.EndFallback(ctx, "b", f, SendOutcome{Result: OutcomeRefused}, time.Minute)) // late: no effect
	if s, _ := state("subscribe"); s.State != FallbackSent {
		t.Errorf("a late answer changed it: %+v", s)
	}
}

// A node that dies while it sends: nobody sends again. One that only claimed is replaced.
func testFallbacks_lostNode(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	u := quotaOf(t, db, "p1", "o1", &ReplyWindow{Messages: 5, For: 48 * time.Hour, At: c.now()})
	for _, id := range []string{"claimed", "sending"} {
		must(db.AddMail(ctx, []string{u.ID}, Letter{ID: id, Action: "x"}))(t)
	}
	relayMail(t, db, "n", time.Second)
	relayMail(t, db, "n", time.Second)
	c.move(time.Second)
	due := must(db.ClaimFallbacks(ctx, "dead", 10, time.Minute))(t)
	if began := must(db.BeginFallback(ctx, "dead", due[1], ChannelCustom, "", 10*time.Second))(t); began != BegunYes {
		t.Fatal(began)
	}
	c.move(time.Minute)
	again := must(db.ClaimFallbacks(ctx, "other", 10, time.Minute))(t)
	if len(again) != 1 || again[0].Letter.ID != "claimed" {
		t.Fatalf("claims %+v", again)
	}
	r := must(db.Receipts(ctx, "sending", "", 0))(t)[0]
	if r.Fallback.State != FallbackUnknown || len(r.Attempts) != 1 || r.Attempts[0].Outcome != OutcomeUnknown {
		t.Errorf("sending: %+v %+v", r.Fallback, r.Attempts)
	}
	if q := must(db.ReplyQuota(ctx, u.ID))(t); q.Left != 4 {
		t.Errorf("%d left: what may have arrived costs", q.Left)
	}
	if d := must(db.Doubts(ctx, 0))(t); len(d) != 1 || d[0].ID != "sending" || d[0].Channel != ChannelCustom || !d[0].At.Equal(c.now()) || d[0].Gone {
		t.Errorf("doubts %+v", d)
	}
	check(t, db.AckMail(ctx, u.ID, r.Seq)) // its user has it: there is nothing to decide
	if d := must(db.Doubts(ctx, 0))(t); len(d) != 0 {
		t.Errorf("doubts %+v", d)
	}
	wantErr(t, db.DecideDoubt(ctx, "sending", u.ID, true, "boss"), ErrNotFound)
	// It was only frozen, and tells after all.
	check(t, db.EndFallback(ctx, "dead", due[1], SendOutcome{Result: OutcomeSent}, time.Minute))
	if r := must(db.Receipts(ctx, "sending", "", 0))(t)[0]; r.Fallback.State != FallbackSent {
		t.Errorf("told late: %+v", r.Fallback)
	}
}

// Many nodes at once: each letter is begun by one of them, and no more than the quota allows.
func testFallbacks_concurrent(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	const users, letters, quota = 6, 4, 3
	for i := range users {
		u := quotaOf(t, db, fmt.Sprint("p", i), fmt.Sprint("o", i), &ReplyWindow{Messages: quota, For: 48 * time.Hour, At: c.now()})
		for k := range letters {
			must(db.AddMail(ctx, []string{u.ID}, Letter{ID: fmt.Sprint("l", k), Action: "x"}))(t)
		}
	}
	for relayMail(t, db, "n", time.Second) > 0 {
	}
	c.move(time.Minute)
	sent := make([][]string, 8)
	for _, err := range each(len(sent), func(n int) error {
		node := fmt.Sprint("node", n)
		for range 30 {
			due, err := db.ClaimFallbacks(ctx, node, 3, time.Hour)
			if err != nil {
				return err
			}
			for _, f := range due {
				began, err := db.BeginFallback(ctx, node, f, ChannelCustom, "", time.Hour)
				if err == nil && began == BegunYes {
					sent[n] = append(sent[n], f.User+f.Letter.ID)
					err = db.EndFallback(ctx, node, f, SendOutcome{Result: OutcomeSent}, time.Hour)
				} else if err == nil {
					err = db.DeferFallback(ctx, node, f, c.now(), string(began), false)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}) {
		check(t, err)
	}
	all := slices.Concat(sent...)
	slices.Sort(all)
	if len(all) != users*quota || len(slices.Compact(all)) != users*quota {
		t.Errorf("sent %d, want %d once each", len(all), users*quota)
	}
}

func testDocuments(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	if d := must(db.Document(ctx, "rules"))(t); d.Version != 0 || d.Value != nil {
		t.Errorf("absent: %+v", d)
	}
	first := 0
	for _, err := range each(4, func(i int) error {
		_, err := db.SetDocument(ctx, "rules", json.RawMessage(`[1]`), 0, "ann")
		return err
	}) {
		if err == nil {
			first++
		} else {
			wantErr(t, err, ErrOtherBody)
		}
	}
	if first != 1 {
		t.Errorf("%d made the first version", first)
	}
	d := must(db.SetDocument(ctx, "rules", json.RawMessage(`[2]`), 1, "bob"))(t)
	if got := must(db.Document(ctx, "rules"))(t); d.Version != 2 || string(got.Value) != `[2]` || got.ChangedBy != "bob" {
		t.Errorf("second: %+v %+v", d, got)
	}
	_, err := db.SetDocument(ctx, "rules", json.RawMessage(`[3]`), 1, "cy")
	wantErr(t, err, ErrOtherBody)
	must(db.SetDocument(ctx, "rules", json.RawMessage(`null`), -1, "cy"))(t)
	_, err = db.SetDocument(ctx, "rules", json.RawMessage(`{`), -1, "cy")
	wantErr(t, err, ErrInvalid)
}
