package sim

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pushField is one field beyond those that every push has; value is a string, an int64, a json.Number,
// []pushField (an object), [][]pushField (a list) or a pushList.
type pushField struct {
	name  string
	value any
}

// pushList is the List of subscribe events: in JSON an object when it has one item and an array when
// it has more, in XML repeated elements below one of the event's name.
type pushList struct {
	below string
	items [][]pushField
}

// json renders fields as the members of an object.
func (p pushed) json() []byte {
	all := p.all()
	if p.textTime {
		all[2].value = strconv.FormatInt(p.at.Unix(), 10)
	}
	return appendJSON(nil, all)
}

func appendJSON(b []byte, fields []pushField) []byte {
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, f.name), ':')
		switch v := f.value.(type) {
		case []pushField:
			b = appendJSON(b, v)
		case [][]pushField:
			b = appendItems(b, v)
		case pushList:
			if len(v.items) == 1 {
				b = appendJSON(b, v.items[0])
			} else {
				b = appendItems(b, v.items)
			}
		default:
			b = append(b, toJSON(v)...)
		}
	}
	return append(b, '}')
}

func appendItems(b []byte, items [][]pushField) []byte {
	b = append(b, '[')
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, item)
	}
	return append(b, ']')
}

func appendXML(b []byte, fields []pushField) []byte {
	element := func(name string, content []byte) {
		b = fmt.Appendf(b, "<%s>%s</%s>", name, content, name)
	}
	for _, f := range fields {
		switch v := f.value.(type) {
		case []pushField:
			element(f.name, appendXML(nil, v))
		case [][]pushField:
			for _, item := range v {
				element(f.name, appendXML(nil, item))
			}
		case pushList:
			var inner []byte
			for _, item := range v.items {
				inner = fmt.Appendf(inner, "<%s>%s</%s>", f.name, appendXML(nil, item), f.name)
			}
			element(v.below, inner)
		case string:
			element(f.name, []byte(cdata(v)))
		default:
			element(f.name, fmt.Append(nil, v))
		}
	}
	return b
}

// cdata wraps text for XML; what XML cannot hold becomes U+FFFD.
func cdata(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || (r >= 0x20 && r != 0xFFFE && r != 0xFFFF) {
			return r
		}
		return utf8.RuneError
	}, text)
	return "<![CDATA[" + strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") + "]]>"
}
