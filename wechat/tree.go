package wechat

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxBody  = 64 << 10 // bytes of a push or notify
	maxDepth = 8        // of nested objects, lists or elements
	// maxElements bounds the work for an XML body whose signature cannot be checked before it is read (a
	// sealed one). Pushes have some ten elements, the longest with lists not a hundred.
	maxElements = 1000
)

// parseJSON reads one object strictly: valid UTF-8, no name twice in an object, at most maxDepth deep,
// nothing behind it. Numbers stay json.Number, so that none loses a digit. Error: ErrMalformed.
func parseJSON(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, refuse(ErrMalformed, "not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := jsonValue(d, 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, refuse(ErrMalformed, "not a JSON object")
	}
	return m, nil
}

func jsonValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, refuse(ErrMalformed, "not valid JSON")
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth++; depth > maxDepth {
		return nil, refuse(ErrMalformed, "nested too deep")
	}
	if open == '[' {
		list := []any{}
		for d.More() {
			v, err := jsonValue(d, depth)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, _ = d.Token() // the end; the whole is known to be valid
		return list, nil
	}
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, refuse(ErrMalformed, "not valid JSON")
		}
		if _, twice := m[name]; twice {
			return nil, refuse(ErrMalformed, "a name stands twice in an object")
		}
		if m[name], err = jsonValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, _ = d.Token()
	return m, nil
}

// parseXML is parseXMLRoot for the root that pushes and notifies have.
func parseXML(b []byte) (map[string]any, error) { return parseXMLRoot(b, "xml") }

// parseXMLRoot reads one element of that name strictly into the same shape as parseJSON gives: elements with
// elements in them are maps, others strings, and repeated ones below the root are lists. Document types,
// entities beyond XML's own five, comments, processing instructions and namespaces are refused.
// Error: ErrMalformed.
func parseXMLRoot(b []byte, name string) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, refuse(ErrMalformed, "not valid UTF-8")
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	var root map[string]any
	left := maxElements
	for first := true; ; first = false {
		t, err := d.Token()
		if err == io.EOF && root != nil {
			return root, nil
		}
		if err != nil {
			return nil, refuse(ErrMalformed, "not valid XML")
		}
		switch t := t.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, refuse(ErrMalformed, "text outside the XML root")
			}
		case xml.ProcInst:
			if !first || t.Target != "xml" {
				return nil, refuse(ErrMalformed, "an XML instruction")
			}
		case xml.StartElement:
			if root != nil || t.Name.Local != name || t.Name.Space != "" {
				return nil, refuse(ErrMalformed, "not one <"+name+"> root")
			}
			v, err := xmlElement(d, 1, &left)
			if err != nil {
				return nil, err
			}
			switch v := v.(type) {
			case map[string]any:
				root = v
			case string:
				if strings.TrimSpace(v) != "" {
					return nil, refuse(ErrMalformed, "text in the XML root")
				}
				root = map[string]any{}
			}
		default: // Directive (DOCTYPE), Comment
			return nil, refuse(ErrMalformed, "a document type or comment")
		}
	}
}

// xmlElement reads what is inside an element at that depth, up to its end. It counts left down.
func xmlElement(d *xml.Decoder, depth int, left *int) (any, error) {
	if depth > maxDepth {
		return nil, refuse(ErrMalformed, "nested too deep")
	}
	if *left--; *left < 0 {
		return nil, refuse(ErrMalformed, "too many elements")
	}
	var text strings.Builder
	var m map[string]any
	for {
		t, err := d.Token()
		if err != nil {
			return nil, refuse(ErrMalformed, "not valid XML")
		}
		switch t := t.(type) {
		case xml.CharData:
			text.Write(t)
		case xml.StartElement:
			if t.Name.Space != "" {
				return nil, refuse(ErrMalformed, "an XML namespace")
			}
			v, err := xmlElement(d, depth+1, left)
			if err != nil {
				return nil, err
			}
			if m == nil {
				m = map[string]any{}
			}
			before, twice := m[t.Name.Local]
			list, isList := before.([]any)
			switch {
			case !twice:
				m[t.Name.Local] = v
			case depth == 1:
				return nil, refuse(ErrMalformed, "an element stands twice")
			case isList:
				m[t.Name.Local] = append(list, v)
			default:
				m[t.Name.Local] = []any{before, v}
			}
		case xml.EndElement:
			if m == nil {
				return text.String(), nil
			}
			if strings.TrimSpace(text.String()) != "" {
				return nil, refuse(ErrMalformed, "text between XML elements")
			}
			return m, nil
		default:
			return nil, refuse(ErrMalformed, "a document type, comment or instruction")
		}
	}
}

// scalar is a text or number as text; anything else is "".
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// whole is an integer that came as number or as text.
func whole(v any) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(scalar(v)), 10, 64)
	return n, err == nil
}
