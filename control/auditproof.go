package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func wireProof(proof []audit.Hash) [][]byte {
	wire := make([][]byte, len(proof))
	for i, hash := range proof {
		wire[i] = hash[:]
	}
	return wire
}

// ShowAuditEntry returns one entry, and the proof that the log has it.
func (c *Control) ShowAuditEntry(ctx context.Context, caller Caller, req *api.ShowAuditEntryRequest) (*api.ShowAuditEntryResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	response := &api.ShowAuditEntryResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		entry, err := auditEntry(ctx, tx, req)
		if err != nil {
			return err
		}
		if response.Entry, err = wireEntry(entry, &leafReader{read: tx.AuditTiles(ctx)}); err != nil || entry.Pending {
			return err
		}
		if response.Size, response.Checkpoint, err = c.sizeOrNewest(ctx, tx, req.Size); err != nil {
			return err
		}
		if entry.Index >= response.Size {
			return fault.New(fault.Invalid, "entry %d is not among the first %d", entry.Index, response.Size).
				WithRemedy("ask for a proof to a greater size, or to none")
		}
		proof, err := audit.ProveInclusion(entry.Index, response.Size, tx.AuditTiles(ctx))
		response.Proof = wireProof(proof)
		return err
	})
	return response, err
}

func auditEntry(ctx context.Context, tx *store.Tx, req *api.ShowAuditEntryRequest) (store.AuditEntry, error) {
	if req.Id != "" {
		return tx.AuditEntryByID(ctx, req.Id)
	}
	entries, err := tx.AuditEntries(ctx, req.Index, 1)
	if err == nil && (len(entries) == 0 || entries[0].Index != req.Index) {
		size, err := tx.TreeSize(ctx)
		if err != nil {
			return store.AuditEntry{}, err
		}
		return store.AuditEntry{}, fault.New(fault.NotFound, "audit entry %d does not exist: the log has %d", req.Index, size)
	}
	if err != nil {
		return store.AuditEntry{}, err
	}
	return entries[0], nil
}

// sizeOrNewest is the size that a proof is to lead to, and its checkpoint: 0 is
// that of the newest one.
func (c *Control) sizeOrNewest(ctx context.Context, tx *store.Tx, size uint64) (uint64, []byte, error) {
	if size > 0 {
		grown, err := tx.TreeSize(ctx)
		if err == nil && size > grown {
			err = fault.New(fault.Invalid, "no proof to a size of %d: the log has %d entries", size, grown)
		}
		if err != nil {
			return 0, nil, err
		}
		checkpoint, err := tx.CheckpointAt(ctx, size)
		return size, checkpoint, err
	}
	signed, err := tx.NewestCheckpoint(ctx)
	if err != nil {
		return 0, nil, err
	}
	if signed == nil {
		return 0, nil, fault.New(fault.Unavailable, "no checkpoint is signed yet").WithRemedy("try again in a moment")
	}
	newest, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
	return newest.Size, signed, err
}

// ProveAuditGrowth returns the proof that the log of one size begins with that
// of another.
func (c *Control) ProveAuditGrowth(ctx context.Context, caller Caller, req *api.ProveAuditGrowthRequest) (*api.ProveAuditGrowthResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	response := &api.ProveAuditGrowthResponse{From: req.From}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		if response.To, response.NewCheckpoint, err = c.sizeOrNewest(ctx, tx, req.To); err != nil {
			return err
		}
		if response.OldCheckpoint, err = tx.CheckpointAt(ctx, req.From); err != nil {
			return err
		}
		proof, err := audit.ProveConsistency(req.From, response.To, tx.AuditTiles(ctx))
		response.Proof = wireProof(proof)
		return err
	})
	return response, err
}

// ListCheckpoints returns the checkpoints that are kept, from a size on, with
// their cosignatures.
func (c *Control) ListCheckpoints(ctx context.Context, caller Caller, req *api.ListCheckpointsRequest) (*api.ListCheckpointsResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	limit := int(req.Limit)
	if limit <= 0 || limit > defaultAuditPage {
		limit = defaultAuditPage
	}
	response := &api.ListCheckpointsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		checkpoints, err := tx.Checkpoints(ctx, req.From, limit)
		if err != nil || len(checkpoints) == 0 {
			return err
		}
		lines, err := tx.Cosignatures(ctx, checkpoints[0].Size, checkpoints[len(checkpoints)-1].Size)
		for _, one := range checkpoints {
			n := 0
			for n < len(lines) && lines[n].Size == one.Size {
				n++
			}
			response.Checkpoints = append(response.Checkpoints, withLines(one.Text, lines[:n]))
			lines = lines[n:]
		}
		return err
	})
	return response, err
}
