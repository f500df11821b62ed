package wechat

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const pushWindow = 10 * time.Minute // WeChat names no window; its three tries take some 15 seconds

// PushOptions say how an account's pushes are verified.
type PushOptions struct {
	AppID  string        // required with AESKey
	Token  string        // required: an empty token could be forged
	AESKey string        // EncodingAESKey, 43 characters; set: only the sealed part counts
	Window time.Duration // how far the timestamp may be off; 0: 10 minutes
	Now    func() time.Time
}

// String hides the keys.
func (o PushOptions) String() string {
	return fmt.Sprintf("wechat.PushOptions{%s sealed=%t}", o.AppID, o.AESKey != "")
}

// GoString hides the keys.
func (o PushOptions) GoString() string { return o.String() }

// LogValue hides the keys.
func (o PushOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// A Receiver verifies and opens what WeChat pushes, plain or sealed, XML or JSON.
type Receiver struct {
	token  string
	seal   *sealer // nil: plain mode
	window time.Duration
	now    func() time.Time
}

// NewReceiver checks every option and names each that is bad.
func NewReceiver(o PushOptions) (*Receiver, error) {
	r := &Receiver{token: o.Token, window: o.Window, now: clockFor(o.Now)}
	var bad []error
	if o.Token == "" {
		bad = append(bad, errors.New("wechat: Token is missing: without one anybody could forge a push"))
	} else if strings.TrimSpace(o.Token) != o.Token {
		bad = append(bad, errors.New("wechat: Token has space around it"))
	}
	if o.AESKey != "" {
		var err error
		if r.seal, err = newSealer(o.AESKey, o.AppID); err != nil {
			bad = append(bad, err)
		}
		if o.AppID == "" {
			bad = append(bad, errors.New("wechat: AppID is missing: sealed pushes name it"))
		}
	}
	switch {
	case o.Window == 0:
		r.window = pushWindow
	case o.Window < 0:
		bad = append(bad, errors.New("wechat: Window is negative"))
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	return r, nil
}

// String hides the keys.
func (r *Receiver) String() string { return fmt.Sprintf("wechat.Receiver{sealed=%t}", r.seal != nil) }

// GoString hides the keys.
func (r *Receiver) GoString() string { return r.String() }

// LogValue hides the keys.
func (r *Receiver) LogValue() slog.Value { return slog.StringValue(r.String()) }

// CheckURL answers the GET of the URL check: the echostr to send back as it is, as text/plain, or
// ErrSignature. It is plain in every mode, and no window applies: repeating it gives an attacker nothing.
func (r *Receiver) CheckURL(q url.Values) (echostr string, err error) {
	if _, _, err := r.checkQuery(q, "signature"); err != nil {
		return "", err
	}
	echostr, ok := single(q, "echostr")
	if !ok {
		return "", refuse(ErrMalformed, "no echostr")
	}
	return echostr, nil
}

// checkQuery verifies the parameter called name over token, timestamp, nonce and more.
func (r *Receiver) checkQuery(q url.Values, name string, more ...string) (timestamp, nonce string, err error) {
	timestamp, ok1 := single(q, "timestamp")
	nonce, ok2 := single(q, "nonce")
	signature, ok3 := single(q, name)
	if !ok1 || !ok2 || !ok3 {
		return "", "", refuse(ErrSignature, "timestamp, nonce or "+name+" is missing or stands twice")
	}
	if !sameSignature(signature, pushSignature(append([]string{r.token, timestamp, nonce}, more...)...)) {
		return "", "", refuse(ErrSignature, name)
	}
	return timestamp, nonce, nil
}

func single(q url.Values, name string) (string, bool) {
	v := q[name]
	return q.Get(name), len(v) == 1 && v[0] != ""
}

// Open verifies a POST over its raw bytes. Errors: ErrSignature, ErrStale, ErrUnsealed, ErrDecrypt,
// ErrMalformed. With an AESKey only the sealed part and msg_signature count, whatever else stands in
// the body; without one only the plain part does.
func (r *Receiver) Open(q url.Values, body []byte) (*PushMessage, error) {
	if len(body) > maxBody {
		return nil, refuse(ErrMalformed, "longer than 64 KiB")
	}
	if len(q["encrypt_type"]) > 1 {
		return nil, refuse(ErrMalformed, "encrypt_type stands twice")
	}
	sealed := q.Get("encrypt_type") == "aes"
	if r.seal != nil {
		if !sealed {
			return nil, refuse(ErrUnsealed, "encrypt_type is not aes")
		}
		return r.openSealed(q, body)
	}
	timestamp, nonce, err := r.checkQuery(q, "signature")
	if err != nil {
		return nil, err
	}
	if err := r.fresh(timestamp); err != nil {
		return nil, err
	}
	fields, format, err := parsePush(body)
	if err != nil {
		return nil, err
	}
	// In compatible mode the plain fields stand beside Encrypt, and are what plain mode believes anyway.
	if scalar(fields["Encrypt"]) != "" && scalar(fields["MsgType"]) == "" {
		return nil, refuse(ErrDecrypt, "a sealed push, but no AESKey is set")
	}
	m, err := newPushMessage(fields, body)
	if err != nil {
		return nil, err
	}
	m.format, m.nonce, m.openedAt = format, nonce, r.now()
	return m, nil
}

func (r *Receiver) openSealed(q url.Values, body []byte) (*PushMessage, error) {
	envelope, format, err := parsePush(body)
	if err != nil {
		return nil, err
	}
	encrypt, _ := envelope["Encrypt"].(string)
	if encrypt == "" {
		return nil, refuse(ErrUnsealed, "no Encrypt in the body")
	}
	timestamp, nonce, err := r.checkQuery(q, "msg_signature", encrypt)
	if err != nil {
		return nil, err
	}
	if err := r.fresh(timestamp); err != nil {
		return nil, err
	}
	text, err := r.seal.open(encrypt)
	if err != nil {
		return nil, err
	}
	fields, _, err := parsePush(text)
	if err != nil {
		return nil, err
	}
	m, err := newPushMessage(fields, text)
	if err != nil {
		return nil, err
	}
	m.format, m.nonce, m.openedAt, m.sealed = format, nonce, r.now(), true
	return m, nil
}

// fresh holds a verified timestamp against the window, in both directions.
func (r *Receiver) fresh(timestamp string) error {
	at, err := unixSeconds(timestamp)
	if err != nil {
		return err
	}
	if off := r.now().Sub(at).Abs(); off > r.window {
		return refuse(ErrStale, "off by "+off.Round(time.Second).String()+"; is the clock right?")
	}
	return nil
}

// unixSeconds reads digits alone, and no time beyond the year 5000: those are milliseconds.
func unixSeconds(s string) (time.Time, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 || n > 1e11 {
		return time.Time{}, refuse(ErrMalformed, "a timestamp that is not seconds")
	}
	return time.Unix(int64(n), 0), nil
}

type format int

const (
	formatXML format = iota
	formatJSON
)

// parsePush tells the format by the first byte: the Content-Type is not signed, and not always right.
func parsePush(body []byte) (map[string]any, format, error) {
	start := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case bytes.HasPrefix(start, []byte("{")):
		m, err := parseJSON(body)
		return m, formatJSON, err
	case bytes.HasPrefix(start, []byte("<")):
		m, err := parseXML(start)
		return m, formatXML, err
	}
	return nil, 0, refuse(ErrMalformed, "neither JSON nor XML")
}

// Answer is a passive reply's body in the mode and format of the push: "success" and the empty
// answer are never sealed, because WeChat shows users an error for a sealed one. contentType fits it.
// Each call seals anew, so that a repeated push gets the first reply again with its own nonce.
func (r *Receiver) Answer(m *PushMessage, reply []byte) (body []byte, contentType string, err error) {
	if len(reply) == 0 || string(reply) == "success" {
		return reply, "text/plain; charset=utf-8", nil
	}
	contentType = xmlType
	if m.format == formatJSON {
		contentType = "application/json; charset=utf-8"
	}
	if !m.sealed {
		return reply, contentType, nil
	}
	if r.seal == nil {
		return nil, "", errors.New("wechat: answer: the push was sealed, but this receiver has no AESKey")
	}
	body, err = r.sealedAnswer(m, r.seal.seal(reply), r.now().Unix())
	return body, contentType, err
}

func (r *Receiver) sealedAnswer(m *PushMessage, encrypt string, timestamp int64) ([]byte, error) {
	signature := pushSignature(r.token, strconv.FormatInt(timestamp, 10), m.nonce, encrypt)
	if m.format == formatJSON {
		return encode(struct {
			Encrypt      string
			MsgSignature string
			TimeStamp    int64
			Nonce        string
		}{encrypt, signature, timestamp, m.nonce})
	}
	return fmt.Appendf(nil, "<xml><Encrypt>%s</Encrypt><MsgSignature>%s</MsgSignature><TimeStamp>%d</TimeStamp><Nonce>%s</Nonce></xml>",
		cdata(encrypt), cdata(signature), timestamp, cdata(m.nonce)), nil
}

// cdata wraps s for XML, also when it holds the end mark itself.
func cdata(s string) string {
	return "<![CDATA[" + strings.ReplaceAll(s, "]]>", "]]]]><![CDATA[>") + "]]>"
}
