package store

import (
	"context"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

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

const auditEntryColumns = `id, idx IS NULL, COALESCE(idx, 0), content, leaf_hash`

func (e *AuditEntry) columns() []any {
	return []any{&e.ID, &e.Pending, &e.Index, &e.Content, fixed(e.LeafHash[:])}
}

// AppendAuditEntry adds an entry, pending.
func (tx *Tx) AppendAuditEntry(ctx context.Context, id string, content []byte, leaf audit.Hash) error {
	return tx.insert(ctx, thing{"audit entry", id}, `
		INSERT INTO audit_entry (id, idx, content, leaf_hash) VALUES ($1, NULL, $2, $3)`, id, content, leaf[:])
}

// TreeSize is how many entries have an index.
func (tx *Tx) TreeSize(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, theMeta, `SELECT tree_size FROM store_meta`)
}

// PendingAuditEntries returns the oldest entries without an index, by id, which
// is by time.
func (tx *Tx) PendingAuditEntries(ctx context.Context, limit int) ([]AuditEntry, error) {
	return list[AuditEntry](ctx, tx, "pending audit entries", `
		SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NULL ORDER BY id LIMIT $1`, limit)
}

// CountPendingAuditEntries is how many entries have no index.
func (tx *Tx) CountPendingAuditEntries(ctx context.Context) (int, error) {
	return value[int](ctx, tx, thing{noun: "pending audit entries"}, `SELECT COUNT(*) FROM audit_entry WHERE idx IS NULL`)
}

// IndexAuditEntries gives the pending entries of the ids the indexes from size
// on, and stores the hashes by which they grow the tree (see audit.Append). It
// is a compare-and-swap on the tree's size: of two sequencers one gets a
// Conflict.
func (tx *Tx) IndexAuditEntries(ctx context.Context, size uint64, ids []string, hashes []audit.Hash) error {
	grown := size + uint64(len(ids))
	first := tlog.StoredHashCount(int64(size))
	if want := tlog.StoredHashCount(int64(grown)) - first; int64(len(hashes)) != want {
		return fault.New(fault.Internal, "audit log: %d entries from %d on grow the tree by %d hashes, not %d", len(ids), size, want, len(hashes))
	}
	err := tx.swap(ctx, thing{"the audit log of size", size}, `
		UPDATE store_meta SET tree_size = $2 WHERE tree_size = $1`, size, grown)
	if err != nil {
		return err
	}
	for i, id := range ids {
		err := tx.swap(ctx, thing{"pending audit entry", id}, `
			UPDATE audit_entry SET idx = $2 WHERE id = $1 AND idx IS NULL`, id, size+uint64(i))
		if err != nil {
			return err
		}
	}
	for i, hash := range hashes {
		err := tx.insert(ctx, thing{"audit hash", first + int64(i)}, `
			INSERT INTO audit_hash (idx, hash) VALUES ($1, $2)`, first+int64(i), hash[:])
		if err != nil {
			return err
		}
	}
	return nil
}

// AuditHashes returns stored hashes by their indexes, in that order.
func (tx *Tx) AuditHashes(ctx context.Context, indexes []int64) ([]audit.Hash, error) {
	hashes := make([]audit.Hash, len(indexes))
	for i, index := range indexes {
		raw, err := value[[]byte](ctx, tx, thing{"audit hash", index}, `SELECT hash FROM audit_hash WHERE idx = $1`, index)
		if err != nil {
			return nil, err
		}
		if err := fixed(hashes[i][:]).Scan(raw); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// AuditHashReader reads stored hashes for proofs and tiles, while tx lasts.
func (tx *Tx) AuditHashReader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return tx.AuditHashes(ctx, indexes) })
}

// AuditEntries returns entries that have an index, from the given one on.
func (tx *Tx) AuditEntries(ctx context.Context, from uint64, limit int) ([]AuditEntry, error) {
	return list[AuditEntry](ctx, tx, "audit entries", `
		SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NOT NULL AND idx >= $1 ORDER BY idx LIMIT $2`, from, limit)
}

// NewestAuditEntries returns the last entries, pending ones too, in the order
// of the log and the pending ones at its end.
func (tx *Tx) NewestAuditEntries(ctx context.Context, limit int) ([]AuditEntry, error) {
	newest, err := list[AuditEntry](ctx, tx, "pending audit entries", `
		SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NULL ORDER BY id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	if rest := limit - len(newest); rest > 0 {
		indexed, err := list[AuditEntry](ctx, tx, "audit entries", `
			SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx IS NOT NULL ORDER BY idx DESC LIMIT $1`, rest)
		if err != nil {
			return nil, err
		}
		newest = append(newest, indexed...)
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

// PruneCheckpoints forgets checkpoints from before then, but never the newest,
// and returns how many.
func (tx *Tx) PruneCheckpoints(ctx context.Context, before time.Time) (int, error) {
	rows, err := tx.exec(ctx, `
		DELETE FROM checkpoint WHERE at < $1 AND size < (SELECT MAX(size) FROM checkpoint)`, micros(before))
	return int(rows), thing{noun: "checkpoints"}.wrap(err)
}
