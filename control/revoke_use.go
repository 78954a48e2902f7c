package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

// use is what a certificate is good for now.
type use struct {
	in          bool // somebody shows it
	replaceable bool // the control plane can bring about what takes its place
	placement   store.Placement
	agent       string // whose identity it is
}

// useOf finds out whether somebody shows a certificate now. Of an older
// generation nobody does, but that a failed rotation may bring it back: what is
// revoked is not gone back to.
func (c *Control) useOf(ctx context.Context, tx *store.Tx, record store.Certificate) (use, error) {
	switch record.Kind {
	case store.KindLeaf:
		placement, err := tx.Placement(ctx, record.PlacementID)
		if err != nil {
			return use{}, err
		}
		report, err := storedReport(placement)
		if err != nil {
			return use{}, err
		}
		agent, err := tx.Agent(ctx, placement.AgentID)
		in := record.Generation >= standing(report)
		wanted := !placement.Orphan && agent.State == fleet.AgentActive
		if !wanted {
			return use{in: in}, err
		}
		return use{in: in, replaceable: true, placement: placement}, err
	case store.KindAgent:
		agent, err := tx.Agent(ctx, record.AgentID)
		if err != nil || agent.State != fleet.AgentActive {
			return use{}, err
		}
		return use{in: true, replaceable: true, agent: agent.ID}, nil
	case store.KindServer:
		newest, err := tx.NewestNamedCertificate(ctx, store.KindServer, record.Names)
		in := newest.Serial == record.Serial
		return use{in: in, replaceable: in}, err
	case store.KindOperator:
		return use{in: true}, nil
	}
	return use{}, nil
}

// standing is the generation at a placement that no restore leads behind: in use,
// and not on the way to or from another. 0: some other might come back.
func standing(report *api.PlacementReport) uint64 {
	failed := report.State == api.State_STATE_FAILED && report.GetFailure().GetGeneration() != report.Generation
	if report.State == api.State_STATE_STEADY || failed {
		return report.Generation
	}
	return 0
}

// waitsFor says in words what has to come before a certificate can be revoked
// without anybody noticing; empty: nothing.
func (c *Control) waitsFor(ctx context.Context, tx *store.Tx, record store.Certificate) (string, error) {
	use, err := c.useOf(ctx, tx, record)
	if err != nil || !use.in || !use.replaceable {
		return "", err
	}
	switch record.Kind {
	case store.KindLeaf:
		return c.waitsForLeaf(ctx, tx, record, use.placement)
	case store.KindAgent:
		return c.waitsForIdentity(ctx, tx, record)
	}
	return "the server that shows it renews at its next look", nil
}

// waitsForLeaf says how far a later generation has come.
func (c *Control) waitsForLeaf(ctx context.Context, tx *store.Tx, record store.Certificate, placement store.Placement) (string, error) {
	report, err := storedReport(placement)
	if err != nil {
		return "", err
	}
	declared, err := c.declaredAt(ctx, tx)
	if err != nil {
		return "", err
	}
	status, err := c.statusOf(ctx, tx, declared, placement)
	if err != nil {
		return "", err
	}
	words := fmt.Sprintf("generation %d is not proven yet", max(report.LastGeneration, record.Generation)+1)
	if report.Generation > record.Generation || report.LastGeneration > record.Generation {
		words = fmt.Sprintf("generation %d is not proven yet", report.LastGeneration)
	}
	if status.State == api.State_STATE_STEADY {
		return words, nil // what it says is of the old one
	}
	return strings.TrimSuffix(words+": "+status.Reason, ": "), nil
}

// waitsForIdentity wants the agent to have called by another identity.
func (c *Control) waitsForIdentity(ctx context.Context, tx *store.Tx, record store.Certificate) (string, error) {
	identities, err := tx.AgentIdentities(ctx, record.AgentID)
	if err != nil {
		return "", err
	}
	here, _ := c.presence.of(record.AgentID)
	connected := c.connected(record.AgentID)
	switch {
	case len(identities) > 0 && identities[0].Serial == record.Serial && !connected:
		return "its agent is not connected, and has no other identity", nil
	case len(identities) > 0 && identities[0].Serial == record.Serial:
		return "its agent has not renewed its identity yet", nil
	case !connected:
		return "its agent is not connected, and has not called by its newest identity", nil
	case here.serial == record.Serial.String():
		return "its agent has not called by its newest identity yet", nil
	}
	return "", nil
}

// warnOf says what stops working with a certificate, and who will not notice
// that it was revoked.
func (r *revoking) warnOf(ctx context.Context, record store.Certificate, use use) error {
	switch record.Kind {
	case store.KindLeaf:
		return r.warnOfLeaf(ctx, record, use)
	case store.KindAgent:
		if use.in && (r.req.Now || r.cutOff) {
			r.warn("agent %s is cut off at once: its placements keep what they have, and rotate nothing until: rotunda agent rejoin %s", use.agent, use.agent)
		}
	case store.KindServer:
		if use.in && r.req.Now {
			r.warn("certificate %s is what a Rotunda server shows: that server makes itself another within a second; agents and operators connect anew", record.Serial)
		}
	case store.KindOperator:
		r.warn("operator %s can't call by certificate %s any more: nothing takes its place by itself (rotunda operator create)", record.Operator, record.Serial)
	case store.KindAuthority:
		root, err := r.tx.Authority(ctx, record.AuthorityID)
		if err != nil {
			return err
		}
		r.warn("authority certificate %s is on no list before root %s has signed one: rotunda authority crl %s --root-key FILE", record.Serial, root.Name, root.Name)
	}
	return nil
}

func (r *revoking) warnOfLeaf(ctx context.Context, record store.Certificate, use use) error {
	if !use.in {
		return nil
	}
	w, err := r.worldAt(ctx, r.tx)
	if err != nil {
		return err
	}
	intent, ok := w.set.Intent(fleet.Name(record.Intent))
	if !ok {
		return nil
	}
	at := fmt.Sprintf("%s of service %s on agent %s", record.Intent, intent.Service, record.AgentID)
	switch {
	case use.placement.ID == "":
		r.warn("%s: no intent wants it or its agent is retired, so nothing will take its place", at)
	case r.req.Now:
		r.warn("%s: it has no other valid certificate, and whoever checks revocation refuses it until generation %d is served", at, record.Generation+1)
	case !r.connected(use.placement.AgentID):
		r.warn("%s: its agent is not connected, so this waits for it; --within forces it, --now does not wait", at)
	}
	for _, blind := range w.blind(intent.Service) {
		r.warn("%s", blind)
	}
	return nil
}

// blind says which servers that take this service's certificates never look at
// a list.
func (w *world) blind(service fleet.Name) (words []string) {
	for _, name := range w.intents {
		intent, _ := w.set.Intent(name)
		server, ok := w.set.Service(intent.Service)
		if !ok || !slices.Contains(server.Clients, service) {
			continue
		}
		profile, _ := w.set.Profile(intent.Profile)
		can, err := target.Lookup(intent.Target.Kind)
		switch {
		case intent.Target.ClientAuth == "" || intent.Target.ClientAuth == "none":
			continue // it asks nobody for a certificate
		case err == nil && can.CRL == target.Never:
			words = append(words, fmt.Sprintf("%s of service %s takes it as a client's until it ends: %s never reads a CRL; close its sessions, or move its trust (rotunda trust rotate root)", name, intent.Service, can.Title))
		case profile == nil || !profile.Revocation.CRL:
			words = append(words, fmt.Sprintf("%s of service %s takes it as a client's until it ends: no CRL is delivered there (profile %s: revocation.crl)", name, intent.Service, intent.Profile))
		}
	}
	return words
}
