package jobs

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// newAccount is an official account whose user/info answers with answer.
func newAccount(t *testing.T, answer func(openID string) string) *wechat.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/stable_token") {
			io.WriteString(w, `{"access_token":"T","expires_in":7200}`)
			return
		}
		io.WriteString(w, answer(r.URL.Query().Get("openid")))
	}))
	t.Cleanup(s.Close)
	c, err := wechat.New(wechat.Options{AppID: "wxmp", Secret: "secret", APIURL: s.URL, HTTP: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func follow(t *testing.T, db *store.DB, openID string, payload string) {
	t.Helper()
	if _, _, err := db.RecordPush(t.Context(), store.Push{
		Key: "follow " + openID, AppID: "wxmp", OpenID: openID, Answer: []byte("success"), Follow: &store.Follower{},
		Tell: func(store.Conversation, store.User) []store.Telling {
			return []store.Telling{{Kind: store.TellFollower, To: openID, ID: "f", Payload: json.RawMessage(payload)}}
		},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestFollower(t *testing.T) {
	db, h := newStore(t), newHub(t)
	left := make(chan struct{})
	account := newAccount(t, func(openID string) string {
		switch openID {
		case "oGone": // WeChat knows already that they left
			return `{"subscribe":0,"openid":"oGone"}`
		case "oLeaving": // they leave while WeChat answers
			if _, _, err := db.RecordPush(t.Context(), store.Push{Key: "leave", AppID: "wxmp", OpenID: openID, Answer: []byte("success"), Unfollow: true}); err != nil {
				t.Error(err)
			}
			close(left)
		case "oBad":
			return `{"errcode":40003,"errmsg":"invalid openid"}`
		}
		return `{"subscribe":1,"openid":"` + openID + `","unionid":"u-` + openID + `","subscribe_time":1700000000}`
	})
	for _, openID := range []string{"oStays", "oGone", "oLeaving", "oBad"} {
		follow(t, db, openID, `{"appId":"wxmp"}`)
	}
	follow(t, db, "oOdd", `[]`)
	start(t, Options{Hub: h, Store: db, MP: account})
	<-left
	eventually(t, 5*time.Second, "two given up, none waiting", func() bool {
		stats := outbox(t, db)
		return stats.Waiting == 0 && stats.Dead == 2
	})
	for union, want := range map[string]bool{"u-oStays": true, "u-oGone": false, "u-oLeaving": false} {
		if got, err := db.Follows(t.Context(), union); err != nil || got != want {
			t.Errorf("%s follows: %v, %v", union, got, err)
		}
	}
}

// Without the account's client its rows wait, and those of the mini-program do not go its way.
func TestFollower_withoutAccount(t *testing.T) {
	db, h := newStore(t), newHub(t)
	follow(t, db, "oAlice", `{"appId":"wxmp"}`)
	p, client := newPlatform(t, func(_, _ string) string { return `{"errcode":0}` })
	tell(t, db, store.Telling{Kind: store.TellMPSend, To: "oBob", ID: "m", Payload: text("x", "hello").Payload}, text("carol", "hello"))
	start(t, Options{Hub: h, Store: db, WeChat: client})
	eventually(t, 5*time.Second, "carol's message", func() bool { return len(p.got()) == 1 })
	eventually(t, 5*time.Second, "two rows that wait", func() bool {
		stats := outbox(t, db)
		return stats.Waiting == 2 && stats.Dead == 0
	})
	if got := p.got(); len(got) != 1 || got[0] != "carol hello" {
		t.Errorf("sent %q", got)
	}
}
