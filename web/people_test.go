package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"wxhub/store"
)

// data unpacks the data of a success.
func (s *shop) data(a answer, into any) {
	s.Helper()
	if a.Status != http.StatusOK || a.Code != 1 {
		s.Fatalf("failed: %d %s %s", a.Status, a.Error, a.Message)
	}
	if into != nil {
		if err := json.Unmarshal(a.Data, into); err != nil {
			s.Fatalf("%v in %s", err, a.Data)
		}
	}
}

// refused demands a refusal.
func (s *shop) refused(a answer, status int, word string) {
	s.Helper()
	if a.Status != status || a.Error != word {
		s.Errorf("%d %s (%s %s), want %d %s", a.Status, a.Error, a.Message, a.Data, status, word)
	}
}

// numbers are what the getPhoneNumber button gives.
type numbers struct{ Code, EncryptedData, IV string }

func (s *shop) button(user string) (n numbers) {
	s.Helper()
	s.play("POST", "/sim/phone", map[string]any{"user": user}, &n)
	return n
}

func TestPhone_bothWays(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	n := s.button("alice")
	var byCode, bySeal phoneView
	s.data(s.call("POST", "/api/phone", token, map[string]any{"code": n.Code}), &byCode)
	if len(byCode.PurePhoneNumber) != 11 || byCode.CountryCode != "86" || !strings.HasSuffix(byCode.PhoneNumber, byCode.PurePhoneNumber) {
		t.Errorf("learned %+v", byCode)
	}
	n = s.button("alice")
	s.data(s.call("POST", "/api/phone", token, map[string]any{"encryptedData": n.EncryptedData, "iv": n.IV}), &bySeal)
	if bySeal != byCode {
		t.Errorf("%+v by code, %+v by seal", byCode, bySeal)
	}
	if u, err := s.db.User(t.Context(), alice); err != nil || u.Phone != byCode.PhoneNumber {
		t.Errorf("kept %q, %v", u.Phone, err)
	}
	if s.log.having(byCode.PurePhoneNumber) > 0 {
		t.Error("a phone number is in the log")
	}
}

func TestPhone_refused(t *testing.T) {
	s := newShop(t)
	token, _ := s.login("alice")
	s.login("bob")
	n, bobs := s.button("alice"), s.button("bob")
	s.data(s.call("POST", "/api/phone", token, map[string]any{"code": n.Code}), nil)
	for name, body := range map[string]map[string]any{
		"used": {"code": n.Code}, "of wx.login": {"code": s.wxLogin("alice")}, "made up": {"code": "x"},
	} {
		t.Run(name, func(*testing.T) { s.refused(s.call("POST", "/api/phone", token, body), 400, "invalid_code") })
	}
	for name, body := range map[string]map[string]any{
		"nothing": {}, "both": {"code": "x", "encryptedData": "x", "iv": "x"}, "half": {"encryptedData": "x"}, "the other half": {"iv": "x"},
	} {
		t.Run(name, func(*testing.T) { s.refused(s.call("POST", "/api/phone", token, body), 400, "bad_request") })
	}
	s.refused(s.call("POST", "/api/phone", token, map[string]any{"encryptedData": bobs.EncryptedData, "iv": bobs.IV}), 400, "bad_data")
	s.refused(s.call("POST", "/api/phone", token, map[string]any{"encryptedData": "AAAA", "iv": n.IV}), 400, "bad_data")

	stranger, err := s.server.o.Tokens.Issue("stranger", "user", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.refused(s.call("POST", "/api/phone", stranger, map[string]any{"code": "x"}), 409, "conflict")
	s.refused(s.call("POST", "/api/phone", "", map[string]any{"code": "x"}), 401, "unauthorized")
	// Who came by a message alone has no session to open anything with.
	u, err := s.db.UserByOpenID(t.Context(), s.keys.AppID, "nobody")
	if err == nil {
		t.Fatalf("known: %+v", u)
	}
	if _, _, err := s.db.RecordPush(t.Context(), store.Push{Key: "k", AppID: s.keys.AppID, OpenID: "o-by-message", Answer: success}); err != nil {
		t.Fatal(err)
	}
	if u, err = s.db.UserByOpenID(t.Context(), s.keys.AppID, "o-by-message"); err != nil {
		t.Fatal(err)
	}
	writer, err := s.server.o.Tokens.Issue(u.ID, "user", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.refused(s.call("POST", "/api/phone", writer, map[string]any{"encryptedData": n.EncryptedData, "iv": n.IV}), 400, "bad_data")
}

func TestProfile(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	var u userView
	s.data(s.call("PATCH", "/api/me", token, map[string]any{"nickname": "  小\u202E雨\n伞  ", "avatar": "https://example.com/a.png"}), &u)
	if u != (userView{alice, "小 雨 伞", "https://example.com/a.png"}) {
		t.Errorf("changed to %+v", u)
	}
	s.data(s.call("PATCH", "/api/me", token, map[string]any{"avatar": ""}), &u)
	if u != (userView{alice, "小 雨 伞", ""}) {
		t.Errorf("changed to %+v", u)
	}
	s.data(s.call("PATCH", "/api/me", token, map[string]any{"nickname": strings.Repeat("长", 100)}), &u)
	if u.Nickname != strings.Repeat("长", 32) {
		t.Errorf("kept %q", u.Nickname)
	}
	for word, bodies := range map[string][]map[string]any{
		"risky_content": {{"nickname": "违规的名字"}, {"nickname": "加我广告"}},
		"bad_request":   {{}, {"nickname": "\u200b"}, {"avatar": "javascript:alert(1)"}, {"avatar": "https://x/\"><script>"}},
	} {
		for _, body := range bodies {
			s.refused(s.call("PATCH", "/api/me", token, body), 400, word)
		}
	}
	s.data(s.call("GET", "/api/me", token, nil), &u)
	if u.Nickname != strings.Repeat("长", 32) {
		t.Errorf("a refused name is kept: %+v", u)
	}
	stranger, err := s.server.o.Tokens.Issue("stranger", "user", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.refused(s.call("PATCH", "/api/me", stranger, map[string]any{"nickname": "x"}), 404, "not_found")

	// A judge who is away lets no name pass, and says when to come back.
	s.play("POST", "/sim/fault", map[string]any{"path": "/wxa/msg_sec_check", "errcode": -1, "times": 5}, nil)
	a := s.call("PATCH", "/api/me", token, map[string]any{"nickname": "小雪"})
	if a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.Status, a.Error)
	}
}

// Somebody has their data erased: the order stays without them, tokens and sockets are dead, and who comes again is new.
func TestErase(t *testing.T) {
	s := newShop(t)
	token, alice := s.login("alice")
	second, _ := s.login("alice")
	order := s.order(token, "apple", 1)
	s.confirm("alice", order)
	no := order["outTradeNo"].(string)
	s.eventually("payment", func() bool { state, _ := s.orderState(token, no); return state == "paid" })
	n := s.button("alice")
	s.data(s.call("POST", "/api/phone", token, map[string]any{"code": n.Code}), nil)
	s.trigger(map[string]any{"event": "message", "user": "alice", "content": "你好"})
	s.quiet()
	socket := s.dial(second, "notice")
	u, err := s.db.User(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}

	for role, want := range map[string]int{"staff": 403, "admin": 403} { // whose ids are the shop's own
		own, err := s.server.o.Tokens.Issue(alice, role, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.refused(s.call("DELETE", "/api/me", own, nil), want, "forbidden")
	}
	s.data(s.call("DELETE", "/api/me", token, nil), nil)
	if code := socket.closed(t); code != 4501 {
		t.Errorf("the socket is closed with %d", code)
	}
	for _, dead := range []string{token, second} {
		s.refused(s.call("GET", "/api/me", dead, nil), 401, "bad_token")
	}
	if _, err := s.db.User(t.Context(), alice); err == nil {
		t.Error("the user is there still")
	}
	if all, err := s.db.Conversations(t.Context(), 10); err != nil || len(all) > 0 {
		t.Errorf("conversations: %+v, %v", all, err)
	}
	o, err := s.db.Order(t.Context(), no)
	if err != nil || o.State != store.OrderPaid || o.UserID != "" || o.OpenID != "" || o.TotalFen != 1999 {
		t.Errorf("the order is %+v, %v", o, err)
	}
	if again, id := s.login("alice"); id == alice || again == "" {
		t.Errorf("came back as %s", id)
	}
	if s.log.having(u.OpenID) > 0 {
		t.Error("an openid is in the log")
	}
	time.Sleep(2 * learnEvery) // the news of their own decision changes nothing
	s.refused(s.call("GET", "/api/me", token, nil), 401, "bad_token")
}

// A room that nobody is in has an empty list of users, which is no null.
func TestRoom_nobody(t *testing.T) {
	s := newShop(t)
	if a := s.call("GET", "/api/admin/rooms/room:nobody", s.admin(), nil); !strings.Contains(string(a.Data), `"users":[]`) {
		t.Errorf("%s", a.Data)
	}
}
