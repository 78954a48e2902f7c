package control

import (
	"context"
	"slices"

	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// TendSlots does what no report brings about: it withdraws slots that were not
// begun in time, and grants where an agent came back or the documents let more
// go. It returns how many of both. Several servers may do so at once.
func (c *Control) TendSlots(ctx context.Context) (int, error) {
	needed := false
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		overdue, err := tx.OverdueSlots(ctx, tx.Now.Add(-withdrawnAfter))
		if err != nil || len(overdue) > 0 {
			needed = true
			return err
		}
		needed, err = c.somebodyMayGo(ctx, tx)
		return err
	})
	if err != nil || !needed {
		return 0, err
	}
	var agents []string
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		var err error
		agents, err = c.tendSlots(ctx, tx)
		return err
	})
	if err != nil {
		return 0, err
	}
	c.watchers.wakeAgents(agents...)
	return len(agents), nil
}

func (c *Control) somebodyMayGo(ctx context.Context, tx *store.Tx) (bool, error) {
	names, err := tx.AskingClusters(ctx)
	if err != nil || len(names) == 0 {
		return false, err
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		cluster, _, err := c.clusterFacts(ctx, tx, w, name, "")
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(cluster.Decide(tx.Now), func(v rollout.Verdict) bool { return v.Granted }) {
			return true, nil
		}
	}
	return false, nil
}

func (c *Control) tendSlots(ctx context.Context, tx *store.Tx) ([]string, error) {
	overdue, err := tx.OverdueSlots(ctx, tx.Now.Add(-withdrawnAfter))
	if err != nil {
		return nil, err
	}
	var agents []string
	for _, slot := range overdue {
		if err := tx.WithdrawSlot(ctx, slot.ID); err != nil {
			return nil, err
		}
		agents = append(agents, slot.AgentID)
	}
	names, err := tx.AskingClusters(ctx)
	if err != nil {
		return nil, err
	}
	clusters := map[string]bool{}
	for _, name := range names {
		clusters[name] = true
	}
	granted, err := c.grantAll(ctx, tx, clusters, "")
	return append(agents, granted...), err
}
