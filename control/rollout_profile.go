package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// candidate is a placement that a rollout is to be over, and its agent.
type candidate struct {
	placement store.Placement
	agent     store.Agent
}

// inSlice says whether an agent has all labels of a slice.
func inSlice(slice map[string]string, agent store.Agent) bool {
	for label, value := range slice {
		if agent.Labels[label] != value {
			return false
		}
	}
	return true
}

// checkProfile refuses a profile that can't be tried at the placements: nobody
// finds that out by a rotation that fails.
func (c *Control) checkProfile(ctx context.Context, tx *store.Tx, w *world, spec rollout.Spec, over []candidate) error {
	profile, declared := w.set.Profile(spec.Profile)
	switch {
	case !declared:
		return fault.New(fault.NotFound, "profile %s does not exist", printable(string(spec.Profile))).WithRemedy("rotunda get profiles lists those that do")
	case len(over) == 0:
		return fault.New(fault.NotFound, "slice %s matches no placement that is chosen", sliceWords(spec.Slice)).
			WithRemedy("rotunda get agents shows the labels; only those that a token or an operator attested count")
	}
	taken, err := c.overridden(ctx, tx)
	if err != nil {
		return err
	}
	looked := map[string]bool{}
	for _, one := range over {
		if by := taken[one.placement.ID]; by != "" {
			return fault.New(fault.Conflict, "rollout %s has another profile used at %s, or is about to: of a placement one stands at a time", by, placeName(one.placement)).
				WithRemedy("take that one back first: rotunda rollout rollback %s", by)
		}
		if !looked[one.placement.Intent] {
			if err := fitsIntent(w, fleet.Name(one.placement.Intent), spec.Profile, profile); err != nil {
				return err
			}
			looked[one.placement.Intent] = true
		}
		if err := c.permits(w, spec.Profile, one); err != nil {
			return err
		}
	}
	return nil
}

// overridden names the rollout that has another profile used at a placement, or
// will.
func (c *Control) overridden(ctx context.Context, tx *store.Tx) (map[string]string, error) {
	taken := map[string]string{}
	standing, err := standingOverrides(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, one := range standing {
		taken[one.PlacementID] = one.rollout
	}
	open, err := tx.OpenRollouts(ctx)
	if err != nil {
		return nil, err
	}
	for _, record := range open {
		spec, err := specOf(record)
		if err != nil {
			return nil, err
		}
		if spec.Profile == "" {
			continue
		}
		parts, err := tx.RolloutParts(ctx, record.ID)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			taken[part.PlacementID] = record.Name
		}
	}
	return taken, nil
}

// fitsIntent refuses a profile that an intent's certificates can't have: one that it
// has already, one for another usage, one that its kind of server can't take.
func fitsIntent(w *world, intent, name fleet.Name, profile *fleet.Profile) error {
	in, _ := w.set.Intent(intent)
	own, _ := w.set.Profile(in.Profile)
	switch {
	case in.Profile == name:
		return fault.New(fault.Invalid, "profile %s is what intent %s names already", name, intent).WithRemedy("leave --profile out")
	case !sameUsages(own.Usages, profile.Usages):
		return fault.New(fault.Invalid, "profile %s is for %s, and intent %s has certificates for %s", name, usageWords(profile.Usages), intent, usageWords(own.Usages)).
			WithRemedy("choose a profile of the same usages")
	}
	can, known := adapterOf(in.Target.Kind)
	if !known {
		return nil
	}
	var found misfit
	if own.Algorithm != profile.Algorithm {
		found = takesNoKeyType(can, in, name)
	}
	if found.text == "" && !own.Revocation.CRL {
		found = readsNoCRL(can, name, profile)
	}
	if found.text != "" {
		return fault.New(fault.Invalid, "intent %s: %s", intent, found.text).WithRemedy("%s", found.remedy)
	}
	return nil
}

func sameUsages(a, b []fleet.Usage) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func usageWords(usages []fleet.Usage) string {
	var texts []string
	for _, usage := range usages {
		texts = append(texts, string(usage))
	}
	return strings.Join(texts, ", ")
}

// permits asks the policy about the profile that would really be used.
func (c *Control) permits(w *world, profile fleet.Name, at candidate) error {
	expanded, err := c.expand(w, at.agent, keyOf(at.placement), profile)
	if err != nil || expanded.Names == nil {
		return err
	}
	input := policy.InputOf(expanded, fleetAgent(at.agent))
	if decision := w.engine.Decide(input); !decision.Allowed {
		return refusedByPolicy(decision, input)
	}
	return nil
}

func sliceWords(slice map[string]string) string {
	var labels []string
	for _, label := range slices.Sorted(maps.Keys(slice)) {
		labels = append(labels, printable(label+"="+slice[label]))
	}
	return strings.Join(labels, ", ")
}

// useProfile has a rollout's profile used at a placement from now on; a rollout
// that takes another one back has the intent's own used again.
func useProfile(ctx context.Context, tx *store.Tx, record store.Rollout, spec rollout.Spec, placement store.Placement) error {
	if spec.Profile != "" {
		return tx.InsertOverride(ctx, record.ID, placement.ID, string(spec.Profile))
	}
	if record.Undoes == "" {
		return nil
	}
	standing, err := overrideAt(ctx, tx, placement.ID)
	if err != nil || standing.RolloutID != record.Undoes {
		return err
	}
	return tx.EndOverride(ctx, placement.ID, "rolled back by "+record.Name)
}

// EndOverrides ends the overrides that were taken back and whose placements are
// about to renew, so that they do it under their intents' own profiles, and those
// whose placements no intent wants any more. It returns how many.
func (c *Control) EndOverrides(ctx context.Context) (int, error) {
	var due []store.Placement
	find := func(tx *store.Tx) error {
		due = nil
		loose, err := tx.LooseOverrides(ctx)
		if err != nil {
			return err
		}
		for _, one := range loose {
			placement, err := tx.Placement(ctx, one.PlacementID)
			if err != nil {
				return err
			}
			over, err := c.overrideIsOver(ctx, tx, one, placement)
			if err != nil {
				return err
			}
			if over {
				due = append(due, placement)
			}
		}
		return nil
	}
	if err := c.db.Read(ctx, find); err != nil || len(due) == 0 {
		return 0, err
	}
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := find(tx); err != nil || len(due) == 0 {
			return err
		}
		for _, placement := range due {
			if err := tx.EndOverride(ctx, placement.ID, "taken back"); err != nil {
				return err
			}
		}
		_, err := done(ctx, tx, Caller{Kind: Server}, "profile.restore", "Placements", map[string]any{"placements": len(due)})
		return err
	})
	if err != nil {
		return 0, err
	}
	var agents []string
	for _, placement := range due {
		agents = append(agents, placement.AgentID)
	}
	c.watchers.wakeAgents(agents...)
	return len(due), nil
}

// overrideIsOver says whether an override that was taken back may end now: where
// that makes no other certificate necessary, and else once one is due anyway.
func (c *Control) overrideIsOver(ctx context.Context, tx *store.Tx, one store.ProfileOverride, placement store.Placement) (bool, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return false, err
	}
	in, declared := w.set.Intent(fleet.Name(placement.Intent))
	if placement.Orphan || !declared || placement.RotationOpen() {
		return true, nil
	}
	own, known := w.set.Profile(in.Profile)
	used, still := w.set.Profile(fleet.Name(one.Profile))
	if !known || !still || own.Algorithm == used.Algorithm && sameUsages(own.Usages, used.Usages) {
		return true, nil
	}
	leaf, err := tx.NewestPlacementCertificate(ctx, placement.ID)
	if fault.CodeOf(err) == fault.NotFound {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	after, _, err := c.windowOf(ctx, tx, placement, used, leaf.Issued())
	return !tx.Now.Before(after), err
}
