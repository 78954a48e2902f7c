package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// What a server keeps in memory to go on without the store is read in two
// statements, whatever the number of placements.

// NewestLeaf is the certificate of the highest generation at a placement.
type NewestLeaf struct {
	PlacementID string
	Generation  uint64
	Names       string
	PolicyInput []byte
	SPKI        pki.SPKIHash
	RevokedAt   time.Time
}

func (l *NewestLeaf) columns() []any {
	return []any{&l.PlacementID, &l.Generation, &l.Names, &l.PolicyInput, fixed(l.SPKI[:]), moment{&l.RevokedAt}}
}

// NewestLeaves returns the newest certificate of each placement that has one.
func (tx *Tx) NewestLeaves(ctx context.Context) ([]NewestLeaf, error) {
	return list[NewestLeaf](ctx, tx, "newest certificates", `
		SELECT c.placement_id, c.generation, c.names, c.policy_input, c.spki, c.revoked_at
		FROM placement p JOIN certificate c ON c.placement_id = p.id
			AND c.generation = (SELECT MAX(generation) FROM certificate WHERE placement_id = p.id)`)
}

// LiveIdentity is an agent's own certificate.
type LiveIdentity struct {
	Serial      pki.Serial
	AgentID     string
	Fingerprint pki.Fingerprint
	NotAfter    time.Time
}

func (i *LiveIdentity) columns() []any {
	return []any{fixed(i.Serial[:]), &i.AgentID, fixed(i.Fingerprint[:]), moment{&i.NotAfter}}
}

// LiveIdentities returns the certificates of agents that are good now.
func (tx *Tx) LiveIdentities(ctx context.Context) ([]LiveIdentity, error) {
	return list[LiveIdentity](ctx, tx, "identities", `
		SELECT serial, agent_id, fingerprint, not_after FROM certificate
		WHERE agent_id IS NOT NULL AND placement_id IS NULL AND kind = 'agent' AND revoked_at IS NULL AND not_after > $1`, micros(tx.Now))
}

// RevokedSince says why a certificate of a placement was revoked at a moment or
// later; empty: none was.
func (tx *Tx) RevokedSince(ctx context.Context, placementID string, at time.Time) (reason string, err error) {
	all, err := tx.PlacementCertificates(ctx, placementID)
	for _, one := range all {
		if !one.RevokedAt.IsZero() && !one.RevokedAt.Before(at) {
			reason = one.Reason
		}
	}
	return reason, err
}
