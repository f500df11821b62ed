package wechat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/wechat/sim"
)

// A world is the simulator with people, our client before it and what it sent us behind it.
type world struct {
	t     testing.TB
	url   string
	creds sim.Credentials
	mini  *Client
	mp    *Client

	mu       sync.Mutex
	received []received // callbacks, newest last
	answer   func(w http.ResponseWriter, r received)
}

type received struct {
	path   string
	query  string
	header http.Header
	body   []byte
}

var simCredentials = sync.OnceValues(sim.NewCredentials)

func newWorld(t testing.TB, change ...func(*sim.Options)) *world {
	t.Helper()
	creds, err := simCredentials()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, creds: creds}
	hub := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		one := received{r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body}
		w.mu.Lock()
		w.received = append(w.received, one)
		answer := w.answer
		w.mu.Unlock()
		if answer != nil {
			answer(rw, one)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/push"):
			_, _ = io.WriteString(rw, "success")
		case bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
			_, _ = rw.Write(v2Reply("SUCCESS", "OK"))
		}
	}))
	o := sim.Options{Credentials: creds, PushURL: hub.URL + "/push/mini", MPURL: hub.URL + "/push/mp", EarlyBills: true, TimeScale: 100}
	for _, f := range change {
		f(&o)
	}
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	w.url = server.URL
	w.mini, err = New(Options{AppID: creds.AppID, Secret: creds.Secret, APIURL: w.url})
	if err == nil {
		w.mp, err = New(Options{AppID: creds.MPAppID, Secret: creds.MPSecret, APIURL: w.url})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		server.CloseClientConnections()
		server.Close()
		hub.CloseClientConnections()
		hub.Close()
		w.mini.http.CloseIdleConnections()
		w.mp.http.CloseIdleConnections()
	})
	w.url = server.URL
	return w
}

// forget makes last wait for what comes from now on.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received = nil
}

// last is the newest callback to a path; it waits for the first.
func (w *world) last(path string) received {
	w.t.Helper()
	for range 400 {
		w.mu.Lock()
		for _, r := range slices.Backward(w.received) {
			if r.path == path {
				w.mu.Unlock()
				return r
			}
		}
		w.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("nothing came to %s", path)
	return received{}
}

// control plays a person with a phone.
func (w *world) control(path string, in any) map[string]any {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.Post(w.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != 200 {
		w.t.Fatalf("%s: %d %v %v", path, res.StatusCode, out, err)
	}
	if data, ok := out["data"].(map[string]any); ok {
		return data
	}
	return out
}

type facts = map[string]any

func (w *world) payV3(notify string, change ...func(*PayV3Options)) *PayV3 {
	w.t.Helper()
	c := w.creds
	o := PayV3Options{AppID: c.AppID, MchID: c.MchID, APIURL: w.url, NotifyURL: notify, APIv3Key: c.APIv3Key, CertSerial: c.CertSerial,
		PrivateKeyPEM: c.MerchantKeyPEM, PublicKeyID: c.PublicKeyID, PublicKeyPEM: c.PlatformPublicPEM}
	for _, f := range change {
		f(&o)
	}
	p, err := NewPayV3(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.http.CloseIdleConnections)
	return p
}

func (w *world) payV2(notify, signType string) *PayV2 {
	w.t.Helper()
	c := w.creds
	p, err := NewPayV2(PayV2Options{AppID: c.AppID, MchID: c.MchID, APIURL: w.url, NotifyURL: notify, Key: c.V2Key, SignType: signType})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.http.CloseIdleConnections)
	return p
}

// login is a person whom the mini-program knows.
func (w *world) login(name string) Session {
	w.t.Helper()
	s, err := w.mini.Code2Session(w.t.Context(), w.control("/sim/login", facts{"user": name})["code"].(string))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestSim_loginAndSession(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	phone := w.control("/sim/login", facts{"user": "alice"})
	s, err := w.mini.Code2Session(ctx, phone["code"].(string))
	if err != nil || s.OpenID == "" || s.UnionID == "" {
		t.Fatal(err)
	}
	if _, err := w.mini.Code2Session(ctx, phone["code"].(string)); !errors.Is(err, ErrCodeInvalid) {
		t.Errorf("a used code: %v", err)
	}
	if err := CheckRawData(phone["rawData"].(string), phone["signature"].(string), s.SessionKey); err != nil {
		t.Error(err)
	}
	if u, err := w.mini.DecryptUserData(s.SessionKey, phone["encryptedData"].(string), phone["iv"].(string)); err != nil || u.OpenID != s.OpenID || u.UnionID != s.UnionID {
		t.Error(err)
	}
	if err := w.mini.CheckSession(ctx, s.OpenID, s.SessionKey); err != nil {
		t.Error(err)
	}
	run := w.control("/sim/rundata", facts{"user": "alice"})
	if r, err := w.mini.DecryptRunData(s.SessionKey, run["encryptedData"].(string), run["iv"].(string)); err != nil || len(r.Days) == 0 {
		t.Error(err)
	}
	group := w.control("/sim/group", facts{"user": "alice"})
	if id, err := w.mini.DecryptGroupID(s.SessionKey, group["encryptedData"].(string), group["iv"].(string)); err != nil || id == "" {
		t.Error(err)
	}
	key, err := w.mini.ResetSession(ctx, s.OpenID, s.SessionKey)
	if err != nil || key == s.SessionKey {
		t.Error(err)
	}
	if err := w.mini.CheckSession(ctx, s.OpenID, s.SessionKey); !errors.Is(err, ErrSessionKey) || AdviceOf(err) != LoginAgain {
		t.Errorf("an old key: %v", err)
	}
	if err := w.mini.CheckSession(ctx, s.OpenID, key); err != nil {
		t.Error(err)
	}
	number := w.control("/sim/phone", facts{"user": "alice"})
	u, err := w.mini.PhoneNumber(ctx, number["code"].(string))
	if err != nil || u.PurePhoneNumber == "" {
		t.Error(err)
	}
	if _, err := w.mini.PhoneNumber(ctx, number["code"].(string)); !errors.Is(err, ErrCodeInvalid) {
		t.Errorf("a used code: %v", err)
	}
}

func TestSim_tokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.creds
	one, err := New(Options{AppID: c.AppID, Secret: c.Secret, APIURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	defer one.http.CloseIdleConnections()
	openID := w.login("alice").OpenID
	a, err1 := one.AccessToken(ctx)
	b, err2 := w.mini.AccessToken(ctx)
	if err1 != nil || err2 != nil || a != b {
		t.Error("two processes got two tokens", err1, err2)
	}
	if err := one.ForceRefresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.mini.CheckText(ctx, openID, SceneComment, "你好"); err != nil { // its token died; it fetches the next
		t.Error(err)
	}
	if now, _ := w.mini.AccessToken(ctx); now == b {
		t.Error("the dead token is still used")
	}
	if err := one.ForceRefresh(ctx); !errors.Is(err, ErrQuota) {
		t.Error(err)
	}
	classic, err := New(Options{AppID: c.AppID, Secret: c.Secret, APIURL: w.url, ClassicToken: true})
	if err != nil {
		t.Fatal(err)
	}
	defer classic.http.CloseIdleConnections()
	if tok, err := classic.AccessToken(ctx); err != nil || tok == a {
		t.Error(err)
	}
	if _, err := classic.CheckText(ctx, openID, SceneComment, "你好"); err != nil {
		t.Error(err)
	}
	wrong, err := New(Options{AppID: c.AppID, Secret: strings.Repeat("0", 32), APIURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.http.CloseIdleConnections()
	if _, err := wrong.AccessToken(ctx); !errors.Is(err, ErrConfig) || AdviceOf(err) != Alarm {
		t.Error(err)
	}
}

func TestSim_sending(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	openID := w.login("alice").OpenID
	if err := w.mini.SendCustom(ctx, openID, hello); !errors.Is(err, ErrWindow) {
		t.Errorf("without a word of hers: %v", err)
	}
	w.control("/sim/message", facts{"user": "alice", "type": "text", "content": "在吗"})
	if err := w.mini.Typing(ctx, openID, true); err != nil {
		t.Error(err)
	}
	media, err := w.mini.UploadMedia(ctx, Medium{Kind: "image", Content: []byte(testPicture)})
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range []CustomMessage{hello, {Image: &CustomImage{media}}, {Link: &CustomLink{"t", "d", "https://a.example/?a=1&b=2", "https://a.example/i.png"}},
		{Card: &CustomCard{Title: "t", PagePath: "pages/a?b=1", ThumbMediaID: media}}, {Text: &CustomText{"5"}, FromAI: true}, {Text: &CustomText{"6"}}} {
		err := w.mini.SendCustom(ctx, openID, m)
		if n < MessageQuota && err != nil || n >= MessageQuota && !errors.Is(err, ErrWindow) {
			t.Errorf("message %d: %v", n+1, err)
		}
	}
	if err := w.mini.SendCustom(ctx, "nobody", hello); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
	const template = "TemplateNumberOne"
	m := SubscribeMessage{TemplateID: template, Data: map[string]string{"thing1": strings.Repeat("好", 30), "amount2": FieldAmount(1250), "date3": FieldTime(time.Now())}}
	if _, err := w.mini.SendSubscribe(ctx, openID, m); !errors.Is(err, ErrNotSubscribed) {
		t.Error(err)
	}
	w.control("/sim/subscribe", facts{"user": "alice", "templates": facts{template: "accept"}})
	if id, err := w.mini.SendSubscribe(ctx, openID, m); err != nil || id == "" {
		t.Error(id, err)
	}
	if _, err := w.mini.SendSubscribe(ctx, openID, m); !errors.Is(err, ErrNotSubscribed) {
		t.Errorf("one accepted popup is one message: %v", err)
	}
}

func TestSim_codesLinksAndModeration(t *testing.T) {
	w := newWorld(t, func(o *sim.Options) { o.Pages = []string{"pages/index/index"} })
	ctx := t.Context()
	openID := w.login("alice").OpenID
	if b, kind, err := w.mini.QRCode(ctx, QRCode{Scene: "room=1&t=!#$&'()*+", Page: "pages/index/index", CheckPath: true, Color: &RGB{1, 2, 3}}); err != nil || kind != "image/png" && kind != "image/jpeg" || len(b) < 100 {
		t.Error(kind, err)
	}
	if _, _, err := w.mini.QRCode(ctx, QRCode{Scene: "a", Page: "pages/none", CheckPath: true}); !errors.Is(err, ErrRequest) || !hasCode(err, 41030) {
		t.Error(err)
	}
	for _, p := range []PathCode{{Path: "pages/index/index?a=1"}, {Path: "pages/index/index?a=1", Square: true, Width: 280}} {
		if _, _, err := w.mini.PathCode(ctx, p); err != nil {
			t.Error(err)
		}
	}
	if link, err := w.mini.URLLink(ctx, Link{Path: "pages/index/index", Query: "a=1"}); err != nil || !strings.HasPrefix(link, "https://") {
		t.Error(link, err)
	}
	if link, err := w.mini.URLScheme(ctx, Link{ExpiresAt: time.Now().Add(time.Hour)}); err != nil || !strings.HasPrefix(link, "weixin://") {
		t.Error(link, err)
	}
	if v, err := w.mini.CheckTextOf(ctx, TextCheck{OpenID: openID, Scene: SceneProfile, Content: "你好", Nickname: "小满"}); err != nil || v != VerdictPass {
		t.Error(v, err)
	}
	r, err := NewReceiver(PushOptions{AppID: w.creds.AppID, Token: w.creds.PushToken, AESKey: w.creds.PushAESKey})
	if err != nil {
		t.Fatal(err)
	}
	w.forget()
	trace, err := w.mini.CheckMedia(ctx, MediaCheck{OpenID: openID, Scene: SceneProfile, URL: "https://pictures.invalid/a.png"})
	if err != nil {
		t.Fatal(err)
	}
	m := w.opened(r, "/push/mini")
	if c, ok := m.Typed().(MediaChecked); !ok || c.TraceID != trace || c.Verdict != VerdictPass || c.AppID != w.creds.AppID {
		t.Errorf("%#v", m.Typed())
	}
}

// opened is the newest push, as our receiver reads it.
func (w *world) opened(r *Receiver, path string) *PushMessage {
	w.t.Helper()
	got := w.last(path)
	m, err := r.Open(parseQuery(w.t, got.query), got.body)
	if err != nil {
		w.t.Fatalf("%v\n%s\n%s", err, got.query, got.body)
	}
	return m
}

// Every event that the simulator can play, in every mode and format.
func TestSim_pushes(t *testing.T) {
	for _, mode := range []string{"plain", "compatible", "safe"} {
		for _, format := range []string{"json", "xml"} {
			t.Run(mode+" "+format, func(t *testing.T) {
				w := newWorld(t, func(o *sim.Options) { o.PushMode, o.PushFormat, o.MPMode, o.MPFormat = mode, format, mode, format })
				options := PushOptions{AppID: w.creds.AppID, Token: w.creds.PushToken}
				mpOptions := PushOptions{AppID: w.creds.MPAppID, Token: w.creds.MPToken}
				if mode != "plain" {
					options.AESKey, mpOptions.AESKey = w.creds.PushAESKey, w.creds.MPAESKey
				}
				r, err1 := NewReceiver(options)
				mp, err2 := NewReceiver(mpOptions)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				// our sealed replies are read by the simulator: the answer is shown as a reply
				w.answer = func(rw http.ResponseWriter, got received) {
					reader := r
					if got.path == "/push/mp" {
						reader = mp
					}
					m, err := reader.Open(parseQuery(t, got.query), got.body)
					if err != nil {
						t.Error(err)
						return
					}
					reply := []byte("success")
					if m.MsgType == "text" {
						reply = m.TransferReply("")
						if got.path == "/push/mp" {
							reply = m.TextReply("在的 <b>")
						}
					}
					body, contentType, err := reader.Answer(m, reply)
					if err != nil {
						t.Error(err)
						return
					}
					rw.Header().Set("Content-Type", contentType)
					_, _ = rw.Write(body)
				}
				openID := w.login("alice").OpenID
				if got := w.control("/sim/message", facts{"user": "alice", "type": "text", "content": "你好 😀 <b>&"}); got["shown"] != "" && got["shown"] != nil {
					t.Errorf("she sees %v", got["shown"])
				}
				m := w.opened(r, "/push/mini")
				if text, ok := m.Typed().(TextMessage); !ok || text.Content != "你好 😀 <b>&" || m.FromUserName != openID || m.MsgID == "" {
					t.Errorf("%#v", m.Typed())
				}
				w.forget() // the platform tells of a popup a while later
				w.control("/sim/subscribe", facts{"user": "alice", "templates": facts{"TemplateNumberOne": "accept"}})
				if p, ok := w.opened(r, "/push/mini").Typed().(SubscribePopup); !ok || len(p.Items) != 1 || !p.Items[0].Accepted || p.Items[0].TemplateID != "TemplateNumberOne" {
					t.Errorf("%#v", p)
				}
				w.forget()
				w.control("/sim/subscribe", facts{"user": "alice", "templates": facts{"TemplateNumberOne": "reject", "TemplateNumberTwo": "accept"}})
				if p, ok := w.opened(r, "/push/mini").Typed().(SubscribePopup); !ok || len(p.Items) != 2 || p.Items[0].Accepted || !p.Items[1].Accepted {
					t.Errorf("%#v", p)
				}
				w.control("/sim/trigger", facts{"event": "follow", "user": "alice", "scene": "shop3"})
				if f, ok := w.opened(mp, "/push/mp").Typed().(Follow); !ok || f.Scene != "shop3" || f.Ticket == "" {
					t.Errorf("%#v", f)
				}
				w.control("/sim/trigger", facts{"event": "click", "user": "alice", "key": "NEWS"})
				if c, ok := w.opened(mp, "/push/mp").Typed().(MenuClick); !ok || c.Key != "NEWS" {
					t.Errorf("%#v", c)
				}
				w.control("/sim/trigger", facts{"event": "mptext", "user": "alice", "content": "hi"})
				if c, ok := w.opened(mp, "/push/mp").Typed().(TextMessage); !ok || c.Content != "hi" {
					t.Errorf("%#v", c)
				}
				w.control("/sim/trigger", facts{"event": "unfollow", "user": "alice"})
				if _, ok := w.opened(mp, "/push/mp").Typed().(Unfollow); !ok {
					t.Error("no unfollow")
				}
			})
		}
	}
}

func TestSim_followers(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var want []string
	for n := range 3 {
		name := fmt.Sprint("fan", n)
		w.control("/sim/login", facts{"user": name})
		w.control("/sim/trigger", facts{"event": "follow", "user": name})
		want = append(want, w.control("/sim/login", facts{"user": name})["mpOpenid"].(string))
	}
	slices.Sort(want)
	page, err := w.mp.Followers(ctx, "")
	if err != nil || !slices.Equal(page, want) {
		t.Fatalf("%v %v %v", page, want, err)
	}
	if end, err := w.mp.Followers(ctx, page[2]); err != nil || len(end) != 0 {
		t.Error(end, err)
	}
	all, err := w.mp.FollowerInfos(ctx, page)
	if err != nil || len(all) != 3 || !all[0].Subscribed || all[0].UnionID == "" || all[0].SubscribedAt.IsZero() {
		t.Errorf("%v", err)
	}
	if f, err := w.mp.Follower(ctx, page[0]); err != nil || f != all[0] {
		t.Error(err)
	}
	if err := w.mp.ClearQuota(ctx); err != nil {
		t.Error(err)
	}
}
