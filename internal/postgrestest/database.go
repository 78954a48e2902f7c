package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Template is a database that others are copied from: made once at each server,
// by Fill, which gets its URL. The zero value is an empty one.
type Template struct {
	Name string
	Fill func(ctx context.Context, url string) error
}

var databases atomic.Uint64

// Database makes an empty database for the test and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return Database(t, s.URL("postgres"), Template{})
}

// Database makes a database for the test at the server that the URL leads to,
// and returns the database's URL. It is dropped when the test ends.
func Database(t testing.TB, server string, from Template) string {
	t.Helper()
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	if err := create(t.Context(), server, name, from); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := do(context.Background(), server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Logf("drop the test's database: %v", err) // its server may be gone
		}
	})
	return at(server, name)
}

func create(ctx context.Context, server, name string, from Template) error {
	if from.Name == "" {
		return copyAs(ctx, server, name, "template0")
	}
	copied := func() error { return copyAs(ctx, server, name, from.Name) }
	err := copied()
	if is(err, "3D000") { // there is none
		if err = fill(ctx, server, from); err == nil {
			err = copied()
		}
	}
	for is(err, "55006") { // somebody copies it now
		err = copied()
	}
	return err
}

// fill makes a template under another name, and leaves it if somebody else was
// as fast.
func fill(ctx context.Context, server string, from Template) error {
	temp := fmt.Sprintf("%s_%d_%d", from.Name, os.Getpid(), databases.Add(1))
	if err := copyAs(ctx, server, temp, "template0"); err != nil {
		return err
	}
	if err := from.Fill(ctx, at(server, temp)); err != nil {
		return err
	}
	err := do(ctx, server, "ALTER DATABASE "+temp+" RENAME TO "+from.Name)
	if is(err, "42P04") {
		return do(ctx, server, "DROP DATABASE "+temp)
	}
	return err
}

// copyAs copies a database file by file, which takes half of what it takes to
// write it to the log.
func copyAs(ctx context.Context, server, name, template string) error {
	return do(ctx, server, "CREATE DATABASE "+name+" STRATEGY FILE_COPY TEMPLATE "+template)
}

func do(ctx context.Context, url, sql string) error {
	_, err := execAt(ctx, url, sql)
	return err
}

func is(err error, state string) bool {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refused.Code == state
}

// at is the URL of another database of a server.
func at(server, database string) string {
	parsed, err := url.Parse(server)
	if err != nil {
		return server // which no connection is made to
	}
	parsed.Path = "/" + database
	return parsed.String()
}
