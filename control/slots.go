package control

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// How many slots are shown: those that are held, and the newest that are over.
const (
	mostSlots   = 10_000
	recentSlots = 100
)

// ListSlots shows the slots that are held; those that are over too, where they
// are asked for.
func (c *Control) ListSlots(ctx context.Context, caller Caller, req *api.ListSlotsRequest) (*api.ListSlotsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListSlotsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		slots, err := tx.Slots(ctx, req.Cluster, false, mostSlots)
		if err != nil {
			return err
		}
		if req.Ended {
			over, err := tx.Slots(ctx, req.Cluster, true, recentSlots)
			if err != nil {
				return err
			}
			slots = append(slots, over...)
		}
		for _, slot := range slots {
			placement, err := tx.Placement(ctx, slot.PlacementID)
			if err != nil {
				return err
			}
			response.Slots = append(response.Slots, slotInfo(slot, placement.Intent))
		}
		return nil
	})
	return response, err
}

func slotInfo(slot store.Slot, intent string) *api.SlotInfo {
	return &api.SlotInfo{
		Id: slot.ID, Cluster: slot.Cluster, Agent: slot.AgentID, Target: slot.Target, Placement: slot.PlacementID, Intent: intent,
		State: string(slot.State), GrantedAt: stamp(slot.GrantedAt), StartBy: stamp(slot.StartBy),
		BegunAt: stamp(slot.BegunAt), EndedAt: stamp(slot.EndedAt), EndedBy: slot.EndedBy,
	}
}

// ReleaseSlot ends a slot that its agent can't end any more, because its host
// is gone: time alone never does. The cluster's next member may go then. One
// that was just granted is only withdrawn: its agent may be about to begin, and
// if it does not the slot lapses. Released again it ends.
func (c *Control) ReleaseSlot(ctx context.Context, caller Caller, req *api.ReleaseSlotRequest) (*api.ReleaseSlotResponse, error) {
	if err := authorize(caller, "slot.release"); err != nil {
		return nil, err
	}
	if req.Reason == "" {
		return nil, fault.New(fault.Invalid, "a slot is released by hand only with a reason").WithRemedy("--reason TEXT")
	}
	response := &api.ReleaseSlotResponse{}
	var slot store.Slot
	err := c.change(ctx, func(tx *store.Tx) error {
		var err error
		if slot, err = tx.Slot(ctx, req.Id); err != nil {
			return err
		}
		withdraw := slot.State == store.SlotGranted && slot.WithdrawnAt.IsZero()
		if err := release(ctx, tx, caller, slot, withdraw); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "slot.release", "Slot/"+req.Id, map[string]any{"reason": req.Reason, "withdrawn": withdraw})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.grantAll(ctx, []string{slot.Cluster}, "")
	c.watchers.wakeEverybody()
	return response, nil
}

func release(ctx context.Context, tx *store.Tx, caller Caller, slot store.Slot, withdraw bool) error {
	if withdraw {
		return tx.WithdrawSlot(ctx, slot.ID)
	}
	if err := tx.EndSlot(ctx, slot.ID, caller.String()); err != nil {
		return err
	}
	return tx.SetPlacementAsked(ctx, slot.PlacementID) // it goes behind the others
}

// releaseSlots ends what a retired agent held: it can't any more.
func (c *Control) releaseSlots(ctx context.Context, tx *store.Tx, caller Caller, agentID string) error {
	held, err := tx.AgentSlots(ctx, agentID)
	if err != nil {
		return err
	}
	for _, slot := range held {
		if err := tx.EndSlot(ctx, slot.ID, caller.String()); err != nil {
			return err
		}
		if err := enterSlot(ctx, tx, caller, "slot.released", slot, nil); err != nil {
			return err
		}
	}
	return nil
}

// desiredSlot is the slot that an agent is shown for its placement.
func desiredSlot(ctx context.Context, tx *store.Tx, placementID string) (*api.Slot, error) {
	held, err := tx.PlacementSlot(ctx, placementID)
	switch {
	case err != nil && fault.CodeOf(err) == fault.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case held.State == store.SlotGranted && !held.WithdrawnAt.IsZero():
		return nil, nil
	}
	return &api.Slot{Id: held.ID, Revision: held.Revision, StartWithin: durationpb.New(startWithin)}, nil
}

// slotStatus says in words how a placement stands to its cluster's slots, and
// why it waits where it does.
func (c *Control) slotStatus(ctx context.Context, tx *store.Tx, w *world, placement store.Placement) (state, reason string, err error) {
	held, err := tx.PlacementSlot(ctx, placement.ID)
	if err == nil || fault.CodeOf(err) != fault.NotFound {
		return string(held.State), "", err
	}
	if placement.AsksSlot == 0 || placement.Cluster == "" || placement.Orphan {
		return "", "", nil
	}
	cluster, _, err := c.clusterFacts(ctx, tx, w, placement.Cluster, "")
	if err != nil {
		return "", "", err
	}
	for _, verdict := range cluster.Decide(tx.Now) {
		if verdict.Placement == placement.ID {
			reason = verdict.Reason
		}
	}
	return "waits", reason, nil
}
