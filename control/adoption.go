package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// storeAdoption records how far the placement has taken its bundle, when that
// changed. It is not how far its leaf has come: a revision may change the
// bundle alone, and a reload that did nothing serves a leaf that fits.
func storeAdoption(ctx context.Context, tx *store.Tx, after *api.PlacementReport, seen *probe.Observation, evidence string) error {
	if after.BundleDigest == "" {
		return nil
	}
	digest, err := pki.ParseBundleDigest(after.BundleDigest)
	if err != nil {
		return err
	}
	if _, err := tx.BundleByDigest(ctx, digest); err != nil {
		return err
	}
	all, err := tx.PlacementAdoptions(ctx, after.PlacementId)
	if err != nil {
		return err
	}
	newest := store.Adoption{}
	if len(all) > 0 && all[0].BundleDigest == after.BundleDigest {
		newest = all[0]
	}
	level := after.Level
	if newest.Level != levelName(api.Level_LEVEL_PROVEN) && !trusts(seen) {
		level = min(level, api.Level_LEVEL_LOADED)
	}
	if newest.Level == levelName(level) {
		return nil
	}
	return tx.PutAdoption(ctx, store.Adoption{
		PlacementID: after.PlacementId, BundleDigest: after.BundleDigest,
		Level: levelName(level), Evidence: evidence, At: tx.Now,
	})
}

// trusts says whether an observation shows whom a process trusts: a client
// certificate that should be accepted was, one that should be refused was, and
// none fared otherwise. Under which anchors they were the agent has chosen; a
// bundle whose trials it did not make is loaded at most.
func trusts(seen *probe.Observation) bool {
	if seen == nil || seen.Outcome != probe.Served {
		return false
	}
	accepted, refused := false, false
	for _, trial := range seen.Trials {
		switch {
		case trial.Expected && trial.Accepted == probe.Accepted:
			accepted = true
		case !trial.Expected && trial.Accepted == probe.Rejected:
			refused = true
		case !trial.Expected, trial.Accepted == probe.Rejected:
			return false
		}
	}
	return accepted && refused
}
