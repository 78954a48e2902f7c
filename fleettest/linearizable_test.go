package fleettest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
)

// step is what a server was asked: to write a document, to read it, or to take
// a lease.
type step struct {
	write  string // empty: read
	holder string // of the lease that it takes; empty: it takes none
}

// found is what it answered.
type found struct {
	read    string
	taken   bool
	unknown bool // there was no answer: it may have happened, or may yet
}

// document is one value that is written whole.
var document = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := input.(step), output.(found)
		if in.write != "" {
			return true, in.write
		}
		return out.unknown || out.read == state.(string), state
	},
}

// heldLease is a lease that never ends by itself: its first taker keeps it, and
// may take it again.
var heldLease = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		holder, in, out := state.(string), input.(step), output.(found)
		free := holder == "" || holder == in.holder
		switch {
		case out.unknown && free:
			return true, in.holder
		case out.unknown:
			return true, holder
		case free:
			return out.taken, in.holder
		}
		return !out.taken, holder
	},
}

// history is what was asked and answered, and when.
type history struct {
	mu    sync.Mutex
	began time.Time
	ops   []porcupine.Operation
}

func (h *history) do(client int, in step, ask func() (found, error)) {
	call := time.Since(h.began).Nanoseconds()
	out, err := ask()
	end := time.Since(h.began).Nanoseconds()
	if err != nil {
		out, end = found{unknown: true}, 1<<62
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

func linearizable(t *testing.T, did *counted) {
	db := postgrestest.Run(t, "fsync=on", "full_page_writes=on")
	url := db.Database(t)
	made, err := store.Open(t.Context(), store.Options{URL: url, Create: true})
	if err == nil {
		err = made.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	documents, leases := &history{began: time.Now()}, &history{began: time.Now()}
	const servers, kills = 3, 6
	over := make(chan struct{})
	var group sync.WaitGroup
	for server := range servers {
		opened, err := store.Open(t.Context(), store.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { opened.Close() })
		for worker := range 2 {
			client := 2*server + worker
			group.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-over:
						return
					default:
						walk(t, opened, client, i, documents, leases)
						isBack(t, opened, over)
					}
				}
			})
		}
	}
	for range kills {
		time.Sleep(50*time.Millisecond + rand.N(100*time.Millisecond)) // at whatever they are
		if err := db.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	group.Wait()
	for what, checked := range map[string]struct {
		model porcupine.Model
		ops   []porcupine.Operation
	}{"the document": {document, documents.ops}, "the lease": {heldLease, leases.ops}} {
		if result := porcupine.CheckOperationsTimeout(checked.model, checked.ops, time.Minute); result != porcupine.Ok {
			t.Errorf("%s: %s over %d operations", what, result, len(checked.ops))
		}
		unknown := 0
		for _, op := range checked.ops {
			if op.Output.(found).unknown {
				unknown++
			}
		}
		did.add("%s: %d operations, %d of them unanswered, linearizable", what, len(checked.ops), unknown)
	}
	did.add("%d kills", kills)
}

// isBack waits until the database answers: what is asked meanwhile may have
// happened at any time, and there must not be too much of that.
func isBack(t *testing.T, db *store.DB, over <-chan struct{}) {
	for db.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Epoch(t.Context()); return err }) != nil {
		select {
		case <-over:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// walk does one step of each kind.
func walk(t *testing.T, db *store.DB, client, i int, documents, leases *history) {
	ctx := t.Context()
	if rand.IntN(2) == 0 {
		in := step{write: fmt.Sprintf(`{"v":"%d-%d"}`, client, i)}
		documents.do(client, in, func() (found, error) {
			return found{}, db.Write(ctx, func(tx *store.Tx) error {
				return tx.PutDocument(ctx, store.Document{Kind: "Service", Name: "one", JSON: []byte(in.write), ChangedBy: "test"})
			})
		})
	} else {
		documents.do(client, step{}, func() (out found, err error) {
			err = db.Read(ctx, func(tx *store.Tx) error {
				all, err := tx.Documents(ctx, "Service", "one")
				for _, one := range all {
					out.read = string(one.JSON)
				}
				return err
			})
			return out, err
		})
	}
	in := step{holder: fmt.Sprint(client)}
	leases.do(client, in, func() (found, error) {
		err := db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.TakeLease(ctx, "one", in.holder, time.Hour)
			return err
		})
		if fault.CodeOf(err) == fault.Conflict {
			return found{}, nil
		}
		return found{taken: err == nil}, err
	})
}
