package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/internal/terse"
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

// NewestLeaves returns the newest certificate of each placement that has one.
func (tx *Tx) NewestLeaves(ctx context.Context) ([]NewestLeaf, error) {
	authorities, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string]*terse.Dictionary{} // while rows are read nothing else can be
	for _, authority := range authorities {
		if by[authority.ID], err = tx.signedBy(ctx, authority.ID); err != nil {
			return nil, err
		}
	}
	var leaves []NewestLeaf
	err = tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var c Certificate
		if err := rows.Scan(c.columns()...); err != nil {
			return false, err
		}
		if terse.IsPacked(c.DER) {
			if err := c.unpackBy(by[c.AuthorityID]); err != nil {
				return false, thing{"certificate", c.Serial}.wrap(err)
			}
		}
		input := bytes.Clone(c.PolicyInput) // without the DER, which may be behind it
		leaves = append(leaves, NewestLeaf{c.PlacementID, c.Generation, c.Names, input, c.SPKI, c.RevokedAt})
		return true, nil
	}, `
		SELECT `+certificateColumns+` FROM (SELECT id AS place FROM placement) p JOIN certificate c ON c.placement_id = p.place
			AND c.generation = (SELECT MAX(n.generation) FROM certificate n WHERE n.placement_id = p.place)`)
	if err != nil && !errors.Is(err, errNoRow) {
		return nil, fmt.Errorf("list newest certificates: %w", err)
	}
	return leaves, nil
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
