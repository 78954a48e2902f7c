package store

import (
	"context"
	"time"
)

// Read calls fn with one snapshot of the store: what every Write that returned
// before has written, and nothing that is committed later. tx.Now is what the
// clock shows. Connections are few: fn does not call Read again, and does not
// wait for a peer. A panic in fn becomes an error.
func (db *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	reader, err := db.beginRead(ctx)
	if err != nil {
		return err
	}
	tx := &Tx{Now: db.now().UTC().Truncate(time.Microsecond), session: reader, readOnly: true}
	defer func() { // even if fn panics
		tx.over = true
		if _, err := reader.exec("ROLLBACK"); err != nil {
			db.dropReader(reader)
			return
		}
		db.readers <- reader
	}()
	return guarded(fn, tx)
}

// beginRead begins a snapshot on a free connection. One that was idle may have
// died since: others are tried then, a new one at last.
func (db *DB) beginRead(ctx context.Context) (*session, error) {
	for {
		reader, err := db.takeReader(ctx)
		if err != nil {
			return nil, err
		}
		used := len(reader.prepared) > 0
		if err = db.engine.beginRead(reader); err == nil {
			return reader, nil
		}
		db.dropReader(reader)
		if !used || !connectionLost(err) {
			return nil, translate(err)
		}
	}
}

// takeReader waits for a free connection. The first of a place is opened when
// it is first needed.
func (db *DB) takeReader(ctx context.Context) (*session, error) {
	select {
	case <-db.closing:
		return nil, errClosed
	default:
	}
	select {
	case reader := <-db.readers:
		if reader != nil {
			return reader, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-db.closing:
		return nil, errClosed
	}
	reader, err := newSession(ctx, db.reading)
	if err != nil {
		db.readers <- nil
		return nil, translate(err)
	}
	return reader, nil
}

// dropReader gives up a connection that failed, and leaves its place to a
// new one.
func (db *DB) dropReader(reader *session) {
	reader.Close() // it failed before, with the error that counts
	db.readers <- nil
}

// closeReaders waits for the reads under way.
func (db *DB) closeReaders() {
	for range mostReaders {
		if reader := <-db.readers; reader != nil {
			reader.Close() // nothing can be lost by it
		}
	}
}
