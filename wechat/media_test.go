package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// brokenStore is a TokenStore whose database is away.
type brokenStore struct{}

func (brokenStore) Load(context.Context, string) (string, time.Time, error) {
	return "", time.Time{}, errors.New("the database is away")
}
func (brokenStore) Save(context.Context, string, string, time.Time) error {
	return errors.New("the database is away")
}
func (brokenStore) Lock(context.Context, string, time.Duration) (bool, func(), error) {
	return false, func() {}, errors.New("the database is away")
}

// mediaServer counts uploads and refuses to send m-1.
func mediaServer(uploads *atomic.Int32) http.HandlerFunc {
	return withToken(func(w http.ResponseWriter, r *http.Request, body string) {
		if r.URL.Path == "/cgi-bin/media/upload" {
			fmt.Fprintf(w, `{"type":"image","media_id":"m-%d","created_at":1}`, uploads.Add(1))
			return
		}
		if strings.Contains(body, `"m-1"`) {
			_, _ = io.WriteString(w, `{"errcode":40007,"errmsg":"invalid media_id"}`)
			return
		}
		_, _ = io.WriteString(w, okAnswer)
	})
}

func TestUploadMedia_onceForItsLife(t *testing.T) {
	var uploads atomic.Int32
	var now clock
	store := &memoryTokens{now: now.now}
	shared := func(o *Options) { o.Now, o.Tokens = now.now, store }
	one, other := newTestClient(t, mediaServer(&uploads), shared), newTestClient(t, mediaServer(&uploads), shared)
	upload := func(c *Client, content string) string {
		t.Helper()
		id, err := c.UploadMedia(t.Context(), Medium{Kind: "image", Content: []byte(content)})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	parallel(10, func() { _, _ = one.UploadMedia(t.Context(), Medium{Kind: "image", Content: []byte(testPicture)}) })
	first := upload(one, testPicture)
	if first != "m-1" || upload(other, testPicture) != first || uploads.Load() != 1 {
		t.Error("the same content was uploaded again")
	}
	if upload(one, testPicture+"!") != "m-2" {
		t.Error("another content got the first one's id")
	}
	// an id that a message was refused with is forgotten, by every process
	if err := other.SendCustom(t.Context(), "o1", CustomMessage{Image: &CustomImage{first}}); !errors.Is(err, ErrMediaID) {
		t.Error(err)
	}
	if upload(one, testPicture) != "m-3" || upload(other, testPicture) != "m-3" {
		t.Error("a dead id was given again")
	}
	if err := one.SendCustom(t.Context(), "o1", CustomMessage{Image: &CustomImage{"m-3"}}); err != nil {
		t.Error(err)
	}
	now.wind(mediaLife - time.Second)
	if upload(one, testPicture) != "m-3" {
		t.Error("forgotten before its time")
	}
	now.wind(time.Second)
	if upload(one, testPicture) != "m-4" {
		t.Error("an id was used that WeChat may have deleted")
	}
}

func TestUploadMedia_storeAway(t *testing.T) {
	var uploads atomic.Int32
	c := newTestClient(t, mediaServer(&uploads), func(o *Options) { o.Tokens = brokenStore{} })
	for n := range 2 {
		id, err := c.UploadMedia(t.Context(), Medium{Kind: "image", Content: []byte(testPicture)})
		if err != nil || id != fmt.Sprintf("m-%d", n+1) {
			t.Error(id, err)
		}
	}
	if managed, err := c.TradeManaged(t.Context()); !errors.Is(err, ErrNonsense) || managed {
		t.Error(err)
	}
}

func TestUploadMedia_checkedBefore(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	for name, m := range map[string]Medium{
		"no kind": {Content: []byte(testPicture)}, "kind": {Kind: "file", Content: []byte(testPicture)},
		"empty": {Kind: "image"}, "large": {Kind: "image", Content: append([]byte(testPicture), make([]byte, 10<<20)...)},
		"text": {Kind: "image", Content: []byte("not a picture")}, "png as thumb": {Kind: "thumb", Content: []byte(testPicture)},
		"name": {Kind: "image", Content: []byte(testPicture), Name: "a\"\r\nX: y"}, "folder": {Kind: "image", Content: []byte(testPicture), Name: "../x.png"},
	} {
		if id, err := c.UploadMedia(t.Context(), m); id != "" || !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %q %v", name, id, err)
		}
	}
}

func TestMemoryTokens_bounded(t *testing.T) {
	var now clock
	m := &memoryTokens{now: now.now}
	for n := range maxKept + 10 {
		if n == maxKept/2 {
			now.wind(time.Hour)
		}
		_ = m.Save(t.Context(), fmt.Sprint(n), "v", now.now().Add(time.Minute))
	}
	if len(m.kept) > maxKept {
		t.Errorf("%d kept", len(m.kept))
	}
	if v, _, _ := m.Load(t.Context(), fmt.Sprint(maxKept+9)); v != "v" {
		t.Error("the newest is gone")
	}
	ok, unlock, _ := m.Lock(t.Context(), "a", time.Minute)
	if again, _, _ := m.Lock(t.Context(), "a", time.Minute); !ok || again {
		t.Error("two hold a lock")
	}
	now.wind(time.Minute)
	ok, newer, _ := m.Lock(t.Context(), "a", time.Minute)
	unlock() // of the one that ran out: the newer one stays
	if again, _, _ := m.Lock(t.Context(), "a", time.Minute); !ok || again {
		t.Error("a lock that ran out opened another's")
	}
	newer()
	if ok, _, _ := m.Lock(t.Context(), "a", time.Minute); !ok {
		t.Error("still locked")
	}
}
