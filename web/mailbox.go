package web

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"wxhub/hub"
	"wxhub/store"
)

const mailRoom = "user:" // + user id

// Mailbox makes the store's mail the hub's Mail: room user:ID is the mailbox of user ID. node names this process in
// receipts.
func Mailbox(db *store.DB, node string) hub.Mail { return mailbox{db, node} }

type mailbox struct {
	db   *store.DB
	node string
}

func owners(rooms []string) ([]string, error) {
	users := make([]string, len(rooms))
	for i, room := range rooms {
		user, ok := strings.CutPrefix(room, mailRoom)
		if !ok || user == "" {
			return nil, fmt.Errorf("mailbox: room %q is nobody's", room)
		}
		users[i] = user
	}
	return users, nil
}

func (m mailbox) heads(ctx context.Context, rooms []string) ([]store.MailHead, error) {
	users, err := owners(rooms)
	if err != nil {
		return nil, err
	}
	return m.db.MailHeads(ctx, users)
}

// Heads is for hub.Stream.
func (m mailbox) Heads(ctx context.Context, rooms []string) ([]hub.Position, error) {
	heads, err := m.heads(ctx, rooms)
	list := make([]hub.Position, len(heads))
	for i, h := range heads {
		list[i] = hub.Position{Epoch: h.Epoch, Offset: h.Head}
	}
	return list, err
}

// Acked is for hub.Mail.
func (m mailbox) Acked(ctx context.Context, rooms []string) ([]uint64, error) {
	heads, err := m.heads(ctx, rooms)
	list := make([]uint64, len(heads))
	for i, h := range heads {
		list[i] = h.Acked
	}
	return list, err
}

// Read is for hub.Stream.
func (m mailbox) Read(ctx context.Context, room string, q hub.Query) (hub.Page, error) {
	users, err := owners([]string{room})
	if err != nil {
		return hub.Page{}, err
	}
	p, err := m.db.ReadMail(ctx, users[0], q.After, q.Limit, q.Newest)
	if err != nil {
		return hub.Page{}, err
	}
	page := hub.Page{Epoch: p.Epoch, First: p.First, Head: p.Head, Messages: make([]hub.Message, len(p.Letters))}
	for i, l := range p.Letters {
		page.Messages[i] = hub.Message{ID: l.ID, Action: l.Action, Payload: l.Payload, At: l.At, Offset: l.Seq}
	}
	return page, nil
}

// Post takes what an admin's socket says to a user. It returns after the commit.
func (m mailbox) Post(ctx context.Context, room string, said hub.Message) (hub.Position, error) {
	users, err := owners([]string{room})
	if err != nil {
		return hub.Position{}, err
	}
	if said.ID == "" {
		said.ID = uuid.NewString()
	}
	seqs, err := m.db.AddMail(ctx, users, store.Letter{ID: said.ID, Action: said.Action, Payload: said.Payload, At: said.At})
	if err != nil {
		return hub.Position{}, err
	}
	heads, err := m.db.MailHeads(ctx, users)
	if err != nil {
		return hub.Position{}, err
	}
	return hub.Position{Epoch: heads[0].Epoch, Offset: seqs[0]}, nil
}

// Ack is for hub.Mail.
func (m mailbox) Ack(ctx context.Context, room string, offset uint64) error {
	users, err := owners([]string{room})
	if err != nil {
		return err
	}
	return m.db.AckMail(ctx, users[0], offset)
}

// Written notes for the receipts what the sockets of this node took.
func (m mailbox) Written(ctx context.Context, all []hub.Writing) error {
	noted := make([]store.Writing, len(all))
	for i, w := range all {
		noted[i] = store.Writing{User: strings.TrimPrefix(w.Room, mailRoom), From: w.From, To: w.To, Slow: w.Slow, At: w.At}
	}
	return m.db.NoteWritten(ctx, m.node, noted)
}
