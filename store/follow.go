package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Servers that share a database tell each other what a commit means for those
// who wait: by NOTIFY, which is fast and may get lost. Each also looks every
// lookEvery whether something was committed, and again after lookAfter where
// it can't connect.
const (
	lookEvery  = 500 * time.Millisecond
	lookAfter  = time.Second
	channel    = "rotunda"
	noteLength = 7000 // bytes; PostgreSQL takes less than 8000
	mostNotes  = 200  // that wait to be told; more are told as "everything"
)

// follower is what DB follows other servers by.
type follower struct {
	stop    context.CancelFunc
	stopped chan struct{}
	self    string // tells own notes from others'

	mu     sync.Mutex
	heard  func(note string)
	notes  []string // to be told
	signal chan struct{}
}

func (db *DB) startFollowing() {
	f := &db.follower
	if !db.shared() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop, f.stopped, f.self, f.signal = stop, make(chan struct{}), uuid.NewString(), make(chan struct{}, 1)
	go func() {
		defer close(f.stopped)
		db.follow(ctx, db)
	}()
}

func (db *DB) stopFollowing() {
	if !db.shared() {
		return
	}
	db.follower.stop()
	<-db.follower.stopped
}

// Shared says whether other servers may use this store too.
func (db *DB) Shared() bool { return db.shared() }

// Tell tells the other servers of this store something about what was committed
// here, soon and perhaps not at all. A note is one line of at most 7,000 bytes.
// Nobody is told where a store is one server's.
func (db *DB) Tell(note string) {
	if !db.shared() {
		return
	}
	f := &db.follower
	f.mu.Lock()
	switch {
	case len(f.notes) >= mostNotes:
		f.notes = []string{""}
	case !slices.Contains(f.notes, note):
		f.notes = append(f.notes, note)
	}
	f.mu.Unlock()
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

// Hear has heard called for each note of another server, and with an empty one
// when any may have been told that was not heard.
func (db *DB) Hear(heard func(note string)) {
	db.follower.mu.Lock()
	defer db.follower.mu.Unlock()
	db.follower.heard = heard
}

func (f *follower) hear(note string) {
	f.mu.Lock()
	heard := f.heard
	f.mu.Unlock()
	if heard != nil {
		heard(note)
	}
}

// take returns the notes to be told, as few messages.
func (f *follower) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var messages []string
	for _, note := range f.notes {
		if last := len(messages) - 1; last >= 0 && len(messages[last])+len(note) < noteLength {
			messages[last] += "\n" + note
			continue
		}
		messages = append(messages, f.self+"\n"+note)
	}
	f.notes = nil
	return messages
}

func (e *postgres) follow(ctx context.Context, db *DB) {
	for ctx.Err() == nil {
		if conn, err := e.connect(ctx); err == nil {
			_ = e.followOn(ctx, db, conn) // whatever ended it, it begins anew
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(closing) // it has failed, or all is over
			cancel()
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAfter):
		}
	}
}

// followOn follows until the connection fails. What was told before it began is
// not heard any more, so it begins as if everything had been.
func (e *postgres) followOn(ctx context.Context, db *DB, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "LISTEN "+channel)
	listens := err == nil
	if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
		return err
	}
	for missed := true; ; missed = !listens {
		news, err := e.lookForCommits(ctx, db, conn)
		if err != nil {
			return err
		}
		if missed && (news || listens) {
			db.follower.hear("")
		}
		if err := e.tell(ctx, db, conn); err != nil {
			return err
		}
		heard, err := e.wait(ctx, db, conn, listens)
		if err != nil {
			return err
		}
		for _, note := range heard {
			db.follower.hear(note)
		}
	}
}

// wait waits for a note of another server, for one to be told, or for the time
// to look.
func (e *postgres) wait(ctx context.Context, db *DB, conn *pgx.Conn, listens bool) ([]string, error) {
	waiting, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-db.follower.signal:
			cancel()
		case <-waiting.Done():
		case <-done:
		}
	}()
	defer func() { close(done); <-stopped }()
	if !listens {
		<-waiting.Done()
		return nil, ctx.Err()
	}
	note, err := conn.WaitForNotification(waiting)
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil && !conn.IsClosed() {
			return nil, nil
		}
		return nil, err
	}
	lines := strings.Split(note.Payload, "\n")
	if lines[0] == db.follower.self {
		return nil, nil
	}
	return lines[1:], nil
}

// lookForCommits says whether something was committed that nobody here was told
// of, and keeps the clocks' difference up to date.
func (e *postgres) lookForCommits(ctx context.Context, db *DB, conn *pgx.Conn) (news bool, err error) {
	asked := time.Now()
	last, _, err := e.heed(asked, conn.QueryRow(ctx, ownRow))
	return err == nil && db.changes.committed(last), err
}

func (e *postgres) tell(ctx context.Context, db *DB, conn *pgx.Conn) error {
	for _, message := range db.follower.take() {
		if _, err := conn.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, message); err != nil {
			if _, refused := errors.AsType[*pgconn.PgError](err); refused {
				return nil // this database has no NOTIFY; the others look by themselves
			}
			return err
		}
	}
	return nil
}
