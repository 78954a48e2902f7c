package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for Raw
	_ "modernc.org/sqlite"             // for Raw

	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// Place is where a test's own store is to be made: a file, or a database of the
// PostgreSQL that the environment names. Make is the quick way to do so.
func Place(t testing.TB) string {
	t.Helper()
	if server := os.Getenv(postgrestest.Environment); server != "" {
		return Database(t, server)
	}
	return filepath.Join(t.TempDir(), "rotunda.db")
}

// Database makes a database for the test at the server that the URL leads to.
// It has the tables of a store, and no more: who makes the store goes on from
// there, as after a crash.
func Database(t testing.TB, server string) string {
	t.Helper()
	return postgrestest.Database(t, server, postgrestest.Template{
		Name: fmt.Sprintf("store_%d", migrations.Schema),
		Fill: func(ctx context.Context, url string) error { return makeAt(ctx, store.Options{URL: url}) },
	})
}

// Make makes a store as store.Open does, but a file from a copy of one that this
// process made before: to run every migration takes most of a small test's time.
func Make(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	o.Create = o.Path == ""
	if !o.Create {
		file, err := madeFile()
		check(t, err)
		check(t, os.WriteFile(o.Path, file, 0o600))
		created := time.Now()
		if o.Now != nil {
			created = o.Now()
		}
		beside := Raw(t, o.Path)
		_, err = beside.Exec(`UPDATE store_meta SET created_at = $1`, created.UnixMicro())
		check(t, errors.Join(err, beside.Close()))
	}
	db, err := store.Open(t.Context(), o)
	check(t, err)
	return db
}

// madeFile is the content of a store that was just made, at a time before any
// that a test goes by.
var madeFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "rotunda-store-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "rotunda.db")
	long := func() time.Time { return time.Unix(0, 0) }
	if err := makeAt(context.Background(), store.Options{Path: path, Now: long}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Raw opens the database of a store beside it: for what nobody should do.
func Raw(t testing.TB, place string) *sql.DB {
	t.Helper()
	absolute, err := filepath.Abs(place)
	check(t, err)
	driver, source := "sqlite", (&url.URL{Scheme: "file", Path: absolute}).String()
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

func makeAt(ctx context.Context, o store.Options) error {
	o.Create = true
	db, err := store.Open(ctx, o)
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
