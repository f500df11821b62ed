package jobs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wxhub/store"
	"wxhub/wechat"
)

// delivers is a platform that manages deliveries; answer says what it says of the n-th upload.
func delivers(t *testing.T, answer func(n int64, body string) string) *wechat.Client {
	t.Helper()
	var uploads atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/stable_token"):
			io.WriteString(w, `{"access_token":"T","expires_in":7200}`)
		case strings.HasSuffix(r.URL.Path, "/is_trade_managed"):
			io.WriteString(w, `{"errcode":0,"is_trade_managed":true}`)
		default:
			io.WriteString(w, answer(uploads.Add(1), string(body)))
		}
	}))
	t.Cleanup(s.Close)
	c, err := wechat.New(wechat.Options{AppID: "wx1", Secret: "secret", APIURL: s.URL, HTTP: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// paid is a virtual order that was paid by openid oPayer.
func paid(t *testing.T, db *store.DB, no string) {
	t.Helper()
	if _, err := db.CreateOrder(t.Context(), store.Order{OutTradeNo: no, AppID: "wx1", MchID: "1900000109", UserID: "alice", TotalFen: 5, Virtual: true, Description: "会员"}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.MarkPaid(t.Context(), store.Payment{AppID: "wx1", MchID: "1900000109", OutTradeNo: no, TransactionID: "42" + strings.Repeat("0", 25) + no[len(no)-1:],
		OpenID: "oPayer", TotalFen: 5, Currency: "CNY", PaidAt: time.Now()}, func(o store.Order, _ store.User) []store.Telling {
		return []store.Telling{store.VirtualTelling(o.OutTradeNo, o.Description)}
	}); err != nil {
		t.Fatal(err)
	}
}

// Right after the payment WeChat's shipping service does not know the order: it is told again, and nobody alarmed.
func TestShip_orderUnknownYet(t *testing.T) {
	t.Parallel() // it waits for a delay
	db, h := newStore(t), newHub(t)
	var told atomic.Value
	client := delivers(t, func(n int64, body string) string {
		if n == 1 {
			return `{"errcode":10060001,"errmsg":"order unknown"}`
		}
		told.Store(body)
		return `{"errcode":0}`
	})
	paid(t, db, "ORDER1")
	start(t, Options{Hub: h, Store: db, WeChat: client})
	eventually(t, 30*time.Second, "told", func() bool {
		s, err := db.Shipment(t.Context(), "ORDER1")
		return err == nil && s.State == store.ShipmentTold
	})
	if body, _ := told.Load().(string); !strings.Contains(body, `"openid":"oPayer"`) || !strings.Contains(body, `"logistics_type":3`) || !strings.Contains(body, "会员") {
		t.Errorf("told %s", body)
	}
	if all, err := db.Alarms(t.Context(), store.AlarmQuery{}); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What WeChat took already is no failure; what it will never take is an alarm at once.
func TestShip_answers(t *testing.T) {
	for code, want := range map[string]string{"0": store.ShipmentTold, "10060023": store.ShipmentTold, "10060003": store.ShipmentFailed, "47001": store.ShipmentFailed, "48001": store.ShipmentFailed} {
		db, h := newStore(t), newHub(t)
		client := delivers(t, func(int64, string) string { return `{"errcode":` + code + `,"errmsg":"x"}` })
		paid(t, db, "ORDER2")
		start(t, Options{Hub: h, Store: db, WeChat: client})
		eventually(t, 10*time.Second, code, func() bool {
			s, err := db.Shipment(t.Context(), "ORDER2")
			return err == nil && s.State == want && outbox(t, db).Waiting == 0
		})
		if all, err := db.Alarms(t.Context(), store.AlarmQuery{Kind: alarmShipping}); err != nil || (len(all) == 1) != (want == store.ShipmentFailed) {
			t.Errorf("%s: %+v, %v", code, all, err)
		}
	}
}
