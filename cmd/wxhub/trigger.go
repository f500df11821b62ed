package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"wxhub/web/docs"
)

const (
	usualHub = "http://127.0.0.1:8080"
	usualSim = "http://127.0.0.1:8081"
)

type triggerCommand struct {
	Event string `arg:"" enum:"pay,refund,message,text,enter-session,follow,unfollow,click,view,scan,mp-text,check" help:"pay, refund: a notify of WeChat Pay; message (or text), enter-session: what a customer does; follow, unfollow, click, view, scan, mp-text: events of the official account; check: the URL check."`
	Hub   string `help:"The hub." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Sim   string `help:"The simulator that plays WeChat." default:"http://127.0.0.1:8081" placeholder:"URL"`
	User  string `help:"Who does it." default:"xiaoyu"`

	Times    int    `help:"How many copies of the notify or push." default:"1"`
	Parallel bool   `help:"All copies at once."`
	Forge    string `help:"Send a forged one: signature, serial, body or no-sign." enum:",signature,serial,body,no-sign" default:""`
	Skew     string `help:"Shift the timestamp, such as -10m (a stale one)." placeholder:"DURATION"`

	Order     string        `help:"pay, refund: number of an order (default: pay makes a new one, refund takes the newest refund)." placeholder:"NUMBER"`
	Product   string        `help:"pay: what the new order is for (default: the first product)." placeholder:"ID"`
	Amount    int64         `help:"pay: name another amount than the order's, in fen." placeholder:"FEN"`
	Probe     bool          `help:"pay: a signature probe, as WeChat Pay sends now and then; must be refused."`
	Never     bool          `help:"pay: somebody pays a new order, and its notify never comes."`
	Late      time.Duration `help:"pay: somebody pays a new order, and its notify comes so much later." placeholder:"DURATION"`
	Reordered bool          `help:"pay: somebody pays a new order, and its notify waits until another one was sent."`
	Status    string        `help:"refund: how it ended: SUCCESS, CLOSED or ABNORMAL." enum:",SUCCESS,CLOSED,ABNORMAL" default:""`

	Content string `help:"message, mp-text: the text." default:"你好，在吗？"`
	From    string `help:"enter-session: the button's session-from." placeholder:"TEXT"`
	Scene   string `help:"follow: of the QR code that was scanned." placeholder:"SCENE"`
	Key     string `help:"click, view, scan: the menu's key or URL, the code's scene." placeholder:"KEY"`
	Format  string `help:"pushes: json or xml (default: as the simulator was started)." enum:",json,xml" default:""`
	Mode    string `help:"pushes: plain, compatible or safe (default: as the simulator was started)." enum:",plain,compatible,safe" default:""`
}

// simEvents are the simulator's names where they differ from ours.
var simEvents = map[string]string{"text": "message", "enter-session": "user_enter_tempsession", "mp-text": "mptext"}

// triggerAnswer is what the simulator tells of the hub's answers.
type triggerAnswer struct {
	OutTradeNo string `json:"outTradeNo"`
	Note       string `json:"note"`
	Answers    []struct {
		Status int     `json:"status"`
		Body   string  `json:"body"`
		MS     float64 `json:"ms"`
	} `json:"answers"`
}

// Run plays the event and prints how the hub answered; the error when it gave no answer at all.
func (c triggerCommand) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if c.Never || c.Late > 0 || c.Reordered {
		return c.payByHand(ctx, s)
	}
	order := map[string]any{
		"event": cmp.Or(simEvents[c.Event], c.Event), "user": c.User, "times": c.Times, "parallel": c.Parallel, "forge": c.Forge, "skew": c.Skew,
	}
	switch c.Event {
	case "pay":
		number := c.Order
		if number == "" {
			sheet, err := c.newOrder(ctx)
			if err != nil {
				return err
			}
			number, _ = sheet["outTradeNo"].(string)
		}
		order["outTradeNo"], order["amount"], order["probe"] = number, c.Amount, c.Probe
	case "refund":
		order["outTradeNo"], order["status"] = c.Order, c.Status
	default:
		order["format"], order["mode"] = c.Format, c.Mode
		order["content"], order["sessionFrom"], order["scene"], order["key"] = c.Content, c.From, c.Scene, c.Key
	}
	var got triggerAnswer
	if err := call(ctx, c.Sim+"/sim/trigger", "", order, &got); err != nil {
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
		fmt.Fprintf(s.out, "%3d  %5.0f ms  %s\n", a.Status, a.MS, cmp.Or(body, "(empty)"))
		if a.Status == 0 {
			failed++
		}
	}
	if got.Note != "" {
		fmt.Fprintln(s.out, got.Note)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d got no answer: is the hub running at %s?", failed, len(got.Answers), c.Hub)
	}
	return nil
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

// commandName is how to call this program again.
func commandName() string {
	path, err := os.Executable()
	if err == nil && docs.FromGoRun(path) {
		return "go run ./cmd/wxhub"
	}
	if found, err := exec.LookPath("wxhub"); err == nil && found != "" {
		return "wxhub"
	}
	return os.Args[0]
}
