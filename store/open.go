package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

const (
	mostReaders = 4
	mostQueued  = 1024

	// quickCheckUpTo bounds the size of a file that is looked through at open.
	// SQLite meets damage in a larger one where it reads it.
	quickCheckUpTo = 1 << 20
)

// Open opens the store, or makes it. It takes the file for this process alone:
// a second server on the same file is refused. A store that a newer version
// changed beyond what this one can read is refused; one of an older version is
// migrated.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := checkPath(o); err != nil {
		return nil, err
	}
	lock, err := lockBeside(o.Path)
	if err != nil {
		return nil, err
	}
	db, first, err := open(ctx, o)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	db.lock = lock
	go db.write(first)
	if err := db.fillTiles(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func checkPath(o Options) error {
	info, err := os.Stat(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Create:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "store %s does not exist", o.Path).WithRemedy("make one with: rotunda init")
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "store %s", o.Path)
	case o.Create:
		return fault.New(fault.Conflict, "store %s exists already", o.Path).
			WithRemedy("use it as it is, or choose another state directory")
	case !info.Mode().IsRegular():
		return fault.New(fault.Invalid, "store %s is not a regular file", o.Path)
	}
	return nil
}

// open returns the store and the connection that it was checked on, for the
// writer to begin with.
func open(ctx context.Context, o Options) (*DB, *session, error) {
	if o.Create {
		if err := create(ctx, o); err != nil {
			return nil, nil, err
		}
	}
	db := &DB{
		path: o.Path, now: o.Now,
		queue: make(chan *call, mostQueued), closing: make(chan struct{}), stopped: make(chan struct{}),
		readers: make(chan *session, mostReaders),
		changes: changes{next: make(chan struct{})},
	}
	for range mostReaders {
		db.readers <- nil
	}
	var err error
	if db.writing, err = sql.Open("sqlite", source(o.Path, "rw", writerPragmas)); err != nil {
		return nil, nil, err
	}
	if db.reading, err = sql.Open("sqlite", source(o.Path, "ro", readerPragmas)); err != nil {
		return nil, nil, errors.Join(err, db.writing.Close())
	}
	// A connection that is given back may have failed in a transaction: none is
	// used again.
	db.writing.SetMaxIdleConns(-1)
	db.reading.SetMaxIdleConns(-1)
	first, err := newSession(ctx, db.writing)
	if err != nil {
		return nil, nil, errors.Join(translate(err), closeAll(db.reading, db.writing))
	}
	err = prepare(ctx, db.writing, first.conn, o.Path)
	if err == nil {
		db.file, err = os.Stat(o.Path)
	}
	if err != nil {
		return nil, nil, errors.Join(translate(err), closeAll(first, db.reading, db.writing))
	}
	return db, first, nil
}

// create makes the whole file under another name and renames it, so that a
// crash leaves no half-made store.
func create(ctx context.Context, o Options) error {
	temp := o.Path + ".new"
	for _, leftover := range []string{temp, temp + "-wal", temp + "-shm"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Unavailable, err, "make store %s", o.Path)
		}
	}
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", o.Path)
	}
	if err := errors.Join(fill(ctx, temp, o.Now()), file.Sync(), file.Close()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", o.Path)
	}
	if err := os.Rename(temp, o.Path); err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", o.Path)
	}
	return syncParent(o.Path)
}

func fill(ctx context.Context, path string, now time.Time) error {
	db, err := sql.Open("sqlite", source(path, "rw", writerPragmas))
	if err != nil {
		return err
	}
	if err := migrate(ctx, db); err != nil {
		return errors.Join(err, db.Close())
	}
	_, err = db.ExecContext(ctx, `UPDATE store_meta SET created_at = $1`, now.UnixMicro())
	return errors.Join(err, db.Close())
}

func syncParent(path string) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", path)
	}
	return errors.Join(durable.SyncDir(root, "."), root.Close())
}

// The pragmas of a connection. Page caches are small (negative sizes are KiB):
// the kernel caches the file as well.
var (
	writerPragmas = []string{
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(5000)", "cell_size_check(1)",
		"cache_size(-2048)", "temp_store(MEMORY)", "wal_autocheckpoint(2000)", "journal_size_limit(8388608)",
	}
	readerPragmas = []string{
		"query_only(1)", "busy_timeout(5000)", "cell_size_check(1)", "cache_size(-512)", "temp_store(MEMORY)",
	}
)

func source(path, mode string, pragmas []string) string {
	query := url.Values{"mode": {mode}, "_pragma": pragmas}
	absolute, err := filepath.Abs(path)
	if err != nil {
		absolute = path
	}
	return (&url.URL{Scheme: "file", Path: absolute, RawQuery: query.Encode()}).String()
}

// prepare checks that the file is a sound store that this version may serve,
// and brings an older one up to date.
func prepare(ctx context.Context, db *sql.DB, conn *sql.Conn, path string) error {
	if err := quickCheck(ctx, conn, path); err != nil {
		return err
	}
	var tables int
	err := conn.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'store_meta'`).Scan(&tables)
	if err != nil {
		return err
	}
	if tables == 0 {
		return fault.New(fault.Invalid, "%s is not a Rotunda store", path).WithRemedy("check the path; make a store with: rotunda init")
	}
	var schema, minimum int64
	err = conn.QueryRowContext(ctx, `SELECT schema_version, min_server_schema FROM store_meta`).Scan(&schema, &minimum)
	if err != nil {
		return err
	}
	if minimum > migrations.Schema {
		return fault.New(fault.Conflict, "store %s has schema %d and wants servers of schema %d or above; this one has %d", path, schema, minimum, migrations.Schema).
			WithRemedy("start a newer rotunda, or restore the backup taken before the upgrade")
	}
	if schema >= migrations.Schema {
		return nil
	}
	return migrate(ctx, db)
}

func quickCheck(ctx context.Context, conn *sql.Conn, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() > quickCheckUpTo {
		return err
	}
	var verdict string
	if err := conn.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return corrupt(errors.New(verdict))
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations.Files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName("store_migration"))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate store to schema %d: %w", migrations.Schema, err)
	}
	return nil
}

func closeAll(closers ...io.Closer) error {
	var errs []error
	for _, c := range closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
