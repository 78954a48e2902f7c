package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // for Raw
	_ "modernc.org/sqlite"             // for Raw

	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// Place is where a test's own store is to be made: a file, or a database of the
// PostgreSQL that the environment names.
func Place(t testing.TB) string {
	t.Helper()
	if server := os.Getenv(postgrestest.Environment); server != "" {
		return postgrestest.Database(t, server, postgrestest.Template{
			Name: fmt.Sprintf("store_%d", migrations.Schema), Fill: begun,
		})
	}
	return filepath.Join(t.TempDir(), "rotunda.db")
}

// Raw opens the database of a store beside it: for what nobody should do.
func Raw(t testing.TB, place string) *sql.DB {
	t.Helper()
	driver, source := "sqlite", "file:"+place
	if store.IsURL(place) {
		driver, source = "pgx", place
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// NeedsFile skips a test that is about the file of a SQLite store where the
// stores of this run are PostgreSQL's: the run without that has it.
func NeedsFile(t testing.TB) {
	t.Helper()
	if os.Getenv(postgrestest.Environment) != "" {
		t.Skip("about the file of a SQLite store")
	}
}

// begun makes the tables of a store, and no more: who makes it then goes on
// from there, as after a crash.
func begun(ctx context.Context, url string) error {
	db, err := store.Open(ctx, store.Options{URL: url, Create: true})
	if err != nil {
		return err
	}
	return db.Close()
}

// PutBack exchanges the store at a place, which nobody uses, for a copy of it
// that store.Backup made.
func PutBack(t testing.TB, copied, place string) {
	t.Helper()
	content, err := os.ReadFile(copied)
	check(t, err)
	if !store.IsURL(place) {
		for _, beside := range []string{"-wal", "-shm"} {
			os.Remove(place + beside)
		}
		check(t, os.WriteFile(place, content, 0o600))
		return
	}
	again := filepath.Join(t.TempDir(), "again.db")
	check(t, os.WriteFile(again, content, 0o600))
	_, err = Raw(t, place).Exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	check(t, err)
	check(t, store.Move(t.Context(), store.Options{Path: again}, store.Options{URL: place}, func(store.Copied) {}))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
