package control

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

// A synthetic intent serves nobody. Its placements rotate all the time, so that
// each region shows, before any service needs it, that a certificate still gets from
// its authority through policy, store, stream and host into a process that serves
// it.

// behindAfter is how many turns without a proof make a placement behind.
const behindAfter = 3

// Synthetic is what one synthetic intent shows of one region.
type Synthetic struct {
	Region, Intent string
	Proven         time.Time // when the oldest of the certificates that are proven to be served there was issued; zero: one of its placements shows none
	Behind         bool
	Words          string // why it is behind
}

// AdvanceSynthetics asks the placements of synthetic intents whose turn has come to
// rotate. It returns how many it asked.
func (c *Control) AdvanceSynthetics(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	var due []store.Placement
	look := func(tx *store.Tx) error {
		due = nil
		return c.eachSynthetic(ctx, tx, func(every time.Duration, placement store.Placement) error {
			is, err := turnHasCome(ctx, tx, placement, every)
			if is {
				due = append(due, placement)
			}
			return err
		})
	}
	if err := c.db.Read(ctx, look); err != nil || len(due) == 0 {
		return 0, err
	}
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := look(tx); err != nil {
			return err
		}
		for _, placement := range due {
			if err := c.turn(ctx, tx, placement); err != nil {
				return err
			}
		}
		return nil
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

func (c *Control) eachSynthetic(ctx context.Context, tx *store.Tx, do func(time.Duration, store.Placement) error) error {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range w.intents {
		intent, _ := w.set.Intent(name)
		if intent.Synthetic == nil {
			continue
		}
		placements, err := tx.IntentPlacements(ctx, string(name))
		if err != nil {
			return err
		}
		for _, placement := range placements {
			if placement.Orphan {
				continue
			}
			if err := do(intent.Synthetic.Every.Std(), placement); err != nil {
				return err
			}
		}
	}
	return nil
}

// turnHasCome says whether a placement is to rotate. One that is on the way, or
// tries again after a failure, is left alone.
func turnHasCome(ctx context.Context, tx *store.Tx, placement store.Placement, every time.Duration) (bool, error) {
	if placement.RotationOpen() || placement.Generation == 0 {
		return false, nil
	}
	newest, err := tx.NewestPlacementCertificate(ctx, placement.ID)
	if err != nil || newest.Generation != placement.Generation {
		return false, err
	}
	return !tx.Now.Before(newest.IssuedAt.Add(every)), nil
}

func (c *Control) turn(ctx context.Context, tx *store.Tx, placement store.Placement) error {
	if err := tx.SetPlacementRotation(ctx, placement.ID, placement.Generation, true, time.Time{}); err != nil {
		return err
	}
	err := tx.InsertDecision(ctx, store.Decision{
		ID: newID(), Kind: "rotate", Intent: placement.Intent, PlacementID: placement.ID, ThroughGeneration: placement.Generation, NewKey: true,
		Reason: "synthetic", By: string(Server), At: tx.Now,
	})
	if err != nil {
		return err
	}
	_, err = done(ctx, tx, Caller{Kind: Server}, "synthetic.rotate", "Placement/"+placement.ID, map[string]any{"intent": placement.Intent, "through": placement.Generation})
	return err
}

// synthetics are what the synthetic intents show, by intent and region.
func (c *Control) synthetics(ctx context.Context, tx *store.Tx) (all []Synthetic, err error) {
	at := map[[2]string]int{}
	err = c.eachSynthetic(ctx, tx, func(every time.Duration, placement store.Placement) error {
		agent, err := tx.Agent(ctx, placement.AgentID)
		if err != nil || agent.State != fleet.AgentActive {
			return err
		}
		proven, err := provenSince(ctx, tx, placement)
		if err != nil {
			return err
		}
		key := [2]string{placement.Intent, agent.Region}
		i, known := at[key]
		if !known {
			i = len(all)
			at[key] = i
			all = append(all, Synthetic{Region: agent.Region, Intent: placement.Intent, Proven: proven})
		}
		if one := &all[i]; proven.Before(one.Proven) {
			one.Proven = proven
		}
		if tx.Now.Sub(proven) <= behindAfter*every || tx.Now.Sub(placement.CreatedAt) <= behindAfter*every {
			return nil
		}
		declared, err := c.declaredAt(ctx, tx)
		if err != nil {
			return err
		}
		status, err := c.statusOf(ctx, tx, declared, placement)
		if err != nil {
			return err
		}
		all[i].Behind = true
		if all[i].Words == "" {
			all[i].Words = behindWords(placement, agent, proven, status.Reason)
		}
		return nil
	})
	return all, err
}

func behindWords(placement store.Placement, agent store.Agent, proven time.Time, reason string) string {
	since := "no certificate was ever proven"
	if !proven.IsZero() {
		since = "no certificate that was issued after " + proven.Format(time.RFC3339) + " was proven"
	}
	region := "agents of no region"
	if agent.Region != "" {
		region = "region " + agent.Region
	}
	return fmt.Sprintf("%s: %s at %s on agent %s: %s", region, since, placement.Intent, agent.ID, reason)
}

// provenSince is when the certificate was issued that a placement is proven to
// serve; zero: none is.
func provenSince(ctx context.Context, tx *store.Tx, placement store.Placement) (time.Time, error) {
	report, err := storedReport(placement)
	if err != nil || report.Level != api.Level_LEVEL_PROVEN || report.Generation == 0 {
		return time.Time{}, err
	}
	leaf, err := tx.PlacementCertificate(ctx, placement.ID, report.Generation)
	return leaf.IssuedAt, err
}

// syntheticsBehind are those that are behind, in words.
func (c *Control) syntheticsBehind(ctx context.Context, tx *store.Tx) (words []string, err error) {
	all, err := c.synthetics(ctx, tx)
	for _, one := range all {
		if one.Behind {
			words = append(words, one.Words)
		}
	}
	return words, err
}
