package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		writeUntilKilled(path)
		return
	}
	code := m.Run()
	stopPostgres()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A clock that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var testKeys = []Key{{ID: "k1", Secret: []byte("0123456789abcdef0123456789abcdef")}}

// An opener makes a store on a database of its own.
type opener func(t testing.TB, c *clock) *DB

func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	if o.Keys == nil {
		o.Keys = testKeys
	}
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openTestSQLite(t testing.TB, c *clock) *DB {
	return openTest(t, Options{URL: filepath.Join(t.TempDir(), "data", "wxhub.db"), Now: c.now})
}

func TestStore(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testStore(t, openTestSQLite) })
	t.Run("postgres", func(t *testing.T) { testStore(t, openTestPostgres) })
}

// testStore holds every kind of database to the same promises.
func testStore(t *testing.T, open opener) {
	for _, one := range []struct {
		name string
		test func(*testing.T, opener)
	}{
		{"users", testUsers},
		{"users/concurrent", testUsers_concurrentSignIn},
		{"revocations", testRevocations},
		{"orders", testOrders},
		{"orders/list", testOrders_list},
		{"payment", testMarkPaid},
		{"payment/concurrent", testMarkPaid_concurrentRepeat},
		{"payment/conflicts", testMarkPaid_conflict},
		{"payment/states", testMarkPaid_states},
		{"payment/tell fails", testMarkPaid_tellFails},
		{"orders/close", testCloseOrder},
		{"orders/unpaid", testUnpaidOrders},
		{"refunds", testRefunds},
		{"refunds/closed then success", testRefunds_closedThenSuccess},
		{"refunds/concurrent", testRefunds_concurrent},
		{"refunds/model", testRefunds_model},
		{"refunds/processing", testProcessingRefunds},
		{"erasure", testErase},
		{"erasure/concurrent", testErase_concurrent},
		{"block", testBlock},
		{"followers", testFollowers},
		{"followers/concurrent", testFollowers_concurrent},
		{"pictures", testPictures},
		{"audit", testAudits},
		{"alarms", testAlarms},
		{"alarms/concurrent", testAlarms_concurrent},
		{"alarms/conflict", testAlarms_conflict},
		{"platform pages", testPlatformPages},
		{"reconciliations", testReconciliations},
		{"shipments", testShipments},
		{"nodes", testNodes},
		{"profile", testProfile},
		{"outbox/dead", testDeadRows},
		{"mail", testMail},
		{"mail/concurrent", testMail_concurrent},
		{"mail/model", testMail_model},
		{"mail/count", testMail_count},
		{"receipts", testReceipts},
		{"quota", testQuota},
		{"fallbacks", testFallbacks},
		{"fallbacks/lost node", testFallbacks_lostNode},
		{"fallbacks/concurrent", testFallbacks_concurrent},
		{"documents", testDocuments},
		{"outbox", testOutbox},
		{"outbox/model", testOutbox_model},
		{"outbox/concurrent claims", testOutbox_concurrentClaims},
		{"push", testPush},
		{"push/concurrent", testPush_concurrent},
		{"talks", testTalks},
		{"platform tokens", testPlatformTokens},
		{"leases", testLeases},
		{"broadcasts", testBroadcasts},
		{"sweep", testSweep},
		{"wake", testWake},
		{"inputs", testInputs},
		{"cancelled", testCancelled},
		{"panic", testPanic},
		{"ping", testPing},
	} {
		t.Run(one.name, func(t *testing.T) { one.test(t, open) })
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// each runs fn n times at once and returns the errors.
func each(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	return errs
}

func count(t testing.TB, db *DB, query string, args ...any) (n int) {
	t.Helper()
	check(t, db.engine.read(t.Context(), false, func(t *tx) error { return t.row([]any{&n}, query, args...) }))
	return n
}

func testWake(t *testing.T, open opener) {
	db := open(t, newClock())
	woken := func() bool {
		select {
		case <-db.Wake():
			return true
		default:
			return false
		}
	}
	check(t, db.Ping(t.Context()))
	if woken() {
		t.Error("woken without work")
	}
	for i := range 3 {
		must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "hello"}))(t)
	}
	if !woken() {
		t.Error("not woken")
	}
	if woken() {
		t.Error("woken twice")
	}
	must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: "l1", Action: "hello"}))(t)
	if woken() {
		t.Error("woken by a repeat")
	}
}

func testInputs(t *testing.T, open opener) {
	db := open(t, newClock())
	ctx := t.Context()
	order := func(change func(*Order)) error {
		o := testOrder("inputs-1")
		change(&o)
		_, err := db.CreateOrder(ctx, o)
		return err
	}
	mail := func(user string, l Letter) error {
		_, err := db.AddMail(ctx, []string{user}, l)
		return err
	}
	push := func(p Push) error {
		_, _, err := db.RecordPush(ctx, p)
		return err
	}
	signIn := func(s SignIn) error {
		_, err := db.SignIn(ctx, s)
		return err
	}
	refund := func(r Refund) error {
		_, _, err := db.BeginRefund(ctx, r)
		return err
	}
	second := func(_ any, err error) error { return err }
	for field, err := range map[string]error{
		"OutTradeNo short":     order(func(o *Order) { o.OutTradeNo = "12345" }),
		"OutTradeNo long":      order(func(o *Order) { o.OutTradeNo = strings.Repeat("1", 33) }),
		"OutTradeNo character": order(func(o *Order) { o.OutTradeNo = "12345 7" }),
		"OutTradeNo line":      order(func(o *Order) { o.OutTradeNo = "1234567\n" }),
		"AppID":                order(func(o *Order) { o.AppID = "" }),
		"MchID":                order(func(o *Order) { o.MchID = "" }),
		"UserID":               order(func(o *Order) { o.UserID = "a b" }),
		"UserID or OpenID":     order(func(o *Order) { o.UserID, o.OpenID = "", "" }),
		"Description":          order(func(o *Order) { o.Description = strings.Repeat("x", maxText+1) }),
		"Description UTF-8":    order(func(o *Order) { o.Description = "\xff" }),
		"Description NUL":      order(func(o *Order) { o.Description = "a\x00" }),
		"Quantity":             order(func(o *Order) { o.Quantity = -1 }),
		"TotalFen":             order(func(o *Order) { o.TotalFen = -1 }),
		"TotalFen high":        order(func(o *Order) { o.TotalFen = maxFen + 1 }),
		"Currency":             order(func(o *Order) { o.Currency = "cny" }),
		"Room":                 order(func(o *Order) { o.Room = "a b" }),
		"PrepayID":             db.SetPrepay(ctx, "123456", "", time.Time{}),
		"user":                 mail("", Letter{ID: "1", Action: "a"}),
		"ID":                   mail("u", Letter{Action: "a"}),
		"Action":               mail("u", Letter{ID: "1"}),
		"Payload":              mail("u", Letter{ID: "1", Action: "a", Payload: []byte("{")}),
		"Payload long":         mail("u", Letter{ID: "1", Action: "a", Payload: make([]byte, maxPayload+1)}),
		"Key":                  push(Push{AppID: "wx1"}),
		"Talk.From":            push(Push{AppID: "wx1", Key: "1", OpenID: "o", Talk: &Talk{From: "me", Type: "text"}}),
		"OpenID":               push(Push{AppID: "wx1", Key: "1", Talk: &Talk{From: "user", Type: "text"}}),
		"OpenID sign in":       signIn(SignIn{AppID: "wx1"}),
		"SessionKey":           signIn(SignIn{AppID: "wx1", OpenID: "secret-openid", SessionKey: strings.Repeat("x", maxText+1)}),
		"TokenID":              db.RevokeToken(ctx, "", time.Now(), false),
		"limit":                second(db.Conflicts(ctx, -1)),
		"limit orders":         second(db.Orders(ctx, OrderQuery{Limit: 201})),
		"limit mail":           second(db.ReadMail(ctx, "u", 0, 1001, false)),
		"n":                    second(db.ClaimOutbox(ctx, "node", everyKind, 0, time.Second)),
		"lease":                second(db.ClaimOutbox(ctx, "node", everyKind, 1, 0)),
		"owner":                second(db.ClaimOutbox(ctx, "", everyKind, 1, time.Second)),
		"ttl":                  second(db.Lease(ctx, "a", "b", -1)),
		"BodyHash":             second(db.BeginBroadcast(ctx, "a", nil)),
		"token":                db.SetPlatformToken(ctx, "a", "", time.Now()),
		"Phone":                db.SetPhone(ctx, "u", strings.Repeat("1", maxName+1)),
		"Phone sign in":        signIn(SignIn{AppID: "wx1", OpenID: "secret-openid", Phone: "1\x00"}),
		"OutRefundNo":          refund(Refund{OutTradeNo: "123456"}),
		"OutRefundNo long":     refund(Refund{OutTradeNo: "123456", OutRefundNo: strings.Repeat("1", 65)}),
		"OutTradeNo refund":    refund(Refund{OutRefundNo: "r1"}),
		"Fen":                  refund(Refund{OutTradeNo: "123456", OutRefundNo: "r1", Fen: -1}),
		"Fen high":             refund(Refund{OutTradeNo: "123456", OutRefundNo: "r1", Fen: maxFen + 1}),
		"Reason":               refund(Refund{OutTradeNo: "123456", OutRefundNo: "r1", Reason: "\xff"}),
		"Follower.OpenID":      db.PutFollower(ctx, Follower{AppID: "mp1"}),
		"Follower.Scene":       push(Push{AppID: "mp1", Key: "1", OpenID: "secret-openid", Follow: &Follower{Scene: "\x00"}}),
		"OpenID unfollow":      push(Push{AppID: "mp1", Key: "1", Unfollow: true}),
		"UserID erase":         db.EraseUser(ctx, strings.Repeat("u", 65)),
		"UserID block":         db.Block(ctx, "a b", true),
		"limit unpaid":         second(db.UnpaidOrders(ctx, time.Now(), 1001)),
		"limit refunds":        second(db.ProcessingRefunds(ctx, time.Now(), -1)),
		"limit dead":           second(db.DeadRows(ctx, -1)),
		"limit audits":         second(db.Audits(ctx, -1)),
		"ID node":              db.PutNode(ctx, Node{}),
		"ContentType":          second(db.PutPicture(ctx, "k", "u", Picture{ContentType: "text/html", Data: []byte("x")})),
		"Telling.ID": push(Push{AppID: "wx1", Key: "2", Tell: func(Conversation, User) []Telling {
			return []Telling{{Kind: TellRoom, To: "kf"}}
		}}),
		"Telling.To": push(Push{AppID: "wx1", Key: "2", Tell: func(Conversation, User) []Telling {
			return []Telling{{Kind: TellRoom, To: "a b", ID: "1"}}
		}}),
		"Telling.Kind": push(Push{AppID: "wx1", Key: "2", Tell: func(Conversation, User) []Telling {
			return []Telling{{Kind: "Room", To: "kf", ID: "1"}}
		}}),
	} {
		name, _, _ := strings.Cut(field, " ")
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", field, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret-openid") {
			t.Errorf("%s: the error shows an openid: %v", field, err)
		}
	}
	for _, table := range []string{"users", "orders", "mailboxes", "pushes", "outbox", "broadcasts", "refunds", "followers", "blocks", "pictures", "nodes"} {
		if n := count(t, db, "SELECT COUNT(*) FROM "+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// A caller who leaves changes nothing, or all.
func testCancelled(t *testing.T, open opener) {
	db := open(t, newClock())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.AddMail(ctx, []string{"alice"}, Letter{ID: "1", Action: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	must(db.CreateOrder(t.Context(), testOrder("cancel-1")))(t)
	_, err := db.MarkPaid(ctx, testPayment("cancel-1", "t1"), func(Order, User) []Telling {
		cancel()
		return []Telling{{Kind: TellRoom, To: "notice", ID: "n1"}}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled within: %v", err)
	}
	if o := must(db.Order(t.Context(), "cancel-1"))(t); o.State != OrderCreated {
		t.Errorf("state %s", o.State)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM outbox"); n != 0 {
		t.Errorf("%d outbox rows", n)
	}
	if head := must(db.MailHeads(t.Context(), []string{"alice"}))(t)[0].Head; head != 0 {
		t.Errorf("mail head %d", head)
	}
	// Callers with short patience among others with long: whoever got nil is stored, and all of it.
	errs := each(60, func(i int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%6)*time.Millisecond)
		defer cancel()
		if i%2 == 0 {
			ctx = t.Context()
		}
		_, err := db.AddMail(ctx, []string{"bob", fmt.Sprint("user", i)}, Letter{ID: fmt.Sprint("l", i), Action: "a"})
		return err
	})
	for i, err := range errs {
		letters := count(t, db, "SELECT COUNT(*) FROM letters WHERE id = ?", fmt.Sprint("l", i))
		rings := count(t, db, "SELECT COUNT(*) FROM outbox WHERE id = ?", fmt.Sprint("l", i))
		if letters != rings || letters == 1 || (err == nil && letters != 2) || (err != nil && i%2 == 0) {
			t.Errorf("%d: error %v, %d letters, %d rings", i, err, letters, rings)
		}
	}
}

// A panic in a caller's function is the caller's, and harms nobody else.
func testPanic(t *testing.T, open opener) {
	db := open(t, newClock())
	must(db.CreateOrder(t.Context(), testOrder("panic-1")))(t)
	func() {
		defer func() {
			if p := recover(); p != "mistake" {
				t.Errorf("recovered %v", p)
			}
		}()
		db.MarkPaid(t.Context(), testPayment("panic-1", "t1"), func(Order, User) []Telling { panic("mistake") })
	}()
	if o := must(db.Order(t.Context(), "panic-1"))(t); o.State != OrderCreated {
		t.Errorf("state %s", o.State)
	}
	if !must(db.MarkPaid(t.Context(), testPayment("panic-1", "t1"), nil))(t) {
		t.Error("not paid after the panic")
	}
}

func testPing(t *testing.T, open opener) {
	db := open(t, newClock())
	for _, err := range each(20, func(int) error { return db.Ping(t.Context()) }) {
		check(t, err)
	}
	check(t, db.Close())
	db.pingedAt = time.Time{}
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a closed store can be written")
	}
	if _, err := db.Order(t.Context(), "123456"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("read of a closed store: %v", err)
	}
}

func TestOpen_refuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	for name, o := range map[string]Options{
		"no URL":     {Keys: testKeys},
		"other URL":  {URL: "mysql://somewhere", Keys: testKeys},
		"no key":     {URL: path},
		"short key":  {URL: path, Keys: []Key{{ID: "k", Secret: []byte("short")}}},
		"no key ID":  {URL: path, Keys: []Key{{Secret: testKeys[0].Secret}}},
		"double key": {URL: path, Keys: []Key{testKeys[0], testKeys[0]}},
	} {
		if db, err := Open(t.Context(), o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v", name, db, err)
		}
	}
	_, err := Open(t.Context(), Options{URL: "postgres://user:secret-word@[::1", Keys: testKeys})
	if err == nil || strings.Contains(err.Error(), "secret-word") {
		t.Errorf("error %v", err)
	}
	if text := fmt.Sprintf("%v %+v %v", testKeys[0], testKeys, Options{Keys: testKeys}); strings.Contains(text, "0123456789") || strings.Contains(text, "48 49") {
		t.Errorf("a key prints its secret: %s", text)
	}
}
