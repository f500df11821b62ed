package store

import (
	"fmt"
	"testing"
	"time"
)

func testFollowers(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	follower := func() (f Follower) {
		t.Helper()
		var at int64
		check(t, db.engine.read(ctx, false, func(t *tx) error {
			return t.row([]any{&f.AppID, &f.OpenID, &f.UnionID, &f.Nickname, &f.Scene, &at},
				"SELECT app_id, open_id, union_id, nickname, scene, at FROM followers")
		}))
		f.At = moment(at)
		return f
	}
	follows := func(want bool) {
		t.Helper()
		if got := must(db.Follows(ctx, "union-1"))(t); got != want {
			t.Errorf("follows: %v", got)
		}
	}
	var told []string
	push := func(key string, p Push) {
		t.Helper()
		p.Key, p.AppID, p.OpenID = key, "mp1", "o1"
		p.Tell = func(_ Conversation, u User) []Telling {
			told = append(told, u.ID)
			return []Telling{{Kind: TellRoom, To: "kf", ID: key, Action: "follow"}}
		}
		for range 2 {
			_, _, err := db.RecordPush(ctx, p)
			check(t, err)
		}
	}
	follows(false)
	push("subscribe-1", Push{Follow: &Follower{Scene: "ADD_SCENE_SEARCH", At: c.now()}})
	want := Follower{AppID: "mp1", OpenID: "o1", Scene: "ADD_SCENE_SEARCH", At: c.now()}
	if f := follower(); f != want {
		t.Errorf("%+v, want %+v", f, want)
	}
	follows(false) // the unionid is not known yet
	if must(db.Follows(ctx, ""))(t) {
		t.Error("nobody follows")
	}
	c.move(time.Minute)
	check(t, db.LearnFollower(ctx, Follower{AppID: "mp1", OpenID: "o1", UnionID: "union-1", Nickname: "小明"}))
	want.UnionID, want.Nickname = "union-1", "小明"
	if f := follower(); f != want {
		t.Errorf("%+v, want %+v", f, want)
	}
	follows(true)
	if u := must(db.UserByOpenID(ctx, "mp1", "o1"))(t); u.UnionID != "union-1" || u.Nickname != "小明" {
		t.Errorf("user %+v", u)
	}
	mini := must(db.SignIn(ctx, SignIn{AppID: "wx1", OpenID: "o9", UnionID: "union-1"}))(t)

	push("unsubscribe-1", Push{Unfollow: true, Talk: &Talk{From: "user", Type: "event", Content: "unsubscribe"}})
	follows(false)
	_, err := db.UserByOpenID(ctx, "mp1", "o1")
	wantErr(t, err, ErrNotFound)
	must(db.User(ctx, mini.ID))(t) // the other app is another matter
	wantErr(t, db.LearnFollower(ctx, Follower{AppID: "mp1", OpenID: "o1", UnionID: "union-1"}), ErrNotFound)
	follows(false)
	if found := traces(t, db, []string{"o1", "小明"}, "outbox", "mailboxes", "blocks"); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	push("subscribe-2", Push{Follow: &Follower{UnionID: "union-1"}})
	follows(true)
	if len(told) != 3 || told[0] != told[1] || told[2] == told[0] {
		t.Errorf("told of %v", told)
	}
	if n := count(t, db, "SELECT COUNT(*) FROM outbox"); n != 3 {
		t.Errorf("%d tellings", n)
	}
	for range 2 {
		check(t, db.RemoveFollower(ctx, "mp1", "o1"))
	}
	follows(false)
	check(t, db.PutFollower(ctx, Follower{AppID: "mp1", OpenID: "o2", UnionID: "union-1"})) // whom no push made
	follows(true)
	check(t, db.RemoveFollower(ctx, "mp1", "o2"))
	follows(false)
	_, _, err = db.RecordPush(ctx, Push{Key: "x", AppID: "mp1", Unfollow: true})
	wantErr(t, err, ErrInvalid)
	wantErr(t, db.PutFollower(ctx, Follower{AppID: "mp1"}), ErrInvalid)
}

// Follow and unfollow come again and again, at once: all agree in the end.
func testFollowers_concurrent(t *testing.T, open opener) {
	db, ctx := open(t, newClock()), t.Context()
	for _, err := range each(40, func(i int) error {
		p := Push{Key: fmt.Sprint("e", i/2), AppID: "mp1", OpenID: fmt.Sprint("o", i/2%3), Unfollow: i/2%2 == 0}
		if !p.Unfollow {
			p.Follow = &Follower{UnionID: "union-" + p.OpenID}
		}
		_, _, err := db.RecordPush(ctx, p)
		return err
	}) {
		check(t, err)
	}
	for i := range 3 {
		openID := fmt.Sprint("o", i)
		_, _, err := db.RecordPush(ctx, Push{Key: fmt.Sprint("last", i), AppID: "mp1", OpenID: openID, Unfollow: true})
		check(t, err)
		if must(db.Follows(ctx, "union-"+openID))(t) {
			t.Errorf("%s follows still", openID)
		}
	}
	for table, want := range map[string]int{"followers": 0, "users": 0, "conversations": 0, "pushes": 23} {
		if n := count(t, db, "SELECT COUNT(*) FROM "+table); n != want {
			t.Errorf("%d %s, want %d", n, table, want)
		}
	}
}

func testPictures(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	png := func(data string) Picture { return Picture{ContentType: "image/png", Data: []byte(data)} }
	one := must(db.PutPicture(ctx, "scene=a", "alice", png("one")))(t)
	if one.ID == "" || string(one.Data) != "one" || one.ContentType != "image/png" || !one.CreatedAt.Equal(c.now()) {
		t.Errorf("%+v", one)
	}
	c.move(time.Hour)
	for name, got := range map[string]Picture{
		"same key": must(db.PutPicture(ctx, "scene=a", "bob", png("two")))(t),
		"by id":    must(db.Picture(ctx, one.ID))(t),
		"by key":   must(db.PictureByKey(ctx, "scene=a"))(t),
	} {
		if got.ID != one.ID || string(got.Data) != "one" || !got.CreatedAt.Equal(one.CreatedAt) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	_, err := db.Picture(ctx, "scene=a")
	wantErr(t, err, ErrNotFound)
	_, err = db.PictureByKey(ctx, one.ID)
	wantErr(t, err, ErrNotFound)
	ids := make([]string, 30)
	for _, err := range each(30, func(i int) error {
		p, err := db.PutPicture(ctx, fmt.Sprint("scene=", i%3), "alice", png(fmt.Sprint(i)))
		ids[i] = p.ID
		return err
	}) {
		check(t, err)
	}
	for i, id := range ids {
		if id != ids[i%3] {
			t.Errorf("two pictures of one key: %s, %s", id, ids[i%3])
		}
	}
	for since, want := range map[time.Time]int{{}: 4, c.now(): 3, c.now().Add(time.Second): 0} {
		if n := must(db.CountPictures(ctx, "alice", since))(t); n != want {
			t.Errorf("%d pictures since %v, want %d", n, since, want)
		}
	}
	if n := must(db.CountPictures(ctx, "bob", time.Time{}))(t); n != 0 {
		t.Errorf("bob has %d", n)
	}
	for name, p := range map[string]Picture{
		"a page": {ContentType: "text/html", Data: []byte("x")},
		"SVG":    {ContentType: "image/svg+xml", Data: []byte("x")},
		"empty":  {ContentType: "image/png"},
		"large":  {ContentType: "image/png", Data: make([]byte, maxPicture+1)},
	} {
		if _, err := db.PutPicture(ctx, name, "", p); err == nil {
			t.Errorf("%s is a picture", name)
		}
	}
}

func testAudits(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	check(t, db.Audit(ctx, "admin", "refund", "order-1"))
	c.move(time.Minute)
	check(t, db.Audit(ctx, "\xff\x00", "block", "alice"))
	all := must(db.Audits(ctx, 0))(t)
	if len(all) != 2 || all[0].What != "block" || !all[0].At.Equal(c.now()) || all[0].Seq <= all[1].Seq ||
		all[1].Who != "admin" || all[1].About != "order-1" {
		t.Errorf("%+v", all)
	}
	if all := must(db.Audits(ctx, 1))(t); len(all) != 1 || all[0].What != "block" {
		t.Errorf("%+v", all)
	}
}

func testNodes(t *testing.T, open opener) {
	c := newClock()
	db, ctx := open(t, c), t.Context()
	n := Node{ID: "a", Version: "v1", Addr: ":8080", StartedAt: c.now(), Sockets: 3, Rooms: 2, Users: 1, PublishedPerSec: 0.5}
	check(t, db.PutNode(ctx, n))
	c.move(10 * time.Second)
	n.ID, n.Sockets, n.SeenAt = "b", 4, c.now()
	check(t, db.PutNode(ctx, n))
	n.Sockets, n.PublishedPerSec = 5, 1.25
	check(t, db.PutNode(ctx, n))
	if all := must(db.Nodes(ctx, time.Time{}))(t); len(all) != 2 || all[0].ID != "a" || !all[0].SeenAt.Equal(newClock().now()) || all[1] != n {
		t.Errorf("%+v", all)
	}
	if all := must(db.Nodes(ctx, c.now()))(t); len(all) != 1 || all[0] != n {
		t.Errorf("%+v", all)
	}
	check(t, db.RemoveNode(ctx, "b"))
	check(t, db.RemoveNode(ctx, "b"))
	c.move(24*time.Hour - 10*time.Second)
	check(t, db.Sweep(ctx))
	if all := must(db.Nodes(ctx, time.Time{}))(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	wantErr(t, db.PutNode(ctx, Node{}), ErrInvalid)
}
