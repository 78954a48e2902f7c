package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// recentSlots bounds how many slots that are over are shown.
const recentSlots = 100

// ListSlots shows the slots that are held; those that are over too, where they
// are asked for.
func (c *Control) ListSlots(ctx context.Context, caller Caller, req *api.ListSlotsRequest) (*api.ListSlotsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListSlotsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		slots, err := tx.Slots(ctx, req.Cluster, req.Ended, recentSlots)
		if err != nil {
			return err
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
// is gone: time alone never does. The cluster's next member may go then.
func (c *Control) ReleaseSlot(ctx context.Context, caller Caller, req *api.ReleaseSlotRequest) (*api.ReleaseSlotResponse, error) {
	if err := authorize(caller, "slot.release"); err != nil {
		return nil, err
	}
	if req.Reason == "" {
		return nil, fault.New(fault.Invalid, "a slot is released by hand only with a reason").WithRemedy("--reason TEXT")
	}
	response := &api.ReleaseSlotResponse{}
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.EndSlot(ctx, req.Id, caller.String()); err != nil {
			return err
		}
		var err error
		response.AuditId, err = done(ctx, tx, caller, "slot.release", "Slot/"+req.Id, map[string]any{"reason": req.Reason})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}
