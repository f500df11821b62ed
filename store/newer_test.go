package store

import (
	"database/sql"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Nodes of two versions share a database while they are restarted one after the other: the newer one migrates it under
// the older one, which goes on, and may start again. That holds because a migration only adds: a table, a column that
// has a default, an index that refuses nothing.
func TestMigrate_onlyAdds(t *testing.T) {
	for _, dialect := range []string{"sqlite", "postgres"} {
		names, err := fs.Glob(migrations, "migrations/"+dialect+"/*.sql")
		check(t, err)
		if len(names) < 4 {
			t.Errorf("%s: %d migrations", dialect, len(names))
		}
		unique := make(map[string]bool) // indexes of all migrations so far that refuse something
		for i, name := range names {
			text, err := migrations.ReadFile(name)
			check(t, err)
			bad := takesAway(string(text), unique)
			if i > 0 && len(bad) > 0 {
				t.Errorf("%s takes something away from the version before: %q", path.Join(dialect, path.Base(name)), bad)
			}
		}
	}
	for statement, ok := range map[string]bool{
		"CREATE TABLE a (id TEXT PRIMARY KEY); CREATE UNIQUE INDEX b ON a (id)": true,
		"ALTER TABLE a ADD COLUMN b TEXT":                                       true,
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT ''":                   true,
		"DROP INDEX plain; CREATE INDEX plain ON a (c)":                         true,
		"UPDATE a SET b = 1":                                                    true,
		"INSERT INTO a (b) VALUES (1)":                                          true,
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL":                              false,
		"ALTER TABLE a ADD COLUMN b TEXT UNIQUE":                                false,
		"ALTER TABLE a DROP COLUMN b":                                           false,
		"ALTER TABLE a RENAME COLUMN b TO c":                                    false,
		"alter table a rename to b":                                             false,
		"ALTER TABLE a ALTER COLUMN b SET NOT NULL":                             false,
		"ALTER TABLE a ADD CONSTRAINT b CHECK (c > 0)":                          false,
		"ALTER TABLE a ADD COLUMN b BIGINT, DROP COLUMN c":                      false,
		"CREATE UNIQUE INDEX b ON a (c)":                                        false,
		"DROP INDEX only":                                                       false,
		"DROP TABLE a":                                                          false,
		"DELETE FROM a":                                                         false,
	} {
		if bad := takesAway("-- +goose Up\n"+statement+";\n-- +goose Down\nDROP TABLE a;", map[string]bool{"only": true}); (len(bad) == 0) != ok {
			t.Errorf("%s: %q", statement, bad)
		}
	}
}

var (
	comment     = regexp.MustCompile(`--[^\n]*`)
	newTable    = regexp.MustCompile(`(?i)^CREATE TABLE (\w+)`)
	newIndex    = regexp.MustCompile(`(?i)^CREATE (UNIQUE )?INDEX (\w+) ON (\w+)`)
	newColumn   = regexp.MustCompile(`(?i)^ALTER TABLE \w+ ADD COLUMN \w+ \w+( NOT NULL DEFAULT ('[^']*'|[\w.-]+)| DEFAULT ('[^']*'|[\w.-]+))?$`)
	lostIndex   = regexp.MustCompile(`(?i)^DROP INDEX (\w+)$`)
	changedRows = regexp.MustCompile(`(?i)^(UPDATE|INSERT INTO) `)
)

// takesAway returns the statements of a migration's way up that the version before could stumble over. It notes in
// unique the indexes that an ON CONFLICT may rely on.
func takesAway(migration string, unique map[string]bool) (bad []string) {
	up, _, _ := strings.Cut(migration, "-- +goose Down")
	tables := make(map[string]bool)
	for statement := range strings.SplitSeq(comment.ReplaceAllString(up, ""), ";") {
		statement = strings.Join(strings.Fields(statement), " ")
		ok := statement == "" || newColumn.MatchString(statement) || changedRows.MatchString(statement)
		if m := newTable.FindStringSubmatch(statement); m != nil {
			tables[m[1]], ok = true, true
		}
		if m := newIndex.FindStringSubmatch(statement); m != nil {
			ok = m[1] == "" || tables[m[3]]
			unique[m[2]] = m[1] != ""
		}
		if m := lostIndex.FindStringSubmatch(statement); m != nil {
			ok = !unique[m[1]]
		}
		if !ok {
			bad = append(bad, statement)
		}
	}
	return bad
}

// Every promise of a store holds on a database that a newer version has migrated: on PostgreSQL while this one has it
// open and has used it, on SQLite, which has one process, when this one is started again.
func TestStore_newerSchema(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		if os.Getenv("WXHUB_CHAOS") != "long" {
			t.Skip("skipped: part of the long form (make chaos)")
		}
		testStore(t, func(t testing.TB, c *clock) *DB {
			url := filepath.Join(t.TempDir(), "wxhub.db")
			check(t, must(Open(t.Context(), Options{URL: url, Keys: testKeys}))(t).Close())
			addEverywhere(t, "sqlite", url)
			return openTest(t, Options{URL: url, Now: c.now})
		})
	})
	t.Run("postgres", func(t *testing.T) {
		testStore(t, func(t testing.TB, c *clock) *DB {
			url := newPostgres(t)
			db := openTest(t, Options{URL: url, Now: c.now})
			check(t, db.PutNode(t.Context(), Node{ID: "before"}))
			must(db.Nodes(t.Context(), time.Time{}))(t)
			addEverywhere(t, "pgx", url)
			must(db.Nodes(t.Context(), time.Time{}))(t)
			check(t, db.RemoveNode(t.Context(), "before"))
			return db
		})
	})
}

// addEverywhere does to a database what a newer version may: each table has a column more, and there is a new one.
func addEverywhere(t testing.TB, driver, url string) {
	t.Helper()
	raw, err := sql.Open(driver, url)
	check(t, err)
	defer raw.Close()
	query, yes := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'", "1"
	if driver == "pgx" {
		query, yes = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'goose_%'", "true"
	}
	rows, err := raw.QueryContext(t.Context(), query)
	check(t, err)
	statements := []string{"CREATE TABLE newer_things (id TEXT PRIMARY KEY)", "INSERT INTO goose_db_version (version_id, is_applied) VALUES (90000, " + yes + ")"}
	for rows.Next() {
		var table string
		check(t, rows.Scan(&table))
		statements = append(statements, "ALTER TABLE "+table+" ADD COLUMN newer_word TEXT NOT NULL DEFAULT 'new'")
	}
	check(t, rows.Err())
	check(t, rows.Close())
	if len(statements) < 20 {
		t.Fatalf("only %d tables", len(statements)-2)
	}
	for _, statement := range statements {
		if _, err := raw.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
