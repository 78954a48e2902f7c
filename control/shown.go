package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// shownChain is what a server shows: its certificate and what leads from it to
// any root that the domain-wide bundle has. A bridge is among it for those who
// know the old root only, and the roots are, since an agent that enrols has no
// more than a fingerprint to know one by.
func (c *Control) shownChain(ctx context.Context, tx *store.Tx, issued ca.Issued) ([][]byte, error) {
	by, err := c.signer(ctx, tx, issued.Authority)
	if err != nil {
		return nil, err
	}
	bundle, err := c.currentBundle(ctx, tx, fleet.DefaultBundle)
	if err != nil {
		return nil, err
	}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	chain := append([][]byte{}, issued.Chain...)
	for _, record := range all {
		if record.CrossOf != "" && record.State != fleet.AuthorityWithdrawn {
			chain = append(chain, record.Certificate)
		}
	}
	chain = append(chain, by.root.Raw)
	for _, anchor := range bundle.Anchors() {
		if !anchor.Equal(by.root) {
			chain = append(chain, anchor.Raw)
		}
	}
	return chain, nil
}

// TrustState names whom a server of this trust domain shows and believes: it
// changes when another authority signs, the domain-wide bundle does, or a
// server's certificate is to be revoked.
func (c *Control) TrustState(ctx context.Context) (string, error) {
	var state string
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		by, err := c.issuer(ctx, tx)
		if err != nil {
			return err
		}
		bundle, err := tx.CurrentBundle(ctx, string(fleet.DefaultBundle))
		if err != nil {
			return fault.Wrap(fault.CodeOf(err), err, "domain-wide bundle")
		}
		expelled, err := tx.NewestServerRevocation(ctx)
		if err != nil {
			return err
		}
		all, err := tx.Authorities(ctx)
		state = by.ID + " " + bundle.Digest.String() + " " + expelled
		for _, record := range all {
			if record.CrossOf != "" {
				state += " " + record.ID + string(record.State)
			}
		}
		return err
	})
	return state, err
}
