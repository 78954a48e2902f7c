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
	if authorityID != c.issuer.ID || shard < 0 || shard >= ca.Shards {
		return nil, fault.New(fault.NotFound, "authority %s has no CRL shard %d", printable(authorityID), shard)
	}
	now := c.now()
	var revoked []store.Revocation
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		revoked, err = tx.Revocations(ctx, authorityID, shard, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The number grows with the time of signing, so that it grows across
	// restarts and servers alike.
	number := now.UnixMilli()
	if kept, ok := c.crls.Load(shard); ok {
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
	der, err := c.issuer.CRL(now, shard, number, list, now.Add(crlLife))
	if err != nil {
		return nil, err
	}
	c.crls.Store(shard, keptCRL{der, revoked, number, now})
	return der, nil
}

type keptCRL struct {
	der     []byte
	revoked []store.Revocation // what stands on it
	number  int64
	at      time.Time
}
