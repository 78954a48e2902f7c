package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

// migrationLock is a table of one row: who migrates locks it.
const migrationLock = "store_migration_lock"

// migrate runs the migrations. Of servers that begin at once one does so, and the
// others find them done.
func (e *postgres) migrate(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	if err = makeMigrationLock(ctx, conn); err == nil {
		err = lockedAway(ctx, conn, func() error {
			return besideReaders(func() error { return migrate(ctx, goose.DialectPostgres, db, collated{}) })
		})
	}
	return errors.Join(err, conn.Close())
}

// besideReaders tries again what readers of other servers were in the way of:
// they read tables in any order. A migration is one transaction, so nothing of it
// is left.
func besideReaders(migrate func() error) error {
	const most = 10
	for n := 1; ; n++ {
		err := migrate()
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != deadlockDetected || n == most {
			return err
		}
	}
}

// makeMigrationLock makes the table and its row. Of two that make it at once
// PostgreSQL fails one, which finds it made when it looks again.
func makeMigrationLock(ctx context.Context, conn *sql.Conn) error {
	const (
		table = `CREATE TABLE IF NOT EXISTS ` + migrationLock + ` (id BIGINT PRIMARY KEY)`
		row   = `INSERT INTO ` + migrationLock + ` (id) VALUES (1) ON CONFLICT (id) DO NOTHING`
	)
	_, err := conn.ExecContext(ctx, table)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && slices.Contains(madeMeanwhile, refused.Code) {
		_, err = conn.ExecContext(ctx, table)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, row)
	}
	return err
}

// madeMeanwhile are the codes by which PostgreSQL refuses the second of two that make
// one table: by the index of its catalog, or by the name of the table or of its row type.
var madeMeanwhile = []string{uniqueViolation, duplicateTable, duplicateObject}

// lockedAway calls fn while conn holds the row.
func lockedAway(ctx context.Context, conn *sql.Conn, fn func() error) error {
	for _, statement := range []string{"BEGIN", unhurried, `SELECT id FROM ` + migrationLock + ` FOR UPDATE`} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	err := fn()
	_, over := conn.ExecContext(ctx, "COMMIT")
	return errors.Join(err, over)
}

// unhurried lets a transaction idle for as long as it likes: one that waits for
// another to be copied or migrated.
const unhurried = "SET LOCAL idle_in_transaction_session_timeout = 0"
