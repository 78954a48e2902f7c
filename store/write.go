package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	// mostInGroup bounds how many calls share a commit, and so how long the
	// first of them waits for the last.
	mostInGroup = 256

	// clockSlack is how far the clock may stand before the last commit.
	clockSlack = 5 * time.Second
)

// call is one Write that waits for the writer.
type call struct {
	ctx    context.Context
	fn     func(*Tx) error
	claim  atomic.Bool // taken by the writer, or withdrawn by the caller: who is first
	result chan error  // holds one
	err    error       // fn's, until the group is committed
	wrote  bool
	quiet  bool
}

// Write calls fn in a transaction and returns after what it wrote is durable.
// When fn returns an error nothing of it is kept and Write returns that error.
//
// fn may run more than once and alone counts the run whose Write returns nil,
// so it has no effects but on tx and on variables that it sets anew each time.
// It must not call Write, nor wait for anything outside: all writers wait for
// it. A statement that fails (other than by finding nothing) fails the whole
// call, whatever fn returns. A panic in fn becomes an error.
//
// A ctx that ends before fn was called withdraws the call. After that Write
// returns what became of it, however long the commit takes.
//
// Write refuses (Unavailable) while the clock stands more than 5 s before the
// last commit, and while the disk is full, fails or is read-only.
func (db *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	c := &call{ctx: ctx, fn: fn, result: make(chan error, 1)}
	select {
	case <-db.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	case db.queue <- c:
	}
	select {
	case err := <-c.result:
		return err
	case <-db.stopped:
		return c.afterStop()
	case <-ctx.Done():
	}
	if c.claim.CompareAndSwap(false, true) {
		return ctx.Err()
	}
	select {
	case err := <-c.result:
		return err
	case <-db.stopped:
		return c.afterStop()
	}
}

// afterStop is the answer of a call whose writer has ended.
func (c *call) afterStop() error {
	select {
	case err := <-c.result:
		return err
	default:
		return errClosed
	}
}

// writer owns the writing connection. It lives in one goroutine.
type writer struct {
	db *DB
	*session
}

// write takes groups of calls from the queue until the store is closed, and
// then those that wait still.
func (db *DB) write(first *session) {
	w := &writer{db: db, session: first}
	orderly := false
	defer func() {
		w.drop()
		if orderly {
			close(db.stopped)
			return
		}
		go db.write(nil) // fn ended the goroutine (runtime.Goexit): another one goes on
	}()
	for {
		select {
		case c := <-db.queue:
			w.commit(db.group(c))
		case <-db.closing:
			for len(db.queue) > 0 {
				w.commit(db.group(<-db.queue))
			}
			orderly = true
			return
		}
	}
}

// group is the first call and all that wait behind it, but for the withdrawn.
func (db *DB) group(first *call) []*call {
	var group []*call
	for c := first; ; {
		if c.claim.CompareAndSwap(false, true) {
			group = append(group, c)
		}
		if len(group) == mostInGroup {
			return group
		}
		select {
		case c = <-db.queue:
		default:
			return group
		}
	}
}

// commit runs a group in one transaction and lets its calls return.
func (w *writer) commit(group []*call) {
	if len(group) == 0 {
		return
	}
	err := errors.New("a write ended its goroutine") // unless the group comes to its end
	defer func() {
		if err != nil {
			w.drop()
		}
		for _, c := range group {
			if c.err == nil {
				c.err = err
			}
			c.result <- c.err
		}
	}()
	err = translate(w.transact(group))
}

// transact runs the group's calls, each in a savepoint. The error it returns is
// the transaction's; the calls' own are with them.
func (w *writer) transact(group []*call) error {
	if err := w.db.ready(); err != nil {
		return err
	}
	now, err := w.begin()
	if err != nil {
		return err
	}
	wrote, quiet := 0, true
	for _, c := range group {
		if len(group) == 1 {
			w.call(c, now) // the transaction is its own
		} else if err := w.run(c, now); err != nil {
			return err
		}
		if c.wrote {
			wrote++
			quiet = quiet && c.quiet
		}
	}
	if wrote == 0 {
		_, err := w.exec("ROLLBACK")
		return err
	}
	stamp := "UPDATE store_meta SET last_commit = $1, moved_at = $1"
	if quiet {
		stamp = "UPDATE store_meta SET last_commit = $1"
	}
	if _, err := w.exec(stamp, now.UnixMicro()); err != nil {
		return err
	}
	began := time.Now()
	if _, err := w.exec("COMMIT"); err != nil {
		return w.db.unanswered(err)
	}
	w.db.commits.add(wrote, time.Since(began))
	w.db.changes.committed(now)
	return nil
}

// begin starts the transaction and returns its moment. A connection to a database
// that was idle may have died since: another one is tried then.
func (w *writer) begin() (time.Time, error) {
	if w.session != nil {
		last, err := w.db.begin(w.session)
		if err == nil {
			return w.tick(last)
		}
		if !w.db.shared() || !connectionLost(err) || errors.Is(err, context.DeadlineExceeded) {
			return time.Time{}, err
		}
		w.drop()
	}
	session, err := newSession(context.Background(), w.db.writing)
	if err != nil {
		return time.Time{}, err
	}
	w.session = session
	last, err := w.db.begin(session)
	if err != nil {
		return time.Time{}, err
	}
	return w.tick(last)
}

// unanswered is the error of a commit. A file says whether it was made; of a
// database whose answer was lost nobody knows.
func (db *DB) unanswered(err error) error {
	if !db.shared() || !connectionLost(err) {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the database's answer to a commit was lost: it was made, or was not").
		WithRemedy("look what there is before you repeat it")
}

// run calls one fn in a savepoint. A failure of its own is left with the call;
// an error is returned when the whole transaction is gone with it, which SQLite
// does when the disk is full or fails.
func (w *writer) run(c *call, now time.Time) error {
	if _, err := w.exec("SAVEPOINT verb"); err != nil {
		return err
	}
	if w.call(c, now); c.err == nil {
		_, err := w.exec("RELEASE verb")
		return err
	}
	_, err := w.exec("ROLLBACK TO verb")
	if err == nil {
		_, err = w.exec("RELEASE verb")
	}
	if err != nil {
		return errors.Join(c.err, err)
	}
	return nil
}

// call calls fn. When it leaves an error with the call, nothing of it may be kept.
func (w *writer) call(c *call, now time.Time) {
	tx := &Tx{Now: now, session: w.session}
	c.err = guarded(c.fn, tx)
	tx.over = true
	if c.err == nil {
		c.err = tx.failed
	}
	c.wrote, c.quiet = tx.wrote && c.err == nil, tx.quiet
	if c.err != nil {
		c.err = translate(c.err)
	}
}

// guarded makes a panic an error.
func guarded(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("%v\n%s", reason, debug.Stack()), "a call of the store panicked")
		}
	}()
	return fn(tx)
}

// drop gives up the connection, and with it the transaction that it may be in.
func (w *writer) drop() {
	if w.session != nil {
		w.session.Close() // what matters has failed already
		w.session = nil
	}
}

// tick is the moment of the next commit: now, or a µs after the last commit
// when the clock has not come so far.
func (w *writer) tick(last time.Time) (time.Time, error) {
	now := w.db.now().UTC().Truncate(time.Microsecond)
	if now.Before(last.Add(-clockSlack)) {
		return now, fault.New(fault.Unavailable, "this host's clock shows %s, the store's last commit was at %s: nothing is written",
			now.Format(time.RFC3339), last.Format(time.RFC3339)).
			WithRemedy("set the clock right; if it was wrong when that commit was made, wait until then or restore a backup from before")
	}
	if !now.After(last) {
		now = last.Add(time.Microsecond)
	}
	return now, nil
}
