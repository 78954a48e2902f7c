package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
)

// postgres runs a PostgreSQL for the script: "postgres NAME…" sets each variable
// to the URL of an empty database of it.
func postgres(ts *testscript.TestScript, _ bool, names []string) {
	dir, err := os.MkdirTemp("", "rotunda-postgres-")
	ts.Check(err)
	server, err := postgrestest.Start(dir)
	ts.Check(err)
	ts.Defer(func() {
		_ = server.Kill() // its data goes anyway
		os.RemoveAll(dir)
	})
	for _, name := range names {
		_, err := server.Exec(context.Background(), "CREATE DATABASE "+name)
		ts.Check(err)
		ts.Setenv(name, server.URL(name))
	}
}

// Of inits that make a store in one database at once one founds it, and the
// others take nothing of it away.
func TestInitsAtOnce(t *testing.T) {
	server := postgrestest.Run(t)
	for range 4 {
		url := server.Database(t)
		var group sync.WaitGroup
		var founded atomic.Int32
		for range 3 {
			state := filepath.Join(t.TempDir(), "state")
			group.Go(func() {
				root := newRootCommand()
				root.SetArgs([]string{"init", "--trust-domain", "prod.example", "--state", state, "--store", url, "--name", "localhost"})
				root.SetOut(io.Discard)
				root.SetErr(io.Discard)
				if root.ExecuteContext(t.Context()) == nil {
					founded.Add(1)
				}
			})
		}
		group.Wait()
		db, err := store.Open(t.Context(), store.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		domain, err := db.TrustDomain(t.Context())
		if founded.Load() != 1 || domain != "prod.example" || err != nil {
			t.Errorf("%d inits say that they founded it; its trust domain is %q, %v", founded.Load(), domain, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
