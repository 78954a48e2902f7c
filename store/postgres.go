package store

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// postgres is a store in a database that many servers share. None of what it
// rests on is more than rows, locks of rows and snapshots: LISTEN and NOTIFY
// only hurry things, and no advisory lock is taken.
type postgres struct {
	url   string // as given, with a password perhaps
	shown string // for people
	given func() time.Time

	ahead   atomic.Int64          // ns that the database's clock is ahead of this host's
	retired atomic.Pointer[error] // why this server may serve the store no more
}

// mostAhead is how far this host's clock may be off the database's.
const mostAhead = 30 * time.Second

func newPostgres(url string, given func() time.Time) (*postgres, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	return &postgres{url: url, shown: shownURL(config), given: given}, nil
}

func (e *postgres) place() string { return e.shown }
func (e *postgres) shared() bool  { return true }

// now is the database's clock, so that all servers go by one.
func (e *postgres) now() time.Time {
	if e.given != nil {
		return e.given()
	}
	return time.Now().Add(time.Duration(e.ahead.Load()))
}

// inTime says whether this host's clock is near enough the database's to sign by
// either.
func (e *postgres) inTime() error {
	ahead := time.Duration(e.ahead.Load())
	if e.given != nil || ahead.Abs() <= mostAhead {
		return nil
	}
	return fault.New(fault.Unavailable, "this host's clock is %s off the database's: nothing is written", ahead.Abs().Round(time.Second)).
		WithRemedy("set the clocks right, of this host or of the database's; NTP on both keeps them so")
}

// begin locks the store's own row. Whoever writes does that first, so all
// writers come one after the other, whichever their server is, and each
// statement then shows what the one before it committed.
func (e *postgres) begin(w *session) (time.Time, error) {
	if _, err := w.exec("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"); err != nil {
		return time.Time{}, err
	}
	prepared, err := w.statement(ownRow + " FOR UPDATE")
	if err != nil {
		return time.Time{}, err
	}
	ctx, cancel := w.hurry()
	defer cancel()
	asked, row := time.Now(), prepared.QueryRowContext(ctx)
	last, minimum, err := e.heed(asked, row)
	w.terse = minimum >= terseSchema
	if err == nil {
		err = e.inTime()
	}
	return last, err
}

// ready says whether this server may serve the store still, as far as it knows.
func (e *postgres) ready() error {
	if refused := e.retired.Load(); refused != nil {
		return *refused
	}
	return nil
}

func (e *postgres) beginRead(r *session) error {
	if err := e.ready(); err != nil {
		return err
	}
	_, err := r.exec("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
	return err
}

// ownRow reads of the store's own row when the last commit was, what time it is
// there, and which servers may serve it.
const ownRow = `SELECT last_commit, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT, schema_version, min_server_schema FROM store_meta`

// heed takes what the store's own row says: how far the clocks are apart, and
// whether the store was moved, or changed by a newer server beyond what this one
// knows, while this one served it. It returns when the last commit was, and of which
// schema servers are at least.
func (e *postgres) heed(asked time.Time, row interface{ Scan(...any) error }) (commit time.Time, minimum int64, err error) {
	var last, theirs, schema int64
	if err := row.Scan(&last, &theirs, &schema, &minimum); err != nil {
		return time.Time{}, 0, err
	}
	e.noteClock(asked, theirs)
	if err := mayServe(e.shown, schema, minimum); err != nil {
		e.retired.Store(&err)
		return time.Time{}, 0, err
	}
	return time.UnixMicro(last).UTC(), minimum, nil
}

// noteClock keeps how far the clocks are apart. The database read its clock
// between asked and now; while that leaves the difference open it is not moved.
func (e *postgres) noteClock(asked time.Time, theirs int64) {
	now, read := time.Now(), time.UnixMicro(theirs)
	least, most := read.Sub(now), read.Sub(asked)
	if ahead := time.Duration(e.ahead.Load()); ahead < least || ahead > most {
		e.ahead.Store(int64(least + (most-least)/2))
	}
}

func (e *postgres) settle(*sql.DB) {}
func (e *postgres) close() error   { return nil }

func (e *postgres) prepare(ctx context.Context, o Options) (writing, reading *sql.DB, first *session, err error) {
	db, err := e.open()
	if err != nil {
		return nil, nil, nil, err
	}
	reading, err = e.open()
	if err != nil {
		return nil, nil, nil, errors.Join(err, db.Close())
	}
	err = enoughConnections(ctx, db)
	if err == nil {
		err = e.check(ctx, db, o)
	}
	if err == nil {
		first, err = newSession(ctx, db)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(e.explain(err), db.Close(), reading.Close())
	}
	return db, reading, first, nil
}

// explain names the store in an error that it gave.
func (e *postgres) explain(err error) error {
	if err == nil {
		return nil
	}
	err = translate(err)
	if _, coded := errors.AsType[*fault.Error](err); coded {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "store %s", e.shown).WithRemedy("check the address, the database's name, the role and its password in the store's URL")
}

// enoughConnections opens as many at once as the store will use.
func enoughConnections(ctx context.Context, db *sql.DB) error {
	var open []*sql.Conn
	var err error
	for range 1 + mostReaders + 1 { // the writer's, and who listens
		var conn *sql.Conn
		if conn, err = db.Conn(ctx); err != nil {
			break
		}
		open = append(open, conn)
	}
	for _, conn := range open {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// connect opens a connection outside of the pools, to listen on.
func (e *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := parseURL(e.url)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := e.setUp(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// open opens connections that are set up as all of a store's are. The URL is read
// again each time: the files that it names hold other certificates now and then.
func (e *postgres) open() (*sql.DB, error) {
	config, err := parseURL(e.url)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(stdlib.GetConnector(*config,
		stdlib.OptionBeforeConnect(func(_ context.Context, config *pgx.ConnConfig) error {
			fresh, err := parseURL(e.url)
			if err == nil {
				config.TLSConfig, config.Fallbacks, config.Password = fresh.TLSConfig, fresh.Fallbacks, fresh.Password
			}
			return err
		}),
		stdlib.OptionAfterConnect(e.setUp))), nil
}
