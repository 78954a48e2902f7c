package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// AdvanceCompromises dates that one is contained, or recovered from, at the first
// look that finds it so. It returns how many dates it set.
func (c *Control) AdvanceCompromises(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	var due []string
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		open, err := tx.OpenCompromises(ctx)
		if err != nil {
			return err
		}
		for _, one := range open {
			if early, err := tooEarly(ctx, tx, one); err != nil || early {
				if err != nil {
					return err
				}
				continue
			}
			p, err := c.progressOf(ctx, tx, one)
			if err != nil {
				return err
			}
			if contained, recovered := reached(one, p); contained || recovered {
				due = append(due, one.ID)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	dated := 0
	for _, id := range due {
		n, err := c.dateCompromise(ctx, id)
		if err != nil {
			return dated, err
		}
		dated += n
	}
	return dated, nil
}

// tooEarly says, by a row or two, that a compromise can't have come to anything
// new: a revocation that waits for successors is neither done nor has them, and one
// that is contained waits for its rollout.
func tooEarly(ctx context.Context, tx *store.Tx, record store.Compromise) (bool, error) {
	if record.RevocationID != "" {
		revocation, err := tx.Revocation(ctx, record.RevocationID)
		if err != nil || revocation.EndedAt.IsZero() {
			return true, err
		}
	}
	if record.ContainedAt.IsZero() || record.RolloutID == "" {
		return false, nil
	}
	rollout, err := tx.Rollout(ctx, record.RolloutID)
	return rollout.EndedAt.IsZero(), err
}

// reached says what a compromise has come to that is not dated yet.
func reached(record store.Compromise, p progress) (contained, recovered bool) {
	return record.ContainedAt.IsZero() && p.complete(false), record.RecoveredAt.IsZero() && p.complete(true)
}

// dateCompromise decides in the transaction that records.
func (c *Control) dateCompromise(ctx context.Context, id string) (dated int, err error) {
	err = c.change(ctx, func(tx *store.Tx) error {
		dated = 0
		record, err := tx.Compromise(ctx, id)
		if err != nil || !record.EndedAt.IsZero() {
			return err
		}
		p, err := c.progressOf(ctx, tx, record)
		if err != nil {
			return err
		}
		contained, recovered := reached(record, p)
		if contained {
			if err := tx.ContainCompromise(ctx, id); err != nil {
				return err
			}
			if err := c.enterReached(ctx, tx, record, "compromise.contained"); err != nil {
				return err
			}
			dated++
		}
		if recovered {
			if err := tx.RecoverCompromise(ctx, id); err != nil {
				return err
			}
			if err := c.enterReached(ctx, tx, record, "compromise.recovered"); err != nil {
				return err
			}
			dated++
		}
		if !p.complete(false) && record.ContainedAt.IsZero() || !p.complete(true) && record.RecoveredAt.IsZero() {
			return nil
		}
		return tx.EndCompromise(ctx, id)
	})
	return dated, err
}

func (c *Control) enterReached(ctx context.Context, tx *store.Tx, record store.Compromise, verb string) error {
	_, err := done(ctx, tx, Caller{Kind: Server}, verb, compromiseObject(record), map[string]any{
		"compromise": record.ID, "after": tx.Now.Sub(record.BegunAt).Round(time.Millisecond).String(), "rehearsal": record.Rehearsal,
	})
	return err
}

// EndCompromise lets one be. What it began goes on by itself: the revocation, the
// rollout and the change of trust have their own ends.
func (c *Control) EndCompromise(ctx context.Context, caller Caller, req *api.EndCompromiseRequest) (*api.EndCompromiseResponse, error) {
	if err := authorize(caller, "compromise"); err != nil {
		return nil, err
	}
	if req.Reason == "" {
		return nil, fault.New(fault.Invalid, "a compromise that is not over is let be only with a reason").WithRemedy("--reason TEXT")
	}
	response := &api.EndCompromiseResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		record, err := tx.Compromise(ctx, req.Id)
		if err != nil {
			return err
		}
		if !record.EndedAt.IsZero() {
			return fault.New(fault.Conflict, "compromise %s is over since %s", req.Id, record.EndedAt.Format(time.RFC3339))
		}
		if err := tx.EndCompromise(ctx, req.Id); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "compromise.end", compromiseObject(record), map[string]any{"compromise": req.Id, "reason": req.Reason})
		return err
	})
	return response, err
}
