package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is what a PostgreSQL tells of itself.
type Server struct {
	Version     string
	ReadOnly    bool          // a replica, or told to write nothing
	Forgets     bool          // fsync or synchronous_commit is off: what it confirmed may be gone after a crash
	Connections int           // the most that it takes
	Trip        time.Duration // to connect and ask
	Skew        time.Duration // its clock minus ours, as exact as Trip
}

// AskServer asks the PostgreSQL at url, and changes nothing there. Its error names no password.
func AskServer(ctx context.Context, url string) (s Server, err error) {
	began := time.Now()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return s, fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var clock time.Time
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery(),
		current_setting('fsync') = 'off' OR current_setting('synchronous_commit') = 'off', current_setting('max_connections')::int, clock_timestamp()`).
		Scan(&s.Version, &s.ReadOnly, &s.Forgets, &s.Connections, &clock)
	if err != nil {
		return s, fmt.Errorf("postgres: %w", err)
	}
	s.Trip = time.Since(began)
	s.Skew = clock.Sub(began.Add(s.Trip))
	return s, nil
}
