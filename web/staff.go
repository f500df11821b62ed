package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wxhub/hub"
	"wxhub/store"
)

// What admins see and do with rooms, users and nodes; orders stand in pay.go, conversations in inbox.go.

type roomRow struct {
	Room    string `json:"room"`
	Users   int    `json:"users" doc:"persons, over the cluster"`
	Sockets int    `json:"sockets"`
	Epoch   string `json:"epoch"`
	Offset  uint64 `json:"offset"`
}

type roomView struct {
	Room     string            `json:"room"`
	Count    int               `json:"count"`
	Users    []hub.PresentUser `json:"users" nullable:"true" doc:"null where the room's rule tells a count only"`
	Epoch    string            `json:"epoch"`
	Offset   uint64            `json:"offset"`
	Messages []json.RawMessage `json:"messages" doc:"The newest 50 pushes, oldest first"`
}

type userPath struct {
	ID string `path:"id" maxLength:"64" pattern:"^[A-Za-z0-9_.-]{1,64}$" patternDescription:"a user id"`
}

func (s *Server) routeStaff() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/rooms", access: admins, tag: "admin", summary: "Rooms that have members",
		description: "The fullest first. Mailboxes (user:ID) are left out: every open socket has one.",
		errors:      []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"500"`
	}) ([]roomRow, error) {
		return s.rooms(ctx, in.Limit)
	})
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/rooms/{room}", access: admins, tag: "admin", summary: "Who is in a room, and what was said there",
		errors: []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Room string `path:"room" maxLength:"128" pattern:"^[A-Za-z0-9_.:-]{1,128}$" patternDescription:"a room's name"`
	}) (roomView, error) {
		return s.room(ctx, in.Room)
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/users/{id}/disconnect", access: admins, tag: "admin", summary: "Close every socket of a user (4503)",
	}, func(ctx context.Context, in *userPath) (closedView, error) {
		n := s.o.Hub.Disconnect(hub.Target{User: in.ID}, hub.DisconnectKicked)
		s.audit(ctx, "disconnect", "user "+in.ID)
		return closedView{n}, nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/users/{id}/block", access: admins, tag: "admin", errors: []int{http.StatusConflict},
		summary: "Block a user: every socket is closed (4503), tokens and logins are refused",
	}, func(ctx context.Context, in *userPath) (blockedView, error) { return s.block(ctx, in.ID, true) })
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/users/{id}/unblock", access: admins, tag: "admin", errors: []int{http.StatusConflict},
		summary: "Take a user's tokens and logins again",
	}, func(ctx context.Context, in *userPath) (blockedView, error) { return s.block(ctx, in.ID, false) })
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/nodes", access: admins, tag: "admin", summary: "The cluster's nodes",
	}, func(ctx context.Context, _ *empty) ([]nodeView, error) {
		return s.nodes(ctx)
	})
}

type closedView struct {
	Closed int `json:"closed" doc:"sockets on this node; the other nodes close theirs within a second"`
}

type blockedView struct {
	Blocked bool `json:"blocked"`
}

type nodeView struct {
	ID        string  `json:"id"`
	Version   string  `json:"version"`
	Addr      string  `json:"addr"`
	StartedAt int64   `json:"startedAt"`
	SeenAt    int64   `json:"seenAt"`
	Sockets   int     `json:"sockets"`
	Users     int     `json:"users"`
	Rooms     int     `json:"rooms"`
	Rate      float64 `json:"rate" doc:"messages published here, per second"`
	Self      bool    `json:"self" doc:"the node that answers"`
}

func unavailable(what string, err error) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: time.Second, Err: fmt.Errorf("%s: %w", what, err)}
}

// rooms are the fullest rooms, mailboxes left out.
func (s *Server) rooms(ctx context.Context, limit int) ([]roomRow, error) {
	all, err := s.o.Hub.Rooms(ctx)
	if err != nil {
		return nil, unavailable("rooms", err)
	}
	list := []roomRow{}
	for _, r := range all {
		if !strings.HasPrefix(r.Room, mailRoom) {
			list = append(list, roomRow{r.Room, r.Users, r.Sockets, r.Head.Epoch, r.Head.Offset})
		}
	}
	slices.SortFunc(list, func(a, b roomRow) int {
		return cmp.Or(cmp.Compare(b.Sockets, a.Sockets), cmp.Compare(a.Room, b.Room))
	})
	return list[:min(limit, len(list))], nil
}

// block refuses a user everywhere, or takes it back. Nobody locks themselves out.
func (s *Server) block(ctx context.Context, user string, blocked bool) (blockedView, error) {
	if me, ok := requestOf(ctx).user(); ok && me.User == user {
		return blockedView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "this is yourself"}
	}
	switch err := s.o.Tokens.Block(ctx, user, blocked); {
	case errors.Is(err, store.ErrErased):
		return blockedView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "this person's data was erased; the id stays dead"}
	case err != nil:
		return blockedView{}, fmt.Errorf("block %s: %w", user, err)
	}
	what := "unblock"
	if blocked {
		what = "block"
		s.o.Hub.Disconnect(hub.Target{User: user}, hub.DisconnectBlocked)
	}
	s.audit(ctx, what, "user "+user)
	return blockedView{blocked}, nil
}

func (s *Server) nodes(ctx context.Context) ([]nodeView, error) {
	nodes, err := s.o.Store.Nodes(ctx, time.Now().Add(-nodeGone))
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	list := make([]nodeView, len(nodes))
	for i, n := range nodes {
		list[i] = nodeView{n.ID, n.Version, n.Addr, n.StartedAt.UnixMilli(), n.SeenAt.UnixMilli(),
			n.Sockets, n.Users, n.Rooms, n.PublishedPerSec, n.ID == s.o.Node}
	}
	return list, nil
}

const roomMessages = 50

func (s *Server) room(ctx context.Context, room string) (roomView, error) {
	p, err := s.o.Hub.Presence(ctx, room)
	if err != nil {
		return roomView{}, unavailable("presence", err)
	}
	page, err := s.o.Hub.History(ctx, room, hub.Query{Newest: true, Limit: roomMessages})
	if err != nil {
		return roomView{}, unavailable("history", err)
	}
	v := roomView{Room: room, Count: p.Count, Users: p.Users, Epoch: page.Epoch, Offset: page.Head, Messages: []json.RawMessage{}}
	if v.Users == nil && p.Count == 0 { // nil of others: the room tells a count only
		v.Users = []hub.PresentUser{}
	}
	for _, m := range page.Messages {
		v.Messages = append(v.Messages, hub.EncodePush(room, page.Epoch, m))
	}
	return v, nil
}

// audit writes down who did what, also when they hang up. What was done is done: a store that is away is logged, not told.
func (s *Server) audit(ctx context.Context, what, about string) {
	who := requestOf(ctx).who()
	s.log.Info("admin", "who", who, "what", what, "about", about)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditWait)
	defer cancel()
	if err := s.o.Store.Audit(ctx, who, what, about); err != nil {
		s.log.Error("audit row not written", "who", who, "what", what, "about", about, "err", err)
	}
}

const (
	auditWait = 2 * time.Second  // for our own store
	nodeEvery = 2 * time.Second  // how often a node says that it lives
	nodeGone  = 15 * time.Second // silent so long it is not listed
)

// announceNode tells the store what this node is doing.
func (s *Server) announceNode(ctx context.Context, before *hub.Stats, since time.Duration) {
	h := s.o.Hub.Stats()
	n := store.Node{
		ID: s.o.Node, Version: s.o.Version, Addr: s.o.Addr, StartedAt: s.started, SeenAt: time.Now(),
		Sockets: h.Sockets, Rooms: h.Rooms, Users: h.Users,
	}
	if since > 0 {
		n.PublishedPerSec = float64(h.Published-before.Published) / since.Seconds()
	}
	*before = h
	if err := s.o.Store.PutNode(ctx, n); err != nil && ctx.Err() == nil {
		s.log.Debug("node not announced", "err", err)
	}
}
