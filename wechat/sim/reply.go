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

// Reply is a passive reply after opening.
type Reply struct {
	Type     string    `json:"type"`
	Content  string    `json:"content,omitempty"` // what the chat shows
	MediaID  string    `json:"mediaId,omitempty"` // image, voice, video
	Articles []Article `json:"articles,omitempty"`
	Agent    string    `json:"agent,omitempty"` // transfer_customer_service: to this one
}

// Article is one part of a news reply.
type Article struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	PicURL      string `json:"picUrl"`
	URL         string `json:"url"`
}

const (
	replyTransfer = "transfer_customer_service"
	maxArticles   = 8
)

// readReply judges the body of a 200 answer as WeChat does. Any error is what shows the user the
// notice. The reply is nil for success and the empty answer; opened is what was inside a seal.
func (p pushed) readReply(body []byte, form pushForm) (rep *Reply, opened string, err error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || string(body) == "success" {
		return nil, "", nil
	}
	f, err := flatten(body, form.format)
	if err != nil {
		return nil, "", err
	}
	switch sealed, ok := f["Encrypt"]; {
	case ok && form.mode == modePlain:
		return nil, "", errors.New("sealed reply in plain mode")
	case !ok && form.mode == modeSafe && f["ErrCode"] == "":
		return nil, "", errors.New("reply in safe mode is not sealed")
	case ok:
		plain, err := p.to.openReply(f, sealed)
		if err != nil {
			return nil, "", err
		}
		opened = clip(string(plain), 4096)
		if string(bytes.TrimSpace(plain)) == "success" || len(plain) == 0 {
			return nil, opened, errors.New("success must not be sealed")
		}
		if f, err = flatten(plain, form.format); err != nil {
			return nil, opened, fmt.Errorf("inside the seal: %w", err)
		}
	}
	if code, ok := f["ErrCode"]; ok && strings.HasPrefix(p.label(), "xpay_") {
		if code != "0" {
			return nil, opened, errors.New("the shop answered ErrCode " + clip(code, 32))
		}
		return nil, opened, nil
	}
	rep, err = p.checkReply(f)
	return rep, opened, err
}

func (a *account) openReply(f map[string]string, sealed string) ([]byte, error) {
	if a.box == nil {
		return nil, errors.New("no EncodingAESKey")
	}
	if _, err := strconv.ParseUint(f["TimeStamp"], 10, 63); err != nil || f["Nonce"] == "" {
		return nil, errors.New("TimeStamp or Nonce of the sealed reply is missing")
	}
	if !same(pushSignature(a.pushToken, f["TimeStamp"], f["Nonce"], sealed), f["MsgSignature"]) {
		wrong := &replySignatureError{evidencePush("reply", a.pushToken, f["MsgSignature"], []byte(sealed), f["TimeStamp"], f["Nonce"], sealed)}
		wrong.evidence.Refused = "MsgSignature"
		return nil, wrong
	}
	return a.box.open(sealed)
}

// replySignatureError says that a sealed reply was not signed as it must be, and why.
type replySignatureError struct{ evidence Evidence }

func (e *replySignatureError) Error() string { return "MsgSignature of the reply does not match" }

// checkReply holds a reply to the rules of the passive-reply page.
func (p pushed) checkReply(f map[string]string) (*Reply, error) {
	rep := &Reply{Type: f["MsgType"], Content: f["Content"]}
	at, err := strconv.ParseInt(f["CreateTime"], 10, 64)
	switch {
	case f["ToUserName"] != p.openid:
		return nil, errors.New("ToUserName of the reply is not the user")
	case f["FromUserName"] != p.to.originalID:
		return nil, errors.New("FromUserName of the reply is not the account")
	case err != nil || at < 1e9 || at > 1e10:
		return nil, errors.New("CreateTime of the reply is not in seconds")
	}
	switch rep.Type {
	case replyTransfer:
		if p.kind == "event" {
			return nil, errors.New("an event cannot be handed to an agent, only a message")
		}
		rep.Content, rep.Agent = "已为你转接人工客服", f["TransInfo.KfAccount"]
	case "text":
		if rep.Content == "" || len(rep.Content) > maxTextBytes {
			return nil, errors.New("reply has an empty Content or more than 2048 bytes of it")
		}
	case "image", "voice", "video":
		rep.MediaID = f[strings.ToUpper(rep.Type[:1])+rep.Type[1:]+".MediaId"]
		if rep.MediaID == "" {
			return nil, errors.New("reply has no MediaId")
		}
		rep.Content = "[" + rep.Type + "]"
	case "music":
		rep.Content = "[music]"
	case "news":
		rep.Articles = articles(f)
		if n := len(rep.Articles); n == 0 || n > maxArticles || f["ArticleCount"] != strconv.Itoa(n) || rep.Articles[0].Title == "" {
			return nil, errors.New("reply has no articles with a Title, or ArticleCount is not their number")
		}
		rep.Content = "[news]"
	default:
		return nil, errors.New("MsgType of the reply is unknown")
	}
	return rep, nil
}

// articles reads the parts of a news reply; JSON may leave the level of item out.
func articles(f map[string]string) (list []Article) {
	for i := 0; i <= maxArticles; i++ {
		for _, at := range []string{fmt.Sprintf("Articles.item.%d.", i), fmt.Sprintf("Articles.%d.", i)} {
			a := Article{f[at+"Title"], f[at+"Description"], f[at+"PicUrl"], f[at+"Url"]}
			if a != (Article{}) {
				list = append(list, a)
				break
			}
		}
	}
	return list
}

// flatten reads the fields of a reply, nested ones by paths such as Image.MediaId and
// Articles.item.0.Title. A JSON configuration takes both forms, because the transfer reply is
// documented in XML only; an XML one takes XML only.
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
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var raw map[string]any
	if !utf8.Valid(body) || dec.Decode(&raw) != nil || raw == nil || dec.More() {
		return nil, errors.New("reply is neither success nor a JSON object")
	}
	for _, name := range []string{"TimeStamp", "CreateTime"} {
		if _, isText := raw[name].(string); isText {
			return nil, fmt.Errorf("%s of the reply is not a number", name)
		}
	}
	f := map[string]string{}
	return f, flattenValue(f, "", raw, 0)
}

func flattenValue(into map[string]string, path string, v any, depth int) error {
	if depth > maxReplyDepth {
		return errors.New("reply is nested too deeply")
	}
	below := func(name string, v any) error {
		if path != "" {
			name = path + "." + name
		}
		return flattenValue(into, name, v, depth+1)
	}
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if err := below(name, value); err != nil {
				return err
			}
		}
	case []any:
		for i, value := range v {
			if err := below(strconv.Itoa(i), value); err != nil {
				return err
			}
		}
	case nil:
	default:
		into[path] = fmt.Sprint(v)
	}
	return nil
}

const maxReplyDepth = 8

// flattenXML reads <xml><Name>text</Name>…</xml>; item elements are numbered. DOCTYPE, a second
// element of the same name and anything after the root are refused.
func flattenXML(body []byte) (map[string]string, error) {
	dec := xml.NewDecoder(bytes.NewReader(body))
	f := map[string]string{}
	var path []string // of the open elements below the root
	items := map[string]int{}
	depth, leaf, done := 0, false, false
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
			if depth > 1 {
				name := t.Name.Local
				if name == "item" {
					parent := strings.Join(path, ".")
					name += "." + strconv.Itoa(items[parent])
					items[parent]++
				}
				path = append(path, name)
				leaf = true
				text.Reset()
			}
		case xml.EndElement:
			depth--
			done = depth == 0
			if done {
				continue
			}
			name := strings.Join(path, ".")
			path = path[:len(path)-1]
			if _, twice := f[name]; twice {
				return nil, errors.New("reply has an element twice")
			}
			if leaf {
				f[name] = text.String()
			}
			leaf = false
		case xml.CharData:
			if leaf {
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
