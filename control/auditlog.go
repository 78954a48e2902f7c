package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

const defaultAuditPage = 1000

// ListAuditEntries shows entries with the newest checkpoint. With newest it
// shows the last ones, those too that have no index yet.
func (c *Control) ListAuditEntries(ctx context.Context, caller Caller, req *api.ListAuditEntriesRequest) (*api.ListAuditEntriesResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	limit := int(req.Limit)
	if limit <= 0 || limit > defaultAuditPage {
		limit = defaultAuditPage
	}
	response := &api.ListAuditEntriesResponse{LogKey: c.logKey}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		_, newest, err := c.newestCheckpoint(ctx, tx)
		if err != nil {
			return err
		}
		response.Checkpoint = newest
		var entries []store.AuditEntry
		if req.Newest {
			entries, err = tx.NewestAuditEntries(ctx, limit)
		} else {
			entries, err = tx.AuditEntries(ctx, req.From, limit)
		}
		if err != nil {
			return err
		}
		leaves := leafReader{read: tx.AuditTiles(ctx)}
		for _, entry := range entries {
			wire, err := wireEntry(entry, &leaves)
			if err != nil {
				return err
			}
			response.Entries = append(response.Entries, wire)
		}
		return nil
	})
	return response, err
}

// wireEntry shows an entry with its leaf hash as it stands in the tree, which is
// what was signed; a pending one with that of its row.
func wireEntry(entry store.AuditEntry, leaves *leafReader) (*api.AuditEntry, error) {
	leaf := entry.LeafHash[:]
	if !entry.Pending {
		var err error
		if leaf, err = leaves.leaf(entry.Index); err != nil {
			return nil, err
		}
	}
	return &api.AuditEntry{Id: entry.ID, Pending: entry.Pending, Index: entry.Index, Content: entry.Content, LeafHash: leaf}, nil
}

// leafReader reads leaf hashes in order, each tile once. A tile that is missing
// or too short shows as empty hashes: that is for who verifies to notice.
type leafReader struct {
	read  audit.TileReader
	index uint64
	tile  []byte
}

func (r *leafReader) leaf(index uint64) ([]byte, error) {
	if r.tile == nil || r.index != index/audit.TileWidth {
		tile, err := r.read(0, index/audit.TileWidth)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return nil, err
		}
		r.tile, r.index = append([]byte{}, tile...), index/audit.TileWidth
	}
	at := index % audit.TileWidth * audit.HashSize
	if at+audit.HashSize > uint64(len(r.tile)) {
		return nil, nil
	}
	return r.tile[at : at+audit.HashSize], nil
}

// ProveConsistency returns the hashes that prove that the log of size to
// begins with the log of size from.
func (c *Control) ProveConsistency(ctx context.Context, caller Caller, req *api.ProveConsistencyRequest) (*api.ProveConsistencyResponse, error) {
	if err := authorize(caller, "audit.prove"); err != nil {
		return nil, err
	}
	response := &api.ProveConsistencyResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		size, err := tx.TreeSize(ctx)
		if err != nil {
			return err
		}
		if req.From > req.To || req.To > size {
			return fault.New(fault.Invalid, "no proof from %d to %d: the log has %d entries", req.From, req.To, size)
		}
		proof, err := audit.ProveConsistency(req.From, req.To, tx.AuditTiles(ctx))
		response.Proof = wireProof(proof)
		return err
	})
	return response, err
}

// Checkpoint is the newest signed checkpoint of the audit log.
func (c *Control) Checkpoint(ctx context.Context) ([]byte, error) {
	var checkpoint []byte
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		checkpoint, err = tx.NewestCheckpoint(ctx)
		return err
	})
	return checkpoint, err
}

// AuditTile returns the bytes of one tile of the log, in the form of C2SP
// tlog-tiles: hashes, or the entries themselves.
func (c *Control) AuditTile(ctx context.Context, path string) ([]byte, error) {
	tile, err := audit.ParseTilePath(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "tile")
	}
	var content []byte
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		size, err := tx.TreeSize(ctx)
		if err != nil {
			return err
		}
		if tile.Entries {
			content, err = entryBundle(ctx, tx, tile, size)
			return err
		}
		content, err = audit.ReadTile(tile, size, tx.AuditTiles(ctx))
		return err
	})
	return content, err
}

func entryBundle(ctx context.Context, tx *store.Tx, tile audit.Tile, size uint64) ([]byte, error) {
	from, to, err := tile.Range(size)
	if err != nil {
		return nil, err
	}
	entries, err := tx.AuditEntries(ctx, from, int(to-from))
	if err != nil {
		return nil, err
	}
	if uint64(len(entries)) != to-from {
		return nil, fault.New(fault.Internal, "audit entries %d to %d are not all in the store", from, to)
	}
	var contents [][]byte
	for _, entry := range entries {
		contents = append(contents, entry.Content)
	}
	return audit.EncodeEntries(contents)
}
