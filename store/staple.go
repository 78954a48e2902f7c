package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Staple is an OCSP response that is delivered beside a certificate.
type Staple struct {
	Digest     pki.Fingerprint // of DER
	Serial     pki.Serial      // of the certificate
	ThisUpdate time.Time
	NextUpdate time.Time
	RefreshAt  time.Time // when the next one is made
	DER        []byte
}

const stapleColumns = `digest, serial, this_update, next_update, refresh_at, der`

func (s *Staple) columns() []any {
	return []any{fixed(s.Digest[:]), fixed(s.Serial[:]), moment{&s.ThisUpdate}, moment{&s.NextUpdate}, moment{&s.RefreshAt}, &s.DER}
}

// NewestStaple returns the staple of a certificate that was made last.
func (tx *Tx) NewestStaple(ctx context.Context, serial pki.Serial) (Staple, error) {
	return one[Staple](ctx, tx, thing{"staple of certificate", serial}, `
		SELECT `+stapleColumns+` FROM staple WHERE serial = $1 AND newest`, serial[:])
}

// StapleByDigest returns the staple of the digest, also after another has taken
// its place.
func (tx *Tx) StapleByDigest(ctx context.Context, digest pki.Fingerprint) (Staple, error) {
	return one[Staple](ctx, tx, thing{"staple", digest}, `
		SELECT `+stapleColumns+` FROM staple WHERE digest = $1`, digest[:])
}

// PutStaple makes a staple the newest of its certificate, in the place of the one
// whose digest was before; zero: there was none. It is a compare-and-swap: of two
// servers one gets a Conflict, and no thisUpdate goes back.
func (tx *Tx) PutStaple(ctx context.Context, s Staple, before pki.Fingerprint) error {
	what := thing{"staple of certificate", s.Serial}
	if before != (pki.Fingerprint{}) {
		err := tx.swap(ctx, what, `
			UPDATE staple SET newest = FALSE WHERE digest = $1 AND serial = $2 AND newest AND this_update <= $3`,
			before[:], s.Serial[:], micros(s.ThisUpdate))
		if err != nil {
			return err
		}
	}
	return tx.insert(ctx, what, `
		INSERT INTO staple (`+stapleColumns+`, newest) VALUES ($1, $2, $3, $4, $5, $6, TRUE)`,
		s.Digest[:], s.Serial[:], micros(s.ThisUpdate), micros(s.NextUpdate), micros(s.RefreshAt), s.DER)
}

// DueStaple is a certificate for which a staple is to be made.
type DueStaple struct {
	Serial      pki.Serial
	PlacementID string
	AgentID     string
	AuthorityID string
}

func (d *DueStaple) columns() []any {
	return []any{fixed(d.Serial[:]), &d.PlacementID, &d.AgentID, &d.AuthorityID}
}

// DueStaples returns the newest certificates of an intent's placements that are
// good and have no staple, or one that is to be made anew.
func (tx *Tx) DueStaples(ctx context.Context, intent string) ([]DueStaple, error) {
	return list[DueStaple](ctx, tx, "staples that are due", `
		SELECT c.serial, p.id, p.agent_id, c.authority_id
		FROM placement p JOIN certificate c ON c.placement_id = p.id
		WHERE p.intent = $1 AND NOT p.orphan AND c.revoked_at IS NULL AND c.not_after > $2
			AND c.generation = (SELECT MAX(generation) FROM certificate WHERE placement_id = p.id)
			AND NOT EXISTS (SELECT 1 FROM staple s WHERE s.serial = c.serial AND s.newest AND s.refresh_at > $2)
		ORDER BY p.id`, intent, micros(tx.Now))
}

// EndedStaples says how many staples have ended.
func (tx *Tx) EndedStaples(ctx context.Context) (int64, error) {
	return value[int64](ctx, tx, thing{noun: "staples that ended"}, `
		SELECT COUNT(*) FROM staple WHERE next_update <= $1`, micros(tx.Now))
}

// DeleteEndedStaples forgets the staples that have ended.
func (tx *Tx) DeleteEndedStaples(ctx context.Context) error {
	_, err := tx.exec(ctx, `DELETE FROM staple WHERE next_update <= $1`, micros(tx.Now))
	return thing{noun: "staples that ended"}.wrap(err)
}
