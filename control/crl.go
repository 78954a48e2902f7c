package control

import (
	"context"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// crlLife is how long a CRL is good for. It is signed afresh whenever it is
// asked for after half of that, or after a revocation.
const crlLife = 24 * time.Hour

// CRL returns the authority's certificate revocation list of one shard, in
// DER: at every URL that a certificate of ours names there is one.
func (c *Control) CRL(ctx context.Context, authorityID string, shard int) ([]byte, error) {
	var by *signer
	now := c.now()
	var revoked []store.Revocation
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		if by, err = c.signer(ctx, tx, authorityID); err != nil {
			return err
		}
		revoked, err = tx.Revocations(ctx, authorityID, shard, now)
		return err
	})
	if fault.CodeOf(err) == fault.NotFound || shard < 0 || shard >= ca.Shards {
		return nil, fault.New(fault.NotFound, "authority %s has no CRL shard %d", printable(authorityID), shard)
	}
	if err != nil {
		return nil, err
	}
	name := crlName{authorityID, shard}
	// The number grows with the time of signing, so that it grows across
	// restarts and servers alike.
	number := now.UnixMilli()
	if kept, ok := c.crls.Load(name); ok {
		crl := kept.(keptCRL)
		if age := now.Sub(crl.at); slices.Equal(crl.revoked, revoked) && age >= 0 && age < crlLife/2 {
			return crl.der, nil
		}
		number = max(number, crl.number+1)
	}
	var list []ca.Revocation
	for _, one := range revoked {
		list = append(list, ca.Revocation{Serial: one.Serial, At: one.RevokedAt, Reason: one.Reason})
	}
	der, err := by.CRL(now, shard, number, list, now.Add(crlLife))
	if err != nil {
		return nil, err
	}
	c.crls.Store(name, keptCRL{der, revoked, number, now})
	return der, nil
}

type crlName struct {
	authority string
	shard     int
}

type keptCRL struct {
	der     []byte
	revoked []store.Revocation // what stands on it
	number  int64
	at      time.Time
}
