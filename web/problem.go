package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/wechat"
)

// An Error is an answer that is no success. The user sees Code and a sentence; the log sees Err.
type Error struct {
	Status     int
	Code       string        // a stable word with a section in the documents
	Message    string        // what exactly, for a developer; may be empty. Never a value that was sent to us
	RetryAfter time.Duration // when to come back; 0: not said
	Err        error         // for the log only

	sentence string // Message for the reader, in the reader's language
}

func (e *Error) Error() string {
	text := e.Code
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// GetStatus is for huma.
func (e *Error) GetStatus() int { return e.Status }

// GetHeaders is for huma.
func (e *Error) GetHeaders() http.Header {
	h := http.Header{}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)) // not a moment too early
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

// MarshalJSON is the failure form of the envelope.
func (e *Error) MarshalJSON() ([]byte, error) {
	sentence := e.sentence
	if sentence == "" {
		sentence = e.say("zh")
	}
	return json.Marshal(struct {
		Code    int    `json:"code"`
		Data    any    `json:"data"`
		Message string `json:"message"`
		Error   string `json:"error"`
	}{0, nil, sentence, e.Code})
}

// Schema is for huma's document: what MarshalJSON writes.
func (*Error) Schema(huma.Registry) *huma.Schema {
	words := make([]any, 0, len(sentences))
	for _, word := range slices.Sorted(maps.Keys(sentences)) {
		words = append(words, word)
	}
	return &huma.Schema{
		Type: huma.TypeObject, Description: "What a request that failed is answered",
		Required: []string{"code", "data", "message", "error"},
		Properties: map[string]*huma.Schema{
			"code":    {Type: huma.TypeInteger, Enum: []any{0}},
			"data":    {Type: "null"},
			"message": {Type: huma.TypeString, Description: "for a person, in the language of Accept-Language: zh or en"},
			"error":   {Type: huma.TypeString, Description: "for programs; /docs/errors/{word} explains it", Enum: words},
		},
	}
}

// sentences say each word to a person: what it means and what to do next, in Chinese and English.
var sentences = map[string][2]string{
	"bad_request":        {"请求内容有误，请检查后再试", "The request makes no sense; check it and try again"},
	"unauthorized":       {"请先登录", "Log in first"},
	"bad_token":          {"登录状态无效，请重新登录", "This token is not valid; log in again"},
	"token_expired":      {"登录已过期，请重新登录", "The token has expired; log in again"},
	"forbidden":          {"没有权限", "You may not do this"},
	"forbidden_origin":   {"不允许的来源网站", "This web site may not connect; add its origin to WXHUB_ALLOWED_ORIGINS"},
	"blocked":            {"该账号已被限制使用", "This account is blocked"},
	"not_found":          {"没有找到", "There is no such thing"},
	"unknown_product":    {"没有这个商品", "The shop has no such product"},
	"method_not_allowed": {"不支持的请求方法", "This method is not served here"},
	"conflict":           {"与已有内容冲突", "It contradicts what there is"},
	"order_paid":         {"订单已支付", "This order has been paid"},
	"order_unpaid":       {"订单还没有支付", "This order has not been paid"},
	"refund_too_much":    {"退款金额超过了可退金额", "This is more than what is left to give back"},
	"refund_refused":     {"微信支付没有接受这笔退款", "WeChat Pay does not take this refund"},
	"order_closed":       {"订单已关闭，请重新下单", "This order is closed; make a new one"},
	"too_large":          {"内容太大", "The body is too large"},
	"too_many":           {"操作太频繁，请稍后再试", "Too often; wait a moment and try again"},
	"invalid_code":       {"登录凭证无效或已使用，请重新登录", "The login code is wrong or used; call wx.login again"},
	"bad_signature":      {"用户信息签名不符，请重新登录", "The signature of rawData does not fit; log in again"},
	"bad_data":           {"加密数据无法解密，请重新登录后再试", "encryptedData cannot be opened; log in again and retry"},
	"wechat_busy":        {"微信暂时没有响应，请稍后再试", "WeChat does not answer at the moment; try again soon"},
	"wechat_nonsense":    {"微信返回了无法理解的内容，请稍后再试", "WeChat's answer makes no sense; try again later"},
	"wechat_config":      {"商家的微信配置有误，请联系商家", "WeChat refuses the shop's settings; tell the shop"},
	"bad_login":          {"用户名或密码不对", "The user name or the password is wrong"},
	"pay_refused":        {"微信支付没有接受这笔订单", "WeChat Pay does not take this order"},
	"risky_content":      {"内容可能违规，请换个说法", "This may not be shown to others; say it in other words"},
	"not_configured":     {"该功能尚未配置", "This part is not set up; see the settings in the documents"},
	"unavailable":        {"服务暂时不可用，请稍后再试", "Not just now; try again soon"},
	"internal":           {"服务器出错了，请稍后再试", "Our fault; try again later"},
}

// say puts e into words.
func (e *Error) say(lang string) string {
	both, known := sentences[e.Code]
	sentence := both[1]
	if lang == "zh" {
		sentence = both[0]
	}
	switch {
	case !known || sentence == "":
		return e.Message
	case e.Message == "" || e.Code != "bad_request" && e.Code != "conflict" && e.Code != "too_large":
		return sentence
	case lang == "zh":
		return sentence + "（" + e.Message + "）"
	}
	return sentence + " (" + e.Message + ")"
}

func badRequest(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "bad_request", Message: message}
}

func tooMany(wait time.Duration) *Error {
	return &Error{Status: http.StatusTooManyRequests, Code: "too_many", RetryAfter: wait}
}

var (
	errUnauthorized  = &Error{Status: http.StatusUnauthorized, Code: "unauthorized"}
	errForbidden     = &Error{Status: http.StatusForbidden, Code: "forbidden"}
	errBlocked       = &Error{Status: http.StatusForbidden, Code: "blocked"}
	errNotConfigured = &Error{Status: http.StatusServiceUnavailable, Code: "not_configured"}
)

// wechatError says what WeChat's refusal means for the person who asked.
func wechatError(err error) error {
	e := &Error{Err: err}
	var answer *wechat.Error
	if errors.As(err, &answer) {
		e.RetryAfter = answer.RetryAfter
	}
	switch {
	case errors.Is(err, wechat.ErrCodeInvalid):
		e.Status, e.Code = http.StatusUnauthorized, "invalid_code"
	case errors.Is(err, wechat.ErrUserBlocked):
		e.Status, e.Code = http.StatusForbidden, "blocked"
	case errors.Is(err, wechat.ErrTooOften):
		e.Status, e.Code = http.StatusTooManyRequests, "too_many"
		e.RetryAfter = max(e.RetryAfter, time.Second)
	case errors.Is(err, wechat.ErrConfig):
		e.Status, e.Code = http.StatusInternalServerError, "wechat_config"
	case errors.Is(err, wechat.ErrBusy), errors.Is(err, wechat.ErrToken):
		e.Status, e.Code = http.StatusServiceUnavailable, "wechat_busy"
		e.RetryAfter = max(e.RetryAfter, 2*time.Second)
	case errors.Is(err, wechat.ErrNonsense), errors.Is(err, wechat.ErrSignature), errors.Is(err, wechat.ErrStale),
		errors.Is(err, wechat.ErrMalformed), errors.Is(err, wechat.ErrRequest):
		e.Status, e.Code = http.StatusBadGateway, "wechat_nonsense"
	default:
		e.Status, e.Code = http.StatusInternalServerError, "internal"
	}
	return e
}

// problem makes any error an Error in the reader's language, and logs what an operator must know.
func (s *Server) problem(q *request, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		own := *e // the values above are shared
		e = &own
	} else {
		e = &Error{Status: http.StatusInternalServerError, Code: "internal", Err: err}
		switch {
		case errors.Is(err, store.ErrInvalid):
			e = &Error{Status: http.StatusBadRequest, Code: "bad_request", Err: err}
		case errors.Is(err, store.ErrAway), errors.Is(err, hub.ErrAway): // readiness and the log tell of it
			e = &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: time.Second, Err: err}
		}
	}
	e.sentence = e.say(q.language)
	switch {
	case q.context.Err() != nil: // who asked is gone; that is no fault of ours
		s.log.DebugContext(q.context, "request abandoned", "request", q.id, "route", q.route(), "error", e.Code, "err", e.Err)
	case e.Status >= 500 && e.Code != "not_configured" && e.Code != "unavailable":
		level := slog.LevelError
		if e.Code == "wechat_busy" {
			level = slog.LevelWarn
		}
		s.log.Log(q.context, level, "request failed", "request", q.id, "route", q.route(), "error", e.Code, "err", err)
	case e.Err != nil:
		s.log.DebugContext(q.context, "request refused", "request", q.id, "route", q.route(), "error", e.Code, "err", err)
	}
	return e
}

// fail answers outside of huma's handlers.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := s.problem(requestOf(r.Context()), err)
	for name, values := range e.GetHeaders() {
		w.Header()[name] = values
	}
	body, merr := json.Marshal(e)
	if merr != nil { // strings alone always marshal
		body = []byte(`{"code":0,"data":null,"message":"","error":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(e.Status)
	_, _ = w.Write(body)
}

// huma makes its own refusals (validation, size, media type) by this package-wide function. It never echoes a
// value: that may be a secret put into the wrong field.
func init() {
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		e := &Error{Status: status, Code: "bad_request", Message: message}
		switch {
		case status == http.StatusRequestEntityTooLarge:
			e.Code, e.Message = "too_large", ""
		case status == http.StatusUnsupportedMediaType:
			e.Message, errs = "Content-Type must be application/json", nil
		case status == http.StatusUnprocessableEntity:
			e.Status, e.Message = http.StatusBadRequest, ""
		case status >= 500:
			e.Code, e.Message, e.Err = "internal", "", fmt.Errorf("huma: %s: %w", message, errors.Join(errs...))
		}
		if status < 500 {
			var details []string
			for _, err := range errs {
				var d *huma.ErrorDetail
				if errors.As(err, &d) {
					details = append(details, strings.TrimSpace(strings.TrimPrefix(d.Location, "body.")+" "+d.Message))
				} else if !strings.Contains(message, "marshal") { // a JSON error quotes the body
					details = append(details, err.Error())
				}
				if len(details) == 3 {
					break
				}
			}
			if len(details) > 0 {
				e.Message = strings.Join(details, "; ")
			}
		}
		if ctx != nil {
			if q := requestOf(ctx.Context()); q.server != nil {
				return q.server.problem(q, e)
			}
		}
		return e
	}
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return huma.NewErrorWithContext(nil, status, message, errs...)
	}
}
