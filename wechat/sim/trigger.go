package sim

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Trigger asks for one platform event, honest or not.
type Trigger struct {
	Event    string `json:"event"` // one of Events
	URL      string `json:"url"`   // instead of the order's notify_url or the push address
	Times    int    `json:"times"` // 1 (and 0) to 1000 copies
	Parallel bool   `json:"parallel"`
	Forge    string `json:"forge"` // pay: signature, serial, body, no-sign; message: signature, body
	Skew     string `json:"skew"`  // added to the signed timestamp, such as -10m

	OutTradeNo    string `json:"outTradeNo"`  // pay: else the newest unpaid order; refund: else the newest refund; muteNotify: else the newest order
	OutRefundNo   string `json:"outRefundNo"` // refund: this one
	Status        string `json:"status"`      // refund: SUCCESS, CLOSED or ABNORMAL from now on
	Amount        int64  `json:"amount"`      // pay: another amount in fen
	AppID         string `json:"appid"`       // pay: another appid, mchid, currency, transaction
	MchID         string `json:"mchid"`
	Currency      string `json:"currency"`
	TransactionID string `json:"transactionId"`
	Probe         bool   `json:"probe"`  // pay: a signature probe; with ladder the real one follows
	Ladder        bool   `json:"ladder"` // pay: the first try as asked, then the platform's retries

	User       string `json:"user"`       // who does it
	Format     string `json:"format"`     // push: json or xml; else as configured
	Mode       string `json:"mode"`       // push: plain, compatible or safe; else as configured
	MsgID      string `json:"msgId"`      // message, mptext: repeats an older one; decimal
	CreateTime int64  `json:"createTime"` // push: repeats an older one; seconds

	Openid   string `json:"openid"`   // instead of that of user
	Version  string `json:"version"`  // pay, refund of a number that was never ordered: v3 (and empty) or v2
	SignType string `json:"signType"` // the same, of v2: MD5 (and empty) or HMAC-SHA256
	Template string `json:"template"` // subscribe_msg_…
	TraceID  string `json:"traceId"`  // wxa_media_check
	Code     int    `json:"code"`     // wxa_media_check: its errcode; subscribe_msg_sent_event: its ErrorCode

	Type     string `json:"type"`    // message, mptext: text (and empty), image, miniprogrampage; to the official account also voice, video, shortvideo, location, link
	Content  string `json:"content"` // message, mptext
	PicURL   string `json:"picUrl"`  // message
	Title    string `json:"title"`   // message
	PagePath string `json:"pagePath"`

	Name        string         `json:"name"`        // event: its name, such as user_enter_tempsession
	SessionFrom string         `json:"sessionFrom"` // event user_enter_tempsession
	Fields      map[string]any `json:"fields"`      // event: more fields: texts, numbers, objects, lists of objects
	Scene       string         `json:"scene"`       // follow: of the QR code that was scanned
	Key         string         `json:"key"`         // click, view, scan and other menu events; link: its address; xpay_goods_deliver_notify: the goods
	Latitude    float64        `json:"latitude"`    // location
	Longitude   float64        `json:"longitude"`   // location
	Account     string         `json:"account"`     // check, message, event: mp for the official account

	host string // of this simulator, for drawn pictures
}

// TriggerResult tells what was sent and what was answered.
type TriggerResult struct {
	Event         string   `json:"event"`
	OutTradeNo    string   `json:"outTradeNo,omitempty"`
	OutRefundNo   string   `json:"outRefundNo,omitempty"`
	TransactionID string   `json:"transactionId,omitempty"`
	MsgID         string   `json:"msgId,omitempty"`
	CreateTime    int64    `json:"createTime,omitempty"`
	Answers       []Answer `json:"answers"`
	Note          string   `json:"note"`
}

const (
	maxTimes    = 1000
	maxParallel = 100
)

// Events are the names that a trigger takes.
func Events() []string {
	names := []string{"pay", "refund", "muteNotify", "check", "message", "event", "user_enter_tempsession", "debug_demo", "wxa_trade_controlled"}
	return append(append(names, platformEvents...), accountEvents...)
}

// trigger is POST /sim/trigger.
func (s *Sim) trigger(r *http.Request) (any, error) {
	var t Trigger
	if err := decode(r, &t); err != nil {
		return nil, err
	}
	t.host = r.Host
	ctx, done := s.during(r)
	defer done()
	return s.Trigger(ctx, t)
}

// Trigger plays one event and tells what was answered. An error says what cannot be played, with the next step.
func (s *Sim) Trigger(ctx context.Context, t Trigger) (TriggerResult, error) {
	if t.Times < 0 || t.Times > maxTimes {
		return TriggerResult{}, badRequest("times is 1 to 1000")
	}
	t.Times = max(t.Times, 1)
	skew, err := time.ParseDuration(cmp.Or(t.Skew, "0s"))
	if err != nil {
		return TriggerResult{}, badRequest("skew is a duration such as -10m")
	}
	if u, err := url.Parse(t.URL); t.URL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		return TriggerResult{}, badRequest("url is an http or https address")
	}
	switch {
	case t.Event == "pay":
		return s.triggerPay(ctx, t, skew)
	case t.Event == "refund":
		return s.triggerRefund(ctx, t, skew)
	case t.Event == "muteNotify":
		return s.triggerMute(t)
	case t.Event == "check":
		return s.triggerCheck(ctx, t)
	case slices.Contains(Events(), t.Event):
		return s.triggerPush(ctx, t, skew)
	}
	return TriggerResult{}, &controlError{400, "unknown_event", "event is " + strings.Join(Events(), ", ")}
}

// each calls send for every copy, one after the other or at once.
func (t Trigger) each(send func(try int) Answer) []Answer {
	answers := make([]Answer, t.Times)
	if !t.Parallel {
		for i := range answers {
			answers[i] = send(i + 1)
		}
		return answers
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, maxParallel)
	for i := range answers {
		slots <- struct{}{}
		all.Go(func() {
			answers[i] = send(i + 1)
			<-slots
		})
	}
	all.Wait()
	return answers
}

func (s *Sim) triggerPay(ctx context.Context, t Trigger, skew time.Duration) (TriggerResult, error) {
	form, err := t.notifyForm(skew)
	if err != nil {
		return TriggerResult{}, err
	}
	paid, note, err := s.playPayment(t, form)
	if err != nil {
		return TriggerResult{}, err
	}
	n, err := s.payNotice(paid, form)
	if err != nil {
		return TriggerResult{}, err
	}
	answers, taken, err := s.sendAll(ctx, t, n, form)
	if err != nil {
		return TriggerResult{}, err
	}
	if t.Ladder && (!taken || form != (notifyForm{})) {
		note += "; the real notify follows by the retry ladder"
		s.notifyPaid(paid)
	}
	return TriggerResult{Event: "pay", OutTradeNo: paid.OutTradeNo, TransactionID: paid.TransactionID, Answers: answers, Note: note}, nil
}

// notifyForm reads how a notify is to be spoiled.
func (t Trigger) notifyForm(skew time.Duration) (notifyForm, error) {
	if !slices.Contains([]string{"", "signature", "serial", "body", "no-sign"}, t.Forge) {
		return notifyForm{}, badRequest("forge is signature, serial, body or no-sign")
	}
	if t.Amount < 0 {
		return notifyForm{}, badRequest("amount is in fen and not negative")
	}
	return notifyForm{forge: t.Forge, skew: skew, probe: t.Probe}, nil
}

// sendAll sends every copy of a notice, once each. It reports whether one was taken.
func (s *Sim) sendAll(ctx context.Context, t Trigger, n notice, form notifyForm) (answers []Answer, taken bool, err error) {
	switch {
	case n.url == "":
		return nil, false, &controlError{409, "no_notify_url", "name the url to notify"}
	case n.v2 && (form.probe || form.skew != 0 || form.forge == "serial"):
		return nil, false, badRequest("a notify of Pay v2 has neither serial nor timestamp nor probes")
	}
	var mu sync.Mutex
	answers = t.each(func(try int) Answer {
		got, done := s.notifyOnce(ctx, n, form, try)
		mu.Lock()
		taken = taken || done
		mu.Unlock()
		return got
	})
	s.letGo(onNotify)
	if taken && form == (notifyForm{}) {
		s.settle(n, "taken")
	}
	return answers, taken, nil
}

// playPayment finds the order and the transaction to tell of. An honest trigger for an unpaid order
// is its payment; a dishonest one leaves the order as it is.
func (s *Sim) playPayment(t Trigger, form notifyForm) (transaction, string, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.orderToPay(t)
	if err != nil {
		return transaction{}, "", err
	}
	altered := t.altered()
	honest := form == (notifyForm{}) && !altered
	note := "a repeat of the same transaction"
	known := s.orders[o.outTradeNo] == o
	if o.paidAt.IsZero() {
		if o.state(now) == stateClosed && known && honest {
			return transaction{}, "", &controlError{409, "order_closed", "the order is closed, nobody can pay it; with amount a notify of it is played all the same"}
		}
		paid := o
		note = "the order is paid now"
		if !(honest || t.Ladder && !altered) || !known {
			copied := *o
			paid, note = &copied, "the order stays unpaid on WeChat's side"
		}
		if t.TransactionID != "" {
			paid.transactionID = clip(t.TransactionID, 64)
		}
		s.take(paid, now)
		o = paid
	}
	tx := s.transactionOf(o)
	override(&tx.TransactionID, t.TransactionID)
	override(&tx.AppID, t.AppID)
	override(&tx.MchID, t.MchID)
	override(&tx.Amount.Currency, t.Currency)
	override(&tx.Amount.PayerCurrency, t.Currency)
	override(&tx.notifyURL, t.URL)
	if t.Amount != 0 {
		tx.Amount.Total, tx.Amount.PayerTotal = t.Amount, t.Amount
	}
	if label := form.label(); label != "" {
		note += "; spoiled: " + label
	}
	if altered {
		note += "; altered fields, signed well"
	}
	return tx, note, nil
}

// altered tells whether a field of the notify is to be another one.
func (t Trigger) altered() bool {
	return t.Amount != 0 || t.AppID != "" || t.MchID != "" || t.Currency != ""
}

func override(field *string, by string) {
	if by != "" {
		*field = by
	}
}

// orderToPay finds the order of a trigger. A number that was never ordered needs an amount and a
// user: it plays a payment that the shop knows nothing of. Needs s.mu.
func (s *Sim) orderToPay(t Trigger) (*order, error) {
	if t.OutTradeNo != "" {
		if o := s.orders[t.OutTradeNo]; o != nil {
			return o, nil
		}
		if t.Amount == 0 || t.User == "" || !outTradeNoShape.MatchString(t.OutTradeNo) {
			return nil, &controlError{404, "no_order", "no prepaid order of that number; with amount and user a payment without an order is played"}
		}
		u, err := s.byName(t.User)
		if err != nil {
			return nil, err
		}
		return s.strangeOrder(u.openid, t)
	}
	now := s.opts.Now()
	for _, o := range slices.Backward(s.line) {
		if o.state(now) == stateUnpaid {
			return o, nil
		}
	}
	return nil, &controlError{404, "no_order", "no unpaid order; buy something first, or name outTradeNo"}
}

// strangeOrder is an order that nobody made here, paid to the shop all the same. Needs s.mu.
func (s *Sim) strangeOrder(openid string, t Trigger) (*order, error) {
	o := &order{prepayParams: prepayParams{outTradeNo: t.OutTradeNo, openid: cmp.Or(t.Openid, openid), total: t.Amount, signType: signRSAName, description: t.Content}}
	if len(s.line) > 0 && t.Version == "" {
		last := s.line[len(s.line)-1]
		o.notifyURL, o.signType = last.notifyURL, last.signType
	}
	switch {
	case t.Version == "v2":
		o.signType = cmp.Or(t.SignType, signMD5)
		if o.signType != signMD5 && o.signType != signHMAC || s.opts.V2Key == "" {
			return nil, badRequest("signType is MD5 or HMAC-SHA256, and Pay v2 has a key")
		}
	case t.Version != "" && t.Version != "v3":
		return nil, badRequest("version is v3 or v2")
	}
	return o, nil
}

// triggerCheck plays the check of the push address when it is saved in the console.
func (s *Sim) triggerCheck(ctx context.Context, t Trigger) (TriggerResult, error) {
	to := s.mini
	if t.Account == "mp" {
		to = s.mp
	}
	if to == nil || cmp.Or(t.URL, to.url) == "" {
		return TriggerResult{}, errNoPushURL
	}
	address := cmp.Or(t.URL, to.url)
	timestamp, nonce, echo := strconv.FormatInt(s.opts.Now().Unix(), 10), random(digits, 9), random(digits, 19)
	signature := pushSignature(to.pushToken, timestamp, nonce)
	if t.Forge != "" {
		signature = random(lowerHex, 40)
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, withQuery(address, url.Values{
		"signature": {signature}, "timestamp": {timestamp}, "nonce": {nonce}, "echostr": {echo}}), nil)
	if err != nil {
		return TriggerResult{}, badRequest("url cannot be used")
	}
	began := time.Now()
	got, raw, err := s.roundTrip(req)
	got.Ms = time.Since(began).Milliseconds()
	note := "the address is accepted"
	switch {
	case err != nil:
		got.Error, note = reason(err), "Token校验失败: no answer"
	case got.Status != http.StatusOK || string(raw) != echo:
		note = "Token校验失败: the answer is not echostr " + strings.TrimSpace(echo)
	}
	return TriggerResult{Event: "check", Answers: []Answer{got}, Note: note}, nil
}
