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

// prepay is POST /v3/pay/transactions/jsapi.
func (s *Sim) prepay(r *http.Request, body []byte) (any, *payError) {
	if r.Method != http.MethodPost {
		return nil, &payError{status: 405, code: "METHOD_NOT_ALLOWED", message: "请求方法错误，应为POST"}
	}
	p, e := s.readPrepay(body)
	if e != nil {
		return nil, e
	}
	id, e := s.placeOrder(p, canonical(body))
	if e != nil {
		return nil, e
	}
	return map[string]string{"prepay_id": id}, nil
}

var outTradeNoShape = regexp.MustCompile(`^[0-9A-Za-z_\-|*]{6,32}$`)

// readPrepay checks every field of the body.
func (s *Sim) readPrepay(body []byte) (prepayParams, *payError) {
	f, err := parseFields(body)
	if err != nil {
		return prepayParams{}, errNotJSON
	}
	appID, mchID := f.text("appid", true, 32), f.text("mchid", true, 32)
	p := prepayParams{
		description: f.text("description", true, 127),
		outTradeNo:  f.text("out_trade_no", true, 32),
		notifyURL:   f.text("notify_url", true, 255),
		attach:      f.text("attach", false, 128),
		signType:    signRSAName,
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
	if e := badField(f); e != nil {
		return p, e
	}
	if mchID != s.opts.MchID {
		return p, errOtherMerchant
	}
	if appID != s.opts.AppID {
		return p, &payError{status: 400, code: "APPID_MCHID_NOT_MATCH", message: "appid和mchid不匹配，请检查后再试"}
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
	prepayID, why, evidence := s.checkPaySign(req)
	if why != "" {
		s.keepCall(Call{At: s.opts.Now().UnixMilli(), Method: "APP", Path: "wx.requestPayment", Code: "fail", Note: clip(why, 200)}, evidence)
		return payFailure(why), nil
	}
	if req.Cancel {
		return payFailure("cancel"), nil
	}
	sheet, t, err := s.payOrder(req, prepayID)
	if err != nil || t == nil {
		return sheet, err
	}
	s.notifyPaid(*t)
	return sheet, nil
}

// checkPaySign verifies the five fields, with the merchant's public key or the v2 key, and returns
// the prepay_id, or why the app refuses, with evidence when it is the signature.
func (s *Sim) checkPaySign(req payRequest) (prepayID, why string, evidence *Evidence) {
	var timestamp string
	if json.Unmarshal(req.TimeStamp, &timestamp) != nil {
		return "", "parameter error: parameter.timeStamp should be String instead of Number;", nil
	}
	seconds, err := strconv.ParseUint(timestamp, 10, 40)
	if err != nil {
		return "", "timeStamp is not a text of seconds", nil
	}
	if req.NonceStr == "" || len(req.NonceStr) > 32 {
		return "", "nonceStr has 1 to 32 characters", nil
	}
	prepayID, ok := strings.CutPrefix(req.Package, "prepay_id=")
	if !ok || prepayID == "" {
		return "", "package is not prepay_id=…", nil
	}
	switch req.SignType {
	case signRSAName:
		message := lines(s.opts.AppID, timestamp, req.NonceStr, req.Package)
		if err := verifyRSA(s.merchant, message, req.PaySign); err != nil {
			evidence = &Evidence{Scheme: "client", Signed: message, Length: len(message), Got: clip(req.PaySign, 1024), Key: "merchant key of " + s.opts.CertSerial,
				Hints: hintsRSA(s.merchant, req.PaySign, map[string]string{
					"no_final_newline": strings.TrimSuffix(message, "\n"),
					"package_bare":     lines(s.opts.AppID, timestamp, req.NonceStr, prepayID),
					"swapped":          lines(s.opts.AppID, req.NonceStr, timestamp, req.Package),
				})}
			why = "支付验证签名失败: " + err.Error()
		}
	case signMD5, signHMAC:
		fields := map[string]string{"appId": s.opts.AppID, "timeStamp": timestamp, "nonceStr": req.NonceStr,
			"package": req.Package, "signType": req.SignType}
		if s.opts.V2Key == "" || !same(req.PaySign, signV2(req.SignType, s.opts.V2Key, fields)) {
			made := evidenceV2("client", req.SignType, s.opts.V2Key, fields, req.PaySign, nil)
			evidence, why = &made, "支付验证签名失败: signature does not match"
		}
	default:
		return "", "signType is not RSA, HMAC-SHA256 or MD5", nil
	}
	if why != "" {
		evidence.Refused = "paySign"
		evidence.ClockMs = time.Unix(int64(seconds), 0).Sub(s.opts.Now()).Milliseconds()
		return "", why, evidence
	}
	return prepayID, "", nil
}

// payOrder shows the pay sheet and, when confirmed, takes the money. The transaction is set once paid.
func (s *Sim) payOrder(req payRequest, prepayID string) (map[string]any, *transaction, error) {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(req.User)
	if err != nil {
		return nil, nil, err
	}
	o := s.prepays[prepayID]
	switch {
	case o == nil:
		return payFailure("prepay_id不存在"), nil, nil
	case o.openid != u.openid:
		return payFailure("支付者与下单时的openid不符"), nil, nil
	case o.signType != req.SignType:
		return payFailure("signType与下单时的签名方式不符"), nil, nil
	case !o.paidAt.IsZero():
		return payFailure("该订单已支付"), nil, nil
	case !o.closedAt.IsZero():
		return payFailure("订单已关闭"), nil, nil
	case now.Sub(o.prepayAt) >= prepayLife || !now.Before(o.expireAt) || o.prepayID != prepayID:
		return payFailure("订单已过期，请重新下单"), nil, nil
	case !req.Confirm:
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
		if o.transactionID == "" {
			o.transactionID = s.newTransactionID(now)
		}
		if s.orders[o.outTradeNo] == o {
			s.paid[o.transactionID] = o
		}
	}
	return s.transactionOf(o)
}

func (s *Sim) newTransactionID(now time.Time) string {
	s.lastID = max(s.lastID+1, now.UnixNano())
	return "4200" + random(digits, 4) + beijing(now).Format("20060102") + fmt.Sprintf("%010d", s.lastID%10_000_000_000) + random(digits, 2)
}
