package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

// concern is what a review looks at on every host.
type concern struct {
	moved  map[fleet.Name]bool // intents that may mean something else than before for a host
	judged map[fleet.Name]bool // these, those that the files hold, and all where policies change
}

// concerns finds what the changes are about. An intent means for a host what it
// and its profile say, or the profile that a rollout has used there.
func (r *review) concerns() concern {
	all := concern{map[fleet.Name]bool{}, map[fleet.Name]bool{}}
	policies := false
	for _, one := range r.changes {
		policies = policies || one.key.Kind == fleet.KindPolicy && one.op != api.Difference_UNCHANGED
	}
	for _, w := range []*world{r.before, r.after} {
		for _, name := range w.intents {
			in, _ := w.set.Intent(name)
			moved := r.touches(fleet.KindIntent, name) || r.touches(fleet.KindProfile, in.Profile)
			given := w.set[fleet.Key{Kind: fleet.KindIntent, Name: name}].Source.File != "" ||
				w.set[fleet.Key{Kind: fleet.KindProfile, Name: in.Profile}].Source.File != ""
			all.moved[name] = all.moved[name] || moved
			all.judged[name] = all.judged[name] || moved || given || policies
		}
	}
	for at, one := range r.overrides {
		if r.touches(fleet.KindProfile, fleet.Name(one.Profile)) {
			all.moved[at.Intent], all.judged[at.Intent] = true, true
		}
	}
	return all
}

// about says whether anything is to be looked at on hosts.
func (c concern) about() bool {
	for _, judged := range c.judged {
		if judged {
			return true
		}
	}
	return false
}

// hosts is what a review has found on the hosts that it has looked at.
type hosts struct {
	*review
	signers  map[string]*signer // by region
	effects  map[fleet.Name]*effect
	seats    map[fleet.Name][]seat
	selected map[fleet.Name]bool // intents that select somebody
}

// reviewFleet looks at the documents beside the agents that there are: names
// that the policy would refuse, labels that are missing, selectors that select
// nothing; and says what would happen on which placement.
func (c *Control) reviewFleet(ctx context.Context, tx *store.Tx, r *review) error {
	var err error
	if r.overrides, err = standingOverrides(ctx, tx); err != nil {
		return err
	}
	r.reviewOverrides()
	if err := r.reviewExceptions(ctx, tx); err != nil {
		return err
	}
	if r.concern.judged == nil {
		r.concern = r.concerns()
	}
	h := &hosts{r, map[string]*signer{}, map[fleet.Name]*effect{}, map[fleet.Name][]seat{}, map[fleet.Name]bool{}}
	if r.concern.about() {
		err := eachActive(ctx, tx, func(agent store.Agent) error { return c.reviewHost(ctx, tx, h, agent) })
		if err != nil {
			return err
		}
	}
	for _, name := range r.after.intents {
		document := r.after.set[fleet.Key{Kind: fleet.KindIntent, Name: name}]
		if document.Source.File != "" && !h.selected[name] {
			r.findings = append(r.findings, document.Finding(fleet.Warning, "spec.selector", "selects-nothing",
				"no agent has these labels", "enrol one with: rotunda token create --label …, or correct the selector"))
		}
	}
	r.explain(h.effects)
	r.reviewTargets(h.seats)
	return c.reviewLists(ctx, tx, r)
}

// reviewHost looks at what the documents mean for one agent.
func (c *Control) reviewHost(ctx context.Context, tx *store.Tx, h *hosts, agent store.Agent) error {
	was, will := h.before.seats(agent), h.after.seats(agent)
	if !h.concern.any(was) && !h.concern.any(will) {
		return nil
	}
	by := h.signers[agent.Region]
	if by == nil {
		var err error
		if by, err = c.issuerFor(ctx, tx, agent.Region); err != nil {
			return err
		}
		h.signers[agent.Region] = by
	}
	before, after := c.expandAll(h.before, agent, h.concern.ofMoved(was), h.overrides), c.expandAll(h.after, agent, will, h.overrides)
	h.findings = append(h.findings, h.judge(by.Authority, agent, after)...)
	h.count(before, after)
	for at, placement := range after {
		h.selected[at.Intent] = true
		if placement.err == nil && h.concern.judged[at.Intent] {
			h.seats[at.Intent] = append(h.seats[at.Intent], targetSeat(agent, placement.expanded.Target.Name))
		}
	}
	return nil
}

// any says whether one of the seats is of an intent that is judged.
func (c concern) any(seats map[fleet.PlacementKey]bool) bool {
	for at := range seats {
		if c.judged[at.Intent] {
			return true
		}
	}
	return false
}

// ofMoved are the seats of intents that may mean something else.
func (c concern) ofMoved(seats map[fleet.PlacementKey]bool) map[fleet.PlacementKey]bool {
	moved := map[fleet.PlacementKey]bool{}
	for at := range seats {
		if c.moved[at.Intent] {
			moved[at] = true
		}
	}
	return moved
}

// expansion is one placement as the documents have it, or why they can't.
type expansion struct {
	expanded fleet.Expanded
	err      error
}

func (c *Control) expandAll(w *world, agent store.Agent, seats map[fleet.PlacementKey]bool, overrides map[fleet.PlacementKey]override) map[fleet.PlacementKey]expansion {
	all := map[fleet.PlacementKey]expansion{}
	for at := range seats {
		expanded, err := c.expand(w, agent, at, fleet.Name(overrides[at].Profile))
		all[at] = expansion{expanded, err}
	}
	return all
}
