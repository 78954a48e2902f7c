package control

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// another is a second server's Control on the same store.
func (d *domain) another() *domain {
	d.t.Helper()
	other := *d
	other.open()
	return &other
}

// wholeLog checks that every entry of the newest checkpoint is there and gives
// its root, by the entries and by the tiles.
func (d *domain) wholeLog() audit.Checkpoint {
	d.t.Helper()
	signed, err := d.Checkpoint(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	checkpoint, err := audit.OpenCheckpoint(signed, d.Origin(), d.logVerifier)
	if err != nil {
		d.t.Fatal(err)
	}
	tree := audit.NewTree()
	for tree.Size() < checkpoint.Size {
		list, err := d.ListAuditEntries(d.t.Context(), operator, &api.ListAuditEntriesRequest{From: tree.Size()})
		if err != nil || len(list.Entries) == 0 {
			d.t.Fatalf("entry %d: %v", tree.Size(), err)
		}
		for _, entry := range list.Entries {
			if entry.Index != tree.Size() {
				d.t.Fatalf("entry %d stands where %d should", entry.Index, tree.Size())
			}
			if err := tree.Append(audit.LeafHash(entry.Content)); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	if tree.Size() != checkpoint.Size || tree.Root() != checkpoint.Root {
		d.t.Fatalf("%d entries give %s, signed are %d and %s", tree.Size(), tree.Root(), checkpoint.Size, checkpoint.Root)
	}
	return checkpoint
}

// Two servers sequence one store, and their leases pass from one to the other
// all the time: each checkpoint that either signs is of one log.
func TestTwoServersSequenceOneLog(t *testing.T) {
	a := found(t)
	b := a.another()
	var witness sync.Mutex
	var seen []audit.Checkpoint
	took := map[*domain]int{}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, d := range []*domain{a, b} {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := d.SequenceAudit(t.Context())
				if err != nil && fault.CodeOf(err) != fault.Conflict {
					t.Error(err)
					return
				}
				a.clock.turn(sequencerLife / 3)
				if n == 0 {
					continue
				}
				signed, err := d.Checkpoint(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				checkpoint, err := audit.OpenCheckpoint(signed, d.Origin(), d.logVerifier)
				if err != nil {
					t.Error(err)
				}
				witness.Lock()
				seen, took[d] = append(seen, checkpoint), took[d]+n
				witness.Unlock()
			}
		})
	}
	for range 300 {
		a.token(nil)
	}
	close(stop)
	group.Wait()
	if took[a] == 0 || took[b] == 0 {
		t.Fatalf("the log was sequenced by one alone: %d, %d", took[a], took[b])
	}
	a.clock.turn(2 * sequencerLife)
	if _, err := a.SequenceAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	newest := a.wholeLog()
	for _, old := range seen {
		response, err := a.ProveConsistency(t.Context(), Caller{Kind: Agent}, &api.ProveConsistencyRequest{From: old.Size, To: newest.Size})
		if err != nil {
			t.Fatal(err)
		}
		var proof []audit.Hash
		for _, hash := range response.Proof {
			proof = append(proof, audit.Hash(hash))
		}
		if err := audit.CheckConsistency(proof, old, newest); err != nil {
			t.Errorf("from %d to %d: %v", old.Size, newest.Size, err)
		}
	}
}

// A server that stood still between hashing and committing, while its lease
// went to another, commits nothing: neither what the other took meanwhile nor,
// by its old lease, anything else.
func TestOvertakenSequencerCommitsNothing(t *testing.T) {
	a := found(t)
	b := a.another()
	a.token(nil)
	stale, err := a.growth(t.Context())
	if err != nil || len(stale.Entries) == 0 {
		t.Fatalf("%d entries, %v", len(stale.Entries), err)
	}
	if n, err := b.SequenceAudit(t.Context()); err != nil || n != len(stale.Entries) {
		t.Fatalf("%d taken, %v", n, err)
	}
	if err := a.commitGrowth(t.Context(), stale); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("under another's lease: %v", err)
	}
	a.clock.turn(2 * sequencerLife)
	if err := a.commitGrowth(t.Context(), stale); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("with a lease, on an old size: %v", err)
	}
	a.wholeLog()
	a.token(nil)
	if n, err := b.SequenceAudit(t.Context()); err != nil || n == 0 {
		t.Errorf("%d taken, %v", n, err)
	}
	a.token(nil)
	if _, err := a.SequenceAudit(t.Context()); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("while the other holds the lease: %v", err)
	}
	if err := b.LeaveSequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := a.SequenceAudit(t.Context()); err != nil || n == 0 {
		t.Errorf("after the other left: %d taken, %v", n, err)
	}
	a.wholeLog()
}

// Nothing is signed over a tree that somebody changed in the store.
func TestNothingIsAddedToAnAlteredLog(t *testing.T) {
	d := found(t)
	d.token(nil)
	if _, err := d.SequenceAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := d.wholeLog()
	d.token(nil)
	for name, alter := range map[string]func(*sql.DB) error{
		"a hash": rewritten(`SELECT hashes FROM audit_tile`, `UPDATE audit_tile SET hashes = $1`, func(hashes []byte) []byte {
			return make([]byte, len(hashes))
		}),
		"the tail":      statement(`UPDATE audit_tile SET hashes = SUBSTR(hashes, 1, 32)`),
		"the size":      statement(`UPDATE store_meta SET tree_size = tree_size - 1`),
		"all its tiles": statement(`DELETE FROM audit_tile`),
		"its checkpoint": rewritten(`SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1`,
			`UPDATE checkpoint SET note = $1 WHERE size = (SELECT MAX(size) FROM checkpoint)`, func(note []byte) []byte {
				return bytes.Replace(note, []byte("/audit\n"), []byte("/audit\n9"), 1)
			}),
	} {
		t.Run(name, func(t *testing.T) {
			undo := d.altered(t, alter)
			if n, err := d.SequenceAudit(t.Context()); fault.CodeOf(err) != fault.Internal {
				t.Errorf("%d taken, %v", n, err)
			}
			undo()
		})
	}
	if alarms := d.logAlarms(); len(alarms) != 0 {
		t.Errorf("at once: %q", alarms)
	}
	d.clock.turn(2 * time.Minute)
	if alarms := d.logAlarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "entries have waited for their place") {
		t.Errorf("after two minutes: %q", alarms)
	}
	if n, err := d.SequenceAudit(t.Context()); err != nil || n == 0 {
		t.Errorf("put back, %d taken, %v", n, err)
	}
	if alarms := d.logAlarms(); len(alarms) != 0 {
		t.Errorf("when all have it: %q", alarms)
	}
	if after := d.wholeLog(); after.Size <= before.Size {
		t.Errorf("%d entries after %d", after.Size, before.Size)
	}
}

func (d *domain) logAlarms() []string {
	d.t.Helper()
	list, err := d.ListPlacements(d.t.Context(), operator, &api.ListPlacementsRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	return list.LogAlarms
}

func statement(text string) func(*sql.DB) error {
	return func(raw *sql.DB) error { _, err := raw.Exec(text); return err }
}

// rewritten reads a value, and writes what change makes of it.
func rewritten(read, write string, change func([]byte) []byte) func(*sql.DB) error {
	return func(raw *sql.DB) error {
		var value []byte
		if err := raw.QueryRow(read).Scan(&value); err != nil {
			return err
		}
		_, err := raw.Exec(write, change(value))
		return err
	}
}

// altered changes the store behind the server's back, until undo.
func (d *domain) altered(t *testing.T, change func(*sql.DB) error) (undo func()) {
	t.Helper()
	raw := storetest.Raw(t, d.place)
	exec := func(statements ...string) {
		for _, statement := range statements {
			if _, err := raw.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	tables := []string{"audit_tile", "checkpoint", "store_meta"}
	for _, table := range tables {
		exec("DROP TABLE IF EXISTS kept_"+table, "CREATE TABLE kept_"+table+" AS SELECT * FROM "+table)
	}
	if err := change(raw); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, table := range tables {
			exec("DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM kept_"+table)
		}
	}
}

// A new checkpoint is shown to some agents at once: a store that is put back from
// a copy is found out by what they saw.
func TestSomeAgentsAreShownACheckpointAtOnce(t *testing.T) {
	d := found(t)
	var streams []<-chan struct{}
	for i := range 5 {
		wake, stop := d.WatchAgent(fmt.Sprint("agent-", i))
		defer stop()
		streams = append(streams, wake)
	}
	woken := func() (n int) {
		for _, wake := range streams {
			select {
			case <-wake:
				n++
			default:
			}
		}
		return n
	}
	d.token(map[string]string{"role": "orders"})
	if n, err := d.SequenceAudit(t.Context()); err != nil || n == 0 {
		t.Fatalf("%d entries sequenced, %v", n, err)
	}
	woken()
	for _, want := range []int{3, 0} { // and none once more for the same
		if err := d.ShowLog(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := woken(); n != want {
			t.Errorf("%d of 5 agents are shown the checkpoint, not %d", n, want)
		}
	}
}
