package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wxhub/store"
)

// words are a text with places that a letter fills: {description} is a field of its payload, {order.total|yuan} one
// within a field, in a form; {@at}, {@action} and {@id} are the letter's own. {{ and }} are the brackets themselves.
type words []word

type word struct {
	text string
	path []string // nil: text as it is
	form string
}

// wordForms say what a number is. yuan: fen as 12.80; time and date: milliseconds, as the platform's fields want them.
var wordForms = map[string]func(n int64, zone *time.Location) string{
	"yuan": func(n int64, _ *time.Location) string {
		sign := ""
		if n < 0 {
			sign, n = "-", -n
		}
		return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
	},
	"time": func(n int64, zone *time.Location) string {
		return time.UnixMilli(n).In(zone).Format("2006年01月02日 15:04")
	},
	"date": func(n int64, zone *time.Location) string {
		return time.UnixMilli(n).In(zone).Format("2006年01月02日")
	},
}

const maxWords = 4 << 10 // bytes of one text

var wordPath = regexp.MustCompile(`^@?[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$`)

// parseWords reads a text. Its errors say where, and never repeat what was sent.
func parseWords(text string) (words, error) {
	if len(text) > maxWords {
		return nil, fmt.Errorf("is longer than %d bytes", maxWords)
	}
	var all words
	var plain strings.Builder
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			plain.WriteString(rest)
			break
		}
		plain.WriteString(rest[:i])
		if strings.HasPrefix(rest[i:], "{{") || strings.HasPrefix(rest[i:], "}}") {
			plain.WriteByte(rest[i])
			rest = rest[i+2:]
			continue
		}
		end := strings.IndexByte(rest[i:], '}')
		if rest[i] == '}' || end < 0 {
			return nil, fmt.Errorf("has a %c at byte %d that belongs to nothing; write it twice to mean itself", rest[i], len(text)-len(rest)+i)
		}
		path, form, formed := strings.Cut(rest[i+1:i+end], "|")
		switch {
		case !wordPath.MatchString(path) || strings.HasPrefix(path, "@") && path != "@at" && path != "@action" && path != "@id":
			return nil, fmt.Errorf("names no field between the brackets at byte %d", len(text)-len(rest)+i)
		case formed && wordForms[form] == nil:
			return nil, fmt.Errorf("has an unknown form in the brackets at byte %d: there are yuan, time and date", len(text)-len(rest)+i)
		}
		if plain.Len() > 0 {
			all = append(all, word{text: plain.String()})
			plain.Reset()
		}
		all = append(all, word{path: strings.Split(path, "."), form: form})
		rest = rest[i+end+1:]
	}
	if plain.Len() > 0 {
		all = append(all, word{text: plain.String()})
	}
	return all, nil
}

// say fills in a letter. A field that it does not have is left out.
func (w words) say(l letterValues) string {
	var b strings.Builder
	for _, one := range w {
		if one.path == nil {
			b.WriteString(one.text)
		} else {
			b.WriteString(l.text(one.path, one.form))
		}
	}
	return b.String()
}

// letterValues are what the places of words are filled with.
type letterValues struct {
	payload any
	own     map[string]string
	zone    *time.Location
}

func valuesOf(l store.Letter, zone *time.Location) letterValues {
	v := letterValues{zone: zone, own: map[string]string{
		"@at": strconv.FormatInt(l.At.UnixMilli(), 10), "@action": l.Action, "@id": l.ID,
	}}
	d := json.NewDecoder(bytes.NewReader(l.Payload))
	d.UseNumber()
	_ = d.Decode(&v.payload) // what is no JSON has no fields
	return v
}

func (l letterValues) text(path []string, form string) string {
	if own, ok := l.own[path[0]]; ok {
		return inForm(own, form, l.zone)
	}
	value := l.payload
	for _, name := range path {
		fields, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = fields[name]
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return inForm(v, form, l.zone)
	case json.Number:
		return inForm(v.String(), form, l.zone)
	default:
		text, _ := json.Marshal(v)
		return string(text)
	}
}

func inForm(text, form string, zone *time.Location) string {
	n, err := strconv.ParseInt(text, 10, 64)
	if form == "" || err != nil {
		return text
	}
	return wordForms[form](n, zone)
}
