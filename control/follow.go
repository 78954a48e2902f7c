package control

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// A slot is leave to take one member of a cluster out of its steady state, and
// never must two be away by two grants where one may be. So a slot that was
// granted is free again only when it is certain that its agent can't begin with
// it any more, and no time that passes here makes that certain: the message may
// lie in a buffer on the way, the agent may be stopped between its reading and
// its beginning, and counts its time from the arrival, on its own clock.
//
// So a slot goes back in two steps. Withdrawn: it was not begun in time, and
// from this commit on no desired state shows it; the slot is held all the same.
// Lapsed: the agent has reported this placement after it took a desired state
// of that commit or a later one (AgentReport.desired_seq, which grows with the
// commits and means the same on every server), and the report does not have the
// slot as begun. An agent ignores desired states that are older than the one
// that it has, records what it begins before it reports, and begins only what
// the newest desired state shows; so from then on it can't begin.
//
// An agent that is away keeps its slot: until it comes back and says either, an
// operator releases the slot, or retires the agent. A server that starts anew
// finds the slots in the store; it keeps nothing of them in memory.
//
// Should an agent begin with a lapsed slot all the same (its state was put back
// from a copy), or with one that an operator released before it was begun, or
// that a restored store does not know, that is taken as the fact that it is:
// the slot is begun, and nobody else goes while it is.
const (
	startWithin    = 30 * time.Second // on the agent's clock, from the arrival
	withdrawnAfter = 30 * time.Second // after that, on the server's
)

// followSlot takes from a report what it says of the placement's slot: begun,
// ended, or that it can't begin any more. It returns the cluster in which
// somebody else may go now; "" when none. seq is the newest desired state that
// the agent had taken.
func (c *Control) followSlot(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, report *api.PlacementReport, seq uint64) (string, error) {
	held, err := tx.PlacementSlot(ctx, placement.ID)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return "", err
	}
	blind := report.Revision == 0 && report.AsksSlot == 0
	switch {
	case report.SlotId != "" && report.SlotId != held.ID:
		return "", c.lateSlot(ctx, tx, caller, placement, held, report)
	case held.ID == "":
		return "", nil
	case report.SlotId != "" && held.State == store.SlotGranted:
		if err := tx.BeginSlot(ctx, held.ID); err != nil {
			return "", err
		}
		return "", enterSlot(ctx, tx, caller, "slot.begun", held, nil)
	case report.SlotId != "":
		return "", nil
	case held.State == store.SlotBegun && slotOver(held, report, seq):
		return held.Cluster, endSlot(ctx, tx, caller, held)
	case held.State == store.SlotGranted && passedBy(held, report):
		if err := tx.BeginSlot(ctx, held.ID); err != nil {
			return "", err
		}
		return held.Cluster, endSlot(ctx, tx, caller, held)
	case held.State == store.SlotBegun, blind:
		return "", nil
	case !held.WithdrawnAt.IsZero() && seq >= uint64(held.WithdrawnAt.UnixMicro()):
		return held.Cluster, lapse(ctx, tx, held)
	case report.AsksSlot > 0 && report.AsksSlot != held.Revision:
		return "", tx.SetSlotRevision(ctx, held.ID, report.AsksSlot)
	}
	return "", nil
}

// slotOver says whether a report ends a slot that was begun. One that was made
// before the agent began must not, though it be handled later: by another
// stream, after a newer one. The agent had the grant when it began; and what
// asks for this very slot was made before it. And one that knows no revision is
// of an agent that can't read its record, or lost it: that is no word on what it
// began. An operator releases the slot if nothing else comes.
func slotOver(held store.Slot, report *api.PlacementReport, seq uint64) bool {
	switch {
	case seq < uint64(held.GrantedAt.UnixMicro()), report.Revision == 0:
		return false
	case report.AsksSlot != 0:
		return report.AsksSlot != held.Revision
	}
	return report.State != api.State_STATE_ROTATING
}

// passedBy says whether all that a slot was granted for came about between two
// reports, or since the copy was made that this store was restored from: what
// asked for it, or a later revision, is in use and settled. Revisions are
// activated once, and in their order, so that the agent can't begin with this
// slot any more.
func passedBy(held store.Slot, report *api.PlacementReport) bool {
	return report.Revision >= held.Revision && report.AsksSlot == 0 && report.State == api.State_STATE_STEADY
}

func endSlot(ctx context.Context, tx *store.Tx, caller Caller, held store.Slot) error {
	if err := tx.EndSlot(ctx, held.ID, caller.String()); err != nil {
		return err
	}
	return enterSlot(ctx, tx, caller, "slot.ended", held, nil)
}

// lapse takes back a slot that can't begin any more. Whoever let it pass goes
// behind those that have waited meanwhile.
func lapse(ctx context.Context, tx *store.Tx, held store.Slot) error {
	if err := tx.LapseSlot(ctx, held.ID); err != nil {
		return err
	}
	if err := tx.SetPlacementAsked(ctx, held.PlacementID); err != nil {
		return err
	}
	return enterSlot(ctx, tx, Caller{Kind: Server}, "slot.lapsed", held, nil)
}

// lateSlot takes the fact that an agent has begun with a slot that it does not
// hold here: it lapsed, was released before it was begun, or is unknown to a
// store that was restored from a copy. One that was ended after it was begun
// stays so: an operator said that it is.
func (c *Control) lateSlot(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, held store.Slot, report *api.PlacementReport) error {
	id := report.SlotId
	slot, err := tx.Slot(ctx, id)
	unknown := err != nil && fault.CodeOf(err) == fault.NotFound
	if err != nil && !unknown {
		return err
	}
	if unknown && (placement.Cluster == "" || uuid.Validate(id) != nil) || !unknown && slot.PlacementID != placement.ID {
		c.log.Warn("a slot is said to be begun that was never granted here", "placement", placement.ID, "agent", caller.ID, "slot", printable(id))
		return nil
	}
	if !slot.BegunAt.IsZero() {
		return nil
	}
	if held.ID != "" {
		if err := tx.EndSlot(ctx, held.ID, caller.String()); err != nil {
			return err
		}
	}
	c.log.Warn("a slot was begun that is not held here", "placement", placement.ID, "agent", caller.ID, "slot", id)
	if unknown {
		slot = store.Slot{
			ID: id, Cluster: placement.Cluster, AgentID: placement.AgentID, Target: placement.Target,
			PlacementID: placement.ID, Revision: report.Revision,
		}
		err = tx.InsertBegunSlot(ctx, slot)
	} else {
		err = tx.BeginSlot(ctx, id)
	}
	if err != nil {
		return err
	}
	return enterSlot(ctx, tx, caller, "slot.begun", slot, map[string]any{"late": true})
}
