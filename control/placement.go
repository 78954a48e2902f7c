package control

import (
	"context"

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
	return w.place(ctx, tx, []store.Agent{agent})
}

// place does for many agents what placeAgent does for one.
func (w *world) place(ctx context.Context, tx *store.Tx, agents []store.Agent) error {
	for _, agent := range agents {
		wanted := w.seats(agent)
		have, err := tx.AgentPlacements(ctx, agent.ID)
		if err != nil {
			return err
		}
		for _, placement := range have {
			at := keyOf(placement)
			orphan := !wanted[at]
			delete(wanted, at)
			if orphan != placement.Orphan {
				if err := tx.SetPlacementOrphan(ctx, placement.ID, orphan); err != nil {
					return err
				}
			}
		}
		for at := range wanted {
			err := tx.InsertPlacement(ctx, store.Placement{
				ID: newID(), Intent: string(at.Intent), AgentID: at.Agent, Instance: string(at.Instance),
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
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

// expand says what an intent means for one instance on an agent's host.
func (c *Control) expand(w *world, agent store.Agent, at fleet.PlacementKey) (fleet.Expanded, error) {
	document, ok := w.set[fleet.Key{Kind: fleet.KindIntent, Name: at.Intent}]
	if !ok {
		return fleet.Expanded{}, fault.New(fault.NotFound, "intent %s does not exist", at.Intent)
	}
	in, _ := w.set.Intent(at.Intent)
	profile, _ := w.set.Profile(in.Profile)
	return fleet.Expand(c.domain, document, profile, fleetAgent(agent), at.Instance)
}

func fleetAgent(agent store.Agent) fleet.Agent {
	return fleet.Agent{ID: agent.ID, Labels: agent.Labels, Region: agent.Region, Zone: agent.Zone, State: agent.State}
}

func keyOf(placement store.Placement) fleet.PlacementKey {
	return fleet.PlacementKey{
		Intent: fleet.Name(placement.Intent), Agent: placement.AgentID, Instance: fleet.Name(placement.Instance),
	}
}
