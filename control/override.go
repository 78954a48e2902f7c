package control

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// override is a profile that a rollout has used at a placement in the place of
// its intent's, as documents are looked at.
type override struct {
	store.ProfileOverride
	rollout string // its name
}

// declared is what is wanted of placements: by documents, and by rollouts that use
// another profile.
type declared struct {
	world      *world
	overridden bool // a rollout's profile is used at some
}

func (c *Control) declaredAt(ctx context.Context, tx *store.Tx) (declared, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return declared{}, err
	}
	overridden, err := tx.AnyOverride(ctx)
	return declared{w, overridden}, err
}

// overrideAt is the override that stands at a placement; the zero one: none.
func (d declared) overrideAt(ctx context.Context, tx *store.Tx, placementID string) (store.ProfileOverride, error) {
	if !d.overridden {
		return store.ProfileOverride{}, nil
	}
	return overrideAt(ctx, tx, placementID)
}

func overrideAt(ctx context.Context, tx *store.Tx, placementID string) (store.ProfileOverride, error) {
	found, err := tx.PlacementOverride(ctx, placementID)
	if fault.CodeOf(err) == fault.NotFound {
		return store.ProfileOverride{}, nil
	}
	return found, err
}

func wireOverride(ctx context.Context, tx *store.Tx, o store.ProfileOverride) (*api.ProfileOverride, error) {
	record, err := tx.Rollout(ctx, o.RolloutID)
	return &api.ProfileOverride{Profile: o.Profile, Rollout: record.Name, Since: stamp(o.Since)}, err
}

// standingOverrides are those that stand, by placement.
func standingOverrides(ctx context.Context, tx *store.Tx) (map[fleet.PlacementKey]override, error) {
	all, err := tx.StandingOverrides(ctx)
	if err != nil {
		return nil, err
	}
	names, standing := map[string]string{}, map[fleet.PlacementKey]override{}
	for _, one := range all {
		placement, err := tx.Placement(ctx, one.PlacementID)
		if err != nil {
			return nil, err
		}
		if names[one.RolloutID] == "" {
			record, err := tx.Rollout(ctx, one.RolloutID)
			if err != nil {
				return nil, err
			}
			names[one.RolloutID] = record.Name
		}
		standing[keyOf(placement)] = override{one, names[one.RolloutID]}
	}
	return standing, nil
}

// sameOverride are the placements of an intent at which one rollout has one
// profile used.
type sameOverride struct {
	intent           fleet.Name
	profile, rollout string
}

func (r *review) overridesOf() map[sameOverride]int {
	counts := map[sameOverride]int{}
	for at, one := range r.overrides {
		counts[sameOverride{at.Intent, one.Profile, one.rollout}]++
	}
	return counts
}

// reviewOverrides says of each intent that changes, itself or in a profile that
// it has to do with, that a rollout has another one used; and refuses to take
// that one away.
func (r *review) reviewOverrides() {
	counts := r.overridesOf()
	ordered := slices.SortedFunc(maps.Keys(counts), func(a, b sameOverride) int {
		return slices.Compare([]string{string(a.intent), a.profile, a.rollout}, []string{string(b.intent), b.profile, b.rollout})
	})
	for _, of := range ordered {
		n := counts[of]
		document, kept := r.after.set[fleet.Key{Kind: fleet.KindIntent, Name: of.intent}]
		if !kept {
			continue
		}
		if _, there := r.after.set.Profile(fleet.Name(of.profile)); !there {
			r.findings = append(r.findings, document.Finding(fleet.Error, "spec.profile", "override-stands",
				fmt.Sprintf("rollout %s has profile %s used at %d placement(s) of it: it can't be removed", of.rollout, of.profile, n),
				fmt.Sprintf("keep the profile, or take it back first: rotunda rollout rollback %s", of.rollout)))
			continue
		}
		in, _ := r.after.set.Intent(of.intent)
		switch {
		case !r.touches(fleet.KindIntent, of.intent) && !r.touches(fleet.KindProfile, in.Profile) && !r.touches(fleet.KindProfile, fleet.Name(of.profile)):
		case string(in.Profile) == of.profile:
			r.findings = append(r.findings, document.Finding(fleet.Warning, "spec.profile", "override-stands",
				fmt.Sprintf("%d placement(s) of it have profile %s already, from rollout %s: it becomes their own, and they do not rotate for it", n, of.profile, of.rollout), ""))
		default:
			r.findings = append(r.findings, document.Finding(fleet.Warning, "spec.profile", "override-stands",
				fmt.Sprintf("rollout %s has profile %s used at %d placement(s) of it in the place of %s: they keep it", of.rollout, of.profile, n, in.Profile),
				fmt.Sprintf("rotunda rollout rollback %s takes it back", of.rollout)))
		}
	}
}

// touches says whether the review changes a document.
func (r *review) touches(kind fleet.Kind, name fleet.Name) bool {
	return slices.ContainsFunc(r.changes, func(one change) bool {
		return one.key == fleet.Key{Kind: kind, Name: name} && one.op != api.Difference_UNCHANGED
	})
}

// takeOverOverrides ends the overrides that intents now name themselves: from
// here on it is the documents that say so.
func takeOverOverrides(ctx context.Context, tx *store.Tx, r *review) error {
	for at, one := range r.overrides {
		if in, kept := r.after.set.Intent(at.Intent); kept && string(in.Profile) == one.Profile {
			if err := tx.EndOverride(ctx, one.PlacementID, "the intent names the profile itself"); err != nil {
				return err
			}
		}
	}
	return nil
}
