package sim

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	authScheme   = "WECHATPAY2-SHA256-RSA2048"
	requestIDBad = 268435456       // tails of Request-Id of refusals begin here
	clockSlack   = 5 * time.Minute // |timestamp - now| of a request
)

// payError is a refusal of API v3.
type payError struct {
	status  int
	code    string
	message string
	detail  any

	evidence *Evidence // of a signature that did not match
}

func (e *payError) Error() string { return e.code + ": " + e.message }

var (
	errNotJSON       = &payError{status: 400, code: "PARAM_ERROR", message: "请求体不是合法的JSON对象"}
	errOtherMerchant = &payError{status: 400, code: "PARAM_ERROR", message: "Http头Authorization中的mchid与请求中的mchid不匹配"}
)

// badField is the refusal of the first field of a body that broke a rule, nil for none.
func badField(f *fields) *payError {
	bad := f.fault()
	if bad == nil {
		return nil
	}
	return &payError{status: 400, code: "PARAM_ERROR", message: fmt.Sprintf("输入源“/body%s”%s", bad.path, bad.issue),
		detail: map[string]any{"location": "body", "field": bad.path, "value": bad.value, "issue": bad.issue}}
}

// askedMerchant holds the mchid of a query to the one that signed.
func (s *Sim) askedMerchant(r *http.Request) *payError {
	if r.URL.Query().Get("mchid") != s.opts.MchID {
		return errOtherMerchant
	}
	return nil
}

// v3 wraps a call of API v3: who calls is verified first, the answer is signed. A nil answer is 204.
func (s *Sim) v3(h func(r *http.Request, body []byte) (any, *payError)) http.Handler {
	return s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		body, e := s.openV3(r)
		var v any
		if e == nil {
			e = faultOf(r).refusalV3()
		}
		if e == nil {
			v, e = h(r, body)
		}
		return s.answerV3(w, r, e, v)
	})
}

// openV3 reads the body of a request and checks everything around it.
func (s *Sim) openV3(r *http.Request) ([]byte, *payError) {
	body, err := readBody(r.Body, maxBody)
	if err != nil {
		return nil, &payError{status: 400, code: "PARAM_ERROR", message: "请求体过大"}
	}
	if e := s.authorize(r, body); e != nil {
		return nil, e
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if r.Method == http.MethodPost && strings.TrimSpace(kind) != "application/json" {
		return nil, &payError{status: 400, code: "PARAM_ERROR", message: "Http头Content-Type错误，请设置为application/json"}
	}
	if a := r.Header.Get("Accept"); a != "" && !strings.Contains(a, "application/json") && !strings.Contains(a, "*/*") {
		return nil, &payError{status: 400, code: "PARAM_ERROR", message: "Http头Accept错误，请设置为application/json"}
	}
	if e := s.badSerial(r); e != nil {
		return nil, e
	}
	return body, nil
}

// answerV3 writes an answer of API v3, signed with the platform's key; a 401 is not signed, because
// WeChat does not know whom it would answer.
func (s *Sim) answerV3(w http.ResponseWriter, r *http.Request, e *payError, v any) outcome {
	status, got, tail, spoil := http.StatusOK, outcome{}, 0, ""
	if f := faultOf(r); f != nil {
		spoil = f.Sign
	}
	if e != nil {
		status, got, tail = e.status, outcome{e.code, e.message, e.evidence}, requestIDBad+e.status
		refusal := map[string]any{"code": e.code, "message": e.message}
		if e.detail != nil {
			refusal["detail"] = e.detail
		}
		v = refusal
	}
	var body []byte
	h := w.Header()
	if v == nil {
		status = http.StatusNoContent
	} else {
		body = toJSON(v)
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	h.Set("Cache-Control", "no-cache, must-revalidate")
	h.Set("Request-Id", "08"+random(upperHex, 30)+"-"+strconv.Itoa(tail))
	if status != http.StatusUnauthorized && spoil != "none" {
		at := s.opts.Now()
		if spoil == "stale" {
			at = at.Add(-2 * clockSlack)
		}
		if err := signHeader(h, body, at, s.answerKey(r)); err != nil {
			s.opts.Logger.Error("answer not signed", "error", err)
		}
		switch spoil {
		case "probe":
			h.Set("Wechatpay-Signature", probeSignature())
		case "wrong":
			h.Set("Wechatpay-Signature", base64Random(256))
		case "serial":
			h.Set("Wechatpay-Serial", "PUB_KEY_ID_01"+random(digits, 26))
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return got
}

// signHeader sets the five Wechatpay headers over a body.
func signHeader(h http.Header, body []byte, at time.Time, key platformKey) error {
	timestamp, nonce := strconv.FormatInt(at.Unix(), 10), random(letters, 32)
	signature, err := signRSA(key.private, lines(timestamp, nonce, string(body)))
	if err != nil {
		return err
	}
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Nonce", nonce)
	h.Set("Wechatpay-Signature", signature)
	h.Set("Wechatpay-Signature-Type", authScheme)
	h.Set("Wechatpay-Serial", key.serial)
	return nil
}

// probeSignature looks like the platform's test of whether we verify at all.
func probeSignature() string { return "WECHATPAY/SIGNTEST/" + base64Random(240) }

// authorization is the parsed Authorization header of API v3.
type authorization struct{ mchid, nonce, timestamp, serial, signature string }

var authPart = regexp.MustCompile(`^([a-z_]+)="([^"]*)"$`)

// parseAuthorization reads the header; all five parts, each once, in any order.
func parseAuthorization(header string) (authorization, error) {
	var a authorization
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok || scheme != authScheme {
		return a, errors.New("认证类型不是" + authScheme)
	}
	into := map[string]*string{"mchid": &a.mchid, "nonce_str": &a.nonce, "timestamp": &a.timestamp, "serial_no": &a.serial, "signature": &a.signature}
	for part := range strings.SplitSeq(rest, ",") {
		m := authPart.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil || into[m[1]] == nil || m[2] == "" {
			return a, errors.New("格式错误")
		}
		*into[m[1]] = m[2]
		delete(into, m[1])
	}
	if len(into) > 0 {
		return a, errors.New("缺少签名信息")
	}
	return a, nil
}

// authorize verifies who calls API v3. Every refusal is a 401 SIGN_ERROR that says which part is wrong.
func (s *Sim) authorize(r *http.Request, body []byte) *payError {
	a, err := parseAuthorization(r.Header.Get("Authorization"))
	var evidence Evidence // made when somebody asks why
	refuse := func(field, message string, detail map[string]any) *payError {
		evidence = evidenceV3(s.merchant, r, a, body)
		evidence.Expected = s.opts.CertSerial
		if at, err := strconv.ParseInt(a.timestamp, 10, 40); err == nil {
			evidence.ClockMs = time.Unix(at, 0).Sub(s.opts.Now()).Milliseconds()
		}
		if detail == nil {
			detail = map[string]any{}
		}
		detail["location"], detail["field"] = "authorization", field
		evidence.Refused = field
		return &payError{401, "SIGN_ERROR", message, detail, &evidence}
	}
	now := s.opts.Now()
	if err != nil {
		return refuse("authorization", "Http头Authorization"+err.Error(), nil)
	}
	if a.mchid != s.opts.MchID {
		return refuse("mchid", "商户号有误，请核实Http头Authorization中的mchid", nil)
	}
	if !strings.EqualFold(a.serial, s.opts.CertSerial) {
		return refuse("serial_no", "商户证书序列号有误，请使用签名私钥匹配的证书序列号", nil)
	}
	seconds, err := strconv.ParseInt(a.timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > clockSlack {
		return refuse("timestamp", "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟", map[string]any{"server_time": now.Unix()})
	}
	if len(a.nonce) > 32 {
		return refuse("nonce_str", "Http头Authorization中的nonce_str最多32个字符", nil)
	}
	message := lines(r.Method, r.URL.RequestURI(), a.timestamp, a.nonce, string(body))
	if err := verifyRSA(s.merchant, message, a.signature); err != nil {
		return refuse("signature", "签名错误，请检查后再试", map[string]any{
			"issue": "sign not match",
			"sign_information": map[string]any{
				"method": r.Method, "url": r.URL.RequestURI(),
				"truncated_sign_message": clip(message, 256), "sign_message_length": len(message),
			},
		})
	}
	if !s.firstUse(a.nonce, now) {
		return refuse("nonce_str", "Http头Authorization中的nonce_str已被使用", nil)
	}
	return nil
}

// firstUse remembers a nonce for as long as its timestamp could be good.
func (s *Sim) firstUse(nonce string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.nonces[nonce]; used {
		return false
	}
	if len(s.nonces) >= maxNonces {
		for old, at := range s.nonces {
			if now.Sub(at) > 2*clockSlack {
				delete(s.nonces, old)
			}
		}
		if len(s.nonces) >= maxNonces {
			clear(s.nonces)
		}
	}
	s.nonces[nonce] = now
	return true
}
