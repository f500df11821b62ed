package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresConns    = 16              // of this node: six stay below the 100 that PostgreSQL admits unless told otherwise
	postgresPatience = 5 * time.Second // the longest that one method takes, waiting for a connection included
	writeTries       = 5               // of a transaction that PostgreSQL gave up for a deadlock
)

// postgres runs each transaction on a connection of its own, in READ COMMITTED with the rows locked that it changes.
type postgres struct {
	db   *sql.DB
	keys *keyring
	now  func() time.Time
	wake func()
	near *neighbours
}

func openPostgres(ctx context.Context, url string, conns int, keys *keyring, now func() time.Time, wake func(), log *slog.Logger) (*postgres, error) {
	if conns <= 0 {
		conns = postgresConns
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the URL cannot be read; it should look like postgres://user:password@host:5432/name") // not err: it may show the password
	}
	config.RuntimeParams["synchronous_commit"] = "on" // accepted is stored
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if err := migrate(ctx, db, "postgres"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &postgres{db: db, keys: keys, now: now, wake: wake, near: joinNeighbours(config, wake, log)}, nil
}

func (p *postgres) close() error {
	p.near.close()
	return p.db.Close()
}

func (p *postgres) read(ctx context.Context, snapshot bool, fn func(*tx) error) error {
	within, cancel := context.WithTimeout(ctx, postgresPatience)
	defer cancel()
	return away(ctx, p.tryRead(within, snapshot, fn))
}

func (p *postgres) tryRead(ctx context.Context, snapshot bool, fn func(*tx) error) error {
	t := &tx{ctx: ctx, on: p.db, pg: true, keys: p.keys, now: p.now()}
	if !snapshot {
		return fn(t)
	}
	sqlTx, err := p.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer sqlTx.Rollback()
	t.on = sqlTx
	return fn(t)
}

func (p *postgres) write(ctx context.Context, fn func(*tx) error) error {
	within, cancel := context.WithTimeout(ctx, postgresPatience)
	defer cancel()
	for try := 1; ; try++ {
		rang, err := p.try(within, fn)
		if err == nil {
			if rang {
				p.wake()
				p.near.ring()
			}
			return nil
		}
		var pg *pgconn.PgError
		deadlock := errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
		unsent := pgconn.SafeToRetry(err) && try == 1 // a connection that a restart had cut
		if !deadlock && !unsent || try == writeTries {
			return away(ctx, err)
		}
	}
}

// away marks as ErrAway what is no fault of the question: PostgreSQL cannot be reached, starts or stops, admits nobody
// more, is full, is read-only, or did not answer in time. ctx is the caller's, who may have given up first.
func away(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var network net.Error
	var connect *pgconn.ConnectError
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &answer):
		class := answer.Code[:min(2, len(answer.Code))]
		if class != "08" && class != "53" && class != "57" && class != "58" && answer.Code != "25006" {
			return err
		}
	case pgconn.SafeToRetry(err), errors.As(err, &connect), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
	default:
		return err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

func (p *postgres) try(ctx context.Context, fn func(*tx) error) (rang bool, err error) {
	sqlTx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer sqlTx.Rollback() // without effect after Commit
	t := &tx{ctx: ctx, on: sqlTx, pg: true, lock: " FOR UPDATE", keys: p.keys, now: p.now()}
	if err := fn(t); err != nil {
		return false, err
	}
	if err := sqlTx.Commit(); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return t.rang, nil
}
