package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Backup writes the store, as it is at one moment, into the new SQLite file to,
// and has check look at the copy before the file gets its name: a crash leaves
// to absent or whole. The store may be in use by servers, which go on meanwhile,
// or by nobody.
func Backup(ctx context.Context, o Options, to string, check func(*Tx) error) error {
	if o.URL != "" {
		return backupDatabase(ctx, o, to, check)
	}
	if err := checkPath(o); err != nil {
		return err
	}
	return backUp(to, func(temp string) error {
		if err := copyInto(ctx, o.Path, temp); err != nil {
			return err
		}
		return ReadCopy(ctx, temp, check)
	})
}

// backUp has fill fill an empty file, and gives it its name then.
func backUp(to string, fill func(temp string) error) (err error) {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return taken(to, err)
	}
	temp := PartialBackup(to)
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Conflict, "%s exists: another backup is under way, or one was cut off", temp).
			WithRemedy("if none is under way, remove it")
	}
	if err != nil {
		return unwritable(to, err)
	}
	defer func() {
		if left := os.Remove(temp); err != nil && left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
	}()
	err = fill(temp)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err // it says what of; a remedy that it has stays the last word
	}
	if err := rename(temp, to); err != nil {
		return err
	}
	return syncParent(to)
}

// backupDatabase copies what one snapshot of a database shows into a file.
func backupDatabase(ctx context.Context, o Options, to string, check func(*Tx) error) error {
	db, err := Open(ctx, o)
	if err != nil {
		return err
	}
	err = db.Read(ctx, func(tx *Tx) error {
		if err := sameSchema(ctx, tx, db.Place()); err != nil {
			return err
		}
		if err := db.takeTime(tx.session); err != nil {
			return err
		}
		return copyTo(ctx, tx, Options{Path: to, Now: o.Now}, check, func(Copied) {})
	})
	return errors.Join(err, db.Close())
}

// PartialBackup is where a backup grows until it is whole.
func PartialBackup(to string) string { return to + ".partial" }

func taken(path string, err error) error {
	if err != nil {
		return unwritable(path, err)
	}
	return fault.New(fault.Conflict, "%s exists: no file is overwritten", path).WithRemedy("name another file")
}

func unwritable(path string, err error) error {
	return fault.Wrap(fault.Unavailable, err, "write %s", path).WithRemedy("name a file in a directory that is there and that may be written")
}

// rename gives the file its name, unless that was taken meanwhile.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the file system can't
		err = os.Link(from, to)
	}
	if errors.Is(err, fs.ErrExist) {
		return taken(to, nil)
	}
	if err != nil {
		return taken(to, err)
	}
	return nil
}

// copyInto has SQLite write all that one snapshot of the store shows into an
// empty file. VACUUM INTO, since it holds up no writer and needs none to stand
// still, as the backup API does when another process writes.
func copyInto(ctx context.Context, path, to string) error {
	db, err := sql.Open("sqlite", source(path, "rw", []string{"busy_timeout(5000)", "cell_size_check(1)", "temp_store(MEMORY)"}))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, to)
	return translate(errors.Join(err, db.Close()))
}

// ReadCopy looks through a store's file that no server uses, byte for byte, and
// then calls fn with what it shows. Nothing is changed, nor migrated.
func ReadCopy(ctx context.Context, path string, fn func(*Tx) error) error {
	if err := checkPath(Options{Path: path}); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", source(path, "ro", readerPragmas))
	if err != nil {
		return err
	}
	reader, err := newSession(ctx, db)
	if err != nil {
		return errors.Join(translate(err), db.Close())
	}
	err = sound(ctx, reader.conn)
	if err == nil {
		_, err = reader.exec("BEGIN")
	}
	if err == nil {
		err = fn(&Tx{Now: time.Now().UTC().Truncate(time.Microsecond), session: reader, readOnly: true})
	}
	closed := closeAll(reader, db)
	if err == nil {
		err = closed
	}
	return translate(err)
}

func sound(ctx context.Context, conn *sql.Conn) error {
	var verdict string
	if err := conn.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return corrupt(errors.New(verdict))
	}
	rows, err := conn.QueryContext(ctx, `PRAGMA foreign_key_check`)
	if err != nil {
		return err
	}
	broken := rows.Next()
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if broken {
		return corrupt(fmt.Errorf("a record refers to one that is not there"))
	}
	return nil
}
