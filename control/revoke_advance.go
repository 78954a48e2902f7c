package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/store"
)

// AdvanceRevocations revokes what its successor was proven of, and what has
// waited as long as it may. It returns how many certificates it revoked.
func (c *Control) AdvanceRevocations(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	var open []store.Revocation
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		open, err = tx.OpenRevocations(ctx)
		return err
	})
	if err != nil {
		return 0, err
	}
	revoked := 0
	for _, one := range open {
		n, err := c.advanceRevocation(ctx, one.ID)
		if err != nil {
			return revoked, err
		}
		revoked += n
	}
	if revoked > 0 {
		c.revoked()
	}
	return revoked, nil
}

// advanceRevocation decides in the transaction that revokes, so that what was
// true a moment ago revokes nothing. It looks in a Read first: most looks find
// nothing to do.
func (c *Control) advanceRevocation(ctx context.Context, id string) (int, error) {
	var ready []store.Certificate
	var left int
	look := func(tx *store.Tx) error {
		var err error
		ready, left, err = c.readyToRevoke(ctx, tx, id)
		return err
	}
	if err := c.db.Read(ctx, look); err != nil || len(ready) == 0 && left > 0 {
		return 0, err
	}
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := look(tx); err != nil {
			return err
		}
		revocation, err := tx.Revocation(ctx, id)
		if err != nil || !revocation.EndedAt.IsZero() {
			ready = nil // another server was first, or an operator ended it
			return err
		}
		if err := revokeAll(ctx, tx, Caller{Kind: Server}, revocation, ready); err != nil {
			return err
		}
		if left > 0 {
			return nil
		}
		if err := tx.EndRevocation(ctx, id); err != nil {
			return err
		}
		_, err = done(ctx, tx, Caller{Kind: Server}, "revoke.done", revocation.Object, map[string]any{"revocation": id})
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(ready), nil
}

// readyToRevoke are the certificates of a revocation that can be revoked now,
// and how many others there are left.
func (c *Control) readyToRevoke(ctx context.Context, tx *store.Tx, id string) (ready []store.Certificate, left int, err error) {
	revocation, err := tx.Revocation(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	parts, err := tx.RevocationParts(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	force := !revocation.ForceAt.IsZero() && !tx.Now.Before(revocation.ForceAt)
	for _, record := range parts {
		if !stillToRevoke(tx, record, revocation) {
			continue
		}
		waits := ""
		if !force {
			if waits, err = c.waitsFor(ctx, tx, record); err != nil {
				return nil, 0, err
			}
		}
		if waits == "" {
			ready = append(ready, record)
		} else {
			left++
		}
	}
	return ready, left, nil
}

// stillToRevoke says whether a part of a revocation is neither revoked nor
// expired. What is on hold is, where it is to be revoked for good.
func stillToRevoke(tx *store.Tx, record store.Certificate, revocation store.Revocation) bool {
	held := record.Reason == store.OnHold && revocation.Reason != store.OnHold
	return (record.RevokedAt.IsZero() || held) && !record.NotAfter.Before(tx.Now)
}
