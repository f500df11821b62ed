package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"wxhub/wechat/sim"
)

const (
	usualHub = "http://127.0.0.1:8080"
	usualSim = "http://127.0.0.1:8081"
)

type triggerCommand struct {
	Event string `arg:"" help:"pay, refund: a notify of WeChat Pay; message (or text), enter-session: what a customer does; subscribe-popup, subscribe-change, subscribe-sent: subscribe messages; media-check, ship-access, ship-remind, settlement, goods, coins, debug_demo: what the platform tells; subscribe (or follow), unsubscribe, click, view, scan, location, mp-text, template-result: the official account; check: the URL check; or any event of WeChat by its own name."`
	Hub   string `help:"The hub." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Sim   string `help:"The simulator that plays WeChat." default:"http://127.0.0.1:8081" placeholder:"URL"`
	User  string `help:"Who does it." default:"xiaoyu"`

	Times    int    `help:"How many copies of the notify or push." default:"1"`
	Parallel bool   `help:"All copies at once."`
	Forge    string `help:"Send a forged one: signature, serial, body or no-sign." enum:",signature,serial,body,no-sign" default:""`
	Skew     string `help:"Shift the timestamp, such as -10m (a stale one)." placeholder:"DURATION"`
	Explain  bool   `help:"Show what was signed, by which key, and what was sealed inside."`

	Order     string        `help:"pay, refund, ship-remind, settlement: number of an order (default: pay makes a new one, the others take the newest that fits)." placeholder:"NUMBER"`
	Product   string        `help:"pay: what the new order is for (default: the first product)." placeholder:"ID"`
	Amount    int64         `help:"pay: name another amount than the order's, in fen." placeholder:"FEN"`
	Probe     bool          `help:"pay: a signature probe, as WeChat Pay sends now and then; must be refused."`
	Never     bool          `help:"pay: somebody pays a new order, and its notify never comes."`
	Late      time.Duration `help:"pay: somebody pays a new order, and its notify comes so much later." placeholder:"DURATION"`
	Reordered bool          `help:"pay: somebody pays a new order, and its notify waits until another one was sent."`
	Status    string        `help:"refund: SUCCESS, CLOSED or ABNORMAL; subscribe-…: accept or reject; media-check: pass, review or risky; template-result: success or failed:user block." placeholder:"WORD"`

	Content  string `help:"message, mp-text: the text." default:"你好，在吗？"`
	Type     string `help:"message: image or miniprogrampage; mp-text: image, voice, video, shortvideo, location or link." placeholder:"TYPE"`
	Title    string `help:"Of a card, a link or a place." placeholder:"TEXT"`
	Path     string `help:"Of a card (miniprogrampage)." default:"pages/index/index" placeholder:"PAGE"`
	From     string `help:"enter-session: the button's session-from." placeholder:"TEXT"`
	Scene    string `help:"follow: of the QR code that was scanned." placeholder:"SCENE"`
	Key      string `help:"click, view, scan: the menu's key or URL, the code's scene; link: its address." placeholder:"KEY"`
	Template string `help:"subscribe-…: id of the template." placeholder:"ID"`
	Trace    string `help:"media-check: trace_id of the picture." placeholder:"ID"`
	Code     int    `help:"media-check, subscribe-sent: an error code, such as -1008."`
	Account  string `help:"message, events by their own name: mp for the official account." enum:",mini,mp" default:""`
	Fields   string `help:"Events by their own name: more fields, as a JSON object." placeholder:"JSON"`
	Format   string `help:"pushes: json or xml (default: as the simulator was started)." enum:",json,xml" default:""`
	Mode     string `help:"pushes: plain, compatible or safe (default: as the simulator was started)." enum:",plain,compatible,safe" default:""`

	stranger `embed:"" group:"Other people's servers"`
}

// simEvents are the platform's names where they differ from ours.
var simEvents = map[string]string{
	"text": "message", "enter-session": "user_enter_tempsession", "mp-text": "mptext", "subscribe": "follow", "unsubscribe": "unfollow",
	"subscribe-popup": "subscribe_msg_popup_event", "subscribe-change": "subscribe_msg_change_event", "subscribe-sent": "subscribe_msg_sent_event",
	"media-check": "wxa_media_check", "ship-access": "trade_manage_remind_access_api", "ship-remind": "trade_manage_remind_shipping",
	"settlement": "trade_manage_order_settlement", "goods": "xpay_goods_deliver_notify", "coins": "xpay_coin_pay_notify",
	"template-result": "TEMPLATESENDJOBFINISH",
}

// Validate refuses an event that neither we nor WeChat know; WeChat's own names have underscores or capitals.
func (c triggerCommand) Validate() error {
	if c.Event == "" || simEvents[c.Event] != "" || slices.Contains(sim.Events(), c.Event) || strings.ContainsFunc(c.Event, func(r rune) bool { return r == '_' || unicode.IsUpper(r) }) {
		return nil
	}
	known := append(slices.Sorted(maps.Keys(simEvents)), sim.Events()...)
	slices.Sort(known)
	return fmt.Errorf("%q is no event; there are %s, and any other by WeChat's own name", c.Event, strings.Join(known, ", "))
}

// triggerAnswer is what a simulator tells of the hub's answers.
type triggerAnswer = sim.TriggerResult

// Run plays the event and prints how the hub answered; the error when it gave no answer at all.
func (c triggerCommand) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if c.Never || c.Late > 0 || c.Reordered {
		return c.payByHand(ctx, s)
	}
	order, err := c.trigger()
	if err != nil {
		return err
	}
	var player player = remote{c.Sim}
	if c.alone() {
		own, err := c.simulator(&order)
		if err != nil {
			return err
		}
		defer own.Close()
		player = local{own}
	} else if c.Event == "pay" && order.OutTradeNo == "" && c.URL == "" {
		sheet, err := c.newOrder(ctx)
		if err != nil {
			return err
		}
		order.OutTradeNo, _ = sheet["outTradeNo"].(string)
	}
	got, err := player.play(ctx, order)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	if got.OutTradeNo != "" {
		fmt.Fprintln(s.out, "order", got.OutTradeNo)
	}
	failed := 0
	for _, a := range got.Answers {
		body := strings.Join(strings.Fields(a.Body), " ")
		if len(body) > 160 {
			body = strings.ToValidUTF8(body[:160], "") + "…"
		}
		fmt.Fprintf(s.out, "%3d  %5d ms  %s\n", a.Status, a.Ms, cmp.Or(body, a.Error, "(empty)"))
		if a.Status == 0 {
			failed++
		}
	}
	if got.Note != "" {
		fmt.Fprintln(s.out, got.Note)
	}
	if n := len(got.Answers); c.Explain && n > 0 {
		if err := explain(ctx, s.out, player, got.Answers[n-1].ID); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d got no answer: is the hub running at %s?", failed, len(got.Answers), cmp.Or(c.URL, c.Hub))
	}
	return nil
}

// trigger is the event in the words of the simulator.
func (c triggerCommand) trigger() (sim.Trigger, error) {
	t := sim.Trigger{Event: cmp.Or(simEvents[c.Event], c.Event), User: c.User, Openid: c.OpenID, URL: c.URL, Times: c.Times, Parallel: c.Parallel,
		Forge: c.Forge, Skew: c.Skew, OutTradeNo: c.Order, Amount: c.Amount, Status: c.Status, Account: c.Account}
	if !slices.Contains(sim.Events(), t.Event) {
		t.Name, t.Event = t.Event, "event"
	}
	switch t.Event {
	case "pay":
		t.Probe = c.Probe
		return t, nil
	case "refund":
		return t, nil
	}
	t.Format, t.Mode, t.Content, t.SessionFrom, t.Scene, t.Key = c.Format, c.Mode, c.Content, c.From, c.Scene, c.Key
	t.Template, t.TraceID, t.Code = c.Template, c.Trace, c.Code
	t.Type, t.Title, t.PagePath = c.Type, c.Title, c.Path
	if t.Type == "miniprogrampage" {
		t.Title = cmp.Or(c.Title, "小店")
	}
	if c.Fields != "" {
		if err := json.Unmarshal([]byte(c.Fields), &t.Fields); err != nil {
			return t, errors.New("--fields is not a JSON object")
		}
	}
	return t, nil
}

// payByHand lets a person pay a new order, and spoils the way of its notify.
func (c triggerCommand) payByHand(ctx context.Context, s streams) error {
	sheet, err := c.newOrder(ctx)
	if err != nil {
		return err
	}
	number := sheet["outTradeNo"]
	delete(sheet, "outTradeNo")
	fault := map[string]any{"outTradeNo": number}
	switch {
	case c.Never:
		fault["muteNotify"] = true
	case c.Reordered:
		fault["reorder"] = true
	default:
		fault["delay"] = c.Late.Milliseconds()
	}
	var done struct{ ErrMsg string }
	if err := call(ctx, c.Sim+"/sim/fault", "", fault, &struct{}{}); err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	sheet["user"], sheet["confirm"] = c.User, true
	if err := call(ctx, c.Sim+"/sim/pay", "", sheet, &done); err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "order %v\n%s\n", number, done.ErrMsg)
	return err
}

// newOrder plays a phone up to the pay sheet: wx.login, login, order. The answer is what the hub gave for it.
func (c triggerCommand) newOrder(ctx context.Context) (sheet map[string]any, err error) {
	var phone struct{ Code, RawData, Signature string }
	if err := call(ctx, c.Sim+"/sim/login", "", map[string]any{"user": c.User}, &phone); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	var login struct{ Data struct{ Token string } }
	if err := call(ctx, c.Hub+"/api/login", "", map[string]any{
		"code": phone.Code, "rawData": phone.RawData, "signature": phone.Signature,
	}, &login); err != nil {
		return nil, fmt.Errorf("log in at the hub: %w", err)
	}
	product := c.Product
	if product == "" {
		var list struct{ Data []struct{ ID string } }
		if err := call(ctx, c.Hub+"/api/products", login.Data.Token, nil, &list); err != nil {
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		if len(list.Data) == 0 {
			return nil, errors.New("the hub's catalogue is empty: name an order with --order")
		}
		product = list.Data[0].ID
	}
	var order struct{ Data map[string]any }
	if err := call(ctx, c.Hub+"/api/pay", login.Data.Token,
		map[string]any{"productId": product, "quantity": 1}, &order); err != nil {
		return nil, fmt.Errorf("order at the hub: %w", err)
	}
	return order.Data, nil
}

// call posts body (nil: gets) with a token and reads the JSON answer into out.
func call(ctx context.Context, url, token string, body, out any) error {
	method, text := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		method = http.MethodPost
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("%w\nStart one with: %s demo", err, commandName())
	}
	defer a.Body.Close()
	text, err = io.ReadAll(io.LimitReader(a.Body, 4<<20))
	if err != nil {
		return err
	}
	if a.StatusCode >= 400 {
		var e struct{ Error, Message string }
		if json.Unmarshal(text, &e) == nil && e.Message != "" {
			return fmt.Errorf("%s (%s)", e.Message, e.Error)
		}
		return fmt.Errorf("%s answered %s", r.URL.Host, a.Status)
	}
	return json.Unmarshal(text, out)
}

// triggerFlags are the flags that a demo on other addresses needs.
func triggerFlags(hubURL, simURL string) (flags string) {
	if hubURL != usualHub {
		flags += " --hub " + hubURL
	}
	if simURL != usualSim {
		flags += " --sim " + simURL
	}
	return flags
}

// goRunPath is where `go run` leaves a binary: in a folder for its work or, since Go 1.24, in the cache, wherever that is.
var goRunPath = regexp.MustCompile(`/go-build[0-9]*/|/[0-9a-f]{64}-d/[^/]+$`)

func fromGoRun(path string) bool { return goRunPath.MatchString(filepath.ToSlash(path)) }

// commandName is how to call this program again.
func commandName() string {
	path, err := os.Executable()
	if err == nil && fromGoRun(path) {
		return "go run ./cmd/wxhub"
	}
	if found, err := exec.LookPath("wxhub"); err == nil && found != "" {
		return "wxhub"
	}
	return os.Args[0]
}
