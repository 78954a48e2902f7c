package control

import (
	"cmp"
	"context"
	"maps"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// placeAgent makes an agent's placements agree with the documents: those that
// an intent wants exist and are active, all others are orphans. It is called
// in the transaction that changed either side.
func (c *Control) placeAgent(ctx context.Context, tx *store.Tx, id string) error {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	agent, err := tx.Agent(ctx, id)
	if err != nil {
		return err
	}
	have, err := tx.AgentPlacements(ctx, id)
	if err != nil {
		return err
	}
	return c.place(ctx, tx, w, []store.Agent{agent}, have, func(fleet.Name) bool { return true })
}

// place does for many agents what placeAgent does for one, with the intents that
// are meant. have are the placements that they have.
func (c *Control) place(ctx context.Context, tx *store.Tx, w *world, agents []store.Agent, have []store.Placement, meant func(fleet.Name) bool) error {
	of := map[string][]store.Placement{}
	for _, placement := range have {
		if meant(fleet.Name(placement.Intent)) {
			of[placement.AgentID] = append(of[placement.AgentID], placement)
		}
	}
	for _, agent := range agents {
		wanted := w.seats(agent)
		maps.DeleteFunc(wanted, func(at fleet.PlacementKey, _ bool) bool { return !meant(at.Intent) })
		if err := c.placeOne(ctx, tx, w, agent, of[agent.ID], wanted); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) placeOne(ctx context.Context, tx *store.Tx, w *world, agent store.Agent, have []store.Placement, wanted map[fleet.PlacementKey]bool) error {
	for _, placement := range have {
		at := keyOf(placement)
		orphan := !wanted[at]
		delete(wanted, at)
		if orphan != placement.Orphan {
			if err := tx.SetPlacementOrphan(ctx, placement.ID, orphan); err != nil {
				return err
			}
		}
		if err := c.placeTarget(ctx, tx, w, agent, placement); err != nil {
			return err
		}
	}
	for at := range wanted {
		placement := store.Placement{ID: newID(), Intent: string(at.Intent), AgentID: at.Agent, Instance: string(at.Instance)}
		if expanded, err := c.expand(w, agent, at, ""); err == nil {
			placement.Target, placement.Cluster = expanded.Target.Name, expanded.Target.Cluster
		}
		if err := tx.InsertPlacement(ctx, placement); err != nil {
			return err
		}
	}
	return nil
}

// placeTarget keeps beside a placement which target it is at, and which cluster
// that is a member of. Where that can't be said now it stays what it was: a
// process does not leave its cluster by a label that is missing.
func (c *Control) placeTarget(ctx context.Context, tx *store.Tx, w *world, agent store.Agent, placement store.Placement) error {
	target, cluster := placement.Target, placement.Cluster
	if expanded, err := c.expand(w, agent, keyOf(placement), ""); err == nil {
		target, cluster = expanded.Target.Name, expanded.Target.Cluster
	}
	if target == placement.Target && cluster == placement.Cluster {
		return nil
	}
	return tx.SetPlacementTarget(ctx, placement.ID, target, cluster)
}

// placeTargets does that for all placements of a store from before clusters
// were kept beside them.
func (c *Control) placeTargets(ctx context.Context) error {
	unplaced := false
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		unplaced, err = tx.UnplacedTargets(ctx)
		return err
	})
	if err != nil || !unplaced {
		return err
	}
	return c.db.Write(ctx, func(tx *store.Tx) error {
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		placements, err := tx.Placements(ctx)
		if err != nil {
			return err
		}
		for _, placement := range placements {
			agent, err := tx.Agent(ctx, placement.AgentID)
			if err != nil {
				return err
			}
			// Also where it changes nothing: it is looked at, and is of none.
			if err := tx.SetPlacementTarget(ctx, placement.ID, placement.Target, placement.Cluster); err != nil {
				return err
			}
			if err := c.placeTarget(ctx, tx, w, agent, placement); err != nil {
				return err
			}
		}
		return nil
	})
}

// seats is what the intents want of an agent.
func (w *world) seats(agent store.Agent) map[fleet.PlacementKey]bool {
	seats := map[fleet.PlacementKey]bool{}
	if agent.State != fleet.AgentActive {
		return seats
	}
	for _, name := range w.intents {
		in, _ := w.set.Intent(name)
		if !in.Selects(agent.Labels) {
			continue
		}
		for _, instance := range in.Instances {
			seats[fleet.PlacementKey{Intent: name, Agent: agent.ID, Instance: instance}] = true
		}
	}
	return seats
}

// expand says what an intent means for one instance on an agent's host, with the
// profile that a rollout has used there; empty: the intent's own.
func (c *Control) expand(w *world, agent store.Agent, at fleet.PlacementKey, override fleet.Name) (fleet.Expanded, error) {
	document, ok := w.set[fleet.Key{Kind: fleet.KindIntent, Name: at.Intent}]
	if !ok {
		return fleet.Expanded{}, fault.New(fault.NotFound, "intent %s does not exist", at.Intent)
	}
	in, _ := w.set.Intent(at.Intent)
	name := cmp.Or(override, in.Profile)
	profile, _ := w.set.Profile(name)
	expanded, err := fleet.Expand(c.domain, document, profile, fleetAgent(agent), at.Instance)
	if expanded.Profile != nil {
		expanded.ProfileName = name
	}
	return expanded, err
}

func fleetAgent(agent store.Agent) fleet.Agent {
	return fleet.Agent{ID: agent.ID, Labels: agent.Labels, Region: agent.Region, Zone: agent.Zone, State: agent.State}
}

func keyOf(placement store.Placement) fleet.PlacementKey {
	return fleet.PlacementKey{
		Intent: fleet.Name(placement.Intent), Agent: placement.AgentID, Instance: fleet.Name(placement.Instance),
	}
}
