package phone_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/web/phone"
)

// fake plays hub and simulator, just enough for the page: what it says has the shape of the real ones.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	names   map[string]string // person → nickname
	chats   map[string][]map[string]any
	orders  map[string][]map[string]any
	sockets map[*websocket.Conn]string   // → user
	logs    map[string][]json.RawMessage // pushes of a room, the first has Offset 1
	said    chan struct{}                // closed and replaced when a chat grows
}

var catalogue = []map[string]any{
	{"id": "tea", "name": "明前龙井 50g", "nameEn": "Longjing tea, 50 g", "description": "清明前采摘，豆香清雅", "price": 12800, "picture": "/pictures/tea.svg"},
	{"id": "mug", "name": "手作粗陶马克杯", "nameEn": "Stoneware mug", "description": "每一只釉色都不同", "price": 6800, "picture": "/pictures/mug.svg"},
	{"id": "lamp", "name": "月亮小夜灯", "nameEn": "Moon night light", "description": "触控调光，暖如月色", "price": 15900, "picture": "/pictures/lamp.svg"},
	{"id": "bag", "name": "帆布通勤包", "nameEn": "Canvas tote", "description": "装得下电脑和一天", "price": 11900},
}

func newFake(t *testing.T) *fake {
	f := &fake{
		names: map[string]string{}, chats: map[string][]map[string]any{}, orders: map[string][]map[string]any{}, logs: map[string][]json.RawMessage{},
		sockets: map[*websocket.Conn]string{}, said: make(chan struct{}),
	}
	m := http.NewServeMux()
	f.Server = httptest.NewServer(m)
	t.Cleanup(f.close)
	m.Handle("/phone/", phone.Handler(phone.Config{SimURL: f.URL}))
	m.HandleFunc("GET /pictures/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="#b9e2c0"/></svg>`)
	})
	m.HandleFunc("POST /sim/login", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		f.mu.Lock()
		f.names[in["user"].(string)] = fmt.Sprint(in["nickname"])
		f.mu.Unlock()
		raw, _ := json.Marshal(map[string]any{"nickName": in["nickname"]})
		answer(w, map[string]any{"code": in["user"], "rawData": string(raw), "signature": "s", "encryptedData": "e", "iv": "i"})
	})
	m.HandleFunc("POST /sim/pay", f.pay)
	m.HandleFunc("POST /sim/message", f.message)
	m.HandleFunc("GET /sim/chat", f.chat)
	m.HandleFunc("POST /api/login", func(w http.ResponseWriter, r *http.Request) {
		user := body(r)["code"].(string)
		f.mu.Lock()
		defer f.mu.Unlock()
		good(w, map[string]any{"token": user, "expiresIn": 7200, "user": map[string]any{"id": "u-" + user, "nickname": f.names[user]}})
	})
	m.HandleFunc("GET /api/products", func(w http.ResponseWriter, r *http.Request) { good(w, catalogue) })
	m.HandleFunc("POST /api/pay", f.order)
	m.HandleFunc("GET /api/orders", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		good(w, append([]map[string]any{}, f.orders[bearer(r)]...))
	})
	m.HandleFunc("GET /ws", f.socket)
	return f
}

func (f *fake) close() {
	f.mu.Lock()
	for c := range f.sockets {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.CloseClientConnections()
	f.Close()
}

func body(r *http.Request) map[string]any {
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	return in
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func good(w http.ResponseWriter, v any) {
	answer(w, map[string]any{"code": 1, "data": v, "message": "ok"})
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func (f *fake) order(w http.ResponseWriter, r *http.Request) {
	in, user := body(r), bearer(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	no := fmt.Sprintf("20231115%s%d", user, len(f.orders[user]))
	for _, p := range catalogue {
		if p["id"] == in["productId"] {
			o := map[string]any{"outTradeNo": no, "state": "paying", "total": p["price"], "description": p["name"]}
			f.orders[user] = append([]map[string]any{o}, f.orders[user]...)
		}
	}
	good(w, map[string]any{"outTradeNo": no, "timeStamp": "1700000000", "nonceStr": "n", "package": "prepay_id=" + no, "signType": "RSA", "paySign": "s"})
}

func (f *fake) pay(w http.ResponseWriter, r *http.Request) {
	in := body(r)
	user, no := in["user"].(string), strings.TrimPrefix(in["package"].(string), "prepay_id=")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.orders[user] {
		switch {
		case o["outTradeNo"] != no:
			continue
		case in["cancel"] == true:
			answer(w, map[string]any{"ok": false, "errMsg": "requestPayment:fail cancel"})
		case in["confirm"] == true:
			o["state"] = "paid"
			answer(w, map[string]any{"ok": true, "errMsg": "requestPayment:ok"})
			at := time.Now().UnixMilli()
			name := []rune(f.names[user])
			f.publish("notice", "purchase", map[string]any{"buyer": string(name[:1]) + "**", "product": o["description"], "quantity": 1, "at": at})
			f.publish("user:u-"+user, "order.paid", map[string]any{"outTradeNo": no, "total": o["total"], "description": o["description"], "at": at})
		default:
			answer(w, map[string]any{"ok": true, "description": o["description"], "total": o["total"], "merchant": "微光小店", "outTradeNo": no})
		}
		return
	}
	answer(w, map[string]any{"ok": false, "errMsg": "requestPayment:fail no such order"})
}

func (f *fake) message(w http.ResponseWriter, r *http.Request) {
	in := body(r)
	user := in["user"].(string)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.say(user, "user", in["content"].(string))
	f.say(user, "shop", "收到，客服小微马上来。")
	answer(w, map[string]any{"ok": true, "status": 200, "answer": "success", "shown": ""})
}

func (f *fake) say(user, from, content string) {
	f.chats[user] = append(f.chats[user], map[string]any{
		"seq": len(f.chats[user]) + 1, "from": from, "type": "text", "content": content, "at": time.Now().UnixMilli(),
	})
	close(f.said)
	f.said = make(chan struct{})
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("user")
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	wait, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	deadline := time.After(time.Duration(wait) * time.Second)
	for {
		f.mu.Lock()
		lines, said := f.chats[user], f.said
		f.mu.Unlock()
		if len(lines) > after || wait == 0 {
			answer(w, map[string]any{"messages": append([]map[string]any{}, lines[min(after, len(lines)):]...), "next": len(lines)})
			return
		}
		select {
		case <-said:
		case <-deadline:
			wait = 0
		case <-r.Context().Done():
			return
		}
	}
}

// publish needs f.mu.
func (f *fake) publish(room, action string, payload any) {
	offset := len(f.logs[room]) + 1
	meta := map[string]any{"room": room, "epoch": "e1", "offset": offset, "id": fmt.Sprint(room, offset), "timestamp": time.Now().UnixMilli()}
	push, _ := json.Marshal(map[string]any{"meta": meta, "data": map[string]any{"action": action, "payload": payload}})
	f.logs[room] = append(f.logs[room], push)
	for c, user := range f.sockets {
		if room == "notice" || room == "user:u-"+user {
			_ = c.WriteMessage(websocket.TextMessage, push)
		}
	}
}

// socket speaks the hub's protocol for the rooms notice, all and user:ID.
func (f *fake) socket(w http.ResponseWriter, r *http.Request) {
	protocols := websocket.Subprotocols(r)
	if len(protocols) != 2 || protocols[0] != "wxhub.v1" {
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	user := strings.TrimPrefix(protocols[1], "bearer.")
	up := websocket.Upgrader{Subprotocols: []string{"wxhub.v1"}}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	f.mu.Lock()
	rooms := []map[string]any{{"room": "user:u-" + user, "epoch": "e1", "offset": 0}, {"room": "all", "epoch": "e1", "offset": 0}}
	var missed []json.RawMessage
	for _, room := range r.URL.Query()["room"] {
		name, place, back := strings.Cut(room, "@")
		if name != "notice" {
			continue
		}
		standing := map[string]any{"room": name, "epoch": "e1", "offset": len(f.logs[name])}
		if back {
			_, offset, _ := strings.Cut(place, ":")
			n, _ := strconv.Atoi(offset)
			missed = f.logs[name][n:]
			standing["recovered"], standing["missed"] = true, len(missed)
		}
		rooms = append(rooms, standing)
	}
	_ = c.WriteJSON(map[string]any{
		"meta": map[string]any{"timestamp": time.Now().UnixMilli()},
		"data": map[string]any{"action": "welcome", "payload": map[string]any{"client": "c1", "user": "u-" + user, "heartbeat": 25, "rooms": rooms}},
	})
	for _, push := range missed {
		_ = c.WriteMessage(websocket.TextMessage, push)
	}
	f.sockets[c] = user
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.sockets, c)
		f.mu.Unlock()
	}()
	for {
		var in map[string]any
		if c.ReadJSON(&in) != nil {
			return
		}
		f.mu.Lock()
		reply := map[string]any{"reply": in["id"], "ok": true}
		switch in["action"] {
		case "presence":
			reply["count"] = len(f.sockets)
		case "history":
			log := f.logs[in["room"].(string)]
			reply["epoch"], reply["offset"], reply["messages"] = "e1", len(log), append([]json.RawMessage{}, log...)
		}
		_ = c.WriteJSON(reply)
		f.mu.Unlock()
	}
}
