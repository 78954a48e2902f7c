package control

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/store"
)

// mostSkipped bounds how far ahead of the newest generation an agent may number
// the next one. It numbers them itself, so some are skipped; but one who got
// hold of its key for an hour must not use up the numbers of a placement.
const mostSkipped = 1000

// grant is the decision that a placement may have certificates of these names
// and terms. It is a function of its basis and of nothing else, so it is good
// for as long as the store shows that basis; whether it does is looked at in
// the transaction that records a certificate. It is immutable.
type grant struct {
	basis    store.Standing
	issuer   *ca.Authority  // basis.Issuer, opened
	expanded fleet.Expanded // with names
	terms    ca.Terms
	input    []byte // JSON of what the policy saw
	rule     string
}

// decide finds the grant for each order: one that is kept, or a new one made on
// a snapshot of the store.
func (c *Control) decide(ctx context.Context, caller Caller, orders []*order) error {
	var undecided []*order
	for _, o := range orders {
		if !o.open() {
			continue
		}
		o.grant = nil
		if kept, ok := c.grants.Load(o.request.PlacementId); ok && kept.(*grant).basis.AgentID == caller.ID && kept.(*grant).takes(o) {
			o.grant = kept.(*grant)
			continue
		}
		undecided = append(undecided, o)
	}
	if len(undecided) == 0 {
		return nil
	}
	return c.db.Read(ctx, func(tx *store.Tx) error {
		agent, err := activeAgent(ctx, tx, caller)
		if err != nil {
			return err
		}
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		for _, o := range undecided {
			if o.err = c.decideOne(ctx, tx, w, caller, agent, o); o.open() {
				c.grants.Store(o.request.PlacementId, o.grant)
			}
		}
		return nil
	})
}

// takes says whether the key is of the grant's algorithm. One that is not may be
// asked for under another profile, of which a kept grant knows nothing.
func (g *grant) takes(o *order) bool {
	algorithm, err := pki.AlgorithmOf(o.csr.PublicKey)
	return err == nil && algorithm == g.expanded.Profile.Algorithm.Key()
}

func (c *Control) decideOne(ctx context.Context, tx *store.Tx, w *world, caller Caller, agent store.Agent, o *order) error {
	standing, err := c.look(ctx, tx, caller, o)
	if err != nil || o.known != nil {
		return err
	}
	if standing.Orphan {
		return fault.New(fault.Forbidden, "placement %s: no intent wants it any more", o.request.PlacementId)
	}
	if o.grant, err = c.decideGrant(w, agent, standing); err != nil {
		return err
	}
	by, err := c.signer(ctx, tx, standing.Issuer)
	if err == nil {
		o.grant.issuer = by.Authority
	}
	return err
}

// look is what the store shows now of the order: what it rests on, and the
// certificate that this generation has already. Callers that may not have it,
// and generations that can't be, are refused.
func (c *Control) look(ctx context.Context, tx *store.Tx, caller Caller, o *order) (store.Standing, error) {
	standing, newest, err := tx.Standing(ctx, o.request.PlacementId, caller.shown())
	number := o.request.Generation
	switch {
	case err != nil && fault.CodeOf(err) == fault.NotFound:
		return standing, fault.New(fault.NotFound, "placement %s does not exist", printable(o.request.PlacementId))
	case err != nil:
		return standing, err
	case standing.AgentID != caller.ID:
		return standing, fault.New(fault.Forbidden, "placement %s is not of agent %s", o.request.PlacementId, caller.ID)
	case standing.AgentState != fleet.AgentActive:
		return standing, notActive(caller.ID, standing.AgentState)
	case standing.Revoked:
		return standing, fault.New(fault.Forbidden, "client certificate %s was revoked, or has no record", caller.Serial)
	case number > newest+mostSkipped:
		return standing, fault.New(fault.Conflict, "generation %d of placement %s is too far ahead: the newest is %d", number, o.request.PlacementId, newest)
	case number <= newest:
		o.known, err = c.findKnown(ctx, tx, o)
	}
	return standing, err
}

func (c *Control) decideGrant(w *world, agent store.Agent, standing store.Standing) (*grant, error) {
	expanded, err := c.expand(w, agent, fleet.PlacementKey{
		Intent: fleet.Name(standing.Intent), Agent: agent.ID, Instance: fleet.Name(standing.Instance),
	}, fleet.Name(standing.Profile))
	if err != nil {
		return nil, err
	}
	if expanded.Names == nil {
		return nil, fault.New(fault.Forbidden, "intent %s delivers a bundle only", standing.Intent)
	}
	input := policy.InputOf(expanded, fleetAgent(agent))
	decision := w.engine.Decide(input)
	if !decision.Allowed {
		return nil, refusedByPolicy(decision, input)
	}
	seen, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	return &grant{basis: standing, expanded: expanded, terms: termsOf(expanded.Profile), input: seen, rule: decision.Rule}, nil
}

// findKnown returns the chain of the certificate that this generation has, if it was not
// skipped: the same key gets the same certificate, another key is a conflict.
func (c *Control) findKnown(ctx context.Context, tx *store.Tx, o *order) ([][]byte, error) {
	record, err := tx.PlacementCertificate(ctx, o.request.PlacementId, o.request.Generation)
	if err != nil && fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	spki, err := pki.SPKIHashOf(o.csr.PublicKey)
	switch {
	case err != nil:
		return nil, err
	case record.SPKI != spki:
		return nil, fault.New(fault.Conflict, "generation %d of placement %s was issued to another key", o.request.Generation, o.request.PlacementId).
			WithRemedy("take the next generation; if no second agent was ever started here, look for one")
	case !record.RevokedAt.IsZero():
		return nil, fault.New(fault.Conflict, "generation %d of placement %s was revoked", o.request.Generation, o.request.PlacementId)
	}
	return c.chainOf(ctx, tx, record)
}

func refusedByPolicy(decision policy.Decision, input policy.Input) error {
	return fault.New(fault.Forbidden, "policy refuses intent %s the names %s: %s (%s)",
		input.Intent, strings.Join(namesOf(input), ", "), decision.Rule, decision.Reason).
		WithRemedy("change the intent's names or the policy; try it with: rotunda plan")
}

func namesOf(input policy.Input) []string {
	names := append([]string{}, input.DNSNames...)
	names = append(names, input.IPAddresses...)
	if input.URI != "" {
		names = append(names, input.URI)
	}
	if input.CommonName != "" {
		names = append(names, "CN="+input.CommonName)
	}
	return names
}
