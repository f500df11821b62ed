package wechat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strings"
	"time"
	"unicode"
)

// maxID bounds names that end up as keys elsewhere; WeChat's have some thirty bytes.
const maxID = 128

// A PushMessage is one message or event. Fields that are absent are empty.
type PushMessage struct {
	ToUserName, FromUserName string
	CreateTime               time.Time
	MsgType                  string // text, image, miniprogrampage, event …
	MsgID                    string // as text: beyond 2^53
	Event, EventKey          string
	Ticket                   string // of the QR code that led to the event
	Latitude, Longitude      string // of a LOCATION event, in degrees
	Precision                string // of both, in meters
	Content, PicURL, MediaID string
	Title, AppID, PagePath   string
	ThumbURL, ThumbMediaID   string
	SessionFrom              string
	Fields                   map[string]any // all of it, as it came: string, json.Number, bool, nil, []any, map[string]any
	Plain                    []byte         // the opened text

	format format // of the push, and so of its answer
	sealed bool
	nonce  string // of the query; the answer repeats it

	openedAt time.Time // by the receiver's clock; the time of a passive reply
}

// LogValue leaves out who wrote what.
func (m *PushMessage) LogValue() slog.Value {
	return slog.GroupValue(slog.String("type", m.MsgType), slog.String("event", m.Event), slog.String("msgId", m.MsgID))
}

// newPushMessage reads the fields that the hub uses, numbers and texts alike. FromUserName and MsgType
// are required, CreateTime (seconds) must make sense where it stands; all else may be missing or new.
func newPushMessage(f map[string]any, plain []byte) (*PushMessage, error) {
	text := func(name string) string { return scalar(f[name]) }
	m := &PushMessage{
		ToUserName: text("ToUserName"), FromUserName: text("FromUserName"),
		MsgType: text("MsgType"), MsgID: strings.TrimSpace(text("MsgId")),
		Event: text("Event"), EventKey: text("EventKey"), Ticket: text("Ticket"),
		Latitude: text("Latitude"), Longitude: text("Longitude"), Precision: text("Precision"),
		Content: text("Content"), PicURL: text("PicUrl"), MediaID: text("MediaId"),
		Title: text("Title"), AppID: text("AppId"), PagePath: text("PagePath"),
		ThumbURL: text("ThumbUrl"), ThumbMediaID: text("ThumbMediaId"),
		SessionFrom: text("SessionFrom"),
		Fields:      f, Plain: plain,
	}
	if m.FromUserName == "" || m.MsgType == "" {
		return nil, refuse(ErrMalformed, "FromUserName or MsgType is missing")
	}
	for _, id := range []string{m.ToUserName, m.FromUserName, m.MsgType, m.MsgID, m.Event} {
		if len(id) > maxID || strings.ContainsFunc(id, unicode.IsControl) {
			return nil, refuse(ErrMalformed, "a name that is too long or has control characters")
		}
	}
	if at := strings.TrimSpace(text("CreateTime")); at != "" {
		var err error
		if m.CreateTime, err = unixSeconds(at); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// SceneKey is the scene of the QR code that led to a subscribe or SCAN event, "" without one; EventKey
// has it behind qrscene_ in the former.
func (m *PushMessage) SceneKey() string { return strings.TrimPrefix(m.EventKey, "qrscene_") }

// ReplyQuota is how many customer-service messages WeChat lets the shop send after this push, and for how long; 0:
// it opens no window. A newer window of the same length takes the place of an older one.
func (m *PushMessage) ReplyQuota() (messages int, within time.Duration) {
	switch m.Typed().(type) {
	case TextMessage, ImageMessage, VoiceMessage, VideoMessage, LocationMessage, LinkMessage, CardMessage:
		return MessageQuota, MessageWindow
	case EnterSession:
		return EnterQuota, EnterWindow
	case Follow, Scan, MenuClick, MenuEvent:
		return DeedQuota, DeedWindow
	}
	return 0, 0
}

// Key is what makes it the same push again: MsgId, else sender, time, event and a discriminator (a hash
// over all fields, because two events of one kind may happen in one second). At most some 600 bytes.
func (m *PushMessage) Key() string {
	if m.MsgID != "" && m.MsgID != "0" {
		return "msg:" + m.ToUserName + ":" + m.MsgID
	}
	all, _ := json.Marshal(m.Fields) // names sorted; only values that came out of a parser
	sum := sha256.Sum256(all)
	return strings.Join([]string{"event", m.ToUserName, m.FromUserName,
		m.CreateTime.UTC().Format("20060102T150405"), m.Event, hex.EncodeToString(sum[:8])}, ":")
}
