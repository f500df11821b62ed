package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"wxhub/hub"
	"wxhub/store"
)

type broadcastRequest struct {
	Rooms   []string        `json:"rooms,omitempty" maxItems:"100" doc:"Rooms to say it in"`
	Users   []string        `json:"users,omitempty" maxItems:"1000" doc:"User ids: mail, kept until acknowledged"`
	Live    bool            `json:"live,omitempty" doc:"With users: only to open sockets, not kept"`
	All     bool            `json:"all,omitempty" doc:"Everybody who is connected: room all"`
	Action  string          `json:"action" minLength:"1" maxLength:"128" doc:"At most 128 bytes without control characters; not welcome, join, leave, refused, exchange, nor what Socket.IO reserves" example:"sale.begins"`
	Payload json.RawMessage `json:"payload,omitempty" doc:"Any JSON of at most 64 KiB; arrives byte for byte"`
	ID      string          `json:"id,omitempty" pattern:"^[A-Za-z0-9_.:-]{1,128}$" patternDescription:"letters, digits and _.:-, at most 128" doc:"Idempotency key, for 24 hours"`
}

type broadcastView struct {
	ID      string `json:"id"`
	Results []said `json:"results"`
}

// said is what became of a broadcast in one room.
type said struct {
	Room   string `json:"room"`
	Epoch  string `json:"epoch,omitempty"`
	Offset uint64 `json:"offset,omitempty" doc:"absent: not kept"`
	Error  string `json:"error,omitempty" doc:"a word; send the same id again to complete what is missing"`
}

const (
	broadcastBytes = 192 << 10 // of a request: a payload, and the longest names of as many receivers as may be
	payloadBytes   = 64 << 10  // of one message
	answerWait     = 5 * time.Second
)

var (
	roomName  = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,128}$`)
	serverIDs = []string{"pay:", "push:", "reply:", "refund:", "close:"} // beginnings of the ids that the server itself gives
)

func (s *Server) routeBroadcast() {
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/broadcast", access: admins, tag: "admin", summary: "Say something in rooms, to users, or to all", maxBody: broadcastBytes,
		description: "With an `id` the same request may be sent again: it completes what is missing and answers the same. " +
			"Another request under a used `id` is a conflict.",
		errors: []int{http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable},
		plain:  s.servePlainBroadcast,
	}, func(ctx context.Context, in *body[broadcastRequest]) (broadcastView, error) {
		b, err := in.Body.checked()
		if err != nil {
			return broadcastView{}, err
		}
		return s.broadcast(ctx, b)
	})
}

// checked refuses what cannot be said, and drops repeated receivers.
func (b broadcastRequest) checked() (broadcastRequest, error) {
	if b.All {
		b.Rooms = append([]string{"all"}, b.Rooms...)
	}
	if slices.ContainsFunc(b.Rooms, ofMail) { // a mailbox by its room's name
		b.Rooms = slices.DeleteFunc(slices.Clone(b.Rooms), func(room string) bool {
			if ofMail(room) {
				b.Users = append(b.Users, room[len(mailRoom):])
			}
			return ofMail(room)
		})
	}
	b.Rooms, b.Users = distinct(b.Rooms), distinct(b.Users)
	if len(b.Rooms)+len(b.Users) == 0 {
		return b, badRequest("name rooms, users or all")
	}
	for _, room := range b.Rooms {
		if !roomName.MatchString(room) {
			return b, badRequest("a room's name is [A-Za-z0-9_.:-]{1,128}")
		}
	}
	for _, user := range b.Users {
		if !userID.MatchString(user) {
			return b, badRequest("a user id is [A-Za-z0-9_.-]{1,64}")
		}
	}
	for _, own := range serverIDs {
		if strings.HasPrefix(b.ID, own) {
			return b, badRequest("ids that begin with " + own + " are the server's own")
		}
	}
	if why := badAction(b.Action); why != "" {
		return b, badRequest(why)
	}
	if b.Live && len(b.Users) == 0 {
		return b, badRequest("live goes with users")
	}
	if len(b.Payload) > payloadBytes {
		return b, &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: "payload has at most 64 KiB"}
	}
	if len(bytes.TrimSpace(b.Payload)) == 0 {
		b.Payload = json.RawMessage("null")
	}
	return b, nil
}

// sockets alone say these, and clients would take them for something else: what the hub says of itself, and what
// Socket.IO reserves.
var reservedActions = []string{
	"welcome", "join", "leave", "refused", "exchange",
	"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener",
}

const actionBytes = 128 // of an action's name

// badAction says why nothing can be said under a name; "": it can.
func badAction(action string) string {
	switch {
	case action == "" || len(action) > actionBytes || !utf8.ValidString(action) || strings.ContainsFunc(action, unicode.IsControl):
		return "action must have 1 to 128 bytes of UTF-8 without control characters"
	case slices.Contains(reservedActions, action):
		return "action: " + action + " is the server's own or Socket.IO's"
	}
	return ""
}

func ofMail(room string) bool { return strings.HasPrefix(room, mailRoom) }

func distinct(list []string) (out []string) {
	if len(list) < 2 {
		return list
	}
	seen := make(map[string]bool, len(list))
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// broadcast says b where it was not said yet.
func (s *Server) broadcast(ctx context.Context, b broadcastRequest) (broadcastView, error) {
	v := broadcastView{ID: b.ID}
	var done map[string]said // by an earlier request under the same id
	if b.ID == "" {
		v.ID = uuid.NewString()
	} else {
		before, err := s.before(ctx, b)
		if err != nil {
			return v, err
		}
		done = make(map[string]said, len(before))
		for _, r := range before {
			if r.Error == "" {
				done[r.Room] = r
			}
		}
		if len(done) == len(b.Rooms)+len(b.Users) {
			v.Results = before
			return v, nil
		}
	}
	m := hub.Message{ID: v.ID, Action: b.Action, Payload: b.Payload, At: time.Now()}
	m.Fresh = b.ID == "" && len(b.Rooms)+len(b.Users) == 1 // nothing to complete by a repeat
	for _, room := range b.Rooms {
		r, ok := done[room]
		if !ok {
			at, err := s.o.Hub.Publish(ctx, room, m)
			if errors.Is(err, hub.ErrPayload) {
				return v, badRequest("payload is no JSON that can be sent")
			}
			r = s.outcome(room, at, err)
		}
		v.Results = append(v.Results, r)
	}
	if len(b.Users) > 0 {
		v.Results = append(v.Results, s.tellUsers(ctx, b, m, done)...)
	}
	if !slices.ContainsFunc(v.Results, func(r said) bool { return r.Error == "" }) {
		return v, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: time.Second, Err: errors.New("nothing could be said")}
	}
	if b.ID != "" {
		s.remember(ctx, v)
	}
	return v, nil
}

// before returns what earlier requests under the id of b reached; nothing for the first.
func (s *Server) before(ctx context.Context, b broadcastRequest) ([]said, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("broadcast: %w", err)
	}
	hash := sha256.Sum256(text)
	before, err := s.o.Store.BeginBroadcast(ctx, b.ID, hash[:])
	switch {
	case errors.Is(err, store.ErrOtherBody):
		return nil, &Error{Status: http.StatusConflict, Code: "conflict", Message: "the id was used for another broadcast", Err: err}
	case err != nil:
		return nil, fmt.Errorf("broadcast %s: %w", b.ID, err)
	case before.Answer == nil:
		return nil, nil
	}
	var kept broadcastView
	if err := json.Unmarshal(before.Answer, &kept); err != nil {
		return nil, fmt.Errorf("broadcast %s: kept answer: %w", b.ID, err)
	}
	return kept.Results, nil
}

// remember keeps an answer, a partial one too, for the repeats, even when who asked is gone by now. Rooms and mailboxes
// know the id as well, but not for a day.
func (s *Server) remember(ctx context.Context, v broadcastView) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait)
	defer cancel()
	answer, err := json.Marshal(v)
	if err == nil {
		err = s.o.Store.FinishBroadcast(ctx, v.ID, answer)
	}
	if err != nil {
		s.log.Warn("broadcast's answer not kept", "id", v.ID, "err", err)
	}
}

func (s *Server) outcome(room string, at hub.Position, err error) said {
	if err != nil {
		s.log.Warn("broadcast", "room", room, "err", err)
		return said{Room: room, Error: "unavailable"}
	}
	return said{Room: room, Epoch: at.Epoch, Offset: at.Offset}
}

// tellUsers writes one letter for each user, or says it to their open sockets only.
func (s *Server) tellUsers(ctx context.Context, b broadcastRequest, m hub.Message, done map[string]said) (results []said) {
	var missing []string
	for _, user := range b.Users {
		if _, ok := done[mailRoom+user]; !ok {
			missing = append(missing, user)
		}
	}
	var told map[string]said
	if b.Live {
		told = s.sayLive(ctx, missing, m)
	} else {
		told = s.write(ctx, missing, m)
	}
	for _, user := range b.Users {
		r, ok := done[mailRoom+user]
		if !ok {
			r = told[user]
		}
		results = append(results, r)
	}
	return results
}

func (s *Server) sayLive(ctx context.Context, users []string, m hub.Message) map[string]said {
	told := make(map[string]said, len(users))
	for _, user := range users {
		told[user] = s.outcome(mailRoom+user, hub.Position{}, s.o.Hub.Say(ctx, mailRoom+user, m))
	}
	return told
}

func (s *Server) write(ctx context.Context, users []string, m hub.Message) map[string]said {
	told := make(map[string]said, len(users))
	if len(users) == 0 {
		return told
	}
	seqs, err := s.o.Store.AddMail(ctx, users, store.Letter{ID: m.ID, Action: m.Action, Payload: m.Payload, At: m.At})
	var epoch string
	if err == nil {
		var heads []store.MailHead
		if heads, err = s.o.Store.MailHeads(ctx, users[:1]); err == nil {
			epoch = heads[0].Epoch
		}
	}
	for i, user := range users {
		if err != nil {
			told[user] = said{Room: mailRoom + user, Error: "unavailable"}
			continue
		}
		told[user] = said{Room: mailRoom + user, Epoch: epoch, Offset: seqs[i]}
	}
	if err != nil {
		s.log.Warn("broadcast to users", "id", m.ID, "users", len(users), "err", err)
	}
	return told
}
