package store

import (
	"context"
	"fmt"
	"time"
)

// A Node is one process of the cluster, as it described itself last.
type Node struct {
	ID                    string // its own in each life of the process
	Version               string
	Addr                  string // where it listens
	StartedAt             time.Time
	SeenAt                time.Time // of the last PutNode, by that node's clock
	Sockets, Rooms, Users int
	PublishedPerSec       float64
}

// PutNode describes this node, in place of what it said before. A zero SeenAt is now.
func (db *DB) PutNode(ctx context.Context, n Node) error {
	var in inputs
	in.text("ID", n.ID, 1, maxName)
	in.text("Version", n.Version, 0, maxName)
	in.text("Addr", n.Addr, 0, maxText)
	if in.err != nil {
		return fmt.Errorf("put node: %w", in.err)
	}
	err := db.engine.write(ctx, func(t *tx) error {
		seen := n.SeenAt
		if seen.IsZero() {
			seen = t.now
		}
		_, err := t.exec(`INSERT INTO nodes (id, version, addr, started_at, seen_at, sockets, rooms, users, published_per_sec)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version, addr = excluded.addr,
			started_at = excluded.started_at, seen_at = excluded.seen_at, sockets = excluded.sockets, rooms = excluded.rooms,
			users = excluded.users, published_per_sec = excluded.published_per_sec`,
			n.ID, n.Version, n.Addr, stamp(n.StartedAt), stamp(seen), n.Sockets, n.Rooms, n.Users, n.PublishedPerSec)
		return err
	})
	if err != nil {
		return fmt.Errorf("node %s: put: %w", n.ID, err)
	}
	return nil
}

// Nodes returns those seen at or after seenSince, by id.
func (db *DB) Nodes(ctx context.Context, seenSince time.Time) ([]Node, error) {
	var all []Node
	err := db.engine.read(ctx, false, func(t *tx) error {
		return t.rows(func(scan func(...any) error) error {
			var n Node
			var started, seen int64
			err := scan(&n.ID, &n.Version, &n.Addr, &started, &seen, &n.Sockets, &n.Rooms, &n.Users, &n.PublishedPerSec)
			n.StartedAt, n.SeenAt = moment(started), moment(seen)
			all = append(all, n)
			return err
		}, `SELECT id, version, addr, started_at, seen_at, sockets, rooms, users, published_per_sec FROM nodes
			WHERE seen_at >= ? ORDER BY id`, stamp(seenSince))
	})
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	return all, nil
}

// RemoveNode forgets a node that stops.
func (db *DB) RemoveNode(ctx context.Context, id string) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec("DELETE FROM nodes WHERE id = ?", id)
		return err
	})
	if err != nil {
		return fmt.Errorf("node %.64q: remove: %w", id, err)
	}
	return nil
}
