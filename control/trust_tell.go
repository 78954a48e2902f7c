package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// trustServices are the services that a change of trust touches: those with
// placements, and outside parties that shake hands with one of ours.
func (w *world) trustServices() (services []fleet.Name) {
	placed := map[fleet.Name]bool{}
	for _, name := range w.intents {
		in, _ := w.set.Intent(name)
		placed[in.Service] = true
	}
	for _, document := range w.set.OfKind(fleet.KindService) {
		service, _ := w.set.Service(document.Name)
		if placed[document.Name] || service.Outside && w.hasNeighbours(document.Name, service) {
			services = append(services, document.Name)
		}
	}
	return services
}

// tellTrust tells the owners of an event of a change of trust.
func (c *Control) tellTrust(ctx context.Context, tx *store.Tx, v *trustView, n notice) (int, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return 0, err
	}
	n.kind, n.changeID, n.name = store.NoticeOfTrust, v.change.ID, string(v.change.Kind)
	n.services, n.show = w.trustServices(), "rotunda trust status"
	if n.by == "" {
		n.by, n.reason = v.change.BegunBy, v.change.Reason
	}
	return c.tell(ctx, tx, w, n)
}

// announceTrust tells the owners of a change of trust that has done nothing yet.
func (c *Control) announceTrust(ctx context.Context, tx *store.Tx, v *trustView) error {
	if err := c.checkTrustReachable(ctx, tx, v.change.Notice, v.change.Told); err != nil {
		return err
	}
	_, err := c.tellTrust(ctx, tx, v, notice{
		event: rollout.Announced, begins: v.change.BegunAt.Add(v.change.Notice),
		what: fmt.Sprintf("a change of trust will replace %s by %s", v.facts.Old, v.facts.New),
	})
	return err
}

// announced tells the owners of a change that has just been recorded, and shows
// how it stands then.
func (c *Control) announced(ctx context.Context, tx *store.Tx, change store.TrustChange) (*trustView, error) {
	v, err := c.viewTrust(ctx, tx, change)
	if err != nil {
		return nil, err
	}
	if err := c.announceTrust(ctx, tx, v); err != nil {
		return nil, err
	}
	return c.viewTrust(ctx, tx, change)
}

// checkTrustReachable refuses a change of trust that is to wait for owners who
// can't be told.
func (c *Control) checkTrustReachable(ctx context.Context, tx *store.Tx, notice time.Duration, told bool) error {
	if notice == 0 && !told {
		return nil
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	return c.checkReachable(w, w.trustServices())
}

// readLead holds a change that has done nothing yet while the owners have to
// know of it first. Turned back, it has nothing to wait for: its other end signs already.
func (v *trustView) readLead(now time.Time) {
	if v.facts.Active || v.facts.Roots && v.facts.Published {
		return
	}
	lead := rollout.Lead{From: v.change.BegunAt, For: v.change.Notice, Gate: v.change.Told}
	for _, n := range v.notices {
		if rollout.Event(n.Event) == rollout.Announced {
			lead.Owner(n.SentAt)
		}
	}
	if why := lead.Early(now); why != "" {
		v.facts.Conditions = append(v.facts.Conditions, why)
	}
}

// newestNotice is which of some events the owners were told last; empty: none.
func (v *trustView) newestNotice(of ...rollout.Event) (event rollout.Event) {
	for _, n := range v.notices {
		if slices.Contains(of, rollout.Event(n.Event)) {
			event = rollout.Event(n.Event)
		}
	}
	return event
}

// tellStep tells the owners what an act of a change of trust means for them:
// the first one that it is at work, the last one that it is over.
func (c *Control) tellStep(ctx context.Context, tx *store.Tx, v *trustView) error {
	var err error
	switch {
	case v.step.Action == trust.RetireOld && v.facts.Back:
		_, err = c.tellTrust(ctx, tx, v, notice{event: rollout.Finished, what: fmt.Sprintf("the change of trust was turned back: %s stays, nothing is left of %s", v.facts.New, v.facts.Old)})
	case v.step.Action == trust.RetireOld:
		_, err = c.tellTrust(ctx, tx, v, notice{event: rollout.Finished, what: fmt.Sprintf("%s has taken the place of %s, whose key is destroyed", v.facts.New, v.facts.Old)})
	case v.newestNotice(rollout.Started) == "" && !v.facts.Back:
		_, err = c.tellTrust(ctx, tx, v, notice{event: rollout.Started, what: fmt.Sprintf("%s: %s", v.step.Phase, doesWords(v))})
	}
	return err
}

func doesWords(v *trustView) string {
	if v.step.Action == trust.PublishBoth {
		return fmt.Sprintf("%s goes into every bundle that has %s", v.facts.New, v.facts.Old)
	}
	return fmt.Sprintf("%s signs from now on", v.facts.New)
}

// heldNotice is what the owners are still to be told: that an open breaker holds
// the renewals of a change of trust, or none does any more. It is empty where
// they know, and where nobody can be told.
func (c *Control) heldNotice(ctx context.Context, tx *store.Tx, v *trustView) (n notice, err error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil || !slices.ContainsFunc(w.trustServices(), func(name fleet.Name) bool { return c.notifyURLOf(w, name) != "" }) {
		return n, err
	}
	why, err := c.trustBreaker(ctx, tx, v)
	switch held := v.newestNotice(rollout.HeldUp, rollout.GoesOn) == rollout.HeldUp; {
	case err != nil:
	case why != "" && !held:
		n = notice{event: rollout.HeldUp, what: "a breaker holds the change of trust: " + why}
	case why == "" && held:
		n = notice{event: rollout.GoesOn, what: "the change of trust goes on: no breaker holds it any more"}
	}
	return n, err
}

// tellTrustHeld tells the owners what they are still to be told of breakers.
func (c *Control) tellTrustHeld(ctx context.Context, id string) error {
	return c.change(ctx, func(tx *store.Tx) error {
		change, err := tx.TrustChange(ctx, id)
		if err != nil || !change.EndedAt.IsZero() {
			return err
		}
		v, err := c.viewTrust(ctx, tx, change)
		if err != nil {
			return err
		}
		n, err := c.heldNotice(ctx, tx, v)
		if err != nil || n.event == "" {
			return err
		}
		_, err = c.tellTrust(ctx, tx, v, n)
		return err
	})
}

// trustBreaker says which open breaker holds renewals that a change of trust has
// asked for; empty: none does.
func (c *Control) trustBreaker(ctx context.Context, tx *store.Tx, v *trustView) (string, error) {
	if v.step.Phase != trust.Reissue {
		return "", nil
	}
	var open breakers
	for _, holder := range v.facts.Managed(tx.Now) {
		placement, err := tx.Placement(ctx, holder.ID)
		if fault.CodeOf(err) == fault.NotFound {
			continue // agents and servers have no breaker
		}
		if err != nil {
			return "", err
		}
		if why, err := open.hold(ctx, tx, placement); err != nil || why != "" {
			return why, err
		}
	}
	return "", nil
}
