package control

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

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
	away     string // the region's own authority, where another signs in its place; empty: none
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
		if kept, ok := c.grants.Load(o.request.PlacementId); ok && kept.(*grant).basis.AgentID == caller.ID && kept.(*grant).takes(o, c.now()) {
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
		now, err := c.shownNow(ctx, tx, undecided)
		if err != nil {
			return err
		}
		for _, o := range undecided {
			if o.err = c.decideOne(ctx, tx, w, agent, o, now); o.open() {
				c.grants.Store(o.request.PlacementId, o.grant)
			}
		}
		return nil
	})
}

// takes says whether the key is of the grant's algorithm, and who signs goes on. A
// key that is not may be asked for under another profile, of which a kept grant
// knows nothing.
func (g *grant) takes(o *order, now time.Time) bool {
	if hasEnded(g.issuer.Certificate.NotAfter, now) {
		return false
	}
	algorithm, err := pki.AlgorithmOf(o.csr.PublicKey)
	return err == nil && algorithm == g.expanded.Profile.Algorithm.Key()
}

func (c *Control) decideOne(ctx context.Context, tx *store.Tx, w *world, agent store.Agent, o *order, now shown) error {
	standing, err := c.look(ctx, tx, o, now)
	if err != nil || o.known != nil {
		return err
	}
	if standing.Orphan {
		return fault.New(fault.Forbidden, "placement %s: no intent wants it any more", o.request.PlacementId)
	}
	if o.grant, err = c.decideGrant(w, agent, standing); err != nil {
		return err
	}
	return c.decideIssuer(ctx, tx, o.grant)
}

// decideIssuer opens the authority that signs. One that has just become active, and
// can't be opened here, is known for that from then on: who asks again gets another.
func (c *Control) decideIssuer(ctx context.Context, tx *store.Tx, g *grant) error {
	if g.basis.Issuer == "" {
		out, err := c.unable(ctx, tx)
		if err != nil {
			return err
		}
		return noneSigns(out)
	}
	by, err := c.signer(ctx, tx, g.basis.Issuer)
	if err != nil {
		c.unables.Store(nil)
		return err
	}
	active, err := activeIssuing(ctx, tx)
	g.issuer, g.away = by.Authority, homeOf(active, g.basis.Region, g.basis.Issuer)
	return err
}

// shown is what the store shows now of the placements of orders, and of those who
// ask: their certificates that are recorded and not revoked.
type shown struct {
	placements map[string]store.Stood
	unrevoked  map[pki.Serial]bool
}

func (c *Control) shownNow(ctx context.Context, tx *store.Tx, orders []*order) (shown, error) {
	ids := map[string]bool{}
	serials := map[pki.Serial]bool{}
	for _, o := range orders {
		ids[o.request.PlacementId] = true
		if serial := o.caller.shown(); serial != nil {
			serials[*serial] = true
		}
	}
	var s shown
	out, err := c.unable(ctx, tx)
	if err != nil {
		return s, err
	}
	if s.placements, err = tx.Standings(ctx, slices.Collect(maps.Keys(ids)), out.ids...); err != nil {
		return s, err
	}
	s.unrevoked, err = tx.Unrevoked(ctx, slices.Collect(maps.Keys(serials)))
	return s, err
}

// raise notes that a generation was issued meanwhile.
func (s shown) raise(placementID string, generation uint64) {
	stood := s.placements[placementID]
	stood.Newest = max(stood.Newest, generation)
	s.placements[placementID] = stood
}

// look is what an order rests on by what the store shows now, and the
// certificate that this generation has already. Callers that may not have it,
// and generations that can't be, are refused.
func (c *Control) look(ctx context.Context, tx *store.Tx, o *order, now shown) (store.Standing, error) {
	found, exists := now.placements[o.request.PlacementId]
	standing, newest, number, caller := found.Standing, found.Newest, o.request.Generation, o.caller
	serial := caller.shown()
	var err error
	switch {
	case !exists:
		return standing, fault.New(fault.NotFound, "placement %s does not exist", printable(o.request.PlacementId))
	case standing.AgentID != caller.ID:
		return standing, fault.New(fault.Forbidden, "placement %s is not of agent %s", o.request.PlacementId, caller.ID)
	case standing.AgentState != fleet.AgentActive:
		return standing, notActive(caller.ID, standing.AgentState)
	case serial != nil && !now.unrevoked[*serial]:
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
		return nil, unlessArchived(ctx, tx, o.request.PlacementId, o.request.Generation)
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

// unlessArchived refuses a number that a certificate may have had whose record
// is in an archive: no number is given twice.
func unlessArchived(ctx context.Context, tx *store.Tx, placementID string, generation uint64) error {
	through, err := tx.ArchivedThrough(ctx, placementID)
	if err == nil && generation <= through {
		return fault.New(fault.Conflict, "generation %d of placement %s is over: generations up to %d are archived", generation, placementID, through).
			WithRemedy("take the next generation")
	}
	return err
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
