package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// put writes one document; several in one call are the halves of a verb.
func put(ctx context.Context, tx *store.Tx, names ...string) error {
	for _, name := range names {
		err := tx.PutDocument(ctx, store.Document{Kind: "Service", Name: name, JSON: []byte("{}"), ChangedBy: "test"})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) names() map[string]bool {
	b.t.Helper()
	names := map[string]bool{}
	for _, d := range find(b, func(tx *store.Tx) ([]store.Document, error) { return tx.Documents(b.ctx, "", "") }) {
		names[d.Name] = true
	}
	return names
}

var errOnPurpose = errors.New("on purpose")

// testNeighbours: of many calls at once those that fail leave nothing, and
// those that succeed lose nothing.
func testNeighbours(t *testing.T, b *bench) {
	const calls = 200
	failures := make([]error, calls)
	var group sync.WaitGroup
	for i := range calls {
		group.Go(func() {
			failures[i] = b.Write(b.ctx, func(tx *store.Tx) error {
				if err := put(b.ctx, tx, fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i)); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return errOnPurpose
				case 2: // a statement that breaks a rule of the schema
					if err := tx.InsertPlacement(b.ctx, store.Placement{ID: "p", AgentID: "nobody"}); err == nil {
						t.Error("a placement of no agent was stored")
					}
				case 3:
					panic("on purpose")
				}
				return nil
			})
		})
	}
	group.Wait()
	names := b.names()
	for i, err := range failures {
		kept := names[fmt.Sprintf("%d-a", i)] && names[fmt.Sprintf("%d-b", i)]
		gone := !names[fmt.Sprintf("%d-a", i)] && !names[fmt.Sprintf("%d-b", i)]
		if succeeds := i%4 == 0; succeeds != (err == nil) || succeeds != kept || succeeds == gone {
			t.Errorf("call %d of kind %d: error %v, kept %v, gone %v", i, i%4, err, kept, gone)
		}
	}
}

// testDurable: what Write answered for is there in a store opened anew.
func testDurable(_ *testing.T, b *bench) {
	b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "kept") })
	b.reopen(false)
	same(b, b.names(), map[string]bool{"kept": true})
}

func testPanic(t *testing.T, b *bench) {
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		if err := put(b.ctx, tx, "half"); err != nil {
			return err
		}
		panic("the reason")
	})
	if fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "the reason") {
		t.Fatalf("a panic came out as: %v", err)
	}
	if err := b.Read(b.ctx, func(*store.Tx) error { panic("the reason") }); fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "the reason") {
		t.Fatalf("a panic of a read came out as: %v", err)
	}
	b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "after") })
	same(b, b.names(), map[string]bool{"after": true})
}

// testGoexit: even a func that ends its goroutine ends nobody else's work.
func testGoexit(t *testing.T, b *bench) {
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		if err := put(b.ctx, tx, "half"); err != nil {
			return err
		}
		runtime.Goexit()
		return nil
	})
	if err == nil {
		t.Fatal("a write that ended its goroutine succeeded")
	}
	b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "after") })
	same(b, b.names(), map[string]bool{"after": true})
}

// testOverlookedError: a caller that drops the error of a statement does not
// commit the half.
func testOverlookedError(t *testing.T, b *bench) {
	b.withAuthority()
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		if err := put(b.ctx, tx, "half"); err != nil {
			return err
		}
		_ = tx.InsertAuthority(b.ctx, authority()) // is there already
		if err := put(b.ctx, tx, "other half"); err == nil {
			t.Error("a statement ran after one that had failed")
		}
		return nil
	})
	same(b, b.names(), map[string]bool{})
}

// testRunTwice: a func that was run and whose write failed may run again, and
// only the run that counts is seen.
func testRunTwice(t *testing.T, b *bench) {
	runs := 0
	fn := func(tx *store.Tx) error {
		runs++
		if err := put(b.ctx, tx, "document"); err != nil {
			return err
		}
		if runs == 1 {
			return errOnPurpose
		}
		return nil
	}
	if err := b.Write(b.ctx, fn); !errors.Is(err, errOnPurpose) {
		t.Fatal(err)
	}
	b.write(fn)
	revisions := find(b, func(tx *store.Tx) ([]store.Document, error) {
		return tx.DocumentRevisions(b.ctx, "Service", "document")
	})
	if len(revisions) != 1 || revisions[0].Revision != 1 {
		t.Fatalf("revisions after two runs: %+v", revisions)
	}
}

func testAfterTheEnd(t *testing.T, b *bench) {
	var kept *store.Tx
	keep := func(tx *store.Tx) error {
		kept = tx
		return put(b.ctx, tx, "one")
	}
	b.write(keep)
	if err := put(b.ctx, kept, "two"); fault.CodeOf(err) != fault.Internal {
		t.Fatalf("a write after the end: %v", err)
	}
	b.read(func(tx *store.Tx) error { kept = tx; return nil })
	if _, err := kept.Epoch(b.ctx); fault.CodeOf(err) != fault.Internal {
		t.Fatalf("a read after the end: %v", err)
	}
	same(b, b.names(), map[string]bool{"one": true})
}

func testWriteInRead(t *testing.T, b *bench) {
	err := b.Read(b.ctx, func(tx *store.Tx) error { return put(b.ctx, tx, "smuggled") })
	if fault.CodeOf(err) != fault.Internal {
		t.Fatalf("a write within a read: %v", err)
	}
	same(b, b.names(), map[string]bool{})
}

// testSnapshot: a read sees one moment however long it takes, and a later read
// sees what was committed.
func testSnapshot(t *testing.T, b *bench) {
	b.read(func(tx *store.Tx) error {
		before, err := tx.Documents(b.ctx, "", "")
		if err != nil {
			return err
		}
		b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "new") })
		after, err := tx.Documents(b.ctx, "", "")
		if len(before) != 0 || len(after) != 0 {
			t.Errorf("a snapshot showed %d documents, then %d", len(before), len(after))
		}
		return err
	})
	same(b, b.names(), map[string]bool{"new": true})
}

// testWithdrawn: a call whose context ended is not carried out, and one that
// was begun is answered truly.
func testWithdrawn(t *testing.T, b *bench) {
	cancelled, cancel := context.WithCancel(b.ctx)
	begun, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- b.Write(cancelled, func(tx *store.Tx) error {
			close(begun)
			<-goOn
			return put(b.ctx, tx, "begun")
		})
	}()
	<-begun
	second := make(chan error, 1)
	go func() {
		second <- b.Write(cancelled, func(tx *store.Tx) error { return put(b.ctx, tx, "withdrawn") })
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that waited: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Errorf("the one that was begun: %v", err)
	}
	same(b, b.names(), map[string]bool{"begun": true})
}

// testClosed: calls that meet the end of the store are done or refused, none
// hangs and none lies.
func testClosed(t *testing.T, b *bench) {
	answers := make([]error, 100)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() {
			answers[i] = b.Write(b.ctx, func(tx *store.Tx) error { return put(b.ctx, tx, fmt.Sprint(i)) })
		})
	}
	b.check(b.Close())
	group.Wait()
	if err := b.Read(b.ctx, func(*store.Tx) error { return nil }); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("a read of a closed store: %v", err)
	}
	b.reopen(false)
	names := b.names()
	for i, err := range answers {
		if err != nil && fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("call %d: %v", i, err)
		}
		if names[fmt.Sprint(i)] != (err == nil) {
			t.Errorf("call %d: answer %v, kept %v", i, err, names[fmt.Sprint(i)])
		}
	}
}

// testChanged: a follower misses no commit, and neither a read nor a write that
// failed wakes it.
func testChanged(t *testing.T, b *bench) {
	version, next := b.Changed()
	b.read(func(*store.Tx) error { return nil })
	b.refuse(fault.Internal, func(tx *store.Tx) error {
		return errors.Join(put(b.ctx, tx, "undone"), errOnPurpose)
	})
	select {
	case <-next:
		t.Fatal("woken by nothing")
	default:
	}
	b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "done") })
	<-next
	later, _ := b.Changed()
	if later <= version {
		t.Fatalf("version %d after %d", later, version)
	}
}

// testLaw: whatever mix of verbs runs, the store ends as a model that takes
// only the verbs that succeeded, each whole.
func testLaw(_ *testing.T, b *bench) {
	model := map[string]uint64{} // document → revision
	rapid.Check(b.t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 5).Draw(t, "names")
		remove := rapid.Bool().Draw(t, "remove the first after")
		fails := rapid.Bool().Draw(t, "fails")
		next := map[string]uint64{}
		for name, revision := range model {
			next[name] = revision
		}
		for _, name := range names {
			next[name]++
		}
		err := b.Write(b.ctx, func(tx *store.Tx) error {
			if err := put(b.ctx, tx, names...); err != nil {
				return err
			}
			if remove {
				if err := tx.DeleteDocument(b.ctx, "Service", names[0], "test"); err != nil {
					return err
				}
				if err := put(b.ctx, tx, names[0]); err != nil {
					return err
				}
			}
			if fails {
				return errOnPurpose
			}
			return nil
		})
		if fails != (err != nil) {
			t.Fatalf("fails %v: %v", fails, err)
		}
		if remove { // a removal is a revision too
			next[names[0]] += 2
		}
		if !fails {
			model = next
		}
		stored := map[string]uint64{}
		for _, d := range find(b, func(tx *store.Tx) ([]store.Document, error) { return tx.Documents(b.ctx, "", "") }) {
			stored[d.Name] = d.Revision
		}
		if fmt.Sprint(stored) != fmt.Sprint(model) {
			t.Fatalf("the store has %v, the model %v", stored, model)
		}
	})
}
