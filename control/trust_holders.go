package control

import (
	"context"
	"slices"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// readHolders lists what lives on certificates that the old authority signed.
func (c *Control) readHolders(ctx context.Context, tx *store.Tx, v *trustView) error {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	below, err := v.belowOld(ctx, tx)
	if err != nil {
		return err
	}
	h := &holders{c: c, w: w, v: v, below: below, byName: map[string]int{}}
	for _, issuing := range below {
		live, err := tx.Certificates(ctx, store.CertificateQuery{AuthorityID: issuing, ValidAfter: tx.Now})
		if err != nil {
			return err
		}
		for _, certificate := range live {
			if err := h.add(ctx, tx, certificate); err != nil {
				return err
			}
		}
	}
	return nil
}

// belowOld are the authorities whose certificates need what is given up: where
// that is a root, all that ever signed under it.
func (v *trustView) belowOld(ctx context.Context, tx *store.Tx) ([]string, error) {
	if !v.facts.Roots {
		return []string{v.old.issuing.ID}, nil
	}
	all, err := tx.Authorities(ctx)
	var below []string
	for _, authority := range issuingUnder(all, v.old.root.ID) {
		below = append(below, authority.ID)
	}
	return below, err
}

// issuingUnder are the issuing authorities that a root has signed.
func issuingUnder(all []store.Authority, rootID string) (below []store.Authority) {
	for _, authority := range all {
		if authority.Kind == store.IssuingAuthority && authority.ParentID == rootID {
			below = append(below, authority)
		}
	}
	return below
}

type holders struct {
	c      *Control
	w      *world
	v      *trustView
	below  []string // the authorities whose certificates need what is given up
	byName map[string]int
}

func (h *holders) add(ctx context.Context, tx *store.Tx, certificate store.Certificate) error {
	switch certificate.Kind {
	case store.KindLeaf:
		return h.addLeaf(ctx, tx, certificate)
	case store.KindAgent:
		return h.addAgent(ctx, tx, certificate)
	case store.KindOperator:
		name := "operator " + certificate.Operator
		h.put(trust.Holder{
			Name: name + " (serial " + certificate.Serial.String()[:8] + "…)", NotAfter: certificate.NotAfter,
			Remedy:  "the operator runs rotunda operator renew; or apply " + trust.Exception(ruleDrain, "operator/"+certificate.Operator),
			Excused: h.w.excused(tx.Now, ruleDrain, "operator/"+certificate.Operator),
		})
	case store.KindServer:
		newest, err := tx.NewestNamedCertificate(ctx, store.KindServer, certificate.Names)
		if err != nil || newest.Serial != certificate.Serial {
			return err
		}
		h.put(trust.Holder{ID: "server", Name: "server " + certificate.Names, NotAfter: certificate.NotAfter, Asked: true, Remedy: "it renews itself: see the server's log"})
	}
	return nil
}

func (h *holders) addLeaf(ctx context.Context, tx *store.Tx, certificate store.Certificate) error {
	placement, err := tx.Placement(ctx, certificate.PlacementID)
	if err != nil {
		return err
	}
	if certificate.Generation < placement.Generation {
		return nil // another has taken its place, and was proven
	}
	var service fleet.Name
	if in, ok := h.w.set.Intent(fleet.Name(placement.Intent)); ok {
		service = in.Service
	}
	holder := trust.Holder{
		ID: placement.ID, Name: placeName(placement), NotAfter: certificate.NotAfter,
		Asked: placement.RotationOpen(), Away: !h.c.connected(placement.AgentID),
		Remedy:  "rotunda describe placement " + placement.ID,
		Excused: h.w.excused(tx.Now, ruleDrain, placeSubjects(placement, service)...),
	}
	if placement.Orphan {
		holder.ID, holder.Name = "", "orphan "+holder.Name
		holder.Remedy = "stop what uses it; then apply " + trust.Exception(ruleDrain, "placement/"+placement.ID)
	}
	if newest, err := tx.NewestPlacementCertificate(ctx, placement.ID); err != nil {
		return err
	} else if newest.Generation > certificate.Generation && !slices.Contains(h.below, newest.AuthorityID) {
		holder.Asked = true // the next one is issued, and not in use yet
	}
	h.put(holder)
	return nil
}

func (h *holders) addAgent(ctx context.Context, tx *store.Tx, certificate store.Certificate) error {
	agent, err := tx.Agent(ctx, certificate.AgentID)
	if err != nil || agent.State != fleet.AgentActive {
		return err
	}
	identities, err := tx.AgentIdentities(ctx, agent.ID)
	if err != nil || len(identities) == 0 || identities[0].Serial != certificate.Serial {
		return err
	}
	h.put(trust.Holder{
		ID: "agent/" + agent.ID, Name: "agent " + agent.ID, NotAfter: certificate.NotAfter, Asked: true, Away: !h.c.connected(agent.ID),
		Remedy:  "bring the agent back, or retire it: rotunda agent retire " + agent.ID,
		Excused: h.w.excused(tx.Now, ruleDrain, "agent/"+agent.ID),
	})
	return nil
}

// put keeps one holder of each name, with the latest end.
func (h *holders) put(holder trust.Holder) {
	all := &h.v.facts.Holders
	if i, known := h.byName[holder.Name]; known {
		(*all)[i].NotAfter = holder.NotAfter // they come in the order of their ends
		(*all)[i].Asked = (*all)[i].Asked && holder.Asked
		return
	}
	h.byName[holder.Name] = len(*all)
	*all = append(*all, holder)
}
