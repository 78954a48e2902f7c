package store

import (
	"context"
	"time"
)

// Live counts the certificates of a kind that an authority signed and that are
// neither expired nor revoked, in use or not.
type Live struct {
	AuthorityID string
	Kind        CertificateKind
	Count       uint64
	Last        time.Time // the latest not_after of them
}

func (l *Live) columns() []any {
	return []any{&l.AuthorityID, &l.Kind, &l.Count, moment{&l.Last}}
}

// LiveCertificates counts what is live at the time given, by authority and
// kind.
func (tx *Tx) LiveCertificates(ctx context.Context, now time.Time) ([]Live, error) {
	return list[Live](ctx, tx, "live certificates", `
		SELECT authority_id, kind, COUNT(*), MAX(not_after) FROM certificate
		WHERE not_after > $1 AND revoked_at IS NULL
		GROUP BY authority_id, kind ORDER BY authority_id, kind`, micros(now))
}
