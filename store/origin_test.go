package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
)

// Starts, kills and stops keep the mail's epoch; a copy that is put back has a new one.
func TestEpoch_sqliteCopy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "wxhub.db")
	open := func() *DB { return must(Open(t.Context(), Options{URL: path, Keys: testKeys}))(t) }
	copyTo := func(from, to string) {
		text := must(os.ReadFile(from))(t)
		check(t, os.WriteFile(to, text, 0o600))
	}
	db := open()
	epoch := db.epoch
	must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: "l1", Action: "x"}))(t)
	backup := filepath.Join(dir, "backup.db")
	check(t, db.engine.write(t.Context(), func(t *tx) error { return nil }))
	raw := must(sql.Open("sqlite", path))(t)
	must(raw.ExecContext(t.Context(), "VACUUM INTO ?", backup))(t)
	check(t, raw.Close())
	must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: "l2", Action: "x"}))(t)
	check(t, db.Close())
	if db = open(); db.epoch != epoch {
		t.Fatal("a restart changed the epoch")
	}
	// A copy of all files, as of a machine that moves, is the same database.
	check(t, db.Close())
	moved := filepath.Join(t.TempDir(), "wxhub.db")
	copyTo(path, moved)
	copyTo(path+".life", moved+".life")
	other := must(Open(t.Context(), Options{URL: moved, Keys: testKeys}))(t)
	if other.epoch != epoch {
		t.Error("a moved folder changed the epoch")
	}
	check(t, other.Close())
	// The backup is put back.
	for _, end := range []string{"-wal", "-shm"} {
		_ = os.Remove(path + end)
	}
	copyTo(backup, path)
	db = open()
	if db.epoch == epoch {
		t.Error("a copy that was put back has the epoch of what is gone")
	}
	if h := must(db.MailHeads(t.Context(), []string{"alice"}))(t)[0]; h.Epoch != db.epoch || h.Head != 1 {
		t.Errorf("head %+v", h)
	}
	epoch = db.epoch
	check(t, db.Close())
	if db = open(); db.epoch != epoch {
		t.Error("the next start changed it again")
	}
	check(t, db.Close())
	// A copy of a minute ago is put back after a kill, which renews nothing any more.
	db = open()
	epoch = db.epoch
	raw = must(sql.Open("sqlite", path))(t)
	check(t, os.Remove(backup))
	must(raw.ExecContext(t.Context(), "VACUUM INTO ?", backup))(t)
	check(t, raw.Close())
	for range 2 { // the name before the last one is still good, for a renewal that did not commit
		check(t, db.Renew(t.Context()))
	}
	life := must(os.ReadFile(path + ".life"))(t)
	check(t, db.Close())
	for _, end := range []string{"-wal", "-shm"} {
		_ = os.Remove(path + end)
	}
	copyTo(backup, path)
	check(t, os.WriteFile(path+".life", life, 0o600)) // as the kill left it
	if db = open(); db.epoch == epoch {
		t.Error("after a kill a copy has the epoch of what is gone")
	}
	check(t, db.Close())
	// Without the file beside it nobody knows: a new epoch is never wrong.
	check(t, os.Remove(path+".life"))
	if db = open(); db.epoch == epoch {
		t.Error("the epoch stayed")
	}
	check(t, db.Close())
}

func TestEpoch_postgresDump(t *testing.T) {
	url := newPostgres(t)
	open := func() *DB { return must(Open(t.Context(), Options{URL: url, Keys: testKeys}))(t) }
	db := open()
	epoch := db.epoch
	check(t, db.Close())
	one, two := open(), open()
	if one.epoch != epoch || two.epoch != epoch {
		t.Error("a restart changed the epoch")
	}
	check(t, one.Close())
	check(t, two.Close())
	// What pg_restore --clean does to a table.
	raw := must(sql.Open("pgx", url))(t)
	for _, query := range []string{"CREATE TABLE letters2 (LIKE letters INCLUDING ALL)", "DROP TABLE letters", "ALTER TABLE letters2 RENAME TO letters"} {
		must(raw.ExecContext(t.Context(), query))(t)
	}
	check(t, raw.Close())
	db = open()
	if db.epoch == epoch {
		t.Error("a dump that was read back has the epoch of what is gone")
	}
	epoch = db.epoch
	check(t, db.Close())
	if db = open(); db.epoch != epoch {
		t.Error("the next start changed it again")
	}
	check(t, db.Close())
}
