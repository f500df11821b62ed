package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testPlatformTokens(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	_, _, err := db.PlatformToken(ctx, "access_token/wx1")
	wantErr(t, err, ErrNotFound)
	for _, token := range []string{"token-one", "token-two"} {
		check(t, db.SetPlatformToken(ctx, "access_token/wx1", token, c.now().Add(2*time.Hour)))
		got, expires, err := db.PlatformToken(ctx, "access_token/wx1")
		if err != nil || got != token || !expires.Equal(c.now().Add(2*time.Hour)) {
			t.Errorf("%q, %v, %v", got, expires, err)
		}
	}
	check(t, db.SetPlatformToken(ctx, "access_token/wx2", "token-three", c.now()))
	check(t, db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE platform_tokens SET token = (SELECT token FROM platform_tokens WHERE name = 'access_token/wx1')
			WHERE name = 'access_token/wx2'`)
		return err
	}))
	_, _, err = db.PlatformToken(ctx, "access_token/wx2")
	wantErr(t, err, ErrSealed)
}

func TestSeal_keyRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	newKey := Key{ID: "k2", Secret: []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")}
	var user string
	for _, step := range []struct {
		keys      []Key
		write     bool
		want      string // of the user's session key
		wantError error
	}{
		{keys: testKeys, write: true, want: "secret-1"},
		{keys: []Key{newKey, testKeys[0]}, want: "secret-1"}, // the old key opens
		{keys: []Key{newKey}, wantError: ErrSealed},
		{keys: []Key{{ID: "k1", Secret: newKey.Secret}}, wantError: ErrSealed}, // the right ID, another secret
		{keys: []Key{newKey, testKeys[0]}, write: true, want: "secret-5"},      // the new key seals
		{keys: []Key{newKey}, want: "secret-5"},
		{keys: testKeys, wantError: ErrSealed},
	} {
		db, err := Open(t.Context(), Options{URL: path, Keys: step.keys})
		check(t, err)
		if step.write {
			u := must(db.SignIn(t.Context(), SignIn{AppID: "wx1", OpenID: "o1", SessionKey: step.want}))(t)
			user = u.ID
		}
		got, err := db.SessionKey(t.Context(), user)
		if step.wantError != nil {
			wantErr(t, err, step.wantError)
		} else if err != nil || got != step.want {
			t.Errorf("%q, %v, want %q", got, err, step.want)
		}
		check(t, db.Close())
	}
}

func TestSeal_tampered(t *testing.T) {
	r, err := newKeyring(testKeys)
	check(t, err)
	sealed, kid := r.seal("users/a/session_key", "secret")
	if again, _ := r.seal("users/a/session_key", "secret"); string(again) == string(sealed) {
		t.Error("the nonce repeats")
	}
	if s, err := r.open("users/a/session_key", sealed, kid); err != nil || s != "secret" {
		t.Fatalf("%q, %v", s, err)
	}
	for i := range sealed {
		bad := append([]byte(nil), sealed...)
		bad[i] ^= 1
		if _, err := r.open("users/a/session_key", bad, kid); err == nil {
			t.Errorf("byte %d changed, still opens", i)
		}
		if _, err := r.open("users/a/session_key", sealed[:i], kid); err == nil {
			t.Errorf("cut at %d, still opens", i)
		}
	}
	if _, err := r.open("users/b/session_key", sealed, kid); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("opens in another row, or the error shows it: %v", err)
	}
}

func testLeases(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	take := func(owner string, want bool) {
		t.Helper()
		if got := must(db.Lease(ctx, "refresh", owner, time.Minute))(t); got != want {
			t.Errorf("%s: %v", owner, got)
		}
	}
	take("one", true)
	take("two", false)
	c.move(50 * time.Second)
	take("one", true) // prolonged
	c.move(50 * time.Second)
	take("two", false)
	c.move(10 * time.Second)
	take("two", true)
	check(t, db.Unlease(ctx, "refresh", "one"))
	take("one", false)
	check(t, db.Unlease(ctx, "refresh", "two"))
	take("one", true)

	got := make([]bool, 30)
	for _, err := range each(30, func(i int) (err error) {
		got[i], err = db.Lease(ctx, "race", fmt.Sprint("node", i), time.Minute)
		return err
	}) {
		check(t, err)
	}
	n := 0
	for _, mine := range got {
		if mine {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d owners of one lease", n)
	}
}

func testBroadcasts(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	wantErr(t, db.FinishBroadcast(ctx, "b1", nil), ErrNotFound)
	b := must(db.BeginBroadcast(ctx, "b1", []byte("hash")))(t)
	if b.Answer != nil || string(b.BodyHash) != "hash" || !b.At.Equal(c.now()) {
		t.Errorf("begun %+v", b)
	}
	if b = must(db.BeginBroadcast(ctx, "b1", []byte("hash")))(t); b.Answer != nil {
		t.Errorf("incomplete %+v", b)
	}
	_, err := db.BeginBroadcast(ctx, "b1", []byte("other"))
	wantErr(t, err, ErrOtherBody)
	check(t, db.FinishBroadcast(ctx, "b1", []byte(`{"id" : "b1"}`)))
	c.move(23 * time.Hour)
	if b = must(db.BeginBroadcast(ctx, "b1", []byte("hash")))(t); string(b.Answer) != `{"id" : "b1"}` {
		t.Errorf("complete %+v", b)
	}
	c.move(time.Hour)
	if b = must(db.BeginBroadcast(ctx, "b1", []byte("other")))(t); b.Answer != nil || string(b.BodyHash) != "other" {
		t.Errorf("after a day %+v", b)
	}
}

func testSweep(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	for i := range 1100 { // more than two batches
		must(0, db.engine.write(ctx, func(t *tx) error {
			_, err := t.exec("INSERT INTO pushes (app_id, push, at) VALUES ('wx1', ?, ?)", fmt.Sprint(i), stamp(t.now))
			return err
		}))(t)
	}
	check(t, db.RevokeToken(ctx, "jti", c.now().Add(time.Hour), false))
	must(db.BeginBroadcast(ctx, "b1", []byte("hash")))(t)
	for i := range 4 {
		must(db.AddMail(ctx, []string{"alice", "bob"}, Letter{ID: fmt.Sprint("l", i), Action: "x"}))(t)
	}
	check(t, db.AckMail(ctx, "alice", 2))
	rows := must(db.ClaimOutbox(ctx, "node", everyKind, 2, time.Minute))(t)
	check(t, db.SettleOutbox(ctx, "node", []int64{rows[0].Seq}))
	check(t, db.BuryOutbox(ctx, "node", rows[1].Seq, "no"))
	after := func(d time.Duration, pushes, revocations, broadcasts, outbox, aliceFirst, bobFirst int) {
		t.Helper()
		c.move(d)
		check(t, db.Sweep(ctx))
		got := []int{count(t, db, "SELECT COUNT(*) FROM pushes"), count(t, db, "SELECT COUNT(*) FROM revocations"),
			count(t, db, "SELECT COUNT(*) FROM broadcasts"), count(t, db, "SELECT COUNT(*) FROM outbox"),
			int(must(db.ReadMail(ctx, "alice", 0, 1, false))(t).First), int(must(db.ReadMail(ctx, "bob", 0, 1, false))(t).First)}
		want := []int{pushes, revocations, broadcasts, outbox, aliceFirst, bobFirst}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after %v: %v, want %v", d, got, want)
		}
	}
	after(0, 1100, 1, 1, 8, 1, 1)
	after(time.Hour, 1100, 0, 1, 8, 1, 1)
	after(23*time.Hour, 1100, 0, 0, 7, 1, 1)
	after(6*24*time.Hour, 0, 0, 0, 7, 3, 1)
	after(23*24*time.Hour, 0, 0, 0, 7, 5, 5)
	if seq := must(db.AddMail(ctx, []string{"bob"}, Letter{ID: "l9", Action: "x"}))(t); seq[0] != 5 {
		t.Errorf("seq %d after the sweep", seq[0])
	}
}
