package control

import (
	"context"
	"maps"
	"slices"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
)

// clusterFacts is what the store shows of a cluster: who holds, asks, is
// unwell. reporter is the agent that the verb in hand comes from: it is there.
func (c *Control) clusterFacts(ctx context.Context, tx *store.Tx, w *world, name, reporter string) (schedule.Cluster, []store.Placement, error) {
	cluster := schedule.Cluster{Name: name}
	placements, err := tx.ClusterPlacements(ctx, name)
	if err != nil {
		return cluster, nil, err
	}
	held, err := tx.HeldSlots(ctx, name)
	if err != nil {
		return cluster, nil, err
	}
	holders := map[string]bool{}
	for _, slot := range held {
		since := slot.GrantedAt
		if slot.State == store.SlotBegun {
			since = slot.BegunAt
		}
		holders[slot.PlacementID] = true
		cluster.Holds = append(cluster.Holds, schedule.Hold{
			Member: schedule.Member{Agent: slot.AgentID, Target: slot.Target}, Begun: slot.State == store.SlotBegun, Since: since,
		})
	}
	for _, placement := range placements {
		cluster.Most = w.mostAway(placement, cluster.Most)
		if placement.AsksSlot > 0 && !holders[placement.ID] {
			cluster.Asks = append(cluster.Asks, schedule.Ask{
				Member: memberOf(placement), Placement: placement.ID, Since: placement.AskedAt,
				Unseen: !c.connected(placement.AgentID) && placement.AgentID != reporter,
			})
		}
		why, err := unwell(placement)
		if err != nil {
			return cluster, nil, err
		}
		if why != "" {
			cluster.Unwell = append(cluster.Unwell, schedule.Unwell{Member: memberOf(placement), Why: why, Since: placement.FailedAt})
		}
	}
	return cluster, placements, nil
}

func memberOf(placement store.Placement) schedule.Member {
	return schedule.Member{Agent: placement.AgentID, Target: placement.Target}
}

// mostAway is the smallest number that an intent of the cluster allows.
func (w *world) mostAway(placement store.Placement, before int) int {
	most := 1
	if in, ok := w.set.Intent(fleet.Name(placement.Intent)); ok {
		most = max(most, in.Target.MaxUnavailable)
	}
	if before == 0 {
		return most
	}
	return min(before, most)
}

// unwell says why a placement's process is in doubt: a step that touches it
// failed, and what stood before is not back.
func unwell(placement store.Placement) (string, error) {
	if placement.FailedAt.IsZero() || !placement.FailedAt.After(placement.ResumedAt) {
		return "", nil
	}
	report, err := storedReport(placement)
	if err != nil {
		return "", err
	}
	if failure := report.GetFailure(); inDoubt(failure) {
		return failure.GetStep() + " failed", nil
	}
	return "", nil
}

func inDoubt(failure *api.Failure) bool {
	switch failure.GetStep() {
	case "activate", "prove", "restore":
		return !failure.GetRestored()
	}
	return false
}

// grantSlots grants what can be granted in a cluster, and returns the agents
// that got something.
func (c *Control) grantSlots(ctx context.Context, tx *store.Tx, name, reporter string) ([]string, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	cluster, placements, err := c.clusterFacts(ctx, tx, w, name, reporter)
	if err != nil {
		return nil, err
	}
	var agents []string
	for _, verdict := range cluster.Decide(tx.Now) {
		if !verdict.Granted {
			continue
		}
		i := slices.IndexFunc(placements, func(p store.Placement) bool { return p.ID == verdict.Placement })
		if err := c.grantSlot(ctx, tx, placements[i], max(cluster.Most, 1)); err != nil {
			return nil, err
		}
		agents = append(agents, verdict.Agent)
	}
	return agents, nil
}

func (c *Control) grantSlot(ctx context.Context, tx *store.Tx, placement store.Placement, most int) error {
	slot := store.Slot{
		ID: newID(), Cluster: placement.Cluster, AgentID: placement.AgentID, Target: placement.Target,
		PlacementID: placement.ID, Revision: placement.AsksSlot, StartBy: tx.Now.Add(startWithin),
	}
	if err := tx.GrantSlot(ctx, slot, most); err != nil {
		return err
	}
	return enterSlot(ctx, tx, Caller{Kind: Server}, "slot.granted", slot, nil)
}

// grantAll does so in each cluster of a set, in a transaction of its own: what
// stands in the way in one holds no other, and never the verb that brought it
// up. What fails, or is lost by a crash before, TendSlots tries again.
func (c *Control) grantAll(ctx context.Context, clusters []string, reporter string) []string {
	if still, err := c.standsStill(ctx); err != nil || still {
		return nil // TendSlots looks again
	}
	var agents []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(clusters))) {
		if name == "" {
			continue
		}
		granted, err := c.grantCluster(ctx, name, reporter)
		if err != nil && ctx.Err() == nil {
			c.log.Error("grant slots", "cluster", name, "error", err)
		}
		agents = append(agents, granted...)
	}
	return agents
}

// grantCluster writes only where somebody may go.
func (c *Control) grantCluster(ctx context.Context, name, reporter string) ([]string, error) {
	someone := false
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		cluster, _, err := c.clusterFacts(ctx, tx, w, name, reporter)
		someone = slices.ContainsFunc(cluster.Decide(tx.Now), func(v schedule.Verdict) bool { return v.Granted })
		return err
	})
	if err != nil || !someone {
		return nil, err
	}
	var agents []string
	err = c.change(ctx, func(tx *store.Tx) error {
		var err error
		agents, err = c.grantSlots(ctx, tx, name, reporter)
		return err
	})
	if err != nil {
		return nil, err
	}
	return agents, nil
}

// grantAsking does so in all clusters that somebody asks for leave of.
func (c *Control) grantAsking(ctx context.Context) ([]string, error) {
	var names []string
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		names, err = tx.AskingClusters(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.grantAll(ctx, names, ""), nil
}

func enterSlot(ctx context.Context, tx *store.Tx, caller Caller, verb string, slot store.Slot, more map[string]any) error {
	detail := map[string]any{
		"cluster": slot.Cluster, "agent": slot.AgentID, "target": slot.Target, "placement": slot.PlacementID, "revision": slot.Revision,
	}
	maps.Copy(detail, more)
	_, err := done(ctx, tx, caller, verb, "Slot/"+slot.ID, detail)
	return err
}
