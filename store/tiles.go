package store

import (
	"context"
	"fmt"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// tilesAtOnce is how many entries' hashes are put into tiles in one
// transaction.
const tilesAtOnce = 64 * audit.TileWidth

// fillTiles computes the audit log's tiles from its entries where a store of an
// older schema has none, in slices: cut off, it goes on at the next start.
func (db *DB) fillTiles(ctx context.Context) error {
	for {
		var have, size uint64
		err := db.Read(ctx, func(tx *Tx) error {
			var err error
			have, size, err = tx.tiled(ctx)
			return err
		})
		if err != nil || have >= size {
			return err
		}
		if err := db.Write(ctx, func(tx *Tx) error { return tx.fillTiles(ctx) }); err != nil {
			return fmt.Errorf("put the audit log's hashes into tiles: %w", err)
		}
	}
}

// lastTile is of a log however long, at each start.
const lastTile = `SELECT idx * 256 + LENGTH(hashes) / 32 FROM audit_tile WHERE level = 0 ORDER BY idx DESC LIMIT 1`

// tiled is how many entries' hashes are in tiles, of how many that should be.
func (tx *Tx) tiled(ctx context.Context) (have, size uint64, err error) {
	if size, err = tx.TreeSize(ctx); err != nil {
		return 0, 0, err
	}
	have, err = value[uint64](ctx, tx, thing{noun: "audit tiles"}, lastTile)
	if fault.CodeOf(err) == fault.NotFound {
		return 0, size, nil
	}
	return have, size, err
}

type leaf struct{ hash audit.Hash }

func (l *leaf) columns() []any { return []any{fixed(l.hash[:])} }

func (tx *Tx) fillTiles(ctx context.Context) error {
	have, size, err := tx.tiled(ctx)
	if err != nil {
		return err
	}
	leaves, err := list[leaf](ctx, tx, "audit entries", `
		SELECT leaf_hash FROM audit_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx`, have, min(size, have+tilesAtOnce))
	if err != nil {
		return err
	}
	if len(leaves) == 0 {
		return fault.New(fault.Internal, "audit entry %d is not in the store, and the log has %d", have, size)
	}
	hashes := make([]audit.Hash, len(leaves))
	for i, leaf := range leaves {
		hashes[i] = leaf.hash
	}
	tiles, _, err := audit.Append(have, hashes, tx.AuditTiles(ctx))
	if err != nil {
		return err
	}
	for _, tile := range tiles {
		if err := tx.putTile(ctx, tile); err != nil {
			return err
		}
	}
	return nil
}
