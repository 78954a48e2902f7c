package control

import (
	"context"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// ListTrust shows the changes of trust: where each stands now, by what is known
// now, and who holds it up.
func (c *Control) ListTrust(ctx context.Context, caller Caller, req *api.ListTrustRequest) (*api.ListTrustResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListTrustResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		changes, err := tx.TrustChanges(ctx)
		if err != nil {
			return err
		}
		if req.Id != "" {
			one, err := tx.TrustChange(ctx, req.Id)
			if err != nil {
				return err
			}
			changes = []store.TrustChange{one}
		}
		ended := 0
		for _, change := range changes {
			if !change.EndedAt.IsZero() {
				if ended++; ended > 1 && !req.All {
					continue
				}
			}
			v, err := c.viewTrust(ctx, tx, change)
			if err != nil {
				return err
			}
			response.Changes = append(response.Changes, v.showTo(caller))
		}
		return nil
	})
	return response, err
}

// showTo is show for somebody who may be among those that it waits for.
func (v *trustView) showTo(caller Caller) *api.TrustChange {
	shown := v.show()
	for _, wait := range shown.Waits {
		wait.Yours = caller.is(wait.Who)
		wait.Remedy = caller.asked(wait.Remedy)
	}
	return shown
}

// is says whether the caller is whom a wait or an effect is about.
func (c Caller) is(who string) bool {
	name := "operator " + c.ID
	return c.Kind == Operator && c.ID != "" && (who == name || strings.HasPrefix(who, name+" ("))
}

// asked says in a remedy that who is to be asked is the caller.
func (c Caller) asked(remedy string) string {
	if c.Kind != Operator || c.ID == "" {
		return remedy
	}
	return strings.Replace(remedy, "ask "+c.ID+";", "ask "+c.ID+" (that is you);", 1)
}

// show puts a change on the wire.
func (v *trustView) show() *api.TrustChange {
	shown := &api.TrustChange{
		Id: v.change.ID, Kind: string(v.change.Kind), Old: v.old.show(), New: v.next.show(),
		Reason: v.change.Reason, BegunBy: v.change.BegunBy, BegunAt: stamp(v.change.BegunAt), EndedAt: stamp(v.change.EndedAt),
		Back: v.facts.Back, Phase: string(v.step.Phase), Through: string(v.facts.Through), Paused: v.facts.Paused,
		Action: string(v.step.Action), SetAside: v.step.SetAside, Bridge: v.bridgeWords(),
		Standby: v.change.Standby, Unprovable: v.step.Unprovable, Foreign: v.facts.Foreign, Provable: v.facts.Provable,
	}
	for _, wait := range v.step.Waits {
		shown.Waits = append(shown.Waits, &api.TrustWait{Who: wait.Who, Reason: wait.Reason, Remedy: wait.Remedy})
	}
	for _, party := range v.facts.Parties {
		seat := v.seats[party.Name]
		shown.Parties = append(shown.Parties, &api.TrustParty{
			Name: party.Name, Has: string(party.Has), Needs: string(v.facts.Wants(party)), Since: stamp(party.Since), Away: party.Away,
			Excused: party.Excused, PlacementId: seat.placement, Agent: seat.agent, Service: seat.service, Evidence: seat.evidence, Orders: seat.orders, Blocked: party.Blocked,
		})
	}
	for _, holder := range v.facts.Holders {
		shown.Holders = append(shown.Holders, &api.TrustHolder{
			Name: holder.Name, PlacementId: holder.ID, NotAfter: stamp(holder.NotAfter), Asked: holder.Asked,
			Remedy: holder.Remedy, Excused: holder.Excused,
		})
	}
	for _, decision := range v.decisions {
		shown.Decisions = append(shown.Decisions, &api.TrustDecision{
			Kind: string(decision.Kind), Phase: decision.Phase, Reason: decision.Reason, By: decision.By, At: stamp(decision.At),
		})
	}
	shown.Notices = wireNotices(v.notices)
	return shown
}

func (e trustEnd) show() *api.TrustEnd {
	return &api.TrustEnd{
		Root: e.root.Name, Issuing: e.issuing.Name,
		RootFingerprint:    pki.FingerprintOf(e.root.Certificate).String(),
		IssuingFingerprint: pki.FingerprintOf(e.issuing.Certificate).String(),
	}
}

func (v *trustView) bridgeWords() string {
	switch {
	case v.change.Kind != store.RootChange:
		return ""
	case v.bridge == nil:
		return "none"
	case v.bridge.State == fleet.AuthorityWithdrawn:
		return "withdrawn"
	}
	return "served"
}
