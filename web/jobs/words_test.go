package jobs

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wxhub/store"
)

var paidLetter = store.Letter{
	ID: "pay:1", Action: "order.paid", At: time.Date(2026, 3, 1, 15, 4, 0, 0, time.UTC),
	Payload: json.RawMessage(`{"description":"新茶 <250 克>","total":12800,"at":1772377440000,"refunded":-5,"shop":{"name":"茶馆"},"gift":true,"list":[1,2],"none":null}`),
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"已支付：{description}":                    "已支付：新茶 <250 克>",
		"{total}/{total|yuan}/{refunded|yuan}": "12800/128.00/-0.05",
		"{at|time} {at|date}":                  "2026年03月01日 23:04 2026年03月01日",
		"{@at|time} {@action} {@id}":           "2026年03月01日 23:04 order.paid pay:1",
		"{shop.name}{gift}{list}":              "茶馆true[1,2]",
		"[{nothing}{none}{shop.x}{total.x}]":   "[]",
		"{{{total}}} 100%":                     "{12800} 100%",
		"{description|yuan}":                   "新茶 <250 克>", // not a number: as it is
	} {
		w, err := parseWords(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := w.say(valuesOf(paidLetter, beijing)); got != want {
			t.Errorf("%q says %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"{", "}", "a{b", "{}", "{ a}", "{a|b}", "{a|}", "{@x}", "{a.}", "{.a}", "{a b}", "{a}}", "{{a}", strings.Repeat("a", maxWords+1), "{" + strings.Repeat("a", 65) + "}"} {
		if w, err := parseWords(text); err == nil {
			t.Errorf("%.40q is read as %+v", text, w)
		}
	}
	for _, payload := range []string{"", "7", `"x"`, "[]", "{", "nonsense"} {
		w, _ := parseWords("<{total}>")
		if got := w.say(valuesOf(store.Letter{Payload: json.RawMessage(payload)}, beijing)); got != "<>" {
			t.Errorf("of %s: %q", payload, got)
		}
	}
}

// Whatever an admin writes and a payload holds, the words are read or refused, and say valid text without growing wild.
func FuzzWords(f *testing.F) {
	f.Add("已支付：{description}，{total|yuan}元 {{x}}", `{"description":"茶","total":1}`)
	f.Add("{@at|time}{a.b.c|date}", `{"a":{"b":{"c":-62135596800001}}}`)
	f.Add("{{{", `[1]`)
	f.Fuzz(func(t *testing.T, text, payload string) {
		w, err := parseWords(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
				t.Errorf("error %q", err)
			}
			return
		}
		got := w.say(valuesOf(store.Letter{Payload: json.RawMessage(payload)}, beijing))
		if utf8.ValidString(text) && utf8.ValidString(payload) && !utf8.ValidString(got) {
			t.Errorf("says %q", got)
		}
		if len(got) > len(text)+strings.Count(text, "{")*(6*len(payload)+64) {
			t.Errorf("%d bytes of %d and %d", len(got), len(text), len(payload))
		}
	})
}

func TestQuietHours(t *testing.T) {
	at := func(text string) time.Time {
		clock, err := time.ParseInLocation("2006-01-02 15:04", "2026-03-01 "+text, beijing)
		if err != nil {
			t.Fatal(err)
		}
		return clock
	}
	for _, c := range []struct{ hours, now, until string }{
		{"", "03:00", ""},
		{"22:00-08:00", "21:59", ""},
		{"22:00-08:00", "22:00", "2026-03-02 08:00"},
		{"22:00-08:00", "00:00", "2026-03-01 08:00"},
		{"22:00-08:00", "07:59", "2026-03-01 08:00"},
		{"22:00-08:00", "08:00", ""},
		{"12:00-14:00", "11:59", ""},
		{"12:00-14:00", "13:00", "2026-03-01 14:00"},
		{"12:00-14:00", "14:00", ""},
	} {
		q, err := readQuiet(c.hours)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if end := q.until(at(c.now).UTC(), beijing); !end.IsZero() {
			got = end.Format("2006-01-02 15:04")
		}
		if got != c.until {
			t.Errorf("%s at %s: until %q, want %q", c.hours, c.now, got, c.until)
		}
	}
	for _, text := range []string{"22-8", "22:00", "24:00-08:00", "22:00-08:60", "08:00-08:00", "22:00–08:00"} {
		if _, err := readQuiet(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func TestCheckFallbacks(t *testing.T) {
	good := func(change func(*FallbackRule)) []FallbackRule {
		r := testRules[0]
		r.Subscribe = &SubscribeFallback{Template: "T", Data: map[string]string{"thing1": "{description}"}}
		r.Custom = &CustomFallback{Text: "x"}
		change(&r)
		return []FallbackRule{r}
	}
	if err := CheckFallbacks(good(func(r *FallbackRule) { r.Zone, r.Quiet, r.Action = "Asia/Shanghai", "22:00-08:00", "order.*" })); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*FallbackRule){
		"action":  func(r *FallbackRule) { r.Action = "" },
		"star":    func(r *FallbackRule) { r.Action = "a*b" },
		"after":   func(r *FallbackRule) { r.After = 0 },
		"within":  func(r *FallbackRule) { r.Within = 1 },
		"quiet":   func(r *FallbackRule) { r.Quiet = "x" },
		"zone":    func(r *FallbackRule) { r.Zone = "Mars/Olympus" },
		"local":   func(r *FallbackRule) { r.Zone = "Local" },
		"neither": func(r *FallbackRule) { r.Custom, r.Subscribe = nil, nil },
		"both":    func(r *FallbackRule) { r.Custom = &CustomFallback{Text: "x", Card: &CardFallback{"t", "p", "m"}} },
		"empty":   func(r *FallbackRule) { r.Custom = &CustomFallback{} },
		"url": func(r *FallbackRule) {
			r.Custom = &CustomFallback{Link: &LinkFallback{Title: "t", URL: "javascript:x"}}
		},
		"card":     func(r *FallbackRule) { r.Custom = &CustomFallback{Card: &CardFallback{Title: "t"}} },
		"words":    func(r *FallbackRule) { r.Custom = &CustomFallback{Text: "{"} },
		"template": func(r *FallbackRule) { r.Subscribe.Template = "" },
		"data":     func(r *FallbackRule) { r.Subscribe.Data = nil },
		"field":    func(r *FallbackRule) { r.Subscribe.Data = map[string]string{"Thing": "x"} },
		"value":    func(r *FallbackRule) { r.Subscribe.Data = map[string]string{"thing1": "}"} },
		"state":    func(r *FallbackRule) { r.Subscribe.State = "beta" },
	} {
		if err := CheckFallbacks(good(change)); err == nil {
			t.Errorf("%s is no fault", name)
		}
	}
	if err := CheckFallbacks(make([]FallbackRule, maxFallbacks+1)); err == nil {
		t.Error("any number of rules")
	}
}
