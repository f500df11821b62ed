package store

import (
	"database/sql"
	"testing"
)

func openTestPostgres(t testing.TB, c *clock) *DB { t.Skip("x"); return nil }
func stopPostgres() {}
func openSQLiteRaw(path string) (*sql.DB, error) { return sql.Open("sqlite", path) }
