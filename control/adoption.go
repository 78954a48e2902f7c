package control

import (
	"context"
	"slices"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
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
	bundle, err := tx.BundleByDigest(ctx, digest)
	if err != nil {
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
	if newest.Level != levelName(api.Level_LEVEL_PROVEN) && level == api.Level_LEVEL_PROVEN {
		shown, err := triedAll(ctx, tx, bundle, seen)
		if err != nil {
			return err
		}
		if !shown || !trusts(seen) {
			level = api.Level_LEVEL_LOADED
		}
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
// none fared otherwise. Under which anchors they were, triedAll asks.
func trusts(seen *probe.Observation) bool {
	if seen == nil || seen.Outcome != probe.Served {
		return false
	}
	accepted, refused := false, false
	for _, trial := range seen.Trials {
		if trial.Revoked { // that is a matter of lists, not of anchors
			continue
		}
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

// triedAll says whether an observation has a trial under each root by which
// something can be signed here: one that was accepted where the bundle has the
// root, and one that was refused where it has not, with each session from
// before. By a root that is only prepared nothing is signed but trials, so that
// its refusal is no loss; that of one that is not ours is wanted while a change
// leads away from it.
func triedAll(ctx context.Context, tx *store.Tx, bundle store.Bundle, seen *probe.Observation) (bool, error) {
	all, err := tx.Authorities(ctx)
	if err != nil || seen == nil {
		return false, err
	}
	byID := map[string]store.Authority{}
	for _, authority := range all {
		byID[authority.ID] = authority
	}
	tried := map[string]bool{} // by the root's id
	for _, authority := range all {
		if authority.Kind != store.IssuingAuthority || authority.State == fleet.AuthorityWithdrawn {
			continue
		}
		root := byID[authority.ParentID]
		if root.Origin == store.KeyForeign {
			wanted, err := triesForeign(ctx, tx, bundle, root, all)
			if err != nil {
				return false, err
			}
			if !wanted {
				continue
			}
		}
		_, err := tx.AuthorityKey(ctx, authority.ID)
		if fault.CodeOf(err) == fault.NotFound {
			continue // nothing can be signed by it, no trial either
		}
		if err != nil {
			return false, err
		}
		accept := hasAnchor(bundle, root)
		if !accept && authority.State == fleet.AuthorityPrepared {
			continue
		}
		if !accept && !noneComesBack(root, seen) {
			return false, nil
		}
		tried[authority.ParentID] = tried[authority.ParentID] || slices.ContainsFunc(seen.Trials, func(trial probe.TrialResult) bool {
			return trial.Name == trialName(authority.Name) && trial.Expected == accept && (trial.Accepted == probe.Accepted) == accept
		})
	}
	for _, one := range tried {
		if !one {
			return false, nil
		}
	}
	return true, nil
}

// triesForeign says whether a trial under a root that is not ours is wanted.
func triesForeign(ctx context.Context, tx *store.Tx, bundle store.Bundle, root store.Authority, all []store.Authority) (bool, error) {
	if _, _, signs := canaryAuthority(all, root, tx.Now); !signs || hasAnchor(bundle, root) {
		return signs, nil
	}
	_, leaving, err := leavingFrom(ctx, tx, root)
	return leaving, err
}

// noneComesBack says whether no client under the root was seen to come back
// with a session of before its anchor was withdrawn. What was taken has to be
// seen refused. Where none could be taken there is nothing to see: its agent says
// so in each statement, and a restart of an agent must not hold a change for ever.
func noneComesBack(root store.Authority, seen *probe.Observation) bool {
	anchor := pki.FingerprintOf(root.Certificate).String()
	return !slices.ContainsFunc(seen.Tickets, func(ticket probe.TicketResult) bool {
		return ticket.Anchor == anchor && !ticket.Taken.IsZero() && !ticket.Shown()
	})
}

// trialName is what agents call a trial by a canary under the authority.
func trialName(authority string) string { return "authority " + authority }
