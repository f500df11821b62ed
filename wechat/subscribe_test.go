package wechat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestFitField(t *testing.T) {
	han := func(n int) string { return strings.Repeat("好", n) }
	for _, c := range []struct{ key, value, want string }{
		{"thing1", "你好", "你好"},
		{"thing1", han(20), han(20)},
		{"thing1", han(21), han(19) + "…"}, // characters, not bytes
		{"thing12", "😀" + han(30), "😀" + han(18) + "…"},
		{"thing1", "  a\n b\t\x00c ", "a b c"},
		{"thing1", " \n ", ""},
		{"number1", "12.50", "12.50"}, {"number1", "-3", "-3"}, {"number2", "十", ""}, {"number2", "1,000", ""},
		{"number1", strings.Repeat("1", 33), ""},
		{"letter1", "abc好d", "abcd"}, {"letter1", strings.Repeat("a", 40), strings.Repeat("a", 32)}, {"letter1", "好", ""},
		{"symbol1", "!@#$%^&", "!@#$%"},
		{"character_string1", "A-1/好2", "A-1/2"}, {"character_string1", strings.Repeat("x", 33), strings.Repeat("x", 32)}, {"character_string1", "好", ""},
		{"time1", "15:04", "15:04"}, {"time2", "2026年1月2日 15:04", "2026年1月2日 15:04"}, {"time1", "今天", ""},
		{"date1", "2026-01-02", "2026-01-02"}, {"date1", "15:04", ""},
		{"amount1", "¥12.50", "¥12.50"}, {"amount1", "10元", "10元"}, {"amount1", "1234567890", "1234567890"}, {"amount1", "12345678901", ""}, {"amount1", "¥1.234", ""}, {"amount1", "免费", ""},
		{"phone_number1", "+86-0766-66888866", "+86-0766-66888866"}, {"phone_number1", "138000000001234567", ""}, {"phone_number1", "问我", ""},
		{"car_number1", "粤A8Z888挂", "粤A8Z888挂"}, {"car_number1", "粤A8Z888挂x", "粤A8Z888挂"},
		{"name1", han(11), han(10-1) + "…"}, {"name1", strings.Repeat("n", 21), strings.Repeat("n", 20)},
		{"phrase1", "配送中,请等", "配送中请等"}, {"phrase3", han(6), han(5)}, {"phrase1", "ok", ""},
		{"enum1", "whatever", "whatever"}, {"new_kind7", han(50), han(50)},
		{"thing", "x", ""}, {"1thing", "x", ""}, {"", "x", ""}, {"thing1 ", "x", ""},
	} {
		got, err := FitField(c.key, c.value)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("%s %q: %q %v, want %q", c.key, c.value, got, err, c.want)
		}
		if err != nil && c.value != "x" && len(c.value) > 3 && strings.Contains(err.Error(), c.value) {
			t.Errorf("a value in an error: %v", err)
		}
	}
	if got := FieldTime(time.Unix(callsNow, 0)); got != "2026-01-15 10:34" {
		t.Error(got)
	}
	if got := FieldAmount(1234507) + FieldAmount(5); got != "¥12345.07¥0.05" {
		t.Error(got)
	}
}

func FuzzFitField(f *testing.F) {
	f.Add("thing1", "你好")
	f.Add("character_string2", "A-1\xff")
	f.Add("phrase9999", "好")
	most := map[string]int{"thing": 20, "letter": 32, "number": 32, "symbol": 5, "character_string": 32, "car_number": 8, "name": 20, "phrase": 5, "phone_number": 17}
	f.Fuzz(func(t *testing.T, key, value string) {
		got, err := FitField(key, value)
		oneOf(t, err, ErrRequest)
		if err != nil {
			if got != "" {
				t.Error("a value beside an error")
			}
			return
		}
		kind := fieldKey.FindStringSubmatch(key)[1]
		if n, known := most[kind]; got == "" || !utf8.ValidString(got) || known && utf8.RuneCountInString(got) > n || strings.ContainsAny(got, "\n\r\t") {
			t.Errorf("%s: %q became %q", key, value, got)
		}
		if again, err := FitField(key, got); err != nil || again != got {
			t.Errorf("%s: %q does not fit once it was made to fit: %q %v", key, got, again, err)
		}
	})
}

// Two messages to one person go out one after the other; to two persons, at once.
func TestSendSubscribe_onePersonAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sending atomic.Int32
		var most atomic.Int32
		gate := make(chan struct{})
		c, err := New(Options{AppID: testAppID, Secret: testSecret, HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/cgi-bin/stable_token" {
				return answered(`{"access_token":"t","expires_in":7200}`), nil
			}
			_, _ = io.Copy(io.Discard, r.Body)
			most.Store(max(most.Load(), sending.Add(1)))
			defer sending.Add(-1)
			<-gate
			return answered(okAnswer), nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		send := func(ctx context.Context, who string) {
			_, err := c.SendSubscribe(ctx, who, SubscribeMessage{TemplateID: "T", Data: map[string]string{"thing1": "x"}})
			done <- err
		}
		for range 3 {
			go send(t.Context(), "alice")
		}
		go send(t.Context(), "bob")
		synctest.Wait()
		if sending.Load() != 2 {
			t.Errorf("%d on their way, want one to each", sending.Load())
		}
		// who waits for their turn may give up
		ctx, cancel := context.WithCancel(t.Context())
		go send(ctx, "alice")
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(gate)
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if most.Load() > 2 || len(c.sending.taken) != 0 {
			t.Errorf("%d at once, %d turns left", most.Load(), len(c.sending.taken))
		}
	})
}

func TestSendSubscribe_checkedBefore(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
	good := map[string]string{"thing1": "x"}
	for name, m := range map[string]SubscribeMessage{
		"no template": {Data: good}, "no data": {TemplateID: "T"}, "state": {TemplateID: "T", Data: good, State: "released"},
		"page": {TemplateID: "T", Data: good, Page: strings.Repeat("p", 1025)}, "value": {TemplateID: "T", Data: map[string]string{"amount1": "free"}},
	} {
		if _, err := c.SendSubscribe(t.Context(), "o1", m); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.SendSubscribe(t.Context(), "", SubscribeMessage{TemplateID: "T", Data: good}); !errors.Is(err, ErrOpenID) {
		t.Error(err)
	}
}

func TestSendSubscribe_msgID(t *testing.T) {
	for answer, want := range map[string]string{
		`{"errcode":0}`: "", `{"msgid":"a1"}`: "a1", `{"msgid":12}`: "12", `{"msgid":1864323726461255680}`: "1864323726461255680",
		`{"msgid":9007199254740993}`: "9007199254740993", `{"msgid":{}}`: "",
	} {
		c := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { _, _ = io.WriteString(w, answer) }))
		got, err := c.SendSubscribe(t.Context(), "o1", SubscribeMessage{TemplateID: "T", Data: map[string]string{"thing1": "x"}})
		if err != nil || got != want {
			t.Errorf("%s: %q %v", answer, got, err)
		}
	}
}
