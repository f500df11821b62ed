package sim

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// order is what the merchant asked to be paid. Guarded by Sim.mu; prepayParams never change.
type order struct {
	prepayParams
	asked         string // canonical body, to tell a repeat from another order
	prepayID      string // the newest
	prepayIDs     []string
	prepayAt      time.Time
	madeAt        time.Time
	transactionID string    // once paid
	paidAt        time.Time // zero: unpaid
	notified      string    // what the ladder came to
}

// prepayParams are the fields of a prepay that the simulator uses.
type prepayParams struct {
	outTradeNo  string
	description string
	attach      string
	notifyURL   string
	openid      string
	total       int64 // fen
	expireAt    time.Time
}

const (
	prepayLife   = 2 * time.Hour
	orderLife    = 7 * 24 * time.Hour
	longestOrder = 15 * 24 * time.Hour
)

// prepay is POST /v3/pay/transactions/jsapi.
func (s *Sim) prepay(w http.ResponseWriter, r *http.Request) outcome {
	spoil := ""
	if f := faultOf(r); f != nil {
		spoil = f.Sign
	}
	id, e := s.takePrepay(r)
	if e != nil {
		return s.answerV3Spoiled(w, e, nil, spoil)
	}
	return s.answerV3Spoiled(w, nil, map[string]string{"prepay_id": id}, spoil)
}

func (s *Sim) takePrepay(r *http.Request) (prepayID string, e *payError) {
	body, err := readBody(r.Body, maxBody)
	if err != nil {
		return "", &payError{400, "PARAM_ERROR", "请求体过大", nil}
	}
	if e := s.authorize(r, body); e != nil {
		return "", e
	}
	if r.Method != http.MethodPost {
		return "", &payError{405, "METHOD_NOT_ALLOWED", "请求方法错误，应为POST", nil}
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return "", &payError{400, "PARAM_ERROR", "Http头Content-Type错误，请设置为application/json", nil}
	}
	if a := r.Header.Get("Accept"); a != "" && !strings.Contains(a, "application/json") && !strings.Contains(a, "*/*") {
		return "", &payError{400, "PARAM_ERROR", "Http头Accept错误，请设置为application/json", nil}
	}
	if id := r.Header.Get("Wechatpay-Serial"); id != "" && id != s.opts.PublicKeyID {
		return "", &payError{400, "INVALID_REQUEST", "Http头Wechatpay-Serial不是本商户的微信支付公钥ID", nil}
	}
	p, e := s.readPrepay(body)
	if e != nil {
		return "", e
	}
	return s.placeOrder(p, canonical(body))
}

var outTradeNoShape = regexp.MustCompile(`^[0-9A-Za-z_\-|*]{6,32}$`)

// readPrepay checks every field of the body.
func (s *Sim) readPrepay(body []byte) (prepayParams, *payError) {
	f, err := parseFields(body)
	if err != nil {
		return prepayParams{}, &payError{400, "PARAM_ERROR", "请求体不是合法的JSON对象", nil}
	}
	appID, mchID := f.text("appid", true, 32), f.text("mchid", true, 32)
	p := prepayParams{
		description: f.text("description", true, 127),
		outTradeNo:  f.text("out_trade_no", true, 32),
		notifyURL:   f.text("notify_url", true, 255),
		attach:      f.text("attach", false, 128),
	}
	if !outTradeNoShape.MatchString(p.outTradeNo) {
		f.refuse("out_trade_no", "格式规则校验失败，应为6-32个字符的数字、字母和_-|*")
	}
	if why := badNotifyURL(p.notifyURL); why != "" {
		f.refuse("notify_url", why)
	}
	amount := f.object("amount", true)
	p.total = amount.integer("total", 1)
	if c := amount.text("currency", false, 16); c != "" && c != "CNY" {
		amount.refuse("currency", "枚举值规则校验失败，应为CNY")
	}
	p.openid = f.object("payer", true).text("openid", true, 128)
	f.text("goods_tag", false, 32)
	f.truth("support_fapiao")
	f.object("detail", false)
	f.object("settle_info", false).truth("profit_sharing")
	if scene := f.object("scene_info", false); scene.seen && net.ParseIP(scene.text("payer_client_ip", true, 45)) == nil {
		scene.refuse("payer_client_ip", "格式规则校验失败，应为IP地址")
	}
	p.expireAt = s.expiry(f)
	if bad := f.fault(); bad != nil {
		return p, &payError{400, "PARAM_ERROR", fmt.Sprintf("输入源“/body%s”%s", bad.path, bad.issue),
			map[string]any{"location": "body", "field": bad.path, "value": bad.value, "issue": bad.issue}}
	}
	if mchID != s.opts.MchID {
		return p, &payError{400, "PARAM_ERROR", "Http头Authorization中的mchid与请求体中的mchid不匹配", nil}
	}
	if appID != s.opts.AppID {
		return p, &payError{400, "APPID_MCHID_NOT_MATCH", "appid和mchid不匹配，请检查后再试", nil}
	}
	return p, nil
}

// expiry reads time_expire: at least a minute ahead, cut to 15 days, 7 days when absent.
func (s *Sim) expiry(f *fields) time.Time {
	now := s.opts.Now()
	text := f.text("time_expire", false, 64)
	if text == "" {
		return now.Add(orderLife)
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		f.refuse("time_expire", "格式规则校验失败，应遵循rfc3339标准格式")
	case at.Before(now.Add(time.Minute)):
		f.refuse("time_expire", "取值范围规则校验失败，距当前时间须大于1分钟")
	case at.After(now.Add(longestOrder)):
		return now.Add(longestOrder)
	}
	return at
}

// badNotifyURL returns why an address is refused, or nothing. Plain http passes on loopback only.
func badNotifyURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return "格式规则校验失败，应为完整的URL"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(raw, "#"):
		return "格式规则校验失败，不能携带参数"
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return ""
	}
	return "格式规则校验失败，须为https"
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// placeOrder makes the order, or finds the same one made before.
func (s *Sim) placeOrder(p prepayParams, asked string) (prepayID string, e *payError) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byOpenid(p.openid) == nil {
		return "", &payError{400, "PARAM_ERROR", "无效的openid",
			map[string]any{"location": "body", "field": "/payer/openid", "issue": "无效的openid"}}
	}
	o := s.orders[p.outTradeNo]
	switch {
	case o == nil:
		o = &order{prepayParams: p, asked: asked, madeAt: now}
		s.addOrder(o)
	case !o.paidAt.IsZero():
		return "", &payError{400, "ORDERPAID", "该订单已支付", nil}
	case o.asked != asked:
		return "", &payError{403, "OUT_TRADE_NO_USED", "商户订单号重复，请核实商户订单号是否重复提交", nil}
	case !now.Before(o.expireAt):
		return "", &payError{400, "ORDER_CLOSED", "订单已关闭，请重新下单", nil}
	case now.Sub(o.prepayAt) < prepayLife:
		return o.prepayID, nil
	}
	o.prepayID = "wx" + beijing(now).Format("20060102150405") + random(lowerHex, 16) + "0000"
	o.prepayAt = now
	o.prepayIDs = append(o.prepayIDs, o.prepayID)
	s.prepays[o.prepayID] = o
	return o.prepayID, nil
}

// addOrder keeps an order; at the limit the oldest tenth is forgotten. Needs s.mu.
func (s *Sim) addOrder(o *order) {
	if len(s.line) >= maxOrders {
		for _, old := range s.line[:maxOrders/10] {
			delete(s.orders, old.outTradeNo)
			for _, id := range old.prepayIDs {
				delete(s.prepays, id)
			}
		}
		s.line = append(s.line[:0:0], s.line[maxOrders/10:]...)
	}
	s.orders[o.outTradeNo] = o
	s.line = append(s.line, o)
}

func beijing(t time.Time) time.Time { return t.In(time.FixedZone("CST", 8*3600)) }

// payRequest is what a mini-program hands to wx.requestPayment, and the thumb of its user.
type payRequest struct {
	User      string          `json:"user"`
	TimeStamp json.RawMessage `json:"timeStamp"`
	NonceStr  string          `json:"nonceStr"`
	Package   string          `json:"package"`
	SignType  string          `json:"signType"`
	PaySign   string          `json:"paySign"`
	Confirm   bool            `json:"confirm"`
	Cancel    bool            `json:"cancel"`
}

// payFailure is what wx.requestPayment reports to the page.
func payFailure(why string) map[string]any {
	return map[string]any{"ok": false, "errMsg": "requestPayment:fail " + why}
}

// requestPayment is POST /sim/pay: the WeChat app checks the five fields, shows the sheet and pays.
func (s *Sim) requestPayment(r *http.Request) (any, error) {
	var req payRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	prepayID, why := s.checkPaySign(req)
	if why != "" {
		return payFailure(why), nil
	}
	if req.Cancel {
		return payFailure("cancel"), nil
	}
	sheet, t, err := s.payOrder(req.User, prepayID, req.Confirm)
	if err != nil || t == nil {
		return sheet, err
	}
	s.notifyPaid(*t)
	return sheet, nil
}

// checkPaySign verifies the five fields with the merchant's public key and returns the prepay_id,
// or why the app refuses.
func (s *Sim) checkPaySign(req payRequest) (prepayID, why string) {
	var timestamp string
	if json.Unmarshal(req.TimeStamp, &timestamp) != nil {
		return "", "parameter error: parameter.timeStamp should be String instead of Number;"
	}
	if _, err := strconv.ParseUint(timestamp, 10, 40); err != nil {
		return "", "timeStamp is not a text of seconds"
	}
	if req.NonceStr == "" || len(req.NonceStr) > 32 {
		return "", "nonceStr has 1 to 32 characters"
	}
	if req.SignType != "RSA" {
		return "", "signType is not RSA"
	}
	prepayID, ok := strings.CutPrefix(req.Package, "prepay_id=")
	if !ok || prepayID == "" {
		return "", "package is not prepay_id=…"
	}
	message := lines(s.opts.AppID, timestamp, req.NonceStr, req.Package)
	if err := verifyRSA(s.merchant, message, req.PaySign); err != nil {
		return "", "支付验证签名失败: " + err.Error()
	}
	return prepayID, ""
}

// payOrder shows the pay sheet and, when confirmed, takes the money. The transaction is set once paid.
func (s *Sim) payOrder(name, prepayID string, confirm bool) (map[string]any, *transaction, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(name)
	if err != nil {
		return nil, nil, err
	}
	o := s.prepays[prepayID]
	switch {
	case o == nil:
		return payFailure("prepay_id不存在"), nil, nil
	case o.openid != u.openid:
		return payFailure("支付者与下单时的openid不符"), nil, nil
	case !o.paidAt.IsZero():
		return payFailure("该订单已支付"), nil, nil
	case now.Sub(o.prepayAt) >= prepayLife || !now.Before(o.expireAt) || o.prepayID != prepayID:
		return payFailure("订单已过期，请重新下单"), nil, nil
	case !confirm:
		return map[string]any{"ok": true, "description": o.description, "total": o.total,
			"merchant": s.opts.Merchant, "outTradeNo": o.outTradeNo}, nil, nil
	}
	t := s.take(o, now)
	return map[string]any{"ok": true, "errMsg": "requestPayment:ok", "transactionId": o.transactionID}, &t, nil
}

// take marks an order paid and returns its transaction. Needs s.mu.
func (s *Sim) take(o *order, now time.Time) transaction {
	if o.paidAt.IsZero() {
		o.paidAt = now
		o.transactionID = s.newTransactionID(now)
	}
	return s.transactionOf(o)
}

func (s *Sim) newTransactionID(now time.Time) string {
	s.lastID = max(s.lastID+1, now.UnixNano())
	return "4200" + random(digits, 4) + beijing(now).Format("20060102") + fmt.Sprintf("%010d", s.lastID%10_000_000_000) + random(digits, 2)
}
