package hub

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

// What stands in a stream and behind the head of an announcement is a message's body: a version, the time in
// milliseconds, the lengths and texts of ID, Action, Client and Target, and the payload as it came.
const bodyVersion = 1

var errBody = errors.New("hub: a message in redis cannot be read")

func appendBody(dst []byte, m *Message) []byte {
	dst = append(dst, bodyVersion)
	dst = binary.AppendVarint(dst, m.At.UnixMilli())
	for _, s := range []string{m.ID, m.Action, m.Client, m.Target} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return append(dst, m.Payload...)
}

func parseBody(body string) (m Message, err error) {
	b := []byte(body)
	if len(b) == 0 || b[0] != bodyVersion {
		return m, errBody
	}
	b = b[1:]
	at, n := binary.Varint(b)
	if n <= 0 {
		return m, errBody
	}
	b = b[n:]
	m.At = time.UnixMilli(at)
	for _, field := range []*string{&m.ID, &m.Action, &m.Client, &m.Target} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return m, errBody
		}
		b = b[n:]
		*field = string(b[:size])
		b = b[size:]
	}
	if len(b) > 0 {
		m.Payload = b
	}
	return m, nil
}

// An announcement is "EPOCH OFFSET ROOM " and the body; a message that is not kept has the Epoch "-" and the
// Offset 0.
func appendAnnouncement(dst []byte, room string, m *Message) []byte {
	dst = append(append(append(dst, "- 0 "...), room...), ' ')
	return appendBody(dst, m)
}

func parseAnnouncement(text string) (room, epoch string, m Message, err error) {
	var words [3]string
	for i := range words {
		n := 0
		for n < len(text) && text[n] != ' ' {
			n++
		}
		if n == 0 || n == len(text) {
			return "", "", m, errBody
		}
		words[i], text = text[:n], text[n+1:]
	}
	offset, err := strconv.ParseUint(words[1], 10, 63)
	if err != nil {
		return "", "", m, errBody
	}
	if m, err = parseBody(text); err != nil {
		return "", "", m, err
	}
	if m.Offset = offset; offset > 0 {
		epoch = words[0]
	}
	return words[2], epoch, m, nil
}
