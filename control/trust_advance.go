package control

import (
	"context"
	"crypto/x509"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// AdvanceTrust carries out what the changes of trust that are under way may do
// next, one act of each. It returns how many it carried out. Several servers
// may do so at once: each act is decided in the transaction that records it,
// on what the store shows there.
func (c *Control) AdvanceTrust(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	var due, tell []string
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		open, err := tx.OpenTrustChanges(ctx)
		if err != nil {
			return err
		}
		for _, change := range open {
			rests, err := c.rests(ctx, tx, change)
			if err != nil {
				return err
			}
			if rests {
				continue
			}
			v, err := c.viewTrust(ctx, tx, change)
			if err != nil {
				return err
			}
			if held, err := c.heldNotice(ctx, tx, v); err != nil {
				return err
			} else if held.event != "" {
				tell = append(tell, change.ID)
			}
			if v.step.Action != "" {
				due = append(due, change.ID)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, id := range tell {
		if err := c.tellTrustHeld(ctx, id); err != nil {
			return 0, err
		}
	}
	acted := 0
	for _, id := range due {
		did, err := c.advanceTrust(ctx, id)
		if err != nil {
			return acted, err
		}
		if did {
			acted++
		}
	}
	return acted, nil
}

func (c *Control) advanceTrust(ctx context.Context, id string) (bool, error) {
	did := false
	err := c.change(ctx, func(tx *store.Tx) error {
		did = false
		change, err := tx.TrustChange(ctx, id)
		if err != nil || !change.EndedAt.IsZero() {
			return err
		}
		v, err := c.viewTrust(ctx, tx, change)
		if err != nil || v.step.Action == "" {
			return err
		}
		if err := c.actTrust(ctx, tx, v); err != nil {
			return err
		}
		if err := c.tellStep(ctx, tx, v); err != nil {
			return err
		}
		did = true
		_, err = done(ctx, tx, Caller{Kind: Server}, "trust."+verbOf[v.step.Action], "TrustChange/"+id, v.entry())
		return err
	})
	if err != nil || !did {
		return false, err
	}
	c.opened.Clear() // a key that was destroyed must not stay
	c.unables.Store(nil)
	c.watchers.wakeTrust()
	return true, nil
}

// verbOf names the acts in the audit log.
var verbOf = map[trust.Action]string{
	trust.PublishBoth: "distribute", trust.ActivateNew: "activate", trust.RenewHolder: "reissue",
	trust.DropBridge: "unbridge", trust.PublishNew: "withdraw", trust.RetireOld: "retire",
}

// entry is what the audit log says of an act: between whom, and what was set
// aside for it.
func (v *trustView) entry() map[string]any {
	detail := map[string]any{"old": v.facts.Old, "new": v.facts.New, "back": v.facts.Back}
	if len(v.step.SetAside) > 0 {
		detail["setAside"] = v.step.SetAside
	}
	if len(v.step.Unprovable) > 0 {
		detail["unprovable"] = v.step.Unprovable
	}
	if len(v.step.Holders) > 0 {
		detail["placements"] = len(v.step.Holders)
	}
	return detail
}

// actTrust carries out the step's action. Each leaves what the next derivation
// of the phase reads, so a crash before the commit changes nothing and one
// after it loses nothing.
func (c *Control) actTrust(ctx context.Context, tx *store.Tx, v *trustView) error {
	switch v.step.Action {
	case trust.PublishBoth:
		return v.publish(ctx, tx, func(anchors []*x509.Certificate) []*x509.Certificate { return append(anchors, v.next.anchor) })
	case trust.PublishNew:
		return v.publish(ctx, tx, func(anchors []*x509.Certificate) []*x509.Certificate {
			return without(anchors, v.old.anchor)
		})
	case trust.ActivateNew:
		return v.activate(ctx, tx)
	case trust.RenewHolder:
		return c.reissue(ctx, tx, v)
	case trust.DropBridge:
		return withdrawAuthority(ctx, tx, *v.bridge)
	case trust.RetireOld:
		return c.retireOld(ctx, tx, v)
	}
	return fault.New(fault.Internal, "trust change %s: no way to %s", v.change.ID, v.step.Action)
}

// publish gives each bundle that has the old anchor other anchors.
func (v *trustView) publish(ctx context.Context, tx *store.Tx, change func([]*x509.Certificate) []*x509.Certificate) error {
	for _, record := range v.bundles {
		if !hasAnchor(record, v.old.root) {
			continue
		}
		before, err := pki.ParseBundleDER(record.Anchors)
		if err != nil {
			return err
		}
		after, err := pki.NewBundle(change(before.Anchors()))
		if err != nil {
			return err
		}
		if err := putBundle(ctx, tx, fleet.Name(record.Name), after); err != nil {
			return err
		}
	}
	return nil
}

func without(anchors []*x509.Certificate, one *x509.Certificate) (rest []*x509.Certificate) {
	for _, anchor := range anchors {
		if !anchor.Equal(one) {
			rest = append(rest, anchor)
		}
	}
	return rest
}

// activate lets the new authority sign, and the old one no more. A new root's one
// takes the place of all that signed under the old root: regions get theirs again
// under the new one when it is there. Turned back, all those sign again.
func (v *trustView) activate(ctx context.Context, tx *store.Tx) error {
	if v.bridge != nil && v.bridge.State == fleet.AuthorityPrepared {
		if err := moveAuthority(ctx, tx, *v.bridge, fleet.AuthorityActive); err != nil {
			return err
		}
	}
	stop, sign := []store.Authority{v.old.issuing}, []store.Authority{v.next.issuing}
	if v.facts.Roots {
		all, err := tx.Authorities(ctx)
		if err != nil {
			return err
		}
		for _, one := range issuingUnder(all, v.old.root.ID) {
			if one.State == fleet.AuthorityActive && one.ID != v.old.issuing.ID {
				stop = append(stop, one)
			}
		}
		for _, one := range issuingUnder(all, v.next.root.ID) {
			if one.State == fleet.AuthorityRetired && one.ID != v.next.issuing.ID {
				sign = append(sign, one)
			}
		}
		stop, sign = append(stop, v.old.root), append(sign, v.next.root)
	}
	for _, one := range stop {
		if err := moveAuthority(ctx, tx, one, fleet.AuthorityRetired); err != nil {
			return err
		}
	}
	for _, one := range sign {
		if err := moveAuthority(ctx, tx, one, fleet.AuthorityActive); err != nil {
			return err
		}
	}
	return nil
}

func moveAuthority(ctx context.Context, tx *store.Tx, authority store.Authority, next fleet.AuthorityState) error {
	if err := authority.State.To(next); err != nil {
		return fault.Wrap(fault.Conflict, err, "authority %s", authority.Name)
	}
	return tx.SetAuthorityState(ctx, authority.ID, authority.State, next)
}

// retireOld ends the old authority: nobody trusts it any more, and its key goes,
// with its last lists as what remains to be known of it.
func (c *Control) retireOld(ctx context.Context, tx *store.Tx, v *trustView) error {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		if !v.endsWith(one) || one.State == fleet.AuthorityWithdrawn {
			continue
		}
		if signsLists(one) {
			if err := c.lastCRLs(ctx, tx, one); err != nil {
				return err
			}
		}
		if err := withdrawAuthority(ctx, tx, one); err != nil {
			return err
		}
		if err := destroyAuthorityKey(ctx, tx, Caller{Kind: Server}, one, "TrustChange/"+v.change.ID); err != nil {
			return err
		}
	}
	return tx.EndTrustChange(ctx, v.change.ID)
}

// endsWith says whether an authority ends with the change: the old ones, and
// with a root all that it signed, bridges too.
func (v *trustView) endsWith(one store.Authority) bool {
	below := one.ID == v.old.root.ID || one.ParentID == v.old.root.ID || v.bridge != nil && one.ID == v.bridge.ID
	return one.ID == v.old.issuing.ID || v.facts.Roots && below
}

// withdrawAuthority moves an authority to its end, by the legal ways.
func withdrawAuthority(ctx context.Context, tx *store.Tx, authority store.Authority) error {
	if authority.State == fleet.AuthorityActive {
		if err := moveAuthority(ctx, tx, authority, fleet.AuthorityRetired); err != nil {
			return err
		}
		authority.State = fleet.AuthorityRetired
	}
	return moveAuthority(ctx, tx, authority, fleet.AuthorityWithdrawn)
}

// applyTrust makes of a bundle's declared anchors what changes of trust have
// made of them: documents go on naming the anchor that they were written with.
func (c *Control) applyTrust(ctx context.Context, tx *store.Tx, anchors []*x509.Certificate) ([]*x509.Certificate, error) {
	changes, err := tx.TrustChanges(ctx)
	if err != nil || len(changes) == 0 {
		return anchors, err
	}
	domain, err := tx.CurrentBundle(ctx, string(fleet.DefaultBundle))
	if err != nil {
		return nil, err
	}
	for i := len(changes) - 1; i >= 0; i-- { // the oldest first
		if changes[i].Kind != store.RootChange || changes[i].Standby {
			continue
		}
		if anchors, err = applyChange(ctx, tx, changes[i], domain, anchors); err != nil {
			return nil, err
		}
	}
	standby, ok, err := theStandby(ctx, tx)
	if err != nil || !ok {
		return anchors, err
	}
	if standby, err = c.fromNow(ctx, tx, standby); err != nil {
		return nil, err
	}
	return applyChange(ctx, tx, standby, domain, anchors)
}

func applyChange(ctx context.Context, tx *store.Tx, change store.TrustChange, domain store.Bundle, anchors []*x509.Certificate) ([]*x509.Certificate, error) {
	old, err := readEnd(ctx, tx, change.OldRoot, change.OldIssuing)
	if err != nil {
		return nil, err
	}
	next, err := readEnd(ctx, tx, change.NewRoot, change.NewIssuing)
	if err != nil {
		return nil, err
	}
	has := func(one *x509.Certificate) bool { return len(without(anchors, one)) < len(anchors) }
	switch inOld, inNew := hasAnchor(domain, old.root), hasAnchor(domain, next.root); {
	case has(old.anchor) && inOld && inNew:
		return append(without(anchors, next.anchor), next.anchor), nil
	case has(old.anchor) && !inOld:
		return append(without(without(anchors, old.anchor), next.anchor), next.anchor), nil
	case has(next.anchor) && !inNew && next.root.State == fleet.AuthorityWithdrawn: // it was turned back
		return append(without(without(anchors, next.anchor), old.anchor), old.anchor), nil
	}
	return anchors, nil
}
