package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

const shownRevocations = 100

// ListRevocations shows what was asked to be revoked, and what each certificate
// waits for.
func (c *Control) ListRevocations(ctx context.Context, caller Caller, req *api.ListRevocationsRequest) (*api.ListRevocationsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListRevocationsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		records, err := listedRevocations(ctx, tx, req)
		if err != nil {
			return err
		}
		for _, record := range records {
			parts, err := tx.RevocationParts(ctx, record.ID)
			if err != nil {
				return err
			}
			one, err := c.wireRevocation(ctx, tx, record, parts)
			if err != nil {
				return err
			}
			if req.Id != "" {
				if one.Sessions, err = c.closedSessions(ctx, tx, record.ID); err != nil {
					return err
				}
			}
			response.Revocations = append(response.Revocations, one)
		}
		return nil
	})
	return response, err
}

func listedRevocations(ctx context.Context, tx *store.Tx, req *api.ListRevocationsRequest) ([]store.Revocation, error) {
	switch {
	case req.Id != "":
		one, err := tx.Revocation(ctx, req.Id)
		return []store.Revocation{one}, err
	case req.Open:
		return tx.OpenRevocations(ctx)
	}
	return tx.Revocations(ctx, shownRevocations)
}

// EndRevocation lets what is not revoked yet be. What is revoked stays so.
func (c *Control) EndRevocation(ctx context.Context, caller Caller, req *api.EndRevocationRequest) (*api.EndRevocationResponse, error) {
	if err := authorize(caller, "revoke"); err != nil {
		return nil, err
	}
	response := &api.EndRevocationResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		revocation, err := tx.Revocation(ctx, req.Id)
		if err != nil {
			return err
		}
		if !revocation.EndedAt.IsZero() {
			return fault.New(fault.Conflict, "revocation %s is over: each of its certificates is revoked or has expired", req.Id)
		}
		if err := tx.EndRevocation(ctx, req.Id); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "revoke.end", revocation.Object, map[string]any{"revocation": req.Id, "reason": req.Reason})
		return err
	})
	return response, err
}

func (c *Control) wireRevocation(ctx context.Context, tx *store.Tx, r store.Revocation, records []store.Certificate) (*api.Revocation, error) {
	shown := &api.Revocation{
		Id: r.ID, Object: r.Object, Reason: r.Reason, Note: r.Note, By: r.By,
		BegunAt: stamp(r.BegunAt), ForceAt: stamp(r.ForceAt), EndedAt: stamp(r.EndedAt),
	}
	for _, record := range records {
		if again, err := tx.Certificate(ctx, record.Serial); err == nil {
			record = again // as it is after what was just done
		}
		part, err := c.revocationPart(ctx, tx, record)
		if err != nil {
			return nil, err
		}
		if r.EndedAt.IsZero() && stillToRevoke(tx, record, r) {
			if part.WaitsFor, err = c.waitsFor(ctx, tx, record); err != nil {
				return nil, err
			}
		}
		shown.Parts = append(shown.Parts, part)
	}
	return shown, nil
}

func (c *Control) revocationPart(ctx context.Context, tx *store.Tx, record store.Certificate) (*api.RevocationPart, error) {
	part := &api.RevocationPart{
		Serial: record.Serial.String(), Kind: string(record.Kind), Subject: record.Names, Intent: record.Intent,
		Agent: record.AgentID, Placement: record.PlacementID, Generation: record.Generation,
		NotAfter: stamp(record.NotAfter), RevokedAt: stamp(record.RevokedAt), Reason: record.Reason,
	}
	authority, err := tx.Authority(ctx, record.AuthorityID)
	if err != nil {
		return nil, err
	}
	part.Authority = authority.Name
	use, err := c.useOf(ctx, tx, record)
	if err != nil {
		return nil, err
	}
	part.InUse = use.in
	if !record.RevokedAt.IsZero() {
		if part.Listed, err = tx.IsListed(ctx, record.Serial); err != nil {
			return nil, err
		}
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	if intent, ok := w.set.Intent(fleet.Name(record.Intent)); ok {
		part.Service = string(intent.Service)
	}
	return part, nil
}
