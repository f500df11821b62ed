package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// fields is one JSON object of a request, read by exact names (encoding/json would accept any case).
// The first fault stays in *bad; reading goes on with zero values.
type fields struct {
	at   string // path of this object, "" for the root
	raw  map[string]json.RawMessage
	bad  *fieldError
	seen bool // the object is there
}

// fieldError says which field broke which rule.
type fieldError struct {
	path    string // /amount/total
	value   string // as sent, cut
	issue   string // in Chinese, as the platform says it
	missing bool
}

func (e *fieldError) Error() string { return e.path + ": " + e.issue }

var errNotObject = errors.New("body is not one JSON object in UTF-8")

// parseFields reads a body that must be exactly one JSON object in UTF-8.
func parseFields(body []byte) (*fields, error) {
	f := &fields{bad: &fieldError{}, seen: true}
	body = bytes.TrimSpace(body)
	if !utf8.Valid(body) || len(body) == 0 || body[0] != '{' {
		return nil, errNotObject
	}
	if err := json.Unmarshal(body, &f.raw); err != nil {
		return nil, errNotObject
	}
	return f, nil
}

// fault returns the first broken rule, or nil.
func (f *fields) fault() *fieldError {
	if f.bad.issue == "" {
		return nil
	}
	return f.bad
}

func (f *fields) has(name string) bool {
	raw, ok := f.raw[name]
	return ok && string(raw) != "null"
}

func (f *fields) refuse(name, issue string) {
	if f.bad.issue != "" {
		return
	}
	value := string(f.raw[name])
	if len(value) > 64 {
		value = strings.ToValidUTF8(value[:64], "") + "…"
	}
	*f.bad = fieldError{path: f.at + "/" + name, value: value, issue: issue, missing: !f.has(name)}
}

// text reads a string of at most limit characters; required also refuses the empty one.
func (f *fields) text(name string, required bool, limit int) string {
	if !f.has(name) {
		if required {
			f.refuse(name, "必填性规则校验失败")
		}
		return ""
	}
	var v string
	if json.Unmarshal(f.raw[name], &v) != nil {
		f.refuse(name, "类型不匹配，应为字符串")
		return ""
	}
	switch {
	case required && v == "":
		f.refuse(name, "必填性规则校验失败")
	case utf8.RuneCountInString(v) > limit:
		f.refuse(name, fmt.Sprintf("长度规则校验失败，最多%d个字符", limit))
	}
	return v
}

// integer reads a JSON number without fraction or exponent, at least low.
func (f *fields) integer(name string, low int64) int64 {
	if !f.has(name) {
		f.refuse(name, "必填性规则校验失败")
		return 0
	}
	var v int64
	if json.Unmarshal(f.raw[name], &v) != nil {
		f.refuse(name, "类型不匹配，应为整数")
		return 0
	}
	if v < low {
		f.refuse(name, fmt.Sprintf("取值范围规则校验失败，最小%d", low))
	}
	return v
}

// truth reads an optional boolean.
func (f *fields) truth(name string) bool {
	var v bool
	if f.has(name) && json.Unmarshal(f.raw[name], &v) != nil {
		f.refuse(name, "类型不匹配，应为布尔值")
	}
	return v
}

// object reads a nested object. A missing optional one has seen == false and no fields.
func (f *fields) object(name string, required bool) *fields {
	sub := &fields{at: f.at + "/" + name, bad: f.bad}
	if !f.has(name) {
		if required {
			f.refuse(name, "必填性规则校验失败")
		}
		return sub
	}
	if json.Unmarshal(f.raw[name], &sub.raw) != nil {
		f.refuse(name, "类型不匹配，应为对象")
		return sub
	}
	sub.seen = true
	return sub
}

// list reads an array of objects, of at least low when it is there or required.
func (f *fields) list(name string, low int) (items []*fields) {
	if !f.has(name) {
		if low > 0 {
			f.refuse(name, "必填性规则校验失败")
		}
		return nil
	}
	var raw []json.RawMessage
	if json.Unmarshal(f.raw[name], &raw) != nil {
		f.refuse(name, "类型不匹配，应为数组")
		return nil
	}
	if len(raw) < low {
		f.refuse(name, "必填性规则校验失败")
	}
	for i, one := range raw {
		sub := &fields{at: fmt.Sprintf("%s/%s/%d", f.at, name, i), bad: f.bad, seen: true}
		if json.Unmarshal(one, &sub.raw) != nil || sub.raw == nil {
			f.refuse(name, "类型不匹配，应为对象的数组")
			return nil
		}
		items = append(items, sub)
	}
	return items
}

// canonical renders a JSON body so that equal parameters give equal text.
func canonical(body []byte) string {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(body)
	}
	return string(toJSON(v))
}

// toJSON renders v as WeChat does: raw UTF-8 and raw < > &, no line end.
func toJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("sim: " + err.Error()) // only our own types come here
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// readBody reads a request or answer of at most limit bytes.
func readBody(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("body is larger than %d bytes", limit)
	}
	return body, nil
}
