// Package store keeps users, orders, mail and everything that must survive a crash, in SQLite or PostgreSQL.
//
// Durability: a method that changes something returns nil only after the commit reached the disk.
// Atomicity: a method changes all it promises or nothing. When its ctx ends first, it returns ctx's error and the
// change is undone, but for a ctx that ends during the commit: then the change may be whole.
// Once: every method may be repeated after an error; the second time it finds what the first one did.
// Secrets: session keys and platform tokens are sealed with a Key; no error text holds them, nor an openid.
// Concurrency: everything is safe for concurrent use. On SQLite the changes that wait share one commit.
// Dependencies: database/sql; never hub, wechat or web. No JSON of WeChat and no HTTP in here.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers test.
var (
	ErrNotFound        = errors.New("store: not found")
	ErrOrderExists     = errors.New("store: the order number is taken by another order")
	ErrPaymentConflict = errors.New("store: the payment does not fit its order") // kept, see Conflicts
	ErrOrderPaid       = errors.New("store: the order is paid")
	ErrOrderUnpaid     = errors.New("store: the order is not paid")
	ErrRefundTooMuch   = errors.New("store: the refund is more than what is left of the payment")
	ErrRefundExists    = errors.New("store: the refund number is taken by another refund")
	ErrErased          = errors.New("store: this person's data was erased") // the id stays dead
	ErrOtherBody       = errors.New("store: the idempotency key was used with another body")
	ErrSealed          = errors.New("store: no key opens this value")
	ErrInvalid         = errors.New("store: invalid input") // the text names the field and its rule
	ErrInUse           = errors.New("store: another process has the database")
	ErrClosed          = errors.New("store: closed")
	ErrAway            = errors.New("store: the database does not answer, or takes no changes") // try again later
)

// A Key seals secrets at rest (AES-256-GCM; the ID is stored beside the sealed value).
type Key struct {
	ID     string // at most 64 bytes, its own for each key
	Secret []byte // 32 bytes
}

// Options say where the data is.
type Options struct {
	URL    string // a SQLite file's path, or postgres://…
	Conns  int    // the most connections to PostgreSQL; 0: 16
	Keys   []Key  // the first seals, all open; at least one
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	// MailAge is how long mail is kept that nobody acknowledges, 0: 30 days; acknowledged mail goes after 7 days, or then.
	MailAge time.Duration
	// MailCount is how many letters a mailbox keeps, the newest; 0: 1000.
	MailCount int
}

// DB is the store. Safe for concurrent use.
type DB struct {
	engine engine
	keys   *keyring
	epoch  string // of the mail
	log    *slog.Logger
	now    func() time.Time
	wake   chan struct{}

	mailAge    time.Duration
	mailCount  int
	counts     mailTotals
	alarmWatch atomic.Pointer[AlarmWatch]

	pingMu   sync.Mutex
	pingedAt time.Time // the last write of Ping that succeeded

	closeOnce sync.Once
	closeErr  error
}

// Open opens the store and brings its schema up to date. A SQLite file and its folder are made when they are missing;
// a file that another process has open is refused with that process's id (ErrInUse).
func Open(ctx context.Context, o Options) (*DB, error) {
	keys, err := newKeyring(o.Keys)
	if err != nil {
		return nil, err
	}
	db := &DB{keys: keys, log: o.Logger, now: o.Now, wake: make(chan struct{}, 1)}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.now == nil {
		db.now = time.Now
	}
	if db.mailAge, db.mailCount = o.MailAge, o.MailCount; db.mailAge <= 0 {
		db.mailAge = mailKept
	}
	if db.mailCount <= 0 {
		db.mailCount = mailCount
	}
	kind := "sqlite"
	switch {
	case o.URL == "":
		return nil, fmt.Errorf("%w: the database's URL is missing", ErrInvalid)
	case strings.HasPrefix(o.URL, "postgres://"), strings.HasPrefix(o.URL, "postgresql://"):
		kind = "postgres"
		db.engine, err = openPostgres(ctx, o.URL, o.Conns, keys, db.now, db.ring, db.log)
	case strings.Contains(o.URL, "://"):
		return nil, fmt.Errorf("%w: the database's URL must be a file's path or begin with postgres://", ErrInvalid)
	default:
		db.engine, err = openSQLite(ctx, o.URL, keys, db.now, db.ring)
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", kind, err)
	}
	db.engine = counting{db.engine, db}
	if db.epoch, err = db.readEpoch(ctx); err != nil {
		db.engine.close()
		return nil, fmt.Errorf("store: read the epoch: %w", err)
	}
	db.log.Info("store open", "kind", kind, "epoch", db.epoch)
	return db, nil
}

// Close waits for the changes that run and closes the store. Later calls fail with ErrClosed or the driver's error.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), renewWait)
		defer cancel()
		if err := db.Renew(ctx); err != nil {
			db.log.Warn("a copy of the database from before this stop may pass for it", "err", err)
		}
		db.closeErr = db.engine.close()
	})
	return db.closeErr
}

const pingEvery = time.Second // a stranger may call readiness often; each Ping beyond is an fsync

// Ping tells whether the store can be written (readiness). It writes, at most once a second.
func (db *DB) Ping(ctx context.Context) error {
	now := time.Now() // monotonic, unlike db.now
	db.pingMu.Lock()
	fresh := !db.pingedAt.IsZero() && now.Sub(db.pingedAt) < pingEvery
	db.pingMu.Unlock()
	if fresh {
		return nil
	}
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO meta (name, value) VALUES ('pinged_at', ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, t.now.UTC().Format(time.RFC3339))
		return err
	})
	if err != nil {
		return fmt.Errorf("store: write: %w", err)
	}
	db.pingMu.Lock()
	db.pingedAt = now
	db.pingMu.Unlock()
	return nil
}

// Wake is signalled whenever a commit of this process added work to the outbox. It is never closed.
// One signal may stand for many commits.
func (db *DB) Wake() <-chan struct{} { return db.wake }

func (db *DB) ring() {
	select {
	case db.wake <- struct{}{}:
	default: // a signal waits already
	}
}

// newID is a random name of 128 bits, [a-z2-7]{26}.
func newID() string { return strings.ToLower(rand.Text()) }
