package store

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// engine is the database that a store stands on: what SQLite and PostgreSQL do
// differently. The SQL of the records is the same for both.
type engine interface {
	// place says where the store lies, for people. It holds no secret.
	place() string

	// prepare makes the store where o says so, checks that it is a sound one that
	// this version may serve, brings an older one up to date, and returns what
	// connections are opened with, and the first of the writer's.
	prepare(ctx context.Context, o Options) (writing, reading *sql.DB, first *session, err error)

	// now is what the clock shows that commits go by. It need not grow.
	now() time.Time

	// inTime says why nothing is to be dated by now: this host's clock is too far
	// off it.
	inTime() error

	// ready says why nothing may be written, before a connection is asked.
	ready() error

	// begin starts a transaction beside which no other changes the store, and
	// returns when the last commit was made. It refuses where nothing may be
	// written now.
	begin(w *session) (last time.Time, err error)

	// beginRead starts a transaction of one snapshot.
	beginRead(r *session) error

	// shared says whether other servers may use the store too; follow then tells
	// of their commits until ctx ends.
	shared() bool
	follow(ctx context.Context, db *DB)

	// settle is called before the last connection is closed, and close after it.
	settle(writing *sql.DB)
	close() error
}

// Locate returns the options of a store that is named in one text: the path of
// a SQLite file, or the URL of a PostgreSQL database.
func Locate(text string) Options {
	if IsURL(text) {
		return Options{URL: text}
	}
	return Options{Path: text}
}

// Place is where the store lies, for people: without a password.
func (o Options) Place() (string, error) {
	if o.URL == "" {
		return o.Path, nil
	}
	config, err := parseURL(o.URL)
	if err != nil {
		return "", err
	}
	return shownURL(config), nil
}

// IsURL says whether a store's name is a URL, not a path. Open refuses one of
// anything but a PostgreSQL database.
func IsURL(text string) bool { return strings.Contains(text, "://") }

func engineOf(o Options) (engine, error) {
	clock := o.Now
	if o.URL != "" {
		return newPostgres(o.URL, clock)
	}
	if clock == nil {
		clock = time.Now
	}
	return &sqliteFile{path: o.Path, clock: clock}, nil
}
