package wechat

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// noReply is the answer that says nothing to the user. An empty reply would show them an error.
var noReply = []byte("success")

// An Article is a card in a passive reply.
type Article struct {
	Title, Description, PicURL, URL string
}

const (
	maxReplyText = 2048 // bytes of a passive text
	maxArticles  = 8    // after an event; one after a message
)

// TextReply is a passive reply for Receiver.Answer: a text to whoever sent m, in m's format. What XML
// cannot hold is left out, and what is beyond 2048 bytes; nothing at all is "success".
func (m *PushMessage) TextReply(content string) []byte {
	content = cut(xmlText(content), maxReplyText)
	if content == "" {
		return noReply
	}
	return m.reply("text", field{"Content", content})
}

// ImageReply answers with a picture that was uploaded before.
func (m *PushMessage) ImageReply(mediaID string) []byte {
	if mediaID == "" {
		return noReply
	}
	return m.reply("image", field{"Image", fields{{"MediaId", mediaID}}})
}

// VoiceReply answers with a recording that was uploaded before.
func (m *PushMessage) VoiceReply(mediaID string) []byte {
	if mediaID == "" {
		return noReply
	}
	return m.reply("voice", field{"Voice", fields{{"MediaId", mediaID}}})
}

// VideoReply answers with a video that was uploaded before; title and description may be empty.
func (m *PushMessage) VideoReply(mediaID, title, description string) []byte {
	if mediaID == "" {
		return noReply
	}
	return m.reply("video", field{"Video", fields{{"MediaId", mediaID}, {"Title", title}, {"Description", description}}})
}

// Music is a song on a web server. ThumbMediaID is a picture that was uploaded before, and required.
type Music struct {
	Title, Description string
	URL, HQURL         string // HQURL: of better quality, played over WLAN
	ThumbMediaID       string
}

// MusicReply answers with a song.
func (m *PushMessage) MusicReply(song Music) []byte {
	if song.ThumbMediaID == "" {
		return noReply
	}
	return m.reply("music", field{"Music", fields{
		{"Title", song.Title}, {"Description", song.Description}, {"MusicUrl", song.URL},
		{"HQMusicUrl", orElse(song.HQURL, song.URL)}, {"ThumbMediaId", song.ThumbMediaID},
	}})
}

// NewsReply answers with cards: to an event at most eight, to a message one (WeChat takes no more); those
// beyond are left out.
func (m *PushMessage) NewsReply(articles []Article) []byte {
	most := 1
	if m.MsgType == "event" {
		most = maxArticles
	}
	articles = articles[:min(len(articles), most)]
	if len(articles) == 0 {
		return noReply
	}
	var items []fields
	for _, a := range articles {
		items = append(items, fields{{"Title", a.Title}, {"Description", a.Description}, {"PicUrl", a.PicURL}, {"Url", a.URL}})
	}
	return m.reply("news", field{"ArticleCount", len(items)}, field{"Articles", items})
}

// TransferReply hands the user's message to the people at WeChat's own customer-service console, account
// "": to any of them. Only a message can be handed over: for an event it is "success".
func (m *PushMessage) TransferReply(account string) []byte {
	if m.MsgType == "event" {
		return noReply
	}
	if account == "" {
		return m.reply("transfer_customer_service")
	}
	return m.reply("transfer_customer_service", field{"TransInfo", fields{{"KfAccount", account}}})
}

// fields keep their order, in XML and in JSON.
type fields []field

type field struct {
	name  string
	value any // string, int, int64, fields or []fields
}

// reply writes the four fields of every reply, to and from changed over, and more behind them.
func (m *PushMessage) reply(kind string, more ...field) []byte {
	at := m.openedAt
	if at.IsZero() { // a message that no Receiver opened
		at = m.CreateTime
	}
	all := append(fields{
		{"ToUserName", m.FromUserName}, {"FromUserName", m.ToUserName},
		{"CreateTime", at.Unix()}, {"MsgType", kind},
	}, more...)
	var b strings.Builder
	if m.format == formatJSON {
		all.json(&b)
	} else {
		b.WriteString("<xml>")
		all.xml(&b)
		b.WriteString("</xml>")
	}
	return []byte(b.String())
}

func (f fields) xml(b *strings.Builder) {
	for _, one := range f {
		b.WriteString("<" + one.name + ">")
		switch v := one.value.(type) {
		case string:
			b.WriteString(cdata(xmlText(v)))
		case fields:
			v.xml(b)
		case []fields:
			for _, item := range v {
				b.WriteString("<item>")
				item.xml(b)
				b.WriteString("</item>")
			}
		default:
			fmt.Fprint(b, v)
		}
		b.WriteString("</" + one.name + ">")
	}
}

func (f fields) json(b *strings.Builder) {
	b.WriteByte('{')
	for i, one := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q:", one.name)
		switch v := one.value.(type) {
		case fields:
			v.json(b)
		case []fields:
			b.WriteByte('[')
			for j, item := range v {
				if j > 0 {
					b.WriteByte(',')
				}
				item.json(b)
			}
			b.WriteByte(']')
		default:
			text, _ := encode(v) // a string or a number
			b.Write(text)
		}
	}
	b.WriteByte('}')
}

// xmlText leaves out what no XML text can hold.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r >= 0x20 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd, r >= 0x10000:
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, ""))
}

// cut shortens s to n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
