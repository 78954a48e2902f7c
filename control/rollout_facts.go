package control

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// rolloutFacts feeds a model with what one snapshot of the store shows.
type rolloutFacts struct {
	model      *rollout.Model
	world      *world
	placements map[string]store.Placement
	specs      map[string]rollout.Spec        // by rollout
	parts      map[string][]store.RolloutPart // by rollout
	bundles    map[fleet.Name]string          // digests of the current ones
}

// rolloutFacts reads the facts about rollouts. The model is built anew each
// time: it says the same as one that was kept, and can't fall behind.
func (c *Control) rolloutFacts(ctx context.Context, tx *store.Tx, rollouts []store.Rollout) (*rolloutFacts, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	f := &rolloutFacts{
		model: rollout.NewModel(), world: w, placements: map[string]store.Placement{},
		specs: map[string]rollout.Spec{}, parts: map[string][]store.RolloutPart{}, bundles: map[fleet.Name]string{},
	}
	for _, document := range w.set.OfKind(fleet.KindWindow) {
		f.model.Observe(rollout.Declared{Name: document.Name, Revision: 1, Window: document.Spec.(*fleet.Window)})
	}
	within := map[string]bool{} // placements that an open rollout is over
	asked := map[string]bool{}  // and has asked
	for _, r := range rollouts {
		if err := f.observeRollout(ctx, tx, r); err != nil {
			return nil, err
		}
		for _, part := range f.parts[r.ID] {
			within[part.PlacementID] = true
			asked[part.PlacementID] = asked[part.PlacementID] || r.EndedAt.IsZero() && !part.AskedAt.IsZero()
		}
	}
	all, err := tx.Placements(ctx)
	if err != nil {
		return nil, err
	}
	for _, placement := range all {
		f.placements[placement.ID] = placement
		if within[placement.ID] || !placement.FailedAt.IsZero() {
			if err := c.observePlacement(ctx, tx, f, placement); err != nil {
				return nil, err
			}
		}
		due := placement.RotationOpen() && !placement.RenewFrom.After(tx.Now)
		if due && placement.Cluster != "" && !placement.Orphan && !asked[placement.ID] {
			f.model.Observe(rollout.Held{Cluster: placement.Cluster, Change: "a rotation that was asked for by itself", At: placement.RenewFrom})
		}
	}
	return f, nil
}

func (f *rolloutFacts) observeRollout(ctx context.Context, tx *store.Tx, r store.Rollout) error {
	goal := rollout.Begun{Rollout: rolloutID(r.ID), At: r.BegunAt, Well: r.Well}
	var err error
	if goal.Spec, err = specOf(r); err != nil {
		return err
	}
	f.specs[r.ID] = goal.Spec
	if err := json.Unmarshal(r.Waves, &goal.Waves); err != nil {
		return fault.Wrap(fault.Internal, err, "stored plan of rollout %s", r.ID)
	}
	parts, err := tx.RolloutParts(ctx, r.ID)
	if err != nil {
		return err
	}
	f.parts[r.ID] = parts
	for _, part := range parts {
		id := rolloutID(part.PlacementID)
		goal.Parts = append(goal.Parts, rollout.Planned{Placement: id, Wave: part.Wave, Through: part.Through})
		if !part.AskedAt.IsZero() {
			f.model.Observe(rollout.Asked{Rollout: goal.Rollout, Placement: id, At: part.AskedAt})
		}
		if !part.SettledAt.IsZero() {
			f.model.Observe(rollout.Settled{Rollout: goal.Rollout, Placement: id, At: part.SettledAt})
		}
	}
	f.model.Observe(goal)
	if !r.EndedAt.IsZero() {
		f.model.Observe(rollout.Ended{Rollout: goal.Rollout, At: r.EndedAt})
	}
	return f.observeDecisions(ctx, tx, r)
}

// specOf is how a rollout goes.
func specOf(r store.Rollout) (spec rollout.Spec, err error) {
	if err := json.Unmarshal(r.Spec, &spec); err != nil {
		return spec, fault.Wrap(fault.Internal, err, "stored spec of rollout %s", r.ID)
	}
	return spec, nil
}

func (f *rolloutFacts) observeDecisions(ctx context.Context, tx *store.Tx, r store.Rollout) error {
	decisions, err := tx.RolloutDecisions(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		f.model.Observe(rollout.Decided{Rollout: rolloutID(r.ID), Act: rollout.Act(d.Act), At: d.At, By: d.By, Reason: d.Reason})
	}
	if err := f.observeTold(ctx, tx, r); err != nil {
		return err
	}
	answers, err := tx.RolloutAnswers(ctx, r.ID)
	for _, a := range answers {
		f.model.Observe(rollout.GateAnswered{
			Rollout: rolloutID(r.ID), Wave: a.Wave, Gate: fleet.Name(a.Gate), Passed: a.Passed, Words: a.Words, At: a.At,
		})
	}
	return err
}

// observePlacement tells how a placement stands. One that never reported stands
// where it was made.
func (c *Control) observePlacement(ctx context.Context, tx *store.Tx, f *rolloutFacts, placement store.Placement) error {
	report, err := storedReport(placement)
	if err != nil {
		return err
	}
	wanted, err := c.bundleOfIntent(ctx, tx, f, placement.Intent)
	if err != nil {
		return err
	}
	at := placement.ReportedAt
	if at.IsZero() {
		at = placement.CreatedAt
	}
	f.model.Observe(rollout.Seen{
		Placement: rolloutID(placement.ID), At: at, Intent: placement.Intent, Cluster: placement.Cluster, Member: memberOf(placement),
		Generation: report.Generation, Level: levelOf[report.Level],
		Steady:  report.State == api.State_STATE_STEADY && report.AsksSlot == 0 && report.SlotId == "",
		Failed:  placement.FailedAt.After(placement.ResumedAt),
		Well:    isWell(placement, report),
		Adopted: report.BundleDigest == wanted, Gone: placement.Orphan,
	})
	return nil
}

// isWell says whether nothing is known to be wrong at a placement.
func isWell(placement store.Placement, report *api.PlacementReport) bool {
	return !placement.ReportedAt.IsZero() && report.Failure == nil && !report.Drift && report.State != api.State_STATE_FAILED
}

var levelOf = map[api.Level]fleet.Level{
	api.Level_LEVEL_DELIVERED: fleet.Delivered,
	api.Level_LEVEL_LOADED:    fleet.Loaded,
	api.Level_LEVEL_PROVEN:    fleet.Proven,
}

// bundleOfIntent is the digest of the bundle that is wanted at an intent's
// placements now.
func (c *Control) bundleOfIntent(ctx context.Context, tx *store.Tx, f *rolloutFacts, intent string) (string, error) {
	declared, ok := f.world.set.Intent(fleet.Name(intent))
	if !ok {
		return "", nil
	}
	if digest, known := f.bundles[declared.Bundle]; known {
		return digest, nil
	}
	bundle, err := c.currentBundle(ctx, tx, declared.Bundle)
	if err != nil {
		return "", err
	}
	f.bundles[declared.Bundle] = bundle.Digest().String()
	return f.bundles[declared.Bundle], nil
}

// rolloutID is an id as the model has it. All are made by newID, so that none
// fails to parse.
func rolloutID(id string) uuid.UUID {
	parsed, _ := uuid.Parse(id)
	return parsed
}
