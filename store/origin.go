package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A database that was put back from a copy stands where the copy stood: sequence numbers that phones have seen are given
// again. So its mail gets a new epoch, and phones that come back are told to start afresh. The database tells a copy of
// itself by its origin, a name that the copy cannot have.

// origin of a SQLite file is what a file beside it says, which changes at every start, every stop and twice a minute (Renew): the copy
// is older than that. Both names stand in the file while the change is being committed.
func (s *sqlite) origin(_ *tx, was string) (now string, same bool, err error) {
	name := s.path + ".life"
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	same = was == "" || slices.Contains(strings.Fields(string(text)), was)
	now = newID()
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+"-*")
	if err != nil {
		return "", false, err
	}
	_, err = fmt.Fprintln(f, was+"\n"+now)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return now, same, err
}

// origin of a PostgreSQL database is its cluster, the database and the table of letters by their numbers there: a dump that
// is read back makes them anew.
func (p *postgres) origin(t *tx, was string) (now string, same bool, err error) {
	var cluster string
	var may bool
	if err := t.row([]any{&may}, "SELECT has_function_privilege('pg_control_system()', 'execute')"); err != nil {
		return "", false, err
	}
	if may {
		if err := t.row([]any{&cluster}, "SELECT system_identifier::text FROM pg_control_system()"); err != nil {
			return "", false, err
		}
	}
	if err := t.row([]any{&now}, "SELECT oid::text || '.' || 'letters'::regclass::oid::text FROM pg_database WHERE datname = current_database()"); err != nil {
		return "", false, err
	}
	now = cluster + "." + now
	return now, was == "" || was == now, nil
}

// readEpoch finds the name of this database's mail, and gives it one the first time and when it was put back from a copy.
func (db *DB) readEpoch(ctx context.Context) (epoch string, err error) {
	err = db.engine.write(ctx, func(t *tx) error {
		same, err := t.renewOrigin(db.engine)
		if err != nil {
			return err
		}
		keep := " DO NOTHING"
		if !same {
			keep = " DO UPDATE SET value = excluded.value"
		}
		if _, err := t.exec("INSERT INTO meta (name, value) VALUES ('epoch', ?) ON CONFLICT (name)"+keep, newID()); err != nil {
			return err
		}
		return t.row([]any{&epoch}, "SELECT value FROM meta WHERE name = 'epoch'")
	})
	return epoch, err
}

// renewOrigin compares the origin with the one that was written down, and writes down the present one.
func (t *tx) renewOrigin(e engine) (same bool, err error) {
	var was string
	if err := t.row([]any{&was}, "SELECT value FROM meta WHERE name = 'origin'"+t.lock); err != nil && err != ErrNotFound {
		return false, err
	}
	now, same, err := e.origin(t, was)
	if err == nil {
		_, err = t.exec("INSERT INTO meta (name, value) VALUES ('origin', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", now)
	}
	return same, err
}

const renewWait = 2 * time.Second // at a stop; whoever starts next renews it anyway

// Renew makes copies of before now older than this database: one that is put back later is known by that. Somebody
// should call it twice a minute; the name before the last one is still good.
func (db *DB) Renew(ctx context.Context) error {
	err := db.engine.write(ctx, func(t *tx) error {
		_, err := t.renewOrigin(db.engine)
		return err
	})
	if err != nil {
		return fmt.Errorf("renew origin: %w", err)
	}
	return nil
}
