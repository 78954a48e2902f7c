package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// Who has an authority's key signs what nobody records, so that no list helps:
// everybody has to stop trusting its root. What it signed for us is not in wrong
// hands, and is reissued under another root before that.

// authority moves trust away from the root that the authority is, or is under: to
// the one that stands by. Without one it only records what fell, and the step that
// is missing names the ceremony.
func (a *answering) authority(ctx context.Context) error {
	fallen, err := a.tx.AuthorityByName(ctx, a.req.Authority)
	if err != nil {
		return err
	}
	root, err := rootOf(ctx, a.tx, fallen)
	if err != nil {
		return err
	}
	if err := a.canFall(ctx, fallen, root); err != nil {
		return err
	}
	change, found, err := movingFrom(ctx, a.tx, root)
	if err != nil {
		return err
	}
	if found {
		a.trustChange = change.ID
		return nil
	}
	standby, ok, err := theStandby(ctx, a.tx)
	if err != nil || !ok || standby.NewRoot == root.ID || noneOpen(ctx, a.tx) != nil {
		return err // the step says what is missing
	}
	response := &api.BeginTrustResponse{}
	request := &api.BeginTrustRequest{
		Failover: true, CloseSessions: true, Through: string(trust.Retire),
		Reason: "authority " + fallen.Name + " is compromised: " + a.req.Note,
	}
	if err := a.failOverIn(ctx, a.tx, a.caller, request, response); err != nil {
		return err
	}
	a.trustChange = response.Change.Id
	a.warnings = append(a.warnings, response.Notes...)
	return nil
}

// canFall refuses authorities whose loss takes another answer.
func (a *answering) canFall(ctx context.Context, fallen, root store.Authority) error {
	switch {
	case fallen.CrossOf != "":
		return fault.New(fault.Invalid, "%s is a bridge: it has no key but that of the root whose certificate it is", fallen.Name).
			WithRemedy("name that root: rotunda get authorities")
	case fallen.Origin == store.KeyForeign:
		return fault.New(fault.Conflict, "authority %s is not ours: its owner replaces it", fallen.Name).
			WithRemedy("move what relies on it to our root: rotunda trust begin --from %s", fallen.Name)
	}
	if root.Origin == store.KeyForeign {
		return fault.New(fault.Conflict, "authority %s signs canaries alone, under %s, which is not ours", fallen.Name, root.Name).
			WithRemedy("move what relies on it to our root: rotunda trust rotate root --from %s; its end destroys the key", root.Name)
	}
	standby, ok, err := theStandby(ctx, a.tx)
	if err != nil {
		return err
	}
	if ok && (standby.NewRoot == root.ID || standby.NewIssuing == fallen.ID) {
		return fault.New(fault.Conflict, "authority %s stands by: everybody trusts it, and it has signed nothing that is in use", fallen.Name).
			WithRemedy("take it out of the bundles, and prepare another: rotunda trust back")
	}
	bundles, err := a.tx.Bundles(ctx)
	if err != nil {
		return err
	}
	for _, bundle := range bundles {
		if hasAnchor(bundle, root) {
			return nil
		}
	}
	return fault.New(fault.Conflict, "no bundle has the root of authority %s: nobody trusts what it signs", fallen.Name)
}

// movingFrom is the newest change of roots away from a root that was not turned
// back.
func movingFrom(ctx context.Context, tx *store.Tx, root store.Authority) (store.TrustChange, bool, error) {
	changes, err := tx.TrustChanges(ctx)
	if err != nil {
		return store.TrustChange{}, false, err
	}
	for _, change := range changes {
		if change.Kind != store.RootChange || change.Standby || change.OldRoot != root.ID {
			continue
		}
		decisions, err := tx.TrustDecisions(ctx, change.ID)
		if err != nil || !decided(decisions).Back {
			return change, err == nil, err
		}
	}
	return store.TrustChange{}, false, nil
}

// authoritySteps are how far trust has moved away from what fell.
func (c *Control) authoritySteps(ctx context.Context, tx *store.Tx, record store.Compromise) (steps []*api.CompromiseStep, change string, err error) {
	fallen, err := tx.AuthorityByName(ctx, record.Name)
	if err != nil {
		return nil, "", err
	}
	root, err := rootOf(ctx, tx, fallen)
	if err != nil {
		return nil, "", err
	}
	reissued := &api.CompromiseStep{Name: "certificates under another root", Recovery: true, Of: 1}
	distrusted := &api.CompromiseStep{Name: "nobody trusts " + root.Name, Of: 1}
	steps = []*api.CompromiseStep{distrusted, reissued}
	moving, found, err := movingFrom(ctx, tx, root)
	if err != nil {
		return nil, "", err
	}
	if !found {
		wait, err := noMove(ctx, tx, root)
		for _, step := range steps {
			step.Waits = []*api.CompromiseWait{wait}
		}
		return steps, "", err
	}
	v, err := c.viewTrust(ctx, tx, moving)
	if err != nil {
		return nil, "", err
	}
	drained := trust.Unbridge
	if !v.step.Phase.Before(drained) {
		reissued.Done, reissued.Complete = 1, true
	}
	if v.step.Phase == trust.Done && root.State == fleet.AuthorityWithdrawn {
		distrusted.Done, distrusted.Complete = 1, true
	}
	for _, step := range steps {
		if step.Complete {
			continue
		}
		for _, wait := range v.step.Waits {
			step.Waits = append(step.Waits, &api.CompromiseWait{Who: wait.Who, Reason: wait.Reason, Remedy: wait.Remedy})
		}
		if len(step.Waits) == 0 {
			step.Waits = []*api.CompromiseWait{{Who: "the change of trust", Reason: "is at " + string(v.step.Phase)}}
		}
		step.Waits = step.Waits[:min(len(step.Waits), mostWaits)]
	}
	return steps, moving.ID, nil
}

// noMove says why trust has not begun to move.
func noMove(ctx context.Context, tx *store.Tx, root store.Authority) (*api.CompromiseWait, error) {
	open, err := tx.OpenTrustChanges(ctx)
	if err != nil {
		return nil, err
	}
	if change, ok := underWay(open); ok && !change.Standby {
		return &api.CompromiseWait{
			Who: "trust change " + change.ID, Reason: "is under way, and leads away from another authority than " + root.Name,
			Remedy: "see it through or turn it back (rotunda trust status), then: rotunda trust failover, or rotunda trust rotate root",
		}, nil
	}
	return &api.CompromiseWait{
		Who: root.Name, Reason: "is trusted by all, and no other root was there to move to",
		Remedy: "rotunda trust rotate root --close-sessions --through retire, where the roots' keys are kept",
	}, nil
}
