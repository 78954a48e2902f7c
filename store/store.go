// Package store keeps everything that Rotunda records: in one SQLite file, or in
// a PostgreSQL database that many servers share.
//
// A change is a call of [DB.Write]: all of it becomes durable together, and
// the call returns after that. One goroutine owns the writing connection. It
// takes all calls that wait, runs each within a savepoint of one transaction,
// commits once and then lets them return, so that the cost of making data
// durable is shared by all who wait for it. A call that fails undoes itself
// and leaves its neighbours alone. [DB.Read] runs on connections of their own,
// each on one snapshot, and waits for no writer.
//
// There is one file for each record: its struct, and the methods of [Tx] that
// read and write it with their SQL. The SQL means the same to PostgreSQL. Times
// are stored as integers, µs since 1970 in UTC. Statuses move by
// compare-and-swap: the WHERE clause holds the status that the caller saw, and
// a Conflict says that another was faster.
package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"
)

// Options says which store to open. Exactly one of Path and URL is set.
type Options struct {
	Path   string           // of the SQLite file; its -wal, -shm and .lock lie beside it
	URL    string           // of the PostgreSQL database, as libpq understands it
	Now    func() time.Time // nil: the system's clock, or the database's where servers share it
	Create bool             // make a new store; without it the store must exist

	TrustDomain string // that the store must be of; empty: whichever it is of
}

// DB is an open store. It is safe for use by many goroutines.
type DB struct {
	engine

	writing *sql.DB // opens the writer's connection
	queue   chan *call
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed when the writer has ended
	closer  sync.Once

	reading *sql.DB
	readers chan *session // idle ones; a nil is leave to open one

	changes  changes
	commits  commits
	follower follower
}

// Close refuses new calls, waits for the writes and reads that were begun, and
// closes the store.
func (db *DB) Close() error {
	var err error
	db.closer.Do(func() {
		close(db.closing)
		db.stopFollowing()
		<-db.stopped
		db.closeReaders()
		db.settle(db.writing)
		err = errors.Join(closeAll(db.reading, db.writing), db.engine.close())
	})
	return err
}

// Now is what the clock shows that commits go by: the database's, where servers
// share one.
func (db *DB) Now() time.Time { return db.now() }

// InTime refuses (Unavailable) while this host's clock is too far off Now for
// anything to be signed by either. What is written is refused then by itself.
func (db *DB) InTime() error { return db.inTime() }

// Place is where the store lies, for people: a path, or a URL without password.
func (db *DB) Place() string { return db.place() }

// TrustDomain is the one that this store belongs to; empty before it was set.
func (db *DB) TrustDomain(ctx context.Context) (string, error) {
	var meta Meta
	err := db.Read(ctx, func(tx *Tx) error {
		var err error
		meta, err = tx.Meta(ctx)
		return err
	})
	return meta.TrustDomain, err
}
