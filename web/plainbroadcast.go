package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Nearly every broadcast is a plain one: a program says something in rooms, each field named once, in texts without
// escapes. Such a request is read and answered here, at a tenth of the cost. It is only ever taken here: whatever is
// unusual or wrong about a request is left to the general way, which says so.

var ofJSON = []string{"application/json"} // shared and never changed

const plainBodyWait = 5 * time.Second // as huma waits for the others

// servePlainBroadcast answers a plain request. False: r is as it came, and nothing has been done.
func (s *Server) servePlainBroadcast(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Type") != "application/json" || r.ContentLength <= 0 || r.ContentLength > broadcastBytes ||
		r.Header.Get("Content-Encoding") != "" || r.Header.Get("Expect") != "" || r.URL.RawQuery != "" {
		return false
	}
	_ = huma.SetReadDeadline(w, time.Now().Add(plainBodyWait)) // where it cannot be set the general way cannot either
	text := make([]byte, r.ContentLength)
	n, err := io.ReadFull(r.Body, text)
	b, ok := broadcastRequest{}, false
	if err == nil {
		b, ok = parsePlainBroadcast(text)
	}
	if !ok {
		r.Body = &readAgain{io.MultiReader(bytes.NewReader(text[:n]), r.Body), r.Body}
		return false
	}
	answer, err := s.plainBroadcast(r.Context(), b)
	if err != nil {
		s.fail(w, r, err)
		return true
	}
	w.Header()["Content-Type"] = ofJSON
	_, _ = w.Write(answer)
	return true
}

func (s *Server) plainBroadcast(ctx context.Context, b broadcastRequest) ([]byte, error) {
	b, err := b.checked()
	if err != nil {
		return nil, err
	}
	v, err := s.broadcast(ctx, b)
	if err != nil {
		return nil, err
	}
	return v.appendAnswer(make([]byte, 0, 96+len(v.ID)+len(v.Results)*192)), nil
}

// readAgain is a body of which a part has been read.
type readAgain struct {
	io.Reader
	io.Closer
}

// parsePlainBroadcast reads one flat object. False: something about it is not plain, or not right.
func parsePlainBroadcast(body []byte) (b broadcastRequest, ok bool) {
	if !utf8.Valid(body) || jsonDepth(body) > bodyDepth {
		return b, false
	}
	text := string(body)
	p := plainText{text}
	p.space()
	if !p.skip('{') {
		return b, false
	}
	seen := 0
	for {
		p.space()
		name, ok := p.str()
		p.space()
		if !ok || !p.skip(':') {
			return b, false
		}
		p.space()
		bit := 0
		switch name {
		case "rooms":
			bit = 1
			b.Rooms, ok = p.names()
		case "action":
			bit = 2
			b.Action, ok = p.str()
			ok = ok && badAction(b.Action) == ""
		case "id":
			bit = 4
			b.ID, ok = p.str()
			ok = ok && roomName.MatchString(b.ID)
		case "payload":
			bit = 8
			from := len(text) - len(p.rest)
			if ok = p.value(); ok {
				b.Payload = body[from : len(text)-len(p.rest)]
				ok = json.Valid(b.Payload)
			}
		}
		if !ok || bit == 0 || seen&bit != 0 {
			return b, false
		}
		seen |= bit
		p.space()
		if p.skip('}') {
			break
		}
		if !p.skip(',') {
			return b, false
		}
	}
	p.space()
	return b, p.rest == "" && seen&3 == 3
}

// appendAnswer is marshal of v's envelope. Rooms, ids, Epochs and the words for errors have nothing to escape.
func (v broadcastView) appendAnswer(b []byte) []byte {
	b = append(append(b, `{"code":1,"data":{"id":"`...), v.ID...)
	b = append(b, `","results":[`...)
	for i, r := range v.Results {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"room":"`...), r.Room...), '"')
		if r.Epoch != "" {
			b = append(append(append(b, `,"epoch":"`...), r.Epoch...), '"')
		}
		if r.Offset != 0 {
			b = strconv.AppendUint(append(b, `,"offset":`...), r.Offset, 10)
		}
		if r.Error != "" {
			b = append(append(append(b, `,"error":"`...), r.Error...), '"')
		}
		b = append(b, '}')
	}
	return append(b, "]},\"message\":\"ok\"}\n"...)
}
