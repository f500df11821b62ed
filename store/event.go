package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// An Event is what the platform told beyond conversations: it is kept for people to look at, for a month.
type Event struct {
	Seq     int64
	Account string // mini or mp
	Kind    string // event:subscribe, event:SCAN …
	UserID  string // of whom; empty: nobody
	About   json.RawMessage
	At      time.Time
}

func (e *Event) check(in *inputs) {
	in.text("Event.Account", e.Account, 1, maxName)
	in.text("Event.Kind", e.Kind, 1, 2*maxName)
	in.json("Event.About", e.About)
}

func (t *tx) addEvent(userID string, e Event) error {
	_, err := t.exec("INSERT INTO events (account, kind, user_id, about, at) VALUES (?, ?, ?, ?, ?)",
		e.Account, e.Kind, userID, []byte(e.About), stamp(e.At))
	return err
}

// EventQuery selects events, the newest first. Empty fields do not select.
type EventQuery struct {
	Account string
	Kind    string
	UserID  string
	Before  int64 // Seq before
	Limit   int   // 1 to 500, 0: 100
}

func (db *DB) Events(ctx context.Context, q EventQuery) (all []Event, err error) {
	var in inputs
	limit := in.limited(q.Limit, 100, 500)
	if in.err != nil {
		return nil, fmt.Errorf("events: %w", in.err)
	}
	where, args := []string{"1 = 1"}, []any(nil)
	for column, value := range map[string]string{"account": q.Account, "kind": q.Kind, "user_id": q.UserID} {
		if value != "" {
			where, args = append(where, column+" = ?"), append(args, value)
		}
	}
	if q.Before > 0 {
		where, args = append(where, "seq < ?"), append(args, q.Before)
	}
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var e Event
			var at int64
			err := scan(&e.Seq, &e.Account, &e.Kind, &e.UserID, (*[]byte)(&e.About), &at)
			e.At = moment(at)
			all = append(all, e)
			return err
		}, "SELECT seq, account, kind, user_id, about, at FROM events WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT ?",
			append(args, limit)...)
	})
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return all, nil
}
