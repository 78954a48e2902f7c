package store

import (
	"context"
	"time"
)

// Adoption says how far a relying party has taken a bundle.
type Adoption struct {
	PlacementID  string
	BundleDigest string // hex
	Level        string // delivered, loaded, proven
	Evidence     string // digest of what shows it; may be empty
	At           time.Time
}

const adoptionColumns = `placement_id, bundle_digest, level, evidence, at`

func (a *Adoption) columns() []any {
	return []any{&a.PlacementID, &a.BundleDigest, &a.Level, &a.Evidence, moment{&a.At}}
}

// PutAdoption records how far it is now; a fact that regressed is one too.
func (tx *Tx) PutAdoption(ctx context.Context, a Adoption) error {
	_, err := tx.exec(ctx, `
		INSERT INTO adoption (`+adoptionColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (placement_id, bundle_digest) DO UPDATE
		SET level = excluded.level, evidence = excluded.evidence, at = excluded.at
		WHERE adoption.at <= excluded.at`,
		a.PlacementID, a.BundleDigest, a.Level, a.Evidence, micros(a.At))
	return thing{"adoption at placement", a.PlacementID}.wrap(err)
}

// BundleAdoptions returns who has adopted a bundle.
func (tx *Tx) BundleAdoptions(ctx context.Context, digest string) ([]Adoption, error) {
	return list[Adoption](ctx, tx, "adoptions of a bundle", `
		SELECT `+adoptionColumns+` FROM adoption WHERE bundle_digest = $1 ORDER BY placement_id`, digest)
}

// NewestAdoptions returns what each placement has adopted last, by placement.
func (tx *Tx) NewestAdoptions(ctx context.Context) (map[string]Adoption, error) {
	all, err := list[Adoption](ctx, tx, "newest adoptions", `
		SELECT `+adoptionColumns+` FROM adoption
		WHERE at = (SELECT MAX(later.at) FROM adoption later WHERE later.placement_id = adoption.placement_id)
		ORDER BY placement_id, bundle_digest DESC`)
	newest := make(map[string]Adoption, len(all))
	for _, one := range all {
		newest[one.PlacementID] = one
	}
	return newest, err
}

// PlacementAdoptions returns what a placement has adopted, the newest first.
func (tx *Tx) PlacementAdoptions(ctx context.Context, placementID string) ([]Adoption, error) {
	return list[Adoption](ctx, tx, "adoptions of a placement", `
		SELECT `+adoptionColumns+` FROM adoption WHERE placement_id = $1 ORDER BY at DESC, bundle_digest`, placementID)
}
