package hub

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
)

// A request is one frame of a client of the native protocol.
type request struct {
	ID     json.RawMessage `json:"id"` // the client's own number, echoed as it came
	Action string          `json:"action"`
	Room   string          `json:"room"`
	Data   *struct {
		Action  string          `json:"action"`
		Payload json.RawMessage `json:"payload"`
	} `json:"data"`
	Since  *place          `json:"since"`
	Before *place          `json:"before"`
	Offset *uint64         `json:"offset"`
	Limit  int             `json:"limit"`
	Token  string          `json:"token"`
	Ping   json.RawMessage `json:"ping"` // {"ping":…} and {"pong":…} are heartbeats, not requests
	Pong   json.RawMessage `json:"pong"`

	event *ackPrefix // not nil: the request is an event of Socket.IO
}

// A place is a Position as a client writes it.
type place struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// A refusal is why a request was not granted: a stable word for programs, a sentence for people.
type refusal struct {
	Word string
	Text string
}

func (r *refusal) Error() string { return "hub: " + r.Word + ": " + r.Text }

// The words of refusals.
var (
	refusedBinary   = &refusal{"bad_frame", "frames are text: one JSON object each"}
	refusedJSON     = &refusal{"bad_frame", "not one JSON object with fields of the right types"}
	refusedNoAction = &refusal{"bad_frame", "the frame has no action"}
	refusedID       = &refusal{"bad_frame", "id must be a number"}
	refusedUnknown  = &refusal{"unknown_action", "there is no such action"}
	refusedRoom     = &refusal{"bad_room", "a room's name is [A-Za-z0-9_.:-]{1,128}"}
	refusedSince    = &refusal{"bad_room", "a position is NAME@EPOCH:OFFSET"}
	refusedJoin     = &refusal{"forbidden", "you may not join this room"}
	refusedPublish  = &refusal{"forbidden", "you may not publish in this room"}
	refusedPresence = &refusal{"forbidden", "this room does not tell who is in it"}
	refusedAck      = &refusal{"forbidden", "this is another user's mail"}
	refusedMember   = &refusal{"not_joined", "join the room first"}
	refusedAction   = &refusal{"forbidden_action", "this action is the server's own or a reserved name"}
	refusedDepth    = &refusal{"bad_frame", "the frame is nested deeper than 32"}
	refusedOffset   = &refusal{"bad_frame", "the offset up to which everything was received is missing"}
	refusedBoth     = &refusal{"bad_frame", "history goes one way: since or before"}
	refusedData     = &refusal{"bad_frame", "data.action must have 1 to 128 bytes and no control characters"}
	refusedRate     = &refusal{"too_many", "too many messages in this room: wait a moment"}
	refusedRisky    = &refusal{"risky_content", "this text is not shown to others"}
	refusedRooms    = &refusal{"too_many_rooms", "this socket has joined as many rooms as it may"}
	refusedMail     = &refusal{"forbidden", "mail is not written over this socket"}
	refusedFuture   = &refusal{"bad_frame", "offset is greater than that of the newest message"}
	refusedAway     = &refusal{"unavailable", "try again in a moment"}
	refusedToken    = &refusal{"bad_token", "the token is not valid for this user"}
	refusedExchange = &refusal{"bad_frame", "exchange wants an object with target and payload"}
	refusedTarget   = &refusal{"bad_frame", "target must have 1 to 128 bytes and no control characters"}
	refusedResume   = &refusal{"bad_frame", "resume wants places: NAME@EPOCH:OFFSET, or objects with room, epoch and offset"}
)

// parseRequest reads one frame. A request that is refused may still carry its id.
func parseRequest(data []byte) (q request, r *refusal) {
	err := json.Unmarshal(data, &q)
	if err != nil {
		var wrong *json.UnmarshalTypeError
		if !errors.As(err, &wrong) {
			return request{}, refusedJSON
		}
		r = refusedJSON
	}
	for _, b := range data { // null and lists of nothing pass the decoder
		if b == ' ' || b == '\t' || b == '\n' || b == '\r' {
			continue
		}
		if b != '{' {
			return request{}, refusedJSON
		}
		break
	}
	if id := string(q.ID); id == "null" {
		q.ID = nil
	} else if id != "" && (len(id) > 32 || id[0] != '-' && (id[0] < '0' || id[0] > '9')) {
		q.ID = nil
		return q, refusedID
	}
	if r == nil && jsonDepth(data) > maxDepth {
		r = refusedDepth
	}
	return q, r
}

// maxDepth is how deep the JSON of a frame may be nested: readers that recurse must not be led astray by what
// others publish.
const maxDepth = 32

// jsonDepth counts the brackets outside of strings in valid JSON.
func jsonDepth(data []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted:
			switch b {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case b == '"':
			quoted = true
		case b == '{' || b == '[':
			depth++
			deepest = max(deepest, depth)
		case b == '}' || b == ']':
			depth--
		}
	}
	return deepest
}

// validAction tells whether a client may give a message this name: 1 to 128 bytes without control characters.
func validAction(action string) bool {
	return action != "" && len(action) <= maxAction && !strings.ContainsFunc(action, unicode.IsControl)
}

// since is the position that the request brings, nil for none.
func (q *request) since() *Position {
	if q.Since == nil {
		return nil
	}
	return &Position{q.Since.Epoch, q.Since.Offset}
}

// isHeartbeat tells whether the frame is a sign of life and nothing else.
func (q *request) isHeartbeat() bool {
	return q.Action == "" && q.ID == nil && (q.Ping != nil || q.Pong != nil)
}

// begin begins the reply to q; the caller adds fields.
func (q *request) begin(dst []byte, ok bool) []byte {
	if q.event != nil {
		return q.event.begin(dst, ok)
	}
	return appendReply(dst, q.ID, ok)
}

// end makes a whole frame of the reply; nil: the client does not wait for one.
func (q *request) end(body []byte) []byte {
	if q.event != nil {
		return q.event.end(body)
	}
	return textFrame(append(body, '}'))
}

// appendReply begins the reply to the request id; the caller adds fields and the closing brace.
func appendReply(dst []byte, id json.RawMessage, ok bool) []byte {
	dst = append(dst, `{"reply":`...)
	if len(id) == 0 {
		dst = append(dst, `null`...)
	} else {
		dst = append(dst, id...)
	}
	return strconv.AppendBool(append(dst, `,"ok":`...), ok)
}

func appendUint(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }
func appendInt(dst []byte, n int64) []byte   { return strconv.AppendInt(dst, n, 10) }

// appendPosition appends "epoch" and "offset" as further fields.
func appendPosition(dst []byte, at Position) []byte {
	dst = appendString(append(dst, `,"epoch":`...), at.Epoch)
	return appendUint(append(dst, `,"offset":`...), at.Offset)
}

// appendJoined appends what a client learns of a room that it joined, as further fields.
func appendJoined(dst []byte, j *joining) []byte {
	dst = appendPosition(dst, j.at)
	if j.since != nil {
		dst = strconv.AppendBool(append(dst, `,"recovered":`...), j.recovered())
		dst = appendInt(append(dst, `,"missed":`...), int64(j.replay.n))
	}
	return dst
}
