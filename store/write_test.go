package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

func made(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "rotunda.db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func document(ctx context.Context, tx *Tx, name string, size int) error {
	return tx.PutDocument(ctx, Document{Kind: "Service", Name: name, JSON: []byte(strings.Repeat("x", size)), ChangedBy: "test"})
}

func names(t *testing.T, db *DB) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := db.Read(t.Context(), func(tx *Tx) error {
		all, err := tx.Documents(t.Context(), "", "")
		for _, d := range all {
			found[d.Name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// together makes the writer take all the calls in one group: it is held while
// they queue. It returns their answers.
func together(t *testing.T, db *DB, calls ...func(*Tx) error) []error {
	t.Helper()
	held, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if err := db.Write(t.Context(), func(*Tx) error { close(held); <-goOn; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	answers := make([]error, len(calls))
	for i, fn := range calls {
		group.Go(func() { answers[i] = db.Write(t.Context(), fn) })
		for len(db.queue) <= i { // until it stands in the queue, behind the one before
			runtime.Gosched()
		}
	}
	close(goOn)
	group.Wait()
	return answers
}

// TestGroup: calls that wait together share one commit and one time, and each
// sees what those before it in the group wrote.
func TestGroup(t *testing.T) {
	db := made(t)
	before, _ := db.Changed()
	var times [20]time.Time
	var calls []func(*Tx) error
	for i := range times {
		calls = append(calls, func(tx *Tx) error {
			times[i] = tx.Now
			all, err := tx.Documents(t.Context(), "", "")
			if err != nil || len(all) != i {
				return fmt.Errorf("call %d sees %d documents, %w", i, len(all), err)
			}
			return document(t.Context(), tx, fmt.Sprintf("%03d", i), 10)
		})
	}
	for _, err := range together(t, db, calls...) {
		if err != nil {
			t.Error(err)
		}
	}
	if after, _ := db.Changed(); after != before+1 {
		t.Errorf("%d commits for one group", after-before)
	}
	for _, now := range times {
		if !now.Equal(times[0]) {
			t.Errorf("times of one group: %v, %v", times[0], now)
		}
	}
}

// TestFullInGroup: a call that does not fit on the disk is refused; so are its
// neighbours at worst; none is kept in part, and the writer goes on.
func TestFullInGroup(t *testing.T) {
	db := made(t)
	limit := func(pages int) func(*Tx) error {
		return func(tx *Tx) error {
			_, err := tx.session.exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages))
			return err
		}
	}
	small := func(name string) func(*Tx) error {
		return func(tx *Tx) error { return document(t.Context(), tx, name, 10) }
	}
	answers := together(t, db, limit(1), small("before"), func(tx *Tx) error {
		if err := document(t.Context(), tx, "half", 10); err != nil {
			return err
		}
		return document(t.Context(), tx, "large", 1<<20)
	}, small("after"))
	if fault.CodeOf(answers[2]) != fault.Unavailable || !strings.Contains(answers[2].Error(), "full") {
		t.Errorf("what did not fit: %v", answers[2])
	}
	found := names(t, db)
	if found["half"] || found["large"] {
		t.Error("a call that was refused is there in part")
	}
	for i, name := range map[int]string{1: "before", 3: "after"} {
		if found[name] != (answers[i] == nil) {
			t.Errorf("%s: answer %v, kept %v", name, answers[i], found[name])
		}
		if answers[i] != nil && fault.CodeOf(answers[i]) != fault.Unavailable {
			t.Errorf("%s: %v", name, answers[i])
		}
	}
	if err := db.Write(t.Context(), limit(1<<30)); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "large", 1<<20) }); err != nil {
		t.Fatalf("with room again: %v", err)
	}
}

// TestReadOnly: while the file can't be written, writes are refused as
// unavailable; reads go on; and writes go on when it can.
func TestReadOnly(t *testing.T) {
	db := made(t)
	only := func(on int) error {
		return db.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.session.exec(fmt.Sprintf("PRAGMA query_only = %d", on))
			return err
		})
	}
	if err := only(1); err != nil {
		t.Fatal(err)
	}
	err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "refused", 10) })
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "writable") {
		t.Fatalf("a read-only file came out as: %v", err)
	}
	if len(names(t, db)) != 0 {
		t.Fatal("the refused document is there")
	}
	if err := only(0); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "kept", 10) }); err != nil {
		t.Fatal(err)
	}
}

// TestMovedFile: a store whose file was moved away under it does not go on
// writing into what nobody will find.
func TestMovedFile(t *testing.T) {
	db := made(t)
	if err := os.Rename(db.Place(), db.Place()+".moved"); err != nil {
		t.Fatal(err)
	}
	err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "lost", 10) })
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "moved") {
		t.Fatalf("a moved file came out as: %v", err)
	}
	if err := os.Rename(db.Place()+".moved", db.Place()); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "kept", 10) }); err != nil {
		t.Fatal(err)
	}
}

// TestPragmas: what durability and integrity rest on is switched on, on the
// connection that writes and on those that read.
func TestPragmas(t *testing.T) {
	db := made(t)
	expect := func(tx *Tx, pragmas map[string]string) error {
		for pragma, want := range pragmas {
			got, err := value[string](t.Context(), tx, thing{"pragma", pragma}, "PRAGMA "+pragma)
			if err != nil {
				return err
			}
			if got != want {
				t.Errorf("pragma %s is %s, want %s", pragma, got, want)
			}
		}
		return nil
	}
	err := db.Write(t.Context(), func(tx *Tx) error {
		return expect(tx, map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), func(tx *Tx) error { return expect(tx, map[string]string{"query_only": "1"}) })
	if err != nil {
		t.Fatal(err)
	}
}

// TestWithdrawnFromQueue: a call that gave up while it stood in the queue is
// not carried out behind its caller's back.
func TestWithdrawnFromQueue(t *testing.T) {
	db := made(t)
	held, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if err := db.Write(t.Context(), func(*Tx) error { close(held); <-goOn; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	withdrawn := make(chan error, 1)
	go func() {
		withdrawn <- db.Write(ctx, func(tx *Tx) error { return document(t.Context(), tx, "withdrawn", 10) })
	}()
	for len(db.queue) == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-withdrawn; !errors.Is(err, context.Canceled) {
		t.Errorf("answer: %v", err)
	}
	close(goOn)
	group.Wait()
	if err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, "next", 10) }); err != nil {
		t.Fatal(err)
	}
	if found := names(t, db); found["withdrawn"] || !found["next"] {
		t.Errorf("the store has %v", found)
	}
}

// TestCloseDrains: calls that stood in the queue when the store was closed are
// carried out; they came in time.
func TestCloseDrains(t *testing.T) {
	db := made(t)
	held, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if err := db.Write(t.Context(), func(*Tx) error { close(held); <-goOn; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	for i := range 3 * mostInGroup {
		group.Go(func() {
			if err := db.Write(t.Context(), func(tx *Tx) error { return document(t.Context(), tx, fmt.Sprint(i), 10) }); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	for len(db.queue) < 3*mostInGroup {
		runtime.Gosched()
	}
	group.Go(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	<-db.closing
	close(goOn)
	group.Wait()
}
