// Package store keeps everything that Rotunda records, in one SQLite file.
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
	"os"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// Options says which store to open.
type Options struct {
	Path   string           // of the SQLite file; its -wal, -shm and .lock lie beside it
	Now    func() time.Time // nil: the system's clock
	Create bool             // make a new store; without it the store must exist
}

// DB is an open store. It is safe for use by many goroutines.
type DB struct {
	path string
	now  func() time.Time
	lock *os.File
	file os.FileInfo // what stood at path when it was opened

	writing *sql.DB // opens the writer's connection
	queue   chan *call
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed when the writer has ended
	closer  sync.Once

	reading *sql.DB
	readers chan *session // idle ones; a nil is leave to open one

	changes changes
}

// Close refuses new calls, waits for the writes and reads that were begun, and
// closes the file.
func (db *DB) Close() error {
	var err error
	db.closer.Do(func() {
		close(db.closing)
		<-db.stopped
		db.closeReaders()
		db.settle()
		err = closeAll(db.reading, db.writing, db.lock)
	})
	return err
}

// settle moves all of the -wal into the file, and so removes it: whoever copies
// or exchanges the file of a server that stopped must not be surprised by what
// lies beside it. When that fails nothing is lost: the next Open reads it.
func (db *DB) settle() {
	if db.checkInPlace() == nil {
		_, _ = db.writing.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

// Path is where the store lies.
func (db *DB) Path() string { return db.path }

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

// changes tells followers that something was committed.
type changes struct {
	mu      sync.Mutex
	version uint64
	next    chan struct{}
}

// Changed returns how many commits this DB has made, and a channel that is
// closed at the next one. A follower takes both, reads the store, and waits on
// the channel: a commit in between is never missed, and many are one wake-up.
func (db *DB) Changed() (version uint64, next <-chan struct{}) {
	db.changes.mu.Lock()
	defer db.changes.mu.Unlock()
	return db.changes.version, db.changes.next
}

func (c *changes) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	close(c.next)
	c.next = make(chan struct{})
}
