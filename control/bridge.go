package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// bridgeByDigest finds a bridge by the SHA-256 of its DER: an authority that is
// another certificate of one that is there. There are few of them ever.
func bridgeByDigest(ctx context.Context, tx *store.Tx, digest pki.Fingerprint) ([]byte, error) {
	authorities, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, authority := range authorities {
		if authority.CrossOf != "" && pki.FingerprintOf(authority.Certificate) == digest {
			return authority.Certificate, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no bundle or bridge %s", digest)
}
