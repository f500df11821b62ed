package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

const (
	busyTimeout  = 3 * time.Second       // for somebody else's lock (a backup tool); WeChat hangs up after 5 s
	batchMost    = 256                   // transactions in one commit
	batchLongest = 20 * time.Millisecond // of running them before they are committed; an fsync takes about as long
)

// sqlite is one file in WAL mode: a single writer and a pool of readers.
//
// The writer takes all transactions that wait, runs each in a savepoint and commits them together, so that one
// fsync makes many durable. A transaction that fails is rolled back alone.
type sqlite struct {
	path    string // absolute
	hold    *hold
	keys    *keyring
	now     func() time.Time
	wake    func()
	readers *sql.DB
	reads   *prepared
	writers *sql.DB

	conn  *sql.Conn // owned by the writer's goroutine; nil: to be taken
	stmts *prepared // of conn

	jobs  chan *job
	stop  chan struct{} // closed by close
	ended chan struct{} // closed when the writer has ended
}

// A job is one transaction on its way through the writer.
type job struct {
	ctx   context.Context
	fn    func(*tx) error
	state atomic.Int32  // jobWaits → jobTaken (by the writer) or jobLeft (by its caller)
	ran   chan struct{} // closed when fn has ended; before it, err is set if fn failed
	done  chan struct{} // closed when the outcome is known
	err   error         // written before done is closed
	panic any
	rang  bool
}

const (
	jobWaits int32 = iota
	jobTaken
	jobLeft
)

func openSQLite(ctx context.Context, path string, keys *keyring, now func() time.Time, wake func()) (*sqlite, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // two names of one file share one lock
	}
	h, err := takeHold(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &sqlite{path: path, hold: h, keys: keys, now: now, wake: wake,
		jobs: make(chan *job), stop: make(chan struct{}), ended: make(chan struct{})}
	if err := s.start(ctx, path); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	go s.loop()
	return s, nil
}

func (s *sqlite) start(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite alone would let everybody read it
	if err != nil {
		return err
	}
	f.Close()
	dsn := func(more ...string) string {
		u := url.URL{Scheme: "file", OmitHost: true, Path: "/" + strings.TrimPrefix(filepath.ToSlash(path), "/")}
		u.RawQuery = url.Values{"_pragma": append(more, fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
			"synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)")}.Encode()
		return u.String()
	}
	if s.writers, err = sql.Open("sqlite", dsn("journal_mode(WAL)", "journal_size_limit(67108864)", "cache_size(-16000)")); err != nil {
		return err
	}
	s.writers.SetMaxOpenConns(1)
	var mode string
	if err := s.writers.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("this file system cannot hold the database (journal mode %s instead of wal)", mode)
	}
	if err := migrate(ctx, s.writers, "sqlite"); err != nil {
		return err
	}
	// Nobody else has the file: whoever held these is dead.
	for _, query := range []string{
		"UPDATE outbox SET owner = '', due_at = 0 WHERE state = 0 AND owner <> ''",
		"UPDATE fallbacks SET owner = '', due_at = 0 WHERE state IN ('waiting', 'sending') AND owner <> ''",
		"DELETE FROM leases",
		"DELETE FROM nodes",
	} {
		if _, err := s.writers.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	if s.readers, err = sql.Open("sqlite", dsn("query_only(1)")); err != nil {
		return err
	}
	n := max(4, 2*runtime.GOMAXPROCS(0))
	s.readers.SetMaxOpenConns(n)
	s.readers.SetMaxIdleConns(n)
	s.reads = &prepared{on: s.readers}
	return nil
}

func (s *sqlite) closeFiles() error {
	var errs []error
	if s.reads != nil {
		s.reads.close()
	}
	for _, db := range []*sql.DB{s.readers, s.writers} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.hold.release())...)
}

func (s *sqlite) close() error {
	close(s.stop)
	<-s.ended
	s.dropConn()
	return s.closeFiles()
}

func (s *sqlite) read(ctx context.Context, snapshot bool, fn func(*tx) error) error {
	t := &tx{ctx: ctx, on: s.reads, keys: s.keys, now: s.now()}
	if !snapshot {
		return fn(t)
	}
	sqlTx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer sqlTx.Rollback()
	t.on = sqlTx
	return fn(t)
}

func (s *sqlite) write(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, fn: fn, ran: make(chan struct{}), done: make(chan struct{})}
	select {
	case s.jobs <- j:
	case <-s.ended:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-j.done:
	case <-s.ended: // the last batch, or runtime.Goexit in a caller's function
		select {
		case <-j.done:
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobWaits, jobLeft) {
			return ctx.Err()
		}
		select { // fn may hold on to what belongs to the caller
		case <-j.ran:
		case <-s.ended:
		}
		select {
		case <-j.done:
		default:
			return ctx.Err()
		}
	}
	if j.panic != nil {
		panic(j.panic)
	}
	return j.err
}

// loop is the writer.
func (s *sqlite) loop() {
	defer close(s.ended)
	for {
		select {
		case <-s.stop:
			return
		case j := <-s.jobs:
			s.batch(j)
		}
	}
}

// batch commits first and all others that wait.
func (s *sqlite) batch(first *job) {
	if err := s.begin(); err != nil {
		for j := first; j != nil; j = s.next() {
			j.end(err)
		}
		s.dropConn()
		return
	}
	var ran []*job
	began := time.Now()
	for j := first; j != nil; {
		if j.state.CompareAndSwap(jobWaits, jobTaken) {
			ok, err := s.run(j)
			if err != nil { // the whole transaction is lost
				s.dropConn()
				for _, j := range append(ran, j) {
					j.end(err)
				}
				return
			}
			if ok {
				ran = append(ran, j)
			}
		}
		if j = nil; len(ran) < batchMost && time.Since(began) < batchLongest {
			j = s.next()
		}
	}
	end := "COMMIT"
	if len(ran) == 0 {
		end = "ROLLBACK"
	}
	_, err := s.stmts.ExecContext(context.Background(), end)
	if err != nil {
		s.dropConn()
	}
	if err == nil && slices.ContainsFunc(ran, func(j *job) bool { return j.rang }) {
		s.wake()
	}
	for _, j := range ran {
		j.end(err)
	}
}

func (s *sqlite) next() *job {
	select {
	case j := <-s.jobs:
		return j
	default:
		return nil
	}
}

// begin starts the writer's transaction. The callers may still leave while it waits for a lock.
func (s *sqlite) begin() error {
	if s.conn == nil {
		conn, err := s.writers.Conn(context.Background())
		if err != nil {
			return err
		}
		s.conn, s.stmts = conn, &prepared{on: conn}
	}
	_, err := s.stmts.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	return err
}

// run runs j in a savepoint. ok: it waits for the commit; otherwise it has ended with its own error.
// err: SQLite gave the whole transaction up (disk full, I/O).
//
// The statements do not hear of the end of j.ctx: SQLite undoes a whole transaction when it is interrupted.
func (s *sqlite) run(j *job) (ok bool, err error) {
	if err := j.ctx.Err(); err != nil {
		j.fail(err)
		return false, nil
	}
	ctx := context.WithoutCancel(j.ctx)
	if _, err := s.stmts.ExecContext(ctx, "SAVEPOINT job"); err != nil {
		j.fail(err)
		return false, err
	}
	t := &tx{ctx: ctx, on: s.stmts, keys: s.keys, now: s.now()}
	failure := j.call(t)
	if failure == nil {
		failure = j.ctx.Err()
	}
	undo := failure != nil || j.panic != nil
	if undo {
		if _, err := s.stmts.ExecContext(ctx, "ROLLBACK TO job"); err != nil {
			j.fail(failure)
			return false, errors.Join(failure, err)
		}
	}
	if _, err := s.stmts.ExecContext(ctx, "RELEASE job"); err != nil {
		j.fail(err)
		return false, err
	}
	if undo {
		j.fail(failure)
		return false, nil
	}
	j.rang = t.rang
	close(j.ran)
	return true, nil
}

// call runs fn and catches its panic, so that one caller's mistake does not end the writer of all.
func (j *job) call(t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.panic = p
		}
	}()
	return j.fn(t)
}

// fail ends j before the commit.
func (j *job) fail(err error) {
	j.err = err
	close(j.done)
	close(j.ran)
}

// end tells the outcome to a caller that has not been told.
func (j *job) end(err error) {
	select {
	case <-j.done:
	default:
		j.err = err
		close(j.done)
	}
}

// dropConn closes the writer's connection with whatever transaction is left in it.
func (s *sqlite) dropConn() {
	if s.conn == nil {
		return
	}
	s.stmts.close()
	s.conn.Raw(func(any) error { return driver.ErrBadConn })
	s.conn.Close()
	s.conn, s.stmts = nil, nil
}
