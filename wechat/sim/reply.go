package sim

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// reply is a passive reply after opening; Type is empty for success and the empty answer.
type reply struct {
	Type    string
	Content string
	opened  string // what was inside the seal
}

// readReply judges the body of a 200 answer as WeChat does. Any error is what shows the user the notice.
func (s *Sim) readReply(body []byte, openid string, form pushForm) (reply, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || string(body) == "success" {
		return reply{}, nil
	}
	f, err := flatten(body, form.format)
	if err != nil {
		return reply{}, err
	}
	opened := ""
	switch sealed, ok := f["Encrypt"]; {
	case ok && form.mode == modePlain:
		return reply{}, errors.New("sealed reply in plain mode")
	case !ok && form.mode == modeSafe:
		return reply{}, errors.New("reply in safe mode is not sealed")
	case ok:
		plain, err := s.openReply(f, sealed)
		if err != nil {
			return reply{}, err
		}
		opened = clip(string(plain), 4096)
		if string(bytes.TrimSpace(plain)) == "success" || len(plain) == 0 {
			return reply{opened: opened}, errors.New("success must not be sealed")
		}
		if f, err = flatten(plain, form.format); err != nil {
			return reply{opened: opened}, fmt.Errorf("inside the seal: %w", err)
		}
	}
	rep, err := s.checkReply(f, openid)
	rep.opened = opened
	return rep, err
}

func (s *Sim) openReply(f map[string]string, sealed string) ([]byte, error) {
	if s.box == nil {
		return nil, errors.New("no EncodingAESKey")
	}
	if _, err := strconv.ParseUint(f["TimeStamp"], 10, 63); err != nil || f["Nonce"] == "" {
		return nil, errors.New("TimeStamp or Nonce of the sealed reply is missing")
	}
	if !same(pushSignature(s.opts.PushToken, f["TimeStamp"], f["Nonce"], sealed), f["MsgSignature"]) {
		return nil, errors.New("MsgSignature of the reply does not match")
	}
	return s.box.open(sealed)
}

// checkReply holds a reply to the rules of the passive-reply page.
func (s *Sim) checkReply(f map[string]string, openid string) (reply, error) {
	rep := reply{Type: f["MsgType"], Content: f["Content"]}
	at, err := strconv.ParseInt(f["CreateTime"], 10, 64)
	switch {
	case f["ToUserName"] != openid:
		err = errors.New("ToUserName of the reply is not the user")
	case f["FromUserName"] != s.opts.OriginalID:
		err = errors.New("FromUserName of the reply is not the mini-program")
	case err != nil || at < 1e9 || at > 1e10:
		err = errors.New("CreateTime of the reply is not in seconds")
	case rep.Type == "transfer_customer_service":
		rep.Content = "已为你转接人工客服"
	case rep.Type == "text" && (rep.Content == "" || len(rep.Content) > maxTextBytes):
		err = errors.New("reply has an empty Content or more than 2048 bytes of it")
	case rep.Type == "text":
	case rep.Type == "image" || rep.Type == "voice" || rep.Type == "video" || rep.Type == "music" || rep.Type == "news":
		rep.Content = "[" + rep.Type + "]"
	default:
		err = errors.New("MsgType of the reply is unknown")
	}
	return rep, err
}

// flatten reads the top fields of a reply. A JSON configuration takes both forms, because the
// transfer reply is documented in XML only; an XML one takes XML only.
func flatten(body []byte, format string) (map[string]string, error) {
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] == '<' {
		return flattenXML(body)
	}
	if format == formatXML {
		return nil, errors.New("reply is neither success nor XML")
	}
	return flattenJSON(body)
}

func flattenJSON(body []byte) (map[string]string, error) {
	var raw map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &raw) != nil || raw == nil {
		return nil, errors.New("reply is neither success nor a JSON object")
	}
	f := make(map[string]string, len(raw))
	for name, value := range raw {
		text := string(value)
		if strings.HasPrefix(text, `"`) {
			_ = json.Unmarshal(value, &text) // cannot fail: it is a valid string
			if name == "TimeStamp" || name == "CreateTime" {
				return nil, fmt.Errorf("%s of the reply is not a number", name)
			}
		}
		f[name] = text
	}
	return f, nil
}

const maxReplyDepth = 8

// flattenXML reads <xml><Name>text</Name>…</xml>. DOCTYPE and anything after the root are refused.
func flattenXML(body []byte) (map[string]string, error) {
	dec := xml.NewDecoder(bytes.NewReader(body))
	f := map[string]string{}
	depth, name, done := 0, "", false
	var text strings.Builder
	for {
		token, err := dec.Token()
		if err == io.EOF && done {
			return f, nil
		}
		if err != nil {
			return nil, errors.New("reply is not XML")
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			if done || depth > maxReplyDepth || (depth == 1 && t.Name.Local != "xml") {
				return nil, errors.New("reply is not one <xml> element")
			}
			if depth == 2 {
				name = t.Name.Local
				text.Reset()
			}
		case xml.EndElement:
			depth--
			if depth == 1 {
				f[name] = text.String()
			}
			done = depth == 0
		case xml.CharData:
			if depth == 2 {
				text.Write(t)
			}
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("reply has text beside <xml>")
			}
		case xml.Directive:
			return nil, errors.New("reply has a DOCTYPE")
		}
	}
}
