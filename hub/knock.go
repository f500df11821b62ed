package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/websocket"
)

// ErrNoWelcome is what Knock found: a socket that opens, but says something else than a hub.
var ErrNoWelcome = errors.New("hub: the socket says no welcome")

// Knock opens a socket at url (ws:// or wss://) as a client does, waits for its welcome, and closes it. It is for whoever
// wants to know whether a hub can be reached, through all that stands between. Not opened: status is what HTTP answered, 0
// for nothing at all. ctx bounds it.
func Knock(ctx context.Context, url, token string) (status int, err error) {
	ws, answer, err := websocket.DefaultDialer.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + token}})
	if answer != nil {
		status = answer.StatusCode
	}
	if err != nil {
		return status, fmt.Errorf("hub: knock: %w", err)
	}
	defer ws.Close()
	if by, ok := ctx.Deadline(); ok {
		_ = ws.SetReadDeadline(by)
	}
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	_, text, err := ws.ReadMessage()
	if err != nil {
		return status, fmt.Errorf("%w: %w", ErrNoWelcome, err)
	}
	var frame struct{ Data struct{ Action string } }
	if err := json.Unmarshal(text, &frame); err != nil || frame.Data.Action != "welcome" {
		return status, ErrNoWelcome
	}
	return status, nil
}
