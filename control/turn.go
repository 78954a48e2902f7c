package control

import (
	"context"
	"fmt"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// turn says why a placement must not take another bundle yet. Where a process
// is restarted for it and is a member of a cluster, its members go one after
// the other: in the order of their agents' ids, each after the one before it
// has the new bundle and is settled again. Time alone lets nobody pass: a
// member whose host is gone waits for an operator to retire its agent.
func (c *Control) turn(ctx context.Context, tx *store.Tx, w *world, placement store.Placement, expanded fleet.Expanded, wanted pki.BundleDigest) (string, error) {
	own, err := storedReport(placement)
	if err != nil || !restartsForBundle(expanded, own, wanted) {
		return "", err
	}
	all, err := tx.Placements(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range all {
		if other.AgentID == placement.AgentID || other.Orphan {
			continue
		}
		member, err := c.memberOf(ctx, tx, w, other)
		if err != nil {
			return "", err
		}
		if member.cluster != expanded.Target.Cluster {
			continue
		}
		switch {
		case member.unsettled:
			return fmt.Sprintf("cluster %s takes another bundle one member at a time: the one on agent %s is not settled", member.cluster, other.AgentID), nil
		case member.waits && other.AgentID < placement.AgentID:
			return fmt.Sprintf("cluster %s takes another bundle one member at a time: the one on agent %s goes first", member.cluster, other.AgentID), nil
		}
	}
	return "", nil
}

// restartsForBundle says whether a process is to be restarted for the bundle,
// and is a member of a cluster. At first issuance nothing runs yet.
func restartsForBundle(expanded fleet.Expanded, report *api.PlacementReport, wanted pki.BundleDigest) bool {
	return expanded.Target.Cluster != "" && expanded.Target.RestartCommand != "" &&
		report.Revision > 0 && report.BundleDigest != wanted.String()
}

// member is how another placement of a cluster stands.
type member struct {
	cluster   string
	waits     bool // it is to be restarted for a bundle, too
	unsettled bool // it is at work, or what it did failed
}

func (c *Control) memberOf(ctx context.Context, tx *store.Tx, w *world, placement store.Placement) (member, error) {
	agent, err := tx.Agent(ctx, placement.AgentID)
	if err != nil {
		return member{}, err
	}
	expanded, err := c.expand(w, agent, keyOf(placement))
	if err != nil {
		return member{}, nil // it can't be told to do anything, so it is in nobody's way
	}
	report, err := storedReport(placement)
	if err != nil {
		return member{}, err
	}
	bundle, err := c.currentBundle(ctx, tx, expanded.Bundle)
	if err != nil {
		return member{}, err
	}
	return member{
		cluster:   expanded.Target.Cluster,
		waits:     restartsForBundle(expanded, report, bundle.Digest()),
		unsettled: report.State == api.State_STATE_ROTATING || report.State == api.State_STATE_FAILED,
	}, nil
}
