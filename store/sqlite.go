package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	_ "modernc.org/sqlite" // the driver

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// quickCheckUpTo bounds the size of a file that is looked through at open.
// SQLite meets damage in a larger one where it reads it.
const quickCheckUpTo = 1 << 20

// sqliteFile is a store in one file, for one server.
type sqliteFile struct {
	path  string
	clock func() time.Time
	lock  *os.File
	file  os.FileInfo // what stood at path when it was opened
}

func (e *sqliteFile) place() string  { return e.path }
func (e *sqliteFile) now() time.Time { return e.clock() }

func (e *sqliteFile) inTime() error { return nil }

// A file is one server's, so there is nobody to follow.
func (e *sqliteFile) shared() bool                { return false }
func (e *sqliteFile) follow(context.Context, *DB) {}

func (e *sqliteFile) beginRead(r *session) error {
	_, err := r.exec("BEGIN")
	return err
}

func (e *sqliteFile) begin(w *session) (time.Time, error) {
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return time.Time{}, err
	}
	prepared, err := w.statement(`SELECT last_commit, min_server_schema FROM store_meta`)
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	var minimum int64
	err = prepared.QueryRowContext(context.Background()).Scan(moment{&last}, &minimum)
	w.terse = minimum >= terseSchema
	return last, err
}

// ready refuses to write into a file that was moved away, removed or replaced
// under the server: what is written there is lost at the next start.
func (e *sqliteFile) ready() error {
	now, err := os.Stat(e.path)
	if err == nil && os.SameFile(now, e.file) {
		return nil
	}
	return fault.New(fault.Unavailable, "the store's file is no longer at %s: it was moved, removed or replaced", e.path).
		WithRemedy("put it back, or stop the server before another is put in its place")
}

// settle moves all of the -wal into the file, and so removes it: whoever copies
// or exchanges the file of a server that stopped must not be surprised by what
// lies beside it. When that fails nothing is lost: the next Open reads it.
func (e *sqliteFile) settle(writing *sql.DB) {
	if e.ready() == nil {
		_, _ = writing.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

func (e *sqliteFile) close() error { return e.lock.Close() }

func (e *sqliteFile) prepare(ctx context.Context, o Options) (writing, reading *sql.DB, first *session, err error) {
	if err := checkPath(o); err != nil {
		return nil, nil, nil, err
	}
	if e.lock, err = lockBeside(e.path); err != nil {
		return nil, nil, nil, err
	}
	writing, reading, first, err = e.open(ctx, o)
	if err != nil {
		return nil, nil, nil, errors.Join(err, e.lock.Close())
	}
	return writing, reading, first, nil
}

func (e *sqliteFile) open(ctx context.Context, o Options) (writing, reading *sql.DB, first *session, err error) {
	if o.Create {
		if err := e.create(ctx); err != nil {
			return nil, nil, nil, err
		}
	}
	if writing, err = sql.Open("sqlite", source(e.path, "rw", writerPragmas)); err != nil {
		return nil, nil, nil, err
	}
	if reading, err = sql.Open("sqlite", source(e.path, "ro", readerPragmas)); err != nil {
		return nil, nil, nil, errors.Join(err, writing.Close())
	}
	first, err = newSession(ctx, writing)
	if err != nil {
		return nil, nil, nil, errors.Join(translate(err), closeAll(reading, writing))
	}
	err = e.check(ctx, writing, first.conn, o)
	if err == nil {
		e.file, err = os.Stat(e.path)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(translate(err), closeAll(first, reading, writing))
	}
	return writing, reading, first, nil
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

// create makes the whole file under another name and renames it, so that a
// crash leaves no half-made store.
func (e *sqliteFile) create(ctx context.Context) error {
	temp := e.path + ".new"
	for _, leftover := range []string{temp, temp + "-wal", temp + "-shm"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Unavailable, err, "make store %s", e.path)
		}
	}
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", e.path)
	}
	if err := errors.Join(e.fill(ctx, temp), file.Sync(), file.Close()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", e.path)
	}
	if err := os.Rename(temp, e.path); err != nil {
		return fault.Wrap(fault.Unavailable, err, "make store %s", e.path)
	}
	return syncParent(e.path)
}

func (e *sqliteFile) fill(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", source(path, "rw", writerPragmas))
	if err != nil {
		return err
	}
	if err := e.migrate(ctx, db); err != nil {
		return errors.Join(err, db.Close())
	}
	_, err = db.ExecContext(ctx, `UPDATE store_meta SET created_at = $1`, e.clock().UnixMicro())
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

// check looks through the file, and brings an older store up to date.
func (e *sqliteFile) check(ctx context.Context, db *sql.DB, conn *sql.Conn, o Options) error {
	if err := quickCheck(ctx, conn, e.path); err != nil {
		return err
	}
	var tables int
	err := conn.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'store_meta'`).Scan(&tables)
	if err != nil {
		return err
	}
	if tables == 0 {
		return fault.New(fault.Invalid, "%s is not a Rotunda store", e.path).WithRemedy("check the path; make a store with: rotunda init")
	}
	current, err := served(ctx, conn, e.place(), o.TrustDomain)
	if err != nil || current {
		return err
	}
	return e.migrate(ctx, db)
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

func (e *sqliteFile) migrate(ctx context.Context, db *sql.DB) error {
	return migrate(ctx, goose.DialectSQLite3, db, migrations.Files)
}
