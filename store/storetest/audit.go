package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func entryID(n int) string { return fmt.Sprintf("entry-%04d", n) }

func (b *bench) append(from, to int) {
	b.t.Helper()
	b.write(func(tx *store.Tx) error {
		for n := to - 1; n >= from; n-- { // the order of ids counts, not that of writing
			content := []byte(entryID(n))
			if err := tx.AppendAuditEntries(b.ctx, store.PendingEntry{ID: entryID(n), Content: content, LeafHash: audit.LeafHash(content)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// sequence indexes at most limit pending entries, as the sequencer does.
func (b *bench) sequence(tx *store.Tx, limit int) (audit.Hash, error) {
	size, err := tx.TreeSize(b.ctx)
	if err != nil {
		return audit.Hash{}, err
	}
	pending, err := tx.PendingEntries(b.ctx, limit)
	if err != nil {
		return audit.Hash{}, err
	}
	var leaves []audit.Hash
	for _, entry := range pending {
		leaves = append(leaves, entry.LeafHash)
	}
	tiles, root, err := audit.Append(size, leaves, tx.AuditTiles(b.ctx))
	if err != nil {
		return root, err
	}
	return root, tx.GrowLog(b.ctx, store.LogGrowth{Size: size, Entries: pending, Tiles: tiles})
}

// testAuditLog: entries get their indexes in the order of their ids, slice by
// slice, and the stored hashes are those of the tree over them.
func testAuditLog(t *testing.T, b *bench) {
	var root audit.Hash
	total := 0
	for _, grow := range []int{1, 2, 5, 64, 3, 300} { // beyond a tile
		b.append(total, total+grow)
		total += grow
		newest := find(b, func(tx *store.Tx) ([]store.AuditEntry, error) { return tx.NewestAuditEntries(b.ctx, 2) })
		if last := newest[len(newest)-1]; last.ID != entryID(total-1) || !last.Pending {
			t.Fatalf("the newest entry is %+v", last)
		}
		b.write(func(tx *store.Tx) error {
			var err error
			root, err = b.sequence(tx, grow)
			return err
		})
	}
	b.read(func(tx *store.Tx) error {
		size, err := tx.TreeSize(b.ctx)
		if err != nil || size != uint64(total) {
			t.Fatalf("tree size %d, %v", size, err)
		}
		entries, err := tx.AuditEntries(b.ctx, 0, total+1)
		if err != nil {
			return err
		}
		for i, e := range entries {
			want := store.AuditEntry{ID: entryID(i), Index: uint64(i), Content: []byte(entryID(i)), LeafHash: audit.LeafHash([]byte(entryID(i)))}
			same(b, e, want)
		}
		stored, err := audit.Root(uint64(total), tx.AuditTiles(b.ctx))
		if err != nil || len(entries) != total || stored != root {
			t.Fatalf("%d entries, root %v, %v; want %d, %v", len(entries), stored, err, total, root)
		}
		middle, err := tx.AuditEntries(b.ctx, 10, 2)
		if len(middle) != 2 || middle[0].Index != 10 || middle[1].Index != 11 {
			t.Fatalf("entries from 10: %+v", middle)
		}
		return err
	})
	absent(b, func(tx *store.Tx) ([]byte, error) { return tx.AuditTiles(b.ctx)(0, 2) })
	b.append(total, total+1)
	another := func(tx *store.Tx) error {
		return tx.AppendAuditEntries(b.ctx, store.PendingEntry{ID: entryID(total), Content: []byte("another"), LeafHash: audit.LeafHash([]byte("another"))})
	}
	b.refuse(fault.Conflict, another)
	b.write(func(tx *store.Tx) error { _, err := b.sequence(tx, 1); return err })
	b.write(another)
	b.refuse(fault.Internal, func(tx *store.Tx) error { _, err := b.sequence(tx, 1); return err }) // no entry has two places
}

// testLongEntries: the longest that there may be are read fewer at once, and all get
// their places.
func testLongEntries(t *testing.T, b *bench) {
	const many = 400
	b.write(func(tx *store.Tx) error {
		entries := make([]store.PendingEntry, many)
		for i := range entries {
			content := fmt.Appendf(nil, "%0*d", audit.MaxEntry, i)
			entries[i] = store.PendingEntry{ID: entryID(i), Content: content, LeafHash: audit.LeafHash(content)}
		}
		return tx.AppendAuditEntries(b.ctx, entries...)
	})
	passes := 0
	for size := uint64(0); size < many; passes++ {
		b.write(func(tx *store.Tx) (err error) {
			if _, err = b.sequence(tx, many); err == nil {
				size, err = tx.TreeSize(b.ctx)
			}
			return err
		})
	}
	if passes != 2 {
		t.Errorf("%d entries of %d bytes were read in %d passes", many, audit.MaxEntry, passes)
	}
}

// testTwoSequencers: of two that saw one size, one grows the tree; and who was
// overtaken by a later lease does not, whatever it saw.
func testTwoSequencers(t *testing.T, b *bench) {
	entries := map[int]store.PendingEntry{}
	appendTo := func(to int) {
		b.append(len(entries), to)
		pending := find(b, func(tx *store.Tx) ([]store.PendingEntry, error) { return tx.PendingEntries(b.ctx, to) })
		for _, entry := range pending[len(pending)-to+len(entries):] {
			entries[len(entries)] = entry
		}
	}
	appendTo(3)
	grow := func(size, fencing uint64, which ...int) func(*store.Tx) error {
		g := store.LogGrowth{Size: size, Fencing: fencing, Tiles: []audit.HashTile{{Hashes: make([]byte, audit.HashSize)}}}
		for _, n := range which {
			g.Entries = append(g.Entries, entries[n])
		}
		return func(tx *store.Tx) error { return tx.GrowLog(b.ctx, g) }
	}
	answers := make([]error, 3)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = b.Write(b.ctx, grow(0, 2, i)) })
	}
	group.Wait()
	grown, left := 0, -1
	for i, err := range answers {
		if err == nil {
			grown++
		} else if left = i; fault.CodeOf(err) != fault.Conflict {
			t.Error(err)
		}
	}
	if size := find(b, func(tx *store.Tx) (uint64, error) { return tx.TreeSize(b.ctx) }); grown != 1 || size != 1 {
		t.Fatalf("%d sequencers grew the tree to %d", grown, size)
	}
	var indexed int
	_, err := fmt.Sscanf(find(b, func(tx *store.Tx) ([]store.AuditEntry, error) { return tx.AuditEntries(b.ctx, 0, 9) })[0].ID, "entry-%d", &indexed)
	b.check(err)
	b.refuse(fault.Conflict, grow(1, 2, indexed)) // the entry has its index already
	b.refuse(fault.Conflict, grow(2, 2, left))    // a gap in the log
	b.refuse(fault.Conflict, grow(1, 1, left))    // the lease went to another since
	b.refuse(fault.Internal, grow(1, 2))
	b.refuse(fault.Internal, grow(1, 2, 2, 0))
	appendTo(6)
	b.refuse(fault.Conflict, grow(1, 2, 3, 5)) // one came in between that was not hashed
	b.write(grow(1, 3, 3, 4, 5))
	b.refuse(fault.Conflict, grow(4, 2, left))
	b.write(grow(4, 3, left))
}

func testCheckpoint(t *testing.T, b *bench) {
	none := find(b, func(tx *store.Tx) ([]byte, error) { return tx.NewestCheckpoint(b.ctx) })
	if none != nil {
		t.Fatalf("a checkpoint before there is one: %q", none)
	}
	b.append(0, 12)
	putCheckpoint := func(size uint64) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.PutCheckpoint(b.ctx, size, fmt.Appendf(nil, "note of %d", size)) }
	}
	b.write(putCheckpoint(0))
	b.refuse(fault.Conflict, putCheckpoint(1))
	for size := range uint64(12) {
		b.write(func(tx *store.Tx) error {
			_, err := b.sequence(tx, 1)
			return err
		})
		b.write(putCheckpoint(size + 1))
	}
	b.refuse(fault.Conflict, putCheckpoint(12))
	newest := find(b, func(tx *store.Tx) ([]byte, error) { return tx.NewestCheckpoint(b.ctx) })
	if !bytes.Equal(newest, []byte("note of 12")) {
		t.Fatalf("the newest checkpoint is %q", newest)
	}
	b.pass(time.Hour)
	for _, want := range []int{10, 2, 0} {
		b.write(func(tx *store.Tx) error {
			pruned, err := tx.PruneCheckpoints(b.ctx, tx.Now, 10)
			if pruned != want {
				t.Errorf("%d checkpoints pruned, want %d", pruned, want)
			}
			return err
		})
	}
	same(b, find(b, func(tx *store.Tx) ([]byte, error) { return tx.NewestCheckpoint(b.ctx) }), newest)
}

// testAuditSinks: a sink's cursor moves by compare-and-swap, keeps where it is
// when its address changes, and errors end with what it takes.
func testAuditSinks(t *testing.T, b *bench) {
	b.append(0, 10)
	b.write(func(tx *store.Tx) error { _, err := b.sequence(tx, 10); return err })
	declare := func(address string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.DeclareAuditSink(b.ctx, "siem", "otlp", address) }
	}
	b.write(declare("https://a"))
	b.write(func(tx *store.Tx) error { return tx.FailAuditSink(b.ctx, "siem", "down") })
	since := find(b, func(tx *store.Tx) (store.AuditSink, error) { return tx.AuditSink(b.ctx, "siem") }).FailingSince
	b.pass(time.Minute)
	b.write(func(tx *store.Tx) error { return tx.FailAuditSink(b.ctx, "siem", "still down") })
	failing := find(b, func(tx *store.Tx) (store.AuditSink, error) { return tx.AuditSink(b.ctx, "siem") })
	if failing.Tries != 2 || failing.LastError != "still down" || since.IsZero() || !failing.FailingSince.Equal(since) {
		t.Errorf("after two failures: %+v", failing)
	}
	advance := func(from, to uint64) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.AdvanceAuditSink(b.ctx, "siem", from, to) }
	}
	b.write(advance(0, 7))
	b.refuse(fault.Conflict, advance(0, 9))
	b.write(declare("https://b"))
	sinks := find(b, func(tx *store.Tx) ([]store.AuditSink, error) { return tx.AuditSinks(b.ctx) })
	if len(sinks) != 1 || sinks[0].Taken != 7 || sinks[0].Tries != 0 || !sinks[0].FailingSince.IsZero() || sinks[0].LastError != "" || sinks[0].Address != "https://b" {
		t.Errorf("sinks %+v", sinks)
	}
	for size, want := range map[int]uint64{0: 7, 1: 6, len(entryID(0)): 6, len(entryID(0)) + 1: 5, 1 << 20: 0} {
		if back := find(b, func(tx *store.Tx) (uint64, error) { return tx.AuditEntriesBack(b.ctx, 7, size) }); back != want {
			t.Errorf("%d bytes before 7 begin at %d, want %d", size, back, want)
		}
	}
}

// testWitnesses: what a witness cosigned is kept with the checkpoint, an alarm
// stays, another key is another witness, and what is published never goes back
// nor is pruned.
func testWitnesses(t *testing.T, b *bench) {
	b.append(0, 10)
	b.write(func(tx *store.Tx) error { _, err := b.sequence(tx, 10); return err })
	for size := uint64(1); size <= 4; size++ {
		b.write(func(tx *store.Tx) error { return tx.PutCheckpoint(b.ctx, size, fmt.Appendf(nil, "note of %d", size)) })
		b.pass(time.Minute)
	}
	declare := func(key string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.DeclareLogWitness(b.ctx, "w1", key, "https://a") }
	}
	cosign := func(size uint64, key, line string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.PutCosignature(b.ctx, "w1", store.Cosignature{Size: size, Key: key, Line: line, At: tx.Now.Add(-time.Second)})
		}
	}
	w1 := func() store.LogWitness {
		return find(b, func(tx *store.Tx) (store.LogWitness, error) { return tx.LogWitness(b.ctx, "w1") })
	}
	b.write(declare("k1"))
	b.write(func(tx *store.Tx) error { return tx.FailLogWitness(b.ctx, "w1", "down") })
	b.write(func(tx *store.Tx) error { return tx.FailLogWitness(b.ctx, "w1", "still down") })
	if w := w1(); w.Tries != 2 || w.LastError != "still down" || w.FailingSince.IsZero() || w.Size != 0 || !w.CosignedAt.IsZero() {
		t.Errorf("after two failures: %+v", w)
	}
	b.write(cosign(2, "k1", "first"))
	b.write(cosign(2, "k1", "again"))
	b.refuse(fault.NotFound, cosign(3, "k2", "of another key"))
	b.write(declare("k1"))
	if w := w1(); w.Tries != 0 || w.LastError != "" || !w.FailingSince.IsZero() || w.Size != 2 || w.CosignedAt.IsZero() {
		t.Errorf("after a cosignature: %+v", w)
	}
	lines := find(b, func(tx *store.Tx) ([]store.Cosignature, error) { return tx.Cosignatures(b.ctx, 0, 9) })
	if len(lines) != 1 || lines[0].Line != "again" || lines[0].Size != 2 || lines[0].At.IsZero() {
		t.Errorf("cosignatures %+v", lines)
	}
	for i, want := range []bool{true, false} {
		b.write(func(tx *store.Tx) error {
			news, err := tx.AlarmLogWitness(b.ctx, "w1", fmt.Sprint("alarm ", i))
			if news != want {
				t.Errorf("alarm %d is news: %v", i, news)
			}
			return err
		})
	}
	b.write(cosign(3, "k1", "third"))
	if w := w1(); w.Alarm != "alarm 0" || w.AlarmAt.IsZero() {
		t.Errorf("the alarm is %+v", w)
	}
	for _, size := range []uint64{3, 2} {
		b.write(func(tx *store.Tx) error { return tx.Publish(b.ctx, size) })
	}
	same(b, find(b, func(tx *store.Tx) (uint64, error) { return tx.PublishedSize(b.ctx) }), uint64(3))
	after := find(b, func(tx *store.Tx) (time.Time, error) { return tx.SignedAfter(b.ctx, 3) })
	none := find(b, func(tx *store.Tx) (time.Time, error) { return tx.SignedAfter(b.ctx, 4) })
	if after.IsZero() || !none.IsZero() {
		t.Errorf("signed after 3 at %s, after 4 at %s", after, none)
	}
	b.write(func(tx *store.Tx) error {
		pruned, err := tx.PruneCheckpoints(b.ctx, tx.Now, 10)
		if pruned != 2 {
			t.Errorf("%d checkpoints are pruned, want those of 1 and 2", pruned)
		}
		return err
	})
	if lines := find(b, func(tx *store.Tx) ([]store.Cosignature, error) { return tx.Cosignatures(b.ctx, 0, 9) }); len(lines) != 1 || lines[0].Size != 3 {
		t.Errorf("after pruning: %+v", lines)
	}
	b.write(declare("k2"))
	if w := w1(); w.Size != 0 || w.Alarm != "" || w.Key != "k2" {
		t.Errorf("a witness of another key: %+v", w)
	}
}
