package socketio

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Version is a revision of Engine.IO. Clients of version 2 speak 3, those of versions 3 and 4 speak 4.
type Version uint8

const (
	V3 Version = 3
	V4 Version = 4
)

// A Handshake is what a client said when it opened its connection.
type Handshake struct {
	Version Version
	Base64  bool       // binary values are to be said as text: its WebSocket cannot take them
	Query   url.Values // of the address, the protocol's own fields (EIO, transport, t) among them
	Header  http.Header
	Remote  string // as http.Request.RemoteAddr
}

// A HandshakeError is a handshake that is refused. Its number and text are those that clients of Engine.IO know.
type HandshakeError struct {
	Number int
	Text   string
}

func (e *HandshakeError) Error() string { return "socketio: handshake: " + e.Text }

// ServeHTTP answers with 400 and {"code","message"}.
func (e *HandshakeError) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	body, _ := json.Marshal(map[string]any{"code": e.Number, "message": e.Text})
	_, _ = w.Write(body)
}

var (
	errTransport = &HandshakeError{0, "Transport unknown"}
	errSession   = &HandshakeError{1, "Session ID unknown"}
	errMethod    = &HandshakeError{2, "Bad handshake method"}
	errRequest   = &HandshakeError{3, "Bad request"}
	errVersion   = &HandshakeError{5, "Unsupported protocol version"}
)

// ReadHandshake reads a request as the opening of a connection. A sid is the upgrade of a polling session, of which
// there are none. The error is a *HandshakeError.
func ReadHandshake(r *http.Request) (*Handshake, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errRequest
	}
	h := &Handshake{Query: query, Header: r.Header, Remote: r.RemoteAddr}
	switch query.Get("EIO") {
	case "3":
		h.Version = V3
	case "4":
		h.Version = V4
	default:
		return nil, errVersion
	}
	switch {
	case query.Get("transport") != "websocket":
		return nil, errTransport
	case query.Get("sid") != "":
		return nil, errSession
	case r.Method != http.MethodGet:
		return nil, errMethod
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return nil, errRequest
	}
	b64 := query.Get("b64")
	h.Base64 = b64 != "" && b64 != "0" && b64 != "false"
	return h, nil
}

// AppendOpen appends the message that opens the connection: who it is, when it is asked whether it lives, how long it
// may take to answer, and how many bytes a message may have.
func AppendOpen(dst []byte, sid string, interval, timeout time.Duration, maxPayload int64) []byte {
	dst = appendText(append(dst, `0{"sid":`...), sid)
	dst = strconv.AppendInt(append(dst, `,"upgrades":[],"pingInterval":`...), interval.Milliseconds(), 10)
	dst = strconv.AppendInt(append(dst, `,"pingTimeout":`...), timeout.Milliseconds(), 10)
	dst = strconv.AppendInt(append(dst, `,"maxPayload":`...), maxPayload, 10)
	return append(dst, '}')
}

// appendText appends s as a JSON string.
func appendText(dst []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string always can be
	return append(dst, quoted...)
}
