package store

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func testUsers(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	made := c.now()
	u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1", SessionKey: "key-one", Nickname: "小明", Avatar: "https://a/1.png"}))(t)
	if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(u.ID) || u.CreatedAt != made || u.SeenAt != made || u.Nickname != "小明" {
		t.Errorf("made %+v", u)
	}
	c.move(time.Hour)
	again := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1", UnionID: "union", SessionKey: "key-two"}))(t)
	want := u
	want.UnionID, want.SeenAt = "union", c.now()
	if again != want {
		t.Errorf("again %+v, want %+v", again, want)
	}
	if got := must(db.User(ctx, u.ID))(t); got != want {
		t.Errorf("by id %+v", got)
	}
	if got := must(db.UserByOpenID(ctx, "wx1", "o1"))(t); got != want {
		t.Errorf("by openid %+v", got)
	}
	if key := must(db.SessionKey(ctx, u.ID))(t); key != "key-two" {
		t.Errorf("session key %q", key)
	}
	must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1"}))(t)
	if key := must(db.SessionKey(ctx, u.ID))(t); key != "key-two" {
		t.Errorf("an empty session key replaced the known one: %q", key)
	}
	other := must(db.SignIn(ctx, SignIn{AppID: "wx2", OpenID: "o1"}))(t)
	if other.ID == u.ID {
		t.Error("one user in two apps")
	}
	_, err := db.SessionKey(ctx, other.ID)
	wantErr(t, err, ErrNotFound)
	_, err = db.SessionKey(ctx, "nobody")
	wantErr(t, err, ErrNotFound)
	_, err = db.User(ctx, "nobody")
	wantErr(t, err, ErrNotFound)
	_, err = db.UserByOpenID(ctx, "wx1", "secret")
	wantErr(t, err, ErrNotFound)
	if regexp.MustCompile("secret").MatchString(err.Error()) {
		t.Errorf("the error shows an openid: %v", err)
	}
	// Sealed: not readable in the table, and worth nothing in another row.
	if n := count(t, db, "SELECT COUNT(*) FROM users WHERE session_key = ?", []byte("key-two")); n != 0 {
		t.Error("the session key is not sealed")
	}
	check(t, db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE users SET (session_key, session_key_kid) =
			(SELECT session_key, session_key_kid FROM users WHERE id = ?) WHERE id = ?`, u.ID, other.ID)
		return err
	}))
	_, err = db.SessionKey(ctx, other.ID)
	wantErr(t, err, ErrSealed)
}

func testUsers_concurrentSignIn(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	ids := make([]string, 40)
	for _, err := range each(40, func(i int) error {
		u, err := db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: fmt.Sprint("o", i%4), SessionKey: "k"})
		ids[i] = u.ID
		return err
	}) {
		check(t, err)
	}
	for i, id := range ids {
		if id != ids[i%4] {
			t.Errorf("two users for one openid: %s %s", id, ids[i%4])
		}
	}
	if n := count(t, db, "SELECT COUNT(*) FROM users"); n != 4 {
		t.Errorf("%d users", n)
	}
}

func testRevocations(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	start := c.now()
	for i := range 3 {
		check(t, db.RevokeToken(ctx, fmt.Sprint("jti-", i), start.Add(time.Duration(i+1)*time.Hour), false))
		c.move(time.Minute)
	}
	check(t, db.RevokeToken(ctx, "jti-1", start.Add(time.Minute), false)) // earlier: without effect
	ids := func(since time.Time) string {
		s := ""
		for _, r := range must(db.Revocations(ctx, since))(t) {
			s += r.TokenID[4:]
			if r.At.Before(since) || !r.ExpiresAt.After(c.now()) {
				t.Errorf("%+v since %v", r, since)
			}
		}
		return s
	}
	if s := ids(time.Time{}); s != "012" {
		t.Errorf("all: %s", s)
	}
	if s := ids(start.Add(time.Minute)); s != "12" {
		t.Errorf("since the second: %s", s)
	}
	c.move(90 * time.Minute)
	if s := ids(time.Time{}); s != "12" {
		t.Errorf("after one expired: %s", s)
	}
	// A token that was exchanged keeps its sockets, until it is made dead for them too.
	for i, one := range []struct{ keep, kept bool }{{true, true}, {true, true}, {false, false}, {true, false}} {
		at := c.now()
		check(t, db.RevokeToken(ctx, "jti-5", start.Add(12*time.Hour), one.keep))
		all := must(db.Revocations(ctx, at))(t)
		if changes := i == 0 || i == 2; len(all) == 1 != changes || changes && all[0].Keep != one.kept {
			t.Errorf("%d: %+v", i, all)
		}
		c.move(time.Minute)
	}
}

func testProfile(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	u := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1", Nickname: "小明", Avatar: "https://a/1.png"}))(t)
	other := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o2", Phone: "+85291234567"}))(t)
	if other.Phone != "+85291234567" {
		t.Errorf("signed in %+v", other)
	}
	text := func(s string) *string { return &s }
	for _, one := range []struct {
		nickname, avatar *string
		want             string
	}{
		{nil, nil, "小明 https://a/1.png"},
		{text("小红"), nil, "小红 https://a/1.png"},
		{nil, text("https://a/2.png"), "小红 https://a/2.png"},
		{text(""), text(""), " "},
	} {
		got := must(db.UpdateProfile(ctx, u.ID, one.nickname, one.avatar))(t)
		if got != must(db.User(ctx, u.ID))(t) || got.Nickname+" "+got.Avatar != one.want {
			t.Errorf("%+v, want %s", got, one.want)
		}
	}
	_, err := db.UpdateProfile(ctx, "nobody", text("x"), nil)
	wantErr(t, err, ErrNotFound)
	_, err = db.UpdateProfile(ctx, u.ID, text(strings.Repeat("x", maxText+1)), nil)
	wantErr(t, err, ErrInvalid)

	const phone = "+8613800138000"
	check(t, db.SetPhone(ctx, u.ID, phone))
	if got := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o1"}))(t); got.Phone != phone {
		t.Errorf("phone %q", got.Phone)
	}
	if got := must(db.UserByOpenID(ctx, "wx1", "o1"))(t); got.Phone != phone {
		t.Errorf("phone %q", got.Phone)
	}
	if found := traces(t, db, []string{"13800138000", "91234567"}); len(found) > 0 {
		t.Errorf("not sealed: %v", found)
	}
	// In another row it does not open; the user is still there.
	check(t, db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE users SET (phone, phone_kid) = (SELECT phone, phone_kid FROM users WHERE id = ?) WHERE id = ?", other.ID, u.ID)
		return err
	}))
	if got := must(db.User(ctx, u.ID))(t); got.Phone != "" || got.ID != u.ID {
		t.Errorf("moved phone %+v", got)
	}
	check(t, db.SetPhone(ctx, other.ID, ""))
	if got := must(db.User(ctx, other.ID))(t); got.Phone != "" {
		t.Errorf("forgotten phone %q", got.Phone)
	}
	wantErr(t, db.SetPhone(ctx, "nobody", phone), ErrNotFound)
}
