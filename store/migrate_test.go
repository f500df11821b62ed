package store

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// A database of the first schema, with data in it, is brought up to date; and each step back can be taken.
func TestMigrate_upAndDown(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		testMigrate(t, "sqlite", goose.DialectSQLite3, filepath.Join(t.TempDir(), "wxhub.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		testMigrate(t, "pgx", goose.DialectPostgres, newPostgres(t))
	})
}

func testMigrate(t *testing.T, driver string, dialect goose.Dialect, url string) {
	folder := map[string]string{"sqlite": "migrations/sqlite", "pgx": "migrations/postgres"}[driver]
	files, err := fs.Sub(migrations, folder)
	check(t, err)
	step := func(to int64) {
		t.Helper()
		raw, err := sql.Open(driver, url)
		check(t, err)
		defer raw.Close()
		p, err := goose.NewProvider(dialect, raw, files, goose.WithDisableGlobalRegistry(true))
		check(t, err)
		if version, err := p.GetDBVersion(t.Context()); err == nil && version > to {
			_, err = p.DownTo(t.Context(), to)
			check(t, err)
		} else {
			_, err = p.UpTo(t.Context(), to)
			check(t, err)
		}
		if to != 1 {
			return
		}
		for _, query := range []string{
			"DELETE FROM talks", "DELETE FROM conversations", "DELETE FROM users",
			"INSERT INTO users (id, app_id, open_id, nickname, created_at, seen_at) VALUES ('alice', 'wx1', 'o1', '小明', 1, 1)",
			"INSERT INTO conversations (id, user_id, last_at, last_text, unread) VALUES ('c1', 'alice', 9000, '在', 0), ('c2', 'bob', 0, '', 0)",
			`INSERT INTO talks (conversation_id, id, speaker, msg_id, type, content, pic_url, media_id, title, page_path, at) VALUES
				('c1', 'k1', 'user', '', 'text', '在吗', '', '', '', '', 8000), ('c1', 'k2', 'staff', '', 'text', '在', '', '', '', '', 9000)`,
		} {
			if _, err := raw.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		step(1)
		db, err := Open(t.Context(), Options{URL: url, Keys: testKeys})
		check(t, err)
		all := must(db.Conversations(t.Context(), 0))(t)
		if len(all) != 1 || !all[0].LastUserAt.Equal(time.UnixMilli(8000)) || all[0].Nickname != "小明" {
			t.Errorf("conversations %+v", all)
		}
		if u := must(db.User(t.Context(), "alice"))(t); u.Phone != "" || u.OpenID != "o1" {
			t.Errorf("user %+v", u)
		}
		check(t, db.SetPhone(t.Context(), "alice", "+8613800138000"))
		check(t, db.Close())
	}
	step(0)
}
