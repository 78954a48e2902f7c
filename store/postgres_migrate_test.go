package store_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// older is a database with a store of an older schema, and a connection to it.
func older(t *testing.T, server *postgrestest.Server, schema int64) (url string, conn *sql.Conn) {
	t.Helper()
	url = server.Database(t)
	db := storetest.Raw(t, url)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName("store_migration"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	conn, err = db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return url, conn
}

// A server of the version before is in the middle of a transaction when a newer
// one migrates the store: neither waits for the other forever, whichever order
// it takes tables in.
func TestMigrateBesideServersAtWork(t *testing.T) {
	server := postgrestest.Run(t)
	for name, test := range map[string]struct {
		schema        int64
		looks         string // after how long of waiting it looks who waits for whom: the first that does gives way
		before, after string
	}{
		"a writer": {15, "1ms", `SELECT last_commit FROM store_meta FOR UPDATE`, `UPDATE agent SET boot = boot + 1`},
		// The next migration alters placement, and then slot.
		"a reader": {1, "1h", `SELECT COUNT(*) FROM slot`, `SELECT COUNT(*) FROM placement`},
	} {
		t.Run(name, func(t *testing.T) {
			url, conn := older(t, server, test.schema)
			do(t, conn, `SET deadlock_timeout = '`+test.looks+`'`, `BEGIN`, test.before)
			migrated := make(chan error, 1)
			go func() {
				db, err := store.Open(context.WithoutCancel(t.Context()), store.Options{URL: url})
				if err == nil {
					err = db.Close()
				}
				migrated <- err
			}()
			waitForLock(t, server)
			do(t, conn, test.after, `COMMIT`)
			if err := <-migrated; err != nil {
				t.Errorf("migrate: %v", err)
			}
		})
	}
}

func do(t *testing.T, conn *sql.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// A store of another trust domain than is wanted is not migrated before it is
// refused.
func TestOthersAreNotMigrated(t *testing.T) {
	const others = `UPDATE store_meta SET trust_domain = 'other.example'`
	path := filepath.Join(t.TempDir(), "rotunda.db")
	first(t, path, others)
	url, conn := older(t, postgrestest.Run(t), 1)
	do(t, conn, others)
	for _, o := range []store.Options{{Path: path}, {URL: url}} {
		o.TrustDomain = "test.example"
		db, err := store.Open(t.Context(), o)
		if err == nil {
			db.Close()
		}
		if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"other.example", this server is set up for "test.example" (put the right store`) {
			t.Errorf("%v: %v", o, err)
		}
		var schema int
		err = storetest.Raw(t, o.Path+o.URL).QueryRow(`SELECT schema_version FROM store_meta`).Scan(&schema)
		if err != nil || schema != 1 {
			t.Errorf("%v: schema %d, %v", o, schema, err)
		}
	}
}
