package store

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// errNoRow says that a query for one row found none.
var errNoRow = errors.New("no row")

// errClosed is what calls on a closed store get.
var errClosed = fault.New(fault.Unavailable, "the store is closed").WithRemedy("the server is stopping; try again later, or another server")

// translate gives an error of the engine its code. Errors that have a code, and
// those that are no engine's, stay as they are.
func translate(err error) error {
	if _, coded := errors.AsType[*fault.Error](err); coded || err == nil {
		return err
	}
	if translated := translatePostgres(err); translated != nil {
		return translated
	}
	sqliteErr, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch sqliteErr.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return corrupt(err)
	case sqlite3.SQLITE_CONSTRAINT:
		return fault.Wrap(fault.Conflict, err, "the record does not fit what is stored")
	case sqlite3.SQLITE_FULL:
		return fault.Wrap(fault.Unavailable, err, "the store's disk is full").WithRemedy("make room on it; nothing is lost, and writing goes on by itself")
	case sqlite3.SQLITE_READONLY:
		return fault.Wrap(fault.Unavailable, err, "the store can't be written").WithRemedy("check that its file, directory and file system are writable for the server's user")
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fault.Wrap(fault.Unavailable, err, "the store's disk fails").WithRemedy("check the disk, the quota and the kernel's log; what was answered is safe")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.Wrap(fault.Unavailable, err, "the store is locked").WithRemedy("another program holds the file open; close it")
	}
	return err
}

func corrupt(err error) error {
	return fault.Wrap(fault.Internal, err, "the store's file is damaged").
		WithRemedy("stop the server, keep the file, and restore the newest backup")
}

// unique says whether err is a broken uniqueness constraint.
func unique(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == uniqueViolation
	}
	sqliteErr, ok := errors.AsType[*sqlite.Error](err)
	return ok && (sqliteErr.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || sqliteErr.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
