package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// TendSlots does what no report brings about: it withdraws slots that were not
// begun in time, and grants where an agent came back or the documents let more
// go. It returns how many of both. Several servers may do so at once.
func (c *Control) TendSlots(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	agents, err := c.withdrawSlots(ctx)
	if err != nil {
		return 0, err
	}
	granted, err := c.grantAsking(ctx)
	agents = append(agents, granted...)
	c.watchers.wakeAgents(agents...)
	return len(agents), err
}

// withdrawSlots takes what is overdue out of sight, and returns the agents that
// don't see it any more. It writes only where there is something.
func (c *Control) withdrawSlots(ctx context.Context) (agents []string, err error) {
	needed := false
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		overdue, err := tx.OverdueSlots(ctx, tx.Now.Add(-withdrawnAfter))
		needed = len(overdue) > 0
		return err
	})
	if err != nil || !needed {
		return nil, err
	}
	err = c.change(ctx, func(tx *store.Tx) error {
		agents = nil
		overdue, err := tx.OverdueSlots(ctx, tx.Now.Add(-withdrawnAfter))
		if err != nil {
			return err
		}
		for _, slot := range overdue {
			err := tx.WithdrawSlot(ctx, slot.ID)
			if fault.CodeOf(err) == fault.Conflict {
				continue // it moved on meanwhile
			}
			if err != nil {
				return err
			}
			agents = append(agents, slot.AgentID)
		}
		return nil
	})
	return agents, err
}
