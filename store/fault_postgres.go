package store

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// SQLSTATEs by which what is there already is refused, and by which one of those
// who wait for each other is.
const (
	uniqueViolation  = "23505"
	duplicateTable   = "42P07"
	duplicateObject  = "42710"
	deadlockDetected = "40P01"
)

// connectionLost says whether err is of the way to the database, or of the
// database's end, and so not of what was asked.
func connectionLost(err error) bool {
	if _, coded := errors.AsType[*fault.Error](err); coded {
		return false
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || refused.Code == "25P03" || strings.HasPrefix(refused.Code, "57P")
}

// translatePostgres gives an error of PostgreSQL, or of the way to it, its code;
// nil when err is neither.
func translatePostgres(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return translateState(pgErr.Code, err)
	}
	_, network := errors.AsType[net.Error](err)
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	if network || connect || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) {
		return fault.Wrap(fault.Unavailable, err, "the store's database can't be reached").
			WithRemedy("check the database and the network to it; what was answered is safe, and writing goes on by itself")
	}
	return nil
}

// translateState gives the meaning of a SQLSTATE: of its class, which is its
// first two characters, but for a few.
func translateState(state string, err error) error {
	switch state {
	case "25006":
		return fault.Wrap(fault.Unavailable, err, "the store's database is read-only").
			WithRemedy("it is a standby, or its role is read-only: name the primary in the store's URL; with several hosts and target_session_attrs=read-write it is found")
	case "53300":
		return fault.Wrap(fault.Unavailable, err, "the store's database has no connection left for this server, which uses %d", 1+mostReaders+1).
			WithRemedy("raise max_connections, or the role's or database's CONNECTION LIMIT")
	case "22021":
		return fault.Wrap(fault.Invalid, err, "a text holds a zero byte, or is not UTF-8").WithRemedy("correct what was sent")
	case "53100":
		return fault.Wrap(fault.Unavailable, err, "the store's disk is full").WithRemedy("make room on it; nothing is lost, and writing goes on by itself")
	case "25P03":
		return fault.Wrap(fault.Unavailable, err, "the store's database ended a transaction in which nothing came for 10 s").WithRemedy("try again; this server was stopped or slow")
	case "55P03":
		return fault.Wrap(fault.Unavailable, err, "another server holds the store").WithRemedy("try again; see which one does in pg_stat_activity")
	}
	switch state[:min(2, len(state))] {
	case "23":
		return fault.Wrap(fault.Conflict, err, "the record does not fit what is stored")
	case "40":
		return fault.Wrap(fault.Unavailable, err, "the store's database gave up a transaction").WithRemedy("try again")
	case "28":
		return fault.Wrap(fault.Unavailable, err, "the store's database does not let this server in").
			WithRemedy("check the role, its password or certificate in the store's URL, and pg_hba.conf")
	case "3D":
		return fault.Wrap(fault.NotFound, err, "the store's database does not exist").WithRemedy("CREATE DATABASE …, or correct the store's URL")
	case "42":
		if state == "42501" {
			return fault.Wrap(fault.Forbidden, err, "the store's role may not do that").WithRemedy("make it the owner of the database and of the store's tables")
		}
	case "53", "54", "55", "57", "58", "08":
		return fault.Wrap(fault.Unavailable, err, "the store's database can't do it now").WithRemedy("check the database's log; what was answered is safe")
	case "XX":
		return fault.Wrap(fault.Internal, err, "the store's database is damaged").WithRemedy("keep it as it is, and go on with a replica or the newest backup")
	}
	return nil
}
