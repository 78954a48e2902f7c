package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

const (
	mostReaders = 4
	mostQueued  = 1024
)

// Open opens the store, or makes it. A SQLite file it takes for this process
// alone: a second server on the same file is refused. A store that a newer
// version changed beyond what this one can read is refused; one of an older
// version is migrated.
func Open(ctx context.Context, o Options) (*DB, error) {
	engine, err := engineOf(o)
	if err != nil {
		return nil, err
	}
	writing, reading, first, err := engine.prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	// A connection that is given back may have failed in a transaction: none is
	// used again.
	writing.SetMaxIdleConns(-1)
	reading.SetMaxIdleConns(-1)
	db := &DB{
		engine: engine, writing: writing, reading: reading,
		queue: make(chan *call, mostQueued), closing: make(chan struct{}), stopped: make(chan struct{}),
		readers: make(chan *session, mostReaders),
		changes: changes{next: make(chan struct{})},
	}
	for range mostReaders {
		db.readers <- nil
	}
	go db.write(first)
	err = db.Read(ctx, func(tx *Tx) error {
		last, err := tx.LastCommit(ctx)
		db.changes.begin(last)
		return err
	})
	db.startFollowing()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.fillTiles(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !db.shared() {
		_ = db.Write(ctx, func(tx *Tx) error { return tx.endLeases(ctx) }) // else they end by themselves
	}
	return db, nil
}

// served says whether a store is of this version's schema or a newer one that
// it may serve; one beyond that is refused, and one of another trust domain than
// is wanted, if any is.
func served(ctx context.Context, conn *sql.Conn, place, wanted string) (current bool, err error) {
	var schema, minimum int64
	var domain string
	err = conn.QueryRowContext(ctx, `SELECT schema_version, min_server_schema, trust_domain FROM store_meta`).Scan(&schema, &minimum, &domain)
	if err != nil {
		return false, err
	}
	if wanted != "" && domain != "" && wanted != domain {
		return false, fault.New(fault.Conflict, "the store is of trust domain %q, this server is set up for %q", domain, wanted).
			WithRemedy("put the right store in its place, or correct trustDomain in rotunda.yaml")
	}
	if err := mayServe(place, schema, minimum); err != nil {
		return false, err
	}
	return schema >= migrations.Schema, nil
}

// mayServe says whether this version may serve a store of a schema that wants
// servers of a schema.
func mayServe(place string, schema, minimum int64) error {
	if minimum >= movedAway {
		return fault.New(fault.Conflict, "the store in %s was moved to another place", place).
			WithRemedy("name that place as store in rotunda.yaml; servers that went on from both would fork the audit log")
	}
	if minimum > migrations.Schema {
		return fault.New(fault.Conflict, "store %s has schema %d and wants servers of schema %d or above; this one has %d", place, schema, minimum, migrations.Schema).
			WithRemedy("start a newer rotunda, or restore the backup taken before the upgrade")
	}
	return nil
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS) error {
	provider, err := goose.NewProvider(dialect, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName(migrationTable))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate store to schema %d: %w", migrations.Schema, err)
	}
	return nil
}

// migrationTable is where goose keeps which migrations have run.
const migrationTable = "store_migration"

func closeAll(closers ...io.Closer) error {
	var errs []error
	for _, c := range closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
