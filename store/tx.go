package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An engine runs transactions on one kind of database.
type engine interface {
	// write runs fn as one transaction: nil means that it reached the disk, an error that nothing of it did, except
	// for a ctx that ended during the commit, whose outcome is unknown but whole. fn may run again after a deadlock;
	// it never runs after write returned. A panic of fn undoes the transaction and goes on to the caller.
	write(ctx context.Context, fn func(*tx) error) error
	// read hands fn a reader; snapshot: all its queries see the same moment.
	read(ctx context.Context, snapshot bool, fn func(*tx) error) error
	// origin names what a copy of the database is not; same: was, which was written down in it before, is of this one.
	origin(t *tx, was string) (now string, same bool, err error)
	// close waits for the transactions that run; later ones fail with ErrClosed.
	close() error
}

// A tx runs the SQL of one transaction. Queries are written with ? for both databases.
type tx struct {
	ctx  context.Context
	on   runner
	pg   bool
	lock string // ends a SELECT whose row the transaction will change
	keys *keyring
	now  time.Time // of this transaction
	rang bool      // the outbox got work

	watch  *AlarmWatch // who hears of alarms; nil: nobody
	raised []Alarm     // by this transaction

	mailCount int        // letters that a mailbox keeps
	counts    MailCounts // what it does with mail
}

// A runner is what *sql.DB, *sql.Tx, *sql.Conn and prepared have in common.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec runs one statement and tells how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	r, err := t.on.ExecContext(t.ctx, t.text(query), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// row scans the only row of a query into dest; without a row it returns ErrNotFound.
func (t *tx) row(dest []any, query string, args ...any) error {
	err := t.on.QueryRowContext(t.ctx, t.text(query), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// rows calls each for every row of a query.
func (t *tx) rows(each func(scan func(dest ...any) error) error, query string, args ...any) error {
	rows, err := t.on.QueryContext(t.ctx, t.text(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *tx) text(query string) string {
	if !t.pg {
		return query
	}
	return numbered(query)
}

var numberedTexts sync.Map // query with ? → query with $1 …; the number of texts is that of the program's queries

// numbered writes PostgreSQL's placeholders. No query of ours has a ? that is none.
func numbered(query string) string {
	if text, ok := numberedTexts.Load(query); ok {
		return text.(string)
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	numberedTexts.Store(query, b.String())
	return b.String()
}

// maxList bounds the values of one IN (…); longer lists are cut into pieces.
const maxList = 512

// list makes "(?,?)" with its arguments for IN. It repeats the last item up to a power of two, so that lists of all
// lengths share ten statements. items must not be empty.
func list[T any](items []T) (marks string, args []any) {
	size := 1
	for size < len(items) {
		size *= 2
	}
	args = make([]any, size)
	for i := range args {
		args[i] = items[min(i, len(items)-1)]
	}
	return "(" + strings.Repeat(",?", size)[1:] + ")", args
}

// prepared keeps the statements of a connection or pool. It is safe for concurrent use if on is.
type prepared struct {
	on interface {
		runner
		PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	}
	mu    sync.RWMutex
	stmts map[string]*sql.Stmt
}

// maxPrepared bounds what is kept; the rest runs unprepared. Far above the number of queries of this package.
const maxPrepared = 400

func (p *prepared) stmt(query string) (*sql.Stmt, error) {
	p.mu.RLock()
	s, n := p.stmts[query], len(p.stmts)
	p.mu.RUnlock()
	if s != nil || n >= maxPrepared {
		return s, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.stmts[query]; s != nil {
		return s, nil
	}
	// Not the caller's context: the statement outlives the call.
	s, err := p.on.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	if p.stmts == nil {
		p.stmts = make(map[string]*sql.Stmt)
	}
	p.stmts[query] = s
	return s, nil
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.stmt(query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return p.on.ExecContext(ctx, query, args...)
	}
	return s.ExecContext(ctx, args...)
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.stmt(query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return p.on.QueryContext(ctx, query, args...)
	}
	return s.QueryContext(ctx, args...)
}

func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s, err := p.stmt(query); err == nil && s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return p.on.QueryRowContext(ctx, query, args...)
}

func (p *prepared) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.stmts {
		s.Close()
	}
	p.stmts = nil
}

// stamp is how a time is stored: milliseconds UTC, 0 for the zero time.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment reads a stamp.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
