package store

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// movedAway is what a store that was moved wants of servers: more than any has.
const movedAway = math.MaxInt32

// Move copies a store into another that is made for it, compares both, and
// leaves the old one so that no server serves it any more: two that go on from
// one log would fork it. each is told how far it has come. Cut off at any point
// it leaves the old one in use, alone or beside a whole copy. While a PostgreSQL
// database is moved its servers wait, and are refused then.
func Move(ctx context.Context, from, to Options, each func(Copied)) error {
	source, err := Open(ctx, from)
	if err != nil {
		return err
	}
	copied := false
	err = source.holdStill(ctx, func(tx *Tx) error {
		if err := sameSchema(ctx, tx, source.Place()); err != nil {
			return err
		}
		if err := copyTo(ctx, tx, to, nil, each); err != nil {
			return err
		}
		copied = true
		_, err := tx.session.exec("UPDATE store_meta SET min_server_schema = $1", movedAway)
		return err
	})
	if err != nil && copied {
		err = fault.Wrap(fault.Unavailable, translate(err), "the copy is whole, and the store in %s could not be retired", source.Place()).
			WithRemedy("see whether servers are still let into the old one; if they are, remove the copy and try again")
	}
	return errors.Join(translate(err), source.Close())
}

// TryMove says whether Move could begin, and changes nothing but the schema of
// an older source.
func TryMove(ctx context.Context, from, to Options) error {
	source, err := Open(ctx, from)
	if err != nil {
		return err
	}
	err = source.Read(ctx, func(tx *Tx) error { return sameSchema(ctx, tx, source.Place()) })
	if err == nil {
		err = vacant(ctx, to)
	}
	return errors.Join(err, source.Close())
}

// vacant says whether a store could be made at a place.
func vacant(ctx context.Context, o Options) error {
	if o.URL == "" {
		if _, err := os.Lstat(o.Path); !errors.Is(err, fs.ErrNotExist) {
			return taken(o.Path, err)
		}
		dir := filepath.Dir(o.Path)
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return unwritable(o.Path, &fs.PathError{Op: "access", Path: dir, Err: err})
		}
		return nil
	}
	e, err := newPostgres(o.URL, o.Now)
	if err != nil {
		return err
	}
	db, err := e.open()
	if err != nil {
		return err
	}
	return errors.Join(e.explain(e.vacant(ctx, db)), db.Close())
}

// Abandon empties a database in which a store was begun that can't be used, as
// its keys are lost.
func Abandon(ctx context.Context, o Options) error {
	db, err := Open(ctx, o)
	if err != nil {
		return err
	}
	err = db.Write(ctx, func(tx *Tx) error {
		for i := range tables {
			if table := tables[len(tables)-1-i]; table != "store_meta" {
				if _, err := tx.exec(ctx, "DELETE FROM "+table); err != nil {
					return err
				}
			}
		}
		_, err := tx.exec(ctx, `UPDATE store_meta SET trust_domain = '', tree_size = 0, published_size = 0, document_state = 0`)
		return err
	})
	return errors.Join(err, db.Close())
}

// holdStill calls fn while nobody else can write.
func (db *DB) holdStill(ctx context.Context, fn func(*Tx) error) error {
	session, err := newSession(ctx, db.writing)
	if err != nil {
		return err
	}
	last, err := db.begin(session)
	if err == nil {
		err = db.takeTime(session)
	}
	if err == nil {
		err = fn(&Tx{Now: last, session: session, readOnly: true})
	}
	if err == nil {
		_, err = session.exec("COMMIT")
	}
	return errors.Join(err, session.Close())
}

func sameSchema(ctx context.Context, tx *Tx, place string) error {
	meta, err := tx.Meta(ctx)
	if err == nil && meta.Schema != migrations.Schema {
		return fault.New(fault.Conflict, "store %s has schema %d, this rotunda knows %d", place, meta.Schema, migrations.Schema).
			WithRemedy("use the rotunda that serves it")
	}
	return err
}

// takeTime lets a transaction idle while another store is filled.
func (db *DB) takeTime(s *session) error {
	if !db.shared() {
		return nil
	}
	_, err := s.exec(unhurried)
	return err
}

// copyTo copies what tx shows into a store that is made for it. A file gets its
// name when it is whole and check has looked at it; a database is a store from
// the commit on.
func copyTo(ctx context.Context, tx *Tx, to Options, check func(*Tx) error, each func(Copied)) error {
	to.Create = true
	if to.URL != "" {
		return fillNew(ctx, tx, to, each)
	}
	return backUp(to.Path, func(temp string) error {
		growing := Options{Path: temp + ".db", Now: to.Now, Create: true}
		err := removeStore(growing.Path) // of one that was cut off
		if err == nil {
			err = fillNew(ctx, tx, growing, each)
		}
		if err == nil && check != nil {
			err = ReadCopy(ctx, growing.Path, check)
		}
		if err == nil {
			err = os.Rename(growing.Path, temp)
		}
		return errors.Join(err, removeStore(growing.Path))
	})
}

// removeStore removes the files of a store that nobody uses, those that there are.
func removeStore(path string) error {
	var failed error
	for _, beside := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(path + beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func fillNew(ctx context.Context, tx *Tx, to Options, each func(Copied)) error {
	made, err := Open(ctx, to)
	if err != nil {
		return err
	}
	err = made.fill(ctx, tx, each)
	return errors.Join(translate(err), made.Close())
}

// fill fills a store in one transaction, on a connection of its own.
func (made *DB) fill(ctx context.Context, tx *Tx, each func(Copied)) error {
	conn, err := made.writing.Conn(ctx)
	if err != nil {
		return err
	}
	if _, err = conn.ExecContext(ctx, "BEGIN"); err == nil && made.shared() {
		_, err = conn.ExecContext(ctx, unhurried)
	}
	if err == nil {
		err = transfer(ctx, tx, conn, each)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	return errors.Join(err, conn.Close())
}
