package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/store"
)

// testMoves: the store moves with each commit but those of which every call is
// quiet, whatever they share the commit with, and what is undone does not count.
func testMoves(t *testing.T, b *bench) {
	moved := func() time.Time { return find(b, func(tx *store.Tx) (time.Time, error) { return tx.LastMove(b.ctx) }) }
	committed := func() time.Time {
		return find(b, func(tx *store.Tx) (time.Time, error) { return tx.LastCommit(b.ctx) })
	}
	loud := func(name string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return put(b.ctx, tx, name) }
	}
	quiet := func(name string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			tx.Quiet()
			return put(b.ctx, tx, name)
		}
	}
	b.write(loud("first"))
	first := committed()
	if !moved().Equal(first) {
		t.Fatalf("the newest move was at %v, its commit at %v", moved(), first)
	}
	b.pass(time.Second)
	b.write(quiet("second"))
	if !moved().Equal(first) || !committed().After(first) {
		t.Fatalf("a quiet commit at %v after one at %v: the newest move was at %v", committed(), first, moved())
	}
	if err := b.Write(b.ctx, func(tx *store.Tx) error {
		return errors.Join(put(b.ctx, tx, "never"), errors.New("undone"))
	}); err == nil || !moved().Equal(first) {
		t.Fatalf("what was undone (%v) counts as a move at %v", err, moved())
	}
	b.pass(time.Second)
	for i := range 5 {
		var group sync.WaitGroup
		before := committed()
		group.Go(func() { b.write(loud(fmt.Sprint("loud ", i))) })
		for j := range 30 { // most of them share its commit
			group.Go(func() { b.write(quiet(fmt.Sprint("quiet ", i, j))) })
		}
		group.Wait()
		if !moved().After(before) {
			t.Fatalf("round %d: quiet neighbours have hidden a move", i)
		}
	}
}
