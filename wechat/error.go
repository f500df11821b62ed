package wechat

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Values that callers test with errors.Is.
var (
	ErrCodeInvalid = errors.New("wechat: the login code is wrong, used or too old") // 40029, 40163
	ErrUserBlocked = errors.New("wechat: WeChat holds this user for risky")         // 40226
	ErrTooOften    = errors.New("wechat: too often")                                // 45011, 45009, 429
	ErrBusy        = errors.New("wechat: WeChat is away or busy")                   // -1, 5xx, time-outs
	ErrNonsense    = errors.New("wechat: WeChat's answer makes no sense")           // HTML, broken JSON, no openid
	ErrConfig      = errors.New("wechat: the app's settings are refused")           // appid, secret, IP list
	ErrToken       = errors.New("wechat: access token refused")                     // 40001, 40014, 42001 after the one retry
	ErrWindow      = errors.New("wechat: outside the customer-service window")      // 45015, 45047
	ErrOpenID      = errors.New("wechat: openid refused")                           // 40003
	ErrRecipient   = errors.New("wechat: WeChat will not deliver to this person")   // 43004, 70000
	ErrSessionKey  = errors.New("wechat: the session_key is no longer this user's") // 87007, 87009
	ErrMediaID     = errors.New("wechat: this media_id is unknown or too old")      // 40007
	ErrContent     = errors.New("wechat: WeChat holds these words for unfit")       // 45168
	// ErrNotSubscribed: the person did not accept this template, or what they accepted is used up (43101).
	ErrNotSubscribed = errors.New("wechat: the person has not subscribed to this")
	ErrRequest       = errors.New("wechat: request refused") // any other errcode
	ErrSignature     = errors.New("wechat: signature does not fit")
	ErrStale         = errors.New("wechat: timestamp outside the window")
	ErrDecrypt       = errors.New("wechat: cannot decrypt")
	ErrWatermark     = errors.New("wechat: watermark of another app or too old")
	ErrMalformed     = errors.New("wechat: malformed")
	ErrUnsealed      = errors.New("wechat: an unsealed push although a key is set")

	// What WeChat Pay knows about an order. They stand beside ErrRequest, whichever way the word is spelled.
	ErrNoOrder   = errors.New("wechat: WeChat Pay does not know this order") // ORDER_NOT_EXIST
	ErrOrderPaid = errors.New("wechat: this order is paid already")          // ORDER_PAID
	ErrNoRefund  = errors.New("wechat: WeChat Pay does not know this refund")
	// ErrOrderClosed: it needs a new number. ErrOrderNumber: the number was used with other fields, or by
	// somebody else; query it, and take a new one if it is not ours.
	ErrOrderClosed = errors.New("wechat: this order is closed")
	ErrOrderNumber = errors.New("wechat: this order number is used already")
	ErrNoBill      = errors.New("wechat: there is no bill for this day") // nobody paid

	// ErrNotYet is for what WeChat will know soon: an order whose payment was only just told, a bill before
	// ten in the morning.
	ErrNotYet = errors.New("wechat: WeChat does not know this yet")
	// ErrQuota is our own count of what the platform allows, before it would refuse.
	ErrQuota = errors.New("wechat: used up, by our own count")
	// ErrBreaker stands beside ErrBusy when WeChat was not even asked, because the last calls to this
	// endpoint all failed.
	ErrBreaker = errors.New("wechat: not asked, this endpoint has failed too often")

	// ErrProbe stands beside ErrSignature when WeChat Pay sent one of its deliberately wrong
	// signatures to see that we check: refuse it like any other, but raise no alarm.
	ErrProbe = errors.New("wechat: a signature probe of WeChat Pay")
)

// An Error is an answer of WeChat that is not success. Its text holds no secret, token or URL query.
type Error struct {
	Op         string // code2session, custom/send …
	Code       int    // errcode; 0: none
	Word       string // pay: code (v3), err_code (v2)
	Msg        string
	Status     int // HTTP
	RequestID  string
	RetryAfter time.Duration // 0: WeChat did not say, or coming back does not help
	Kind       error         // one of the values above
	Err        error
}

// Error says operation, kind and WeChat's own words, for operators.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("wechat: ")
	b.WriteString(e.Op)
	if e.Kind != nil {
		b.WriteString(": " + strings.TrimPrefix(e.Kind.Error(), "wechat: "))
	}
	var more []string
	if e.Code != 0 {
		more = append(more, "errcode "+strconv.Itoa(e.Code))
	}
	if e.Word != "" {
		more = append(more, "code "+e.Word)
	}
	if e.Status != 0 && e.Status != 200 {
		more = append(more, "HTTP "+strconv.Itoa(e.Status))
	}
	if e.Msg != "" {
		more = append(more, e.Msg)
	}
	if e.RequestID != "" {
		more = append(more, "request "+e.RequestID)
	}
	if len(more) > 0 {
		b.WriteString(" (" + strings.Join(more, ", ") + ")")
	}
	if e.Err != nil {
		b.WriteString(": " + strings.TrimPrefix(e.Err.Error(), "wechat: "))
	}
	return b.String()
}

// Unwrap gives the Kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Kind != nil {
		all = append(all, e.Kind)
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}

// hasCode tells whether err is WeChat's answer with that errcode.
func hasCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// refuse is an error of our own checks: the kind and a reason that holds nothing of the input.
func refuse(kind error, reason string) error { return fmt.Errorf("%w: %s", kind, reason) }

// shippingPause is how long after the notify of a payment the shipping service may not know the order.
const shippingPause = 10 * time.Second

// perMinute is how long the platform's minute quotas make us wait (45011).
const perMinute = time.Minute

// perDay is a guess at when a used-up daily quota (45009) is worth another try.
const perDay = time.Hour

// kindOf is the reaction to an errcode of api.weixin.qq.com. tokenUsed tells the two meanings of 40001
// apart: with a token the token is dead, without one the AppSecret is wrong.
func kindOf(code int, tokenUsed bool) (retryAfter time.Duration, kind error) {
	switch code {
	case -1:
		return time.Second, ErrBusy
	case 40029, 40163:
		return 0, ErrCodeInvalid
	case 40226:
		return 0, ErrUserBlocked
	case 45011:
		return perMinute, ErrTooOften
	case 45009:
		return perDay, ErrTooOften
	case 40001, 40014, 42001:
		if tokenUsed {
			return 0, ErrToken
		}
		return 0, ErrConfig
	case 40013, 40125, 41002, 41004, 40243, // appid or secret wrong, missing, frozen
		40164, 89503, 89506, 89507, 61004, // our address is not on the list, or an admin must confirm
		48001: // this account may not use the API
		return 0, ErrConfig
	case 45015, 45047,
		45080: // typing: nothing was said in the last 30 seconds
		return 0, ErrWindow
	case 44991: // content checks
		return perMinute, ErrTooOften
	case 40007:
		return 0, ErrMediaID
	case 43004, 70000: // does not follow; blocked for the protection of minors
		return 0, ErrRecipient
	case 43101:
		return 0, ErrNotSubscribed
	case 43107: // subscribe messages are switched off for this account
		return 0, ErrConfig
	case 43108: // two messages to one person at once
		return time.Second, ErrTooOften
	case 44990: // a quota by the second
		return time.Second, ErrTooOften
	case 45168:
		return 0, ErrContent
	case 87007, 87009: // absent or expired; signed with another one
		return 0, ErrSessionKey
	case 89300: // not paid, too long ago, or by somebody else
		return 0, ErrNoOrder
	case 10060001:
		return shippingPause, ErrNotYet
	case 40003,
		43104, // the openid is of another app
		61010: // content checks: this user was not here within the last two hours
		return 0, ErrOpenID
	}
	return 0, ErrRequest
}

// plainWord is an error word of WeChat Pay as it is compared: its pages spell words with and without
// underscores.
func plainWord(word string) string { return strings.ReplaceAll(strings.ToUpper(word), "_", "") }

// payFact is what a refusal says about the order, or the refund that op asks for; nil: nothing.
func payFact(op, word string) error {
	switch plainWord(word) {
	case "ORDERPAID":
		return ErrOrderPaid
	case "ORDERCLOSED", "ORDERCLOSE":
		return ErrOrderClosed
	case "OUTTRADENOUSED":
		return ErrOrderNumber
	case "REFUNDNOTEXIST":
		return ErrNoRefund
	case "NOSTATEMENTEXIST", "NOBILLEXIST", "BILLNOTEXIST":
		return ErrNoBill
	case "STATEMENTCREATING", "BILLCREATING":
		return ErrNotYet
	case "ORDERNOTEXIST", "RESOURCENOTEXISTS": // v3 has the second one for both
		if op == opQueryRefund {
			return ErrNoRefund
		}
		return ErrNoOrder
	}
	return nil
}

// payKindOf is the reaction to a word of either version.
func payKindOf(word string, status int) error {
	switch plainWord(word) {
	case "SIGNERROR", "NOAUTH", "APPIDMCHIDNOTMATCH", "MCHNOTEXISTS", "MCHIDNOTEXIST", "APPIDNOTEXIST":
		return ErrConfig
	case "FREQUENCYLIMITED", "FREQUENCYLIMITEXCEED", "RATELIMITEXCEEDED", "INVALIDREQTOOMUCH":
		return ErrTooOften
	case "SYSTEMERROR", "BANKERROR", "BIZERRNEEDRETRY":
		return ErrBusy
	case "OPENIDMISMATCH":
		return ErrOpenID
	case "":
		switch {
		case status == 429:
			return ErrTooOften
		case status >= 500:
			return ErrBusy
		}
		return ErrNonsense
	}
	switch {
	case status == 429:
		return ErrTooOften
	case status == 401:
		return ErrConfig
	}
	return ErrRequest
}

const maxMsg = 200 // runes of WeChat's own words in an error

// queryInMsg is a URL's query, should WeChat or a proxy repeat ours.
var queryInMsg = regexp.MustCompile(`\?[^\s?]*=\S*`)

var requestIDInMsg = regexp.MustCompile(`[,;]?\s*rid:\s*([0-9A-Za-z-]{1,64})`)

// words makes WeChat's own words fit for an error: secrets hidden, control characters gone, short. The
// request id that it appends as "rid: …" comes back on its own.
func words(msg string, hide []string) (clean, requestID string) {
	msg = queryInMsg.ReplaceAllString(scrub(msg, hide), "?"+hidden)
	if m := requestIDInMsg.FindStringSubmatch(msg); m != nil {
		requestID = m[1]
		msg = strings.Replace(msg, m[0], "", 1)
	}
	msg = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(msg, ""))
	if r := []rune(msg); len(r) > maxMsg {
		msg = string(r[:maxMsg]) + "…"
	}
	return strings.TrimSpace(msg), requestID
}

const hidden = "[hidden]"

func scrub(s string, hide []string) string {
	for _, h := range hide {
		if len(h) >= 4 { // a shorter one is no secret, and would eat WeChat's own words
			s = strings.ReplaceAll(s, h, hidden)
		}
	}
	return s
}
