package socketio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// In the JSON of a packet with attachments an object of this form stands for each of them.
const placeholder = `{"_placeholder":true,"num":`

// replacePlaceholders appends data with every placeholder as replace appends it. In valid JSON the form can be nothing
// but an object: within a string its quotes would be escaped.
func replacePlaceholders(dst, data []byte, replace func(dst []byte, number int) ([]byte, error)) ([]byte, error) {
	for {
		before, after, found := bytes.Cut(data, []byte(placeholder))
		dst = append(dst, before...)
		if !found {
			return dst, nil
		}
		digits, rest, closed := bytes.Cut(after, []byte("}"))
		n, good := parseNumber(digits, maxAttachments)
		if !closed || !good {
			return nil, malformed("placeholder")
		}
		var err error
		if dst, err = replace(dst, int(n)); err != nil {
			return nil, err
		}
		data = rest
	}
}

// checkPlaceholders wants every placeholder to stand for an attachment that is there.
func (p *Packet) checkPlaceholders() error {
	if len(p.Attachments) == 0 {
		return nil
	}
	_, err := replacePlaceholders(nil, p.Data, func(dst []byte, n int) ([]byte, error) {
		if n >= len(p.Attachments) {
			return nil, malformed("placeholder of no attachment")
		}
		return dst, nil
	})
	return err
}

// Inline returns the JSON value data of this packet with every binary value as appendValue appends it, so that it needs
// no attachments.
func (p *Packet) Inline(data json.RawMessage, appendValue func(dst, binary []byte) []byte) (json.RawMessage, error) {
	if len(p.Attachments) == 0 {
		return data, nil
	}
	return replacePlaceholders(make([]byte, 0, len(data)), data, func(dst []byte, n int) ([]byte, error) {
		if n >= len(p.Attachments) {
			return nil, malformed("placeholder of no attachment")
		}
		return appendValue(dst, p.Attachments[n]), nil
	})
}

// A Value is an argument that a client sent: JSON, with binary values in it.
type Value struct {
	JSON        json.RawMessage
	attachments [][]byte
}

// Decode stores the value in v as json.Unmarshal does; binary values are []byte there.
func (a Value) Decode(v any) error {
	p := Packet{Attachments: a.attachments}
	data, err := p.Inline(a.JSON, func(dst, binary []byte) []byte {
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), binary)
		return append(dst, '"')
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("socketio: argument: %w", err)
	}
	return nil
}

// values are the arguments of a packet.
func (p *Packet) values(arguments []json.RawMessage) []Value {
	list := make([]Value, len(arguments))
	for i, a := range arguments {
		list[i] = Value{a, p.Attachments}
	}
	return list
}

var errAttachments = errors.New("socketio: more than 10 binary values in one packet")

// A list is what is sent: arguments as JSON, and their attachments.
type list struct {
	json        []byte
	attachments [][]byte
}

// listOf encodes arguments: a []byte is a binary value, also within map[string]any and []any; a Value goes out as it
// came in; everything else is as json.Marshal has it.
func listOf(arguments []any) (l list, err error) {
	l.json = append(l.json, '[')
	for i, a := range arguments {
		if i > 0 {
			l.json = append(l.json, ',')
		}
		if err = l.add(a); err != nil {
			return list{}, err
		}
	}
	l.json = append(l.json, ']')
	if len(l.attachments) > maxAttachments {
		return list{}, errAttachments
	}
	return l, nil
}

func (l *list) add(a any) (err error) {
	switch a := a.(type) {
	case []byte:
		l.attach(a)
	case Value:
		l.json, err = replacePlaceholders(l.json, a.JSON, func(dst []byte, n int) ([]byte, error) {
			if n >= len(a.attachments) {
				return append(strconv.AppendInt(append(dst, placeholder...), int64(n), 10), '}'), nil
			}
			l.json = dst
			l.attach(a.attachments[n])
			return l.json, nil
		})
		return err
	case []any:
		l.json = append(l.json, '[')
		for i, e := range a {
			if i > 0 {
				l.json = append(l.json, ',')
			}
			if err := l.add(e); err != nil {
				return err
			}
		}
		l.json = append(l.json, ']')
	case map[string]any:
		names := make([]string, 0, len(a))
		for name := range a {
			names = append(names, name)
		}
		slices.Sort(names)
		l.json = append(l.json, '{')
		for i, name := range names {
			if i > 0 {
				l.json = append(l.json, ',')
			}
			l.json = append(appendText(l.json, name), ':')
			if err := l.add(a[name]); err != nil {
				return err
			}
		}
		l.json = append(l.json, '}')
	default:
		data, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("socketio: argument: %w", err)
		}
		l.json = append(l.json, data...)
	}
	return nil
}

// attach puts a placeholder where binary is to be.
func (l *list) attach(binary []byte) {
	l.json = append(strconv.AppendInt(append(l.json, placeholder...), int64(len(l.attachments)), 10), '}')
	l.attachments = append(l.attachments, bytes.Clone(binary))
}
