package web

import "strings"

// plainText is JSON that is still to be read. White space is passed over by space alone.
type plainText struct{ rest string }

func (p *plainText) skip(b byte) bool {
	if p.rest == "" || p.rest[0] != b {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plainText) str() (s string, ok bool) {
	if p.rest == "" || p.rest[0] != '"' {
		return "", false
	}
	for i := 1; i < len(p.rest); i++ {
		switch b := p.rest[i]; {
		case b == '"':
			s, p.rest = p.rest[1:i], p.rest[i+1:]
			return s, true
		case b == '\\' || b < ' ':
			return "", false
		}
	}
	return "", false
}

func (p *plainText) list() (list []string, ok bool) {
	if !p.skip('[') {
		return nil, false
	}
	for first := true; !p.skip(']'); first = false {
		if !first && !p.skip(',') {
			return nil, false
		}
		s, ok := p.str()
		if !ok || len(list) > tokenRooms {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// seconds reads a time between 1 and 999999999999.
func (p *plainText) seconds() (n int64, ok bool) {
	i := 0
	for ; i < len(p.rest) && '0' <= p.rest[i] && p.rest[i] <= '9'; i++ {
		if i == 12 || i == 0 && p.rest[0] == '0' {
			return 0, false
		}
		n = 10*n + int64(p.rest[i]-'0')
	}
	p.rest = p.rest[i:]
	return n, i > 0
}

// space passes over white space.
func (p *plainText) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// names reads an array of 1 to 100 texts.
func (p *plainText) names() (list []string, ok bool) {
	if !p.skip('[') {
		return nil, false
	}
	for {
		p.space()
		s, ok := p.str()
		if !ok || len(list) == 100 {
			return nil, false
		}
		list = append(list, s)
		p.space()
		if p.skip(']') {
			return list, true
		}
		if !p.skip(',') {
			return nil, false
		}
	}
}

// value passes over any one value, and looks no closer than is needed to find its end.
func (p *plainText) value() bool {
	depth, quoted := 0, false
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case quoted:
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			p.rest = p.rest[i:]
			return i > 0
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
