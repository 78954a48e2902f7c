package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/terse"
)

// Tx is a call's view of the store, good until the func that it was passed to
// returns.
type Tx struct {
	// Now is frozen: UTC, whole µs. In a Write it is after every commit before.
	Now time.Time

	session  *session
	over     bool
	readOnly bool
	wrote    bool
	quiet    bool
	rows     int   // that were read
	failed   error // of the first statement that failed
}

// Committed says that all that tx shows is committed: it is a Read's. What a
// Write shows may be rolled back, with a neighbour's work in the same commit.
func (tx *Tx) Committed() bool { return tx.readOnly }

// Quiet says that what this call writes matters to nobody who waits for news of
// the store, but to its caller: LastMove does not go on with it.
func (tx *Tx) Quiet() { tx.quiet = true }

// RowsRead is how many rows were read through tx: what a look at the store costs.
func (tx *Tx) RowsRead() int { return tx.rows }

// session is a connection with its prepared statements, by their text. It
// belongs to one goroutine at a time.
type session struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
	far      bool // a database that servers share
	terse    bool // what is written is packed: as the store said when the transaction began

	room         []byte                       // for a record that is to be packed
	dictionaries map[string]*terse.Dictionary // for what authorities signed, by their ids
}

// hurry is the context of a statement. It is never the caller's: SQLite ends the
// whole transaction, with the neighbours' work, when it interrupts one. A
// database that stands still must not hold up this server for ever.
func (s *session) hurry() (context.Context, context.CancelFunc) {
	if !s.far {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), answersWithin)
}

func newSession(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	_, far := db.Driver().(*stdlib.Driver)
	return &session{conn: conn, prepared: map[string]*sql.Stmt{}, far: far, dictionaries: map[string]*terse.Dictionary{}}, nil
}

// statement prepares text once. The texts are constants of this package, but
// for the few shapes of a CertificateQuery and of what is done by several rows at
// once, so the map stays small.
func (s *session) statement(text string) (*sql.Stmt, error) {
	if prepared, ok := s.prepared[text]; ok {
		return prepared, nil
	}
	ctx, cancel := s.hurry()
	defer cancel()
	prepared, err := s.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.prepared[text] = prepared
	return prepared, nil
}

func (s *session) exec(text string, args ...any) (int64, error) {
	prepared, err := s.statement(text)
	if err != nil {
		return 0, err
	}
	ctx, cancel := s.hurry()
	defer cancel()
	result, err := prepared.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Close gives up the connection, and the transaction that it may be in.
func (s *session) Close() error {
	var errs []error
	for _, prepared := range s.prepared {
		errs = append(errs, prepared.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// usable says whether a statement may run. A statement that failed fails the
// whole call: PostgreSQL would insist, and a caller that overlooks it must not
// commit the half.
func (tx *Tx) usable(ctx context.Context) error {
	if tx.over {
		return fault.New(fault.Internal, "a transaction was used after its end")
	}
	if tx.failed != nil {
		return tx.failed
	}
	return ctx.Err()
}

func (tx *Tx) fail(err error) error {
	tx.failed = translate(err)
	return tx.failed
}

// exec runs a statement that changes rows and returns how many it changed.
func (tx *Tx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	if err := tx.usable(ctx); err != nil {
		return 0, err
	}
	if tx.readOnly {
		return 0, fault.New(fault.Internal, "a write within a read of the store")
	}
	rows, err := tx.session.exec(text, args...)
	if err != nil {
		return 0, tx.fail(err)
	}
	tx.wrote = tx.wrote || rows > 0
	return rows, nil
}

// insert runs an INSERT; when the row is there already the error says what.
func (tx *Tx) insert(ctx context.Context, what thing, text string, args ...any) error {
	_, err := tx.exec(ctx, text, args...)
	if unique(err) {
		tx.failed = fault.Wrap(fault.Conflict, err, "%s exists already", what)
		return tx.failed
	}
	return what.wrap(err)
}

// swap runs a compare-and-swap: a statement whose WHERE says what the caller
// believes. When it changes nothing the belief was wrong: a Conflict.
func (tx *Tx) swap(ctx context.Context, what thing, text string, args ...any) error {
	rows, err := tx.exec(ctx, text, args...)
	if err != nil {
		return what.wrap(err)
	}
	if rows == 0 {
		return fault.New(fault.Conflict, "%s is not there, or was changed by another in the meantime", what).
			WithRemedy("look again and repeat what is still wanted")
	}
	return nil
}

// set runs an UPDATE of one row that must exist.
func (tx *Tx) set(ctx context.Context, what thing, text string, args ...any) error {
	rows, err := tx.exec(ctx, text, args...)
	if err != nil {
		return what.wrap(err)
	}
	if rows == 0 {
		return what.missing()
	}
	return nil
}

// record is a struct that says where its columns go.
type record[T any] interface {
	*T
	columns() []any
}

// one reads the one row that a query finds. No row is NotFound.
func one[T any, R record[T]](ctx context.Context, tx *Tx, what thing, text string, args ...any) (T, error) {
	var value T
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		return false, rows.Scan(R(&value).columns()...)
	}, text, args...)
	if errors.Is(err, errNoRow) {
		return value, what.missing()
	}
	if packed, ok := any(&value).(packedRecord); ok && err == nil {
		err = packed.unpack(ctx, tx)
	}
	return value, what.wrap(err)
}

// list reads all rows that a query finds.
func list[T any, R record[T]](ctx context.Context, tx *Tx, what string, text string, args ...any) ([]T, error) {
	var values []T
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var value T
		err := rows.Scan(R(&value).columns()...)
		values = append(values, value)
		return true, err
	}, text, args...)
	if err == nil {
		err = unpackAll(ctx, tx, values)
	}
	if err != nil && !errors.Is(err, errNoRow) {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return values, nil
}

// value reads a single column of a single row.
func value[T any](ctx context.Context, tx *Tx, what thing, text string, args ...any) (T, error) {
	var v T
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(&v) }, text, args...)
	if errors.Is(err, errNoRow) {
		return v, what.missing()
	}
	return v, what.wrap(err)
}

// scan calls each for one row after the other while it wants more. It returns
// errNoRow when there was none.
func (tx *Tx) scan(ctx context.Context, each func(*sql.Rows) (more bool, err error), text string, args ...any) error {
	if err := tx.usable(ctx); err != nil {
		return err
	}
	prepared, err := tx.session.statement(text)
	if err != nil {
		return tx.fail(err)
	}
	hurry, cancel := tx.session.hurry()
	defer cancel()
	rows, err := prepared.QueryContext(hurry, args...)
	if err != nil {
		return tx.fail(err)
	}
	defer rows.Close()
	found := false
	for more := true; more && rows.Next(); found = true {
		if err := ctx.Err(); err != nil {
			return err
		}
		tx.rows++
		if more, err = each(rows); err != nil {
			return tx.fail(err)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return tx.fail(err)
	}
	if !found {
		return errNoRow
	}
	return nil
}

// thing names a record in an error: a noun and what tells it from others.
type thing struct {
	noun string
	id   any
}

func (t thing) String() string {
	if t.id == nil {
		return t.noun
	}
	return fmt.Sprintf("%s %v", t.noun, t.id)
}

func (t thing) missing() error { return fault.New(fault.NotFound, "%s does not exist", t) }

func (t thing) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", t, err)
}
