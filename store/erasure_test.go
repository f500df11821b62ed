package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// traces finds the words in all tables but the few given, as table.column.
func traces(t testing.TB, db *DB, words []string, except ...string) (found []string) {
	t.Helper()
	tables := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if _, isPostgres := db.engine.(counting).engine.(*postgres); isPostgres {
		tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
	}
	check(t, db.engine.read(t.Context(), true, func(tx *tx) error {
		var names []string
		if err := tx.rows(func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		}, tables); err != nil {
			return err
		}
	tables:
		for _, name := range names {
			for _, e := range except {
				if name == e {
					continue tables
				}
			}
			rows, err := tx.on.QueryContext(tx.ctx, "SELECT * FROM "+name)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values := make([]any, len(columns))
				for i := range values {
					values[i] = new(any)
				}
				if err := rows.Scan(values...); err != nil {
					return err
				}
				for i, v := range values {
					text := fmt.Sprint(*v.(*any))
					if b, ok := (*v.(*any)).([]byte); ok {
						text = string(b)
					}
					for _, w := range words {
						if strings.Contains(text, w) {
							found = append(found, name+"."+columns[i]+": "+w)
						}
					}
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
		}
		return nil
	}))
	return found
}

func testErase(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	alice := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "openid-alice", UnionID: "union-alice", SessionKey: "session-alice",
		Nickname: "爱丽丝", Avatar: "https://a/alice.png", Phone: "+8613800138000"}))(t)
	bob := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "openid-bob", Nickname: "bob"}))(t)
	order := func(no, user, openID string) {
		o := testOrder(no)
		o.UserID, o.OpenID = user, openID
		must(db.CreateOrder(ctx, o))(t)
	}
	order("erase-paid", alice.ID, "openid-alice")
	order("erase-open", alice.ID, "")
	order("erase-openid", "", "openid-alice")
	order("erase-bob", bob.ID, "openid-bob")
	raw := func(p Payment) Payment { p.Raw = []byte(`{"payer":{"openid":"openid-alice"}}`); return p }
	must(db.MarkPaid(ctx, raw(testPayment("erase-paid", "t1")), purchase))(t)
	_, err := db.MarkPaid(ctx, raw(testPayment("erase-paid", "t2")), nil)
	wantErr(t, err, ErrPaymentConflict)
	_, err = db.MarkPaid(ctx, raw(testPayment("nobody-knows", "t3")), nil)
	wantErr(t, err, ErrPaymentConflict)
	must(db.MarkPaid(ctx, raw(testPayment("erase-bob", "t4")), nil))(t) // alice paid for bob
	_, _, err = db.BeginRefund(ctx, Refund{OutRefundNo: "r1", OutTradeNo: "erase-paid", Fen: 200, By: "shop"})
	check(t, err)
	say := func(app, openID, key string, p Push) {
		p.Key, p.AppID, p.OpenID, p.Answer = key, app, openID, []byte("<ToUserName>"+openID+"</ToUserName>")
		p.Talk = &Talk{From: "user", Type: "text", Content: "my name is " + openID}
		p.Tell = func(c Conversation, u User) []Telling {
			var all []Telling
			for _, kind := range openIDKinds {
				all = append(all, Telling{Kind: kind, To: u.OpenID, ID: "re-" + key, Payload: json.RawMessage(`{}`)})
			}
			return append(all, Telling{Kind: TellHook, To: "shop", ID: "re-" + key})
		}
		_, first, err := db.RecordPush(ctx, p)
		if err != nil || !first {
			t.Fatal(first, err)
		}
	}
	say("wx1", "openid-alice", "m1", Push{})
	say("wx1", "openid-bob", "m2", Push{})
	say("mp1", "openid-of-mp", "m3", Push{Follow: &Follower{Scene: "ADD_SCENE_QR_CODE"}})
	check(t, db.PutFollower(ctx, Follower{AppID: "mp1", OpenID: "openid-of-mp", UnionID: "union-alice", Nickname: "爱丽丝"}))
	must(db.PutPicture(ctx, "scene=1", alice.ID, Picture{ContentType: "image/png", Data: []byte("png")}))(t)
	must(db.AddMail(ctx, []string{alice.ID, bob.ID}, Letter{ID: "l1", Action: "hello", Payload: json.RawMessage(`"to 爱丽丝"`)}))(t)
	mp := must(db.UserByOpenID(ctx, "mp1", "openid-of-mp"))(t)
	if mp.UnionID != "union-alice" || !must(db.Follows(ctx, "union-alice"))(t) {
		t.Fatalf("follower %+v", mp)
	}
	head := must(db.MailHeads(ctx, []string{alice.ID}))(t)[0].Head

	c.move(time.Hour)
	for range 2 { // a repeat changes nothing
		check(t, db.EraseUser(ctx, alice.ID))
		c.move(time.Minute)
	}
	words := []string{alice.ID, mp.ID, "openid-alice", "openid-of-mp", "union-alice", "爱丽丝", "alice.png", "13800138000"}
	// blocks and mailboxes hold the dead ids, which lead to nobody; bob's letter is bob's, the room's notice is swept.
	if found := traces(t, db, words, "blocks", "mailboxes", "letters"); len(found) > 0 {
		t.Errorf("left of alice: %v", found)
	}
	for _, id := range []string{alice.ID, mp.ID} {
		_, err := db.User(ctx, id)
		wantErr(t, err, ErrNotFound)
		if n := count(t, db, "SELECT COUNT(*) FROM letters WHERE user_id = ?", id); n != 0 {
			t.Errorf("%d letters", n)
		}
	}
	_, err = db.SessionKey(ctx, alice.ID)
	wantErr(t, err, ErrNotFound)
	if must(db.Follows(ctx, "union-alice"))(t) {
		t.Error("still follows")
	}
	if all := must(db.Conversations(ctx, 0))(t); len(all) != 1 || all[0].UserID != bob.ID || all[0].Nickname != "bob" {
		t.Errorf("conversations %+v", all)
	}
	h := must(db.MailHeads(ctx, []string{alice.ID, bob.ID}))(t)
	if h[0].Head != head || h[0].Acked != head || h[1].Head != 1 {
		t.Errorf("heads %+v", h)
	}

	// A push that comes again brings nobody back.
	for _, p := range []Push{{Key: "m1", AppID: "wx1", OpenID: "openid-alice"}, {Key: "m3", AppID: "mp1", OpenID: "openid-of-mp", Follow: &Follower{}}} {
		if answer, first, err := db.RecordPush(ctx, p); err != nil || first || answer != nil {
			t.Errorf("%s again: %q, %v, %v", p.Key, answer, first, err)
		}
	}
	if n := count(t, db, "SELECT COUNT(*) FROM users"); n != 1 {
		t.Errorf("%d users", n)
	}

	// The orders keep what bookkeeping needs, and go on.
	o := must(db.Order(ctx, "erase-paid"))(t)
	if o.TotalFen != 4200 || o.TransactionID != "t1" || o.State != OrderRefunding || o.PaidAt.IsZero() || o.UserID != "" {
		t.Errorf("order %+v", o)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM payments WHERE payer_fen = 4100"); n != 2 {
		t.Errorf("%d payments", n)
	}
	if all := must(db.Conflicts(ctx, 0))(t); len(all) != 2 || all[0].TotalFen != 4200 || all[0].Raw != nil {
		t.Errorf("conflicts %+v", all)
	}
	again := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "openid-alice", UnionID: "union-alice"}))(t)
	if again.ID == alice.ID || again.Nickname != "" || again.Phone != "" || !again.CreatedAt.Equal(c.now()) {
		t.Errorf("signed in again %+v", again)
	}
	for i, no := range []string{"erase-open", "erase-openid"} {
		var told *User
		if !must(db.MarkPaid(ctx, raw(testPayment(no, fmt.Sprint("late-", i))), func(_ Order, u User) []Telling { told = &u; return nil }))(t) {
			t.Errorf("%s was not paid", no)
		}
		if told == nil || *told != (User{AppID: "wx1"}) {
			t.Errorf("%s told %+v", no, told)
		}
	}
	if !must(db.FinishRefund(ctx, "r1", RefundSuccess, "wx-1", c.now(), func(_ Order, _ Refund, u User) []Telling {
		if u != (User{AppID: "wx1"}) {
			t.Errorf("told %+v", u)
		}
		return nil
	}))(t) {
		t.Error("the refund was not finished")
	}
	if found := traces(t, db, []string{"openid-alice"}, "users"); len(found) > 0 {
		t.Errorf("left of alice after a late payment: %v", found)
	}

	// The id stays dead.
	if seqs := must(db.AddMail(ctx, []string{alice.ID, bob.ID}, Letter{ID: "l2", Action: "hello"}))(t); seqs[0] != 0 || seqs[1] != 2 {
		t.Errorf("mail to a dead id: %v", seqs)
	}
	dead := testOrder("erase-dead")
	dead.UserID = alice.ID
	_, err = db.CreateOrder(ctx, dead)
	wantErr(t, err, ErrErased)
	wantErr(t, db.Block(ctx, alice.ID, false), ErrErased)
	check(t, db.Block(ctx, alice.ID, true))
	wantErr(t, db.SetPhone(ctx, alice.ID, "1"), ErrNotFound)
	erased := map[string]bool{}
	for _, b := range must(db.BlockedUsers(ctx, time.Time{}))(t) {
		erased[b.UserID] = b.Blocked && b.Erased
	}
	if len(erased) != 2 || !erased[alice.ID] || !erased[mp.ID] {
		t.Errorf("erased %v", erased)
	}
	// One whom no login made.
	must(db.AddMail(ctx, []string{"shop-42"}, Letter{ID: "l1", Action: "hello"}))(t)
	check(t, db.EraseUser(ctx, "shop-42"))
	if n := count(t, db, "SELECT COUNT(*) FROM letters WHERE user_id = 'shop-42'"); n != 0 {
		t.Errorf("%d letters", n)
	}
	wantErr(t, db.EraseUser(ctx, "a b"), ErrInvalid)
}

// Everything that mentions a person happens while they are erased: whatever came first, nothing stays.
func testErase_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	for round := range 8 {
		openID := fmt.Sprint("openid-", round)
		u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: openID, UnionID: fmt.Sprint("union-", round)}))(t)
		mp := must(db.SignIn(ctx, SignIn{AppID: "mp1", OpenID: "mp-" + openID, UnionID: fmt.Sprint("union-", round)}))(t)
		for i := range 4 {
			o := testOrder(fmt.Sprintf("race-%d-%d", round, i))
			o.UserID, o.OpenID = u.ID, openID
			must(db.CreateOrder(ctx, o))(t)
		}
		var made atomic.Int64
		for _, err := range each(24, func(i int) error {
			switch i % 6 {
			case 0:
				return db.EraseUser(ctx, []string{u.ID, mp.ID}[i/6%2])
			case 1:
				_, err := db.MarkPaid(ctx, testPayment(fmt.Sprintf("race-%d-%d", round, i/6), fmt.Sprintf("t-%d-%d", round, i)), purchaseOf)
				return err
			case 2:
				_, err := db.AddMail(ctx, []string{u.ID, "bob"}, Letter{ID: fmt.Sprint("l", round, i), Action: "x"})
				return err
			case 3:
				o := testOrder(fmt.Sprintf("late-%d-%d", round, i))
				o.UserID, o.OpenID = u.ID, openID
				if _, err := db.CreateOrder(ctx, o); !errors.Is(err, ErrErased) {
					made.Add(1)
					return err
				}
				return nil
			case 4:
				_, _, err := db.RecordPush(ctx, Push{Key: fmt.Sprint("m", round, i), AppID: "wx1", OpenID: openID,
					Talk: &Talk{From: "user", Type: "text", Content: "x"}})
				return err
			default:
				return db.Block(ctx, mp.ID, true)
			}
		}) {
			check(t, err)
		}
		if found := traces(t, db, []string{u.ID, mp.ID}, "blocks", "mailboxes"); len(found) > 0 {
			t.Errorf("round %d: left: %v", round, found)
		}
		nameless := count(t, db, "SELECT COUNT(*) FROM orders WHERE user_id = '' AND open_id = ''")
		if want := count(t, db, "SELECT COUNT(*) FROM orders"); nameless != want {
			t.Errorf("round %d: %d of %d orders are nameless, %d were made meanwhile", round, nameless, want, made.Load())
		}
		if n := count(t, db, "SELECT COUNT(*) FROM payments WHERE open_id <> '' OR raw IS NOT NULL"); n != 0 {
			t.Errorf("round %d: %d payments with a name", round, n)
		}
	}
}

// purchaseOf tells the payer, if there is one.
func purchaseOf(o Order, u User) []Telling {
	if u.ID == "" {
		return nil
	}
	return purchase(o, u)
}

func testBlock(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1"}))(t)
	changes := func(since time.Time) (s string) {
		for _, b := range must(db.BlockedUsers(ctx, since))(t) {
			name := b.UserID
			if name == u.ID {
				name = "u"
			}
			s += fmt.Sprintf("%s %v %v %v; ", name, b.Blocked, b.Erased, b.At.Sub(newClock().now()))
		}
		return s
	}
	check(t, db.Block(ctx, u.ID, true))
	if !must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1"}))(t).Blocked {
		t.Error("not blocked")
	}
	c.move(time.Minute)
	check(t, db.Block(ctx, u.ID, true)) // keeps its time
	check(t, db.Block(ctx, "shop-42", true))
	if s := changes(time.Time{}); s != "u true false 0s; shop-42 true false 1m0s; " {
		t.Errorf("changes %s", s)
	}
	c.move(time.Minute)
	check(t, db.Block(ctx, u.ID, false))
	if must(db.User(ctx, u.ID))(t).Blocked {
		t.Error("still blocked")
	}
	if s := changes(c.now()); s != "u false false 2m0s; " {
		t.Errorf("changes %s", s)
	}
	c.move(24 * time.Hour)
	check(t, db.Sweep(ctx))
	if s := changes(time.Time{}); s != "shop-42 true false 1m0s; " {
		t.Errorf("changes after the sweep %s", s)
	}
	wantErr(t, db.Block(ctx, "", true), ErrInvalid)
}
