package wechat

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const opSubscribe = "subscribe/send"

// A SubscribeMessage is one that a person asked for in a popup: one for each time that they accepted.
type SubscribeMessage struct {
	TemplateID string
	Page       string            // that it opens, with its query; "": none
	State      string            // developer, trial or formal; "": formal
	Lang       string            // zh_CN, en_US, zh_HK or zh_TW; "": zh_CN
	Data       map[string]string // by the template's keys: thing1, amount2 …; see FitField
}

// SendSubscribe sends a subscribe message (cgi-bin/message/subscribe/send). Its values are made to fit first
// (FitField). One person gets one message at a time in this process, because WeChat refuses two at once (43108).
// msgID is what the push SubscribeSent names later; it may be "".
// Errors: *Error, which Is ErrNotSubscribed (nothing is left of what they accepted: count 0), ErrOpenID,
// ErrRecipient, ErrContent, ErrToken, ErrTooOften, ErrBusy, ErrConfig, ErrNonsense or ErrRequest (47003: a value;
// 40037: no such template; 41030: no such page). After ErrBusy the message may have arrived.
func (c *Client) SendSubscribe(ctx context.Context, openID string, m SubscribeMessage) (msgID string, err error) {
	if openID == "" || len(openID) > maxID {
		return "", &Error{Op: opSubscribe, Kind: ErrOpenID, Msg: "no openid, or one far too long"}
	}
	data, err := m.fitted()
	if err != nil {
		return "", err
	}
	done, ok := c.sending.take(ctx, openID)
	if !ok {
		return "", &Error{Op: opSubscribe, Kind: ErrBusy, Err: ctx.Err()}
	}
	defer done()
	var got struct {
		MsgID json.RawMessage `json:"msgid"` // a number beyond 2^53, or a text
	}
	err = c.post(ctx, opSubscribe, "/cgi-bin/message/subscribe/send", struct {
		TemplateID string                       `json:"template_id"`
		Page       string                       `json:"page,omitempty"`
		ToUser     string                       `json:"touser"`
		Data       map[string]map[string]string `json:"data"`
		State      string                       `json:"miniprogram_state"`
		Lang       string                       `json:"lang"`
	}{m.TemplateID, m.Page, openID, data, orElse(m.State, "formal"), orElse(m.Lang, "zh_CN")}, &got, openID)
	if err != nil {
		return "", err
	}
	if json.Unmarshal(got.MsgID, &msgID) != nil && len(got.MsgID) > 0 && got.MsgID[0] >= '0' && got.MsgID[0] <= '9' {
		msgID = string(got.MsgID)
	}
	if len(msgID) > maxID {
		return "", &Error{Op: opSubscribe, Status: http.StatusOK, Kind: ErrNonsense, Msg: "a msgid that is far too long"}
	}
	return msgID, nil
}

var (
	templateID  = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)
	fieldKey    = regexp.MustCompile(`^([a-z_]+?)_?([0-9]{1,4})$`)
	numberValue = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?$`)
	// A symbol of money, up to ten digits before the point and two behind it, and 元 at the end, as WeChat shows it.
	amountValue = regexp.MustCompile(`^\p{Sc}?[0-9]{1,10}(\.[0-9]{1,2})?元?$`)
	phoneValue  = regexp.MustCompile(`^[0-9+()（） -]{1,17}$`)
	timeValue   = regexp.MustCompile(`[0-9]{1,2}[:：][0-9]{2}`)
	dateValue   = regexp.MustCompile(`[0-9]{4}\s*[年./-]\s*[0-9]{1,2}\s*[月./-]\s*[0-9]{1,2}`)
)

// fitted is Data as it is sent. Error: *Error, which Is ErrRequest.
func (m SubscribeMessage) fitted() (map[string]map[string]string, error) {
	complaint := ""
	switch {
	case !templateID.MatchString(m.TemplateID):
		complaint = "the template's id is missing"
	case len(m.Page) > 1024:
		complaint = "the page is longer than 1024 characters"
	case m.State != "" && m.State != "developer" && m.State != "trial" && m.State != "formal":
		complaint = "state must be developer, trial or formal"
	case len(m.Data) == 0:
		complaint = "a message without a value"
	}
	if complaint != "" {
		return nil, complain(opSubscribe, complaint)
	}
	data := make(map[string]map[string]string, len(m.Data))
	for key, value := range m.Data {
		fit, err := FitField(key, value)
		if err != nil {
			return nil, err
		}
		data[key] = map[string]string{"value": fit}
	}
	return data, nil
}

// FitField makes a value fit the rules of its key's kind, counted in characters and not in bytes: thing is cut to 20,
// number, letter, symbol, character_string to 32, 32, 5, 32, name to 10 (20 when it has only letters), phrase to 5 Chinese characters,
// car_number to 8; line ends become spaces. What cannot be cut without becoming another thing (a number, an amount,
// a phone number, a time or date) and a value that is empty are refused: *Error, which Is ErrRequest. An enum's
// value, and that of a kind that is new, is left as it is.
func FitField(key, value string) (string, error) {
	refused := func(why string) (string, error) {
		return "", complain(opSubscribe, "field "+fieldName(key)+": "+why)
	}
	parts := fieldKey.FindStringSubmatch(key)
	if parts == nil {
		return refused("its key must be a kind and a number, like thing1")
	}
	value = oneLine(value)
	if value == "" {
		return refused("it is empty")
	}
	switch parts[1] {
	case "thing":
		return cutRunes(value, 20), nil
	case "character_string":
		value = keepRunes(value, func(r rune) bool { return r < unicode.MaxASCII })
		if value == "" {
			return refused("only letters, digits and symbols may stand in it")
		}
		return cutASCII(value, 32), nil
	case "letter":
		value = keepRunes(value, func(r rune) bool { return r < unicode.MaxASCII && unicode.IsLetter(r) })
		if value == "" {
			return refused("only letters may stand in it")
		}
		return cutASCII(value, 32), nil
	case "symbol":
		return cutRunes(value, 5), nil
	case "number":
		if len(value) > 32 || !numberValue.MatchString(value) {
			return refused("it must be a number of at most 32 digits")
		}
	case "amount":
		if !amountValue.MatchString(value) {
			return refused("it must be an amount of at most ten digits, like ¥12.50")
		}
	case "phone_number":
		if !phoneValue.MatchString(value) {
			return refused("it must be a phone number of at most 17 digits and signs")
		}
	case "car_number":
		return cutRunes(value, 8), nil
	case "name":
		if strings.ContainsFunc(value, func(r rune) bool { return r > unicode.MaxASCII }) {
			return cutRunes(value, 10), nil
		}
		return cutASCII(value, 20), nil
	case "phrase":
		value = keepRunes(value, func(r rune) bool { return unicode.Is(unicode.Han, r) })
		if value == "" {
			return refused("only Chinese characters may stand in it")
		}
		return cutRunes(value, 5), nil
	case "time":
		if !timeValue.MatchString(value) && !dateValue.MatchString(value) {
			return refused("it must be a time, like 15:04 or 2026-01-02 15:04")
		}
	case "date":
		if !dateValue.MatchString(value) {
			return refused("it must be a date, like 2026-01-02")
		}
	}
	return value, nil
}

// FieldTime is a time as the kinds time and date take it, in Beijing's.
func FieldTime(at time.Time) string { return at.In(beijing).Format("2006-01-02 15:04") }

// FieldAmount is an amount as the kind amount takes it.
func FieldAmount(fen int64) string {
	return "¥" + strconv.FormatInt(fen/100, 10) + "." + strconv.FormatInt(fen%100+100, 10)[1:]
}

// keepRunes leaves out what ok refuses.
func keepRunes(s string, ok func(rune) bool) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return -1
	}, s))
}

// cutASCII shortens a text of ASCII alone, which has no room for "…".
func cutASCII(s string, n int) string { return s[:min(len(s), n)] }

// fieldName is a key as it may stand in an error.
func fieldName(key string) string {
	clean, _ := words(key, nil)
	return cutRunes(clean, 40)
}

// oneLine makes every run of white space one space, and leaves out what cannot be shown.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// cutRunes shortens s to n characters, the last of them "…" where something was cut off and n leaves room for it.
func cutRunes(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	if n > 8 {
		return string(r[:n-1]) + "…"
	}
	return string(r[:n])
}
