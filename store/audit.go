package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// AuditEntry is an entry of the audit log. It commits with the change that it
// tells of and is pending until the sequencer gives it its index.
type AuditEntry struct {
	ID       string
	Pending  bool
	Index    uint64 // unless pending
	Content  []byte // exact bytes
	LeafHash audit.Hash
}

const (
	auditEntryColumns = `id, idx IS NULL, COALESCE(idx, 0), content, leaf_hash`

	// pendingEntries are those without an index: apart from the others, but for
	// what was written before the store was terse.
	pendingEntries = `(
		SELECT id, content, leaf_hash FROM audit_pending
		UNION ALL SELECT id, content, leaf_hash FROM audit_entry WHERE idx IS NULL) AS pending`
	pendingColumns = `id, content, leaf_hash`
	pendingAsEntry = `id, 0 = 0, 0, content, leaf_hash` // of columns as auditEntryColumns has them
)

func (e *AuditEntry) columns() []any {
	return []any{&e.ID, &e.Pending, &e.Index, &e.Content, fixed(e.LeafHash[:])}
}

// PendingEntry is an entry that has no index yet.
type PendingEntry struct {
	ID       string
	Content  []byte // exact bytes
	LeafHash audit.Hash

	packed []byte // as it will stand in the log, so that no writer waits for that
}

func (e *PendingEntry) columns() []any { return []any{&e.ID, &e.Content, fixed(e.LeafHash[:])} }

var (
	auditPendingTable = newTable("audit_pending", pendingColumns, "text", "bytea", "bytea")
	auditEntryTable   = newTable("audit_entry", pendingColumns, "text", "bytea", "bytea")
	auditPlacedTable  = newTable("audit_entry", "id, idx, content, leaf_hash", "text", "bigint", "bytea", "bytea")
)

// AppendAuditEntries adds entries, pending.
func (tx *Tx) AppendAuditEntries(ctx context.Context, entries ...PendingEntry) error {
	into := auditEntryTable
	if tx.session.terse {
		into = auditPendingTable
	}
	rows := make([][]any, len(entries))
	for i := range entries {
		e := &entries[i]
		rows[i] = []any{e.ID, e.Content, e.LeafHash[:]}
	}
	return tx.insertAll(ctx, ofEntries(entries), into, rows)
}

func ofEntries(entries []PendingEntry) thing {
	return of("audit entry", "audit entries", entries, func(e PendingEntry) any { return e.ID })
}

// TreeSize is how many entries have an index.
func (tx *Tx) TreeSize(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, theMeta, `SELECT tree_size FROM store_meta`)
}

// CountPendingAuditEntries is how many entries have no index. It may be asked of a
// store of a schema before this one.
func (tx *Tx) CountPendingAuditEntries(ctx context.Context) (int, error) {
	meta, err := tx.Meta(ctx)
	if err != nil {
		return 0, err
	}
	from := pendingEntries
	if meta.Schema < terseSchema {
		from = `audit_entry WHERE idx IS NULL`
	}
	return value[int](ctx, tx, thing{noun: "pending audit entries"}, `SELECT COUNT(*) FROM `+from)
}

// mostPending is about how much content of pending entries is read at once, in bytes.
const mostPending = 16 << 20

// PendingEntries returns the oldest entries without an index, by id, which is by
// time: at most limit, and fewer where they are long.
func (tx *Tx) PendingEntries(ctx context.Context, limit int) (entries []PendingEntry, err error) {
	size := 0
	err = tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var entry PendingEntry
		if err := errors.Join(rows.Scan(entry.columns()...), entry.pack()); err != nil {
			return false, err
		}
		entries, size = append(entries, entry), size+len(entry.Content)
		return size < mostPending, nil
	}, `SELECT `+pendingColumns+` FROM `+pendingEntries+` ORDER BY id LIMIT $1`, limit)
	if err != nil && !errors.Is(err, errNoRow) {
		return nil, thing{noun: "pending audit entries"}.wrap(err)
	}
	return entries, nil
}

// LogGrowth is what a sequencer adds to the log at once.
type LogGrowth struct {
	Size    uint64           // of the log that the sequencer saw
	Fencing uint64           // of the lease that it works under
	Entries []PendingEntry   // all from the first to the last of these, by ascending ids, as PendingEntries has them
	Tiles   []audit.HashTile // as audit.Append made them
}

// GrowLog gives pending entries the indexes from g.Size on, and keeps the tiles
// by which they grow the tree. It is a compare-and-swap on the tree's size and
// the fencing number: of two sequencers that saw one size, one gets a Conflict,
// and so does one whose lease went to another in the meantime, whatever it
// believes.
func (tx *Tx) GrowLog(ctx context.Context, g LogGrowth) error {
	byID := func(a, b PendingEntry) int { return strings.Compare(a.ID, b.ID) }
	if len(g.Entries) == 0 || !slices.IsSortedFunc(g.Entries, byID) {
		return fault.New(fault.Internal, "audit log: entries to be indexed must be some, in the order of their ids")
	}
	err := tx.swap(ctx, thing{"the audit log of size", g.Size}, `
		UPDATE store_meta SET tree_size = $2, log_fencing = $3 WHERE tree_size = $1 AND log_fencing <= $3`,
		g.Size, g.Size+uint64(len(g.Entries)), g.Fencing)
	if err != nil {
		return err
	}
	if err := tx.placeEntries(ctx, g); err != nil {
		return err
	}
	for _, tile := range g.Tiles {
		if err := tx.putTile(ctx, tile); err != nil {
			return err
		}
	}
	return nil
}

// placeEntries moves all entries of a range of ids to their places. Another number
// of them than the sequencer saw means that the leaves it hashed are not theirs.
func (tx *Tx) placeEntries(ctx context.Context, g LogGrowth) error {
	taken, err := tx.takePending(ctx, g.Entries[0].ID, g.Entries[len(g.Entries)-1].ID)
	if err != nil {
		return err
	}
	if taken != int64(len(g.Entries)) {
		return fault.New(fault.Conflict, "audit log: %d entries were pending and are %d now", len(g.Entries), taken).
			WithRemedy("look again and repeat what is still wanted")
	}
	rows := make([][]any, len(g.Entries))
	for i := range g.Entries {
		e := &g.Entries[i]
		content := e.Content
		if tx.session.terse {
			content = e.packed
		}
		rows[i] = []any{e.ID, g.Size + uint64(i), content, e.LeafHash[:]}
	}
	err = tx.insertAll(ctx, ofEntries(g.Entries), auditPlacedTable, rows)
	if fault.CodeOf(err) == fault.Conflict { // nobody was faster: the tree had this size
		return fault.Wrap(fault.Internal, err, "the audit log has an entry of these already, or a place of theirs is taken").
			WithRemedy("keep the store as it is, and find what differs with rotunda audit verify")
	}
	return err
}

// takePending removes the pending entries of a range of ids, and says how many.
func (tx *Tx) takePending(ctx context.Context, first, last string) (taken int64, err error) {
	for _, from := range []string{
		`DELETE FROM audit_pending WHERE id >= $1 AND id <= $2`,
		`DELETE FROM audit_entry WHERE idx IS NULL AND id >= $1 AND id <= $2`,
	} {
		rows, err := tx.exec(ctx, from, first, last)
		if err != nil {
			return 0, thing{noun: "pending audit entries"}.wrap(err)
		}
		taken += rows
	}
	return taken, nil
}

func (tx *Tx) putTile(ctx context.Context, tile audit.HashTile) error {
	_, err := tx.exec(ctx, `
		INSERT INTO audit_tile (level, idx, hashes) VALUES ($1, $2, $3)
		ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes`, tile.Level, tile.Index, tile.Hashes)
	return thing{"audit tile", tile.Index}.wrap(err)
}

// AuditTiles reads hash tiles for proofs, while tx lasts.
func (tx *Tx) AuditTiles(ctx context.Context) audit.TileReader {
	return func(level int, index uint64) ([]byte, error) {
		what := thing{"audit tile", fmt.Sprintf("%d/%d", level, index)}
		return value[[]byte](ctx, tx, what, `SELECT hashes FROM audit_tile WHERE level = $1 AND idx = $2`, level, index)
	}
}

// AuditEntries returns entries that have an index, from the given one on.
func (tx *Tx) AuditEntries(ctx context.Context, from uint64, limit int) ([]AuditEntry, error) {
	return list[AuditEntry](ctx, tx, "audit entries", `
		SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NOT NULL AND idx >= $1 ORDER BY idx LIMIT $2`, from, limit)
}

// AuditEntryByID returns an entry, pending or not. One that is there may be asked for
// in a store of a schema before this one.
func (tx *Tx) AuditEntryByID(ctx context.Context, id string) (AuditEntry, error) {
	what := thing{"audit entry", id}
	entry, err := one[AuditEntry](ctx, tx, what, `SELECT `+auditEntryColumns+` FROM audit_entry WHERE id = $1`, id)
	if fault.CodeOf(err) == fault.NotFound {
		return one[AuditEntry](ctx, tx, what, `SELECT `+pendingAsEntry+` FROM audit_pending WHERE id = $1`, id)
	}
	return entry, err
}

// NewestAuditEntries returns the last entries, pending ones too, in the order
// of the log and the pending ones at its end.
func (tx *Tx) NewestAuditEntries(ctx context.Context, limit int) ([]AuditEntry, error) {
	newest, err := list[AuditEntry](ctx, tx, "pending audit entries", `
		SELECT `+pendingAsEntry+` FROM `+pendingEntries+` ORDER BY id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	if rest := limit - len(newest); rest > 0 {
		placed, err := list[AuditEntry](ctx, tx, "audit entries", `
			SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NOT NULL ORDER BY idx DESC LIMIT $1`, rest)
		if err != nil {
			return nil, err
		}
		newest = append(newest, placed...)
	}
	slices.Reverse(newest)
	return newest, nil
}

// PutCheckpoint stores a signed checkpoint. One that the log has not come to is
// refused, and so is another one of a size that has one.
func (tx *Tx) PutCheckpoint(ctx context.Context, size uint64, note []byte) error {
	grown, err := tx.TreeSize(ctx)
	if err != nil {
		return err
	}
	if size > grown {
		return fault.New(fault.Conflict, "a checkpoint of %d entries, the audit log has %d", size, grown)
	}
	return tx.insert(ctx, thing{"checkpoint of size", size}, `
		INSERT INTO checkpoint (size, note, at) VALUES ($1, $2, $3)`, size, note, micros(tx.Now))
}

// NewestCheckpoint returns the signed checkpoint of the greatest size, nil
// before there is one.
func (tx *Tx) NewestCheckpoint(ctx context.Context) ([]byte, error) {
	note, err := value[[]byte](ctx, tx, thing{noun: "checkpoint"}, `SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1`)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	return note, err
}

// CheckpointAt returns the signed checkpoint of a size, nil where there is none.
func (tx *Tx) CheckpointAt(ctx context.Context, size uint64) ([]byte, error) {
	note, err := value[[]byte](ctx, tx, thing{"checkpoint of size", size}, `SELECT note FROM checkpoint WHERE size = $1`, size)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	return note, err
}

// SignedNote is a checkpoint as it was signed.
type SignedNote struct {
	Size uint64
	Text []byte
}

func (n *SignedNote) columns() []any { return []any{&n.Size, &n.Text} }

// Checkpoints returns signed checkpoints from a size on, ascending.
func (tx *Tx) Checkpoints(ctx context.Context, from uint64, limit int) ([]SignedNote, error) {
	return list[SignedNote](ctx, tx, "checkpoints", `SELECT size, note FROM checkpoint WHERE size >= $1 ORDER BY size LIMIT $2`, from, limit)
}

// oldCheckpoints are those from before $1, but of each day (UTC) not the last,
// nor the newest of all, nor the one that is published. $2 is a day.
const (
	oldCheckpoints = `FROM checkpoint c WHERE c.at < $1 AND EXISTS (SELECT 1 FROM checkpoint n WHERE n.size > c.size AND n.at / $2 = c.at / $2)
		AND (c.size = 0 OR c.size <> (SELECT published_size FROM store_meta))`
	dayMicros = int64(24 * time.Hour / time.Microsecond)
)

// PruneCheckpoints forgets checkpoints from before then with their cosignatures,
// at most limit, but of each day never the last, nor the one that is published,
// and returns how many.
func (tx *Tx) PruneCheckpoints(ctx context.Context, before time.Time, limit int) (int, error) {
	const these = `IN (SELECT c.size ` + oldCheckpoints + ` ORDER BY c.size LIMIT $3)`
	if _, err := tx.exec(ctx, `DELETE FROM cosignature WHERE size `+these, micros(before), dayMicros, limit); err != nil {
		return 0, thing{noun: "cosignatures"}.wrap(err)
	}
	rows, err := tx.exec(ctx, `DELETE FROM checkpoint WHERE size `+these, micros(before), dayMicros, limit)
	return int(rows), thing{noun: "checkpoints"}.wrap(err)
}

// OldCheckpoints is how many PruneCheckpoints would forget in all.
func (tx *Tx) OldCheckpoints(ctx context.Context, before time.Time) (int, error) {
	return value[int](ctx, tx, thing{noun: "checkpoints"}, `SELECT COUNT(*) `+oldCheckpoints, micros(before), dayMicros)
}
