package control

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// GateAsk is a gate outside that is to be asked about a wave.
type GateAsk struct {
	Rollout string // id
	Name    string // of the rollout
	Wave    int    // from 1
	Gate    string
	Webhook string
}

// AdvanceRollouts does what is due in the rollouts that are open: asks
// placements to rotate, dates that they got there, and ends what is over. It
// returns how much that was, and whom outside to ask. What is due follows from
// the store alone, looked at in the transaction that does it, so that a pass may
// be cut off anywhere, and several servers may make one at once.
func (c *Control) AdvanceRollouts(ctx context.Context) (did int, asks []GateAsk, err error) {
	needed := false
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		actions, f, records, err := c.dueInRollouts(ctx, tx)
		if err != nil || f == nil {
			return err
		}
		for _, a := range actions {
			if a.Do == rollout.AskOut && a.Gate.Webhook != "" {
				asks = append(asks, GateAsk{a.Rollout.String(), records[a.Rollout].Name, a.Wave + 1, string(a.Gate.Name), a.Gate.Webhook})
			}
			needed = needed || a.Do != rollout.AskOut
		}
		return nil
	})
	if err != nil || !needed {
		return 0, asks, err
	}
	var agents []string
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		did, agents = 0, nil
		actions, f, records, err := c.dueInRollouts(ctx, tx)
		if err != nil || f == nil {
			return err
		}
		asked := map[uuid.UUID]int{}
		for _, a := range actions {
			done, err := c.advance(ctx, tx, records[a.Rollout], f.placements[a.Placement.String()], a)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			if did++; a.Do == rollout.Rotate {
				asked[a.Rollout]++
				agents = append(agents, f.placements[a.Placement.String()].AgentID)
			}
		}
		return enterAsked(ctx, tx, records, asked)
	})
	if err != nil {
		return 0, asks, err
	}
	c.watchers.wakeAgents(agents...)
	return did, asks, nil
}

// dueInRollouts is what is to be done now; nil facts: no rollout is open.
func (c *Control) dueInRollouts(ctx context.Context, tx *store.Tx) ([]rollout.Action, *rolloutFacts, map[uuid.UUID]store.Rollout, error) {
	open, err := tx.OpenRollouts(ctx)
	if err != nil || len(open) == 0 {
		return nil, nil, nil, err
	}
	f, err := c.rolloutFacts(ctx, tx, open)
	if err != nil {
		return nil, nil, nil, err
	}
	records := map[uuid.UUID]store.Rollout{}
	for _, record := range open {
		records[rolloutID(record.ID)] = record
	}
	actions, _ := f.model.Next(tx.Now)
	return actions, f, records, nil
}

// advance carries out one action, together with the fact that comes of it. It
// returns false for what somebody else has done meanwhile.
func (c *Control) advance(ctx context.Context, tx *store.Tx, record store.Rollout, placement store.Placement, a rollout.Action) (bool, error) {
	var err error
	switch a.Do {
	case rollout.Rotate:
		if err = tx.AskRolloutPart(ctx, record.ID, placement.ID); err == nil {
			return true, askRotation(ctx, tx, record, placement, a)
		}
	case rollout.Note:
		err = tx.SettleRolloutPart(ctx, record.ID, a.Placement.String())
	case rollout.End:
		if err = tx.EndRollout(ctx, record.ID); err == nil {
			_, err = done(ctx, tx, Caller{Kind: Server}, "rollout.end", "Rollout/"+record.ID, map[string]any{"name": record.Name})
			return true, err
		}
	default:
		return false, nil
	}
	if fault.CodeOf(err) == fault.Conflict {
		return false, nil
	}
	return err == nil, err
}

func askRotation(ctx context.Context, tx *store.Tx, record store.Rollout, placement store.Placement, a rollout.Action) error {
	if err := tx.SetPlacementRotation(ctx, placement.ID, a.Through, a.NewKey, time.Time{}); err != nil {
		return err
	}
	return tx.InsertDecision(ctx, store.Decision{
		ID: newID(), Kind: "rotate", Intent: placement.Intent, PlacementID: placement.ID, ThroughGeneration: a.Through, NewKey: a.NewKey,
		Reason: "rollout " + record.Name, By: record.BegunBy, At: tx.Now,
	})
}

// enterAsked enters how many placements each rollout has asked in this pass.
func enterAsked(ctx context.Context, tx *store.Tx, records map[uuid.UUID]store.Rollout, asked map[uuid.UUID]int) error {
	for id, n := range asked {
		_, err := done(ctx, tx, Caller{Kind: Server}, "rollout.advance", "Rollout/"+id.String(), map[string]any{
			"name": records[id].Name, "placements": n,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
