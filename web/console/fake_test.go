package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wxhub/web/console"
)

// fake plays the hub, just enough for the console: what it says has the shape of the real one.
type fake struct {
	*httptest.Server
	mu        sync.Mutex
	token     string // empty: every token is dead
	away      bool   // the store is: every admin call is 503
	published int
	orders    []map[string]any
	refunds   map[string][]map[string]any
	talk      []map[string]any
	unread    int
	blocked   map[string]bool
	notice    []map[string]any // pushes, the first has Offset 1
	sockets   map[*websocket.Conn]map[string]bool
	acked     bool
	retried   bool
	decided   bool
	shipped   map[string]any
	rules     []any
	asked     []string // what was done: "refund …", "reply …"
}

// dot is a small picture.
var dot = func() []byte {
	m := image.NewGray(image.Rect(0, 0, 48, 48))
	for i := range m.Pix {
		m.SetGray(i%48, i/48, color.Gray{Y: uint8(i * 5)})
	}
	var b bytes.Buffer
	_ = png.Encode(&b, m)
	return b.Bytes()
}()

var started = time.Now().Add(-26 * time.Hour)

func newFake(t *testing.T) *fake {
	at := func(ago time.Duration) int64 { return time.Now().Add(-ago).UnixMilli() }
	f := &fake{
		token: "t0k3n", published: 41200, refunds: map[string][]map[string]any{}, blocked: map[string]bool{}, sockets: map[*websocket.Conn]map[string]bool{}, unread: 2,
		orders: []map[string]any{
			{"outTradeNo": "2026112114030001", "state": "paid", "total": 12800, "refunded": 0, "description": "明前龙井 50g", "productId": "tea", "quantity": 1, "createdAt": at(3 * time.Minute), "paidAt": at(2 * time.Minute), "userId": "u-3f9c1d77", "transactionId": "4200002026112114030001", "room": "notice"},
			{"outTradeNo": "2026112113550002", "state": "paying", "total": 6800, "refunded": 0, "description": "手作粗陶马克杯", "productId": "mug", "quantity": 1, "createdAt": at(14 * time.Minute), "userId": "u-a7720b14", "room": "notice"},
			{"outTradeNo": "2026112111020003", "state": "paid", "total": 31800, "refunded": 10000, "description": "月亮小夜灯", "productId": "lamp", "quantity": 2, "createdAt": at(3 * time.Hour), "paidAt": at(3 * time.Hour), "late": true, "userId": "u-5be04412", "transactionId": "4200002026112111020003", "room": "notice"},
			{"outTradeNo": "2026112018400004", "state": "refunded", "total": 11900, "refunded": 11900, "description": "帆布通勤包", "productId": "bag", "quantity": 1, "createdAt": at(19 * time.Hour), "paidAt": at(19 * time.Hour), "userId": "u-3f9c1d77", "transactionId": "4200002026112018400004"},
			{"outTradeNo": "2026112009120005", "state": "closed", "total": 6800, "refunded": 0, "description": "手作粗陶马克杯", "productId": "mug", "quantity": 1, "createdAt": at(29 * time.Hour), "userId": ""},
		},
		talk: []map[string]any{
			{"id": "m1", "from": "user", "type": "text", "content": "你好，请问什么时候发货？", "at": at(42 * time.Minute)},
			{"id": "m2", "from": "staff", "type": "text", "content": "您好，今天下午四点前的订单当天发出。", "at": at(40 * time.Minute)},
			{"id": "rule:1", "from": "rule", "type": "text", "content": "客服时间 9:00–22:00，我们马上回复您。", "at": at(39 * time.Minute)},
			{"id": "m3", "from": "user", "type": "image", "picUrl": "https://pictures.example/1.jpg", "at": at(4 * time.Minute)},
			{"id": "m4", "from": "user", "type": "text", "content": "收到的杯子有一道裂痕，可以换一只吗？", "at": at(3 * time.Minute)},
		},
	}
	f.refunds["2026112111020003"] = []map[string]any{{"outRefundNo": "R1", "outTradeNo": "2026112111020003", "state": "success", "amount": 10000, "reason": "运费退还", "createdAt": at(time.Hour), "doneAt": at(time.Hour)}}
	for i, line := range []string{`{"buyer":"小**","product":"明前龙井 50g","quantity":1,"at":1}`, `{"buyer":"阿**","product":"手作粗陶马克杯","quantity":2,"at":2}`} {
		f.notice = append(f.notice, f.push("notice", i+1, "purchase", json.RawMessage(line)))
	}
	m := http.NewServeMux()
	f.Server = httptest.NewServer(m)
	t.Cleanup(f.close)
	m.Handle("/console/", console.Handler())
	m.HandleFunc("POST /api/admin/login", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		if in["username"] != "admin" || in["password"] != "right" {
			bad(w, r, 401, "bad_login", "用户名或密码不对", "The user name or the password is wrong")
			return
		}
		good(w, map[string]any{"token": f.token, "expiresIn": 7200})
	})
	admin := func(pattern string, h http.HandlerFunc) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.token == "" || r.Header.Get("Authorization") != "Bearer "+f.token {
				bad(w, r, 401, "bad_token", "登录状态无效，请重新登录", "This token is not valid; log in again")
				return
			}
			if f.away {
				w.Header().Set("Retry-After", "1")
				bad(w, r, 503, "unavailable", "服务暂时不可用，请稍后再试", "Not just now; try again soon")
				return
			}
			h(w, r)
		})
	}
	admin("GET /api/admin/stats", func(w http.ResponseWriter, _ *http.Request) {
		f.published += 7
		n := f.published % 13
		good(w, map[string]any{
			"version": "1.0.0", "uptime": int(time.Since(started).Seconds()), "sockets": 1240 + 3*n, "users": 1180 + 2*n, "rooms": 37, "published": f.published, "delivered": f.published * 320, "dropped": 2,
			"closed": map[string]int{"1012": 3}, "recovered": 418, "notRecovered": 1, "outbox": map[string]any{"waiting": n % 3, "dead": 0},
		})
	})
	admin("GET /api/admin/nodes", func(w http.ResponseWriter, _ *http.Request) {
		node := func(id, addr string, self bool) map[string]any {
			return map[string]any{"id": id, "version": "1.0.0", "addr": addr, "startedAt": started.UnixMilli(), "seenAt": time.Now().UnixMilli(), "sockets": 1240, "users": 1180, "rooms": 37, "rate": 3.5, "self": self}
		}
		good(w, []any{node("n-7c1e", "10.0.0.11:8080", true), node("n-b20f", "10.0.0.12:8080", false)})
	})
	admin("GET /api/admin/alarms", func(w http.ResponseWriter, r *http.Request) {
		alarm := map[string]any{
			"id": "a-1", "kind": "payment.conflict", "subject": "20260101000000000001", "text": "金额不符：付了 100 分，应付 12800 分",
			"step": "到商户平台核对这笔付款，然后退款。", "firstAt": time.Now().UnixMilli(), "lastAt": time.Now().UnixMilli(), "times": 3,
		}
		if f.acked {
			alarm["ackedAt"], alarm["ackedBy"] = time.Now().UnixMilli(), "admin"
		}
		if f.acked && r.URL.Query().Get("state") == "open" {
			good(w, []any{})
			return
		}
		good(w, []any{alarm})
	})
	admin("POST /api/admin/alarms/{id}/ack", func(w http.ResponseWriter, r *http.Request) {
		f.acked = true
		f.asked = append(f.asked, "ack "+r.PathValue("id"))
		good(w, map[string]any{})
	})
	bill := func(differences ...any) map[string]any {
		return map[string]any{
			"day": "2026-11-20", "state": "uneven", "payments": 12, "paid": 153600, "refunds": 1, "refunded": 6800, "fee": 92, "different": 1,
			"at": time.Now().UnixMilli(), "differences": differences,
		}
	}
	admin("GET /api/admin/reconciliations", func(w http.ResponseWriter, _ *http.Request) { good(w, []any{bill()}) })
	admin("GET /api/admin/reconciliations/{day}", func(w http.ResponseWriter, _ *http.Request) {
		good(w, bill(map[string]any{"what": "amount", "outTradeNo": "20260101000000000001", "theirs": 100, "ours": 12800}))
	})
	admin("GET /api/admin/messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().UnixMilli()
		good(w, map[string]any{
			"id":     r.PathValue("id"),
			"counts": map[string]any{"stored": 2, "relayed": 2, "written": 1, "acknowledged": 1, "expired": 0, "fallenBack": 1, "unknown": 0, "waiting": 0, "held": 0},
			"receipts": []any{
				map[string]any{"user": "u-3f9c1d77", "offset": 4, "action": "order.paid", "state": "acknowledged", "timeline": []any{
					map[string]any{"step": "stored", "at": now - 3000}, map[string]any{"step": "written", "at": now - 2990, "node": "n-7c1e"}, map[string]any{"step": "acknowledged", "at": now - 2900}}},
				map[string]any{"user": "u-a7720b14", "offset": 9, "action": "order.paid", "state": "fallen_back", "reason": "offline", "timeline": []any{
					map[string]any{"step": "stored", "at": now - 3000}, map[string]any{"step": "custom", "at": now - 1000, "outcome": "refused", "code": 45015, "reason": "no_quota"},
					map[string]any{"step": "subscribe", "at": now - 900, "outcome": "sent"}}},
			},
		})
	})
	admin("GET /api/admin/outbox/dead", func(w http.ResponseWriter, _ *http.Request) {
		if f.retried {
			good(w, []any{})
			return
		}
		good(w, []any{map[string]any{"seq": 7, "kind": "hook", "to": "erp", "id": "pay:42", "action": "order.paid", "attempts": 20, "reason": "503 from the shop's system", "createdAt": 1, "diedAt": time.Now().UnixMilli()}})
	})
	admin("POST /api/admin/outbox/dead/{seq}/retry", func(w http.ResponseWriter, r *http.Request) {
		f.retried = true
		f.asked = append(f.asked, "retry "+r.PathValue("seq"))
		good(w, map[string]any{})
	})
	f.rules = []any{map[string]any{"action": "order.paid", "after": 60, "quiet": "22:00-08:00", "custom": map[string]any{"text": "已收到您的付款：{description}"}}}
	fallbacks := func(w http.ResponseWriter, _ *http.Request) {
		good(w, map[string]any{"rules": f.rules, "saved": true, "version": 3, "changedBy": "admin", "changedAt": time.Now().UnixMilli()})
	}
	admin("GET /api/admin/fallbacks", fallbacks)
	admin("PUT /api/admin/fallbacks", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Rules   []any
			Version int
		}
		text, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(text, &in)
		f.rules = in.Rules
		f.asked = append(f.asked, "fallbacks "+string(text))
		fallbacks(w, r)
	})
	admin("POST /api/admin/fallbacks/dry-run", func(w http.ResponseWriter, r *http.Request) {
		good(w, map[string]any{
			"result": "subscribe", "at": time.Now().Add(time.Minute).UnixMilli(), "reasons": []string{"no_quota"}, "online": false, "replies": 0, "grants": 2,
			"subscribe": map[string]any{"template": "T1", "data": map[string]string{"thing1": "明前龙井 50g"}},
		})
	})
	admin("GET /api/admin/rooms", func(w http.ResponseWriter, _ *http.Request) {
		room := func(name string, users, sockets, offset int) map[string]any {
			return map[string]any{"room": name, "users": users, "sockets": sockets, "epoch": "e7f31a", "offset": offset}
		}
		good(w, []any{room("notice", 1180, 1240, len(f.notice)), room("room:tea-lovers", 24, 31, 812), room("room:live.7", 310, 322, 5120), room("kf", 2, 3, 77)})
	})
	admin("GET /api/admin/rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
		v := map[string]any{"room": r.PathValue("room"), "count": 1180, "users": nil, "epoch": "e7f31a", "offset": 0, "messages": []any{}}
		switch {
		case r.PathValue("room") == "notice":
			v["offset"], v["messages"] = len(f.notice), f.notice
		case strings.HasPrefix(r.PathValue("room"), "room:"):
			v["count"], v["users"] = 2, []any{map[string]any{"id": "u-3f9c1d77", "sockets": 2}, map[string]any{"id": "u-a7720b14", "sockets": 1}}
		}
		good(w, v)
	})
	admin("POST /api/admin/broadcast", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var in map[string]any
		var raw struct{ Payload json.RawMessage }
		_, _ = json.Unmarshal(text, &in), json.Unmarshal(text, &raw)
		f.asked = append(f.asked, fmt.Sprint("broadcast ", in["rooms"], in["users"], in["all"], in["action"]), "id "+fmt.Sprint(in["id"]), "payload "+string(raw.Payload))
		var results []any
		for _, room := range list(in["rooms"]) {
			push := f.push("notice", len(f.notice)+1, fmt.Sprint(in["action"]), in["payload"])
			f.notice = append(f.notice, push)
			f.say("notice", push)
			results = append(results, map[string]any{"room": room, "epoch": "e7f31a", "offset": len(f.notice)})
		}
		for _, user := range list(in["users"]) {
			results = append(results, map[string]any{"room": "user:" + fmt.Sprint(user), "error": "unavailable"})
		}
		if in["all"] == true {
			results = append(results, map[string]any{"room": "all", "epoch": "e7f31a", "offset": 9})
		}
		good(w, map[string]any{"id": in["id"], "results": results})
	})
	admin("GET /api/admin/orders", func(w http.ResponseWriter, r *http.Request) {
		found := []map[string]any{}
		q := r.URL.Query()
		for _, o := range f.orders {
			if fits(q.Get("state"), o["state"]) && fits(q.Get("userId"), o["userId"]) && fits(q.Get("outTradeNo"), o["outTradeNo"]) {
				found = append(found, o)
			}
		}
		good(w, found)
	})
	admin("GET /api/admin/orders/{no}/refunds", func(w http.ResponseWriter, r *http.Request) {
		good(w, append([]map[string]any{}, f.refunds[r.PathValue("no")]...))
	})
	admin("POST /api/admin/orders/{no}/refund", f.refund)
	admin("GET /api/admin/conversations", func(w http.ResponseWriter, _ *http.Request) {
		last := f.talk[len(f.talk)-1]
		good(w, []any{
			map[string]any{"id": "c1", "user": "u-3f9c1d77", "nickname": "小林", "lastAt": last["at"], "lastText": last["content"], "unread": f.unread, "replyUntil": at(0) + 47*3600_000},
			map[string]any{"id": "c2", "user": "u-a7720b14", "nickname": "阿May", "lastAt": at(5 * time.Hour), "lastText": "谢谢！", "unread": 0, "replyUntil": at(0) + 43*3600_000},
			map[string]any{"id": "c3", "user": "u-5be04412", "nickname": "", "lastAt": at(60 * time.Hour), "lastText": "", "unread": 0},
		})
	})
	admin("GET /api/admin/conversations/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "c3" {
			good(w, map[string]any{"id": "c3", "user": "u-5be04412", "nickname": "", "messages": []any{map[string]any{"id": "x", "from": "user", "type": "voice", "at": at(60 * time.Hour)}}})
			return
		}
		f.unread = 0
		good(w, map[string]any{"id": "c1", "user": "u-3f9c1d77", "nickname": "小林", "replyUntil": at(0) + 47*3600_000, "messages": f.talk})
	})
	admin("POST /api/admin/conversations/{id}/reply", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		if image, ok := in["image"].(string); ok {
			f.asked = append(f.asked, fmt.Sprint("picture ", len(image)))
			f.talk = append(f.talk, map[string]any{"id": "p1", "from": "staff", "type": "image", "picUrl": "/pictures/abc.png", "at": time.Now().UnixMilli()})
			good(w, map[string]any{"id": "p1"})
			return
		}
		text := fmt.Sprint(in["text"])
		f.asked = append(f.asked, "reply "+text)
		f.heard("staff", text)
		good(w, map[string]any{"id": "r1"})
	})
	admin("POST /api/admin/conversations/{id}/typing", func(w http.ResponseWriter, r *http.Request) {
		f.asked = append(f.asked, fmt.Sprint("typing ", body(r)["typing"]))
		good(w, map[string]any{})
	})
	picture := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(dot)
	}
	m.HandleFunc("GET /pictures/abc.png", picture)
	m.HandleFunc("GET /qrcode/abc.png", picture)
	admin("GET /api/admin/orders/{no}/shipping", func(w http.ResponseWriter, r *http.Request) {
		if f.shipped == nil {
			bad(w, r, 404, "not_found", "没有找到", "There is no such thing")
			return
		}
		good(w, f.shipped)
	})
	admin("POST /api/admin/orders/{no}/shipping", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		parcel, _ := list(in["parcels"])[0].(map[string]any)
		f.asked = append(f.asked, fmt.Sprint("ship ", r.PathValue("no"), " ", in["logistics"], " ", parcel["company"], " ", parcel["trackingNo"]))
		f.shipped = map[string]any{"outTradeNo": r.PathValue("no"), "state": "waiting", "logistics": in["logistics"], "complete": true, "parcels": in["parcels"], "by": "admin", "at": time.Now().UnixMilli()}
		good(w, f.shipped)
		f.shipped = maps.Clone(f.shipped)
		f.shipped["state"], f.shipped["toldAt"] = "told", time.Now().UnixMilli()
		if parcel["company"] == "XX" {
			f.shipped["state"], f.shipped["reason"] = "failed", "10060012 delivery company unknown"
		}
	})
	admin("POST /api/admin/links", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		f.asked = append(f.asked, fmt.Sprint("link ", in["kind"], " ", in["path"], " ", in["query"], " ", in["days"]))
		good(w, map[string]any{"url": "https://wxaurl.cn/Zx81kQ2hvPa", "expiresAt": time.Now().Add(7 * 24 * time.Hour).UnixMilli()})
	})
	admin("POST /api/admin/qrcodes", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		if in["path"] == "pages/none" {
			bad(w, r, 400, "bad_request", "微信在这个版本里没有这个页面", "WeChat knows no such page")
			return
		}
		f.asked = append(f.asked, fmt.Sprint("code ", in["path"], " ", in["square"]))
		good(w, map[string]any{"img": "https://shop.example/qrcode/abc.png"})
	})
	admin("GET /api/admin/fallbacks/unknown", func(w http.ResponseWriter, _ *http.Request) {
		if f.decided {
			good(w, []any{})
			return
		}
		good(w, []any{map[string]any{"user": "u-5be04412", "id": "pay:43", "action": "order.paid", "channel": "custom", "at": time.Now().Add(-time.Hour).UnixMilli(), "gone": false}})
	})
	admin("POST /api/admin/messages/{id}/decision", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		f.decided = true
		f.asked = append(f.asked, fmt.Sprint("decide ", r.PathValue("id"), " ", in["user"], " ", in["do"]))
		good(w, map[string]any{})
	})
	admin("POST /api/logout", func(w http.ResponseWriter, _ *http.Request) {
		f.asked = append(f.asked, "logout")
		good(w, map[string]any{})
	})
	admin("POST /api/admin/users/{id}/{deed}", func(w http.ResponseWriter, r *http.Request) {
		f.asked = append(f.asked, r.PathValue("deed")+" "+r.PathValue("id"))
		if r.PathValue("deed") == "disconnect" {
			good(w, map[string]any{"closed": 2})
			return
		}
		f.blocked[r.PathValue("id")] = r.PathValue("deed") == "block"
		good(w, map[string]any{"blocked": f.blocked[r.PathValue("id")]})
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

// done tells whether something was asked for whose line holds what.
func (f *fake) done(what string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.asked, func(line string) bool { return strings.Contains(line, what) })
}

func (f *fake) refund(w http.ResponseWriter, r *http.Request) {
	in, no := body(r), r.PathValue("no")
	for _, o := range f.orders {
		if o["outTradeNo"] != no {
			continue
		}
		amount, _ := in["amount"].(float64)
		f.asked = append(f.asked, fmt.Sprintf("refund %s %d %v", no, int(amount), in["reason"]))
		o["refunded"] = o["refunded"].(int) + int(amount)
		if o["refunded"] == o["total"] {
			o["state"] = "refunded"
		}
		now := time.Now().UnixMilli()
		refund := map[string]any{"outRefundNo": in["outRefundNo"], "outTradeNo": no, "state": "processing", "amount": int(amount), "reason": in["reason"], "createdAt": now}
		f.refunds[no] = append(f.refunds[no], refund)
		good(w, refund)
		return
	}
	bad(w, r, 404, "not_found", "没有找到", "There is no such thing")
}

// heard adds a line to the talk and says it in room kf. It needs f.mu.
func (f *fake) heard(from, text string) {
	now := time.Now().UnixMilli()
	id := fmt.Sprint("m", len(f.talk)+1)
	f.talk = append(f.talk, map[string]any{"id": id, "from": from, "type": "text", "content": text, "at": now})
	f.say("kf", f.push("kf", len(f.talk), "kf.message", map[string]any{"conversation": "c1", "user": "u-3f9c1d77", "msgId": id, "type": "text", "content": text, "at": now, "from": from}))
}

func (f *fake) push(room string, offset int, action string, payload any) map[string]any {
	meta := map[string]any{"room": room, "epoch": "e7f31a", "offset": offset, "id": fmt.Sprint(room, offset), "timestamp": time.Now().UnixMilli()}
	return map[string]any{"meta": meta, "data": map[string]any{"action": action, "payload": payload}}
}

// say needs f.mu.
func (f *fake) say(room string, push any) {
	for c, rooms := range f.sockets {
		if rooms[room] {
			_ = c.WriteJSON(push)
		}
	}
}

func fits(wanted string, have any) bool { return wanted == "" || wanted == have }

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func body(r *http.Request) map[string]any {
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	return in
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func good(w http.ResponseWriter, v any) {
	answer(w, 200, map[string]any{"code": 1, "data": v, "message": "ok"})
}

func bad(w http.ResponseWriter, r *http.Request, status int, word, zh, en string) {
	if strings.HasPrefix(r.Header.Get("Accept-Language"), "en") {
		zh = en
	}
	answer(w, status, map[string]any{"code": 0, "data": nil, "message": zh, "error": word})
}

// socket speaks as much of the hub's protocol as the console uses.
func (f *fake) socket(w http.ResponseWriter, r *http.Request) {
	protocols := websocket.Subprotocols(r)
	if len(protocols) != 2 || protocols[1] != "bearer."+f.token {
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	c, err := (&websocket.Upgrader{Subprotocols: []string{"wxhub.v1"}}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	standing := func(room string) map[string]any {
		offset := 0
		if room == "notice" {
			offset = len(f.notice)
		}
		return map[string]any{"room": room, "epoch": "e7f31a", "offset": offset, "recovered": false, "missed": 0}
	}
	f.mu.Lock()
	joined := map[string]bool{}
	rooms := []any{standing("all"), standing("user:admin")}
	for _, room := range r.URL.Query()["room"] {
		name, _, _ := strings.Cut(room, "@")
		joined[name] = true
		rooms = append(rooms, standing(name))
	}
	f.sockets[c] = joined
	_ = c.WriteJSON(map[string]any{
		"meta": map[string]any{"timestamp": time.Now().UnixMilli()},
		"data": map[string]any{"action": "welcome", "payload": map[string]any{"client": "c1", "user": "admin", "heartbeat": 25, "rooms": rooms}},
	})
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
		room, _ := in["room"].(string)
		switch in["action"] {
		case "join":
			joined[room] = true
			for k, v := range standing(room) {
				reply[k] = v
			}
		case "leave":
			delete(joined, room)
		}
		_ = c.WriteJSON(reply)
		f.mu.Unlock()
	}
}
