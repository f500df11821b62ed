package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	notifyChannel = "wxhub_outbox"
	notifyEvery   = 10 * time.Millisecond // at most: PostgreSQL commits notifications one after the other
	listenRetry   = 2 * time.Second       // after a lost connection; until then the relay's poll finds everything
)

// neighbours tells the other nodes on the same database that the outbox got work, and hears it from them. It only saves
// time: who hears nothing finds the work by looking.
type neighbours struct {
	config *pgx.ConnConfig
	name   string // of this one: nobody wakes itself twice
	wake   func()
	log    *slog.Logger

	rang chan struct{} // 1 deep
	back bool          // hear was connected before; its own
	stop context.CancelFunc
	all  sync.WaitGroup
}

func joinNeighbours(config *pgx.ConnConfig, wake func(), log *slog.Logger) *neighbours {
	ctx, cancel := context.WithCancel(context.Background())
	n := &neighbours{config: config, name: newID(), wake: wake, log: log, rang: make(chan struct{}, 1), stop: cancel}
	n.all.Go(func() { n.keep(ctx, "hear", n.hear) })
	n.all.Go(func() { n.keep(ctx, "tell", n.tell) })
	return n
}

// ring has the others woken. It does not wait.
func (n *neighbours) ring() {
	select {
	case n.rang <- struct{}{}:
	default:
	}
}

func (n *neighbours) close() {
	n.stop()
	n.all.Wait()
}

// keep runs f on a connection of its own, and again when that is lost.
func (n *neighbours) keep(ctx context.Context, what string, f func(context.Context, *pgx.Conn) error) {
	failing := false
	for ctx.Err() == nil {
		connecting, cancel := context.WithTimeout(ctx, 2*n.config.ConnectTimeout)
		conn, err := pgx.ConnectConfig(connecting, n.config)
		cancel()
		if err == nil {
			if failing {
				n.log.Info("nodes wake each other again", "side", what)
			}
			failing = false
			err = f(ctx, conn)
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Close(closing)
			cancel()
		}
		if ctx.Err() == nil && !failing {
			failing = true
			n.log.Warn("nodes do not wake each other; what they commit is found by looking, every second", "side", what, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenRetry):
		}
	}
}

func (n *neighbours) hear(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "LISTEN "+notifyChannel); err != nil {
		return err
	}
	if n.back { // for what was missed; whoever starts looks by itself
		n.wake()
	}
	n.back = true
	for {
		heard, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if heard.Payload != n.name {
			n.wake()
		}
	}
}

func (n *neighbours) tell(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.rang:
		}
		telling, cancel := context.WithTimeout(ctx, listenRetry)
		_, err := conn.Exec(telling, "SELECT pg_notify($1, $2)", notifyChannel, n.name)
		cancel()
		if err != nil {
			n.ring()
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(notifyEvery):
		}
	}
}
