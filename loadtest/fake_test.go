package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

const (
	fakeSecret = "a-secret-of-at-least-thirty-two-bytes"
	fakeAPIKey = "the-key-of-the-shop"
)

// A fakeHub speaks just enough of the hub's wire, and breaks its promises where it is told to.
type fakeHub struct {
	t    *testing.T
	http *httptest.Server

	// faults; set before the first request
	lose      func(client, offset int) bool // this client does not get it
	repeat    func(client, offset int) bool // it gets it twice
	swap      func(client, offset int) bool // it gets it after the next one
	garble    func(client, offset int) bool // its payload is changed
	misplace  func(client, offset int) bool // it is told another offset
	delay     time.Duration
	stall     time.Duration // before a publish is answered
	refuse    func(offset int) bool
	forget    bool         // recovery gives nothing back
	closeCode int          // the first socket is closed with it in the middle
	partial   bool         // recovery says that it gives nothing back
	disagrees atomic.Int64 // so often it says that its own maps do not agree
	ghost     int          // people whom presence sees beside those who are there

	mu      sync.Mutex
	streams map[string][]json.RawMessage // frames, by room and offset-1
	sockets map[*fakeSocket]bool
	seen    int // sockets so far
	orders  map[string]fakeOrder
	mailed  int
	letters int // letters that a payment makes; 1 unless told otherwise
}

type fakeOrder struct {
	payer     string
	ProductID string
	Quantity  int
}

type fakeSocket struct {
	client int
	user   string
	rooms  map[string]bool
	mu     sync.Mutex
	ws     *websocket.Conn
	held   []byte // swapped: goes after the next
}

func newFakeHub(t *testing.T) *fakeHub {
	h := &fakeHub{
		t: t, sockets: map[*fakeSocket]bool{}, orders: map[string]fakeOrder{}, letters: 1, streams: map[string][]json.RawMessage{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", h.accept)
	mux.HandleFunc("POST /api/admin/broadcast", h.broadcast)
	mux.HandleFunc("GET /debug/consistency", func(w http.ResponseWriter, _ *http.Request) {
		if h.disagrees.Add(-1) >= 0 {
			http.Error(w, "room notice counts 3 members and has 2", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /api/products", func(w http.ResponseWriter, _ *http.Request) {
		ok(w, []map[string]any{{"id": "tea", "name": "茶"}, {"id": "mug", "name": "杯"}})
	})
	mux.HandleFunc("POST /api/pay", h.order)
	mux.HandleFunc("POST /api/login", h.login)
	mux.HandleFunc("POST /sim/login", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ User string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		_ = json.NewEncoder(w).Encode(map[string]string{"code": body.User, "rawData": "{}", "signature": "s"})
	})
	mux.HandleFunc("POST /sim/pay", h.pay)
	h.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		h.http.CloseClientConnections()
		h.http.Close()
	})
	return h
}

func ok(w http.ResponseWriter, data any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"code": 1, "data": data, "message": "ok"})
}

func refuse(w http.ResponseWriter, status int, word string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": 0, "data": nil, "message": "no", "error": word})
}

// subject checks a token as the hub does and tells whose it is.
func subject(r *http.Request) string {
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := jwt.Parse(text, func(t *jwt.Token) (any, error) {
		if t.Header["kid"] != "k1" {
			return nil, fmt.Errorf("kid %v", t.Header["kid"])
		}
		return []byte(fakeSecret), nil
	}, jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("wxhub"), jwt.WithAudience("wxhub"), jwt.WithExpirationRequired())
	if err != nil {
		return ""
	}
	who, _ := token.Claims.GetSubject()
	return who
}

func (h *fakeHub) login(w http.ResponseWriter, r *http.Request) {
	var body struct{ Code string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	token, err := (&target{options: options{keyID: "k1", keySecret: []byte(fakeSecret)}}).sign("u-"+body.Code, "user")
	if err != nil {
		h.t.Error(err)
	}
	ok(w, map[string]any{"token": token, "user": map[string]string{"id": "u-" + body.Code}})
}

func (h *fakeHub) broadcast(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Rooms, Users []string
		Action       string
		Payload      json.RawMessage
	}
	if r.Header.Get("X-API-Key") != fakeAPIKey {
		refuse(w, 401, "unauthorized")
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, 400, "bad_request")
		return
	}
	time.Sleep(h.stall)
	for _, user := range body.Users {
		body.Rooms = append(body.Rooms, "user:"+user)
	}
	offset := h.say(body.Rooms[0], body.Action, body.Payload)
	if h.refuse != nil && h.refuse(offset) {
		refuse(w, 503, "internal")
		return
	}
	ok(w, map[string]any{"id": "x", "results": []any{map[string]any{"room": body.Rooms[0], "epoch": "e1", "offset": offset}}})
}

func (h *fakeHub) order(w http.ResponseWriter, r *http.Request) {
	o := fakeOrder{payer: subject(r)}
	_ = json.NewDecoder(r.Body).Decode(&o)
	h.mu.Lock()
	number := "ORDER" + strconv.Itoa(len(h.orders))
	h.orders[number] = o
	h.mu.Unlock()
	ok(w, map[string]string{"outTradeNo": number, "timeStamp": "1", "nonceStr": "n", "package": number, "signType": "RSA", "paySign": "s"})
}

func (h *fakeHub) pay(w http.ResponseWriter, r *http.Request) {
	var body struct{ Package string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	h.mu.Lock()
	o := h.orders[body.Package]
	h.mailed++
	number := h.mailed
	for s := range h.sockets {
		if s.user == o.payer {
			for i := range h.letters {
				s.write(fmt.Appendf(nil, `{"meta":{"room":"user:%s","epoch":"m","offset":%d,"id":"pay:%d:%d"},"data":{"action":"order.paid","payload":{"outTradeNo":%q}}}`,
					o.payer, number, number, i, body.Package))
			}
		}
	}
	h.mu.Unlock()
	name := map[string]string{"tea": "茶", "mug": "杯"}[o.ProductID]
	payload, _ := json.Marshal(map[string]any{"buyer": "小**", "product": name, "quantity": o.Quantity, "at": 1})
	h.say("notice", "purchase", payload)
	_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "errMsg": "requestPayment:ok"})
}

// say appends to the room's stream and tells everybody in it, with the faults.
func (h *fakeHub) say(room, action string, payload json.RawMessage) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	offset := len(h.streams[room]) + 1
	h.streams[room] = append(h.streams[room], h.frame(room, action, payload, offset))
	for s := range h.sockets {
		if s.rooms[room] {
			h.tell(s, room, action, payload, offset)
		}
	}
	if h.closeCode != 0 && offset == 5 {
		for s := range h.sockets {
			if s.client == 0 {
				text := websocket.FormatCloseMessage(h.closeCode, "word;retry=10")
				_ = s.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second))
			}
		}
	}
	return offset
}

func (h *fakeHub) frame(room, action string, payload json.RawMessage, offset int) json.RawMessage {
	return fmt.Appendf(nil, `{"meta":{"room":%q,"epoch":"e1","offset":%d,"id":"m%d","timestamp":1},"data":{"action":%q,"payload":%s}}`,
		room, offset, offset, action, payload)
}

func on(fault func(client, offset int) bool, client, offset int) bool {
	return fault != nil && fault(client, offset)
}

func (h *fakeHub) tell(s *fakeSocket, room, action string, payload json.RawMessage, offset int) {
	text := h.frame(room, action, payload, offset)
	switch {
	case on(h.lose, s.client, offset):
		return
	case on(h.garble, s.client, offset):
		text = h.frame(room, action, json.RawMessage(strings.Replace(string(payload), "~", "-", 1)), offset)
	case on(h.misplace, s.client, offset):
		text = h.frame(room, action, payload, offset+1)
	}
	send := func() {
		if on(h.swap, s.client, offset) && s.held == nil {
			s.held = text
			return
		}
		s.write(text)
		if on(h.repeat, s.client, offset) {
			s.write(text)
		}
		if s.held != nil {
			s.write(s.held)
			s.held = nil
		}
	}
	if h.delay > 0 {
		time.AfterFunc(h.delay, func() { h.mu.Lock(); send(); h.mu.Unlock() })
		return
	}
	send()
}

func (s *fakeSocket) write(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ws.WriteMessage(websocket.TextMessage, text) // it may have been cut
}

func (h *fakeHub) accept(w http.ResponseWriter, r *http.Request) {
	user := subject(r)
	if user == "" {
		refuse(w, 401, "unauthorized")
		return
	}
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	room, since, comesBack := strings.Cut(r.URL.Query().Get("room"), "@")
	mailbox := "user:" + user
	s := &fakeSocket{ws: ws, user: user, rooms: map[string]bool{room: true, mailbox: true}}
	if room == "kf" {
		s.write([]byte(`{"meta":{"timestamp":1},"data":{"action":"welcome","payload":{"client":"c","user":"u","heartbeat":25,"rooms":[],"refused":[{"room":"kf","error":"forbidden"}]}}}`))
		_, _, _ = ws.ReadMessage()
		return
	}
	h.mu.Lock()
	s.client = h.seen
	h.seen++
	s.write(fmt.Appendf(nil, `{"meta":{"timestamp":1},"data":{"action":"welcome","payload":{"client":"c","user":%q,"heartbeat":25,"rooms":[{"room":%q,"epoch":"e1","offset":%d%s},{"room":%q,"epoch":"e1","offset":%d}]}}}`,
		user, room, len(h.streams[room]), h.recovered(comesBack), mailbox, len(h.streams[mailbox])))
	if comesBack {
		h.recover(s, room, since)
	}
	h.sockets[s] = true
	h.mu.Unlock()
	s.write([]byte(`{"ping":1700000000000}`))
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			break
		}
		h.mu.Lock()
		h.answer(s, text)
		h.mu.Unlock()
	}
	h.mu.Lock()
	delete(h.sockets, s)
	h.mu.Unlock()
}

func (h *fakeHub) recovered(comesBack bool) string {
	if !comesBack {
		return ""
	}
	return fmt.Sprintf(`,"recovered":%t`, !h.partial)
}

func (h *fakeHub) recover(s *fakeSocket, room, since string) {
	if h.forget || h.partial {
		return
	}
	_, from, _ := strings.Cut(since, ":")
	offset, _ := strconv.Atoi(from)
	for _, text := range h.streams[room][offset:] {
		s.write(text)
	}
}

// answer serves the frames that loadtest sends.
func (h *fakeHub) answer(s *fakeSocket, text []byte) {
	var f struct {
		ID           int
		Action, Room string
		Since        *position
	}
	_ = json.Unmarshal(text, &f)
	switch f.Action {
	case "leave":
		delete(s.rooms, f.Room)
		s.write(fmt.Appendf(nil, `{"reply":%d,"ok":true}`, f.ID))
	case "join":
		s.rooms[f.Room] = true
		s.write(fmt.Appendf(nil, `{"reply":%d,"ok":true,"room":%q,"epoch":"e1","offset":%d,"recovered":true}`, f.ID, f.Room, len(h.streams[f.Room])))
		h.recover(s, f.Room, ":"+strconv.FormatUint(f.Since.Offset, 10))
	case "presence":
		count := h.ghost
		for other := range h.sockets {
			if other.rooms[f.Room] {
				count++
			}
		}
		s.write(fmt.Appendf(nil, `{"reply":%d,"ok":true,"count":%d}`, f.ID, count))
	}
}
